//! Stories and properties of the ledger.

use fulltime_common::{
    Disposition, Exit,
    digest::Digest,
    plan::{EngineClass, Gap},
    wire::Evidence,
    wire::{LaneState, Outcome},
};
use proptest::prelude::*;

use super::*;

mod world;

use world::{FRAMES, SHARDS, World, commit_of, failed, hello, name_of, plan, policy};

const SEASON: [(&str, &[&str]); 3] = [("a", &["a1", "a2"]), ("b", &["b1"]), ("c", &["c1", "c2"])];

#[test]
fn a_job_runs_from_match_list_to_manifest() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON);
    assert_eq!(world.status("j").state, JobState::Planning);
    world.settle(&["w1"]);
    let status = world.status("j");
    assert_eq!((status.state, status.matches_done, status.shards_done), (JobState::Finished, 3, 15));
    assert_eq!((status.frames_done, status.detections, status.quarantined), (375, 21, 0));
    assert_eq!(world.released.len(), 5 + 15 + 3, "everything ran once");
    assert!(world.finished[0].iter().all(|outcome| outcome.quarantined.is_empty()));
}

#[test]
fn what_is_there_already_is_not_run_again() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("first", &SEASON);
    world.settle(&["w1"]);
    let before = world.released.len();
    world.submit("second", &SEASON);
    world.settle(&["w1"]);
    let jobs: Vec<_> = world.released[before..].iter().map(|task| task.job.as_str()).collect();
    assert_eq!(jobs, ["second"; 3], "only the views of three matches are published");
    assert_eq!(world.status("second").frames_done, 375);
}

#[test]
fn two_jobs_share_one_run_and_cancelling_one_leaves_it_to_the_other() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("one", &SEASON[1..2]);
    world.until(|w| w.queue.iter().any(|task| matches!(task.kind, TaskKind::Map { .. })));
    world.submit("two", &SEASON[1..2]);
    // Job two has planned the same shards and waits for job one's.
    world.until(|w| w.ledger.work.values().any(|entry| entry.subscribers.len() == 2));
    let shared: Vec<_> = world.released.iter().map(|task| task.digest).collect();
    world.feed(Input::Decide("one".into(), Decision::Cancel));
    assert_eq!(world.withdrawn, ["one"]);
    let adopted = world.queue.iter().find(|task| shared.contains(&task.digest)).unwrap();
    assert_eq!((adopted.job.as_str(), adopted.release), ("two", 2));
    world.settle(&["w1"]);
    assert_eq!(world.status("one").state, JobState::Cancelled);
    assert_eq!(world.status("one").failure.unwrap().exit, Exit::Cancelled as u8);
    assert_eq!(world.status("two").state, JobState::Finished);
}

#[test]
fn jobs_with_stores_of_their_own_share_nothing() {
    let mut world = World::with_workers(&["w1"]);
    world.submit_to("one", "file:///s1", &SEASON[1..2]);
    world.submit_to("two", "file:///s2", &SEASON[1..2]);
    world.until(|w| w.queue.len() == 2);
    assert_eq!(world.queue[0].digest, world.queue[1].digest);
    assert_ne!(world.queue[0].message_id(), world.queue[1].message_id());
    assert_eq!((world.queue[0].store.as_str(), world.queue[1].store.as_str()), ("file:///s1", "file:///s2"));
    world.settle(&["w1"]);
    assert_eq!(world.released.len(), 2 * (1 + 3 + 1));
    assert_eq!(world.status("two").state, JobState::Finished);
}

#[test]
fn a_recording_that_cannot_be_indexed_is_refused_and_its_match_goes_on() {
    let mut world = World::with_workers(&["w1", "w2"]);
    world.poison = ["a2".to_owned(), "b1".to_owned()].into();
    world.submit("j", &SEASON);
    world.settle(&["w1", "w2"]);
    let status = world.status("j");
    assert_eq!((status.state, status.quarantined, status.matches_done), (JobState::Finished, 2, 3));
    assert!(status.problems.contains(&"`a2`: it is corrupt".to_owned()), "{:?}", status.problems);
    let lost: Vec<_> = world.finished[0].iter().map(|outcome| outcome.quarantined.len()).collect();
    assert_eq!(lost, [0, 1, 0], "match b has no recording left and gets no tables");
    let half = &world.frozen[&("j".to_owned(), 0)].recordings[1];
    assert_eq!(half.gaps, [Gap { frames: 0..0, reason: "it is corrupt".into() }]);
}

