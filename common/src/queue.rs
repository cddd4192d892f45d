//! The bus: a work queue of tasks with leases, a kept stream of events, and broadcasts. JetStream in production, memory
//! in tests; both promise the same (see `tests/tests/bus/`): a task is delivered to one lane at a time, a
//! delivery whose lease runs out is delivered again, only a finished delivery is gone.

use std::{fmt, time::Duration};

use futures::{FutureExt as _, TryFutureExt as _, future::BoxFuture, stream::BoxStream};
use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    error::{Disposition, Exit, Explain},
    wire::{Control, Event, Hello, Pool, Reply, Request, Task, WireError},
};

mod faulty;
mod jetstream;
mod memory;

pub use faulty::{Fault, FaultyBus, Operation};
pub use jetstream::JetStream;
pub use memory::MemoryBus;

/// How long a delivery stays with a lane that shows no progress.
pub const LEASE: Duration = Duration::from_secs(10);

/// Trouble with the broker.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("connect to NATS at `{url}`")]
    Connect {
        url: String,
        #[source]
        source: async_nats::ConnectError,
    },
    #[error("{action} on the bus")]
    Broker {
        action: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("no coordinator answers on the bus")]
    NoCoordinator,
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl QueueError {
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Connect { .. } | Self::Broker { .. } | Self::NoCoordinator | Self::Wire(_) => Disposition::Transient,
        }
    }
}

impl Explain for QueueError {
    fn exit(&self) -> Exit {
        Exit::Broker
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Connect { .. } => "start nats-server with -js, or give its address with --nats".into(),
            Self::Broker { .. } => "look at the nats-server's log; is JetStream on and its disk writable?".into(),
            Self::NoCoordinator => "start fulltime-coordinator on this bus".into(),
            Self::Wire(_) => "run the same fulltime version everywhere".into(),
        })
    }
}

/// The bus as coordinator, workers and CLI see it.
pub trait Bus: fmt::Debug + Send + Sync {
    /// Puts tasks on the queue and waits until all are kept. Releasing the same digest and release number again within
    /// two minutes is harmless.
    fn release<'a>(&'a self, tasks: &'a [Task]) -> BoxFuture<'a, Result<(), QueueError>>;

    /// The next tasks of these pools, at most `most` and none after `wait`. Higher bands go first; within a band,
    /// earlier pools.
    fn pull<'a>(
        &'a self,
        pools: &'a [Pool],
        most: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>>;

    /// [`Bus::pull`] of one.
    fn pull_one<'a>(
        &'a self,
        pools: &'a [Pool],
        wait: Duration,
    ) -> BoxFuture<'a, Result<Option<Delivery>, QueueError>> {
        self.pull(pools, 1, wait).map_ok(|mut pulled| pulled.pop()).boxed()
    }

    /// The lease of a delivery by its ticket: for the supervisor of the process that held it and is gone.
    fn adopt(&self, ticket: &Ticket) -> Box<dyn Lease>;

    /// Removes what is still queued of a job (running deliveries end by [`Control::Stop`]).
    fn withdraw<'a>(&'a self, job: &'a str) -> BoxFuture<'a, Result<(), QueueError>>;

    /// Removes what is still queued of these pieces of a job's work, whatever their release: they are decided.
    fn discard<'a>(&'a self, job: &'a str, work: &'a [Digest]) -> BoxFuture<'a, Result<(), QueueError>>;

    /// Publishes an event and waits until it is kept.
    fn emit<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), QueueError>>;

    /// Events from now on, without a gap. Ends when that cannot be held (the broker has lost what it kept): whoever
    /// reads opens it again and looks into the store for what it has missed.
    fn events(&self) -> BoxFuture<'_, Result<BoxStream<'static, Event>, QueueError>>;

    /// How many remarkable things the broker has recorded: deliveries handed back, terminated, or made too often.
    fn advisories(&self) -> BoxFuture<'_, Result<u64, QueueError>>;

    /// The leader's register, `None` where nobody has claimed it (or the broker has lost it).
    fn leader(&self) -> BoxFuture<'_, Result<Option<Register>, QueueError>>;
    /// Writes the register if it still stands at `expected` (`None`: where nothing is). The new revision, or `None` when
    /// it stands elsewhere. After an error, and where an attempt had to be repeated, the value may stand there
    /// nevertheless: read the register.
    fn claim<'a>(&'a self, expected: Option<u64>, value: &'a [u8]) -> BoxFuture<'a, Result<Option<u64>, QueueError>>;

    /// Whether the broker is there, as far as anybody knows.
    fn is_connected(&self) -> bool {
        true
    }

    fn hello<'a>(&'a self, hello: &'a Hello) -> BoxFuture<'a, Result<(), QueueError>>;
    fn hellos(&self) -> BoxFuture<'_, Result<BoxStream<'static, Hello>, QueueError>>;

    fn control<'a>(&'a self, control: &'a Control) -> BoxFuture<'a, Result<(), QueueError>>;
    fn controls(&self) -> BoxFuture<'_, Result<BoxStream<'static, Control>, QueueError>>;

    /// Asks the coordinator.
    fn request<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, QueueError>>;
    /// Requests to answer: the coordinator's side of [`Bus::request`].
    fn requests(&self) -> BoxFuture<'_, Result<BoxStream<'static, Asked>, QueueError>>;
}

/// A request and the way to answer it.
pub struct Asked {
    pub request: Request,
    pub answer: Box<dyn FnOnce(Reply) -> BoxFuture<'static, Result<(), QueueError>> + Send>,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("request", &self.request).finish_non_exhaustive()
    }
}

/// The leader's register: who leads, in the leader's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// Grows with every claim, and never comes twice, even where the broker lost its disk in between.
    pub revision: u64,
    pub value: Vec<u8>,
}

/// Names a delivery across processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(pub String);

/// What a queue implementation gives for one delivery.
pub trait Lease: fmt::Debug + Send + Sync {
    fn renew(&self) -> BoxFuture<'_, Result<(), QueueError>>;
    /// Removes the task and waits until the broker has confirmed it.
    fn finish(&self) -> BoxFuture<'_, Result<(), QueueError>>;
    fn give_back(&self, after: Duration) -> BoxFuture<'_, Result<(), QueueError>>;
    fn ticket(&self) -> Ticket;
}

/// A task in the hands of one lane. A delivery that is dropped without [`Delivery::finish`] goes back to the queue when
/// its lease runs out, at the latest.
#[derive(Debug)]
pub struct Delivery {
    pub task: Task,
    /// How often this release has been delivered, from 1.
    pub delivered: u64,
    lease: Box<dyn Lease>,
}

impl Delivery {
    #[must_use]
    pub fn new(task: Task, delivered: u64, lease: Box<dyn Lease>) -> Self {
        Self { task, delivered, lease }
    }

    #[must_use]
    pub fn ticket(&self) -> Ticket {
        self.lease.ticket()
    }

    /// Renews the lease. Call it when work has been finished (a batch, a stage), never from a bare timer.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub async fn progress(&self) -> Result<(), QueueError> {
        self.lease.renew().await
    }

    /// The task is done (or over): removes it, confirmed by the broker.
    ///
    /// # Errors
    /// The broker cannot be reached; the task may come again, which is harmless.
    pub async fn finish(self) -> Result<(), QueueError> {
        self.lease.finish().await
    }

    /// Hands the task back, to be delivered again after `after`.
    ///
    /// # Errors
    /// The broker cannot be reached; the lease will run out by itself.
    pub async fn give_back(self, after: Duration) -> Result<(), QueueError> {
        self.lease.give_back(after).await
    }
}
