//! A worker as the bus and the stores see it.

// Clippy knows `#[test]` functions as tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod ground;

use std::{collections::BTreeSet, ops::Range, time::Duration};

use bytes::Bytes;
use fulltime_common::{
    Digest, Disposition, Exit,
    error::Explain as _,
    keys,
    plan::{MatchId, Placement, ReduceInputs, ReduceRecording, ReduceShard},
    queue::{Bus as _, MemoryBus},
    results::{MatchSummary, ShardResult},
    wire::{Control, EventKind, Pool, Task, TaskKind},
};
use fulltime_synth::EncodeOptions;
use fulltime_tables::shard::{read_detections, read_frames};
use futures::StreamExt as _;
use ground::{Ground, asset, hung};

/// Four seconds in intervals of one.
const FRAMES: u32 = 100;

fn small() -> EncodeOptions {
    EncodeOptions { gop: 25, bframes: 2, ..EncodeOptions::new(320, 192) }
}

/// 256 crops a frame: far from finished when the test has done what it wants to do meanwhile.
const SLOW: &str = "tiles = { columns = 16, rows = 16 }";

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
    let result = ground.store.get_json::<ShardResult>(&keys::store::shard_index(&task.digest)).await.unwrap().unwrap();
    assert_eq!((result.frames, result.detections), (50, outcome.detections));

    task.release = 2;
    ground.release(&task).await;
    let again = ground.committed(task.digest).await;
    assert_eq!((again.found, again.frames, again.detections), (true, 50, outcome.detections));
}

