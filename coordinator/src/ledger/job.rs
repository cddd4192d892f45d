//! One job: its matches, what of it is ready to be taken up, and the figures it shows.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use fulltime_common::{
    Exit,
    digest::Digest,
    keys,
    plan::{EngineClass, MatchId, ShardSpec},
    spec::Given,
    wire::{Band, JobFailure, JobState, Outcome, TaskKind},
};

use super::{
    Action, Admitted, Attempt, Booking, JobId, Now, Past, Place, Policy, Step, WorkId,
    charges::Charges,
    entry::{Charge, Subscriber},
    fixture::{Fixture, Reading, Share, Stage},
    status::Rate,
    turns::Tenant,
};

/// How many problem lines a status shows.
const PROBLEMS: usize = 20;
/// Of how many shards the duration is remembered.
const DURATIONS: usize = 64;
/// Figures of matches that were done before, asked for at once.
const RECALLS: usize = 16;

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

/// Recorded attempts of one unit of work.
#[derive(Debug, Clone, Default)]
struct History {
    attempts: Vec<Attempt>,
    /// Number of the last one, recorded or not.
    last: u32,
}

/// What was taken up.
pub(super) enum TakenUp {
    /// A match: the coordinator's own step.
    Match,
    Work(WorkId, Subscriber, u64),
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

    /// Whether work of this match may be released.
    pub fn takes(&self, at: u32) -> bool {
        self.over.is_none()
            && self.paused.is_none()
            && self.fixtures.get(at as usize).is_some_and(|fixture| fixture.held.is_none())
    }

    /// Whether it has something to take up. At most `most` matches are prepared at once, since planned matches hold
    /// their shards in memory.
    pub fn is_runnable(&self, most: usize) -> bool {
        let opens = !self.unopened.is_empty() && self.preparing < most;
        let shut = self.closed || self.over_quota;
        self.over.is_none() && self.paused.is_none() && !shut && (opens || !self.ready.is_empty())
    }

