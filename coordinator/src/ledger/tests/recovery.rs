//! Lost messages, lost events, lost leaders, and shards that take too long.

use std::time::Duration;

use fulltime_common::{
    Disposition,
    digest::Digest,
    wire::{EventKind, Hello, JobState, LaneState, Outcome, Task, TaskKind},
};

use super::{
    super::{Action, Admitted, Input},
    SEASON,
    world::{World, failed, hello, name_of},
};

fn busy(task: Option<&Task>) -> Hello {
    let other = Digest::of_bytes(b"something else");
    let lane = LaneState {
        task: Some(task.map_or(other, |task| task.digest)),
        job: Some(task.map_or_else(|| "x".into(), |task| task.job.clone())),
        ..LaneState::default()
    };
    Hello { lanes: vec![lane], ..hello("w1", 1, "cpu") }
}

#[test]
fn a_task_of_which_nobody_speaks_is_looked_for_and_released_in_place_of_the_lost_one() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| !w.queue.is_empty());
    let lost = world.queue.remove(0);
    world.now += Duration::from_secs(29);
    world.feed(Input::Tick { minute: None });
    assert!(world.pending.is_empty());
    // Every lane is busy with something else.
    world.now += Duration::from_secs(1);
    world.feed(Input::Hello(busy(None)));
    world.feed(Input::Tick { minute: None });
    assert!(matches!(world.pending[..], [Action::Check { .. }]));
    world.answer(0);
    assert_eq!(
        world.discarded.last().map(|task| task.message_id()),
        Some(lost.message_id()),
        "should it still be there"
    );
    assert_eq!(world.queue[0].digest, lost.digest);
    assert!(world.queue[0].release > lost.release);
}

#[test]
fn a_task_whose_turn_has_not_come_is_not_taken_for_lost() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON);
    let shards = |w: &World| w.queue.iter().filter(|task| matches!(task.kind, TaskKind::Map { .. })).count();
    world.until(|w| shards(w) > 2);
    let queued: Vec<Task> =
        world.queue.iter().filter(|task| matches!(task.kind, TaskKind::Map { .. })).cloned().collect();
    let asked = |world: &World, task: &Task| {
        world.pending.iter().any(|action| matches!(action, Action::Check { work, .. } if work.digest == task.digest))
    };
    // One slow lane works its way through: what comes last waits for longer than a lost task may be silent.
    let (last, before) = queued.split_last().unwrap();
    for task in before {
        world.take(task);
        world.tell(task, "w1", EventKind::Started);
        for _ in 0..5 {
            world.now += Duration::from_secs(4);
            world.feed(Input::Hello(busy(Some(task))));
            world.feed(Input::Tick { minute: None });
        }
        assert!(!asked(&world, last), "{:?}", world.now);
        world.commit(task);
        let outcome = Outcome { frames: 1, ..Outcome::default() };
        world.tell(task, "w1", EventKind::Committed(outcome));
    }
    assert!(world.now > Duration::from_secs(30));
    // Once nothing moves any more it is looked for.
    world.now += Duration::from_secs(31);
    world.feed(Input::Hello(busy(None)));
    world.feed(Input::Tick { minute: None });
    assert!(asked(&world, last));
}

#[test]
fn a_task_that_a_lane_reports_is_not_looked_for() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| !w.queue.is_empty());
    let task = world.queue.remove(0);
    for _ in 0..20 {
        world.now += Duration::from_secs(4);
        world.feed(Input::Hello(busy(Some(&task))));
        world.feed(Input::Tick { minute: None });
    }
    assert!(world.pending.is_empty());
}

