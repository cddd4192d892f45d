//! What happens between the pictures of a recording: cuts, the camera's motion, and pictures that are shown again. Derived
//! from what the shards say of each picture by itself, so nothing here knows where one shard ends.
//!
//! Corners of one picture are found again in the next by their descriptors, and the motion that most of them agree on is
//! the camera's (RANSAC: Fischler and Bolles, 1981; here with a fixed sequence of samples, so the same rows always give the
//! same motion). Where no motion leads from one picture to the next and the light changes by far more than it does around
//! (grass looks like grass, so no fixed change will do), there may be a cut; but only when the pictures after it do not
//! lead back: a flash does, and so does a picture full of blur.

use std::collections::{HashMap, VecDeque};

use fulltime_tables::corners::Corner;

use crate::tracker::{Bounds, CameraMotion};

/// Pictures that are waited for before a cut is believed: longer than a flash, shorter than a shot.
const FLASH: usize = 3;
/// Mean difference of luma, the common shift taken out, from which on two pictures without common corners may be two
/// scenes, if it is also so many times the median of the steps around: a pan changes the light in each of its steps.
const UNLIKE: f64 = 3.0;
const LEAP: f64 = 2.0;
/// From which on they may be after a picture that stood still: what went on meanwhile shows all at once.
const UNLIKE_AFTER_STANDING: f64 = 7.0;
/// From which on they are, whatever their corners say; and below which they are one scene.
const STRANGE: f64 = 40.0;
const ALIKE: f64 = 2.0;
/// Corners whose descriptors differ in more bits are not the same place; nor are those with a second choice this near.
const SAME_BITS: u32 = 30;
const CLEAR_BITS: u32 = 6;
/// Share of the picture's width that a place moves at most from one picture to the next.
const REACH: f64 = 0.25;
/// Distance in shares of the picture's width within which a place is where a motion says.
const AGREES: f64 = 0.0016;
/// So many places must agree, and so large a part of those that were found again.
const VOICES: usize = 6;
const SHARE: f64 = 0.35;
/// Motions that are tried.
const SAMPLES: usize = 160;
/// Places from which on a sheared motion is believed rather than one that only turns and scales.
const MANY: usize = 12;

/// What is known of a picture by itself.
#[derive(Debug, Clone)]
pub struct Picture {
    pub frame: u32,
    /// Equal for equal pictures.
    pub hash: u64,
    pub luma: [u8; 64],
    /// Outside of people: those move by themselves.
    pub corners: Vec<Corner>,
}

impl Picture {
    /// Leaves out corners within these boxes.
    #[must_use]
    pub fn new(frame: u32, hash: u64, luma: [u8; 64], mut corners: Vec<Corner>, people: &[Bounds]) -> Self {
        corners.retain(|corner| {
            let (x, y) = (f64::from(corner.x), f64::from(corner.y));
            people.iter().all(|b| (x - b.cx).abs() > b.w / 2.0 + 2.0 || (y - b.cy).abs() > b.h / 2.0 + 2.0)
        });
        Self { frame, hash, luma, corners }
    }
}

/// What a picture is to the one before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub frame: u32,
    /// Another scene begins here.
    pub cut: bool,
    /// From the pixels of the picture before to those of this one; `None` over a cut, and where nobody can say.
    pub motion: Option<CameraMotion>,
    /// The first picture of the recording that is the same.
    pub duplicate_of: Option<u32>,
}

/// Follows the pictures of one recording, some pictures behind.
#[derive(Debug)]
pub struct Scene {
    width: f64,
    /// The last picture that belongs to the scene, whether it was shown before, and whether others have been shown since (a
    /// flash).
    last: Option<Picture>,
    stood: bool,
    flash: bool,
    /// How unlike the last pictures were to those before them; one that was shown again is like itself.
    recent: VecDeque<f64>,
    queue: VecDeque<Picture>,
    first_with: HashMap<u64, u32>,
}

