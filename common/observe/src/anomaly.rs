//! Workers that do worse than they did, and why. Pure: heartbeats' samples go in, findings come out, each with its evidence
//! and with what to do about it.
//!
//! What is normal is what the worker itself did before ([`Baseline`]): a slow machine is no anomaly. What has no history
//! (memory against its limit, a driver that holds clocks down) is judged by itself. A finding must hold for two looks in a
//! row before it is told, and be gone for two before it is not.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::sample::Sample;

mod point;
mod rules;

pub use point::{Baseline, Point};
pub use rules::{canary_drift, judge, stragglers};

/// Samples are added up to points of about this length.
const POINT: f64 = 5.0;
/// Points that are judged, and points that can be remembered: a quarter of a minute against ten minutes before.
const RECENT: usize = 3;
const REMEMBERED: usize = 120;
/// Looks in a row that make or end a finding.
const LOOKS: u32 = 2;
/// A worker that was not heard of for so long is nobody to be judged.
const GONE: Duration = Duration::from_secs(15);

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Slower than it was, and none of the other kinds says why.
    BehindBaseline,
    CpuBound,
    DecoderBound,
    MemoryPressure,
    Throttling,
    /// Slower than other workers on the same job.
    Straggler,
    CacheMisses,
    StoreSlow,
    RetryStorm,
    /// A canary's answers are no longer what they were.
    CanaryDrift,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::BehindBaseline,
        Self::CpuBound,
        Self::DecoderBound,
        Self::MemoryPressure,
        Self::Throttling,
        Self::Straggler,
        Self::CacheMisses,
        Self::StoreSlow,
        Self::RetryStorm,
        Self::CanaryDrift,
    ];

    /// As in JSON and as a metric's label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BehindBaseline => "behind-baseline",
            Self::CpuBound => "cpu-bound",
            Self::DecoderBound => "decoder-bound",
            Self::MemoryPressure => "memory-pressure",
            Self::Throttling => "throttling",
            Self::Straggler => "straggler",
            Self::CacheMisses => "cache-misses",
            Self::StoreSlow => "store-slow",
            Self::RetryStorm => "retry-storm",
            Self::CanaryDrift => "canary-drift",
        }
    }

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::BehindBaseline => "slower than it was",
            Self::CpuBound => "short of processor time",
            Self::DecoderBound => "the video decoder is the limit",
            Self::MemoryPressure => "memory runs out",
            Self::Throttling => "the GPU is throttled",
            Self::Straggler => "slower than its peers",
            Self::CacheMisses => "the cache does not help",
            Self::StoreSlow => "the store is slow",
            Self::RetryStorm => "attempts fail again and again",
            Self::CanaryDrift => "answers drift",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            Self::BehindBaseline => {
                "compare stage times with `fulltime profile WORKER`; look for other work on the machine"
            }
            Self::CpuBound => "give the worker more cores or fewer lanes, or end what else runs there",
            Self::DecoderBound => {
                "decode some lanes on the CPU, or spread recordings over more GPUs; more inference lanes do not help"
            }
            Self::MemoryPressure => "lower --lanes or the batch size, or raise the container's limit",
            Self::Throttling => "check cooling and power limits of this GPU; move its lanes elsewhere until it is cool",
            Self::Straggler => "compare its machine with the others; drain it if it holds up the end of the job",
            Self::CacheMisses => {
                "put --cache on a disk that stays and is large enough; run jobs with the same models one after the other"
            }
            Self::StoreSlow => "look at the store's own load and at the network between; fewer lanes read less at once",
            Self::RetryStorm => {
                "read the causes in `fulltime status JOB`; pause the job if the store or network is down"
            }
            Self::CanaryDrift => {
                "take this worker out of service and check memory, GPU and drivers; verify its results with `fulltime verify`"
            }
        }
    }

    /// Whether it says why a worker is slow, so that nobody need be told that it is.
    fn explains_slowness(self) -> bool {
        match self {
            Self::CpuBound
            | Self::DecoderBound
            | Self::MemoryPressure
            | Self::Throttling
            | Self::CacheMisses
            | Self::StoreSlow
            | Self::RetryStorm => true,
            Self::BehindBaseline | Self::Straggler | Self::CanaryDrift => false,
        }
    }
}

/// One thing that is wrong with one worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub kind: Kind,
    pub worker: String,
    /// One of its GPUs, if only that is concerned.
    #[serde(default)]
    pub gpu: Option<u32>,
    /// Figures that show it.
    pub evidence: String,
    pub action: String,
    /// Seconds for which it has held.
    pub for_seconds: f64,
}

