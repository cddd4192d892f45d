//! A thousand lanes that come and go, through the real coordinator and broker in real time: how much of the lanes' time
//! becomes results, and how near the job's end is to the ideal one. Times are those of GPUs divided by `--scale`.

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use clap::Args;
use fastrand::Rng;
use fulltime_common::{plan::EngineClass, queue::JetStream, wire::JobState};
use fulltime_tests::{binary, nats};
use fulltime_worker::Worker;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    dispatch::{process, status, submit},
    season::{Figures, PaperLanes, Service},
};

/// Shards of each match.
const PER_MATCH: u32 = 100;
/// What a worker has to finish or hand back what it runs, before `--scale`.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub struct Options {
    #[arg(long, default_value_t = 125)]
    workers: usize,
    #[arg(long, default_value_t = 8)]
    lanes_per_worker: usize,
    #[arg(long, default_value_t = 100)]
    shards_per_lane: u32,
    /// Mean time of a shard, seconds; lognormal.
    #[arg(long, default_value_t = 20.0)]
    mean: f64,
    #[arg(long, default_value_t = 0.4)]
    sigma: f64,
    /// Share of attempts that take five times as long.
    #[arg(long, default_value_t = 0.05)]
    stragglers: f64,
    /// Share of the workers that is taken away each minute, half of them without notice.
    #[arg(long, default_value_t = 0.02)]
    preempted: f64,
    /// How much faster than in earnest everything goes.
    #[arg(long, default_value_t = 5.0)]
    scale: f64,
    /// Of a delivery, seconds.
    #[arg(long, default_value_t = 10.0)]
    lease: f64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// One JSON object on the last line.
    #[arg(long)]
    json: bool,
}

impl Options {
    fn scaled(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds / self.scale)
    }
}

/// A worker on a thread and a runtime of its own: dropping the runtime ends it as a SIGKILL would, with its connection.
struct Rented {
    since: Instant,
    notice: CancellationToken,
    kill: CancellationToken,
    /// Ends with the time at which it was gone.
    thread: JoinHandle<Instant>,
}

fn rent(options: &Options, url: &str, name: String, figures: &Arc<Figures>) -> Rented {
    let (notice, kill) = (CancellationToken::new(), CancellationToken::new());
    let service = Service {
        mean: options.scaled(options.mean),
        sigma: options.sigma,
        stragglers: options.stragglers,
        seed: options.seed,
    };
    let (lease, count) = (options.scaled(options.lease), options.lanes_per_worker);
    let lanes = Arc::new(PaperLanes::new(count, PER_MATCH, service, lease / 4, Arc::clone(figures)));
    let (told, killed, url) = (notice.clone(), kill.clone(), url.to_owned());
    let grace = options.scaled(GRACE.as_secs_f64());
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async {
            let working = async {
                let bus = JetStream::connect_with_lease(&url, lease).await.expect("the broker");
                let worker = Worker::with_executor(Arc::new(bus), EngineClass("paper-1".into()), count, lanes);
                let worker = worker.named(name).with_lease(lease).with_grace(grace);
                worker.run(told).await.expect("a worker");
            };
            tokio::select! {
                () = killed.cancelled() => {}
                () = working => {}
            }
        });
        runtime.shutdown_background();
        Instant::now()
    });
    Rented { since: Instant::now(), notice, kill, thread }
}

