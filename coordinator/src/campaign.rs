//! The thin edge around [`Election`]: reads and writes the leader's register, looks at the clock, and lets the service
//! know whether it leads. It runs beside the service, so a busy leader renews in time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fulltime_common::{
    queue::{Bus, QueueError, Register},
    store::Store,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::{debug, warn};

use crate::{
    crash::{self, Deed},
    epoch,
    leader::{Claim, Election, Lead, Next, Now, Seen, Sighting},
};

/// The leader's register in its own words.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    leader: String,
    claim: Claim,
}

/// How the lead is held.
#[derive(Debug, Clone)]
pub struct Leadership {
    /// How long a claim holds without being renewed.
    pub lease: Duration,
    /// No other coordinator is ever on this bus: an empty register need not be waited for.
    pub alone: bool,
}

impl Default for Leadership {
    fn default() -> Self {
        Self { lease: Duration::from_secs(3), alone: false }
    }
}

/// A won lead. Its `until` moves with every renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reign {
    term: u64,
    until: Instant,
}

/// The right to act, asked for before every verdict.
#[derive(Debug, Clone)]
pub struct Mandate {
    /// Every task, control and verdict carries it.
    pub epoch: u64,
    /// `None` in tests: for ever.
    term: Option<(u64, watch::Receiver<Option<Reign>>)>,
}

/// Another coordinator leads by now, or may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this coordinator does not lead any more")]
pub struct Deposed;

impl Mandate {
    #[cfg(test)]
    pub fn without_end(epoch: u64) -> Self {
        Self { epoch, term: None }
    }

    /// # Errors
    /// The lead is lost, or has run out by our own clock.
    pub fn check(&self) -> Result<(), Deposed> {
        let Some((term, reign)) = &self.term else { return Ok(()) };
        match *reign.borrow() {
            Some(reign) if reign.term == *term && Instant::now() < reign.until => Ok(()),
            Some(_) | None => Err(Deposed),
        }
    }

    /// Waits until the lead is lost.
    pub(crate) async fn lost(&self) {
        let Some((_, mut reign)) = self.term.clone() else { return std::future::pending().await };
        while self.check().is_ok() {
            let until = reign.borrow_and_update().map(|reign| reign.until);
            tokio::select! {
                () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)) => {}
                // The campaign lives longer than any of its leads.
                _ = reign.changed() => {}
            }
        }
    }
}

/// What was last heard of the leader's register.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub leads: bool,
    pub leader: Option<String>,
    pub at: Instant,
}

/// Runs for the lead until it is dropped.
pub(crate) struct Campaign {
    reign: watch::Receiver<Option<Reign>>,
    orders: mpsc::Sender<()>,
    epoch: Arc<AtomicU64>,
    ended: JoinSet<()>,
    lease: Duration,
    heard: watch::Receiver<Option<Heard>>,
}

impl Campaign {
    pub fn start(bus: Arc<dyn Bus>, state: Store, leadership: &Leadership, name: String) -> Self {
        let (published, reign) = watch::channel(None);
        let (hears, heard) = watch::channel(None);
        let (orders, ordered) = mpsc::channel(1);
        let epoch = Arc::new(AtomicU64::new(0));
        let Leadership { lease, alone } = *leadership;
        let runner = Runner {
            bus,
            state,
            name,
            election: Election::new(lease, alone),
            lease,
            origin: Instant::now(),
            published,
            hears,
            epoch: Arc::clone(&epoch),
        };
        let mut ended = JoinSet::new();
        ended.spawn(runner.run(ordered));
        Self { reign, orders, epoch, ended, lease, heard }
    }

    /// The register as this coordinator saw it last.
    pub fn heard(&self) -> Option<Heard> {
        self.heard.borrow().clone()
    }

