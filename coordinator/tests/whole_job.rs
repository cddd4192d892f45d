//! Whole jobs, from the registry to the manifest, over a bus in memory and stores in a temporary folder.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

mod harness;

use fulltime_common::{
    Exit, keys,
    plan::{MatchId, MatchList, MatchPlan, PlannedMatch, ReduceInputs},
    queue::{Bus as _, MemoryBus},
    wire::{JobState, Reply, Request},
};
use fulltime_coordinator::manifest::Quarantined;
use harness::{Coordinator, Ground, SOON, Worker, make_read_only};

const SEASON: [(&str, &str); 3] = [("a-h1.mp4", "good"), ("a-h2.mp4", "fine"), ("b-h1.mp4", "well")];

fn id(name: &str) -> MatchId {
    MatchId { season: "archive".into(), name: name.into() }
}

fn bus() -> MemoryBus {
    MemoryBus::with_lease(std::time::Duration::from_millis(200))
}

#[tokio::test]
async fn a_job_goes_from_the_registry_to_the_manifest() {
    let (ground, bus) = (Ground::new(&SEASON).await, bus());
    let coordinator = Coordinator::start(&ground, &bus);
    assert!(matches!(coordinator.ask(Request::Submit { job: "j".into() }).await, Reply::Refused { .. }));
    ground.submit("j").await;
    assert_eq!(coordinator.ask(Request::Submit { job: "j".into() }).await, Reply::Accepted);
    coordinator.until("j", |s| s.problems == ["waiting for workers"]).await;
    let worker = Worker::start(&bus, "w");
    let status = coordinator.until_over("j").await;

    assert_eq!((status.state, status.failure), (JobState::Finished, None));
    assert_eq!((status.matches_done, status.recordings_indexed, status.shards_done), (2, 3, 6));
    assert_eq!((status.frames_done, status.detections, status.quarantined), (300, 300, 0));
    assert_eq!(status.manifest.unwrap(), ground.out.url_of(&keys::job::manifest("j", 1)));
    assert_eq!((worker.ran("index"), worker.ran("map"), worker.ran("reduce")), (3, 6, 2));

    let manifest = ground.manifest("j").await;
    let totals = manifest.totals;
    assert_eq!((totals.matches, totals.recordings, totals.shards, totals.frames), (2, 3, 6, 300));
    assert_eq!((totals.detections, totals.tracks, totals.players, totals.quarantined), (300, 3, 2, 0));
    assert_eq!(manifest.engines[0].0, "made-up");
    assert_eq!(manifest.pipeline.models[0].sha256, fulltime_common::Digest::of_bytes(b"model"));
    for record in &manifest.matches {
        let keys = record.tables.iter().map(|table| &table.key).chain([&record.inputs, &record.summary]);
        keys.for_each(|key| assert!(ground.is_file(key), "{key}"));
    }
    assert!(ground.is_file(&manifest.report));
    let list: MatchList = ground.out.get_json(&keys::job::plan_index("j")).await.unwrap().unwrap();
    assert_eq!(list.matches.len(), 2);
    let plan: MatchPlan = ground.out.get_json(&keys::job::plan("j", &id("a"), 0, 1)).await.unwrap().unwrap();
    assert_eq!((plan.recordings.len(), plan.recordings[0].shards.len()), (2, 2));
}

