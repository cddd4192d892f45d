//! Lanes in processes of their own: what dies in one, how it is seen, and what becomes of its work.

use std::time::Duration;

use crate::ground::{FRAMES, Ground, Running, evidence, hung, small};
use fulltime_common::{
    Digest, Disposition, Exit,
    error::Explain as _,
    index::RecordingIndex,
    keys,
    queue::{Bus as _, MemoryBus},
    wire::{Control, EventKind, Evidence, Task, TaskKind, Witness},
};
use futures::StreamExt as _;

const SLOW: &str = "item-ms=30";

/// A ground with one recording, its lanes in processes with such environment and flags.
async fn ground(bus: MemoryBus, environment: &str, flags: &[&'static str]) -> Ground {
    let mut ground = Ground::on(bus, "").await;
    ground.record("a.mp4", FRAMES, &small());
    ground.with_processes(environment);
    ground.flags = flags.to_vec();
    ground
}

/// A worker, and the tasks of the recording's four intervals.
async fn four(ground: &mut Ground, lanes: usize) -> (Running, [Task; 4]) {
    let worker = ground.start(lanes).await;
    let index = ground.index("a.mp4").await;
    let tasks = [0, 1, 2, 3].map(|i| ground.shard(&index, i..i + 1, &worker));
    (worker, tasks)
}

/// Some other work: to index the recording of this shard under another name.
fn index_again(ground: &Ground, shard: &Task) -> Task {
    let TaskKind::Map { shard } = &shard.kind else { unreachable!() };
    ground.task(Digest::of_bytes(b"again"), TaskKind::Index { recording: shard.recording.clone() })
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: a plain system call; the process is one of ours.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

fn seen(witness: Witness) -> Evidence {
    Evidence { witness, alone: false }
}

/// Waits until all of these are committed, in whatever order.
async fn all_committed(ground: &mut Ground, tasks: &[Task]) {
    for task in tasks {
        let key = keys::store::shard_index(&task.digest);
        while ground.store.head(&key).await.unwrap().is_none() {
            hung(ground.events.next()).await.unwrap();
        }
    }
}

/// The whole recording as one shard: seconds of work for a lane of [`SLOW`].
async fn whole(ground: &mut Ground, worker: &Running) -> Task {
    let digest = RecordingIndex::digest("archive", &ground.recording("a.mp4").await);
    let index = RecordingIndex::from_bytes(&ground.object(&keys::store::index(&digest)).await).unwrap();
    ground.shard(&(digest, index), 0..4, worker)
}

/// Waits for the heartbeat that shows this work on a lane.
async fn on_a_lane(ground: &Ground, task: &Task) {
    let mut hellos = ground.bus.hellos().await.unwrap();
    while !hung(hellos.next()).await.unwrap().lanes.iter().any(|lane| lane.task == Some(task.digest)) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_process_gives_the_bytes_that_this_process_gives() {
    let mut apart = ground(MemoryBus::default(), "", &[]).await;
    let (_worker, tasks) = four(&mut apart, 2).await;
    for task in &tasks {
        apart.release(task).await;
    }
    all_committed(&mut apart, &tasks).await;
    let mut here = Ground::new("").await;
    std::fs::copy(apart.path("archive/a.mp4"), here.path("archive/a.mp4")).unwrap();
    let worker = here.start(1).await;
    let index = here.index("a.mp4").await;
    for i in 0..4 {
        let task = here.shard(&index, i..i + 1, &worker);
        here.release(&task).await;
        assert_eq!(here.committed(task.digest).await.frames, 25);
    }
    let tables = |ground: &Ground| -> Vec<_> {
        let files = ground.shard_files().into_iter();
        files.filter(|(path, _)| path.extension().is_some_and(|e| e == "parquet")).map(|(_, bytes)| bytes).collect()
    };
    let [mut apart, mut here] = [tables(&apart), tables(&here)];
    apart.sort();
    here.sort();
    assert_eq!(apart.len(), 12);
    assert!(apart == here);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_kills_its_decoder_is_seen_and_takes_nothing_else_along() {
    let mut ground = ground(MemoryBus::default(), "FULLTIME_POISON='a.mp4#1'", &[]).await;
    let (_worker, tasks) = four(&mut ground, 1).await;
    for task in &tasks {
        ground.release(task).await;
    }
    let [first, poison, third, fourth] = ground.verdicts(tasks.each_ref()).await;
    assert_eq!(evidence(&poison), (Disposition::PoisonInput, seen(Witness::Signal(libc::SIGABRT))));
    // One of them was fetched ahead by the process that died.
    for whole in [first, third, fourth] {
        assert!(matches!(whole, EventKind::Committed(_)), "{whole:?}");
    }
    ground.nothing_left(&tasks[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_alone_after_its_canary_is_evidence_and_what_runs_alone_is_a_result_like_any_other() {
    let mut ground = ground(MemoryBus::default(), "FULLTIME_POISON='a.mp4#1'", &[]).await;
    let (_worker, mut tasks) = four(&mut ground, 1).await;
    let lane = ground.lane_processes();
    for task in &mut tasks[..2] {
        task.alone = true;
        ground.release(task).await;
    }
    let [good, bad] = ground.verdicts([&tasks[0], &tasks[1]]).await;
    assert!(matches!(good, EventKind::Committed(_)), "{good:?}");
    let alone = Evidence { witness: Witness::Signal(libc::SIGABRT), alone: true };
    assert_eq!(evidence(&bad), (Disposition::PoisonInput, alone));
    assert!(ground.lane_processes().contains(&lane[0]), "the lane itself had no part in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fails_at_the_canary_is_unfit_and_says_nothing_about_the_recording() {
    let mut ground = ground(MemoryBus::default(), "", &["--sim", "fault=0:crash"]).await;
    let (worker, mut tasks) = four(&mut ground, 1).await;
    tasks[0].alone = true;
    ground.release(&tasks[0]).await;
    let (disposition, evidence) = ground.evidence(tasks[0].digest).await;
    assert_eq!((disposition, evidence.alone), (Disposition::WorkerUnfit, false));
    assert_eq!(hung(worker.ended).await.unwrap().unwrap_err().exit(), Exit::Runtime);
    assert!(ground.bus.pull_one(&[tasks[0].pool()], Duration::ZERO).await.unwrap().is_some(), "others may try");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_blocks_in_inference_is_ended_and_the_next_task_runs() {
    // The warm-up takes less than 16 runs, an interval 25.
    let mut ground = ground(MemoryBus::default(), "", &["--sim", "fault=20:hang", "--stall", "700ms"]).await;
    let (_worker, tasks) = four(&mut ground, 1).await;
    let lane = ground.lane_processes();
    ground.release(&tasks[0]).await;
    assert_eq!(ground.evidence(tasks[0].digest).await, (Disposition::PoisonInput, seen(Witness::Stalled)));
    ground.nothing_left(&tasks[0]).await;
    let again = index_again(&ground, &tasks[1]);
    ground.release(&again).await;
    assert_eq!(ground.committed(again.digest).await.frames, u64::from(FRAMES));
    assert_ne!(ground.lane_processes(), lane, "in another process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_blocks_loses_its_lease_and_its_shard_runs_elsewhere() {
    let bus = MemoryBus::with_lease(Duration::from_millis(400));
    let flags = ["--sim", "fault=20:hang", "--lease", "400ms", "--stall", "4s"];
    let mut ground = ground(bus, "", &flags).await;
    let (_worker, tasks) = four(&mut ground, 1).await;
    ground.release(&tasks[0]).await;
    on_a_lane(&ground, &tasks[0]).await;
    ground.flags = vec!["--lease", "400ms"];
    let _other = ground.start_named("w2", 1).await;
    assert_eq!(ground.committed(tasks[0].digest).await.frames, 25, "long before the first is ended");
    assert_eq!(ground.evidence(tasks[0].digest).await.1.witness, Witness::Stalled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_lane_process_is_ended_for_its_stall() {
    let mut ground = ground(MemoryBus::default(), "", &["--sim", SLOW, "--stall", "2s"]).await;
    let (worker, tasks) = four(&mut ground, 1).await;
    let stopped = whole(&mut ground, &worker).await;
    ground.release(&stopped).await;
    on_a_lane(&ground, &stopped).await;
    let lane = ground.lane_processes()[0];
    kill(lane, libc::SIGSTOP);
    assert_eq!(ground.evidence(stopped.digest).await.1.witness, Witness::Stalled);
    ground.release(&tasks[1]).await;
    assert_eq!(ground.committed(tasks[1].digest).await.frames, 25);
    assert!(!ground.lane_processes().contains(&lane));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_lane_is_taken_for_out_of_memory_and_a_terminated_one_for_pre_empted() {
    for (signal, disposition) in [(libc::SIGKILL, Disposition::OutOfMemory), (libc::SIGTERM, Disposition::PreEmpted)] {
        let mut ground = ground(MemoryBus::default(), "", &["--sim", SLOW]).await;
        let (worker, _) = four(&mut ground, 1).await;
        let task = whole(&mut ground, &worker).await;
        ground.release(&task).await;
        on_a_lane(&ground, &task).await;
        kill(ground.lane_processes()[0], signal);
        assert_eq!(ground.evidence(task.digest).await, (disposition, seen(Witness::Signal(signal))));
        assert_eq!(ground.committed(task.digest).await.frames, 100, "it is tried again, unasked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_stops_even_where_its_lane_does_not_listen() {
    let mut ground = ground(MemoryBus::default(), "", &["--sim", "fault=20:hang"]).await;
    let (_worker, tasks) = four(&mut ground, 1).await;
    ground.release(&tasks[0]).await;
    on_a_lane(&ground, &tasks[0]).await;
    let lane = ground.lane_processes()[0];
    ground.bus.control(&Control::Stop { epoch: 1, work: vec![(tasks[0].digest, 1)] }).await.unwrap();
    assert_eq!(ground.evidence(tasks[0].digest).await.0, Disposition::Cancelled);
    assert!(ground.shard_files().is_empty());
    let again = index_again(&ground, &tasks[1]);
    ground.release(&again).await;
    ground.committed(again.digest).await;
    assert!(!ground.lane_processes().contains(&lane));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_runtime_ends_the_worker_with_its_own_exit_code_and_advice() {
    let mut ground = ground(MemoryBus::default(), "ORT_DYLIB_PATH=/nowhere/libonnxruntime.so", &[]).await;
    ground.engine = "onnx";
    let error = hung(ground.worker("w", 2)).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Runtime, "{error}");
    assert!(error.to_string().contains("/nowhere/libonnxruntime.so"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("ORT_DYLIB_PATH")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lane_processes_that_end_before_they_are_ready_are_given_up() {
    let ground = ground(MemoryBus::default(), "exit 3;", &[]).await;
    let error = hung(ground.worker("w", 1)).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Runtime);
    assert_eq!(error.to_string(), "the lane processes end before they are ready: exit code 3");
}
