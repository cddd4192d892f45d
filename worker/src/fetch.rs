//! The fetch stage: pulls the next task while the lanes run theirs, and brings what it needs (pipeline, model, index,
//! first bytes) near. There are as many of these as lanes, and each holds at most one delivery that no lane has asked
//! for yet; any lane takes from any of them, so no lane idles while another has work lying ahead.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fulltime_common::{
    error::chain,
    index::RecordingIndex,
    keys,
    pipeline::Pipeline,
    plan::ShardSpec,
    queue::Delivery,
    store::Store,
    wire::{EventKind, Outcome, Pool, Task, TaskKind},
};
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::warn;

use crate::{
    commit,
    error::TaskError,
    progress::{Pulse, renewing},
    service::Shared,
    window::Window,
};

/// Longest pull, and with it the longest wait for a fetch stage to notice that it should stop. A pull is not dropped
/// half-way: what the broker has sent by then would be lost until its lease runs out.
const PULL: Duration = Duration::from_millis(500);
/// Pause after the broker failed to answer.
const BROKER_PAUSE: Duration = Duration::from_secs(1);

/// A lane's way to ask for work.
pub type Ask = oneshot::Sender<Box<Work>>;

/// A delivery with everything that its task needs.
#[derive(Debug)]
pub struct Work {
    pub delivery: Delivery,
    pub payload: Payload,
    pub pulse: Pulse,
    /// Bytes read from the archive so far.
    pub read: Arc<AtomicU64>,
    /// When it was pulled.
    pub since: Instant,
}

#[derive(Debug)]
pub enum Payload {
    Shard(Box<ShardInput>),
    /// Index and reduce tasks read for themselves.
    Bare,
}

/// What a shard is computed from.
#[derive(Debug)]
pub struct ShardInput {
    pub shard: ShardSpec,
    pub store: Store,
    pub pipeline: Arc<Pipeline>,
    pub index: Arc<RecordingIndex>,
    /// `None` for engines that need no model.
    pub model: Option<PathBuf>,
    pub window: Window,
}

/// What preparing a task found.
enum Prepared {
    Ready(Payload),
    /// The result is there already.
    Found(Outcome),
}

/// Runs until the worker stops; dropping the last one ends the lanes.
pub async fn run(shared: Arc<Shared>, asks: Arc<Mutex<mpsc::Receiver<Ask>>>) {
    // Index and reduce tasks are few and short, and everything else waits for them.
    let pools = [Pool::Any, Pool::Class(shared.engine.class.clone())];
    while !shared.stop.is_cancelled() {
        let given_up = async {
            shared.stop.cancelled().await;
            tokio::time::sleep(PULL).await;
        };
        let pulled = tokio::select! {
            pulled = shared.bus.pull_one(&pools, PULL) => pulled,
            // A broker that does not answer must not keep the worker.
            () = given_up => return,
        };
        match pulled {
            Ok(None) => {}
            Ok(Some(delivery)) => handle(&shared, &asks, delivery).await,
            Err(error) => {
                warn!(error = chain(&error), "could not pull; trying again");
                tokio::select! {
                    () = tokio::time::sleep(BROKER_PAUSE) => {}
                    () = shared.stop.cancelled() => {}
                }
            }
        }
    }
}

async fn handle(shared: &Shared, asks: &Mutex<mpsc::Receiver<Ask>>, delivery: Delivery) {
    let (since, pulse, read) = (Instant::now(), shared.pulse.child(), Arc::new(AtomicU64::new(0)));
    shared.say(&delivery.task, EventKind::Started).await;
    let prepared = {
        let _watched = shared.watchdog.watch(&pulse);
        let preparing = async {
            tokio::select! {
                biased;
                reason = shared.told_to_end(&delivery.task) => Err(reason),
                prepared = prepare(shared, &delivery.task, &pulse, &read) => prepared,
            }
        };
        renewing(&delivery, &pulse, shared.lease, preparing).await
    };
    let payload = match prepared {
        Ok(Prepared::Ready(payload)) => payload,
        Ok(Prepared::Found(outcome)) => return shared.settle(delivery, Ok(outcome)).await,
        Err(error) => return shared.settle(delivery, Err(error)).await,
    };
    // While it waits, any lane's progress keeps it: a lane of this worker will take it.
    let asked = async {
        tokio::select! {
            biased;
            reason = shared.told_to_end(&delivery.task) => Err(reason),
            ask = async { asks.lock().await.recv().await } => ask.ok_or(TaskError::PreEmpted),
        }
    };
    match renewing(&delivery, &shared.pulse, shared.lease, asked).await {
        Ok(ask) => {
            if let Err(work) = ask.send(Box::new(Work { delivery, payload, pulse, read, since })) {
                shared.settle(work.delivery, Err(TaskError::PreEmpted)).await;
            }
        }
        Err(reason) => shared.settle(delivery, Err(reason)).await,
    }
}

/// The archive as this task sees it: every read beats its pulse and counts.
pub fn observed_archive(
    shared: &Shared,
    task: &Task,
    pulse: &Pulse,
    read: &Arc<AtomicU64>,
) -> Result<Store, TaskError> {
    let (pulse, read) = (pulse.clone(), Arc::clone(read));
    Ok(shared.cache.archive(task)?.observed(move |bytes| {
        read.fetch_add(bytes, Ordering::Relaxed);
        pulse.beat();
    }))
}

async fn prepare(shared: &Shared, task: &Task, pulse: &Pulse, read: &Arc<AtomicU64>) -> Result<Prepared, TaskError> {
    let TaskKind::Map { shard } = &task.kind else { return Ok(Prepared::Ready(Payload::Bare)) };
    let ours = &shared.engine.class;
    if shard.engine != *ours {
        return Err(TaskError::OtherClass { wanted: shard.engine.clone(), ours: ours.clone() });
    }
    let store = shared.cache.store(task)?;
    if let Some(found) = commit::find(&store, &task.digest).await? {
        return Ok(Prepared::Found(found));
    }
    pulse.beat();
    let index = shared.cache.index(&store, shard.index).await?;
    if !fits(shard, &index) || shard.digest() != task.digest {
        return Err(TaskError::PlanMismatch { digest: task.digest, recording: shard.recording.key.clone() });
    }
    let pipeline = shared.cache.pipeline(&store, shard.pipeline).await?;
    if pipeline.map_digest() != shard.map {
        let url = store.url_of(&keys::store::pipeline(&shard.pipeline));
        return Err(TaskError::OtherContent { what: "pipeline", url });
    }
    pulse.beat();
    let model = match shared.engine.needs_model() {
        true => Some(shared.cache.model(&store, pipeline.detect.model.file.sha256).await?),
        false => None,
    };
    pulse.beat();
    let archive = observed_archive(shared, task, pulse, read)?;
    let window = Window::open(archive, shard.recording.clone(), shard.bytes.clone());
    let input = ShardInput { shard: shard.clone(), store, pipeline, index, model, window };
    Ok(Prepared::Ready(Payload::Shard(Box::new(input))))
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
