//! A season that exists on paper only: recordings of no content, container indexes made up by the lanes that "read" them,
//! shards whose work is to wait. Everything else about it is real: broker, coordinator, objects, leases.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use fulltime_common::{
    Digest, Disposition, Exit,
    index::{Access, Codec, Interval, Packets, RecordingIndex},
    keys,
    plan::{RecordingRef, ReduceInputs, ShardSpec},
    results::{MatchSummary, ShardResult},
    store::{Put, Store, StoreError, to_json},
    wire::{Evidence, Outcome, Task, TaskKind},
};
use fulltime_worker::{Attempt, Executor, Phase, TaskFailure};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::Semaphore;

/// Frames in a shard: one second.
const FRAMES: u32 = 25;

/// Makes an archive of `matches` recordings, a match each.
pub fn archive(dir: &Path, matches: u32) -> PathBuf {
    let archive = dir.join("archive");
    std::fs::create_dir_all(&archive).expect("make a folder");
    for n in 0..matches {
        std::fs::write(archive.join(format!("m{n:05}.mp4")), b"paper").expect("write a recording");
    }
    archive
}

/// How long a shard takes.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Mean of a lognormal distribution; zero for no time at all.
    pub mean: Duration,
    /// Standard deviation of its logarithm.
    pub sigma: f64,
    /// Share of attempts that take five times as long.
    pub stragglers: f64,
    pub seed: u64,
}

impl Service {
    /// Drawn anew for every attempt: what makes a straggler is the machine's bad moment, not the shard.
    fn draw(&self, task: &Task) -> Duration {
        if self.mean.is_zero() {
            return Duration::ZERO;
        }
        let digest = task.digest.to_string();
        let bits = u64::from_str_radix(&digest[..16], 16).expect("a digest is hexadecimal");
        let mut rng = Rng::with_seed(bits ^ self.seed ^ u64::from(task.release).rotate_left(32));
        // Box and Muller (1958).
        let (u, v) = (1.0 - rng.f64(), rng.f64());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let factor = (self.sigma * normal - self.sigma * self.sigma / 2.0).exp();
        let straggles = if rng.f64() < self.stragglers { 5.0 } else { 1.0 };
        self.mean.mul_f64(factor * straggles)
    }
}

/// What came of the lanes' time.
#[derive(Debug)]
pub struct Figures {
    base: Instant,
    /// Microseconds since `base` at the first start and the last first commit of a shard.
    first_us: AtomicU64,
    last_us: AtomicU64,
    /// Latest start of a shard that nobody had begun before.
    fresh_us: AtomicU64,
    begun: Mutex<HashSet<Digest>>,
    /// Microseconds of the attempts that committed first.
    pub useful_us: AtomicU64,
    pub first_commits: AtomicU64,
    pub attempts: AtomicU64,
    /// Attempts that were told to stop, and the microseconds that they had run.
    pub halted: AtomicU64,
    pub halted_us: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        let zero = AtomicU64::default;
        let first_us = AtomicU64::new(u64::MAX);
        Self {
            base: Instant::now(),
            first_us,
            last_us: zero(),
            fresh_us: zero(),
            begun: Mutex::default(),
            useful_us: zero(),
            first_commits: zero(),
            attempts: zero(),
            halted: zero(),
            halted_us: zero(),
        }
    }
}

impl Figures {
    fn now_us(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Notes that an attempt begins.
    fn begin(&self, work: Digest) {
        let now = self.now_us();
        self.first_us.fetch_min(now, Ordering::Relaxed);
        if self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(work) {
            self.fresh_us.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// From the last start of a shard that nobody had begun before to the last first commit: there is nothing new to do.
    pub fn tail(&self) -> Duration {
        let (fresh, last) = (self.fresh_us.load(Ordering::Relaxed), self.last_us.load(Ordering::Relaxed));
        Duration::from_micros(last.saturating_sub(fresh))
    }

    /// From the first start of a shard to the last first commit (or now, while there is none).
    pub fn window(&self) -> (Instant, Instant) {
        let (first, last) = (self.first_us.load(Ordering::Relaxed), self.last_us.load(Ordering::Relaxed));
        let at = |micros: u64| self.base + Duration::from_micros(micros);
        (at(first.min(self.now_us())), at(last))
    }
}

/// Lanes of this season.
pub struct PaperLanes {
    /// Shards of each recording.
    pub shards: u32,
    pub service: Service,
    /// Between two signs of progress.
    pub beat: Duration,
    pub figures: Arc<Figures>,
    /// As in a real worker, one shard a lane waits here while another one runs.
    free: Semaphore,
    stores: Mutex<HashMap<String, Store>>,
}

impl fmt::Debug for PaperLanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PaperLanes").field("service", &self.service).finish_non_exhaustive()
    }
}

impl PaperLanes {
    pub fn new(lanes: usize, shards: u32, service: Service, beat: Duration, figures: Arc<Figures>) -> Self {
        Self { shards, service, beat, figures, free: Semaphore::new(lanes), stores: Mutex::default() }
    }

    fn store(&self, url: &str) -> Result<Store, StoreError> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(url) {
            return Ok(store.clone());
        }
        let store = Store::create(url)?;
        stores.insert(url.to_owned(), store.clone());
        Ok(store)
    }

