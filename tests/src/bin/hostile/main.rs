//! `cargo xtask hostile`: thousands of broken files, made from good ones, through what reads them in the product. Each must
//! be processed or refused with a reason; a file that ends or hangs the process is kept.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use clap::Parser;
use serde::Serialize;

mod mutate;
mod samples;
mod subject;

use samples::Sample;

/// Breaks good files at random and has them read.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask hostile", bin_name = "cargo xtask hostile")]
struct Options {
    /// Recordings; or documents: tables, indexes, messages, and files that people write.
    #[arg(long, value_enum, default_value_t)]
    what: What,
    /// How many broken files.
    #[arg(long, default_value_t = 10_000)]
    files: u64,
    /// First seed; each file takes the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A file that takes longer hangs.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    limit: u64,
    /// Memory that a process may have, its code included.
    #[arg(long, value_name = "MB", default_value_t = 2_000)]
    memory: u64,
    /// Processes side by side.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Where files that ended or hung a process are kept.
    #[arg(long, default_value = "out/hostile")]
    keep: PathBuf,
    /// Instead of broken ones, these very files: what `--keep` kept.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    again: Vec<PathBuf>,
    /// Ends with one JSON object on the last line.
    #[arg(long)]
    json: bool,
    /// The process that meets the files.
    #[arg(long, hide = true)]
    subject: bool,
}

/// What is broken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum What {
    #[default]
    Recordings,
    Documents,
}

/// What came of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    Whole,
    Gaps,
    Refused,
    Died,
    Hung,
}

/// How many files of a container met which fate.
type Counts = BTreeMap<(String, Fate), u64>;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.subject {
        return subject::run().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let keep = fulltime_tests::root().join(&options.keep);
    let good = if options.again.is_empty() { good(folder.path(), options.what) } else { Vec::new() };
    let next = AtomicU64::new(0);
    let counts = Mutex::new(Counts::new());
    let begun = Instant::now();
    let files = if good.is_empty() { options.again.len() as u64 } else { options.files };
    std::thread::scope(|scope| {
        for job in 0..options.jobs {
            let (folder, keep, good, next, counts, options) = (folder.path(), &keep, &good, &next, &counts, &options);
            scope.spawn(move || {
                let mut subject = None;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= files {
                        break;
                    }
                    let (name, path) = match options.again.get(number as usize) {
                        Some(path) => (extension(path), path.clone()),
                        None => broken(good, options.seed + number, &folder.join(format!("job{job}"))),
                    };
                    let (fate, said) = meet(&mut subject, &path, options);
                    *counts.lock().expect("no thread panics").entry((name, fate)).or_default() += 1;
                    if matches!(fate, Fate::Died | Fate::Hung) {
                        let seed = options.seed + number;
                        let kept = keep.join(format!("seed-{seed}.{}", extension(&path)));
                        let saved = std::fs::create_dir_all(keep).and_then(|()| std::fs::copy(&path, &kept));
                        saved.expect("keep the file");
                        eprintln!("{}: {said}", kept.display());
                    } else if !options.again.is_empty() {
                        eprintln!("{}: {said}", path.display());
                    }
                }
            });
        }
    });
    report(&options, &counts.into_inner().expect("no thread panics"), begun.elapsed())
}

fn extension(path: &Path) -> String {
    path.extension().map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

fn good(folder: &Path, what: What) -> Vec<Sample> {
    let recordings = samples::recordings(folder);
    if what == What::Recordings {
        return recordings;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (_, _, index) = runtime.block_on(subject::index(&folder.join("closed.mp4"))).expect("a good recording");
    samples::documents(&index)
}

/// Writes the broken file of a seed; what it was, and where it lies.
fn broken(good: &[Sample], seed: u64, folder: &Path) -> (String, PathBuf) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (name, bytes) = &good[rng.usize(0..good.len())];
    let (_, other) = &good[rng.usize(0..good.len())];
    let path = folder.join(format!("broken.{}", extension(Path::new(name))));
    let written =
        std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, mutate::mutate(bytes, other, &mut rng)));
    written.expect("write the broken file");
    (name.clone(), path)
}

/// A running process for files, with the lines it says.
struct Subject {
    child: Child,
    paths: ChildStdin,
    lines: mpsc::Receiver<String>,
}

impl Subject {
    fn start(memory_mb: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        command.arg("--subject").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let limit = libc::rlimit { rlim_cur: memory_mb << 20, rlim_max: memory_mb << 20 };
        // SAFETY: setrlimit is a plain system call, which may be made between fork and exec.
        unsafe {
            use std::os::unix::process::CommandExt as _;
            command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_AS, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let mut child = fulltime_common::process::end_with_parent(&mut command).spawn().expect("start the subject");
        let paths = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, paths, lines }
    }
}

/// Has a file read and decoded; what came of it, in words, too.
fn meet(subject: &mut Option<Subject>, path: &Path, options: &Options) -> (Fate, String) {
    let running = subject.get_or_insert_with(|| Subject::start(options.memory));
    let _ = writeln!(running.paths, "{}", path.display());
    let said = running.lines.recv_timeout(Duration::from_secs(options.limit));
    if let Ok(said) = said {
        let fate = match said.split(':').next() {
            Some("whole") => Fate::Whole,
            Some("gaps") => Fate::Gaps,
            _ => Fate::Refused,
        };
        return (fate, said);
    }
    let hung = said == Err(mpsc::RecvTimeoutError::Timeout);
    let mut ended = subject.take().expect("it was running");
    if hung {
        let _ = ended.child.kill();
    }
    let status = ended.child.wait().expect("wait for the subject");
    match (hung, status.signal()) {
        (true, _) => (Fate::Hung, format!("HUNG: nothing said for {} s", options.limit)),
        (_, Some(signal)) => (Fate::Died, format!("DIED of signal {signal}")),
        _ => (Fate::Died, format!("DIED: {status}")),
    }
}

/// The table, and whether nothing died or hung.
fn report(options: &Options, counts: &Counts, took: Duration) -> ExitCode {
    let fates = [Fate::Whole, Fate::Gaps, Fate::Refused, Fate::Died, Fate::Hung];
    let count = |name: &str, fate| counts.get(&(name.to_owned(), fate)).copied().unwrap_or_default();
    let sum = |fate: Fate| counts.iter().filter(|((_, f), _)| *f == fate).map(|(_, n)| n).sum::<u64>();
    eprintln!("{:<18} {:>8} {:>8} {:>8} {:>8} {:>8}", "file", "whole", "gaps", "refused", "died", "hung");
    let mut names: Vec<&str> = counts.keys().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    for name in names {
        let [whole, gaps, refused, died, hung] = fates.map(|fate| count(name, fate));
        eprintln!("{name:<18} {whole:>8} {gaps:>8} {refused:>8} {died:>8} {hung:>8}");
    }
    let [whole, gaps, refused, died, hung] = fates.map(sum);
    eprintln!("{:<18} {whole:>8} {gaps:>8} {refused:>8} {died:>8} {hung:>8}", "all");
    eprintln!("{:.0} s, seeds {} and on", took.as_secs_f64(), options.seed);
    if options.json {
        let files = whole + gaps + refused + died + hung;
        let seconds = took.as_secs_f64();
        println!(
            "{}",
            serde_json::json!({ "files": files, "seed": options.seed, "whole": whole, "gaps": gaps,
                "refused": refused, "died": died, "hung": hung, "seconds": seconds })
        );
    }
    if died + hung == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
