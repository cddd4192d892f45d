//! How a job went over time, in memory that does not grow with it: bins that join in pairs once there are too many. The
//! ledger feeds it with heartbeats; report, status and dashboard draw it. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    histogram::{Histogram, Quantiles},
    sample::{Doing, LaneSample, Sample},
};

/// Most bins of a timeline.
const BINS: usize = 240;
/// Most lanes that are drawn, and most bins of each.
const STRIPS: usize = 48;
const STRIP_BINS: usize = 120;

/// A quantity over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    width: f64,
    bins: Vec<f64>,
    /// The last total, and when it was noted.
    last: Option<(f64, f64)>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { width: 1.0, bins: Vec::new(), last: None }
    }
}

impl Timeline {
    /// The quantity's total at this time, in seconds since the start. What was added since the last note is spread evenly
    /// over the time between. Totals never go back.
    pub fn total(&mut self, at: f64, total: f64) {
        let (from, before) = self.last.unwrap_or((0.0, 0.0));
        let (at, more) = (at.max(from), (total - before).max(0.0));
        self.last = Some((at, total.max(before)));
        while at >= self.width * BINS as f64 {
            self.bins = self.bins.chunks(2).map(|pair| pair.iter().sum()).collect();
            self.width *= 2.0;
        }
        let (first, last) = ((from / self.width) as usize, (at / self.width) as usize);
        if self.bins.len() <= last {
            self.bins.resize(last + 1, 0.0);
        }
        let span = at - from;
        for bin in first..=last {
            let (left, right) = (bin as f64 * self.width, (bin + 1) as f64 * self.width);
            let share = if span > 0.0 { (right.min(at) - left.max(from)).max(0.0) / span } else { 1.0 };
            self.bins[bin] += more * share;
        }
    }

    /// Time of the end of each bin and the rate within it.
    #[must_use]
    pub fn rates(&self) -> Vec<(f64, f64)> {
        let end = self.last.map_or(0.0, |(at, _)| at);
        let rate = |(bin, sum): (usize, &f64)| {
            let (left, right) = (bin as f64 * self.width, ((bin + 1) as f64 * self.width).min(end));
            // The bin that has just begun says nothing yet.
            (right - left > self.width / 4.0).then(|| (right, sum / (right - left)))
        };
        self.bins.iter().enumerate().filter_map(rate).collect()
    }
}

/// What a lane did, as a picture can show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colour {
    Infer,
    Postprocess,
    /// Waits for decoding and preprocessing.
    Pictures,
    Describe,
    /// Waits for the store, commits.
    Store,
    /// Loads, packs, indexes, reduces.
    Other,
    /// Works for other jobs.
    Elsewhere,
    Idle,
}

impl Colour {
    pub const ALL: [Self; 8] = [
        Self::Infer,
        Self::Postprocess,
        Self::Pictures,
        Self::Describe,
        Self::Store,
        Self::Other,
        Self::Elsewhere,
        Self::Idle,
    ];

    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Postprocess => "postprocess",
            Self::Pictures => "waits for pictures",
            Self::Describe => "describe",
            Self::Store => "store",
            Self::Other => "load, pack, index, reduce",
            Self::Elsewhere => "other jobs",
            Self::Idle => "idle",
        }
    }
}

impl From<Doing> for Colour {
    fn from(doing: Doing) -> Self {
        match doing {
            Doing::Infer => Self::Infer,
            Doing::Postprocess => Self::Postprocess,
            Doing::Pictures => Self::Pictures,
            Doing::Describe => Self::Describe,
            Doing::Fetch | Doing::Commit => Self::Store,
            Doing::Load | Doing::Tables | Doing::Index | Doing::Reduce | Doing::Canary => Self::Other,
            Doing::Idle => Self::Idle,
        }
    }
}

/// Seconds by [`Colour`].
pub type Bin = [f32; Colour::ALL.len()];

/// One lane over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Strip {
    pub worker: String,
    pub lane: u32,
    pub bins: Vec<Bin>,
}

