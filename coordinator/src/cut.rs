//! Cuts a recording into shards: whole intervals of its container index, as near to the target length as they allow.
//! Pure; the planner calls it once per recording, and the plan object then fixes the result.

use std::ops::Range;

use fulltime_common::{
    digest::Digest,
    index::{Interval, RecordingIndex},
    plan::{EngineClass, ShardSpec},
    spec::ShardLength,
};

/// What a shard is besides its frames.
#[derive(Debug, Clone)]
pub struct Cutting {
    pub length: ShardLength,
    /// Key of the container index.
    pub index: Digest,
    pub pipeline: Digest,
    pub map: Digest,
    pub engine: EngineClass,
}

/// The shards of one recording in frame order; none for a recording without frames.
#[must_use]
pub fn cut(index: &RecordingIndex, cutting: &Cutting) -> Vec<ShardSpec> {
    let target = match cutting.length {
        ShardLength::Whole => u32::MAX,
        // `as` saturates, and a recording without a frame rate makes shards of one interval.
        ShardLength::Seconds(seconds) => ((seconds * index.fps()).round() as u32).max(1),
    };
    groups(&index.intervals, target).into_iter().filter_map(|group| shard_of(index, group, cutting)).collect()
}

/// The two halves of a shard by whole intervals, the first one the longer; itself if it has a single interval.
#[must_use]
pub fn halves(index: &RecordingIndex, shard: &ShardSpec) -> Vec<ShardSpec> {
    let (start, end) = (shard.intervals.start, shard.intervals.end);
    if end.saturating_sub(start) < 2 {
        return vec![shard.clone()];
    }
    let middle = end - (end - start) / 2;
    let cutting = Cutting {
        length: ShardLength::Whole,
        index: shard.index,
        pipeline: shard.pipeline,
        map: shard.map,
        engine: shard.engine.clone(),
    };
    let parts: Vec<_> = [start..middle, middle..end].into_iter().filter_map(|g| shard_of(index, g, &cutting)).collect();
    // An index that lacks these intervals cannot be the one that the shard was cut from.
    if parts.len() == 2 { parts } else { vec![shard.clone()] }
}

/// The shard of these intervals; none if they are empty.
fn shard_of(index: &RecordingIndex, group: Range<u32>, cutting: &Cutting) -> Option<ShardSpec> {
    let intervals = index.intervals.get(group.start as usize..group.end as usize)?;
    Some(ShardSpec {
        recording: index.recording.clone(),
        index: cutting.index,
        intervals: group,
        frames: intervals.first()?.frames.start..intervals.last()?.frames.end,
        bytes: intervals.iter().map(|i| i.bytes.start).min()?..intervals.iter().map(|i| i.bytes.end).max()?,
        pipeline: cutting.pipeline,
        map: cutting.map,
        engine: cutting.engine.clone(),
    })
}

/// Runs of intervals. An interval joins the run before it if that brings the run nearer to the target, so no run of two
/// or more is longer than the target and half its last interval.
fn groups(intervals: &[Interval], target: u32) -> Vec<Range<u32>> {
    let mut groups = Vec::new();
    let (mut start, mut length) = (0, 0_u32);
    for (at, interval) in (0_u32..).zip(intervals) {
        let more = interval.frames.end.saturating_sub(interval.frames.start);
        let longer = length.saturating_add(more);
        if at > start && length > 0 && longer.abs_diff(target) > length.abs_diff(target) {
            groups.push(start..at);
            (start, length) = (at, more);
        } else {
            length = longer;
        }
    }
    if length > 0 {
        groups.push(start..intervals.len() as u32);
    }
    groups
}

#[cfg(test)]
pub(crate) mod tests {
    use fulltime_common::{
        index::{Access, Codec, Packets},
        plan::RecordingRef,
    };
    use proptest::prelude::*;

    use super::*;

