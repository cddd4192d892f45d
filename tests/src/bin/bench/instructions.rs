//! Instructions of the hot kernels, counted by `valgrind --tool=callgrind`: they hardly change from machine to machine, where
//! times do, so a change in them is a change of ours. `cargo xtask test` compares them with `docs/instructions.json`. What
//! starts and ends a process is left out: each kernel is run a few times more in a second process, and the difference counts.

use std::{
    collections::BTreeMap,
    hint::black_box,
    process::{Command, Stdio},
};

use clap::{Args, ValueEnum};
use fulltime_common::{
    Digest,
    pipeline::{Detect, DetectSettings, Manifest, Track},
    wire,
};
use fulltime_reduce::tracker::{Bounds, Observation, Tracker};
use fulltime_tests::root;
use fulltime_vision::{Corners, Detector, EngineKind, Matrix, PictureView, PlaneView, SimOptions, luma_signature};
use serde_json::json;

/// A count may differ by this share: compilers change, and the C library.
const TOLERANCE: f64 = 0.03;
const LOW: u32 = 2;
const HIGH: u32 = 6;
/// Picture of the kernels that see pictures.
const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;

#[derive(Debug, Args)]
pub struct Options {
    /// One JSON object on the last line.
    #[arg(long)]
    json: bool,
    /// Replace the committed counts.
    #[arg(long)]
    write: bool,
}

/// What is counted.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kernel {
    /// 1280x720 to the input of a network of 416x416.
    Letterbox,
    /// Corners of a picture of 1280x720.
    Corners,
    /// Its mean luma in cells.
    Luma,
    /// Rows of a head of 3,549 boxes to detections, most of them suppressed.
    Boxes,
    /// An event of a lane to bytes and back.
    Wire,
    /// A frame of 25 boxes through the tracker.
    Track,
}

/// One kernel, this often, in a process of its own. Started by this bench.
#[derive(Debug, Args)]
pub struct One {
    kernel: Kernel,
    times: u32,
}

pub fn run(options: &Options) {
    let path = root().join("docs/instructions.json");
    let there = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !there.is_ok_and(|status| status.success()) {
        eprintln!("skipped: instructions of the hot kernels (valgrind is not installed: apt-get install valgrind)");
        return;
    }
    let kept: BTreeMap<String, u64> =
        std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let (mut counts, mut worse) = (BTreeMap::new(), Vec::new());
    let table = |line: &str| if options.json { eprintln!("{line}") } else { println!("{line}") };
    table(&format!("{:<12} {:>14} {:>14} {:>9}", "", "instructions", "committed", "ratio"));
    for kernel in Kernel::value_variants() {
        let name = kernel.to_possible_value().expect("no kernel is hidden").get_name().to_owned();
        let count = (counted(&name, HIGH) - counted(&name, LOW)) / u64::from(HIGH - LOW);
        let before = kept.get(&name).copied();
        let ratio = before.map_or(f64::NAN, |before| count as f64 / before as f64);
        table(&format!("{name:<12} {count:>14} {:>14} {ratio:>9.3}", before.unwrap_or_default()));
        if (ratio - 1.0).abs() > TOLERANCE || before.is_none() {
            worse.push(name.clone());
        }
        counts.insert(name, count);
    }
    if options.write {
        let text = serde_json::to_string_pretty(&counts).expect("numbers") + "\n";
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    }
    if options.json {
        println!("{}", json!({ "bench": "instructions", "counts": counts, "committed": kept, "changed": worse }));
    }
    if !options.write && !worse.is_empty() {
        eprintln!("error: other counts than docs/instructions.json has: {}", worse.join(", "));
        eprintln!("  fix: find out why; if it is meant, `cargo xtask bench instructions --write`, and commit the file");
        std::process::exit(1);
    }
}

/// Instructions of a process that runs the kernel this often.
fn counted(kernel: &str, times: u32) -> u64 {
    let program = std::env::current_exe().expect("our own path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["kernel", kernel, &times.to_string()])
        .output()
        .expect("start valgrind");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{kernel} failed:\n{text}");
    // `==123== Collected : 4567`
    let line = text.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim().parse());
    line.and_then(Result::ok).unwrap_or_else(|| panic!("no count in:\n{text}"))
}

pub fn one(one: &One) {
    let mut work = kernel(one.kernel);
    for _ in 0..one.times {
        work();
    }
}

