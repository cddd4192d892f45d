//! The headline figure. Four recordings of 20 s, 1280x720 H.264 (synthetic, so that anyone can repeat it), through
//! `fulltime run`; then every part alone on the same machine in the same minutes.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;
use fulltime_tests::{asset, binary, files, root, shipped_pipeline, yolox_pipeline};
use serde::Serialize;
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
    /// As `fulltime run` has it. With long shards a lane waits at the end for the other's last one.
    #[arg(long, value_name = "TIME")]
    shard_length: Option<String>,
    /// How often everything is measured; medians are told, and the least and the most.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// A Python that has tests/peers/requirements.txt: the model alone is then measured there and not in our backend.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
}

pub fn run(options: &Options) {
    let dir = root().join("out/bench");
    std::fs::create_dir_all(&dir).expect("create out/bench");
    let archive = options.archive.clone().unwrap_or_else(|| recordings(&dir.join("archive")));
    let pipeline = options.pipeline.clone().or_else(|| yolox_pipeline(&dir, "")).unwrap_or_else(shipped_pipeline);
    let table = |line: &str| if options.json { eprintln!("{line}") } else { println!("{line}") };
    let runs: Vec<Run> = (1..=options.runs.max(1))
        .map(|number| {
            eprintln!("run {number} of {}", options.runs.max(1));
            let run = measure(options, &dir, &archive, &pipeline);
            run.print(&table);
            run
        })
        .collect();
    let spread = |value: &dyn Fn(&Run) -> f64| Spread::of(&runs.iter().map(value).collect::<Vec<_>>());
    let (to_limit, to_model) = (spread(&Run::ratio_limit), spread(&Run::ratio_model));
    let processor = spread(&|run| run.limit_cpu() / run.job_cpu);
    if runs.len() > 1 {
        table(&format!("job / limit, median of {} runs: {to_limit}; in processor time: {processor}", runs.len()));
    }
    let Some(last) = runs.last().filter(|_| options.json) else { return };
    let fps = spread(&|run| run.fps);
    let result = json!({
        "bench": "throughput", "runs": runs.len(), "fps": fps.median, "model_fps": last.model_fps,
        "decode_fps": last.decode_fps, "preprocess_fps": last.preprocess.recip(), "limit_fps": last.limit_fps(),
        "ratio_model": to_model.median, "ratio_limit": to_limit.median, "bottleneck": last.bottleneck(), "cores": last.cores,
        "spread": { "fps": fps, "ratio_limit": to_limit, "ratio_model": to_model, "ratio_cpu": processor },
        "cpu_ms_per_frame": {
            "decode": last.decode * 1e3, "preprocess": last.preprocess * 1e3, "model": last.model * 1e3,
            "job": last.job_cpu * 1e3,
        },
        "model_by": last.model_by, "stages": last.job["stages"], "frames": last.job["frames"],
        "elapsed_s": last.job["elapsed_s"], "pipeline": pipeline,
    });
    println!("{result}");
}

/// One run: every part alone and the whole job, one after the other. Times are seconds of a processor a frame.
struct Run {
    cores: usize,
    decode: f64,
    preprocess: f64,
    model: f64,
    /// The runtime that the model alone ran in.
    model_by: &'static str,
    decode_fps: f64,
    model_fps: f64,
    fps: f64,
    /// Of all processes of the job together, start-up included.
    job_cpu: f64,
    job: Value,
}

fn measure(options: &Options, dir: &Path, archive: &Path, pipeline: &Path) -> Run {
    let videos = videos(archive);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    eprintln!("decode alone: FFmpeg's libraries, one thread");
    let decode = alone(&[&["decode"], &paths(&videos)[..]].concat(), 1).remove(0);
    eprintln!("preprocess alone: one thread");
    let pipeline_text = pipeline.to_str().expect("UTF-8");
    let first = videos[0].to_str().expect("UTF-8");
    let preprocess = alone(&["preprocess", "--pipeline", pipeline_text, first], 1).remove(0);
    eprintln!("model alone: {cores} processes, one thread each");
    let (model, model_by) = match options.python.as_ref().filter(|_| options.pipeline.is_none()) {
        Some(python) => (model_in_python(python, &videos[0], cores), "Python"),
        None => (alone(&["model", "--pipeline", pipeline_text, first], cores), "fulltime's backend"),
    };
    eprintln!("the whole job");
    let before = children_cpu();
    let job = job_with(archive, &dir.join("out"), pipeline, options.workers, options.shard_length.as_deref());

    let per_frame = |value: &Value| number(value, "cpu_seconds") / number(value, "frames");
    Run {
        cores,
        decode: per_frame(&decode),
        preprocess: per_frame(&preprocess),
        model: model.iter().map(per_frame).sum::<f64>() / model.len() as f64,
        model_by,
        decode_fps: number(&decode, "frames") / number(&decode, "seconds"),
        model_fps: model.iter().map(|m| number(m, "frames") / number(m, "seconds")).sum(),
        fps: number(&job, "fps"),
        job_cpu: (children_cpu() - before) / number(&job, "frames"),
        job,
    }
}

