//! Everything around the ledger, in memory and under the test's control: a store that knows what is committed, a queue,
//! workers, and answers on their way.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fulltime_common::{
    Disposition, Exit,
    digest::Digest,
    keys,
    plan::{
        EngineClass, MatchId, MatchPlan, Placement, PlannedMatch, RecordingPlan, RecordingRef, ReduceInputs, ShardSpec,
    },
    wire::{Band, Event, EventKind, Evidence, Hello, LaneState, Outcome, Task, TaskKind},
};

use super::super::{
    Action, Admitted, Attempt, Booking, Figures, Input, JobId, Ledger, Limits, MatchOutcome, Now, Object, PlanOrder,
    Policy,
};

/// Frames of an interval, intervals of a shard, and shards of a recording.
pub(super) const GOP: u32 = 5;
pub(super) const INTERVALS: u32 = 5;
pub(super) const FRAMES: u32 = GOP * INTERVALS;
pub(super) const SHARDS: u32 = 3;

pub(super) struct World {
    pub ledger: Ledger,
    pub now: Now,
    pub committed: BTreeSet<String>,
    pub queue: Vec<Task>,
    pub released: Vec<Task>,
    pub pending: Vec<Action>,
    pub events: Vec<Event>,
    /// Recordings and intervals (`key`, `key@frame`) that nobody can process.
    pub poison: BTreeSet<String>,
    pub frozen: BTreeMap<(String, u32), ReduceInputs>,
    pub plans: BTreeMap<(String, u32), MatchPlan>,
    pub splits: BTreeMap<Digest, Vec<ShardSpec>>,
    pub jobs: BTreeMap<String, Admitted>,
    pub opened: Vec<MatchId>,
    /// How often the store was asked for a result.
    pub checks: usize,
    pub attempts: Vec<Attempt>,
    pub lists: BTreeMap<MatchId, PlannedMatch>,
    pub stopped: Vec<(Digest, u32)>,
    pub discarded: Vec<Task>,
    pub withdrawn: Vec<String>,
    pub booked: Vec<Booking>,
    pub notified: Vec<String>,
    pub finished: Vec<Vec<MatchOutcome>>,
}

pub(super) fn policy() -> Policy {
    Policy { window: 4, window_per_lane: 1, ..Policy::new(Duration::from_secs(10)) }
}

pub(super) fn matches(names: &[(&str, &[&str])]) -> Vec<PlannedMatch> {
    let placement = |(period, key): (u32, &&str)| Placement {
        recording: RecordingRef { key: (*key).into(), size: 1, etag: "e".into() },
        period,
        camera: "main".into(),
        offset_us: 0,
    };
    names
        .iter()
        .map(|(name, keys)| PlannedMatch {
            id: MatchId { season: "s".into(), name: (*name).into() },
            recordings: (1..).zip(*keys).map(placement).collect(),
        })
        .collect()
}

/// A job over these matches.
pub(super) fn admitted(names: &[(&str, &[&str])]) -> Admitted {
    let digest = Digest::of_bytes(b"p");
    Admitted {
        archive: "file:///a".into(),
        store: "file:///s".into(),
        out: "file:///o".into(),
        pipeline: digest,
        map: digest,
        reduce: digest,
        given: Default::default(),
        matches: matches(names),
        revisions: BTreeMap::new(),
        generation: 1,
        band: Band::Normal,
        tenant: None,
        limits: Limits::default(),
        spent: Duration::ZERO,
        paused: false,
        round: 0,
        attempts: Vec::new(),
        splits: BTreeMap::new(),
        finished: BTreeSet::new(),
    }
}

/// A shard cut into two at half its intervals.
fn halves(shard: &ShardSpec) -> Vec<ShardSpec> {
    let middle = shard.intervals.start + shard.intervals.len() as u32 / 2;
    [shard.intervals.start..middle, middle..shard.intervals.end]
        .into_iter()
        .filter(|intervals| !intervals.is_empty())
        .map(|intervals| ShardSpec { frames: intervals.start * GOP..intervals.end * GOP, intervals, ..shard.clone() })
        .collect()
}

