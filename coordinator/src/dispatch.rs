//! The way out to the bus: releases and withdrawals in the order in which the ledger decided them, releases many at once.
//! A broker that is away is waited for; meanwhile at most a window of tasks piles up here.

use std::{sync::Arc, time::Duration};

use fulltime_common::{
    digest::Digest,
    queue::{Bus, QueueError},
    wire::{Control, Task},
};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::warn;

use crate::{
    campaign::Mandate,
    crash::{self, Deed},
    ledger::JobId,
};

const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Tasks released at once.
const BATCH: usize = 512;

#[derive(Debug)]
pub(crate) enum Outgoing {
    Release(Vec<Task>),
    /// Take what is queued of a job off the bus.
    Withdraw(JobId),
    /// Take what is queued of this work of a job off the bus.
    Discard(JobId, Vec<Digest>),
    /// Stop what runs, or say who leads.
    Tell(Control),
}

/// Ends when it is dropped.
pub(crate) struct Dispatch {
    outgoing: mpsc::UnboundedSender<Outgoing>,
    _sender: JoinSet<()>,
}

impl Dispatch {
    pub fn start(bus: Arc<dyn Bus>, mandate: Mandate) -> Self {
        // Unbounded, because the loop must not wait; the ledger's window bounds what can be in it.
        let (outgoing, queue) = mpsc::unbounded_channel();
        let mut sender = JoinSet::new();
        sender.spawn(forward(bus, mandate, queue));
        Self { outgoing, _sender: sender }
    }

    pub fn send(&self, item: Outgoing) {
        // The other end lives as long as this one.
        let _ = self.outgoing.send(item);
    }
}

async fn forward(bus: Arc<dyn Bus>, mandate: Mandate, mut queue: mpsc::UnboundedReceiver<Outgoing>) {
    let mut items = Vec::new();
    while queue.recv_many(&mut items, BATCH).await > 0 {
        let mut tasks = Vec::new();
        for item in items.drain(..) {
            match item {
                Outgoing::Release(more) => tasks.extend(more),
                other => {
                    release(&*bus, &mandate, std::mem::take(&mut tasks)).await;
                    persist(&*bus, &mandate, &other).await;
                }
            }
        }
        release(&*bus, &mandate, tasks).await;
    }
}

async fn release(bus: &dyn Bus, mandate: &Mandate, mut tasks: Vec<Task>) {
    while !tasks.is_empty() {
        let rest = tasks.split_off(tasks.len().min(BATCH));
        persist(bus, mandate, &Outgoing::Release(std::mem::replace(&mut tasks, rest))).await;
    }
}

/// Tries until it works; not at all once the lead is lost, for what the next leader decides is not known here.
async fn persist(bus: &dyn Bus, mandate: &Mandate, item: &Outgoing) {
    let mut pause = RETRY_MIN;
    while mandate.check().is_ok() {
        let Err(error) = send(bus, item).await else { return };
        warn!(%error, "the bus is away; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn send(bus: &dyn Bus, item: &Outgoing) -> Result<(), QueueError> {
    match item {
        Outgoing::Release(tasks) => crash::around(Deed::Release, bus.release(tasks)).await,
        Outgoing::Withdraw(job) => crash::around(Deed::Withdraw, bus.withdraw(job)).await,
        Outgoing::Discard(job, work) => crash::around(Deed::Discard, bus.discard(job, work)).await,
        Outgoing::Tell(control) => {
            let deed = match control {
                Control::Lead { .. } => Deed::Lead,
                Control::Stop { .. } => Deed::Stop,
            };
            crash::around(deed, bus.control(control)).await
        }
    }
}
