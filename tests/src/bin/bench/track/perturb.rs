//! Detections as a detector might have made them, from what is true: 10 % are missed, 5 % are false, places and sizes are
//! off by 5 % of the size (standard deviation). All have the same confidence, so that nothing gives the false ones away.

use fastrand::Rng;
use fulltime_score::{Object, Rect, Sequence};

const MISSED: f64 = 0.1;
const FALSE: f64 = 0.05;
const NOISE: f64 = 0.05;

/// The same seed gives the same detections.
pub fn perturb(truth: &Sequence, seed: u64) -> Sequence {
    let mut rng = Rng::with_seed(seed);
    let (right, bottom) = truth
        .objects()
        .filter_map(|(_, object)| object.bounds)
        .fold((0.0, 0.0), |(x, y), b| (f64::max(x, b.x + b.w), f64::max(y, b.y + b.h)));
    let mut detections = Sequence::new();
    for (frame, object) in truth.objects() {
        let Some(b) = object.bounds else { continue };
        if rng.f64() >= MISSED {
            let (w, h) = (b.w * (1.0 + NOISE * normal(&mut rng)), b.h * (1.0 + NOISE * normal(&mut rng)));
            let cx = b.x + b.w / 2.0 + NOISE * b.w * normal(&mut rng);
            let cy = b.y + b.h / 2.0 + NOISE * b.h * normal(&mut rng);
            detections.push(frame, Object::new(None, Rect { x: cx - w / 2.0, y: cy - h / 2.0, w, h }, 1.0));
        }
        if rng.f64() < FALSE {
            let (x, y) = (rng.f64() * (right - b.w), rng.f64() * (bottom - b.h));
            detections.push(frame, Object::new(None, Rect { x, y, ..b }, 1.0));
        }
    }
    detections
}

/// So many people who walk to and fro in a picture of 1920 x 1080 at 25 frames a second, each missed now and then.
pub fn crowd(frames: u32, people: u32) -> Sequence {
    let mut rng = Rng::with_seed(7);
    let mut walkers: Vec<[f64; 4]> = (0..people)
        .map(|_| [rng.f64() * 1920.0, rng.f64() * 1080.0, normal(&mut rng) * 3.0, normal(&mut rng)])
        .collect();
    let mut detections = Sequence::new();
    for frame in 1..=frames {
        for [x, y, vx, vy] in &mut walkers {
            (*x, *y) = (*x + *vx, *y + *vy);
            *vx = if (0.0..1920.0).contains(x) { *vx + 0.1 * normal(&mut rng) } else { -*vx + (960.0 - *x) * 1e-3 };
            *vy = if (0.0..1080.0).contains(y) { *vy + 0.05 * normal(&mut rng) } else { -*vy + (540.0 - *y) * 1e-3 };
            if rng.f64() >= MISSED {
                let (w, h) = (30.0 + normal(&mut rng), 80.0 + 2.0 * normal(&mut rng));
                detections.push(frame, Object::new(None, Rect { x: *x, y: *y, w, h }, 0.9));
            }
        }
    }
    detections
}

/// Standard normal, by Box and Muller.
fn normal(rng: &mut Rng) -> f64 {
    let (u, v) = (1.0 - rng.f64(), rng.f64());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
