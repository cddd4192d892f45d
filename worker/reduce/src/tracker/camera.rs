//! How the picture moves under the objects: the camera's motion from frame to frame, given by the caller or read off the
//! detections themselves, and the path it adds up to. Called by the tracker for every frame and by `link` for every gap.

use super::motion::Bounds;

/// An affine map from the pixels of one frame to those of a later one: where a thing that stands still is seen then.
///
/// `x' = xx x + xy y + x0`, `y' = yx x + yy y + y0`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CameraMotion {
    pub xx: f64,
    pub xy: f64,
    pub yx: f64,
    pub yy: f64,
    pub x0: f64,
    pub y0: f64,
}

impl CameraMotion {
    pub const STILL: Self = Self::shift(0.0, 0.0);

    #[must_use]
    pub const fn shift(x0: f64, y0: f64) -> Self {
        Self { xx: 1.0, xy: 0.0, yx: 0.0, yy: 1.0, x0, y0 }
    }

    /// The factor by which lengths grow.
    #[must_use]
    pub fn scale(&self) -> f64 {
        (self.xx * self.yy - self.xy * self.yx).abs().sqrt()
    }

    #[must_use]
    pub fn point(&self, x: f64, y: f64) -> (f64, f64) {
        let (dx, dy) = self.direction(x, y);
        (dx + self.x0, dy + self.y0)
    }

    /// A displacement or a speed, which do not care where the origin lies.
    #[must_use]
    pub fn direction(&self, x: f64, y: f64) -> (f64, f64) {
        (self.xx * x + self.xy * y, self.yx * x + self.yy * y)
    }

    /// This motion and then another.
    #[must_use]
    pub fn then(&self, next: &Self) -> Self {
        let (x0, y0) = next.point(self.x0, self.y0);
        let ((xx, yx), (xy, yy)) = (next.direction(self.xx, self.yx), next.direction(self.xy, self.yy));
        Self { xx, xy, yx, yy, x0, y0 }
    }

    /// `None` for a map that squeezes the plane into a line.
    #[must_use]
    pub fn inverse(&self) -> Option<Self> {
        let det = self.xx * self.yy - self.xy * self.yx;
        if !det.is_normal() {
            return None;
        }
        let (xx, xy, yx, yy) = (self.yy / det, -self.xy / det, -self.yx / det, self.xx / det);
        Some(Self { xx, xy, yx, yy, x0: -(xx * self.x0 + xy * self.y0), y0: -(yx * self.x0 + yy * self.y0) })
    }
}

/// Where the camera pointed in every frame that was looked at, relative to the first one after the last cut.
#[derive(Debug, Clone, Default)]
pub struct CameraPath {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    frame: u32,
    /// Counts cuts: nothing is known about the motion over one.
    section: u32,
    /// From the section's first frame to this one, and back.
    there: CameraMotion,
    back: CameraMotion,
}

impl CameraPath {
    /// Appends a frame; `motion` leads to it from the frame before. `None`: there was a cut.
    pub(super) fn push(&mut self, frame: u32, motion: Option<&CameraMotion>) {
        let before = self.steps.last().copied();
        let section = before.map_or(0, |step| step.section);
        let there = match (before, motion) {
            (None, _) => Some(CameraMotion::STILL),
            (Some(step), Some(motion)) => Some(step.there.then(motion)),
            (Some(_), None) => None,
        };
        // A zoom that adds up beyond all measure is a chain of bad estimates: begin anew.
        let way = there.filter(|there| (1e-6..1e6).contains(&there.scale()));
        let way = way.and_then(|there| there.inverse().map(|back| (there, back)));
        let (section, (there, back)) = match way {
            Some(way) => (section, way),
            None => (section + 1, (CameraMotion::STILL, CameraMotion::STILL)),
        };
        self.steps.push(Step { frame, section, there, back });
    }

