//! The headline figure. Four recordings of 20 s, 1280x720 H.264 (synthetic, so that anyone can repeat it), through
//! `fulltime run`; then every part alone on the same machine in the same minutes.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;
use fulltime_tests::{binary, files, root, shipped_pipeline, yolox_pipeline};
use serde_json::{Value, json};

/// Preprocessing is counted with no more than this in the limit: slower is our own fault.
const PREPROCESS_ALLOWED: f64 = 0.4e-3;

#[derive(Debug, Args)]
pub struct Options {
    /// One JSON object on the last line.
    #[arg(long)]
    json: bool,
    /// Pipeline file; default: YOLOX-nano at 416 from the test assets, else the shipped detector.
    #[arg(long)]
    pipeline: Option<PathBuf>,
    /// Folder of recordings instead of the synthetic ones.
    #[arg(long)]
    archive: Option<PathBuf>,
    /// Worker processes.
    #[arg(long, default_value_t = 1)]
    workers: u32,
}

pub fn run(options: &Options) {
    let dir = root().join("out/bench");
    std::fs::create_dir_all(&dir).expect("create out/bench");
    let archive = options.archive.clone().unwrap_or_else(|| recordings(&dir.join("archive")));
    let pipeline = options.pipeline.clone().or_else(|| yolox_pipeline(&dir, "")).unwrap_or_else(shipped_pipeline);
    let videos: Vec<PathBuf> =
        files(&archive).into_iter().filter(|path| path.extension().is_some_and(|e| e == "mp4" || e == "mkv")).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);

    eprintln!("decode alone: FFmpeg's libraries, one thread");
    let decode = alone(&[&["decode"], &paths(&videos)[..]].concat(), 1).remove(0);
    eprintln!("preprocess alone: one thread");
    let pipeline_text = pipeline.to_str().expect("UTF-8");
    let first = videos[0].to_str().expect("UTF-8");
    let preprocess = alone(&["preprocess", "--pipeline", pipeline_text, first], 1).remove(0);
    eprintln!("model alone: {cores} processes, one thread each");
    let model = alone(&["model", "--pipeline", pipeline_text, first], cores);
    eprintln!("the whole job");
    let job = job(&archive, &dir.join("out"), &pipeline, options.workers);

    let number = |value: &Value, key: &str| value[key].as_f64().unwrap_or_else(|| panic!("no {key} in {value}"));
    let per_frame = |value: &Value| number(value, "cpu_seconds") / number(value, "frames");
    let decode_cpu = per_frame(&decode);
    let preprocess_cpu = per_frame(&preprocess);
    let model_cpu = model.iter().map(per_frame).sum::<f64>() / model.len() as f64;
    let model_fps: f64 = model.iter().map(|m| number(m, "frames") / number(m, "seconds")).sum();
    let decode_fps = number(&decode, "frames") / number(&decode, "seconds");
    let limit_fps = cores as f64 / (decode_cpu + preprocess_cpu.min(PREPROCESS_ALLOWED) + model_cpu);
    let fps = number(&job, "fps");
    let parts = [("decode", decode_cpu), ("preprocess", preprocess_cpu), ("model", model_cpu)];
    let bottleneck = parts.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("three parts").0;

    let rows = [
        ("whole job", fps, f64::NAN),
        ("model alone", model_fps, model_cpu),
        ("decode alone, one core", decode_fps, decode_cpu),
        ("preprocess alone, one core", preprocess_cpu.recip(), preprocess_cpu),
        ("limit: cores / sum of parts", limit_fps, decode_cpu + preprocess_cpu.min(PREPROCESS_ALLOWED) + model_cpu),
    ];
    let table = |line: &str| if options.json { eprintln!("{line}") } else { println!("{line}") };
    table(&format!("{:<30} {:>10} {:>14}", "", "frames/s", "CPU ms/frame"));
    for (name, fps, cpu) in rows {
        let cpu = if cpu.is_nan() { String::new() } else { format!("{:.2}", cpu * 1e3) };
        table(&format!("{name:<30} {fps:>10.1} {cpu:>14}"));
    }
    if let Some(stages) = job["stages"].as_object() {
        let frames = number(&job, "frames");
        for (stage, seconds) in stages {
            let seconds = seconds.as_f64().unwrap_or_default();
            table(&format!("{:<30} {:>10} {:>14.2}", format!("lane: {stage}, busy"), "", seconds / frames * 1e3));
        }
    }
    table(&format!(
        "job / model alone {:.3}, job / limit {:.3}; most of a frame's time goes to: {bottleneck}",
        fps / model_fps,
        fps / limit_fps
    ));
    if options.json {
        let result = json!({
            "bench": "throughput", "fps": fps, "model_fps": model_fps, "decode_fps": decode_fps,
            "preprocess_fps": preprocess_cpu.recip(), "limit_fps": limit_fps, "ratio_model": fps / model_fps,
            "ratio_limit": fps / limit_fps, "bottleneck": bottleneck, "cores": cores,
            "cpu_ms_per_frame": { "decode": decode_cpu * 1e3, "preprocess": preprocess_cpu * 1e3, "model": model_cpu * 1e3 },
            "stages": job["stages"], "frames": job["frames"], "elapsed_s": job["elapsed_s"], "pipeline": pipeline,
        });
        println!("{result}");
    }
}

/// Four synthetic recordings, rendered once.
fn recordings(archive: &Path) -> PathBuf {
    if files(archive).iter().filter(|path| path.extension().is_some_and(|e| e == "mp4")).count() != 4 {
        eprintln!("rendering four recordings into {}", archive.display());
        for seed in 1..=4 {
            let status = Command::new(binary("fulltime-synth"))
                .args(["match", "--size", "1280x720", "--fps", "25", "--duration", "20s", "--gop", "50"])
                .args(["--name", &format!("m{seed}"), "--seed", &seed.to_string(), "--out"])
                .arg(archive)
                .status()
                .expect("start fulltime-synth");
            assert!(status.success(), "fulltime-synth failed");
        }
    }
    archive.to_owned()
}

fn paths(videos: &[PathBuf]) -> Vec<&str> {
    videos.iter().map(|path| path.to_str().expect("UTF-8")).collect()
}

/// Runs a part in this many processes at once; each prints one JSON object.
fn alone(args: &[&str], processes: usize) -> Vec<Value> {
    let program = std::env::current_exe().expect("our own path");
    let start = |_| {
        let mut command = Command::new(&program);
        command.arg("alone").args(args).stdout(Stdio::piped()).spawn().expect("start a part")
    };
    let children: Vec<_> = (0..processes).map(start).collect();
    children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().expect("its end");
            assert!(output.status.success(), "a part failed");
            serde_json::from_slice(&output.stdout).expect("a JSON object")
        })
        .collect()
}

/// The whole job, from nothing: earlier results are removed, or it would find them.
fn job(archive: &Path, out: &Path, pipeline: &Path, workers: u32) -> Value {
    let _ = std::fs::remove_dir_all(out);
    let workers = workers.to_string();
    fulltime_tests::run(archive, out, pipeline, &["--workers", &workers]).with_code(0).json()
}
