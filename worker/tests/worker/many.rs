//! A thousand lanes in one process: what the worker itself costs when its tasks cost nothing.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fulltime_common::{
    Digest, Disposition, Exit,
    error::Failure,
    plan::{EngineClass, RecordingRef, ShardSpec},
    queue::{Bus, JetStream, MemoryBus},
    wire::{Band, Event, EventKind, Outcome, Task, TaskKind},
};
use fulltime_worker::{Attempt, Executor, TaskFailure, Worker};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use tokio_util::sync::CancellationToken;

const LANES: usize = 1000;

/// Longest time that anything here may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(120);

fn class() -> EngineClass {
    EngineClass("virtual".into())
}

/// Work without length: creates one file, as a commit does, or sleeps.
#[derive(Debug)]
struct Virtual {
    folder: PathBuf,
    takes: Duration,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Virtual {
    fn new(folder: PathBuf, takes: Duration) -> Arc<Self> {
        Arc::new(Self { folder, takes, running: AtomicUsize::new(0), most: AtomicUsize::new(0) })
    }
}

impl Executor for Virtual {
    fn run<'a>(&'a self, task: &'a Task, _: &'a Arc<Attempt>) -> BoxFuture<'a, Result<Outcome, TaskFailure>> {
        async move {
            let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(running, Ordering::Relaxed);
            if !self.takes.is_zero() {
                tokio::time::sleep(self.takes).await;
            }
            let created = std::fs::File::create_new(self.folder.join(task.digest.to_string()));
            self.running.fetch_sub(1, Ordering::Relaxed);
            match created {
                Ok(_) => Ok(Outcome { frames: 1, ..Outcome::default() }),
                Err(error) => {
                    let failure = Failure::new(Exit::Store, error.to_string(), "run it once");
                    Err(TaskFailure::new(Disposition::PoisonInput, failure))
                }
            }
        }
        .boxed()
    }
}

fn tasks(count: u64) -> Vec<Task> {
    let task = |n: u64| {
        let digest = Digest::of_bytes(&n.to_le_bytes());
        let recording = RecordingRef { key: "a.mp4".into(), size: 1, etag: "e".into() };
        let shard = ShardSpec {
            recording,
            index: digest,
            intervals: 0..1,
            frames: 0..1,
            bytes: 0..1,
            pipeline: digest,
            map: digest,
            engine: class(),
        };
        let (archive, store, out) = ("a".into(), "s".into(), "o".into());
        let (band, avoid, kind) = (Band::Normal, None, TaskKind::Map { shard });
        Task {
            job: "job".into(),
            digest,
            release: 1,
            epoch: 1,
            band,
            avoid,
            alone: false,
            looked_for: true,
            archive,
            store,
            out,
            generation: 1,
            trace: None,
            kind,
        }
    };
    (0..count).map(task).collect()
}

/// Waits until so many tasks are committed, each once.
async fn all_committed(events: &mut BoxStream<'static, Event>, count: usize) {
    let mut committed = BTreeSet::new();
    while committed.len() < count {
        let event = tokio::time::timeout(HUNG, events.next()).await.unwrap().unwrap();
        match event.kind {
            EventKind::Committed(_) => assert!(committed.insert(event.digest), "twice"),
            EventKind::Started => {}
            EventKind::Failed { cause, .. } => panic!("{cause}"),
        }
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_lanes_take_no_thread_each_and_are_all_used() {
    let folder = tempfile::tempdir().unwrap();
    let executor = Virtual::new(folder.path().into(), Duration::from_millis(200));
    let bus = Arc::new(MemoryBus::default());
    let mut events = bus.events().await.unwrap();
    let worker = Worker::with_executor(bus.clone(), class(), LANES, executor.clone()).named("w");
    let (shutdown, before) = (CancellationToken::new(), threads());
    bus.release(&tasks(2 * LANES as u64)).await.unwrap();
    let running = tokio::spawn(worker.run(shutdown.clone()));
    all_committed(&mut events, 2 * LANES).await;
    assert_eq!(executor.most.load(Ordering::Relaxed), LANES, "all lanes at once, and never more");
    assert!(threads() <= before + 4, "{} threads", threads());
    shutdown.cancel();
    tokio::time::timeout(HUNG, running).await.unwrap().unwrap().unwrap();
    assert!(bus.pull_one(&[tasks(1)[0].pool()], Duration::ZERO).await.unwrap().is_none(), "all are acknowledged");
}

/// Prints a rate: release, pull, create, event and double ack of empty tasks over a real broker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn empty_tasks_over_a_real_broker() {
    const COUNT: usize = 100_000;
    let server = fulltime_tests::nats::Server::start();
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let bus: Arc<dyn Bus> = Arc::new(JetStream::connect(server.url()).await.unwrap());
    let mut events = bus.events().await.unwrap();
    let tasks = tasks(COUNT as u64);
    for chunk in tasks.chunks(1000) {
        bus.release(chunk).await.unwrap();
    }
    let executor = Virtual::new(folder.path().into(), Duration::ZERO);
    let worker = Worker::with_executor(bus, class(), LANES, executor);
    let (shutdown, begun) = (CancellationToken::new(), std::time::Instant::now());
    let running = tokio::spawn(worker.run(shutdown.clone()));
    all_committed(&mut events, COUNT).await;
    println!("{:.0} tasks/s", COUNT as f64 / begun.elapsed().as_secs_f64());
    shutdown.cancel();
    running.await.unwrap().unwrap();
}
