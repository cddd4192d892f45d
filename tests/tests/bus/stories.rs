//! The conformance suite: what every bus promises.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use fulltime_common::{
    Digest,
    plan::EngineClass,
    wire::{Band, Control, Hello, Pool, Reply, Request, TaskKind},
};
use futures::StreamExt as _;

use crate::ground::{LEASE, MOMENT, SOON, class, event, on_every_bus, task};

#[test]
fn a_task_goes_to_one_lane_and_is_gone_when_finished() {
    on_every_bus(|world| async move {
        let bus = world.bus().await;
        let pools = [class("onnx-cpu-1.32.0-avx2"), Pool::Any];
        bus.release(&[task("j", "index", None)]).await.unwrap();
        bus.release(&[task("j", "shard", Some("onnx-cpu-1.32.0-avx2"))]).await.unwrap();
        bus.release(&[task("j", "other", Some("tensorrt"))]).await.unwrap();
        // The same release twice is one task.
        bus.release(&[task("j", "shard", Some("onnx-cpu-1.32.0-avx2"))]).await.unwrap();
        let first = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        assert!(matches!(first.task.kind, TaskKind::Map { .. }), "the own class goes first");
        let second = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        assert!(matches!(second.task.kind, TaskKind::Index { .. }));
        assert!(bus.pull_one(&pools, MOMENT).await.unwrap().is_none(), "other classes are not ours");
        first.finish().await.unwrap();
        second.finish().await.unwrap();
        assert!(bus.pull_one(&pools, LEASE * 2).await.unwrap().is_none(), "finished tasks do not come again");
        let foreign = bus.pull_one(&[class("tensorrt")], SOON).await.unwrap().unwrap();
        foreign.finish().await.unwrap();
    });
}

#[test]
fn a_thousand_tasks_released_twice_and_finished_together_are_each_done_once() {
    on_every_bus(|world| async move {
        let (bus, pools) = (world.bus().await, [class("x")]);
        let tasks: Vec<_> = (0..1000).map(|n| task("j", &format!("{n}"), Some("x"))).collect();
        bus.release(&tasks[..600]).await.unwrap();
        bus.release(&tasks[300..]).await.unwrap();
        let mut seen = BTreeSet::new();
        while seen.len() < tasks.len() {
            let pulled = bus.pull(&pools, tasks.len(), SOON).await.unwrap();
            assert!(!pulled.is_empty(), "{} of {} came", seen.len(), tasks.len());
            assert!(pulled.iter().all(|delivery| seen.insert(delivery.task.digest)), "one came twice");
            let finished = pulled.into_iter().map(|delivery| delivery.finish());
            futures::future::try_join_all(finished).await.unwrap();
        }
        assert!(bus.pull_one(&pools, LEASE * 2).await.unwrap().is_none(), "finished tasks do not come again");
    });
}

#[test]
fn a_lease_that_runs_out_goes_to_another_lane_and_progress_keeps_it() {
    on_every_bus(|world| async move {
        let bus = world.bus().await;
        let pools = [Pool::Any];
        bus.release(&[task("j", "a", None)]).await.unwrap();
        let held = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        for _ in 0..4 {
            assert!(bus.pull_one(&pools, LEASE / 2).await.unwrap().is_none(), "progress keeps the lease");
            held.progress().await.unwrap();
        }
        drop(held);
        let again = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        assert_eq!(again.delivered, 2);
        again.finish().await.unwrap();
    });
}

#[test]
fn a_task_that_is_given_back_comes_again_after_its_delay() {
    on_every_bus(|world| async move {
        let bus = world.bus().await;
        let pools = [Pool::Any];
        bus.release(&[task("j", "a", None)]).await.unwrap();
        let held = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        held.give_back(Duration::ZERO).await.unwrap();
        let held = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        held.give_back(Duration::from_millis(400)).await.unwrap();
        assert!(bus.pull_one(&pools, Duration::from_millis(100)).await.unwrap().is_none());
        let held = bus.pull_one(&pools, SOON).await.unwrap().unwrap();
        assert_eq!(held.delivered, 3);
        held.finish().await.unwrap();
    });
}

