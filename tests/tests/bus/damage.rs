//! JetStream alone: the broker's files are deleted under it, cut short or flipped bit by bit.

use fulltime_common::wire::Pool;
use fulltime_tests::nats::Server;

use crate::{
    ground::{LEASE, class, connect, event, runtime, task},
    healing::{next_event, one_task, until_it_works, work_goes_on},
};

#[test]
fn files_that_are_deleted_under_a_running_broker_are_missed_by_nobody() {
    let mut server = Server::start();
    runtime().block_on(async {
        let (coordinator, lane) = (connect(&server).await, connect(&server).await);
        let mut events = coordinator.events().await.unwrap();
        work_goes_on(&coordinator, &lane, &mut events, "before").await;
        server.wipe();
        work_goes_on(&coordinator, &lane, &mut events, "after").await;
        // It has not lost what it had in its hands, but would not find it again.
        server.restart();
        work_goes_on(&coordinator, &lane, &mut events, "restarted").await;
    });
}

#[test]
fn a_damaged_disk_costs_tasks_at_most_and_never_the_bus() {
    for seed in 0..4_u64 {
        let mut server = Server::start();
        runtime().block_on(async {
            let (coordinator, lane) = (connect(&server).await, connect(&server).await);
            let mut events = coordinator.events().await.unwrap();
            let tasks: Vec<_> = (0..50).map(|i| task("j", &format!("lost? {i}"), Some("other"))).collect();
            coordinator.release(&tasks).await.unwrap();
            work_goes_on(&coordinator, &lane, &mut events, "before").await;
            coordinator.claim(None, b"me").await.unwrap();
            server.kill();
            damage(&server, seed);
            server.restart();
            // What was in a stream that had to be given up is lost: the ledger releases it again, until it is done.
            for engine in [None, Some("x")] {
                let mut released = task("j", "again and again", engine);
                let pools = [class("x"), Pool::Any];
                while tokio::time::timeout(LEASE * 3, one_task(&*lane, &pools)).await.is_err() {
                    until_it_works(|| coordinator.release(std::slice::from_ref(&released))).await;
                    released.release += 1;
                }
            }
            until_it_works(|| coordinator.withdraw("j")).await;
            work_goes_on(&coordinator, &lane, &mut events, "after").await;
            let told = event(&tasks[0]);
            until_it_works(|| lane.emit(&told)).await;
            while next_event(&*coordinator, &mut events).await != told {}
            // Whatever stands in the register, it can be claimed.
            let claimed = until_it_works(|| async {
                let stands = coordinator.leader().await?.map(|register| register.revision);
                coordinator.claim(stands, b"me again").await
            });
            assert!(claimed.await.is_some(), "seed {seed}");
        });
    }
}

#[test]
fn a_description_that_looks_like_a_later_version_s_is_given_up() {
    // The broker stops a whole stream over one field that it does not know: a flipped bit is enough.
    for (described, field) in [("obs/any_normal/meta.inf", "\"ack_wait\""), ("FULLTIME_EVENTS/meta.inf", "\"max_age\"")]
    {
        let mut server = Server::start();
        runtime().block_on(async {
            let (coordinator, lane) = (connect(&server).await, connect(&server).await);
            let mut events = coordinator.events().await.unwrap();
            work_goes_on(&coordinator, &lane, &mut events, "before").await;
            server.kill();
            let files = fulltime_tests::files(server.storage());
            let path = files.iter().find(|path| path.ends_with(described)).expect("a file of the storage");
            let text = std::fs::read_to_string(path).unwrap();
            assert!(text.contains(field), "{text}");
            std::fs::write(path, text.replace(field, &field.replace('a', "c"))).unwrap();
            server.restart();
            work_goes_on(&coordinator, &lane, &mut events, "after").await;
        });
    }
}

/// Flips a bit in every 200 bytes of every file (even seeds), or cuts every file in half (odd ones), but for those that a
/// seed leaves alone.
fn damage(server: &Server, seed: u64) {
    for (n, path) in fulltime_tests::files(server.storage()).into_iter().enumerate() {
        let mut bytes = std::fs::read(&path).expect("read a file of the storage");
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n as u64);
        let mut next = move || {
            // xorshift64 (Marsaglia 2003).
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        if next() % 3 == 0 {
            continue;
        }
        if seed.is_multiple_of(2) {
            for chunk in bytes.chunks_mut(200) {
                let at = next() as usize % (chunk.len() * 8);
                chunk[at / 8] ^= 1 << (at % 8);
            }
        } else {
            bytes.truncate(bytes.len() / 2);
        }
        std::fs::write(&path, bytes).expect("damage a file");
    }
}
