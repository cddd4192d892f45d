//! Damaged recordings: whole intervals become gaps, the others stay what they are, and it does not matter how the
//! recording was cut into shards.

use std::ops::Range;

use fulltime_common::index::{NEVER_SHOWN, RecordingIndex};
use fulltime_media::{GapReason, IntervalDecoder, IntervalOutcome};
use fulltime_synth::{Codec, EncodeOptions};

use crate::support::{Archive, Interval, decode, straight};

async fn recorded(key: &str, codec: Codec, open_gop: bool) -> (Archive, RecordingIndex, Vec<u64>) {
    let archive = Archive::new();
    let bframes = if codec == Codec::Mpeg4 { 0 } else { 2 };
    let options = EncodeOptions { codec, open_gop, bframes, gop: 30, ..EncodeOptions::new(320, 180) };
    archive.record(key, 150, &options);
    let index = archive.index(key).await.unwrap();
    let reference = straight(&archive.path(key));
    (archive, index, reference)
}

/// What happens to bytes.
#[derive(Debug, Clone, Copy)]
enum Harm {
    /// A block that storage lost reads as zeros.
    Zeros,
    Garbage,
}

/// Overwrites part of the payload of a frame, but not its first bytes, and indexes again.
async fn damage(archive: &Archive, index: &RecordingIndex, frame: u32, harm: Harm) -> RecordingIndex {
    let key = &index.recording.key;
    let row = index.packets.frame.iter().position(|&f| f == frame).unwrap();
    let (pos, size) = (index.packets.pos[row] as usize, index.packets.size[row] as usize);
    let mut bytes = std::fs::read(archive.path(key)).unwrap();
    for at in pos + size / 3..pos + size - 4 {
        bytes[at] = match harm {
            Harm::Zeros => 0,
            Harm::Garbage => (at * 7) as u8,
        };
    }
    archive.write(key, &bytes);
    archive.index(key).await.unwrap()
}

async fn all(archive: &Archive, index: &RecordingIndex, shards: &[Range<usize>]) -> Vec<Interval> {
    let mut out = Vec::new();
    for shard in shards {
        let spans = &index.intervals[shard.clone()];
        let start = spans.iter().map(|span| span.bytes.start).min().unwrap();
        let end = spans.iter().map(|span| span.bytes.end).max().unwrap();
        let bytes = archive.fetch(index, start..end).await;
        let mut decoder = IntervalDecoder::new(index).unwrap();
        out.extend(shard.clone().map(|interval| decode(&mut decoder, interval, &bytes, start)));
    }
    out
}

