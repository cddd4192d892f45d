//! The way out to the bus: releases and withdrawals in the order in which the ledger decided them. A broker that is away
//! is waited for; meanwhile at most a window of tasks piles up here.

use std::{sync::Arc, time::Duration};

use fulltime_common::{
    queue::{Bus, QueueError},
    wire::{Control, Task},
};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::warn;

use crate::ledger::JobId;

const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

pub(crate) enum Outgoing {
    Task(Box<Task>),
    /// Take what is queued of a job off the bus.
    Withdraw(JobId),
    /// Stop what runs.
    Stop(Control),
}

/// Ends when it is dropped.
pub(crate) struct Dispatch {
    outgoing: mpsc::UnboundedSender<Outgoing>,
    _sender: JoinSet<()>,
}

impl Dispatch {
    pub fn start(bus: Arc<dyn Bus>) -> Self {
        // Unbounded, because the loop must not wait; the ledger's window bounds what can be in it.
        let (outgoing, mut queue) = mpsc::unbounded_channel();
        let mut sender = JoinSet::new();
        sender.spawn(async move {
            while let Some(item) = queue.recv().await {
                send(&*bus, &item).await;
            }
        });
        Self { outgoing, _sender: sender }
    }

    pub fn send(&self, item: Outgoing) {
        // The other end lives as long as this one.
        let _ = self.outgoing.send(item);
    }
}

async fn send(bus: &dyn Bus, item: &Outgoing) {
    let mut pause = RETRY_MIN;
    while let Err(error) = try_send(bus, item).await {
        warn!(%error, "the bus is away; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn try_send(bus: &dyn Bus, item: &Outgoing) -> Result<(), QueueError> {
    match item {
        Outgoing::Task(task) => bus.release(std::slice::from_ref(&**task)).await,
        Outgoing::Withdraw(job) => bus.withdraw(job).await,
        Outgoing::Stop(control) => bus.control(control).await,
    }
}
