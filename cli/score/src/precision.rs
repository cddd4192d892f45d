//! Average precision of detections as the COCO benchmark defines it (Lin et al., "Microsoft COCO", ECCV 2014), to the
//! conventions of `pycocotools`: ten overlaps from 0.50 to 0.95, 101 points of recall, at most 100 detections a picture.

use crate::rect::Rect;

/// A box that is really there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrueBox {
    pub bounds: Rect,
    /// In square pixels; decides between small, medium and large. Annotations may state another than the box's.
    pub area: f64,
    /// May be found or not.
    pub ignore: bool,
    /// A crowd: covers any number of detections, by their share that lies in it.
    pub crowd: bool,
}

/// A detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FoundBox {
    pub bounds: Rect,
    pub score: f64,
}

/// One class in one picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picture {
    pub truth: Vec<TrueBox>,
    pub found: Vec<FoundBox>,
}

/// The twelve figures of the benchmark, 0 to 1. `None` where there is nothing of that size to find.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Precision {
    /// Mean over the ten overlaps, and at 0.50 and 0.75.
    pub ap: Option<f64>,
    pub ap50: Option<f64>,
    pub ap75: Option<f64>,
    /// Below 32 pixels squared, up to 96 squared, above.
    pub ap_small: Option<f64>,
    pub ap_medium: Option<f64>,
    pub ap_large: Option<f64>,
    /// Recall, mean over the overlaps, with at most 1, 10 and 100 detections a picture.
    pub ar1: Option<f64>,
    pub ar10: Option<f64>,
    pub ar100: Option<f64>,
    pub ar_small: Option<f64>,
    pub ar_medium: Option<f64>,
    pub ar_large: Option<f64>,
}

const OVERLAPS: usize = 10;
const RECALLS: usize = 101;
const MOST: [usize; 3] = [1, 10, 100];
const SIZES: [(f64, f64); 4] = [(0.0, 1e10), (0.0, 1024.0), (1024.0, 9216.0), (9216.0, 1e10)];

/// As `numpy.linspace(0.5, 0.95, 10)`.
fn overlap_at(index: usize) -> f64 {
    if index + 1 == OVERLAPS { 0.95 } else { index as f64 * ((0.95 - 0.5) / 9.0) + 0.5 }
}

impl Precision {
    /// Scores pictures class by class: `classes` holds the pictures of every class, in the same order of pictures. Figures
    /// are means over the classes that have anything to find.
    #[must_use]
    pub fn of(classes: &[&[Picture]]) -> Self {
        let classes: Vec<Class> = classes.iter().map(|pictures| Class::new(pictures)).collect();
        // By the most detections a picture that are asked for, then by class.
        let curves = |size: usize, most: &[usize]| -> Vec<Vec<[Curve; OVERLAPS]>> {
            let of_classes: Vec<_> = classes.iter().filter_map(|class| class.curves(SIZES[size], most)).collect();
            (0..most.len()).map(|i| of_classes.iter().map(|curves| curves[i]).collect()).collect()
        };
        let mean = |curves: &[[Curve; OVERLAPS]], overlaps: std::ops::Range<usize>, of: fn(&Curve) -> f64| {
            let values: Vec<f64> = curves.iter().flat_map(|class| class[overlaps.clone()].iter().map(of)).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let precision: fn(&Curve) -> f64 = |curve| curve.precision;
        let recall: fn(&Curve) -> f64 = |curve| curve.recall;
        let all = curves(0, &MOST);
        let [small, medium, large] = [1, 2, 3].map(|size| curves(size, &MOST[2..]).remove(0));
        let any = 0..OVERLAPS;
        Self {
            ap: mean(&all[2], any.clone(), precision),
            ap50: mean(&all[2], 0..1, precision),
            ap75: mean(&all[2], 5..6, precision),
            ap_small: mean(&small, any.clone(), precision),
            ap_medium: mean(&medium, any.clone(), precision),
            ap_large: mean(&large, any.clone(), precision),
            ar1: mean(&all[0], any.clone(), recall),
            ar10: mean(&all[1], any.clone(), recall),
            ar100: mean(&all[2], any.clone(), recall),
            ar_small: mean(&small, any.clone(), recall),
            ar_medium: mean(&medium, any.clone(), recall),
            ar_large: mean(&large, any, recall),
        }
    }
}

/// One class at one overlap: mean precision over the points of recall, and the recall that is reached.
#[derive(Debug, Clone, Copy)]
struct Curve {
    precision: f64,
    recall: f64,
}

/// What becomes of a detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Right,
    Wrong,
    /// Neither: it shows what may be found or not, or is of another size.
    Ignored,
}