/// The tables of a recording's shards, one after another, for these cuts and so many lanes.
async fn tables(lanes: usize, cuts: &[Range<u32>]) -> Vec<[Bytes; 2]> {
    let mut ground = Ground::new("").await;
    ground.record("a.mp4", FRAMES, &EncodeOptions { open_gop: true, ..small() });
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
        let keys = [keys::store::shard_detections(digest), keys::store::shard_frames(digest)];
        tables.push([ground.object(&keys[0]).await, ground.object(&keys[1]).await]);
    }
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_lanes_and_prefetching_never_reach_the_bytes() {
    let seconds = [0..1, 1..2, 2..3, 3..4];
    let (alone, together) = (tables(1, &seconds).await, tables(3, &seconds).await);
    assert!(alone == together, "the same bytes from one lane and from three");
    let rows = |tables: Vec<[Bytes; 2]>| {
        let [detections, frames] = [0, 1].map(|i| tables.iter().map(|t| t[i].clone()).collect::<Vec<_>>());
        let detections: Vec<_> = detections.into_iter().flat_map(|bytes| read_detections(bytes).unwrap()).collect();
        (detections, frames.into_iter().flat_map(|bytes| read_frames(bytes).unwrap()).collect::<Vec<_>>())
    };
    let (cut, whole) = (rows(alone), rows(tables(1, std::slice::from_ref(&(0..4))).await));
    assert_eq!(cut.1.len(), FRAMES as usize);
    assert!(!cut.0.is_empty() && cut == whole, "the same rows whatever the cuts");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vanished_worker_held_runs_elsewhere() {
    let mut ground = Ground::on(MemoryBus::with_lease(Duration::from_millis(300)), "").await;
    ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(1).await;
    let index = ground.index("a.mp4").await;
    let task = ground.shard(&index, 0..1, &worker);
    drop(worker.shutdown);
    hung(worker.ended).await.unwrap().unwrap();
    ground.release(&task).await;
    // Pulled, and never heard of again.
    let lost = ground.bus.pull_one(&[task.pool()], Duration::ZERO).await.unwrap().unwrap();
    let _other = ground.start(1).await;
    assert_eq!(ground.committed(task.digest).await.frames, 25);
    drop(lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_stops_at_the_next_batch_and_its_later_tasks_are_not_run() {
    let mut ground = Ground::new(SLOW).await;
    ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(1).await;
    let index = ground.index("a.mp4").await;
    let (running, later) = (ground.shard(&index, 0..4, &worker), ground.shard(&index, 0..2, &worker));
    ground.release(&running).await;
    ground.started().await;
    ground.bus.control(&Control::Stop { epoch: 1, work: vec![(running.digest, 1), (later.digest, 1)] }).await.unwrap();
    assert_eq!(ground.failed(running.digest).await.0, Disposition::Cancelled);
    ground.release(&later).await;
    assert_eq!(ground.failed(later.digest).await.0, Disposition::Cancelled);
    drop(worker.shutdown);
    hung(worker.ended).await.unwrap().unwrap();
    assert!(ground.bus.pull_one(&[later.pool()], Duration::ZERO).await.unwrap().is_none(), "nothing is left of it");
    assert!(ground.shard_files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_time_of_grace_hands_back_what_runs_and_what_waits() {
    let mut ground = Ground::new(SLOW).await;
    ground.flags = vec!["--grace", "0s"];
    ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(1).await;
    let index = ground.index("a.mp4").await;
    let (first, second) = (ground.shard(&index, 0..4, &worker), ground.shard(&index, 0..3, &worker));
    ground.release(&first).await;
    ground.release(&second).await;
    // One runs, the other is fetched ahead.
    ground.started().await;
    ground.started().await;
    drop(worker.shutdown);
    hung(worker.ended).await.unwrap().unwrap();
    for _ in 0..2 {
        let back =
            ground.bus.pull_one(&[first.pool()], Duration::ZERO).await.unwrap().expect("at once, not after its lease");
        assert_eq!(back.delivered, 2);
    }
    assert!(ground.shard_files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_finished_within_the_time_of_grace_and_what_waits_goes_back_at_once() {
    let mut ground = Ground::new(SLOW).await;
    ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(1).await;
    let index = ground.index("a.mp4").await;
    let (first, second) = (ground.shard(&index, 0..1, &worker), ground.shard(&index, 1..4, &worker));
    ground.release(&first).await;
    ground.started().await;
    ground.release(&second).await;
    ground.started().await;
    drop(worker.shutdown);
    assert_eq!(ground.failed(second.digest).await.0, Disposition::PreEmpted, "before the first has ended");
    assert_eq!(ground.committed(first.digest).await.frames, 25);
    hung(worker.ended).await.unwrap().unwrap();
    assert!(ground.bus.pull_one(&[first.pool()], Duration::ZERO).await.unwrap().is_some(), "the second is to be had");
    ground.nothing_left(&first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_and_words_of_an_earlier_leader_are_void() {
    let mut ground = Ground::new("").await;
    ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(1).await;
    let index = ground.index("a.mp4").await;
    let (mut old, mut new) = (ground.shard(&index, 0..1, &worker), ground.shard(&index, 1..2, &worker));
    (old.epoch, new.epoch) = (4, 5);
    ground.bus.control(&Control::Lead { epoch: 5 }).await.unwrap();
    ground.bus.control(&Control::Stop { epoch: 4, work: vec![(new.digest, 1)] }).await.unwrap();
    ground.release(&old).await;
    ground.release(&new).await;
    assert_eq!(ground.committed(new.digest).await.frames, 25);
    drop(worker.shutdown);
    hung(worker.ended).await.unwrap().unwrap();
    ground.nothing_left(&old).await;
    assert!(ground.store.head(&keys::store::shard_index(&old.digest)).await.unwrap().is_none(), "it was not run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_must_run_elsewhere_is_left_to_another_worker() {
    let mut ground = Ground::new("").await;
    ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(1).await;
    let index = ground.index("a.mp4").await;
    let mut task = ground.shard(&index, 0..1, &worker);
    task.avoid = Some("w".into());
    ground.release(&task).await;
    let _other = ground.start_named("w2", 1).await;
    let event = loop {
        let event = hung(ground.events.next()).await.unwrap();
        if event.digest == task.digest && matches!(event.kind, EventKind::Committed(_)) {
            break event;
        }
    };
    assert_eq!(event.worker, "w2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_runs_out_of_memory_is_given_smaller_batches() {
    let mut ground = Ground::new("").await;
    ground.record("a.mp4", FRAMES, &small());
    // Large batches pay, so they are used; the 30th run is long after the warm-up.
    ground.flags = vec!["--sim", "batch-ms=4"];
    let worker = ground.start(1).await;
    let index = ground.index("a.mp4").await;
    let task = ground.shard(&index, 0..4, &worker);
    ground.release(&task).await;
    ground.committed(task.digest).await;
    drop(worker.shutdown);
    hung(worker.ended).await.unwrap().unwrap();
    let whole = ground.shard_files();
    std::fs::remove_dir_all(ground.path("store/shards")).unwrap();

    ground.flags = vec!["--sim", "batch-ms=4,fault=22:out-of-memory"];
    let _worker = ground.start(1).await;
    let mut again = task.clone();
    again.release = 2;
    ground.release(&again).await;
    assert_eq!(ground.committed(task.digest).await.frames, 100);
    assert!(ground.shard_files() == whole, "and the bytes are the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_cannot_be_written_is_tried_again_until_it_can() {
    let mut ground = Ground::new("").await;
    ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(1).await;
    let index = ground.index("a.mp4").await;
    let task = ground.shard(&index, 0..1, &worker);
    // A file where a folder should be: even root cannot write there.
    std::fs::write(ground.path("store/shards"), "in the way").unwrap();
    ground.release(&task).await;
    let (disposition, cause, exit) = ground.failed(task.digest).await;
    assert_eq!((disposition, exit), (Disposition::Transient, Exit::Store as u8), "{cause}");
    assert!(cause.contains("a.mp4") && cause.contains("shards"), "{cause}");
    std::fs::remove_file(ground.path("store/shards")).unwrap();
    assert_eq!(ground.committed(task.digest).await.frames, 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_changed_since_it_was_planned_is_refused() {
    let mut ground = Ground::new("").await;
    ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(1).await;
    let index = ground.index("a.mp4").await;
    ground.record("a.mp4", FRAMES + 25, &small());
    let task = ground.shard(&index, 0..4, &worker);
    ground.release(&task).await;
    let (disposition, cause, _) = ground.failed(task.digest).await;
    assert_eq!(disposition, Disposition::InputChanged, "{cause}");
    assert!(ground.shard_files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_video_is_poison_and_named() {
    let mut ground = Ground::new("").await;
    std::fs::write(ground.path("archive/notes.mp4"), "not a video, whatever its name says").unwrap();
    let _worker = ground.start(1).await;
    let recording = ground.recording("notes.mp4").await;
    let task = ground.task(Digest::of_bytes(b"index"), TaskKind::Index { recording });
    ground.release(&task).await;
    let (disposition, cause, exit) = ground.failed(task.digest).await;
    assert_eq!((disposition, exit), (Disposition::PoisonInput, Exit::Archive as u8), "{cause}");
    assert!(cause.contains("notes.mp4"), "{cause}");
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
async fn other_bytes_under_the_same_digest_are_an_incident_that_ends_the_worker() {
    let mut ground = Ground::new("").await;
    ground.record("a.mp4", FRAMES, &small());
    let worker = ground.start(2).await;
    let index = ground.index("a.mp4").await;
    let task = ground.shard(&index, 0..1, &worker);
    let key = keys::store::shard_detections(&task.digest);
    ground.store.put(&key, "something else").await.unwrap();
    ground.release(&task).await;
    let (disposition, cause, _) = ground.failed(task.digest).await;
    assert_eq!(disposition, Disposition::WorkerUnfit, "{cause}");
    let error = hung(worker.ended).await.unwrap().unwrap_err();
    assert_eq!(error.exit(), Exit::Store);
    assert_eq!(ground.object(&key).await, "something else", "evidence is kept");
    let incident: serde_json::Value =
        ground.store.get_json(&format!("incidents/{}-w.json", task.digest)).await.unwrap().unwrap();
    assert_eq!(incident["first"], Digest::of_bytes(b"something else").to_string());
    assert_eq!((&incident["worker"], &incident["key"]), (&"w".into(), &key.as_str().into()));
    assert!(ground.bus.pull_one(&[task.pool()], Duration::ZERO).await.unwrap().is_some(), "others may try");
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
        recordings: vec![ReduceRecording {
            placement: Placement { recording, period: 1, camera: "main".into(), offset_us: 0 },
            index: index.0,
            frames: index.1.frames,
            frame_rate: index.1.frame_rate,
            width: index.1.codec.width,
            height: index.1.codec.height,
            shards,
            gaps: Vec::new(),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_was_tampered_with_is_the_jobs_fault_and_the_worker_lives_on() {
    if fulltime_common::process::onnxruntime().is_none() {
        eprintln!("skipped: ONNX Runtime is not here");
        return;
    }
    let mut ground = Ground::new("").await;
    ground.engine = "onnx";
    ground.record("a.mp4", FRAMES, &small());
    ground.record("b.mp4", FRAMES, &small());
    let worker = ground.start(1).await;
    let index = ground.index("a.mp4").await;
    let task = ground.shard(&index, 0..1, &worker);
    ground.store.put(&keys::store::model(&Digest::of_bytes(b"weights")), "tampered").await.unwrap();
    ground.release(&task).await;
    let (disposition, cause, exit) = ground.failed(task.digest).await;
    assert_eq!((disposition, exit), (Disposition::JobUnfit, Exit::Model as u8), "{cause}");
    assert!(cause.contains("sha256"), "{cause}");
    ground.index("b.mp4").await;
    ground.nothing_left(&task).await;
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
