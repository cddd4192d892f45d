//! The encoder makes the kinds of file that it is asked for, frame for frame, and the same bytes every time.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::{fs, path::Path};

use fulltime_synth::{Codec, EncodeOptions, Encoder, read_testcard, testcard};

const WIDTH: u32 = 192;
const HEIGHT: u32 = 128;
const FRAMES: u32 = 120;

fn options() -> EncodeOptions {
    EncodeOptions { gop: 25, ..EncodeOptions::new(WIDTH, HEIGHT) }
}

fn encode(path: &Path, options: &EncodeOptions) {
    let mut encoder = Encoder::create(path, options).unwrap();
    for n in 0..FRAMES {
        encoder.push(&testcard(n, WIDTH, HEIGHT)).unwrap();
    }
    encoder.finish().unwrap();
}

/// What a plain decode from the start shows, and how many packets are marked as keyframes.
fn decode(path: &Path) -> (Vec<Option<u16>>, usize) {
    let mut input = ffmpeg_next::format::input(path).unwrap();
    let stream = input.streams().best(ffmpeg_next::media::Type::Video).unwrap();
    let index = stream.index();
    let context = ffmpeg_next::codec::Context::from_parameters(stream.parameters()).unwrap();
    let mut decoder = context.decoder().video().unwrap();
    let (mut shown, mut keys) = (Vec::new(), 0);
    let mut frame = ffmpeg_next::frame::Video::empty();
    let mut drain = |decoder: &mut ffmpeg_next::decoder::Video, shown: &mut Vec<_>| {
        while decoder.receive_frame(&mut frame).is_ok() {
            shown.push(read_testcard(frame.data(0), frame.stride(0), frame.width(), frame.height()));
        }
    };
    for (stream, packet) in input.packets() {
        if stream.index() == index {
            keys += usize::from(packet.is_key());
            decoder.send_packet(&packet).unwrap();
            drain(&mut decoder, &mut shown);
        }
    }
    decoder.send_eof().unwrap();
    drain(&mut decoder, &mut shown);
    (shown, keys)
}

fn all_frames() -> Vec<Option<u16>> {
    (0..FRAMES as u16).map(Some).collect()
}

#[test]
fn every_codec_survives_every_container_that_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    for (codec, name, bframes) in [
        (Codec::H264, "a.mp4", 2),
        (Codec::H264, "a.mov", 0),
        (Codec::H264, "a.mkv", 2),
        (Codec::H264, "a.ts", 2),
        (Codec::H264, "a.avi", 0),
        (Codec::Hevc, "b.mp4", 2),
        (Codec::Hevc, "b.mkv", 0),
        (Codec::Hevc, "b.ts", 2),
        (Codec::Mpeg4, "c.mp4", 2),
        (Codec::Mpeg4, "c.avi", 0),
    ] {
        for audio in [false, true] {
            let path = dir.path().join(name);
            encode(&path, &EncodeOptions { codec, bframes, audio, ..options() });
            let (shown, keys) = decode(&path);
            assert_eq!(shown, all_frames(), "{name} {codec:?} audio {audio}");
            assert_eq!(keys, FRAMES.div_ceil(25) as usize, "keyframes of {name} {codec:?}");
        }
    }
}

#[test]
fn odd_structures_still_show_every_frame() {
    let dir = tempfile::tempdir().unwrap();
    let uneven = (0..i64::from(FRAMES)).map(|n| n * 40 + (n % 3) * 11).collect();
    for (name, options) in [
        ("open.mp4", EncodeOptions { open_gop: true, bframes: 3, ..options() }),
        ("open-hevc.mkv", EncodeOptions { codec: Codec::Hevc, open_gop: true, bframes: 3, ..options() }),
        ("refresh.mp4", EncodeOptions { intra_refresh: true, ..options() }),
        ("fragments.mp4", EncodeOptions { fragmented: true, bframes: 2, audio: true, ..options() }),
        ("variable.mp4", EncodeOptions { timestamps_ms: Some(uneven), bframes: 2, ..options() }),
        ("live.mkv", EncodeOptions { cues: false, bframes: 2, ..options() }),
    ] {
        let path = dir.path().join(name);
        encode(&path, &options);
        assert_eq!(decode(&path).0, all_frames(), "{name}");
    }
}

#[test]
fn a_hidden_lead_is_cut_off_by_the_edit_list() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edit.mp4");
    encode(&path, &EncodeOptions { hidden_lead: 10, ..options() });
    assert_eq!(decode(&path).0, (10..FRAMES as u16).map(Some).collect::<Vec<_>>());
}

#[test]
fn intra_refresh_has_one_keyframe_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refresh.mp4");
    encode(&path, &EncodeOptions { intra_refresh: true, ..options() });
    let bytes = fs::read(&path).unwrap();
    let recovery_points = bytes.windows(6).filter(|w| w[0] == 6 && w[1] == 6 && w[2] > 0 && w[2] < 8).count();
    assert!(recovery_points >= 3, "{recovery_points} recovery point messages");
}

#[test]
fn the_same_pictures_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.mp4", "a.mkv", "a.ts", "a.avi"] {
        let (first, second) = (dir.path().join(format!("1{name}")), dir.path().join(format!("2{name}")));
        fs::create_dir_all(first.parent().unwrap()).unwrap();
        encode(&first, &EncodeOptions { audio: true, ..options() });
        encode(&second, &EncodeOptions { audio: true, ..options() });
        assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "{name} differs");
    }
}

#[test]
fn wrong_sizes_and_unknown_containers_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Encoder::create(dir.path().join("a.mp4"), &EncodeOptions::new(321, 180)).is_err());
    assert!(Encoder::create(dir.path().join("a.webp"), &EncodeOptions::new(320, 180)).is_err());
    let mut encoder = Encoder::create(dir.path().join("a.mp4"), &options()).unwrap();
    assert!(encoder.push(&testcard(0, 64, 64)).is_err());
}
