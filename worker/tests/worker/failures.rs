//! What becomes of tasks that fail, are stopped, or are not for this worker.

use std::time::Duration;

use fulltime_common::{
    Digest, Disposition, Exit,
    error::Explain as _,
    keys,
    queue::{Bus as _, MemoryBus},
    wire::{Control, EventKind, TaskKind},
};
use futures::StreamExt as _;

use crate::ground::{FRAMES, Ground, hung, small};

/// 256 crops a frame: far from finished when the test has done what it wants to do meanwhile.
const SLOW: &str = "tiles = { columns = 16, rows = 16 }";

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
