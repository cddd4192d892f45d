//! What a bus is: the same stories run against the one in memory and against a real nats-server.

use std::{future::Future, sync::Arc, time::Duration};

use fulltime_common::{
    Digest,
    plan::{EngineClass, RecordingRef, ShardSpec},
    queue::{Bus, JetStream, MemoryBus},
    wire::{Band, Control, Event, EventKind, Hello, Pool, Reply, Request, Task, TaskKind},
};
use futures::StreamExt as _;

const LEASE: Duration = Duration::from_millis(600);
const SOON: Duration = Duration::from_secs(5);

fn recording() -> RecordingRef {
    RecordingRef { key: "a.mp4".into(), size: 1, etag: "e".into() }
}

fn task(job: &str, name: &str, engine: Option<&str>) -> Task {
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
        archive: place.clone(),
        store: place.clone(),
        out: place,
        kind,
    }
}

fn class(name: &str) -> Pool {
    Pool::Class(EngineClass(name.into()))
}

/// Runs a story on both implementations.
fn on_both<F: Future<Output = ()>>(story: impl Fn(Arc<dyn Bus>) -> F) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(story(Arc::new(MemoryBus::with_lease(LEASE))));
    let server = fulltime_tests::nats::Server::start();
    runtime.block_on(async {
        let bus = JetStream::connect_with_lease(server.url(), LEASE).await.expect("connect");
        story(Arc::new(bus)).await;
    });
}

#[test]
fn a_task_goes_to_one_lane_and_is_gone_when_finished() {
    on_both(|bus| async move {
        let pools = [class("onnx-cpu-1.32.0-avx2"), Pool::Any];
        bus.release(&[task("j", "index", None)]).await.unwrap();
        bus.release(&[task("j", "shard", Some("onnx-cpu-1.32.0-avx2"))]).await.unwrap();
        bus.release(&[task("j", "other", Some("tensorrt"))]).await.unwrap();
        // The same release twice is one task.
        bus.release(&[task("j", "shard", Some("onnx-cpu-1.32.0-avx2"))]).await.unwrap();
        let first = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        assert!(matches!(first.task.kind, TaskKind::Map { .. }), "the own class goes first");
        let second = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        assert!(matches!(second.task.kind, TaskKind::Index { .. }));
        assert!(bus.pull_one(&pools, Duration::from_millis(50)).await.unwrap().is_none(), "other classes are not ours");
        first.finish().await.unwrap();
        second.finish().await.unwrap();
        assert!(bus.pull_one(&pools, LEASE * 2).await.unwrap().is_none(), "finished tasks do not come again");
        let foreign = bus.pull_one(&[class("tensorrt")], SOON).await.unwrap().unwrap();
        foreign.finish().await.unwrap();
    });
}

#[test]
fn a_lease_that_runs_out_goes_to_another_lane_and_progress_keeps_it() {
    on_both(|bus| async move {
        let pools = [Pool::Any];
        bus.release(&[task("j", "a", None)]).await.unwrap();
        let held = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        for _ in 0..4 {
            assert!(bus.pull_one(&pools, LEASE / 2).await.unwrap().is_none(), "progress keeps the lease");
            held.progress().await.unwrap();
        }
        drop(held);
        let again = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        assert_eq!(again.delivered, 2);
        again.finish().await.unwrap();
    });
}

#[test]
fn a_task_that_is_given_back_comes_again_after_its_delay() {
    on_both(|bus| async move {
        let pools = [Pool::Any];
        bus.release(&[task("j", "a", None)]).await.unwrap();
        let held = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        held.give_back(Duration::ZERO).await.unwrap();
        let held = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        held.give_back(Duration::from_millis(400)).await.unwrap();
        assert!(bus.pull_one(&pools, Duration::from_millis(100)).await.unwrap().is_none());
        let held = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        assert_eq!(held.delivered, 3);
        held.finish().await.unwrap();
    });
}

#[test]
fn a_withdrawn_job_leaves_the_others_alone() {
    on_both(|bus| async move {
        bus.release(&[task("gone.1", "a", None)]).await.unwrap();
        bus.release(&[task("stays", "b", None)]).await.unwrap();
        bus.withdraw("gone.1").await.unwrap();
        let left = bus.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap();
        assert_eq!(left.task.job, "stays");
        left.finish().await.unwrap();
        assert!(bus.pull_one(&[Pool::Any], Duration::from_millis(50)).await.unwrap().is_none());
    });
}

#[test]
fn events_broadcasts_and_questions_arrive() {
    on_both(|bus| async move {
        let mut events = bus.events().await.unwrap();
        let mut hellos = bus.hellos().await.unwrap();
        let mut controls = bus.controls().await.unwrap();
        let mut requests = bus.requests().await.unwrap();
        let event = Event {
            job: "j".into(),
            digest: Digest::of_bytes(b"a"),
            release: 1,
            worker: "w".into(),
            kind: EventKind::Started,
        };
        let hello = Hello {
            worker: "w".into(),
            host: "h".into(),
            pid: 1,
            engine: EngineClass("e".into()),
            lanes: vec![],
            draining: false,
        };
        let control = Control::Stop { epoch: 1, work: vec![(Digest::of_bytes(b"w"), 1)] };
        bus.emit(&event).await.unwrap();
        bus.hello(&hello).await.unwrap();
        bus.control(&control).await.unwrap();
        assert_eq!(events.next().await.unwrap(), event);
        assert_eq!(hellos.next().await.unwrap(), hello);
        assert_eq!(controls.next().await.unwrap(), control);
        let question = Request::Submit { job: "j".into() };
        let answered = async {
            let asked = requests.next().await.unwrap();
            assert_eq!(asked.request, question);
            (asked.answer)(Reply::Accepted).await.unwrap();
        };
        let (reply, ()) = futures::join!(bus.request(&question), answered);
        assert_eq!(reply.unwrap(), Reply::Accepted);
    });
}
