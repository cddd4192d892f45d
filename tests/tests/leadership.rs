//! Two coordinators, one leads: real processes, a real broker, real signals.

use std::{path::Path, time::Duration};

use fulltime_common::queue::{Bus as _, JetStream};
use fulltime_tests::{Running, files, nats::Server, render, shipped_pipeline, start};
use futures::StreamExt as _;
use serde_json::Value;

/// Nothing here takes longer.
const HUNG: Duration = Duration::from_secs(120);
/// From the death of a leader to the first task that its successor has released.
const FAILOVER: Duration = Duration::from_secs(5);

struct Ground {
    dir: tempfile::TempDir,
    broker: Server,
}

impl Ground {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for name in ["first", "second"] {
            render(&dir.path().join("archive"), name, &["--seed", "3", "--size", "320x180", "--duration", "4s"]);
        }
        Self { dir, broker: Server::start() }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn coordinator(&self) -> Running {
        start("fulltime-coordinator", &["--nats", self.broker.url(), "--state", &self.path("out/state")])
    }

    fn worker(&self) -> Running {
        start("fulltime-worker", &["--nats", self.broker.url(), "--engine", "sim", "--lanes", "1", "--name", "w"])
    }

    /// Submits a job and returns its id.
    fn submit(&self, name: &str) -> String {
        let pipeline = shipped_pipeline();
        let (archive, out) = (self.path("archive"), self.path("out"));
        let pipeline = pipeline.to_str().expect("UTF-8");
        let mut args = vec!["submit", "--nats", self.broker.url(), "--archive", &archive, "--out", &out];
        args.extend(["--pipeline", pipeline, "--shard-length", "1s", "--name", name]);
        start("fulltime", &args).end().with_code(0).stdout.trim().to_owned()
    }

    /// Runs a command about a job and returns what it printed as JSON.
    fn fulltime(&self, args: &[&str], code: i32) -> Value {
        let args: Vec<_> = args.iter().copied().chain(["--nats", self.broker.url(), "--json"]).collect();
        start("fulltime", &args).end().with_code(code).json()
    }
}

fn leads(coordinator: &mut Running) {
    coordinator.wait_for("that it leads", |line| line.contains("leading"));
}

/// Objects of a job below a folder, parsed.
fn objects(folder: &Path) -> Vec<Value> {
    let read = |path: std::path::PathBuf| {
        serde_json::from_slice(&std::fs::read(&path).expect("read an object")).expect("JSON")
    };
    files(folder).into_iter().map(read).collect()
}

#[tokio::test]
async fn a_standby_dispatches_within_seconds_of_the_leaders_death() {
    let ground = Ground::new();
    let mut leader = ground.coordinator();
    leads(&mut leader);
    let mut standby = ground.coordinator();
    let _worker = ground.worker();
    let first = ground.submit("first");
    assert_eq!(ground.fulltime(&["watch", &first], 0)["state"], "finished");

    let bus = JetStream::connect(ground.broker.url()).await.expect("connect");
    let mut events = bus.events().await.expect("events");
    leader.signal(libc::SIGKILL);
    let died = std::time::Instant::now();
    let ground = std::sync::Arc::new(ground);
    let submitting = std::sync::Arc::clone(&ground);
    let submit = tokio::task::spawn_blocking(move || submitting.submit("second"));
    let dispatched = async {
        loop {
            let event = events.next().await.expect("events go on");
            // Work that is soon over is never said to have started.
            if event.job.starts_with("second") {
                return died.elapsed();
            }
        }
    };
    let took = tokio::time::timeout(HUNG, dispatched).await.expect("somebody takes over");
    println!("dispatch went on {} ms after the death of the leader", took.as_millis());
    assert!(took < FAILOVER, "{took:?}");
    leads(&mut standby);
    let second = submit.await.expect("submitted");
    assert_eq!(ground.fulltime(&["watch", &second], 0)["state"], "finished");
    // What the first leader's job came to is known to the second one, too.
    let status = ground.fulltime(&["status", &first], 0);
    assert_eq!(status["jobs"][0]["state"], "finished", "{status}");
}

#[test]
fn no_verdict_of_a_stopped_leader_takes_effect_after_the_register_was_wiped() {
    let mut ground = Ground::new();
    let mut stopped = ground.coordinator();
    leads(&mut stopped);
    let job = ground.submit("job");
    let mut successor = ground.coordinator();
    successor.wait_for("that it is there", |line| line.contains("running for the lead"));
    stopped.signal(libc::SIGSTOP);
    ground.broker.kill();
    ground.broker.wipe();
    ground.broker.restart();
    leads(&mut successor);
    stopped.signal(libc::SIGCONT);
    stopped.wait_for("that it stands by", |line| line.contains("standing by"));
    let _worker = ground.worker();
    assert_eq!(ground.fulltime(&["watch", &job], 0)["state"], "finished");

    let folder = ground.dir.path().join("out/jobs").join(&job);
    let verdicts = [objects(&folder.join("inputs")), objects(&folder.join("plan"))].concat();
    // The match list was fixed by the first one, before it was stopped.
    let by_the_first = verdicts.iter().filter(|verdict| verdict["epoch"] == 1).count();
    assert!(by_the_first <= 1 && verdicts.len() >= 4, "{verdicts:#?}");
    assert_eq!(files(&ground.dir.path().join("out/state/epoch")).len(), 2, "each take-over is an epoch");
}

#[test]
fn people_pause_resume_and_cancel_jobs_and_are_told_what_cannot_be() {
    let mut ground = Ground::new();
    let mut coordinator = ground.coordinator();
    leads(&mut coordinator);
    let (paused, dead) = (ground.submit("paused"), ground.submit("dead"));
    ground.fulltime(&["pause", &paused], 0);
    ground.fulltime(&["cancel", &dead], 0);
    let refused = ground.fulltime(&["resume", &dead], 2);
    assert!(refused["error"].as_str().is_some_and(|cause| cause.ends_with("is cancelled")), "{refused}");
    assert!(ground.fulltime(&["retry", &paused], 2)["error"].is_string());
    assert!(ground.fulltime(&["pause", "nobody"], 2)["error"].is_string());

    // Coordinator and broker die, the broker with all it had.
    coordinator.signal(libc::SIGKILL);
    ground.broker.kill();
    ground.broker.wipe();
    ground.broker.restart();
    let mut coordinator = ground.coordinator();
    leads(&mut coordinator);
    let _worker = ground.worker();
    let third = ground.submit("third");
    assert_eq!(ground.fulltime(&["watch", &third], 0)["state"], "finished");
    let state = |job: &str| ground.fulltime(&["status", job], 0)["jobs"][0]["state"].clone();
    assert_eq!((state(&paused), state(&dead)), ("paused".into(), "cancelled".into()));
    ground.fulltime(&["priority", &paused, "low"], 0);
    ground.fulltime(&["resume", &paused], 0);
    assert_eq!(ground.fulltime(&["watch", &paused], 0)["state"], "finished");
    ground.fulltime(&["rebuild"], 0);
    assert_eq!((state(&paused), state(&dead)), ("finished".into(), "cancelled".into()));
}
