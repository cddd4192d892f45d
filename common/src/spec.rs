//! The job a user submits (TOML). Everything here has a meaning for people; the plan is what machines work with.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::Band;

/// A job file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Begins the job's id; letters, digits and dashes.
    #[serde(default)]
    pub name: Option<String>,
    /// URL (or folder) of the recordings. May be read-only.
    pub archive: String,
    /// URL (or folder) that gets `jobs/{job}/`.
    pub out: String,
    /// URL of the shared results; default: `store` below `out`.
    #[serde(default)]
    pub store: Option<String>,
    /// Pipeline file, relative to the job file.
    pub pipeline: PathBuf,
    /// Only recordings whose key matches this glob (`**/2024-*/*.mp4`).
    #[serde(default)]
    pub select: Option<String>,
    /// Target length of a shard (`10s`, `2m`), or `whole` for one shard a recording.
    #[serde(default)]
    pub shard_length: ShardLength,
    /// How urgent it is: `high`, `normal` or `low`. Jobs of a higher band go first.
    #[serde(default)]
    pub priority: Band,
    /// On whose account it runs: tenants of one band take turns, whatever the number of their jobs.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Pauses the job once its committed work has taken so many hours of a lane.
    #[serde(default)]
    pub max_gpu_hours: Option<f64>,
    /// `http` or `https` URL that gets a POST with a small JSON object when the job is over.
    #[serde(default)]
    pub webhook: Option<String>,
    #[serde(default)]
    pub matches: MatchRule,
}

/// How files become matches. Without it every video file is a match of its own, named by its path.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchRule {
    /// A path template: `{season}/{match}/half{period}_{camera}.mp4`. Fields: season, match, period, camera, ignore (`*`).
    /// Literal text must be equal, a field takes at least one character other than `/`.
    #[serde(default)]
    pub template: Option<String>,
    /// A CSV table with a header, relative to the job file: file, season, match, and optionally period, camera, offset
    /// (seconds).
    #[serde(default)]
    pub table: Option<PathBuf>,
    /// What to do with video files that neither template nor table places.
    #[serde(default)]
    pub unmatched: Unmatched,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unmatched {
    /// Refuse the job and name the files.
    #[default]
    Refuse,
    /// Leave them out; the plan lists them.
    Skip,
}

/// Target length of a shard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ShardLength {
    Seconds(f64),
    /// One shard a recording.
    Whole,
}

/// Not a shard length.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a shard length: write `10s`, `2m` or `whole`")]
pub struct NotALength(String);

impl Default for ShardLength {
    fn default() -> Self {
        Self::Seconds(10.0)
    }
}

impl std::str::FromStr for ShardLength {
    type Err = NotALength;

    fn from_str(text: &str) -> Result<Self, NotALength> {
        if text == "whole" {
            return Ok(Self::Whole);
        }
        match humantime::parse_duration(text) {
            Ok(length) if !length.is_zero() => Ok(Self::Seconds(length.as_secs_f64())),
            _ => Err(NotALength(text.to_owned())),
        }
    }
}

impl std::fmt::Display for ShardLength {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole => f.write_str("whole"),
            Self::Seconds(s) => humantime::format_duration(std::time::Duration::from_secs_f64(*s)).fmt(f),
        }
    }
}

impl Serialize for ShardLength {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ShardLength {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ShardLength {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ShardLength".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["10s", "2m", "whole"] })
    }
}

/// A submitted job: the spec with everything resolved that must not change afterwards. Stored as
/// `jobs/{job}/job.json` and, by reference, in the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: String,
    /// Absolute URLs.
    pub archive: String,
    pub out: String,
    pub store: String,
    pub select: Option<String>,
    pub shard_length: ShardLength,
    pub template: Option<String>,
    /// The rows of the match table, if one was given.
    pub table: Option<Vec<TableRow>>,
    pub unmatched: Unmatched,
    #[serde(default)]
    pub priority: Band,
    #[serde(default)]
    pub tenant: Option<String>,
    #[serde(default)]
    pub max_gpu_hours: Option<f64>,
    #[serde(default)]
    pub webhook: Option<String>,
    /// The pipeline object below the store.
    pub pipeline: crate::Digest,
    /// RFC 3339, for people.
    pub submitted_at: String,
}

/// `registry/{job}.json` below the state: where the job's objects lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub job: String,
    /// Absolute URL; `jobs/{job}/job.json` lies below it.
    pub out: String,
}

/// `outs/{digest}.json` below a store: a place whose jobs refer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Referrer {
    /// Absolute URL.
    pub out: String,
}

/// One row of the match table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableRow {
    /// Object key below the archive.
    pub file: String,
    #[serde(default)]
    pub season: String,
    #[serde(rename = "match")]
    pub name: String,
    #[serde(default = "first_period")]
    pub period: u32,
    #[serde(default = "main_camera")]
    pub camera: String,
    /// Seconds added to the recording's timestamps.
    #[serde(default)]
    pub offset: f64,
}

/// Period of recordings that name none.
#[must_use]
pub fn first_period() -> u32 {
    1
}

/// Camera of recordings that name none.
#[must_use]
pub fn main_camera() -> String {
    "main".to_owned()
}
