//! One job: its matches, what of it is ready to be taken up, and the figures it shows.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use fulltime_common::{
    Exit,
    digest::Digest,
    keys,
    plan::{EngineClass, MatchId},
    wire::{JobFailure, JobState, TaskKind},
};

use super::{
    Action, Admitted, GENERATION, JobId, Now, Past, Place, Step, WorkId,
    entry::Subscriber,
    fixture::{Fixture, Stage},
    status::Rate,
};

/// How many problem lines a status shows.
const PROBLEMS: usize = 20;

#[derive(Debug)]
pub(super) struct Job {
    pub id: JobId,
    order: u64,
    pub setting: Option<Setting>,
    pub fixtures: Vec<Fixture>,
    pub ready: BTreeSet<Place>,
    /// Matches whose earlier plan is being looked for.
    pub opening: usize,
    /// Places taken up and not decided.
    pub out: usize,
    pub engine: Option<EngineClass>,
    /// Indexed matches that wait for an engine class.
    pub unplanned: Vec<u32>,
    pub open_matches: usize,
    over: Option<JobState>,
    /// Since when no worker could run it.
    pub hopeless_since: Option<Now>,
    /// Infrastructure failures since the last commit: how many, and since when.
    pub streak: Option<(u32, Now)>,
    pub tally: Tally,
    pub problems: VecDeque<String>,
    pub rate: Rate,
    pub started: Now,
    pub ended: Option<Now>,
    pub failure: Option<JobFailure>,
    pub manifest: Option<String>,
    pub stages: Vec<(String, f64)>,
}

/// What all tasks of a job have in common.
#[derive(Debug)]
pub(super) struct Setting {
    pub archive: String,
    pub store: Arc<str>,
    pub out: String,
    pub pipeline: Digest,
    pub map: Digest,
    pub reduce: Digest,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub matches: u64,
    pub matches_done: u64,
    pub recordings: u64,
    pub recordings_indexed: u64,
    pub shards: u64,
    pub shards_done: u64,
    pub frames: u64,
    pub frames_done: u64,
    /// Of `frames_done`, those that were not found from an earlier run.
    pub frames_run: u64,
    pub detections: u64,
    /// Only of a job that is over; see [`Job::quarantined`].
    pub quarantined: u64,
}

pub(super) fn cancelled() -> JobFailure {
    JobFailure { exit: Exit::Cancelled as u8, cause: "the job was cancelled".into(), hint: None }
}

pub(super) fn wrong_class(class: &EngineClass) -> JobFailure {
    JobFailure {
        exit: Exit::Runtime as u8,
        cause: format!("no worker has the engine class `{class}` that the job's plan pins"),
        hint: Some("start a worker with that runtime and processor, or submit the job under a new name".into()),
    }
}

impl Job {
    pub fn new(id: JobId, order: u64, now: Now) -> Self {
        Self {
            id,
            order,
            setting: None,
            fixtures: Vec::new(),
            ready: BTreeSet::new(),
            opening: 0,
            out: 0,
            engine: None,
            unplanned: Vec::new(),
            open_matches: 0,
            over: None,
            hopeless_since: None,
            streak: None,
            tally: Tally::default(),
            problems: VecDeque::new(),
            rate: Rate::default(),
            started: now,
            ended: None,
            failure: None,
            manifest: None,
            stages: Vec::new(),
        }
    }

    pub fn admit(&mut self, admitted: Admitted) {
        let Admitted { archive, store, out, pipeline, map, reduce, matches, .. } = admitted;
        self.tally.matches = matches.len() as u64;
        self.tally.recordings = matches.iter().map(|m| m.recordings.len() as u64).sum();
        self.open_matches = matches.len();
        self.fixtures = matches.into_iter().map(|planned| Fixture::new(planned, &archive)).collect();
        self.ready = (0..self.fixtures.len() as u32).map(|at| Place { at, step: Step::Open }).collect();
        self.setting = Some(Setting { archive, store: store.into(), out, pipeline, map, reduce });
    }

    /// Shows a job that was over before this coordinator started.
    pub fn recall(&mut self, past: Past, now: Now) {
        let totals = past.totals;
        self.tally = Tally {
            matches: totals.matches,
            matches_done: totals.matches,
            recordings: totals.recordings,
            recordings_indexed: totals.recordings,
            shards: totals.shards,
            shards_done: totals.shards,
            frames: totals.frames,
            frames_done: totals.frames - totals.gap_frames.min(totals.frames),
            frames_run: 0,
            detections: totals.detections,
            quarantined: totals.quarantined,
        };
        past.problems.into_iter().for_each(|problem| self.problem(problem));
        self.manifest = past.manifest;
        self.end(past.state, (past.state == JobState::Cancelled).then(cancelled), now);
    }

    /// Nothing more of this job is taken up.
    pub fn end(&mut self, state: JobState, failure: Option<JobFailure>, now: Now) {
        self.tally.quarantined = self.quarantined();
        self.over = Some(state);
        self.failure = failure;
        self.ended = Some(now);
        self.ready.clear();
        self.unplanned.clear();
        self.fixtures = Vec::new();
        (self.opening, self.out) = (0, 0);
    }