    /// An index with intervals of these lengths, 25 frames a second, 100 bytes a frame.
    pub(crate) fn index_of(recording: RecordingRef, lengths: &[u32]) -> RecordingIndex {
        let mut intervals = Vec::new();
        let mut frame = 0;
        for length in lengths {
            let frames = frame..frame + length;
            let bytes = u64::from(frames.start) * 100..u64::from(frames.end) * 100 + 50;
            intervals.push(Interval { packets: frames.clone(), frames, bytes });
            frame += length;
        }
        RecordingIndex {
            recording,
            container: "mp4".into(),
            access: Access::Sliced,
            codec: Codec {
                name: "h264".into(),
                tag: 0,
                extradata: vec![],
                width: 1280,
                height: 720,
                bits_per_coded_sample: 0,
            },
            frame_rate: (25, 1),
            frame_us: (0..frame).map(|f| i64::from(f) * 40_000).collect(),
            frames: frame,
            packets: Packets::default(),
            intervals,
            bytes_read: 0,
        }
    }

    fn frames_of(lengths: &[u32], length: ShardLength) -> Vec<Range<u32>> {
        let recording = RecordingRef { key: "r".into(), size: 1, etag: "e".into() };
        let digest = Digest::of_bytes(b"x");
        let engine = EngineClass("sim".into());
        let cutting = Cutting { length, index: digest, pipeline: digest, map: digest, engine };
        cut(&index_of(recording, lengths), &cutting).into_iter().map(|shard| shard.frames).collect()
    }

    #[test]
    fn a_shard_ends_where_the_target_is_nearest() {
        // 50 frames are wanted: 25+25, then 60 alone (nearer than 60+10), then the rest.
        let cuts = frames_of(&[25, 25, 60, 10, 30], ShardLength::Seconds(2.0));
        assert_eq!(cuts, [0..50, 50..110, 110..150]);
        assert_eq!(frames_of(&[25, 25, 60], ShardLength::Whole).first(), Some(&(0..110)));
        assert_eq!(frames_of(&[500, 1], ShardLength::Seconds(2.0)), [0..500, 500..501], "an interval is never split");
        assert!(frames_of(&[], ShardLength::Whole).is_empty());
    }

    #[test]
    fn a_shard_reads_the_bytes_of_all_its_intervals_and_no_more() {
        let recording = RecordingRef { key: "r".into(), size: 1, etag: "e".into() };
        let digest = Digest::of_bytes(b"x");
        let engine = EngineClass("sim".into());
        let cutting =
            Cutting { length: ShardLength::Seconds(1.0), index: digest, pipeline: digest, map: digest, engine };
        let mut index = index_of(recording, &[25, 25]);
        // Leading pictures of an open GOP: the first interval reads into the second.
        index.intervals[0].bytes.end = 2900;
        let shards = cut(&index, &cutting);
        assert_eq!((shards[0].bytes.clone(), shards[1].bytes.clone()), (0..2900, 2500..5050));
        assert_eq!((shards[0].intervals.clone(), shards[1].intervals.clone()), (0..1, 1..2));
    }

    proptest! {
        #[test]
        fn shards_cover_all_frames_once_and_adjoin(
            lengths in proptest::collection::vec(1_u32..400, 1..60), seconds in 0.02_f64..60.0
        ) {
            let target = ((seconds * 25.0).round() as u32).max(1);
            let longest = lengths.iter().copied().max().unwrap_or_default();
            let shards = frames_of(&lengths, ShardLength::Seconds(seconds));
            let mut next = 0;
            for shard in &shards {
                prop_assert_eq!(shard.start, next);
                prop_assert!(shard.end > shard.start);
                let frames = shard.end - shard.start;
                prop_assert!(frames <= target + longest || lengths.contains(&frames));
                next = shard.end;
            }
            prop_assert_eq!(next, lengths.iter().sum::<u32>());
            prop_assert_eq!(shards, frames_of(&lengths, ShardLength::Seconds(seconds)));
        }
    }
}
