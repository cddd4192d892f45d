//! Recordings are reproducible to the byte, whole, and what the truth says of them is so.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::{fs, path::Path};

use fulltime_synth::{
    Codec, Directing, EncodeOptions, Filming, FrameTruth, GeneratedRecording, MatchOptions, Post, cast::Role,
    generate_match, render_frame,
};

/// Short GOPs, so that even these few frames make several segments.
fn small(name: &str, seed: u64) -> MatchOptions {
    let defaults = MatchOptions::new(name, seed, 320, 180);
    let encode = EncodeOptions { fps: (5, 1), gop: 10, ..defaults.encode.clone() };
    MatchOptions { frames: 130, encode, threads: 2, ..defaults }
}

fn generate(options: &MatchOptions, dir: &Path) -> Vec<GeneratedRecording> {
    generate_match(options, dir, &mut |_, _| {}).unwrap()
}

fn bytes(recording: &GeneratedRecording) -> Vec<Vec<u8>> {
    let texts = [&recording.mot, &recording.truth].into_iter().flatten();
    texts.chain([&recording.path]).map(|path| fs::read(path).unwrap()).collect()
}

fn truth(recording: &GeneratedRecording) -> Vec<FrameTruth> {
    let text = fs::read_to_string(recording.truth.as_ref().unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Presentation times and keyframe flags of the video packets, in the order of the file.
fn packets(path: &Path) -> Vec<(i64, Option<i64>, bool)> {
    let mut input = ffmpeg_next::format::input(path).unwrap();
    let index = input.streams().best(ffmpeg_next::media::Type::Video).unwrap().index();
    let video = input.packets().filter(|(stream, _)| stream.index() == index);
    video.map(|(_, packet)| (packet.pts().unwrap(), packet.dts(), packet.is_key())).collect()
}

#[test]
fn a_seed_gives_the_same_bytes_twice_and_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let made = |name: &str, threads| {
        generate(&MatchOptions { threads, ..small("m", 3) }, &dir.path().join(name))
            .iter()
            .map(bytes)
            .collect::<Vec<_>>()
    };
    let first = made("first", 1);
    assert!(first == made("again", 1), "the same seed gave other bytes");
    assert!(first == made("two", 2), "two threads gave other bytes");
    assert!(first == made("five", 5), "five threads gave other bytes");
}

#[test]
fn another_seed_is_another_match() {
    let dir = tempfile::tempdir().unwrap();
    let made = |seed| bytes(&generate(&small(&format!("m{seed}"), seed), dir.path())[0]);
    assert!(made(1) != made(2));
}

#[test]
fn halves_and_cameras_are_recordings_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let options = MatchOptions { frames: 12, periods: 2, cameras: 2, ..small("m07", 7) };
    let names = |options: &MatchOptions| -> Vec<String> {
        let name = |r: &GeneratedRecording| r.path.file_name().unwrap().to_string_lossy().into_owned();
        generate(options, dir.path()).iter().map(name).collect()
    };
    assert_eq!(names(&options), ["m07_p1_main.mp4", "m07_p1_tight.mp4", "m07_p2_main.mp4", "m07_p2_tight.mp4"]);
    let fixed = MatchOptions { periods: 1, filming: Filming::Fixed, ..options };
    assert_eq!(names(&fixed), ["m07_p1_left.mp4", "m07_p1_right.mp4"]);
}

#[test]
fn segments_join_without_a_gap_in_every_structure() {
    let dir = tempfile::tempdir().unwrap();
    let base = small("m", 5);
    let encode = |change: &dyn Fn(EncodeOptions) -> EncodeOptions| change(base.encode.clone());
    for (container, encode) in [
        ("mp4", encode(&|e| EncodeOptions { bframes: 2, ..e })),
        ("ts", encode(&|e| EncodeOptions { bframes: 2, audio: true, ..e })),
        ("mkv", encode(&|e| EncodeOptions { open_gop: true, bframes: 3, ..e })),
        ("mp4", encode(&|e| EncodeOptions { intra_refresh: true, ..e })),
        ("mp4", encode(&|e| EncodeOptions { codec: Codec::Hevc, bframes: 2, ..e })),
    ] {
        let options = MatchOptions { container: container.into(), encode, ..base.clone() };
        let packets = packets(&generate(&options, dir.path())[0].path);
        assert_eq!(packets.len(), 130, "{container}");
        // Matroska stores no decoding times; libav guesses most of them.
        let decoded: Vec<i64> = packets.iter().filter_map(|p| p.1).collect();
        assert!(decoded.windows(2).all(|w| w[0] < w[1]), "decoding times of {container} go back");
        let mut shown: Vec<i64> = packets.iter().map(|p| p.0).collect();
        shown.sort_unstable();
        let step = shown[1] - shown[0];
        // Matroska rounds to milliseconds, everything else is exact.
        assert!(shown.windows(2).all(|w| (w[1] - w[0] - step).abs() <= 1), "{container} has gaps: {shown:?}");
        if !options.encode.intra_refresh {
            assert!(packets.iter().filter(|p| p.2).count() >= 13);
        }
    }
}

