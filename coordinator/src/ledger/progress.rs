//! How a match goes from stage to stage: what each answer and each verdict means for it, and what is asked next.

use fulltime_common::{
    Exit,
    digest::Digest,
    plan::{MatchPlan, PlannedMatch, ReduceInputs, ShardSpec},
    wire::JobState,
};

use super::{
    Action, Figures, MatchOutcome, Now, Place, RunFigures, Step, Verdict,
    fixture::{Fixture, SlotState, Stage},
    job::{Job, failure},
};
use crate::manifest::Quarantined;

impl Job {
    /// Asks for what the match's stage waits for.
    pub fn ask(&mut self, at: u32, actions: &mut Vec<Action>) {
        let (Some(fixture), Some(setting)) = (self.fixture(at), &self.setting) else { return };
        let (job, id, revision) = (self.id.clone(), fixture.id.clone(), fixture.revision);
        let inputs = |whole| fixture.inputs(&self.id, setting.reading(), whole);
        let shard = |(recording, shard)| {
            let shard = Box::new(fixture.shard(recording, shard, setting.pipeline, setting.map)?);
            Some(Action::Split { job: self.id.clone(), at, recording, shard })
        };
        match fixture.stage {
            Stage::Opening => actions.push(Action::Open { job, at, id, revision }),
            Stage::Planning => match &self.engine {
                None => self.awaits_engine(at),
                Some(engine) => {
                    let order = Box::new(fixture.order(engine.clone(), setting.pipeline, setting.map));
                    actions.push(Action::Plan { job, at, order });
                }
            },
            Stage::Finding => actions.push(Action::FindReduced { job, at, reduce: inputs(true).digest() }),
            Stage::Mapping => actions.extend(fixture.splitting().filter_map(shard)),
            Stage::Relisting => actions.push(Action::Relist { job, at, id, revision: revision + 1 }),
            Stage::Freezing => actions.push(Action::Freeze { job, at, inputs: Box::new(inputs(false)) }),
            Stage::Summarising | Stage::Past => actions.push(Action::Summarise { job, at, id }),
            Stage::Listed | Stage::Indexing | Stage::Reducing { .. } | Stage::Done | Stage::Quarantined(_) => {}
        }
    }

    fn enter(&mut self, at: u32, stage: Stage, actions: &mut Vec<Action>) {
        self.change(at, |fixture| fixture.stage = stage);
        self.enlist(at);
        self.ask(at, actions);
    }

    /// Answers are taken where they are awaited; a second one (asked for again after a pause) says the same and is dropped.
    fn awaits(&self, at: u32, awaited: &Stage) -> bool {
        self.fixture(at).is_some_and(|fixture| fixture.stage == *awaited)
    }

    pub fn opened(
        &mut self,
        at: u32,
        plan: Option<Box<MatchPlan>>,
        inputs: Option<Box<ReduceInputs>>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        if !self.awaits(at, &Stage::Opening) {
            return;
        }
        match (plan, inputs) {
            (None, _) => self.enter(at, Stage::Indexing, actions),
            (Some(plan), None) => self.load(at, &plan, now, actions),
            (Some(plan), Some(inputs)) => {
                self.engine.get_or_insert_with(|| plan.engine.clone());
                let splits = std::mem::take(&mut self.splits);
                self.change(at, |fixture| fixture.load(&plan, &splits));
                self.splits = splits;
                self.freeze(at, &inputs);
            }
        }
    }

    pub fn planned(&mut self, at: u32, plan: &MatchPlan, now: Now, actions: &mut Vec<Action>) {
        if self.awaits(at, &Stage::Planning) {
            self.load(at, plan, now, actions);
        }
    }

    fn load(&mut self, at: u32, plan: &MatchPlan, now: Now, actions: &mut Vec<Action>) {
        self.engine.get_or_insert_with(|| plan.engine.clone());
        let splits = std::mem::take(&mut self.splits);
        self.change(at, |fixture| fixture.load(plan, &splits));
        self.splits = splits;
        let Some(fixture) = self.fixture(at) else { return };
        let refusals = fixture.refusals();
        if refusals.len() == fixture.recordings.len() {
            self.quarantine(at, refusals, now, actions);
        } else {
            self.enter(at, Stage::Finding, actions);
        }
    }

