//! What a delivery needs while its task runs: a lease that follows the task's progress, an end when there is none or
//! when nobody wants the work any more, and a word to the ledger that it runs.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use fulltime_common::{
    Disposition, Exit,
    error::{Failure, chain},
    queue::Delivery,
    wire::{EventKind, Outcome, Task, Witness},
};
use fulltime_observe::metrics;
use tracing::{Instrument as _, error, info_span, warn};

use crate::{
    attempt::{Attempt, Phase},
    error::TaskError,
    executor::TaskFailure,
    progress::Due,
    seats::Seat,
    service::Shared,
};

/// Tasks that take no longer are over before anybody can make use of their start.
const MOMENT: Duration = Duration::from_millis(50);
/// Longest time that a task may take to end when it was told to.
const HALT: Duration = Duration::from_secs(5);

impl Shared {
    /// Runs the task and settles it.
    pub async fn work(&self, delivery: Delivery) {
        let task = &delivery.task;
        let span = info_span!("task", job = task.job, digest = %task.digest.short(), trace = task.trace.as_deref().map(trace_id));
        self.tend(delivery).instrument(span).await;
    }

    async fn tend(&self, delivery: Delivery) {
        let task = &delivery.task;
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner).learn(task);
        let may_exist = delivery.delivered > 1 || !task.looked_for;
        let attempt = Arc::new(Attempt::new(may_exist, Box::new(Seat::of(&self.seats, task))));
        let result = self.attempt(&delivery, &attempt).await;
        let result = result.map_err(|failure| judged(failure, &attempt));
        // The lane is free from here on, whatever the broker takes for the rest.
        drop(attempt);
        self.settle(delivery, result).await;
    }

    async fn attempt(&self, delivery: &Delivery, attempt: &Arc<Attempt>) -> Result<Outcome, TaskFailure> {
        if !self.executor.fetches_ahead() {
            attempt.enter(Phase::Running);
        }
        let mut running = self.executor.run(&delivery.task, attempt);
        let reason = tokio::select! {
            biased;
            reason = self.told_to_end(&delivery.task, attempt) => reason,
            result = &mut running => return result,
            stalled = self.attend(delivery, attempt) => {
                attempt.halt().cancel();
                return Err(stalled);
            }
        };
        attempt.halt().cancel();
        match tokio::time::timeout(HALT, running).await {
            // Too late to stop it, or worth to be known whatever was asked for.
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(failure)) if failure.disposition == Disposition::WorkerUnfit => Err(failure),
            Ok(Err(_)) => Err(reason.into()),
            Err(_) => {
                warn!(digest = %delivery.task.digest.short(), "a task did not end when told to; its lane is ended");
                Err(reason.into())
            }
        }
    }

    /// Comes back when this task must end, with the reason.
    async fn told_to_end(&self, task: &Task, attempt: &Attempt) -> TaskError {
        let mut orders = self.orders.subscribe();
        let drained = async {
            self.drain.cancelled().await;
            // What runs has its time of grace.
            if attempt.phase().holds_lane() {
                self.hurry.cancelled().await;
            }
        };
        tokio::select! {
            biased;
            _ = orders.wait_for(|orders| orders.unwanted(task)) => TaskError::Cancelled,
            () = drained => TaskError::PreEmpted,
        }
    }

    /// Keeps the lease while there is progress. Comes back when there is none.
    async fn attend(&self, delivery: &Delivery, attempt: &Attempt) -> TaskFailure {
        let mut renewed = Instant::now();
        tokio::time::sleep(MOMENT.min(self.pace.tick())).await;
        self.say(&delivery.task, EventKind::Started).await;
        loop {
            let waiting = attempt.phase() == Phase::Waiting;
            // While it waits, any lane's progress keeps it: a lane of this worker will take it.
            let beat = if waiting { self.seats.pulse.last() } else { attempt.pulse().last() };
            let now = Instant::now();
            match self.pace.due(now, renewed, beat, !waiting) {
                Due::Nothing => {}
                Due::Renewal => {
                    renewed = now;
                    let renewal = delivery.progress().await;
                    let result = if renewal.is_ok() { "ok" } else { "error" };
                    self.board.add(&metrics::LEASES, &[result], 1.0);
                    if let Err(error) = renewal {
                        warn!(error = chain(&error), digest = %delivery.task.digest.short(), "could not renew a lease");
                    }
                }
                Due::End => return self.stalled(&delivery.task, attempt.phase()),
            }
            tokio::time::sleep(self.pace.pause(Instant::now(), renewed)).await;
        }
    }

    fn stalled(&self, task: &Task, phase: Phase) -> TaskFailure {
        let seconds = self.pace.stall.as_secs_f64();
        error!(digest = %task.digest.short(), seconds, "no progress: the task is ended");
        let cause = format!("no progress for {seconds} s");
        // What was not on its lane yet has only waited for a store.
        let disposition = if phase.holds_lane() { Disposition::PoisonInput } else { Disposition::Transient };
        let mut failure = TaskFailure::new(disposition, Failure { exit: Exit::Internal, cause, hint: None });
        failure.evidence.witness = Witness::Stalled;
        failure
    }
}

/// The trace of a W3C `traceparent`: logs of all daemons about one job can be found by it.
fn trace_id(traceparent: &str) -> &str {
    traceparent.split('-').nth(1).unwrap_or(traceparent)
}

/// Poison is a matter of evidence: only what failed alone counts as such, and never what failed in its canary.
fn judged(mut failure: TaskFailure, attempt: &Attempt) -> TaskFailure {
    failure.evidence.alone |= attempt.is_isolated();
    if failure.disposition == Disposition::PoisonInput && attempt.phase() == Phase::Canary {
        failure.disposition = Disposition::WorkerUnfit;
        failure.cause = format!("this worker fails at its canary, too: {}", failure.cause);
        failure.exit = Exit::Runtime as u8;
        failure.hint = Some("check this machine's memory, processor and drivers".to_owned());
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::Unwatched;

    #[test]
    fn only_what_failed_alone_after_its_canary_is_evidence_against_the_input() {
        let crash = || TaskFailure::from(TaskError::Panicked { message: "m".into() });
        let attempt = Attempt::new(true, Box::new(Unwatched));
        assert_eq!(judged(crash(), &attempt), crash());
        attempt.enter(Phase::Canary);
        let unfit = judged(crash(), &attempt);
        assert_eq!((unfit.disposition, unfit.evidence.alone), (Disposition::WorkerUnfit, false));
        attempt.isolate();
        attempt.enter(Phase::Running);
        let poison = judged(crash(), &attempt);
        assert_eq!((poison.disposition, poison.evidence.alone), (Disposition::PoisonInput, true));
        attempt.enter(Phase::Canary);
        assert_eq!(attempt.phase(), Phase::Running, "phases only go forward");
    }
}
