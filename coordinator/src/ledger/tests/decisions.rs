//! What people decide, and what that means for work that others want, too.

use std::{collections::BTreeMap, time::Duration};

use fulltime_common::{
    Disposition, Exit,
    wire::{Band, EventKind, JobFailure, JobState, Outcome, Task, TaskKind},
};

use super::{
    super::{Action, Admitted, Booking, Decision, Input, Limits, Policy},
    SEASON,
    world::{World, admitted, failed, hello, policy},
};

fn decide(world: &mut World, job: &str, decision: Decision) {
    world.feed(Input::Decide(job.into(), decision));
}

fn is_map(task: &Task) -> bool {
    matches!(task.kind, TaskKind::Map { .. })
}

/// Job two has planned the same shards as job one, whose tasks are queued.
fn two_jobs(world: &mut World) {
    world.submit("one", &SEASON[1..2]);
    world.until(|w| w.queue.iter().filter(|task| is_map(task)).count() == 3);
    world.submit("two", &SEASON[1..2]);
    world.answer_all();
    assert_eq!(world.ledger.work.values().filter(|entry| entry.subscribers.len() == 2).count(), 3);
}

#[test]
fn two_jobs_share_one_run_and_cancelling_one_leaves_it_to_the_other() {
    let mut world = World::with_workers(&["w1"]);
    two_jobs(&mut world);
    let running = world.queue[0].clone();
    world.take(&running);
    world.tell(&running, "w1", EventKind::Started);
    decide(&mut world, "one", Decision::Cancel);
    assert_eq!((world.withdrawn.as_slice(), world.stopped.len()), (["one".to_owned()].as_slice(), 0));
    let adopted: Vec<_> = world.queue.iter().map(|task| (task.job.as_str(), task.release)).collect();
    assert_eq!(adopted, [("two", 2), ("two", 2)], "what runs is not released a second time");
    world.commit(&running);
    world.tell(&running, "w1", EventKind::Committed(Outcome::default()));
    assert_eq!(world.status("two").shards_done, 1);
    world.settle(&["w1"]);
    assert_eq!(world.status("one").state, JobState::Cancelled);
    assert_eq!(world.status("one").failure.unwrap().exit, Exit::Cancelled as u8);
    assert_eq!(world.status("two").state, JobState::Finished);
}

#[test]
fn work_that_only_the_cancelled_job_wants_is_stopped() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| w.queue.iter().any(is_map));
    let running = world.queue.iter().find(|task| is_map(task)).unwrap().clone();
    world.tell(&running, "w1", EventKind::Started);
    decide(&mut world, "j", Decision::Cancel);
    assert!(world.stopped.contains(&(running.digest, running.release)));
    assert!(world.queue.is_empty());
    world.commit(&running);
    world.tell(&running, "w1", EventKind::Committed(Outcome::default()));
    world.pass(Duration::from_secs(60), &["w1"]);
    assert_eq!((world.pending.len(), world.ledger.work.len(), world.queue.len()), (0, 0, 0));
    assert_eq!(world.status("j").state, JobState::Cancelled);
}

#[test]
fn a_cancelled_job_takes_nothing_up_and_hears_nothing() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON);
    world.until(|w| w.queue.len() >= 2);
    world.work(0, "w1");
    decide(&mut world, "j", Decision::Cancel);
    let released = world.released.len();
    while !world.events.is_empty() {
        world.deliver(0);
    }
    world.answer_all();
    world.pass(Duration::from_secs(60), &["w1"]);
    assert_eq!((world.released.len(), world.pending.len(), world.ledger.work.len()), (released, 0, 0));
    assert_eq!(world.status("j").state, JobState::Cancelled);
}

#[test]
fn a_paused_job_lets_what_runs_end_and_goes_on_when_resumed() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| w.queue.iter().filter(|task| is_map(task)).count() == 3);
    let running = world.queue[0].clone();
    world.take(&running);
    world.tell(&running, "w1", EventKind::Started);
    decide(&mut world, "j", Decision::Pause);
    assert_eq!((world.queue.len(), world.stopped.len()), (0, 0));
    assert_eq!(world.status("j").state, JobState::Paused);
    world.commit(&running);
    world.tell(&running, "w1", EventKind::Committed(Outcome::default()));
    assert_eq!(world.status("j").shards_done, 1, "it counts");
    world.pass(Duration::from_secs(600), &["w1"]);
    assert!(world.queue.is_empty() && world.pending.is_empty());
    decide(&mut world, "j", Decision::Resume);
    world.settle(&["w1"]);
    let status = world.status("j");
    assert_eq!((status.state, status.shards_done), (JobState::Finished, 3));
}

