//! Truth and results side by side: which objects are in which frame, and how alike they are. All tracking metrics are
//! functions of this; what "alike" means (boxes in the picture, places on the pitch) is decided here.

use std::collections::BTreeMap;

use crate::{
    assignment::cheapest,
    error::ScoreError,
    rect::Rect,
    sequence::{Object, Sequence},
};

/// A true object and a found one of the same frame that are alike at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Index into [`Frame::truth`].
    pub row: usize,
    /// Index into [`Frame::found`].
    pub column: usize,
    /// More than 0, at most 1.
    pub similarity: f64,
}

/// One frame. Identities are numbered from 0, without holes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    pub truth: Vec<usize>,
    pub found: Vec<usize>,
    /// By row and column. Pairs that are not listed are not alike.
    pub pairs: Vec<Pair>,
}

/// One sequence, ready to be scored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// In time order.
    pub frames: Vec<Frame>,
    /// Objects of every true identity.
    pub truth: Vec<u32>,
    /// Objects of every found identity.
    pub found: Vec<u32>,
}

/// What is left out before scoring, as the benchmarks of `MOTChallenge` do it (`TrackEval` 1.3.0, `mot_challenge_2d_box`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rules {
    /// Everything is one class; truth whose confidence is 0 does not count. MOT15, `SportsMOT`, our own truth.
    #[default]
    Plain,
    /// As [`Self::Plain`], but results on truth that does not count are not held against them. Synthetic truth.
    Lenient,
    /// Everything counts.
    Everything,
    /// Only class 1 counts; results on people in vehicles, static people, distractors and reflections are taken out.
    Mot17,
    /// As [`Self::Mot17`], and results on vehicles are taken out, too.
    Mot20,
}

impl Rules {
    /// The rules that truth of this kind is made for. Classes 6 to 13 (static people, occluders, crowds, …) exist in the
    /// truth of MOT16, MOT17 and MOT20 only.
    #[must_use]
    pub fn of(truth: &Sequence) -> Self {
        let marked = truth.objects().any(|(_, o)| o.class.is_some_and(|class| (6..=13).contains(&class)));
        match (truth.info.lenient, marked) {
            (true, _) => Self::Lenient,
            (false, true) => Self::Mot17,
            (false, false) => Self::Plain,
        }
    }

    fn has_classes(self) -> bool {
        match self {
            Self::Plain | Self::Lenient | Self::Everything => false,
            Self::Mot17 | Self::Mot20 => true,
        }
    }

    /// Whether what is matched with this object is taken out of the results.
    fn is_distractor(self, object: &Object) -> bool {
        match self {
            Self::Plain | Self::Everything => false,
            Self::Lenient => !self.counts(object),
            Self::Mot17 => matches!(object.class, Some(2 | 7 | 8 | 12)),
            Self::Mot20 => matches!(object.class, Some(2 | 6 | 7 | 8 | 12)),
        }
    }

    pub(crate) fn counts(self, object: &Object) -> bool {
        // Confidences below 1 are cut to 0, as the reference does.
        let marked = object.score.trunc() != 0.0;
        match self {
            Self::Everything => true,
            Self::Plain | Self::Lenient => marked,
            Self::Mot17 | Self::Mot20 => marked && object.class == Some(1),
        }
    }
}

/// Boxes by their overlap in the picture.
#[must_use]
pub fn by_box(truth: &Object, found: &Object) -> f64 {
    match (&truth.bounds, &found.bounds) {
        (Some(a), Some(b)) => Rect::iou(a, b),
        _ => 0.0,
    }
}

