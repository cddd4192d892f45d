//! Figures rather than verdicts: `cargo test --release -p fulltime-media -- --ignored --nocapture bench`.

use std::{ops::ControlFlow, time::Instant};

use fulltime_media::IntervalDecoder;

use crate::support::{Archive, assets};

/// CPU seconds of this process and of its ended children.
fn cpu_seconds() -> (f64, f64) {
    // User and system time, then those of children: fields 14 to 17 of proc(5)'s stat, in ticks of 1/100 s.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<f64> =
        stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(4).map(|t| t.parse().unwrap()).collect();
    ((fields[0] + fields[1]) / 100.0, (fields[2] + fields[3]) / 100.0)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures; needs the test assets and the ffmpeg command"]
async fn bench_decoding_against_the_ffmpeg_command() {
    let Some(assets) = assets() else { return };
    for clip in ["soccertrack_left_camera_hevc.mp4", "soccertrack_left_crop1920_h264.mp4", "vtest.avi"] {
        let archive = Archive::new();
        std::fs::copy(assets.join("clips").join(clip), archive.path(clip)).unwrap();
        let index = archive.index(clip).await.unwrap();
        let bytes = archive.fetch(&index, 0..index.recording.size).await;
        let mut decoder = IntervalDecoder::new(&index).unwrap();
        let (wall, (before, _)) = (Instant::now(), cpu_seconds());
        let mut hashes = 0u64;
        for interval in 0..index.intervals.len() {
            decoder.decode(interval, &bytes, 0, &mut |_, _| ControlFlow::Continue(())).unwrap();
        }
        let (wall, ours) = (wall.elapsed().as_secs_f64(), cpu_seconds().0 - before);
        let before = cpu_seconds().0;
        for interval in 0..index.intervals.len() {
            let sink = &mut |_, picture: fulltime_media::Picture| {
                hashes ^= picture.content_hash();
                ControlFlow::Continue(())
            };
            decoder.decode(interval, &bytes, 0, sink).unwrap();
        }
        let hashed = cpu_seconds().0 - before;
        let before = cpu_seconds().1;
        let path = archive.path(clip);
        let status = std::process::Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-threads", "1", "-i"])
            .arg(&path)
            .args(["-an", "-f", "null", "-"])
            .status()
            .unwrap();
        assert!(status.success());
        let theirs = cpu_seconds().1 - before;
        println!(
            "{clip}: {} frames; ours {ours:.2} s CPU ({wall:.2} s wall), with content hash {hashed:.2} s, ffmpeg {theirs:.2} s CPU ({hashes:016x})",
            index.frames
        );
    }
}
