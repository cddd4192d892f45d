//! One match of a job on its way from a list of files to committed tables. While it waits it holds its files, while it runs
//! what a shard needs, and once it is done next to nothing.

use std::collections::BTreeMap;

use fulltime_common::{
    digest::Digest,
    index::RecordingIndex,
    plan::{EngineClass, Gap, MatchId, MatchPlan, Placement, PlannedMatch, ShardSpec},
    wire::JobFailure,
};

use super::{PlanOrder, Step};
use crate::manifest::Quarantined;

mod inputs;
mod slots;

pub(super) use inputs::Reading;
pub(super) use slots::{Progress, Recording, Slot, SlotState};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// Known from the match list; nobody has looked for an earlier plan.
    Listed,
    /// Its earlier plan is being looked for.
    Opening,
    /// Recordings without a container index are being indexed.
    Indexing,
    /// The plan is being made, or waits for an engine class.
    Planning,
    /// Planned; the result of the whole match is being looked for.
    Finding,
    Mapping,
    /// A recording changed; all of them are looked at anew.
    Relisting,
    /// All shards are decided; the inputs object is being created.
    Freezing,
    Reducing {
        reduce: Digest,
        taken: bool,
    },
    /// Reduced; the summary is being read.
    Summarising,
    Done,
    /// Done before this leader took over; its figures are not known yet.
    Past,
    Quarantined(Box<[Quarantined]>),
}

impl Stage {
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Done | Self::Past | Self::Quarantined(_))
    }

    /// Between the list and the first shard.
    pub fn is_preparing(&self) -> bool {
        matches!(self, Self::Opening | Self::Indexing | Self::Planning | Self::Finding | Self::Relisting)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Fixture {
    pub id: MatchId,
    pub stage: Stage,
    /// How often it was planned anew.
    pub revision: u32,
    placements: Vec<Placement>,
    /// From the opening to the freezing.
    pub recordings: Vec<Recording>,
    pub engine: Option<EngineClass>,
    /// Recordings (while indexing) or shards (while mapping) without a verdict.
    pub undecided: usize,
    pub share: Share,
    /// Why nothing more of it is taken up until the job is resumed.
    pub held: Option<Box<JobFailure>>,
}

/// What a match adds to the job's figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub recordings: u64,
    pub recordings_indexed: u64,
    pub shards: u64,
    pub shards_done: u64,
    pub frames: u64,
    pub frames_done: u64,
    /// As events reported them; the summary has the last word.
    pub detections: u64,
    /// Recordings and runs of frames that were given up, or the match as a whole.
    pub lost: u64,
}

impl Fixture {
    pub fn new(planned: PlannedMatch, revision: u32) -> Self {
        let share = Share { recordings: planned.recordings.len() as u64, ..Share::default() };
        Self {
            id: planned.id,
            stage: Stage::Listed,
            revision,
            placements: planned.recordings,
            recordings: Vec::new(),
            engine: None,
            undecided: 0,
            share,
            held: None,
        }
    }

    /// Begins to work on it.
    pub fn open(&mut self, archive: &str) {
        let recording = |placement: &Placement| Recording {
            index: RecordingIndex::digest(archive, &placement.recording),
            state: Progress::Waiting,
            refused: None,
            frames: 0,
            frame_rate: (0, 1),
            width: 0,
            height: 0,
            slots: Vec::new(),
            gaps: Vec::new(),
        };
        self.recordings = self.placements.iter().map(recording).collect();
        self.undecided = self.recordings.len();
        self.stage = Stage::Opening;
    }

    /// The recordings are others than before: everything begins again.
    pub fn relist(&mut self, planned: PlannedMatch, revision: u32) {
        *self = Self { held: self.held.take(), ..Self::new(PlannedMatch { id: self.id.clone(), ..planned }, revision) };
    }

    /// Nothing of it will be asked for any more.
    pub fn close(&mut self, stage: Stage) {
        self.stage = stage;
        self.held = None;
        self.placements = Vec::new();
        self.recordings = Vec::new();
    }

    pub fn placement(&self, recording: u32) -> Option<&Placement> {
        self.placements.get(recording as usize)
    }

    pub fn slot(&self, recording: u32, shard: u32) -> Option<&Slot> {
        self.recordings.get(recording as usize)?.slots.get(shard as usize)
    }

