//! One unit of work on its way, the failures charged to it, and what they amount to.

use std::{sync::Arc, time::Duration};

use fulltime_common::{
    digest::Digest,
    error::Disposition,
    wire::{Event, EventKind, JobFailure},
};

use super::{JobId, Now, Place, Step, Verdict};

/// Budgets and patience. Each kind of failure has its own budget, so that a flaky network never condemns an input.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Of a delivery, as the bus has it.
    pub lease: Duration,
    /// Of this leader; see [`fulltime_common::wire::Task::epoch`].
    pub epoch: u64,
    /// Where release numbers start: seconds at the coordinator's start.
    pub first_release: u32,
    /// Least number of tasks released and unfinished at once, and how many per lane.
    pub window: usize,
    pub window_per_lane: usize,
    /// Failures of store or network that one task may have before its jobs pause.
    pub transient: u32,
    pub out_of_memory: u32,
    /// Workers that may vanish while they run one task.
    pub vanished: u32,
    /// Workers that one task may make unfit.
    pub unfit: u32,
    /// Attempts that must show that an input is poison, on different workers where there are several.
    pub poison: u32,
    /// Attempts after which it no longer matters that they were all on one worker.
    pub poison_at_most: u32,
    /// Store or network failures in a row, and for how long, before a job pauses whatever task they hit.
    pub trouble: u32,
    pub patience: Duration,
    /// A worker that has not said hello for so long is gone.
    pub silence: Duration,
    /// How long to wait for another worker once all are unfit, or none has the pinned engine class.
    pub unfit_grace: Duration,
    pub class_grace: Duration,
}

impl Policy {
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Self {
            lease,
            epoch: 0,
            first_release: 0,
            window: 64,
            window_per_lane: 4,
            transient: 8,
            out_of_memory: 4,
            vanished: 8,
            unfit: 3,
            poison: 2,
            poison_at_most: 4,
            trouble: 8,
            patience: Duration::from_secs(30),
            silence: Duration::from_secs(5),
            unfit_grace: Duration::from_secs(3),
            class_grace: Duration::from_secs(30),
        }
    }
}

/// Names work: what, and for whom. Container indexes and shards are made once per store, whichever jobs want them; a
/// reduce also publishes one job's view of its result, so it is made once per job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkId {
    pub digest: Digest,
    /// The store's URL, or the job.
    pub scope: Arc<str>,
}

/// Who wants the work, and for which of its places.
#[derive(Debug, Clone)]
pub(super) struct Subscriber {
    pub job: JobId,
    pub place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is released yet: the store is being asked for the result.
    Asking,
    /// On the bus.
    Out,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Entry {
    pub subscribers: Vec<Subscriber>,
    pub phase: Phase,
    release: u32,
    /// Last sign of life.
    since: Now,
    /// The store is being asked although the task is out.
    asked: bool,
    /// An attempt has begun and not ended.
    open: bool,
    transient: u32,
    out_of_memory: u32,
    vanished: u32,
    unfit: u32,
    /// Workers that found the input to be poison.
    poison: Vec<String>,
}

/// What the ledger has to do after an event.
#[derive(Debug)]
pub(super) enum After {
    Nothing,
    Decide(Verdict),
    /// Release it once more.
    Again,
    /// Worth telling; the bus delivers it again by itself.
    Trouble(JobFailure),
    Pause(JobFailure),
}

impl Entry {
    pub fn new(subscriber: Subscriber) -> Self {
        Self {
            subscribers: vec![subscriber],
            phase: Phase::Asking,
            release: 0,
            since: Now::ZERO,
            asked: false,
            open: false,
            transient: 0,
            out_of_memory: 0,
            vanished: 0,
            unfit: 0,
            poison: Vec::new(),
        }
    }

    /// The latest release.
    pub fn release(&self) -> u32 {
        self.release
    }

    /// The subscriber on whose account it runs.
    pub fn account(&self) -> Option<&Subscriber> {
        self.subscribers.first()
    }

