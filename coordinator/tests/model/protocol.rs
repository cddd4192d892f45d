//! The model: leaders with their ledgers, a queue with leases, a store, two workers, and a budget of accidents.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    hash::{Hash, Hasher},
    time::Duration,
};

use fulltime_common::{
    Disposition, Exit, keys,
    plan::ReduceInputs,
    wire::{Event, EventKind, Evidence, JobState, Outcome, Task, TaskKind},
};
use fulltime_coordinator::ledger::{Action, Attempt, Figures, Input, Ledger, Object};
use stateright::{Model, Property};

use crate::ground::{FRAMES, JOB, WORKERS, admitted, commit_of, hello, id, plan, policy};

/// How many accidents of each kind may happen.
#[derive(Debug, Clone, Copy, Hash)]
pub struct Faults {
    /// A worker dies with what it does.
    pub crash: u8,
    /// A lease runs out although its worker goes on.
    pub lease: u8,
    /// The queue loses a message.
    pub message: u8,
    /// An event never arrives, or twice.
    pub event: u8,
    /// Another leader takes over, while the first one still finishes its steps.
    pub leader: u8,
}

impl Faults {
    pub const NONE: Self = Self { crash: 0, lease: 0, message: 0, event: 0, leader: 0 };
}

#[derive(Debug)]
pub struct Protocol {
    pub shards: u32,
    pub faults: Faults,
    /// The first shard sometimes fails as if its input were bad.
    pub flaky: bool,
}

#[derive(Debug, Clone)]
struct Leader {
    ledger: Ledger,
    /// Steps against the store that are on their way.
    steps: Vec<Action>,
    events: Vec<Event>,
}

#[derive(Debug, Clone)]
struct Message {
    task: Task,
    leased: bool,
}

#[derive(Debug, Clone)]
struct Run {
    task: Task,
    committed: bool,
}

#[derive(Debug, Clone)]
pub struct State {
    /// The last one leads.
    leaders: Vec<Leader>,
    seconds: u64,
    queue: Vec<Message>,
    runs: [Option<Run>; 2],
    store: BTreeSet<String>,
    attempts: Vec<Attempt>,
    frozen: Option<ReduceInputs>,
    finished: bool,
    /// Who saw the flaky shard fail, and whether alone.
    failures: BTreeSet<(usize, bool)>,
    faults: Faults,
}

impl Hash for State {
    /// All of it, as it prints itself: the ledger has no order that is not in its types.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        struct Sink<'h, H>(&'h mut H);
        impl<H: Hasher> std::fmt::Write for Sink<'_, H> {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.0.write(text.as_bytes());
                Ok(())
            }
        }
        write!(Sink(hasher), "{self:?}").unwrap();
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Happening {
    /// A worker leases the n-th message and says so.
    Take(usize, usize),
    Commit(usize),
    /// It says what came of it, and acknowledges.
    End(usize),
    /// It finds the input to be bad.
    Fail(usize),
    Hear(usize),
    /// A step of a leader is carried out, and answered.
    Step(usize, usize),
    /// Nothing else happens for a long time.
    Silence,
    Crash(usize),
    Expire(usize),
    LoseMessage(usize),
    LoseEvent(usize),
    RepeatEvent(usize),
    TakeOver,
}

impl State {
    fn feed(&mut self, leader: usize, input: Input) {
        let now = Duration::from_secs(self.seconds);
        for action in self.leaders[leader].ledger.step(input, now) {
            match action {
                Action::Release(task) => self.queue.push(Message { task: *task, leased: false }),
                Action::Discard { tasks } => {
                    let named = |message: &Message| tasks.iter().any(|t| t.message_id() == message.task.message_id());
                    self.queue.retain(|message| !named(message));
                }
                Action::Withdraw { .. } => self.queue.clear(),
                // Late work is allowed, and must be harmless.
                Action::Stop { .. } | Action::Quarantine { .. } | Action::Book(_) | Action::Notify { .. } => {}
                other => self.leaders[leader].steps.push(other),
            }
        }
    }