#[test]
fn a_task_that_waits_for_a_lane_of_its_worker_is_not_taken_for_lost() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| w.queue.iter().any(|task| matches!(task.kind, TaskKind::Map { .. })));
    let task = world.queue[0].clone();
    world.take(&task);
    world.tell(&task, "w1", EventKind::Started);
    let asked = |world: &World| {
        world.pending.iter().any(|action| matches!(action, Action::Check { work, .. } if work.digest == task.digest))
    };
    let waits = || Hello { waiting: vec![(task.job.clone(), task.digest)], ..hello("w1", 1, "cpu") };
    for _ in 0..20 {
        world.now += Duration::from_secs(4);
        world.feed(Input::Hello(waits()));
        world.feed(Input::Tick { minute: None });
    }
    assert!(!asked(&world));
    for _ in 0..20 {
        world.now += Duration::from_secs(4);
        world.feed(Input::Hello(hello("w1", 1, "cpu")));
        world.feed(Input::Tick { minute: None });
    }
    assert!(asked(&world));
}

#[test]
fn a_wiped_broker_loses_nothing() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON);
    world.until(|w| w.queue.iter().any(|task| matches!(task.kind, TaskKind::Map { .. })));
    world.queue.clear();
    world.events.clear();
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
}

#[test]
fn the_next_leader_does_not_release_what_still_runs() {
    let mut world = World::with_workers(&["w1"]);
    world.submit("j", &SEASON[1..2]);
    world.until(|w| w.queue.iter().any(|task| matches!(task.kind, TaskKind::Map { .. })));
    let running = world.queue[0].clone();
    world.change_leader(&["j"]);
    world.until(|w| {
        w.pending.iter().any(|action| matches!(action, Action::Check { work, .. } if work.digest == running.digest))
    });
    world.tell(&running, "w1", EventKind::Started);
    assert!(world.queue.iter().all(|task| task.digest != running.digest));
    world.commit(&running);
    world.tell(&running, "w1", EventKind::Committed(Outcome::default()));
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
}

#[test]
fn a_new_leader_asks_for_the_figures_of_all_that_was_done_without_waiting_in_between() {
    let mut world = World::with_workers(&["w1"]);
    let names: Vec<String> = (0..100).map(|n| format!("m{n}")).collect();
    let season: Vec<(&str, [&str; 1])> = names.iter().map(|name| (name.as_str(), [name.as_str()])).collect();
    let season: Vec<(&str, &[&str])> = season.iter().map(|(name, keys)| (*name, &keys[..])).collect();
    world.submit("j", &season);
    world.settle(&["w1"]);
    assert_eq!(world.status("j").state, JobState::Finished);
    world.change_leader(&[]);
    let before = world.jobs["j"].clone();
    let finished = before.matches.iter().map(|planned| planned.id.clone()).collect();
    world.submit_as("j", Admitted { finished, ..before });
    // As many answers as it takes, but time passes only once.
    world.feed(Input::Tick { minute: None });
    world.answer_all();
    assert_eq!(world.status("j").state, JobState::Finished);
}

/// Two workers; one match of which all shards but the last one are done, in a second each, and the last one runs on `w1`.
fn tail() -> (World, Task) {
    let mut world = World::with_workers(&["w1", "w2"]);
    world.submit("j", &[("m", &["m1", "m2"])]);
    let mut done = 0;
    loop {
        world.answer_all();
        let Some(task) = world.queue.first().cloned() else { panic!("nothing is left") };
        world.take(&task);
        world.tell(&task, "w1", EventKind::Started);
        if matches!(task.kind, TaskKind::Map { .. }) {
            if done == 5 {
                return (world, task);
            }
            done += 1;
        }
        world.commit(&task);
        world.tell(&task, "w1", EventKind::Committed(Outcome { elapsed_seconds: 1.0, ..Outcome::default() }));
    }
}

fn later(world: &mut World, time: Duration, straggler: &Task) {
    world.now += time;
    world.feed(Input::Hello(busy(Some(straggler))));
    world.feed(Input::Hello(hello("w2", 1, "cpu")));
    world.feed(Input::Tick { minute: None });
}

