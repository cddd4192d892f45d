//! The commit of a shard: its tables first, then the index that makes them a result. Every object is created, never
//! overwritten; whoever comes second must have the same bytes.

use bytes::Bytes;
use fulltime_common::{
    Digest,
    error::chain,
    keys,
    plan::{Gap, ShardSpec, encode},
    results::{Part, ShardResult},
    store::{Store, StoreError, to_json},
    wire::Outcome,
};

use serde::Serialize;
use tracing::error;

use crate::{
    attempt::Attempt,
    crash::{self, Point},
    error::TaskError,
};

/// What a lane computed of a shard.
#[derive(Debug)]
pub struct Computed {
    /// Parquet tables.
    pub detections: Bytes,
    pub frames: Bytes,
    /// Only of pipelines that describe people.
    pub descriptions: Option<Bytes>,
    pub frame_count: u32,
    pub detection_count: u64,
    pub gaps: Vec<Gap>,
    /// Busy seconds by stage.
    pub stage_seconds: Vec<(String, f64)>,
}

/// Makes the result exist, unless the attempt is halted before.
///
/// # Errors
/// [`StoreError::Conflict`] when another attempt gave other bytes; there is a record of it then.
pub async fn shard(
    store: &Store,
    worker: &str,
    digest: &Digest,
    shard: &ShardSpec,
    computed: Computed,
    attempt: &Attempt,
) -> Result<Outcome, TaskError> {
    crash::point(Point::BeforeCommit);
    let described = computed.descriptions.map(|table| (keys::store::shard_descriptions(digest), table));
    let tables = [
        (keys::store::shard_detections(digest), computed.detections),
        (keys::store::shard_frames(digest), computed.frames),
    ];
    let tables = tables.into_iter().chain(described);
    let mut parts = Vec::new();
    for (key, bytes) in tables {
        if attempt.is_halted() {
            return Err(TaskError::PreEmpted);
        }
        let name = key.rsplit('/').next().unwrap_or(&key).to_owned();
        parts.push(Part { name, size: bytes.len() as u64, sha256: Digest::of_bytes(&bytes) });
        put(store, worker, digest, &key, bytes).await?;
        attempt.beat();
    }
    crash::point(Point::AfterTables);
    let result = ShardResult {
        shard: shard.into(),
        frames: computed.frame_count,
        detections: computed.detection_count,
        gaps: computed.gaps,
        parts,
    };
    // Tables without an index are nothing; this is the last moment to keep it so.
    if attempt.is_halted() {
        return Err(TaskError::PreEmpted);
    }
    put(store, worker, digest, &keys::store::shard_index(digest), to_json(&result).into()).await?;
    crash::point(Point::AfterCommit);
    Ok(Outcome { stage_seconds: computed.stage_seconds, ..figures(&result) })
}

/// Two answers to one question: what an engine or decoder that is not deterministic leaves behind.
#[derive(Debug, Serialize)]
struct Incident<'a> {
    worker: &'a str,
    digest: &'a Digest,
    key: &'a str,
    /// What was committed first, and stays.
    first: Option<Digest>,
    /// What this worker made of it.
    second: Digest,
}

async fn put(store: &Store, worker: &str, digest: &Digest, key: &str, bytes: Bytes) -> Result<(), TaskError> {
    let Err(conflict) = store.put_same(key, bytes.clone()).await else { return Ok(()) };
    if let StoreError::Conflict { .. } = conflict {
        let first = store.get(key).await?.map(|bytes| Digest::of_bytes(&bytes));
        let incident = Incident { worker, digest, key, first, second: Digest::of_bytes(&bytes) };
        error!(?incident, "this worker gave other bytes for a committed result");
        if let Err(error) = store.put_json_once(&incident_key(digest, worker), &incident).await {
            error!(error = chain(&error), "could not record an incident");
        }
    }
    Err(conflict.into())
}

/// Where the record of an incident lies.
fn incident_key(digest: &Digest, worker: &str) -> String {
    format!("incidents/{digest}-{}.json", encode(worker))
}

/// The result that another attempt has committed, if any.
pub async fn find(store: &Store, digest: &Digest) -> Result<Option<Outcome>, TaskError> {
    let result: Option<ShardResult> = store.get_json(&keys::store::shard_index(digest)).await?;
    Ok(result.map(|result| Outcome { found: true, ..figures(&result) }))
}

/// What an event says about a result.
fn figures(result: &ShardResult) -> Outcome {
    Outcome {
        frames: result.frames.into(),
        detections: result.detections,
        gap_frames: result.gaps.iter().map(|gap| gap.frames.len() as u64).sum(),
        ..Outcome::default()
    }
}