pub(super) fn hello(worker: &str, pid: u32, engine: &str) -> Hello {
    Hello {
        worker: worker.into(),
        host: "h".into(),
        pid,
        engine: EngineClass(engine.into()),
        lanes: vec![LaneState::default()],
        waiting: Vec::new(),
        draining: false,
        places: vec![],
        sample: None,
    }
}

impl World {
    pub fn new(policy: Policy) -> Self {
        Self {
            ledger: Ledger::new(policy),
            now: Duration::from_secs(1),
            committed: BTreeSet::new(),
            queue: Vec::new(),
            released: Vec::new(),
            pending: Vec::new(),
            events: Vec::new(),
            poison: BTreeSet::new(),
            frozen: BTreeMap::new(),
            plans: BTreeMap::new(),
            splits: BTreeMap::new(),
            jobs: BTreeMap::new(),
            opened: Vec::new(),
            checks: 0,
            attempts: Vec::new(),
            lists: BTreeMap::new(),
            stopped: Vec::new(),
            discarded: Vec::new(),
            withdrawn: Vec::new(),
            booked: Vec::new(),
            notified: Vec::new(),
            finished: Vec::new(),
        }
    }

    pub fn with_workers(names: &[&str]) -> Self {
        let mut world = Self::new(policy());
        names.iter().for_each(|name| world.feed(Input::Hello(hello(name, 1, "cpu"))));
        world
    }

    pub fn submit(&mut self, job: &str, names: &[(&str, &[&str])]) {
        self.submit_to(job, "file:///s", names);
    }

    pub fn submit_to(&mut self, job: &str, store: &str, names: &[(&str, &[&str])]) {
        self.submit_as(job, Admitted { store: store.into(), ..admitted(names) });
    }

    pub fn submit_as(&mut self, job: &str, admitted: Admitted) {
        self.jobs.insert(job.to_owned(), admitted.clone());
        self.lists.extend(admitted.matches.iter().map(|planned| (planned.id.clone(), planned.clone())));
        self.feed(Input::Announce(job.into()));
        self.feed(Input::Admit(job.into(), Box::new(admitted)));
    }

    /// The leader is gone with all it knew; the next one has the objects. What is queued is of a lower epoch and refused.
    pub fn change_leader(&mut self, jobs: &[&str]) {
        let policy = self.ledger.policy.clone();
        let (epoch, first_release) = (policy.epoch + 1, policy.first_release + 1000);
        self.ledger = Ledger::new(Policy { epoch, first_release, ..policy });
        self.pending.clear();
        self.queue.clear();
        for job in jobs {
            let (attempts, splits) = (self.attempts.clone(), self.splits.clone());
            self.submit_as(job, Admitted { attempts, splits, ..self.jobs[*job].clone() });
        }
    }

    pub fn feed(&mut self, input: Input) {
        for action in self.ledger.step(input, self.now) {
            match action {
                Action::Release(task) => {
                    let known = |other: &&Task| other.message_id() == task.message_id();
                    assert_eq!(self.released.iter().find(known), None, "the broker would drop a repeated release");
                    self.released.push((*task).clone());
                    self.queue.push(*task);
                }
                Action::Stop { work, .. } => self.stopped.extend(work),
                Action::Discard { tasks } => {
                    self.queue.retain(|queued| tasks.iter().all(|t| t.message_id() != queued.message_id()));
                    self.discarded.extend(tasks);
                }
                Action::Withdraw { job } => {
                    self.withdrawn.push(job.to_string());
                    self.queue.retain(|task| *task.job != *job);
                }
                Action::Book(booking) => self.booked.push(booking),
                Action::Notify { job } => self.notified.push(job.to_string()),
                other => self.pending.push(other),
            }
        }
        self.check_books();
    }

