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
    error::Disposition,
    keys,
    plan::{MatchPlan, PlannedMatch, ShardSpec},
    spec::Given,
    wire::{Band, Event, EventKind, Hello, JobFailure, JobState, Outcome, Pool, Task, TaskKind},
};

mod account;
mod charges;
mod decisions;
mod entry;
mod fixture;
mod fleet;
mod job;
mod observed;
mod policy;
mod progress;
mod status;
#[cfg(test)]
mod tests;
mod turns;
mod vocabulary;
mod watch;
use account::Accounts;
use charges::Judgement;
use decisions::Parting;
pub use entry::WorkId;
use entry::{After, Charge, Entry, Live, Subscriber};
use fixture::{Fixture, Reading};
use fleet::Fleet;
use fulltime_observe::anomaly::Watch;
use job::{Job, TakenUp};
pub use observed::{Aside, PastFinding, Seen, Tally};
pub use policy::Policy;
use turns::Turns;
pub use vocabulary::{
    Action, Admitted, Attempt, Booking, Decision, Figures, Input, Limits, MatchOutcome, Object, Past, PlanOrder,
    RunFigures,
};
use watch::Flow;

/// Time since the coordinator started.
pub type Now = Duration;
pub type JobId = Arc<str>;

/// The first generation of a job; every retry of quarantined work makes the next.
pub const GENERATION: u32 = 1;

/// A unit of work of a job. The order is the plan order: matches one after the other, each step by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    at: u32,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Index { recording: u32 },
    Map { recording: u32, shard: u32 },
    Reduce,
}

impl Step {
    const FIRST: Self = Self::Index { recording: 0 };
}

/// The state. See the module.
#[derive(Debug, Clone)]
pub struct Ledger {
    policy: Policy,
    jobs: BTreeMap<JobId, Job>,
    work: BTreeMap<WorkId, Entry>,
    /// Entries by band.
    busy: BTreeMap<Band, usize>,
    /// How the queues move: shards and the rest, by band.
    flows: BTreeMap<(bool, Band), Flow>,
    turns: Turns,
    fleet: Fleet,
    /// Of the day, as of the last tick that knew it.
    minute: Option<u16>,
    accounts: Accounts,
    /// Some job waits for an engine class.
    engineless: bool,
    /// No release may have a number below this one.
    least_release: u32,
    /// What is wrong with workers.
    watch: Aside<Watch>,
    tally: Aside<Tally>,
}

