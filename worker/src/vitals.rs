//! What the worker shows of itself: a sample a second of lanes and machine, for the heartbeat, the metrics and the
//! performance record; whether it is ready; and the objects of the record.

use std::{sync::PoisonError, time::Instant};

use fulltime_common::{error::chain, store::Store};
use fulltime_observe::{Machine, Sample, metrics};
use fulltime_tables::performance::write_performance;
use tracing::warn;

use crate::{recorder::Due, service::Shared};

/// Looks at the machine between two heartbeats.
#[derive(Debug)]
pub struct Vitals {
    machine: Machine,
    since: Instant,
    cores: f64,
    memory_limit: u64,
    /// The last one.
    sample: Sample,
}

impl Vitals {
    pub fn new() -> Self {
        let mut machine = Machine::default();
        // Both count from here.
        machine.cpu();
        machine.busy();
        let (cores, memory_limit) = (Machine::cores(), Machine::memory_limit());
        Self { machine, since: Instant::now(), cores, memory_limit, sample: Sample::default() }
    }

    /// The time since the last beat, noted wherever it is wanted. `None` from workers whose executor does not look.
    pub fn beat(&mut self, shared: &Shared) -> Option<Sample> {
        let now = Instant::now();
        // First, since their sums are part of the samples.
        metrics::show_lookups(&shared.board, &shared.executor.lookups());
        let lanes = shared.executor.samples();
        if lanes.is_empty() && shared.executor.lanes_up().is_none() {
            return None;
        }
        let sample = Sample {
            seconds: now.duration_since(std::mem::replace(&mut self.since, now)).as_secs_f64(),
            retries: shared.take_retries(),
            cores: self.cores,
            cpu: self.machine.cpu() + lanes.iter().map(|lane| lane.cpu).sum::<f64>(),
            machine_cpu: self.machine.busy(),
            memory: Machine::memory() + lanes.iter().map(|lane| lane.memory).sum::<u64>(),
            memory_limit: self.memory_limit,
            gpus: shared.gpus.read(),
            lanes,
        };
        metrics::show_sample(&shared.board, &sample);
        let mut recorder = shared.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        recorder.note(&sample, now);
        for due in recorder.due(now, false) {
            tokio::spawn(put(due));
        }
        self.sample = sample.clone();
        Some(sample)
    }

    /// Puts all that is left: this worker is about to go.
    pub async fn close(&mut self, shared: &Shared) {
        self.beat(shared);
        let due = {
            let mut recorder = shared.recorder.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            recorder.close(&self.sample, now, true);
            recorder.due(now, true)
        };
        for due in due {
            put(due).await;
        }
    }
}

/// A record that cannot be kept is no reason to stop working.
async fn put(due: Due) {
    let Due { out, spec, key, rows } = due;
    let bytes = match write_performance(&rows) {
        Ok(bytes) => bytes,
        Err(error) => return warn!(error = chain(&error), "could not pack the performance record"),
    };
    let done = async {
        let out = Store::create(&out)?;
        // A job that was deleted meanwhile must not come back.
        if out.exists(&spec).await? {
            out.put_once(&key, bytes).await?;
        }
        Ok::<_, fulltime_common::store::StoreError>(())
    };
    if let Err(error) = done.await {
        warn!(error = chain(&error), key, "could not put the performance record");
    }
}

/// Shows lanes and what waits for them.
pub fn show_lanes(shared: &Shared) {
    let (states, lanes) = (shared.seats.states(), shared.seats.lanes());
    let busy = states.iter().filter(|lane| lane.task.is_some()).count();
    let up = shared.executor.lanes_up().unwrap_or(lanes);
    let board = &shared.board;
    board.set(&metrics::LANES, &["busy"], busy as f64);
    board.set(&metrics::LANES, &["idle"], up.saturating_sub(busy) as f64);
    board.set(&metrics::LANES, &["down"], lanes.saturating_sub(up) as f64);
    board.set(&metrics::WAITING, &[], shared.seats.waiting().len() as f64);
    board.set(&metrics::DRAINING, &[], f64::from(u8::from(shared.drain.is_cancelled())));
}

/// Why this worker could not take a task now.
pub fn lack(shared: &Shared) -> Option<String> {
    if !shared.bus.is_connected() {
        Some("the bus is away".to_owned())
    } else if shared.drain.is_cancelled() {
        Some("it is draining".to_owned())
    } else if shared.executor.lanes_up() == Some(0) {
        Some("no lane is up".to_owned())
    } else {
        None
    }
}
