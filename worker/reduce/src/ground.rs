//! Places on the pitch: where a pixel lies on the grass, from the views that the user gave, and how far and how fast somebody
//! ran, from those.

use fulltime_common::pitch::{View, invert};

use crate::tracker::CameraMotion;

/// Metres around the pitch in which places are still believed: benches lie there, the crowd does not.
const AROUND: f64 = 8.0;

/// Follows the view of one recording from picture to picture.
#[derive(Debug)]
pub struct Ground {
    /// By frame; those that are still to come.
    views: std::vec::IntoIter<View>,
    next: Option<View>,
    now: Option<Now>,
}

#[derive(Debug, Clone, Copy)]
struct Now {
    /// From pixels of the current picture to metres.
    to_pitch: [f64; 9],
    moving: bool,
    /// Half the length and half the width of the pitch.
    half: [f64; 2],
}

impl Ground {
    #[must_use]
    pub fn new(views: &[View]) -> Self {
        let mut views = Vec::from(views).into_iter();
        let next = views.next();
        Self { views, next, now: None }
    }

    /// Goes on to the next picture. `motion`: the camera's since the one before, `None` where it is not known or there was
    /// a cut; then a moving view is lost until the next one that the user gave.
    pub fn step(&mut self, frame: u32, motion: Option<&CameraMotion>) {
        if let Some(now) = self.now.filter(|now| now.moving) {
            let back = motion.and_then(CameraMotion::inverse);
            self.now = back.map(|back| Now { to_pitch: through(&now.to_pitch, &back), ..now });
        }
        while let Some(view) = self.next.take_if(|view| view.frame <= frame) {
            // A moving view is right at its own frame only. One that was not decoded is of no use.
            if !view.moving || view.frame == frame {
                let half = view.pitch.map(|side| side / 2.0);
                self.now = invert(&view.homography).map(|to_pitch| Now { to_pitch, moving: view.moving, half });
            }
            self.next = self.views.next();
        }
    }

    /// Where a pixel lies, metres from the centre spot; `None` where that is not known, or not near the pitch.
    #[must_use]
    pub fn place(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let Now { to_pitch: m, half, .. } = self.now.as_ref()?;
        let w = m[6] * x + m[7] * y + m[8];
        let (px, py) = ((m[0] * x + m[1] * y + m[2]) / w, (m[3] * x + m[4] * y + m[5]) / w);
        (px.abs() <= half[0] + AROUND && py.abs() <= half[1] + AROUND).then_some((px, py))
    }
}

/// A homography after an affine map.
fn through(m: &[f64; 9], a: &CameraMotion) -> [f64; 9] {
    let mut result = [0.0; 9];
    for row in 0..3 {
        let [p, q, r] = [m[row * 3], m[row * 3 + 1], m[row * 3 + 2]];
        result[row * 3] = p * a.xx + q * a.yx;
        result[row * 3 + 1] = p * a.xy + q * a.yy;
        result[row * 3 + 2] = p * a.x0 + q * a.y0 + r;
    }
    result
}

/// Sums up a way. Places are averaged over half a second each, which takes the jitter of boxes out of it; the way is the sum
/// of the distances between these means, the top speed the greatest distance in half a second. What was not seen for a
/// second or more is not counted.
#[derive(Debug, Clone, Default)]
pub struct Way {
    half_second: i64,
    sum: (f64, f64),
    count: u32,
    last: Option<(i64, f64, f64)>,
    metres: f64,
    top: f64,
    known: bool,
}

/// Half seconds between two places that still belong to one way.
const TOGETHER: i64 = 2;

impl Way {
    /// `t_us`: time of the picture, ascending.
    pub fn add(&mut self, t_us: i64, (x, y): (f64, f64)) {
        let half_second = t_us.div_euclid(500_000);
        if half_second != self.half_second {
            self.close();
            self.half_second = half_second;
        }
        self.sum = (self.sum.0 + x, self.sum.1 + y);
        self.count += 1;
        self.known = true;
    }

    fn close(&mut self) {
        if self.count == 0 {
            return;
        }
        let (x, y) = (self.sum.0 / f64::from(self.count), self.sum.1 / f64::from(self.count));
        if let Some((at, px, py)) = self.last.filter(|last| self.half_second - last.0 <= TOGETHER) {
            let way = ((x - px) * (x - px) + (y - py) * (y - py)).sqrt();
            self.metres += way;
            self.top = self.top.max(way / (0.5 * (self.half_second - at) as f64));
        }
        self.last = Some((self.half_second, x, y));
        (self.sum, self.count) = ((0.0, 0.0), 0);
    }

    /// Metres, and metres a second; `None` when no place was known.
    #[must_use]
    pub fn finish(mut self) -> Option<(f64, f64)> {
        self.close();
        self.known.then_some((self.metres, self.top))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten pixels a metre, centre spot at (640, 360), y upwards.
    const H: [f64; 9] = [10.0, 0.0, 640.0, 0.0, -10.0, 360.0, 0.0, 0.0, 1.0];

    fn view(frame: u32, moving: bool) -> View {
        View { frame, moving, homography: H, pitch: [105.0, 68.0] }
    }

    #[test]
    fn a_fixed_view_holds_over_cuts_from_its_frame_on() {
        let mut ground = Ground::new(&[view(10, false)]);
        ground.step(9, None);
        assert_eq!(ground.place(640.0, 360.0), None);
        ground.step(12, None);
        assert_eq!(ground.place(740.0, 260.0), Some((10.0, 10.0)));
        assert_eq!(ground.place(640.0, 1000.0), None, "far beside the pitch");
    }

    #[test]
    fn a_moving_view_follows_the_camera_up_to_the_cut() {
        let mut ground = Ground::new(&[view(0, true), view(5, true)]);
        ground.step(0, None);
        for frame in 1..4 {
            ground.step(frame, Some(&CameraMotion::shift(-20.0, 0.0)));
        }
        let (x, y) = ground.place(680.0, 360.0).unwrap();
        assert!((x - 10.0).abs() < 1e-9 && y.abs() < 1e-9);
        ground.step(4, None);
        assert_eq!(ground.place(680.0, 360.0), None);
        ground.step(5, None);
        assert_eq!(ground.place(640.0, 360.0), Some((0.0, 0.0)));
    }

    #[test]
    fn a_steady_run_has_its_length_and_its_speed() {
        let mut way = Way::default();
        let jitter = |i: i64| if i % 2 == 0 { 0.1 } else { -0.1 };
        for i in 0..250 {
            way.add(i * 40_000, (0.24 * i as f64 + jitter(i), jitter(i + 1)));
        }
        let (metres, top) = way.finish().unwrap();
        // Ten seconds at 6 m/s, less half of the first and the last half second.
        assert!((metres - 57.0).abs() < 0.8, "{metres}");
        assert!((top - 6.0).abs() < 0.5, "{top}");
        assert_eq!(Way::default().finish(), None);
    }

    #[test]
    fn who_comes_back_after_a_while_has_not_run_there() {
        let mut way = Way::default();
        way.add(0, (0.0, 0.0));
        way.add(5_000_000, (50.0, 0.0));
        assert_eq!(way.finish(), Some((0.0, 0.0)));
    }
}
