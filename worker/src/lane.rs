//! A lane: runs one task at a time. Map tasks go through the machine (`shard`) on threads of their own; index and reduce
//! tasks are what the media and reduce crates make of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use fulltime_common::{
    index::RecordingIndex,
    keys,
    plan::{RecordingRef, ReduceInputs},
    store::Store,
    wire::{Outcome, Task, TaskKind},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    cache::blocking,
    commit,
    error::TaskError,
    fetch::{Ask, Payload, ShardInput, Work, observed_archive},
    progress::{Pulse, renewing},
    service::{LaneBoard, Shared},
    shard::Machine,
};

/// Runs until no fetch stage is left to ask.
pub async fn run(shared: Arc<Shared>, board: Arc<LaneBoard>, asks: mpsc::Sender<Ask>) {
    let mut lane = Lane { machine: None, shared, board };
    loop {
        let (ask, work) = oneshot::channel();
        if asks.send(ask).await.is_err() {
            return;
        }
        let Ok(work) = work.await else { return };
        lane.work(*work).await;
    }
}

struct Lane {
    shared: Arc<Shared>,
    board: Arc<LaneBoard>,
    /// Kept between shards for its loaded model; `None` before the first and after a panic.
    machine: Option<Machine>,
}

impl Lane {
    async fn work(&mut self, work: Work) {
        let Work { delivery, payload, pulse, read, since } = work;
        let shared = Arc::clone(&self.shared);
        let started = Instant::now();
        // Long enough for the coordinator to have given it to a worker that stood idle.
        let look_again = since.elapsed() > shared.lease;
        self.board.begin(&delivery.task);
        let result = {
            let _watched = shared.watchdog.watch(&pulse);
            let running = async {
                match (payload, &delivery.task.kind) {
                    (Payload::Shard(input), _) => self.map(&delivery.task, *input, look_again, pulse.clone()).await,
                    (Payload::Bare, TaskKind::Index { recording }) => {
                        let archive = observed_archive(&shared, &delivery.task, &pulse, &read)?;
                        let work = index(&shared, &delivery.task, archive, recording);
                        shared.unless_told_to_end(&delivery.task, work).await
                    }
                    (Payload::Bare, TaskKind::Reduce { inputs, .. }) => {
                        let work = reduce(&shared, &delivery.task, inputs, &pulse);
                        shared.unless_told_to_end(&delivery.task, work).await
                    }
                    // The fetch stage makes a shard of every map task.
                    (Payload::Bare, TaskKind::Map { .. }) => Err(TaskError::PreEmpted),
                }
            };
            renewing(&delivery, &pulse, shared.lease, running).await
        };
        self.board.end();
        let result = result.map(|outcome| Outcome {
            bytes_read: outcome.bytes_read + read.load(Ordering::Relaxed),
            elapsed_seconds: started.elapsed().as_secs_f64(),
            ..outcome
        });
        shared.settle(delivery, result).await;
    }

    async fn map(
        &mut self,
        task: &Task,
        input: ShardInput,
        look_again: bool,
        pulse: Pulse,
    ) -> Result<Outcome, TaskError> {
        let (store, shard) = (input.store.clone(), input.shard.clone());
        if look_again && let Some(found) = commit::find(&store, &task.digest).await? {
            return Ok(found);
        }
        let halt = Arc::new(AtomicBool::new(false));
        let fetching = input.window.abort_handle();
        let mut machine = self.machine.take().unwrap_or_else(|| Machine::new(self.shared.engine.clone()));
        let (board, flag) = (Arc::clone(&self.board), Arc::clone(&halt));
        let computing = async {
            blocking(move || {
                let result = machine.run(input, &flag, &|frames| {
                    board.add_frames(frames);
                    pulse.beat();
                });
                (machine, result)
            })
            .await
        };
        tokio::pin!(computing);
        let (computed, told) = tokio::select! {
            computed = &mut computing => (computed, None),
            reason = self.shared.told_to_end(task) => {
                // The running batch is finished; a decoder that waits for bytes is woken by their end.
                halt.store(true, Ordering::Relaxed);
                fetching.abort();
                (computing.await, Some(reason))
            }
        };
        let (machine, result) = computed?;
        self.machine = Some(machine);
        if let Some(reason) = told {
            return Err(reason);
        }
        let computed = result?;
        let since = Instant::now();
        let mut outcome = commit::shard(&store, &task.digest, &shard, computed).await?;
        outcome.stage_seconds.push(("commit".to_owned(), since.elapsed().as_secs_f64()));
        Ok(outcome)
    }
}

async fn index(shared: &Shared, task: &Task, archive: Store, recording: &RecordingRef) -> Result<Outcome, TaskError> {
    let store = shared.cache.store(task)?;
    let key = keys::store::index(&task.digest);
    if let Some(bytes) = store.get(&key).await? {
        let found = RecordingIndex::from_bytes(&bytes);
        let found = found.map_err(|source| TaskError::Index { url: store.url_of(&key), source })?;
        return Ok(Outcome { frames: found.frames.into(), found: true, ..Outcome::default() });
    }
    let index = fulltime_media::index_recording(&archive, recording).await?;
    let frames = index.frames;
    let pack = move || index.to_bytes();
    let packed = blocking(pack).await?;
    let bytes = packed.map_err(|source| TaskError::PackIndex { recording: recording.key.clone(), source })?;
    store.put_once(&key, bytes).await?;
    Ok(Outcome { frames: frames.into(), ..Outcome::default() })
}

async fn reduce(shared: &Shared, task: &Task, inputs: &str, pulse: &Pulse) -> Result<Outcome, TaskError> {
    let (store, out) = (shared.cache.store(task)?, shared.cache.out(task)?);
    let missing = || TaskError::Missing { what: "list of reduce inputs", url: out.url_of(inputs) };
    let inputs: ReduceInputs = out.get_json(inputs).await?.ok_or_else(missing)?;
    let pipeline = shared.cache.pipeline(&store, inputs.pipeline).await?;
    let reduced = fulltime_reduce::reduce_match(&store, &out, &inputs, &pipeline, &|_| pulse.beat()).await?;
    Ok(Outcome {
        frames: reduced.frames,
        detections: reduced.detections,
        gap_frames: reduced.gap_frames,
        bytes_read: reduced.bytes_read,
        found: reduced.found,
        ..Outcome::default()
    })
}