#[test]
fn a_withdrawn_job_leaves_the_others_alone() {
    on_every_bus(|world| async move {
        let bus = world.bus().await;
        bus.release(&[task("gone.1", "a", None)]).await.unwrap();
        bus.release(&[task("stays", "b", None)]).await.unwrap();
        bus.withdraw("gone.1").await.unwrap();
        bus.withdraw("never there").await.unwrap();
        let left = bus.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap();
        assert_eq!(left.task.job, "stays");
        left.finish().await.unwrap();
        assert!(bus.pull_one(&[Pool::Any], MOMENT).await.unwrap().is_none());
    });
}

#[test]
fn tasks_that_are_many_go_to_lanes_that_are_many_once_each() {
    on_every_bus(|world| async move {
        let (coordinator, one, other) = (world.bus().await, world.bus().await, world.bus().await);
        let pools = [class("x"), Pool::Any];
        let tasks: Vec<_> = (0..500).map(|i| task("j", &i.to_string(), (i % 3 > 0).then_some("x"))).collect();
        // Some lanes wait before there is anything, some come when all is there.
        let finished = AtomicUsize::new(0);
        let lanes = (0..40).map(|lane| {
            let bus = if lane % 2 == 0 { &one } else { &other };
            let (pools, finished, all) = (&pools, &finished, tasks.len());
            async move {
                let mut done = Vec::new();
                loop {
                    let pulled = bus.pull(pools, 1 + lane % 4, LEASE / 2).await.unwrap();
                    assert!(pulled.len() <= 1 + lane % 4);
                    if pulled.is_empty() && finished.load(Ordering::Relaxed) >= all {
                        return done;
                    }
                    for delivery in pulled {
                        assert_eq!(delivery.delivered, 1);
                        done.push(delivery.task.digest);
                        delivery.finish().await.unwrap();
                        finished.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        let (released, done) = futures::join!(coordinator.release(&tasks), futures::future::join_all(lanes));
        released.unwrap();
        let done: Vec<_> = done.into_iter().flatten().collect();
        assert_eq!(done.len(), tasks.len(), "none twice");
        assert_eq!(done.into_iter().collect::<BTreeSet<_>>(), tasks.iter().map(|t| t.digest).collect());
    });
}

#[test]
fn urgent_bands_go_first_and_within_a_band_the_first_pool() {
    on_every_bus(|world| async move {
        let bus = world.bus().await;
        let mut tasks = Vec::new();
        for (name, band) in [("low", Band::Low), ("normal", Band::Normal), ("high", Band::High)] {
            for engine in [None, Some("x")] {
                let mut task = task("j", &format!("{name}-{engine:?}"), engine);
                task.band = band;
                tasks.push(task);
            }
        }
        bus.release(&tasks).await.unwrap();
        let pulled = bus.pull(&[class("x"), Pool::Any], 5, SOON).await.unwrap();
        assert_eq!(pulled.len(), 5, "as many as there are, in one go");
        let mut order: Vec<_> = pulled.iter().map(|d| (d.task.band, d.task.pool() == Pool::Any)).collect();
        let last = bus.pull_one(&[class("x"), Pool::Any], SOON).await.unwrap().unwrap();
        order.push((last.task.band, last.task.pool() == Pool::Any));
        let wanted: Vec<_> = Band::ALL.into_iter().flat_map(|band| [(band, false), (band, true)]).collect();
        assert_eq!(order, wanted);
        for delivery in pulled.into_iter().chain([last]) {
            delivery.finish().await.unwrap();
        }
    });
}

#[test]
fn a_lane_that_waits_is_woken_by_a_release_in_any_band() {
    on_every_bus(|world| async move {
        let (coordinator, bus) = (world.bus().await, world.bus().await);
        for (n, band) in [Band::Low, Band::High, Band::Normal].into_iter().enumerate() {
            let mut released = task("j", &n.to_string(), Some("x"));
            released.band = band;
            let release = async {
                assert!(bus.pull_one(&[class("x")], Duration::ZERO).await.unwrap().is_none());
                coordinator.release(std::slice::from_ref(&released)).await.unwrap();
            };
            let pools = [class("x"), Pool::Any];
            let (pulled, ()) = futures::join!(bus.pull_one(&pools, SOON), release);
            let delivery = pulled.unwrap().unwrap();
            assert_eq!(delivery.task, released);
            delivery.finish().await.unwrap();
        }
    });
}

#[test]
fn a_wait_that_is_given_up_keeps_nothing_from_the_others() {
    on_every_bus(|world| async move {
        let (bus, other) = (world.bus().await, world.bus().await);
        for n in 0..20 {
            let tasks: Vec<_> = (0..3).map(|i| task("j", &format!("{n}-{i}"), None)).collect();
            // Given up while the tasks arrive: at every point of their way, as it comes.
            let given_up = tokio::time::timeout(Duration::from_micros(150 * n), bus.pull(&[Pool::Any], 3, SOON));
            let (pulled, released) = futures::join!(given_up, other.release(&tasks));
            released.unwrap();
            let mut got = pulled.map_or(Vec::new(), Result::unwrap);
            // Well before a lease can have run out.
            let soon = tokio::time::Instant::now() + LEASE / 2;
            while got.len() < 3 {
                let left = soon.saturating_duration_since(tokio::time::Instant::now());
                let more = other.pull(&[Pool::Any], 3 - got.len(), left).await.unwrap();
                assert!(!more.is_empty(), "a task lies under a lease that nobody has");
                got.extend(more);
            }
            for delivery in got {
                delivery.finish().await.unwrap();
            }
        }
    });
}

#[test]
fn a_release_that_was_finished_or_withdrawn_does_not_come_again_but_the_next_one_does() {
    on_every_bus(|world| async move {
        let bus = world.bus().await;
        let (finished, mut withdrawn) = (task("j", "finished", None), task("gone", "withdrawn", None));
        bus.release(&[finished.clone(), withdrawn.clone()]).await.unwrap();
        bus.withdraw("gone").await.unwrap();
        bus.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap().finish().await.unwrap();
        // Ids outlive what they named.
        bus.release(&[finished, withdrawn.clone()]).await.unwrap();
        assert!(bus.pull_one(&[Pool::Any], MOMENT).await.unwrap().is_none());
        withdrawn.release += 1;
        bus.release(std::slice::from_ref(&withdrawn)).await.unwrap();
        let again = bus.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap();
        assert_eq!(again.task, withdrawn);
        again.finish().await.unwrap();
    });
}

#[test]
fn discarded_work_is_gone_in_every_band_and_release() {
    on_every_bus(|world| async move {
        let bus = world.bus().await;
        let mut kept = [task("j.1", "kept", Some("x")), task("other", "decided", Some("x"))];
        kept[1].store = "file:///elsewhere".into();
        let mut dead = vec![task("j.1", "decided", Some("x")), task("j.1", "index", None)];
        dead.push(dead[0].clone());
        dead[2].release = 2;
        dead[2].band = Band::High;
        bus.release(&dead).await.unwrap();
        bus.release(&kept).await.unwrap();
        bus.discard("j.1", &[dead[0].digest, dead[1].digest, Digest::of_bytes(b"never released")]).await.unwrap();
        let left = bus.pull(&[class("x"), Pool::Any], 9, SOON).await.unwrap();
        let found: BTreeSet<_> = left.iter().map(|d| (d.task.job.clone(), d.task.digest)).collect();
        assert_eq!(found, kept.iter().map(|task| (task.job.clone(), task.digest)).collect());
        for delivery in left {
            delivery.finish().await.unwrap();
        }
    });
}

#[test]
fn a_ticket_holds_the_lease_from_another_connection() {
    on_every_bus(|world| async move {
        let (lane, supervisor) = (world.bus().await, world.bus().await);
        lane.release(&[task("j", "a", None)]).await.unwrap();
        let lost = lane.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap();
        let adopted = supervisor.adopt(&lost.ticket());
        assert_eq!(adopted.ticket(), lost.ticket());
        drop((lost, lane));
        for _ in 0..4 {
            assert!(supervisor.pull_one(&[Pool::Any], LEASE / 2).await.unwrap().is_none(), "the ticket renews");
            adopted.renew().await.unwrap();
        }
        adopted.give_back(Duration::ZERO).await.unwrap();
        let again = supervisor.pull_one(&[Pool::Any], LEASE / 2).await.unwrap().expect("at once, not after its lease");
        supervisor.adopt(&again.ticket()).finish().await.unwrap();
        assert!(supervisor.pull_one(&[Pool::Any], LEASE * 2).await.unwrap().is_none(), "finished by its ticket");
        assert!(supervisor.advisories().await.unwrap() >= 1, "the broker noted what was handed back");
    });
}

#[test]
fn a_late_finish_of_the_first_lane_ends_the_task_of_the_second() {
    on_every_bus(|world| async move {
        let bus = world.bus().await;
        bus.release(&[task("j", "a", None)]).await.unwrap();
        let first = bus.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap();
        let second = bus.pull_one(&[Pool::Any], SOON).await.unwrap().unwrap();
        assert_eq!((first.delivered, second.delivered), (1, 2));
        first.finish().await.unwrap();
        assert!(bus.pull_one(&[Pool::Any], LEASE * 2).await.unwrap().is_none(), "done is done");
        second.finish().await.unwrap();
    });
}

#[test]
fn of_two_who_claim_the_lead_one_gets_it() {
    on_every_bus(|world| async move {
        let (one, other) = (world.bus().await, world.bus().await);
        assert_eq!(one.leader().await.unwrap(), None);
        let (a, b) = futures::join!(one.claim(None, b"one"), other.claim(None, b"other"));
        let (first, winner) = match (a.unwrap(), b.unwrap()) {
            (Some(revision), None) => (revision, &b"one"[..]),
            (None, Some(revision)) => (revision, &b"other"[..]),
            both => panic!("one wins, not {both:?}"),
        };
        let register = other.leader().await.unwrap().unwrap();
        assert_eq!((register.revision, &register.value[..]), (first, winner));
        // Renewed by who knows the revision, and by nobody who knows an old one.
        let second = one.claim(Some(first), b"again").await.unwrap().unwrap();
        assert!(second > first);
        assert_eq!(other.claim(Some(first), b"too late").await.unwrap(), None);
        assert_eq!(other.claim(None, b"too late").await.unwrap(), None);
        assert_eq!(one.leader().await.unwrap().unwrap().value, b"again");
    });
}

#[test]
fn events_broadcasts_and_questions_arrive() {
    on_every_bus(|world| async move {
        let bus = world.bus().await;
        let mut events = bus.events().await.unwrap();
        let mut hellos = bus.hellos().await.unwrap();
        let mut controls = bus.controls().await.unwrap();
        let mut requests = bus.requests().await.unwrap();
        let event = event(&task("j", "a", None));
        let hello = Hello {
            worker: "w".into(),
            host: "h".into(),
            pid: 1,
            engine: EngineClass("e".into()),
            lanes: vec![],
            waiting: vec![("j".into(), Digest::of_bytes(b"w"))],
            draining: false,
            places: vec![],
            sample: None,
        };
        let control = Control::Stop { epoch: 1, work: vec![(Digest::of_bytes(b"w"), 1)] };
        bus.emit(&event).await.unwrap();
        bus.hello(&hello).await.unwrap();
        bus.control(&control).await.unwrap();
        assert_eq!(events.next().await.unwrap(), event);
        assert_eq!(hellos.next().await.unwrap(), hello);
        assert_eq!(controls.next().await.unwrap(), control);
        let question = Request::Submit { job: "j".into() };
        let answered = async {
            let asked = requests.next().await.unwrap();
            assert_eq!(asked.request, question);
            (asked.answer)(Reply::Accepted).await.unwrap();
        };
        let (reply, ()) = futures::join!(bus.request(&question), answered);
        assert_eq!(reply.unwrap(), Reply::Accepted);
    });
}
