//! What tasks give: results, gaps, and the same bytes whatever the cuts.

use std::{collections::BTreeSet, ops::Range};

use bytes::Bytes;
use fulltime_common::{
    Digest, keys,
    plan::{MatchId, Placement, ReduceInputs, ReduceRecording, ReduceShard},
    results::{MatchSummary, ShardResult},
    wire::{EventKind, Pool, Task, TaskKind},
};
use fulltime_synth::{EncodeOptions, Encoder, testcard};
use fulltime_tables::shard::{read_descriptions, read_detections, read_frames};
use futures::StreamExt as _;

use crate::ground::{FRAMES, Ground, asset, hung, small};

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_runs_once_and_is_found_the_next_time() {
    let mut ground = Ground::new("every = 2").await;
    ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(1).await;
    let index = ground.index("a.mp4").await;
    assert_eq!((index.1.frames, index.1.intervals.len()), (FRAMES, 4));
    let mut task = ground.shard(&index, 1..3, &worker);
    ground.release(&task).await;
    let outcome = ground.committed(task.digest).await;
    assert_eq!((outcome.frames, outcome.gap_frames, outcome.found), (50, 0, false));
    let TaskKind::Map { shard } = &task.kind else { unreachable!() };
    assert_eq!(outcome.bytes_read, shard.bytes.end - shard.bytes.start, "its own bytes and no others");

    let frames = read_frames(ground.object(&keys::store::shard_frames(&task.digest)).await).unwrap();
    assert_eq!(frames.iter().map(|row| row.frame).collect::<Vec<_>>(), (25..75).collect::<Vec<_>>());
    let previews: Vec<u32> = frames.iter().filter(|row| row.preview.is_some()).map(|row| row.frame).collect();
    assert_eq!(previews, [25, 50], "one a second, by absolute number");
    let detections = read_detections(ground.object(&keys::store::shard_detections(&task.digest)).await).unwrap();
    assert_eq!(detections.len() as u64, outcome.detections);
    assert!(detections.iter().all(|row| row.frame % 2 == 0), "every second frame, by absolute number");
    let said = read_descriptions(ground.object(&keys::store::shard_descriptions(&task.digest)).await).unwrap();
    let frames: BTreeSet<u32> = said.iter().map(|row| row.frame).collect();
    assert_eq!(Vec::from_iter(frames), (25..75).filter(|frame| frame % 6 == 0).collect::<Vec<_>>(), "five a second");
    for row in &said {
        let detection = detections.iter().filter(|d| d.frame == row.frame).nth(row.detection.into()).unwrap();
        assert_eq!(detection.class, 0, "only people are described, and balls are none");
        assert!(row.look.as_ref().is_some_and(|look| look.len() == 128) && row.numbers.is_some());
    }
    let result = ground.store.get_json::<ShardResult>(&keys::store::shard_index(&task.digest)).await.unwrap().unwrap();
    assert_eq!((result.frames, result.detections), (50, outcome.detections));
    assert_eq!(result.parts.len(), 3);

    (task.release, task.looked_for) = (2, false);
    ground.release(&task).await;
    let again = ground.committed(task.digest).await;
    assert_eq!((again.found, again.frames, again.detections), (true, 50, outcome.detections));
}

/// The tables of a recording's shards, one after another, for these cuts and so many lanes.
async fn tables(lanes: usize, cuts: &[Range<u32>]) -> Vec<[Bytes; 3]> {
    let mut ground = Ground::new("").await;
    ground.record("a.mp4", FRAMES, &EncodeOptions { open_gop: true, ..small() });
    tables_of(&mut ground, lanes, cuts).await
}

