//! `fulltime eval`: scores results against ground truth and prints the figures.

use std::collections::BTreeMap;

use fulltime_common::{Exit, error::Failure};
use fulltime_score::{Comparison, Rules, Sequence, Tracking, by_box, pictures, precision::Precision};
use serde_json::{Map, Value, json};

use crate::{
    args::{Benchmark, EvalArgs},
    sources::{self, Named},
    text::{count, table},
};

/// One recording, or the sum of several.
#[derive(Debug, Default)]
struct Scored {
    /// `None` where results carry no identities (plain detections).
    tracking: Option<Tracking>,
    precision: Option<Precision>,
}

/// `fulltime eval`.
///
/// # Errors
/// Files that cannot be read, or do not belong together.
pub async fn eval(args: EvalArgs) -> Result<Exit, Failure> {
    let pairs = sources::pairs(&args.ground_truth, &args.results).await?;
    let mut scores: BTreeMap<String, Scored> = BTreeMap::new();
    let mut total: Option<Tracking> = None;
    let mut all_pictures = Vec::new();
    for (truth, found) in &pairs {
        let rules = rules(args.benchmark, &truth.sequence);
        let mut scored = Scored::default();
        if found.sequence.objects().all(|(_, object)| object.id.is_some()) {
            let tracking = compare(truth, found, rules, &args)?;
            total.get_or_insert_default().add(&tracking);
            scored.tracking = Some(tracking);
        }
        let pictures = pictures(&truth.sequence, &found.sequence, rules);
        scored.precision = Some(Precision::of(std::slice::from_ref(&pictures)));
        all_pictures.extend(pictures);
        scores.insert(found.name.clone(), scored);
    }
    let precision = Some(Precision::of(std::slice::from_ref(&all_pictures)));
    let combined = Scored { tracking: total, precision };
    if args.json {
        let mut object = figures(&combined);
        let sequences: Map<String, Value> =
            scores.iter().map(|(name, scored)| (name.clone(), Value::Object(figures(scored)))).collect();
        object.insert("sequences".into(), Value::Object(sequences));
        println!("{}", Value::Object(object));
    } else {
        print!("{}", tables(&scores, &combined));
    }
    Ok(Exit::Ok)
}

fn rules(benchmark: Benchmark, truth: &Sequence) -> Rules {
    match benchmark {
        Benchmark::Auto => Rules::of(truth),
        Benchmark::Plain => Rules::Plain,
        Benchmark::Mot17 => Rules::Mot17,
        Benchmark::Mot20 => Rules::Mot20,
    }
}

fn compare(truth: &Named, found: &Named, rules: Rules, args: &EvalArgs) -> Result<Tracking, Failure> {
    let unfit = |error: fulltime_score::ScoreError| {
        let cause = format!("score `{}` against `{}`: {error}", args.results, args.ground_truth);
        Failure::new(Exit::Usage, cause, "every object of a frame needs an identity of its own (column 2 of MOT text)")
    };
    Comparison::new(&truth.sequence, &found.sequence, rules, by_box).map(|c| Tracking::of(&c)).map_err(unfit)
}

/// The figures by the names that the benchmarks use; shares are 0 to 1.
fn figures(scored: &Scored) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    if let Some(Tracking { hota, clear, identity }) = &scored.tracking {
        let h = hota.figures();
        put("HOTA", json!(h.hota));
        put("DetA", json!(h.det_a));
        put("AssA", json!(h.ass_a));
        put("LocA", json!(h.loc_a));
        put("DetRe", json!(h.det_re));
        put("DetPr", json!(h.det_pr));
        put("AssRe", json!(h.ass_re));
        put("AssPr", json!(h.ass_pr));
        put("IDF1", json!(identity.f1()));
        put("IDP", json!(identity.precision()));
        put("IDR", json!(identity.recall()));
        put("IDTP", json!(identity.tp));
        put("IDFP", json!(identity.false_));
        put("IDFN", json!(identity.missed));
        put("MOTA", json!(clear.mota()));
        put("MOTP", json!(clear.motp()));
        put("Re", json!(clear.recall()));
        put("Pr", json!(clear.precision()));
        put("TP", json!(clear.tp));
        put("FP", json!(clear.false_));
        put("FN", json!(clear.missed));
        put("IDSW", json!(clear.switches));
        put("MT", json!(clear.mostly_tracked));
        put("PT", json!(clear.partly_tracked));
        put("ML", json!(clear.mostly_lost));
        put("Frag", json!(clear.fragments));
        put("frames", json!(clear.frames));
    }
    if let Some(p) = &scored.precision {
        let values = [
            ("AP", p.ap),
            ("AP50", p.ap50),
            ("AP75", p.ap75),
            ("APs", p.ap_small),
            ("APm", p.ap_medium),
            ("APl", p.ap_large),
            ("AR1", p.ar1),
            ("AR10", p.ar10),
            ("AR100", p.ar100),
            ("ARs", p.ar_small),
            ("ARm", p.ar_medium),
            ("ARl", p.ar_large),
        ];
        values.into_iter().for_each(|(name, value)| put(name, json!(value)));
    }
    object
}

/// For people: tracks, then detections, one line a recording.
fn tables(scores: &BTreeMap<String, Scored>, combined: &Scored) -> String {
    const TRACKS: [&str; 12] =
        ["HOTA", "DetA", "AssA", "LocA", "IDF1", "MOTA", "MOTP", "FP", "FN", "IDSW", "MT", "Frag"];
    const BOXES: [&str; 7] = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"];
    let mut lines: Vec<(String, Map<String, Value>)> =
        scores.iter().map(|(name, scored)| (name.clone(), figures(scored))).collect();
    if lines.len() > 1 {
        lines.push(("together".to_owned(), figures(combined)));
    }
    let mut text = String::new();
    for columns in [&TRACKS[..], &BOXES] {
        let rows: Vec<Vec<String>> = lines
            .iter()
            .filter(|(_, figures)| figures.contains_key(columns[0]))
            .map(|(name, figures)| {
                std::iter::once(name.clone()).chain(columns.iter().map(|c| cell(&figures[*c]))).collect()
            })
            .collect();
        if !rows.is_empty() {
            let head: Vec<String> =
                std::iter::once("recording").chain(columns.iter().copied()).map(str::to_owned).collect();
            text.push_str(&table(&head, &rows));
            text.push('\n');
        }
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        value => match value.as_u64() {
            Some(n) => count(n),
            None => format!("{:.3}", value.as_f64().unwrap_or_default()),
        },
    }
}
