//! `cargo xtask chaos`: a job under a random but repeatable schedule of faults, again and again, against the tables of
//! an undisturbed run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use fulltime_tests::{
    cluster::{Cluster, Shape},
    render, shipped_pipeline,
};
use serde::Serialize;

mod inflict;
mod schedule;
mod verdict;

use inflict::Open;
use verdict::{Tables, Verdict};

/// Longest time that a job may take once nothing is wrong any more.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two words of the operator that the job may go on.
const RESUME: Duration = Duration::from_secs(2);
/// Megabytes for the results.
const SMALL_DISK: u32 = 64;
/// Between two looks at the schedule.
const TICK: Duration = Duration::from_millis(20);

/// Kills, stops, wipes and damages the parts of a cluster while a job runs, and compares its tables with an
/// undisturbed run's.
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
    let archive = dir.join("archive");
    season(&archive);
    let undisturbed = dir.join("undisturbed");
    let calm = Cluster::start(&undisturbed, &Shape { coordinators: 1, sim_item: Duration::ZERO, ..Shape::default() });
    let job = submit(&calm, &archive);
    assert!(calm.finished(&job, PATIENCE), "the undisturbed job does not finish:\n{}", calm.logs());
    let expected = verdict::read(calm.manifest(&job).parent().expect("its folder"));
    drop(calm);

    let mut counts: BTreeMap<(&'static str, &'static str), u64> = BTreeMap::new();
    let mut outcomes = Vec::new();
    for seed in options.seed.. {
        let enough = options.schedules.is_some_and(|most| outcomes.len() as u64 >= most);
        if enough || (!outcomes.is_empty() && begin.elapsed().as_secs_f64() > options.minutes * 60.0) {
            break;
        }
        let folder = dir.join(format!("seed-{seed}"));
        let outcome = suffer(seed, &folder, &archive, &expected, &options, &mut counts);
        let good = outcome.verdict.identical && outcome.stuck.is_none();
        eprintln!(
            "seed {seed}: {} faults, {:.1} s, {} lost, {} duplicated, {}{}",
            outcome.faults,
            outcome.seconds,
            outcome.verdict.lost,
            outcome.verdict.duplicated,
            if outcome.verdict.identical { "identical" } else { "NOT IDENTICAL" },
            outcome.stuck.as_ref().map(|why| format!(", STUCK: {why}")).unwrap_or_default(),
        );
        if good && !options.keep {
            let _ = std::fs::remove_dir_all(&folder);
        }
        outcomes.push(outcome);
    }
    report(&options, &outcomes, &counts)
}

/// Three small matches, of one-second intervals.
fn season(archive: &Path) {
    for (name, more) in [("a", &["--halves", "2"][..]), ("b", &["--codec", "hevc"]), ("c", &["--container", "ts"])] {
        let small = ["--seed", "3", "--size", "320x180", "--gop", "25", "--duration", "8s"];
        render(&archive.join(name), name, &[&small, more].concat());
    }
}

fn submit(cluster: &Cluster, archive: &Path) -> String {
    let template = "{match}/{ignore}_p{period}_{camera}.{ignore}";
    let more = ["--template", template, "--select", "**/*.{mp4,ts}", "--shard-length", "1s"];
    cluster.submit(archive, &shipped_pipeline(), &more)
}

/// Runs one schedule.
fn suffer(
    seed: u64,
    folder: &Path,
    archive: &Path,
    expected: &Tables,
    options: &Options,
    counts: &mut BTreeMap<(&'static str, &'static str), u64>,
) -> Outcome {
    let (workers, coordinators) = (options.workers, options.coordinators);
    let sim_item = Duration::from_millis(12);
    let shape =
        Shape { workers, coordinators, sim_item, clocks: true, small_disk: Some(SMALL_DISK), ..Shape::default() };
    let mut cluster = Cluster::start(folder, &shape);
    let job = submit(&cluster, archive);
    let begin = Instant::now();
    let mut schedule = schedule::draw(seed, shape.workers, shape.coordinators).into_iter().peekable();
    let (mut open, mut faults) = (Open::default(), 0);
    let faults_for = Duration::from_secs(options.faults_for);
    let manifest = cluster.manifest(&job);
    let (mut calm_since, mut filled, mut resumed) = (None, false, Instant::now());
    let stuck = loop {
        if manifest.is_file() {
            break None;
        }
        let elapsed = begin.elapsed();
        let troubled = elapsed < faults_for;
        while let Some(fault) = schedule.next_if(|fault| troubled && fault.at <= elapsed) {
            if open.inflict(&mut cluster, fault) {
                faults += 1;
                filled |= fault.kind == schedule::Kind::Full;
                *counts.entry((fault.target.kind(), fault.kind.name())).or_default() += 1;
            }
        }
        open.relent(&mut cluster, !troubled);
        // A full disk pauses the job until somebody has made room and says so.
        if filled && !troubled && open.is_empty() && resumed.elapsed() > RESUME {
            let _ = fulltime_tests::fulltime(&["resume", &job, "--nats", &cluster.nats()]);
            resumed = Instant::now();
        }
        if !troubled && open.is_empty() && calm_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            std::fs::write(folder.join("logs.txt"), cluster.logs()).expect("keep the logs");
            break Some(format!("not finished {} s after the last fault", PATIENCE.as_secs()));
        }
        std::thread::sleep(TICK);
    };
    let seconds = begin.elapsed().as_secs_f64();
    let verdict = match stuck {
        None => verdict::compare(expected, &verdict::read(manifest.parent().expect("its folder"))),
        Some(_) => Verdict::default(),
    };
    Outcome { seed, faults, seconds, stuck, verdict }
}

fn report(options: &Options, outcomes: &[Outcome], counts: &BTreeMap<(&str, &str), u64>) -> ExitCode {
    println!("{:<14} {:<16} {:>6}", "part", "fault", "times");
    for ((part, kind), times) in counts {
        println!("{part:<14} {kind:<16} {times:>6}");
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
