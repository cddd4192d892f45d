//! Progress: what leases follow and what the watchdog waits for. A [`Pulse`] beats when a piece of work is finished (a
//! batch, a range read, a stage); nothing here renews anything from a timer alone.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fulltime_common::{error::chain, queue::Delivery};
use tokio::sync::watch;
use tracing::{error, warn};

/// Beats when a piece of work is finished. Clones are the same pulse; a child's beats count for its parent, too.
#[derive(Debug, Clone)]
pub struct Pulse {
    last: Arc<watch::Sender<Instant>>,
    parent: Option<Box<Pulse>>,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { last: Arc::new(watch::Sender::new(Instant::now())), parent: None }
    }
}

impl Pulse {
    pub fn child(&self) -> Self {
        Self { parent: Some(Box::new(self.clone())), ..Self::default() }
    }

    pub fn beat(&self) {
        self.last.send_replace(Instant::now());
        if let Some(parent) = &self.parent {
            parent.beat();
        }
    }
}

/// Does `work` and keeps the delivery's lease while `pulse` beats: renews at most every third of the lease, and only
/// after a beat.
pub async fn renewing<T>(delivery: &Delivery, pulse: &Pulse, lease: Duration, work: impl Future<Output = T>) -> T {
    let mut beats = pulse.last.subscribe();
    let renewals = async {
        loop {
            tokio::time::sleep(lease / 3).await;
            if beats.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            if let Err(error) = delivery.progress().await {
                warn!(error = chain(&error), digest = %delivery.task.digest.short(), "could not renew a lease");
            }
        }
    };
    tokio::select! {
        done = work => done,
        never = renewals => never,
    }
}

/// Ends the process when something that runs makes no progress: a blocked thread cannot be ended otherwise, and the
/// leases of everything it holds run out as soon as it is gone.
#[derive(Debug, Clone, Default)]
pub struct Watchdog {
    running: Arc<Mutex<Vec<Pulse>>>,
}

/// Something that runs: as long as this lives, its pulse must beat.
#[derive(Debug)]
pub struct Watched {
    watchdog: Watchdog,
    pulse: Pulse,
}

impl Watchdog {
    pub fn watch(&self, pulse: &Pulse) -> Watched {
        pulse.beat();
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push(pulse.clone());
        Watched { watchdog: self.clone(), pulse: pulse.clone() }
    }

    /// Longest time that something that runs has been without a beat.
    fn longest(&self) -> Duration {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().map(|pulse| pulse.last.borrow().elapsed()).max().unwrap_or_default()
    }

    /// Starts a thread of its own, so that a blocked runtime is seen as well. Ends when the worker is gone.
    pub fn start(&self, stall: Duration) {
        let (running, tick) = (Arc::downgrade(&self.running), (stall / 8).clamp(Duration::from_millis(10), stall));
        std::thread::spawn(move || {
            while let Some(running) = running.upgrade() {
                let longest = Self { running }.longest();
                if longest >= stall {
                    error!(seconds = longest.as_secs(), "no progress: this process ends, its work goes elsewhere");
                    std::process::exit(fulltime_common::Exit::Internal as i32);
                }
                std::thread::sleep(tick);
            }
        });
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut running = self.watchdog.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = running.iter().position(|pulse| Arc::ptr_eq(&pulse.last, &self.pulse.last)) {
            running.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use fulltime_common::{
        Digest,
        queue::{Bus as _, MemoryBus},
        wire::{Band, Pool, Task, TaskKind},
    };

    use super::*;

    #[tokio::test]
    async fn a_lease_is_kept_by_beats_and_by_nothing_else() {
        let lease = Duration::from_millis(150);
        let bus = MemoryBus::with_lease(lease);
        let kind = TaskKind::Reduce { inputs: "k".into(), generation: 1 };
        let (archive, store, out) = ("a".into(), "s".into(), "o".into());
        let task = Task {
            epoch: 1,
            job: "j".into(),
            digest: Digest::of_bytes(b"t"),
            release: 1,
            band: Band::Normal,
            avoid: None,
            alone: false,
            archive,
            store,
            out,
            kind,
        };
        bus.release(&[task]).await.unwrap();
        let pools = [Pool::Any];
        let delivery = bus.pull_one(&pools, Duration::ZERO).await.unwrap().unwrap();
        let pulse = Pulse::default();
        let beating = async {
            loop {
                pulse.beat();
                tokio::time::sleep(lease / 10).await;
            }
        };
        let another = tokio::select! {
            pulled = renewing(&delivery, &pulse, lease, bus.pull_one(&pools, lease * 4)) => pulled.unwrap(),
            () = beating => None,
        };
        assert!(another.is_none(), "kept for four leases");
        let another = renewing(&delivery, &pulse, lease, bus.pull_one(&pools, lease * 40)).await.unwrap();
        assert_eq!(another.map(|delivery| delivery.delivered), Some(2), "without a beat it goes to the next");
    }

    #[test]
    fn the_watchdog_sees_only_what_runs_and_stands_still() {
        let (watchdog, pulse) = (Watchdog::default(), Pulse::default());
        assert_eq!(watchdog.longest(), Duration::ZERO);
        let watched = watchdog.watch(&pulse);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(100)).expect("the machine is up longer");
        pulse.last.send_replace(long_ago);
        assert!(watchdog.longest() >= Duration::from_secs(100));
        pulse.child().beat();
        assert!(watchdog.longest() < Duration::from_secs(50), "a child's beat is its parent's");
        drop(watched);
        pulse.last.send_replace(long_ago);
        assert_eq!(watchdog.longest(), Duration::ZERO);
    }
}
