//! Where a box will be: a constant-velocity Kalman filter over centre and size.
//!
//! The usual eight-dimensional filter (Bewley et al., SORT, 2016; noise as in Wojke et al., DeepSORT, 2017) has block
//! diagonal transition, process and measurement matrices, so it *is* four filters of two dimensions each. Written that
//! way it costs a few dozen multiplications and nothing is inverted.

use super::camera::CameraMotion;

/// A box: centre and size in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    pub cx: f64,
    pub cy: f64,
    pub w: f64,
    pub h: f64,
}

impl Bounds {
    /// Intersection over union, 0 to 1.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f64 {
        let overlap = |a: f64, a_len: f64, b: f64, b_len: f64| {
            let left = (a - a_len / 2.0).max(b - b_len / 2.0);
            let right = (a + a_len / 2.0).min(b + b_len / 2.0);
            (right - left).max(0.0)
        };
        let shared = overlap(self.cx, self.w, other.cx, other.w) * overlap(self.cy, self.h, other.cy, other.h);
        if shared <= 0.0 { 0.0 } else { shared / (self.w * self.h + other.w * other.h - shared) }
    }

    /// Grown on every side by a share of its width and height, so that boxes that just miss each other can still be
    /// compared (expansion IoU: Yang et al., C-BIoU, 2023; Huang et al., Deep-EIoU, 2023).
    #[must_use]
    pub fn grown(&self, by: f64) -> Self {
        let factor = 1.0 + 2.0 * by;
        Self { w: self.w * factor, h: self.h * factor, ..*self }
    }
}

/// How restless positions, speeds and sightings are: standard deviations as a share of the box's height, per step of
/// 1/30 s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    pub position: f64,
    pub speed: f64,
    pub sighting: f64,
    /// Of the speed of something never seen before.
    pub first_speed: f64,
    /// Up and down, positions and speeds are calmer by this factor: cameras look along the ground, not onto it.
    pub upright: f64,
}

impl Noise {
    pub(super) fn vertical(&self) -> Self {
        let by = self.upright;
        Self { position: self.position * by, speed: self.speed * by, first_speed: self.first_speed * by, ..*self }
    }
}

/// Position, speed and their covariance in one dimension.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub(super) at: f64,
    speed: f64,
    var: f64,
    cov: f64,
    speed_var: f64,
}

impl Axis {
    pub(super) fn new(at: f64, scale: f64, noise: &Noise) -> Self {
        let (position, speed) = (noise.sighting * scale, noise.first_speed * scale);
        Self { at, speed: 0.0, var: position * position, cov: 0.0, speed_var: speed * speed }
    }

    /// `steps` may be any positive number: the noise is that of a continuous random walk of the speed, so that a jump
    /// over a gap is as uncertain as the frames in it.
    pub(super) fn predict(&self, steps: f64, scale: f64, noise: &Noise) -> Self {
        let position = (noise.position * scale) * (noise.position * scale) * steps;
        let speed = (noise.speed * scale) * (noise.speed * scale);
        Self {
            at: self.at + self.speed * steps,
            speed: self.speed,
            var: self.var
                + steps * (2.0 * self.cov + steps * self.speed_var)
                + position
                + speed * steps * steps * steps / 3.0,
            cov: self.cov + steps * self.speed_var + speed * steps * steps / 2.0,
            speed_var: self.speed_var + speed * steps,
        }
    }

    pub(super) fn correct(&self, measured: f64, scale: f64, noise: &Noise) -> Self {
        let total = self.var + (noise.sighting * scale) * (noise.sighting * scale);
        let (gain, speed_gain) = (self.var / total, self.cov / total);
        let surprise = measured - self.at;
        Self {
            at: self.at + gain * surprise,
            speed: self.speed + speed_gain * surprise,
            var: (1.0 - gain) * self.var,
            cov: (1.0 - gain) * self.cov,
            speed_var: self.speed_var - speed_gain * self.cov,
        }
    }

    /// This state, `ahead` being its prediction `steps` later and `later` what became of that, all things considered.
    pub(super) fn in_hindsight(&self, ahead: &Self, later: &Self, steps: f64) -> Self {
        // C = P Fᵀ P⁻¹(ahead), written out for two dimensions.
        let det = ahead.var * ahead.speed_var - ahead.cov * ahead.cov;
        if !det.is_normal() {
            return *self;
        }
        let (p0, p1) = (self.var + steps * self.cov, self.cov);
        let (q0, q1) = (self.cov + steps * self.speed_var, self.speed_var);
        let by = |a: f64, b: f64| ((a * ahead.speed_var - b * ahead.cov) / det, (b * ahead.var - a * ahead.cov) / det);
        let ((c00, c01), (c10, c11)) = (by(p0, p1), by(q0, q1));
        let (at, speed) = (later.at - ahead.at, later.speed - ahead.speed);
        Self { at: self.at + c00 * at + c01 * speed, speed: self.speed + c10 * at + c11 * speed, ..*self }
    }