#[test]
fn poison_needs_two_workers_where_there_are_two() {
    let mut world = World::with_workers(&["w1", "w2"]);
    world.poison = ["b1@25".to_owned()].into();
    world.submit("j", &SEASON[1..2]);
    world.until(|w| w.queue.iter().any(|task| name_of(task) == "b1@25"));
    for release in 1..=3 {
        let at = world.queue.iter().position(|task| name_of(task) == "b1@25").unwrap();
        assert_eq!(world.queue[at].release, release);
        let worker = if release == 3 { "w2" } else { "w1" };
        world.work(at, worker);
        let kept = std::mem::take(&mut world.events);
        let (own, others): (Vec<_>, Vec<_>) = kept.into_iter().partition(|event| event.release == release);
        world.events = own;
        while !world.events.is_empty() {
            world.deliver(0);
        }
        world.events = others;
    }
    assert_eq!(world.status("j").quarantined, 1);
    world.settle(&["w1", "w2"]);
    let status = world.status("j");
    assert_eq!((status.state, status.frames_done, status.shards_done), (JobState::Finished, 50, 3));
    assert_eq!(status.problems, ["`b1`, frames 25 to 49: it is corrupt"]);
}

#[test]
fn trouble_with_the_store_pauses_the_job_and_quarantines_nothing() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| !w.queue.is_empty());
    let task = world.queue[0].clone();
    for _ in 0..8 {
        assert!(!world.status("j").state.is_over());
        world.say(&task, "w1", failed(Disposition::Transient, "disk full"));
        world.deliver(0);
    }
    let status = world.status("j");
    assert_eq!((status.state, status.quarantined), (JobState::Paused, 0));
    let failure = status.failure.unwrap();
    assert_eq!((failure.exit, failure.cause.as_str()), (Exit::Store as u8, "disk full"));
    assert_eq!(world.withdrawn, ["j"]);
    // Submitted again, it starts with fresh budgets.
    world.pending.clear();
    world.now += Duration::from_secs(1);
    world.feed(Input::Forget("j".into()));
    world.submit("j", &SEASON[1..2]);
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
}

#[test]
fn the_last_unfit_worker_pauses_the_job_within_seconds() {
    let mut world = World::with_workers(&["w1", "w2"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| !w.queue.is_empty());
    let task = world.queue[0].clone();
    let unfit = EventKind::Failed {
        disposition: Disposition::WorkerUnfit,
        cause: "model has another sha256".into(),
        exit: Exit::Model as u8,
        hint: None,
        evidence: Evidence::default(),
    };
    world.say(&task, "w1", unfit.clone());
    world.deliver(0);
    world.pass(Duration::from_secs(4), &["w1", "w2"]);
    assert_eq!(world.status("j").state, JobState::Planning, "another worker is left");
    world.say(&task, "w2", unfit);
    world.deliver(0);
    world.pass(Duration::from_secs(1), &["w1", "w2"]);
    world.pass(Duration::from_secs(3), &["w1", "w2"]);
    let status = world.status("j");
    assert_eq!((status.state, status.failure.unwrap().exit), (JobState::Paused, Exit::Model as u8));
}

#[test]
fn an_unfit_worker_that_restarts_gets_another_chance() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| !w.queue.is_empty());
    let task = world.queue[0].clone();
    world.say(&task, "w1", failed(Disposition::WorkerUnfit, "GPU fell off the bus"));
    world.deliver(0);
    world.feed(Input::Hello(hello("w1", 2, "cpu")));
    world.pass(Duration::from_secs(4), &[]);
    assert!(!world.status("j").state.is_over());
}

