//! What is seen of a lane, a worker and a GPU in about a second. Differences, not totals: who has missed one has missed
//! that second, and nothing adds up wrongly. They travel in heartbeats.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

use crate::histogram::Histogram;

/// What a lane is doing: at any moment exactly one of these, so that their times add up to the lane's.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, SchemaRead, SchemaWrite,
)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// There is nothing to do.
    #[default]
    Idle,
    /// Waits for the store: what the next task needs is on its way.
    Fetch,
    /// Loads models.
    Load,
    /// Waits for pictures from decoding and preprocessing.
    Pictures,
    Infer,
    Postprocess,
    /// Waits for the describe stage.
    Describe,
    /// Packs tables.
    Tables,
    Commit,
    /// Reads a recording's container.
    Index,
    /// Makes a match's tables.
    Reduce,
    /// Shows that this process can work at all.
    Canary,
}

impl Doing {
    pub const ALL: [Self; 12] = [
        Self::Idle,
        Self::Fetch,
        Self::Load,
        Self::Pictures,
        Self::Infer,
        Self::Postprocess,
        Self::Describe,
        Self::Tables,
        Self::Commit,
        Self::Index,
        Self::Reduce,
        Self::Canary,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fetch => "fetch",
            Self::Load => "load",
            Self::Pictures => "pictures",
            Self::Infer => "infer",
            Self::Postprocess => "postprocess",
            Self::Describe => "describe",
            Self::Tables => "tables",
            Self::Commit => "commit",
            Self::Index => "index",
            Self::Reduce => "reduce",
            Self::Canary => "canary",
        }
    }
}

/// One stage of a lane's pipeline. Stages have threads of their own and overlap.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct StageSample {
    pub stage: String,
    /// Seconds at work by the clock on the wall, waits for other stages left out.
    pub busy: f64,
    /// Seconds of processor time.
    pub cpu: f64,
    /// Of one batch, or one picture where there are no batches.
    pub latency: Histogram,
}

/// Lookups of a cache in a second, by what they were for and who had the answer, or by what went wrong. They stay within a
/// worker: the heartbeat has their sums.
#[derive(Debug, Clone, PartialEq, Eq, SchemaRead, SchemaWrite)]
pub struct CacheTally {
    /// What is cached: `index`, `model`, ...
    pub kind: String,
    /// The level, or the fault.
    pub what: String,
    pub fault: bool,
    pub count: u64,
}

/// One lane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct LaneSample {
    /// Number within its worker.
    pub lane: u32,
    /// Whose task it worked on last.
    pub job: Option<String>,
    /// Seconds that this covers.
    pub seconds: f64,
    /// Seconds by what it was doing; those that are 0 are left out.
    pub doing: Vec<(Doing, f64)>,
    pub stages: Vec<StageSample>,
    pub frames: u64,
    /// Crops that were inferred.
    pub images: u64,
    pub batches: u64,
    pub shards: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Of pipelines, container indexes and models that were here already, and that were not.
    pub cache_hits: u64,
    pub cache_misses: u64,
    /// Calls of archive and store, whatever their size.
    pub store: Histogram,
    pub store_errors: u64,
    /// Scores of canaries, 0 to 1: how much of what the engine says of a known picture is what it said at first.
    #[serde(default)]
    pub canaries: Vec<f64>,
    /// Of the process: memory in bytes, and seconds of processor time.
    pub memory: u64,
    pub cpu: f64,
}

impl LaneSample {
    /// Adds a later one of the same lane.
    pub fn merge(&mut self, later: Self) {
        self.lane = later.lane;
        self.job = later.job.or_else(|| self.job.take());
        self.seconds += later.seconds;
        for (doing, seconds) in later.doing {
            add(&mut self.doing, doing, seconds);
        }
        for stage in later.stages {
            match self.stages.iter_mut().find(|known| known.stage == stage.stage) {
                Some(known) => {
                    known.busy += stage.busy;
                    known.cpu += stage.cpu;
                    known.latency.merge(&stage.latency);
                }
                None => self.stages.push(stage),
            }
        }
        self.frames += later.frames;
        self.images += later.images;
        self.batches += later.batches;
        self.shards += later.shards;
        self.bytes_read += later.bytes_read;
        self.bytes_written += later.bytes_written;
        self.cache_hits += later.cache_hits;
        self.cache_misses += later.cache_misses;
        self.store.merge(&later.store);
        self.store_errors += later.store_errors;
        self.canaries.extend(later.canaries);
        self.memory = later.memory;
        self.cpu += later.cpu;
    }

