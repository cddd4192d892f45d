//! What remains of a track that has ended: enough to join it with others, and no more.

use super::{
    Observation, STEPS_PER_SECOND, Serial,
    camera::{CameraMotion, CameraPath},
    motion::{Bounds, Motion, Noise},
    untangle::Memory,
};

/// A track's first sightings that are kept, to learn how it came into view.
const HEAD: usize = 24;

/// A reported track that has ended.
#[derive(Debug, Clone)]
pub struct Tracklet {
    pub serial: Serial,
    pub class: u16,
    /// Frames of the first and the last sighting.
    pub first: u32,
    pub last: u32,
    /// Number of sightings, and the sum of their scores.
    pub seen: u32,
    pub score: f64,
    /// The state at the first sighting, of a time that runs backwards, in the pixels of that frame.
    pub start: Motion,
    /// The state at the last sighting, in the pixels of that frame.
    pub end: Motion,
}

/// A tracklet in the making.
#[derive(Debug, Clone)]
pub(super) struct Growing {
    head: Vec<(u32, Bounds)>,
    pub(super) seen: u32,
    pub(super) score: f64,
}

impl Growing {
    pub(super) fn new(frame: u32, seen: &Observation) -> Self {
        Self { head: vec![(frame, seen.bounds)], seen: 1, score: seen.score }
    }

    pub(super) fn add(&mut self, frame: u32, seen: &Observation) {
        if self.head.len() < HEAD {
            self.head.push((frame, seen.bounds));
        }
        self.seen += 1;
        self.score += seen.score;
    }

    /// Takes what another track knew after a frame for its own: `gone` are the sightings it had itself, `come` the other's.
    pub(super) fn exchange(&mut self, after: u32, gone: &[Memory], come: &[Memory]) {
        self.head.retain(|(frame, _)| *frame <= after);
        let room = HEAD - self.head.len();
        self.head.extend(come.iter().take(room).map(|memory| (memory.frame, memory.bounds)));
        let score = |all: &[Memory]| all.iter().map(|memory| memory.score).sum::<f64>();
        self.seen = self.seen + come.len() as u32 - gone.len() as u32;
        self.score += score(come) - score(gone);
    }

    /// The state at the first sighting, from the sightings after it.
    pub(super) fn backwards(&self, camera: &CameraPath, fps: f64, noise: &Noise) -> Motion {
        let mut sightings = self.head.iter().rev();
        let (mut frame, mut motion) = match sightings.next() {
            Some((frame, bounds)) => (*frame, Motion::new(bounds, noise)),
            None => (0, Motion::new(&Bounds { cx: 0.0, cy: 0.0, w: 1.0, h: 1.0 }, noise)),
        };
        for (earlier, bounds) in sightings {
            let steps = f64::from(frame - earlier) / fps * STEPS_PER_SECOND;
            let camera = camera.between(frame, *earlier).unwrap_or(CameraMotion::STILL);
            motion = motion.predict(steps, noise).seen_through(&camera).correct(bounds, noise);
            frame = *earlier;
        }
        motion
    }
}
