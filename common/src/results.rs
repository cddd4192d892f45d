//! What map and reduce tasks leave behind besides tables. Plain data, the same bytes for the same work: no times, no
//! hosts, no attempts.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    plan::{EngineClass, Gap, MatchId, RecordingRef, ShardSpec},
};

/// `shards/{d2}/{digest}/index.json`, the commit of a shard: names its parts by content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardResult {
    pub shard: ShardRecord,
    /// Frames that were decoded and looked at or sampled out.
    pub frames: u32,
    pub detections: u64,
    /// Whole intervals that the decoder could not give without concealment.
    pub gaps: Vec<Gap>,
    pub parts: Vec<Part>,
}

/// What a shard was made of: its spec but for the pipeline object, since pipelines that differ only in their tracker share
/// shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRecord {
    pub recording: RecordingRef,
    pub index: Digest,
    pub intervals: Range<u32>,
    pub frames: Range<u32>,
    pub bytes: Range<u64>,
    pub map: Digest,
    pub engine: EngineClass,
}

impl From<&ShardSpec> for ShardRecord {
    fn from(shard: &ShardSpec) -> Self {
        let ShardSpec { recording, index, intervals, frames, bytes, pipeline: _, map, engine } = shard.clone();
        Self { recording, index, intervals, frames, bytes, map, engine }
    }
}

/// One object of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// File name below the result's folder.
    pub name: String,
    pub size: u64,
    pub sha256: Digest,
}

/// `summary.json` of a match, the commit of a reduce. Free of shard boundaries, so equal for any shard length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatchSummary {
    #[serde(flatten)]
    pub id: MatchId,
    pub recordings: Vec<RecordingSummary>,
    pub frames: u64,
    pub detections: u64,
    /// Tracks long enough to be reported.
    pub tracks: u64,
    pub players: u64,
    /// Those of whom more is known than where they were, in the order of the table.
    #[serde(default)]
    pub people: Vec<PersonSummary>,
    /// Frames in gaps.
    pub gap_frames: u64,
    pub preview: Option<PreviewInfo>,
    /// `detections`, `tracks`, `players` in this order.
    pub parts: Vec<Part>,
}

/// Somebody whose team, number or role is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PersonSummary {
    pub player_id: i32,
    pub team: Option<String>,
    pub number: Option<i32>,
    pub role: Option<String>,
    pub name: Option<String>,
    /// Seconds.
    pub visible: f64,
    /// Metres, and metres a second.
    pub distance: Option<f32>,
    pub top_speed: Option<f32>,
}

/// One recording of a match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordingSummary {
    pub key: String,
    pub period: u32,
    pub camera: String,
    pub width: u32,
    pub height: u32,
    pub fps: f64,
    pub frames: u32,
    pub detections: u64,
    pub tracks: u64,
    /// Runs of pictures between scene cuts, and pictures that were shown before.
    #[serde(default)]
    pub shots: u32,
    #[serde(default)]
    pub repeated_frames: u32,
    /// Most detections in one frame, and the mean.
    pub detections_max: u32,
    pub detections_mean: f64,
    pub gaps: Vec<Gap>,
}

/// Which picture `preview.jpg` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewInfo {
    pub recording: String,
    pub frame: u32,
    pub width: u32,
    pub height: u32,
}
