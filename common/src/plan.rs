//! What the coordinator decides before anything runs: which recordings make which match, how each recording is cut into
//! shards, and what a reduce reads. All of it is plain data that is put once and then only read.

use std::{fmt, ops::Range};

use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

use crate::{digest::Digest, pitch::View, semantics, squads::TeamSheet};

/// A recording as it was when the job was planned: every read is conditional on `etag`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct RecordingRef {
    /// Object key below the archive URL.
    pub key: String,
    /// Bytes.
    pub size: u64,
    pub etag: String,
}

/// One fixture. Orders and groups everything a job produces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct MatchId {
    pub season: String,
    #[serde(rename = "match")]
    pub name: String,
}

impl MatchId {
    /// `season=…/match=…`, the partition folders of the published tables. Values come from file names, so everything
    /// that could leave its folder is percent-encoded.
    #[must_use]
    pub fn partition(&self) -> String {
        format!("season={}/match={}", encode(&self.season), encode(&self.name))
    }

    /// One path segment, for plan, inputs and quarantine objects.
    #[must_use]
    pub fn slug(&self) -> String {
        format!("{}~{}", encode(&self.season), encode(&self.name))
    }
}

impl fmt::Display for MatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.season, self.name)
    }
}

/// Keeps letters, digits, `-`, `_` and `.` (but never a leading dot); percent-encodes the rest byte by byte.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'.' if i == 0 => out.push_str("%2E"),
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    if out.is_empty() { "%".to_owned() } else { out }
}

/// A recording's place in its match. The reduce order is (period, camera, time).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct Placement {
    pub recording: RecordingRef,
    /// 1 for the first half (and for recordings that hold a whole match).
    pub period: u32,
    pub camera: String,
    /// Added to the container's timestamps, microseconds.
    pub offset_us: i64,
}

/// `plan/index.json`: the match list, fixed before anything is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchList {
    pub job: String,
    pub archive: String,
    /// Sorted by match; recordings sorted by (period, camera, key).
    pub matches: Vec<PlannedMatch>,
    /// Video files that the rule placed nowhere and the job said to leave out.
    #[serde(default)]
    pub skipped: Vec<String>,
}

/// A match and its recordings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMatch {
    #[serde(flatten)]
    pub id: MatchId,
    pub recordings: Vec<Placement>,
}

/// Backend, provider, precision, processor, runtime, decoder: work with equal classes gives equal bytes. Made by a
/// worker at start, pinned per match by the plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, SchemaRead, SchemaWrite)]
#[serde(transparent)]
pub struct EngineClass(pub String);

impl fmt::Display for EngineClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `plan/{match}.json`: the shards of every recording of one match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchPlan {
    #[serde(flatten)]
    pub id: MatchId,
    pub engine: EngineClass,
    pub pipeline: Digest,
    pub recordings: Vec<RecordingPlan>,
}

/// One recording of a match plan: cut into shards, or refused with a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingPlan {
    pub placement: Placement,
    pub index: Digest,
    pub frames: u32,
    /// Average frame rate as a fraction.
    pub frame_rate: (u32, u32),
    pub width: u32,
    pub height: u32,
    pub shards: Vec<ShardSpec>,
    /// Why this recording yields nothing (corrupt, audio only, …).
    pub refused: Option<String>,
}

/// The unit of work: whole intervals of one recording, one pipeline, one engine class. A pure function of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct ShardSpec {
    pub recording: RecordingRef,
    pub index: Digest,
    /// Rows of the index's interval table.
    pub intervals: Range<u32>,
    pub frames: Range<u32>,
    pub bytes: Range<u64>,
    /// The pipeline object to load (`pipelines/{digest}`).
    pub pipeline: Digest,
    /// Digest of the part of the pipeline that the map task computes.
    pub map: Digest,
    pub engine: EngineClass,
}

impl ShardSpec {
    /// The shard's key. Nothing of the attempt, the worker or the job is in it; the index digest stands for archive,
    /// key, size and `ETag`.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_json(&(
            "shard",
            [semantics::DECODE, semantics::PREPROCESS, semantics::POSTPROCESS, semantics::SHARD],
            self.index,
            &self.frames,
            self.map,
            &self.engine,
        ))
    }
}

/// `inputs/{match}-{generation}.json`: exactly what a reduce reads. Its creation is the exactly-once release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReduceInputs {
    #[serde(flatten)]
    pub id: MatchId,
    pub job: String,
    pub generation: u32,
    pub pipeline: Digest,
    /// Digest of the part of the pipeline that the reduce computes.
    pub reduce: Digest,
    /// Squad lists of the teams, as far as the user gave them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub squads: Vec<TeamSheet>,
    /// In reduce order: (period, camera, time).
    pub recordings: Vec<ReduceRecording>,
}

/// One recording as a reduce sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReduceRecording {
    pub placement: Placement,
    pub index: Digest,
    pub frames: u32,
    pub frame_rate: (u32, u32),
    pub width: u32,
    pub height: u32,
    /// Committed shards in frame order.
    pub shards: Vec<ReduceShard>,
    /// Frames nobody could process, with the reason; also the whole of a refused recording (`frames` is then 0..0).
    pub gaps: Vec<Gap>,
    /// Where the pitch is in the picture, by frame, as far as the user said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<View>,
}

/// A committed shard result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReduceShard {
    pub digest: Digest,
    pub frames: Range<u32>,
}

/// Frames without a result. Always whole intervals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct Gap {
    pub frames: Range<u32>,
    pub reason: String,
}

impl ReduceInputs {
    /// Key of the reduce result: shared by every job that would read the same shards with the same tracker, squad lists and views.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let recordings: Vec<_> =
            self.recordings.iter().map(|r| (&r.placement, r.index, &r.shards, &r.gaps, &r.views)).collect();
        Digest::of_json(&("reduce", semantics::REDUCE, &self.id, self.reduce, &self.squads, recordings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_name_cannot_leave_its_folder() {
        let id = MatchId { season: "../..".into(), name: "a/b c".into() };
        assert_eq!(id.partition(), "season=%2E.%2F../match=a%2Fb%20c");
        assert_eq!(encode(""), "%");
    }
}
