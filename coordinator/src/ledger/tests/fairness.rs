//! Whose work is taken up first.

use std::collections::BTreeMap;

use fulltime_common::wire::{Band, Task, TaskKind};

use super::{
    super::{Admitted, Policy},
    world::{FRAMES, World, admitted, policy},
};

/// One match of four recordings, with names of their own: twelve shards.
fn one_match(name: &'static str, band: Band, tenant: Option<&str>) -> Admitted {
    let mut admitted = admitted(&[(name, &["1", "2", "3", "4"])]);
    for placement in admitted.matches.iter_mut().flat_map(|planned| &mut planned.recordings) {
        placement.recording.key.insert_str(0, name);
    }
    Admitted { band, tenant: tenant.map(str::to_owned), ..admitted }
}

fn is_map(task: &Task) -> bool {
    matches!(task.kind, TaskKind::Map { .. })
}

/// How often each job's shards were among the first so many that were released.
fn first(world: &World, most: usize) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    let maps = world.released.iter().filter(|task| is_map(task));
    maps.take(most).for_each(|task| *counts.entry(task.job.as_str()).or_default() += 1);
    counts
}

fn planned(jobs: Vec<(&'static str, Admitted)>) -> World {
    // Few at a time, and a quantum of one shard, so that the order shows.
    let mut world = World::new(Policy { window: 2, quantum: u64::from(FRAMES), ..policy() });
    let ids: Vec<_> = jobs.iter().map(|(job, _)| *job).collect();
    jobs.into_iter().for_each(|(job, admitted)| world.submit_as(job, admitted));
    // Everything is indexed and waits for a worker's engine class.
    world.until(|w| w.pending.is_empty() && w.events.is_empty() && w.queue.is_empty());
    assert!(ids.iter().all(|id| world.ledger.jobs[*id].wants_engine()));
    world.feed(super::super::Input::Hello(super::world::hello("w1", 1, "cpu")));
    world.settle(&["w1"]);
    world
}

#[test]
fn jobs_of_one_band_share_the_lanes() {
    let world =
        planned(vec![("one", one_match("a1", Band::Normal, None)), ("two", one_match("b1", Band::Normal, None))]);
    // The one that is planned first has a start of what fits into the window.
    let shards = first(&world, 16);
    assert!(shards["one"].abs_diff(shards["two"]) <= 4, "{shards:?}");
}

#[test]
fn tenants_share_before_jobs_do() {
    let world = planned(vec![
        ("a", one_match("a1", Band::Normal, Some("big"))),
        ("b", one_match("b1", Band::Normal, Some("big"))),
        ("c", one_match("c1", Band::Normal, Some("small"))),
    ]);
    let shards = first(&world, 20);
    assert!((8..=12).contains(&shards["c"]), "half for the tenant with one job: {shards:?}");
    assert!(shards["a"].abs_diff(shards["b"]) <= 4, "{shards:?}");
}

#[test]
fn the_highest_band_goes_first() {
    let world = planned(vec![
        ("low", one_match("a1", Band::Low, None)),
        ("high", one_match("b1", Band::High, None)),
        ("normal", one_match("c1", Band::Normal, None)),
    ]);
    let shards = first(&world, 14);
    assert!(shards["high"] >= 10, "{shards:?}");
    assert_eq!(world.released.iter().filter(|task| task.job == "low").position(is_map), Some(4), "it runs in the end");
}