impl Scene {
    #[must_use]
    pub fn new(width: u32) -> Self {
        Self {
            width: f64::from(width.max(1)),
            last: None,
            stood: false,
            flash: false,
            recent: VecDeque::new(),
            queue: VecDeque::new(),
            first_with: HashMap::new(),
        }
    }

    /// Takes the next picture and says what one before it is, as soon as that is certain.
    pub fn push(&mut self, picture: Picture) -> Option<Step> {
        self.queue.push_back(picture);
        if self.queue.len() > FLASH { self.next() } else { None }
    }

    /// No more pictures: says what the next one is that waits.
    pub fn next(&mut self) -> Option<Step> {
        let picture = self.queue.pop_front()?;
        let frame = picture.frame;
        let first = *self.first_with.entry(picture.hash).or_insert(frame);
        let duplicate_of = (first != frame).then_some(first);
        let change = self.last.as_ref().map_or(0.0, |last| change(last, &picture));
        let (cut, motion) = match &self.last {
            None => (false, None),
            Some(last) if last.hash == picture.hash => (false, Some(CameraMotion::STILL)),
            Some(last) => {
                let motion = motion(last, &picture, self.width).filter(|_| change < STRANGE);
                let leaps = motion.is_none() && self.leaps(change, &picture);
                if leaps && self.leads_back(last) {
                    self.flash = true;
                    return Some(Step { frame, cut: false, motion: None, duplicate_of });
                }
                // The motion since before a flash is not that since the picture before.
                (leaps, motion.filter(|_| !self.flash))
            }
        };
        self.recent.push_back(change);
        if self.recent.len() > FLASH {
            self.recent.pop_front();
        }
        self.stood = self.last.as_ref().is_some_and(|last| last.hash == picture.hash);
        (self.last, self.flash) = (Some(picture), false);
        Some(Step { frame, cut, motion, duplicate_of })
    }

    /// Whether the light changes with this picture as it does not around.
    fn leaps(&self, by: f64, picture: &Picture) -> bool {
        let ahead = std::iter::once(picture).chain(&self.queue).zip(&self.queue).map(|(a, b)| change(a, b));
        let mut around: Vec<f64> = self.recent.iter().copied().chain(ahead).collect();
        around.sort_by(f64::total_cmp);
        let median = around.get(around.len() / 2).copied().unwrap_or_default();
        let least = if self.stood { UNLIKE_AFTER_STANDING } else { UNLIKE };
        by >= least && by >= LEAP * median
    }

    /// Whether one of the pictures that follow shows the scene of this one again.
    fn leads_back(&self, last: &Picture) -> bool {
        self.queue
            .iter()
            .any(|later| unlike(&last.luma, &later.luma) < ALIKE || motion(last, later, self.width).is_some())
    }
}

/// How unlike a picture is to the one before; nothing for one that is shown again.
fn change(last: &Picture, picture: &Picture) -> f64 {
    if last.hash == picture.hash { 0.0 } else { unlike(&last.luma, &picture.luma) }
}

/// Mean difference of two luma signatures when their means are made equal.
fn unlike(a: &[u8; 64], b: &[u8; 64]) -> f64 {
    let sum = |luma: &[u8; 64]| luma.iter().map(|&l| i32::from(l)).sum::<i32>();
    let shift = sum(a) - sum(b);
    // In 64ths, so that it stays whole.
    let difference: i32 = a.iter().zip(b).map(|(a, b)| ((i32::from(*a) - i32::from(*b)) * 64 - shift).abs()).sum();
    f64::from(difference) / 4096.0
}

/// A place in two pictures.
#[derive(Debug, Clone, Copy)]
struct Pair {
    from: (f64, f64),
    to: (f64, f64),
}

