//! What runs tasks. The worker pulls, renews, speaks and settles; an [`Executor`] computes and commits. There are three:
//! lane processes (`process`), lanes in this process (`lanes`), and whatever a bench or a test puts in their place.

use std::{fmt, sync::Arc};

use fulltime_common::{
    Disposition, Exit,
    error::Failure,
    wire::{EventKind, Evidence, LanePlace, Outcome, Task},
};
use fulltime_observe::{CacheTally, LaneSample};
use futures::future::BoxFuture;
use tokio::sync::watch;
use wincode::{SchemaRead, SchemaWrite};

use crate::{attempt::Attempt, error::TaskError};

/// Runs tasks to committed results.
pub trait Executor: fmt::Debug + Send + Sync {
    /// Runs one task. Beats as it goes, ends early (as [`Disposition::PreEmpted`]) when the attempt is halted. Dropping
    /// the future must end the work for good, or at least keep it from ever being committed.
    fn run<'a>(&'a self, task: &'a Task, attempt: &'a Arc<Attempt>) -> BoxFuture<'a, Result<Outcome, TaskFailure>>;

    /// Whether it wants a task more for every lane, to fetch ahead; it then says itself when a task gets its lane (by
    /// [`crate::Phase::Running`]). Otherwise every task that is run has a lane.
    fn fetches_ahead(&self) -> bool {
        false
    }

    /// How its lanes are, if that can change: the worker pulls for those that work.
    fn fitness(&self) -> Option<watch::Receiver<Fitness>> {
        None
    }

    /// What its lanes did since the last time; nothing where nobody looks.
    fn samples(&self) -> Vec<LaneSample> {
        Vec::new()
    }

    /// Lookups of its caches since the last time.
    fn lookups(&self) -> Vec<CacheTally> {
        Vec::new()
    }

    /// Lanes that could take a task, `None` where all can.
    fn lanes_up(&self) -> Option<usize> {
        None
    }
}

/// What an executor's lanes can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fitness {
    /// Lanes that take tasks.
    pub working: usize,
    /// One a lane.
    pub places: Vec<LanePlace>,
    /// Why there will be no lane again.
    pub unfit: Option<String>,
}

/// An attempt without a result, as it crosses processes and the bus.
#[derive(Debug, Clone, PartialEq, thiserror::Error, SchemaRead, SchemaWrite)]
#[error("{cause}")]
pub struct TaskFailure {
    pub disposition: Disposition,
    /// An [`Exit`] code.
    pub exit: u8,
    /// One line.
    pub cause: String,
    /// What the operator can do.
    pub hint: Option<String>,
    pub evidence: Evidence,
}

impl From<TaskError> for TaskFailure {
    fn from(error: TaskError) -> Self {
        let disposition = error.disposition();
        Self::new(disposition, error)
    }
}

impl TaskFailure {
    pub fn new(disposition: Disposition, failure: impl Into<Failure>) -> Self {
        let Failure { exit, cause, hint } = failure.into();
        Self { disposition, exit: exit as u8, cause, hint, evidence: Evidence::default() }
    }

    /// For the terminal.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let exit = Exit::from_code(self.exit).unwrap_or(Exit::Internal);
        Failure { exit, cause: self.cause.clone(), hint: self.hint.clone() }
    }

    pub(crate) fn into_event(self) -> EventKind {
        let Self { disposition, exit, cause, hint, evidence } = self;
        EventKind::Failed { disposition, cause, exit, hint, evidence }
    }
}