/// One stage over the whole job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StageRecord {
    /// Seconds at work, of all lanes.
    pub busy: f64,
    pub cpu: f64,
    pub latency: Histogram,
}

/// The limit that a job ran into.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeedOfLight {
    /// The stage that was at work for the greatest share of the lanes' time.
    pub bottleneck: String,
    /// Frames a second of the job, and what they would be were that stage never to wait.
    pub achieved: f64,
    pub alone: f64,
}

impl SpeedOfLight {
    /// How near it came, from 0 to about 1.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.alone > 0.0 { self.achieved / self.alone } else { 0.0 }
    }
}

/// The greatest values seen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Peaks {
    /// Bytes, of one worker with its lanes.
    pub memory: u64,
    /// Share of its limit.
    pub memory_share: f64,
    /// Of any GPU.
    pub gpu_memory: u64,
    pub gpu_utilisation: f64,
    pub decoder_utilisation: f64,
    pub temperature: f64,
}

/// Everything about one job.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub frames: Timeline,
    strips: BTreeMap<(String, u32), Vec<Bin>>,
    strip_width: f64,
    pub stages: BTreeMap<String, StageRecord>,
    /// Seconds of lanes that worked for the job or for nobody, and how much of it is explained.
    pub lane_seconds: f64,
    pub explained: f64,
    pub frames_seen: u64,
    pub images: u64,
    pub batches: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub peaks: Peaks,
    /// Joules that GPUs drew while their worker worked for the job; `None` while no GPU has told its power.
    pub joules: Option<f64>,
    /// Share of processors that were busy, weighted by time.
    machine_cpu: (f64, f64),
    gpu_utilisation: (f64, f64),
}

impl Default for Record {
    fn default() -> Self {
        Self {
            frames: Timeline::default(),
            strips: BTreeMap::new(),
            strip_width: 1.0,
            stages: BTreeMap::new(),
            lane_seconds: 0.0,
            explained: 0.0,
            frames_seen: 0,
            images: 0,
            batches: 0,
            bytes_read: 0,
            bytes_written: 0,
            peaks: Peaks::default(),
            joules: None,
            machine_cpu: (0.0, 0.0),
            gpu_utilisation: (0.0, 0.0),
        }
    }
}

fn mean((sum, weight): (f64, f64)) -> Option<f64> {
    (weight > 0.0).then(|| sum / weight)
}

impl Record {
    /// Whether this worker has worked for the job.
    #[must_use]
    pub fn knows(&self, worker: &str) -> bool {
        self.strips.range((worker.to_owned(), 0)..).next().is_some_and(|((known, _), _)| known == worker)
    }

    /// Keeps only what is shown of a job that is over.
    pub fn shrink(&mut self) {
        *self = Self { frames: std::mem::take(&mut self.frames), ..Self::default() };
    }

    /// A worker's sample that was heard at this time, in seconds since the job's start.
    pub fn note(&mut self, job: &str, worker: &str, sample: &Sample, at: f64) {
        let mut works = false;
        for lane in &sample.lanes {
            let ours = lane.job.as_deref() == Some(job);
            works |= ours;
            self.note_strip(worker, lane, ours, at);
            if ours {
                self.note_lane(lane);
            } else if lane.job.is_none() {
                self.lane_seconds += lane.seconds;
                self.explained += lane.doing.iter().map(|(_, seconds)| seconds).sum::<f64>();
            }
        }
        if works {
            self.note_machine(sample);
        }
    }

    fn note_lane(&mut self, lane: &LaneSample) {
        self.lane_seconds += lane.seconds;
        self.explained += lane.doing.iter().map(|(_, seconds)| seconds).sum::<f64>();
        self.frames_seen += lane.frames;
        self.images += lane.images;
        self.batches += lane.batches;
        self.bytes_read += lane.bytes_read;
        self.bytes_written += lane.bytes_written;
        for stage in &lane.stages {
            let record = self.stages.entry(stage.stage.clone()).or_default();
            record.busy += stage.busy;
            record.cpu += stage.cpu;
            record.latency.merge(&stage.latency);
        }
    }

