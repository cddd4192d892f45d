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
    Action, Admitted, Figures, Input, Ledger, Limits, MatchOutcome, Now, Object, PlanOrder, Policy, job::Job,
};

pub(super) const FRAMES: u32 = 25;
pub(super) const SHARDS: u32 = 3;

pub(super) struct World {
    pub ledger: Ledger,
    pub now: Now,
    pub committed: BTreeSet<String>,
    pub queue: Vec<Task>,
    pub released: Vec<Task>,
    pub pending: Vec<Action>,
    pub events: Vec<Event>,
    /// Recordings and shards (`key`, `key@frame`) that nobody can process.
    pub poison: BTreeSet<String>,
    pub frozen: BTreeMap<(String, u32), ReduceInputs>,
    pub withdrawn: Vec<String>,
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

pub(super) fn hello(worker: &str, pid: u32, engine: &str) -> Hello {
    Hello {
        worker: worker.into(),
        host: "h".into(),
        pid,
        engine: EngineClass(engine.into()),
        lanes: vec![LaneState::default()],
        draining: false,
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
            withdrawn: Vec::new(),
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
        let digest = Digest::of_bytes(b"p");
        let admitted = Admitted {
            archive: "file:///a".into(),
            store: store.into(),
            out: "file:///o".into(),
            pipeline: digest,
            map: digest,
            reduce: digest,
            matches: matches(names),
            revisions: BTreeMap::new(),
            generation: 1,
            band: Band::Normal,
            tenant: None,
            limits: Limits::default(),
            paused: false,
            round: 0,
            attempts: Vec::new(),
            splits: BTreeMap::new(),
            finished: BTreeSet::new(),
        };
        self.feed(Input::Announce(job.into()));
        self.feed(Input::Admit(job.into(), Box::new(admitted)));
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
                Action::Stop { .. } | Action::Discard { .. } => {}
                Action::Withdraw { job } => {
                    self.withdrawn.push(job.to_string());
                    self.queue.retain(|task| *task.job != *job);
                }
                other => self.pending.push(other),
            }
        }
        let opening: usize = self.ledger.jobs.values().map(Job::opening).sum();
        assert!(self.ledger.work.len() + opening <= 4, "the window is never exceeded");
    }

    /// Answers the n-th waiting action.
    pub fn answer(&mut self, n: usize) {
        let input = match self.pending.remove(n) {
            Action::Open { job, at, .. } => Input::Opened { job, at, plan: None, inputs: None },
            Action::Check { job, work, object } => {
                let key = match object {
                    Object::Store(key) => format!("{}/{key}", self.ledger.jobs[&job].places().1),
                    Object::Out(key) => key,
                };
                Input::Checked { work, exists: self.committed.contains(&key) }
            }
            Action::Plan { job, at, order } => Input::Planned { job, at, plan: Box::new(plan(*order)) },
            Action::Freeze { job, at, inputs } => {
                let store = self.ledger.jobs[&job].places().1;
                self.check_complete(&inputs, &store);
                let before = self.frozen.insert((job.to_string(), at), (*inputs).clone());
                assert!(before.is_none(), "a match is frozen once");
                Input::Frozen { job, at, inputs }
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
            Action::FindReduced { .. } | Action::Record { .. } | Action::Split { .. } | Action::Relist { .. } => return,
            Action::Release(_) | Action::Withdraw { .. } | Action::Stop { .. } | Action::Discard { .. } => {
                unreachable!("not kept")
            }
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
        let kind = if self.poison.contains(&name_of(&task)) {
            failed(Disposition::PoisonInput, "it is corrupt")
        } else {
            self.committed.insert(commit_of(&task));
            EventKind::Committed(Outcome::default())
        };
        self.say(&task, worker, kind);
    }

    pub fn say(&mut self, task: &Task, worker: &str, kind: EventKind) {
        let (job, digest, release) = (task.job.clone(), task.digest, task.release);
        self.events.push(Event { job, digest, release, worker: worker.into(), kind });
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
            } else if !self.queue.is_empty() {
                self.work(0, workers[turn % workers.len()]);
            } else if self.ledger.jobs.values().all(|job| job.state().is_over()) {
                return;
            } else {
                self.pass(Duration::from_secs(10), workers);
            }
        }
        panic!("the job never ends: {:?}", self.ledger);
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
    EventKind::Failed {
        disposition,
        cause: cause.into(),
        exit: Exit::Store as u8,
        hint: Some("fix it".into()),
        evidence: Evidence::default(),
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
            let slug = inputs.rsplit('/').next().unwrap().strip_suffix("-1.json").unwrap();
            format!("jobs/{}/g1/summaries/{slug}.json", task.job)
        }
    }
}

pub(super) fn plan(order: PlanOrder) -> MatchPlan {
    let PlanOrder { id, engine, pipeline, map, recordings, revision: _ } = order;
    let recordings = recordings.into_iter().map(|(placement, index, refused)| {
        let shard = |n: u32| ShardSpec {
            recording: placement.recording.clone(),
            index,
            intervals: n..n + 1,
            frames: n * FRAMES..(n + 1) * FRAMES,
            bytes: 0..1,
            pipeline,
            map,
            engine: engine.clone(),
        };
        let shards: Vec<_> = (0..SHARDS).filter(|_| refused.is_none()).map(shard).collect();
        let frames = shards.len() as u32 * FRAMES;
        RecordingPlan { placement, index, frames, frame_rate: (25, 1), width: 1, height: 1, shards, refused }
    });
    MatchPlan { recordings: recordings.collect(), id, engine: engine.clone(), pipeline }
}