#[test]
fn truth_has_a_line_for_every_frame_and_boxes_inside_the_picture() {
    let dir = tempfile::tempdir().unwrap();
    let recording = &generate(&small("m", 9), dir.path())[0];
    let frames = truth(recording);
    assert_eq!(frames.len(), 130);
    let mut people = 0;
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!(frame.frame, n as u32);
        for object in &frame.objects {
            let [x, y, w, h] = object.bounds;
            assert!(x >= 0.0 && y >= 0.0 && w > 0.0 && h > 0.0 && x + w <= 320.1 && y + h <= 180.1, "{object:?}");
            assert!(object.visible > 0.0 && object.visible <= 1.0);
            assert_eq!(object.number.is_some(), matches!(object.role, Role::Player | Role::Goalkeeper));
        }
        people += frame.objects.iter().filter(|o| o.role != Role::Ball).count();
    }
    assert!(people > 130 * 4, "{people} people in 130 frames");
    let mot = fs::read_to_string(recording.mot.as_ref().unwrap()).unwrap();
    assert_eq!(mot.lines().count(), frames.iter().map(|f| f.objects.len()).sum::<usize>());
    assert!(mot.lines().all(|line| line.split(',').count() == 9));
}

#[test]
fn a_number_is_printed_on_the_shirt_of_whoever_turns_it_to_the_camera() {
    let options = MatchOptions::new("m", 11, 1280, 720);
    let (mut printed, mut edge_on, mut hidden) = (0, 0, 0);
    for frame in (0..400).step_by(40) {
        let (_, truth) = render_frame(&options, 1, Post::Main, frame).unwrap();
        for object in truth.objects {
            let Some(print) = object.print else {
                edge_on += u32::from(object.number.is_some());
                continue;
            };
            assert!(object.number.is_some() && (0.0..=1.0).contains(&print.visible), "{object:?}");
            hidden += u32::from(print.visible < 0.9);
            if object.visible == 1.0 {
                let [x, y, w, h] = object.bounds;
                let [left, top, width, height] = print.bounds;
                assert!((x..x + w).contains(&(left + width / 2.0)), "{object:?}");
                assert!(top > y + 0.1 * h && top + height < y + 0.55 * h, "{object:?}");
                assert_eq!(print.visible, 1.0, "{object:?}");
                printed += 1;
            }
        }
    }
    assert!(printed > 50 && edge_on > 5 && hidden > 2, "{printed} whole, {edge_on} edge-on, {hidden} hidden");
}

#[test]
fn people_stand_where_the_homography_says_and_are_as_tall_as_promised() {
    let options = MatchOptions::new("m", 11, 1280, 720);
    let mut heights = Vec::new();
    for frame in [0, 90, 333] {
        let (_, truth) = render_frame(&options, 1, Post::Main, frame).unwrap();
        let h = truth.homography;
        for object in truth.objects.iter().filter(|o| o.visible > 0.9 && o.role != Role::Ball) {
            let [px, py] = object.pitch.map(f64::from);
            let w = h[6] * px + h[7] * py + h[8];
            let (x, y) = ((h[0] * px + h[1] * py + h[2]) / w, (h[3] * px + h[4] * py + h[5]) / w);
            let [left, top, width, height] = object.bounds.map(f64::from);
            assert!(x > left - 8.0 && x < left + width + 8.0, "{object:?} stands at {x}");
            assert!((y - (top + height)).abs() < 0.2 * height, "{object:?} stands at {y}");
            heights.push(height);
        }
    }
    heights.sort_by(f64::total_cmp);
    assert!(heights.len() > 15, "{} people", heights.len());
    assert!(heights[0] > 45.0 && heights[heights.len() - 1] < 150.0, "{heights:?}");
}

#[test]
fn a_frozen_picture_is_the_same_to_the_pixel() {
    let mut options = MatchOptions { directing: Directing { freezes: 1, ..Directing::default() }, ..small("m", 2) };
    options.encode.fps = (25, 1);
    let dir = tempfile::tempdir().unwrap();
    let frozen: Vec<u32> =
        truth(&generate(&options, dir.path())[0]).iter().filter(|f| f.frozen).map(|f| f.frame).collect();
    assert!(frozen.len() >= 10, "{frozen:?}");
    let picture = |frame| render_frame(&options, 1, Post::Main, frame).unwrap().0;
    let before = picture(frozen[0] - 1);
    assert!(before == picture(frozen[0]) && before == picture(*frozen.last().unwrap()));
    assert!(before != picture(frozen.last().unwrap() + 1));
}

#[test]
fn a_player_behind_another_is_less_visible() {
    let dir = tempfile::tempdir().unwrap();
    let frames = truth(&generate(&MatchOptions { frames: 400, ..small("m", 4) }, dir.path())[0]);
    let inside = |b: [f32; 4]| b[0] > 1.0 && b[1] > 1.0 && b[0] + b[2] < 319.0 && b[1] + b[3] < 179.0;
    let hidden = frames.iter().flat_map(|f| &f.objects).filter(|o| inside(o.bounds) && o.visible < 0.7).count();
    let free = frames.iter().flat_map(|f| &f.objects).filter(|o| inside(o.bounds) && o.visible == 1.0).count();
    assert!(hidden > 20, "only {hidden} partly hidden");
    assert!(free > hidden, "{free} free, {hidden} hidden");
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = generate_match(&small("m", 1), file.join("below"), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("below"), "{error}");
}