#[test]
fn a_plan_waits_for_a_worker_and_pins_its_class() {
    let mut world = World::with_workers(&[]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| w.pending.is_empty() && w.events.is_empty() && w.queue.is_empty());
    assert_eq!(world.status("j").problems, ["waiting for workers"]);
    world.feed(Input::Hello(hello("w1", 1, "cuda")));
    world.until(|w| w.queue.iter().any(|task| matches!(task.kind, TaskKind::Map { .. })));
    assert_eq!(world.queue[0].pool(), Pool::Class(EngineClass("cuda".into())));
    // The only worker of that class goes; another one cannot take its shards.
    world.pass(Duration::from_secs(6), &["other"]);
    assert_eq!(world.status("j").problems, ["waiting for a worker of engine class `cuda`"]);
    for _ in 0..8 {
        world.pass(Duration::from_secs(4), &["other"]);
    }
    assert_eq!(world.status("j").failure.unwrap().exit, Exit::Runtime as u8);
}

#[test]
fn a_lost_task_is_released_again_once_a_lane_stands_idle() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| !w.queue.is_empty());
    let lost = world.queue.remove(0);
    let busy = LaneState { task: Some(Digest::of_bytes(b"something else")), ..LaneState::default() };
    for _ in 0..10 {
        world.now += Duration::from_secs(4);
        world.feed(Input::Hello(Hello { lanes: vec![busy.clone()], ..hello("w1", 1, "cpu") }));
        world.feed(Input::Tick { minute: None });
    }
    assert!(world.pending.is_empty(), "while every lane works, a task may simply be waiting its turn");
    world.pass(Duration::from_secs(1), &["w1"]);
    assert!(matches!(world.pending[..], [Action::Check { .. }]));
    world.answer(0);
    assert_eq!(world.queue[0].digest, lost.digest);
    assert!(world.queue[0].release > lost.release);
}

#[test]
fn a_result_whose_event_was_lost_is_found() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| !w.queue.is_empty());
    world.work(0, "w1");
    world.events.clear();
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
    let once: BTreeSet<_> = world.released.iter().map(|task| task.digest).collect();
    assert_eq!(once.len(), world.released.len(), "nothing was released twice");
}

#[test]
fn workers_that_keep_vanishing_pause_the_job() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| !w.queue.is_empty());
    let task = world.queue[0].clone();
    for _ in 0..9 {
        world.say(&task, "w1", EventKind::Started);
        world.deliver(0);
    }
    let failure = world.status("j").failure.unwrap();
    assert!(failure.cause.starts_with("8 workers vanished"), "{}", failure.cause);
}

#[test]
fn late_and_repeated_events_change_nothing() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| w.queue.iter().any(|task| matches!(task.kind, TaskKind::Map { .. })));
    let task = world.queue.remove(0);
    world.committed.insert(commit_of(&task));
    for kind in [
        EventKind::Committed(Outcome::default()),
        EventKind::Committed(Outcome::default()),
        failed(Disposition::PoisonInput, "late"),
        EventKind::Started,
    ] {
        world.say(&task, "w1", kind);
        world.deliver(0);
    }
    assert_eq!(world.status("j").shards_done, 1);
    world.settle(&["w1"]);
    let status = world.status("j");
    assert_eq!((status.shards_done, status.frames_done, status.quarantined), (3, 75, 0));
}

#[test]
fn a_cancelled_job_takes_nothing_up_and_hears_nothing() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON);
    world.until(|w| w.queue.len() >= 2);
    world.work(0, "w1");
    world.feed(Input::Decide("j".into(), Decision::Cancel));
    let (released, pending) = (world.released.len(), world.pending.len());
    while !world.events.is_empty() {
        world.deliver(0);
    }
    for _ in 0..pending {
        world.answer(0);
    }
    world.pass(Duration::from_secs(60), &["w1"]);
    assert_eq!((world.released.len(), world.pending.len(), world.ledger.work.len()), (released, 0, 0));
    assert_eq!(world.status("j").state, JobState::Cancelled);
}

