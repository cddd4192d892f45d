//! The fetch stage: brings near what a shard needs (pipeline, model, index, first bytes) while its lane still runs
//! another.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fulltime_common::{
    Digest,
    index::RecordingIndex,
    keys,
    pipeline::Pipeline,
    plan::ShardSpec,
    store::Store,
    wire::{Outcome, Task},
};

use super::{LocalLanes, commit, window::Window};
use crate::{attempt::Attempt, error::TaskError};

/// What a shard is computed from.
#[derive(Debug)]
pub struct ShardInput {
    pub shard: ShardSpec,
    pub store: Store,
    pub pipeline: Arc<Pipeline>,
    pub index: Arc<RecordingIndex>,
    /// Files of the pipeline's models; none for engines that need none.
    pub models: Models,
    pub window: Window,
}

/// Where the models of a pipeline lie on this machine, by sha256.
pub type Models = BTreeMap<Digest, PathBuf>;

/// What preparing a task found.
pub enum Prepared {
    Ready(Box<ShardInput>),
    /// The result is there already.
    Found(Outcome),
}

impl LocalLanes {
    /// The archive as this task sees it: every read beats and counts.
    pub fn archive(&self, task: &Task, attempt: &Arc<Attempt>, read: &Arc<AtomicU64>) -> Result<Store, TaskError> {
        let (attempt, read) = (Arc::clone(attempt), Arc::clone(read));
        Ok(self.cache.archive(task)?.observed(move |bytes| {
            read.fetch_add(bytes, Ordering::Relaxed);
            attempt.beat();
        }))
    }

    pub async fn prepare(
        &self,
        task: &Task,
        shard: &ShardSpec,
        attempt: &Arc<Attempt>,
        read: &Arc<AtomicU64>,
    ) -> Result<Prepared, TaskError> {
        let ours = &self.engine.class;
        if shard.engine != *ours {
            return Err(TaskError::OtherClass { wanted: shard.engine.clone(), ours: ours.clone() });
        }
        let store = self.cache.store(task)?;
        if attempt.may_exist()
            && let Some(found) = commit::find(&store, &task.digest).await?
        {
            return Ok(Prepared::Found(found));
        }
        attempt.beat();
        let index = self.cache.index(&store, shard.index).await?;
        if !fits(shard, &index) || shard.digest() != task.digest {
            return Err(TaskError::PlanMismatch { digest: task.digest, recording: shard.recording.key.clone() });
        }
        let pipeline = self.pipeline(&store, shard).await?;
        attempt.beat();
        let models = self.models(&store, &pipeline, attempt).await?;
        let archive = self.archive(task, attempt, read)?;
        let window = Window::open(archive, shard.recording.clone(), shard.bytes.clone());
        let input = ShardInput { shard: shard.clone(), store, pipeline, index, models, window };
        Ok(Prepared::Ready(Box::new(input)))
    }

    /// Brings the pipeline's models to this machine, if the engine needs any.
    pub async fn models(&self, store: &Store, pipeline: &Pipeline, attempt: &Attempt) -> Result<Models, TaskError> {
        let mut models = Models::new();
        for manifest in pipeline.manifests() {
            for sha256 in self.engine.files(manifest)? {
                models.insert(sha256, self.cache.model(store, sha256).await?);
                attempt.beat();
            }
        }
        Ok(models)
    }

    /// The shard's pipeline, checked to be the one it was planned with.
    pub async fn pipeline(&self, store: &Store, shard: &ShardSpec) -> Result<Arc<Pipeline>, TaskError> {
        let pipeline = self.cache.pipeline(store, shard.pipeline).await?;
        if pipeline.map_digest() != shard.map {
            let url = store.url_of(&keys::store::pipeline(&shard.pipeline));
            return Err(TaskError::OtherContent { what: "pipeline", url });
        }
        Ok(pipeline)
    }
}

/// Whether the shard is made of whole intervals of this index.
fn fits(shard: &ShardSpec, index: &RecordingIndex) -> bool {
    let range = shard.intervals.start as usize..shard.intervals.end as usize;
    let Some(intervals) = index.intervals.get(range) else { return false };
    let frames = |i: Option<&fulltime_common::index::Interval>| i.map(|i| i.frames.clone());
    index.recording == shard.recording
        && frames(intervals.first()).is_some_and(|first| first.start == shard.frames.start)
        && frames(intervals.last()).is_some_and(|last| last.end == shard.frames.end)
        && intervals.iter().all(|i| shard.bytes.start <= i.bytes.start && i.bytes.end <= shard.bytes.end)
}