    /// Waits for the lead. The mandate is void until [`Campaign::begin`] has given it an epoch.
    pub async fn elected(&mut self) -> Mandate {
        loop {
            let reign = *self.reign.borrow_and_update();
            if let Some(reign) = reign {
                let mandate = Mandate { epoch: 0, term: Some((reign.term, self.reign.clone())) };
                if mandate.check().is_ok() {
                    return mandate;
                }
            }
            if self.reign.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub fn begin(&self, mandate: Mandate, epoch: u64) -> Mandate {
        self.epoch.store(epoch, Ordering::Relaxed);
        Mandate { epoch, ..mandate }
    }

    /// Gives the lead up and stands back for a while. Nothing may act on it any more.
    pub async fn resign(&mut self) {
        let _ = self.orders.send(()).await;
        let given_up =
            async { while self.reign.borrow_and_update().is_some() && self.reign.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(self.lease, given_up).await;
    }

    /// As [`Campaign::resign`], for good: waits until the register says so, if it can be reached.
    pub async fn end(mut self) {
        drop(self.orders);
        let _ = tokio::time::timeout(self.lease / 2, self.ended.join_next()).await;
    }
}

struct Runner {
    bus: Arc<dyn Bus>,
    state: Store,
    name: String,
    election: Election,
    lease: Duration,
    origin: Instant,
    published: watch::Sender<Option<Reign>>,
    hears: watch::Sender<Option<Heard>>,
    epoch: Arc<AtomicU64>,
}

impl Runner {
    async fn run(mut self, mut orders: mpsc::Receiver<()>) {
        let mut seen = Seen::Time;
        loop {
            let next = self.election.step(seen, self.now());
            self.publish();
            let Next::Wait { until } = next else {
                seen = self.carry_out(next).await;
                continue;
            };
            seen = Seen::Time;
            let order = tokio::select! {
                () = tokio::time::sleep_until(self.origin + until) => continue,
                order = orders.recv() => order,
            };
            let resignation = self.election.resign(self.now());
            self.publish();
            if let Some(next) = resignation {
                self.carry_out(next).await;
            }
            match order {
                Some(()) => tokio::time::sleep(self.lease).await,
                None => return,
            }
        }
    }

    fn now(&self) -> Now {
        self.origin.elapsed()
    }

    fn publish(&self) {
        let lead = self.election.lead(self.now());
        let reign = lead.map(|Lead { term, until, .. }| Reign { term, until: self.origin + until });
        self.published.send_if_modified(|published| std::mem::replace(published, reign) != reign);
    }

    async fn carry_out(&self, next: Next) -> Seen {
        let started = self.now();
        let work = async {
            match next {
                Next::Wait { .. } => Ok(Seen::Time),
                Next::Read => Ok(Seen::Register(self.bus.leader().await?.map(|register| self.sighting(&register)))),
                Next::Claim { claim, expected } => {
                    let entry = Entry { leader: self.name.clone(), claim };
                    let value = serde_json::to_vec(&entry).unwrap_or_default();
                    let revision = crash::around(Deed::Claim, self.bus.claim(expected, &value)).await?;
                    Ok(Seen::Claimed { claim, started, revision })
                }
                Next::Rank => Ok(match epoch::highest(&self.state).await {
                    Ok(highest) => Seen::Rank { outranked: highest > self.epoch.load(Ordering::Relaxed) },
                    Err(error) => {
                        warn!(%error, "cannot tell whether another coordinator has taken over");
                        Seen::Silence
                    }
                }),
            }
        };
        let answer: Result<Result<Seen, QueueError>, _> = tokio::time::timeout(self.lease / 3, work).await;
        match answer {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => {
                debug!(%error, "the leader's register cannot be reached");
                Seen::Silence
            }
            Err(_) => Seen::Silence,
        }
    }

    /// A register that nobody can read is somebody else's: its lease is waited for.
    fn sighting(&self, register: &Register) -> Sighting {
        let entry: Option<Entry> = serde_json::from_slice(&register.value).ok();
        let claim = entry.as_ref().map_or(Claim::Leads, |entry| entry.claim);
        let leader = entry.as_ref().filter(|_| claim == Claim::Leads).map(|entry| entry.leader.clone());
        self.hears.send_replace(Some(Heard { leads: claim == Claim::Leads, leader, at: Instant::now() }));
        let ours = entry.as_ref().is_some_and(|entry| entry.leader == self.name);
        Sighting { revision: register.revision, claim, ours }
    }
}
