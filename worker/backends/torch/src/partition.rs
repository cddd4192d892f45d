//! Which stages of a model go to which device. Pure; called when a model in stages is opened for several devices.

use std::{ops::Range, time::Duration};

/// What one stage takes, as measured on one micro-batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageCost {
    pub time: Duration,
    /// Bytes of its weights: all stages of a device hold theirs at once.
    pub weights: u64,
    /// Bytes that it needs on top while it runs: stages of a device run one after the other.
    pub working: u64,
}

/// Why stages cannot be placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartitionError {
    #[error("a model without stages or a lane without devices")]
    Nothing,
    #[error("stage {stage} of the model takes {needed} bytes, no device has more than {largest}")]
    StageTooLarge { stage: usize, needed: u64, largest: u64 },
    #[error("the model takes {needed} bytes in runs of whole stages, the devices have {room}")]
    TooLarge { needed: u64, room: u64 },
}

/// Places contiguous runs of stages on the devices, in the devices' order, so that the longest time of a device is as short
/// as the memory of each (`rooms`, bytes) allows. Among equals, those where later devices have less to do; a device may stay
/// empty. The split has no influence on any value: every stage does the same wherever it runs.
///
/// Dynamic programming over (devices, stages), `O(devices * stages^2)`.
///
/// # Errors
/// When no such placement exists.
pub fn partition(stages: &[StageCost], rooms: &[u64]) -> Result<Vec<Range<usize>>, PartitionError> {
    let Some(&largest) = rooms.iter().max().filter(|_| !stages.is_empty()) else {
        return Err(PartitionError::Nothing);
    };
    // best[d][n]: shortest longest time when the first d devices hold the first n stages, and where the last of them begins.
    let mut best: Vec<Vec<Option<(Duration, usize)>>> = vec![vec![None; stages.len() + 1]; rooms.len() + 1];
    best[0][0] = Some((Duration::ZERO, 0));
    for (device, &room) in rooms.iter().enumerate() {
        for end in 0..=stages.len() {
            let mut found: Option<(Duration, usize)> = None;
            for begin in (0..=end).rev() {
                let Some((before, _)) = best[device][begin] else { continue };
                let run = &stages[begin..end];
                if memory(run) > u128::from(room) {
                    break;
                }
                let longest = before.max(run.iter().map(|stage| stage.time).sum());
                if found.is_none_or(|(shortest, _)| longest < shortest) {
                    found = Some((longest, begin));
                }
            }
            best[device + 1][end] = found;
        }
    }
    let mut end = stages.len();
    let mut placed = Vec::with_capacity(rooms.len());
    for row in best.iter().skip(1).rev() {
        let Some((_, begin)) = row[end] else { return Err(too_large(stages, rooms, largest)) };
        placed.push(begin..end);
        end = begin;
    }
    placed.reverse();
    Ok(placed)
}

/// What a run of stages takes on one device.
fn memory(run: &[StageCost]) -> u128 {
    let weights: u128 = run.iter().map(|stage| u128::from(stage.weights)).sum();
    weights + u128::from(run.iter().map(|stage| stage.working).max().unwrap_or(0))
}

fn too_large(stages: &[StageCost], rooms: &[u64], largest: u64) -> PartitionError {
    let needs = |stage: &StageCost| stage.weights.saturating_add(stage.working);
    match stages.iter().position(|stage| needs(stage) > largest) {
        Some(stage) => PartitionError::StageTooLarge { stage, needed: needs(&stages[stage]), largest },
        None => {
            let needed = u64::try_from(memory(stages)).unwrap_or(u64::MAX);
            PartitionError::TooLarge { needed, room: rooms.iter().fold(0, |sum, &room| sum.saturating_add(room)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stage(ms: u64, weights: u64, working: u64) -> StageCost {
        StageCost { time: Duration::from_millis(ms), weights, working }
    }

    fn longest(stages: &[StageCost], placed: &[Range<usize>]) -> Duration {
        let time = |run: &Range<usize>| stages[run.clone()].iter().map(|stage| stage.time).sum();
        placed.iter().map(time).max().unwrap_or_default()
    }

    /// Every way to cut, tried.
    fn brute_force(stages: &[StageCost], rooms: &[u64]) -> Option<Duration> {
        fn rest(stages: &[StageCost], from: usize, rooms: &[u64]) -> Option<Duration> {
            let Some((&room, others)) = rooms.split_first() else {
                return (from == stages.len()).then_some(Duration::ZERO);
            };
            (from..=stages.len())
                .filter(|&end| memory(&stages[from..end]) <= u128::from(room))
                .filter_map(|end| {
                    let here: Duration = stages[from..end].iter().map(|stage| stage.time).sum();
                    rest(stages, end, others).map(|later| here.max(later))
                })
                .min()
        }
        rest(stages, 0, rooms)
    }

    #[test]
    fn half_the_list_is_not_half_the_work() {
        let stages = [stage(8, 1, 0), stage(1, 1, 0), stage(1, 1, 0), stage(1, 1, 0)];
        assert_eq!(partition(&stages, &[9, 9]), Ok(vec![0..1, 1..4]));
    }

    #[test]
    fn memory_comes_before_balance() {
        let stages = [stage(1, 6, 0), stage(1, 6, 0), stage(9, 1, 2)];
        assert_eq!(partition(&stages, &[100, 100]), Ok(vec![0..2, 2..3]));
        assert_eq!(partition(&stages, &[7, 100]), Ok(vec![0..1, 1..3]));
    }

    #[test]
    fn stages_of_a_device_share_their_working_memory() {
        let stages = [stage(1, 1, 5), stage(1, 1, 5)];
        let parts = partition(&stages, &[7]).unwrap();
        assert_eq!((parts.len(), parts[0].clone()), (1, 0..2));
        assert_eq!(partition(&stages, &[6]), Err(PartitionError::TooLarge { needed: 7, room: 6 }));
    }

    #[test]
    fn what_fits_nowhere_is_named() {
        let stages = [stage(1, 1, 0), stage(1, 50, 3)];
        let error = PartitionError::StageTooLarge { stage: 1, needed: 53, largest: 40 };
        assert_eq!(partition(&stages, &[40, 30]), Err(error));
        assert_eq!(partition(&[], &[1]), Err(PartitionError::Nothing));
    }

    #[test]
    fn devices_may_outnumber_stages() {
        let placed = partition(&[stage(3, 1, 0), stage(4, 1, 0)], &[9, 9, 9, 9]).unwrap();
        assert_eq!(placed.iter().filter(|run| !run.is_empty()).count(), 2, "{placed:?}");
    }

    proptest! {
        #[test]
        fn no_way_to_cut_is_better(
            stages in prop::collection::vec((0_u64..20, 0_u64..20, 0_u64..10).prop_map(|(t, w, m)| stage(t, w, m)), 1..9),
            rooms in prop::collection::vec(5_u64..60, 1..5),
        ) {
            match partition(&stages, &rooms) {
                Ok(placed) => {
                    prop_assert_eq!(placed.len(), rooms.len());
                    let mut next = 0;
                    for (run, &room) in placed.iter().zip(&rooms) {
                        prop_assert_eq!(run.start, next);
                        next = run.end;
                        prop_assert!(memory(&stages[run.clone()]) <= u128::from(room));
                    }
                    prop_assert_eq!(next, stages.len());
                    prop_assert_eq!(Some(longest(&stages, &placed)), brute_force(&stages, &rooms));
                }
                Err(_) => prop_assert_eq!(brute_force(&stages, &rooms), None),
            }
        }
    }
}