#[tokio::test]
async fn what_cannot_be_processed_is_named_and_the_rest_is_finished() {
    let files = [("a-h1.mp4", "good"), ("a-h2.mp4", "corrupt"), ("b-h1.mp4", "bad end"), ("c-h1.mp4", "corrupt")];
    let (ground, bus) = (Ground::new(&files).await, bus());
    ground.submit("j").await;
    let _workers = [Worker::start(&bus, "w1"), Worker::start(&bus, "w2")];
    let coordinator = Coordinator::start(&ground, &bus);
    let status = coordinator.until_over("j").await;
    assert_eq!((status.state, status.quarantined, status.matches_done), (JobState::Finished, 3, 3));
    let manifest = ground.manifest("j").await;
    let entry = |name: &str, file: &str, frames, reason: &str| Quarantined {
        id: id(name),
        recording: Some(file.into()),
        frames,
        reason: reason.into(),
    };
    let expected = [
        entry("a", "a-h2.mp4", None, "no video stream"),
        // Of the shard's two intervals the bad one alone.
        entry("b", "b-h1.mp4", Some(75..100), "decoder crashes"),
        entry("c", "c-h1.mp4", None, "no video stream"),
    ];
    assert_eq!(manifest.quarantined, expected);
    let reduced: Vec<_> = manifest.matches.iter().map(|record| record.id.name.as_str()).collect();
    assert_eq!(reduced, ["a", "b"], "a match without a single recording has no tables");
    assert_eq!((manifest.totals.matches, manifest.totals.quarantined, manifest.totals.gap_frames), (3, 3, 25));
    let records = ground.out.list(Some("jobs/j/quarantine")).await.unwrap();
    assert_eq!(records.len(), 3);
}

#[tokio::test]
async fn a_restarted_coordinator_goes_on_from_the_objects_alone() {
    let (ground, first_bus) = (Ground::new(&SEASON).await, bus());
    ground.submit("j").await;
    let first_worker = Worker::with_shards(&first_bus, "w", 4);
    let first = Coordinator::start(&ground, &first_bus);
    first.until("j", |s| s.shards_done == 4).await;
    // Match a is committed, match b is not; then everything dies, the broker with its disk, too.
    drop(first);
    drop(first_worker);
    let second_bus = bus();
    let worker = Worker::start(&second_bus, "w");
    let second = Coordinator::start(&ground, &second_bus);
    let status = second.until_over("j").await;
    assert_eq!((status.state, status.shards_done, status.frames_done), (JobState::Finished, 6, 300));
    assert_eq!((worker.ran("index"), worker.ran("map")), (0, 2), "only what was missing was run");
    second.stop().await;

    // A third one finds the job finished and has nothing to do.
    let third = Coordinator::start(&ground, &bus());
    let status = third.until_over("j").await;
    assert_eq!((status.state, status.shards, status.detections), (JobState::Finished, 6, 300));
    assert!(status.manifest.is_some());
}

#[tokio::test]
async fn frozen_inputs_are_never_frozen_again() {
    let (ground, bus) = (Ground::new(&SEASON[..2]).await, bus());
    ground.submit("j").await;
    let worker = Worker::start(&bus, "w");
    let coordinator = Coordinator::start(&ground, &bus);
    coordinator.until_over("j").await;
    let key = keys::job::inputs("j", &id("a"), 1);
    let before: ReduceInputs = ground.out.get_json(&key).await.unwrap().unwrap();
    drop(coordinator);
    // The reduce's view and the manifest are lost; the coordinator reads the inputs and only publishes again.
    for lost in [keys::job::manifest("j", 1), keys::job::report("j", 1), keys::job::summary("j", 1, &id("a"))] {
        std::fs::remove_file(ground.folder.path().join("out").join(lost)).unwrap();
    }
    let again = Coordinator::start(&ground, &bus);
    assert_eq!(again.until_over("j").await.state, JobState::Finished);
    assert_eq!(ground.out.get_json::<ReduceInputs>(&key).await.unwrap().unwrap(), before);
    assert_eq!((worker.ran("map"), worker.ran("reduce")), (4, 1));
}

#[tokio::test]
async fn a_wiped_queue_heals_by_itself() {
    let (ground, bus) = (Ground::new(&SEASON).await, bus());
    ground.submit("j").await;
    let worker = Worker::with_shards(&bus, "w", 1);
    let coordinator = Coordinator::start(&ground, &bus);
    coordinator.until("j", |s| s.shards_done == 1).await;
    // Behind the coordinator's back, every task is gone, the one being worked on included.
    bus.withdraw("j").await.unwrap();
    worker.shards.add_permits(100);
    let status = coordinator.until_over("j").await;
    assert_eq!((status.state, status.shards_done, status.quarantined), (JobState::Finished, 6, 0));
}

