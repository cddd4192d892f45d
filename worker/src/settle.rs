//! The end of a delivery: an event for the ledger, then the queue. In this order, so that a task that is gone from the
//! queue has always been spoken about; and the same event twice is harmless.

use std::{sync::PoisonError, time::Duration};

use fulltime_common::{
    Disposition,
    error::{Failure, chain},
    queue::Delivery,
    wire::{Event, EventKind, Evidence, Outcome, Task, TaskKind},
};
use tracing::{error, info, warn};

use crate::{
    crash,
    error::{TaskError, WorkerError},
    service::Shared,
};

/// First delay after a transient failure; doubles with every delivery.
const BACKOFF: Duration = Duration::from_millis(500);
/// Longest delay.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

impl Shared {
    /// Says what became of the task and gives the delivery to where it belongs.
    pub async fn settle(&self, delivery: Delivery, result: Result<Outcome, TaskError>) {
        match result {
            Ok(outcome) => self.commit_delivery(delivery, outcome).await,
            Err(error) => self.fail_delivery(delivery, error).await,
        }
    }

    async fn commit_delivery(&self, delivery: Delivery, outcome: Outcome) {
        let digest = delivery.task.digest.short();
        info!(%digest, frames = outcome.frames, found = outcome.found, seconds = outcome.elapsed_seconds, "committed");
        // Without the event the task must come again: it is then found, and spoken about.
        let said = self.say(&delivery.task, EventKind::Committed(outcome)).await;
        crash::point("ack");
        let end = if said { delivery.finish().await } else { delivery.give_back(BACKOFF).await };
        if let Err(error) = end {
            warn!(error = chain(&error), %digest, "the broker did not hear of a commit; the task will come again and be found");
        }
    }

    async fn fail_delivery(&self, delivery: Delivery, error: TaskError) {
        let (digest, disposition) = (delivery.task.digest.short(), error.disposition());
        let mut failure = Failure::from(error);
        // What is wrong with the input becomes a gap's reason in results, so it must not say how the recording was cut.
        if !matches!(disposition, Disposition::PoisonInput | Disposition::InputChanged) {
            failure.cause = format!("{}: {}", describe(&delivery.task), failure.cause);
        }
        match disposition {
            Disposition::WorkerUnfit => error!(%digest, %disposition, cause = failure.cause, "task failed"),
            _ => warn!(%digest, %disposition, cause = failure.cause, "task failed"),
        }
        if disposition == Disposition::WorkerUnfit {
            // Before the task goes back: this worker must not pull it again.
            let mut unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
            unfit.get_or_insert_with(|| WorkerError::unfit(&failure));
            drop(unfit);
            self.stop.cancel();
        }
        let (exit, cause, hint) = (failure.exit as u8, failure.cause, failure.hint);
        let said = self
            .say(&delivery.task, EventKind::Failed { disposition, cause, exit, hint, evidence: Evidence::default() })
            .await;
        let end = match disposition {
            Disposition::PreEmpted | Disposition::WorkerUnfit => delivery.give_back(Duration::ZERO).await,
            // The ledger has been told and decides what comes next.
            Disposition::PoisonInput | Disposition::InputChanged | Disposition::JobUnfit | Disposition::Cancelled
                if said =>
            {
                delivery.finish().await
            }
            Disposition::Transient
            | Disposition::OutOfMemory
            | Disposition::PoisonInput
            | Disposition::InputChanged
            | Disposition::JobUnfit
            | Disposition::Cancelled => {
                let after = backoff(delivery.delivered);
                delivery.give_back(after).await
            }
        };
        if let Err(error) = end {
            warn!(error = chain(&error), %digest, "could not settle a delivery; its lease will run out");
        }
    }

    /// Publishes an event; `false` (and a warning) when the broker did not keep it.
    pub async fn say(&self, task: &Task, kind: EventKind) -> bool {
        let (job, digest, release) = (task.job.clone(), task.digest, task.release);
        let event = Event { job, digest, release, worker: self.name.clone(), kind };
        let emitted = self.bus.emit(&event).await;
        emitted
            .inspect_err(|error| warn!(error = chain(error), digest = %digest.short(), "could not publish an event"))
            .is_ok()
    }
}

fn backoff(delivered: u64) -> Duration {
    let doublings = delivered.saturating_sub(1).min(10) as u32;
    (BACKOFF * 2_u32.pow(doublings)).min(BACKOFF_MAX)
}

/// The task for people.
fn describe(task: &Task) -> String {
    match &task.kind {
        TaskKind::Index { recording } => format!("index `{}`", recording.key),
        TaskKind::Map { shard } => {
            format!("frames {}..{} of `{}`", shard.frames.start, shard.frames.end, shard.recording.key)
        }
        TaskKind::Reduce { inputs, .. } => format!("reduce `{inputs}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transient_failures_back_off_up_to_half_a_minute() {
        assert_eq!(backoff(1), BACKOFF);
        assert_eq!(backoff(3), BACKOFF * 4);
        assert_eq!(backoff(u64::MAX), BACKOFF_MAX);
    }
}
