//! Sound recordings of every kind: each interval, decoded alone from its own bytes, gives exactly what libav shows when
//! it plays the whole file, and every frame has the number that is written into it.

use fulltime_common::index::{Access, RecordingIndex};
use fulltime_media::IntervalOutcome;
use fulltime_synth::{Codec, EncodeOptions};

use crate::support::{Archive, straight};

fn options() -> EncodeOptions {
    EncodeOptions { gop: 30, ..EncodeOptions::new(320, 180) }
}

/// Records 150 frames, checks every interval, and returns the index. `hidden` frames at the start are never shown.
async fn check(key: &str, options: &EncodeOptions, hidden: u32) -> RecordingIndex {
    let archive = Archive::new();
    archive.record(key, 150, options);
    let index = archive.index(key).await.unwrap();
    let (read, requests) = archive.taken();
    assert_eq!(read, index.bytes_read, "{key}");
    println!("{key}: {read} of {} bytes in {requests} requests, {:?}", index.recording.size, index.intervals);

    let reference = straight(&archive.path(key));
    assert_eq!(reference.len(), 150 - hidden as usize, "{key}");
    assert_eq!(index.frames as usize, reference.len(), "{key}");
    let mut next = 0;
    for (i, span) in index.intervals.iter().enumerate() {
        assert_eq!(span.frames.start, next, "{key}: intervals adjoin");
        next = span.frames.end;
        let got = archive.decode(&index, i).await;
        assert_eq!(got.outcome, IntervalOutcome::Complete { missing: vec![] }, "{key} interval {i} {span:?}");
        let numbers: Vec<u32> = got.frames.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, span.frames.clone().collect::<Vec<_>>(), "{key} interval {i}");
        for ((number, hash), card) in got.frames.iter().zip(&got.cards) {
            assert_eq!(*card, Some(number + hidden), "{key} interval {i}");
            assert_eq!(*hash, reference[*number as usize], "{key} frame {number} differs from a straight decode");
        }
    }
    assert_eq!(next, index.frames, "{key}");
    // A worker reads its shard's bytes alone: neighbours overlap by no more than one group of pictures.
    for pair in index.intervals.windows(2) {
        assert!(pair[0].bytes.end <= pair[1].bytes.end, "{key}: {pair:?}");
    }
    index
}

