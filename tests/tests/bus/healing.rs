//! JetStream alone: the broker dies, loses its disk or single streams, while everybody stays connected; and nobody has to
//! be told.

use std::{sync::Arc, time::Duration};

use fulltime_common::{
    queue::{Bus, JetStream},
    wire::{Event, Pool, Task},
};
use fulltime_tests::{
    nats::Server,
    proxy::{Proxy, Weather},
};
use futures::{StreamExt as _, stream::BoxStream};

use crate::ground::{LEASE, MOMENT, SOON, class, connect, event, runtime, task};

/// Longer than any healing takes.
const HEALED: Duration = Duration::from_secs(30);

/// Tries until it works, as every caller of a bus does.
pub async fn until_it_works<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(attempt: impl Fn() -> F) -> T {
    let deadline = tokio::time::Instant::now() + HEALED;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if tokio::time::Instant::now() > deadline => panic!("it does not heal: {error:?}"),
            Err(_) => tokio::time::sleep(MOMENT).await,
        }
    }
}

/// A lane that finishes a task and tells of it.
pub async fn one_task(lane: &dyn Bus, pools: &[Pool]) -> Task {
    loop {
        let Some(delivery) = until_it_works(|| lane.pull_one(pools, SOON)).await else { continue };
        let task = delivery.task.clone();
        let event = event(&task);
        until_it_works(|| lane.emit(&event)).await;
        // After an error it may come again, which is harmless.
        let _ = delivery.finish().await;
        return task;
    }
}

/// Reads events as a coordinator does: opens the stream again when it ends.
pub async fn next_event(bus: &dyn Bus, events: &mut BoxStream<'static, Event>) -> Event {
    loop {
        match tokio::time::timeout(SOON, events.next()).await.expect("an event or the end of the stream, not silence") {
            Some(event) => return event,
            None => *events = until_it_works(|| bus.events()).await,
        }
    }
}

/// Puts one task of each pool through the bus.
pub async fn work_goes_on(
    coordinator: &Arc<dyn Bus>,
    lane: &Arc<dyn Bus>,
    events: &mut BoxStream<'static, Event>,
    name: &str,
) {
    for engine in [None, Some("x")] {
        let released = task("j", &format!("{name} {engine:?}"), engine);
        until_it_works(|| coordinator.release(std::slice::from_ref(&released))).await;
        assert_eq!(one_task(&**lane, &[class("x"), Pool::Any]).await, released);
        // Once heard, the stream that was opened is the right one; until then the event may be lost with the old one.
        let again = event(&released);
        let heard = async { while next_event(&**coordinator, events).await != again {} };
        let told = async {
            loop {
                tokio::time::sleep(MOMENT).await;
                until_it_works(|| lane.emit(&again)).await;
            }
        };
        tokio::select! { () = heard => {}, () = told => {} }
    }
}

#[test]
fn a_broker_that_comes_back_without_its_disk_is_filled_again() {
    let mut server = Server::start();
    runtime().block_on(async {
        let (coordinator, lane) = (connect(&server).await, connect(&server).await);
        let mut events = coordinator.events().await.unwrap();
        work_goes_on(&coordinator, &lane, &mut events, "before").await;
        let before = coordinator.claim(None, b"me").await.unwrap().unwrap();
        for n in 0..2 {
            // One lane waits while it happens, as most lanes do.
            let waiting = {
                let lane = Arc::clone(&lane);
                tokio::spawn(async move { one_task(&*lane, &[class("waits")]).await })
            };
            server.kill();
            server.wipe();
            server.restart();
            work_goes_on(&coordinator, &lane, &mut events, &format!("after {n}")).await;
            let awaited = task("j", &format!("awaited {n}"), Some("waits"));
            until_it_works(|| coordinator.release(std::slice::from_ref(&awaited))).await;
            assert_eq!(waiting.await.unwrap(), awaited);
        }
        // What an old leader knows of the register is void.
        assert_eq!(coordinator.leader().await.unwrap(), None);
        assert_eq!(coordinator.claim(Some(before), b"me").await.unwrap(), None);
        let after = lane.claim(None, b"other").await.unwrap().unwrap();
        assert!(after > before);
        assert_eq!(coordinator.claim(Some(before), b"me").await.unwrap(), None);
        coordinator.withdraw("j").await.unwrap();
    });
}