    /// Whether it has shards, or will have some, that nobody has taken up.
    pub fn has_more(&self) -> bool {
        !self.ready.is_empty() || !self.unopened.is_empty() || self.preparing > 0
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

    /// Puts everything of a match that waits into the queue of what is ready.
    pub fn enlist(&mut self, at: u32) {
        let Some(fixture) = self.fixtures.get(at as usize).filter(|fixture| fixture.held.is_none()) else { return };
        if fixture.stage == Stage::Listed {
            self.unopened.insert(at);
        }
        self.ready.extend(fixture.waiting().into_iter().map(|step| Place { at, step }));
    }

    /// Takes everything of a match out of the queue of what is ready.
    pub fn delist(&mut self, at: u32) {
        self.unopened.remove(&at);
        self.unplanned.remove(&at);
        let mut later = self.ready.split_off(&Place { at, step: Step::FIRST });
        if let Some(next) = at.checked_add(1) {
            let mut beyond = later.split_off(&Place { at: next, step: Step::FIRST });
            self.ready.append(&mut beyond);
        }
    }

    /// Work that had been taken up waits again.
    pub fn put_back(&mut self, place: Place) {
        self.change(place.at, |fixture| fixture.mark(place.step, false));
        let waits = |fixture: &Fixture| fixture.held.is_none() && fixture.is_waiting(place.step);
        if self.fixtures.get(place.at as usize).is_some_and(waits) {
            self.ready.insert(place);
        }
    }

    /// Work of this job with this digest, shared or its own.
    pub fn work_ids(&self, digest: Digest) -> impl Iterator<Item = WorkId> {
        let shared = self.setting.as_ref().map(|setting| Arc::clone(&setting.store));
        shared.into_iter().chain([self.id.clone()]).map(move |scope| WorkId { digest, scope })
    }

    /// The next work in plan order; a new match only when there is none.
    pub fn take(&mut self, most: usize, actions: &mut Vec<Action>) -> Option<TakenUp> {
        let Some(place) = self.ready.pop_first() else {
            if self.preparing >= most {
                return None;
            }
            let at = self.unopened.pop_first()?;
            let archive = self.setting.as_ref()?.archive.clone();
            self.change(at, |fixture| fixture.open(&archive))?;
            self.ask(at, actions);
            return Some(TakenUp::Match);
        };
        let work = self.work_at(place)?;
        let cost = match place.step {
            Step::Map { recording, shard } => {
                self.fixture(place.at).and_then(|f| f.slot(recording, shard)).map_or(1, |slot| slot.length().max(1))
            }
            Step::Index { .. } | Step::Reduce => 1,
        };
        self.change(place.at, |fixture| fixture.mark(place.step, true));
        Some(TakenUp::Work(work, Subscriber { job: self.id.clone(), place }, cost))
    }

    fn work_at(&self, place: Place) -> Option<WorkId> {
        let fixture = self.fixture(place.at)?;
        let shared = |digest| Some(WorkId { digest, scope: Arc::clone(&self.setting.as_ref()?.store) });
        match place.step {
            Step::Index { recording } => shared(fixture.recordings.get(recording as usize)?.index),
            Step::Map { recording, shard } => shared(fixture.slot(recording, shard)?.digest),
            Step::Reduce => match fixture.stage {
                Stage::Reducing { reduce, .. } => Some(WorkId { digest: reduce, scope: self.id.clone() }),
                _ => None,
            },
        }
    }

    pub fn task(&self, place: Place) -> Option<TaskKind> {
        let setting = self.setting.as_ref()?;
        let fixture = self.fixture(place.at)?;
        Some(match place.step {
            Step::Index { recording } => TaskKind::Index { recording: fixture.placement(recording)?.recording.clone() },
            Step::Map { recording, shard } => {
                TaskKind::Map { shard: fixture.shard(recording, shard, setting.pipeline, setting.map)? }
            }
            Step::Reduce => TaskKind::Reduce {
                inputs: keys::job::inputs(&self.id, &fixture.id, setting.generation),
                generation: setting.generation,
            },
        })
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

    /// Asks for the figures of matches that were done before, a few at a time.
    pub fn ask_for_the_past(&mut self, actions: &mut Vec<Action>) {
        while self.recalling < RECALLS
            && let Some(at) = self.past.pop()
        {
            self.recalling += 1;
            self.ask(at, actions);
        }
    }

    pub fn recalled(&mut self) {
        self.recalling = self.recalling.saturating_sub(1);
    }

    /// Whether the figures of all closed matches are known, and no other is left.
    pub fn is_complete(&self) -> bool {
        self.over.is_none()
            && self.setting.is_some()
            && self.open_matches == 0
            && self.past.is_empty()
            && self.recalling == 0
    }

    /// Numbers a failure that costs budget.
    pub fn attempt(&mut self, digest: Digest, charge: Charge) -> Attempt {
        let history = self.history.entry(digest).or_default();
        history.last += 1;
        let round = self.setting.as_ref().map_or(0, |setting| setting.round);
        Attempt {
            digest,
            number: history.last,
            generation: self.generation(),
            round,
            release: charge.release,
            worker: charge.worker,
            disposition: charge.disposition,
            evidence: charge.evidence,
            cause: charge.failure.cause,
            exit: charge.failure.exit,
            hint: charge.failure.hint,
        }
    }

    pub fn recorded(&mut self, attempt: Attempt) {
        let history = self.history.entry(attempt.digest).or_default();
        history.last = history.last.max(attempt.number);
        if history.attempts.iter().all(|known| known.number != attempt.number) {
            history.attempts.push(attempt);
        }
    }

    pub fn charges(&self, digest: &Digest, policy: &Policy) -> Charges {
        match (self.history.get(digest), &self.setting) {
            (Some(history), Some(s)) => Charges::of(&history.attempts, s.generation, s.round, policy),
            _ => Charges::default(),
        }
    }

    pub fn forget_attempts(&mut self, digest: &Digest) {
        self.history.remove(digest);
    }

    /// Notes an infrastructure failure. Returns how many there were since the last commit, and for how long.
    pub fn trouble(&mut self, cause: &str, now: Now) -> (u32, Duration) {
        let (count, since) = self.streak.get_or_insert((0, now));
        *count += 1;
        let lasting = (*count, now.saturating_sub(*since));
        self.problem(cause.to_owned());
        lasting
    }

    pub fn goes_well(&mut self) {
        self.streak = None;
    }

    /// Notes what a shard cost that was run.
    pub fn ran(&mut self, outcome: &Outcome) {
        let Ok(elapsed) = Duration::try_from_secs_f64(outcome.elapsed_seconds) else { return };
        self.lane_time = self.lane_time.saturating_add(elapsed);
        self.unbooked = self.unbooked.saturating_add(elapsed);
        if self.durations.len() == DURATIONS {
            self.durations.pop_front();
        }
        self.durations.push_back(elapsed);
    }

    /// Of the last shards that ran; none before there are a few.
    pub fn median_duration(&self) -> Option<Duration> {
        let mut durations: Vec<_> = self.durations.iter().copied().collect();
        durations.sort_unstable();
        durations.get(durations.len() / 2).copied().filter(|_| durations.len() >= 5)
    }

    /// Its lanes have worked as long as they may.
    pub fn over_budget(&self) -> Option<JobFailure> {
        let most = self.setting.as_ref()?.max_lane_time.filter(|most| self.lane_time > *most)?;
        let cause = format!("its lanes have worked for {:.1} hours, which is its limit", most.as_secs_f64() / 3600.0);
        Some(failure(Exit::Paused, cause, Some("resume it to grant as much again, or raise `max_gpu_hours`")))
    }

    /// What is to be booked now: after a while, when it is a hundredth of a limit, and when nothing more may come.
    pub fn book(&mut self, quota: Option<Duration>, all: bool, policy: &Policy, now: Now) -> Option<Booking> {
        let setting = self.setting.as_ref().filter(|_| !self.unbooked.is_zero())?;
        let since = now.saturating_sub(self.booked);
        let limit = setting.max_lane_time.into_iter().chain(quota).min();
        let matters = limit.is_some_and(|limit| self.unbooked >= limit / 100);
        let rests = all || self.over.is_some() || self.paused.is_some();
        if rests || since >= policy.booking || (matters && since >= policy.booking_least) {
            self.booked = now;
            let (tenant, round) = (setting.tenant.clone(), setting.round);
            return Some(Booking { job: self.id.clone(), tenant, round, time: std::mem::take(&mut self.unbooked) });
        }
        None
    }

    /// Whether it has paused by itself and nobody has been told.
    pub fn is_news(&mut self) -> bool {
        if self.notified || self.state() != JobState::Paused || self.paused == Some(asked_to_pause()) {
            return false;
        }
        self.notified = true;
        true
    }

    /// Opens or closes its run window.
    pub fn look_at_the_clock(&mut self, minute: u16) {
        let window = self.setting.as_ref().and_then(|setting| setting.window);
        self.closed = match window {
            None => false,
            Some((from, to)) if from <= to => !(from..to).contains(&minute),
            Some((from, to)) => (to..from).contains(&minute),
        };
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