impl Comparison {
    /// Compares two sequences frame by frame under `rules`, objects by `similarity` (0 to 1).
    ///
    /// # Errors
    /// Objects without an identity, an identity twice in a frame, or (under rules with classes) a class that they do not
    /// know.
    pub fn new(
        truth: &Sequence,
        found: &Sequence,
        rules: Rules,
        similarity: impl Fn(&Object, &Object) -> f64,
    ) -> Result<Self, ScoreError> {
        let (mut truth_ids, mut found_ids) = (Ids::default(), Ids::default());
        let mut frames: Vec<u32> = truth.frames.keys().chain(found.frames.keys()).copied().collect();
        frames.sort_unstable();
        frames.dedup();
        let mut compared = Vec::with_capacity(frames.len());
        for number in frames {
            let (truth, found) = (truth.frame(number), found.frame(number));
            if rules.has_classes()
                && let Some(class) = truth.iter().map(|o| o.class).find(|c| !c.is_some_and(|c| (1..=13).contains(&c)))
            {
                return Err(ScoreError::Class { frame: number, class });
            }
            let mut pairs = Vec::new();
            for (row, a) in truth.iter().enumerate() {
                for (column, b) in found.iter().enumerate() {
                    let similarity = similarity(a, b);
                    if similarity > 0.0 {
                        pairs.push(Pair { row, column, similarity });
                    }
                }
            }
            let distracted = distracted(rules, truth, found, &pairs);
            let rows = keep(truth, |_, object| rules.counts(object));
            let columns = keep(found, |column, _| !distracted.contains(&column));
            let frame = Frame {
                truth: truth_ids.take("the ground truth", number, truth, &rows)?,
                found: found_ids.take("the results", number, found, &columns)?,
                pairs: pairs
                    .into_iter()
                    .filter_map(|p| Some(Pair { row: rows[p.row]?, column: columns[p.column]?, ..p }))
                    .collect(),
            };
            compared.push(frame);
        }
        let mut comparison = Self { frames: compared, truth: truth_ids.counts, found: found_ids.counts };
        truth_ids.order.renumber(&mut comparison.frames, &mut comparison.truth, |frame| &mut frame.truth);
        found_ids.order.renumber(&mut comparison.frames, &mut comparison.found, |frame| &mut frame.found);
        Ok(comparison)
    }

    /// True objects of all frames.
    #[must_use]
    pub fn truth_objects(&self) -> u64 {
        self.truth.iter().map(|&n| u64::from(n)).sum()
    }

    /// Found objects of all frames.
    #[must_use]
    pub fn found_objects(&self) -> u64 {
        self.found.iter().map(|&n| u64::from(n)).sum()
    }
}

/// Columns that are matched with something that does not count and must not be held against the results.
fn distracted(rules: Rules, truth: &[Object], found: &[Object], pairs: &[Pair]) -> Vec<usize> {
    if pairs.is_empty() || !truth.iter().any(|object| rules.is_distractor(object)) {
        return Vec::new();
    }
    let mut worth = Matrix::new(truth.len(), found.len());
    for pair in pairs.iter().filter(|pair| pair.similarity >= 0.5 - f64::EPSILON) {
        worth.set(pair.row, pair.column, pair.similarity);
    }
    let matched = worth.best().into_iter().filter(|&(row, column)| worth.at(row, column) > f64::EPSILON);
    matched.filter(|&(row, _)| rules.is_distractor(&truth[row])).map(|(_, column)| column).collect()
}

/// The new index of everything that is kept.
fn keep(objects: &[Object], keep: impl Fn(usize, &Object) -> bool) -> Vec<Option<usize>> {
    let mut next = 0;
    let mut index = |(i, object)| {
        keep(i, object).then(|| {
            next += 1;
            next - 1
        })
    };
    objects.iter().enumerate().map(&mut index).collect()
}

/// What pairs of one frame are worth, as a full matrix.
pub(crate) struct Matrix {
    rows: usize,
    columns: usize,
    worth: Vec<f64>,
}

impl Matrix {
    pub(crate) fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns, worth: vec![0.0; rows * columns] }
    }

    pub(crate) fn set(&mut self, row: usize, column: usize, worth: f64) {
        self.worth[row * self.columns + column] = worth;
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> f64 {
        self.worth[row * self.columns + column]
    }

    /// The assignment of the greatest worth, pairs worth nothing included.
    pub(crate) fn best(&self) -> Vec<(usize, usize)> {
        cheapest(self.rows, self.columns, |row, column| -self.at(row, column))
    }
}