    fn store_of(&self, job: &JobId) -> String {
        self.ledger.jobs[job].setting.as_ref().unwrap().store.to_string()
    }

    /// The counters say what a look at everything says.
    fn check_books(&self) {
        let ledger = &self.ledger;
        for band in Band::ALL {
            let entries = ledger.work.values().filter(|entry| entry.band == band).count();
            assert_eq!(ledger.busy.get(&band).copied().unwrap_or_default(), entries);
            assert!(entries <= ledger.window(), "the window is never exceeded");
        }
        for job in ledger.jobs.values() {
            job.check_books();
        }
    }

    /// Answers the n-th waiting action.
    pub fn answer(&mut self, n: usize) {
        let input = match self.pending.remove(n) {
            Action::Open { job, at, id, .. } => {
                self.opened.push(id);
                let key = (job.to_string(), at);
                let (plan, inputs) = (self.plans.get(&key).cloned(), self.frozen.get(&key).cloned());
                Input::Opened { job, at, plan: plan.map(Box::new), inputs: inputs.map(Box::new) }
            }
            Action::Check { job, work, object } => {
                self.checks += 1;
                let key = match object {
                    Object::Store(key) => format!("{}/{key}", self.store_of(&job)),
                    Object::Out(key) => key,
                };
                Input::Checked { work, exists: self.committed.contains(&key) }
            }
            Action::Plan { job, at, order } => {
                let plan = plan(*order);
                self.plans.insert((job.to_string(), at), plan.clone());
                Input::Planned { job, at, plan: Box::new(plan) }
            }
            Action::Freeze { job, at, inputs } => {
                let store = self.store_of(&job);
                self.check_complete(&inputs, &store);
                let first = self.frozen.entry((job.to_string(), at)).or_insert(*inputs).clone();
                Input::Frozen { job, at, inputs: Box::new(first) }
            }
            Action::Summarise { job, at, .. } => {
                let inputs = &self.frozen[&(job.to_string(), at)];
                let gaps = inputs.recordings.iter().flat_map(|r| &r.gaps).filter(|g| !g.frames.is_empty()).count();
                Input::Summarised {
                    job,
                    at,
                    figures: Figures { detections: 7, gaps: gaps as u64, ..Figures::default() },
                }
            }
            Action::Quarantine { .. } => return,
            Action::Finish { job, outcomes, .. } => {
                self.finished.push(outcomes);
                Input::Finished { job, manifest: "m".into() }
            }
            Action::FindReduced { job, at, reduce } => {
                let key = format!("{}/{}", self.store_of(&job), keys::store::reduced_summary(&reduce));
                Input::Reduced { job, at, exists: self.committed.contains(&key) }
            }
            Action::Record { job, attempt } => {
                self.attempts.push((*attempt).clone());
                Input::Recorded { job, attempt }
            }
            Action::Split { job, at, recording, shard } => {
                let parts = halves(&shard);
                self.splits.insert(shard.digest(), parts.clone());
                Input::SplitInto { job, at, recording, digest: shard.digest(), parts }
            }
            Action::Relist { job, at, id, revision } => {
                let etag = format!("e{revision}");
                let planned = self.lists[&id].clone();
                let renew = |mut placement: Placement| {
                    placement.recording.etag.clone_from(&etag);
                    placement
                };
                let recordings = planned.recordings.into_iter().map(renew).collect();
                Input::Relisted { job, at, revision, planned: Box::new(PlannedMatch { id, recordings }) }
            }
            Action::Release(_)
            | Action::Withdraw { .. }
            | Action::Stop { .. }
            | Action::Discard { .. }
            | Action::Book(_)
            | Action::Notify { .. } => unreachable!("not kept"),
        };
        self.feed(input);
    }

