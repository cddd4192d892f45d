//! The tracker on real detections (MOT15, the public ones that SORT was scored on) and on real truth (SportsMOT), with the
//! defaults that ship. Published scores of SORT on the same detections, by TrackEval: HOTA 0.453 on TUD-Campus, 0.545 on
//! ETH-Sunnyday, 0.276 on Venice-2.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers, too")]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Instant,
};

use fulltime_common::pipeline::Track;
use fulltime_reduce::tracker::{Bounds, Observation, Tuning, follow};
use fulltime_score::{Clear, Comparison, Hota, Identity, Object, Rect, Rules, Sequence, by_box, mot};

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

fn track(detections: &Sequence) -> Sequence {
    let observation = |object: &Object| {
        let Rect { x, y, w, h } = object.bounds.unwrap();
        let bounds = Bounds { cx: x + w / 2.0, cy: y + h / 2.0, w, h };
        Observation { class: 0, score: object.score, bounds, look: None }
    };
    let frames = detections.frames.iter().map(|(&frame, all)| (frame, all.iter().map(observation).collect()));
    let followed = follow(frames, &Track::default(), &Tuning::DEFAULT, 25.0);
    let mut found = Sequence::new();
    for (id, object) in followed.objects.iter().enumerate() {
        for (frame, Bounds { cx, cy, w, h }) in followed.path(object) {
            let bounds = Rect { x: cx - w / 2.0, y: cy - h / 2.0, w, h };
            found.push(frame, Object::new(Some(id as i64), bounds, 1.0));
        }
    }
    found
}

fn compare(truth: &Sequence, found: &Sequence) -> Comparison {
    Comparison::new(truth, found, Rules::Plain, by_box).unwrap()
}

#[test]
fn public_detections_are_tracked_better_than_by_sort() {
    let Some(assets) = assets() else { return };
    let mut ahead = 0.0;
    for (name, sort) in [("TUD-Campus", 0.453), ("ETH-Sunnyday", 0.545), ("Venice-2", 0.276)] {
        let read = |file| mot::read(File::open(assets.join("mot15").join(name).join(file)).unwrap()).unwrap();
        let comparison = compare(&read("gt.txt"), &track(&read("det.txt")));
        let hota = Hota::of(&comparison).figures().hota;
        println!("{name}: HOTA {hota:.3}, SORT {sort:.3}, {:?}", Clear::of(&comparison));
        assert!(hota >= sort, "{name}: HOTA {hota:.3} is below SORT's {sort:.3}");
        ahead += (hota - sort) / 3.0;
    }
    assert!(ahead >= 0.05, "HOTA is {ahead:.3} above SORT's on average");
}

#[test]
fn football_with_every_player_detected_keeps_its_identities() {
    let Some(assets) = assets() else { return };
    let (mut f1, mut switches, mut sequences, mut frames, mut seconds) = (0.0, 0, 0, 0, 0.0);
    let mut folders: Vec<_> = fs::read_dir(assets.join("sportsmot")).unwrap().map(|dir| dir.unwrap().path()).collect();
    folders.sort();
    for folder in folders {
        let truth = mot::read(File::open(folder.join("gt/gt.txt.gz")).unwrap()).unwrap();
        let begin = Instant::now();
        let found = track(&truth);
        seconds += begin.elapsed().as_secs_f64();
        let comparison = compare(&truth, &found);
        let (identity, clear) = (Identity::of(&comparison).f1(), Clear::of(&comparison));
        println!("{}: IDF1 {identity:.3}, {} switches", folder.file_name().unwrap().display(), clear.switches);
        (f1, switches) = (f1 + identity, switches + clear.switches);
        (sequences, frames) = (sequences + 1, frames + truth.frames.len());
    }
    let (f1, switches) = (f1 / f64::from(sequences), switches as f64 / f64::from(sequences));
    println!("mean IDF1 {f1:.3}, {switches:.1} switches a sequence; {:.0} frames/s", frames as f64 / seconds);
    assert!(f1 > 0.85 && switches < 15.0, "IDF1 {f1:.3}, {switches:.1} switches a sequence");
}
