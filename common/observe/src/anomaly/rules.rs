//! The rules, one function a kind: a quarter of a minute against what was usual.

use super::{
    Finding, Kind,
    point::{Baseline, GpuPoint, Point, median},
};

/// Everything that is wrong with one worker, by itself.
#[must_use]
pub fn judge(worker: &str, recent: &Point, baseline: Option<&Baseline>) -> Vec<Finding> {
    let of_worker = [
        behind_baseline(recent, baseline),
        cpu_bound(recent, baseline),
        memory_pressure(recent, baseline),
        cache_misses(recent, baseline),
        store_slow(recent, baseline),
        retry_storm(recent, baseline),
    ];
    let of_worker = of_worker.into_iter().flatten().map(|(kind, evidence)| Finding::new(kind, worker, evidence));
    let of_gpu = recent.gpus.iter().flat_map(|gpu| {
        let found = [decoder_bound(recent, gpu), throttling(gpu, baseline), gpu_memory(gpu)];
        found
            .into_iter()
            .flatten()
            .map(|(kind, evidence)| Finding { gpu: Some(gpu.gpu), ..Finding::new(kind, worker, evidence) })
    });
    of_worker.chain(of_gpu).collect()
}

type Found = Option<(Kind, String)>;

/// At least so much of a lane's time must be work before its speed means anything.
const AT_WORK: f64 = 0.5;

fn behind_baseline(recent: &Point, baseline: Option<&Baseline>) -> Found {
    let (baseline, speed) = (baseline?, recent.speed());
    let usual = baseline.speed;
    let unusual = speed < 0.7 * usual && speed < usual - 5.0 * baseline.speed_varies;
    (recent.load() >= AT_WORK && unusual).then(|| {
        let percent = speed / usual * 100.0;
        (Kind::BehindBaseline, format!("{speed:.1} frames/s a lane, {percent:.0} % of its usual {usual:.1}"))
    })
}

/// With a GPU: it waits for pictures that busy processors do not deliver. Without: others take the processors away.
fn cpu_bound(recent: &Point, baseline: Option<&Baseline>) -> Found {
    let (machine, ours) = recent.processors();
    if machine < 0.9 || recent.load() < AT_WORK {
        return None;
    }
    let waits = recent.for_pictures / recent.at_work;
    if !recent.gpus.is_empty() {
        let gpu = recent.gpus.iter().map(|gpu| gpu.mean(gpu.utilisation)).sum::<f64>() / recent.gpus.len() as f64;
        return (gpu < 0.5 && waits > 0.4).then(|| {
            let evidence = format!(
                "processors {:.0} % busy, GPUs {:.0} %; lanes wait {:.0} % of their time for pictures",
                machine * 100.0,
                gpu * 100.0,
                waits * 100.0
            );
            (Kind::CpuBound, evidence)
        });
    }
    let baseline = baseline?;
    let robbed = ours < 0.75 * baseline.cpu && recent.speed() < 0.8 * baseline.speed;
    robbed.then(|| {
        let evidence = format!(
            "processors {:.0} % busy, of which the worker has {ours:.1} cores; it had {:.1} before",
            machine * 100.0,
            baseline.cpu
        );
        (Kind::CpuBound, evidence)
    })
}

fn decoder_bound(recent: &Point, gpu: &GpuPoint) -> Found {
    let (decoder, computes) = (gpu.mean(gpu.decoder), gpu.mean(gpu.utilisation));
    let waits = if recent.at_work > 0.0 { recent.for_pictures / recent.at_work } else { 0.0 };
    (decoder >= 0.9 && computes < 0.6 && waits > 0.3).then(|| {
        let evidence = format!(
            "video decoder {:.0} % busy, multiprocessors {:.0} %; lanes wait {:.0} % of their time for pictures",
            decoder * 100.0,
            computes * 100.0,
            waits * 100.0
        );
        (Kind::DecoderBound, evidence)
    })
}

/// Near its limit, or well on the way there from what it usually holds.
fn memory_pressure(recent: &Point, baseline: Option<&Baseline>) -> Found {
    if recent.memory_limit <= 0.0 {
        return None;
    }
    let share = recent.memory / recent.memory_limit;
    let grows = baseline.is_some_and(|baseline| recent.memory > 1.5 * baseline.memory) && share > 0.75;
    (share > 0.92 || grows).then(|| {
        let usual = baseline.map(|baseline| format!("; {} before", bytes(baseline.memory))).unwrap_or_default();
        let (holds, limit) = (bytes(recent.memory), bytes(recent.memory_limit));
        (Kind::MemoryPressure, format!("{holds} of {limit} ({:.0} %){usual}", share * 100.0))
    })
}

fn gpu_memory(gpu: &GpuPoint) -> Found {
    // Engines take what there is in advance: only the very end is worth a word.
    let share = gpu.memory_share;
    (share > 0.98).then(|| (Kind::MemoryPressure, format!("{:.1} % of the GPU's memory is taken", share * 100.0)))
}