    /// Whether the result of the whole match exists: then it is published, and no shard is asked for.
    pub fn reduced(&mut self, at: u32, exists: bool, actions: &mut Vec<Action>) {
        if !self.awaits(at, &Stage::Finding) {
            return;
        }
        if exists {
            self.change(at, Fixture::commit_all);
        }
        self.enter(at, Stage::Mapping, actions);
        self.freeze_when_settled(at, actions);
    }

    pub fn decided(&mut self, place: Place, verdict: &Verdict, now: Now, actions: &mut Vec<Action>) {
        let Place { at, step } = place;
        match (step, verdict) {
            // The ledger takes the whole match off the bus first: [`Job::recording_changed`].
            (_, Verdict::Changed) => {}
            (Step::Index { recording }, _) => self.index_decided(at, recording, verdict, actions),
            (Step::Map { recording, shard }, _) => self.shard_decided(at, recording, shard, verdict, actions),
            (Step::Reduce, Verdict::GivenUp(reason)) => {
                let Some(fixture) = self.fixture(at) else { return };
                let Stage::Reducing { reduce, .. } = fixture.stage else { return };
                let record = fixture.record(None, None, reason);
                let mut records = fixture.refusals();
                records.push(record.clone());
                self.give_up(format!("match-{reduce}"), record, actions);
                self.quarantine(at, records, now, actions);
            }
            (Step::Reduce, Verdict::Found | Verdict::Committed(_)) => {
                self.goes_well();
                if self.fixture(at).is_some_and(|fixture| matches!(fixture.stage, Stage::Reducing { .. })) {
                    self.enter(at, Stage::Summarising, actions);
                }
            }
        }
        self.rate.note(self.frames_run, now);
    }

    fn index_decided(&mut self, at: u32, recording: u32, verdict: &Verdict, actions: &mut Vec<Action>) {
        let reason = match verdict {
            Verdict::GivenUp(reason) => Some(reason.clone()),
            Verdict::Found | Verdict::Committed(_) | Verdict::Changed => None,
        };
        if !self.awaits(at, &Stage::Indexing) {
            return;
        }
        match (&reason, self.fixture(at)) {
            (Some(reason), Some(fixture)) => {
                let record = fixture.record(fixture.placement(recording), None, reason);
                if let Some(entry) = fixture.recordings.get(recording as usize) {
                    self.give_up(format!("recording-{}", entry.index), record, actions);
                }
            }
            _ => self.goes_well(),
        }
        let refused = reason.is_some();
        let all = self.change(at, |fixture| {
            fixture.share.recordings_indexed += 1;
            fixture.share.lost += u64::from(refused);
            fixture.indexed(recording, reason)
        });
        if all == Some(true) {
            self.enter(at, Stage::Planning, actions);
        }
    }