#[tokio::test]
async fn a_second_job_over_the_same_recordings_runs_nothing() {
    let (ground, bus) = (Ground::new(&SEASON).await, bus());
    ground.submit("first").await;
    let worker = Worker::start(&bus, "w");
    let coordinator = Coordinator::start(&ground, &bus);
    coordinator.until_over("first").await;
    ground.submit("second").await;
    assert_eq!(coordinator.ask(Request::Submit { job: "second".into() }).await, Reply::Accepted);
    let status = coordinator.until_over("second").await;
    assert_eq!((status.state, status.frames_done, status.detections), (JobState::Finished, 300, 300));
    assert_eq!((worker.ran("index"), worker.ran("map"), worker.ran("reduce")), (3, 6, 2));
    let (one, two) = (ground.manifest("first").await, ground.manifest("second").await);
    assert_eq!(one.matches[0].reduced, two.matches[0].reduced);
    assert!(ground.is_file(&two.matches[1].tables[2].key), "it has its own view of the tables");
}

#[tokio::test]
async fn a_cancelled_job_stops_and_stays_dead_after_a_restart() {
    let (ground, bus) = (Ground::new(&SEASON).await, bus());
    ground.submit("j").await;
    let worker = Worker::with_shards(&bus, "w", 1);
    let coordinator = Coordinator::start(&ground, &bus);
    coordinator.until("j", |s| s.shards_done == 1).await;
    let cancel = Request::Cancel { job: "j".into() };
    assert_eq!(coordinator.ask(cancel.clone()).await, Reply::Accepted);
    let status = coordinator.until_over("j").await;
    assert_eq!((status.state, status.failure.unwrap().exit), (JobState::Cancelled, Exit::Cancelled as u8));
    assert_eq!(coordinator.ask(cancel).await, Reply::Accepted, "cancelling twice is fine");
    let heard = async {
        while worker.stopped.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, heard).await.expect("workers are told");
    drop(coordinator);

    let coordinator = Coordinator::start(&ground, &bus);
    assert_eq!(coordinator.until_over("j").await.state, JobState::Cancelled);
    let unknown = coordinator.ask(Request::Cancel { job: "nobody".into() }).await;
    assert!(matches!(unknown, Reply::Refused { .. }));
}

#[tokio::test]
async fn a_wrong_model_ends_the_job_with_its_exit_code() {
    let (ground, bus) = (Ground::new(&[("a-h1.mp4", "wrong model")]).await, bus());
    ground.submit("j").await;
    let _worker = Worker::start(&bus, "w");
    let coordinator = Coordinator::start(&ground, &bus);
    let status = coordinator.until_over("j").await;
    let failure = status.failure.unwrap();
    assert_eq!((status.state, failure.exit, status.quarantined), (JobState::Paused, Exit::Model as u8, 0));
    assert_eq!(failure.cause, "the model has another sha256");
}

#[tokio::test]
async fn an_unreachable_archive_pauses_the_job_and_submitting_again_resumes_it() {
    let (ground, bus) = (Ground::new(&[("a-h1.mp4", "unreachable")]).await, bus());
    ground.submit("j").await;
    let _worker = Worker::start(&bus, "w");
    let coordinator = Coordinator::start(&ground, &bus);
    let status = coordinator.until_over("j").await;
    assert_eq!((status.state, status.failure.unwrap().cause.as_str()), (JobState::Paused, "connection refused"));
    assert_eq!(coordinator.ask(Request::Submit { job: "j".into() }).await, Reply::Accepted);
    let again = coordinator.until("j", |s| s.state == JobState::Paused && s.elapsed_seconds > 0.0).await;
    assert_eq!(again.quarantined, 0);
}

