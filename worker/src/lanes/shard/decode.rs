//! The first stage of a shard: its intervals to pictures, each decoded on its own.

use std::{
    ops::{ControlFlow, Range},
    sync::mpsc::SyncSender,
    time::{Duration, Instant},
};

use fulltime_common::{
    index::RecordingIndex,
    plan::{Gap, ShardSpec},
};
use fulltime_media::{IntervalDecoder, IntervalOutcome, Picture};
use fulltime_observe::Meter;

use super::clock::Stage;
use crate::{
    crash::{self, Point},
    error::TaskError,
    lanes::window::Window,
};

pub struct Decoded {
    pub frame: u32,
    pub picture: Picture,
    /// When it was decoded.
    pub at: Instant,
}

/// Decodes the shard's intervals in order. An interval that cannot be decoded without concealment is a gap; what came of
/// it before that was seen is dropped at the end.
pub fn decode(
    decoder: &mut IntervalDecoder,
    index: &RecordingIndex,
    shard: &ShardSpec,
    window: &mut Window,
    out: SyncSender<Decoded>,
    meter: &Meter,
) -> Result<(Vec<Gap>, Duration), TaskError> {
    let mut stage = Stage::start(meter, "decode");
    let mut gaps = Vec::new();
    for number in shard.intervals.clone() {
        let interval = &index.intervals[number as usize];
        // Interleaving may put a later interval's first byte before an earlier one's.
        let ahead = &index.intervals[number as usize..shard.intervals.end as usize];
        let keep = ahead.iter().map(|i| i.bytes.start).min().unwrap_or_default();
        let bytes = window.read(interval.bytes.clone(), keep)?;
        crash::point(Point::BeforeDecode);
        crash::decoding(&shard.recording.key, number);
        stage.begin();
        let mut sink = |frame, picture| {
            stage.done();
            let sent = out.send(Decoded { frame, picture, at: Instant::now() });
            // The time in which nobody took it was not spent on the next one.
            stage.begin();
            if sent.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        match decoder.decode(number as usize, &bytes, interval.bytes.start, &mut sink)? {
            IntervalOutcome::Complete { missing } => {
                gaps.extend(runs(&missing).map(|frames| Gap { frames, reason: NOT_HELD.to_owned() }))
            }
            IntervalOutcome::Stopped => break,
            IntervalOutcome::Gap(reason) => {
                gaps.push(Gap { frames: interval.frames.clone(), reason: reason.to_string() });
            }
        }
        crash::point(Point::AfterDecode);
    }
    Ok((gaps, stage.total.cpu))
}

/// Why frames are missing that nothing has damaged.
const NOT_HELD: &str = "the recording does not hold these frames";

/// Ascending frames as runs without a hole.
fn runs(frames: &[u32]) -> impl Iterator<Item = Range<u32>> {
    frames.chunk_by(|a, b| a + 1 == *b).filter_map(|run| Some(*run.first()?..*run.last()? + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_frames_make_gaps_as_long_as_they_are() {
        assert_eq!(runs(&[]).count(), 0);
        assert_eq!(runs(&[3, 4, 5, 9, 11, 12]).collect::<Vec<_>>(), [3..6, 9..10, 11..13]);
    }
}
