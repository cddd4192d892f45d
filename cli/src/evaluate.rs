//! `fulltime eval`: scores results against ground truth and prints the figures.

use std::{borrow::Cow, collections::BTreeMap};

use fulltime_common::{Exit, error::Failure};
use fulltime_score::{
    Comparison, Hota, Rules, ScoreError, Sequence, Tracking, by_box, by_place, gs_hota,
    people::{Answers, Figures, People},
    pictures,
    precision::{Picture, Precision},
};
use serde_json::{Map, Value, json};

use crate::{
    args::{Benchmark, EvalArgs},
    sources::{self, Pair},
    text::{count, table},
};

/// Tracks shorter than this are not asked about.
const ASKED_SECONDS: f64 = 5.0;

/// One recording, or the sum of several.
#[derive(Debug, Default)]
struct Scored {
    /// `None` where results carry no identities (plain detections).
    tracking: Option<Tracking>,
    /// Everything but the ball, and the ball where the truth knows it apart.
    precision: Option<Precision>,
    ball: Option<Precision>,
    game_state: Option<Hota>,
    people: Option<Figures>,
}

/// `fulltime eval`.
///
/// # Errors
/// Files that cannot be read, or do not belong together.
pub async fn eval(args: EvalArgs) -> Result<Exit, Failure> {
    let pairs = sources::pairs(&args.ground_truth, &args.results).await?;
    let unfit = |error: ScoreError| {
        let cause = format!("score `{}` against `{}`: {error}", args.results, args.ground_truth);
        Failure::new(Exit::Usage, cause, "every object of a frame needs an identity of its own (column 2 of MOT text)")
    };
    let mut scores: BTreeMap<String, Scored> = BTreeMap::new();
    let mut combined = Scored::default();
    let mut all: [Vec<Picture>; 2] = Default::default();
    let mut matches: BTreeMap<String, People> = BTreeMap::new();
    for pair in &pairs {
        let (scored, pictures, people) = score(pair, args.benchmark, matches.get(&pair.group)).map_err(unfit)?;
        if let Some(tracking) = &scored.tracking {
            combined.tracking.get_or_insert_default().add(tracking);
        }
        if let Some(hota) = &scored.game_state {
            combined.game_state.get_or_insert_default().add(hota);
        }
        for (all, pictures) in all.iter_mut().zip(pictures) {
            all.extend(pictures);
        }
        if let Some(people) = people {
            matches.insert(pair.group.clone(), people);
        }
        scores.insert(pair.name.clone(), scored);
    }
    let [others, balls] = all;
    combined.precision = precision(&others);
    combined.ball = precision(&balls);
    for people in matches.values() {
        combined.people.get_or_insert_default().add(&people.figures());
    }
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

/// What one recording comes to, its pictures, and its match's people.
type Counted = (Scored, [Vec<Picture>; 2], Option<People>);

/// Scores one recording. Also returned: its pictures (everything but the ball, and the ball), and the answers about the
/// people of its match so far, this recording included.
fn score(pair: &Pair, benchmark: Benchmark, known: Option<&People>) -> Result<Counted, ScoreError> {
    let (truth, found) = (&pair.truth, &pair.found);
    let rules = match benchmark {
        Benchmark::Auto => Rules::of(truth),
        Benchmark::Plain => Rules::Plain,
        Benchmark::Mot17 => Rules::Mot17,
        Benchmark::Mot20 => Rules::Mot20,
    };
    let (people, ball) = (without_ball(truth), only_ball(truth));
    let (found_people, found_ball) = (without_ball(found), only_ball(found));
    let mut scored = Scored::default();

    // A job's own tables hold detections that belong to no track; a file has identities for all or for none.
    let tracked = match &pair.tracks {
        Some(_) => Some(Cow::Owned(found_people.only(|object| object.id.is_some()))),
        None if found_people.objects().all(|(_, object)| object.id.is_some()) => Some(Cow::Borrowed(&*found_people)),
        None => None,
    };
    if let Some(tracked) = tracked {
        let boxes = has_boxes(truth) && has_boxes(found);
        let comparison = match boxes {
            true => Comparison::new(&people, &tracked, rules, by_box)?,
            false => Comparison::new(&people, &tracked, rules, by_place)?,
        };
        scored.tracking = Some(Tracking::of(&comparison));
    }
    let mut all: [Vec<Picture>; 2] = Default::default();
    if has_boxes(truth) && has_boxes(found) {
        all[0] = pictures(&people, &found_people, rules);
        scored.precision = precision(&all[0]);
    }
    if !ball.is_empty() && !found_ball.is_empty() {
        all[1] = pictures(&ball, &found_ball, rules);
        scored.ball = precision(&all[1]);
    }
    let mut answers = None;
    if truth.has_attributes() && found.has_attributes() && has_boxes(truth) && has_boxes(found) {
        let fps = if found.info.fps > 0.0 { found.info.fps } else { 25.0 };
        let least = (ASKED_SECONDS * fps).ceil() as u32;
        let mut own = People::default();
        let mut shared = known.cloned().unwrap_or_default();
        for tally in [&mut own, &mut shared] {
            tally.take_tracks(truth, pair.tracks.as_ref().unwrap_or(found), least);
            tally.take_cuts(&people, &found_people);
        }
        scored.people = Some(own.figures());
        answers = Some(shared);
    }
    let placed = |sequence: &Sequence| sequence.objects().any(|(_, object)| object.world.is_some());
    if truth.has_attributes() && found.has_attributes() && placed(truth) && placed(found) {
        let names = answers.as_ref().map(People::team_names).unwrap_or_default();
        scored.game_state = Some(gs_hota(truth, found, &names)?);
    }
    Ok((scored, all, answers))
}

fn is_ball(sequence: &Sequence, object: &fulltime_score::Object) -> bool {
    sequence.attributes_of(object).is_some_and(|known| known.role.as_deref() == Some("ball"))
}

fn without_ball(sequence: &Sequence) -> Cow<'_, Sequence> {
    match sequence.has_attributes() {
        true => Cow::Owned(sequence.only(|object| !is_ball(sequence, object))),
        false => Cow::Borrowed(sequence),
    }
}

