//! How a job goes from its match list to its manifest, and what stands in its way.

use std::{collections::BTreeSet, time::Duration};

use fulltime_common::{
    Disposition, Exit,
    plan::{EngineClass, Gap},
    wire::{EventKind, Evidence, JobState, Outcome, Pool, TaskKind},
};

use super::{
    super::{Admitted, Input},
    SEASON,
    world::{World, admitted, commit_of, failed, hello},
};

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
fn an_earlier_plan_and_frozen_inputs_are_taken_as_they_are() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.settle(&["w1"]);
    // Another coordinator starts with the objects alone.
    world.change_leader(&["j"]);
    let before = world.released.len();
    world.settle(&["w1"]);
    assert_eq!(world.released.len(), before);
    let status = world.status("j");
    assert_eq!((status.state, status.shards_done, status.frames_done), (JobState::Finished, 3, 75));
}

#[test]
fn matches_that_were_finished_before_are_not_opened_again() {
    let mut world = World::with_workers(&["w1"]);
    let finished = admitted(&SEASON[..2]).matches.into_iter().map(|planned| planned.id).collect();
    world.submit_as("j", Admitted { finished, ..admitted(&SEASON) });
    world.until(|w| !w.queue.is_empty());
    let opened: Vec<_> = world.opened.iter().map(|id| id.name.as_str()).collect();
    assert_eq!((opened, world.status("j").matches_done), (vec!["c"], 2));
}

#[test]
fn a_result_of_the_whole_match_is_published_without_asking_for_its_shards() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("first", &SEASON[1..2]);
    world.settle(&["w1"]);
    let before = (world.released.len(), world.checks);
    world.submit("second", &SEASON[1..2]);
    world.settle(&["w1"]);
    let kinds: Vec<_> =
        world.released[before.0..].iter().map(|task| matches!(task.kind, TaskKind::Reduce { .. })).collect();
    assert_eq!(kinds, [true]);
    assert_eq!(world.checks - before.1, 2, "its index, and its own view of the result");
    assert_eq!(world.status("second").frames_done, 75);
}
