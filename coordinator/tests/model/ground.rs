//! What the model stands on: one job over one match of one recording, and where its objects lie.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fulltime_common::{
    digest::Digest,
    index::RecordingIndex,
    keys,
    plan::{EngineClass, MatchId, MatchPlan, Placement, PlannedMatch, RecordingPlan, RecordingRef, ShardSpec},
    wire::{Band, Hello, LaneState, Task, TaskKind},
};
use fulltime_coordinator::{
    Policy,
    ledger::{Admitted, Attempt, Limits},
};

pub const JOB: &str = "j";
pub const WORKERS: [&str; 2] = ["w1", "w2"];
/// Frames of a shard, which is one interval: it cannot be cut.
pub const FRAMES: u32 = 10;

pub fn id() -> MatchId {
    MatchId { season: "s".into(), name: "m".into() }
}

fn placement() -> Placement {
    let recording = RecordingRef { key: "r".into(), size: 1, etag: "e".into() };
    Placement { recording, period: 1, camera: "main".into(), offset_us: 0 }
}

pub fn admitted(attempts: Vec<Attempt>) -> Admitted {
    let digest = Digest::of_bytes(b"pipeline");
    Admitted {
        archive: "a".into(),
        store: "s".into(),
        out: "o".into(),
        pipeline: digest,
        map: digest,
        reduce: digest,
        given: Default::default(),
        matches: vec![PlannedMatch { id: id(), recordings: vec![placement()] }],
        revisions: BTreeMap::new(),
        generation: 1,
        band: Band::Normal,
        tenant: None,
        limits: Limits::default(),
        spent: Duration::ZERO,
        paused: false,
        round: 0,
        attempts,
        splits: BTreeMap::new(),
        finished: BTreeSet::new(),
    }
}

pub fn plan(shards: u32) -> MatchPlan {
    let (placement, engine, digest) = (placement(), EngineClass("cpu".into()), Digest::of_bytes(b"pipeline"));
    let index = RecordingIndex::digest("a", &placement.recording);
    let shard = |n: u32| ShardSpec {
        recording: placement.recording.clone(),
        index,
        intervals: n..n + 1,
        frames: n * FRAMES..(n + 1) * FRAMES,
        bytes: 0..1,
        pipeline: digest,
        map: digest,
        engine: engine.clone(),
    };
    let recording = RecordingPlan {
        index,
        frames: shards * FRAMES,
        frame_rate: (25, 1),
        width: 1,
        height: 1,
        shards: (0..shards).map(shard).collect(),
        refused: None,
        placement: placement.clone(),
    };
    MatchPlan { id: id(), engine: engine.clone(), pipeline: digest, recordings: vec![recording] }
}

pub fn hello(worker: &str) -> Hello {
    Hello {
        worker: worker.into(),
        host: "h".into(),
        pid: 1,
        engine: EngineClass("cpu".into()),
        lanes: vec![LaneState::default()],
        waiting: Vec::new(),
        draining: false,
        places: vec![],
        sample: None,
    }
}

/// Budgets that the model's few faults never use up, and workers that are never thought gone.
pub fn policy(epoch: u64) -> Policy {
    let silence = Duration::from_secs(1 << 20);
    Policy { epoch, first_release: epoch as u32 * 1000, silence, ..Policy::new(Duration::from_secs(10)) }
}

/// The object that makes a task done.
pub fn commit_of(task: &Task) -> String {
    match &task.kind {
        TaskKind::Index { .. } => keys::store::index(&task.digest),
        TaskKind::Map { .. } => keys::store::shard_index(&task.digest),
        TaskKind::Reduce { .. } => keys::job::summary(JOB, 1, &id()),
    }
}
