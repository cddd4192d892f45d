//! The worker as a process over a real broker: dies at every crash point, is killed, is told to stop.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::ground::{FRAMES, Ground, hung, small};
use fulltime_common::{
    Digest,
    index::RecordingIndex,
    keys,
    plan::EngineClass,
    queue::{Bus as _, JetStream},
    wire::{Event, EventKind, Evidence, Hello, Task, TaskKind, Witness},
};
use fulltime_worker::Point;
use futures::{StreamExt as _, stream::BoxStream};

const LEASE: Duration = Duration::from_secs(1);

/// A worker in a process, ended with its owner.
struct Process(Child);

impl Process {
    fn start(ground: &Ground, url: &str, crash_at: Option<Point>) -> Self {
        Self::with(ground, url, crash_at, &["--lanes", "1"])
    }

    fn with(ground: &Ground, url: &str, crash_at: Option<Point>, flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fulltime-worker"));
        command.args(["--nats", url, "--engine", "sim", "--lease", "1s", "--cache"]);
        command.arg(ground.path("cache")).args(flags).stdin(Stdio::null()).stderr(Stdio::null());
        if let Some(point) = crash_at {
            command.env("FULLTIME_CRASH_AT", point.name());
        }
        Self(fulltime_common::process::end_with_parent(&mut command).spawn().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a coordinator would do: releases again what failed, and starts another worker for one that died.
struct Leader<'a> {
    ground: &'a Ground,
    bus: &'a JetStream,
    url: &'a str,
    events: BoxStream<'static, Event>,
    hellos: BoxStream<'static, Hello>,
    worker: Process,
    deaths: Vec<i32>,
}

impl Leader<'_> {
    async fn commit(&mut self, mut open: BTreeMap<Digest, Task>) {
        self.bus.release(&open.values().cloned().collect::<Vec<_>>()).await.unwrap();
        while !open.is_empty() {
            let mut look = tokio::time::interval(Duration::from_millis(50));
            let event = loop {
                tokio::select! {
                    event = self.events.next() => break event.unwrap(),
                    _ = look.tick() => self.replace_the_dead(),
                }
            };
            let Some(task) = open.get_mut(&event.digest) else { continue };
            match event.kind {
                EventKind::Started => {}
                EventKind::Committed(_) => drop(open.remove(&event.digest)),
                EventKind::Failed { evidence: Evidence { witness: Witness::Signal(signal), .. }, .. } => {
                    self.deaths.push(signal);
                    task.release += 1;
                    self.bus.release(std::slice::from_ref(task)).await.unwrap();
                }
                EventKind::Failed { cause, .. } => panic!("{cause}"),
            }
        }
    }

    fn replace_the_dead(&mut self) {
        if let Some(status) = self.worker.0.try_wait().unwrap() {
            self.deaths.push(status.signal().unwrap_or_else(|| panic!("{status}")));
            self.worker = Process::start(self.ground, self.url, None);
        }
    }

    async fn index(&mut self) -> (Digest, RecordingIndex) {
        let recording = self.ground.recording("a.mp4").await;
        let digest = RecordingIndex::digest("archive", &recording);
        let index = self.ground.task(digest, TaskKind::Index { recording });
        self.commit(BTreeMap::from([(digest, index)])).await;
        let bytes = self.ground.object(&keys::store::index(&digest)).await;
        (digest, RecordingIndex::from_bytes(&bytes).unwrap())
    }

    async fn class(&mut self) -> EngineClass {
        hung(self.hellos.next()).await.unwrap().engine
    }
}

/// A recording, and the pipeline in the store.
async fn ground() -> Ground {
    let ground = Ground::new("").await;
    ground.record("a.mp4", FRAMES, &small());
    ground.store.put_json_once(&keys::store::pipeline(&ground.pipeline.digest()), &ground.pipeline).await.unwrap();
    ground
}

/// Index and four shards with a worker that dies at this point. The results, and the signals that something died of.
async fn results(url: &str, crash_at: Option<Point>) -> (Vec<Vec<u8>>, Vec<i32>) {
    let ground = ground().await;
    let bus = JetStream::connect_with_lease(url, LEASE).await.unwrap();
    let (events, hellos) = (bus.events().await.unwrap(), bus.hellos().await.unwrap());
    let (worker, deaths) = (Process::start(&ground, url, crash_at), Vec::new());
    let mut leader = Leader { ground: &ground, bus: &bus, url, events, hellos, worker, deaths };
    let class = leader.class().await;

    let index = leader.index().await;
    let shards = (0..4).map(|i| ground.shard_of(&index, i..i + 1, &class)).map(|task| (task.digest, task));
    leader.commit(shards.collect()).await;
    let deaths = std::mem::take(&mut leader.deaths);
    drop(leader);
    let mut tables: Vec<_> = ground
        .shard_files()
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|extension| extension == "parquet"))
        .map(|(_, bytes)| bytes)
        .collect();
    // Their folders are named by the time of the recording's making, too.
    tables.sort();
    (tables, deaths)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_die_at_every_crash_point_and_the_results_are_the_same() {
    let server = fulltime_tests::nats::Server::start();
    let (undisturbed, deaths) = hung(results(server.url(), None)).await;
    assert_eq!((undisturbed.len(), deaths), (12, vec![]));
    for point in Point::ALL {
        let (tables, deaths) = hung(results(server.url(), Some(point))).await;
        assert_eq!(deaths, [libc::SIGABRT], "`{}` is reached, once", point.name());
        assert!(tables == undisturbed, "`{}`", point.name());
    }
}

