//! The tracker against plain SORT and, where its wheel is installed, the `similari` crate: HOTA, IDF1, MOTA and identity
//! switches on real footage, and frames a second. Every tracker gets the same files; ours is the program that ships, with
//! its defaults.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::Args;
use fulltime_reduce::tracker::Bounds;
use fulltime_score::{Clear, Comparison, Hota, Identity, Object, Rect, Rules, Sequence, by_box, mot};
use fulltime_tests::{asset, binary};
use serde::Serialize;
use serde_json::json;

mod perturb;
mod sort;

/// MOT15 sequences whose public detections SORT was scored on.
const PEDESTRIANS: [&str; 3] = ["TUD-Campus", "ETH-Sunnyday", "Venice-2"];
/// Football sequences of SportsMOT.
const FOOTBALL: [&str; 15] = [
    "v_1yHWGw8DH4A_c029",
    "v_1yHWGw8DH4A_c077",
    "v_1yHWGw8DH4A_c609",
    "v_2QhNRucNC7E_c017",
    "v_G-vNjfx1GGc_c008",
    "v_G-vNjfx1GGc_c601",
    "v_HdiyOtliFiw_c004",
    "v_HdiyOtliFiw_c010",
    "v_ITo3sCnpw_k_c007",
    "v_ITo3sCnpw_k_c011",
    "v_dw7LOz17Omg_c053",
    "v_gQNyhv8y0QY_c003",
    "v_gQNyhv8y0QY_c013",
    "v_i2_L4qquVg0_c007",
    "v_i2_L4qquVg0_c010",
];

#[derive(Debug, Args)]
pub struct Options {
    /// A Python that has similari-trackers-rs==0.26.12; without it similari is left out.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Of the perturbed football detections; each sequence adds its place to it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Frames of 25 boxes whose tracking is timed.
    #[arg(long, default_value_t = 20_000)]
    frames: u32,
    /// Prints every sequence, not only the means.
    #[arg(long)]
    each: bool,
    /// One JSON object on the last line.
    #[arg(long)]
    json: bool,
}

/// Detections in a file, and what is true of them.
struct Case {
    group: &'static str,
    name: &'static str,
    detections: PathBuf,
    truth: Sequence,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Figures {
    hota: f64,
    det_a: f64,
    ass_a: f64,
    idf1: f64,
    mota: f64,
    switches: f64,
    false_positives: f64,
    misses: f64,
}

impl Figures {
    fn of(truth: &Sequence, found: &Sequence) -> Self {
        let comparison = Comparison::new(truth, found, Rules::Plain, by_box).expect("both have identities");
        let (hota, clear) = (Hota::of(&comparison).figures(), Clear::of(&comparison));
        Self {
            hota: hota.hota,
            det_a: hota.det_a,
            ass_a: hota.ass_a,
            idf1: Identity::of(&comparison).f1(),
            mota: clear.mota(),
            switches: clear.switches as f64,
            false_positives: clear.false_ as f64,
            misses: clear.missed as f64,
        }
    }

    fn mean(all: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        Self {
            hota: mean(|f| f.hota),
            det_a: mean(|f| f.det_a),
            ass_a: mean(|f| f.ass_a),
            idf1: mean(|f| f.idf1),
            mota: mean(|f| f.mota),
            switches: mean(|f| f.switches),
            false_positives: mean(|f| f.false_positives),
            misses: mean(|f| f.misses),
        }
    }

