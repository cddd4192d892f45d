//! Each kind is provoked on a synthetic series, and what is only noise, a slow start or an idle machine must stay quiet.

use super::*;
use crate::{
    histogram::Histogram,
    sample::{Doing, GpuReading, LaneSample},
};

/// A second of a worker that does 50 frames/s with one lane.
fn second() -> Sample {
    let mut store = Histogram::default();
    (0..3).for_each(|_| store.add(0.01));
    let lane = LaneSample {
        job: Some("season".into()),
        seconds: 1.0,
        doing: vec![(Doing::Infer, 0.8), (Doing::Pictures, 0.15), (Doing::Commit, 0.05)],
        frames: 50,
        shards: 1,
        cache_hits: 4,
        store,
        ..LaneSample::default()
    };
    Sample {
        seconds: 1.0,
        lanes: vec![lane],
        cores: 4.0,
        cpu: 1.2,
        machine_cpu: 0.4,
        memory: 1 << 30,
        memory_limit: 8 << 30,
        ..Sample::default()
    }
}

fn gpu() -> GpuReading {
    GpuReading {
        utilisation: Some(0.85),
        decoder_utilisation: Some(0.4),
        memory_used: Some(20 << 30),
        memory_total: Some(80 << 30),
        temperature: Some(60.0),
        clock: Some(1_900_000_000),
        ..GpuReading::default()
    }
}

/// A deterministic wobble of up to a tenth.
fn wobble(second: u64) -> f64 {
    1.0 + ((second * 7919 % 21) as f64 - 10.0) / 100.0
}

/// Plays seconds of some workers, and says what is found at the end.
struct Play {
    watch: Watch,
    second: u64,
}

impl Play {
    fn new() -> Self {
        Self { watch: Watch::default(), second: 0 }
    }