/// The camera's motion from one picture to another; `None` where too few places agree on one.
#[must_use]
pub fn motion(from: &Picture, to: &Picture, width: f64) -> Option<CameraMotion> {
    let pairs = found_again(&from.corners, &to.corners, width * REACH);
    let (count, least) = (pairs.len(), VOICES.max((pairs.len() as f64 * SHARE) as usize));
    if count < least {
        return None;
    }
    let within = width * AGREES;
    let agree = |motion: &CameraMotion, pair: &Pair| {
        let (x, y) = motion.point(pair.from.0, pair.from.1);
        let (dx, dy) = (x - pair.to.0, y - pair.to.1);
        dx * dx + dy * dy <= within * within
    };
    let voices = |motion: &CameraMotion| pairs.iter().filter(|pair| agree(motion, pair)).count();
    let mut best = (0, CameraMotion::STILL);
    let mut consider = |motion: CameraMotion| {
        let voices = voices(&motion);
        if voices > best.0 {
            best = (voices, motion);
        }
    };
    consider(CameraMotion::STILL);
    // A multiplicative congruential sequence (Park and Miller, 1988): any will do, as long as it is always the same.
    let mut state: u64 = 20_071_969;
    let mut draw = || {
        state = state * 48_271 % 2_147_483_647;
        (state % count as u64) as usize
    };
    for _ in 0..SAMPLES {
        let (a, b) = (pairs[draw()], pairs[draw()]);
        if let Some(motion) = through_two(&a, &b).filter(plausible) {
            consider(motion);
        }
    }
    let (mut most, mut motion) = best;
    for _ in 0..3 {
        let agreeing: Vec<Pair> = pairs.iter().copied().filter(|pair| agree(&motion, pair)).collect();
        let Some(better) = fitted(&agreeing).filter(plausible) else { break };
        let voices = voices(&better);
        if voices < most {
            break;
        }
        (most, motion) = (voices, better);
    }
    (most >= least).then_some(motion)
}

/// Corners that are each other's best match by descriptor, and no other comes near.
fn found_again(from: &[Corner], to: &[Corner], reach: f64) -> Vec<Pair> {
    let near = |a: &Corner, b: &Corner| f64::from((a.x - b.x).abs()) <= reach && f64::from((a.y - b.y).abs()) <= reach;
    let best = |corner: &Corner, others: &[Corner]| {
        let (mut first, mut second, mut which) = (u32::MAX, u32::MAX, 0);
        for (at, other) in others.iter().enumerate().filter(|(_, other)| near(corner, other)) {
            let distance = corner.distance(other);
            if distance < first {
                (first, second, which) = (distance, first, at);
            } else if distance < second {
                second = distance;
            }
        }
        (first <= SAME_BITS && second.saturating_sub(first) >= CLEAR_BITS).then_some(which)
    };
    let back: Vec<Option<usize>> = to.iter().map(|corner| best(corner, from)).collect();
    let place = |corner: &Corner| (f64::from(corner.x), f64::from(corner.y));
    let mutual = |(at, corner): (usize, &Corner)| {
        let found = best(corner, to)?;
        (back[found] == Some(at)).then(|| Pair { from: place(corner), to: place(&to[found]) })
    };
    from.iter().enumerate().filter_map(mutual).collect()
}

/// The motion that turns, scales and shifts so that two places are met; `None` when they are too near to each other.
fn through_two(a: &Pair, b: &Pair) -> Option<CameraMotion> {
    let (ux, uy) = (b.from.0 - a.from.0, b.from.1 - a.from.1);
    let (vx, vy) = (b.to.0 - a.to.0, b.to.1 - a.to.1);
    let square = ux * ux + uy * uy;
    if square < 400.0 {
        return None;
    }
    let (xx, yx) = ((ux * vx + uy * vy) / square, (ux * vy - uy * vx) / square);
    let turned = CameraMotion { xx, xy: -yx, yx, yy: xx, x0: 0.0, y0: 0.0 };
    let (x, y) = turned.point(a.from.0, a.from.1);
    Some(CameraMotion { x0: a.to.0 - x, y0: a.to.1 - y, ..turned })
}

