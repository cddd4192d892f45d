//! When each stage of each batch ran, on which stream; and what that says about overlap.

use std::time::Duration;

use crate::ring::Stage;

/// One stage of one batch, from the start of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub batch: u64,
    pub stage: Stage,
    pub stream: usize,
    pub start: Duration,
    pub end: Duration,
}

/// How much of the work went on at the same time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overlap {
    /// From the first start to the last end.
    pub wall: Duration,
    /// All stages one after another.
    pub serial: Duration,
    /// The stream with the most work: no schedule on these streams is shorter.
    pub busiest: Duration,
    /// Share of the wall during which at least two of copying in, computing and copying out were going on.
    pub together: f64,
    /// What was saved over what could have been: 0 when nothing overlapped, 1 when the busiest stream never waited.
    /// 1, too, where nothing could be saved.
    pub achieved: f64,
}

/// Of copying in, computing and copying out.
const ENGINES: usize = 3;

fn engine(stage: Stage) -> usize {
    match stage {
        Stage::CopyIn => 0,
        Stage::Preprocess | Stage::Infer | Stage::Postprocess => 1,
        Stage::CopyOut => 2,
    }
}

impl Overlap {
    /// `None` of an empty timeline.
    #[must_use]
    pub fn of(spans: &[Span]) -> Option<Self> {
        let first = spans.iter().map(|span| span.start).min()?;
        let last = spans.iter().map(|span| span.end).max()?;
        let wall = last.saturating_sub(first);
        let length = |span: &Span| span.end.saturating_sub(span.start);
        let serial: Duration = spans.iter().map(length).sum();
        let streams = spans.iter().map(|span| span.stream).max().unwrap_or_default() + 1;
        let mut busy = vec![Duration::ZERO; streams];
        for span in spans {
            busy[span.stream] += length(span);
        }
        let busiest = busy.into_iter().max().unwrap_or_default();
        let saved = serial.saturating_sub(wall).as_secs_f64();
        let possible = serial.saturating_sub(busiest).as_secs_f64();
        Some(Self {
            wall,
            serial,
            busiest,
            together: if wall.is_zero() { 0.0 } else { together(spans).as_secs_f64() / wall.as_secs_f64() },
            achieved: if possible > 0.0 { (saved / possible).min(1.0) } else { 1.0 },
        })
    }
}

/// How long at least two engines were at work.
fn together(spans: &[Span]) -> Duration {
    let lasting = spans.iter().filter(|span| span.start < span.end);
    // Ends before starts, so that what only touches does not overlap.
    let mut turns: Vec<(Duration, bool, usize)> = lasting
        .flat_map(|span| [(span.start, true, engine(span.stage)), (span.end, false, engine(span.stage))])
        .collect();
    turns.sort_unstable();
    let (mut active, mut total, mut before) = ([0_usize; ENGINES], Duration::ZERO, Duration::ZERO);
    for (at, starts, engine) in turns {
        if active.iter().filter(|&&count| count > 0).count() >= 2 {
            total += at - before;
        }
        before = at;
        if starts {
            active[engine] += 1;
        } else {
            active[engine] -= 1;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(batch: u64, stage: Stage, stream: usize, start: u64, end: u64) -> Span {
        Span { batch, stage, stream, start: Duration::from_millis(start), end: Duration::from_millis(end) }
    }

    #[test]
    fn one_after_another_is_no_overlap() {
        let spans =
            [span(0, Stage::CopyIn, 0, 0, 10), span(0, Stage::Infer, 1, 10, 30), span(0, Stage::CopyOut, 2, 30, 35)];
        let overlap = Overlap::of(&spans).unwrap();
        assert_eq!((overlap.together, overlap.achieved), (0.0, 0.0));
        assert_eq!(
            (overlap.wall, overlap.serial, overlap.busiest),
            (Duration::from_millis(35), Duration::from_millis(35), Duration::from_millis(20),)
        );
    }

    #[test]
    fn a_copy_beside_a_computation_is_overlap() {
        // The second copy runs while the first batch is computed: 10 of 40 ms, and 10 of 20 that could be saved.
        let spans = [
            span(0, Stage::CopyIn, 0, 0, 10),
            span(0, Stage::Infer, 1, 10, 25),
            span(1, Stage::CopyIn, 0, 10, 20),
            span(1, Stage::Infer, 1, 25, 40),
        ];
        let overlap = Overlap::of(&spans).unwrap();
        assert_eq!((overlap.together, overlap.achieved), (0.25, 0.5));
    }

    #[test]
    fn two_kernels_at_once_are_one_engine() {
        let spans = [span(0, Stage::Infer, 2, 0, 10), span(1, Stage::Preprocess, 1, 0, 10)];
        let overlap = Overlap::of(&spans).unwrap();
        assert_eq!((overlap.together, overlap.achieved), (0.0, 1.0));
        assert_eq!(Overlap::of(&[]), None);
    }

    proptest! {
        #[test]
        fn the_sweep_agrees_with_looking_at_every_millisecond(
            spans in prop::collection::vec((0_usize..5, 0_u64..60, 0_u64..20), 1..20),
        ) {
            let spans: Vec<Span> =
                spans.iter().map(|&(stage, start, length)| span(0, Stage::ALL[stage], stage, start, start + length)).collect();
            let active = |ms: u64| {
                let at = Duration::from_millis(ms);
                let mut engines = [false; ENGINES];
                for span in spans.iter().filter(|span| span.start <= at && at < span.end) {
                    engines[engine(span.stage)] = true;
                }
                engines.iter().filter(|&&on| on).count() >= 2
            };
            let expected = (0..100).filter(|&ms| active(ms)).count() as u64;
            prop_assert_eq!(together(&spans), Duration::from_millis(expected));
            let overlap = Overlap::of(&spans).unwrap();
            prop_assert!((0.0..=1.0).contains(&overlap.together) && (0.0..=1.0).contains(&overlap.achieved));
        }
    }
}
