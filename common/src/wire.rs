//! Messages on the bus, in bincode's format (written by wincode). Each begins with a version; references only, no data.

use fulltime_observe::{Sample, anomaly::Finding};
use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaReadOwned, SchemaWrite, config::DefaultConfig};

use crate::{
    digest::Digest,
    error::Disposition,
    plan::{EngineClass, RecordingRef, ShardSpec},
};

/// First byte of every message.
pub const VERSION: u8 = 4;

/// A message that is not of this version or not whole.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("message of wire version {0}, this build speaks {VERSION}")]
    Version(u8),
    #[error("empty message")]
    Empty,
    #[error("decode message")]
    Decode(#[source] wincode::ReadError),
    #[error("encode message")]
    Encode(#[source] wincode::WriteError),
}

/// # Errors
/// Only when a length does not fit the format.
pub fn encode<T>(value: &T) -> Result<Vec<u8>, WireError>
where
    T: SchemaWrite<DefaultConfig, Src = T>,
{
    let mut bytes = vec![VERSION];
    bytes.extend(wincode::serialize(value).map_err(WireError::Encode)?);
    Ok(bytes)
}

/// # Errors
/// Another version, or bytes that are not a `T`.
pub fn decode<T>(bytes: &[u8]) -> Result<T, WireError>
where
    T: SchemaReadOwned<DefaultConfig, Dst = T>,
{
    match bytes.split_first() {
        None => Err(WireError::Empty),
        Some((&VERSION, rest)) => wincode::deserialize(rest).map_err(WireError::Decode),
        Some((&other, _)) => Err(WireError::Version(other)),
    }
}

/// Something to do. Self-contained: a worker needs nothing but the stores it names.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub struct Task {
    /// Job on whose account it runs (results are shared).
    pub job: String,
    /// Names the work: index, shard or reduce digest.
    pub digest: Digest,
    /// Grows with every release of the same digest; digest and release make the message id.
    pub release: u32,
    /// Of the leader that released it: whoever has seen a higher one refuses it.
    pub epoch: u64,
    pub band: Band,
    /// The worker that must not take it: it runs it already, or its failure has to be reproduced elsewhere.
    pub avoid: Option<String>,
    /// Alone in a fresh process and after a passing canary, so that a failure is evidence against the input.
    pub alone: bool,
    /// The leader looked for the result just before this release: the first who gets it need not look again.
    pub looked_for: bool,
    pub archive: String,
    pub store: String,
    pub out: String,
    /// Of the job, at this release: where figures of the work are kept.
    pub generation: u32,
    /// W3C `traceparent` of the job's submission, if it has one.
    pub trace: Option<String>,
    pub kind: TaskKind,
}

#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub enum TaskKind {
    /// Read a recording's container and commit its index.
    Index { recording: RecordingRef },
    /// Run one shard and commit its result.
    Map { shard: ShardSpec },
    /// Make the tables of one match; `inputs` is a key below `out`.
    Reduce { inputs: String, generation: u32 },
}

/// How urgent a task is: lanes ask for the highest band first.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    SchemaRead,
    SchemaWrite,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Band {
    High,
    #[default]
    Normal,
    Low,
}

impl Band {
    /// Most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];
}

/// Which workers a task is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// Index and reduce tasks: any worker.
    Any,
    /// Map tasks of one engine class.
    Class(EngineClass),
}

impl Task {
    #[must_use]
    pub fn pool(&self) -> Pool {
        match &self.kind {
            TaskKind::Map { shard } => Pool::Class(shard.engine.clone()),
            TaskKind::Index { .. } | TaskKind::Reduce { .. } => Pool::Any,
        }
    }

    /// What the queue tells two releases apart by: index and map results are shared by the jobs of one store, a reduce
    /// also publishes its job's view.
    #[must_use]
    pub fn message_id(&self) -> String {
        let scope = match self.kind {
            TaskKind::Reduce { .. } => &self.job,
            TaskKind::Index { .. } | TaskKind::Map { .. } => &self.store,
        };
        format!("{}-{}-{scope}", self.digest, self.release)
    }
}

/// What a worker says about a task. Kept in a stream, so that a coordinator that was away reads it later.
#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite)]
pub struct Event {
    pub job: String,
    pub digest: Digest,
    pub release: u32,
    pub worker: String,
    pub kind: EventKind,
}

#[derive(Debug, Clone, PartialEq, SchemaRead, SchemaWrite)]
pub enum EventKind {
    Started,
    /// The result exists in the store (made by this attempt, or found there).
    Committed(Outcome),
    /// This attempt is over without a result. `cause` is one line.
    Failed {
        disposition: Disposition,
        cause: String,
        /// The [`crate::error::Exit`] code that the job ends with if this failure exhausts its budget.
        exit: u8,
        /// What the operator can do about it.
        hint: Option<String>,
        evidence: Evidence,
    },
}

