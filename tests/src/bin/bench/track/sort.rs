//! SORT (Bewley et al., 2016) as plain as its paper has it, to compare with: constant velocity in centre, area and
//! aspect, Hungarian assignment by IoU, tracks that end with the first miss but one and are shown after three hits.
//!
//! Its noise matrices are diagonal, so its seven-dimensional filter is three of two dimensions and one of one.

use fulltime_reduce::tracker::{Bounds, Pair, assign};

const LEAST_IOU: f64 = 0.3;
const MAX_AGE: u32 = 1;
const MIN_HITS: u32 = 3;

#[derive(Debug, Clone, Copy)]
struct Axis {
    at: f64,
    speed: f64,
    var: f64,
    cov: f64,
    speed_var: f64,
    noise: f64,
    speed_noise: f64,
    sighting: f64,
}

impl Axis {
    fn new(at: f64, speed_var: f64, speed_noise: f64, sighting: f64) -> Self {
        Self { at, speed: 0.0, var: 10.0, cov: 0.0, speed_var, noise: 1.0, speed_noise, sighting }
    }

    fn predict(&mut self) {
        self.at += self.speed;
        self.var += 2.0 * self.cov + self.speed_var + self.noise;
        self.cov += self.speed_var;
        self.speed_var += self.speed_noise;
    }

    fn correct(&mut self, seen: f64) {
        let total = self.var + self.sighting;
        let (gain, speed_gain, surprise) = (self.var / total, self.cov / total, seen - self.at);
        self.at += gain * surprise;
        self.speed += speed_gain * surprise;
        self.speed_var -= speed_gain * self.cov;
        self.var *= 1.0 - gain;
        self.cov *= 1.0 - gain;
    }
}

#[derive(Debug)]
struct Track {
    id: u32,
    x: Axis,
    y: Axis,
    area: Axis,
    aspect: Axis,
    misses: u32,
    streak: u32,
}

impl Track {
    fn new(id: u32, seen: &Bounds) -> Self {
        // The aspect does not change: a speed without variance stays 0.
        let (x, y) = (Axis::new(seen.cx, 10_000.0, 0.01, 1.0), Axis::new(seen.cy, 10_000.0, 0.01, 1.0));
        let (area, aspect) =
            (Axis::new(seen.w * seen.h, 10_000.0, 0.0001, 10.0), Axis::new(seen.w / seen.h, 0.0, 0.0, 10.0));
        Self { id, x, y, area, aspect, misses: 0, streak: 0 }
    }

    fn predict(&mut self) {
        if self.area.at + self.area.speed <= 0.0 {
            self.area.speed = 0.0;
        }
        [&mut self.x, &mut self.y, &mut self.area, &mut self.aspect].into_iter().for_each(Axis::predict);
        if self.misses > 0 {
            self.streak = 0;
        }
        self.misses += 1;
    }

    fn correct(&mut self, seen: &Bounds) {
        (self.misses, self.streak) = (0, self.streak + 1);
        self.x.correct(seen.cx);
        self.y.correct(seen.cy);
        self.area.correct(seen.w * seen.h);
        self.aspect.correct(seen.w / seen.h);
    }

    fn bounds(&self) -> Bounds {
        let area = self.area.at.max(1.0);
        let w = (area * self.aspect.at.max(0.01)).sqrt();
        Bounds { cx: self.x.at, cy: self.y.at, w, h: area / w }
    }
}

/// What SORT shows of a recording: rows of (frame, identity, box) from detections in the order of their frames.
pub fn follow(frames: &[(u32, Vec<Bounds>)]) -> Vec<(u32, u32, Bounds)> {
    let (mut tracks, mut shown, mut ids) = (Vec::<Track>::new(), Vec::new(), 0..);
    for (count, (frame, seen)) in frames.iter().enumerate() {
        tracks.iter_mut().for_each(Track::predict);
        let foreseen: Vec<Bounds> = tracks.iter().map(Track::bounds).collect();
        let mut pairs = Vec::new();
        for (row, a) in foreseen.iter().enumerate() {
            for (column, b) in seen.iter().enumerate() {
                let gain = a.iou(b);
                if gain > 0.0 {
                    pairs.push(Pair { row, column, gain });
                }
            }
        }
        let mut free = vec![true; seen.len()];
        for pair in assign(&pairs, foreseen.len(), seen.len()) {
            if pair.gain >= LEAST_IOU {
                tracks[pair.row].correct(&seen[pair.column]);
                free[pair.column] = false;
            }
        }
        for (seen, _) in seen.iter().zip(&free).filter(|(_, free)| **free) {
            tracks.extend(ids.next().map(|id| Track::new(id, seen)));
        }
        let sure = |track: &&Track| track.misses == 0 && (track.streak >= MIN_HITS || count < MIN_HITS as usize);
        shown.extend(tracks.iter().filter(sure).map(|track| (*frame, track.id, track.bounds())));
        tracks.retain(|track| track.misses <= MAX_AGE);
    }
    shown
}
