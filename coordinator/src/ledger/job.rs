//! One job: its matches, how it stands, and the figures it shows. What of it waits to be taken up is in `queue`, what it
//! costs in `books`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use fulltime_common::{
    Exit,
    digest::Digest,
    plan::{EngineClass, MatchId, ShardSpec},
    spec::Given,
    wire::{Band, JobFailure, JobState},
};

use super::{
    Action, Admitted, JobId, Now, Past, Place,
    fixture::{Fixture, Reading, Share, Stage},
    observed::{Aside, Seen},
    status::Rate,
    turns::Tenant,
};

mod books;
mod queue;

use books::History;
pub(super) use queue::TakenUp;

/// How many problem lines a status shows.
const PROBLEMS: usize = 20;

#[derive(Debug, Clone)]
pub(super) struct Job {
    pub id: JobId,
    pub setting: Option<Setting>,
    fixtures: Vec<Fixture>,
    /// Work in plan order: matches one after the other.
    pub ready: BTreeSet<Place>,
    /// Matches that nobody has begun.
    unopened: BTreeSet<u32>,
    /// Indexed matches that wait for an engine class.
    unplanned: BTreeSet<u32>,
    /// Matches that were done before this leader, whose figures are still to be asked for; and how many are being asked.
    past: Vec<u32>,
    recalling: usize,
    /// Matches between the list and the first shard, matches that are held, and matches that are not closed.
    pub preparing: usize,
    held: usize,
    open_matches: usize,
    planned: bool,
    pub band: Band,
    pub engine: Option<EngineClass>,
    over: Option<JobState>,
    paused: Option<JobFailure>,
    /// Outside of its run window.
    pub closed: bool,
    /// Since when no worker could run it.
    pub hopeless_since: Option<Now>,
    /// Infrastructure failures since the last commit: how many, and since when.
    streak: Option<(u32, Now)>,
    history: BTreeMap<Digest, History>,
    pub splits: BTreeMap<Digest, Vec<ShardSpec>>,
    /// Of the last shards that ran.
    durations: VecDeque<Duration>,
    /// Of this round, and how much of it is not booked yet; when it was last.
    lane_time: Duration,
    unbooked: Duration,
    booked: Now,
    /// Its tenant has used up its quota.
    pub over_quota: bool,
    /// It paused because its output could not be written.
    pub wants_room: bool,
    /// Somebody was told that it has paused by itself.
    notified: bool,
    pub matches: u64,
    pub matches_done: u64,
    pub share: Share,
    /// Of `share.frames_done`, those that were not found from an earlier run.
    pub frames_run: u64,
    pub problems: VecDeque<String>,
    pub rate: Rate,
    pub started: Now,
    pub ended: Option<Now>,
    failure: Option<JobFailure>,
    pub manifest: Option<String>,
    pub stages: Vec<(String, f64)>,
    /// For people only.
    pub seen: Aside<Seen>,
}

/// What all tasks of a job have in common.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub archive: String,
    pub store: Arc<str>,
    pub out: String,
    pub pipeline: Digest,
    pub map: Digest,
    pub reduce: Digest,
    pub given: Arc<Given>,
    pub generation: u32,
    pub round: u32,
    pub tenant: Tenant,
    max_lane_time: Option<Duration>,
    window: Option<(u16, u16)>,
}

impl Setting {
    pub fn reading(&self) -> Reading<'_> {
        Reading { generation: self.generation, pipeline: self.pipeline, reduce: self.reduce, given: &self.given }
    }
}

pub(super) fn failure(exit: Exit, cause: impl Into<String>, hint: Option<&str>) -> JobFailure {
    JobFailure { exit: exit as u8, cause: cause.into(), hint: hint.map(str::to_owned) }
}

pub(super) fn cancelled() -> JobFailure {
    failure(Exit::Cancelled, "the job was cancelled", None)
}

pub(super) fn asked_to_pause() -> JobFailure {
    failure(Exit::Paused, "the job was paused", Some("resume it with `fulltime resume`"))
}

pub(super) fn wrong_class(class: &EngineClass) -> JobFailure {
    failure(
        Exit::Runtime,
        format!("no worker has the engine class `{class}` that the job's plan pins"),
        Some("start a worker with that runtime and processor, or submit the job under a new name"),
    )
}

impl Job {
    pub fn new(id: JobId, now: Now) -> Self {
        Self {
            id,
            setting: None,
            fixtures: Vec::new(),
            ready: BTreeSet::new(),
            unopened: BTreeSet::new(),
            unplanned: BTreeSet::new(),
            past: Vec::new(),
            recalling: 0,
            preparing: 0,
            held: 0,
            open_matches: 0,
            planned: false,
            band: Band::default(),
            engine: None,
            over: None,
            paused: None,
            closed: false,
            hopeless_since: None,
            streak: None,
            history: BTreeMap::new(),
            splits: BTreeMap::new(),
            durations: VecDeque::new(),
            lane_time: Duration::ZERO,
            unbooked: Duration::ZERO,
            booked: now,
            over_quota: false,
            wants_room: false,
            notified: false,
            matches: 0,
            matches_done: 0,
            share: Share::default(),
            frames_run: 0,
            problems: VecDeque::new(),
            rate: Rate::default(),
            started: now,
            ended: None,
            failure: None,
            manifest: None,
            stages: Vec::new(),
            seen: Aside::default(),
        }
    }

