//! What it takes to give an input up, and what infrastructure can and cannot do to it.

use std::time::Duration;

use fulltime_common::{
    Disposition, Exit,
    plan::Gap,
    wire::{EventKind, Evidence, JobState, Task, TaskKind, Witness},
};

use super::{
    super::{Decision, Input, JobId},
    SEASON,
    world::{World, failed, failed_so, hello, name_of},
};

fn first_shard(world: &mut World) -> Task {
    world.until(|w| w.queue.iter().any(|task| matches!(task.kind, TaskKind::Map { .. })));
    world.answer_all();
    world.queue.iter().find(|task| matches!(task.kind, TaskKind::Map { .. })).unwrap().clone()
}

fn latest(world: &World, name: &str) -> Task {
    world.queue.iter().rev().find(|task| name_of(task) == name).unwrap().clone()
}

fn crash(alone: bool) -> EventKind {
    let evidence = Evidence { witness: Witness::Signal(11), alone };
    failed_so(Disposition::PoisonInput, "the lane was ended by signal 11", evidence)
}

#[test]
fn poison_is_reproduced_alone_on_a_second_worker() {
    let mut world = World::with_workers(&["w1", "w2"]);
    world.submit("j", &SEASON[1..2]);
    let task = first_shard(&mut world);
    assert_eq!((task.alone, task.avoid.as_deref()), (false, None));
    let name = name_of(&task);
    world.take(&task);
    world.tell(&task, "w1", crash(false));
    let again = latest(&world, &name);
    assert_eq!((again.alone, again.avoid.as_deref()), (true, Some("w1")));
    assert!(again.release > task.release);
    world.take(&again);
    // The same worker alone proves nothing while there is another.
    world.tell(&again, "w1", crash(true));
    assert_eq!(world.splits.len(), 0);
    let again = latest(&world, &name);
    world.take(&again);
    world.tell(&again, "w2", crash(true));
    assert_eq!(world.splits.len(), 1, "now it is cut, to find what of it is bad");
    assert_eq!(world.status("j").quarantined, 0);
    let numbers: Vec<_> = world.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn a_single_worker_proves_poison_alone() {
    let mut world = World::with_workers(&["w1"]);
    world.poison = ["b1".to_owned()].into();
    world.submit("j", &SEASON[1..2]);
    world.settle(&["w1"]);
    let runs: Vec<_> = world.released.iter().map(|task| (task.alone, task.avoid.is_some())).collect();
    assert_eq!(runs, [(false, false), (true, false)]);
    assert_eq!(world.status("j").quarantined, 1);
}

#[test]
fn a_failure_does_not_count_before_it_is_durable() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    let task = first_shard(&mut world);
    world.take(&task);
    world.say(&task, "w1", crash(true));
    world.deliver(0);
    assert!(world.splits.is_empty() && world.pending.len() == 1);
    world.pass(Duration::from_secs(60), &["w1"]);
    assert!(world.queue.iter().all(|t| t.digest != task.digest), "nothing is released meanwhile");
    world.answer_all();
    assert_eq!(world.splits.len(), 1);
}

#[test]
fn an_event_that_comes_twice_is_one_piece_of_evidence() {
    let mut world = World::with_workers(&["w1", "w2"]);
    world.submit("j", &SEASON[1..2]);
    let task = first_shard(&mut world);
    world.take(&task);
    for _ in 0..3 {
        world.tell(&task, "w1", crash(true));
    }
    assert_eq!(world.attempts.len(), 1);
}

#[test]
fn only_the_bad_intervals_become_gaps_however_it_is_cut() {
    let mut world = World::with_workers(&["w1", "w2"]);
    world.poison = ["b1@30", "b1@35", "b1@70"].map(str::to_owned).into();
    world.submit("j", &SEASON[1..2]);
    world.settle(&["w1", "w2"]);
    let half = &world.frozen[&("j".to_owned(), 0)].recordings[0];
    let gap = |frames| Gap { frames, reason: "it is corrupt".into() };
    assert_eq!(half.gaps, [gap(30..35), gap(35..40), gap(70..75)]);
    let status = world.status("j");
    assert_eq!((status.state, status.frames_done, status.quarantined), (JobState::Finished, 60, 3));
    assert_eq!(status.shards, status.shards_done);
}

#[test]
fn the_next_leader_goes_on_with_evidence_and_splits() {
    let mut world = World::with_workers(&["w1", "w2"]);
    world.poison = ["b1@30".to_owned()].into();
    world.submit("j", &SEASON[1..2]);
    let task = first_shard(&mut world);
    let name = "b1@25";
    assert_eq!(name_of(&task), "b1@0");
    let task = latest(&world, name);
    world.take(&task);
    world.tell(&task, "w1", crash(false));
    let again = latest(&world, name);
    world.take(&again);
    world.tell(&again, "w2", crash(true));
    assert_eq!((world.attempts.len(), world.splits.len()), (2, 1));
    // Between the proof and the cut.
    let splits = std::mem::take(&mut world.splits);
    world.change_leader(&["j"]);
    let released = world.released.len();
    world.settle(&["w1", "w2"]);
    assert!(splits.keys().all(|digest| world.splits.contains_key(digest)));
    assert!(world.released[released..].iter().all(|t| t.digest != task.digest), "what is proven is not run again");
    // And after the cut.
    world.committed.retain(|key| !key.contains("summar"));
    world.frozen.clear();
    world.change_leader(&["j"]);
    let released = world.released.len();
    world.settle(&["w1", "w2"]);
    let run: Vec<_> = world.released[released..].iter().map(name_of).collect();
    assert!(run.iter().all(|name| name != "b1@25"), "{run:?}");
    assert_eq!(world.status("j").quarantined, 1);
}