fn cuts(index: &RecordingIndex) -> Vec<u32> {
    index.intervals.iter().map(|interval| interval.frames.start).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_mp4_with_closed_groups_and_b_frames() {
    let index = check("closed.mp4", &EncodeOptions { bframes: 2, ..options() }, 0).await;
    assert_eq!(cuts(&index), [0, 30, 60, 90, 120]);
    assert_eq!(index.access, Access::Sliced);
    assert_eq!((index.frame_rate, index.codec.width, index.codec.height), ((25, 1), 320, 180));
    assert_eq!(index.frame_us(50), 2_000_000);
    let bytes = index.to_bytes().unwrap();
    assert_eq!(RecordingIndex::from_bytes(&bytes).unwrap(), index);
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_mp4_with_open_groups_lends_leading_pictures_to_the_group_before() {
    let index = check("open.mp4", &EncodeOptions { bframes: 3, open_gop: true, ..options() }, 0).await;
    assert!(index.intervals.len() > 3, "recovery points are cut points: {:?}", index.intervals);
    assert!(index.intervals.windows(2).any(|pair| pair[0].packets.end > pair[1].packets.start), "no leading pictures?");
}

#[tokio::test(flavor = "multi_thread")]
async fn intra_refresh_cannot_be_cut() {
    for key in ["refresh.mp4", "refresh.ts", "refresh.mkv"] {
        let index = check(key, &EncodeOptions { intra_refresh: true, ..options() }, 0).await;
        assert_eq!(cuts(&index), [0], "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hevc_with_closed_and_open_groups() {
    for key in ["hevc.mp4", "hevc.ts", "hevc.mkv"] {
        for open_gop in [false, true] {
            let options = EncodeOptions { codec: Codec::Hevc, bframes: 3, open_gop, ..options() };
            let index = check(key, &options, 0).await;
            assert!(index.intervals.len() >= 4, "{key} open {open_gop}: {:?}", index.intervals);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transport_streams_are_demuxed_behind_their_tables() {
    for open_gop in [false, true] {
        let options = EncodeOptions { bframes: 2, open_gop, audio: true, ..options() };
        let index = check("broadcast.ts", &options, 0).await;
        assert!(
            matches!(&index.access, Access::Demuxed { format, prefix } if format == "mpegts" && prefix.len() == 376)
        );
        assert!(index.intervals.len() >= 4, "{:?}", index.intervals);
        assert_eq!(index.frame_us(25), 1_000_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn matroska_with_cues_is_numbered_by_its_grid() {
    for (bframes, open_gop, audio) in [(0, false, false), (2, false, true), (3, true, true)] {
        let index = check("cues.mkv", &EncodeOptions { bframes, open_gop, audio, ..options() }, 0).await;
        assert!(matches!(index.access, Access::Gridded { frame_ns: 40_000_000, .. }), "{:?}", index.access);
        assert!(index.intervals.len() >= 4, "{:?}", index.intervals);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn matroska_without_cues_is_read_once() {
    for open_gop in [false, true] {
        let options = EncodeOptions { bframes: 2, open_gop, audio: true, cues: false, ..options() };
        let index = check("live.mkv", &options, 0).await;
        assert_eq!(index.access, Access::Sliced);
        assert!(index.intervals.len() >= 4, "{:?}", index.intervals);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn avi_holds_mpeg4() {
    let index = check("old.avi", &EncodeOptions { codec: Codec::Mpeg4, audio: true, ..options() }, 0).await;
    assert_eq!(index.access, Access::Sliced);
    assert_eq!(cuts(&index), [0, 30, 60, 90, 120]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reordered_frames_in_avi_are_put_in_order_by_decoding_them() {
    for codec in [Codec::Mpeg4, Codec::H264] {
        let index = check("reordered.avi", &EncodeOptions { codec, bframes: 2, ..options() }, 0).await;
        assert!(index.intervals.len() >= 4, "{:?}", index.intervals);
        assert_eq!(index.frame_us(75) - index.frame_us(0), 3_000_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fragmented_mp4_is_read_once() {
    let options = EncodeOptions { bframes: 2, fragmented: true, audio: true, ..options() };
    let index = check("fragments.mp4", &options, 0).await;
    assert_eq!(index.access, Access::Sliced);
    assert_eq!(cuts(&index), [0, 30, 60, 90, 120]);
}

#[tokio::test(flavor = "multi_thread")]
async fn variable_frame_rate_keeps_its_times() {
    // A phone that drops to half the rate now and then.
    let times: Vec<i64> =
        (0..150).scan(0, |t, n| Some(std::mem::replace(t, *t + if n % 7 == 0 { 83 } else { 33 }))).collect();
    for key in ["phone.mp4", "phone.mkv", "phone.ts"] {
        let options = EncodeOptions { bframes: 2, timestamps_ms: Some(times.clone()), ..options() };
        let index = check(key, &options, 0).await;
        for (n, ms) in times.iter().enumerate() {
            let off = index.frame_us(n as u32) - index.frame_us(0) - (ms - times[0]) * 1000;
            assert!(off.abs() <= 1000, "{key}: frame {n} is {off} us off");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_before_an_edit_list_are_decoded_but_have_no_number() {
    for open_gop in [false, true] {
        let options = EncodeOptions { bframes: 2, hidden_lead: 10, open_gop, ..options() };
        let index = check("edited.mp4", &options, 10).await;
        assert_eq!(index.frame_us(0), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_between_the_frames_changes_nothing() {
    let index = check("sound.mov", &EncodeOptions { bframes: 2, audio: true, ..options() }, 0).await;
    assert_eq!(cuts(&index), [0, 30, 60, 90, 120]);
}

#[tokio::test(flavor = "multi_thread")]
async fn short_groups_share_an_interval() {
    let index = check("short.mp4", &EncodeOptions { gop: 5, ..options() }, 0).await;
    assert_eq!(cuts(&index), [0, 25, 50, 75, 100, 125]);
}

#[tokio::test(flavor = "multi_thread")]
async fn planning_reads_little_and_a_shard_its_own_bytes() {
    for key in ["big.mp4", "big.mkv"] {
        let archive = Archive::new();
        let options = EncodeOptions { gop: 25, bframes: 2, crf: 4, audio: true, ..EncodeOptions::new(1280, 720) };
        archive.record(key, 500, &options);
        let index = archive.index(key).await.unwrap();
        let (read, requests) = archive.taken();
        let size = index.recording.size;
        println!("{key}: {read} of {size} bytes in {requests} requests");
        assert_eq!(read, index.bytes_read);
        assert!(size > 14 << 20, "{size} bytes do not test anything");
        assert!(read <= (size / 50).max(256 << 10), "planning {key} read {read} of {size} bytes");
        assert_eq!(index.intervals.len(), 20);

        // A shard of four intervals.
        let shard = &index.intervals[8..12];
        let bytes = shard[0].bytes.start..shard[3].bytes.end;
        let longest = index.intervals.iter().map(|i| i.bytes.end - i.bytes.start).max().unwrap();
        assert!(bytes.end - bytes.start <= shard.iter().map(|i| i.bytes.end - i.bytes.start).sum::<u64>() + longest);
        let data = archive.fetch(&index, bytes.clone()).await;
        let mut decoder = fulltime_media::IntervalDecoder::new(&index).unwrap();
        for interval in 8..12 {
            let got = crate::support::decode(&mut decoder, interval, &data, bytes.start);
            assert_eq!(got.outcome, IntervalOutcome::Complete { missing: vec![] });
            assert_eq!(got, archive.decode(&index, interval).await, "alone or within a shard");
        }
    }
}