    /// Changes the motion that led to the last frame.
    pub(super) fn amend(&mut self, motion: &CameraMotion) {
        if let Some(last) = self.steps.pop() {
            let section = self.steps.last().map(|step| step.section);
            if section == Some(last.section) {
                self.push(last.frame, Some(motion));
            } else {
                self.steps.push(last);
            }
        }
    }

    /// The motion from one frame to another, earlier or later; `None` over a cut. A frame that was not looked at counts
    /// as the last one before it.
    #[must_use]
    pub fn between(&self, from: u32, to: u32) -> Option<CameraMotion> {
        let (from, to) = (self.at(from)?, self.at(to)?);
        (from.section == to.section).then(|| from.back.then(&to.there))
    }

    fn at(&self, frame: u32) -> Option<&Step> {
        // Nearly always one of the last few frames is asked for.
        let steps = &self.steps;
        if let Some(last) = steps.last().filter(|last| last.frame <= frame) {
            return Some(last);
        }
        steps.partition_point(|step| step.frame <= frame).checked_sub(1).map(|i| &steps[i])
    }
}

/// How far (in heights of a box) the camera may jump beyond what was foreseen.
const REACH: f64 = 1.0;
/// How well (in heights of a box) the motions of objects agree that stand for the camera's.
const AGREEMENT: f64 = 0.12;
/// So many objects must agree before the estimate counts half.
const DOUBT: f64 = 2.0;

/// The shift that most tracks need to meet a detection: what all share is the camera's. A mode of the votes of all pairs
/// that could be (a generalised Hough transform; refined by mean shift), so that neither false alarms nor those who run
/// their own way matter. `None` where too few agree.
pub(super) fn common_shift(foreseen: &[Bounds], seen: &[Bounds]) -> Option<(f64, f64)> {
    if foreseen.len() < 3 || seen.len() < 3 {
        return None;
    }
    struct Vote {
        track: usize,
        dx: f64,
        dy: f64,
        /// One over the bandwidth.
        sharp: f64,
    }
    let mut votes = Vec::with_capacity(foreseen.len() * 4);
    for (track, a) in foreseen.iter().enumerate() {
        for b in seen {
            let (dx, dy) = (b.cx - a.cx, b.cy - a.cy);
            if dx.abs() < REACH * a.h && dy.abs() < REACH * a.h && b.h < 1.4 * a.h && a.h < 1.4 * b.h {
                votes.push(Vote { track, dx, dy, sharp: 1.0 / (AGREEMENT * a.h) });
            }
        }
    }
    let near = |vote: &Vote, x: f64, y: f64| {
        let (dx, dy) = ((vote.dx - x) * vote.sharp, (vote.dy - y) * vote.sharp);
        (1.0 - (dx * dx + dy * dy)).max(0.0)
    };
    // Each track has one voice: that of its best pair.
    let support = |x: f64, y: f64| {
        let (mut sum, mut best, mut track) = (0.0, 0.0, usize::MAX);
        for vote in &votes {
            if vote.track != track {
                (sum, best, track) = (sum + best, 0.0, vote.track);
            }
            best = f64::max(best, near(vote, x, y));
        }
        sum + best
    };
    let (mut x, mut y) = (0.0, 0.0);
    // What was foreseen has the benefit of the doubt.
    let mut most = support(x, y) * 1.1 + 0.5;
    for vote in &votes {
        let sum = support(vote.dx, vote.dy);
        if sum > most {
            (x, y, most) = (vote.dx, vote.dy, sum);
        }
    }
    for _ in 0..3 {
        let (mut sum, mut sx, mut sy) = (0.0, 0.0, 0.0);
        for vote in &votes {
            let weight = near(vote, x, y);
            (sum, sx, sy) = (sum + weight, sx + weight * vote.dx, sy + weight * vote.dy);
        }
        if sum <= 0.0 {
            return None;
        }
        (x, y) = (sx / sum, sy / sum);
    }
    let voices = support(x, y);
    if voices < 0.3 * foreseen.len() as f64 {
        return None;
    }
    let trust = voices / (voices + DOUBT);
    Some((x * trust, y * trust))
}

