//! The job a user submits (TOML). Everything here has a meaning for people; the plan is what machines work with.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{pitch::Pitch, squads::Squads, wire::Band};

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
    /// Pauses the job once its committed work has taken so many hours of a lane; above 0. Resuming it grants as many again.
    #[serde(default)]
    pub max_gpu_hours: Option<f64>,
    /// Time of the day, in UTC, in which work is begun: `22:00-06:00`. What runs at its end may end.
    #[serde(default)]
    pub window: Option<RunWindow>,
    /// `http` or `https` URL that gets a POST with a small JSON object when the job is over or has paused by itself.
    #[serde(default)]
    pub webhook: Option<String>,
    /// What a lane costs and draws, for the report. Nothing is made up where it is not given.
    #[serde(default)]
    pub cost: Option<Cost>,
    #[serde(default)]
    pub matches: MatchRule,
    /// Squads file, relative to the job file: numbers, names and roles of players, by match.
    #[serde(default)]
    pub squads: Option<PathBuf>,
    /// Pitch file, relative to the job file: where the pitch is in the picture, by recording. With it there are positions
    /// in metres, speeds and distances.
    #[serde(default)]
    pub pitch: Option<PathBuf>,
}

/// What work costs, for the report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Price of one hour of a lane.
    #[serde(default)]
    pub lane_hour: Option<f64>,
    /// Currency of the price, as it is to be shown: `EUR`.
    #[serde(default)]
    pub currency: Option<String>,
    /// Watts that a lane draws at work, with its share of the machine. Without it, what GPUs report is used, if they do.
    #[serde(default)]
    pub lane_watts: Option<f64>,
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

/// Minutes of the day, in UTC, from the first to before the second; may wrap around midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunWindow {
    pub from: u16,
    pub to: u16,
}

/// Not a run window.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a run window: write two different times of the day in UTC, such as `22:00-06:00`")]
pub struct NotAWindow(String);

impl std::str::FromStr for RunWindow {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<Self, NotAWindow> {
        let minute = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let number = |text: &str, below: u16| {
                let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<u16>().ok().filter(|number| digits && *number < below)
            };
            Some(number(hours, 24)? * 60 + number(minutes, 60)?)
        };
        let window = text.split_once('-').and_then(|(from, to)| Some(Self { from: minute(from)?, to: minute(to)? }));
        window.filter(|window| window.from != window.to).ok_or_else(|| NotAWindow(text.to_owned()))
    }
}

impl std::fmt::Display for RunWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl Serialize for RunWindow {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunWindow {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for RunWindow {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RunWindow".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-2][0-9]:[0-5][0-9]-[0-2][0-9]:[0-5][0-9]$",
            "examples": ["22:00-06:00"],
        })
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
    pub given: Given,
    #[serde(default)]
    pub priority: Band,
    #[serde(default)]
    pub tenant: Option<String>,
    #[serde(default)]
    pub max_gpu_hours: Option<f64>,
    #[serde(default)]
    pub window: Option<RunWindow>,
    #[serde(default)]
    pub webhook: Option<String>,
    #[serde(default)]
    pub cost: Option<Cost>,
    /// W3C `traceparent` of the submission.
    #[serde(default)]
    pub trace: Option<String>,
    /// The pipeline object below the store.
    pub pipeline: crate::Digest,
    /// RFC 3339, for people.
    pub submitted_at: String,
}

/// What the user knows about the matches beforehand.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Given {
    pub squads: Squads,
    pub pitch: Pitch,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_window_is_two_times_of_the_day() {
        let window: RunWindow = "22:00-06:30".parse().unwrap();
        assert_eq!((window, window.to_string().as_str()), (RunWindow { from: 1320, to: 390 }, "22:00-06:30"));
        for bad in ["22-06", "24:00-06:00", "22:60-06:00", "22:00", "06:00-06:00", "+1:00-02:00", "1:00-2:00", ""] {
            assert!(bad.parse::<RunWindow>().is_err(), "{bad}");
        }
    }
}