#[test]
fn an_exhausted_budget_holds_the_match_and_others_go_on() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON);
    let task = first_shard(&mut world);
    for _ in 0..8 {
        assert!(!world.status("j").state.is_over());
        world.tell(&task, "w1", failed(Disposition::Transient, "disk full"));
    }
    assert!(world.discarded.iter().any(|t| t.digest == task.digest), "nothing of the match stays queued");
    world.settle(&["w1"]);
    let status = world.status("j");
    assert_eq!((status.state, status.quarantined, status.matches_done), (JobState::Paused, 0, 2));
    let failure = status.failure.unwrap();
    assert_eq!((failure.exit, failure.cause.as_str()), (Exit::Store as u8, "disk full"));
    assert!(world.finished.is_empty());
    // The next leader knows it, too.
    world.change_leader(&["j"]);
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Paused);
    // Resumed, it starts with fresh budgets.
    world.feed(Input::Decide("j".into(), Decision::Resume));
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
}

#[test]
fn a_store_that_stays_away_pauses_the_whole_job() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON);
    world.until(|w| w.queue.len() >= 3);
    for n in 0..9 {
        world.now += Duration::from_secs(5);
        let task = world.queue[n % world.queue.len().max(1)].clone();
        world.tell(&task, "w1", failed(Disposition::Transient, "the store is away"));
        if world.status("j").state == JobState::Paused {
            break;
        }
    }
    assert_eq!((world.status("j").state, world.withdrawn.as_slice()), (JobState::Paused, ["j".to_owned()].as_slice()));
}

#[test]
fn a_job_that_cannot_work_anywhere_pauses_at_once_and_blames_no_worker() {
    let mut world = World::with_workers(&["w1", "w2"]);
    world.submit("j", &SEASON[1..2]);
    let task = first_shard(&mut world);
    world.tell(&task, "w1", failed(Disposition::JobUnfit, "the model has another sha256"));
    assert_eq!(world.status("j").state, JobState::Paused);
    let id: JobId = "other".into();
    world.submit(&id, &SEASON[2..]);
    world.settle(&["w1", "w2"]);
    assert_eq!(world.status("other").state, JobState::Finished, "both workers still work");
}

#[test]
fn workers_that_keep_vanishing_hold_the_match() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    let task = first_shard(&mut world);
    for _ in 0..9 {
        world.tell(&task, "w1", EventKind::Started);
    }
    let status = world.status("j");
    assert_eq!((status.state, status.quarantined), (JobState::Paused, 0));
    assert!(status.failure.unwrap().cause.starts_with("8 workers vanished"));
    assert!(world.attempts.iter().all(|attempt| attempt.disposition == Disposition::PreEmpted));
}

#[test]
fn pre_emption_costs_nothing() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    let task = first_shard(&mut world);
    for _ in 0..50 {
        world.tell(&task, "w1", EventKind::Started);
        world.tell(&task, "w1", failed(Disposition::PreEmpted, "told to go"));
    }
    assert!(world.attempts.is_empty());
    // Its supervisor settled the delivery: then it has to be released again.
    world.take(&task);
    world.tell(&task, "w1", EventKind::Started);
    let settled = Evidence { witness: Witness::Signal(15), alone: false };
    world.tell(&task, "w1", failed_so(Disposition::PreEmpted, "told to go", settled));
    assert!(world.queue.iter().any(|t| t.digest == task.digest && t.release > task.release));
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
}

#[test]
fn a_changed_recording_has_its_match_planned_anew() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    let task = first_shard(&mut world);
    let others: Vec<_> = world.queue.iter().filter(|t| t.digest != task.digest).map(|t| t.digest).collect();
    assert!(!others.is_empty());
    world.take(&task);
    world.plans.clear();
    world.tell(&task, "w1", failed(Disposition::InputChanged, "another ETag"));
    assert!(world.queue.iter().all(|t| !others.contains(&t.digest)), "shards of the old recording are gone");
    world.settle(&["w1"]);
    let status = world.status("j");
    assert_eq!((status.state, status.shards, status.shards_done, status.frames), (JobState::Finished, 3, 3, 75));
    assert_eq!(world.frozen[&("j".to_owned(), 0)].recordings[0].placement.recording.etag, "e1");
}

#[test]
fn a_recording_that_keeps_changing_holds_its_match() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    for _ in 0..4 {
        let task = first_shard(&mut world);
        world.take(&task);
        world.plans.clear();
        world.tell(&task, "w1", failed(Disposition::InputChanged, "another ETag"));
    }
    let status = world.status("j");
    assert_eq!((status.state, status.quarantined), (JobState::Paused, 0));
    assert!(status.failure.unwrap().cause.contains("changed 4 times"));
    world.feed(Input::Decide("j".into(), Decision::Resume));
    world.feed(Input::Hello(hello("w1", 1, "cpu")));
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
}