    /// A leader that knows what the objects say.
    fn lead(&mut self, shards: u32) {
        let epoch = self.leaders.len() as u64;
        let ledger = Ledger::new(policy(epoch));
        self.leaders.push(Leader { ledger, steps: Vec::new(), events: Vec::new() });
        let leader = self.leaders.len() - 1;
        WORKERS.iter().for_each(|worker| self.feed(leader, Input::Hello(hello(worker))));
        self.feed(leader, Input::Announce(JOB.into()));
        self.feed(leader, Input::Admit(JOB.into(), Box::new(admitted(self.attempts.clone()))));
        // What it reads first does not depend on when.
        while let Some(n) = self.leaders[leader]
            .steps
            .iter()
            .position(|step| matches!(step, Action::Open { .. } | Action::FindReduced { .. }))
        {
            self.step(leader, n, shards);
        }
    }

    fn step(&mut self, leader: usize, n: usize, shards: u32) {
        let input = match self.leaders[leader].steps.remove(n) {
            Action::Open { job, at, .. } => {
                let inputs = self.frozen.clone().map(Box::new);
                Input::Opened { job, at, plan: Some(Box::new(plan(shards))), inputs }
            }
            Action::FindReduced { job, at, .. } => Input::Reduced { job, at, exists: false },
            Action::Check { work, object: Object::Store(key) | Object::Out(key), .. } => {
                Input::Checked { work, exists: self.store.contains(&key) }
            }
            Action::Record { job, attempt } => {
                self.attempts.push((*attempt).clone());
                Input::Recorded { job, attempt }
            }
            Action::Freeze { job, at, inputs } => {
                // Put once: whoever comes second reads what the first one put.
                let inputs = Box::new(self.frozen.get_or_insert(*inputs).clone());
                Input::Frozen { job, at, inputs }
            }
            Action::Summarise { job, at, .. } => Input::Summarised { job, at, figures: Figures::default() },
            Action::Finish { job, .. } => {
                self.finished = true;
                Input::Finished { job, manifest: "manifest".into() }
            }
            other => panic!("not in this model: {other:?}"),
        };
        self.feed(leader, input);
    }

    fn say(&mut self, worker: usize, task: &Task, kind: EventKind) {
        let (job, digest, release) = (task.job.clone(), task.digest, task.release);
        let event = Event { job, digest, release, worker: WORKERS[worker].into(), kind };
        // A leader that is being replaced hears no more.
        if let Some(leader) = self.leaders.last_mut() {
            leader.events.push(event);
        }
    }

    fn ack(&mut self, task: &Task) {
        self.queue.retain(|message| message.task.message_id() != task.message_id());
    }

    fn free(&mut self, task: &Task) {
        let same = |message: &&mut Message| message.task.message_id() == task.message_id();
        self.queue.iter_mut().filter(same).for_each(|message| message.leased = false);
    }

    fn leads(&self) -> usize {
        self.leaders.len() - 1
    }

    fn state(&self) -> Option<JobState> {
        self.leaders.last()?.ledger.state(JOB)
    }

    /// Everything but accidents and silence.
    fn ordinary(&self, model: &Protocol) -> Vec<Happening> {
        let mut happenings = Vec::new();
        for (worker, run) in self.runs.iter().enumerate() {
            match run {
                None => {
                    let free =
                        |message: &Message| !message.leased && message.task.avoid.as_deref() != Some(WORKERS[worker]);
                    let first = self.queue.iter().position(free);
                    happenings.extend(first.map(|n| Happening::Take(worker, n)));
                }
                Some(run) if run.committed => happenings.push(Happening::End(worker)),
                Some(run) => {
                    happenings.push(Happening::Commit(worker));
                    if model.flaky && model.is_first(&run.task) && self.failures.len() < 4 {
                        happenings.push(Happening::Fail(worker));
                    }
                }
            }
        }
        for (n, leader) in self.leaders.iter().enumerate() {
            if !leader.steps.is_empty() {
                happenings.push(Happening::Step(n, 0));
            }
            if !leader.events.is_empty() {
                happenings.push(Happening::Hear(n));
            }
        }
        happenings
    }