    /// A shard on this job's account that is on the bus: only workers of its engine class take it.
    pub fn waits_for_class(&self, job: &JobId) -> bool {
        let map = |s: &Subscriber| s.job == *job && matches!(s.place.step, Step::Map { .. });
        self.phase == Phase::Out && self.account().is_some_and(map)
    }

    /// Release numbers grow with time, too: a coordinator that starts anew, or a job that is submitted again, must not
    /// repeat one within minutes, since the broker would drop the task as a duplicate.
    pub fn next_release(&mut self, first: u32, now: Now) -> u32 {
        let clock = first.wrapping_add(now.as_secs() as u32);
        self.release = (self.release + 1).max(clock);
        self.phase = Phase::Out;
        self.since = now;
        self.asked = false;
        self.open = false;
        self.release
    }

    /// Whether "the result is not there" is news.
    pub fn expects_answer(&self) -> bool {
        self.phase == Phase::Asking || self.asked
    }

    pub fn asked_again(&mut self) {
        self.asked = true;
    }

    pub fn sign_of_life(&mut self, now: Now) {
        self.since = now;
        // The answer to a question that this made superfluous must not release it again.
        self.asked = false;
    }

    /// How long a released task has been silent; zero while the store is being asked.
    pub fn silent_for(&self, now: Now) -> Duration {
        if self.phase == Phase::Out && !self.asked { now.saturating_sub(self.since) } else { Duration::ZERO }
    }

    /// Charges an event to the budgets. Late and repeated events are harmless: a commit decides whenever it comes, and a
    /// failure of an earlier release is evidence but releases nothing.
    pub fn heard(&mut self, event: &Event, policy: &Policy, several: bool, now: Now) -> After {
        self.sign_of_life(now);
        let (disposition, failure) = match &event.kind {
            EventKind::Started => return self.started(event, policy),
            EventKind::Committed(outcome) => return After::Decide(Verdict::Committed(Box::new(outcome.clone()))),
            EventKind::Failed { disposition, cause, exit, hint, .. } => {
                (*disposition, JobFailure { exit: *exit, cause: cause.clone(), hint: hint.clone() })
            }
        };
        self.open = false;
        match disposition {
            // Nothing is charged to the input. The bus (or whoever cancelled) sees to the task.
            Disposition::PreEmpted | Disposition::Cancelled => After::Nothing,
            Disposition::Transient => budget(&mut self.transient, policy.transient, failure),
            Disposition::OutOfMemory => budget(&mut self.out_of_memory, policy.out_of_memory, failure),
            Disposition::JobUnfit => After::Pause(failure),
            Disposition::WorkerUnfit => budget(&mut self.unfit, policy.unfit, failure),
            Disposition::InputChanged => After::Decide(Verdict::GivenUp(failure.cause)),
            Disposition::PoisonInput => {
                self.poison.push(event.worker.clone());
                let attempts = self.poison.len() as u32;
                let reproduced = !several || self.poison.iter().any(|worker| *worker != event.worker);
                if attempts >= policy.poison_at_most || (attempts >= policy.poison && reproduced) {
                    After::Decide(Verdict::GivenUp(failure.cause))
                } else if event.release == self.release {
                    After::Again
                } else {
                    After::Nothing
                }
            }
        }
    }

    /// An attempt that begins while another is open means that the other one's worker vanished.
    fn started(&mut self, event: &Event, policy: &Policy) -> After {
        let vanished = std::mem::replace(&mut self.open, true) && event.release == self.release;
        if !vanished {
            return After::Nothing;
        }
        let failure = JobFailure {
            exit: fulltime_common::Exit::Paused as u8,
            cause: format!("{} workers vanished while they ran the same task", self.vanished + 1),
            hint: Some("look at the workers' logs: a crash or the system's out-of-memory killer ended them".into()),
        };
        match budget(&mut self.vanished, policy.vanished, failure) {
            After::Trouble(_) => After::Nothing,
            after => after,
        }
    }
}

fn budget(charged: &mut u32, most: u32, failure: JobFailure) -> After {
    *charged += 1;
    if *charged >= most { After::Pause(failure) } else { After::Trouble(failure) }
}
