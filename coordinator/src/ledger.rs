//! The ledger decides: (state, input, now) to (state, actions). It knows every job's matches, shards and failures, and
//! says what to look for, release, freeze or give up next. It touches neither bus nor store nor clock; `service` carries
//! out its actions and feeds it what came of them.
//!
//! Work has one entry per digest, whichever jobs want it, and only while it is on its way: an entry is made when a place
//! in the window is free, first asks whether the result exists already, is released if not, and is forgotten once
//! decided. So memory follows the window and the matches being worked on, not the job.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fulltime_common::{
    digest::Digest,
    keys,
    wire::{Band, Event, EventKind, Hello, JobFailure, JobState, Outcome, Pool, Task, TaskKind},
};

mod entry;
mod fixture;
mod fleet;
mod job;
mod progress;
mod status;
#[cfg(test)]
mod tests;
mod vocabulary;
use entry::{After, Entry, Phase, Subscriber};
pub use entry::{Policy, WorkId};
use fleet::Fleet;
use job::Job;
pub use vocabulary::{
    Action, Admitted, Attempt, Decision, Figures, Input, Limits, MatchOutcome, Object, Past, PlanOrder, RunFigures,
};

/// Time since the coordinator started.
pub type Now = Duration;
pub type JobId = Arc<str>;

/// The first generation of a job; retrying quarantined work will make more.
pub const GENERATION: u32 = 1;

/// A unit of work of a job. The order is the plan order: matches one after the other, each step by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    at: u32,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Open,
    Index { recording: u32 },
    Map { recording: u32, shard: u32 },
    Reduce,
}

/// The state. See the module.
#[derive(Debug)]
pub struct Ledger {
    policy: Policy,
    jobs: BTreeMap<JobId, Job>,
    work: BTreeMap<WorkId, Entry>,
    fleet: Fleet,
    admitted: u64,
}