    fn accidents(&self) -> Vec<Happening> {
        let mut happenings = Vec::new();
        let leader = self.leads();
        for worker in 0..WORKERS.len() {
            let Some(run) = &self.runs[worker] else { continue };
            let leases = |message: &Message| message.leased && message.task.message_id() == run.task.message_id();
            if self.faults.crash > 0 {
                happenings.push(Happening::Crash(worker));
            }
            if self.faults.lease > 0 && self.queue.iter().any(leases) {
                happenings.push(Happening::Expire(worker));
            }
        }
        if self.faults.message > 0 {
            happenings.extend((0..self.queue.len()).map(Happening::LoseMessage));
        }
        if self.faults.event > 0 && !self.leaders[leader].events.is_empty() {
            happenings.extend([Happening::LoseEvent(leader), Happening::RepeatEvent(leader)]);
        }
        if self.faults.leader > 0 && !self.finished {
            happenings.push(Happening::TakeOver);
        }
        happenings
    }

    /// Shards of the frozen inputs exist, and with the gaps they are every frame exactly once.
    fn frozen_is_whole(&self, shards: u32) -> bool {
        let Some(inputs) = &self.frozen else { return true };
        let [recording] = &inputs.recordings[..] else { return false };
        let exist = recording.shards.iter().all(|s| self.store.contains(&keys::store::shard_index(&s.digest)));
        let mut parts: Vec<_> = recording.shards.iter().map(|shard| shard.frames.clone()).collect();
        parts.extend(recording.gaps.iter().map(|gap| gap.frames.clone()));
        parts.sort_by_key(|part| part.start);
        exist && parts.into_iter().eq((0..shards).map(|n| n * FRAMES..(n + 1) * FRAMES))
    }

    fn gaps_are_proven(&self) -> bool {
        let gaps = self.frozen.iter().flat_map(|inputs| &inputs.recordings).flat_map(|r| &r.gaps);
        let proven = || {
            let alone = self.failures.iter().filter(|(_, alone)| *alone);
            alone.into_iter().any(|(worker, _)| self.failures.iter().any(|(other, _)| other != worker))
        };
        gaps.into_iter().all(|gap| gap.frames == (0..FRAMES) && proven())
    }

    /// Whatever is to be reduced is what was frozen.
    fn reduces_are_frozen(&self) -> bool {
        let running = self.runs.iter().flatten().map(|run| &run.task);
        let mut reduces = self.queue.iter().map(|message| &message.task).chain(running);
        let frozen = self.frozen.as_ref().map(ReduceInputs::digest);
        let done = self.store.contains(&keys::job::summary(JOB, 1, &id()));
        (!done || frozen.is_some())
            && reduces.all(|task| !matches!(task.kind, TaskKind::Reduce { .. }) || Some(task.digest) == frozen)
    }
}

impl Protocol {
    fn is_first(&self, task: &Task) -> bool {
        matches!(&task.kind, TaskKind::Map { shard } if shard.frames.start == 0)
    }

    fn happenings(&self, state: &State) -> Vec<Happening> {
        let mut happenings = state.ordinary(self);
        // Time only passes where nothing else does: what comes in time is the same as what comes at once.
        if happenings.is_empty() && !state.finished {
            happenings.push(Happening::Silence);
        }
        happenings.extend(state.accidents());
        happenings
    }

