//! How a match goes from stage to stage: what each answer and each verdict means for it, and what is ready next.

use fulltime_common::{
    plan::{MatchPlan, ReduceInputs},
    wire::JobState,
};

use super::{
    Action, Figures, MatchOutcome, Now, Place, RunFigures, Step, Verdict,
    fixture::{Fixture, Stage},
    job::Job,
};
use crate::manifest::Quarantined;

impl Job {
    pub fn opened(
        &mut self,
        at: u32,
        plan: Option<Box<MatchPlan>>,
        inputs: Option<Box<ReduceInputs>>,
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        self.opening = self.opening.saturating_sub(1);
        let Some(fixture) = at_stage(&mut self.fixtures, at, |stage| *stage == Stage::Listed) else { return };
        let Some(plan) = plan else {
            fixture.stage = Stage::Indexing;
            let steps = (0..fixture.recordings.len() as u32).map(|recording| Step::Index { recording });
            self.ready.extend(steps.map(|step| Place { at, step }));
            return;
        };
        self.tally.recordings_indexed += fixture.recordings.len() as u64;
        match inputs {
            None => self.planned(at, &plan, now, actions),
            Some(inputs) => {
                let (shards, frames) = fixture.load(&plan);
                self.engine.get_or_insert_with(|| plan.engine.clone());
                self.tally.shards += shards;
                self.tally.shards_done += shards;
                self.tally.frames += frames;
                let committed = inputs.recordings.iter().flat_map(|r| &r.shards);
                self.tally.frames_done += committed.map(|s| u64::from(s.frames.end - s.frames.start)).sum::<u64>();
                self.frozen(at, &inputs);
            }
        }
    }

    pub fn planned(&mut self, at: u32, plan: &MatchPlan, now: Now, actions: &mut Vec<Action>) {
        let waiting = |stage: &Stage| matches!(stage, Stage::Listed | Stage::Planning);
        let Some(fixture) = at_stage(&mut self.fixtures, at, waiting) else { return };
        let (shards, frames) = fixture.load(plan);
        let refusals = fixture.refusals();
        self.engine.get_or_insert_with(|| plan.engine.clone());
        self.tally.shards += shards;
        self.tally.frames += frames;
        if refusals.len() == fixture.recordings.len() {
            self.quarantine(at, refusals, now, actions);
            return;
        }
        fixture.stage = Stage::Mapping;
        for (recording, entry) in (0_u32..).zip(&fixture.recordings) {
            let steps = (0..entry.slots.len() as u32).map(|shard| Step::Map { recording, shard });
            self.ready.extend(steps.map(|step| Place { at, step }));
        }
        self.freeze_when_settled(at, actions);
    }

    pub fn decided(&mut self, place: Place, verdict: &Verdict, now: Now, actions: &mut Vec<Action>) {
        self.out = self.out.saturating_sub(1);
        let Place { at, step } = place;
        let Some(fixture) = self.fixtures.get_mut(at as usize) else { return };
        let given_up = match verdict {
            Verdict::GivenUp(reason) => Some(reason.clone()),
            Verdict::Found | Verdict::Committed(_) => {
                self.streak = None;
                None
            }
        };
        match step {
            Step::Open => {}
            Step::Index { recording } => {
                self.tally.recordings_indexed += 1;
                let all = fixture.indexed(recording, given_up.clone());
                if let (Some(reason), Some(entry)) = (&given_up, fixture.recordings.get(recording as usize)) {
                    let record = fixture.record(Some(entry), None, reason);
                    let name = format!("recording-{}", entry.index);
                    self.give_up(name, record, actions);
                }
                if all {
                    self.plan(at, actions);
                }
            }
            Step::Map { recording, shard } => {
                let frames = fixture.settle(recording, shard, given_up.as_deref());
                self.tally.shards_done += 1;
                match (verdict, fixture.recordings.get(recording as usize)) {
                    (Verdict::GivenUp(reason), Some(entry)) => {
                        if let Some(slot) = entry.slots.get(shard as usize) {
                            let record = fixture.record(Some(entry), Some(slot.frames.clone()), reason);
                            let name = format!("shard-{}", slot.digest);
                            self.give_up(name, record, actions);
                        }
                    }
                    (Verdict::Committed(outcome), _) => {
                        fixture.detections += outcome.detections;
                        self.tally.detections += outcome.detections;
                        self.tally.frames_done += frames;
                        if !outcome.found {
                            self.tally.frames_run += frames;
                            add_stages(&mut self.stages, &outcome.stage_seconds);
                        }
                    }
                    (Verdict::Found | Verdict::GivenUp(_), _) => self.tally.frames_done += frames,
                }
                self.freeze_when_settled(at, actions);
            }
            Step::Reduce => match (verdict, &fixture.stage) {
                (Verdict::GivenUp(reason), Stage::Reducing { reduce }) => {
                    let record = fixture.record(None, None, reason);
                    let mut records = fixture.refusals();
                    records.push(record.clone());
                    let name = format!("match-{reduce}");
                    self.give_up(name, record, actions);
                    self.quarantine(at, records, now, actions);
                }
                _ => {
                    fixture.stage = Stage::Summarising;
                    actions.push(Action::Summarise { job: self.id.clone(), at, id: fixture.id.clone() });
                }
            },
        }
        self.rate.note(self.tally.frames_run, now);
    }

