//! `cargo xtask`: set-up, demo, tests and benches, each in one command on a fresh machine.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::{Parser, Subcommand};

mod demo;
mod setup;
mod suites;

/// Develop fulltime: every command does its own set-up first (system packages, nats-server, ONNX Runtime).
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what the build and the tests need, and say what is there.
    Setup {
        /// And libtorch, for builds with `--features torch`: 540 MB of downloads.
        #[arg(long)]
        torch: bool,
    },
    /// Make a small synthetic season, process it with the real parts, show the result.
    Demo(demo::Options),
    /// Format, lints, unit tests and the cluster tests; minutes per suite at the end.
    Test(suites::Options),
    /// Measure against the limits of this machine.
    Bench {
        /// `throughput`, `peers`, `instructions`, `dispatch`, `scale`, `reduce`, `track`, `model`, `precision`, `parallel`, `isolation`
        name: String,
        /// Passed on; `--json` ends with one JSON object on the last line.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// A job under random faults (kills, stops, wiped and damaged broker, full disk, clock jumps, broken networks, a store
    /// in trouble), its tables compared with an undisturbed run's.
    Chaos {
        /// Passed on: `--seed S`, `--minutes M`, `--schedules N`, `--json`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Thousands of broken recordings through what reads and decodes recordings: each is processed or refused with a
    /// reason, and none ends or hangs the process.
    Hostile {
        /// Passed on: `--files N`, `--seed S`, `--json`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// How right the product is: a synthetic season through its models, the tracker on the test assets; fails where a
    /// figure is worse than docs/accuracy.json allows.
    Accuracy {
        /// Passed on: `--json`, `--write`, `--matches N`, `--pipeline FILE`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Write the JSON schemas of job, pipeline, manifest, squads and pitch files to `docs/schema/`.
    Schema,
}

/// Why a command ended, with the exit code that says so.
#[derive(Debug)]
pub struct Stop {
    pub code: u8,
    pub cause: String,
    pub fix: Option<String>,
}

impl Stop {
    pub fn new(code: u8, cause: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { code, cause: cause.into(), fix: Some(fix.into()) }
    }
}

pub type Outcome<T = ()> = Result<T, Stop>;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Task::Setup { torch } => setup::all().and_then(|()| if torch { setup::torch() } else { Ok(()) }),
        Task::Demo(options) => setup::all().and_then(|()| demo::run(&options)),
        Task::Test(options) => setup::for_tests()
            .and_then(|()| if options.full { setup::torch() } else { Ok(()) })
            .and_then(|()| suites::run(&options)),
        Task::Bench { name, args } if ENGINE_BENCHES.contains(&name.as_str()) && setup::libtorch().is_some() => {
            setup::all().and_then(|()| torch_bench(&[&[name][..], &args].concat()))
        }
        Task::Bench { name, args } => {
            let more = || match name.as_str() {
                "peers" => setup::peers(),
                "instructions" => {
                    setup::valgrind();
                    Ok(())
                }
                _ => Ok(()),
            };
            setup::all()
                .and_then(|()| more())
                .and_then(|()| built_tool("fulltime-bench", &[&[name][..], &args].concat()))
        }
        Task::Chaos { args } => setup::for_tests().and_then(|()| built_tool("fulltime-chaos", &args)),
        Task::Hostile { args } => setup::all().and_then(|()| built_tool("fulltime-hostile", &args)),
        Task::Accuracy { args } => {
            setup::all().and_then(|()| built_tool("fulltime-bench", &[&["accuracy".to_owned()][..], &args].concat()))
        }
        Task::Schema => setup::all().and_then(|()| schema()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            eprintln!("error: {}", stop.cause);
            if let Some(fix) = stop.fix {
                eprintln!("  fix: {fix}");
            }
            ExitCode::from(stop.code)
        }
    }
}

/// Benches that measure torch, too, where libtorch is.
const ENGINE_BENCHES: [&str; 4] = ["model", "precision", "parallel", "isolation"];

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository exists")
}

/// A binary of the release build.
pub fn built(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("release").join(name)
}

/// Runs cargo, in the root, with the tools of the set-up in its environment.
pub fn cargo(args: &[&str]) -> Outcome {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    run(command.args(args), 1)
}

/// Runs a command in the root; its failure becomes ours, with its own code when it has one.
pub fn run(command: &mut Command, code: u8) -> Outcome {
    command.current_dir(root());
    let name = format!("{:?}", command).replace('"', "");
    let status = command
        .status()
        .map_err(|error| Stop::new(code, format!("cannot start `{name}`: {error}"), "install it or put it on PATH"))?;
    if status.success() {
        return Ok(());
    }
    let code = status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(code);
    Err(Stop { code, cause: format!("`{name}` failed ({status})"), fix: None })
}

/// Builds everything, then runs one of the tests' programs.
fn built_tool(name: &str, args: &[String]) -> Outcome {
    // The libraries, too: one of them is preloaded into processes under test.
    cargo(&["build", "--quiet", "--release", "--workspace", "--bins", "--lib"])?;
    tool(name, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A bench of the build with torch, in the target folder of the torch suite.
fn torch_bench(args: &[String]) -> Outcome {
    let build = [
        "build",
        "--quiet",
        "--release",
        "--package",
        "fulltime-tests",
        "--features",
        "torch",
        "--bin",
        "fulltime-bench",
    ];
    with_torch(&[&build[..], &["--target-dir", "target/torch"]].concat())?;
    run(Command::new(root().join("target/torch/release/fulltime-bench")).args(args), 1)
}

/// Cargo with LIBTORCH, which build scripts ask for.
pub fn with_torch(args: &[&str]) -> Outcome {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if let Some(folder) = setup::libtorch() {
        command.env("LIBTORCH", folder);
    }
    run(command.args(args), 1)
}

pub fn tool(name: &str, args: &[&str]) -> Outcome {
    run(Command::new(built(name)).args(args), 1)
}

fn schema() -> Outcome {
    cargo(&["build", "--quiet", "--release", "--workspace", "--bins"])?;
    let folder = root().join("docs/schema");
    let write =
        |cause: std::io::Error| Stop::new(5, format!("write {}: {cause}", folder.display()), "make it writable");
    std::fs::create_dir_all(&folder).map_err(write)?;
    for name in ["job", "pipeline", "manifest", "squads", "pitch"] {
        let output = Command::new(built("fulltime")).args(["schema", name]).output().map_err(write)?;
        std::fs::write(folder.join(format!("{name}.json")), output.stdout).map_err(write)?;
    }
    Ok(())
}