    fn line(&self, group: &str, what: &str) -> String {
        format!(
            "{group:<12} {what:<24} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>6.3} {:>8.1} {:>8.1} {:>8.1}",
            self.hota, self.det_a, self.ass_a, self.idf1, self.mota, self.switches, self.false_positives, self.misses
        )
    }
}

pub fn run(options: &Options) {
    let folder = tempfile::tempdir().expect("a folder for detections and results");
    let cases = cases(folder.path(), options.seed);
    let mut scored: BTreeMap<(&str, &str), Vec<(&str, Figures)>> = BTreeMap::new();
    for case in &cases {
        let results = folder.path().join("results.txt");
        let mut trackers =
            vec![("1 SORT", plain_sort(&case.detections)), ("3 fulltime", ours(&case.detections, &results).0)];
        if let Some(python) = &options.python {
            trackers.push(("2 similari", similari(python, &case.detections, &results)));
        }
        for (tracker, found) in trackers {
            let figures = Figures::of(&case.truth, &found);
            scored.entry((case.group, tracker)).or_default().push((case.name, figures));
        }
    }
    println!(
        "{:<12} {:<24} {:>6} {:>6} {:>6} {:>6} {:>6} {:>8} {:>8} {:>8}",
        "", "", "HOTA", "DetA", "AssA", "IDF1", "MOTA", "switches", "false", "missed"
    );
    let mut tables = BTreeMap::new();
    for ((group, tracker), all) in &scored {
        let name = &tracker[2..];
        if options.each {
            all.iter().for_each(|(sequence, figures)| println!("{}", figures.line(name, sequence)));
        }
        let figures: Vec<Figures> = all.iter().map(|(_, figures)| *figures).collect();
        let mean = Figures::mean(&figures);
        println!("{}", mean.line(name, &format!("{group}, mean of {}", all.len())));
        let each: BTreeMap<_, _> = all.iter().copied().collect();
        tables.insert(format!("{group}/{name}"), json!({ "mean": mean, "sequences": each }));
    }
    if options.python.is_none() {
        println!("similari was left out: --python PROGRAM names a Python with similari-trackers-rs==0.26.12");
    }
    let detections = folder.path().join("crowd.txt");
    write(&perturb::crowd(options.frames, 25), &detections);
    let (_, fps) = ours(&detections, &folder.path().join("results.txt"));
    println!("{fps:.0} frames/s with 25 boxes a frame, one core: tracked, joined and smoothed");
    if options.json {
        println!("{}", json!({ "bench": "track", "seed": options.seed, "tables": tables, "fps_25_boxes": fps }));
    }
}

fn cases(folder: &Path, seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for name in PEDESTRIANS {
        let Some(truth) = asset(&format!("mot15/{name}/gt.txt")) else { continue };
        let detections = truth.with_file_name("det.txt");
        cases.push(Case { group: "pedestrians", name, detections, truth: read(&truth) });
    }
    for (i, name) in FOOTBALL.into_iter().enumerate() {
        let Some(truth) = asset(&format!("sportsmot/{name}/gt/gt.txt.gz")) else { continue };
        let truth = read(&truth);
        let detections = folder.join(format!("{name}.txt"));
        write(&perturb::perturb(&truth, seed + i as u64), &detections);
        cases.push(Case { group: "football", name, detections, truth });
    }
    cases
}

fn read(path: &Path) -> Sequence {
    let file = File::open(path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    mot::read(file).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

fn write(sequence: &Sequence, path: &Path) {
    let file = File::create(path).unwrap_or_else(|error| panic!("create {}: {error}", path.display()));
    mot::write(sequence, BufWriter::new(file)).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
}

fn plain_sort(detections: &Path) -> Sequence {
    let detections = read(detections);
    let last = detections.frames.keys().copied().max().unwrap_or(0);
    let bounds =
        |object: &Object| object.bounds.map(|Rect { x, y, w, h }| Bounds { cx: x + w / 2.0, cy: y + h / 2.0, w, h });
    let frames: Vec<_> =
        (1..=last).map(|frame| (frame, detections.frame(frame).iter().filter_map(bounds).collect())).collect();
    let mut shown = Sequence::new();
    for (frame, id, Bounds { cx, cy, w, h }) in sort::follow(&frames) {
        shown.push(frame, Object::new(Some(id.into()), Rect { x: cx - w / 2.0, y: cy - h / 2.0, w, h }, 1.0));
    }
    shown
}

/// What the program that ships makes of detections, and how many frames a second it tracked.
fn ours(detections: &Path, results: &Path) -> (Sequence, f64) {
    let output = Command::new(binary("fulltime"))
        .args(["track", "--json", "--detections"])
        .arg(detections)
        .arg("--out")
        .arg(results)
        .stderr(Stdio::inherit())
        .output()
        .expect("start fulltime");
    assert!(output.status.success(), "fulltime track failed on {}", detections.display());
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the outcome in JSON");
    (read(results), outcome["fps"].as_f64().expect("frames a second"))
}

fn similari(python: &Path, detections: &Path, results: &Path) -> Sequence {
    let script = fulltime_tests::root().join("tests/peers/similari_sort.py");
    let status = Command::new(python)
        .arg(script)
        .args(["iou", "5"])
        .arg(detections)
        .arg(results)
        .status()
        .unwrap_or_else(|error| panic!("start {}: {error}", python.display()));
    assert!(status.success(), "similari failed on {}", detections.display());
    let found = read(results);
    fs::remove_file(results).expect("remove the results");
    found
}