impl Run {
    fn limit_cpu(&self) -> f64 {
        self.decode + self.preprocess.min(PREPROCESS_ALLOWED) + self.model
    }

    fn limit_fps(&self) -> f64 {
        self.cores as f64 / self.limit_cpu()
    }

    fn ratio_limit(&self) -> f64 {
        self.fps / self.limit_fps()
    }

    fn ratio_model(&self) -> f64 {
        self.fps / self.model_fps
    }

    fn bottleneck(&self) -> &'static str {
        let parts = [("decode", self.decode), ("preprocess", self.preprocess), ("model", self.model)];
        parts.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or("model", |part| part.0)
    }

    fn print(&self, table: &dyn Fn(&str)) {
        let rows = [
            ("whole job", self.fps, self.job_cpu),
            ("model alone", self.model_fps, self.model),
            ("decode alone, one core", self.decode_fps, self.decode),
            ("preprocess alone, one core", self.preprocess.recip(), self.preprocess),
            ("limit: cores / sum of parts", self.limit_fps(), self.limit_cpu()),
        ];
        table(&format!("{:<30} {:>10} {:>14}", "", "frames/s", "CPU ms/frame"));
        for (name, fps, cpu) in rows {
            table(&format!("{name:<30} {fps:>10.1} {:>14.2}", cpu * 1e3));
        }
        let frames = number(&self.job, "frames");
        for (stage, seconds) in self.job["stages"].as_object().into_iter().flatten() {
            let seconds = seconds.as_f64().unwrap_or_default();
            table(&format!("{:<30} {:>10} {:>14.2}", format!("lane: {stage}, busy"), "", seconds / frames * 1e3));
        }
        // What of the job's processor time the limit explains; the rest of the way to it are cores that stood idle, or
        // were somebody else's.
        table(&format!(
            "job / model alone {:.3}, job / limit {:.3}, in processor time {:.3}; most of a frame's time goes to: {}",
            self.ratio_model(),
            self.ratio_limit(),
            self.limit_cpu() / self.job_cpu,
            self.bottleneck()
        ));
    }
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The model alone in the runtime that peers use, in this many processes at once.
fn model_in_python(python: &Path, recording: &Path, processes: usize) -> Vec<Value> {
    let Some(model) = asset("models/yolox_nano_dyn.onnx") else { return Vec::new() };
    std::thread::scope(|scope| {
        let ask = || crate::peers::script(python, &["model".as_ref(), &model, recording]);
        let asked: Vec<_> = (0..processes).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|thread| thread.join().expect("a part")).collect()
    })
}

/// Processor time of all ended children and theirs. Lanes outlive those who started them: such orphans become ours, or
/// their time would be nobody's.
fn children_cpu() -> f64 {
    // SAFETY: a plain flag, and waiting without asking for the status.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        while libc::waitpid(-1, std::ptr::null_mut(), 0) > 0 {}
    }
    crate::alone::cpu_seconds(libc::RUSAGE_CHILDREN)
}

/// Median of several runs, with the least and the most.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_unstable_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
        Self { median: at(values.len() / 2), least: at(0), most: at(values.len().saturating_sub(1)) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{:.3} ({:.3} to {:.3})", self.median, self.least, self.most))
    }
}

/// The recordings of a folder.
pub fn videos(archive: &Path) -> Vec<PathBuf> {
    files(archive).into_iter().filter(|path| path.extension().is_some_and(|e| e == "mp4" || e == "mkv")).collect()
}

/// Four synthetic recordings, rendered once.
pub fn recordings(archive: &Path) -> PathBuf {
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
pub fn job(archive: &Path, out: &Path, pipeline: &Path, workers: u32) -> Value {
    job_with(archive, out, pipeline, workers, None)
}

fn job_with(archive: &Path, out: &Path, pipeline: &Path, workers: u32, shard_length: Option<&str>) -> Value {
    let _ = std::fs::remove_dir_all(out);
    let workers = workers.to_string();
    let mut more = vec!["--workers", &workers];
    if let Some(length) = shard_length {
        more.extend(["--shard-length", length]);
    }
    fulltime_tests::run(archive, out, pipeline, &more).with_code(0).json()
}
