//! The performance record: what lanes did, as rows of about ten seconds, put into the metrics folder of the job that they
//! worked for. Each worker puts objects of its own, so that the figures of a thousand lanes pass through nobody. Pure; the
//! service puts what is due.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fulltime_common::{keys, plan::encode, wire::Task};
use fulltime_observe::{Doing, LaneSample, Quantiles, Sample};
use fulltime_tables::performance::Performance;

/// Seconds of a row.
const ROW: f64 = 10.0;
/// Rows of an object at most.
const ROWS: usize = 4096;
/// What a worker that is killed loses at most.
const EVERY: Duration = Duration::from_secs(600);
/// A job that no lane has worked for so long gets its rows.
const REST: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct Recorder {
    worker: Arc<str>,
    jobs: BTreeMap<String, Place>,
    /// Names objects that no other process of this name has put.
    start: u64,
    put: u64,
}

#[derive(Debug)]
struct Place {
    out: String,
    generation: u32,
    worked: Instant,
    /// When rows were last put.
    put: Instant,
    open: BTreeMap<u32, LaneSample>,
    rows: Vec<Performance>,
}

/// Rows for one object.
#[derive(Debug)]
pub struct Due {
    pub out: String,
    /// Exists while the job does.
    pub spec: String,
    pub key: String,
    pub rows: Vec<Performance>,
}

impl Recorder {
    pub fn new(worker: &str) -> Self {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self { worker: worker.into(), jobs: BTreeMap::new(), start, put: 0 }
    }

    /// Where the figures of this task's job belong.
    pub fn learn(&mut self, task: &Task) {
        match self.jobs.get_mut(&task.job) {
            Some(place) => place.generation = task.generation,
            None => {
                let (out, generation) = (task.out.clone(), task.generation);
                let (worked, put) = (Instant::now(), Instant::now());
                let place = Place { out, generation, worked, put, open: BTreeMap::new(), rows: Vec::new() };
                self.jobs.insert(task.job.clone(), place);
            }
        }
    }

    /// A second of the worker. Time in which lanes worked for nobody belongs to no job.
    pub fn note(&mut self, sample: &Sample, now: Instant) {
        for lane in &sample.lanes {
            let Some(place) = lane.job.as_ref().and_then(|job| self.jobs.get_mut(job)) else { continue };
            place.worked = now;
            let open = place.open.entry(lane.lane).or_default();
            open.merge(lane.clone());
            if open.seconds >= ROW {
                let closed = std::mem::take(open);
                place.rows.push(row(&self.worker, &closed, sample));
            }
        }
        self.close(sample, now, false);
    }

    /// Ends the rows of jobs that rest, or of all.
    pub fn close(&mut self, sample: &Sample, now: Instant, all: bool) {
        for place in self.jobs.values_mut() {
            if all || now.saturating_duration_since(place.worked) >= REST {
                let open = std::mem::take(&mut place.open);
                place.rows.extend(open.values().map(|lane| row(&self.worker, lane, sample)));
            }
        }
    }

    /// What is to be put now.
    pub fn due(&mut self, now: Instant, all: bool) -> Vec<Due> {
        let (mut due, mut gone) = (Vec::new(), Vec::new());
        for (job, place) in &mut self.jobs {
            let rests = all || now.saturating_duration_since(place.worked) >= REST;
            let late = place.rows.len() >= ROWS || now.saturating_duration_since(place.put) >= EVERY;
            if (rests || late) && !place.rows.is_empty() {
                self.put += 1;
                place.put = now;
                let name = format!("{}-{}-{}", encode(&self.worker), self.start, self.put);
                due.push(Due {
                    out: place.out.clone(),
                    spec: keys::job::spec(job),
                    key: keys::job::metrics(job, place.generation, &name),
                    rows: std::mem::take(&mut place.rows),
                });
            }
            // A job that comes back is learned again.
            if rests && place.open.is_empty() && now.saturating_duration_since(place.worked) >= 10 * REST {
                gone.push(job.clone());
            }
        }
        gone.iter().for_each(|job| drop(self.jobs.remove(job)));
        due
    }
}

