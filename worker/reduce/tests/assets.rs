//! The tracker on real detections (MOT15, the public ones that SORT was scored on) and on real truth (SportsMOT). Scores
//! are CLEAR MOT (Bernardin and Stiefelhagen, 2008) at IoU 0.5, counted here; the published scores of SORT on the same
//! detections are 15/113/6 on TUD-Campus and 319/418/22 on ETH-Sunnyday (false positives / misses / switches).

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers, too")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use fulltime_common::pipeline::Track;
use fulltime_reduce::tracker::{Bounds, Fate, Observation, Pair, Tracker, assign};

/// Identity, score and box, by frame.
type Boxes = BTreeMap<u32, Vec<(u32, f64, Bounds)>>;

#[derive(Debug, Default)]
struct Score {
    truth: usize,
    false_positives: usize,
    misses: usize,
    switches: usize,
}

impl Score {
    fn mota(&self) -> f64 {
        1.0 - (self.false_positives + self.misses + self.switches) as f64 / self.truth as f64
    }
}

fn assets() -> Option<PathBuf> {
    let beside = || {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().map(|dir| dir.join("../shared/assets")).find(|dir| dir.is_dir())
    };
    let found = std::env::var_os("FULLTIME_ASSETS").map(PathBuf::from).or_else(beside);
    if found.is_none() {
        println!("skipped: no test assets (set FULLTIME_ASSETS)");
    }
    found
}

/// `frame,id,x,y,w,h,score,…` a line.
fn mot(text: &str) -> Boxes {
    let mut boxes = Boxes::new();
    for line in text.lines() {
        let fields: Vec<f64> = line.split(',').filter_map(|field| field.trim().parse().ok()).collect();
        let [frame, id, x, y, w, h, score] = fields[..7] else { unreachable!() };
        let bounds = Bounds { cx: x + w / 2.0, cy: y + h / 2.0, w, h };
        boxes.entry(frame as u32).or_default().push((id as u32, score, bounds));
    }
    boxes
}

fn track(detections: &Boxes, fps: f64) -> Boxes {
    let mut tracker = Tracker::new(&Track::default(), fps, 1);
    let mut serials = Vec::new();
    for (&frame, boxes) in detections {
        let seen: Vec<_> = boxes.iter().map(|&(_, score, bounds)| Observation { class: 0, score, bounds }).collect();
        serials.push((frame, tracker.step(frame, &seen)));
    }
    tracker.finish();
    let reported = |&(serial, bounds): &(Option<u32>, Bounds)| {
        serial.filter(|&serial| tracker.fate(serial) == Fate::Reported).map(|serial| (serial, 1.0, bounds))
    };
    serials
        .into_iter()
        .map(|(frame, serials)| {
            let boxes = detections[&frame].iter().map(|(_, _, bounds)| *bounds);
            let rows: Vec<_> = serials.into_iter().zip(boxes).collect();
            (frame, rows.iter().filter_map(reported).collect())
        })
        .collect()
}

fn score(truth: &Boxes, found: &Boxes) -> Score {
    let mut total = Score::default();
    let mut last: BTreeMap<u32, u32> = BTreeMap::new();
    let none = Vec::new();
    let frames = truth.keys().chain(found.keys()).collect::<std::collections::BTreeSet<_>>();
    for frame in frames {
        let (truth, found) = (truth.get(frame).unwrap_or(&none), found.get(frame).unwrap_or(&none));
        let mut pairs = Vec::new();
        for (row, (person, _, a)) in truth.iter().enumerate() {
            for (column, (track, _, b)) in found.iter().enumerate() {
                let iou = a.iou(b);
                if iou >= 0.5 {
                    // Who was matched before stays matched while it can.
                    let known = if last.get(person) == Some(track) { 1000.0 } else { 0.0 };
                    pairs.push(Pair { row, column, gain: 10.0 + iou + known });
                }
            }
        }
        let matched = assign(&pairs, truth.len(), found.len());
        total.truth += truth.len();
        total.misses += truth.len() - matched.len();
        total.false_positives += found.len() - matched.len();
        for pair in matched {
            let (person, track) = (truth[pair.row].0, found[pair.column].0);
            total.switches += usize::from(last.insert(person, track).is_some_and(|before| before != track));
        }
    }
    total
}

#[test]
fn public_detections_are_tracked_as_well_as_by_sort() {
    let Some(assets) = assets() else { return };
    for (name, fps, mota, switches) in [("TUD-Campus", 25.0, 0.62, 6), ("ETH-Sunnyday", 14.0, 0.59, 22)] {
        let read = |file| fs::read_to_string(assets.join("mot15").join(name).join(file)).unwrap();
        let score = score(&mot(&read("gt.txt")), &track(&mot(&read("det.txt")), fps));
        println!("{name}: {score:?}, MOTA {:.3}", score.mota());
        assert!(score.mota() >= mota && score.switches <= switches, "{name}: {score:?}");
    }
}

#[test]
fn football_with_every_player_detected_keeps_its_identities() {
    let Some(assets) = assets() else { return };
    let (mut truth_boxes, mut switches, mut frames, mut seconds) = (0, 0, 0, 0.0);
    let mut sequences: Vec<_> =
        fs::read_dir(assets.join("sportsmot")).unwrap().map(|dir| dir.unwrap().path()).collect();
    sequences.sort();
    for sequence in sequences {
        let packed = sequence.join("gt/gt.txt.gz");
        let unpacked = std::process::Command::new("gzip").arg("-dc").arg(&packed).output().unwrap().stdout;
        let truth = mot(&String::from_utf8(unpacked).unwrap());
        let begin = Instant::now();
        let found = track(&truth, 25.0);
        seconds += begin.elapsed().as_secs_f64();
        frames += truth.len();
        let score = score(&truth, &found);
        println!("{}: {score:?}", sequence.file_name().unwrap().display());
        truth_boxes += score.truth;
        switches += score.switches;
    }
    println!("{switches} switches in {truth_boxes} boxes; {:.0} frames/s", frames as f64 / seconds);
    assert!(switches * 200 < truth_boxes, "{switches} switches in {truth_boxes} boxes");
}