    fn note_machine(&mut self, sample: &Sample) {
        let peaks = &mut self.peaks;
        peaks.memory = peaks.memory.max(sample.memory);
        if sample.memory_limit > 0 {
            peaks.memory_share = peaks.memory_share.max(sample.memory as f64 / sample.memory_limit as f64);
        }
        self.machine_cpu.0 += sample.machine_cpu * sample.seconds;
        self.machine_cpu.1 += sample.seconds;
        for gpu in &sample.gpus {
            let peaks = &mut self.peaks;
            peaks.gpu_memory = peaks.gpu_memory.max(gpu.memory_used.unwrap_or_default());
            peaks.gpu_utilisation = peaks.gpu_utilisation.max(gpu.utilisation.unwrap_or_default());
            peaks.decoder_utilisation = peaks.decoder_utilisation.max(gpu.decoder_utilisation.unwrap_or_default());
            peaks.temperature = peaks.temperature.max(gpu.temperature.unwrap_or_default());
            if let Some(watts) = gpu.power {
                *self.joules.get_or_insert(0.0) += watts * sample.seconds;
            }
            if let Some(utilisation) = gpu.utilisation {
                self.gpu_utilisation.0 += utilisation * sample.seconds;
                self.gpu_utilisation.1 += sample.seconds;
            }
        }
    }

    fn note_strip(&mut self, worker: &str, lane: &LaneSample, ours: bool, at: f64) {
        let key = (worker.to_owned(), lane.lane);
        if !self.strips.contains_key(&key) && self.strips.len() >= STRIPS {
            return;
        }
        while at >= self.strip_width * STRIP_BINS as f64 {
            for bins in self.strips.values_mut() {
                let join = |pair: &[Bin]| {
                    pair.iter().fold(Bin::default(), |sum, bin| std::array::from_fn(|i| sum[i] + bin[i]))
                };
                *bins = bins.chunks(2).map(join).collect();
            }
            self.strip_width *= 2.0;
        }
        let bins = self.strips.entry(key).or_default();
        let bin = (at.max(0.0) / self.strip_width) as usize;
        if bins.len() <= bin {
            bins.resize(bin + 1, Bin::default());
        }
        for (doing, seconds) in &lane.doing {
            let elsewhere = !ours && lane.job.is_some() && *doing != Doing::Idle;
            let colour = if elsewhere { Colour::Elsewhere } else { Colour::from(*doing) };
            bins[bin][colour as usize] += *seconds as f32;
        }
    }

    /// Seconds of a bin, and the lanes in the order of their names.
    #[must_use]
    pub fn strips(&self) -> (f64, Vec<Strip>) {
        let strip = |((worker, lane), bins): (&(String, u32), &Vec<Bin>)| Strip {
            worker: worker.clone(),
            lane: *lane,
            bins: bins.clone(),
        };
        (self.strip_width, self.strips.iter().map(strip).collect())
    }

    /// Mean share of the processors that was busy, and of the GPUs.
    #[must_use]
    pub fn utilisation(&self) -> (Option<f64>, Option<f64>) {
        (mean(self.machine_cpu), mean(self.gpu_utilisation))
    }

    #[must_use]
    pub fn quantiles(&self, stage: &str) -> Option<Quantiles> {
        self.stages.get(stage).filter(|record| record.latency.count > 0).map(|record| record.latency.quantiles())
    }