impl Ledger {
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            jobs: BTreeMap::new(),
            work: BTreeMap::new(),
            busy: BTreeMap::new(),
            flows: BTreeMap::new(),
            turns: Turns::new(policy.quantum),
            fleet: Fleet::new(policy.silence),
            minute: None,
            accounts: Accounts::default(),
            engineless: false,
            least_release: 0,
            watch: Aside::default(),
            tally: Aside::default(),
            policy,
        }
    }

    /// The only way to change the ledger.
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        match input {
            Input::Announce(id) => {
                self.jobs.entry(id.clone()).or_insert_with(|| Job::new(id, now));
            }
            Input::Forget(id) => self.forget(&id, now, &mut actions),
            Input::Spent { tenants, fresh } => self.spent(tenants, fresh),
            Input::Admit(id, admitted) => {
                let minute = self.minute;
                self.with(&id, |job| {
                    job.admit(*admitted, now, &mut actions);
                    minute.into_iter().for_each(|minute| job.look_at_the_clock(minute));
                });
                self.look_at_the_budget(&id, now, &mut actions);
            }
            Input::Past(id, past) => self.with(&id, |job| job.recall(*past, now)),
            Input::Refuse(id, failure) => self.with(&id, |job| job.end(JobState::Failed, Some(failure), now)),
            Input::Opened { job, at, plan, inputs } => {
                self.with(&job, |job| job.opened(at, plan, inputs, now, &mut actions));
            }
            Input::Planned { job, at, plan } => self.with(&job, |job| job.planned(at, &plan, now, &mut actions)),
            Input::Reduced { job, at, exists } => self.with(&job, |job| job.reduced(at, exists, &mut actions)),
            Input::SplitInto { job, at, recording, digest, parts } => {
                self.with(&job, |job| job.split_into(at, recording, digest, parts, &mut actions));
            }
            Input::Relisted { job, at, revision, planned } => {
                self.with(&job, |job| job.relisted(at, revision, *planned, now, &mut actions));
            }
            Input::Frozen { job, at, inputs } => self.with(&job, |job| job.frozen(at, &inputs)),
            Input::Summarised { job, at, figures } => {
                self.with(&job, |job| job.summarised(at, figures, now, &mut actions));
            }
            Input::Finished { job, manifest } => self.with(&job, |job| job.finished(manifest, now)),
            Input::Stuck { job, failure } => self.pause_unfit(&job, failure, now, &mut actions),
            Input::Decide(id, decision) => self.decided_by_people(&id, decision, now, &mut actions),
            Input::Recorded { job, attempt } => self.recorded(&job, *attempt, now, &mut actions),
            Input::Checked { work, exists } => self.checked(&work, exists, now, &mut actions),
            Input::Heard(event) => self.heard(&event, now, &mut actions),
            Input::Hello(hello) => self.hello(hello, now),
            Input::Tick { minute } => self.tick(minute, now, &mut actions),
        }
        if self.engineless {
            self.choose_engines(&mut actions);
        }
        self.fill(now, &mut actions);
        actions
    }

    /// Answers that come for a job that is over (cancelled in the meantime) change nothing.
    fn with(&mut self, id: &JobId, change: impl FnOnce(&mut Job)) {
        let most = self.preparing_at_most();
        let Some(job) = self.jobs.get_mut(id).filter(|job| !job.is_over()) else { return };
        change(job);
        self.engineless |= job.wants_engine();
        if job.is_runnable(most) {
            self.turns.join(job.band, &job.tenant(), id);
        }
    }

    /// Tasks of one band, or a more urgent one, that may be out at once.
    fn window(&self) -> usize {
        self.policy.window.max(self.policy.window_per_lane * self.fleet.lanes())
    }

    /// Matches of one job between the list and their first shard: enough to keep all lanes in work, and no more, since
    /// the shards of each are in memory soon after.
    fn preparing_at_most(&self) -> usize {
        (self.window() / 16).clamp(16, 256)
    }

    /// Takes up work while the window has room: the most urgent band first, in it tenants and jobs by turns, of a job in
    /// plan order.
    fn fill(&mut self, now: Now, actions: &mut Vec<Action>) {
        let (window, most) = (self.window(), self.preparing_at_most());
        let mut above = 0;
        for band in Band::ALL {
            while above + self.busy.get(&band).copied().unwrap_or_default() < window {
                let Some(id) = self.turns.next(band) else { break };
                let job = self.jobs.get_mut(&id).filter(|job| job.band == band && job.is_runnable(most));
                match job.and_then(|job| job.take(most, actions)) {
                    None => self.turns.leave(band),
                    Some(TakenUp::Match) => self.turns.spend(band, 1),
                    Some(TakenUp::Work(work, subscriber, cost)) => {
                        self.turns.spend(band, cost);
                        self.enrol(work, subscriber, now, actions);
                    }
                }
            }
            above += self.busy.get(&band).copied().unwrap_or_default();
        }
    }

    fn enrol(&mut self, work: WorkId, subscriber: Subscriber, now: Now, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get(&subscriber.job) else { return };
        let band = job.band;
        if let Some(entry) = self.work.get_mut(&work) {
            if entry.subscribers.iter().all(|s| s.job != subscriber.job || s.place != subscriber.place) {
                entry.subscribers.push(subscriber);
            }
            // It runs at the band of its most urgent subscriber.
            let urgent = entry.band.min(band);
            self.move_to(&work, urgent, now, actions);
            return;
        }
        let entry = Entry::new(subscriber, band, job.charges(&work.digest, &self.policy));
        actions.extend(self.check(&work, &entry));
        *self.busy.entry(band).or_default() += 1;
        self.work.insert(work, entry);
    }

    /// Entries are removed here and nowhere else.
    fn remove(&mut self, work: &WorkId) -> Option<Entry> {
        let entry = self.work.remove(work)?;
        if let Some(busy) = self.busy.get_mut(&entry.band) {
            *busy = busy.saturating_sub(1);
        }
        Some(entry)
    }

    /// Asks for the commit object of this work.
    fn check(&self, work: &WorkId, entry: &Entry) -> Option<Action> {
        let Subscriber { job: id, place } = entry.account()?;
        let job = self.jobs.get(id)?;
        let object = match place.step {
            Step::Index { .. } => Object::Store(keys::store::index(&work.digest)),
            Step::Map { .. } => Object::Store(keys::store::shard_index(&work.digest)),
            Step::Reduce => Object::Out(keys::job::summary(id, job.generation(), job.id_of(place.at)?)),
        };
        Some(Action::Check { job: id.clone(), work: work.clone(), object })
    }

    /// The answer to a check: done, or to be released (again).
    fn checked(&mut self, work: &WorkId, exists: bool, now: Now, actions: &mut Vec<Action>) {
        let Some(entry) = self.work.get_mut(work) else { return };
        if exists {
            self.decide(work, &Verdict::Found, None, now, actions);
        } else if entry.expects_answer() {
            // Whatever was out is lost: nobody has spoken of it.
            let lost = std::mem::take(&mut entry.live);
            let tasks = lost.iter().filter_map(|live| self.task(work, live)).collect();
            discard(tasks, actions);
            self.again(work, now, actions);
        }
    }

    /// Releases work, unless what is charged to it speaks against it, or nobody who wants it may run.
    fn again(&mut self, work: &WorkId, now: Now, actions: &mut Vec<Action>) {
        let Some(entry) = self.work.get_mut(work) else { return };
        let jobs = &self.jobs;
        let active = entry.subscribers.iter().position(|s| jobs.get(&s.job).is_some_and(|job| job.takes(s.place.at)));
        let Some(active) = active else {
            self.drop_work(work, actions);
            return;
        };
        entry.subscribers.swap(0, active);
        if self.weigh(work, now, actions) {
            let queued = self.work.get_mut(work).map(Entry::take_queued).unwrap_or_default();
            let tasks = queued.iter().filter_map(|live| self.task(work, live)).collect();
            discard(tasks, actions);
            self.release(work, None, now, actions);
        }
    }

    /// Judges what is charged to work. True if it may go on.
    fn weigh(&mut self, work: &WorkId, now: Now, actions: &mut Vec<Action>) -> bool {
        let Some(entry) = self.work.get(work) else { return false };
        let others = || self.has_another(entry, |worker| entry.charges.failed_on(worker), now);
        match entry.charges.judge(!entry.charges.suspect() || others(), &self.policy) {
            Judgement::Open => true,
            Judgement::Poison(reason) => {
                self.decide(work, &Verdict::GivenUp(reason), None, now, actions);
                false
            }
            Judgement::Exhausted(failure) => {
                self.hold(work, &failure, now, actions);
                false
            }
        }
    }

    fn has_another(&self, entry: &Entry, not: impl Fn(&str) -> bool, now: Now) -> bool {
        let kind = entry.account().and_then(|s| self.jobs.get(&s.job)?.task(s.place));
        kind.is_some_and(|kind| self.fleet.has_another(&pool_of(&kind), not, now))
    }

    /// One more release. `rival`: the worker that runs the other one.
    fn release(&mut self, work: &WorkId, rival: Option<String>, now: Now, actions: &mut Vec<Action>) {
        let accuser = self.work.get(work).and_then(|entry| {
            let accuser = entry.charges.accuser()?.to_owned();
            self.has_another(entry, |worker| entry.charges.failed_on(worker), now).then_some(accuser)
        });
        let clock = self.policy.first_release.wrapping_add(now.as_secs() as u32);
        let least = clock.max(self.least_release);
        let Some(entry) = self.work.get_mut(work) else { return };
        let Some(account) = entry.account().map(|s| s.job.clone()) else { return };
        let looked_for = entry.expects_answer();
        entry.released(least, &account, now);
        let (live, alone) = (entry.live.last().cloned(), entry.charges.suspect());
        if let Some(task) = live.and_then(|live| self.task(work, &live)) {
            self.tally.released += 1;
            actions.push(Action::Release(Box::new(Task { avoid: rival.or(accuser), alone, looked_for, ..task })));
        }
    }

    /// A release as the bus knows it: to be put there, or to be taken off again.
    fn task(&self, work: &WorkId, live: &Live) -> Option<Task> {
        let id = live.account.as_ref()?;
        let place = self.work.get(work)?.subscribers.iter().find(|s| s.job == *id)?.place;
        let account = self.jobs.get(id)?;
        let kind = account.task(place)?;
        let setting = account.setting.as_ref()?;
        Some(Task {
            job: id.to_string(),
            digest: work.digest,
            release: live.release,
            epoch: self.policy.epoch,
            band: live.band,
            avoid: None,
            alone: false,
            looked_for: false,
            archive: setting.archive.clone(),
            store: setting.store.to_string(),
            out: setting.out.clone(),
            generation: setting.generation,
            // Known to whoever has read the job.
            trace: None,
            kind,
        })
    }

    /// Tells everybody who wants this work how it ended, and forgets it. `by`: the release that decided it; others are
    /// taken off the bus or stopped.
    fn decide(&mut self, work: &WorkId, verdict: &Verdict, by: Option<u32>, now: Now, actions: &mut Vec<Action>) {
        let Some(entry) = self.work.get(work) else { return };
        if entry.live.iter().any(|live| Some(live.release) != by) {
            self.call_off(work, by, actions);
        }
        let Some(entry) = self.remove(work) else { return };
        self.tally.decided(verdict);
        if matches!(verdict, Verdict::GivenUp(_)) {
            self.least_release = self.least_release.max(entry.release() + 1);
        }
        for Subscriber { job: id, place } in entry.subscribers {
            if *verdict == Verdict::Changed {
                self.part(&id, Some(place.at), Parting::Drop, now, actions);
                let most = self.policy.revisions;
                self.with(&id, |job| job.recording_changed(place.at, most, actions));
            } else {
                self.with(&id, |job| job.decided(place, verdict, now, actions));
            }
            self.look_at_the_budget(&id, now, actions);
        }
    }

    fn look_at_the_budget(&mut self, id: &JobId, now: Now, actions: &mut Vec<Action>) {
        if let Some(failure) = self.jobs.get(id).and_then(Job::over_budget) {
            self.pause(id, failure, now, actions);
        }
        // Asked after every shard.
        if !self.policy.quotas.is_empty() {
            let over = self.is_over_quota(id);
            self.with(id, |job| job.over_quota = over);
        }
    }

    /// Ends the other releases of this work.
    fn call_off(&mut self, work: &WorkId, but: Option<u32>, actions: &mut Vec<Action>) {
        let Some(entry) = self.work.get(work) else { return };
        let (running, queued): (Vec<_>, Vec<_>) =
            entry.live.iter().filter(|live| Some(live.release) != but).partition(|live| live.run.is_some());
        discard(queued.iter().filter_map(|live| self.task(work, live)).collect(), actions);
        let latest = running.iter().map(|live| live.release).max();
        if let Some((latest, account)) = latest.zip(entry.account()) {
            actions.push(Action::Stop { job: account.job.clone(), work: vec![(work.digest, latest)] });
        }
    }

    fn heard(&mut self, event: &Event, now: Now, actions: &mut Vec<Action>) {
        self.note_failure(event);
        if let EventKind::Failed { disposition, cause, exit, hint, .. } = &event.kind
            && *disposition == Disposition::WorkerUnfit
        {
            let failure = JobFailure { exit: *exit, cause: cause.clone(), hint: hint.clone() };
            self.fleet.unfit(&event.worker, &event.job, failure, now);
        }
        let Some(work) = self.work_of(&event.job, event.digest) else { return };
        let Some(entry) = self.work.get_mut(&work) else { return };
        if matches!(event.kind, EventKind::Started) {
            self.flows.entry((entry.is_map(), entry.band)).or_default().moved(entry.released_at(), now);
        }
        match entry.heard(event, &self.policy, now) {
            After::Nothing => {}
            After::Decide(verdict) => self.decide(&work, &verdict, Some(event.release), now, actions),
            After::Record(charge) => self.record(&work, *charge, now, actions),
            After::Trouble(failure) => self.trouble(&work, &failure, now, actions),
            After::PauseJob(failure) => {
                for id in self.subscribers(&work) {
                    self.pause_unfit(&id, failure.clone(), now, actions);
                }
            }
        }
        if self.work.get(&work).is_some_and(Entry::is_stranded) {
            self.again(&work, now, actions);
        }
    }

    fn subscribers(&self, work: &WorkId) -> BTreeSet<JobId> {
        self.work.get(work).into_iter().flat_map(|entry| &entry.subscribers).map(|s| s.job.clone()).collect()
    }

    /// A failure costs budget: it is made durable first, on the account of the job that ran it.
    fn record(&mut self, work: &WorkId, charge: Charge, now: Now, actions: &mut Vec<Action>) {
        if matches!(charge.disposition, Disposition::Transient | Disposition::WorkerUnfit | Disposition::OutOfMemory) {
            self.trouble(work, &charge.failure, now, actions);
        }
        let Some(account) = self.work.get(work).and_then(Entry::account) else { return };
        let job = account.job.clone();
        self.with(&job.clone(), |owner| {
            let attempt = Box::new(owner.attempt(work.digest, charge));
            actions.push(Action::Record { job, attempt });
        });
    }

    fn recorded(&mut self, id: &JobId, attempt: Attempt, now: Now, actions: &mut Vec<Action>) {
        let work = self.work_of(id, attempt.digest);
        self.with(id, |job| job.recorded(attempt.clone()));
        let Some(work) = work else { return };
        let Some(entry) = self.work.get_mut(&work) else { return };
        entry.recorded(&attempt, &self.policy);
        if self.weigh(&work, now, actions) && self.work.get(&work).is_some_and(Entry::is_stranded) {
            self.again(&work, now, actions);
        }
    }

    /// Infrastructure troubles in a row concern the job, whatever task they hit.
    fn trouble(&mut self, work: &WorkId, failure: &JobFailure, now: Now, actions: &mut Vec<Action>) {
        for id in self.subscribers(work) {
            let (mut failures, mut lasting) = (0, Duration::ZERO);
            self.with(&id, |job| (failures, lasting) = job.trouble(&failure.cause, now));
            if failures >= self.policy.trouble && lasting >= self.policy.patience {
                self.pause(&id, failure.clone(), now, actions);
            }
        }
    }

    /// Which work on its way a worker speaks of.
    fn work_of(&self, job: &str, digest: Digest) -> Option<WorkId> {
        self.jobs.get(job)?.work_ids(digest).find(|work| self.work.contains_key(work))
    }

    fn hello(&mut self, hello: Hello, now: Now) {
        let running = hello.lanes.iter().filter_map(|lane| Some((lane.job.as_ref()?, lane.task?, false)));
        let waiting = hello.waiting.iter().map(|(job, digest)| (job, *digest, true));
        for (job, digest, waits) in running.chain(waiting) {
            if let Some(entry) = self.work_of(job, digest).and_then(|work| self.work.get_mut(&work)) {
                entry.seen(&hello.worker, waits, now);
            }
        }
        self.note_sample(&hello, now);
        self.fleet.hear(hello, now);
    }
}