/// How a failure was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct Evidence {
    pub witness: Witness,
    /// In a fresh process that did nothing else, after its canary had passed.
    pub alone: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// The stage that failed said so.
    #[default]
    Error,
    /// The lane's process was ended by this signal.
    Signal(i32),
    /// The lane's process ended by itself with this code.
    Exit(i32),
    /// The lane's process made no progress and was ended.
    Stalled,
}

/// Figures of a committed attempt, for display and metrics only; the truth is in the store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct Outcome {
    pub frames: u64,
    pub detections: u64,
    pub gap_frames: u64,
    pub bytes_read: u64,
    /// The result was there already.
    pub found: bool,
    /// Busy seconds by stage: fetch, decode, preprocess, infer, postprocess, commit.
    pub stage_seconds: Vec<(String, f64)>,
    pub elapsed_seconds: f64,
}

/// A worker's heartbeat, once a second, not kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct Hello {
    pub worker: String,
    pub host: String,
    pub pid: u32,
    pub engine: EngineClass,
    pub lanes: Vec<LaneState>,
    /// Tasks that are here, with their jobs, and on no lane yet: they are not lost.
    #[serde(default)]
    pub waiting: Vec<(String, Digest)>,
    pub draining: bool,
    /// Where its lanes are and how they are, in their own order; empty of workers that do not tell. Last, so that older
    /// coordinators read over it; see [`decode_hello`].
    #[serde(default)]
    pub places: Vec<LanePlace>,
    /// What its lanes and its machine did since the last heartbeat; `None` of workers that do not look.
    #[serde(default)]
    pub sample: Option<Sample>,
}

/// A lane's place, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct LanePlace {
    /// Its GPUs by NVML's number and name; empty of a CPU lane.
    pub gpu: String,
    pub node: Option<u32>,
    /// Processors in the kernel's notation, as read back if `pinned`.
    pub cores: String,
    pub pinned: bool,
    /// `well`, or what is wrong with it.
    pub health: String,
    /// Whether it takes work.
    pub works: bool,
}

/// As [`decode`], also of workers that are older than [`Hello::places`] and [`Hello::sample`].
///
/// # Errors
/// As [`decode`].
pub fn decode_hello(bytes: &[u8]) -> Result<Hello, WireError> {
    // A list without elements is a length of zero, in eight bytes; no sample is one more.
    decode(bytes).or_else(|error| decode(&[bytes, &[0; 9]].concat()).map_err(|_| error))
}

/// One lane of a worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct LaneState {
    /// What it works on; `None` when idle.
    pub task: Option<Digest>,
    pub job: Option<String>,
    /// Frames of the current task done so far.
    pub frames: u64,
    /// Frames since the worker started.
    pub frames_total: u64,
}

/// Broadcast to all workers.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub enum Control {
    /// Nobody wants this work any more: end it if it is of this release or an earlier one.
    Stop { epoch: u64, work: Vec<(Digest, u32)> },
    /// A leader has taken over: tasks and controls of lower epochs are void.
    Lead { epoch: u64 },
}

/// Requests to the coordinator; answers are JSON (see [`JobStatus`]), since people read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Look at the registry: this job is new.
    Submit {
        job: String,
    },
    /// One job, or all of them.
    Status {
        job: Option<String>,
    },
    Cancel {
        job: String,
    },
    /// What runs may end; nothing more is taken up until it is resumed.
    Pause {
        job: String,
    },
    /// Goes on, with fresh budgets for store, network and workers.
    Resume {
        job: String,
    },
    /// The next generation: what was quarantined is tried again.
    Retry {
        job: String,
    },
    Priority {
        job: String,
        band: Band,
    },
    /// Forget what is in memory and read everything from the objects again.
    Rebuild,
}

impl Request {
    /// As in its JSON: the last part of the subject that it is sent to.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Submit { .. } => "submit",
            Self::Status { .. } => "status",
            Self::Cancel { .. } => "cancel",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Retry { .. } => "retry",
            Self::Priority { .. } => "priority",
            Self::Rebuild => "rebuild",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    Accepted,
    Status {
        jobs: Vec<JobStatus>,
        workers: Vec<Hello>,
        /// What is wrong with workers at the moment.
        #[serde(default)]
        findings: Vec<Finding>,
        /// Of the leader that answers.
        #[serde(default)]
        leader: Leader,
    },
    Refused {
        cause: String,
    },
}