    fn freeze_when_settled(&mut self, at: u32, actions: &mut Vec<Action>) {
        let (Some(fixture), Some(setting)) = (self.fixtures.get_mut(at as usize), &self.setting) else { return };
        if fixture.stage == Stage::Mapping && fixture.undecided == 0 {
            fixture.stage = Stage::Freezing;
            let inputs = Box::new(fixture.inputs(&self.id, setting.pipeline, setting.reduce));
            actions.push(Action::Freeze { job: self.id.clone(), at, inputs });
        }
    }

    pub fn frozen(&mut self, at: u32, inputs: &ReduceInputs) {
        let waiting = |stage: &Stage| matches!(stage, Stage::Listed | Stage::Freezing);
        let Some(fixture) = at_stage(&mut self.fixtures, at, waiting) else { return };
        fixture.freeze(inputs);
        self.ready.insert(Place { at, step: Step::Reduce });
    }

    pub fn summarised(&mut self, at: u32, figures: Figures, now: Now, actions: &mut Vec<Action>) {
        let Some(fixture) = at_stage(&mut self.fixtures, at, |stage| *stage == Stage::Summarising) else { return };
        fixture.stage = Stage::Done;
        self.tally.detections = (self.tally.detections + figures.detections).saturating_sub(fixture.detections);
        let before = std::mem::replace(&mut fixture.given_up, figures.gaps);
        if figures.gaps > before {
            let line =
                format!("match `{}`: {} damaged passages could not be decoded", fixture.id, figures.gaps - before);
            self.problem(line);
        }
        self.close_match(now, actions);
    }

    fn quarantine(&mut self, at: u32, records: Vec<Quarantined>, now: Now, actions: &mut Vec<Action>) {
        if let Some(fixture) = self.fixtures.get_mut(at as usize) {
            fixture.stage = Stage::Quarantined(records);
            self.close_match(now, actions);
        }
    }

    fn close_match(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.tally.matches_done += 1;
        self.open_matches = self.open_matches.saturating_sub(1);
        if self.open_matches == 0 {
            let outcomes = self.fixtures.iter().map(|fixture| MatchOutcome {
                id: fixture.id.clone(),
                engine: fixture.engine.clone(),
                quarantined: match &fixture.stage {
                    Stage::Quarantined(records) => records.clone(),
                    _ => Vec::new(),
                },
            });
            let run = Box::new(RunFigures {
                elapsed_seconds: now.saturating_sub(self.started).as_secs_f64(),
                frames: self.tally.frames_run,
                stage_seconds: self.stages.clone(),
            });
            actions.push(Action::Finish { job: self.id.clone(), outcomes: outcomes.collect(), run });
        }
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

/// Answers are taken where they are awaited; a second one (from before a pause) says the same and is dropped.
fn at_stage(fixtures: &mut [Fixture], at: u32, awaited: impl Fn(&Stage) -> bool) -> Option<&mut Fixture> {
    fixtures.get_mut(at as usize).filter(|fixture| awaited(&fixture.stage))
}

fn add_stages(sums: &mut Vec<(String, f64)>, seconds: &[(String, f64)]) {
    for (stage, seconds) in seconds {
        match sums.iter_mut().find(|(known, _)| known == stage) {
            Some((_, sum)) => *sum += seconds,
            None => sums.push((stage.clone(), *seconds)),
        }
    }
}