    async fn work(&self, task: &Task, attempt: &Attempt) -> Result<Outcome, TaskFailure> {
        attempt.enter(Phase::Waiting);
        let _lane = tokio::select! {
            () = attempt.halt().cancelled() => return Err(halted()),
            lane = self.free.acquire() => lane,
        };
        attempt.enter(Phase::Running);
        match &task.kind {
            TaskKind::Index { recording } => self.index(task, recording).await.map_err(failed),
            TaskKind::Reduce { inputs, .. } => self.reduce(task, inputs).await.map_err(failed),
            TaskKind::Map { shard } => {
                let begin = Instant::now();
                let mut left = self.service.draw(task);
                if !left.is_zero() {
                    self.figures.begin(task.digest);
                }
                while !left.is_zero() {
                    let slice = left.min(self.beat);
                    tokio::select! {
                        () = attempt.halt().cancelled() => {
                            let spent = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
                            self.figures.halted.fetch_add(1, Ordering::Relaxed);
                            self.figures.halted_us.fetch_add(spent, Ordering::Relaxed);
                            return Err(halted());
                        }
                        () = tokio::time::sleep(slice) => attempt.beat(),
                    }
                    left -= slice;
                }
                self.map(task, shard, attempt.may_exist(), begin).await.map_err(failed)
            }
        }
    }

    async fn index(&self, task: &Task, recording: &RecordingRef) -> Result<Outcome, StoreError> {
        let frames = self.shards * FRAMES;
        let interval = |n: u32| Interval {
            frames: n * FRAMES..(n + 1) * FRAMES,
            packets: n * FRAMES..(n + 1) * FRAMES,
            bytes: u64::from(n)..u64::from(n) + 1,
        };
        let codec = Codec {
            name: "h264".into(),
            tag: 0,
            extradata: Vec::new(),
            width: 1280,
            height: 720,
            bits_per_coded_sample: 0,
        };
        let index = RecordingIndex {
            recording: recording.clone(),
            container: "paper".into(),
            access: Access::Sliced,
            codec,
            frame_rate: (FRAMES, 1),
            frame_us: Vec::new(),
            frames,
            packets: Packets::default(),
            intervals: (0..self.shards).map(interval).collect(),
            bytes_read: 0,
        };
        let bytes = index.to_bytes().expect("lengths fit");
        self.store(&task.store)?.put_once(&keys::store::index(&task.digest), bytes).await?;
        Ok(Outcome { frames: frames.into(), ..Outcome::default() })
    }

    async fn map(
        &self,
        task: &Task,
        shard: &ShardSpec,
        may_exist: bool,
        begin: Instant,
    ) -> Result<Outcome, StoreError> {
        let (store, key) = (self.store(&task.store)?, keys::store::shard_index(&task.digest));
        let outcome = Outcome { frames: FRAMES.into(), detections: 1, ..Outcome::default() };
        self.figures.attempts.fetch_add(1, Ordering::Relaxed);
        if may_exist && store.head(&key).await?.is_some() {
            return Ok(Outcome { found: true, ..outcome });
        }
        let result =
            ShardResult { shard: shard.into(), frames: FRAMES, detections: 1, gaps: Vec::new(), parts: Vec::new() };
        if store.put_once(&key, to_json(&result)).await? == Put::Created {
            self.figures.first_commits.fetch_add(1, Ordering::Relaxed);
            let spent = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.figures.useful_us.fetch_add(spent, Ordering::Relaxed);
            self.figures.last_us.fetch_max(self.figures.now_us(), Ordering::Relaxed);
        }
        Ok(outcome)
    }

    async fn reduce(&self, task: &Task, inputs: &str) -> Result<Outcome, StoreError> {
        let out = self.store(&task.out)?;
        let inputs: ReduceInputs = out.get_json(inputs).await?.expect("the coordinator froze it");
        let frames = inputs.recordings.iter().flat_map(|recording| &recording.shards);
        let frames = frames.map(|shard| u64::from(shard.frames.end - shard.frames.start)).sum();
        let summary = MatchSummary {
            id: inputs.id.clone(),
            recordings: Vec::new(),
            frames,
            detections: frames / u64::from(FRAMES),
            tracks: 0,
            players: 0,
            people: Vec::new(),
            gap_frames: 0,
            preview: None,
            parts: Vec::new(),
        };
        out.put_json_once(&keys::job::summary(&inputs.job, inputs.generation, &inputs.id), &summary).await?;
        Ok(Outcome { frames, detections: summary.detections, ..Outcome::default() })
    }
}

impl Executor for PaperLanes {
    fn fetches_ahead(&self) -> bool {
        !self.service.mean.is_zero()
    }

    fn run<'a>(&'a self, task: &'a Task, attempt: &'a Arc<Attempt>) -> BoxFuture<'a, Result<Outcome, TaskFailure>> {
        self.work(task, attempt).boxed()
    }
}

fn failed(error: StoreError) -> TaskFailure {
    let (disposition, cause) = (error.disposition(), fulltime_common::error::chain(&error));
    TaskFailure { disposition, exit: Exit::Store as u8, cause, hint: None, evidence: Evidence::default() }
}

fn halted() -> TaskFailure {
    let (disposition, cause) = (Disposition::PreEmpted, "told to end".to_owned());
    TaskFailure { disposition, exit: Exit::Interrupted as u8, cause, hint: None, evidence: Evidence::default() }
}