fn kernel(kernel: Kernel) -> Box<dyn FnMut()> {
    let picture = Card::new();
    match kernel {
        Kernel::Letterbox => {
            let mut preparer = detector().preparer();
            let plan = preparer.plan(WIDTH, HEIGHT).expect("a plan");
            let mut tensor = vec![0.0; preparer.frame_len(&plan)];
            Box::new(move || preparer.prepare(&plan, &picture.view(), black_box(&mut tensor)).expect("preprocess"))
        }
        Kernel::Corners => {
            let mut corners = Corners::default();
            Box::new(move || drop(black_box(corners.find(&picture.view()).expect("corners"))))
        }
        Kernel::Luma => Box::new(move || {
            black_box(luma_signature(&picture.view()).expect("a signature"));
        }),
        Kernel::Boxes => {
            let detector = detector();
            let (plan, reader) = (detector.preparer().plan(WIDTH, HEIGHT).expect("a plan"), detector.reader());
            let mut rows = vec![0.0; reader.frame_len(&plan)];
            // Every ninth box is a person; neighbours overlap.
            for (i, row) in rows.chunks_exact_mut(85).enumerate().filter(|(i, _)| i % 9 == 0) {
                row[2..6].copy_from_slice(&[1.5, 2.0, 0.5 + (i % 50) as f32 / 100.0, 0.9]);
            }
            Box::new(move || drop(black_box(reader.finish(&plan, &rows, None).expect("detections"))))
        }
        Kernel::Wire => {
            let stages = ["fetch", "decode", "preprocess", "evidence", "infer", "postprocess", "describe", "tables"];
            let outcome = wire::Outcome {
                frames: 250,
                detections: 5_000,
                stage_seconds: stages.map(|name| (name.to_owned(), 1.25)).into(),
                ..wire::Outcome::default()
            };
            let event = wire::Event {
                job: "job-20240101-120000-abcd".to_owned(),
                digest: Digest::of_bytes(b"shard"),
                release: 1,
                worker: "worker-0".to_owned(),
                kind: wire::EventKind::Committed(outcome),
            };
            Box::new(move || {
                let bytes = wire::encode(black_box(&event)).expect("encode");
                let read: wire::Event = wire::decode(&bytes).expect("decode");
                drop(black_box(read));
            })
        }
        Kernel::Track => {
            let mut tracker = Tracker::new(&Track::default(), 25.0, 1);
            let mut frame = 0;
            Box::new(move || {
                // As many people in as many lanes, each with a pace of its own.
                let people: Vec<_> = (0..25_u32).map(|i| person(i, frame)).collect();
                black_box(tracker.step(frame, &people, None));
                frame += 1;
            })
        }
    }
}

fn person(i: u32, frame: u32) -> Observation<'static> {
    let cx = 20.0 + f64::from(i) * 45.0 + f64::from(frame * (i % 5)) * 0.5;
    let bounds = Bounds { cx, cy: 100.0 + f64::from(i % 7) * 80.0, w: 30.0, h: 80.0 };
    Observation { class: 0, score: 0.9, bounds, look: None }
}

/// YOLOX at 416 without a model: nothing here runs one.
fn detector() -> Detector {
    let sha256 = Digest::of_bytes(b"");
    let manifest = format!(
        "name = \"none\"\nclasses = [\"person\"{}]\n[file]\npath = \"none.onnx\"\nsha256 = \"{sha256}\"\n[input]\n\
         channels = \"bgr\"\nsize = [416, 416]\n[output]\nhead = \"yolox\"\nstrides = [8, 16, 32]\n",
        (1..80).map(|i| format!(", \"class-{i}\"")).collect::<String>()
    );
    let model: Manifest = toml::from_str(&manifest).expect("a manifest");
    let settings: DetectSettings = toml::from_str("classes = [\"person\"]").expect("settings");
    Detector::load(&EngineKind::Sim(SimOptions::default()), &[], &Detect { model, settings }).expect("a detector")
}

/// A picture with something in it, the same everywhere.
struct Card([Vec<u8>; 3]);

impl Card {
    fn new() -> Self {
        let plane = |width: u32, height: u32| {
            let value = |i: u32| {
                let (x, y) = (i % width, i / width);
                ((x / 13 + y / 11 * 7).wrapping_mul(0x9E37_79B1) >> 24) as u8
            };
            (0..width * height).map(value).collect()
        };
        Self([plane(WIDTH, HEIGHT), plane(WIDTH / 2, HEIGHT / 2), plane(WIDTH / 2, HEIGHT / 2)])
    }

    fn view(&self) -> PictureView<'_> {
        let plane = |i: usize| {
            let (width, height) = if i == 0 { (WIDTH, HEIGHT) } else { (WIDTH / 2, HEIGHT / 2) };
            PlaneView { data: &self.0[i], stride: width as usize, width, height }
        };
        let planes = [plane(0), plane(1), plane(2)];
        PictureView { width: WIDTH, height: HEIGHT, planes, matrix: Matrix::Bt709, full_range: false }
    }
}
