//! Where a box will be: a constant-velocity Kalman filter over centre and size.
//!
//! The usual eight-dimensional filter (Bewley et al., SORT, 2016; noise as in Wojke et al., DeepSORT, 2017) has block
//! diagonal transition, process and measurement matrices, so it *is* four filters of two dimensions each. Written that
//! way it costs a few dozen multiplications and nothing is inverted.

/// A box: centre and size in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    pub cx: f64,
    pub cy: f64,
    pub w: f64,
    pub h: f64,
}

/// Standard deviation of a position and of a velocity as a share of the box's height, per step of 1/30 s.
const POSITION_NOISE: f64 = 1.0 / 20.0;
const SPEED_NOISE: f64 = 1.0 / 160.0;

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
}

/// Position, speed and their covariance in one dimension.
#[derive(Debug, Clone, Copy)]
struct Axis {
    at: f64,
    speed: f64,
    var: f64,
    cov: f64,
    speed_var: f64,
}

impl Axis {
    fn new(at: f64, scale: f64) -> Self {
        let (position, speed) = (2.0 * POSITION_NOISE * scale, 10.0 * SPEED_NOISE * scale);
        Self { at, speed: 0.0, var: position * position, cov: 0.0, speed_var: speed * speed }
    }

    /// `steps` may be any positive number: the noise is that of a continuous random walk of the speed, so that a jump
    /// over a gap is as uncertain as the frames in it.
    fn predict(&self, steps: f64, scale: f64) -> Self {
        let position = (POSITION_NOISE * scale) * (POSITION_NOISE * scale) * steps;
        let speed = (SPEED_NOISE * scale) * (SPEED_NOISE * scale);
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

    fn correct(&self, measured: f64, scale: f64) -> Self {
        let total = self.var + (POSITION_NOISE * scale) * (POSITION_NOISE * scale);
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
    pub fn new(seen: &Bounds) -> Self {
        let axis = |at| Axis::new(at, seen.h);
        Self { cx: axis(seen.cx), cy: axis(seen.cy), w: axis(seen.w), h: axis(seen.h) }
    }

    /// The state `steps` (of 1/30 s) after the last sighting.
    #[must_use]
    pub fn predict(&self, steps: f64) -> Self {
        let scale = self.h.at.max(1.0);
        let axis = |axis: &Axis| axis.predict(steps, scale);
        Self { cx: axis(&self.cx), cy: axis(&self.cy), w: axis(&self.w), h: axis(&self.h) }
    }

    /// Takes a sighting in.
    #[must_use]
    pub fn correct(&self, seen: &Bounds) -> Self {
        let scale = self.h.at.max(1.0);
        Self {
            cx: self.cx.correct(seen.cx, scale),
            cy: self.cy.correct(seen.cy, scale),
            w: self.w.correct(seen.w, scale),
            h: self.h.correct(seen.h, scale),
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_walk_is_foreseen_across_a_gap() {
        let walk = |t: f64| Bounds { cx: 100.0 + 3.0 * t, cy: 50.0 - t, w: 20.0, h: 50.0 };
        let mut motion = Motion::new(&walk(0.0));
        for t in 1..30 {
            motion = motion.predict(1.0).correct(&walk(f64::from(t)));
        }
        let foreseen = motion.predict(20.0).bounds();
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
