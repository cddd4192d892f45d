//! The reduce: one match, after all its shards. Follows the objects through every recording, writes the match tables, a
//! summary and one picture, and gives the job its view of them. Called by the worker for each reduce task.
//!
//! The result is shared by jobs and named by the digest of the inputs (`reduced/{digest}/`); its summary is put last and
//! is what makes it exist. Its bytes depend on what the shards say, never on how the match was cut into shards.

mod error;
mod exact;
mod feed;
mod gaps;
mod ground;
mod identity;
mod picture;
mod recording;
mod scene;
mod timeline;
pub mod tracker;

use bytes::Bytes;
use fulltime_common::{
    Digest, keys,
    pipeline::Pipeline,
    plan::ReduceInputs,
    results::{MatchSummary, Part, PreviewInfo},
    store::{Store, to_json},
};
use fulltime_tables::shard::{read_descriptions, read_detections, read_frames};
use tokio::sync::mpsc::{self, Receiver};

pub use error::ReduceError;
use feed::{Piece, ShardBytes};
pub use picture::{COLOURS, DIGITS};
use recording::{Recording, ShardRows};
use timeline::{Reduced, Timeline};

/// Figures of a reduce, for its event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReduceOutcome {
    pub frames: u64,
    pub detections: u64,
    pub gap_frames: u64,
    pub bytes_read: u64,
    /// The result was there already.
    pub found: bool,
}

