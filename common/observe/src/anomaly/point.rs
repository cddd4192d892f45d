//! A few seconds of a worker in the figures that rules look at, and what these figures usually are.

use std::collections::BTreeSet;

use crate::sample::{Doing, GpuReading, Sample};

/// Fewer points than these are no baseline.
const LEAST: usize = 6;

/// Samples added up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Point {
    pub seconds: f64,
    pub jobs: BTreeSet<String>,
    /// Of lanes: all, at work on shards (waits for the store or for pictures included), and those waits.
    pub lane_seconds: f64,
    pub at_work: f64,
    pub fetching: f64,
    pub for_pictures: f64,
    pub frames: f64,
    pub lookups: f64,
    pub misses: f64,
    pub store_calls: f64,
    pub store_seconds: f64,
    pub store_errors: f64,
    pub shards: f64,
    pub retries: f64,
    pub cores: f64,
    pub cpu_seconds: f64,
    /// Seconds of all processors of the machine, weighted by the time.
    pub machine_cpu: f64,
    /// The latest.
    pub memory: f64,
    pub memory_limit: f64,
    pub gpus: Vec<GpuPoint>,
}

/// One GPU of a point; sums over its samples.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GpuPoint {
    pub gpu: u32,
    pub samples: f64,
    pub utilisation: f64,
    pub decoder: f64,
    pub clock: f64,
    pub temperature: f64,
    pub memory_share: f64,
    pub throttled: f64,
    pub reason: Option<String>,
}

impl GpuPoint {
    fn add(&mut self, reading: &GpuReading) {
        self.samples += 1.0;
        self.utilisation += reading.utilisation.unwrap_or_default();
        self.decoder += reading.decoder_utilisation.unwrap_or_default();
        self.clock += reading.clock.unwrap_or_default() as f64;
        self.temperature += reading.temperature.unwrap_or_default();
        let share = reading.memory_used.zip(reading.memory_total).filter(|(_, total)| *total > 0);
        self.memory_share = share.map_or(0.0, |(used, total)| used as f64 / total as f64);
        if let Some(reason) = &reading.throttled {
            self.throttled += 1.0;
            self.reason = Some(reason.clone());
        }
    }

    fn join(&mut self, later: &Self) {
        self.samples += later.samples;
        self.utilisation += later.utilisation;
        self.decoder += later.decoder;
        self.clock += later.clock;
        self.temperature += later.temperature;
        self.memory_share = later.memory_share;
        self.throttled += later.throttled;
        self.reason = later.reason.clone().or_else(|| self.reason.take());
    }

    /// The mean of a sum over its samples.
    #[must_use]
    pub fn mean(&self, sum: f64) -> f64 {
        if self.samples > 0.0 { sum / self.samples } else { 0.0 }
    }
}

/// Jobs that the lanes of a sample work for.
pub(super) fn jobs(sample: &Sample) -> BTreeSet<String> {
    sample.lanes.iter().filter_map(|lane| lane.job.clone()).collect()
}

impl Point {
    #[must_use]
    pub(super) fn of(sample: &Sample, jobs: BTreeSet<String>) -> Self {
        let mut point = Self::default();
        point.add(sample, jobs);
        point
    }

    pub(super) fn add(&mut self, sample: &Sample, jobs: BTreeSet<String>) {
        if !jobs.is_empty() {
            self.jobs = jobs;
        }
        self.seconds += sample.seconds;
        for lane in &sample.lanes {
            let spent = |doing: &[Doing]| doing.iter().map(|doing| lane.spent(*doing)).sum::<f64>();
            self.lane_seconds += lane.seconds;
            // Loading, indexing and reducing have a pace of their own.
            self.at_work += spent(&[Doing::Pictures, Doing::Infer, Doing::Postprocess, Doing::Describe]);
            self.at_work += spent(&[Doing::Fetch, Doing::Tables, Doing::Commit]);
            self.fetching += spent(&[Doing::Fetch, Doing::Commit]);
            self.for_pictures += spent(&[Doing::Pictures]);
            self.frames += lane.frames as f64;
            self.lookups += (lane.cache_hits + lane.cache_misses) as f64;
            self.misses += lane.cache_misses as f64;
            self.store_calls += lane.store.count as f64;
            self.store_seconds += lane.store.sum;
            self.store_errors += lane.store_errors as f64;
            self.shards += lane.shards as f64;
        }
        self.retries += sample.retries as f64;
        self.cores = sample.cores;
        self.cpu_seconds += sample.cpu;
        self.machine_cpu += sample.machine_cpu * sample.seconds;
        (self.memory, self.memory_limit) = (sample.memory as f64, sample.memory_limit as f64);
        for reading in &sample.gpus {
            match self.gpus.iter_mut().find(|gpu| gpu.gpu == reading.gpu) {
                Some(gpu) => gpu.add(reading),
                None => {
                    let mut gpu = GpuPoint { gpu: reading.gpu, ..GpuPoint::default() };
                    gpu.add(reading);
                    self.gpus.push(gpu);
                }
            }
        }
    }