/// A worker's lane processes.
fn lanes(worker: &Process) -> Vec<u32> {
    fulltime_tests::children(worker.0.id(), "fulltime-worker")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_takes_its_lanes_along() {
    let server = fulltime_tests::nats::Server::start();
    let ground = ground().await;
    let bus = JetStream::connect_with_lease(server.url(), LEASE).await.unwrap();
    let mut hellos = bus.hellos().await.unwrap();
    let worker = Process::with(&ground, server.url(), None, &["--lanes", "2"]);
    hung(hellos.next()).await.unwrap();
    let lanes = lanes(&worker);
    assert_eq!(lanes.len(), 2);
    fulltime_tests::kill(worker.0.id(), libc::SIGKILL);
    let gone = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        // An orphan has nobody here to reap it, so a zombie is as good as gone.
        while lanes.iter().any(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())) {
            look.tick().await;
        }
    };
    hung(gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_worker_finishes_what_runs_and_ends_well() {
    let server = fulltime_tests::nats::Server::start();
    let ground = ground().await;
    let bus = JetStream::connect_with_lease(server.url(), LEASE).await.unwrap();
    let (events, hellos) = (bus.events().await.unwrap(), bus.hellos().await.unwrap());
    let worker = Process::with(&ground, server.url(), None, &["--lanes", "1", "--sim", "item-ms=30"]);
    let (bus, url) = (&bus, server.url());
    let mut leader = Leader { ground: &ground, bus, url, events, hellos, worker, deaths: Vec::new() };
    let class = leader.class().await;
    let index = leader.index().await;
    let task = ground.shard_of(&index, 0..4, &class);
    bus.release(std::slice::from_ref(&task)).await.unwrap();
    while !hung(leader.hellos.next()).await.unwrap().lanes.iter().any(|lane| lane.task == Some(task.digest)) {}
    fulltime_tests::kill(leader.worker.0.id(), libc::SIGTERM);
    let committed = async {
        while !matches!(leader.events.next().await.unwrap().kind, EventKind::Committed(outcome) if outcome.frames == 100)
        {
        }
    };
    hung(committed).await;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let ended = async {
        loop {
            look.tick().await;
            if let Some(status) = leader.worker.0.try_wait().unwrap() {
                return status;
            }
        }
    };
    assert_eq!(hung(ended).await.code(), Some(0));
    assert!(bus.pull_one(&[task.pool()], Duration::ZERO).await.unwrap().is_none(), "it is acknowledged");
}
