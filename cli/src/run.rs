//! `fulltime run`: all in one. A private broker, a coordinator and workers are started for one job, watched, and ended
//! with it, whatever the end. Results lie in object storage alone, so ending them loses nothing.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fulltime_common::{Exit, error::Failure, process, queue::JetStream, wire::JobStatus};
use tempfile::TempDir;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    args::{Engine, RunArgs},
    broker::{Broker, BrokerError},
    end::End,
    follow,
    job::{self, DefaultState},
    parts::Part,
    screen::Screen,
};

/// How long the coordinator may take to answer for the first time.
const START: Duration = Duration::from_secs(30);

/// # Errors
/// Everything that keeps the job from finishing.
pub async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let started = Instant::now();
    let mut signals = Signals::listen()?;
    let screen = Screen::new(args.output.quiet);
    let mut cluster = Cluster::default();
    let ended = tokio::select! {
        ended = work(&args, &screen, &mut cluster) => ended,
        name = signals.next() => Err(interrupted(name, cluster.job.as_ref())),
    };
    let elapsed = started.elapsed().as_secs_f64();
    if matches!(&ended, Err(failure) if failure.exit == Exit::Interrupted) {
        screen.doing("handing running work back (again Ctrl-C to stop at once)");
    }
    // A second signal ends the wait; whatever is still there is killed when it is dropped.
    let dir = cluster.dir.take();
    tokio::select! {
        () = cluster.stop() => {}
        _ = signals.next() => {}
    }
    screen.clear();
    let ended = ended.and_then(|status| Ok((End::of(&status, Some(elapsed)).map(|_| ())?, status)));
    if let (Err(failure), Some(dir)) = (&ended, dir)
        && !matches!(failure.exit, Exit::Interrupted | Exit::Cancelled)
    {
        eprintln!("logs of this run: {}", dir.keep().display());
    }
    let (_, status) = ended?;
    End::of(&status, Some(elapsed))?.tell(&args.output).await
}

/// From the arguments to the job's last status. What it starts is in `cluster`.
async fn work(args: &RunArgs, screen: &Screen, cluster: &mut Cluster) -> Result<JobStatus, Failure> {
    screen.doing("checking programs, pipeline, archive and output");
    let tools = Tools::find(args.engine)?;
    let mut submission = job::prepare(&args.job, args.state.as_deref(), DefaultState::Private).await?;
    let dir = tempfile::Builder::new()
        .prefix("fulltime-run-")
        .tempdir()
        .map_err(|source| BrokerError::SetUp { dir: std::env::temp_dir(), source })?;
    let logs = dir.path().to_owned();
    cluster.dir = Some(dir);
    submission.store(|line| screen.say(&line)).await?;
    let job = submission.job.id.clone();
    cluster.job = Some((job.clone(), submission.job.out.clone()));

    screen.say(&format!("job {job}"));
    screen.doing("starting nats-server, coordinator and workers");
    let broker = cluster.broker.insert(Broker::start(&tools.nats_server, &logs, args.nats_port).await?);
    let url = broker.url.clone();
    let mut parts = Parts { tools, logs, url: url.clone() };
    cluster.start_coordinator(parts.coordinator(submission.state()), screen);
    for n in 0..args.workers {
        cluster.start_worker(parts.worker(n, args), screen);
    }
    let job = async {
        let bus = JetStream::connect(&url).await?;
        follow::submit(&bus, &job, START).await?;
        follow::follow(&bus, &job, screen).await
    };
    tokio::select! {
        status = job => status,
        failure = cluster.failed() => Err(failure),
    }
}

fn interrupted(signal: &str, job: Option<&(String, String)>) -> Failure {
    let hint = match job {
        Some((job, out)) => {
            let out = crate::text::place(out);
            format!("go on with `fulltime run --resume {job} --out {out}`; what is finished is kept")
        }
        None => "run the same command again; nothing had been started".to_owned(),
    };
    Failure::new(Exit::Interrupted, format!("interrupted by {signal}"), hint)
}

/// The outside programs of a run, found before anything is started.
#[derive(Debug)]
struct Tools {
    nats_server: PathBuf,
    coordinator: PathBuf,
    worker: PathBuf,
    /// `None` for engines that need none.
    onnxruntime: Option<PathBuf>,
}

impl Tools {
    fn find(engine: Engine) -> Result<Self, Failure> {
        let ours = |name: &str| {
            let missing = || {
                let cause = format!("`{name}` is neither beside fulltime nor on PATH");
                Failure::new(Exit::Runtime, cause, "install fulltime again; its three binaries belong in one folder")
            };
            process::sibling(name).ok_or_else(missing)
        };
        Ok(Self {
            coordinator: ours("fulltime-coordinator")?,
            worker: ours("fulltime-worker")?,
            nats_server: process::nats_server().ok_or(BrokerError::Missing)?,
            onnxruntime: match engine {
                Engine::Auto | Engine::Onnx => Some(onnxruntime()?),
                Engine::Torch | Engine::Sim => None,
            },
        })
    }
}