    /// Frames a second of the job against the stage that worked most, had it never waited. `None` before anything ran.
    #[must_use]
    pub fn speed_of_light(&self, elapsed: f64) -> Option<SpeedOfLight> {
        let (name, stage) = self.stages.iter().max_by(|(_, a), (_, b)| a.busy.total_cmp(&b.busy))?;
        if stage.busy <= 0.0 || self.lane_seconds <= 0.0 || elapsed <= 0.0 || self.frames_seen == 0 {
            return None;
        }
        // What the samples saw, so that a sample that was lost falsifies nothing.
        let lanes = self.lane_seconds / elapsed;
        let alone = self.frames_seen as f64 / stage.busy * lanes;
        Some(SpeedOfLight { bottleneck: name.clone(), achieved: self.frames_seen as f64 / elapsed, alone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{GpuReading, StageSample};

    #[test]
    fn a_timeline_keeps_its_sum_and_its_size() {
        let mut timeline = Timeline::default();
        (0..=10_000).for_each(|second| timeline.total(f64::from(second), f64::from(second) * 30.0));
        let rates = timeline.rates();
        assert!(rates.len() <= BINS && rates.len() > BINS / 4, "{}", rates.len());
        assert!(rates.iter().all(|(_, rate)| (rate - 30.0).abs() < 1e-6), "{rates:?}");
        let sum: f64 = timeline.bins.iter().sum();
        assert!((sum - 300_000.0).abs() < 1e-3);
        timeline.total(10_001.0, 5.0);
        assert!(timeline.bins.iter().sum::<f64>() <= sum + 1e-6, "totals never go back");
    }

    fn lane(job: Option<&str>, doing: &[(Doing, f64)]) -> LaneSample {
        let seconds = doing.iter().map(|(_, seconds)| seconds).sum();
        LaneSample { job: job.map(str::to_owned), seconds, doing: doing.to_vec(), ..LaneSample::default() }
    }

    #[test]
    fn lanes_of_other_jobs_are_shown_and_not_counted() {
        let mut record = Record::default();
        let other = LaneSample { lane: 1, frames: 99, ..lane(Some("b"), &[(Doing::Infer, 1.0)]) };
        let idle = LaneSample { lane: 2, ..lane(None, &[(Doing::Idle, 1.0)]) };
        let ours = LaneSample { frames: 20, ..lane(Some("a"), &[(Doing::Infer, 0.8), (Doing::Commit, 0.2)]) };
        let sample = Sample { seconds: 1.0, lanes: vec![ours, other, idle], ..Sample::default() };
        (0..400).for_each(|second| record.note("a", "w", &sample, f64::from(second)));
        assert_eq!((record.frames_seen, record.lane_seconds), (400 * 20, 800.0));
        assert!((record.explained / record.lane_seconds - 1.0).abs() < 1e-9);
        let (width, strips) = record.strips();
        assert_eq!((strips.len(), width), (3, 4.0));
        let sum = |strip: &Strip, colour: Colour| strip.bins.iter().map(|bin| bin[colour as usize]).sum::<f32>();
        assert!(
            (sum(&strips[0], Colour::Infer) - 320.0).abs() < 0.1 && (sum(&strips[0], Colour::Store) - 80.0).abs() < 0.1
        );
        assert_eq!((sum(&strips[1], Colour::Elsewhere), sum(&strips[1], Colour::Infer)), (400.0, 0.0));
        assert_eq!(sum(&strips[2], Colour::Idle), 400.0);
    }

    #[test]
    fn the_stage_that_worked_most_is_the_bottleneck() {
        let mut record = Record::default();
        let stage = |name: &str, busy| StageSample { stage: name.into(), busy, ..StageSample::default() };
        let lane = LaneSample {
            frames: 50,
            stages: vec![stage("decode", 0.3), stage("infer", 0.9), stage("total", 0.0)],
            ..lane(Some("a"), &[(Doing::Infer, 0.9), (Doing::Pictures, 0.1)])
        };
        let gpu = GpuReading { power: Some(200.0), utilisation: Some(0.5), ..GpuReading::default() };
        let sample = Sample {
            seconds: 1.0,
            lanes: vec![lane.clone(), LaneSample { lane: 1, ..lane }],
            gpus: vec![gpu],
            ..Sample::default()
        };
        assert_eq!(record.speed_of_light(10.0), None);
        (0..10).for_each(|second| record.note("a", "w", &sample, f64::from(second)));
        let speed = record.speed_of_light(10.0).unwrap();
        assert_eq!((speed.bottleneck.as_str(), speed.achieved), ("infer", 100.0));
        assert!((speed.ratio() - 0.9).abs() < 1e-9, "{speed:?}");
        assert_eq!((record.joules, record.utilisation().1), (Some(2000.0), Some(0.5)));
    }
}
