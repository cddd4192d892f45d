//! Lanes in this process: each runs one task at a time and fetches the next meanwhile. Map tasks go through the machine
//! (`shard`) on threads of their own; index and reduce tasks are what the media and reduce crates make of them.
//!
//! A lane process has one of these with one lane; the worker reaches it through `process`.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use fulltime_common::{
    Digest,
    index::RecordingIndex,
    keys,
    plan::{RecordingRef, ReduceInputs, ShardSpec},
    queue::LEASE,
    store::Store,
    wire::{Outcome, Task, TaskKind},
};
use fulltime_observe::{Counts, Doing, LaneSample, Meter, Worked};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    attempt::{Attempt, Phase, Unwatched},
    error::TaskError,
    executor::{Executor, TaskFailure},
    options::Options,
};

mod cache;
mod canary;
mod commit;
mod engine;
mod fetch;
mod loading;
mod meters;
mod picture;
mod shard;
mod window;

pub use engine::{Engine, kind as engine_kind};

use cache::{Cache, blocking};
use fetch::{Prepared, ShardInput};
use meters::{Meters, OnLane};
use shard::Machine;

/// Lanes of this process.
#[derive(Debug)]
pub struct LocalLanes {
    engine: Engine,
    cache: Cache,
    /// This worker, in records of incidents.
    worker: String,
    /// One a lane.
    turns: Semaphore,
    /// Kept between shards for their loaded models, latest last.
    machines: Mutex<Vec<Machine>>,
    /// What each lane does.
    meters: Meters,
}

impl Executor for LocalLanes {
    fn run<'a>(&'a self, task: &'a Task, attempt: &'a Arc<Attempt>) -> BoxFuture<'a, Result<Outcome, TaskFailure>> {
        async move {
            let (read, since) = (Arc::new(AtomicU64::new(0)), Instant::now());
            let mut started = since;
            let result = self.work(task, attempt, &read, &mut started).await;
            let outcome = result.map_err(TaskFailure::from)?;
            Ok(Outcome {
                bytes_read: outcome.bytes_read + read.load(Ordering::Relaxed),
                elapsed_seconds: started.elapsed().as_secs_f64(),
                ..outcome
            })
        }
        .boxed()
    }

    fn fetches_ahead(&self) -> bool {
        true
    }

    fn samples(&self) -> Vec<LaneSample> {
        self.meters.samples()
    }
}

impl LocalLanes {
    pub fn new(engine: Engine, options: &Options, lanes: usize) -> Self {
        let meters = Meters::new(lanes);
        Self {
            engine,
            // In a lane process there is one; of several, the first speaks for what they share.
            cache: Cache::new(options.cache_folder(), meters.shared()),
            worker: options.worker_name(),
            turns: Semaphore::new(lanes),
            machines: Mutex::default(),
            meters,
        }
    }

    /// `started` is set when the task gets its lane.
    async fn work(
        &self,
        task: &Task,
        attempt: &Arc<Attempt>,
        read: &Arc<AtomicU64>,
        started: &mut Instant,
    ) -> Result<Outcome, TaskError> {
        if task.alone {
            attempt.enter(Phase::Canary);
            let meter = self.meters.shared();
            let _turn = meter.turn(&task.job, Doing::Canary);
            unless_halted(attempt, self.canary(task, attempt)).await?;
            attempt.enter(Phase::Running);
        }
        match &task.kind {
            TaskKind::Map { shard } => self.map(task, shard, attempt, read, started).await,
            TaskKind::Index { recording } => {
                let _lane = self.turn(task, Doing::Index, attempt, started).await?;
                let archive = self.archive(task, attempt, read)?;
                unless_halted(attempt, self.index(task, archive, recording)).await
            }
            TaskKind::Reduce { inputs, .. } => {
                let _lane = self.turn(task, Doing::Reduce, attempt, started).await?;
                unless_halted(attempt, self.reduce(task, inputs, attempt)).await
            }
        }
    }