    pub fn state(&self) -> JobState {
        let planned = |f: &Fixture| !matches!(f.stage, Stage::Listed | Stage::Indexing | Stage::Planning);
        self.over.unwrap_or_else(
            || {
                if self.fixtures.iter().any(planned) { JobState::Running } else { JobState::Planning }
            },
        )
    }

    /// Recordings, shards and matches that were given up so far.
    pub fn quarantined(&self) -> u64 {
        if self.fixtures.is_empty() { self.tally.quarantined } else { self.fixtures.iter().map(Fixture::lost).sum() }
    }

    pub fn opening(&self) -> usize {
        self.opening
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Smallest goes first.
    pub fn turn(&self) -> (usize, u64) {
        (self.out + self.opening, self.order)
    }

    pub fn id_of(&self, at: u32) -> Option<&MatchId> {
        self.fixtures.get(at as usize).map(|fixture| &fixture.id)
    }

    pub fn places(&self) -> (String, String, String) {
        self.setting.as_ref().map(|s| (s.archive.clone(), s.store.to_string(), s.out.clone())).unwrap_or_default()
    }

    /// Work of this job with this digest, shared or its own.
    pub fn work_ids(&self, digest: Digest) -> impl Iterator<Item = WorkId> {
        let shared = self.setting.as_ref().map(|setting| Arc::clone(&setting.store));
        shared.into_iter().chain([self.id.clone()]).map(move |scope| WorkId { digest, scope })
    }

    /// The next place in plan order. Opening a match is the coordinator's own step and makes no work.
    pub fn take(&mut self, actions: &mut Vec<Action>) -> Option<(WorkId, Subscriber)> {
        let place = self.ready.pop_first()?;
        let fixture = self.fixtures.get(place.at as usize)?;
        let store = Arc::clone(&self.setting.as_ref()?.store);
        let shared = |digest| WorkId { digest, scope: store };
        let work = match place.step {
            Step::Open => {
                self.opening += 1;
                actions.push(Action::Open { job: self.id.clone(), at: place.at, id: fixture.id.clone(), revision: 0 });
                return None;
            }
            Step::Index { recording } => shared(fixture.recordings.get(recording as usize)?.index),
            Step::Map { recording, shard } => {
                shared(fixture.recordings.get(recording as usize)?.slots.get(shard as usize)?.digest)
            }
            Step::Reduce => match fixture.stage {
                Stage::Reducing { reduce } => WorkId { digest: reduce, scope: self.id.clone() },
                _ => return None,
            },
        };
        self.out += 1;
        Some((work, Subscriber { job: self.id.clone(), place }))
    }

    pub fn task(&self, place: Place) -> Option<TaskKind> {
        let setting = self.setting.as_ref()?;
        let fixture = self.fixtures.get(place.at as usize)?;
        Some(match place.step {
            Step::Open => return None,
            Step::Index { recording } => {
                TaskKind::Index { recording: fixture.recordings.get(recording as usize)?.placement.recording.clone() }
            }
            Step::Map { recording, shard } => {
                TaskKind::Map { shard: fixture.shard(recording, shard, setting.pipeline, setting.map)? }
            }
            Step::Reduce => TaskKind::Reduce {
                inputs: keys::job::inputs(&self.id, &fixture.id, GENERATION),
                generation: GENERATION,
            },
        })
    }

    pub fn wants_engine(&self) -> bool {
        !self.unplanned.is_empty()
    }

    /// The class that plans of this job use.
    pub fn pinned(&self) -> Option<&EngineClass> {
        self.engine.as_ref()
    }

    pub fn pin(&mut self, class: EngineClass, actions: &mut Vec<Action>) {
        self.engine.get_or_insert(class);
        for at in std::mem::take(&mut self.unplanned) {
            self.plan(at, actions);
        }
    }

    pub fn plan(&mut self, at: u32, actions: &mut Vec<Action>) {
        let (Some(fixture), Some(setting)) = (self.fixtures.get_mut(at as usize), &self.setting) else { return };
        fixture.stage = Stage::Planning;
        match &self.engine {
            None => self.unplanned.push(at),
            Some(engine) => {
                let order = Box::new(fixture.order(engine.clone(), setting.pipeline, setting.map));
                actions.push(Action::Plan { job: self.id.clone(), at, order });
            }
        }
    }

    /// Notes an infrastructure failure. Returns how many there were since the last commit, and for how long.
    pub fn trouble(&mut self, cause: &str, now: Now) -> (u32, Duration) {
        let (count, since) = self.streak.get_or_insert((0, now));
        *count += 1;
        let lasting = (*count, now.saturating_sub(*since));
        self.problem(cause.to_owned());
        lasting
    }

    pub fn problem(&mut self, line: String) {
        if self.problems.contains(&line) {
            return;
        }
        if self.problems.len() == PROBLEMS {
            self.problems.pop_front();
        }
        self.problems.push_back(line);
    }
}