#[test]
fn a_straggler_at_the_tail_is_run_elsewhere_too_and_the_first_commit_stops_the_other() {
    let (mut world, straggler) = tail();
    later(&mut world, Duration::from_millis(1400), &straggler);
    assert!(world.queue.is_empty(), "not yet half as long again as the others");
    later(&mut world, Duration::from_millis(200), &straggler);
    let [rival] = &world.queue[..] else { panic!("one release") };
    let rival = rival.clone();
    assert_eq!((rival.digest, rival.avoid.as_deref()), (straggler.digest, Some("w1")));
    world.take(&rival);
    later(&mut world, Duration::from_secs(10), &straggler);
    assert!(world.queue.is_empty(), "one more release and no other");
    world.tell(&rival, "w2", EventKind::Started);
    assert!(world.attempts.is_empty(), "nobody vanished");
    world.commit(&rival);
    world.tell(&rival, "w2", EventKind::Committed(Outcome::default()));
    assert_eq!(world.stopped, [(straggler.digest, straggler.release)]);
    world.tell(&straggler, "w1", failed(Disposition::Cancelled, "stopped"));
    world.settle(&["w1", "w2"]);
    assert_eq!((world.status("j").state, world.status("j").shards_done), (JobState::Finished, 6));
}

#[test]
fn what_waits_for_a_busy_lane_at_the_tail_is_taken_over_by_an_idle_one() {
    let (mut world, waits) = tail();
    let here = || Hello { waiting: vec![(waits.job.clone(), waits.digest)], ..busy(None) };
    world.now += Duration::from_millis(300);
    world.feed(Input::Hello(here()));
    world.feed(Input::Hello(Hello { worker: "w2".into(), ..busy(None) }));
    world.feed(Input::Tick { minute: None });
    assert!(world.queue.is_empty(), "no lane stands idle");
    world.feed(Input::Hello(hello("w2", 1, "cpu")));
    world.feed(Input::Tick { minute: None });
    let moved = world.queue.first().cloned().expect("another release");
    assert_eq!((moved.digest, moved.avoid.as_deref()), (waits.digest, Some("w1")));
    assert_eq!(world.stopped, [(waits.digest, waits.release)], "nobody shall begin with it where it was");
    world.tell(&waits, "w1", failed(Disposition::Cancelled, "stopped"));
    world.feed(Input::Tick { minute: None });
    assert_eq!(world.queue.len(), 1, "once");
    world.settle(&["w1", "w2"]);
    assert_eq!(world.status("j").state, JobState::Finished);
    assert!(world.attempts.is_empty(), "nobody vanished");
}

#[test]
fn a_rival_that_straggles_too_is_raced_once_and_then_no_more() {
    let (mut world, straggler) = tail();
    for (runs, before) in [("w2", "w1"), ("w3", "w2")] {
        world.feed(Input::Hello(hello("w3", 1, "cpu")));
        later(&mut world, Duration::from_secs(2), &straggler);
        let rival = world.queue.first().cloned().expect("a rival");
        assert_eq!((rival.digest, rival.avoid.as_deref()), (straggler.digest, Some(before)));
        world.take(&rival);
        world.tell(&rival, runs, EventKind::Started);
    }
    world.feed(Input::Hello(hello("w3", 1, "cpu")));
    later(&mut world, Duration::from_secs(2), &straggler);
    assert!(world.queue.is_empty(), "enough is enough");
    world.commit(&straggler);
    world.tell(&straggler, "w1", EventKind::Committed(Outcome::default()));
    assert_eq!(world.stopped.len(), 1, "both rivals at once");
    world.settle(&["w1", "w2", "w3"]);
    assert_eq!(world.status("j").state, JobState::Finished);
}

#[test]
fn a_straggler_that_ends_first_takes_its_rival_off_the_bus() {
    let (mut world, straggler) = tail();
    later(&mut world, Duration::from_secs(3), &straggler);
    assert_eq!(world.queue.len(), 1);
    world.commit(&straggler);
    world.tell(&straggler, "w1", EventKind::Committed(Outcome::default()));
    let stray = |task: &Task| task.digest == straggler.digest;
    assert!(world.discarded.iter().any(stray) && !world.queue.iter().any(stray), "{:?}", name_of(&straggler));
    assert!(world.stopped.is_empty());
}