impl Ledger {
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let fleet = Fleet::new(policy.silence);
        Self { policy, jobs: BTreeMap::new(), work: BTreeMap::new(), fleet, admitted: 0 }
    }

    /// The only way to change the ledger.
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Announce(id) => {
                self.admitted += 1;
                self.jobs.entry(id.clone()).or_insert_with(|| Job::new(id, self.admitted, now));
            }
            Input::Forget(id) => {
                if self.jobs.get(&id).is_some_and(|job| job.state().is_over()) {
                    self.jobs.remove(&id);
                }
            }
            Input::Admit(id, admitted) => self.with(&id, |job| job.admit(*admitted)),
            Input::Past(id, past) => self.with(&id, |job| job.recall(*past, now)),
            Input::Refuse(id, failure) => self.with(&id, |job| job.end(JobState::Failed, Some(failure), now)),
            Input::Opened { job, at, plan, inputs } => {
                self.with(&job, |job| job.opened(at, plan, inputs, now, &mut actions));
            }
            Input::Planned { job, at, plan } => self.with(&job, |job| job.planned(at, &plan, now, &mut actions)),
            Input::Frozen { job, at, inputs } => self.with(&job, |job| job.frozen(at, &inputs)),
            Input::Summarised { job, at, figures } => {
                self.with(&job, |job| job.summarised(at, figures, now, &mut actions))
            }
            Input::Finished { job, manifest } => self.with(&job, |job| job.finished(manifest, now)),
            Input::Stuck { job, failure } => self.pause(&job, failure, now, &mut actions),
            Input::Decide(id, decision) => match decision {
                Decision::Cancel => self.cancel(&id, now, &mut actions),
                Decision::Pause | Decision::Resume | Decision::Priority { .. } | Decision::Retry => {}
            },
            Input::Recorded { .. } | Input::SplitInto { .. } | Input::Relisted { .. } | Input::Reduced { .. } => {}
            Input::Checked { work, exists } => self.checked(&work, exists, now, &mut actions),
            Input::Heard(event) => self.heard(&event, now, &mut actions),
            Input::Hello(hello) => self.hello(hello, now),
            Input::Tick { .. } => self.tick(now, &mut actions),
        }
        self.choose_engines(now, &mut actions);
        self.fill(now, &mut actions);
        actions
    }

    /// Answers that come for a job that is over (cancelled in the meantime) change nothing.
    fn with(&mut self, id: &JobId, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.jobs.get_mut(id).filter(|job| !job.state().is_over()) {
            change(job);
        }
    }

    /// Takes up work while the window has room: the job with the least on its way goes first, in its plan order.
    fn fill(&mut self, now: Now, actions: &mut Vec<Action>) {
        let window = self.policy.window.max(self.policy.window_per_lane * self.fleet.lanes(now));
        loop {
            let opening: usize = self.jobs.values().map(Job::opening).sum();
            if self.work.len() + opening >= window {
                return;
            }
            let next = self.jobs.values_mut().filter(|job| job.has_ready()).min_by_key(|job| job.turn());
            let Some(job) = next else { return };
            if let Some((work, subscriber)) = job.take(actions) {
                self.enrol(work, subscriber, actions);
            }
        }
    }

    fn enrol(&mut self, work: WorkId, subscriber: Subscriber, actions: &mut Vec<Action>) {
        if let Some(entry) = self.work.get_mut(&work) {
            entry.subscribers.push(subscriber);
            return;
        }
        let entry = Entry::new(subscriber);
        actions.extend(self.check(&work, &entry));
        self.work.insert(work, entry);
    }

    /// Asks for the commit object of this work.
    fn check(&self, work: &WorkId, entry: &Entry) -> Option<Action> {
        let Subscriber { job, place } = entry.account()?;
        let object = match place.step {
            Step::Open => return None,
            Step::Index { .. } => Object::Store(keys::store::index(&work.digest)),
            Step::Map { .. } => Object::Store(keys::store::shard_index(&work.digest)),
            Step::Reduce => Object::Out(keys::job::summary(job, GENERATION, self.jobs.get(job)?.id_of(place.at)?)),
        };
        Some(Action::Check { job: job.clone(), work: work.clone(), object })
    }

    /// The answer to a check: done, or to be released (again).
    fn checked(&mut self, work: &WorkId, exists: bool, now: Now, actions: &mut Vec<Action>) {
        let Some(entry) = self.work.get_mut(work) else { return };
        if exists {
            self.decide(work, &Verdict::Found, now, actions);
        } else if entry.expects_answer() {
            self.release(work, now, actions);
        }
    }

    fn release(&mut self, work: &WorkId, now: Now, actions: &mut Vec<Action>) {
        let Some(entry) = self.work.get_mut(work) else { return };
        let release = entry.next_release(self.policy.first_release, now);
        let Some(Subscriber { job: id, place }) = entry.account().cloned() else { return };
        let Some(job) = self.jobs.get(&id) else { return };
        if let Some(kind) = job.task(place) {
            let (archive, store, out) = job.places();
            let task = Task {
                job: id.to_string(),
                digest: work.digest,
                release,
                epoch: self.policy.epoch,
                band: Band::Normal,
                avoid: None,
                alone: false,
                archive,
                store,
                out,
                kind,
            };
            actions.push(Action::Release(Box::new(task)));
        }
    }

    /// Tells everybody who wants this work how it ended, and forgets it.
    fn decide(&mut self, work: &WorkId, verdict: &Verdict, now: Now, actions: &mut Vec<Action>) {
        let Some(entry) = self.work.remove(work) else { return };
        for Subscriber { job, place } in entry.subscribers {
            self.with(&job, |job| job.decided(place, verdict, now, actions));
        }
    }

    fn heard(&mut self, event: &Event, now: Now, actions: &mut Vec<Action>) {
        if let EventKind::Failed { disposition, cause, exit, hint, .. } = &event.kind
            && *disposition == fulltime_common::Disposition::WorkerUnfit
        {
            let failure = JobFailure { exit: *exit, cause: cause.clone(), hint: hint.clone() };
            self.fleet.unfit(&event.worker, &event.job, failure, now);
        }
        let Some(work) = self.work_of(&event.job, event.digest) else { return };
        let several = self.fleet.fit(now) > 1;
        let Some(entry) = self.work.get_mut(&work) else { return };
        let after = entry.heard(event, &self.policy, several, now);
        let subscribers: BTreeSet<JobId> = entry.subscribers.iter().map(|s| s.job.clone()).collect();
        match after {
            After::Nothing => {}
            After::Decide(verdict) => self.decide(&work, &verdict, now, actions),
            After::Again => self.release(&work, now, actions),
            After::Trouble(failure) => {
                for id in subscribers {
                    let (mut failures, mut lasting) = (0, Duration::ZERO);
                    self.with(&id, |job| (failures, lasting) = job.trouble(&failure.cause, now));
                    if failures >= self.policy.trouble && lasting >= self.policy.patience {
                        self.pause(&id, failure.clone(), now, actions);
                    }
                }
            }
            After::Pause(failure) => {
                for id in subscribers {
                    self.pause(&id, failure.clone(), now, actions);
                }
            }
        }
    }

    /// Which work on its way a worker speaks of.
    fn work_of(&self, job: &str, digest: Digest) -> Option<WorkId> {
        self.jobs.get(job)?.work_ids(digest).find(|work| self.work.contains_key(work))
    }

    fn hello(&mut self, hello: Hello, now: Now) {
        for lane in &hello.lanes {
            let (Some(digest), Some(job)) = (lane.task, &lane.job) else { continue };
            if let Some(entry) = self.work_of(job, digest).and_then(|work| self.work.get_mut(&work)) {
                entry.sign_of_life(now);
            }
        }
        self.fleet.hear(hello, now);
    }

    fn tick(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.fleet.forget_the_silent(now);
        self.ask_for_lost_work(now, actions);
        self.pause_the_hopeless(now, actions);
        let active = self.jobs.values().filter(|job| !job.state().is_over());
        let running: Vec<_> = active.map(|job| (job.id.clone(), self.frames_in_lanes(&job.id, now))).collect();
        for (id, frames) in running {
            self.with(&id, |job| job.sample(frames, now));
        }
    }

    /// A released task of which nobody has spoken for a long time, while a lane that could run it stands idle, was lost
    /// by the queue, or its event was.
    fn ask_for_lost_work(&mut self, now: Now, actions: &mut Vec<Action>) {
        let silence = self.policy.lease * 3;
        let mut lost = Vec::new();
        for (work, entry) in &self.work {
            let Some(Subscriber { job, place }) = entry.account() else { continue };
            if entry.silent_for(now) < silence {
                continue;
            }
            let Some(kind) = self.jobs.get(job).and_then(|job| job.task(*place)) else { continue };
            if self.fleet.idle(&pool_of(kind), now) {
                lost.push(work.clone());
            }
        }
        for work in lost {
            if let Some(entry) = self.work.get_mut(&work) {
                entry.asked_again();
            }
            actions.extend(self.work.get(&work).and_then(|entry| self.check(&work, entry)));
        }
    }

    /// Jobs that no worker can or will run: the last fit worker has declared itself unfit, or the engine class that the
    /// plan pins is on none of the workers that are there.
    fn pause_the_hopeless(&mut self, now: Now, actions: &mut Vec<Action>) {
        let mut hopeless = Vec::new();
        let anybody_fit = self.fleet.fit(now) > 0;
        for (id, job) in self.jobs.iter_mut().filter(|(_, job)| !job.state().is_over()) {
            let unfit = self.fleet.failure_of(id).filter(|_| !anybody_fit).cloned();
            let waits = || self.work.values().any(|entry| entry.waits_for_class(id));
            let wrong_class = job.pinned().filter(|class| anybody_fit && !self.fleet.has(class, now) && waits());
            let (failure, grace) = match (unfit, wrong_class) {
                (Some(failure), _) => (failure, self.policy.unfit_grace),
                (None, Some(class)) => (job::wrong_class(class), self.policy.class_grace),
                (None, None) => {
                    job.hopeless_since = None;
                    continue;
                }
            };
            if now.saturating_sub(*job.hopeless_since.get_or_insert(now)) >= grace {
                hopeless.push((id.clone(), failure));
            }
        }
        for (id, failure) in hopeless {
            self.pause(&id, failure, now, actions);
        }
    }

    fn choose_engines(&mut self, now: Now, actions: &mut Vec<Action>) {
        for job in self.jobs.values_mut().filter(|job| job.wants_engine()) {
            if let Some(class) = self.fleet.choose(now) {
                job.pin(class, actions);
            }
        }
    }

    fn pause(&mut self, id: &JobId, failure: JobFailure, now: Now, actions: &mut Vec<Action>) {
        if self.jobs.get(id).is_none_or(|job| job.state().is_over()) {
            return;
        }
        self.with(id, |job| job.end(JobState::Paused, Some(failure), now));
        actions.push(Action::Withdraw { job: id.clone() });
        self.unsubscribe(id, now, actions);
    }

    fn cancel(&mut self, id: &JobId, now: Now, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if matches!(job.state(), JobState::Cancelled | JobState::Finished) {
            return;
        }
        job.end(JobState::Cancelled, Some(job::cancelled()), now);
        let only = |entry: &Entry| entry.phase == Phase::Out && entry.subscribers.iter().all(|s| s.job == *id);
        let work = self.work.iter().filter(|(_, entry)| only(entry));
        let work = work.map(|(work, entry)| (work.digest, entry.release())).collect();
        actions.push(Action::Withdraw { job: id.clone() });
        actions.push(Action::Stop { job: id.clone(), work });
        self.unsubscribe(id, now, actions);
    }

    /// Work that another job wants, too, goes on, on that job's account.
    fn unsubscribe(&mut self, id: &JobId, now: Now, actions: &mut Vec<Action>) {
        let mut orphans = Vec::new();
        self.work.retain(|work, entry| {
            let was_account = entry.account().is_some_and(|s| s.job == *id);
            entry.subscribers.retain(|s| s.job != *id);
            if was_account && !entry.subscribers.is_empty() {
                orphans.push(work.clone());
            }
            !entry.subscribers.is_empty()
        });
        for work in orphans {
            match self.work.get(&work).map(|entry| entry.phase) {
                Some(Phase::Out) => self.release(&work, now, actions),
                Some(Phase::Asking) => {
                    actions.extend(self.work.get(&work).and_then(|entry| self.check(&work, entry)));
                }
                None => {}
            }
        }
    }
}

/// How a unit of work ended.
#[derive(Debug, Clone, PartialEq)]
enum Verdict {
    /// The result was there before anything was released.
    Found,
    Committed(Box<Outcome>),
    GivenUp(String),
}

fn pool_of(kind: TaskKind) -> Pool {
    match kind {
        TaskKind::Map { shard } => Pool::Class(shard.engine),
        TaskKind::Index { .. } | TaskKind::Reduce { .. } => Pool::Any,
    }
}
