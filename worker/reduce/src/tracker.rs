//! Follows objects through one recording, from detections alone: ByteTrack (Zhang et al., 2022). Strong detections are
//! matched to tracks first, weak ones then only prolong what was just seen, what is left of the strong ones starts tracks.
//!
//! Pure and streaming. What a track knows is its state at its last sighting, and each frame is met by one prediction
//! from there, so frames that are missing (gaps, sampling, frames without detections) need no care: only the distance in
//! time counts. Called by `timeline`, which waits for the [`Fate`] of a track before it publishes its rows.

mod assignment;
mod motion;

use fulltime_common::pipeline::Track as Settings;

pub use assignment::{Pair, assign};
pub use motion::Bounds;
use motion::Motion;

/// Least IoU of the second association: weak detections are often wrong, so they must lie well.
const WEAK_IOU: f64 = 0.5;
/// Least IoU times score for a track that is not yet sure to be one.
const NEW_GAIN: f64 = 0.3;
/// A track that was missed for longer is lost: weak detections do not prolong it.
const RECENT_SECONDS: f64 = 0.1;
/// The unit of time in the motion model.
const STEPS_PER_SECOND: f64 = 30.0;

/// One detection as the tracker sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    pub class: u16,
    pub score: f64,
    pub bounds: Bounds,
}

/// Names a track within its recording, counting from 0.
pub type Serial = u32;

/// Whether a track is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Too young to say.
    Open,
    /// Seen for long enough.
    Reported,
    /// Ended before it was.
    Dropped,
}

#[derive(Debug, Clone)]
struct Live {
    serial: Serial,
    class: u16,
    first: u32,
    last: u32,
    /// As of frame `last`.
    motion: Motion,
}

/// What it is worth to match a track and a detection that overlap so much; nothing unless it is more than 0.
type Round<'a> = dyn Fn(&Live, &Observation, f64) -> f64 + 'a;

/// The tracker of one recording.
#[derive(Debug)]
pub struct Tracker {
    settings: Settings,
    fps: f64,
    /// Frames without a sighting after which a track ends, and after which it is no longer recent.
    lost: u32,
    recent: u32,
    /// Frames from first to last sighting that make a track.
    least: u32,
    live: Vec<Live>,
    fates: Vec<Fate>,
}

impl Tracker {
    /// `every`: only every so many frames are looked at.
    #[must_use]
    pub fn new(settings: &Settings, fps: f64, every: u32) -> Self {
        let frames = |seconds: f64| (seconds * fps).round().clamp(0.0, f64::from(u32::MAX)) as u32;
        Self {
            lost: frames(settings.lost_seconds).max(every),
            recent: frames(RECENT_SECONDS).max(every),
            least: frames(settings.min_seconds),
            settings: settings.clone(),
            fps,
            live: Vec::new(),
            fates: Vec::new(),
        }
    }

    #[must_use]
    pub fn fate(&self, serial: Serial) -> Fate {
        self.fates.get(serial as usize).copied().unwrap_or(Fate::Dropped)
    }

    /// Takes the detections of a frame; frames must ascend. Returns the track of each detection.
    pub fn step(&mut self, frame: u32, seen: &[Observation]) -> Vec<Option<Serial>> {
        self.retire(frame);
        let mut track_of = vec![None; seen.len()];
        if seen.is_empty() {
            return track_of;
        }
        let foreseen: Vec<Motion> = self.live.iter().map(|track| self.foresee(track, frame)).collect();
        let boxes: Vec<Bounds> = foreseen.iter().map(Motion::bounds).collect();
        let mut matched: Vec<Option<usize>> = vec![None; self.live.len()];

        let strong = |o: &Observation| o.score >= f64::from(self.settings.high_score);
        let reported = |t: &Live| self.fate(t.serial) == Fate::Reported;
        let least = f64::from(self.settings.match_iou);
        let rounds: [&Round; 3] = [
            &|t, o, iou| if reported(t) && strong(o) { iou * o.score.min(1.0) - least } else { 0.0 },
            &|t, o, iou| if !strong(o) && frame - t.last <= self.recent { iou - WEAK_IOU } else { 0.0 },
            &|t, o, iou| if !reported(t) && strong(o) { iou * o.score.min(1.0) - NEW_GAIN } else { 0.0 },
        ];
        for gain in rounds {
            let mut pairs = Vec::new();
            for (row, track) in self.live.iter().enumerate().filter(|(row, _)| matched[*row].is_none()) {
                for (column, observation) in seen.iter().enumerate() {
                    if track_of[column].is_some() || track.class != observation.class {
                        continue;
                    }
                    let iou = boxes[row].iou(&observation.bounds);
                    let gain = if iou > 0.0 { gain(track, observation, iou) } else { 0.0 };
                    if gain > 0.0 {
                        pairs.push(Pair { row, column, gain });
                    }
                }
            }
            for pair in assign(&pairs, self.live.len(), seen.len()) {
                matched[pair.row] = Some(pair.column);
                track_of[pair.column] = Some(self.live[pair.row].serial);
            }
        }

        for (row, column) in matched.into_iter().enumerate() {
            if let Some(column) = column {
                let track = &mut self.live[row];
                track.motion = foreseen[row].correct(&seen[column].bounds);
                track.last = frame;
                if track.last - track.first >= self.least {
                    self.fates[track.serial as usize] = Fate::Reported;
                }
            }
        }
        for (observation, track) in seen.iter().zip(&mut track_of) {
            if track.is_none() && observation.score >= f64::from(self.settings.start_score) {
                *track = Some(self.start(frame, observation));
            }
        }
        track_of
    }

    /// No more frames: what is open now is dropped.
    pub fn finish(&mut self) {
        self.live.clear();
        self.fates.iter_mut().filter(|fate| **fate == Fate::Open).for_each(|fate| *fate = Fate::Dropped);
    }

    fn start(&mut self, frame: u32, seen: &Observation) -> Serial {
        let serial = self.fates.len() as Serial;
        self.fates.push(if self.least == 0 { Fate::Reported } else { Fate::Open });
        let motion = Motion::new(&seen.bounds);
        self.live.push(Live { serial, class: seen.class, first: frame, last: frame, motion });
        serial
    }

    /// Ends the tracks that were not seen for too long. One that is not yet sure must be seen all the time.
    fn retire(&mut self, frame: u32) {
        let Self { live, fates, lost, recent, .. } = self;
        live.retain(|track| {
            let fate = &mut fates[track.serial as usize];
            let patience = if *fate == Fate::Open { *recent } else { *lost };
            let stays = frame - track.last <= patience;
            if !stays && *fate == Fate::Open {
                *fate = Fate::Dropped;
            }
            stays
        });
    }

    fn foresee(&self, track: &Live, frame: u32) -> Motion {
        let away = frame - track.last;
        let steps = f64::from(away) / self.fps * STEPS_PER_SECOND;
        if away > self.recent { track.motion.with_steady_size().predict(steps) } else { track.motion.predict(steps) }
    }
}