pub fn run(options: &Options) {
    let dir = tempfile::tempdir_in(&options.dir).expect("a folder");
    let broker = nats::Server::start();
    let state = dir.path().join("state");
    let lease = humantime::format_duration(options.scaled(options.lease)).to_string();
    let mut coordinator = Command::new(binary("fulltime-coordinator"));
    coordinator.args(["--nats", broker.url(), "--lease", &lease, "--state"]).arg(&state);
    let _coordinator = process(&mut coordinator);

    let figures = Arc::new(Figures::default());
    let lanes = options.workers * options.lanes_per_worker;
    let shards = lanes as u32 * options.shards_per_lane;
    let mut named = 0..;
    let mut worker = || rent(options, broker.url(), format!("w{}", named.next().expect("endless")), &figures);
    let mut fleet: Vec<Rented> = (0..options.workers).map(|_| worker()).collect();

    let job = submit(dir.path(), &state, broker.url(), shards.div_ceil(PER_MATCH));

    let finished = Arc::new(AtomicBool::new(false));
    let follower = std::thread::spawn({
        let (url, finished) = (broker.url().to_owned(), Arc::clone(&finished));
        move || follow(&url, &job, &finished)
    });

    // The market takes workers away, one at a time at the right rate, and gives another for each.
    let mut rng = Rng::with_seed(options.seed);
    let pause = options.scaled(60.0).div_f64(options.preempted.max(1e-9) * options.workers as f64);
    let (mut with_notice, mut without) = (0_u32, 0_u32);
    let mut leaving: Vec<Rented> = Vec::new();
    let mut next = Instant::now() + pause;
    while !finished.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(5));
        if Instant::now() < next {
            continue;
        }
        next += pause;
        let taken = std::mem::replace(&mut fleet[rng.usize(0..options.workers)], worker());
        if (with_notice + without) % 2 == 0 {
            with_notice += 1;
            taken.notice.cancel();
        } else {
            without += 1;
            taken.kill.cancel();
        }
        leaving.push(taken);
    }
    for rented in &fleet {
        rented.kill.cancel();
    }
    let up = leaving.into_iter().chain(fleet).map(|rented| rented.end(&figures)).sum::<Duration>();
    follower.join().expect("the job finished");

    let useful = Duration::from_micros(figures.useful_us.load(Ordering::Relaxed)).as_secs_f64();
    let up = up.as_secs_f64() * options.lanes_per_worker as f64;
    let (first, last) = figures.window();
    let makespan = (last - first).as_secs_f64();
    let ideal = useful / lanes as f64;
    let (efficiency, ratio, tail) = (useful / up, makespan / ideal, figures.tail().as_secs_f64());
    let attempts = figures.attempts.load(Ordering::Relaxed);
    let table = |line: &str| if options.json { eprintln!("{line}") } else { println!("{line}") };
    table(&format!("{:<44} {:>10}", "shards", shards));
    table(&format!("{:<44} {:>10}", "attempts that ended", attempts));
    let (halted, halted_s) =
        (figures.halted.load(Ordering::Relaxed), figures.halted_us.load(Ordering::Relaxed) as f64 / 1e6);
    table(&format!("{:<44} {:>10}", "attempts that were told to stop", halted));
    table(&format!("{:<44} {:>10.1}", "lane time they had used, seconds", halted_s));
    table(&format!("{:<44} {:>10}", "workers taken with, without notice", format!("{with_notice}, {without}")));
    table(&format!("{:<44} {:>10.1}", "makespan, seconds", makespan));
    table(&format!("{:<44} {:>10.1}", "ideal: all lanes busy to the end, seconds", ideal));
    table(&format!("{:<44} {:>10.3}", "makespan over ideal", ratio));
    table(&format!("{:<44} {:>10.1}", "of it with nothing new to begin, seconds", tail));
    table(&format!("{:<44} {:>10.3}", "lane time that became first commits", efficiency));
    if options.json {
        let result = json!({
            "bench": "scale", "efficiency": efficiency, "makespan_ratio": ratio, "makespan_s": makespan,
            "ideal_s": ideal, "tail_s": tail, "shards": shards, "lanes": lanes, "attempts": attempts,
            "halted": halted, "halted_s": halted_s, "first_commits": figures.first_commits.load(Ordering::Relaxed), "scale": options.scale,
            "preempted_with_notice": with_notice, "preempted_without": without,
        });
        println!("{result}");
    }
}

impl Rented {
    /// Waits until it is gone; how long it was up while there was work to do.
    fn end(self, figures: &Figures) -> Duration {
        let gone = self.thread.join().expect("a worker's thread");
        let (first, last) = figures.window();
        gone.min(last).saturating_duration_since(self.since.max(first))
    }
}

fn follow(url: &str, job: &str, finished: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let bus = JetStream::connect(url).await.expect("the broker");
        loop {
            match status(&bus, job).await {
                Some(status) if status.state == JobState::Finished => break,
                Some(status) if status.state.is_over() => panic!("the job is {:?}: {:?}", status.state, status.failure),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    finished.store(true, Ordering::Release);
}
