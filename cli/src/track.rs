//! `fulltime track`: follows objects through detections in `MOTChallenge` text, as the reduce does it for a recording, and
//! writes what public benchmarks score.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use fulltime_common::{
    Exit,
    error::{Failure, chain},
    pipeline::Track,
};
use fulltime_reduce::tracker::{Bounds, Followed, Observation, Tuning, follow};
use fulltime_score::{Object, Rect, Sequence, mot};
use serde::Serialize;

use crate::{
    args::TrackArgs,
    screen::Screen,
    text::{count, plural},
};

/// Time between two signs of life.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Outcome {
    out: String,
    frames: usize,
    detections: usize,
    objects: usize,
    rows: usize,
    elapsed_s: f64,
    /// Frames a second of tracking, joining and smoothing; reading and writing left out.
    fps: f64,
    exit: u8,
}

/// # Errors
/// Detections that cannot be read, results that cannot be written.
pub fn track(args: &TrackArgs) -> Result<Exit, Failure> {
    let screen = Screen::new(args.json);
    let outcome = run(args, &screen);
    screen.clear();
    let outcome = outcome?;
    if args.json {
        let line = serde_json::to_string(&outcome)
            .map_err(|error| Failure::new(Exit::Internal, format!("write the outcome: {error}"), "report this"))?;
        println!("{line}");
    } else {
        println!(
            "{} in {}, {} to {}",
            plural(outcome.objects as u64, "object"),
            plural(outcome.frames as u64, "frame"),
            plural(outcome.rows as u64, "row"),
            outcome.out
        );
    }
    Ok(Exit::Ok)
}

fn run(args: &TrackArgs, screen: &Screen) -> Result<Outcome, Failure> {
    screen.doing(&format!("reading {}", args.detections.display()));
    let begun = Instant::now();
    let detections = read(&args.detections)?;
    let scores = Scores::of(&detections);
    let classes = classes(&detections);
    let mut shown = Instant::now();
    let frames = detections.frames.iter().enumerate().map(|(done, (&frame, objects))| {
        if shown.elapsed() >= REPORT_EVERY {
            let (done, all) = (count(done as u64), count(detections.frames.len() as u64));
            screen.doing(&format!("following objects: frame {done} of {all}"));
            shown = Instant::now();
        }
        (frame, objects.iter().filter_map(|object| observation(object, &scores, &classes)).collect())
    });
    let following = Instant::now();
    let followed = follow(frames, &Track::default(), &Tuning::DEFAULT, args.fps);
    let results = results(&followed, &classes);
    let elapsed = following.elapsed().as_secs_f64();
    screen.doing(&format!("writing {}", args.out.display()));
    write(&results, &args.out)?;
    Ok(Outcome {
        out: args.out.display().to_string(),
        frames: detections.frames.len(),
        detections: detections.len(),
        objects: followed.objects.len(),
        rows: results.len(),
        elapsed_s: begun.elapsed().as_secs_f64(),
        fps: detections.frames.len() as f64 / elapsed.max(1e-9),
        exit: Exit::Ok as u8,
    })
}

fn read(path: &Path) -> Result<Sequence, Failure> {
    let file = File::open(path).map_err(|error| {
        let fix = "name a file in MOTChallenge text (frame,id,left,top,width,height,confidence,…)";
        Failure::new(Exit::Usage, format!("open `{}`: {error}", path.display()), fix)
    })?;
    mot::read(file).map_err(|error| {
        let fix = "the file must be MOTChallenge text: frame,id,left,top,width,height,confidence,…";
        Failure::new(Exit::Usage, format!("read `{}`: {}", path.display(), chain(&error)), fix)
    })
}

fn write(results: &Sequence, path: &Path) -> Result<(), Failure> {
    let failed = |cause: String| {
        Failure::new(Exit::Store, format!("write `{}`: {cause}", path.display()), "name a place that can be written to")
    };
    let mut file = BufWriter::new(File::create(path).map_err(|error| failed(error.to_string()))?);
    mot::write(results, &mut file).map_err(|error| failed(chain(&error)))?;
    file.flush().map_err(|error| failed(error.to_string()))
}

/// How the file's confidences become scores from 0 to 1. Detectors without probabilities write what they like (-1, margins
/// of a support vector machine, percentages): of those only the order is used, and all are taken for strong.
#[derive(Debug)]
enum Scores {
    AsTheyAre,
    Ranked(Vec<f64>),
}

