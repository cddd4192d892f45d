//! Whatever order things happen in.

use std::time::Duration;

use fulltime_common::{
    Disposition,
    wire::{EventKind, JobState},
};
use proptest::prelude::*;

use super::{
    super::{Decision, Input, Policy},
    SEASON,
    world::{FRAMES, GOP, SHARDS, World, failed, policy},
};

const RECORDINGS: [&str; 5] = ["a1", "a2", "b1", "c1", "c2"];
const WORKERS: [&str; 2] = ["w1", "w2"];

/// The n-th thing that can be poison: a recording, or one of its intervals.
fn name(n: usize) -> String {
    let (key, interval) = (RECORDINGS[n % 5], n / 5);
    match interval {
        0 => key.to_owned(),
        n => format!("{key}@{}", (n as u32 - 1) * GOP),
    }
}

/// One accident, or one step of the ordinary kind.
fn play(world: &mut World, what: u8, pick: usize) {
    let worker = WORKERS[pick % 2];
    match what {
        0..=4 if !world.pending.is_empty() => world.answer(pick % world.pending.len()),
        5..=6 if !world.queue.is_empty() => world.work(pick % world.queue.len(), worker),
        7..=8 if !world.events.is_empty() => world.deliver(pick % world.events.len()),
        9 if !world.events.is_empty() => {
            let again = world.events[pick % world.events.len()].clone();
            world.events.push(again);
        }
        10 if !world.queue.is_empty() => {
            let task = world.queue[pick % world.queue.len()].clone();
            let disposition = match pick % 4 {
                0 => Disposition::PreEmpted,
                1 => Disposition::OutOfMemory,
                2 => Disposition::Cancelled,
                _ => Disposition::Transient,
            };
            world.say(&task, worker, failed(disposition, "trouble"));
        }
        // A worker begins, and is never heard of again.
        11 if !world.queue.is_empty() => {
            let task = world.queue[pick % world.queue.len()].clone();
            world.say(&task, worker, EventKind::Started);
        }
        // The queue loses a task, or an event never arrives.
        12 if pick.is_multiple_of(2) && !world.queue.is_empty() => {
            let at = pick % world.queue.len();
            world.queue.remove(at);
        }
        12 if !world.events.is_empty() => {
            let at = pick % world.events.len();
            world.events.remove(at);
        }
        13 => world.pass(Duration::from_secs(pick as u64 % 40), &WORKERS),
        14 => {
            let decision = if pick.is_multiple_of(2) { Decision::Pause } else { Decision::Resume };
            world.feed(Input::Decide("j".into(), decision));
        }
        15 if pick.is_multiple_of(4) => world.change_leader(&["j"]),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever is lost, repeated, given back or slow, and whoever leads: every shard is decided exactly once, no reduce
    /// goes early, only poison becomes a gap, and the figures add up.
    #[test]
    fn any_order_of_events_ends_with_every_shard_decided_once(
        tape in proptest::collection::vec((0_u8..16, any::<u16>()), 0..400),
        poison in proptest::collection::btree_set(0_usize..80, 0..6),
    ) {
        let mut world = World::with_workers(&WORKERS);
        let most = 10_000;
        world.ledger.policy = Policy {
            transient: most, vanished: most, out_of_memory: most, unproven: most, trouble: most, ..policy()
        };
        world.poison = poison.iter().map(|n| name(*n)).collect();
        world.submit("j", &SEASON);
        for (what, pick) in tape {
            play(&mut world, what, usize::from(pick));
        }
        world.feed(Input::Decide("j".into(), Decision::Resume));
        world.settle(&WORKERS);

        let refused = RECORDINGS.iter().filter(|key| world.poison.contains(**key)).count();
        let lost = world.poison.iter().filter(|name| {
            name.split_once('@').is_some_and(|(key, _)| !world.poison.contains(key))
        }).count();
        let status = world.status("j");
        prop_assert_eq!(status.state, JobState::Finished);
        prop_assert_eq!(status.matches_done, 3);
        prop_assert_eq!(status.frames as usize, (5 - refused) * (SHARDS * FRAMES) as usize);
        prop_assert_eq!(status.shards_done, status.shards);
        prop_assert_eq!(status.quarantined as usize, refused + lost);
        prop_assert_eq!(status.frames_done, status.frames - lost as u64 * u64::from(GOP));
        prop_assert!(world.ledger.work.is_empty());
    }

    /// Two jobs over the same recordings, of which one is cancelled at any moment: the other ends as if it were alone.
    #[test]
    fn a_cancelled_job_takes_nothing_from_another(
        tape in proptest::collection::vec((0_u8..14, any::<u16>()), 0..200),
        when in 0_usize..200,
    ) {
        let mut world = World::with_workers(&WORKERS);
        let most = 10_000;
        world.ledger.policy =
            Policy { transient: most, vanished: most, out_of_memory: most, trouble: most, ..policy() };
        world.submit("i", &SEASON[..2]);
        world.submit("j", &SEASON[1..]);
        for (n, (what, pick)) in tape.into_iter().enumerate() {
            if n == when {
                world.feed(Input::Decide("i".into(), Decision::Cancel));
            }
            play(&mut world, what, usize::from(pick));
        }
        world.feed(Input::Decide("i".into(), Decision::Cancel));
        world.settle(&WORKERS);
        let status = world.status("j");
        prop_assert_eq!((status.state, status.shards_done, status.frames_done), (JobState::Finished, 9, 225));
    }
}
