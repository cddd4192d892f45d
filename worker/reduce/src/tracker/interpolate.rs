//! Fills the holes in a track, for whoever wants boxes in every frame: `fulltime track` and exports. The match tables
//! keep what was detected.

use super::{
    camera::{CameraMotion, CameraPath},
    motion::Bounds,
};

/// The boxes for the frames between sightings that are at most `limit` frames apart; frames must ascend. They move evenly
/// from one sighting to the next, beside the motion of the camera where its path is known.
#[must_use]
pub fn interpolate(sightings: &[(u32, Bounds)], limit: u32, camera: Option<&CameraPath>) -> Vec<(u32, Bounds)> {
    let mut filled = Vec::new();
    for pair in sightings.windows(2) {
        let ((first, a), (last, b)) = (pair[0], pair[1]);
        if last - first > limit {
            continue;
        }
        for frame in first + 1..last {
            let share = f64::from(frame - first) / f64::from(last - first);
            let seen_in = |other: u32, bounds: &Bounds| {
                let motion = camera.and_then(|path| path.between(other, frame)).unwrap_or(CameraMotion::STILL);
                let ((cx, cy), scale) = (motion.point(bounds.cx, bounds.cy), motion.scale());
                Bounds { cx, cy, w: bounds.w * scale, h: bounds.h * scale }
            };
            let (a, b) = (seen_in(first, &a), seen_in(last, &b));
            let mix = |a: f64, b: f64| a + (b - a) * share;
            let bounds = Bounds { cx: mix(a.cx, b.cx), cy: mix(a.cy, b.cy), w: mix(a.w, b.w), h: mix(a.h, b.h) };
            filled.push((frame, bounds));
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_hole_is_filled_evenly_and_a_long_one_is_left() {
        let at = |cx: f64| Bounds { cx, cy: 10.0, w: 20.0, h: 40.0 };
        let sightings = [(1, at(0.0)), (2, at(1.0)), (6, at(9.0)), (20, at(0.0))];
        assert_eq!(interpolate(&sightings, 4, None), [(3, at(3.0)), (4, at(5.0)), (5, at(7.0))]);
    }

    #[test]
    fn what_stands_still_moves_with_the_picture() {
        let at = |cx: f64| Bounds { cx, cy: 10.0, w: 20.0, h: 40.0 };
        let mut path = CameraPath::default();
        path.push(0, None);
        for (frame, x) in [(1, 10.0), (2, 0.0), (3, 20.0)] {
            path.push(frame, Some(&CameraMotion::shift(x, 0.0)));
        }
        let filled = interpolate(&[(0, at(5.0)), (3, at(35.0))], 25, Some(&path));
        assert_eq!(filled, [(1, at(15.0)), (2, at(15.0))]);
    }
}
