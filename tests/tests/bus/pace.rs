//! How fast the bus is: run with `--ignored --nocapture`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fulltime_common::{queue::Bus, wire::Pool};
use fulltime_tests::nats::Server;
use futures::StreamExt as _;

use crate::ground::{class, event, runtime, task};

const LANES: usize = 1000;
const TASKS: u64 = 200_000;
const WINDOW: u64 = 8_000;
const BATCH: u64 = 512;

#[test]
#[ignore = "a measurement"]
fn a_thousand_lanes_pull_finish_and_emit() {
    let server = Server::start();
    runtime().block_on(async {
        let connect = || async { Arc::new(fulltime_common::queue::JetStream::connect(server.url()).await.unwrap()) };
        let (coordinator, worker) = (connect().await, connect().await);
        let mut events = coordinator.events().await.unwrap();
        let finished = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let lanes: Vec<_> = (0..LANES)
            .map(|_| {
                let (bus, finished) = (Arc::clone(&worker), Arc::clone(&finished));
                tokio::spawn(async move {
                    let pools = [Pool::Any, class("x")];
                    while finished.load(Ordering::Relaxed) < TASKS {
                        for delivery in bus.pull(&pools, 1, Duration::from_millis(500)).await.unwrap() {
                            bus.emit(&event(&delivery.task)).await.unwrap();
                            delivery.finish().await.unwrap();
                            finished.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        let (mut released, mut heard) = (0, 0);
        while heard < TASKS {
            while released < TASKS && released + BATCH <= heard + WINDOW {
                let batch: Vec<_> =
                    (released..(released + BATCH).min(TASKS)).map(|i| task("j", &i.to_string(), Some("x"))).collect();
                coordinator.release(&batch).await.unwrap();
                released += batch.len() as u64;
            }
            // All that are there already, then one more.
            while events.next().await.is_some() {
                heard += 1;
                if heard >= TASKS || released < TASKS && released + BATCH <= heard + WINDOW {
                    break;
                }
            }
        }
        let elapsed = started.elapsed().as_secs_f64();
        for lane in lanes {
            lane.await.unwrap();
        }
        println!("{LANES} lanes, {TASKS} tasks: {:.0} tasks/s", TASKS as f64 / elapsed);
    });
}
