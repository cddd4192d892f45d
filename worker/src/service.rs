//! The worker as a service: what its lanes share, its heartbeat, the controls it obeys, and its end.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fulltime_common::{
    Digest,
    error::chain,
    plan::EngineClass,
    process,
    queue::{Bus, JetStream},
    wire::{Control, Hello, LaneState, Task},
};
use fulltime_vision::{EngineKind, SimOptions};
use futures::StreamExt as _;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    cache::Cache,
    error::{TaskError, WorkerError},
    fetch, lane,
    options::{EngineChoice, Options, host},
    progress::{Pulse, Watchdog},
};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Longest wait, after the word to stop, for what runs to be handed back.
const DRAIN: Duration = Duration::from_secs(10);
/// Unwanted tasks remembered, for those that are still on their way.
const STOPPED: usize = 16_384;

/// A worker that is ready to pull.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    lanes: Vec<Arc<LaneBoard>>,
    stall: Duration,
}

/// What every part of a worker sees.
#[derive(Debug)]
pub struct Shared {
    pub bus: Arc<dyn Bus>,
    pub name: String,
    pub engine: Engine,
    pub cache: Cache,
    pub lease: Duration,
    /// Beats with every lane.
    pub pulse: Pulse,
    pub watchdog: Watchdog,
    /// No more pulling; what runs is handed back.
    pub stop: CancellationToken,
    /// Why this worker must not go on, if so.
    pub unfit: Mutex<Option<WorkerError>>,
    /// Work that nobody wants any more, up to which release.
    stopped: watch::Sender<BTreeMap<Digest, u32>>,
}

/// What runs the models here, and the class of its results.
#[derive(Debug, Clone)]
pub struct Engine {
    pub kind: EngineKind,
    pub class: EngineClass,
}

impl Engine {
    fn find(options: &Options) -> Result<Self, WorkerError> {
        let kind = match options.engine {
            EngineChoice::Auto | EngineChoice::Onnx => {
                EngineKind::Onnx { library: process::onnxruntime().ok_or(WorkerError::NoRuntime)? }
            }
            EngineChoice::Sim => {
                EngineKind::Sim(SimOptions { per_item: options.sim_item.into(), ..SimOptions::default() })
            }
        };
        // Decoders may differ in the last bit from release to release, so theirs is part of the class.
        let class = EngineClass(format!("{}-{}", kind.engine_class()?, fulltime_media::decoder_class()));
        Ok(Self { kind, class })
    }

    /// The sim needs none.
    pub fn needs_model(&self) -> bool {
        match self.kind {
            EngineKind::Onnx { .. } => true,
            EngineKind::Sim(_) => false,
        }
    }
}

/// What a lane shows in the heartbeat.
#[derive(Debug, Default)]
pub struct LaneBoard {
    current: Mutex<Option<(Digest, String)>>,
    frames: AtomicU64,
    total: AtomicU64,
}

impl LaneBoard {
    pub fn begin(&self, task: &Task) {
        self.frames.store(0, Ordering::Relaxed);
        *self.current() = Some((task.digest, task.job.clone()));
    }

    pub fn end(&self) {
        *self.current() = None;
    }

    pub fn add_frames(&self, frames: u64) {
        self.frames.fetch_add(frames, Ordering::Relaxed);
        self.total.fetch_add(frames, Ordering::Relaxed);
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<(Digest, String)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> LaneState {
        let (task, job) = self.current().clone().unzip();
        let frames = if task.is_some() { self.frames.load(Ordering::Relaxed) } else { 0 };
        LaneState { task, job, frames, frames_total: self.total.load(Ordering::Relaxed) }
    }
}

impl Shared {
    /// Comes back when this task must end, with the reason.
    pub async fn told_to_end(&self, task: &Task) -> TaskError {
        let mut stopped = self.stopped.subscribe();
        let unwanted = |work: &BTreeMap<Digest, u32>| work.get(&task.digest).is_some_and(|last| task.release <= *last);
        tokio::select! {
            biased;
            _ = stopped.wait_for(unwanted) => TaskError::Cancelled,
            () = self.stop.cancelled() => TaskError::PreEmpted,
        }
    }

    /// Does `work`, or drops it half-way when it must end.
    pub async fn unless_told_to_end<T>(
        &self,
        task: &Task,
        work: impl Future<Output = Result<T, TaskError>>,
    ) -> Result<T, TaskError> {
        tokio::select! {
            biased;
            reason = self.told_to_end(task) => Err(reason),
            result = work => result,
        }
    }

