//! What the faulty bus does to its callers, and what still holds under faults that any bus may have.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fulltime_common::{
    queue::{Bus, Fault, FaultyBus, MemoryBus, Operation},
    wire::Pool,
};
use futures::StreamExt as _;

use crate::ground::{LEASE, MOMENT, SOON, event, runtime, task};

fn faulty(faults: impl IntoIterator<Item = (Operation, u64, Fault)>) -> FaultyBus {
    FaultyBus::scripted(Arc::new(MemoryBus::with_lease(LEASE)), faults)
}

#[test]
fn the_second_release_fails_and_the_third_is_lost() {
    runtime().block_on(async {
        let bus = faulty([(Operation::Release, 2, Fault::Refuse), (Operation::Release, 3, Fault::Swallow)]);
        let tasks = ["a", "b", "c"].map(|name| task("j", name, None));
        bus.release(&tasks[..1]).await.unwrap();
        bus.release(&tasks[1..2]).await.unwrap_err();
        bus.release(&tasks[2..]).await.unwrap();
        let pulled = bus.pull(&[Pool::Any], 3, SOON).await.unwrap();
        assert_eq!(pulled.iter().map(|d| d.task.digest).collect::<Vec<_>>(), [tasks[0].digest]);
        assert_eq!(bus.calls(Operation::Release), 3);
    });
}

#[test]
fn a_finish_that_is_lost_brings_the_task_again() {
    runtime().block_on(async {
        let bus = faulty([(Operation::Finish, 1, Fault::Swallow), (Operation::Finish, 2, Fault::LoseAnswer)]);
        bus.release(&[task("j", "a", None)]).await.unwrap();
        bus.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap().finish().await.unwrap();
        let again = bus.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap();
        assert_eq!(again.delivered, 2);
        again.finish().await.unwrap_err();
        assert!(bus.pull_one(&[Pool::Any], LEASE * 2).await.unwrap().is_none(), "it was heard all the same");
    });
}

#[test]
fn a_delivery_is_duplicated_delayed_or_lost_on_its_way() {
    runtime().block_on(async {
        let bus = faulty([
            (Operation::Pull, 1, Fault::Repeat),
            (Operation::Pull, 2, Fault::Swallow),
            (Operation::Pull, 3, Fault::Delay(LEASE / 4)),
            (Operation::Pull, 4, Fault::Refuse),
        ]);
        bus.release(&[task("j", "a", None)]).await.unwrap();
        let twins = bus.pull(&[Pool::Any], 1, SOON).await.unwrap();
        assert_eq!(twins.len(), 2);
        assert_eq!(twins[0].ticket(), twins[1].ticket());
        for twin in twins {
            twin.finish().await.unwrap();
        }
        bus.release(&[task("j", "b", None)]).await.unwrap();
        assert!(bus.pull_one(&[Pool::Any], SOON).await.unwrap().is_none(), "under a lease that nobody has");
        let late = bus.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap();
        assert_eq!(late.delivered, 2);
        late.give_back(Duration::ZERO).await.unwrap();
        bus.pull_one(&[Pool::Any], SOON).await.unwrap_err();
        assert_eq!(bus.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap().delivered, 4);
    });
}

#[test]
fn events_are_lost_and_doubled_where_the_script_says_so() {
    runtime().block_on(async {
        let bus = faulty([
            (Operation::Emit, 1, Fault::Swallow),
            (Operation::Hear, 1, Fault::Swallow),
            (Operation::Hear, 2, Fault::Repeat),
        ]);
        let mut events = bus.events().await.unwrap();
        let said = ["unsaid", "unheard", "twice", "once"].map(|name| event(&task("j", name, None)));
        for event in &said {
            bus.emit(event).await.unwrap();
        }
        for heard in [&said[2], &said[2], &said[3]] {
            assert_eq!(&events.next().await.unwrap(), heard);
        }
    });
}

/// Whatever goes wrong on the way: who releases until it is acknowledged and again what is not done, and pulls until
/// nothing comes, has everything done, and a task that is finished in truth does not come again.
#[test]
fn under_any_seed_everything_is_done_and_then_nothing_comes_any_more() {
    runtime().block_on(async {
        let (mut faults, mut twice) = (0, 0);
        for seed in 0..12 {
            let truth = MemoryBus::with_lease(MOMENT);
            let bus = FaultyBus::seeded(Arc::new(truth.clone()), seed, 4);
            let mut todo: BTreeMap<_, _> =
                (0..30).map(|i| task("j", &i.to_string(), None)).map(|task| (task.digest, task)).collect();
            let mut runs = BTreeMap::new();
            while !todo.is_empty() {
                for task in todo.values_mut() {
                    while bus.release(std::slice::from_ref(task)).await.is_err() {
                        faults += 1;
                    }
                    task.release += 1;
                }
                loop {
                    // Longer than a lease: what was lost on its way comes again.
                    match bus.pull(&[Pool::Any], 4, MOMENT * 3).await {
                        Ok(pulled) if pulled.is_empty() => break,
                        Ok(pulled) => {
                            for delivery in pulled {
                                *runs.entry(delivery.task.digest).or_insert(0) += 1;
                                todo.remove(&delivery.task.digest);
                                faults += i32::from(delivery.finish().await.is_err());
                            }
                        }
                        Err(_) => faults += 1,
                    }
                }
            }
            assert_eq!(runs.len(), 30, "seed {seed}");
            twice += runs.values().filter(|runs| **runs > 1).count();
            // A swallowed pull may have hidden the last ones: the truth is what the inner bus still has.
            while let Some(left) = truth.pull_one(&[Pool::Any], MOMENT * 3).await.unwrap() {
                assert!(runs.contains_key(&left.task.digest), "seed {seed}");
                left.finish().await.unwrap();
            }
            assert!(truth.pull_one(&[Pool::Any], MOMENT * 3).await.unwrap().is_none());
        }
        assert!(faults > 50 && twice > 50, "the seeds did something: {faults} failures, {twice} ran twice");
    });
}

#[test]
fn the_same_seed_does_the_same() {
    runtime().block_on(async {
        let fates = |seed| async move {
            let bus = FaultyBus::seeded(Arc::new(MemoryBus::default()), seed, 3);
            let mut fates = Vec::new();
            for i in 0..60 {
                fates.push(bus.release(&[task("j", &i.to_string(), None)]).await.is_ok());
            }
            let kept = bus.pull(&[Pool::Any], 100, Duration::ZERO).await.unwrap_or_default();
            (fates, kept.iter().map(|d| d.task.digest).collect::<BTreeSet<_>>())
        };
        assert_eq!(fates(7).await, fates(7).await);
        assert_ne!(fates(7).await.0, fates(8).await.0);
    });
}