    fn scaled(&self, by: f64) -> Self {
        let square = by * by;
        Self {
            at: self.at * by,
            speed: self.speed * by,
            var: self.var * square,
            cov: self.cov * square,
            speed_var: self.speed_var * square,
        }
    }
}

/// The state of one track as of its last sighting.
#[derive(Debug, Clone, Copy)]
pub struct Motion {
    cx: Axis,
    cy: Axis,
    w: Axis,
    h: Axis,
}

impl Motion {
    #[must_use]
    pub fn new(seen: &Bounds, noise: &Noise) -> Self {
        let axis = |at, noise| Axis::new(at, seen.h, noise);
        let vertical = &noise.vertical();
        Self { cx: axis(seen.cx, noise), cy: axis(seen.cy, vertical), w: axis(seen.w, noise), h: axis(seen.h, noise) }
    }

    /// The state `steps` (of 1/30 s) after the last sighting.
    #[must_use]
    pub fn predict(&self, steps: f64, noise: &Noise) -> Self {
        let scale = self.h.at.max(1.0);
        let axis = |axis: &Axis, noise| axis.predict(steps, scale, noise);
        let vertical = &noise.vertical();
        Self {
            cx: axis(&self.cx, noise),
            cy: axis(&self.cy, vertical),
            w: axis(&self.w, noise),
            h: axis(&self.h, noise),
        }
    }

    /// Takes a sighting in.
    #[must_use]
    pub fn correct(&self, seen: &Bounds, noise: &Noise) -> Self {
        let scale = self.h.at.max(1.0);
        Self {
            cx: self.cx.correct(seen.cx, scale, noise),
            cy: self.cy.correct(seen.cy, scale, noise),
            w: self.w.correct(seen.w, scale, noise),
            h: self.h.correct(seen.h, scale, noise),
        }
    }

    /// How little a sighting was expected: half its squared distance in standard deviations, over all four dimensions.
    pub(super) fn surprise(&self, seen: &Bounds, noise: &Noise) -> f64 {
        let own = noise.sighting * self.h.at.max(1.0);
        let axis = |axis: &Axis, seen: f64| (seen - axis.at) * (seen - axis.at) / (2.0 * (axis.var + own * own));
        axis(&self.cx, seen.cx) + axis(&self.cy, seen.cy) + axis(&self.w, seen.w) + axis(&self.h, seen.h)
    }

    /// The same state in the pixels of another frame. A turn of the camera is taken to be small: it turns positions and
    /// speeds, but neither boxes nor their uncertainty.
    #[must_use]
    pub fn seen_through(&self, camera: &CameraMotion) -> Self {
        let scale = camera.scale();
        let (x, y) = camera.point(self.cx.at, self.cy.at);
        let (vx, vy) = camera.direction(self.cx.speed, self.cy.speed);
        Self {
            cx: Axis { at: x, speed: vx, ..self.cx.scaled(scale) },
            cy: Axis { at: y, speed: vy, ..self.cy.scaled(scale) },
            w: self.w.scaled(scale),
            h: self.h.scaled(scale),
        }
    }

    /// The same place, no longer growing or shrinking: what is known of a size's speed does not outlive an occlusion.
    #[must_use]
    pub fn with_steady_size(mut self) -> Self {
        self.w.speed = 0.0;
        self.h.speed = 0.0;
        self
    }

    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds { cx: self.cx.at, cy: self.cy.at, w: self.w.at.max(1.0), h: self.h.at.max(1.0) }
    }

    /// Pixels per step of 1/30 s.
    #[must_use]
    pub fn speed(&self) -> (f64, f64) {
        (self.cx.speed, self.cy.speed)
    }

    /// Variance of the centre, in square pixels.
    #[must_use]
    pub fn variance(&self) -> (f64, f64) {
        (self.cx.var, self.cy.var)
    }

    /// Variance of the centre's speed.
    #[must_use]
    pub fn speed_variance(&self) -> (f64, f64) {
        (self.cx.speed_var, self.cy.speed_var)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_walk_is_foreseen_across_a_gap() {
        let walk = |t: f64| Bounds { cx: 100.0 + 3.0 * t, cy: 50.0 - t, w: 20.0, h: 50.0 };
        let noise = Noise { position: 0.05, speed: 0.00625, sighting: 0.05, first_speed: 0.0625, upright: 1.0 };
        let mut motion = Motion::new(&walk(0.0), &noise);
        for t in 1..30 {
            motion = motion.predict(1.0, &noise).correct(&walk(f64::from(t)), &noise);
        }
        let foreseen = motion.predict(20.0, &noise).bounds();
        assert!(foreseen.iou(&walk(49.0)) > 0.9, "{foreseen:?} is not {:?}", walk(49.0));
    }

    #[test]
    fn overlap_of_boxes() {
        let a = Bounds { cx: 5.0, cy: 5.0, w: 10.0, h: 10.0 };
        assert_eq!(a.iou(&a), 1.0);
        assert_eq!(a.iou(&Bounds { cx: 10.0, ..a }), 50.0 / 150.0);
        assert_eq!(a.iou(&Bounds { cx: 15.0, ..a }), 0.0);
    }
}
