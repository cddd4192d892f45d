//! How many shards a second go through their whole life: planned, looked for, released, leased, committed, told, done.
//! Separate processes, the real broker, work of no length, objects on a memory file system; and how much memory the
//! coordinator takes meanwhile.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use fulltime_common::{
    plan::EngineClass,
    queue::{Bus as _, JetStream},
    wire::{self, JobState, JobStatus, Reply, Request, Task},
};
use fulltime_tests::{binary, nats, shipped_pipeline};
use fulltime_worker::Worker;
use futures::StreamExt as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::season::{Figures, PaperLanes, Service, archive};

#[derive(Debug, Args)]
pub struct Options {
    #[arg(long, default_value_t = 100_000)]
    shards: u32,
    /// Shards of each match.
    #[arg(long, default_value_t = 100)]
    per_match: u32,
    #[arg(long, default_value_t = 500)]
    lanes: usize,
    /// Starts a standby, too, and ends the leading coordinator with SIGKILL in the middle of the job.
    #[arg(long)]
    failover: bool,
    /// Folder for the objects; the default is a memory file system.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// One JSON object on the last line.
    #[arg(long)]
    json: bool,
}

/// The lanes' process; started by the bench.
#[derive(Debug, Args)]
pub struct Lanes {
    #[arg(long)]
    nats: String,
    #[arg(long)]
    lanes: usize,
    #[arg(long)]
    per_match: u32,
}

/// Runs until it is killed.
pub fn lanes(options: &Lanes) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let bus = JetStream::connect(&options.nats).await.expect("the broker");
        let service = Service { mean: Duration::ZERO, sigma: 0.0, stragglers: 0.0, seed: 0 };
        let figures = Arc::new(Figures::default());
        let lanes = PaperLanes::new(options.lanes, options.per_match, service, Duration::from_secs(1), figures);
        let class = EngineClass("paper-1".into());
        let worker = Worker::with_executor(Arc::new(bus), class, options.lanes, Arc::new(lanes));
        worker.run(CancellationToken::new()).await.expect("a worker");
    });
}

/// A point of the job's course.
struct Mark {
    at: f64,
    done: u64,
    rss_mb: f64,
}

/// The coordinators, and what they have used.
struct Coordinators {
    running: Vec<Process>,
    /// CPU seconds of those that were ended.
    spent: f64,
    /// From the end of the leader to the first task that its successor released, if one was ended.
    failover: Option<f64>,
}

impl Coordinators {
    fn start(count: usize, nats: &str, state: &Path) -> Self {
        let start = |_| {
            let mut command = Command::new(binary("fulltime-coordinator"));
            process(command.args(["--nats", nats, "--state"]).arg(state))
        };
        Self { running: (0..count).map(start).collect(), spent: 0.0, failover: None }
    }

    fn cpu_seconds(&self) -> f64 {
        self.spent + self.running.iter().map(|process| cpu_seconds(process.0.id())).sum::<f64>()
    }

    /// Of the one that takes most: standbys hold nothing.
    fn resident_mb(&self) -> f64 {
        self.running.iter().map(|process| resident_mb(process.0.id())).fold(0.0, f64::max)
    }

    /// Ends the leader and waits until another one releases tasks.
    async fn end_leader(&mut self, bus: &JetStream, nats: &str) {
        let register = bus.leader().await.expect("the broker").expect("somebody leads");
        let entry: serde_json::Value = serde_json::from_slice(&register.value).expect("the leader's entry");
        // "host-pid-random"
        let name = entry["leader"].as_str().expect("a name");
        let pid: u32 = name.rsplit('-').nth(1).and_then(|pid| pid.parse().ok()).expect("a process id in the name");
        let client = async_nats::connect(nats).await.expect("the broker");
        let mut released = client.subscribe("fulltime.task.>").await.expect("the broker");
        let mut epoch = async || {
            let message = released.next().await.expect("tasks are released");
            wire::decode::<Task>(&message.payload).expect("a task").epoch
        };
        let before = epoch().await;
        self.spent += cpu_seconds(pid);
        self.running.retain(|process| process.0.id() != pid);
        let begin = Instant::now();
        while epoch().await <= before {}
        self.failover = Some(begin.elapsed().as_secs_f64());
    }
}