#[tokio::test]
async fn a_recording_that_changed_after_planning_is_planned_anew_and_nothing_else_is() {
    let (ground, bus) = (Ground::new(&SEASON).await, bus());
    ground.submit("j").await;
    let worker = Worker::with_shards(&bus, "w", 0);
    let coordinator = Coordinator::start(&ground, &bus);
    coordinator.until("j", |s| s.shards == 6).await;
    ground.archive.put("b-h1.mp4", "replaced by a longer text").await.unwrap();
    worker.shards.add_permits(100);
    let status = coordinator.until_over("j").await;
    assert_eq!((status.state, status.quarantined, status.frames_done), (JobState::Finished, 0, 300));
    assert_eq!((worker.ran("index"), worker.ran("map"), worker.ran("reduce")), (4, 6, 2));
    let revised: PlannedMatch = ground.out.get_json(&keys::job::revision("j", &id("b"), 1)).await.unwrap().unwrap();
    let manifest = ground.manifest("j").await;
    let recording = &manifest.matches[1].recordings[0].placement.recording;
    assert_eq!((recording.size, recording), (25, &revised.recordings[0].recording));
}

#[tokio::test]
async fn a_retry_is_a_generation_of_its_own_and_runs_only_what_was_quarantined() {
    let (ground, bus) = (Ground::new(&[("a-h1.mp4", "good"), ("b-h1.mp4", "bad end")]).await, bus());
    ground.submit("j").await;
    let workers = [Worker::start(&bus, "w1"), Worker::start(&bus, "w2")];
    let coordinator = Coordinator::start(&ground, &bus);
    coordinator.until_over("j").await;
    let first = ground.manifest("j").await;
    let ran = |kind: &str| workers.iter().map(|worker| worker.ran(kind)).sum::<u32>();
    let before = (ran("index"), ran("map"), ran("reduce"));
    let retry = Request::Retry { job: "j".into() };
    assert_eq!(coordinator.ask(retry.clone()).await, Reply::Accepted);
    let url = ground.out.url_of(&keys::job::manifest("j", 2));
    let status = coordinator.until("j", |s| s.manifest.as_ref() == Some(&url)).await;
    assert_eq!((status.state, status.quarantined), (JobState::Finished, 1));
    assert_eq!((ran("index"), ran("map"), ran("reduce")), before, "the rest is found and published again");
    let second = ground.manifest_of("j", 2).await;
    assert_eq!((first.generation, second.generation), (1, 2));
    assert_eq!(first.quarantined, second.quarantined);
    assert_eq!(ground.manifest("j").await, first, "nothing is overwritten");
    assert!(second.matches.iter().all(|m| m.tables.iter().all(|table| ground.is_file(&table.key))));
    drop(coordinator);

    // The next leader knows which generation the job is at.
    let coordinator = Coordinator::start(&ground, &bus);
    let status = coordinator.until_over("j").await;
    assert_eq!((status.state, status.manifest), (JobState::Finished, Some(url)));
}

#[tokio::test]
async fn a_job_without_losses_is_not_retried() {
    let (ground, bus) = (Ground::new(&SEASON[..1]).await, bus());
    ground.submit("j").await;
    let _worker = Worker::start(&bus, "w");
    let coordinator = Coordinator::start(&ground, &bus);
    coordinator.until_over("j").await;
    let refused = coordinator.ask(Request::Retry { job: "j".into() }).await;
    assert!(matches!(refused, Reply::Refused { cause } if cause.contains("nothing quarantined")));
}

