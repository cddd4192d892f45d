//! One unit of work on its way: who wants it, which of its releases are about, and what an event means for it.

use std::{sync::Arc, time::Duration};

use fulltime_common::{
    Exit,
    digest::Digest,
    error::Disposition,
    wire::{Band, Event, EventKind, Evidence, JobFailure, Witness},
};

use super::{Attempt, JobId, Now, Place, Policy, Step, Verdict, charges::Charges};

/// Names work: what, and for whom. Container indexes and shards are made once per store, whichever jobs want them; a
/// reduce also publishes one job's view of its result, so it is made once per job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// On the bus, or between two releases while a failure is being recorded.
    Out,
}

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub subscribers: Vec<Subscriber>,
    pub phase: Phase,
    /// Of the most urgent subscriber.
    pub band: Band,
    pub charges: Charges,
    /// The latest release, and when it was made.
    release: u32,
    released_at: Now,
    /// Since when later releases have begun and this one has not.
    passed: Option<Now>,
    /// Last sign of life.
    since: Now,
    /// The store is being asked although the task is out.
    asked: bool,
    /// Releases that may still be delivered or run.
    pub live: Vec<Live>,
    /// Further releases that were made to run against the first.
    rivals: u32,
    /// Failures that are being recorded and do not count yet.
    recording: Vec<(u32, String, Disposition)>,
}

/// A release that is queued, or runs.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub release: u32,
    pub band: Band,
    /// On whose account it was released; `None` for a release of an earlier leader.
    pub account: Option<JobId>,
    pub run: Option<Run>,
}

#[derive(Debug, Clone)]
pub(super) struct Run {
    pub worker: String,
    /// When it came, or got its lane.
    pub since: Now,
    /// It is with its worker, but on no lane yet.
    pub waits: bool,
}

/// What the ledger has to do after an event.
#[derive(Debug)]
pub(super) enum After {
    Nothing,
    Decide(Verdict),
    /// It costs budget: to be recorded before it counts.
    Record(Box<Charge>),
    /// Worth telling.
    Trouble(JobFailure),
    PauseJob(JobFailure),
}

/// A failure that costs budget.
#[derive(Debug)]
pub(super) struct Charge {
    pub release: u32,
    pub worker: String,
    pub disposition: Disposition,
    pub evidence: Evidence,
    pub failure: JobFailure,
}

impl Entry {
    pub fn new(subscriber: Subscriber, band: Band, charges: Charges) -> Self {
        Self {
            subscribers: vec![subscriber],
            phase: Phase::Asking,
            band,
            charges,
            release: 0,
            released_at: Now::ZERO,
            passed: None,
            since: Now::ZERO,
            asked: false,
            live: Vec::new(),
            rivals: 0,
            recording: Vec::new(),
        }
    }

    /// The latest release.
    pub fn release(&self) -> u32 {
        self.release
    }

    pub fn released_at(&self) -> Now {
        self.released_at
    }

    /// The subscriber on whose account it runs.
    pub fn account(&self) -> Option<&Subscriber> {
        self.subscribers.first()
    }

    pub fn is_map(&self) -> bool {
        self.account().is_some_and(|s| matches!(s.place.step, Step::Map { .. }))
    }

    /// A shard on this job's account that is on the bus: only workers of its engine class take it.
    pub fn waits_for_class(&self, job: &JobId) -> bool {
        self.phase == Phase::Out && self.is_map() && self.account().is_some_and(|s| s.job == *job)
    }

    pub fn is_running(&self) -> bool {
        self.live.iter().any(|live| live.run.is_some())
    }

    /// Out, but nowhere: nothing of it is queued, runs or is being recorded.
    pub fn is_stranded(&self) -> bool {
        self.phase == Phase::Out && self.live.is_empty() && self.recording.is_empty()
    }

    /// Notes a new release. Numbers grow with time, too: a coordinator that starts anew, or a job that is resumed, must not
    /// repeat one within minutes, since the broker would drop the task as a duplicate.
    pub fn released(&mut self, least: u32, account: &JobId, now: Now) -> u32 {
        self.release = (self.release + 1).max(least);
        self.phase = Phase::Out;
        (self.since, self.released_at, self.passed) = (now, now, None);
        self.asked = false;
        let live = Live { release: self.release, band: self.band, account: Some(account.clone()), run: None };
        self.live.push(live);
        self.release
    }