    /// Several points as one.
    #[must_use]
    pub(super) fn joined(points: &[&Self]) -> Self {
        let mut sum = Self::default();
        for point in points {
            sum.seconds += point.seconds;
            if !point.jobs.is_empty() {
                sum.jobs.clone_from(&point.jobs);
            }
            sum.lane_seconds += point.lane_seconds;
            sum.at_work += point.at_work;
            sum.fetching += point.fetching;
            sum.for_pictures += point.for_pictures;
            sum.frames += point.frames;
            sum.lookups += point.lookups;
            sum.misses += point.misses;
            sum.store_calls += point.store_calls;
            sum.store_seconds += point.store_seconds;
            sum.store_errors += point.store_errors;
            sum.shards += point.shards;
            sum.retries += point.retries;
            sum.cores = point.cores;
            sum.cpu_seconds += point.cpu_seconds;
            sum.machine_cpu += point.machine_cpu;
            (sum.memory, sum.memory_limit) = (point.memory, point.memory_limit);
            for gpu in &point.gpus {
                match sum.gpus.iter_mut().find(|known| known.gpu == gpu.gpu) {
                    Some(known) => known.join(gpu),
                    None => sum.gpus.push(gpu.clone()),
                }
            }
        }
        sum
    }

    /// Share of the lanes' time in which they had work.
    #[must_use]
    pub fn load(&self) -> f64 {
        share(self.at_work, self.lane_seconds)
    }

    /// Frames a second of one lane at work.
    #[must_use]
    pub fn speed(&self) -> f64 {
        share(self.frames, self.at_work)
    }

    /// Share of the machine's processors that is busy, and cores' worth of them that the worker has.
    #[must_use]
    pub fn processors(&self) -> (f64, f64) {
        (share(self.machine_cpu, self.seconds), share(self.cpu_seconds, self.seconds))
    }

    /// Seconds of one call of the store.
    #[must_use]
    pub fn store_call(&self) -> f64 {
        share(self.store_seconds, self.store_calls)
    }

    #[must_use]
    pub fn miss_share(&self) -> f64 {
        share(self.misses, self.lookups)
    }
}

pub(super) fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// What a worker's figures usually are: medians over its points at work.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    pub speed: f64,
    /// Median distance from the median: how much the speed varies by itself.
    pub speed_varies: f64,
    pub cpu: f64,
    pub store_call: f64,
    pub miss_share: f64,
    pub retries_a_second: f64,
    pub memory: f64,
    /// Clock by GPU.
    pub clocks: Vec<(u32, f64)>,
}

impl Baseline {
    /// `None` where there is too little to go by.
    #[must_use]
    pub fn of(points: &[&Point]) -> Option<Self> {
        let working: Vec<_> = points.iter().filter(|point| point.load() >= 0.5 && point.frames > 0.0).collect();
        if working.len() < LEAST {
            return None;
        }
        let of = |figure: &dyn Fn(&Point) -> f64| median(working.iter().map(|point| figure(point)).collect());
        let speed = of(&Point::speed);
        let calls: Vec<f64> = working.iter().filter(|p| p.store_calls > 0.0).map(|p| p.store_call()).collect();
        let gpus: BTreeSet<u32> = working.iter().flat_map(|point| &point.gpus).map(|gpu| gpu.gpu).collect();
        let clock = |number: u32| {
            let of = working.iter().flat_map(|point| &point.gpus).filter(|gpu| gpu.gpu == number);
            (number, median(of.map(|gpu| gpu.mean(gpu.clock)).collect()))
        };
        let (lookups, misses) = working.iter().fold((0.0, 0.0), |(l, m), p| (l + p.lookups, m + p.misses));
        let (seconds, retries) = working.iter().fold((0.0, 0.0), |(s, r), p| (s + p.seconds, r + p.retries));
        Some(Self {
            speed,
            speed_varies: of(&|point| (point.speed() - speed).abs()),
            cpu: of(&|point| point.processors().1),
            store_call: median(calls),
            miss_share: share(misses, lookups),
            retries_a_second: share(retries, seconds),
            memory: of(&|point| point.memory),
            clocks: gpus.into_iter().map(clock).collect(),
        })
    }
}

/// 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