    fn shard_decided(&mut self, at: u32, recording: u32, shard: u32, verdict: &Verdict, actions: &mut Vec<Action>) {
        let Some(slot) = self.fixture(at).and_then(|fixture| fixture.slot(recording, shard)) else { return };
        if !matches!(slot.state, SlotState::Waiting | SlotState::Taken) {
            return;
        }
        let (digest, divisible, frames) = (slot.digest, slot.is_divisible(), slot.frames.clone());
        self.ready.remove(&Place { at, step: Step::Map { recording, shard } });
        match verdict {
            // What is bad is found by halves, down to whole intervals, whatever the length of a shard.
            Verdict::GivenUp(_) if divisible => {
                self.change(at, |fixture| {
                    if let Some(slot) = fixture.slot_mut(recording, shard) {
                        slot.state = SlotState::Splitting;
                    }
                });
                let Some((fixture, setting)) = self.fixture(at).zip(self.setting.as_ref()) else { return };
                if let Some(shard) = fixture.shard(recording, shard, setting.pipeline, setting.map) {
                    actions.push(Action::Split { job: self.id.clone(), at, recording, shard: Box::new(shard) });
                }
                return;
            }
            Verdict::GivenUp(reason) => self.give_up_shard(at, recording, shard, reason, frames, digest, actions),
            Verdict::Found | Verdict::Committed(_) | Verdict::Changed => {
                self.goes_well();
                self.forget_attempts(&digest);
                let frames = self.change(at, |fixture| fixture.commit(recording, shard)).unwrap_or_default();
                if let Verdict::Committed(outcome) = verdict {
                    self.change(at, |fixture| fixture.share.detections += outcome.detections);
                    if !outcome.found {
                        self.frames_run += frames;
                        self.ran(outcome);
                        add_stages(&mut self.stages, &outcome.stage_seconds);
                    }
                }
            }
        }
        self.freeze_when_settled(at, actions);
    }

    #[expect(clippy::too_many_arguments, reason = "the place and what is known of it")]
    fn give_up_shard(
        &mut self,
        at: u32,
        recording: u32,
        shard: u32,
        reason: &str,
        frames: std::ops::Range<u32>,
        digest: Digest,
        actions: &mut Vec<Action>,
    ) {
        self.forget_attempts(&digest);
        let record = self.fixture(at).map(|f| f.record(f.placement(recording), Some(frames), reason));
        if let Some(record) = record {
            self.give_up(format!("shard-{digest}"), record, actions);
        }
        self.change(at, |fixture| fixture.give_up(recording, shard, reason));
    }

    /// The parts of a shard that was found to be poison, fixed once and for all.
    pub fn split_into(
        &mut self,
        at: u32,
        recording: u32,
        digest: Digest,
        parts: Vec<ShardSpec>,
        actions: &mut Vec<Action>,
    ) {
        if parts.len() < 2 {
            let problem = format!("shard `{}` cannot be cut", digest.short());
            self.hold(
                at,
                failure(Exit::Internal, problem, Some("its container index does not fit its plan; report this")),
            );
            return;
        }
        if self.change(at, |fixture| fixture.split(recording, digest, &parts)) == Some(true) {
            self.forget_attempts(&digest);
            // Kept, so that the match is cut the same way should it be planned again.
            self.splits.insert(digest, parts);
            self.enlist(at);
            self.freeze_when_settled(at, actions);
        }
    }

    /// A recording is no longer the one that was planned. It may change `most` times before a person has to look.
    pub fn recording_changed(&mut self, at: u32, most: u32, actions: &mut Vec<Action>) {
        let Some(fixture) = self.fixture(at) else { return };
        if !matches!(fixture.stage, Stage::Indexing | Stage::Mapping) {
            return;
        }
        let often = fixture.revision >= most;
        self.delist(at);
        self.change(at, |fixture| fixture.stage = Stage::Relisting);
        if often {
            let cause = format!("its recordings have changed {} times", most + 1);
            self.hold(at, failure(Exit::Archive, cause, Some("resume the job when nobody writes to the archive")));
        } else {
            self.ask(at, actions);
        }
    }

    /// What the recordings of a match are now: it is planned anew.
    pub fn relisted(&mut self, at: u32, revision: u32, planned: PlannedMatch, now: Now, actions: &mut Vec<Action>) {
        if !self.awaits(at, &Stage::Relisting) {
            return;
        }
        if planned.recordings.is_empty() {
            let record = self.fixture(at).map(|fixture| fixture.record(None, None, "its recordings are gone"));
            if let Some(record) = record {
                self.give_up(format!("match-gone-{revision}-{at}"), record.clone(), actions);
                self.quarantine(at, vec![record], now, actions);
            }
            return;
        }
        let line = self.id_of(at).map(|id| format!("match `{id}`: a recording changed; it is planned anew"));
        line.into_iter().for_each(|line| self.problem(line));
        self.change(at, |fixture| fixture.relist(planned, revision));
        self.enlist(at);
    }