    /// The releases that nobody runs: they are lost, or to be taken off the bus.
    pub fn take_queued(&mut self) -> Vec<Live> {
        let (queued, running) = std::mem::take(&mut self.live).into_iter().partition(|live| live.run.is_none());
        self.live = running;
        queued
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

    /// A worker says that it has this work, on a lane or waiting for one.
    pub fn seen(&mut self, worker: &str, waits: bool, now: Now) {
        self.sign_of_life(now);
        for run in self.live.iter_mut().filter_map(|live| live.run.as_mut()).filter(|run| run.worker == worker) {
            if run.waits && !waits {
                run.since = now;
            }
            run.waits = waits;
        }
    }

    /// For how long later releases have begun while this one has not. To be told again and again whether they have.
    pub fn left_behind(&mut self, passed: bool, now: Now) -> Duration {
        if passed && !self.is_running() {
            now.saturating_sub(*self.passed.get_or_insert(now))
        } else {
            self.passed = None;
            Duration::ZERO
        }
    }

    /// How long a released task has been silent; zero while the store is being asked, or a failure is being recorded.
    pub fn silent_for(&self, now: Now) -> Duration {
        let waits = self.phase == Phase::Out && !self.asked && self.recording.is_empty();
        if waits { now.saturating_sub(self.since) } else { Duration::ZERO }
    }

    /// The latest run of a shard of which every release runs, if even that one has lasted so long, and the shard has not
    /// had so many rivals yet.
    pub fn straggles(&self, least: Duration, most: u32, now: Now) -> Option<&Run> {
        if self.rivals >= most || !self.recording.is_empty() || !self.is_map() {
            return None;
        }
        let runs: Option<Vec<&Run>> = self.live.iter().map(|live| live.run.as_ref()).collect();
        let latest = runs?.into_iter().max_by_key(|run| run.since)?;
        (!latest.waits && now.saturating_sub(latest.since) >= least).then_some(latest)
    }

    /// The worker where a shard lies that nobody works on: others may have a lane for it.
    pub fn waits_at(&self) -> Option<&Run> {
        match &self.live[..] {
            [Live { run: Some(run), .. }] if run.waits && self.is_map() && self.recording.is_empty() => Some(run),
            _ => None,
        }
    }

    pub fn rival(&mut self) {
        self.rivals += 1;
    }

    /// What an event means. Late and repeated ones are harmless: a commit decides whenever it comes, and a failure of an
    /// earlier release is evidence but releases nothing while a later one is about.
    pub fn heard(&mut self, event: &Event, policy: &Policy, now: Now) -> After {
        self.sign_of_life(now);
        match &event.kind {
            EventKind::Started => self.started(event, now),
            EventKind::Committed(outcome) => After::Decide(Verdict::Committed(Box::new(outcome.clone()))),
            EventKind::Failed { disposition, cause, exit, hint, evidence } => {
                let failure = JobFailure { exit: *exit, cause: cause.clone(), hint: hint.clone() };
                self.ended(event.release, *disposition, evidence.witness);
                self.failed(event, *disposition, *evidence, failure, policy)
            }
        }
    }

    /// An attempt that begins while another of the same release is open means that the other one's worker vanished.
    fn started(&mut self, event: &Event, now: Now) -> After {
        // Whoever begins is asked no more: its commit or its silence will tell.
        self.phase = Phase::Out;
        let run = Some(Run { worker: event.worker.clone(), since: now, waits: false });
        let Some(live) = self.live.iter_mut().find(|live| live.release == event.release) else {
            let live = Live { release: event.release, band: self.band, account: None, run };
            self.live.push(live);
            return After::Nothing;
        };
        let Some(before) = std::mem::replace(&mut live.run, run) else { return After::Nothing };
        let vanished = self.charges.vanished() + 1;
        let failure = JobFailure {
            exit: Exit::Paused as u8,
            cause: format!("{vanished} workers vanished while they ran the same task"),
            hint: Some("look at the workers' logs: a crash or the system's out-of-memory killer ended them".into()),
        };
        self.record(event.release, before.worker, Disposition::PreEmpted, Evidence::default(), failure)
    }

    /// The end of a run. The bus delivers again by itself what a lane handed back; what a lane finished, or its supervisor
    /// settled on its behalf, is gone from it.
    fn ended(&mut self, release: u32, disposition: Disposition, witness: Witness) {
        let handed_back = match disposition {
            Disposition::Transient | Disposition::OutOfMemory | Disposition::PreEmpted | Disposition::WorkerUnfit => {
                witness == Witness::Error
            }
            Disposition::PoisonInput | Disposition::InputChanged | Disposition::JobUnfit | Disposition::Cancelled => {
                false
            }
        };
        if handed_back {
            for live in self.live.iter_mut().filter(|live| live.release == release) {
                live.run = None;
            }
        } else {
            self.live.retain(|live| live.release != release);
        }
    }

    fn failed(
        &mut self,
        event: &Event,
        disposition: Disposition,
        evidence: Evidence,
        failure: JobFailure,
        policy: &Policy,
    ) -> After {
        let used_up = match disposition {
            // Nothing is charged to the input.
            Disposition::PreEmpted | Disposition::Cancelled => return After::Nothing,
            Disposition::JobUnfit => return After::PauseJob(failure),
            Disposition::InputChanged => return After::Decide(Verdict::Changed),
            Disposition::Transient => {
                self.charges.transient += 1;
                self.charges.transient >= policy.transient
            }
            Disposition::WorkerUnfit => {
                self.charges.unfit += 1;
                self.charges.unfit >= policy.unfit
            }
            Disposition::OutOfMemory => true,
            Disposition::PoisonInput => {
                if self.charges.knows(event.release, &event.worker) {
                    return After::Nothing;
                }
                true
            }
        };
        if used_up {
            self.record(event.release, event.worker.clone(), disposition, evidence, failure)
        } else {
            After::Trouble(failure)
        }
    }

    fn record(
        &mut self,
        release: u32,
        worker: String,
        disposition: Disposition,
        evidence: Evidence,
        failure: JobFailure,
    ) -> After {
        let key = (release, worker.clone(), disposition);
        if self.recording.contains(&key) {
            return After::Nothing;
        }
        self.recording.push(key);
        After::Record(Box::new(Charge { release, worker, disposition, evidence, failure }))
    }

    /// A failure is durable: from now on it counts.
    pub fn recorded(&mut self, attempt: &Attempt, policy: &Policy) {
        let same = |(release, worker, disposition): &(u32, String, Disposition)| {
            (*release, worker, *disposition) == (attempt.release, &attempt.worker, attempt.disposition)
        };
        if let Some(at) = self.recording.iter().position(same) {
            self.recording.remove(at);
            self.charges.add(attempt, policy);
        }
    }
}