    fn obey(&self, control: Control) {
        match control {
            Control::Stop { work, .. } => {
                info!(tasks = work.len(), "told to stop work");
                self.stopped.send_modify(|stopped| {
                    for (digest, release) in work {
                        let last = stopped.entry(digest).or_default();
                        *last = release.max(*last);
                    }
                    while stopped.len() > STOPPED {
                        stopped.pop_first();
                    }
                });
            }
            Control::Lead { .. } => {}
        }
    }
}

impl Worker {
    /// Connects to the bus and finds the engine.
    ///
    /// # Errors
    /// No broker, no runtime, or one that cannot be used.
    pub async fn start(options: &Options) -> Result<Self, WorkerError> {
        // Before the broker: a missing library is the likelier mistake, and no matter of time.
        let engine = Engine::find(options)?;
        let bus = JetStream::connect_with_lease(&options.nats, options.lease()).await?;
        Ok(Self::with(Arc::new(bus), engine, options))
    }

    /// A worker on a bus of one's own.
    ///
    /// # Errors
    /// No runtime, or one that cannot be used.
    pub fn on(bus: Arc<dyn Bus>, options: &Options) -> Result<Self, WorkerError> {
        Ok(Self::with(bus, Engine::find(options)?, options))
    }

    fn with(bus: Arc<dyn Bus>, engine: Engine, options: &Options) -> Self {
        let folder: PathBuf = options.cache_folder();
        let shared = Shared {
            bus,
            name: options.worker_name(),
            engine,
            cache: Cache::new(folder),
            lease: options.lease(),
            pulse: Pulse::default(),
            watchdog: Watchdog::default(),
            stop: CancellationToken::new(),
            unfit: Mutex::default(),
            stopped: watch::Sender::default(),
        };
        let lanes = (0..options.lane_count()).map(|_| Arc::default()).collect();
        Self { shared: Arc::new(shared), lanes, stall: options.stall.into() }
    }

    /// The class of this worker's results.
    #[must_use]
    pub fn engine(&self) -> &EngineClass {
        &self.shared.engine.class
    }

    /// Works until `shutdown`, then hands back what is running and returns.
    ///
    /// # Errors
    /// The bus cannot be used, or the worker found itself unfit.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), WorkerError> {
        let Self { shared, lanes, stall } = self;
        info!(worker = shared.name, engine = %shared.engine.class, lanes = lanes.len(), "worker started");
        let mut controls = shared.bus.controls().await?;
        shared.watchdog.start(stall);
        let (asks, asked) = mpsc::channel(lanes.len());
        let asked = Arc::new(tokio::sync::Mutex::new(asked));
        let mut working = JoinSet::new();
        for board in &lanes {
            working.spawn(fetch::run(Arc::clone(&shared), Arc::clone(&asked)));
            working.spawn(lane::run(Arc::clone(&shared), Arc::clone(board), asks.clone()));
        }
        drop((asks, asked));

        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut controls_open = true;
        let overdue = async {
            shared.stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::pin!(overdue);
        loop {
            tokio::select! {
                () = shutdown.cancelled(), if !shared.stop.is_cancelled() => {
                    info!("stopping: what runs is handed back");
                    shared.stop.cancel();
                }
                control = controls.next(), if controls_open => match control {
                    Some(control) => shared.obey(control),
                    None => {
                        warn!("the bus sends no more controls");
                        controls_open = false;
                    }
                },
                _ = heartbeat.tick() => say_hello(&shared, &lanes).await,
                done = working.join_next() => match done {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        warn!(error = chain(&error), "a part of the worker ended");
                        shared.stop.cancel();
                    }
                    None => break,
                },
                () = &mut overdue => {
                    warn!("not everything could be handed back; its leases will run out");
                    break;
                }
            }
        }
        say_hello(&shared, &lanes).await;
        let unfit = shared.unfit.lock().unwrap_or_else(PoisonError::into_inner).take();
        unfit.map_or(Ok(()), Err)
    }
}

async fn say_hello(shared: &Shared, lanes: &[Arc<LaneBoard>]) {
    let hello = Hello {
        worker: shared.name.clone(),
        host: host(),
        pid: std::process::id(),
        engine: shared.engine.class.clone(),
        lanes: lanes.iter().map(|lane| lane.state()).collect(),
        draining: shared.stop.is_cancelled(),
    };
    if let Err(error) = shared.bus.hello(&hello).await {
        warn!(error = chain(&error), "could not send a heartbeat");
    }
}
