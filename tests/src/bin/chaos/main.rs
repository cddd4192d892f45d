//! `cargo xtask chaos`: a job under a random but repeatable schedule of faults, again and again, against the tables of
//! an undisturbed run.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use fulltime_common::wire::JobState;
use serde::Serialize;

mod ground;
mod inflict;
mod schedule;
mod verdict;

use ground::Grounds;
use inflict::Open;
use verdict::Verdict;

/// Longest time that a job may take once nothing is wrong any more.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks of the operator at whether the job is paused.
const OPERATOR: Duration = Duration::from_secs(2);
/// Between two looks at the schedule, and at whether the job is finished.
const TICK: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(100);

/// Faults inflicted, by part and kind.
type Counts = BTreeMap<(&'static str, String), u64>;

/// Kills, stops, wipes and damages the parts of a cluster and the ways between them while a job runs, and compares its
/// tables with an undisturbed run's. One seed in three has its archive and results in an S3 gateway.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos", bin_name = "cargo xtask chaos")]
struct Options {
    /// First seed; each schedule takes the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Starts schedules for so long.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// At most so many schedules.
    #[arg(long)]
    schedules: Option<u64>,
    /// No faults after so many seconds of a schedule, so that it ends.
    #[arg(long, default_value_t = 20)]
    faults_for: u64,
    #[arg(long, default_value_t = 3)]
    workers: usize,
    #[arg(long, default_value_t = 2)]
    coordinators: usize,
    /// Keeps the folder of every schedule; otherwise only those of failed ones are kept.
    #[arg(long)]
    keep: bool,
    /// Where cluster and results lie.
    #[arg(long, default_value = "out/chaos")]
    dir: PathBuf,
    /// Ends with one JSON object on the last line.
    #[arg(long)]
    json: bool,
}

/// What came of one schedule.
#[derive(Debug, Serialize)]
struct Outcome {
    seed: u64,
    faults: u64,
    seconds: f64,
    /// How often the job had paused and waited for the operator.
    paused: u64,
    /// Why the job did not finish, if so.
    stuck: Option<String>,
    #[serde(flatten)]
    verdict: Verdict,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let begin = Instant::now();
    let dir = fulltime_tests::root().join(&options.dir);
    let _ = std::fs::remove_dir_all(&dir);
    let mut grounds = Grounds::prepare(&dir);
    let mut counts = Counts::new();
    let mut outcomes = Vec::new();
    for seed in options.seed.. {
        let enough = options.schedules.is_some_and(|most| outcomes.len() as u64 >= most);
        if enough || (!outcomes.is_empty() && begin.elapsed().as_secs_f64() > options.minutes * 60.0) {
            break;
        }
        let outcome = suffer(seed, &mut grounds, &options, &mut counts);
        let good = outcome.verdict.identical && outcome.stuck.is_none();
        eprintln!(
            "seed {seed}: {} faults, {:.1} s, paused {} times, {} lost, {} duplicated, {}{}",
            outcome.faults,
            outcome.seconds,
            outcome.paused,
            outcome.verdict.lost,
            outcome.verdict.duplicated,
            if outcome.verdict.identical { "identical" } else { "NOT IDENTICAL" },
            outcome.stuck.as_ref().map(|why| format!(", STUCK: {why}")).unwrap_or_default(),
        );
        if good && !options.keep {
            let _ = std::fs::remove_dir_all(grounds.folder(seed));
        }
        outcomes.push(outcome);
    }
    report(&options, &outcomes, &counts)
}

/// Runs one schedule.
fn suffer(seed: u64, grounds: &mut Grounds, options: &Options, counts: &mut Counts) -> Outcome {
    let mut ordeal = grounds.ordeal(seed, options.workers, options.coordinators);
    let begin = Instant::now();
    let mut schedule = schedule::draw(seed, options.workers, options.coordinators).into_iter().peekable();
    let (mut open, mut faults, mut paused) = (Open::default(), 0, 0);
    let faults_for = Duration::from_secs(options.faults_for);
    let (mut calm_since, mut asked, mut looked) = (None, Instant::now(), Instant::now());
    let stuck = loop {
        if looked.elapsed() > LOOK {
            looked = Instant::now();
            if grounds.is_finished(&ordeal) {
                break None;
            }
        }
        let elapsed = begin.elapsed();
        let troubled = elapsed < faults_for;
        while let Some(fault) = schedule.next_if(|fault| troubled && fault.at <= elapsed) {
            if open.inflict(&mut ordeal.cluster, fault) {
                faults += 1;
                *counts.entry((fault.target.kind(), fault.kind.name().into_owned())).or_default() += 1;
            }
        }
        open.relent(&mut ordeal.cluster, !troubled);
        // A full disk, or a store that is away for long, pauses the job until somebody says that it may go on.
        if !troubled && open.is_empty() && asked.elapsed() > OPERATOR {
            if ordeal.state() == Some(JobState::Paused) {
                paused += 1;
                ordeal.resume();
            }
            asked = Instant::now();
        }
        if !troubled && open.is_empty() && calm_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            std::fs::write(grounds.folder(seed).join("logs.txt"), ordeal.cluster.logs()).expect("keep the logs");
            break Some(format!("not finished {} s after the last fault", PATIENCE.as_secs()));
        }
        std::thread::sleep(TICK);
    };
    // What is wrong now must not be in the way of reading the results.
    open.relent(&mut ordeal.cluster, true);
    let seconds = begin.elapsed().as_secs_f64();
    let verdict = match stuck {
        None => verdict::compare(&grounds.expected, &grounds.tables(&ordeal)),
        Some(_) => Verdict::default(),
    };
    Outcome { seed, faults, seconds, paused, stuck, verdict }
}

fn report(options: &Options, outcomes: &[Outcome], counts: &Counts) -> ExitCode {
    println!("{:<14} {:<32} {:>6}", "part", "fault", "times");
    for ((part, kind), times) in counts {
        println!("{part:<14} {kind:<32} {times:>6}");
    }
    let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    let (lost, duplicated) = (sum(|o| o.verdict.lost), sum(|o| o.verdict.duplicated));
    let stuck = outcomes.iter().filter(|outcome| outcome.stuck.is_some()).count();
    let identical = outcomes.iter().all(|outcome| outcome.verdict.identical);
    let (first, last) = (options.seed, options.seed + outcomes.len() as u64 - 1);
    println!(
        "\n{} schedules (seeds {first} to {last}), {} faults: {lost} rows lost, {duplicated} duplicated, {stuck} stuck, {}",
        outcomes.len(),
        sum(|o| o.faults),
        if identical { "all tables identical to the undisturbed run" } else { "TABLES DIFFER" },
    );
    if options.json {
        let faults: BTreeMap<String, u64> =
            counts.iter().map(|((part, kind), times)| (format!("{part}: {kind}"), *times)).collect();
        let all = serde_json::json!({
            "chaos": outcomes, "seed": options.seed, "schedules": outcomes.len(), "faults": faults,
            "lost": lost, "duplicated": duplicated, "stuck": stuck, "identical": identical,
        });
        println!("{all}");
    }
    if identical && stuck == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
