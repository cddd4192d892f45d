//! Accuracy as a regression gate: a synthetic season through the whole product with its shipped models, and the tracker on
//! the test assets where they are there; one table, compared with the committed one.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, Stdio, exit},
};

use clap::Args;
use fulltime_tests::{asset, binary, root, shipped_pipeline};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Figures that are committed, from the repository's root.
const COMMITTED: &str = "docs/accuracy.json";
/// Seed of the season: no model was trained on it (training seeds are below 1000, tests of models below 5000).
const SEED: &str = "70001";

#[derive(Debug, Args)]
pub struct Options {
    /// Matches of the synthetic season, two halves each.
    #[arg(long, default_value_t = 2)]
    matches: u32,
    /// Length of a half.
    #[arg(long, default_value = "40s")]
    duration: String,
    /// Pipeline of the synthetic season [default: the shipped one].
    #[arg(long, value_name = "FILE")]
    pipeline: Option<PathBuf>,
    /// Results of an earlier run over the same season, instead of a new one: a job's folder.
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Folder for the season and its results; a season that is there is taken as it is.
    #[arg(long, default_value = "out/accuracy")]
    dir: PathBuf,
    /// Writes the figures to docs/accuracy.json instead of comparing them.
    #[arg(long)]
    write: bool,
    /// One JSON object on the last line.
    #[arg(long)]
    json: bool,
}

/// The committed file.
#[derive(Debug, Serialize, Deserialize)]
struct Committed {
    /// How much worse a share may be.
    tolerance: f64,
    /// How much worse a count may be, as a share of it; one more is always allowed.
    count_tolerance: f64,
    /// `group/figure`, such as `synthetic/IDF1`.
    figures: BTreeMap<String, f64>,
}

/// Figures of which less is better.
fn less_is_better(name: &str) -> bool {
    ["IDSW", "switches", "wrong"].iter().any(|figure| name.ends_with(figure))
}

fn is_count(name: &str) -> bool {
    ["IDSW", "switches"].iter().any(|figure| name.ends_with(figure))
}

impl Committed {
    /// Whether `now` is worse than `before` by more than is allowed.
    fn is_worse(&self, name: &str, before: f64, now: f64) -> bool {
        let loss = if less_is_better(name) { now - before } else { before - now };
        let allowed = if is_count(name) { f64::max(1.0, self.count_tolerance * before) } else { self.tolerance };
        loss > allowed + 1e-9
    }
}

pub fn run(options: &Options) {
    let mut figures = synthetic(options);
    figures.extend(assets());
    let place = root().join(COMMITTED);
    let committed: Committed = match fs::read_to_string(&place) {
        Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", place.display())),
        Err(_) => Committed { tolerance: 0.01, count_tolerance: 0.1, figures: BTreeMap::new() },
    };
    let mut worse = Vec::new();
    println!("{:<32} {:>10} {:>10}", "", "now", "committed");
    for (name, now) in &figures {
        let before = committed.figures.get(name).copied();
        let is_worse = before.is_some_and(|before| committed.is_worse(name, before, *now));
        let shown = before.map_or("-".to_owned(), |before| format!("{before:.4}"));
        println!("{name:<32} {now:>10.4} {shown:>10}{}", if is_worse { "  worse" } else { "" });
        if is_worse {
            worse.push(name.clone());
        }
    }
    for name in committed.figures.keys().filter(|name| !figures.contains_key(*name)) {
        println!("{name:<32} not measured here");
    }
    if options.write {
        let mut all = committed.figures.clone();
        all.extend(figures.iter().map(|(name, value)| (name.clone(), (value * 1e4).round() / 1e4)));
        let file = Committed { figures: all, ..committed };
        let text = serde_json::to_string_pretty(&file).expect("plain data");
        fs::write(&place, text + "\n").unwrap_or_else(|error| panic!("write {}: {error}", place.display()));
    }
    if options.json {
        println!("{}", json!({ "bench": "accuracy", "figures": figures, "worse": worse }));
    }
    if !worse.is_empty() && !options.write {
        eprintln!("error: {} worse than {COMMITTED} allows: {}", worse.len(), worse.join(", "));
        eprintln!("  fix: mend what made them worse, or write the new figures with --write and say why");
        exit(1);
    }
}