fn row(worker: &Arc<str>, lane: &LaneSample, sample: &Sample) -> Performance {
    let quantiles =
        |name: &str| lane.stage(name).filter(|stage| stage.latency.count > 0).map(|s| s.latency.quantiles());
    let split =
        |quantiles: Option<Quantiles>| (quantiles.map(|q| q.p50), quantiles.map(|q| q.p95), quantiles.map(|q| q.p99));
    let (decode_p50, decode_p95, decode_p99) = split(quantiles("decode"));
    let (preprocess_p50, preprocess_p95, preprocess_p99) = split(quantiles("preprocess"));
    let (infer_p50, infer_p95, infer_p99) = split(quantiles("infer"));
    let (postprocess_p50, postprocess_p95, postprocess_p99) = split(quantiles("postprocess"));
    let (total_p50, total_p95, total_p99) = split(quantiles("total"));
    let store = lane.store.quantiles();
    let greatest = |of: &dyn Fn(&fulltime_observe::GpuReading) -> Option<f64>| {
        sample.gpus.iter().filter_map(of).max_by(f64::total_cmp)
    };
    let power: Vec<f64> = sample.gpus.iter().filter_map(|gpu| gpu.power).collect();
    Performance {
        t_us: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64,
        seconds: lane.seconds,
        worker: Arc::clone(worker),
        lane: lane.lane as i32,
        frames: lane.frames as i64,
        images: lane.images as i64,
        batches: lane.batches as i64,
        shards: lane.shards as i64,
        bytes_read: lane.bytes_read as i64,
        bytes_written: lane.bytes_written as i64,
        cache_hits: lane.cache_hits as i64,
        cache_misses: lane.cache_misses as i64,
        store_calls: lane.store.count as i64,
        store_errors: lane.store_errors as i64,
        store_p50: store.p50,
        store_p95: store.p95,
        store_p99: store.p99,
        doing_idle: lane.spent(Doing::Idle),
        doing_fetch: lane.spent(Doing::Fetch),
        doing_load: lane.spent(Doing::Load),
        doing_pictures: lane.spent(Doing::Pictures),
        doing_infer: lane.spent(Doing::Infer),
        doing_postprocess: lane.spent(Doing::Postprocess),
        doing_describe: lane.spent(Doing::Describe),
        doing_tables: lane.spent(Doing::Tables),
        doing_commit: lane.spent(Doing::Commit),
        doing_index: lane.spent(Doing::Index),
        doing_reduce: lane.spent(Doing::Reduce),
        doing_canary: lane.spent(Doing::Canary),
        decode_p50,
        decode_p95,
        decode_p99,
        preprocess_p50,
        preprocess_p95,
        preprocess_p99,
        infer_p50,
        infer_p95,
        infer_p99,
        postprocess_p50,
        postprocess_p95,
        postprocess_p99,
        total_p50,
        total_p95,
        total_p99,
        cpu: lane.cpu,
        memory: lane.memory as i64,
        machine_cpu: sample.machine_cpu,
        worker_memory: sample.memory as i64,
        gpu_utilisation: greatest(&|gpu| gpu.utilisation),
        decoder_utilisation: greatest(&|gpu| gpu.decoder_utilisation),
        gpu_memory: greatest(&|gpu| gpu.memory_used.map(|bytes| bytes as f64)).map(|bytes| bytes as i64),
        gpu_temperature: greatest(&|gpu| gpu.temperature),
        gpu_power: (!power.is_empty()).then(|| power.iter().sum()),
    }
}

#[cfg(test)]
mod tests {
    use fulltime_common::{
        Digest,
        wire::{Band, TaskKind},
    };

    use super::*;

    fn task(job: &str) -> Task {
        Task {
            job: job.into(),
            digest: Digest::of_bytes(b"x"),
            release: 1,
            epoch: 1,
            band: Band::Normal,
            avoid: None,
            alone: false,
            looked_for: true,
            archive: "a".into(),
            store: "s".into(),
            out: "o".into(),
            generation: 2,
            trace: None,
            kind: TaskKind::Reduce { inputs: "k".into(), generation: 2 },
        }
    }

    fn second(job: Option<&str>) -> Sample {
        let lane = LaneSample {
            job: job.map(str::to_owned),
            seconds: 1.0,
            doing: vec![(Doing::Infer, 1.0)],
            frames: 30,
            ..LaneSample::default()
        };
        Sample { seconds: 1.0, lanes: vec![LaneSample { lane: 1, ..lane.clone() }, lane], ..Sample::default() }
    }

    #[test]
    fn a_job_gets_rows_of_ten_seconds_and_the_rest_when_it_rests() {
        let mut recorder = Recorder::new("w 1");
        recorder.learn(&task("a"));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for i in 0..25 {
            recorder.note(&second(Some("a")), at(i));
            recorder.note(&second(Some("unknown")), at(i));
            assert!(recorder.due(at(i), false).is_empty());
        }
        recorder.note(&second(None), at(30));
        let due = recorder.due(at(30), false);
        assert_eq!(due.len(), 1);
        let Due { key, rows, .. } = &due[0];
        assert!(key.starts_with("jobs/a/g2/metrics/w%201-") && key.ends_with("-1.parquet"), "{key}");
        assert_eq!(rows.iter().map(|row| row.frames).sum::<i64>(), 2 * 25 * 30, "nothing is lost");
        assert_eq!(rows.len(), 6);
        assert!(rows.iter().all(|row| (row.doing_infer - row.seconds).abs() < 1e-9));
    }

    #[test]
    fn a_long_job_gets_its_rows_now_and_then() {
        let mut recorder = Recorder::new("w");
        recorder.learn(&task("a"));
        let start = Instant::now();
        let mut objects = 0;
        for second in 0..=1800 {
            let now = start + Duration::from_secs(second);
            recorder.note(&self::second(Some("a")), now);
            objects += recorder.due(now, false).len();
        }
        assert_eq!(objects, 3);
    }

    #[test]
    fn a_worker_that_goes_leaves_all_it_has() {
        let mut recorder = Recorder::new("w");
        recorder.learn(&task("a"));
        let now = Instant::now();
        recorder.note(&second(Some("a")), now);
        assert!(recorder.due(now, true).is_empty(), "the row is open");
        recorder.close(&second(None), now, true);
        assert_eq!(recorder.due(now, true)[0].rows.len(), 2);
    }
}