/// The coordinator that leads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    pub name: String,
    pub epoch: u64,
    /// Where its dashboard is, seen from its own machine.
    pub dashboard: Option<String>,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    pub job: String,
    pub state: JobState,
    pub matches: u64,
    pub matches_done: u64,
    pub recordings: u64,
    pub recordings_indexed: u64,
    /// Grows while recordings are being indexed.
    pub shards: u64,
    pub shards_done: u64,
    /// Of all planned shards.
    pub frames: u64,
    /// Of committed shards plus what lanes report of running ones.
    pub frames_done: u64,
    pub detections: u64,
    /// Recordings, shards or matches that were given up.
    pub quarantined: u64,
    /// What was given up or is in trouble, a line each, newest last; at most 20.
    pub problems: Vec<String>,
    pub elapsed_seconds: f64,
    /// Frames per second over the last seconds.
    pub fps: f64,
    pub eta_seconds: Option<f64>,
    /// Busy seconds of all lanes by stage, for shards that were run (not found).
    pub stage_seconds: Vec<(String, f64)>,
    /// URL of the manifest once finished.
    pub manifest: Option<String>,
    /// Why the job failed or is paused, with the exit code that `fulltime run` ends with.
    pub failure: Option<JobFailure>,
    /// Seconds since the start and frames a second around then, oldest first; a few hundred at most.
    #[serde(default)]
    pub timeline: Vec<(f64, f64)>,
    /// Attempts that failed, by disposition.
    #[serde(default)]
    pub failed_attempts: Vec<(Disposition, u64)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobFailure {
    pub exit: u8,
    pub cause: String,
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    Planning,
    Running,
    /// Too many infrastructure failures; nothing is lost.
    Paused,
    Finished,
    Cancelled,
    /// Could not be planned.
    Failed,
}

impl JobState {
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Cancelled | Self::Failed | Self::Paused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, SchemaRead, SchemaWrite, bincode::Encode, bincode::Decode)]
    struct Everything {
        text: String,
        number: u32,
        signed: i64,
        real: f64,
        flag: bool,
        list: Vec<(String, u64)>,
        maybe: Option<Vec<u8>>,
        kind: Kind,
    }

    #[derive(Debug, PartialEq, SchemaRead, SchemaWrite, bincode::Encode, bincode::Decode)]
    enum Kind {
        Unit,
        Named { value: u16 },
        Tuple(i32, Option<String>),
    }

    #[test]
    fn the_wire_format_is_bincode() {
        for kind in [Kind::Unit, Kind::Named { value: 7 }, Kind::Tuple(-1, Some("ä".into()))] {
            let value = Everything {
                text: "match 42".into(),
                number: 1 << 30,
                signed: -5,
                real: 0.1,
                flag: true,
                list: vec![("a".into(), 1), (String::new(), u64::MAX)],
                maybe: Some(vec![0, 255]),
                kind,
            };
            let ours = encode(&value).unwrap();
            let theirs = bincode::encode_to_vec(&value, bincode::config::legacy()).unwrap();
            assert_eq!(ours[1..], theirs[..]);
            let (back, _): (Everything, usize) =
                bincode::decode_from_slice(&ours[1..], bincode::config::legacy()).unwrap();
            assert_eq!(back, value);
        }
    }

    #[test]
    fn heartbeats_are_read_by_older_and_newer_sides() {
        let place = LanePlace { gpu: "0 H100".into(), node: Some(1), works: true, ..LanePlace::default() };
        let new = Hello {
            worker: "w".into(),
            host: "h".into(),
            pid: 1,
            engine: EngineClass("cpu".into()),
            lanes: vec![LaneState::default()],
            waiting: vec![],
            draining: true,
            places: vec![place],
            sample: None,
        };
        let bytes = encode(&new).unwrap();
        assert_eq!(decode_hello(&bytes).unwrap(), new);
        let old = Hello { places: vec![], ..new.clone() };
        let of_before = encode(&old).unwrap();
        assert_eq!(decode_hello(&of_before[..of_before.len() - 9]).unwrap(), old);
        assert!(decode_hello(&of_before[..of_before.len() - 10]).is_err());
        // What an older side makes of the new one: it stops reading where its own fields end.
        type Before = (String, String, u32, EngineClass, Vec<LaneState>, Vec<(String, Digest)>, bool);
        let read: Before = decode(&bytes).unwrap();
        assert_eq!((read.0.as_str(), read.6), ("w", true));
    }

    #[test]
    fn a_task_survives_the_wire_and_other_versions_are_refused() {
        let task = Task {
            job: "j".into(),
            digest: Digest::of_bytes(b"x"),
            release: 3,
            epoch: 1,
            band: Band::Low,
            avoid: Some("w1".into()),
            alone: true,
            looked_for: false,
            archive: "file:///a".into(),
            store: "file:///s".into(),
            out: "file:///o".into(),
            generation: 1,
            trace: None,
            kind: TaskKind::Reduce { inputs: "k".into(), generation: 1 },
        };
        let mut bytes = encode(&task).unwrap();
        assert_eq!(decode::<Task>(&bytes).unwrap(), task);
        bytes[0] = 9;
        assert!(matches!(decode::<Task>(&bytes), Err(WireError::Version(9))));
        assert!(matches!(decode::<Task>(&[]), Err(WireError::Empty)));
        assert!(matches!(decode::<Task>(&[VERSION, 1]), Err(WireError::Decode(_))));
    }
}
