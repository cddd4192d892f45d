//! The commit of a shard: its tables first, then the index that makes them a result. Every object is created, never
//! overwritten; whoever comes second must have the same bytes.

use bytes::Bytes;
use fulltime_common::{
    Digest, keys,
    plan::{Gap, ShardSpec},
    results::{Part, ShardResult},
    store::{Store, to_json},
    wire::Outcome,
};

use crate::{crash, error::TaskError};

/// What a lane computed of a shard.
#[derive(Debug)]
pub struct Computed {
    /// Parquet tables.
    pub detections: Bytes,
    pub frames: Bytes,
    pub frame_count: u32,
    pub detection_count: u64,
    pub gaps: Vec<Gap>,
    /// Busy seconds by stage.
    pub stage_seconds: Vec<(String, f64)>,
}

/// Makes the result exist.
///
/// # Errors
/// [`fulltime_common::store::StoreError::Conflict`] when another attempt gave other bytes.
pub async fn shard(
    store: &Store,
    digest: &Digest,
    shard: &ShardSpec,
    computed: Computed,
) -> Result<Outcome, TaskError> {
    let tables = [
        (keys::store::shard_detections(digest), computed.detections),
        (keys::store::shard_frames(digest), computed.frames),
    ];
    let mut parts = Vec::new();
    for (key, bytes) in tables {
        let name = key.rsplit('/').next().unwrap_or(&key).to_owned();
        parts.push(Part { name, size: bytes.len() as u64, sha256: Digest::of_bytes(&bytes) });
        store.put_same(&key, bytes).await?;
    }
    crash::point("commit");
    let result = ShardResult {
        shard: shard.into(),
        frames: computed.frame_count,
        detections: computed.detection_count,
        gaps: computed.gaps,
        parts,
    };
    store.put_same(&keys::store::shard_index(digest), to_json(&result)).await?;
    Ok(Outcome { stage_seconds: computed.stage_seconds, ..figures(&result) })
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