impl Scores {
    fn of(detections: &Sequence) -> Self {
        let mut all: Vec<f64> = detections.objects().map(|(_, object)| object.score).collect();
        if all.iter().all(|score| (0.0..=1.0).contains(score)) && all.iter().any(|score| *score > 0.0) {
            return Self::AsTheyAre;
        }
        all.sort_by(f64::total_cmp);
        Self::Ranked(all)
    }

    fn score(&self, confidence: f64) -> f64 {
        match self {
            Self::AsTheyAre => confidence,
            Self::Ranked(all) => {
                let below = all.partition_point(|other| *other < confidence);
                0.5 + 0.5 * (below as f64 + 1.0) / (all.len() as f64 + 1.0)
            }
        }
    }
}

/// The class numbers that occur, in order: a track is of one class, named by its place here.
fn classes(detections: &Sequence) -> Vec<Option<i32>> {
    let mut all: Vec<_> = detections.objects().map(|(_, object)| object.class).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn observation(object: &Object, scores: &Scores, classes: &[Option<i32>]) -> Option<Observation<'static>> {
    let Rect { x, y, w, h } = object.bounds?;
    if w <= 0.0 || h <= 0.0 {
        return None;
    }
    let class = classes.binary_search(&object.class).ok()?.min(usize::from(u16::MAX)) as u16;
    let bounds = Bounds { cx: x + w / 2.0, cy: y + h / 2.0, w, h };
    Some(Observation { class, score: scores.score(object.score), bounds, look: None })
}

fn results(followed: &Followed, classes: &[Option<i32>]) -> Sequence {
    let mut results = Sequence::new();
    for (number, object) in followed.objects.iter().enumerate() {
        let score = object.sightings.iter().map(|s| s.score).sum::<f64>() / object.sightings.len().max(1) as f64;
        for (frame, Bounds { cx, cy, w, h }) in followed.path(object) {
            // A hundredth of a pixel is more than any detector knows.
            let round = |value: f64| (value * 100.0).round() / 100.0;
            let bounds = Rect { x: round(cx - w / 2.0), y: round(cy - h / 2.0), w: round(w), h: round(h) };
            let mut row = Object::new(Some(number as i64 + 1), bounds, (score * 1e4).round() / 1e4);
            row.class = classes.get(usize::from(object.class)).copied().flatten();
            results.push(frame, row);
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detections(text: &str) -> Sequence {
        mot::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn confidences_that_are_no_probabilities_keep_their_order() {
        let probable = Scores::of(&detections("1,-1,0,0,5,9,0.3\n1,-1,9,0,5,9,1\n"));
        assert_eq!(probable.score(0.3), 0.3);
        for text in ["1,-1,0,0,5,9,-0.7\n1,-1,9,0,5,9,2.5\n", "1,-1,0,0,5,9,-1\n1,-1,9,0,5,9,-1\n"] {
            let all = detections(text);
            let scores = Scores::of(&all);
            let of = |i: usize| scores.score(all.frame(1)[i].score);
            assert!(of(0) <= of(1) && of(0) > 0.5 && of(1) <= 1.0, "{} {}", of(0), of(1));
        }
    }

    #[test]
    fn a_walk_with_a_hole_becomes_one_identity_without() {
        let mut text = String::new();
        for frame in (1..=40).filter(|frame| !(20..24).contains(frame)) {
            text.push_str(&format!("{frame},-1,{},50,20,60,0.9,-1,-1,-1\n", 100 + 2 * frame));
        }
        let all = detections(&text);
        let frames = all.frames.iter().map(|(&frame, objects)| {
            let scores = Scores::AsTheyAre;
            (frame, objects.iter().filter_map(|o| observation(o, &scores, &classes(&all))).collect())
        });
        let followed = follow(frames, &Track::default(), &Tuning::DEFAULT, 25.0);
        let results = results(&followed, &classes(&all));
        assert_eq!(results.frames.keys().copied().collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
        assert!(results.objects().all(|(_, object)| object.id == Some(1)));
        let filled = results.frame(22)[0].bounds.unwrap();
        assert!((filled.x - 144.0).abs() < 2.0, "{filled:?}");
    }
}
