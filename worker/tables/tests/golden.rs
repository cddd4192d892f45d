//! The bytes of fixed tables. A test that fails here means: undo the change, or raise `semantics::SHARD` (shard tables)
//! or `semantics::REDUCE` (published tables) and put the new digest in. Upgrading Parquet or zstd can be the cause, too;
//! then old and new workers would disagree about the same work, and the version must be raised all the same.

use fulltime_common::{Digest, plan::MatchId};
use fulltime_tables::{
    matches::{self, Detection, Player, Track},
    shard::{self, DescriptionRow, DetectionRow, FrameRow},
};

/// Row `i` of a table that is big enough to have several row groups.
fn detections() -> Vec<DetectionRow> {
    (0..70_000u32)
        .map(|i| DetectionRow {
            frame: i / 9,
            class: (i % 2) as u16,
            score: 1.0 - (i % 9) as f32 / 16.0,
            x: (i % 640) as f32 * 0.5,
            y: (i % 360) as f32,
            w: 8.0,
            h: 24.25,
        })
        .collect()
}

#[test]
fn shard_tables_keep_their_bytes() {
    let frames: Vec<_> = (0..300u32)
        .map(|frame| FrameRow {
            frame,
            content_hash: u64::from(frame).wrapping_mul(0x9E37_79B9_7F4A_7C15),
            luma: std::array::from_fn(|i| (i as u32 + frame) as u8),
            preview: (frame % 50 == 0).then(|| vec![frame as u8; 40]),
            corners: vec![frame as u8; 40],
        })
        .collect();
    let descriptions: Vec<_> = (0..2000u32)
        .map(|i| DescriptionRow {
            frame: i / 20 * 5,
            detection: (i % 20) as u16,
            look: (i % 3 > 0).then(|| (0..128).map(|n| (i * n) as u8).collect()),
            kit: std::array::from_fn(|n| (i as usize % 20 * n) as u8),
            numbers: (i % 2 == 0).then(|| vec![(i % 100) as u8, 200, 100, 55]),
            sharpness: (i % 7) as f32 / 8.0,
        })
        .collect();
    let tables = [
        shard::write_detections(&detections()).unwrap(),
        shard::write_frames(&frames).unwrap(),
        shard::write_descriptions(&descriptions).unwrap(),
    ];
    assert_eq!(tables.map(|bytes| Digest::of_bytes(&bytes).short()), ["87778f5d8e8b", "d34fb93dade1", "fae2ba6026aa"]);
}

#[test]
fn published_tables_keep_their_bytes() {
    let id = MatchId { season: "2024".into(), name: "home-away".into() };
    let mut rows = matches::writer(&id).unwrap();
    for row in detections() {
        rows.push(Detection {
            period: 1,
            camera: "main".into(),
            frame: row.frame as i32,
            t_us: i64::from(row.frame) * 40_000,
            track_id: (row.class == 0).then_some((row.frame % 20) as i32),
            class: ["player", "ball"][usize::from(row.class)].into(),
            score: row.score,
            x: row.x,
            y: row.y,
            w: row.w,
            h: row.h,
            duplicate_of: (row.frame % 50 == 1).then_some(row.frame as i32 - 1),
            pitch_x: (row.class == 0).then_some(row.x / 8.0 - 40.0),
            pitch_y: (row.class == 0).then_some(row.y / 8.0 - 22.5),
        })
        .unwrap();
    }
    let mut tracks = matches::writer(&id).unwrap();
    let mut players = matches::writer(&id).unwrap();
    for i in 1..=40 {
        tracks
            .push(Track {
                period: 1,
                camera: "main".into(),
                track_id: i,
                class: "player".into(),
                first_frame: i,
                last_frame: i + 100,
                start_us: i64::from(i) * 40_000,
                end_us: i64::from(i + 100) * 40_000,
                frames_seen: 90,
                mean_score: 0.75,
                mean_height: 24.25,
                path_length: i as f32,
                shot: 1 + i / 20,
                player_id: (i % 5 != 0).then_some(i % 22),
                read_number: (i % 3 == 0).then_some(i),
                read_confidence: (i % 3 == 0).then_some(0.875),
                distance: Some(i as f32 * 0.5),
                top_speed: None,
            })
            .unwrap();
        players
            .push(Player {
                player_id: i,
                class: "player".into(),
                team: Some(["A", "B"][(i % 2) as usize].into()),
                team_confidence: Some(0.99),
                number: (i % 2 == 0).then_some(i),
                number_confidence: (i % 2 == 0).then_some(0.95),
                role: Some("player".into()),
                role_confidence: Some(0.9),
                name: None,
                tracks: 3,
                visible: 3.6,
                first_period: 1,
                first_us: i64::from(i) * 40_000,
                last_period: 2,
                last_us: i64::from(i) * 80_000,
                distance: Some(i as f32),
                top_speed: Some(7.25),
            })
            .unwrap();
    }
    let tables = [rows.finish().unwrap(), tracks.finish().unwrap(), players.finish().unwrap()];
    assert_eq!(tables.map(|bytes| Digest::of_bytes(&bytes).short()), ["bc1f855cf56b", "f02829d2f949", "d7fa9a605692"]);
}