/// The pictures of one class. Detections are numbered through all pictures, those of a picture best score first.
struct Class<'a> {
    pictures: Vec<Prepared<'a>>,
    /// All detections by score, with their rank in their picture; equal scores keep the order of pictures.
    order: Vec<(usize, usize)>,
}

/// A picture whose detections are sorted, with the true boxes that each could be.
struct Prepared<'a> {
    truth: &'a [TrueBox],
    /// Of every detection: its area, and where its part of `near` ends.
    found: Vec<(f64, usize)>,
    /// True boxes, in their own order, and the overlap.
    near: Vec<(usize, f64)>,
}

impl<'a> Class<'a> {
    fn new(pictures: &'a [Picture]) -> Self {
        let (mut prepared, mut order, mut scores) = (Vec::with_capacity(pictures.len()), Vec::new(), Vec::new());
        for Picture { truth, found } in pictures {
            let mut found: Vec<&FoundBox> = found.iter().collect();
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            found.truncate(MOST[2]);
            let mut near = Vec::new();
            let mut ends = Vec::with_capacity(found.len());
            for (rank, found) in found.into_iter().enumerate() {
                let all = truth.iter().map(|truth| overlap(found, truth)).enumerate();
                near.extend(all.filter(|&(_, overlap)| overlap >= 0.5));
                ends.push((found.bounds.area(), near.len()));
                order.push((order.len(), rank));
                scores.push(found.score);
            }
            prepared.push(Prepared { truth, found: ends, near });
        }
        order.sort_by(|a, b| scores[b.0].total_cmp(&scores[a.0]));
        Self { pictures: prepared, order }
    }

    /// By the most detections a picture that are looked at; `None` where there is nothing to find.
    fn curves(&self, size: (f64, f64), most: &[usize]) -> Option<Vec<[Curve; OVERLAPS]>> {
        let is_ignored = |t: &TrueBox| t.ignore || t.crowd || !within(t.area, size);
        let ignored: Vec<Vec<bool>> =
            self.pictures.iter().map(|picture| picture.truth.iter().map(is_ignored).collect()).collect();
        let total = ignored.iter().flatten().filter(|ignored| !**ignored).count();
        if total == 0 {
            return None;
        }
        let mut curves = vec![[Curve { precision: 0.0, recall: 0.0 }; OVERLAPS]; most.len()];
        let mut verdicts = Vec::with_capacity(self.order.len());
        for at in 0..OVERLAPS {
            verdicts.clear();
            for (picture, ignored) in self.pictures.iter().zip(&ignored) {
                picture.judge(ignored, size, overlap_at(at), &mut verdicts);
            }
            for (curves, &most) in curves.iter_mut().zip(most) {
                let seen = self.order.iter().filter(|&&(_, rank)| rank < most);
                curves[at] = curve(seen.map(|&(index, _)| verdicts[index]), total);
            }
        }
        Some(curves)
    }
}

impl Prepared<'_> {
    /// Appends what becomes of each detection at an overlap.
    fn judge(&self, ignored: &[bool], size: (f64, f64), least: f64, verdicts: &mut Vec<Verdict>) {
        let mut taken = vec![false; self.truth.len()];
        let mut begin = 0;
        for &(area, end) in &self.found {
            let near = &self.near[begin..end];
            begin = end;
            let mut best: Option<(usize, f64)> = None;
            // What counts is tried before what is ignored; of equal overlaps the last one is taken.
            for ignore in [false, true] {
                if best.is_some() {
                    break;
                }
                for &(truth, overlap) in near.iter().filter(|&&(truth, _)| ignored[truth] == ignore) {
                    let free = !taken[truth] || self.truth[truth].crowd;
                    if free && overlap >= best.map_or(least.min(1.0 - 1e-10), |(_, overlap)| overlap) {
                        best = Some((truth, overlap));
                    }
                }
            }
            verdicts.push(match best {
                Some((truth, _)) => {
                    taken[truth] = true;
                    if ignored[truth] { Verdict::Ignored } else { Verdict::Right }
                }
                None if within(area, size) => Verdict::Wrong,
                None => Verdict::Ignored,
            });
        }
    }
}