/// The driver holds the clocks down. A power limit that always held is how this GPU is; heat never is.
fn throttling(gpu: &GpuPoint, baseline: Option<&Baseline>) -> Found {
    let reason = gpu.reason.as_deref().filter(|_| gpu.throttled > 0.5 * gpu.samples)?;
    let clock = gpu.mean(gpu.clock);
    let usual = baseline.and_then(|baseline| baseline.clocks.iter().find(|(number, _)| *number == gpu.gpu));
    let usual = usual.map(|(_, clock)| *clock).filter(|clock| *clock > 0.0);
    let slower = usual.is_some_and(|usual| clock < 0.9 * usual);
    let heat = reason.contains("thermal") || reason.contains("hardware");
    (heat || slower).then(|| {
        let before = usual.map(|usual| format!(", {:.0} MHz before", usual / 1e6)).unwrap_or_default();
        let degrees = gpu.mean(gpu.temperature);
        (Kind::Throttling, format!("{reason}: {:.0} MHz{before}, {degrees:.0} °C", clock / 1e6))
    })
}

fn cache_misses(recent: &Point, baseline: Option<&Baseline>) -> Found {
    let (baseline, share) = (baseline?, recent.miss_share());
    let unusual = share > 0.5 && share > 3.0 * baseline.miss_share + 0.2;
    (recent.lookups >= 20.0 && unusual).then(|| {
        let usual = baseline.miss_share * 100.0;
        let evidence = format!("{:.0} % of {:.0} lookups miss; {usual:.0} % before", share * 100.0, recent.lookups);
        (Kind::CacheMisses, evidence)
    })
}

/// Calls take much longer than they did, or fail; and lanes feel it.
fn store_slow(recent: &Point, baseline: Option<&Baseline>) -> Found {
    if recent.store_calls < 3.0 {
        return None;
    }
    let failing = recent.store_errors >= 3.0 && recent.store_errors > 0.2 * recent.store_calls;
    let call = recent.store_call();
    let usual = baseline.map(|baseline| baseline.store_call);
    let slower = usual.is_some_and(|usual| call > 3.0 * usual && call > usual + 0.05);
    let felt = recent.lane_seconds > 0.0 && recent.fetching > 0.05 * recent.lane_seconds;
    (failing || (slower && felt)).then(|| {
        let before = usual.map(|usual| format!(", {:.0} ms before", usual * 1e3)).unwrap_or_default();
        let errors = if failing {
            format!("; {:.0} of {:.0} failed", recent.store_errors, recent.store_calls)
        } else {
            String::new()
        };
        let waits = recent.fetching / recent.lane_seconds.max(1e-9) * 100.0;
        (
            Kind::StoreSlow,
            format!("{:.0} ms a call{before}{errors}; lanes wait {waits:.0} % of their time for it", call * 1e3),
        )
    })
}

fn retry_storm(recent: &Point, baseline: Option<&Baseline>) -> Found {
    let usual = baseline.map_or(0.0, |baseline| baseline.retries_a_second) * recent.seconds;
    let many = recent.retries >= 5.0 && recent.retries > 5.0 * usual && recent.retries > 0.5 * recent.shards;
    many.then(|| {
        let (retries, seconds, shards) = (recent.retries, recent.seconds, recent.shards);
        (Kind::RetryStorm, format!("{retries:.0} attempts failed in {seconds:.0} s, {shards:.0} shards were computed"))
    })
}

/// Workers on the same job that are much slower than the others are. Of two nobody can tell who is the slow one.
#[must_use]
pub fn stragglers(workers: &[(&str, Point)]) -> Vec<Finding> {
    let working = |point: &Point| point.load() >= AT_WORK && point.frames > 0.0;
    let mut found = Vec::new();
    for (worker, point) in workers.iter().filter(|(_, point)| working(point)) {
        let peers = workers.iter().filter(|(name, peer)| name != worker && working(peer) && peer.jobs == point.jobs);
        let peers: Vec<f64> = peers.map(|(_, peer)| peer.speed()).collect();
        let (count, usual, speed) = (peers.len(), median(peers), point.speed());
        if count >= 2 && speed < 0.6 * usual {
            let evidence = format!("{speed:.1} frames/s a lane; {count} others on the same job do {usual:.1}");
            found.push(Finding::new(Kind::Straggler, *worker, evidence));
        }
    }
    found
}

/// Scores of canary shards (0 to 1, against what is known of them), oldest first: whether the latest few are worse than
/// those before by more than these vary.
#[must_use]
pub fn canary_drift(worker: &str, scores: &[f64]) -> Option<Finding> {
    const LATEST: usize = 3;
    let before = scores.len().checked_sub(LATEST).filter(|before| *before >= LATEST)?;
    let (earlier, latest) = scores.split_at(before);
    let usual = median(earlier.to_vec());
    let varies = median(earlier.iter().map(|score| (score - usual).abs()).collect());
    let now = median(latest.to_vec());
    (now < usual - (5.0 * varies).max(0.01)).then(|| {
        let evidence = format!("the last {LATEST} canaries score {now:.3}; {usual:.3} before");
        Finding::new(Kind::CanaryDrift, worker, evidence)
    })
}

fn bytes(bytes: f64) -> String {
    if bytes >= 1e9 { format!("{:.1} GB", bytes / 1e9) } else { format!("{:.0} MB", bytes / 1e6) }
}