/// Renders the season, runs the job, scores it.
fn synthetic(options: &Options) -> BTreeMap<String, f64> {
    let dir = root().join(&options.dir);
    let archive = dir.join("archive");
    let results = options.results.clone().unwrap_or_else(|| {
        if !archive.join(".complete").exists() {
            let matches = options.matches.to_string();
            // Cuts, so that identities have something to outlast.
            let mut season = Command::new(binary("fulltime-synth"));
            season.args(["season", "--seed", SEED, "--halves", "2", "--cuts", "2", "--matches", &matches]);
            last_line(season.args(["--duration", &options.duration, "--out"]).arg(&archive));
            fs::write(archive.join(".complete"), "").expect("mark the season");
        }
        let pipeline = options.pipeline.clone().unwrap_or_else(shipped_pipeline);
        let mut run = Command::new(binary("fulltime"));
        run.args(["run", "--json", "--template", "{match}_p{period}_{camera}.mp4", "--archive"]).arg(&archive);
        run.arg("--out").arg(dir.join("results")).arg("--pipeline").arg(pipeline);
        let ended: Value = serde_json::from_str(&last_line(&mut run)).expect("the end of a job in JSON");
        dir.join("results/jobs").join(ended["job"].as_str().expect("the job's id"))
    });
    let mut eval = Command::new(binary("fulltime"));
    eval.args(["eval", "--json", "--ground-truth"]).arg(&archive).arg("--results").arg(&results);
    let scores: Value = serde_json::from_str(&last_line(&mut eval)).expect("scores in JSON");
    let mut figures = BTreeMap::new();
    let mut put = |name: &str, value: &Value| {
        if let Some(value) = value.as_f64() {
            figures.insert(format!("synthetic/{name}"), value);
        }
    };
    for name in ["HOTA", "IDF1", "MOTA", "IDSW", "AP", "AP50", "GS-HOTA"] {
        put(name, &scores[name]);
    }
    put("ball AP50", &scores["ball"]["AP50"]);
    for question in ["number", "team", "role", "lasting"] {
        put(&format!("{question} right"), &scores[question]["accuracy"]);
        put(&format!("{question} wrong"), &scores[question]["error"]);
    }
    figures
}

/// The tracker on public and on perturbed detections, as `bench track` measures it.
fn assets() -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    if asset("mot15/TUD-Campus/gt.txt").is_none() {
        return figures;
    }
    let mut bench = Command::new(binary("fulltime-bench"));
    let measured: Value =
        serde_json::from_str(&last_line(bench.args(["track", "--json", "--frames", "500"]))).expect("figures in JSON");
    for group in ["pedestrians", "football"] {
        let mean = &measured["tables"][format!("{group}/fulltime")]["mean"];
        for figure in ["hota", "idf1", "mota", "switches"] {
            if let Some(value) = mean[figure].as_f64() {
                let name = if figure == "switches" { figure.to_owned() } else { figure.to_uppercase() };
                figures.insert(format!("{group}/{name}"), value);
            }
        }
    }
    figures
}

/// Runs a command and gives the last line of its standard output.
fn last_line(command: &mut Command) -> String {
    let output = command
        .stderr(Stdio::inherit())
        .current_dir(root())
        .output()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_worse_but_for_errors_and_a_little_is_allowed() {
        let committed = Committed { tolerance: 0.01, count_tolerance: 0.1, figures: BTreeMap::new() };
        let worse = |name: &str, before, now| committed.is_worse(name, before, now);
        assert!(worse("synthetic/IDF1", 0.95, 0.93) && !worse("synthetic/IDF1", 0.95, 0.945));
        assert!(!worse("synthetic/IDF1", 0.95, 0.99));
        assert!(worse("synthetic/number wrong", 0.0, 0.05) && !worse("synthetic/number wrong", 0.05, 0.0));
        assert!(worse("football/switches", 10.0, 12.0) && !worse("football/switches", 2.0, 3.0));
    }
}
