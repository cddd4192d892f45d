//! The worker as a service: what runs its tasks, its heartbeat, the controls it obeys, and its end.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fulltime_common::{
    error::chain,
    plan::EngineClass,
    queue::{Bus, JetStream, LEASE},
    wire::Hello,
};
use fulltime_observe::{
    GpuProbe, NoGpus,
    health::Health,
    http::{NoService, Server, Serving},
    metrics::{Board, WORKER},
};
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    error::WorkerError,
    executor::{Executor, Fitness},
    gpus::Gpus,
    intake::{self, Room},
    lanes::{Engine, LocalLanes},
    layout::layout,
    options::{Options, STALL, host},
    orders::Orders,
    process::{Crew, Program},
    progress::Pace,
    recorder::Recorder,
    seats::Seats,
    vitals::{self, Vitals},
};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Longest wait, after the time of grace, for what runs to be handed back.
const DRAIN: Duration = Duration::from_secs(10);
/// A main loop that stands still for longer is taken for dead.
const STILL: Duration = Duration::from_secs(30);
/// Longest time for the last of the performance record.
const CLOSING: Duration = Duration::from_secs(2);

/// A worker that is ready to pull.
#[derive(Debug)]
pub struct Worker {
    bus: Arc<dyn Bus>,
    executor: Arc<dyn Executor>,
    class: EngineClass,
    name: String,
    lanes: usize,
    pace: Pace,
    grace: Duration,
    gpus: Arc<dyn GpuProbe>,
    board: Board,
    health: Health,
    serving: Option<Serving>,
}

/// What every part of a running worker sees.
#[derive(Debug)]
pub struct Shared {
    pub bus: Arc<dyn Bus>,
    pub executor: Arc<dyn Executor>,
    pub class: EngineClass,
    pub name: String,
    pub pace: Pace,
    pub seats: Arc<Seats>,
    pub orders: watch::Sender<Orders>,
    /// No more pulling; what does not run yet goes back.
    pub drain: CancellationToken,
    /// What runs goes back, too.
    pub hurry: CancellationToken,
    /// Why this worker must not go on, if so.
    pub unfit: Mutex<Option<WorkerError>>,
    pub gpus: Arc<dyn GpuProbe>,
    pub board: Board,
    pub recorder: Mutex<Recorder>,
    /// Attempts that failed and come again, since the last heartbeat.
    pub retries: AtomicU64,
}

impl Worker {
    /// Starts a process for each lane and connects to the bus.
    ///
    /// # Errors
    /// No runtime, or one that cannot be used; no broker.
    pub async fn start(options: &Options) -> Result<Self, WorkerError> {
        // What was typed wrongly is told at once.
        let (board, health) = (Board::new(WORKER), Health::new(STILL));
        let server = Server::bind(options.listen(), options.api_token_file.as_ref()).await?;
        // Loading takes a while, and probes want to know that somebody is there.
        let answers = |server: Server| server.serve(board.clone(), health.clone(), Arc::new(NoService));
        let serving = server.map(answers).transpose().map_err(WorkerError::Serve)?;
        // Before the broker: a missing library is the likelier mistake, and no matter of time.
        let plan = layout(options)?;
        let lanes = plan.lanes.len();
        let (crew, class) = Crew::start(Program::this(options)?, plan.lanes).await?;
        let bus = JetStream::connect_with_lease(&options.nats, options.lease()).await?;
        let worker = Self::with(Arc::new(bus), Arc::new(crew), class, lanes, options);
        let worker = Self { board, health, serving, ..worker };
        Ok(match Gpus::open() {
            Some(gpus) => worker.with_gpus(Arc::new(gpus)),
            None => worker,
        })
    }

    /// A worker on a bus of one's own, its lanes in processes of `program` (`fulltime-worker`).
    ///
    /// # Errors
    /// No runtime, or one that cannot be used.
    pub async fn supervising(bus: Arc<dyn Bus>, options: &Options, program: &Path) -> Result<Self, WorkerError> {
        let plan = layout(options)?;
        let lanes = plan.lanes.len();
        let (crew, class) = Crew::start(Program::at(program, options), plan.lanes).await?;
        Ok(Self::with(bus, Arc::new(crew), class, lanes, options))
    }

    /// A worker on a bus of one's own, its lanes in this process: a task that blocks or crashes takes the process along,
    /// and no failure is evidence against its input.
    ///
    /// # Errors
    /// No runtime, or one that cannot be used.
    pub fn on(bus: Arc<dyn Bus>, options: &Options) -> Result<Self, WorkerError> {
        let engine = Engine::find(options)?;
        let class = engine.class.clone();
        let lanes = LocalLanes::new(engine, options, options.lane_count())?;
        Ok(Self::with(bus, Arc::new(lanes), class, options.lane_count(), options))
    }

    /// A worker whose tasks are run by something else altogether, for benches and tests. Lanes cost next to nothing.
    #[must_use]
    pub fn with_executor(bus: Arc<dyn Bus>, class: EngineClass, lanes: usize, executor: Arc<dyn Executor>) -> Self {
        let (name, pace) = (format!("{}-{}", host(), std::process::id()), Pace { lease: LEASE, stall: STALL });
        let lanes = lanes.max(1);
        Self::of(bus, executor, class, name, lanes, pace, Duration::ZERO)
    }

    fn with(
        bus: Arc<dyn Bus>,
        executor: Arc<dyn Executor>,
        class: EngineClass,
        lanes: usize,
        options: &Options,
    ) -> Self {
        let pace = Pace { lease: options.lease(), stall: options.stall.into() };
        let (name, grace) = (options.worker_name(), options.grace.into());
        Self::of(bus, executor, class, name, lanes, pace, grace)
    }