/// Cameras zoom and turn little within a picture.
fn plausible(motion: &CameraMotion) -> bool {
    (0.8..1.25).contains(&motion.scale()) && motion.yx.abs() < 0.15 && motion.xy.abs() < 0.15
}

/// The motion that brings places nearest to where they were found, by least squares.
fn fitted(pairs: &[Pair]) -> Option<CameraMotion> {
    let count = pairs.len() as f64;
    if pairs.len() < 3 {
        return None;
    }
    let mean = |of: fn(&Pair) -> f64| pairs.iter().map(of).sum::<f64>() / count;
    let (mx, my) = (mean(|p| p.from.0), mean(|p| p.from.1));
    let (nx, ny) = (mean(|p| p.to.0), mean(|p| p.to.1));
    let [mut xx, mut xy, mut yy, mut xu, mut yu, mut xv, mut yv] = [0.0; 7];
    for Pair { from, to } in pairs {
        let (x, y, u, v) = (from.0 - mx, from.1 - my, to.0 - nx, to.1 - ny);
        (xx, xy, yy) = (xx + x * x, xy + x * y, yy + y * y);
        (xu, yu, xv, yv) = (xu + x * u, yu + y * u, xv + x * v, yv + y * v);
    }
    let det = xx * yy - xy * xy;
    let turned = if pairs.len() >= MANY && det > 1e-3 * (xx + yy) * (xx + yy) {
        CameraMotion {
            xx: (xu * yy - yu * xy) / det,
            xy: (yu * xx - xu * xy) / det,
            yx: (xv * yy - yv * xy) / det,
            yy: (yv * xx - xv * xy) / det,
            x0: 0.0,
            y0: 0.0,
        }
    } else {
        let square = xx + yy;
        if square <= 0.0 {
            return None;
        }
        let (a, b) = ((xu + yv) / square, (xv - yu) / square);
        CameraMotion { xx: a, xy: -b, yx: b, yy: a, x0: 0.0, y0: 0.0 }
    };
    let (x, y) = turned.point(mx, my);
    Some(CameraMotion { x0: nx - x, y0: ny - y, ..turned })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: u32 = 1280;

    /// Corners of a scene as a moved camera sees them, each with a descriptor of its own.
    fn picture(frame: u32, scene: u64, camera: &CameraMotion, luma: [u8; 64]) -> Picture {
        let mut state = scene * 2 + 1;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        let corners = (0..50)
            .map(|_| {
                let (x, y) = camera.point((random() % 1200 + 40) as f64, (random() % 640 + 40) as f64);
                let descriptor = std::array::from_fn(|_| random() as u8);
                Corner { x: (x * 4.0).round() as f32 / 4.0, y: (y * 4.0).round() as f32 / 4.0, descriptor }
            })
            .collect();
        Picture::new(frame, u64::from(frame) + 1000 * scene, luma, corners, &[])
    }

    fn light(seed: u8) -> [u8; 64] {
        std::array::from_fn(|i| 60 + ((i as u8).wrapping_mul(seed) >> 1))
    }

    fn steps(pictures: Vec<Picture>) -> Vec<Step> {
        let mut scene = Scene::new(WIDTH);
        let mut steps: Vec<Step> = pictures.into_iter().filter_map(|picture| scene.push(picture)).collect();
        steps.extend(std::iter::from_fn(|| scene.next()));
        steps
    }

    #[test]
    fn the_cameras_motion_is_found_though_some_run_about() {
        let moved = CameraMotion { xx: 1.01, xy: -0.004, yx: 0.004, yy: 1.01, x0: -31.0, y0: 6.5 };
        let (before, mut after) = (picture(0, 7, &CameraMotion::STILL, light(3)), picture(1, 7, &moved, light(3)));
        for corner in after.corners.iter_mut().step_by(4) {
            corner.x += 9.0;
        }
        let found = motion(&before, &after, f64::from(WIDTH)).unwrap();
        for (x, y) in [(100.0, 100.0), (1200.0, 700.0), (640.0, 20.0)] {
            let ((a, b), (c, d)) = (found.point(x, y), moved.point(x, y));
            assert!((a - c).abs() < 0.6 && (b - d).abs() < 0.6, "{found:?}");
        }
        assert_eq!(motion(&before, &picture(1, 8, &CameraMotion::STILL, light(3)), f64::from(WIDTH)), None);
    }

    #[test]
    fn a_cut_is_found_and_a_flash_is_none() {
        let still = CameraMotion::STILL;
        let cut = steps((0..10).map(|f| picture(f, u64::from(f / 5), &still, light(3 + 8 * (f / 5) as u8))).collect());
        assert_eq!(cut.iter().filter(|step| step.cut).map(|step| step.frame).collect::<Vec<_>>(), [5]);
        assert!(cut.iter().skip(1).all(|step| step.motion.is_some() != step.cut));
        let flash = |f: u32| {
            if (4..6).contains(&f) { picture(f, 99, &still, light(77)) } else { picture(f, 1, &still, light(3)) }
        };
        assert!(steps((0..12).map(flash).collect()).iter().all(|step| !step.cut));
    }

    #[test]
    fn a_fast_pan_is_no_cut() {
        let light = |f: u32| std::array::from_fn(|i| 60 + ((i as u32 + 5 * f) % 64) as u8);
        let pan = |f: u32| picture(f, 1, &CameraMotion::shift(-90.0 * f64::from(f), 0.0), light(f));
        let steps = steps((0..8).map(pan).collect());
        assert!(steps.iter().skip(1).all(|step| !step.cut && step.motion.is_some_and(|m| (m.x0 + 90.0).abs() < 1.0)));
    }

    #[test]
    fn grass_to_grass_is_a_cut_when_the_light_leaps_and_none_when_it_goes_on() {
        // No corner is found again; only how the light changes tells.
        let light = |at: f64| std::array::from_fn(|i| (90.0 + at * if i < 32 { 1.0 } else { -1.0 }) as u8);
        let grass = |f: u32, at: f64| picture(f, u64::from(f), &CameraMotion::STILL, light(at));
        let leap = steps((0..12).map(|f| grass(f, if f < 6 { 0.0 } else { 4.0 })).collect());
        assert_eq!(leap.iter().filter(|step| step.cut).map(|step| step.frame).collect::<Vec<_>>(), [6]);
        let pan = steps((0..12).map(|f| grass(f, 4.0 * f64::from(f))).collect());
        assert!(pan.iter().all(|step| !step.cut));
    }

    #[test]
    fn pictures_that_come_again_name_the_first() {
        let still = |f: u32| Picture { hash: u64::from(f.min(3)), ..picture(f, 1, &CameraMotion::STILL, light(3)) };
        let steps = steps((0..7).map(still).collect());
        let again: Vec<_> = steps.iter().map(|step| step.duplicate_of).collect();
        assert_eq!(again, [None, None, None, None, Some(3), Some(3), Some(3)]);
        assert!(steps.iter().all(|step| !step.cut));
    }

    #[test]
    fn corners_of_people_do_not_count() {
        let whole = picture(0, 7, &CameraMotion::STILL, light(3));
        let body = Bounds { cx: 640.0, cy: 360.0, w: 600.0, h: 500.0 };
        let rest = Picture::new(0, 0, whole.luma, whole.corners.clone(), &[body]);
        assert!(rest.corners.len() < whole.corners.len());
        assert!(rest.corners.iter().all(|c| (c.x - 640.0).abs() > 300.0 || (c.y - 360.0).abs() > 250.0));
    }
}
