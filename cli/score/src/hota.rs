//! HOTA, higher order tracking accuracy (Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object
//! Tracking", IJCV 129, 2021), as `TrackEval` 1.3.0 counts it.

use std::collections::BTreeMap;

use crate::comparison::{Comparison, Matrix};

/// Thresholds of similarity: 0.05, 0.10, … 0.95.
pub const ALPHAS: usize = 19;

/// The threshold of this index, to the bit of the reference (`numpy.arange`).
#[must_use]
pub fn alpha(index: usize) -> f64 {
    0.05 + index as f64 * ((0.05 + 0.05) - 0.05)
}

/// The counts at one threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AtAlpha {
    pub tp: u64,
    pub missed: u64,
    pub false_: u64,
    /// Sums over matched objects: of their similarity, and of how well the identities that they tie together agree.
    pub similarity: f64,
    pub association: f64,
    pub association_recall: f64,
    pub association_precision: f64,
}

/// Counts at every threshold. Those of several sequences add up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hota {
    pub at: [AtAlpha; ALPHAS],
}

/// Means over the thresholds, each 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct HotaFigures {
    pub hota: f64,
    pub det_a: f64,
    pub ass_a: f64,
    pub det_re: f64,
    pub det_pr: f64,
    pub ass_re: f64,
    pub ass_pr: f64,
    pub loc_a: f64,
}

impl AtAlpha {
    fn figures(&self) -> HotaFigures {
        let share = |of: u64| self.tp as f64 / of.max(1) as f64;
        let mean = |sum: f64| sum / self.tp.max(1) as f64;
        let det_a = share(self.tp + self.missed + self.false_);
        let ass_a = mean(self.association);
        HotaFigures {
            hota: (det_a * ass_a).sqrt(),
            det_a,
            ass_a,
            det_re: share(self.tp + self.missed),
            det_pr: share(self.tp + self.false_),
            ass_re: mean(self.association_recall),
            ass_pr: mean(self.association_precision),
            // The reference divides a tiny number by itself where nothing matches.
            loc_a: if self.tp == 0 { 1.0 } else { self.similarity.max(1e-10) / self.tp as f64 },
        }
    }
}

impl Hota {
    #[must_use]
    pub fn of(comparison: &Comparison) -> Self {
        let (truth, found) = (comparison.truth_objects(), comparison.found_objects());
        let mut hota = Self::default();
        if truth == 0 || found == 0 {
            hota.at.fill(AtAlpha { missed: truth, false_: found, ..AtAlpha::default() });
            return hota;
        }
        let (mut ties, slots) = Tie::collect(comparison);
        let mut slots = slots.into_iter();
        for frame in &comparison.frames {
            let mut worth = Matrix::new(frame.truth.len(), frame.found.len());
            let mut of = vec![(0.0, 0); frame.truth.len() * frame.found.len()];
            for (pair, slot) in frame.pairs.iter().zip(&mut slots) {
                worth.set(pair.row, pair.column, ties[slot].alignment * pair.similarity);
                of[pair.row * frame.found.len() + pair.column] = (pair.similarity, slot);
            }
            let mut matched = [0; ALPHAS];
            for (row, column) in worth.best() {
                let (similarity, slot) = of[row * frame.found.len() + column];
                for (index, at) in hota.at.iter_mut().enumerate() {
                    if similarity < alpha(index) - f64::EPSILON {
                        break;
                    }
                    matched[index] += 1;
                    at.similarity += similarity;
                    ties[slot].matched[index] += 1;
                }
            }
            for (at, matched) in hota.at.iter_mut().zip(matched) {
                at.tp += matched;
                at.missed += frame.truth.len() as u64 - matched;
                at.false_ += frame.found.len() as u64 - matched;
            }
        }
        for tie in &ties {
            for (at, &matched) in hota.at.iter_mut().zip(&tie.matched) {
                let matched = f64::from(matched);
                at.association += matched * matched / (tie.truth + tie.found - matched).max(1.0);
                at.association_recall += matched * matched / tie.truth.max(1.0);
                at.association_precision += matched * matched / tie.found.max(1.0);
            }
        }
        hota
    }

    /// Takes the counts of another sequence in.
    pub fn add(&mut self, other: &Self) {
        for (at, other) in self.at.iter_mut().zip(&other.at) {
            at.tp += other.tp;
            at.missed += other.missed;
            at.false_ += other.false_;
            at.similarity += other.similarity;
            at.association += other.association;
            at.association_recall += other.association_recall;
            at.association_precision += other.association_precision;
        }
    }

    /// Figures at one threshold.
    #[must_use]
    pub fn at(&self, index: usize) -> HotaFigures {
        self.at[index].figures()
    }

    #[must_use]
    pub fn figures(&self) -> HotaFigures {
        let mut mean = HotaFigures::default();
        for index in 0..ALPHAS {
            let f = self.at(index);
            for (sum, value) in [
                (&mut mean.hota, f.hota),
                (&mut mean.det_a, f.det_a),
                (&mut mean.ass_a, f.ass_a),
                (&mut mean.det_re, f.det_re),
                (&mut mean.det_pr, f.det_pr),
                (&mut mean.ass_re, f.ass_re),
                (&mut mean.ass_pr, f.ass_pr),
                (&mut mean.loc_a, f.loc_a),
            ] {
                *sum += value / ALPHAS as f64;
            }
        }
        mean
    }
}

/// A true and a found identity that are alike in some frame.
struct Tie {
    /// Objects of either.
    truth: f64,
    found: f64,
    /// How well the two agree over the whole sequence, before any assignment.
    alignment: f64,
    /// Frames in which they are matched, by threshold.
    matched: [u32; ALPHAS],
}

impl Tie {
    /// All ties in the order of (truth, found), and the tie of every pair of every frame, one after the other.
    fn collect(comparison: &Comparison) -> (Vec<Self>, Vec<usize>) {
        let mut slot_of: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        let mut slots = Vec::new();
        let mut weight: Vec<f64> = Vec::new();
        for frame in &comparison.frames {
            let (mut by_row, mut by_column) = (vec![0.0; frame.truth.len()], vec![0.0; frame.found.len()]);
            for pair in &frame.pairs {
                by_row[pair.row] += pair.similarity;
                by_column[pair.column] += pair.similarity;
            }
            for pair in &frame.pairs {
                let next = slot_of.len();
                let slot = *slot_of.entry((frame.truth[pair.row], frame.found[pair.column])).or_insert(next);
                if slot == next {
                    weight.push(0.0);
                }
                let any = by_column[pair.column] + by_row[pair.row] - pair.similarity;
                if any > f64::EPSILON {
                    weight[slot] += pair.similarity / any;
                }
                slots.push(slot);
            }
        }
        let mut place = vec![0; weight.len()];
        let mut ties = Vec::with_capacity(weight.len());
        for (&(truth, found), &slot) in &slot_of {
            place[slot] = ties.len();
            let (truth, found) = (f64::from(comparison.truth[truth]), f64::from(comparison.found[found]));
            let alignment = weight[slot] / (truth + found - weight[slot]);
            ties.push(Self { truth, found, alignment, matched: [0; ALPHAS] });
        }
        slots.iter_mut().for_each(|slot| *slot = place[*slot]);
        (ties, slots)
    }
}