#[test]
fn an_earlier_plan_and_frozen_inputs_are_taken_as_they_are() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.settle(&["w1"]);
    let inputs = world.frozen[&("j".to_owned(), 0)].clone();
    let order = PlanOrder {
        id: inputs.id.clone(),
        revision: 0,
        engine: EngineClass("cpu".into()),
        pipeline: inputs.pipeline,
        map: inputs.pipeline,
        recordings: inputs.recordings.iter().map(|r| (r.placement.clone(), r.index, None)).collect(),
    };
    // Another coordinator starts with the objects alone.
    let mut later = World::with_workers(&["w1"]);
    later.committed = world.committed.clone();
    later.frozen = world.frozen.clone();
    later.submit("j", &SEASON[1..2]);
    later.pending.clear();
    let (plan, inputs) = (Some(Box::new(plan(order))), Some(Box::new(inputs)));
    later.feed(Input::Opened { job: "j".into(), at: 0, plan, inputs });
    later.settle(&["w1"]);
    assert!(later.released.is_empty());
    let status = later.status("j");
    assert_eq!((status.state, status.shards_done, status.frames_done), (JobState::Finished, 3, 75));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever order things happen in, whatever is lost, repeated, given back or slow: every shard is decided exactly
    /// once, no reduce goes early, and the figures add up.
    #[test]
    fn any_order_of_events_ends_with_every_shard_decided_once(
        tape in proptest::collection::vec((0_u8..12, any::<u16>()), 0..400),
        poison in proptest::collection::btree_set(0_usize..20, 0..5),
    ) {
        let recordings = ["a1", "a2", "b1", "c1", "c2"];
        let workers = ["w1", "w2"];
        let mut world = World::with_workers(&workers);
        world.ledger.policy = Policy { transient: 10_000, vanished: 10_000, trouble: u32::MAX, ..policy() };
        world.poison = poison.iter().map(|n| match (recordings[n % 5], n / 5) {
            (key, 0) => key.to_owned(),
            (key, shard) => format!("{key}@{}", (shard as u32 - 1) * FRAMES),
        }).collect();
        world.submit("j", &SEASON);
        for (what, pick) in tape {
            let pick = usize::from(pick);
            let worker = workers[pick % 2];
            match what {
                0..=3 if !world.pending.is_empty() => world.answer(pick % world.pending.len()),
                4..=5 if !world.queue.is_empty() => world.work(pick % world.queue.len(), worker),
                6..=7 if !world.events.is_empty() => world.deliver(pick % world.events.len()),
                8 if !world.events.is_empty() => {
                    let again = world.events[pick % world.events.len()].clone();
                    world.events.push(again);
                }
                9 if !world.queue.is_empty() => {
                    let task = world.queue[pick % world.queue.len()].clone();
                    let disposition = if pick % 3 == 0 { Disposition::PreEmpted } else { Disposition::Transient };
                    world.say(&task, worker, failed(disposition, "trouble"));
                }
                // The queue loses a task, or an event never arrives.
                10 if pick % 2 == 0 && !world.queue.is_empty() => {
                    let at = pick % world.queue.len();
                    world.queue.remove(at);
                }
                10 if !world.events.is_empty() => {
                    let at = pick % world.events.len();
                    world.events.remove(at);
                }
                11 => world.pass(Duration::from_secs(pick as u64 % 40), &workers),
                _ => {}
            }
        }
        world.settle(&workers);

        let refused = recordings.iter().filter(|key| world.poison.contains(**key)).count();
        let lost_shards = world.poison.iter().filter(|name| {
            name.split_once('@').is_some_and(|(key, _)| !world.poison.contains(key))
        }).count();
        let status = world.status("j");
        prop_assert_eq!(status.state, JobState::Finished);
        prop_assert_eq!(status.matches_done, 3);
        prop_assert_eq!(status.shards as usize, (5 - refused) * SHARDS as usize);
        prop_assert_eq!(status.shards_done, status.shards);
        prop_assert_eq!(status.quarantined as usize, refused + lost_shards);
        prop_assert_eq!(status.frames_done, status.frames - lost_shards as u64 * u64::from(FRAMES));
        prop_assert_eq!(world.finished.len(), 1);
        prop_assert!(world.ledger.work.is_empty());
    }
}