    pub fn admit(&mut self, admitted: Admitted, now: Now, actions: &mut Vec<Action>) {
        if self.setting.is_some() {
            return;
        }
        let limits = admitted.limits;
        self.setting = Some(Setting {
            archive: admitted.archive,
            store: admitted.store.into(),
            out: admitted.out,
            pipeline: admitted.pipeline,
            map: admitted.map,
            reduce: admitted.reduce,
            given: admitted.given,
            generation: admitted.generation,
            round: admitted.round,
            tenant: admitted.tenant.map(Into::into),
            max_lane_time: limits.max_gpu_hours.and_then(|h| Duration::try_from_secs_f64(h * 3600.0).ok()),
            window: limits.window,
        });
        self.lane_time = admitted.spent;
        self.band = admitted.band;
        if admitted.paused {
            self.paused.get_or_insert_with(asked_to_pause);
        }
        for attempt in admitted.attempts {
            self.recorded(attempt);
        }
        self.splits = admitted.splits;
        self.matches = admitted.matches.len() as u64;
        for (at, planned) in (0_u32..).zip(admitted.matches) {
            let revision = admitted.revisions.get(&planned.id).copied().unwrap_or_default();
            let mut fixture = Fixture::new(planned, revision);
            if admitted.finished.contains(&fixture.id) {
                fixture.close(Stage::Past);
                self.past.push(at);
                self.matches_done += 1;
                self.planned = true;
            } else {
                self.open_matches += 1;
                self.unopened.insert(at);
            }
            self.share.change(Share::default(), fixture.share);
            self.fixtures.push(fixture);
        }
        self.fixtures.shrink_to_fit();
        self.past.reverse();
        self.finish_when_closed(now, actions);
    }

    /// Shows a job that was over before this coordinator started.
    pub fn recall(&mut self, past: Past, now: Now) {
        let totals = past.totals;
        (self.matches, self.matches_done) = (totals.matches, totals.matches);
        self.share = Share {
            recordings: totals.recordings,
            recordings_indexed: totals.recordings,
            shards: totals.shards,
            shards_done: totals.shards,
            frames: totals.frames,
            frames_done: totals.frames - totals.gap_frames.min(totals.frames),
            detections: totals.detections,
            lost: totals.quarantined,
        };
        past.problems.into_iter().for_each(|problem| self.problem(problem));
        self.manifest = past.manifest;
        self.end(past.state, (past.state == JobState::Cancelled).then(cancelled), now);
    }

    /// Nothing more of this job is taken up, ever.
    pub fn end(&mut self, state: JobState, failure: Option<JobFailure>, now: Now) {
        self.over = Some(state);
        self.failure = failure;
        self.ended = Some(now);
        self.ready.clear();
        self.unopened.clear();
        self.unplanned.clear();
        self.history.clear();
        self.splits.clear();
        self.past = Vec::new();
        self.fixtures = Vec::new();
        self.seen.record.shrink();
        self.seen.findings.clear();
    }

    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Paused as a whole, by decision or by a failure that concerns all of it.
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub fn state(&self) -> JobState {
        match self.over {
            Some(state) => state,
            None if self.paused.is_some() || self.is_stuck() => JobState::Paused,
            None if self.planned => JobState::Running,
            None => JobState::Planning,
        }
    }

    /// Every match that is left is held: there is nothing else to do.
    fn is_stuck(&self) -> bool {
        self.held > 0 && self.held == self.open_matches
    }

    pub fn failure(&self) -> Option<JobFailure> {
        let held = || self.fixtures.iter().find_map(|fixture| fixture.held.as_deref()).filter(|_| self.is_stuck());
        self.failure.as_ref().or(self.paused.as_ref()).or_else(held).cloned()
    }

    pub fn id_of(&self, at: u32) -> Option<&MatchId> {
        self.fixtures.get(at as usize).map(|fixture| &fixture.id)
    }

    pub fn fixture(&self, at: u32) -> Option<&Fixture> {
        self.fixtures.get(at as usize)
    }

    pub fn fixtures(&self) -> &[Fixture] {
        &self.fixtures
    }