fn only_ball(sequence: &Sequence) -> Sequence {
    sequence.only(|object| is_ball(sequence, object))
}

fn has_boxes(sequence: &Sequence) -> bool {
    sequence.is_empty() || sequence.objects().any(|(_, object)| object.bounds.is_some())
}

fn precision(pictures: &[Picture]) -> Option<Precision> {
    (!pictures.is_empty()).then(|| Precision::of(&[pictures]))
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
    if let Some(hota) = &scored.game_state {
        let h = hota.figures();
        put("GS-HOTA", json!(h.hota));
        put("GS-DetA", json!(h.det_a));
        put("GS-AssA", json!(h.ass_a));
    }
    if let Some(precision) = &scored.precision {
        precision_figures(precision).into_iter().for_each(|(name, value)| put(&name, value));
    }
    if let Some(ball) = &scored.ball {
        put("ball", Value::Object(precision_figures(ball)));
    }
    if let Some(people) = &scored.people {
        put("tracks", json!({ "asked": people.tracks, "nobody": people.nobody }));
        let answers = |a: &Answers| json!({ "right": a.right, "wrong": a.wrong, "unknown": a.unknown, "accuracy": a.accuracy(), "error": a.error() });
        put("number", answers(&people.number));
        put("team", answers(&people.team));
        put("role", answers(&people.role));
        put("lasting", answers(&people.lasting));
    }
    object
}

fn precision_figures(p: &Precision) -> Map<String, Value> {
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
    values.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

/// For people: tracks, detections, and answers about people; one line a recording.
fn tables(scores: &BTreeMap<String, Scored>, combined: &Scored) -> String {
    const TRACKS: [&str; 12] =
        ["HOTA", "DetA", "AssA", "LocA", "IDF1", "MOTA", "MOTP", "FP", "FN", "IDSW", "MT", "Frag"];
    const BOXES: [&str; 7] = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"];
    const STATE: [&str; 3] = ["GS-HOTA", "GS-DetA", "GS-AssA"];
    const PEOPLE: [&str; 4] = ["number", "team", "role", "lasting"];
    let mut lines: Vec<(String, Map<String, Value>)> =
        scores.iter().map(|(name, scored)| (name.clone(), figures(scored))).collect();
    if lines.len() > 1 {
        lines.push(("together".to_owned(), figures(combined)));
    }
    let mut text = String::new();
    for columns in [&TRACKS[..], &BOXES, &STATE, &PEOPLE] {
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
    if text.contains("lasting") {
        text.push_str("  number, team, role of tracks, and identity over cuts: right / wrong / unknown\n");
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Object(answers) => format!("{} / {} / {}", answers["right"], answers["wrong"], answers["unknown"]),
        value => match value.as_u64() {
            Some(n) => count(n),
            None => format!("{:.3}", value.as_f64().unwrap_or_default()),
        },
    }
}