/// Damages one frame and says which intervals are gaps. The others must be bit-exact.
async fn gaps(key: &str, codec: Codec, open_gop: bool, frame: u32, harm: Harm) -> Vec<usize> {
    let (archive, index, reference) = recorded(key, codec, open_gop).await;
    let hurt = damage(&archive, &index, frame, harm).await;
    assert_eq!(hurt.intervals, index.intervals, "{key}");
    let alone = all(&archive, &hurt, &[0..1, 1..2, 2..3, 3..4, 4..5]).await;
    let together = all(&archive, &hurt, &[0..2, 2..5]).await;
    for (i, (alone, together)) in alone.iter().zip(&together).enumerate() {
        assert_eq!(alone.outcome, together.outcome, "{key} interval {i} depends on the shard");
        if alone.outcome == (IntervalOutcome::Complete { missing: vec![] }) {
            assert_eq!(alone.frames.len(), hurt.intervals[i].frames.len());
            for (number, hash) in &alone.frames {
                assert_eq!(*hash, reference[*number as usize], "{key} frame {number} is not what it was");
            }
        }
    }
    let is_gap = |(i, got): (usize, &Interval)| matches!(got.outcome, IntervalOutcome::Gap(_)).then_some(i);
    alone.iter().enumerate().filter_map(is_gap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_within_a_group_makes_a_gap_of_that_group_alone() {
    // Garbage in HEVC is no case: its entropy coding has no syntax to break, so nobody can tell without a checksum.
    let cases = [
        ("h264.mp4", Codec::H264, Harm::Zeros),
        ("h264.mp4", Codec::H264, Harm::Garbage),
        ("hevc.mp4", Codec::Hevc, Harm::Zeros),
        ("mpeg4.avi", Codec::Mpeg4, Harm::Zeros),
        ("mpeg4.avi", Codec::Mpeg4, Harm::Garbage),
    ];
    for (key, codec, harm) in cases {
        assert_eq!(gaps(key, codec, false, 75, harm).await, [2], "{key} {harm:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_keyframe_takes_the_group_before_with_it_when_that_has_leading_pictures() {
    for (key, codec) in [("h264.mp4", Codec::H264), ("hevc.mp4", Codec::Hevc)] {
        let (_, index, _) = recorded(key, codec, true).await;
        let keyframe = index.intervals[2].frames.start;
        assert_eq!(gaps(key, codec, true, keyframe, Harm::Zeros).await, [1, 2], "{key}");
        assert_eq!(gaps(key, codec, false, 60, Harm::Zeros).await, [2], "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_is_wiped_out_is_never_papered_over() {
    for (key, codec) in [("h264.mp4", Codec::H264), ("hevc.mp4", Codec::Hevc)] {
        let (archive, index, _) = recorded(key, codec, false).await;
        let mut bytes = std::fs::read(archive.path(key)).unwrap();
        let row = index.intervals[1].packets.start as usize + 4;
        let (pos, size) = (index.packets.pos[row] as usize, index.packets.size[row] as usize);
        bytes[pos..pos + size].fill(0);
        archive.write(key, &bytes);
        let index = archive.index(key).await.unwrap();
        let got = archive.decode(&index, 1).await;
        assert!(matches!(got.outcome, IntervalOutcome::Gap(_)), "{key}: {:?}", got.outcome);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_refers_to_one_that_is_not_there_is_a_gap() {
    // The index forgets a packet that others refer to: the decoder has to make something up, and says so only in its log.
    for (key, codec) in [("h264.mp4", Codec::H264), ("hevc.mp4", Codec::Hevc)] {
        let (archive, mut index, _) = recorded(key, codec, false).await;
        let row = index.intervals[1].packets.start as usize + 1;
        assert_ne!(index.packets.frame[row], NEVER_SHOWN);
        for interval in &mut index.intervals[2..] {
            interval.packets = interval.packets.start - 1..interval.packets.end - 1;
        }
        index.intervals[1].packets.end -= 1;
        index.packets.pos.remove(row);
        index.packets.size.remove(row);
        index.packets.frame.remove(row);
        let got = archive.decode(&index, 1).await;
        assert!(matches!(got.outcome, IntervalOutcome::Gap(_)), "{key}: {:?}", got.outcome);
        assert_eq!(archive.decode(&index, 2).await.outcome, IntervalOutcome::Complete { missing: vec![] });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_transport_packets_are_gaps() {
    let (archive, index, reference) = recorded("air.ts", Codec::H264, false).await;
    let mut bytes = std::fs::read(archive.path("air.ts")).unwrap();
    let hole = (index.intervals[2].bytes.start + index.intervals[2].bytes.end) as usize / 2 / 188 * 188;
    bytes.drain(hole..hole + 188);
    archive.write("air.ts", &bytes);
    let hurt = archive.index("air.ts").await.unwrap();
    let got = all(&archive, &hurt, &[0..5]).await;
    for (i, got) in got.iter().enumerate() {
        match i {
            2 => assert!(matches!(got.outcome, IntervalOutcome::Gap(_)), "{:?}", got.outcome),
            _ => assert_eq!(got.outcome, IntervalOutcome::Complete { missing: vec![] }, "interval {i}"),
        }
    }
    assert_eq!(got[4].frames.last().map(|(_, hash)| *hash), reference.last().copied());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mp4_that_lacks_its_last_bytes_loses_its_last_intervals() {
    // Index in front, so that it survives the cut.
    let (archive, index, reference) = recorded("stream.mp4", Codec::H264, false).await;
    let path = archive.path("stream.mp4");
    let front = archive.path("front.mp4");
    remux_with_index_in_front(&path, &front);
    let bytes = std::fs::read(&front).unwrap();
    let full = archive.index("front.mp4").await.unwrap();
    assert_eq!(full.frames, index.frames);
    archive.write("front.mp4", &bytes[..full.intervals[3].bytes.start as usize + 500]);
    let cut = archive.index("front.mp4").await.unwrap();
    assert_eq!(cut.frames, full.frames);
    for i in 0..cut.intervals.len() {
        let got = archive.decode(&cut, i).await;
        if i < 3 {
            assert_eq!(got.outcome, IntervalOutcome::Complete { missing: vec![] });
            assert!(got.frames.iter().all(|(number, hash)| reference[*number as usize] == *hash));
        } else {
            assert!(matches!(got.outcome, IntervalOutcome::Gap(GapReason::Truncated { .. })), "{:?}", got.outcome);
        }
    }
}

fn remux_with_index_in_front(from: &std::path::Path, to: &std::path::Path) {
    let mut input = ffmpeg_next::format::input(from).unwrap();
    let mut output = ffmpeg_next::format::output(to).unwrap();
    let stream = input.streams().best(ffmpeg_next::media::Type::Video).unwrap();
    let mut copy = output.add_stream(None::<ffmpeg_next::Codec>).unwrap();
    copy.set_parameters(stream.parameters());
    copy.set_time_base(stream.time_base());
    let mut options = ffmpeg_next::Dictionary::new();
    options.set("movflags", "faststart");
    output.write_header_with(options).unwrap();
    for (_, packet) in input.packets() {
        packet.write_interleaved(&mut output).unwrap();
    }
    output.write_trailer().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_begins_in_the_middle_of_a_group_is_a_gap_until_its_first_keyframe() {
    let (archive, index, reference) = recorded("late.ts", Codec::H264, false).await;
    let bytes = std::fs::read(archive.path("late.ts")).unwrap();
    let row = index.intervals[0].packets.start as usize + 12;
    archive.write("late.ts", &bytes[index.packets.pos[row] as usize..]);
    let late = archive.index("late.ts").await.unwrap();
    assert_eq!(late.frames, 150 - 12);
    let got = all(&archive, &late, &[0..late.intervals.len()]).await;
    assert!(!matches!(&got[0].outcome, IntervalOutcome::Complete { missing } if missing.is_empty()), "{:?}", got[0]);
    for (i, got) in got.iter().enumerate().skip(1) {
        assert_eq!(got.outcome, IntervalOutcome::Complete { missing: vec![] }, "interval {i}");
        assert!(got.frames.iter().all(|(number, hash)| reference[*number as usize + 12] == *hash), "interval {i}");
    }
}