    /// Seconds that it was doing this.
    #[must_use]
    pub fn spent(&self, doing: Doing) -> f64 {
        self.doing.iter().filter(|(known, _)| *known == doing).map(|(_, seconds)| seconds).sum()
    }

    #[must_use]
    pub fn stage(&self, name: &str) -> Option<&StageSample> {
        self.stages.iter().find(|stage| stage.stage == name)
    }
}

fn add(times: &mut Vec<(Doing, f64)>, doing: Doing, seconds: f64) {
    match times.iter_mut().find(|(known, _)| *known == doing) {
        Some((_, sum)) => *sum += seconds,
        None => times.push((doing, seconds)),
    }
}

/// A worker's machine and lanes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct Sample {
    /// Seconds that this covers.
    pub seconds: f64,
    pub lanes: Vec<LaneSample>,
    /// Attempts that failed and are tried again, since the last sample.
    pub retries: u64,
    /// Cores that this worker may use.
    pub cores: f64,
    /// Seconds of processor time of the worker with its lanes.
    pub cpu: f64,
    /// Share of all the machine's processors that was busy, whoever used them.
    pub machine_cpu: f64,
    /// Bytes that worker and lanes hold, and that they may hold (the container's limit or the machine's memory).
    pub memory: u64,
    pub memory_limit: u64,
    pub gpus: Vec<GpuReading>,
}

impl Sample {
    /// All lanes as one.
    #[must_use]
    pub fn total(&self) -> LaneSample {
        let mut total = LaneSample::default();
        self.lanes.iter().cloned().for_each(|lane| total.merge(lane));
        total
    }
}

/// One GPU at one moment. What the driver does not tell is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct GpuReading {
    /// Number on this machine.
    pub gpu: u32,
    pub name: String,
    pub uuid: String,
    pub numa_node: Option<u32>,
    /// Shares from 0 to 1.
    pub utilisation: Option<f64>,
    pub decoder_utilisation: Option<f64>,
    /// Bytes.
    pub memory_used: Option<u64>,
    pub memory_total: Option<u64>,
    /// Degrees Celsius.
    pub temperature: Option<f64>,
    /// Watts.
    pub power: Option<f64>,
    /// Hertz.
    pub clock: Option<u64>,
    /// Why the driver holds the clocks down, if it does: `thermal`, `power`, ...
    pub throttled: Option<String>,
    /// Links of this GPU to others by NVLink.
    pub nvlinks: Option<u32>,
}

/// Reads this machine's GPUs. Called once a second; must not block for long.
pub trait GpuProbe: std::fmt::Debug + Send + Sync {
    fn read(&self) -> Vec<GpuReading>;
}

/// No GPU, or nobody who can tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoGpus;

impl GpuProbe for NoGpus {
    fn read(&self) -> Vec<GpuReading> {
        Vec::new()
    }
}

/// Processor time of the calling thread.
#[must_use]
pub fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: this clock exists on every Linux, and the pointer is to a local.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_lane_add_up() {
        let sample = |doing, seconds, frames, job: Option<&str>| LaneSample {
            job: job.map(str::to_owned),
            seconds,
            doing: vec![(doing, seconds)],
            frames,
            ..LaneSample::default()
        };
        let mut sum = sample(Doing::Infer, 1.0, 25, Some("a"));
        sum.merge(sample(Doing::Idle, 0.5, 0, None));
        sum.merge(sample(Doing::Infer, 1.0, 20, None));
        assert_eq!((sum.seconds, sum.frames, sum.job.as_deref()), (2.5, 45, Some("a")));
        assert_eq!((sum.spent(Doing::Infer), sum.spent(Doing::Idle), sum.spent(Doing::Load)), (2.0, 0.5, 0.0));
    }

    #[test]
    fn every_activity_is_listed_once_under_its_own_name() {
        for (at, doing) in Doing::ALL.into_iter().enumerate() {
            assert_eq!(doing as usize, at);
            assert_eq!(serde_json::to_value(doing).unwrap(), doing.name());
        }
    }
}
