//! One engine with one model and one batch size, measured.

use std::{
    path::{Path, PathBuf},
    sync::Barrier,
    time::Instant,
};

use clap::Args;
use fulltime_backend::{Backend, Contract, OPEN, Output};
use fulltime_backend_onnx::{OnnxBackend, Runtime};
use fulltime_backend_sim::{SimBackend, SimModel};
use fulltime_backend_torch::TorchBackend;
use fulltime_common::{
    pipeline::{Layout, Manifest, ModelOutput},
    process,
};
use serde_json::json;

/// Runs before the measurement: lazy initialisation, and clocks that rise.
const WARM: usize = 3;

#[derive(Debug, Args)]
pub struct One {
    #[arg(long)]
    engine: String,
    #[arg(long)]
    manifest: PathBuf,
    #[arg(long)]
    batch: usize,
    #[arg(long)]
    seconds: f64,
    /// Lanes in this process, each with its own backend.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Print the answers to the first batch, too.
    #[arg(long)]
    answers: bool,
}

pub fn run(one: &One) {
    let begun = Instant::now();
    let text = std::fs::read_to_string(&one.manifest).expect("read the manifest");
    let manifest: Manifest = toml::from_str(&text).expect("a model manifest");
    let folder = one.manifest.parent().unwrap_or(Path::new("."));
    let open = || {
        open(&one.engine, &manifest, folder).unwrap_or_else(|error| {
            eprintln!("{}: {}", one.engine, fulltime_common::error::chain(&*error));
            std::process::exit(1)
        })
    };
    let mut backends: Vec<Box<dyn Backend>> = (0..one.threads).map(|_| open()).collect();
    let contract = backends[0].describe().contract.clone();
    let engine = backends[0].describe().engine.clone();
    let load = begun.elapsed().as_secs_f64();
    let input: Vec<f32> = (0..one.batch * contract.input_len()).map(|at| (at * 31 % 251) as f32).collect();
    let mut answers = Vec::new();
    for _ in 0..WARM {
        for backend in &mut backends {
            if let Err(error) = backend.run(&input, one.batch, &mut answers) {
                eprintln!("{}: {}", one.engine, fulltime_common::error::chain(&error));
                std::process::exit(1);
            }
        }
    }
    let start = Barrier::new(one.threads);
    let lane = |backend: &mut Box<dyn Backend>| {
        let (mut output, mut times) = (Vec::new(), Vec::new());
        start.wait();
        let begun = Instant::now();
        while begun.elapsed().as_secs_f64() < one.seconds {
            let run = Instant::now();
            backend.run(&input, one.batch, &mut output).expect("a run");
            times.push(run.elapsed().as_secs_f64());
        }
        (times, begun.elapsed().as_secs_f64())
    };
    let lane = &lane;
    let lanes: Vec<(Vec<f64>, f64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = backends.iter_mut().map(|backend| scope.spawn(move || lane(backend))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a lane")).collect()
    });
    let per_second: f64 = lanes.iter().map(|(times, seconds)| (times.len() * one.batch) as f64 / seconds).sum();
    let mut times: Vec<f64> = lanes.into_iter().flat_map(|(times, _)| times).collect();
    times.sort_by(f64::total_cmp);
    let share = |share: f64| times[((times.len() - 1) as f64 * share) as usize] * 1e3;
    let item = 4.0 * (contract.input_len() + contract.output_len()) as f64;
    let held: Option<u64> = backends.iter().map(|backend| backend.memory_bytes()).sum();
    println!(
        "{}",
        json!({
            "engine": engine,
            "frames_per_second": per_second,
            "p50_ms": share(0.5),
            "p99_ms": share(0.99),
            "bytes_per_second": per_second * item,
            // The device's memory, where the backend can tell; on a CPU the process's.
            "peak_bytes": held.unwrap_or_else(resident),
            "load": load,
            "answers": if one.answers { json!(answers) } else { json!(null) },
        })
    );
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn open(engine: &str, manifest: &Manifest, folder: &Path) -> Result<Box<dyn Backend>, Failure> {
    let (name, options) = engine.split_once(':').unwrap_or((engine, ""));
    let contract = contract(manifest);
    let read = |path: &Path| std::fs::read(folder.join(path));
    Ok(match name {
        "onnx" => {
            let library = process::onnxruntime().ok_or("no ONNX Runtime: run `cargo xtask setup`")?;
            let runtime = Runtime::load(&library, &options.parse()?)?;
            Box::new(OnnxBackend::open(&runtime, &read(&manifest.file.path)?, contract)?)
        }
        "torch" => {
            let files: Vec<Vec<u8>> = manifest.torch.iter().map(|file| read(&file.path)).collect::<Result<_, _>>()?;
            let stages: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
            Box::new(TorchBackend::open(&stages, contract, &options.parse()?)?)
        }
        "sim" => {
            let options = if options.is_empty() { Default::default() } else { options.parse()? };
            Box::new(SimBackend::open(options, SimModel::Detector, contract))
        }
        other => return Err(format!("`{other}` is none of onnx, torch, sim").into()),
    })
}

/// What the manifest says of input and outputs; sides that depend on the model stay open.
fn contract(manifest: &Manifest) -> Contract {
    let [width, height] = manifest.input.size.map(|side| side as usize);
    let named = |name: &Option<String>, item: Vec<usize>| Output { name: name.clone(), item };
    let classes = manifest.classes.len();
    let output = match &manifest.output {
        ModelOutput::Yolox { name, .. } | ModelOutput::Yolov5 { name } => named(name, vec![OPEN, 5 + classes]),
        ModelOutput::Yolov8 { name } => named(name, vec![4 + classes, OPEN]),
        ModelOutput::Detr { name, .. } => named(name, vec![OPEN, OPEN]),
        ModelOutput::Generic(generic) => named(&generic.name, vec![OPEN, OPEN]),
        ModelOutput::Embedding { name } => named(name, vec![OPEN]),
        ModelOutput::Ctc { name, alphabet, .. } => named(name, vec![OPEN, alphabet.chars().count() + 1]),
    };
    let input_item = match manifest.input.layout {
        Layout::Nchw => vec![3, height, width],
        Layout::Nhwc => vec![height, width, 3],
    };
    Contract { input: manifest.input.name.clone(), input_item, outputs: vec![output] }
}

/// Most that this process has had in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}
