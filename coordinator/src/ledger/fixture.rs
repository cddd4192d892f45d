//! One match of a job on its way from a list of files to committed tables. Holds what a shard needs and no more, and
//! drops even that once the reduce inputs are frozen.

use std::ops::Range;

use fulltime_common::{
    digest::Digest,
    index::RecordingIndex,
    plan::{
        EngineClass, Gap, MatchId, MatchPlan, Placement, PlannedMatch, ReduceInputs, ReduceRecording, ReduceShard,
        ShardSpec,
    },
};

use super::{GENERATION, PlanOrder};
use crate::manifest::Quarantined;

#[derive(Debug, PartialEq)]
pub(super) enum Stage {
    /// Known from the match list; nobody has looked for an earlier plan.
    Listed,
    /// Recordings without a container index are being indexed.
    Indexing,
    /// The plan is being made, or waits for an engine class.
    Planning,
    Mapping,
    /// All shards are decided; the inputs object is being created.
    Freezing,
    Reducing {
        reduce: Digest,
    },
    /// Reduced; the summary is being read.
    Summarising,
    Done,
    Quarantined(Vec<Quarantined>),
}

#[derive(Debug)]
pub(super) struct Fixture {
    pub id: MatchId,
    pub stage: Stage,
    pub recordings: Vec<Recording>,
    pub engine: Option<EngineClass>,
    /// Recordings (while indexing) or shards (while mapping) without a verdict.
    pub undecided: usize,
    /// As events reported them; the summary has the last word.
    pub detections: u64,
    /// Shards given up; the summary's gaps have the last word.
    pub given_up: u64,
}

#[derive(Debug)]
pub(super) struct Recording {
    pub placement: Placement,
    /// Key of the container index.
    pub index: Digest,
    pub refused: Option<String>,
    frames: u32,
    frame_rate: (u32, u32),
    width: u32,
    height: u32,
    pub slots: Vec<Slot>,
    gaps: Vec<Gap>,
}

/// A shard.
#[derive(Debug)]
pub(super) struct Slot {
    pub digest: Digest,
    pub frames: Range<u32>,
    intervals: Range<u32>,
    bytes: Range<u64>,
    committed: bool,
}

impl Fixture {
    pub fn new(planned: PlannedMatch, archive: &str) -> Self {
        let recordings: Vec<_> = planned
            .recordings
            .into_iter()
            .map(|placement| Recording {
                index: RecordingIndex::digest(archive, &placement.recording),
                placement,
                refused: None,
                frames: 0,
                frame_rate: (0, 1),
                width: 0,
                height: 0,
                slots: Vec::new(),
                gaps: Vec::new(),
            })
            .collect();
        let undecided = recordings.len();
        Self { id: planned.id, stage: Stage::Listed, recordings, engine: None, undecided, detections: 0, given_up: 0 }
    }

    /// True when this was the last recording without an index or a refusal.
    pub fn indexed(&mut self, recording: u32, refused: Option<String>) -> bool {
        if let Some(recording) = self.recordings.get_mut(recording as usize) {
            recording.refused = refused;
            self.undecided = self.undecided.saturating_sub(1);
        }
        self.undecided == 0
    }

    pub fn order(&self, engine: EngineClass, pipeline: Digest, map: Digest) -> PlanOrder {
        let recordings = self.recordings.iter().map(|r| (r.placement.clone(), r.index, r.refused.clone())).collect();
        PlanOrder { id: self.id.clone(), revision: 0, engine, pipeline, map, recordings }
    }

    /// Takes over a plan (whose recordings are those of the match list, in its order). Returns shards and frames.
    pub fn load(&mut self, plan: &MatchPlan) -> (u64, u64) {
        self.engine = Some(plan.engine.clone());
        for (recording, planned) in self.recordings.iter_mut().zip(&plan.recordings) {
            recording.refused.clone_from(&planned.refused);
            recording.frames = planned.frames;
            recording.frame_rate = planned.frame_rate;
            (recording.width, recording.height) = (planned.width, planned.height);
            let slot = |shard: &ShardSpec| Slot {
                digest: shard.digest(),
                frames: shard.frames.clone(),
                intervals: shard.intervals.clone(),
                bytes: shard.bytes.clone(),
                committed: false,
            };
            recording.slots = planned.shards.iter().map(slot).collect();
        }
        self.undecided = self.recordings.iter().map(|r| r.slots.len()).sum();
        let frames = self.recordings.iter().map(|r| u64::from(r.frames)).sum();
        (self.undecided as u64, frames)
    }