pub fn run(options: &Options) {
    let dir = tempfile::tempdir_in(&options.dir).expect("a folder");
    let broker = nats::Server::start();
    let state = dir.path().join("state");
    let mut coordinators = Coordinators::start(1 + usize::from(options.failover), broker.url(), &state);
    let lanes = [
        "lanes".to_owned(),
        format!("--nats={}", broker.url()),
        format!("--lanes={}", options.lanes),
        format!("--per-match={}", options.per_match),
    ];
    let lanes = process(Command::new(std::env::current_exe().expect("this program")).args(lanes));

    let job = submit(dir.path(), &state, broker.url(), options.shards.div_ceil(options.per_match));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let marks = runtime.block_on(follow(broker.url(), &job, &mut coordinators, options));
    let shards = f64::from(options.shards);
    let spent = [
        ("coordinator", coordinators.cpu_seconds()),
        ("lanes", cpu_seconds(lanes.0.id())),
        ("broker", cpu_seconds(broker.pid().expect("the broker runs"))),
    ];
    let spent = spent.map(|(name, seconds)| (name, seconds / shards * 1e6));

    // From a tenth to nine tenths: without the start of the processes and the report.
    let at = |share: f64| marks.iter().find(|mark| mark.done as f64 >= shards * share).expect("the job went by");
    let (early, late) = (at(0.1), at(0.9));
    let rate = (late.done - early.done) as f64 / (late.at - early.at);
    let whole = marks.last().expect("the job was finished").at;
    let table = |line: &str| if options.json { eprintln!("{line}") } else { println!("{line}") };
    table(&format!("{:<44} {:>12.0}", "shards a second, from 10 % to 90 % of the job", rate));
    table(&format!("{:<44} {:>12.0}", "shards a second, submit to manifest", shards / whole));
    table(&format!("{:<44} {:>12.1}", "coordinator, resident MB at 10 %", early.rss_mb));
    table(&format!("{:<44} {:>12.1}", "coordinator, resident MB at 90 %", late.rss_mb));
    for (name, micros) in spent {
        table(&format!("{:<44} {:>12.1}", format!("{name}, CPU microseconds a shard"), micros));
    }
    if let Some(seconds) = coordinators.failover {
        table(&format!("{:<44} {:>12.2}", "leader killed to next task released, seconds", seconds));
    }
    if options.json {
        let result = json!({
            "bench": "dispatch", "shards": options.shards, "shards_per_s": rate, "shards_per_s_whole": shards / whole,
            "rss_mb_at_10pct": early.rss_mb, "rss_mb_at_90pct": late.rss_mb, "seconds": whole, "lanes": options.lanes,
            "cpu_us_per_shard": BTreeMap::from(spent), "failover_s": coordinators.failover,
        });
        println!("{result}");
    }
}

/// Hands in a job over a new archive of so many matches, a second to the shard, and returns its id.
pub fn submit(dir: &Path, state: &Path, nats: &str, matches: u32) -> String {
    let archive = archive(dir, matches);
    let mut submit = Command::new(binary("fulltime"));
    submit.arg("submit").args(["--shard-length", "1s", "--nats", nats, "--archive"]).arg(&archive);
    submit.arg("--pipeline").arg(shipped_pipeline()).arg("--out").arg(dir.join("out"));
    submit.arg("--state").arg(state).stderr(Stdio::inherit());
    let output = submit.output().expect("start fulltime");
    assert!(output.status.success(), "fulltime submit failed");
    String::from_utf8_lossy(&output.stdout).lines().last().expect("the job's id").trim().to_owned()
}

/// Follows the job to its end.
async fn follow(nats: &str, job: &str, coordinators: &mut Coordinators, options: &Options) -> Vec<Mark> {
    let bus = JetStream::connect(nats).await.expect("the broker");
    let (begin, mut marks) = (Instant::now(), Vec::new());
    loop {
        if let Some(status) = status(&bus, job).await {
            let (at, done, rss_mb) = (begin.elapsed().as_secs_f64(), status.shards_done, coordinators.resident_mb());
            marks.push(Mark { at, done, rss_mb });
            match status.state {
                JobState::Finished => return marks,
                JobState::Planning | JobState::Running => {}
                other => panic!("the job is {other:?}: {:?}", status.failure),
            }
            if options.failover && coordinators.failover.is_none() && done >= u64::from(options.shards / 2) {
                coordinators.end_leader(&bus, nats).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub async fn status(bus: &JetStream, job: &str) -> Option<JobStatus> {
    match bus.request(&Request::Status { job: Some(job.to_owned()) }).await {
        Ok(Reply::Status { jobs, .. }) => jobs.into_iter().next(),
        // Busy, or not taken up yet.
        _ => None,
    }
}

/// A child that is killed when the bench is over, however that ends.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn process(command: &mut Command) -> Process {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).env("RUST_LOG", "warn");
    Process(fulltime_common::process::end_with_parent(command).spawn().expect("start a process"))
}

fn resident_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("resident memory");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") / 1024.0
}

/// User and system time so far.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    // SAFETY: a plain question to the C library.
    let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    (ticks(11) + ticks(12)) / a_second
}
