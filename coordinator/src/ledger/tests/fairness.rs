//! Whose work is taken up first.

use std::collections::BTreeMap;

use fulltime_common::wire::{Band, TaskKind};

use super::{
    super::{Admitted, Policy},
    world::{World, admitted, policy},
};

/// One match of one recording under a name of its own.
fn one_match(name: &'static str, band: Band, tenant: Option<&str>) -> Admitted {
    let names: &'static [&'static str] = Box::leak(Box::new([name]));
    Admitted { band, tenant: tenant.map(str::to_owned), ..admitted(&[(name, names)]) }
}

/// How often each job's shards were among the first so many that were released.
fn first(world: &World, most: usize) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    let maps = world.released.iter().filter(|task| matches!(task.kind, TaskKind::Map { .. }));
    maps.take(most).for_each(|task| *counts.entry(task.job.as_str()).or_default() += 1);
    counts
}

fn planned(jobs: Vec<(&'static str, Admitted)>) -> World {
    let mut world = World::with_workers(&[]);
    world.ledger.policy = Policy { window: 2, ..policy() };
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
    assert_eq!(first(&world, 4), BTreeMap::from([("one", 2), ("two", 2)]));
}

#[test]
fn tenants_share_before_jobs_do() {
    let world = planned(vec![
        ("a", one_match("a1", Band::Normal, Some("big"))),
        ("b", one_match("b1", Band::Normal, Some("big"))),
        ("c", one_match("c1", Band::Normal, Some("small"))),
    ]);
    assert_eq!(first(&world, 4).get("c"), Some(&2), "half of the lanes for the tenant with one job");
}

#[test]
fn the_highest_band_goes_first() {
    let world = planned(vec![
        ("low", one_match("a1", Band::Low, None)),
        ("high", one_match("b1", Band::High, None)),
        ("normal", one_match("c1", Band::Normal, None)),
    ]);
    assert_eq!(first(&world, 3), BTreeMap::from([("high", 3)]));
}
