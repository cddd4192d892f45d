//! `manifest.json`: what a job made, of which bytes, by which models and engines. Written last, so a job is finished when
//! it exists. Free of times, hosts and attempts: equal work gives an equal manifest.

use std::{fmt, ops::Range};

use fulltime_common::{
    digest::Digest,
    keys::{self, TABLES},
    pipeline::{self, Pipeline},
    plan::{EngineClass, MatchId, MatchList, Placement, ReduceInputs},
    results::MatchSummary,
    semantics,
    spec::{Job, ShardLength},
};
use serde::{Deserialize, Serialize};

/// Version of the manifest's layout.
pub const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub job: String,
    pub generation: u32,
    pub archive: String,
    pub store: String,
    pub out: String,
    pub shard_length: ShardLength,
    pub pipeline: PipelineRecord,
    pub semantics: SemanticsRecord,
    /// Classes that the matches were run on, sorted.
    pub engines: Vec<EngineClass>,
    pub totals: Totals,
    /// In the order of the match list; matches without tables are only in `quarantined`.
    pub matches: Vec<MatchRecord>,
    pub quarantined: Vec<Quarantined>,
    /// Video files that no rule placed, left out on request.
    pub skipped: Vec<String>,
    /// Key below `out`.
    pub report: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineRecord {
    pub name: String,
    pub digest: Digest,
    pub models: Vec<ModelRecord>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    pub name: String,
    pub sha256: Digest,
}

/// Version of each stage's meaning at the time; see [`semantics`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemanticsRecord {
    pub index: u32,
    pub decode: u32,
    pub preprocess: u32,
    pub postprocess: u32,
    pub shard: u32,
    pub describe: u32,
    pub reduce: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub matches: u64,
    pub recordings: u64,
    pub shards: u64,
    pub frames: u64,
    pub gap_frames: u64,
    pub detections: u64,
    pub tracks: u64,
    pub players: u64,
    pub quarantined: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatchRecord {
    #[serde(flatten)]
    pub id: MatchId,
    pub engine: Option<EngineClass>,
    /// Key below `out` of the exact list that was reduced.
    pub inputs: String,
    /// Names the reduce result below `store`.
    pub reduced: Digest,
    pub recordings: Vec<RecordingRecord>,
    pub shards: u64,
    pub frames: u64,
    pub gap_frames: u64,
    pub detections: u64,
    pub tracks: u64,
    pub players: u64,
    pub tables: Vec<TableRecord>,
    /// Keys below `out`.
    pub summary: String,
    pub preview: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordingRecord {
    #[serde(flatten)]
    pub placement: Placement,
    pub index: Digest,
    pub frames: u32,
    pub shards: u64,
}

/// One published table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    pub name: String,
    /// Below `out`.
    pub key: String,
    pub size: u64,
    pub sha256: Digest,
}

/// Something that was given up: a match, a recording, or some of its frames.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    #[serde(flatten)]
    pub id: MatchId,
    pub recording: Option<String>,
    pub frames: Option<Range<u32>>,
    pub reason: String,
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.recording, &self.frames) {
            (Some(key), Some(frames)) => write!(f, "`{key}`, frames {} to {}", frames.start, frames.end - 1)?,
            (Some(key), None) => write!(f, "`{key}`")?,
            (None, _) => write!(f, "match `{}`", self.id)?,
        }
        write!(f, ": {}", self.reason)
    }
}