    /// Waits for a free lane.
    async fn turn(
        &self,
        task: &Task,
        doing: Doing,
        attempt: &Attempt,
        started: &mut Instant,
    ) -> Result<Lane<'_>, TaskError> {
        attempt.enter(Phase::Waiting);
        let waiting = async { self.turns.acquire().await.map_err(|_| TaskError::PreEmpted) };
        let turn = unless_halted(attempt, waiting).await?;
        attempt.enter(Phase::Running);
        *started = Instant::now();
        Ok(Lane { on: self.meters.take(&task.job, doing), _turn: turn })
    }

    async fn map(
        &self,
        task: &Task,
        shard: &ShardSpec,
        attempt: &Arc<Attempt>,
        read: &Arc<AtomicU64>,
        started: &mut Instant,
    ) -> Result<Outcome, TaskError> {
        let since = Instant::now();
        let fetching = self.meters.fetching();
        let input = match unless_halted(attempt, self.prepare(task, shard, attempt, read)).await? {
            Prepared::Ready(input) => *input,
            Prepared::Found(outcome) => return Ok(outcome),
        };
        drop(fetching);
        let store = input.store.clone();
        let lane = self.turn(task, Doing::Load, attempt, started).await?;
        // Long enough for the coordinator to have given it to a worker that stood idle.
        if since.elapsed() > LEASE
            && let Some(found) = commit::find(&store, &task.digest).await?
        {
            return Ok(found);
        }
        let computed = self.compute(input, attempt, lane.on.meter()).await?;
        lane.on.meter().does(Doing::Commit);
        let since = Instant::now();
        let mut outcome = commit::shard(&store, &self.worker, &task.digest, shard, computed, attempt).await?;
        let took = since.elapsed();
        outcome.stage_seconds.push(("commit".to_owned(), took.as_secs_f64()));
        lane.on.meter().add("commit", Worked { busy: took, ..Worked::default() });
        lane.on.meter().count(Counts { shards: 1, ..Counts::default() });
        Ok(outcome)
    }

    async fn compute(
        &self,
        input: ShardInput,
        attempt: &Arc<Attempt>,
        meter: &Arc<Meter>,
    ) -> Result<commit::Computed, TaskError> {
        let (fetching, mut machine, watched) = (input.window.abort_handle(), self.machine(), Arc::clone(attempt));
        let meter = Arc::clone(meter);
        let computing = blocking(move || {
            let result = machine.run(input, &watched, &meter);
            (machine, result)
        });
        tokio::pin!(computing);
        let finished = tokio::select! {
            finished = &mut computing => finished,
            () = attempt.halt().cancelled() => {
                // The running batch is finished; a decoder that waits for bytes is woken by their end.
                fetching.abort();
                computing.await
            }
        };
        let (machine, result) = finished?;
        self.keep(machine);
        if attempt.is_halted() {
            return Err(TaskError::PreEmpted);
        }
        result
    }

    /// One that has run before, or a new one.
    fn machine(&self) -> Machine {
        let kept = self.machines.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| Machine::new(self.engine.clone()))
    }

    fn keep(&self, machine: Machine) {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner).push(machine);
    }

    /// The canary, on a lane that has nothing else to do: with the models of a map task, which are then named beside the
    /// answers, or without.
    pub async fn show(&self, task: Option<&Task>) -> Result<(Option<Digest>, u64), TaskError> {
        let _turn = self.turns.acquire().await.map_err(|_| TaskError::PreEmpted)?;
        let Some(task) = task else {
            return Ok((None, blocking(|| canary::check(None)).await??));
        };
        let map = match &task.kind {
            TaskKind::Map { shard } => Some(shard.map),
            TaskKind::Index { .. } | TaskKind::Reduce { .. } => None,
        };
        let attempt = Arc::new(Attempt::new(true, Box::new(Unwatched)));
        Ok((map, self.canary(task, &attempt).await?))
    }

    /// Shows that this worker can decode, and infer with the task's own pipeline.
    async fn canary(&self, task: &Task, attempt: &Arc<Attempt>) -> Result<u64, TaskError> {
        let loadable = match &task.kind {
            TaskKind::Map { shard } => {
                let store = self.cache.store(task)?;
                let pipeline = self.pipeline(&store, shard).await?;
                let models = self.models(&store, &pipeline, attempt).await?;
                Some((shard.map, pipeline, models))
            }
            TaskKind::Index { .. } | TaskKind::Reduce { .. } => None,
        };
        let (mut machine, attempt) = (self.machine(), Arc::clone(attempt));
        let finished = blocking(move || -> Result<(Machine, u64), TaskError> {
            let models = match &loadable {
                Some((map, pipeline, models)) => {
                    Some(loading::watched(&attempt, || machine.load(*map, models, pipeline))?)
                }
                None => None,
            };
            let answers = canary::check(models)?;
            Ok((machine, answers))
        });
        let (machine, answers) = finished.await??;
        self.keep(machine);
        Ok(answers)
    }

    async fn index(&self, task: &Task, archive: Store, recording: &RecordingRef) -> Result<Outcome, TaskError> {
        let store = self.cache.store(task)?;
        let key = keys::store::index(&task.digest);
        if let Some(bytes) = store.get(&key).await? {
            let found = RecordingIndex::from_bytes(&bytes);
            let found = found.map_err(|source| TaskError::Index { url: store.url_of(&key), source })?;
            return Ok(Outcome { frames: found.frames.into(), found: true, ..Outcome::default() });
        }
        let index = fulltime_media::index_recording(&archive, recording).await?;
        let frames = index.frames;
        let packed = blocking(move || index.to_bytes()).await?;
        let bytes = packed.map_err(|source| TaskError::PackIndex { recording: recording.key.clone(), source })?;
        store.put_once(&key, bytes).await?;
        Ok(Outcome { frames: frames.into(), ..Outcome::default() })
    }

    async fn reduce(&self, task: &Task, inputs: &str, attempt: &Attempt) -> Result<Outcome, TaskError> {
        let (store, out) = (self.cache.store(task)?, self.cache.out(task)?);
        let missing = || TaskError::Missing { what: "list of reduce inputs", url: out.url_of(inputs) };
        let inputs: ReduceInputs = out.get_json(inputs).await?.ok_or_else(missing)?;
        let pipeline = self.cache.pipeline(&store, inputs.pipeline).await?;
        let reduced = fulltime_reduce::reduce_match(&store, &out, &inputs, &pipeline, &|_| attempt.beat()).await?;
        Ok(Outcome {
            frames: reduced.frames,
            detections: reduced.detections,
            gap_frames: reduced.gap_frames,
            bytes_read: reduced.bytes_read,
            found: reduced.found,
            ..Outcome::default()
        })
    }
}

/// A lane that a task has taken, until this is dropped.
struct Lane<'a> {
    on: OnLane<'a>,
    _turn: SemaphorePermit<'a>,
}

/// Does `work`, or drops it half-way when the attempt is halted.
async fn unless_halted<T>(attempt: &Attempt, work: impl Future<Output = Result<T, TaskError>>) -> Result<T, TaskError> {
    tokio::select! {
        biased;
        () = attempt.halt().cancelled() => Err(TaskError::PreEmpted),
        result = work => result,
    }
}
