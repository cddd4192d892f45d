//! What the stories stand on: tasks, pools, and every kind of bus.

use std::{future::Future, sync::Arc, time::Duration};

use fulltime_common::{
    Digest,
    plan::{EngineClass, RecordingRef, ShardSpec},
    queue::{Bus, FaultyBus, JetStream, MemoryBus},
    wire::{Band, Event, EventKind, Pool, Task, TaskKind},
};
use fulltime_tests::nats::Server;

pub const LEASE: Duration = Duration::from_millis(600);
/// Longer than anything takes that is going to happen.
pub const SOON: Duration = Duration::from_secs(20);
/// Long enough for what should not happen to be seen happening.
pub const MOMENT: Duration = Duration::from_millis(50);

fn recording() -> RecordingRef {
    RecordingRef { key: "a.mp4".into(), size: 1, etag: "e".into() }
}

pub fn task(job: &str, name: &str, engine: Option<&str>) -> Task {
    let digest = Digest::of_bytes(name.as_bytes());
    let kind = engine.map_or(TaskKind::Index { recording: recording() }, |engine| TaskKind::Map {
        shard: ShardSpec {
            recording: recording(),
            index: digest,
            intervals: 0..1,
            frames: 0..10,
            bytes: 0..100,
            pipeline: digest,
            map: digest,
            engine: EngineClass(engine.into()),
        },
    });
    let place = "file:///x".to_owned();
    Task {
        job: job.into(),
        digest,
        release: 1,
        epoch: 1,
        band: Band::Normal,
        avoid: None,
        alone: false,
        looked_for: true,
        archive: place.clone(),
        store: place.clone(),
        out: place,
        generation: 1,
        trace: None,
        kind,
    }
}

pub fn class(name: &str) -> Pool {
    Pool::Class(EngineClass(name.into()))
}

pub fn event(task: &Task) -> Event {
    let (job, digest) = (task.job.clone(), task.digest);
    Event { job, digest, release: task.release, worker: "w".into(), kind: EventKind::Started }
}

/// An implementation with as many connections to the same bus as a story wants.
pub struct World {
    connect: Box<dyn Fn() -> futures::future::BoxFuture<'static, Arc<dyn Bus>>>,
}

impl World {
    pub async fn bus(&self) -> Arc<dyn Bus> {
        (self.connect)().await
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

pub async fn connect(server: &Server) -> Arc<dyn Bus> {
    Arc::new(JetStream::connect_with_lease(server.url(), LEASE).await.expect("connect"))
}

/// Runs a story on every implementation: whoever calls itself a bus passes all of them.
pub fn on_every_bus<F: Future<Output = ()>>(story: impl Fn(World) -> F) {
    let runtime = runtime();
    let memory = MemoryBus::with_lease(LEASE);
    let connect = move || -> futures::future::BoxFuture<'static, Arc<dyn Bus>> {
        let bus = memory.clone();
        Box::pin(async move { Arc::new(bus) as Arc<dyn Bus> })
    };
    runtime.block_on(story(World { connect: Box::new(connect) }));

    let faultless = MemoryBus::with_lease(LEASE);
    let connect = move || -> futures::future::BoxFuture<'static, Arc<dyn Bus>> {
        let bus = FaultyBus::scripted(Arc::new(faultless.clone()), []);
        Box::pin(async move { Arc::new(bus) as Arc<dyn Bus> })
    };
    runtime.block_on(story(World { connect: Box::new(connect) }));

    let server = Server::start();
    let url = server.url().to_owned();
    let connect = move || -> futures::future::BoxFuture<'static, Arc<dyn Bus>> {
        let url = url.clone();
        Box::pin(
            async move { Arc::new(JetStream::connect_with_lease(&url, LEASE).await.expect("connect")) as Arc<dyn Bus> },
        )
    };
    runtime.block_on(story(World { connect: Box::new(connect) }));
}