#[test]
fn what_fails_while_the_job_is_paused_waits_with_it() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| w.queue.iter().any(is_map));
    let running = world.queue.iter().find(|task| is_map(task)).unwrap().clone();
    world.tell(&running, "w1", EventKind::Started);
    decide(&mut world, "j", Decision::Pause);
    world.tell(&running, "w1", failed(Disposition::PoisonInput, "it is corrupt"));
    world.pass(Duration::from_secs(60), &["w1"]);
    assert!(world.queue.is_empty() && world.ledger.work.is_empty());
    decide(&mut world, "j", Decision::Resume);
    world.answer_all();
    let again = world.queue.iter().find(|task| task.digest == running.digest).unwrap();
    assert!(again.alone, "the evidence is kept");
}

#[test]
fn a_job_that_was_paused_stays_paused_under_the_next_leader() {
    let mut world = World::with_workers(&["w1"]);
    world.submit_as("j", Admitted { paused: true, ..admitted(&SEASON) });
    world.pass(Duration::from_secs(60), &["w1"]);
    assert!(world.pending.is_empty() && world.released.is_empty());
    assert_eq!(world.status("j").state, JobState::Paused);
    decide(&mut world, "j", Decision::Resume);
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
}

#[test]
fn a_step_that_failed_for_good_is_asked_for_again_when_the_job_resumes() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.pending.clear();
    let failure = super::super::job::cancelled();
    world.feed(Input::Stuck { job: "j".into(), failure });
    assert_eq!(world.status("j").state, JobState::Paused);
    decide(&mut world, "j", Decision::Resume);
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
}

#[test]
fn a_new_priority_moves_what_is_queued() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| w.queue.iter().filter(|task| is_map(task)).count() == 3);
    decide(&mut world, "j", Decision::Priority { band: Band::High });
    assert!(world.queue.len() == 3 && world.queue.iter().all(|task| task.band == Band::High));
    assert!(world.discarded.iter().all(|task| task.band == Band::Normal));
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
}

#[test]
fn shared_work_runs_at_the_band_of_its_most_urgent_job() {
    let mut world = World::with_workers(&["w1"]);
    world.submit_as("one", Admitted { band: Band::Low, ..admitted(&SEASON[1..2]) });
    world.until(|w| w.queue.iter().filter(|task| is_map(task)).count() == 3);
    world.submit_as("two", Admitted { band: Band::High, ..admitted(&SEASON[1..2]) });
    world.answer_all();
    assert!(world.queue.len() == 3 && world.queue.iter().all(|task| task.band == Band::High));
}

#[test]
fn a_retry_makes_the_next_generation() {
    let mut world = World::with_workers(&["w1"]);
    world.poison = ["b1@30".to_owned()].into();
    world.submit("j", &SEASON[1..2]);
    world.settle(&["w1"]);
    assert_eq!(world.status("j").quarantined, 1);
    world.poison.clear();
    decide(&mut world, "j", Decision::Retry);
    assert_eq!(world.status("j").state, JobState::Planning);
    let (attempts, splits) = (world.attempts.clone(), world.splits.clone());
    world.frozen.clear();
    world.submit_as("j", Admitted { generation: 2, round: 1, attempts, splits, ..admitted(&SEASON[1..2]) });
    let released = world.released.len();
    world.settle(&["w1"]);
    assert_eq!((world.status("j").state, world.status("j").quarantined), (JobState::Finished, 0));
    let run: Vec<_> = world.released[released..].iter().map(super::world::name_of).collect();
    assert_eq!(run, ["b1@30", "jobs/j/inputs/s~b-2.json"], "only what was given up runs again");
    assert_eq!(world.frozen[&("j".to_owned(), 0)].generation, 2);
}

#[test]
fn a_job_that_has_used_its_lane_hours_pauses() {
    let mut world = World::with_workers(&["w1"]);
    let limits = Limits { max_gpu_hours: Some(0.5), ..Limits::default() };
    world.submit_as("j", Admitted { limits, ..admitted(&SEASON[1..2]) });
    world.until(|w| w.queue.iter().filter(|task| is_map(task)).count() == 3);
    let task = world.queue[0].clone();
    world.take(&task);
    world.commit(&task);
    world.tell(&task, "w1", EventKind::Committed(Outcome { elapsed_seconds: 3600.0, ..Outcome::default() }));
    let status = world.status("j");
    assert_eq!((status.state, status.shards_done), (JobState::Paused, 1));
    assert!(status.failure.unwrap().cause.contains("worked for 0.5 hours"));
}

/// Runs the first queued shard, which takes so long.
fn run_one(world: &mut World, hours: f64) {
    let task = world.queue.iter().find(|task| is_map(task)).cloned().expect("a shard is queued");
    world.take(&task);
    world.commit(&task);
    let outcome = Outcome { elapsed_seconds: hours * 3600.0, ..Outcome::default() };
    world.tell(&task, "w1", EventKind::Committed(outcome));
}

fn hours(hours: f64) -> Duration {
    Duration::from_secs_f64(hours * 3600.0)
}

