//! The reading edge of a reduce: indexes and shard objects in reduce order, a few shards ahead of the tracker.

use std::ops::Range;

use bytes::Bytes;
use fulltime_common::{
    Digest,
    index::{Packets, RecordingIndex},
    keys,
    pipeline::Pipeline,
    plan::{ReduceInputs, ReduceRecording, ReduceShard},
    results::ShardResult,
    store::Store,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc::Sender;

use crate::error::ReduceError;

/// Shards in flight or waiting. A shard of ten seconds is a few hundred kilobytes.
pub const AHEAD: usize = 4;

/// What the core gets, in order.
#[derive(Debug)]
pub enum Piece {
    /// The next recording of the inputs begins.
    Recording(Option<Box<RecordingIndex>>),
    Shard(Box<ShardBytes>),
}

/// The objects of one shard.
#[derive(Debug)]
pub struct ShardBytes {
    pub shard: ReduceShard,
    pub result: ShardResult,
    pub detections: Bytes,
    pub frames: Bytes,
    /// Only of pipelines that describe people.
    pub descriptions: Option<Bytes>,
    /// Whether the picture of the match may come from here.
    pub pictures: bool,
}

/// Sends every piece of a match; ends early, and well, when the receiver is gone. Calls `progress` with the frames so far
/// after every shard that was taken. Returns the bytes read.
///
/// # Errors
/// The first object that cannot be had.
pub async fn feed(
    store: &Store,
    inputs: &ReduceInputs,
    pipeline: &Pipeline,
    pieces: Sender<Piece>,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<u64, ReduceError> {
    let (mut frames, mut bytes) = (0, 0);
    let mut pictures = true;
    for recording in &inputs.recordings {
        let wanted = if pictures { picture_frames(recording, pipeline) } else { 0..0 };
        pictures &= recording.shards.is_empty();
        let index = match recording.shards.is_empty() {
            true => None,
            false => Some(Box::new(index(store, recording.index).await?)),
        };
        if pieces.send(Piece::Recording(index)).await.is_err() {
            return Ok(bytes);
        }
        let mut shards = stream::iter(recording.shards.iter().cloned())
            .map(|shard| {
                let pictures = shard.frames.start < wanted.end && wanted.start < shard.frames.end;
                // A task of its own, so that it goes on while this one waits for the core.
                tokio::spawn(fetch(store.clone(), shard, pictures))
            })
            .buffered(AHEAD);
        while let Some(shard) = shards.try_next().await? {
            let shard = Box::new(shard?);
            frames += u64::from(shard.shard.frames.end - shard.shard.frames.start);
            let tables = [Some(&shard.detections), Some(&shard.frames), shard.descriptions.as_ref()];
            bytes += tables.into_iter().flatten().map(|table| table.len() as u64).sum::<u64>();
            if pieces.send(Piece::Shard(shard)).await.is_err() {
                return Ok(bytes);
            }
            progress(frames);
        }
    }
    Ok(bytes)
}

/// Where the picture of a match may come from: the middle half of its first recording, or all of it when that is so short
/// that the middle might have none.
fn picture_frames(recording: &ReduceRecording, pipeline: &Pipeline) -> Range<u32> {
    let (rate, per) = recording.frame_rate;
    let stride = pipeline.preview_stride(f64::from(rate) / f64::from(per.max(1)));
    match (stride, recording.frames / 4) {
        (0, _) => 0..0,
        (stride, quarter) if quarter / 2 > stride => quarter..recording.frames - quarter,
        _ => 0..recording.frames,
    }
}

async fn index(store: &Store, digest: Digest) -> Result<RecordingIndex, ReduceError> {
    let bytes = object(store, keys::store::index(&digest)).await?;
    let mut index = RecordingIndex::from_bytes(&bytes).map_err(|source| ReduceError::Index { digest, source })?;
    // Only the times are wanted.
    index.packets = Packets::default();
    Ok(index)
}

async fn fetch(store: Store, shard: ReduceShard, pictures: bool) -> Result<ShardBytes, ReduceError> {
    let key = keys::store::shard_index(&shard.digest);
    let result: ShardResult = store.get_json(&key).await?.ok_or(ReduceError::Missing { key })?;
    let detections = part(&store, &result, keys::store::shard_detections(&shard.digest)).await?;
    let frames = part(&store, &result, keys::store::shard_frames(&shard.digest)).await?;
    let key = keys::store::shard_descriptions(&shard.digest);
    let descriptions = match result.parts.iter().any(|part| part.name == file_name(&key)) {
        true => Some(part(&store, &result, key).await?),
        false => None,
    };
    Ok(ShardBytes { shard, result, detections, frames, descriptions, pictures })
}

fn file_name(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

/// A part of a shard, checked against the shard's index.
async fn part(store: &Store, result: &ShardResult, key: String) -> Result<Bytes, ReduceError> {
    let bytes = object(store, key.clone()).await?;
    match result.parts.iter().find(|part| part.name == file_name(&key)) {
        Some(part) if part.sha256 == Digest::of_bytes(&bytes) => Ok(bytes),
        _ => Err(ReduceError::Damaged { key }),
    }
}

async fn object(store: &Store, key: String) -> Result<Bytes, ReduceError> {
    store.get(&key).await?.ok_or(ReduceError::Missing { key })
}
