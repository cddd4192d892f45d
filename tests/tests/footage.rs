//! Real footage from the test assets (skipped visibly where they are absent), and the shipped detector's accuracy.

use std::{fs, sync::Arc};

use fulltime_tests::{
    asset, files, generation, render, run,
    score::{Box4, ap50},
    shipped_pipeline, yolox_pipeline,
};

/// Published detections as (frame, class, score, box).
fn detections(result: &serde_json::Value) -> Vec<(i32, Arc<str>, f32, Box4)> {
    let folder = generation(result).join("detections");
    let mut all = Vec::new();
    for path in files(&folder) {
        let bytes = fs::read(&path).expect("read a table");
        let rows = fulltime_tables::Reader::<fulltime_tables::matches::Detection>::new(bytes.into()).expect("a table");
        for row in rows {
            let row = row.expect("a row");
            all.push((row.frame, row.class, row.score, [row.x, row.y, row.w, row.h]));
        }
    }
    all
}

#[test]
fn real_clips_give_tracks() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let archive = dir.path().join("archive");
    fs::create_dir_all(&archive).expect("create");
    for name in ["soccertrack_left_camera_hevc.mp4", "soccertrack_left_crop1920_h264.mp4", "vtest.avi"] {
        let Some(path) = asset(&format!("clips/{name}")) else { return };
        fs::copy(path, archive.join(name)).expect("copy");
    }
    let Some(pipeline) = yolox_pipeline(dir.path(), "") else { return };
    let result = run(&archive, &dir.path().join("out"), &pipeline, &[]).with_code(0).json();
    assert_eq!(result["matches"], 3);
    assert_eq!(result["frames"].as_u64(), Some(250 + 250 + 795));
    let summaries = files(&generation(&result).join("summaries"));
    assert_eq!(summaries.len(), 3);
    for path in summaries {
        let summary: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        assert!(summary["tracks"].as_u64() > Some(0), "{}: {summary}", path.display());
    }
}

#[test]
fn tiles_over_the_pitch_find_the_far_players() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let archive = dir.path().join("archive");
    fs::create_dir_all(&archive).expect("create");
    let Some(clip) = asset("clips/soccertrack_left_crop1920_h264.mp4") else { return };
    fs::copy(clip, archive.join("crop.mp4")).expect("copy");
    let tiles = "every = 50\ntiles = { columns = 6, rows = 2, overlap = 0.2 }\n\
                 region = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]";
    let Some(pipeline) = yolox_pipeline(dir.path(), tiles) else { return };
    let result = run(&archive, &dir.path().join("out"), &pipeline, &[]).with_code(0).json();
    let first = detections(&result).into_iter().filter(|(frame, ..)| *frame == 0).count();
    assert!(first >= 20, "{first} people in the first frame");
}

#[test]
fn the_shipped_detector_finds_the_players_of_a_match_it_has_never_seen() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let archive = dir.path().join("archive");
    render(&archive, "unseen", &["--seed", "90210", "--size", "1280x720", "--duration", "8s"]);
    let truth_file = files(&archive).into_iter().find(|p| p.to_string_lossy().ends_with(".gt.txt")).expect("truth");
    let result = run(&archive, &dir.path().join("out"), &shipped_pipeline(), &[]).with_code(0).json();
    let frames = result["frames"].as_u64().expect("frames") as usize;
    assert_eq!(frames, 200);
    // MOTChallenge text: frame, id, x, y, w, h, counts, class, visibility. 1 player, 2 goalkeeper, 3 referee, 4 ball.
    for (classes, label) in [(&["1", "2", "3"][..], "player"), (&["4"][..], "ball")] {
        let mut truth = vec![Vec::new(); frames];
        for line in fs::read_to_string(&truth_file).expect("read").lines() {
            let fields: Vec<&str> = line.split(',').collect();
            let number = |i: usize| fields[i].trim().parse::<f32>().expect("a number");
            if classes.contains(&fields[7].trim()) {
                let ignore = number(6) == 0.0;
                truth[number(0) as usize - 1].push(([number(2), number(3), number(4), number(5)], ignore));
            }
        }
        let mut found = vec![Vec::new(); frames];
        for (frame, _, score, place) in detections(&result).into_iter().filter(|(_, class, ..)| &**class == label) {
            found[frame as usize].push((place, score));
        }
        let ap = ap50(&truth, &found);
        println!("AP50 of {label}: {ap:.4}");
        if label == "player" {
            assert!(ap >= 0.95, "AP50 of {label} is {ap:.4}");
        }
    }
}
