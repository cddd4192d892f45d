//! The end of a delivery: an event for the ledger, then the queue. In this order, so that a task that is gone from the
//! queue has always been spoken about; and the same event twice is harmless.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use fulltime_common::{
    Disposition,
    error::chain,
    queue::Delivery,
    wire::{Event, EventKind, Outcome, Task, TaskKind},
};
use fulltime_observe::metrics;
use tracing::{debug, error, info, warn};

use crate::{
    crash::{self, Point},
    error::WorkerError,
    executor::TaskFailure,
    service::Shared,
};

/// First delay after a transient failure; doubles with every delivery.
const BACKOFF: Duration = Duration::from_millis(500);
/// Longest delay.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What becomes of a delivery whose attempt has failed.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Finish,
    GiveBack(Duration),
}

impl Shared {
    /// Says what became of the task and gives the delivery to where it belongs.
    pub async fn settle(&self, delivery: Delivery, result: Result<Outcome, TaskFailure>) {
        match result {
            Ok(outcome) => self.commit_delivery(delivery, outcome).await,
            Err(failure) => self.fail_delivery(delivery, failure).await,
        }
    }

    async fn commit_delivery(&self, delivery: Delivery, outcome: Outcome) {
        let digest = delivery.task.digest.short();
        // A line a shard is much where shards take no time.
        if outcome.elapsed_seconds > 0.1 {
            info!(%digest, frames = outcome.frames, found = outcome.found, seconds = outcome.elapsed_seconds, "committed");
        } else {
            debug!(%digest, frames = outcome.frames, found = outcome.found, "committed");
        }
        crash::point(Point::BeforeEvent);
        self.board.add(&metrics::ATTEMPTS, &["committed"], 1.0);
        // Without the event the task must come again: it is then found, and spoken about.
        let said = self.say(&delivery.task, EventKind::Committed(outcome)).await;
        crash::point(Point::AfterEvent);
        crash::point(Point::BeforeAck);
        let end = if said { delivery.finish().await } else { delivery.give_back(BACKOFF).await };
        crash::point(Point::AfterAck);
        if let Err(error) = end {
            warn!(error = chain(&error), %digest, "the broker did not hear of a commit; the task will come again and be found");
        }
    }

    async fn fail_delivery(&self, delivery: Delivery, mut failure: TaskFailure) {
        let (digest, disposition) = (delivery.task.digest.short(), failure.disposition);
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
            self.unfit
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_with(|| WorkerError::unfit(&failure));
            self.drain.cancel();
            self.hurry.cancel();
        }
        self.board.add(&metrics::ATTEMPTS, &[&disposition.to_string()], 1.0);
        if matches!(disposition, Disposition::Transient | Disposition::OutOfMemory) {
            self.retries.fetch_add(1, Ordering::Relaxed);
        }
        let said = self.say(&delivery.task, failure.into_event()).await;
        let end = match end(disposition, said, delivery.delivered) {
            End::Finish => delivery.finish().await,
            End::GiveBack(after) => delivery.give_back(after).await,
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

/// `said`: whether the ledger has been told. If so, it decides what comes next of all that another try as it is cannot
/// mend.
fn end(disposition: Disposition, said: bool, delivered: u64) -> End {
    match disposition {
        Disposition::PreEmpted | Disposition::WorkerUnfit => End::GiveBack(Duration::ZERO),
        Disposition::PoisonInput | Disposition::InputChanged | Disposition::JobUnfit | Disposition::Cancelled
            if said =>
        {
            End::Finish
        }
        Disposition::Transient
        | Disposition::OutOfMemory
        | Disposition::PoisonInput
        | Disposition::InputChanged
        | Disposition::JobUnfit
        | Disposition::Cancelled => End::GiveBack(backoff(delivered)),
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

    #[test]
    fn what_the_ledger_did_not_hear_of_stays_on_the_queue() {
        for disposition in [Disposition::PoisonInput, Disposition::JobUnfit, Disposition::Cancelled] {
            assert_eq!(end(disposition, true, 1), End::Finish, "{disposition}");
            assert_eq!(end(disposition, false, 1), End::GiveBack(BACKOFF), "{disposition}");
        }
        assert_eq!(end(Disposition::PreEmpted, true, 9), End::GiveBack(Duration::ZERO), "at once");
    }
}