/// Makes the tables of a match, if they are not there, and then the view of them that the job owns.
///
/// The work itself runs on tokio's blocking pool; dropping the future ends it. `progress` is called after every shard
/// with the frames so far, so that the caller can renew the lease.
///
/// # Errors
/// See [`ReduceError::disposition`]. Whatever was put before the error is the same that the next attempt will put.
pub async fn reduce_match(
    store: &Store,
    out: &Store,
    inputs: &ReduceInputs,
    pipeline: &Pipeline,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<ReduceOutcome, ReduceError> {
    let digest = inputs.digest();
    let found: Option<MatchSummary> = store.get_json(&keys::store::reduced_summary(&digest)).await?;
    let (summary, bytes_read) = match &found {
        Some(summary) => (summary.clone(), 0),
        None => compute(store, inputs, pipeline, progress).await?,
    };
    publish(store, out, inputs, &digest, &summary).await?;
    Ok(ReduceOutcome {
        frames: summary.frames,
        detections: summary.detections,
        gap_frames: summary.gap_frames,
        bytes_read,
        found: found.is_some(),
    })
}

async fn compute(
    store: &Store,
    inputs: &ReduceInputs,
    pipeline: &Pipeline,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<(MatchSummary, u64), ReduceError> {
    let (sender, receiver) = mpsc::channel(feed::AHEAD);
    let core = {
        let (inputs, pipeline) = (inputs.clone(), pipeline.clone());
        tokio::task::spawn_blocking(move || reduce(&inputs, &pipeline, receiver))
    };
    let fed = feed::feed(store, inputs, pipeline, sender, progress).await;
    let reduced = core.await?;
    // A core that failed has hung up on the feed, a feed that failed has starved the core: the feed's error comes first.
    let bytes_read = fed?;
    let (reduced, picture) = reduced?;

    let digest = inputs.digest();
    let mut parts = Vec::new();
    for (name, bytes) in keys::TABLES.iter().zip(&reduced.tables) {
        let key = keys::store::reduced_table(&digest, name);
        store.put_same(&key, bytes.clone()).await?;
        let name = key.rsplit('/').next().unwrap_or_default().to_owned();
        parts.push(Part { name, size: bytes.len() as u64, sha256: Digest::of_bytes(bytes) });
    }
    let preview = match picture {
        Some((info, jpeg)) => {
            store.put_same(&keys::store::reduced_preview(&digest), jpeg).await?;
            Some(info)
        }
        None => None,
    };
    let summary = MatchSummary {
        id: inputs.id.clone(),
        frames: reduced.recordings.iter().map(|r| u64::from(r.frames)).sum(),
        detections: reduced.detections,
        tracks: reduced.tracks,
        players: reduced.players,
        people: reduced.people,
        gap_frames: reduced.recordings.iter().map(|r| u64::from(gaps::frames(&r.gaps))).sum(),
        recordings: reduced.recordings,
        preview,
        parts,
    };
    store.put_same(&keys::store::reduced_summary(&digest), to_json(&summary)).await?;
    Ok((summary, bytes_read))
}

/// `preview.jpg` and what it shows.
type Picture = (PreviewInfo, Vec<u8>);

/// The blocking part: everything between the bytes of the shards and the bytes of the tables.
fn reduce(
    inputs: &ReduceInputs,
    pipeline: &Pipeline,
    mut pieces: Receiver<Piece>,
) -> Result<(Reduced, Option<Picture>), ReduceError> {
    let mut timeline = Timeline::new(&inputs.id, pipeline, &inputs.squads)?;
    let mut next = pieces.blocking_recv();
    for recording in &inputs.recordings {
        let index = match next {
            Some(Piece::Recording(index)) => index.map(|index| *index),
            // The feed has failed and says why; what is made here is thrown away.
            Some(Piece::Shard(_)) | None => None,
        };
        let mut open = timeline.recording(recording, index);
        next = pieces.blocking_recv();
        while let Some(Piece::Shard(shard)) = next {
            take(&mut open, *shard)?;
            next = pieces.blocking_recv();
        }
        open.finish()?;
    }
    let reduced = timeline.finish()?;
    let picture = match &reduced.candidate {
        Some(chosen) => {
            let drawn = picture::draw(chosen.frame, &chosen.jpeg, chosen.full_width, &chosen.marks)?;
            let (recording, frame) = (chosen.recording.clone(), chosen.frame);
            Some((PreviewInfo { recording, frame, width: drawn.width, height: drawn.height }, drawn.jpeg))
        }
        None => None,
    };
    Ok((reduced, picture))
}

fn take(recording: &mut Recording, bytes: ShardBytes) -> Result<(), ReduceError> {
    let ShardBytes { shard, result, detections, frames, descriptions, pictures } = bytes;
    let unreadable = |source| ReduceError::Shard { shard: shard.digest, source };
    let detections = read_detections(detections).map_err(unreadable)?;
    let frames = read_frames(frames).map_err(unreadable)?;
    let descriptions = descriptions.map(read_descriptions).transpose().map_err(unreadable)?.unwrap_or_default();
    let looked_at = detections.iter().map(|row| row.frame).chain(frames.iter().map(|row| row.frame));
    let mut all = looked_at.chain(descriptions.iter().map(|row| row.frame));
    if let Some(frame) = all.find(|frame| !shard.frames.contains(frame)) {
        return Err(ReduceError::ForeignFrame { shard: shard.digest, frame });
    }
    recording.shard(ShardRows { gaps: result.gaps, detections, frames, descriptions, pictures })
}

/// Copies the result to where the job's users look for it. Whoever does it writes the same bytes; the summary comes last.
async fn publish(
    store: &Store,
    out: &Store,
    inputs: &ReduceInputs,
    digest: &Digest,
    summary: &MatchSummary,
) -> Result<(), ReduceError> {
    let (job, generation, id) = (&inputs.job, inputs.generation, &inputs.id);
    for name in keys::TABLES {
        let bytes = read(store, keys::store::reduced_table(digest, name)).await?;
        out.put(&keys::job::table(job, generation, name, id), bytes).await?;
    }
    if summary.preview.is_some() {
        let bytes = read(store, keys::store::reduced_preview(digest)).await?;
        out.put(&keys::job::preview(job, generation, id), bytes).await?;
    }
    // Copied as it lies: floats do not always survive being read and written again.
    let bytes = read(store, keys::store::reduced_summary(digest)).await?;
    out.put(&keys::job::summary(job, generation, id), bytes).await?;
    Ok(())
}

async fn read(store: &Store, key: String) -> Result<Bytes, ReduceError> {
    store.get(&key).await?.ok_or(ReduceError::Missing { key })
}
