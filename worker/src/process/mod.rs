//! Lanes in processes of their own. A [`Crew`] keeps one process a lane, hands it tasks, passes on its progress, and
//! when it dies says how and starts another; a task that must run alone gets a fresh process to itself.
//!
//! The worker holds the deliveries and a lane only computes and commits, so that nothing of a lane that dies is lost but
//! its work, and a lane needs no broker.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use fulltime_common::{
    crash,
    plan::EngineClass,
    process::end_with_parent,
    wire::{Outcome, Task},
};
use fulltime_observe::LaneSample;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::sync::{mpsc, watch};

use crate::{
    attempt::Attempt,
    error::{TaskError, WorkerError},
    executor::{Executor, Fitness, TaskFailure},
    layout,
    options::Options,
};

mod death;
mod frames;
mod keeper;
mod serve;
mod ward;

pub use death::Death;
pub use serve::serve;

use keeper::{Ear, Ended, Lane, Tray};
use ward::Ward;

/// Variables that no lane needs.
const OURS_ALONE: [&str; 2] = ["FULLTIME_NATS", "FULLTIME_API_TOKEN_FILE"];

/// How lane processes are started.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<std::ffi::OsString>,
    environment: Vec<(&'static str, String)>,
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
        arguments.extend(["--log-format".into(), options.log_format.to_string().into()]);
        arguments.extend(["--onnx".into(), (&options.onnx).into(), "--torch".into(), (&options.torch).into()]);
        if let Some(sim) = &options.sim {
            arguments.extend(["--sim".into(), sim.into()]);
        }
        if options.no_reuse {
            arguments.push("--no-reuse".into());
        }
        Self { path: path.to_owned(), arguments, environment: Vec::new() }
    }

    /// For the process of this lane.
    fn on(&self, lane: &fulltime_topology::Lane) -> Self {
        let mut program = self.clone();
        if let Some(place) = lane.place() {
            program.arguments.extend(["--place".into(), place.to_string().into()]);
        }
        program.environment = layout::environment(lane);
        program
    }

    /// `again`: whether it takes the place of one that died.
    fn command(&self, stdin: Stdio, again: bool) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(&self.path);
        // Ctrl-C on a terminal is for the worker, which then gives its lanes time to finish.
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.args(&self.arguments).envs(environment).stdin(stdin).stdout(Stdio::null()).process_group(0);
        // Lanes meet hostile files: what is the worker's alone (the broker's password may be in its URL) stays with it.
        for name in OURS_ALONE {
            command.env_remove(name);
        }
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
    /// By lane.
    programs: Vec<Program>,
    lanes: Arc<[Lane]>,
    ward: Arc<Ward>,
    /// Tasks given to each lane and not ended yet.
    loads: Mutex<Vec<usize>>,
    tray: Arc<Tray>,
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
    pub async fn start(
        program: Program,
        berths: Vec<fulltime_topology::Lane>,
    ) -> Result<(Self, EngineClass), WorkerError> {
        let programs: Vec<_> = berths.iter().map(|berth| program.on(berth)).collect();
        let ((canaries, shown), (places, mut placed)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let ear = |lane| Some(Ear { lane, canaries: canaries.clone(), places: places.clone() });
        let tray = Arc::new(Tray::default());
        let start = |(lane, program): (usize, &Program)| {
            Lane::start(program.clone(), ear(lane), lane as u32, Arc::clone(&tray))
        };
        let lanes = programs.iter().enumerate().map(start);
        let lanes: Arc<[Lane]> = lanes.collect();
        let ward = Ward::open(berths, &lanes, shown);
        let hearing = Arc::downgrade(&ward);
        tokio::spawn(async move {
            while let Some((lane, pinned, words)) = placed.recv().await {
                let Some(ward) = hearing.upgrade() else { return };
                ward.pinned(lane, pinned, words);
            }
        });
        let mut starting: FuturesUnordered<_> = lanes.iter().map(Lane::ready).collect();
        let Some(first) = starting.next().await else {
            return Err(WorkerError::Program(std::io::ErrorKind::InvalidInput.into()));
        };
        let class = first?;
        drop(starting);
        let loads = Mutex::new(vec![0; lanes.len()]);
        Ok((Self { programs, lanes, ward, loads, tray }, class))
    }

    fn loads(&self) -> std::sync::MutexGuard<'_, Vec<usize>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane with the least to do, of those that are well.
    fn place(&self) -> Option<Place<'_>> {
        let mut loads = self.loads();
        let lane = (0..loads.len()).filter(|lane| self.ward.works(*lane)).min_by_key(|&lane| loads[lane])?;
        loads[lane] += 1;
        Some(Place { crew: self, lane })
    }

    async fn run(&self, task: &Task, attempt: &Arc<Attempt>) -> Result<Outcome, TaskFailure> {
        loop {
            let Some(place) = self.place() else {
                return Err(ward::handed_back(0, "no lane of this worker is well"));
            };
            let (lane, since) = (place.lane, Instant::now());
            let ended = if task.alone {
                // A lane more, for as long as the task runs.
                let (number, tray) = (self.lanes.len() as u32, Arc::clone(&self.tray));
                Lane::start(self.programs[lane].clone(), None, number, tray).run(task, attempt).await
            } else {
                self.lanes[lane].run(task, attempt).await
            };
            match ended {
                Ended::Here(Ok(outcome)) => {
                    if !task.alone && self.ward.ran(lane, task) {
                        self.lanes[lane].try_out(Some(Box::new(task.clone())));
                    }
                    return Ok(outcome);
                }
                Ended::Here(Err(failure)) => return Err(self.ward.judge(lane, since, failure).await),
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

    fn fitness(&self) -> Option<watch::Receiver<Fitness>> {
        Some(self.ward.fitness())
    }

    fn samples(&self) -> Vec<LaneSample> {
        self.tray.take()
    }

    fn lanes_up(&self) -> Option<usize> {
        Some(self.lanes.iter().filter(|lane| lane.is_up()).count())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn lanes_do_not_inherit_what_is_the_worker_s_alone() {
        let program = Program::at(Path::new("fulltime-worker"), &Options::parse_from(["fulltime-worker"]));
        let command = program.command(Stdio::null(), false);
        for name in OURS_ALONE {
            assert!(command.get_envs().any(|(key, value)| key == name && value.is_none()), "{name}");
        }
    }
}
