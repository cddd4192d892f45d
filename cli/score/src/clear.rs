//! CLEAR MOT (Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance", EURASIP JIVP 2008) and the
//! counts of tracks that come with it, as `TrackEval` 1.3.0 counts them: a pair of the frame before is kept while it can
//! be, switches are counted against the last identity that a true one was ever matched with.

use crate::comparison::{Comparison, Matrix};

/// Similarity that a match needs.
const THRESHOLD: f64 = 0.5;

/// Counts of a sequence. Those of several add up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Clear {
    pub tp: u64,
    pub missed: u64,
    pub false_: u64,
    /// A true identity is matched with another found one than before.
    pub switches: u64,
    /// True identities that are found in more than 80 % of their frames, in 20 to 80 %, and in less.
    pub mostly_tracked: u64,
    pub partly_tracked: u64,
    pub mostly_lost: u64,
    /// A true identity is found again after it was not.
    pub fragments: u64,
    /// Of the matched pairs, summed.
    pub similarity: f64,
    pub frames: u64,
}

impl Clear {
    #[must_use]
    pub fn of(comparison: &Comparison) -> Self {
        let (truth, found) = (comparison.truth_objects(), comparison.found_objects());
        let mut clear = Self { frames: comparison.frames.len() as u64, ..Self::default() };
        if found == 0 {
            return Self { missed: truth, mostly_lost: comparison.truth.len() as u64, ..clear };
        }
        if truth == 0 {
            return Self { false_: found, ..clear };
        }
        let mut tracks = vec![Followed::default(); comparison.truth.len()];
        let mut matched_before: Vec<usize> = Vec::new();
        for frame in &comparison.frames {
            if frame.truth.is_empty() || frame.found.is_empty() {
                // The reference skips such a frame: what was matched before it counts as the frame before.
                clear.missed += frame.truth.len() as u64;
                clear.false_ += frame.found.len() as u64;
                continue;
            }
            let mut worth = Matrix::new(frame.truth.len(), frame.found.len());
            let mut alike = Matrix::new(frame.truth.len(), frame.found.len());
            for pair in frame.pairs.iter().filter(|pair| pair.similarity >= THRESHOLD - f64::EPSILON) {
                let kept = tracks[frame.truth[pair.row]].now == Some(frame.found[pair.column]);
                alike.set(pair.row, pair.column, pair.similarity);
                worth.set(pair.row, pair.column, if kept { 1000.0 } else { 0.0 } + pair.similarity);
            }
            let mut matched: Vec<usize> = Vec::with_capacity(frame.truth.len());
            let mut now = Vec::with_capacity(frame.truth.len());
            for (row, column) in worth.best() {
                if worth.at(row, column) <= f64::EPSILON {
                    continue;
                }
                let (person, identity) = (frame.truth[row], frame.found[column]);
                let track = &mut tracks[person];
                clear.switches += u64::from(track.last.is_some_and(|last| last != identity));
                track.fragments += u64::from(track.now.is_none());
                track.last = Some(identity);
                track.matched += 1;
                clear.similarity += alike.at(row, column);
                matched.push(person);
                now.push(identity);
            }
            for person in matched_before.drain(..) {
                tracks[person].now = None;
            }
            for (&person, identity) in matched.iter().zip(now) {
                tracks[person].now = Some(identity);
            }
            clear.tp += matched.len() as u64;
            clear.missed += (frame.truth.len() - matched.len()) as u64;
            clear.false_ += (frame.found.len() - matched.len()) as u64;
            matched_before = matched;
        }
        for (track, &frames) in tracks.iter().zip(&comparison.truth) {
            let share = f64::from(track.matched) / f64::from(frames);
            clear.mostly_tracked += u64::from(share > 0.8);
            clear.partly_tracked += u64::from((0.2..=0.8).contains(&share));
            clear.mostly_lost += u64::from(share < 0.2);
            clear.fragments += track.fragments.saturating_sub(1);
        }
        clear
    }

    /// Takes the counts of another sequence in.
    pub fn add(&mut self, other: &Self) {
        self.tp += other.tp;
        self.missed += other.missed;
        self.false_ += other.false_;
        self.switches += other.switches;
        self.mostly_tracked += other.mostly_tracked;
        self.partly_tracked += other.partly_tracked;
        self.mostly_lost += other.mostly_lost;
        self.fragments += other.fragments;
        self.similarity += other.similarity;
        self.frames += other.frames;
    }

    /// Accuracy; negative where there are more errors than objects.
    #[must_use]
    pub fn mota(&self) -> f64 {
        (self.tp as f64 - self.false_ as f64 - self.switches as f64) / (self.tp + self.missed).max(1) as f64
    }

    /// Mean similarity of the matches.
    #[must_use]
    pub fn motp(&self) -> f64 {
        self.similarity / self.tp.max(1) as f64
    }

    #[must_use]
    pub fn recall(&self) -> f64 {
        self.tp as f64 / (self.tp + self.missed).max(1) as f64
    }

    #[must_use]
    pub fn precision(&self) -> f64 {
        self.tp as f64 / (self.tp + self.false_).max(1) as f64
    }
}

#[derive(Debug, Clone, Default)]
struct Followed {
    /// Identity that it was matched with in the frame before.
    now: Option<usize>,
    /// Identity that it was ever matched with last.
    last: Option<usize>,
    matched: u32,
    fragments: u64,
}