    pub fn slot_mut(&mut self, recording: u32, shard: u32) -> Option<&mut Slot> {
        self.recordings.get_mut(recording as usize)?.slots.get_mut(shard as usize)
    }

    /// All work that nobody has taken up.
    pub fn waiting(&self) -> Vec<Step> {
        if self.held.is_some() {
            return Vec::new();
        }
        let recordings = || (0_u32..).zip(&self.recordings);
        match &self.stage {
            Stage::Indexing => recordings()
                .filter(|(_, r)| r.state == Progress::Waiting)
                .map(|(recording, _)| Step::Index { recording })
                .collect(),
            Stage::Mapping => recordings()
                .flat_map(|(recording, r)| {
                    let slots = (0_u32..).zip(&r.slots).filter(|(_, slot)| slot.state == SlotState::Waiting);
                    slots.map(move |(shard, _)| Step::Map { recording, shard })
                })
                .collect(),
            Stage::Reducing { taken: false, .. } => vec![Step::Reduce],
            Stage::Listed
            | Stage::Opening
            | Stage::Planning
            | Stage::Finding
            | Stage::Relisting
            | Stage::Freezing
            | Stage::Reducing { .. }
            | Stage::Summarising
            | Stage::Done
            | Stage::Past
            | Stage::Quarantined(_) => Vec::new(),
        }
    }

    pub fn is_waiting(&self, step: Step) -> bool {
        match (step, &self.stage) {
            (Step::Index { recording }, Stage::Indexing) => {
                self.recordings.get(recording as usize).is_some_and(|r| r.state == Progress::Waiting)
            }
            (Step::Map { recording, shard }, Stage::Mapping) => {
                self.slot(recording, shard).is_some_and(|slot| slot.state == SlotState::Waiting)
            }
            (Step::Reduce, Stage::Reducing { taken, .. }) => !taken,
            (Step::Index { .. } | Step::Map { .. } | Step::Reduce, _) => false,
        }
    }

    /// Marks a unit of work as taken up, or as waiting again. Decided work stays decided.
    pub fn mark(&mut self, step: Step, taken: bool) {
        match step {
            Step::Index { recording } => {
                if let Some(recording) = self.recordings.get_mut(recording as usize)
                    && recording.state != Progress::Decided
                {
                    recording.state = if taken { Progress::Taken } else { Progress::Waiting };
                }
            }
            Step::Map { recording, shard } => {
                if let Some(slot) = self.slot_mut(recording, shard)
                    && matches!(slot.state, SlotState::Waiting | SlotState::Taken)
                {
                    slot.state = if taken { SlotState::Taken } else { SlotState::Waiting };
                }
            }
            Step::Reduce => {
                if let Stage::Reducing { taken: before, .. } = &mut self.stage {
                    *before = taken;
                }
            }
        }
    }

    /// True when this was the last recording without an index or a refusal.
    pub fn indexed(&mut self, recording: u32, refused: Option<String>) -> bool {
        if let Some(recording) = self.recordings.get_mut(recording as usize) {
            recording.refused = refused;
            recording.state = Progress::Decided;
            self.undecided = self.undecided.saturating_sub(1);
        }
        self.undecided == 0
    }

    pub fn order(&self, engine: EngineClass, pipeline: Digest, map: Digest) -> PlanOrder {
        let recordings = self.placements.iter().zip(&self.recordings);
        let recordings = recordings.map(|(placement, r)| (placement.clone(), r.index, r.refused.clone())).collect();
        PlanOrder { id: self.id.clone(), revision: self.revision, engine, pipeline, map, recordings }
    }

    /// Takes over a plan (whose recordings are those of the match list, in its order), with the parts of shards that were
    /// split before.
    pub fn load(&mut self, plan: &MatchPlan, splits: &BTreeMap<Digest, Vec<ShardSpec>>) {
        self.engine = Some(plan.engine.clone());
        for (recording, planned) in self.recordings.iter_mut().zip(&plan.recordings) {
            recording.state = Progress::Decided;
            recording.refused.clone_from(&planned.refused);
            recording.frames = planned.frames;
            recording.frame_rate = planned.frame_rate;
            (recording.width, recording.height) = (planned.width, planned.height);
            recording.slots = planned.shards.iter().map(Slot::new).collect();
            if !splits.is_empty() {
                let mut at = 0;
                while let Some(slot) = recording.slots.get(at) {
                    if let Some(parts) = splits.get(&slot.digest).filter(|parts| parts.len() > 1) {
                        recording.split(at, parts);
                    }
                    at += 1;
                }
            }
        }
        let slots = || self.recordings.iter().flat_map(|r| &r.slots).filter(|slot| slot.state == SlotState::Waiting);
        self.undecided = slots().count();
        self.share = Share {
            recordings: self.share.recordings,
            recordings_indexed: self.share.recordings,
            shards: self.undecided as u64,
            frames: self.recordings.iter().map(|r| u64::from(r.frames)).sum(),
            lost: self.refused().count() as u64,
            ..Share::default()
        };
    }

