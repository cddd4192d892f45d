//! A lane process: one lane at the other end of the worker's socket. Ends when the socket does.

use std::{
    collections::BTreeMap,
    io,
    os::{fd::AsFd as _, unix::net::UnixStream},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fulltime_common::error::{Explain as _, Failure, chain};
use fulltime_topology::Pinned;
use tokio::sync::mpsc;

use super::frames::{self, Order, Report};
use crate::{
    attempt::{Attempt, Phase, Watcher},
    error::WorkerError,
    executor::Executor as _,
    lanes::{Engine, LocalLanes},
    options::Options,
};

/// Beats that come faster are one.
const BEAT: Duration = Duration::from_millis(100);
/// Between two samples of what the lane does.
const SAMPLE: Duration = Duration::from_secs(1);

/// Serves the worker that is at the other end of standard input, until that end is closed.
/// `pinned`: what has come of its place.
pub async fn serve(options: &Options, pinned: Option<Pinned>) -> ExitCode {
    match lane(options, pinned).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = format!("standard input is not a worker's socket: {error}");
            Failure::new(fulltime_common::Exit::Usage, cause, "start fulltime-worker without --lane-process").report()
        }
    }
}

async fn lane(options: &Options, pinned: Option<Pinned>) -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let reporter = Arc::new(Reporter(Mutex::new(socket.try_clone()?)));
    let engine = match Engine::find(options) {
        Ok(engine) => engine,
        Err(error) => return reporter.hopeless(&error),
    };
    let place = pinned.map(|pinned| match pinned {
        Pinned::Pinned { place, .. } => (true, place.cores.to_string()),
        Pinned::None { why } => (false, why.to_string()),
    });
    reporter.say(&Report::Ready { class: engine.class.0.clone(), place })?;

    let lanes = match LocalLanes::new(engine, options, 1) {
        Ok(lanes) => Arc::new(lanes),
        Err(error) => return reporter.hopeless(&error),
    };
    let (watched, seen) = (Arc::clone(&reporter), Arc::clone(&lanes));
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(SAMPLE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // First, since their sums are part of the samples.
            let lookups = seen.lookups();
            watched.or_end(&Report::Samples(seen.samples()));
            if !lookups.is_empty() {
                watched.or_end(&Report::Lookups(lookups));
            }
        }
    });
    let (sender, mut orders) = mpsc::unbounded_channel();
    // Orders must be heard at any time, whatever the runtime does: a thread of their own.
    std::thread::spawn(move || {
        let mut socket = socket;
        while let Ok(order) = frames::read::<Order>(&mut socket) {
            if sender.send(order).is_err() {
                return;
            }
        }
        // Without a worker there is no lane: whatever runs here has nobody to tell.
        std::process::exit(0);
    });
    let mut running: BTreeMap<u64, Arc<Attempt>> = BTreeMap::new();
    while let Some(order) = orders.recv().await {
        running.retain(|_, attempt| Arc::strong_count(attempt) > 1);
        match order {
            Order::Run { id, task, may_exist } => {
                let beats = Beats { id, reporter: Arc::clone(&reporter), unsaid: Mutex::new((Instant::now(), 0)) };
                let attempt = Arc::new(Attempt::new(may_exist, Box::new(beats)));
                running.insert(id, Arc::clone(&attempt));
                let (lanes, reporter) = (Arc::clone(&lanes), Arc::clone(&reporter));
                tokio::spawn(async move {
                    let report = match lanes.run(&task, &attempt).await {
                        Ok(outcome) => Report::Committed { id, outcome },
                        Err(failure) => Report::Failed { id, failure },
                    };
                    reporter.or_end(&report);
                });
            }
            Order::Canary { task } => {
                let (lanes, reporter) = (Arc::clone(&lanes), Arc::clone(&reporter));
                tokio::spawn(async move {
                    let (map, answers, failure) = match lanes.show(task.as_deref()).await {
                        Ok((map, answers)) => (map, answers, None),
                        Err(error) => (None, 0, Some(chain(&error))),
                    };
                    reporter.or_end(&Report::Canary { map, answers, failure });
                });
            }
            Order::Halt { id } => {
                if let Some(attempt) = running.get(&id) {
                    attempt.halt().cancel();
                }
            }
        }
    }
    Ok(())
}

/// The way to the worker. Writing blocks, so that what was said before a crash has been heard.
#[derive(Debug)]
struct Reporter(Mutex<UnixStream>);

impl Reporter {
    fn say(&self, report: &Report) -> io::Result<()> {
        frames::write(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), report)
    }

    fn hopeless(&self, error: &WorkerError) -> io::Result<()> {
        self.say(&Report::Hopeless { exit: error.exit() as u8, cause: chain(error), hint: error.hint() })
    }

    /// A worker that cannot be told is gone, and its lanes go with it.
    fn or_end(&self, report: &Report) {
        if self.say(report).is_err() {
            std::process::exit(0);
        }
    }
}

/// Tells the worker of an attempt's progress, not more often than it needs to know.
#[derive(Debug)]
struct Beats {
    id: u64,
    reporter: Arc<Reporter>,
    /// When the last beat was told, and frames since.
    unsaid: Mutex<(Instant, u64)>,
}

impl Watcher for Beats {
    fn phase(&self, phase: Phase) {
        self.reporter.or_end(&Report::Phase { id: self.id, phase });
    }

    fn beat(&self, frames: u64) {
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        unsaid.1 += frames;
        if unsaid.0.elapsed() >= BEAT {
            let frames = std::mem::take(&mut unsaid.1);
            unsaid.0 = Instant::now();
            self.reporter.or_end(&Report::Beat { id: self.id, frames });
        }
    }
}
