//! Lanes in processes of their own. A [`Crew`] keeps one process a lane, hands it tasks, passes on its progress, and
//! when it dies says how and starts another; a task that must run alone gets a fresh process to itself.
//!
//! The worker holds the deliveries and a lane only computes and commits, so that nothing of a lane that dies is lost but
//! its work, and a lane needs no broker.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use fulltime_common::{
    crash,
    plan::EngineClass,
    process::end_with_parent,
    wire::{Outcome, Task},
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};

use crate::{
    attempt::Attempt,
    error::{TaskError, WorkerError},
    executor::{Executor, TaskFailure},
    options::Options,
};

mod death;
mod frames;
mod keeper;
mod serve;

pub use death::Death;
pub use serve::serve;

use keeper::{Ended, Lane};

/// How lane processes are started.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<std::ffi::OsString>,
}

impl Program {
    /// This program, which must be `fulltime-worker`.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn this(options: &Options) -> Result<Self, WorkerError> {
        let path = std::env::current_exe().map_err(WorkerError::Program)?;
        Ok(Self::at(&path, options))
    }

    pub fn at(path: &Path, options: &Options) -> Self {
        let (name, cache) = (options.worker_name(), options.cache_folder());
        let mut arguments: Vec<_> =
            ["--lane-process", "--engine", options.engine.name(), "--name", &name, "--cache"].map(Into::into).into();
        arguments.push(cache.into());
        arguments.extend(["--onnx".into(), (&options.onnx).into(), "--torch".into(), (&options.torch).into()]);
        if let Some(sim) = &options.sim {
            arguments.extend(["--sim".into(), sim.into()]);
        }
        if options.no_reuse {
            arguments.push("--no-reuse".into());
        }
        Self { path: path.to_owned(), arguments }
    }

    /// `again`: whether it takes the place of one that died.
    fn command(&self, stdin: Stdio, again: bool) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(&self.path);
        // Ctrl-C on a terminal is for the worker, which then gives its lanes time to finish.
        command.args(&self.arguments).stdin(stdin).stdout(Stdio::null()).process_group(0);
        if again {
            crash::disarm(&mut command);
        }
        end_with_parent(&mut command);
        command
    }
}

/// See the module.
#[derive(Debug)]
pub struct Crew {
    program: Program,
    lanes: Vec<Lane>,
    /// Tasks given to each lane and not ended yet.
    loads: Mutex<Vec<usize>>,
}

/// A place on a lane, given back when dropped.
struct Place<'a> {
    crew: &'a Crew,
    lane: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.crew.loads()[self.lane] -= 1;
    }
}

impl Crew {
    /// Starts the processes and waits for the first that is ready.
    ///
    /// # Errors
    /// What that process could not begin for.
    pub async fn start(program: Program, lanes: usize) -> Result<(Self, EngineClass), WorkerError> {
        let lanes: Vec<_> = (0..lanes).map(|_| Lane::start(program.clone(), false)).collect();
        let mut starting: FuturesUnordered<_> = lanes.iter().map(Lane::ready).collect();
        let Some(first) = starting.next().await else {
            return Err(WorkerError::Program(std::io::ErrorKind::InvalidInput.into()));
        };
        let class = first?;
        drop(starting);
        let loads = Mutex::new(vec![0; lanes.len()]);
        Ok((Self { program, lanes, loads }, class))
    }

    fn loads(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane with the least to do.
    fn place(&self) -> Place<'_> {
        let mut loads = self.loads();
        let lane = (0..loads.len()).min_by_key(|&lane| loads[lane]).unwrap_or_default();
        loads[lane] += 1;
        Place { crew: self, lane }
    }

    async fn run(&self, task: &Task, attempt: &Arc<Attempt>) -> Result<Outcome, TaskFailure> {
        loop {
            let ended = if task.alone {
                Lane::start(self.program.clone(), true).run(task, attempt).await
            } else {
                let place = self.place();
                self.lanes[place.lane].run(task, attempt).await
            };
            match ended {
                Ended::Here(result) => return result,
                Ended::Lost if attempt.is_halted() => return Err(TaskError::PreEmpted.into()),
                // The process died of another task, or before it had begun with this one.
                Ended::Lost => {}
            }
        }
    }
}

impl Executor for Crew {
    fn run<'a>(&'a self, task: &'a Task, attempt: &'a Arc<Attempt>) -> BoxFuture<'a, Result<Outcome, TaskFailure>> {
        self.run(task, attempt).boxed()
    }

    fn fetches_ahead(&self) -> bool {
        true
    }
}