/// What the displacements of the same objects from one frame to the next have in common: `(dx, dy, height)` of each. A
/// robust mean (iteratively reweighted, Cauchy's weights) of what was *seen*: over many frames it adds up to where the
/// crowd as a whole has gone, so the noise of single frames does not. `None` where there are too few to tell the
/// camera's motion from theirs; `doubt` so many count half.
pub(super) fn mean_shift(moves: &[(f64, f64, f64)], doubt: f64, spread: f64) -> Option<(f64, f64)> {
    if moves.len() < 3 {
        return None;
    }
    let median = |of: fn(&(f64, f64, f64)) -> f64| {
        let mut all: Vec<f64> = moves.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (mut x, mut y) = (median(|m| m.0), median(|m| m.1));
    for _ in 0..6 {
        let (mut sum, mut sx, mut sy) = (0.0, 0.0, 0.0);
        for &(dx, dy, h) in moves {
            let (ex, ey, own) = (dx - x, dy - y, spread * h);
            let weight = 1.0 / (1.0 + (ex * ex + ey * ey) / (own * own));
            (sum, sx, sy) = (sum + weight, sx + weight * dx, sy + weight * dy);
        }
        (x, y) = (sx / sum, sy / sum);
    }
    let (n, doubt) = ((moves.len() * moves.len()) as f64, doubt * doubt);
    let trust = n * n / (n * n + doubt * doubt);
    Some((x * trust, y * trust))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(shift: (f64, f64)) -> Vec<Bounds> {
        let at = |i: usize| Bounds {
            cx: 90.0 * (i % 5) as f64 + shift.0,
            cy: 120.0 * (i / 5) as f64 + shift.1,
            w: 20.0,
            h: 60.0 + i as f64,
        };
        (0..12).map(at).collect()
    }

    #[test]
    fn what_all_share_is_the_cameras() {
        let mut seen = crowd((31.0, -7.0));
        // Two run their own way, one is missed, one is false.
        seen[0].cx += 15.0;
        seen[5].cy -= 20.0;
        seen[9] = Bounds { cx: 700.0, cy: 30.0, w: 20.0, h: 60.0 };
        let (x, y) = common_shift(&crowd((0.0, 0.0)), &seen).unwrap();
        assert!((22.0..32.0).contains(&x) && (-8.0..-4.0).contains(&y), "{x}, {y}");
        assert_eq!(common_shift(&crowd((0.0, 0.0)), &crowd((300.0, 0.0))[..2]), None);
    }

    #[test]
    fn motions_add_up_and_can_be_undone() {
        let zoom = CameraMotion { xx: 1.1, xy: -0.02, yx: 0.03, yy: 1.1, x0: -40.0, y0: 12.0 };
        let both = zoom.then(&CameraMotion::shift(5.0, 6.0));
        let (x, y) = zoom.point(100.0, 50.0);
        assert_eq!(both.point(100.0, 50.0), (x + 5.0, y + 6.0));
        let (x, y) = both.inverse().unwrap().point(x + 5.0, y + 6.0);
        assert!((x - 100.0).abs() < 1e-9 && (y - 50.0).abs() < 1e-9);
        assert!((zoom.scale() - 1.1).abs() < 1e-2);
        assert_eq!(CameraMotion { xx: 0.0, ..CameraMotion::STILL }.inverse(), None);
    }

    #[test]
    fn nothing_is_known_over_a_cut() {
        let mut path = CameraPath::default();
        path.push(10, None);
        path.push(12, Some(&CameraMotion::shift(3.0, 0.0)));
        path.push(13, Some(&CameraMotion::shift(4.0, 1.0)));
        path.push(14, None);
        assert_eq!(path.between(10, 13), Some(CameraMotion::shift(7.0, 1.0)));
        assert_eq!(path.between(13, 11), Some(CameraMotion::shift(-7.0, -1.0)));
        assert_eq!(path.between(13, 14), None);
    }
}