    /// Changes a match and keeps the sums and counters right.
    pub fn change<R>(&mut self, at: u32, change: impl FnOnce(&mut Fixture) -> R) -> Option<R> {
        let fixture = self.fixtures.get_mut(at as usize)?;
        let standing = |fixture: &Fixture| {
            let held = fixture.held.is_some();
            [!fixture.stage.is_closed(), held, !held && fixture.stage.is_preparing()].map(usize::from)
        };
        let (share, [open, held, preparing]) = (fixture.share, standing(fixture));
        let result = change(fixture);
        self.share.change(share, fixture.share);
        let after = standing(fixture);
        self.open_matches = self.open_matches + after[0] - open;
        self.held = self.held + after[1] - held;
        self.preparing = self.preparing + after[2] - preparing;
        self.planned |= !matches!(fixture.stage, Stage::Listed | Stage::Relisting) && !fixture.stage.is_preparing();
        Some(result)
    }

    /// Tasks of matches that are held, which nobody could do.
    pub fn held_share(&self) -> u64 {
        if self.held == 0 {
            return 0;
        }
        let left = |share: &Share| share.recordings - share.recordings_indexed + share.shards - share.shards_done + 1;
        self.fixtures.iter().filter(|fixture| fixture.held.is_some()).map(|fixture| left(&fixture.share)).sum()
    }

    pub fn generation(&self) -> u32 {
        self.setting.as_ref().map_or(1, |setting| setting.generation)
    }

    pub fn tenant(&self) -> Tenant {
        self.setting.as_ref().and_then(|setting| setting.tenant.clone())
    }

    pub fn wants_engine(&self) -> bool {
        !self.unplanned.is_empty()
    }

    pub fn awaits_engine(&mut self, at: u32) {
        self.unplanned.insert(at);
    }

    /// The class that plans of this job use.
    pub fn pinned(&self) -> Option<&EngineClass> {
        self.engine.as_ref()
    }

    pub fn pin(&mut self, class: EngineClass, actions: &mut Vec<Action>) {
        self.engine.get_or_insert(class);
        for at in std::mem::take(&mut self.unplanned) {
            self.ask(at, actions);
        }
    }

    /// Holds one match: what is left of it waits for the job to be resumed.
    pub fn hold(&mut self, at: u32, failure: JobFailure) {
        if self.fixture(at).is_none_or(|fixture| fixture.stage.is_closed() || fixture.held.is_some()) {
            return;
        }
        self.delist(at);
        let line = self.id_of(at).map(|id| format!("match `{id}` is paused: {}", failure.cause));
        line.into_iter().for_each(|line| self.problem(line));
        self.change(at, |fixture| fixture.held = Some(Box::new(failure)));
    }

    pub fn pause(&mut self, failure: JobFailure) {
        self.paused.get_or_insert(failure);
    }

    /// Somebody wants it to stay paused, whatever paused it before.
    pub fn pause_for_good(&mut self) {
        self.paused = Some(asked_to_pause());
        self.wants_room = false;
    }

    /// Everything that was held or stuck begins again, with new budgets.
    pub fn resume(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.paused = None;
        self.streak = None;
        self.hopeless_since = None;
        self.lane_time = Duration::ZERO;
        self.notified = false;
        self.wants_room = false;
        if let Some(setting) = &mut self.setting {
            setting.round += 1;
        }
        for at in 0..self.fixtures.len() as u32 {
            self.change(at, |fixture| fixture.held = None);
            self.enlist(at);
            // A step that failed for good is gone: it is asked for again. A second answer changes nothing.
            if self.fixture(at).is_some_and(|fixture| fixture.stage != Stage::Past) {
                self.ask(at, actions);
            }
        }
        self.past = (0..self.fixtures.len() as u32).rev().collect();
        self.past.retain(|at| self.fixtures.get(*at as usize).is_some_and(|fixture| fixture.stage == Stage::Past));
        self.recalling = 0;
        self.finish_when_closed(now, actions);
    }

    /// Whether it has paused by itself and nobody has been told.
    pub fn is_news(&mut self) -> bool {
        if self.notified || self.state() != JobState::Paused || self.paused == Some(asked_to_pause()) {
            return false;
        }
        self.notified = true;
        true
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

    /// Panics if a counter is not what counting says.
    #[cfg(test)]
    pub fn check_books(&self) {
        if self.over.is_some() {
            return;
        }
        let count = |holds: &dyn Fn(&Fixture) -> bool| self.fixtures.iter().filter(|f| holds(f)).count();
        assert_eq!(self.open_matches, count(&|f| !f.stage.is_closed()));
        assert_eq!(self.held, count(&|f| f.held.is_some()));
        assert_eq!(self.preparing, count(&|f| f.held.is_none() && f.stage.is_preparing()));
        let mut share = Share::default();
        let mut waiting = BTreeSet::new();
        for (at, fixture) in (0_u32..).zip(&self.fixtures) {
            share.change(Share::default(), fixture.share);
            waiting.extend(fixture.waiting().into_iter().map(|step| Place { at, step }));
        }
        assert_eq!(self.share, share);
        assert_eq!(self.ready, waiting, "ready is what nobody has taken up");
    }
}
