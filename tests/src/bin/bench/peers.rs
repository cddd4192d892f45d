//! The work of `throughput` by others: Ray Data, Daft, and Python by hand (`tests/peers/throughput.py`), with the same model
//! and recordings, each to a Parquet file of boxes. All are timed from the start of a process to its end; in every run one
//! after the other, so that a busy machine is as busy for each of them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use clap::Args;
use fulltime_tests::{generation, root, yolox_pipeline};
use serde_json::{Value, json};

use crate::throughput::{Spread, job, recordings, videos};

/// Mode of the script, and what it is.
const PEERS: [(&str, &str); 5] = [
    ("loop", "plain Python loop, OpenCV"),
    ("processes", "Python, a process a core"),
    ("ray", "Ray Data"),
    ("ray-tuned", "Ray Data, tuned by hand"),
    ("daft", "Daft"),
];
/// Of all boxes this share must be the same ones: resizing differs, so boxes at the threshold come and go.
const SAME: f64 = 0.9;

#[derive(Debug, Args)]
pub struct Options {
    /// One JSON object on the last line.
    #[arg(long)]
    json: bool,
    /// How often everything is measured; medians are told, and the least and the most.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// A Python that has tests/peers/requirements.txt; default: the one of the set-up.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
}

pub fn run(options: &Options) {
    let dir = root().join("out/bench");
    std::fs::create_dir_all(&dir).expect("create out/bench");
    let archive = recordings(&dir.join("archive"));
    let Some(pipeline) = yolox_pipeline(&dir, "") else { return };
    let model = fulltime_tests::asset("models/yolox_nano_dyn.onnx").expect("the pipeline needs it, too");
    let python = options.python.clone().unwrap_or_else(|| root().join(".tools/peers/bin/python3"));
    let videos = videos(&archive);
    let ask = |args: &[&Path]| script(&python, args);
    let versions = ask(&["versions".as_ref()]);

    let (mut ours, mut theirs) = (Vec::new(), vec![Vec::new(); PEERS.len()]);
    let (mut steady, mut found) = (vec![Vec::new(); PEERS.len()], vec![Value::Null; PEERS.len()]);
    let mut stages = Value::Null;
    for run in 1..=options.runs.max(1) {
        eprintln!("run {run}: fulltime");
        let since = Instant::now();
        let result = job(&archive, &dir.join("out"), &pipeline, 1);
        let frames = result["frames"].as_f64().expect("frames");
        ours.push(frames / since.elapsed().as_secs_f64());
        stages = result["stages"].clone();
        let detections = generation(&result).join("detections");
        for (at, (mode, name)) in PEERS.iter().enumerate() {
            eprintln!("run {run}: {name}");
            let out = dir.join("peer");
            let _ = std::fs::remove_dir_all(&out);
            let _ = std::fs::remove_file(&out);
            if !matches!(*mode, "loop" | "processes") {
                std::fs::create_dir_all(&out).expect("create a folder");
            }
            let since = Instant::now();
            let mut args: Vec<&Path> = vec![mode.as_ref(), &model, &out];
            args.extend(videos.iter().map(PathBuf::as_path));
            let told = ask(&args);
            theirs[at].push(frames / since.elapsed().as_secs_f64());
            steady[at].push(frames / told["seconds"].as_f64().expect("seconds"));
            found[at] = ask(&["compare".as_ref(), &detections, &out]);
            let share = found[at]["share"].as_f64().unwrap_or_default();
            assert!(share >= SAME, "{name} found other boxes: {}", found[at]);
        }
    }

    let table = |line: &str| if options.json { eprintln!("{line}") } else { println!("{line}") };
    let bottleneck = stages.as_object().and_then(|stages| {
        let seconds = |value: &Value| value.as_f64().unwrap_or_default();
        stages.iter().max_by(|a, b| seconds(a.1).total_cmp(&seconds(b.1))).map(|(name, _)| name.clone())
    });
    table(&format!(
        "{:<28} {:>10} {:>22} {:>24} {:>12}",
        "", "frames/s", "fulltime is faster by", "without their start", "same boxes"
    ));
    table(&format!("{:<28} {:>10.1}", "fulltime", Spread::of(&ours).median));
    let mut rows = Vec::new();
    for (at, (mode, name)) in PEERS.iter().enumerate() {
        // Ratios are of one run each, so that they compare the same minutes.
        let ratio = |others: &[f64]| Spread::of(&ours.iter().zip(others).map(|(a, b)| a / b).collect::<Vec<_>>());
        let (whole, without) = (ratio(&theirs[at]), ratio(&steady[at]));
        let fps = Spread::of(&theirs[at]);
        let share = found[at]["share"].as_f64().unwrap_or_default();
        table(&format!("{name:<28} {:>10.1} {whole:>22} {without:>24} {share:>12.3}", fps.median));
        rows.push(json!({
            "peer": mode, "fps": fps, "ratio": whole, "ratio_without_start": without, "boxes": found[at],
        }));
    }
    table(&format!("most of fulltime's time goes to: {}", bottleneck.as_deref().unwrap_or("?")));
    table(&format!("versions: {versions}"));
    if options.json {
        let result = json!({
            "bench": "peers", "runs": options.runs, "fps": Spread::of(&ours), "peers": rows, "versions": versions,
            "bottleneck": bottleneck, "stages": stages,
        });
        println!("{result}");
    }
}

/// Runs the script to its end and returns the JSON object that it prints.
pub fn script(python: &Path, args: &[&Path]) -> Value {
    let mut command = Command::new(python);
    command.arg(root().join("tests/peers/throughput.py")).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().unwrap_or_else(|e| panic!("start {}: {e}", python.display()));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?} failed:\n{text}");
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("no JSON ({e}): {said}"))
}