impl Finding {
    #[must_use]
    pub fn new(kind: Kind, worker: impl Into<String>, evidence: impl Into<String>) -> Self {
        let action = kind.action().to_owned();
        Self { kind, worker: worker.into(), gpu: None, evidence: evidence.into(), action, for_seconds: 0.0 }
    }

    /// The worker, or the worker and its GPU, for people.
    #[must_use]
    pub fn subject(&self) -> String {
        self.gpu.map_or_else(|| self.worker.clone(), |gpu| format!("{} GPU {gpu}", self.worker))
    }
}

/// Watches all workers.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    workers: BTreeMap<String, History>,
    told: BTreeMap<(Kind, String, Option<u32>), Standing>,
    looked: Option<Duration>,
}

#[derive(Debug, Clone, Default)]
struct History {
    points: VecDeque<Point>,
    heard: Duration,
    /// Of canaries, oldest first.
    canaries: VecDeque<f64>,
}

#[derive(Debug, Clone)]
struct Standing {
    finding: Finding,
    since: Duration,
    seen: u32,
    missed: u32,
}

impl Watch {
    /// A worker has sent a sample.
    pub fn note(&mut self, worker: &str, sample: &Sample, now: Duration) {
        let history = match self.workers.get_mut(worker) {
            Some(history) => history,
            None => self.workers.entry(worker.to_owned()).or_default(),
        };
        history.heard = now;
        history.canaries.extend(sample.lanes.iter().flat_map(|lane| &lane.canaries));
        let surplus = history.canaries.len().saturating_sub(REMEMBERED);
        history.canaries.drain(..surplus);
        let jobs = point::jobs(sample);
        // Another job has other videos and models: what was normal says nothing about it.
        if history.points.back().is_some_and(|last| !jobs.is_empty() && !last.jobs.is_empty() && last.jobs != jobs) {
            history.points.clear();
        }
        match history.points.back_mut().filter(|last| last.seconds < POINT) {
            Some(last) => last.add(sample, jobs),
            None => {
                history.points.push_back(Point::of(sample, jobs));
                if history.points.len() > REMEMBERED {
                    history.points.pop_front();
                }
            }
        }
    }

    /// Looks at all workers, at most once a point. Cheap in between.
    pub fn look(&mut self, now: Duration) {
        if self.looked.is_some_and(|before| now.saturating_sub(before).as_secs_f64() < POINT) {
            return;
        }
        self.looked = Some(now);
        self.workers.retain(|_, history| now.saturating_sub(history.heard) < GONE);
        let mut found = Vec::new();
        let mut speeds = Vec::new();
        for (worker, history) in &mut self.workers {
            found.extend(canary_drift(worker, history.canaries.make_contiguous()));
            let history = &*history;
            let whole: Vec<&Point> = history.points.iter().filter(|point| point.seconds >= POINT).collect();
            let Some(before) = whole.len().checked_sub(RECENT) else { continue };
            let recent = Point::joined(&whole[before..]);
            let baseline = Baseline::of(&whole[..before]);
            let mut findings = judge(worker, &recent, baseline.as_ref());
            if findings.iter().any(|finding| finding.kind.explains_slowness()) {
                findings.retain(|finding| finding.kind != Kind::BehindBaseline);
            } else {
                speeds.push((worker.as_str(), recent));
            }
            found.append(&mut findings);
        }
        found.extend(stragglers(&speeds));
        self.settle(found, now);
    }

    fn settle(&mut self, found: Vec<Finding>, now: Duration) {
        for standing in self.told.values_mut() {
            standing.missed += 1;
        }
        for finding in found {
            let key = (finding.kind, finding.worker.clone(), finding.gpu);
            let standing = self.told.entry(key);
            let fresh = || Standing { finding: finding.clone(), since: now, seen: 0, missed: 0 };
            let standing = standing.or_insert_with(fresh);
            (standing.missed, standing.seen) = (0, standing.seen + 1);
            standing.finding = finding;
        }
        self.told.retain(|_, standing| standing.missed < if standing.seen >= LOOKS { LOOKS } else { 1 });
    }

    /// What holds, by kind and subject.
    #[must_use]
    pub fn findings(&self, now: Duration) -> Vec<Finding> {
        let holds = self.told.values().filter(|standing| standing.seen >= LOOKS);
        let aged = |standing: &Standing| Finding {
            for_seconds: now.saturating_sub(standing.since).as_secs_f64(),
            ..standing.finding.clone()
        };
        holds.map(aged).collect()
    }

    /// Whether this worker works on this job, as of its latest samples.
    #[must_use]
    pub fn works_for(&self, worker: &str, job: &str) -> bool {
        let last = self.workers.get(worker).and_then(|history| history.points.back());
        last.is_some_and(|point| point.jobs.contains(job))
    }
}

#[cfg(test)]
mod tests;
