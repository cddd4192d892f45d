//! `cargo xtask test`: every suite, each timed. All of them use the release profile of the demo, so that nothing is
//! compiled twice.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{Outcome, cargo, setup, tool, with_torch};

#[derive(Debug, Args)]
pub struct Options {
    /// Add the long suites (ignored tests).
    #[arg(long)]
    pub full: bool,
    /// Only suites whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

/// Name and cargo's arguments. Cheap ones first, so that a slip is told within a minute. Every suite selects the whole
/// workspace: with other selections cargo unifies features differently and compiles the dependencies again.
const SUITES: [(&str, &[&str]); 5] = [
    ("format", &["fmt", "--all", "--", "--check"]),
    ("build", &["build", "--quiet", "--release", "--workspace", "--all-targets"]),
    ("unit", &["test", "--quiet", "--release", "--workspace", "--lib", "--bins", "--examples"]),
    ("stories", &["test", "--release", "--workspace", "--test", "*", "--", "--nocapture", "--test-threads=1"]),
    ("lints", &["clippy", "--quiet", "--release", "--workspace", "--all-targets", "--", "--deny", "warnings"]),
];

/// Fault schedules that every run goes through: a few seeds, under two minutes; longer ones are `cargo xtask chaos`.
const CHAOS: (&str, &[&str]) = ("chaos", &["--seed", "1", "--schedules", "3", "--minutes", "2", "--faults-for", "10"]);

/// What deploys it: container files, compose file, broker roles, Helm chart.
const DEPLOY: &str = "deploy";

/// Licences, sources and bans of all dependencies, where cargo-deny is installed. Advisories are left to
/// `cargo deny check`: they change by themselves, and the tests of a commit should not.
const DEPENDENCIES: (&str, &[&str]) =
    ("deny", &["deny", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]);

/// What `--full` adds: tests that are marked as ignored because they take long.
const LONG: [(&str, &[&str]); 1] = [(
    "long",
    &["test", "--release", "--workspace", "--test", "*", "--", "--ignored", "--nocapture", "--test-threads=1"],
)];

/// The torch backend, in a target folder of its own, where libtorch is (`--full` brings it).
const TORCH: (&str, &[&str]) = (
    "torch",
    &[
        "test",
        "--release",
        "--package",
        "fulltime-backend-torch",
        "--features",
        "torch",
        "--target-dir",
        "target/torch",
        "--",
        "--nocapture",
    ],
);

pub fn run(options: &Options) -> Outcome {
    let long = if options.full { &LONG[..] } else { &[] };
    let torch = setup::libtorch().map(|_| TORCH);
    if torch.is_none() {
        eprintln!("skipped: the torch backend (`cargo xtask setup --torch`, 540 MB of downloads)");
    }
    let mut times: Vec<(&str, Duration, bool)> = Vec::new();
    let mut failed = None;
    let deny = cargo_deny();
    if deny.is_none() {
        eprintln!("skipped: licences of dependencies (cargo install --locked cargo-deny)");
    }
    let deploy: (&str, &[&str]) = (DEPLOY, &["tests/deploy/run.py"]);
    for (name, args) in SUITES.iter().chain([&CHAOS, &deploy]).chain(&deny).chain(&torch).chain(long) {
        if options.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        eprintln!("== {name}");
        let started = Instant::now();
        let outcome = match *name {
            "chaos" => tool("fulltime-chaos", args),
            DEPLOY => crate::run(Command::new("python3").args(*args), 1),
            "torch" => with_torch(args),
            _ => cargo(args),
        };
        times.push((name, started.elapsed(), outcome.is_ok()));
        if let Err(stop) = outcome {
            failed = Some(stop);
            // Without a build there is nothing to test; other failures do not hide each other.
            if *name == "build" {
                break;
            }
        }
    }
    eprintln!("\n{:<10} {:>8}", "suite", "minutes");
    for (name, time, good) in &times {
        eprintln!("{name:<10} {:>8.1}{}", time.as_secs_f64() / 60.0, if *good { "" } else { "  FAILED" });
    }
    let total: Duration = times.iter().map(|(_, time, _)| *time).sum();
    eprintln!("{:<10} {:>8.1}", "total", total.as_secs_f64() / 60.0);
    failed.map_or(Ok(()), Err)
}

fn cargo_deny() -> Option<(&'static str, &'static [&'static str])> {
    let version = Command::new("cargo").args(["deny", "--version"]).output();
    version.is_ok_and(|output| output.status.success()).then_some(DEPENDENCIES)
}