#[tokio::test]
async fn a_paused_job_stays_paused_over_a_restart_and_a_new_broker() {
    let (ground, first_bus) = (Ground::new(&SEASON).await, bus());
    ground.submit("j").await;
    let worker = Worker::with_shards(&first_bus, "w", 1);
    let coordinator = Coordinator::start(&ground, &first_bus);
    coordinator.until("j", |s| s.shards_done == 1).await;
    assert_eq!(coordinator.ask(Request::Pause { job: "j".into() }).await, Reply::Accepted);
    coordinator.until("j", |s| s.state == JobState::Paused).await;
    drop((coordinator, worker));

    let second_bus = bus();
    let worker = Worker::start(&second_bus, "w");
    let coordinator = Coordinator::start(&ground, &second_bus);
    ground.submit("other").await;
    assert_eq!(coordinator.ask(Request::Submit { job: "other".into() }).await, Reply::Accepted);
    coordinator.until("other", |s| s.state == JobState::Finished).await;
    let status = coordinator.until("j", |s| s.state != JobState::Planning).await;
    assert_eq!((status.state, status.failure.unwrap().exit), (JobState::Paused, Exit::Paused as u8));
    assert_eq!(coordinator.ask(Request::Resume { job: "j".into() }).await, Reply::Accepted);
    coordinator.until("j", |s| s.state == JobState::Finished).await;
    assert_eq!(worker.ran("reduce"), 2, "the other job's results are this one's, too");
}

#[tokio::test]
async fn a_standby_takes_over_and_the_work_goes_on() {
    let (ground, bus) = (Ground::new(&SEASON).await, bus());
    ground.submit("j").await;
    let worker = Worker::with_shards(&bus, "w", 2);
    let leader = Coordinator::start(&ground, &bus);
    leader.until("j", |s| s.shards_done == 2).await;
    let standby = Coordinator::start(&ground, &bus);
    drop(leader);
    worker.shards.add_permits(100);
    let status = standby.until_over("j").await;
    assert_eq!((status.state, status.frames_done), (JobState::Finished, 300));
    assert_eq!((worker.ran("index"), worker.ran("map"), worker.ran("reduce")), (3, 6, 2));
    let epochs = ground.state.list(Some(keys::state::EPOCHS)).await.unwrap();
    assert_eq!(epochs.len(), 2);
}

#[tokio::test]
async fn a_job_that_cannot_be_planned_says_why() {
    let bus = bus();
    let missing = Ground::new(&[]).await;
    std::fs::remove_dir(missing.archive_path()).unwrap();
    missing.submit("j").await;
    let failure = Coordinator::start(&missing, &bus).until_over("j").await.failure.unwrap();
    assert_eq!(failure.exit, Exit::Archive as u8);
    assert!(failure.cause.starts_with("read the archive: open store"), "{}", failure.cause);

    let unmatched = Ground::new(&[("a-h1.mp4", "good"), ("extra.mp4", "good")]).await;
    unmatched.submit("j").await;
    let failure = Coordinator::start(&unmatched, &self::bus()).until_over("j").await.failure.unwrap();
    assert_eq!(
        (failure.exit, failure.cause.as_str()),
        (Exit::Archive as u8, "the template places `extra.mp4` in no match")
    );
    assert!(failure.hint.is_some());

    let read_only = Ground::new(&SEASON).await;
    read_only.submit("j").await;
    let out = read_only.folder.path().join("out");
    if make_read_only(&out) {
        let failure = Coordinator::start(&read_only, &self::bus()).until_over("j").await.failure.unwrap();
        assert_eq!(failure.exit, Exit::Store as u8);
    } else {
        println!("skipped: this user may write everywhere");
    }
}

#[tokio::test]
async fn the_end_of_a_job_is_posted_to_its_webhook() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/done", listener.local_addr().unwrap());
    let (ground, bus) = (Ground::new(&SEASON[..1]).await, bus());
    ground.submit_with("j", |job| job.webhook = Some(url)).await;
    let _worker = Worker::start(&bus, "w");
    let coordinator = Coordinator::start(&ground, &bus);
    let posted = async {
        // The first answer is lost; the job is told of again.
        drop(listener.accept().await.unwrap());
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.contains("}") {
            let read = stream.read(&mut buffer).await.unwrap();
            text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        text
    };
    let text = tokio::time::timeout(SOON, posted).await.expect("a notice");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let notice: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(head.starts_with("POST /done"), "{head}");
    assert_eq!((&notice["job"], &notice["state"]), (&"j".into(), &"finished".into()));
    assert_eq!(coordinator.until_over("j").await.manifest.as_deref(), notice["manifest"].as_str());
}
