//! Engines on their own: `model`, `precision`, `parallel`, `isolation`. Whatever is compared runs in a process of its own, one
//! after the other, so that no library, allocator or cache is shared; the same commands measure CPUs and GPUs.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use clap::Args;
use fulltime_tests::root;
use serde_json::{Value, json};

mod one;

pub use one::{One, run as one};

#[derive(Debug, Args)]
pub struct Options {
    /// Model manifest [default: the shipped detector]
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// `onnx`, `torch` or `sim`, with options after a colon as the worker takes them: `torch:device=cuda:0,precision=bf16`.
    /// Can be given several times [default: onnx, and torch where it is built in]
    #[arg(long)]
    engine: Vec<String>,
    /// Items in a batch. Can be given several times.
    #[arg(long, default_values_t = [1, 2, 4, 8])]
    batch: Vec<usize>,
    /// Most devices or lanes.
    #[arg(long, default_value_t = 4)]
    most: usize,
    /// How long each is measured.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// One JSON object on the last line.
    #[arg(long)]
    json: bool,
}

impl Options {
    fn engines(&self) -> Vec<String> {
        if !self.engine.is_empty() {
            return self.engine.clone();
        }
        let torch = cfg!(feature = "torch").then(|| "torch".to_owned());
        std::iter::once("onnx".to_owned()).chain(torch).collect()
    }

    /// The engine of the benches that need torch's options.
    fn torch(&self) -> Option<String> {
        self.engines().into_iter().find(|engine| engine.starts_with("torch"))
    }

    /// One run of an engine; `None` where it cannot be had, which is said.
    fn measure(&self, engine: &str, batch: usize, more: &[&str]) -> Option<Value> {
        let output = self.start(engine, batch, more).wait_with_output().ok()?;
        if !output.status.success() {
            eprintln!("left out: {engine} with a batch of {batch}");
            return None;
        }
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(text.lines().last()?).ok()
    }

    fn start(&self, engine: &str, batch: usize, more: &[&str]) -> std::process::Child {
        let manifest = self.manifest.clone().unwrap_or_else(|| root().join("models/synth-detector/manifest.toml"));
        Command::new(std::env::current_exe().expect("this program"))
            .args(["engine", "--engine", engine, "--batch", &batch.to_string(), "--seconds", &self.seconds.to_string()])
            .arg("--manifest")
            .arg(manifest)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start this program again")
    }

    /// Table to standard output, or beside it where that is for JSON.
    fn show(&self, name: &str, columns: &[&str], rows: Vec<(String, Vec<f64>)>, mut found: Value) {
        let line = |text: &str| if self.json { eprintln!("{text}") } else { println!("{text}") };
        let wide = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(name.len());
        let head: String = columns.iter().map(|column| format!(" {column:>12}")).collect();
        line(&format!("{name:<wide$}{head}"));
        for (name, values) in &rows {
            let cell = |value: &f64| if value.is_nan() { format!(" {:>12}", "") } else { format!(" {value:>12.3}") };
            line(&format!("{name:<wide$}{}", values.iter().map(cell).collect::<String>()));
        }
        if self.json {
            found["bench"] = json!(name);
            found["rows"] = rows
                .iter()
                .map(|(name, values)| {
                    let cells = columns.iter().zip(values).map(|(column, value)| ((*column).to_owned(), json!(value)));
                    json!({ "name": name, "values": cells.collect::<serde_json::Map<_, _>>() })
                })
                .collect();
            println!("{found}");
        }
    }
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or(f64::NAN)
}

fn megabytes(value: &Value, key: &str) -> f64 {
    number(value, key) / 1e6
}

/// Engines by batch size.
pub fn model(options: &Options) {
    let columns = ["frames/s", "p50 ms", "p99 ms", "MB/s", "peak MB", "load s"];
    let mut rows = Vec::new();
    for engine in options.engines() {
        for &batch in &options.batch {
            let Some(found) = options.measure(&engine, batch, &[]) else { continue };
            let latency = [number(&found, "p50_ms"), number(&found, "p99_ms")];
            let rest = [megabytes(&found, "bytes_per_second"), megabytes(&found, "peak_bytes"), number(&found, "load")];
            let values = [&[number(&found, "frames_per_second")][..], &latency, &rest].concat();
            rows.push((format!("{engine} batch {batch}"), values));
        }
    }
    options.show("model", &columns, rows, json!({}));
}

