//! `fulltime profile`: looks at the samples of a worker, or of all that work for a job, for a while; shows what each
//! operation took, and writes a trace that Perfetto and Chrome draw. A sample is a second: within it the trace shows how the
//! time was shared out, in one block each, not every single call.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use fulltime_common::{
    Exit,
    error::Failure,
    queue::JetStream,
    wire::{Hello, JobStatus, Reply, Request},
};
use fulltime_observe::{LaneSample, Sample};
use serde_json::{Value, json};

use crate::{args::ProfileArgs, follow, text};

/// Heartbeats come every second; none is to be missed.
const ASK_EVERY: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

/// What was seen.
#[derive(Debug, Default)]
struct Profile {
    /// By worker: when a sample came, since the start, and the sample.
    samples: BTreeMap<String, Vec<(f64, Sample)>>,
    before: Option<JobStatus>,
    after: Option<JobStatus>,
}

/// # Errors
/// Trouble on the bus, a name that neither a worker nor a job has, a trace that cannot be written.
pub async fn profile(args: ProfileArgs) -> Result<Exit, Failure> {
    let bus = JetStream::connect(&args.bus.nats).await?;
    let (begin, mut profile) = (Instant::now(), Profile::default());
    loop {
        let (jobs, workers) = match follow::ask(&bus, &Request::Status { job: None }, PATIENCE).await? {
            Reply::Status { jobs, workers, .. } => (jobs, workers),
            Reply::Accepted => (vec![], vec![]),
            Reply::Refused { cause } => return Err(follow::unknown(cause)),
        };
        let job = jobs.into_iter().find(|job| job.job == args.target);
        if job.is_none() && workers.iter().all(|worker| worker.worker != args.target) {
            return Err(follow::unknown(format!("neither a job nor a worker is called `{}`", args.target)));
        }
        let over = job.as_ref().is_some_and(|job| job.state.is_over());
        profile.note(&args.target, workers, job, begin.elapsed().as_secs_f64());
        if begin.elapsed().as_secs() >= args.seconds || over {
            break;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    if let Some(path) = &args.trace {
        write(path, &profile.trace())?;
    }
    if args.json {
        println!("{}", profile.json());
    } else {
        print!("{}", profile.table());
        if let Some(path) = &args.trace {
            println!("\ntrace  {} (open it at ui.perfetto.dev, or in chrome://tracing)", path.display());
        }
    }
    Ok(Exit::Ok)
}

fn write(path: &PathBuf, trace: &Value) -> Result<(), Failure> {
    std::fs::write(path, trace.to_string()).map_err(|error| {
        Failure::new(Exit::Usage, format!("write `{}`: {error}", path.display()), "give a file in a writable folder")
    })
}

impl Profile {
    fn note(&mut self, target: &str, workers: Vec<Hello>, job: Option<JobStatus>, at: f64) {
        let whole = job.is_some();
        if let Some(job) = job {
            self.before.get_or_insert_with(|| job.clone());
            self.after = Some(job);
        }
        for Hello { worker, sample, .. } in workers {
            let Some(mut sample) = sample else { continue };
            if whole {
                sample.lanes.retain(|lane| lane.job.as_deref() == Some(target));
            }
            if (!whole && worker != target) || sample.lanes.is_empty() {
                continue;
            }
            let seen = self.samples.entry(worker).or_default();
            // The same heartbeat may be seen twice.
            if seen.last().is_none_or(|(_, last)| *last != sample) {
                seen.push((at, sample));
            }
        }
    }

    fn total(&self) -> LaneSample {
        let mut total = LaneSample::default();
        let samples = self.samples.values().flatten();
        samples.flat_map(|(_, sample)| sample.lanes.iter().cloned()).for_each(|lane| total.merge(lane));
        total
    }

    fn table(&self) -> String {
        let total = self.total();
        if total.seconds <= 0.0 {
            return "nothing was seen: no lane worked for it\n".to_owned();
        }
        let share = |seconds: f64| format!("{:.1} %", seconds / total.seconds * 100.0);
        let time = |seconds: f64| {
            if seconds < 0.0995 { format!("{:.2} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
        };
        let mut stages: Vec<_> = total.stages.iter().collect();
        stages.sort_by(|a, b| b.busy.total_cmp(&a.busy));
        let row = |stage: &&fulltime_observe::StageSample| {
            let latency = stage.latency.quantiles();
            vec![
                stage.stage.clone(),
                text::count(stage.latency.count),
                share(stage.busy),
                format!("{:.1} s", stage.busy),
                format!("{:.1} s", stage.cpu),
                time(latency.p50),
                time(latency.p95),
                time(latency.p99),
            ]
        };
        let columns = ["operation", "calls", "of lane time", "busy", "processor", "p50", "p95", "p99"];
        let mut out = text::table(&columns.map(str::to_owned), &stages.iter().map(row).collect::<Vec<_>>());
        let columns = ["lanes did", "of lane time", "time"];
        let mut doing = total.doing.clone();
        doing.sort_by(|a, b| b.1.total_cmp(&a.1));
        let rows = doing
            .iter()
            .map(|(doing, seconds)| vec![doing.name().to_owned(), share(*seconds), format!("{seconds:.1} s")]);
        out.push_str(&format!("\n{}", text::table(&columns.map(str::to_owned), &rows.collect::<Vec<_>>())));
        let store = total.store.quantiles();
        out.push_str(&format!(
            "\n{} frames, {} crops in {} batches, {} shards, {} MB read, {} MB written\n\
             store: {} calls, {} failed; p50 {}, p95 {}, p99 {}\ncache: {} hits, {} misses\n",
            text::count(total.frames),
            text::count(total.images),
            text::count(total.batches),
            text::count(total.shards),
            total.bytes_read / 1_000_000,
            total.bytes_written / 1_000_000,
            text::count(total.store.count),
            text::count(total.store_errors),
            time(store.p50),
            time(store.p95),
            time(store.p99),
            text::count(total.cache_hits),
            text::count(total.cache_misses),
        ));
        for (worker, samples) in &self.samples {
            if let (Some((_, first)), Some((_, last))) = (samples.first(), samples.last()) {
                let (megabytes, grown) =
                    (last.memory >> 20, (last.memory as f64 - first.memory as f64) / f64::from(1 << 20));
                out.push_str(&format!("memory of {worker}: {megabytes} MB, {grown:+.0} MB since the start\n"));
            }
        }
        if let Some((shards, failed)) = self.attempts() {
            out.push_str(&format!(
                "attempts: {} shards committed, {} failed\n",
                text::count(shards),
                text::count(failed)
            ));
        }
        out
    }

    /// Shards that were committed and attempts that failed while we looked, where it was at a job.
    fn attempts(&self) -> Option<(u64, u64)> {
        let (before, after) = self.before.as_ref().zip(self.after.as_ref())?;
        let failed = |status: &JobStatus| status.failed_attempts.iter().map(|(_, count)| count).sum::<u64>();
        Some((after.shards_done.saturating_sub(before.shards_done), failed(after).saturating_sub(failed(before))))
    }

    fn json(&self) -> Value {
        let total = self.total();
        let stage = |stage: &fulltime_observe::StageSample| {
            let latency = stage.latency.quantiles();
            json!({
                "operation": stage.stage, "calls": stage.latency.count, "busy_s": stage.busy, "cpu_s": stage.cpu,
                "p50_s": latency.p50, "p95_s": latency.p95, "p99_s": latency.p99,
            })
        };
        let doing: BTreeMap<_, _> = total.doing.iter().map(|(doing, seconds)| (doing.name(), seconds)).collect();
        json!({
            "lane_seconds": total.seconds, "operations": total.stages.iter().map(stage).collect::<Vec<_>>(),
            "doing": doing, "frames": total.frames, "images": total.images, "batches": total.batches, "shards": total.shards,
            "bytes_read": total.bytes_read, "bytes_written": total.bytes_written, "store_calls": total.store.count,
            "store_errors": total.store_errors, "cache_hits": total.cache_hits, "cache_misses": total.cache_misses,
            "attempts": self.attempts().map(|(shards, failed)| json!({ "committed": shards, "failed": failed })),
            "exit": 0,
        })
    }

    /// In the format of Chrome's tracing: a process a worker, a thread a lane, counters beside them.
    fn trace(&self) -> Value {
        let mut events = Vec::new();
        for (pid, (worker, samples)) in (1_u32..).zip(&self.samples) {
            events.push(json!({ "ph": "M", "name": "process_name", "pid": pid, "args": { "name": worker } }));
            for (at, sample) in samples {
                let end = at * 1e6;
                for lane in &sample.lanes {
                    let mut start = end - lane.seconds * 1e6;
                    for (doing, seconds) in &lane.doing {
                        let duration = seconds * 1e6;
                        events.push(json!({
                            "ph": "X", "name": doing.name(), "cat": "lane", "pid": pid, "tid": lane.lane + 1,
                            "ts": start.max(0.0), "dur": duration,
                        }));
                        start += duration;
                    }
                    let frames = lane.frames as f64 / lane.seconds.max(1e-3);
                    let counter = format!("frames/s of lane {}", lane.lane);
                    events.push(
                        json!({ "ph": "C", "name": counter, "pid": pid, "ts": end, "args": { "frames": frames } }),
                    );
                }
                let counters = [
                    ("memory, MB", sample.memory as f64 / 1e6),
                    ("cores", sample.cpu / sample.seconds.max(1e-3)),
                    ("machine busy, %", sample.machine_cpu * 100.0),
                ];
                for (name, value) in counters {
                    events.push(json!({ "ph": "C", "name": name, "pid": pid, "ts": end, "args": { "value": value } }));
                }
                for gpu in &sample.gpus {
                    if let Some(busy) = gpu.utilisation {
                        let name = format!("GPU {} busy, %", gpu.gpu);
                        events.push(json!({ "ph": "C", "name": name, "pid": pid, "ts": end, "args": { "value": busy * 100.0 } }));
                    }
                }
            }
            let lanes: std::collections::BTreeSet<u32> =
                samples.iter().flat_map(|(_, sample)| sample.lanes.iter().map(|lane| lane.lane)).collect();
            for lane in lanes {
                let name = format!("lane {lane}");
                events.push(
                    json!({ "ph": "M", "name": "thread_name", "pid": pid, "tid": lane + 1, "args": { "name": name } }),
                );
            }
        }
        json!({ "displayTimeUnit": "ms", "traceEvents": events })
    }
}

#[cfg(test)]
mod tests {
    use fulltime_common::plan::EngineClass;
    use fulltime_observe::{Doing, Histogram, StageSample};

    use super::*;

    fn hello(worker: &str, job: &str, frames: u64) -> Hello {
        let mut latency = Histogram::default();
        latency.add(0.05);
        let stages = vec![StageSample { stage: "infer".into(), busy: 0.7, cpu: 0.6, latency }];
        let doing = vec![(Doing::Infer, 0.7), (Doing::Pictures, 0.3)];
        let lane = LaneSample { job: Some(job.into()), seconds: 1.0, doing, stages, frames, ..LaneSample::default() };
        Hello {
            worker: worker.into(),
            host: "h".into(),
            pid: 1,
            engine: EngineClass("e".into()),
            lanes: vec![],
            waiting: vec![],
            draining: false,
            places: vec![],
            sample: Some(Sample { seconds: 1.0, lanes: vec![lane], ..Sample::default() }),
        }
    }

    #[test]
    fn a_worker_is_profiled_sample_by_sample_and_each_counts_once() {
        let mut profile = Profile::default();
        let at = |profile: &mut Profile, time, frames| {
            profile.note("w", vec![hello("w", "j", frames), hello("v", "j", 9)], None, time)
        };
        at(&mut profile, 0.0, 20);
        at(&mut profile, 0.3, 20);
        at(&mut profile, 1.0, 30);
        assert_eq!((profile.total().frames, profile.samples.len()), (50, 1));
        let table = profile.table();
        assert!(table.contains("infer") && table.contains("70.0 %") && table.contains("50 frames"), "{table}");
        let trace = profile.trace();
        let slices: Vec<_> =
            trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X").collect();
        assert_eq!(slices.len(), 4);
        assert!(
            slices.iter().all(|slice| slice["ts"].as_f64().unwrap() >= 0.0 && slice["dur"].as_f64().unwrap() > 0.0)
        );
    }

    #[test]
    fn a_job_is_profiled_on_every_worker_that_works_for_it() {
        let status = crate::screen::tests::status(fulltime_common::wire::JobState::Running);
        let mut profile = Profile::default();
        let job = status.job.clone();
        profile.note(&job, vec![hello("a", &job, 5), hello("b", "other", 7)], Some(status.clone()), 0.0);
        let later = JobStatus { shards_done: status.shards_done + 3, ..status };
        profile.note(&job, vec![hello("c", &job, 6)], Some(later), 1.0);
        assert_eq!(profile.samples.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!((profile.total().frames, profile.attempts()), (11, Some((3, 0))));
        assert_eq!(profile.json()["attempts"]["committed"], 3);
    }
}