    pub fn shard(&self, recording: u32, shard: u32, pipeline: Digest, map: Digest) -> Option<ShardSpec> {
        let recording = self.recordings.get(recording as usize)?;
        let slot = recording.slots.get(shard as usize)?;
        Some(ShardSpec {
            recording: recording.placement.recording.clone(),
            index: recording.index,
            intervals: slot.intervals.clone(),
            frames: slot.frames.clone(),
            bytes: slot.bytes.clone(),
            pipeline,
            map,
            engine: self.engine.clone()?,
        })
    }

    /// Settles a shard; `given_up` says why it has no result. Returns its number of frames.
    pub fn settle(&mut self, recording: u32, shard: u32, given_up: Option<&str>) -> u64 {
        let Some(recording) = self.recordings.get_mut(recording as usize) else { return 0 };
        let Some(slot) = recording.slots.get_mut(shard as usize) else { return 0 };
        self.undecided = self.undecided.saturating_sub(1);
        match given_up {
            None => slot.committed = true,
            Some(reason) => {
                recording.gaps.push(Gap { frames: slot.frames.clone(), reason: reason.to_owned() });
                self.given_up += 1;
            }
        }
        u64::from(slot.frames.end - slot.frames.start)
    }

    /// What the reduce reads, once every shard is settled.
    pub fn inputs(&self, job: &str, pipeline: Digest, reduce: Digest) -> ReduceInputs {
        let recordings = self.recordings.iter().map(|recording| {
            let committed = recording.slots.iter().filter(|slot| slot.committed);
            let mut gaps = recording.gaps.clone();
            gaps.sort_by_key(|gap| gap.frames.start);
            gaps.extend(recording.refused.iter().map(|reason| Gap { frames: 0..0, reason: reason.clone() }));
            ReduceRecording {
                placement: recording.placement.clone(),
                index: recording.index,
                frames: recording.frames,
                frame_rate: recording.frame_rate,
                width: recording.width,
                height: recording.height,
                shards: committed.map(|s| ReduceShard { digest: s.digest, frames: s.frames.clone() }).collect(),
                gaps,
            }
        });
        ReduceInputs {
            id: self.id.clone(),
            job: job.to_owned(),
            generation: GENERATION,
            pipeline,
            reduce,
            recordings: recordings.collect(),
        }
    }

    /// The inputs object exists: from here on only it counts.
    pub fn freeze(&mut self, inputs: &ReduceInputs) {
        self.stage = Stage::Reducing { reduce: inputs.digest() };
        self.given_up =
            inputs.recordings.iter().flat_map(|r| &r.gaps).filter(|gap| !gap.frames.is_empty()).count() as u64;
        self.undecided = 0;
        for recording in &mut self.recordings {
            recording.slots = Vec::new();
            recording.gaps = Vec::new();
        }
    }

    /// How many recordings and shards were given up, or the match as a whole.
    pub fn lost(&self) -> u64 {
        match &self.stage {
            Stage::Quarantined(records) => records.len() as u64,
            _ => self.refused().count() as u64 + self.given_up,
        }
    }

    fn refused(&self) -> impl Iterator<Item = &Recording> {
        self.recordings.iter().filter(|recording| recording.refused.is_some())
    }

    /// The records of the recordings that were refused.
    pub fn refusals(&self) -> Vec<Quarantined> {
        self.refused().map(|r| self.record(Some(r), None, r.refused.as_deref().unwrap_or_default())).collect()
    }

    pub fn record(&self, recording: Option<&Recording>, frames: Option<Range<u32>>, reason: &str) -> Quarantined {
        Quarantined {
            id: self.id.clone(),
            recording: recording.map(|r| r.placement.recording.key.clone()),
            frames,
            reason: reason.to_owned(),
        }
    }
}