    fn happen(&self, state: &mut State, happening: Happening) {
        match happening {
            Happening::Take(worker, n) => {
                state.queue[n].leased = true;
                let task = state.queue[n].task.clone();
                state.say(worker, &task, EventKind::Started);
                // What exists is found, and only spoken about.
                let committed = state.store.contains(&commit_of(&task));
                state.runs[worker] = Some(Run { task, committed });
            }
            Happening::Commit(worker) => {
                let Some(run) = &mut state.runs[worker] else { return };
                run.committed = true;
                state.store.insert(commit_of(&run.task));
            }
            Happening::End(worker) => {
                let Some(run) = state.runs[worker].take() else { return };
                state.say(worker, &run.task, EventKind::Committed(Outcome::default()));
                state.ack(&run.task);
            }
            Happening::Fail(worker) => {
                let Some(run) = state.runs[worker].take() else { return };
                state.failures.insert((worker, run.task.alone));
                let kind = EventKind::Failed {
                    disposition: Disposition::PoisonInput,
                    cause: "bad".into(),
                    exit: Exit::Archive as u8,
                    hint: None,
                    evidence: Evidence { alone: run.task.alone, ..Evidence::default() },
                };
                state.say(worker, &run.task, kind);
                state.ack(&run.task);
            }
            Happening::Hear(leader) => {
                let event = state.leaders[leader].events.remove(0);
                state.feed(leader, Input::Heard(event));
            }
            Happening::Step(leader, n) => state.step(leader, n, self.shards),
            Happening::Silence => {
                state.seconds += 31;
                state.feed(state.leads(), Input::Tick { minute: None });
            }
            Happening::Crash(worker) => {
                state.faults.crash -= 1;
                let Some(run) = state.runs[worker].take() else { return };
                state.free(&run.task);
            }
            Happening::Expire(worker) => {
                state.faults.lease -= 1;
                let Some(run) = state.runs[worker].clone() else { return };
                state.free(&run.task);
            }
            Happening::LoseMessage(n) => {
                state.faults.message -= 1;
                state.queue.remove(n);
            }
            Happening::LoseEvent(leader) => {
                state.faults.event -= 1;
                state.leaders[leader].events.remove(0);
            }
            Happening::RepeatEvent(leader) => {
                state.faults.event -= 1;
                let again = state.leaders[leader].events[0].clone();
                state.leaders[leader].events.push(again);
            }
            Happening::TakeOver => {
                state.faults.leader -= 1;
                state.leaders.iter_mut().for_each(|leader| leader.events.clear());
                state.lead(self.shards);
            }
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Happening;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            leaders: Vec::new(),
            seconds: 1,
            queue: Vec::new(),
            runs: [None, None],
            store: BTreeSet::new(),
            attempts: Vec::new(),
            frozen: None,
            finished: false,
            failures: BTreeSet::new(),
            faults: self.faults,
        };
        state.lead(self.shards);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Happening>) {
        actions.extend(self.happenings(state));
    }

    fn next_state(&self, state: &State, happening: Happening) -> Option<State> {
        let mut next = state.clone();
        self.happen(&mut next, happening);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "no match is reduced before all its shards are decided, no row counts twice",
                |model: &Self, state: &State| state.frozen_is_whole(model.shards),
            ),
            Property::always("only proven poison becomes a gap", |_, state: &State| state.gaps_are_proven()),
            Property::always("what is reduced is what was frozen", |_, state: &State| state.reduces_are_frozen()),
            // Every path ends, since accidents are few: where nothing is left to happen, the job is finished.
            Property::always("nothing is lost", |model: &Self, state: &State| {
                !model.happenings(state).is_empty() || state.state() == Some(JobState::Finished)
            }),
            Property::always("nothing waits for ever", |_, state: &State| state.seconds < 31 * 20),
            Property::sometimes("it ends", |_, state: &State| state.state() == Some(JobState::Finished)),
            Property::sometimes("every accident can happen", |model: &Self, state: &State| {
                let left = state.faults;
                let used = [left.crash, left.lease, left.message, left.event, left.leader].iter().all(|n| *n == 0);
                used && state.finished && model.shards > 0
            }),
            Property::sometimes("flaky input is quarantined or finished", |model: &Self, state: &State| {
                let gap = state.frozen.iter().flat_map(|inputs| &inputs.recordings).any(|r| !r.gaps.is_empty());
                gap == model.flaky && state.finished
            }),
        ]
    }
}