/// Numbers identities as they come.
#[derive(Default)]
struct Ids {
    order: Order,
    counts: Vec<u32>,
    /// The last frame (counted from 1) in which a number was seen.
    seen: Vec<u32>,
    frame: u32,
}

#[derive(Default)]
struct Order(BTreeMap<i64, usize>);

impl Ids {
    fn take(
        &mut self,
        whose: &'static str,
        frame: u32,
        objects: &[Object],
        kept: &[Option<usize>],
    ) -> Result<Vec<usize>, ScoreError> {
        self.frame += 1;
        let mut numbers = Vec::with_capacity(objects.len());
        for (object, _) in objects.iter().zip(kept).filter(|(_, kept)| kept.is_some()) {
            let id = object.id.ok_or(ScoreError::NoIdentity { whose, frame })?;
            let next = self.order.0.len();
            let number = *self.order.0.entry(id).or_insert(next);
            if number == next {
                self.counts.push(0);
                self.seen.push(0);
            }
            if std::mem::replace(&mut self.seen[number], self.frame) == self.frame {
                return Err(ScoreError::Twice { whose, frame, id });
            }
            self.counts[number] += 1;
            numbers.push(number);
        }
        Ok(numbers)
    }
}

impl Order {
    /// Sorts the numbers by identity, so that they do not depend on who comes first.
    fn renumber(&self, frames: &mut [Frame], counts: &mut Vec<u32>, of: impl Fn(&mut Frame) -> &mut Vec<usize>) {
        let mut sorted = vec![0; counts.len()];
        for (new, &old) in self.0.values().enumerate() {
            sorted[old] = new;
        }
        frames.iter_mut().for_each(|frame| of(frame).iter_mut().for_each(|number| *number = sorted[*number]));
        *counts = self.0.values().map(|&old| counts[old]).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mot;

    fn sequence(text: &str) -> Sequence {
        mot::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn identities_are_numbered_without_holes() {
        let truth = sequence("1,70,0,0,9,9,1\n2,7,0,0,9,9,1\n2,70,50,0,9,9,1\n");
        let found = sequence("2,3,0,0,9,9,1\n3,5,0,0,9,9,1\n");
        let comparison = Comparison::new(&truth, &found, Rules::Plain, by_box).unwrap();
        assert_eq!((&comparison.truth[..], &comparison.found[..]), (&[1, 2][..], &[1, 1][..]));
        assert_eq!(comparison.frames[0].truth, [1]);
        assert_eq!(comparison.frames[1].truth, [0, 1]);
        assert_eq!(comparison.frames[1].pairs, [Pair { row: 0, column: 0, similarity: 1.0 }]);
        assert_eq!((comparison.truth_objects(), comparison.found_objects()), (3, 2));
    }

    #[test]
    fn what_is_marked_zero_or_matches_a_distractor_is_left_out() {
        let truth = sequence("1,1,0,0,9,9,1,1,1\n1,2,20,0,9,9,0,1,1\n1,3,40,0,9,9,0,8,1\n1,4,60,0,9,9,1,3,1\n");
        let found = sequence("1,1,0,0,9,9,1\n1,2,20,0,9,9,1\n1,3,40,0,9,9,1\n1,4,60,0,9,9,1\n");
        assert_eq!(Rules::of(&truth), Rules::Mot17);
        let count = |rules| {
            let c = Comparison::new(&truth, &found, rules, by_box).unwrap();
            (c.truth.len(), c.found.len(), c.frames[0].pairs.len())
        };
        assert_eq!((count(Rules::Plain), count(Rules::Mot17)), ((2, 4, 2), (1, 3, 1)));
    }

    #[test]
    fn boxes_without_identity_cannot_be_compared() {
        let found = sequence("1,-1,0,0,9,9,1\n");
        let error = Comparison::new(&Sequence::new(), &found, Rules::Plain, by_box).unwrap_err();
        assert_eq!(error.to_string(), "frame 1 of the results has an object without identity");
    }
}