fn onnxruntime() -> Result<PathBuf, Failure> {
    const FIX: &str = "install ONNX Runtime 1.24 or newer (Python package `onnxruntime`, or its release archive) and name \
                       libonnxruntime.so in ORT_DYLIB_PATH";
    let library = process::onnxruntime()
        .ok_or_else(|| Failure::new(Exit::Runtime, "ONNX Runtime (libonnxruntime.so) is not installed", FIX))?;
    // A bare file name is left to the dynamic linker.
    if library.components().count() > 1 && !library.is_file() {
        let cause = format!("ORT_DYLIB_PATH names `{}`, which is not there", library.display());
        return Err(Failure::new(Exit::Runtime, cause, FIX));
    }
    Ok(library)
}

/// Makes the command lines.
struct Parts {
    tools: Tools,
    logs: PathBuf,
    url: String,
}

impl Parts {
    fn part(&self, name: String, program: &Path, arguments: &[&str]) -> Part {
        let arguments = ["--nats", self.url.as_str()].iter().chain(arguments).map(|&a| a.to_owned()).collect();
        let log = self.logs.join(format!("{name}.log"));
        Part { name, program: program.to_owned(), arguments, environment: vec![], log }
    }

    fn coordinator(&mut self, state: &str) -> Part {
        self.part("coordinator".to_owned(), &self.tools.coordinator, &["--state", state, "--alone"])
    }

    fn worker(&mut self, n: u16, args: &RunArgs) -> Part {
        let name = format!("worker-{n}");
        let lanes = args.lanes.map_or_else(|| lanes_each(cores(), args.workers), usize::from).to_string();
        // Whoever presses Ctrl-C waits for it.
        let arguments = ["--lanes", &lanes, "--name", &name, "--engine", args.engine.as_str(), "--grace", "3s"];
        let mut part = self.part(name.clone(), &self.tools.worker, &arguments);
        part.environment.extend(self.tools.onnxruntime.clone().map(|library| ("ORT_DYLIB_PATH", library)));
        part
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn lanes_each(cores: usize, workers: u16) -> usize {
    (cores / usize::from(workers)).max(1)
}

/// Everything that was started. Whatever is left when it is dropped is killed.
#[derive(Debug, Default)]
struct Cluster {
    dir: Option<TempDir>,
    /// Id and output URL, once the job is stored.
    job: Option<(String, String)>,
    broker: Option<Broker>,
    coordinator: JoinSet<Result<(), Failure>>,
    workers: JoinSet<Result<(), Failure>>,
    stop_coordinator: CancellationToken,
    stop_workers: CancellationToken,
}

impl Cluster {
    fn start_coordinator(&mut self, part: Part, screen: &Screen) {
        let screen = screen.clone();
        self.coordinator.spawn(part.keep(self.stop_coordinator.clone(), move |line| screen.say(&line)));
    }

    fn start_worker(&mut self, part: Part, screen: &Screen) {
        let screen = screen.clone();
        self.workers.spawn(part.keep(self.stop_workers.clone(), move |line| screen.say(&line)));
    }

    /// Waits until a part cannot go on.
    async fn failed(&mut self) -> Failure {
        loop {
            let ended = tokio::select! {
                Some(ended) = self.workers.join_next() => ended,
                Some(ended) = self.coordinator.join_next() => ended,
                error = async { match &mut self.broker { Some(b) => b.died().await, None => std::future::pending().await } } => {
                    return error.into();
                }
            };
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => return failure,
                Err(error) => return Failure::new(Exit::Internal, error.to_string(), "report this as a bug"),
            }
        }
    }

    /// Workers first, so that they can hand their work back; the broker last.
    async fn stop(mut self) {
        self.stop_workers.cancel();
        while self.workers.join_next().await.is_some() {}
        self.stop_coordinator.cancel();
        while self.coordinator.join_next().await.is_some() {}
        if let Some(broker) = self.broker.take() {
            broker.stop().await;
        }
    }
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Exit::Internal, format!("listen for signals: {error}"), "report this as a bug")
        };
        let listen = |kind| signal(kind).map_err(failed);
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_cores_and_each_has_a_lane() {
        assert_eq!(lanes_each(8, 2), 4);
        assert_eq!(lanes_each(2, 3), 1);
    }

    #[test]
    fn an_interrupted_job_tells_how_to_go_on() {
        let failure = interrupted("SIGTERM", Some(&("job-1".into(), "file:///data/out".into())));
        assert_eq!(failure.exit, Exit::Interrupted);
        assert!(failure.hint.unwrap().contains("fulltime run --resume job-1 --out /data/out"));
    }
}