impl MatchRecord {
    /// The record of a reduced match, and what of it was given up.
    #[must_use]
    pub fn new(
        job: &str,
        engine: Option<EngineClass>,
        inputs: &ReduceInputs,
        summary: &MatchSummary,
    ) -> (Self, Vec<Quarantined>) {
        let (id, generation) = (&inputs.id, inputs.generation);
        let recordings = inputs.recordings.iter().map(|recording| RecordingRecord {
            placement: recording.placement.clone(),
            index: recording.index,
            frames: recording.frames,
            shards: recording.shards.len() as u64,
        });
        let tables = TABLES.iter().zip(&summary.parts).map(|(name, part)| TableRecord {
            name: (*name).to_owned(),
            key: keys::job::table(job, generation, name, id),
            size: part.size,
            sha256: part.sha256,
        });
        let record = Self {
            id: id.clone(),
            engine,
            inputs: keys::job::inputs(job, id, generation),
            reduced: inputs.digest(),
            recordings: recordings.collect(),
            shards: inputs.recordings.iter().map(|r| r.shards.len() as u64).sum(),
            frames: summary.frames,
            gap_frames: summary.gap_frames,
            detections: summary.detections,
            tracks: summary.tracks,
            players: summary.players,
            tables: tables.collect(),
            summary: keys::job::summary(job, generation, id),
            preview: summary.preview.as_ref().map(|_| keys::job::preview(job, generation, id)),
        };
        (record, given_up(inputs, summary))
    }
}

/// Refused recordings (from the inputs) and frames without a result (from the summary, where those that the decoder could
/// not give have joined those of shards that were given up).
#[must_use]
pub fn given_up(inputs: &ReduceInputs, summary: &MatchSummary) -> Vec<Quarantined> {
    let entry = |key: &str, frames: Option<Range<u32>>, reason: &str| Quarantined {
        id: inputs.id.clone(),
        recording: Some(key.to_owned()),
        frames,
        reason: reason.to_owned(),
    };
    let refused = inputs.recordings.iter().flat_map(|recording| {
        let whole = recording.gaps.iter().filter(|gap| gap.frames.is_empty());
        whole.map(|gap| entry(&recording.placement.recording.key, None, &gap.reason))
    });
    let gaps = summary.recordings.iter().flat_map(|recording| {
        let some = recording.gaps.iter().filter(|gap| !gap.frames.is_empty());
        some.map(|gap| entry(&recording.key, Some(gap.frames.clone()), &gap.reason))
    });
    refused.chain(gaps).collect()
}

impl Manifest {
    #[must_use]
    pub fn new(
        job: &Job,
        generation: u32,
        pipeline: &Pipeline,
        list: &MatchList,
        matches: Vec<MatchRecord>,
        quarantined: Vec<Quarantined>,
    ) -> Self {
        let mut engines: Vec<_> = matches.iter().filter_map(|record| record.engine.clone()).collect();
        engines.sort();
        engines.dedup();
        let record = |model: &pipeline::Manifest| ModelRecord { name: model.name.clone(), sha256: model.file.sha256 };
        let models = pipeline.manifests().map(record).collect();
        Self {
            version: VERSION,
            job: job.id.clone(),
            generation,
            archive: job.archive.clone(),
            store: job.store.clone(),
            out: job.out.clone(),
            shard_length: job.shard_length,
            pipeline: PipelineRecord { name: pipeline.name.clone(), digest: job.pipeline, models },
            semantics: SemanticsRecord {
                index: semantics::INDEX,
                decode: semantics::DECODE,
                preprocess: semantics::PREPROCESS,
                postprocess: semantics::POSTPROCESS,
                shard: semantics::SHARD,
                describe: semantics::DESCRIBE,
                reduce: semantics::REDUCE,
            },
            engines,
            totals: totals(list, &matches, &quarantined),
            matches,
            quarantined,
            skipped: list.skipped.clone(),
            report: keys::job::report(&job.id, generation),
        }
    }
}

fn totals(list: &MatchList, matches: &[MatchRecord], quarantined: &[Quarantined]) -> Totals {
    let sum = |figure: fn(&MatchRecord) -> u64| matches.iter().map(figure).sum();
    Totals {
        matches: list.matches.len() as u64,
        recordings: list.matches.iter().map(|m| m.recordings.len() as u64).sum(),
        shards: sum(|m| m.shards),
        frames: sum(|m| m.frames),
        gap_frames: sum(|m| m.gap_frames),
        detections: sum(|m| m.detections),
        tracks: sum(|m| m.tracks),
        players: sum(|m| m.players),
        quarantined: quarantined.len() as u64,
    }
}