    pub fn shard(&self, recording: u32, shard: u32, pipeline: Digest, map: Digest) -> Option<ShardSpec> {
        let placement = self.placement(recording)?;
        let slot = self.slot(recording, shard)?;
        Some(ShardSpec {
            recording: placement.recording.clone(),
            index: self.recordings.get(recording as usize)?.index,
            intervals: slot.intervals.clone(),
            frames: slot.frames.clone(),
            bytes: slot.bytes.clone(),
            pipeline,
            map,
            engine: self.engine.clone()?,
        })
    }

    /// The shards that are being cut into parts.
    pub fn splitting(&self) -> impl Iterator<Item = (u32, u32)> {
        (0_u32..).zip(&self.recordings).flat_map(|(recording, r)| {
            let slots = (0_u32..).zip(&r.slots).filter(|(_, slot)| slot.state == SlotState::Splitting);
            slots.map(move |(shard, _)| (recording, shard))
        })
    }

    /// Replaces the shard by its parts, as yet waiting. False if it was not being split.
    pub fn split(&mut self, recording: u32, digest: Digest, parts: &[ShardSpec]) -> bool {
        let Some(recording) = self.recordings.get_mut(recording as usize) else { return false };
        let splitting = |slot: &Slot| slot.digest == digest && slot.state == SlotState::Splitting;
        let Some(at) = recording.slots.iter().position(splitting) else { return false };
        recording.split(at, parts);
        self.undecided += parts.len() - 1;
        self.share.shards += parts.len() as u64 - 1;
        true
    }

    /// Gives a shard up.
    pub fn give_up(&mut self, recording: u32, shard: u32, reason: &str) {
        let Some(recording) = self.recordings.get_mut(recording as usize) else { return };
        let Some(slot) = recording.slots.get_mut(shard as usize) else { return };
        slot.state = SlotState::GivenUp;
        recording.gaps.push(Gap { frames: slot.frames.clone(), reason: reason.to_owned() });
        self.undecided = self.undecided.saturating_sub(1);
        self.share.shards_done += 1;
        self.share.lost += 1;
    }

    /// A shard has a result. Returns its number of frames.
    pub fn commit(&mut self, recording: u32, shard: u32) -> u64 {
        let Some(slot) = self.slot_mut(recording, shard) else { return 0 };
        slot.state = SlotState::Committed;
        let frames = slot.length();
        self.undecided = self.undecided.saturating_sub(1);
        self.share.shards_done += 1;
        self.share.frames_done += frames;
        frames
    }

    /// All shards have results, since the reduce result does.
    pub fn commit_all(&mut self) {
        for slot in self.recordings.iter_mut().flat_map(|r| &mut r.slots) {
            if slot.state == SlotState::Waiting {
                slot.state = SlotState::Committed;
            }
        }
        self.undecided = 0;
    }
}

impl Share {
    /// Adds what a match has become and takes off what it was.
    pub fn change(&mut self, before: Self, after: Self) {
        let change = |sum: &mut u64, before: u64, after: u64| *sum = (*sum + after).saturating_sub(before);
        change(&mut self.recordings, before.recordings, after.recordings);
        change(&mut self.recordings_indexed, before.recordings_indexed, after.recordings_indexed);
        change(&mut self.shards, before.shards, after.shards);
        change(&mut self.shards_done, before.shards_done, after.shards_done);
        change(&mut self.frames, before.frames, after.frames);
        change(&mut self.frames_done, before.frames_done, after.frames_done);
        change(&mut self.detections, before.detections, after.detections);
        change(&mut self.lost, before.lost, after.lost);
    }
}