#[test]
fn the_next_leader_knows_what_a_job_has_used() {
    let limits = Limits { max_gpu_hours: Some(2.0), ..Limits::default() };
    let mut world = World::with_workers(&["w1"]);
    world.submit_as("j", Admitted { limits, ..admitted(&SEASON[1..2]) });
    world.until(|w| w.queue.iter().filter(|task| is_map(task)).count() == 3);
    run_one(&mut world, 1.5);
    assert!(world.booked.is_empty(), "not more often than need be");
    world.pass(policy().booking_least, &["w1"]);
    let expected = Booking { job: "j".into(), tenant: None, round: 0, time: hours(1.5) };
    assert_eq!(world.booked, [expected], "it matters to its limit");
    world.pass(policy().booking, &["w1"]);
    assert_eq!(world.booked.len(), 1, "nothing twice");

    let mut next = World::with_workers(&["w1"]);
    next.submit_as("j", Admitted { limits, spent: hours(1.5), ..admitted(&SEASON[1..2]) });
    next.until(|w| w.queue.iter().filter(|task| is_map(task)).count() == 3);
    run_one(&mut next, 0.6);
    assert_eq!(next.status("j").state, JobState::Paused);
    next.feed(Input::Tick { minute: None });
    assert_eq!((next.booked.len(), next.notified.as_slice()), (1, ["j".to_owned()].as_slice()));
    let mut third = World::with_workers(&["w1"]);
    third.submit_as("j", Admitted { limits, spent: hours(2.1), ..admitted(&SEASON[1..2]) });
    assert_eq!((third.status("j").state, third.queue.len()), (JobState::Paused, 0), "it does not begin again");
    third.feed(Input::Decide("j".into(), Decision::Resume));
    third.settle(&["w1"]);
    assert_eq!(third.status("j").state, JobState::Finished, "as much again is granted");
}

#[test]
fn a_tenant_that_has_used_up_its_quota_waits_for_the_next_month_and_others_go_on() {
    let quotas = [("blue".into(), hours(1.0))].into();
    let mut world = World::new(Policy { quotas, ..policy() });
    world.feed(Input::Hello(hello("w1", 1, "cpu")));
    world.feed(Input::Spent { tenants: [("blue".to_owned(), hours(0.4))].into(), fresh: false });
    let of = |tenant: &str| Some(tenant.to_owned());
    world.submit_as("a", Admitted { tenant: of("blue"), ..admitted(&SEASON[1..2]) });
    world.until(|w| w.queue.iter().filter(|task| is_map(task)).count() == 3);
    run_one(&mut world, 0.7);
    world.pass(policy().booking_least, &["w1"]);
    assert_eq!(world.booked.len(), 1);
    world.submit_as("b", Admitted { tenant: of("blue"), ..admitted(&SEASON[..1]) });
    world.submit_as("c", Admitted { tenant: of("red"), ..admitted(&SEASON[..1]) });
    world.feed(Input::Tick { minute: None });
    world.until(|w| w.status("c").state == JobState::Finished);
    assert_eq!(world.status("b").matches_done, 0);
    assert!(world.status("b").problems[0].contains("tenant `blue` has used up its quota"), "{:?}", world.status("b"));
    world.feed(Input::Spent { tenants: BTreeMap::new(), fresh: true });
    world.feed(Input::Tick { minute: None });
    world.settle(&["w1"]);
    assert_eq!((world.status("a").state, world.status("b").state), (JobState::Finished, JobState::Finished));
}

#[test]
fn a_leader_that_goes_books_everything() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| w.queue.iter().filter(|task| is_map(task)).count() == 3);
    run_one(&mut world, 0.1);
    let actions = world.ledger.close_books(world.now);
    assert!(matches!(&actions[..], [Action::Book(booking)] if booking.time == hours(0.1)), "{actions:?}");
    assert!(world.ledger.close_books(world.now).is_empty());
}

#[test]
fn a_job_that_wants_room_is_told_from_one_that_a_person_paused() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    let full = JobFailure { exit: Exit::Store as u8, cause: "disk full".into(), hint: None };
    world.feed(Input::Stuck { job: "j".into(), failure: full });
    world.feed(Input::Tick { minute: None });
    world.feed(Input::Tick { minute: None });
    assert_eq!((world.ledger.wanting_room(), world.notified.len()), (vec!["j".into()], 1), "told once");
    world.feed(Input::Decide("j".into(), Decision::Pause));
    assert!(world.ledger.wanting_room().is_empty(), "now it stays paused");
    world.feed(Input::Decide("j".into(), Decision::Resume));
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
}

#[test]
fn a_job_is_taken_up_only_in_its_run_window() {
    let mut world = World::with_workers(&["w1"]);
    let limits = Limits { window: Some((22 * 60, 6 * 60)), ..Limits::default() };
    world.feed(Input::Tick { minute: Some(12 * 60) });
    world.submit_as("j", Admitted { limits, ..admitted(&SEASON[1..2]) });
    assert!(world.pending.is_empty());
    assert_eq!(world.status("j").problems, ["waiting for its run window"]);
    world.feed(Input::Tick { minute: Some(23 * 60) });
    assert!(!world.pending.is_empty());
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
}