    /// A reduce may be released only with every shard decided: committed, or given up for a reason that holds.
    pub fn check_complete(&self, inputs: &ReduceInputs, store: &str) {
        for recording in &inputs.recordings {
            let key = &recording.placement.recording.key;
            let mut parts: Vec<_> = recording.shards.iter().map(|shard| shard.frames.clone()).collect();
            for shard in &recording.shards {
                let key = format!("{store}/{}", keys::store::shard_index(&shard.digest));
                assert!(self.committed.contains(&key), "a listed shard exists");
            }
            for gap in recording.gaps.iter().filter(|gap| !gap.frames.is_empty()) {
                assert!(self.poison.contains(&format!("{key}@{}", gap.frames.start)), "only poison becomes a gap");
                assert_eq!(gap.frames.len() as u32, GOP, "a gap is one interval");
                parts.push(gap.frames.clone());
            }
            parts.sort_by_key(|part| part.start);
            let end = parts.iter().fold(0, |next, part| {
                assert_eq!(part.start, next, "every frame is decided exactly once");
                part.end
            });
            let expected = if self.poison.contains(key) { 0 } else { FRAMES * SHARDS };
            assert_eq!((end, recording.frames), (expected, expected));
        }
    }

    /// A worker takes the n-th task and does it, or finds it to be poison.
    pub fn work(&mut self, n: usize, worker: &str) {
        let task = self.queue.remove(n);
        self.say(&task, worker, EventKind::Started);
        let kind = if self.is_poison(&task) {
            let evidence = Evidence { alone: task.alone, ..Evidence::default() };
            failed_so(Disposition::PoisonInput, "it is corrupt", evidence)
        } else {
            self.commit(&task);
            EventKind::Committed(Outcome::default())
        };
        self.say(&task, worker, kind);
    }

    /// Somebody has it: it is queued no more.
    pub fn take(&mut self, task: &Task) {
        self.queue.retain(|queued| queued.message_id() != task.message_id());
    }

    pub fn commit(&mut self, task: &Task) {
        self.committed.insert(commit_of(task));
        if matches!(task.kind, TaskKind::Reduce { .. }) {
            self.committed.insert(format!("{}/{}", task.store, keys::store::reduced_summary(&task.digest)));
        }
    }

    fn is_poison(&self, task: &Task) -> bool {
        match &task.kind {
            TaskKind::Index { recording } => self.poison.contains(&recording.key),
            TaskKind::Map { shard } => {
                let mut frames = shard.frames.clone().step_by(GOP as usize);
                frames.any(|frame| self.poison.contains(&format!("{}@{frame}", shard.recording.key)))
            }
            TaskKind::Reduce { inputs, .. } => self.poison.contains(inputs),
        }
    }

    pub fn say(&mut self, task: &Task, worker: &str, kind: EventKind) {
        let (job, digest, release) = (task.job.clone(), task.digest, task.release);
        self.events.push(Event { job, digest, release, worker: worker.into(), kind });
    }

    /// Answers everything that waits, and what that asks for.
    pub fn answer_all(&mut self) {
        while !self.pending.is_empty() {
            self.answer(0);
        }
    }

    /// Says it and lets the ledger hear it, with all that follows from it.
    pub fn tell(&mut self, task: &Task, worker: &str, kind: EventKind) {
        self.say(task, worker, kind);
        self.deliver(self.events.len() - 1);
        self.answer_all();
    }

    pub fn deliver(&mut self, n: usize) {
        let event = self.events.remove(n);
        self.feed(Input::Heard(event));
    }

    /// Lets time pass with everybody saying hello.
    pub fn pass(&mut self, time: Duration, workers: &[&str]) {
        self.now += time;
        for worker in workers {
            self.feed(Input::Hello(hello(worker, 1, "cpu")));
        }
        self.feed(Input::Tick { minute: None });
    }

