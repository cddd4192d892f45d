//! Takes the jitter of single detections out of a track once all of it is known: a Rauch-Tung-Striebel smoother
//! (Rauch, Tung, Striebel, 1965) behind the tracker's own filter. For `fulltime track` and exports; the match tables keep
//! what was detected.

use super::{
    STEPS_PER_SECOND,
    camera::{CameraMotion, CameraPath},
    motion::{Axis, Bounds, Noise},
};

/// The same frames with smoothed boxes. Frames must ascend; every stretch between cuts of the camera is for itself.
#[must_use]
pub fn smooth(sightings: &[(u32, Bounds)], camera: Option<&CameraPath>, fps: f64, noise: &Noise) -> Vec<(u32, Bounds)> {
    let mut smoothed = Vec::with_capacity(sightings.len());
    let mut rest = sightings;
    while let Some(&(anchor, _)) = rest.first() {
        let way = |from: u32, to: u32| match camera {
            Some(path) => path.between(from, to),
            None => Some(CameraMotion::STILL),
        };
        // Everything is done in the pixels of the first frame, where the camera stands still.
        let ways = rest.iter().map_while(|(frame, _)| Some((way(*frame, anchor)?, way(anchor, *frame)?)));
        let ways: Vec<_> = ways.collect();
        let length = ways.len().max(1);
        let steps: Vec<f64> =
            rest[..length].windows(2).map(|pair| f64::from(pair[1].0 - pair[0].0) / fps * STEPS_PER_SECOND).collect();
        let still = |(((_, bounds), (to, _)), of): ((&(u32, Bounds), &(CameraMotion, CameraMotion)), usize)| {
            let ((x, y), scale) = (to.point(bounds.cx, bounds.cy), to.scale());
            [x, y, bounds.w * scale, bounds.h * scale][of]
        };
        let series = |of: usize| -> Vec<f64> { rest.iter().zip(&ways).map(|pair| still((pair, of))).collect() };
        let heights = series(3);
        let axis = |of: usize, noise: &Noise| stretch(&series(of), &heights, &steps, noise);
        let (x, y) = (axis(0, noise), axis(1, &noise.vertical()));
        let (w, h) = (axis(2, noise), axis(3, noise));
        for (i, (_, back)) in ways.iter().enumerate() {
            let ((cx, cy), scale) = (back.point(x[i], y[i]), back.scale());
            smoothed.push((rest[i].0, Bounds { cx, cy, w: w[i].max(1.0) * scale, h: h[i].max(1.0) * scale }));
        }
        if ways.is_empty() {
            // A frame that the camera's path does not know stays as it is.
            smoothed.push(rest[0]);
        }
        rest = &rest[length..];
    }
    smoothed
}

/// One dimension: filtered forwards, then corrected backwards by what came later.
fn stretch(seen: &[f64], heights: &[f64], steps: &[f64], noise: &Noise) -> Vec<f64> {
    let (Some(&first), Some(&height)) = (seen.first(), heights.first()) else { return Vec::new() };
    let mut filtered = vec![Axis::new(first, height.max(1.0), noise)];
    let mut foreseen = Vec::with_capacity(seen.len());
    for ((&value, &height), &steps) in seen[1..].iter().zip(&heights[1..]).zip(steps) {
        let scale = height.max(1.0);
        let ahead = filtered[filtered.len() - 1].predict(steps, scale, noise);
        foreseen.push(ahead);
        filtered.push(ahead.correct(value, scale, noise));
    }
    let mut smoothed = vec![0.0; filtered.len()];
    let mut later = filtered[filtered.len() - 1];
    smoothed[filtered.len() - 1] = later.at;
    for i in (0..foreseen.len()).rev() {
        later = filtered[i].in_hindsight(&foreseen[i], &later, steps[i]);
        smoothed[i] = later.at;
    }
    smoothed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_goes_and_the_walk_stays() {
        let noise = Noise { position: 0.01, speed: 0.005, sighting: 0.05, first_speed: 0.03, upright: 1.0 };
        let walk = |t: u32| Bounds { cx: 2.0 * f64::from(t), cy: 300.0, w: 30.0, h: 80.0 };
        let jitter = [3.0, -2.0, 1.0, -4.0, 2.0, 0.0, -1.0];
        let seen = |t: u32| Bounds { cx: walk(t).cx + jitter[t as usize % 7], ..walk(t) };
        let sightings: Vec<_> = (0..100).filter(|t| t % 10 != 3).map(|t| (t, seen(t))).collect();
        let smoothed = smooth(&sightings, None, 30.0, &noise);
        assert_eq!(smoothed.len(), sightings.len());
        let error = |all: &[(u32, Bounds)]| all.iter().map(|(t, b)| (b.cx - walk(*t).cx).abs()).sum::<f64>();
        assert!(error(&smoothed) < 0.5 * error(&sightings), "{} of {}", error(&smoothed), error(&sightings));
    }

    #[test]
    fn nothing_is_mixed_over_a_cut() {
        let noise = Noise { position: 0.01, speed: 0.005, sighting: 0.05, first_speed: 0.03, upright: 1.0 };
        let mut path = CameraPath::default();
        for frame in 0..20 {
            path.push(frame, (frame % 10 != 0).then_some(&CameraMotion::STILL));
        }
        let at = |frame: u32| Bounds { cx: if frame < 10 { 100.0 } else { 900.0 }, cy: 50.0, w: 20.0, h: 50.0 };
        let sightings: Vec<_> = (0..20).map(|frame| (frame, at(frame))).collect();
        for ((_, smoothed), (_, seen)) in smooth(&sightings, Some(&path), 25.0, &noise).iter().zip(&sightings) {
            assert!((smoothed.cx - seen.cx).abs() < 1e-9);
        }
    }
}