/// Variants of engines against each one's fp32.
pub fn precision(options: &Options) {
    let batch = options.batch.last().copied().unwrap_or(1);
    let mut rows = Vec::new();
    for engine in options.engines() {
        let variants: &[&str] = match engine.split(':').next() {
            Some("torch") => {
                &["", "channels-last", "tf32", "precision=bf16", "precision=bf16,channels-last", "precision=fp16"]
            }
            Some("onnx") if engine.contains("tensorrt") => &["", "precision=fp16"],
            Some("onnx") if engine.contains("cuda") => &["", "tf32"],
            _ => &[""],
        };
        let mut plain: Option<Value> = None;
        for variant in variants {
            let name = with(&engine, variant);
            let Some(found) = options.measure(&name, batch, &["--answers"]) else { continue };
            let base = plain.get_or_insert_with(|| found.clone());
            rows.push((
                name,
                vec![
                    number(&found, "frames_per_second"),
                    number(&found, "frames_per_second") / number(base, "frames_per_second"),
                    megabytes(&found, "peak_bytes"),
                    megabytes(base, "peak_bytes") - megabytes(&found, "peak_bytes"),
                    apart(base, &found),
                ],
            ));
        }
    }
    let columns = ["frames/s", "speed-up", "peak MB", "saved MB", "max apart"];
    options.show("precision", &columns, rows, json!({ "batch": batch }));
}

/// The same engine with one more option.
fn with(engine: &str, option: &str) -> String {
    match (option, engine.contains(':')) {
        ("", _) => engine.to_owned(),
        (option, true) => format!("{engine},{option}"),
        (option, false) => format!("{engine}:{option}"),
    }
}

/// Largest difference between two runs' answers to the same batch.
fn apart(a: &Value, b: &Value) -> f64 {
    let values = |value: &Value| value["answers"].as_array().cloned().unwrap_or_default();
    let pairs = values(a).into_iter().zip(values(b));
    pairs.filter_map(|(a, b)| Some((a.as_f64()? - b.as_f64()?).abs())).fold(f64::NAN, f64::max)
}

/// A split model, and replicas.
pub fn parallel(options: &Options) {
    let batch = options.batch.last().copied().unwrap_or(8);
    let mut rows = Vec::new();
    let columns = ["frames/s", "speed-up", "efficiency", "bubble"];
    if let Some(torch) = options.torch() {
        let cuda = torch.contains("cuda");
        let mut single = f64::NAN;
        for devices in 1..=options.most {
            let names = match cuda {
                true => (0..devices).map(|index| format!("cuda:{index}")).collect::<Vec<_>>().join("+"),
                false => format!("cpu*{devices}"),
            };
            let Some(found) = options.measure(&with(&torch, &format!("device={names}")), batch, &[]) else { continue };
            let fps = number(&found, "frames_per_second");
            single = if devices == 1 { fps } else { single };
            // Of micro-batches of one item each, between equal devices.
            let bubble = (devices - 1) as f64 / (batch + devices - 1) as f64;
            rows.push((
                format!("model split, {devices} devices"),
                vec![fps, fps / single, fps / single / devices as f64, bubble],
            ));
        }
    } else {
        eprintln!("left out: a split model (a build with `--features torch`)");
    }
    for engine in options.engines() {
        let mut single = f64::NAN;
        for replicas in 1..=options.most {
            let placed = |index: usize| match engine.contains("cuda") {
                true => {
                    with(&engine, &format!("device={}{index}", if engine.starts_with("torch") { "cuda:" } else { "" }))
                }
                false => engine.clone(),
            };
            let fps: f64 =
                together(options, replicas, batch, placed).iter().map(|found| number(found, "frames_per_second")).sum();
            single = if replicas == 1 { fps } else { single };
            rows.push((
                format!("{engine}, {replicas} replicas"),
                vec![fps, fps / single, fps / single / replicas as f64, f64::NAN],
            ));
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    options.show("parallel", &columns, rows, json!({ "batch": batch, "cores": cores }));
}

/// Several processes at the same time.
fn together(options: &Options, count: usize, batch: usize, engine: impl Fn(usize) -> String) -> Vec<Value> {
    let children: Vec<_> = (0..count).map(|index| options.start(&engine(index), batch, &[])).collect();
    let outputs = children.into_iter().filter_map(|child| child.wait_with_output().ok());
    let read = |output: std::process::Output| {
        serde_json::from_str(String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default()).ok()
    };
    outputs.filter_map(read).collect()
}

/// Threads against processes.
pub fn isolation(options: &Options) {
    let batch = options.batch.first().copied().unwrap_or(1);
    let mut rows = Vec::new();
    for engine in options.engines() {
        for lanes in (0..).map(|power| 1_usize << power).take_while(|&lanes| lanes <= options.most) {
            let threads = options.measure(&engine, batch, &["--threads", &lanes.to_string()]);
            let processes = together(options, lanes, batch, |_| engine.clone());
            let (mut fps, mut peak) = (0.0, 0.0);
            for found in &processes {
                fps += number(found, "frames_per_second");
                peak += megabytes(found, "peak_bytes");
            }
            if let Some(found) = threads {
                let (own_fps, own_peak) = (number(&found, "frames_per_second"), megabytes(&found, "peak_bytes"));
                rows.push((format!("{engine}, {lanes} threads"), vec![own_fps, own_peak, f64::NAN, f64::NAN]));
                let more = (peak - own_peak) / lanes as f64;
                rows.push((format!("{engine}, {lanes} processes"), vec![fps, peak, fps / own_fps, more]));
            }
        }
    }
    let columns = ["frames/s", "peak MB", "against thr.", "MB more each"];
    options.show("isolation", &columns, rows, json!({ "batch": batch }));
}
