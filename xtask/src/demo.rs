//! `cargo xtask demo`: a small synthetic season through the real parts, with the shipped detector.

use std::{path::PathBuf, process::Command, time::Instant};

use clap::Args;

use crate::{Outcome, Stop, built, cargo, root, run as command};

/// What to make and where.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder for recordings and results.
    #[arg(long, default_value = "out/demo")]
    dir: PathBuf,
    /// Matches in the season, two halves each.
    #[arg(long, default_value_t = 2)]
    matches: u32,
    /// Length of a half.
    #[arg(long, default_value = "20s")]
    duration: String,
    /// Worker processes.
    #[arg(long, default_value_t = 1)]
    workers: u32,
}

pub fn run(options: &Options) -> Outcome {
    let started = Instant::now();
    eprintln!("demo: building (the first time takes some minutes)");
    cargo(&["build", "--quiet", "--release", "--workspace", "--bins"])?;
    let built_in = started.elapsed();
    let dir = root().join(&options.dir);
    let archive = dir.join("archive");
    // A folder for the season, so that the template below has something to read.
    let season_folder = archive.join("2025-26");
    if !archive.join(".complete").exists() {
        eprintln!("demo: rendering a synthetic season into {}", archive.display());
        let season = ["season", "--seed", "7", "--halves", "2", "--size", "1280x720"];
        command(
            Command::new(built("fulltime-synth"))
                .args(season)
                .arg("--matches")
                .arg(options.matches.to_string())
                .args(["--duration", &options.duration])
                .arg("--out")
                .arg(&season_folder),
            1,
        )?;
        std::fs::write(archive.join(".complete"), "")
            .map_err(|error| Stop::new(24, format!("write {}: {error}", archive.display()), "free some space"))?;
    }
    let rendered = started.elapsed();
    let job = dir.join("season.toml");
    let text = format!(
        "# Written by `cargo xtask demo`; run it again with: fulltime run --job {job}\n\
         name = \"demo\"\narchive = {archive:?}\nout = {out:?}\npipeline = {pipeline:?}\nshard_length = \"5s\"\n\n\
         [matches]\ntemplate = \"{{season}}/{{match}}_p{{period}}_{{camera}}.mp4\"\n",
        job = job.display(),
        archive = archive,
        out = dir.join("results"),
        pipeline = root().join("models/synth-detector/pipeline.toml"),
    );
    std::fs::write(&job, text)
        .map_err(|error| Stop::new(24, format!("write {}: {error}", job.display()), "free some space"))?;
    let workers = options.workers.to_string();
    command(Command::new(built("fulltime")).arg("run").arg("--job").arg(&job).args(["--workers", &workers]), 1)?;
    eprintln!(
        "demo: build {:.0} s, rendering {:.0} s, processing {:.0} s",
        built_in.as_secs_f64(),
        (rendered - built_in).as_secs_f64(),
        (started.elapsed() - rendered).as_secs_f64()
    );
    Ok(())
}