    fn play(&mut self, seconds: u64, of: impl Fn(u64) -> Vec<(&'static str, Sample)>) -> Vec<Finding> {
        for _ in 0..seconds {
            self.second += 1;
            let now = Duration::from_secs(self.second);
            for (worker, sample) in of(self.second) {
                self.watch.note(worker, &sample, now);
            }
            self.watch.look(now);
        }
        self.watch.findings(Duration::from_secs(self.second))
    }

    fn one(&mut self, seconds: u64, of: impl Fn(u64) -> Sample) -> Vec<Kind> {
        self.play(seconds, |second| vec![("w", of(second))]).into_iter().map(|finding| finding.kind).collect()
    }
}

fn noisy(at: u64) -> Sample {
    let mut sample = second();
    sample.lanes[0].frames = (50.0 * wobble(at)) as u64;
    sample.machine_cpu = 0.4 * wobble(at);
    sample
}

#[test]
fn ten_quiet_minutes_of_noise_find_nothing() {
    let mut play = Play::new();
    for _ in 0..60 {
        assert_eq!(play.one(10, noisy), []);
    }
}

#[test]
fn a_worker_that_becomes_slow_is_found_within_half_a_minute_and_forgotten_when_it_recovers() {
    let mut play = Play::new();
    assert_eq!(play.one(90, noisy), []);
    let slow = |_| {
        let mut sample = second();
        sample.lanes[0].frames = 25;
        sample
    };
    assert_eq!(play.one(30, slow), [Kind::BehindBaseline]);
    assert_eq!(play.one(40, noisy), []);
}

#[test]
fn a_slow_start_an_idle_machine_and_another_job_are_no_anomaly() {
    let mut play = Play::new();
    let slow = |_| {
        let mut sample = second();
        sample.lanes[0].frames = 10;
        sample
    };
    assert_eq!(play.one(40, slow), [], "there is nothing to compare with");
    assert_eq!(play.one(60, noisy), []);
    let idle = |_| {
        let lane = LaneSample { seconds: 1.0, doing: vec![(Doing::Idle, 1.0)], ..LaneSample::default() };
        Sample { lanes: vec![lane], ..second() }
    };
    assert_eq!(play.one(60, idle), []);
    let other = |_| {
        let mut sample = second();
        sample.lanes[0].job = Some("large pictures".into());
        sample.lanes[0].frames = 12;
        sample
    };
    assert_eq!(play.one(60, other), [], "another job has a pace of its own");
}

#[test]
fn processors_that_others_take_are_found_without_a_gpu() {
    let mut play = Play::new();
    assert_eq!(play.one(60, noisy), []);
    let robbed = |_| {
        let mut sample = second();
        sample.lanes[0].frames = 30;
        Sample { cpu: 0.6, machine_cpu: 0.99, ..sample }
    };
    assert_eq!(play.one(30, robbed), [Kind::CpuBound], "and nobody need be told that it is slow, too");
    let mut play = Play::new();
    let full = |_| Sample { machine_cpu: 1.0, cpu: 4.0, ..second() };
    assert_eq!(play.one(120, full), [], "a machine that fulltime itself keeps busy is as it should be");
}

#[test]
fn a_gpu_that_waits_for_busy_processors_is_found() {
    let bound = |_| {
        let mut sample = second();
        sample.lanes[0].doing = vec![(Doing::Infer, 0.3), (Doing::Pictures, 0.7)];
        Sample { machine_cpu: 0.97, gpus: vec![GpuReading { utilisation: Some(0.3), ..gpu() }], ..sample }
    };
    assert_eq!(Play::new().one(60, bound), [Kind::CpuBound]);
    let fed = |_| Sample { machine_cpu: 0.97, gpus: vec![gpu()], ..second() };
    assert_eq!(Play::new().one(60, fed), []);
}

#[test]
fn a_decoder_that_is_the_limit_is_found() {
    let bound = |decoder, computes, waits: f64| {
        move |_| {
            let mut sample = second();
            sample.lanes[0].doing = vec![(Doing::Infer, 1.0 - waits), (Doing::Pictures, waits)];
            let reading = GpuReading { decoder_utilisation: Some(decoder), utilisation: Some(computes), ..gpu() };
            Sample { gpus: vec![reading], ..sample }
        }
    };
    assert_eq!(Play::new().one(60, bound(0.98, 0.35, 0.6)), [Kind::DecoderBound]);
    assert_eq!(Play::new().one(60, bound(0.98, 0.9, 0.1)), [], "both are busy: well balanced");
}

#[test]
fn memory_that_nears_its_limit_is_found() {
    let holds = |gigabytes: u64| move |_| Sample { memory: gigabytes << 30, ..second() };
    assert_eq!(Play::new().one(40, holds(5)), []);
    let full = |_| Sample { memory: (7.6 * f64::from(1 << 30)) as u64, ..second() };
    assert_eq!(Play::new().one(40, full), [Kind::MemoryPressure]);
    let mut play = Play::new();
    assert_eq!(play.one(60, holds(3)), []);
    assert_eq!(play.one(30, holds(7)), [Kind::MemoryPressure], "it has more than doubled");
    let gpu_full = |_| Sample { gpus: vec![GpuReading { memory_used: Some(79 << 30), ..gpu() }], ..second() };
    assert_eq!(Play::new().one(40, gpu_full), [Kind::MemoryPressure]);
}

#[test]
fn heat_is_always_found_and_a_power_limit_only_when_it_costs_more_than_before() {
    let reading = |reason: &str, megahertz: u64| GpuReading {
        throttled: Some(reason.to_owned()),
        clock: Some(megahertz * 1_000_000),
        ..gpu()
    };
    let hot = |_| Sample { gpus: vec![reading("thermal", 1100)], ..second() };
    assert_eq!(Play::new().one(40, hot), [Kind::Throttling]);
    let mut play = Play::new();
    let capped = |_| Sample { gpus: vec![reading("power", 1700)], ..second() };
    assert_eq!(play.one(90, capped), [], "it has always been so");
    let lower = |_| Sample { gpus: vec![reading("power", 1200)], ..second() };
    let found = play.play(30, |at| vec![("w", lower(at))]);
    assert_eq!((found[0].kind, found[0].subject().as_str()), (Kind::Throttling, "w GPU 0"));
    assert!(found[0].evidence.contains("1200 MHz, 1700 MHz before"), "{}", found[0].evidence);
    let now_and_then = |at: u64| Sample {
        gpus: vec![if at.is_multiple_of(4) { reading("thermal", 1800) } else { gpu() }],
        ..second()
    };
    assert_eq!(Play::new().one(60, now_and_then), []);
}

#[test]
fn a_straggler_needs_peers_on_the_same_job() {
    let with = |frames: u64, job: &str| {
        let mut sample = second();
        sample.lanes[0].frames = frames;
        sample.lanes[0].job = Some(job.to_owned());
        sample
    };
    let found = Play::new().play(40, |_| vec![("a", with(50, "j")), ("b", with(48, "j")), ("c", with(20, "j"))]);
    assert_eq!(found.iter().map(|f| (f.kind, f.worker.as_str())).collect::<Vec<_>>(), [(Kind::Straggler, "c")]);
    let two = Play::new().play(40, |_| vec![("a", with(50, "j")), ("c", with(20, "j"))]);
    assert_eq!(two, [], "of two nobody can tell");
    let apart = Play::new().play(40, |_| vec![("a", with(50, "j")), ("b", with(48, "j")), ("c", with(20, "large"))]);
    assert_eq!(apart, []);
}

#[test]
fn a_cache_that_stops_helping_is_found() {
    let mut play = Play::new();
    assert_eq!(play.one(60, noisy), []);
    let missing = |_| {
        let mut sample = second();
        (sample.lanes[0].cache_hits, sample.lanes[0].cache_misses) = (1, 4);
        sample
    };
    assert_eq!(play.one(30, missing), [Kind::CacheMisses]);
    assert_eq!(Play::new().one(90, missing), [], "it was never better");
}

#[test]
fn a_store_that_becomes_slow_or_fails_is_found() {
    let with = |seconds: f64, waits: f64, errors: u64| {
        move |_| {
            let mut sample = second();
            let lane = &mut sample.lanes[0];
            lane.store = Histogram::default();
            (0..3).for_each(|_| lane.store.add(seconds));
            lane.store_errors = errors;
            lane.doing = vec![(Doing::Infer, 1.0 - waits), (Doing::Fetch, waits)];
            lane.frames = (50.0 * (1.0 - waits)) as u64;
            sample
        }
    };
    let mut play = Play::new();
    assert_eq!(play.one(60, with(0.01, 0.02, 0)), []);
    assert_eq!(play.one(30, with(0.9, 0.6, 0)), [Kind::StoreSlow], "and not that it is slow");
    let mut play = Play::new();
    assert_eq!(play.one(60, with(0.01, 0.02, 0)), []);
    assert_eq!(play.one(30, with(0.3, 0.02, 0)), [], "slower, but no lane feels it");
    assert_eq!(Play::new().one(90, with(0.4, 0.3, 0)), [], "it has always been far away");
    assert_eq!(Play::new().one(30, with(0.01, 0.02, 2)), [Kind::StoreSlow]);
}

#[test]
fn a_storm_of_retries_is_found() {
    let mut play = Play::new();
    assert_eq!(play.one(60, noisy), []);
    let failing = |_| {
        let mut sample = Sample { retries: 2, ..second() };
        sample.lanes[0].shards = 0;
        sample
    };
    assert_eq!(play.one(30, failing), [Kind::RetryStorm]);
    let now_and_then = |at: u64| Sample { retries: u64::from(at.is_multiple_of(20)), ..second() };
    assert_eq!(Play::new().one(120, now_and_then), []);
}

#[test]
fn canaries_that_score_worse_than_before_are_found() {
    let steady = [0.96, 0.95, 0.96, 0.97, 0.96, 0.95];
    assert_eq!(canary_drift("w", &[&steady[..], &[0.95, 0.96, 0.96]].concat()), None);
    assert_eq!(canary_drift("w", &[0.9, 0.5, 0.5, 0.5]), None, "too little to go by");
    let finding = canary_drift("w", &[&steady[..], &[0.8, 0.81, 0.8]].concat()).unwrap();
    assert_eq!(finding.kind, Kind::CanaryDrift);
    assert!(finding.evidence.contains("0.800; 0.960 before"), "{}", finding.evidence);
    assert_eq!(canary_drift("w", &[&steady[..], &[0.2, 0.96, 0.96]].concat()), None, "one bad one is none");
}

#[test]
fn drift_is_told_while_the_latest_canaries_are_bad() {
    let mut play = Play::new();
    let scoring = |score: f64| {
        move |at: u64| {
            let mut sample = second();
            sample.lanes[0].canaries = if at.is_multiple_of(5) { vec![score] } else { vec![] };
            sample
        }
    };
    assert_eq!(play.one(60, scoring(1.0)), []);
    assert_eq!(play.one(30, scoring(0.7)), [Kind::CanaryDrift]);
}

#[test]
fn a_worker_that_is_gone_is_not_judged() {
    let mut play = Play::new();
    let full = |_| Sample { memory: 8 << 30, ..second() };
    assert_eq!(play.one(40, full), [Kind::MemoryPressure]);
    assert_eq!(play.play(40, |_| vec![]), []);
    assert!(!play.watch.works_for("w", "season"));
}

#[test]
fn every_kind_is_listed_under_its_name_with_something_to_do() {
    for (at, kind) in Kind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, at);
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        assert!(!kind.action().is_empty() && !kind.title().is_empty());
    }
}