#[test]
fn a_broker_that_comes_back_with_its_disk_has_lost_no_task_and_no_event() {
    let mut server = Server::start();
    runtime().block_on(async {
        let (coordinator, lane) = (connect(&server).await, connect(&server).await);
        let mut events = coordinator.events().await.unwrap();
        let (held, queued) = (task("j", "held", None), task("j", "queued", None));
        coordinator.release(&[held.clone(), queued.clone()]).await.unwrap();
        let delivery = lane.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap();
        assert_eq!(delivery.task, held);
        server.restart();
        let told = event(&held);
        until_it_works(|| lane.emit(&told)).await;
        assert_eq!(next_event(&*coordinator, &mut events).await, told, "the reader goes on where it was");
        // Leases are written late: a broker that was killed may know nothing of this one, and delivers it again.
        let forgotten = delivery.finish().await.is_err();
        let mut left = Vec::new();
        while let Some(delivery) = until_it_works(|| lane.pull_one(&[Pool::Any], LEASE * 2)).await {
            left.push(delivery.task.digest);
            delivery.finish().await.unwrap();
        }
        left.sort();
        let mut wanted = if forgotten { vec![held.digest, queued.digest] } else { vec![queued.digest] };
        wanted.sort();
        assert_eq!(left, wanted);
    });
}

#[test]
fn deleted_streams_and_consumers_are_made_again_by_whoever_needs_them() {
    let server = Server::start();
    runtime().block_on(async {
        let (coordinator, lane) = (connect(&server).await, connect(&server).await);
        let mut events = coordinator.events().await.unwrap();
        work_goes_on(&coordinator, &lane, &mut events, "before").await;
        let operator = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
        for stream in ["FULLTIME_TASKS", "FULLTIME_EVENTS", "KV_FULLTIME_LEADER", "FULLTIME_ADVISORIES"] {
            operator.delete_stream(stream).await.unwrap();
            work_goes_on(&coordinator, &lane, &mut events, stream).await;
        }
        let tasks = operator.get_stream("FULLTIME_TASKS").await.unwrap();
        let mut names = tasks.consumer_names();
        while let Some(name) = names.next().await {
            tasks.delete_consumer(&name.unwrap()).await.unwrap();
        }
        work_goes_on(&coordinator, &lane, &mut events, "without consumers").await;
        assert_eq!(coordinator.leader().await.unwrap(), None);
        assert_eq!(coordinator.advisories().await.unwrap(), 0);
    });
}

#[test]
fn events_end_when_their_stream_is_another_one() {
    let server = Server::start();
    runtime().block_on(async {
        let bus = connect(&server).await;
        let mut events = bus.events().await.unwrap();
        let told = event(&task("j", "a", None));
        bus.emit(&told).await.unwrap();
        assert_eq!(events.next().await.unwrap(), told);
        let operator = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
        operator.delete_stream("FULLTIME_EVENTS").await.unwrap();
        assert!(tokio::time::timeout(SOON, events.next()).await.expect("not silence").is_none());
    });
}

#[test]
fn a_message_that_nobody_can_read_is_removed_and_recorded() {
    let server = Server::start();
    runtime().block_on(async {
        let bus = JetStream::connect_with_lease(server.url(), LEASE).await.unwrap();
        let operator = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
        let good = task("j", "good", None);
        operator.publish("fulltime.task.any.normal.j.bad", "\u{63}garbage".into()).await.unwrap().await.unwrap();
        bus.release(std::slice::from_ref(&good)).await.unwrap();
        let delivery = bus.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap();
        assert_eq!(delivery.task, good);
        delivery.finish().await.unwrap();
        let mut tasks = operator.get_stream("FULLTIME_TASKS").await.unwrap();
        let removed = async {
            while tasks.info().await.unwrap().state.messages > 0 {}
            while bus.advisories().await.unwrap() == 0 {}
        };
        tokio::time::timeout(SOON, removed).await.expect("removed, and the broker noted it");
    });
}

#[test]
fn a_lane_that_is_cut_off_loses_its_lease_and_finds_its_way_back() {
    let server = Server::start();
    runtime().block_on(async {
        let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into()).await;
        let far: Arc<dyn Bus> =
            Arc::new(JetStream::connect_with_lease(&format!("nats://{}", proxy.address()), LEASE).await.unwrap());
        let near = connect(&server).await;
        let mut events = far.events().await.unwrap();
        let cut_off = task("j", "cut off", None);
        near.release(std::slice::from_ref(&cut_off)).await.unwrap();
        let held = far.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap();
        proxy.set(Weather::PARTED);
        let progress = held.progress().await;
        let again = near.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap();
        assert_eq!((&again.task, again.delivered), (&cut_off, 2), "{progress:?}");
        again.finish().await.unwrap();
        // The partition ends as most do: with the connection.
        proxy.refuse();
        far.emit(&event(&cut_off)).await.unwrap_err();
        proxy.heal();
        work_goes_on(&near, &far, &mut near.events().await.unwrap(), "healed").await;
        let told = event(&task("j", "told", None));
        near.emit(&told).await.unwrap();
        while next_event(&*far, &mut events).await != told {}
    });
}