async fn tables_of(ground: &mut Ground, lanes: usize, cuts: &[Range<u32>]) -> Vec<[Bytes; 3]> {
    let worker = ground.start(lanes).await;
    let index = ground.index("a.mp4").await;
    let tasks: Vec<_> = cuts.iter().map(|cut| ground.shard(&index, cut.clone(), &worker)).collect();
    for task in &tasks {
        ground.release(task).await;
    }
    let mut open: BTreeSet<Digest> = tasks.iter().map(|task| task.digest).collect();
    while !open.is_empty() {
        let event = hung(ground.events.next()).await.unwrap();
        match event.kind {
            EventKind::Committed(_) => drop(open.remove(&event.digest)),
            EventKind::Started => {}
            EventKind::Failed { cause, .. } => panic!("{cause}"),
        }
    }
    let mut tables = Vec::new();
    for Task { digest, .. } in &tasks {
        tables.push([
            ground.object(&keys::store::shard_detections(digest)).await,
            ground.object(&keys::store::shard_frames(digest)).await,
            ground.object(&keys::store::shard_descriptions(digest)).await,
        ]);
    }
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_lanes_and_prefetching_never_reach_the_bytes() {
    let seconds = [0..1, 1..2, 2..3, 3..4];
    let (alone, together) = (tables(1, &seconds).await, tables(3, &seconds).await);
    assert!(alone == together, "the same bytes from one lane and from three");
    let rows = |tables: Vec<[Bytes; 3]>| {
        let (mut detections, mut frames, mut said) = (Vec::new(), Vec::new(), Vec::new());
        for [first, second, third] in tables {
            detections.extend(read_detections(first).unwrap());
            frames.extend(read_frames(second).unwrap());
            said.extend(read_descriptions(third).unwrap());
        }
        (detections, frames, said)
    };
    let (cut, whole) = (rows(alone), rows(tables(1, std::slice::from_ref(&(0..4))).await));
    assert_eq!(cut.1.len(), FRAMES as usize);
    assert!(!cut.0.is_empty() && !cut.2.is_empty() && cut == whole, "the same rows whatever the cuts");
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_pictures_are_inferred_once_and_leave_no_trace() {
    let mut made = Vec::new();
    for flags in [vec![], vec!["--no-reuse"]] {
        let mut ground = Ground::new("").await;
        let mut encoder = Encoder::create(ground.path("archive/a.mp4"), &small()).unwrap();
        // Frozen from 20 to 80, over three keyframes; in between, a picture that is shown twice.
        for n in 0..FRAMES {
            let shown = if (20..80).contains(&n) { 20 } else { n / 2 * 2 };
            encoder.push(&testcard(shown, 320, 192)).unwrap();
        }
        encoder.finish().unwrap();
        ground.flags = flags;
        made.push(tables_of(&mut ground, 1, std::slice::from_ref(&(0..4))).await);
    }
    assert!(made[0] == made[1], "the same bytes, whether equal pictures were inferred once or each");
    let [detections, frames, said] = made[0][0].clone();
    let frames = read_frames(frames).unwrap();
    let equal: Vec<u32> =
        frames.windows(2).filter(|p| p[0].content_hash == p[1].content_hash).map(|p| p[1].frame).collect();
    assert!(equal.len() >= 20, "many pictures equal the one before: {equal:?}");
    let detections = read_detections(detections).unwrap();
    assert!(equal.iter().all(|frame| detections.iter().any(|row| row.frame == *frame)), "they have detections, too");
    let said = read_descriptions(said).unwrap();
    assert!(equal.iter().filter(|&frame| frame % 5 == 0).all(|frame| said.iter().any(|row| row.frame == *frame)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_interval_is_a_gap_without_rows_and_its_neighbours_are_whole() {
    let mut ground = Ground::new("").await;
    let path = ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(1).await;
    let index = ground.index("a.mp4").await;
    let middle = index.1.intervals[1].bytes.clone();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = ((middle.start + middle.end) / 2) as usize;
    bytes[at..at + 300].fill(0xff);
    std::fs::write(ground.path("archive/b.mp4"), bytes).unwrap();
    let index = ground.index("b.mp4").await;
    let task = ground.shard(&index, 0..4, &worker);
    ground.release(&task).await;
    let outcome = ground.committed(task.digest).await;
    assert_eq!((outcome.frames, outcome.gap_frames), (75, 25));
    let result = ground.store.get_json::<ShardResult>(&keys::store::shard_index(&task.digest)).await.unwrap().unwrap();
    assert_eq!(result.gaps.len(), 1);
    assert_eq!(result.gaps[0].frames, 25..50);
    let frames = read_frames(ground.object(&keys::store::shard_frames(&task.digest)).await).unwrap();
    assert!(frames.iter().all(|row| !(25..50).contains(&row.frame)));
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_a_recording_does_not_hold_are_gaps_of_their_own() {
    let mut ground = Ground::new("").await;
    ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(1).await;
    let (_, mut index) = ground.index("a.mp4").await;
    // As if the encoder had skipped the last picture of the first interval, which no other refers to.
    let row = index.intervals[1].packets.start as usize - 1;
    let skipped = index.packets.frame.remove(row);
    index.packets.pos.remove(row);
    index.packets.size.remove(row);
    index.intervals[0].packets.end -= 1;
    index.intervals[1..].iter_mut().for_each(|i| i.packets = i.packets.start - 1..i.packets.end - 1);
    let index = (Digest::of_bytes(b"with a hole"), index);
    ground.store.put(&keys::store::index(&index.0), index.1.to_bytes().unwrap()).await.unwrap();
    let task = ground.shard(&index, 0..4, &worker);
    ground.release(&task).await;
    let outcome = ground.committed(task.digest).await;
    assert_eq!((outcome.frames, outcome.gap_frames), (99, 1));
    let result = ground.store.get_json::<ShardResult>(&keys::store::shard_index(&task.digest)).await.unwrap().unwrap();
    assert_eq!(result.gaps.len(), 1, "{:?}", result.gaps);
    assert_eq!(result.gaps[0].reason, "the recording does not hold these frames");
    assert_eq!(result.gaps[0].frames, skipped..skipped + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reduce_makes_the_tables_of_a_match_from_its_shards() {
    let mut ground = Ground::new("").await;
    ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(2).await;
    let index = ground.index("a.mp4").await;
    let mut shards = Vec::new();
    for intervals in [0..2, 2..4] {
        let task = ground.shard(&index, intervals, &worker);
        let TaskKind::Map { shard } = &task.kind else { unreachable!() };
        shards.push(ReduceShard { digest: task.digest, frames: shard.frames.clone() });
        ground.release(&task).await;
        ground.committed(task.digest).await;
    }
    let id = MatchId { season: "s".into(), name: "m".into() };
    let recording = index.1.recording.clone();
    let inputs = ReduceInputs {
        id: id.clone(),
        job: "job".into(),
        generation: 1,
        pipeline: ground.pipeline.digest(),
        reduce: ground.pipeline.reduce_digest(),
        squads: Vec::new(),
        recordings: vec![ReduceRecording {
            placement: Placement { recording, period: 1, camera: "main".into(), offset_us: 0 },
            index: index.0,
            frames: index.1.frames,
            frame_rate: index.1.frame_rate,
            width: index.1.codec.width,
            height: index.1.codec.height,
            shards,
            gaps: Vec::new(),
            views: Vec::new(),
        }],
    };
    let out = fulltime_common::store::Store::create(ground.path("out").to_str().unwrap()).unwrap();
    let key = keys::job::inputs("job", &id, 1);
    out.put_json_once(&key, &inputs).await.unwrap();
    let task = ground.task(inputs.digest(), TaskKind::Reduce { inputs: key, generation: 1 });
    assert_eq!(task.pool(), Pool::Any);
    ground.release(&task).await;
    assert_eq!(ground.committed(task.digest).await.frames, u64::from(FRAMES));
    let summary = out.get_json::<MatchSummary>(&keys::job::summary("job", 1, &id)).await.unwrap().unwrap();
    assert_eq!(summary.frames, u64::from(FRAMES));
}

/// Prints where the time of a shard goes; the bench of the tests crate measures it in earnest.
#[tokio::test(flavor = "multi_thread")]
async fn yolox_finds_people_on_real_footage() {
    let (Some(clip), Some(model)) =
        (asset("clips/soccertrack_left_crop1920_h264.mp4"), asset("models/yolox_nano_dyn.onnx"))
    else {
        return;
    };
    let weights = std::fs::read(model).unwrap();
    let mut ground = Ground::new("input_size = [416, 416]").await;
    ground.engine = "onnx";
    ground.pipeline.describe = None;
    let manifest = &mut ground.pipeline.detect.model;
    manifest.file.sha256 = Digest::of_bytes(&weights);
    manifest.classes = (0..80).map(|i| format!("class-{i}")).collect();
    ground.store.put(&keys::store::model(&manifest.file.sha256), weights).await.unwrap();
    std::fs::copy(clip, ground.path("archive/clip.mp4")).unwrap();
    let worker = ground.start(1).await;
    let index = ground.index("clip.mp4").await;
    let task = ground.shard(&index, 0..index.1.intervals.len() as u32, &worker);
    ground.release(&task).await;
    let outcome = ground.committed(task.digest).await;
    assert_eq!(outcome.frames, 250);
    assert!(outcome.detections > 250, "{outcome:?}");
    for (stage, seconds) in &outcome.stage_seconds {
        println!("{stage:>12} {:7.3} ms/frame", 1000.0 * seconds / outcome.frames as f64);
    }
    println!("{:>12} {:7.3} ms/frame", "elapsed", 1000.0 * outcome.elapsed_seconds / outcome.frames as f64);
}