    /// Plays on, without accidents, until nothing happens any more.
    pub fn settle(&mut self, workers: &[&str]) {
        for turn in 0..10_000 {
            if !self.pending.is_empty() {
                self.answer(0);
            } else if !self.events.is_empty() {
                self.deliver(0);
            } else if let Some((task, worker)) = self.takeable(workers, turn) {
                self.work(task, worker);
            } else if self.ledger.jobs.values().all(|job| job.state().is_over()) {
                return;
            } else {
                self.pass(Duration::from_secs(10), workers);
            }
        }
        panic!("the job never ends: {:?}", self.ledger);
    }

    /// A task that one of these workers may take.
    fn takeable<'w>(&self, workers: &[&'w str], turn: usize) -> Option<(usize, &'w str)> {
        let takes = |task: &Task| {
            let mut by_turns = workers.iter().cycle().skip(turn % workers.len()).take(workers.len());
            by_turns.find(|worker| task.avoid.as_deref() != Some(**worker)).copied()
        };
        (0..).zip(&self.queue).find_map(|(at, task)| Some((at, takes(task)?)))
    }

    /// Plays on until `enough` and no further.
    pub fn until(&mut self, enough: impl Fn(&Self) -> bool) {
        for _ in 0..1000 {
            if enough(self) {
                return;
            }
            if !self.pending.is_empty() {
                self.answer(0);
            } else if !self.events.is_empty() {
                self.deliver(0);
            } else {
                self.work(0, "w1");
            }
        }
        panic!("it never happens");
    }

    pub fn status(&self, job: &str) -> fulltime_common::wire::JobStatus {
        self.ledger.status(Some(job), self.now).remove(0)
    }
}

pub(super) fn failed(disposition: Disposition, cause: &str) -> EventKind {
    failed_so(disposition, cause, Evidence::default())
}

pub(super) fn failed_so(disposition: Disposition, cause: &str, evidence: Evidence) -> EventKind {
    EventKind::Failed {
        disposition,
        cause: cause.into(),
        exit: Exit::Store as u8,
        hint: Some("fix it".into()),
        evidence,
    }
}

pub(super) fn name_of(task: &Task) -> String {
    match &task.kind {
        TaskKind::Index { recording } => recording.key.clone(),
        TaskKind::Map { shard } => format!("{}@{}", shard.recording.key, shard.frames.start),
        TaskKind::Reduce { inputs, .. } => inputs.clone(),
    }
}

pub(super) fn commit_of(task: &Task) -> String {
    match &task.kind {
        TaskKind::Index { .. } => format!("{}/{}", task.store, keys::store::index(&task.digest)),
        TaskKind::Map { .. } => format!("{}/{}", task.store, keys::store::shard_index(&task.digest)),
        TaskKind::Reduce { inputs, .. } => {
            let (slug, generation) =
                inputs.rsplit('/').next().unwrap().strip_suffix(".json").unwrap().rsplit_once('-').unwrap();
            format!("jobs/{}/g{generation}/summaries/{slug}.json", task.job)
        }
    }
}

pub(super) fn plan(order: PlanOrder) -> MatchPlan {
    plan_of(order, SHARDS)
}

/// Every recording in so many shards.
pub(super) fn plan_of(order: PlanOrder, shards: u32) -> MatchPlan {
    let PlanOrder { id, engine, pipeline, map, recordings, revision: _ } = order;
    let recordings = recordings.into_iter().map(|(placement, index, refused)| {
        let shard = |n: u32| ShardSpec {
            recording: placement.recording.clone(),
            index,
            intervals: n * INTERVALS..(n + 1) * INTERVALS,
            frames: n * FRAMES..(n + 1) * FRAMES,
            bytes: 0..1,
            pipeline,
            map,
            engine: engine.clone(),
        };
        let shards: Vec<_> = (0..shards).filter(|_| refused.is_none()).map(shard).collect();
        let frames = shards.len() as u32 * FRAMES;
        RecordingPlan { placement, index, frames, frame_rate: (25, 1), width: 1, height: 1, shards, refused }
    });
    MatchPlan { recordings: recordings.collect(), id, engine: engine.clone(), pipeline }
}