/// Names the result of a whole match, should no shard of this plan be given up: what [`Action::FindReduced`] asks for.
#[must_use]
pub fn whole_result(
    plan: &MatchPlan,
    splits: &BTreeMap<Digest, Vec<ShardSpec>>,
    archive: &str,
    reduce: Digest,
    given: &Given,
) -> Digest {
    let recordings = plan.recordings.iter().map(|recording| recording.placement.clone()).collect();
    let mut fixture = Fixture::new(PlannedMatch { id: plan.id.clone(), recordings }, 0);
    fixture.open(archive);
    fixture.load(plan, splits);
    // Neither job nor generation is part of the name.
    let reading = Reading { generation: GENERATION, pipeline: plan.pipeline, reduce, given };
    fixture.inputs("", reading, true).digest()
}

/// How a unit of work ended.
#[derive(Debug, Clone, PartialEq)]
enum Verdict {
    /// The result was there before anything was released.
    Found,
    Committed(Box<Outcome>),
    GivenUp(String),
    /// The recording is no longer the one that was planned.
    Changed,
}

fn pool_of(kind: &TaskKind) -> Pool {
    match kind {
        TaskKind::Map { shard } => Pool::Class(shard.engine.clone()),
        TaskKind::Index { .. } | TaskKind::Reduce { .. } => Pool::Any,
    }
}

fn discard(tasks: Vec<Task>, actions: &mut Vec<Action>) {
    if !tasks.is_empty() {
        actions.push(Action::Discard { tasks });
    }
}