    fn of(
        bus: Arc<dyn Bus>,
        executor: Arc<dyn Executor>,
        class: EngineClass,
        name: String,
        lanes: usize,
        pace: Pace,
        grace: Duration,
    ) -> Self {
        let (board, health) = (Board::new(WORKER), Health::new(STILL));
        Self { bus, executor, class, name, lanes, pace, grace, gpus: Arc::new(NoGpus), board, health, serving: None }
    }

    /// Another name in events and status.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Another lease, the same as that of the bus.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.pace.lease = lease;
        self
    }

    /// Another time of grace for what runs when the worker is told to go.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// What reads the machine's GPUs, for metrics and heartbeats.
    #[must_use]
    pub fn with_gpus(mut self, gpus: Arc<dyn GpuProbe>) -> Self {
        self.gpus = gpus;
        self
    }

    /// The class of this worker's results.
    #[must_use]
    pub fn engine(&self) -> &EngineClass {
        &self.class
    }

    /// Works until `shutdown`, then hands back what waits and, after the time of grace, what still runs.
    ///
    /// # Errors
    /// The bus cannot be used, or the worker found itself unfit.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), WorkerError> {
        let Self { bus, executor, class, name, lanes, pace, grace, gpus, board, health, serving } = self;
        let _serving = serving;
        info!(worker = name, engine = %class, lanes, "worker started");
        let room = Arc::new(Room::new(lanes, executor.fetches_ahead()));
        let shared = Arc::new(Shared {
            bus,
            executor,
            class,
            recorder: Mutex::new(Recorder::new(&name)),
            name,
            pace,
            seats: Arc::new(Seats::new(lanes)),
            orders: watch::Sender::default(),
            drain: CancellationToken::new(),
            hurry: CancellationToken::new(),
            unfit: Mutex::default(),
            gpus,
            board,
            retries: AtomicU64::new(0),
        });
        let mut vitals = Vitals::new();
        let mut controls = shared.bus.controls().await?;
        if let Some(fitness) = shared.executor.fitness() {
            tokio::spawn(follow(Arc::clone(&shared), Arc::clone(&room), fitness));
        }
        let intake = tokio::spawn(intake::run(Arc::clone(&shared), Arc::clone(&room)));

        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut controls_open = true;
        let ended = async {
            if let Err(error) = intake.await {
                warn!(error = chain(&error), "the intake ended");
                shared.drain.cancel();
            }
            room.empty().await;
        };
        let grace_over = async {
            shared.drain.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        let overdue = async {
            shared.hurry.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::pin!(ended, grace_over, overdue);
        loop {
            tokio::select! {
                () = shutdown.cancelled(), if !shared.drain.is_cancelled() => {
                    info!("stopping: what waits is handed back, what runs has {grace:?}");
                    shared.drain.cancel();
                }
                () = &mut grace_over, if !shared.hurry.is_cancelled() => shared.hurry.cancel(),
                control = controls.next(), if controls_open => match control {
                    Some(control) => {
                        shared.orders.send_if_modified(|orders| orders.obey(control));
                    }
                    None => {
                        warn!("the bus sends no more controls");
                        controls_open = false;
                    }
                },
                _ = heartbeat.tick() => {
                    shared.say_hello(&mut vitals).await;
                    health.beat(vitals::lack(&shared));
                }
                () = &mut ended => break,
                () = &mut overdue => {
                    warn!("not everything could be handed back; its leases will run out");
                    break;
                }
            }
        }
        shared.say_hello(&mut vitals).await;
        if tokio::time::timeout(CLOSING, vitals.close(&shared)).await.is_err() {
            warn!("the performance record could not be put in time");
        }
        let unfit = shared.unfit.lock().unwrap_or_else(PoisonError::into_inner).take();
        unfit.map_or(Ok(()), Err)
    }
}

/// Room and seats follow the lanes that work. Without any, and without hope for one, the worker is not fit.
async fn follow(shared: Arc<Shared>, room: Arc<Room>, fitness: watch::Receiver<Fitness>) {
    let (mut seen, over) = (fitness.clone(), shared.drain.clone());
    let seats = async {
        loop {
            let (working, unfit) = {
                let fitness = seen.borrow_and_update();
                (fitness.working, fitness.unfit.clone())
            };
            shared.seats.set_lanes(working);
            if let Some(why) = unfit {
                let mut slot = shared.unfit.lock().unwrap_or_else(PoisonError::into_inner);
                slot.get_or_insert(WorkerError::NoLaneLeft { why });
                shared.drain.cancel();
                shared.hurry.cancel();
            }
            if seen.changed().await.is_err() {
                return;
            }
        }
    };
    let both = async { tokio::join!(seats, room.follow(fitness, &over)) };
    tokio::select! {
        // Nothing is pulled any more; and whoever keeps the executor keeps its processes.
        () = over.cancelled() => {}
        _ = both => {}
    }
}

impl Shared {
    /// Attempts that failed since the last time, and come again.
    pub fn take_retries(&self) -> u64 {
        self.retries.swap(0, Ordering::Relaxed)
    }

    async fn say_hello(&self, vitals: &mut Vitals) {
        vitals::show_lanes(self);
        let hello = Hello {
            worker: self.name.clone(),
            host: host(),
            pid: std::process::id(),
            engine: self.class.clone(),
            lanes: self.seats.states(),
            waiting: self.seats.waiting(),
            draining: self.drain.is_cancelled(),
            places: self.executor.fitness().map(|fitness| fitness.borrow().places.clone()).unwrap_or_default(),
            sample: vitals.beat(self),
        };
        if let Err(error) = self.bus.hello(&hello).await {
            warn!(error = chain(&error), "could not send a heartbeat");
        }
    }
}