/// As the benchmark's own library works it out.
fn overlap(found: &FoundBox, truth: &TrueBox) -> f64 {
    let (a, b) = (found.bounds, truth.bounds);
    let w = (a.x + a.w).min(b.x + b.w) - a.x.max(b.x);
    let h = (a.y + a.h).min(b.y + b.h) - a.y.max(b.y);
    if w <= 0.0 || h <= 0.0 {
        return 0.0;
    }
    let both = w * h;
    both / if truth.crowd { a.area() } else { a.area() + b.area() - both }
}

fn within(area: f64, (least, most): (f64, f64)) -> bool {
    area >= least && area <= most
}

/// `verdicts` come best score first.
fn curve(verdicts: impl Iterator<Item = Verdict>, total: usize) -> Curve {
    let (mut right, mut wrong) = (0.0, 0.0);
    // Only where something was found is recall reached; precision at a recall is the best at that one or any greater.
    let mut points: Vec<(f64, f64)> = Vec::with_capacity(total);
    for verdict in verdicts {
        match verdict {
            Verdict::Right => {
                right += 1.0;
                points.push((right / total as f64, right / (right + wrong + f64::EPSILON)));
            }
            Verdict::Wrong => wrong += 1.0,
            Verdict::Ignored => {}
        }
    }
    let recall = points.last().map_or(0.0, |&(recall, _)| recall);
    for i in (1..points.len()).rev() {
        points[i - 1].1 = points[i - 1].1.max(points[i].1);
    }
    let at = |point: usize| {
        let wanted = point as f64 * (1.0 / (RECALLS - 1) as f64);
        points.get(points.partition_point(|&(recall, _)| recall < wanted)).map_or(0.0, |&(_, precision)| precision)
    };
    Curve { precision: (0..RECALLS).map(at).sum::<f64>() / RECALLS as f64, recall }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: f64) -> Rect {
        Rect { x, y: 0.0, w: 40.0, h: 40.0 }
    }

    fn there(x: f64) -> TrueBox {
        TrueBox { bounds: rect(x), area: 1600.0, ignore: false, crowd: false }
    }

    fn score(truth: Vec<TrueBox>, found: &[(f64, f64)]) -> Precision {
        let found = found.iter().map(|&(x, score)| FoundBox { bounds: rect(x), score }).collect();
        Precision::of(&[&[Picture { truth, found }]])
    }

    fn close(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value - expected).abs() < 1e-9)
    }

    #[test]
    fn perfect_boxes_score_one_and_a_missing_half_scores_a_half() {
        let both = score(vec![there(0.0), there(100.0)], &[(0.0, 0.9), (100.0, 0.8)]);
        assert!(close(both.ap, 1.0) && close(both.ar100, 1.0) && close(both.ar1, 0.5), "{both:?}");
        assert_eq!((both.ap_small, both.ap_large), (None, None));
        assert!(close(both.ap_medium, 1.0));
        let half = score(vec![there(0.0), there(100.0)], &[(0.0, 0.9)]);
        assert!(close(half.ap50, 51.0 / 101.0), "{half:?}");
        assert!(close(score(vec![there(0.0)], &[(500.0, 0.9)]).ap, 0.0));
    }

    #[test]
    fn what_may_be_found_or_not_counts_neither_way_and_a_crowd_takes_many() {
        let ignored = TrueBox { ignore: true, ..there(100.0) };
        assert!(close(score(vec![there(0.0), ignored], &[(0.0, 0.8), (100.0, 0.9)]).ap, 1.0));
        assert!(score(vec![there(0.0), ignored], &[(0.0, 0.7), (100.0, 0.9), (101.0, 0.8)]).ap < Some(0.9));
        let crowd = TrueBox { crowd: true, ..there(100.0) };
        assert!(close(score(vec![there(0.0), crowd], &[(0.0, 0.7), (100.0, 0.9), (101.0, 0.8)]).ap50, 1.0));
    }

    #[test]
    fn a_quarter_off_is_right_at_half_an_overlap_only() {
        // 30 of 50 pixels of width are common: an overlap of 0.6.
        let shifted = score(vec![there(0.0)], &[(10.0, 0.9)]);
        assert!(close(shifted.ap50, 1.0) && close(shifted.ap75, 0.0) && close(shifted.ap, 0.3), "{shifted:?}");
    }
}