    fn freeze_when_settled(&mut self, at: u32, actions: &mut Vec<Action>) {
        if self.awaits(at, &Stage::Mapping) && self.fixture(at).is_some_and(|fixture| fixture.undecided == 0) {
            self.enter(at, Stage::Freezing, actions);
        }
    }

    pub fn frozen(&mut self, at: u32, inputs: &ReduceInputs) {
        if self.awaits(at, &Stage::Freezing) {
            self.freeze(at, inputs);
        }
    }

    fn freeze(&mut self, at: u32, inputs: &ReduceInputs) {
        self.change(at, |fixture| fixture.freeze(inputs));
        self.enlist(at);
    }

    pub fn summarised(&mut self, at: u32, figures: Figures, now: Now, actions: &mut Vec<Action>) {
        let past = self.awaits(at, &Stage::Past);
        if past {
            self.recalled();
            self.ask_for_the_past(actions);
        } else if !self.awaits(at, &Stage::Summarising) {
            return;
        }
        let before = self.change(at, |fixture| {
            let refused = fixture.refusals().len() as u64;
            let share = &mut fixture.share;
            let gaps = share.lost.saturating_sub(refused);
            share.detections = figures.detections;
            share.lost = refused + figures.gaps;
            if past {
                share.recordings_indexed = share.recordings;
                (share.shards, share.shards_done) = (figures.shards, figures.shards);
                share.frames = figures.frames;
                share.frames_done = figures.frames.saturating_sub(figures.gap_frames);
                fixture.engine = figures.engine;
            }
            fixture.close(Stage::Done);
            gaps
        });
        let damaged = figures.gaps.saturating_sub(before.unwrap_or_default());
        if damaged > 0
            && !past
            && let Some(id) = self.id_of(at)
        {
            self.problem(format!("match `{id}`: {damaged} damaged passages could not be decoded"));
        }
        self.matches_done += u64::from(!past);
        self.finish_when_closed(now, actions);
    }

    fn quarantine(&mut self, at: u32, records: Vec<Quarantined>, now: Now, actions: &mut Vec<Action>) {
        self.change(at, |fixture| {
            fixture.share.lost = records.len() as u64;
            fixture.close(Stage::Quarantined(records.into()));
        });
        self.matches_done += 1;
        self.finish_when_closed(now, actions);
    }

    pub fn finish_when_closed(&mut self, now: Now, actions: &mut Vec<Action>) {
        if !self.is_complete() {
            return;
        }
        let outcomes = self.fixtures().iter().map(|fixture| MatchOutcome {
            id: fixture.id.clone(),
            engine: fixture.engine.clone(),
            quarantined: match &fixture.stage {
                Stage::Quarantined(records) => records.to_vec(),
                _ => Vec::new(),
            },
        });
        let run = Box::new(RunFigures {
            elapsed_seconds: now.saturating_sub(self.started).as_secs_f64(),
            frames: self.frames_run,
            stage_seconds: self.stages.clone(),
            seen: self.seen.clone(),
        });
        actions.push(Action::Finish { job: self.id.clone(), outcomes: outcomes.collect(), run });
    }

    pub fn finished(&mut self, manifest: String, now: Now) {
        self.manifest = Some(manifest);
        self.end(JobState::Finished, None, now);
    }

    fn give_up(&mut self, name: String, record: Quarantined, actions: &mut Vec<Action>) {
        self.problem(record.to_string());
        actions.push(Action::Quarantine { job: self.id.clone(), name, record: Box::new(record) });
    }
}

fn add_stages(sums: &mut Vec<(String, f64)>, seconds: &[(String, f64)]) {
    for (stage, seconds) in seconds {
        match sums.iter_mut().find(|(known, _)| known == stage) {
            Some((_, sum)) => *sum += seconds,
            None => sums.push((stage.clone(), *seconds)),
        }
    }
}
