//! Joins tracklets to objects over the whole recording: offline, with the future as well as the past in sight.
//!
//! Each tracklet may be followed by one later tracklet and follow one earlier one. What a pair is worth is how much more
//! likely its two ends are if both are one object than if they are not (in nats): both are moved over the hole, one
//! forwards and one backwards, with the camera's motion taken out. The set of links with the greatest sum is an
//! assignment problem (as in network-flow tracking: Zhang, Li, Nevatia, 2008) and is solved exactly. Short holes come
//! first: what they join makes better ends for the long ones.

use fulltime_common::pipeline::Track as Settings;

use super::{
    STEPS_PER_SECOND,
    assignment::{Pair, assign},
    camera::{CameraMotion, CameraPath},
    motion::Motion,
    tracklet::Tracklet,
    tuning::Tuning,
};

/// Holes up to so long, in seconds, are closed first.
const SHORT_SECONDS: f64 = 1.0;

/// The group of each tracklet (by serial, as [`super::Tracker::tracklets`] gives them); groups count from 0 in the order
/// of their first tracklet, and no two tracklets of a group share a frame.
///
/// `against` has the last word on two groups, earlier and later, that geometry would join: nats that speak against it
/// (negative ones speak for it), or `None` if they cannot be one.
#[must_use]
pub fn link(
    tracklets: &[Tracklet],
    camera: &CameraPath,
    settings: &Settings,
    fps: f64,
    against: &mut dyn FnMut(&[usize], &[usize]) -> Option<f64>,
) -> Vec<usize> {
    link_tuned(tracklets, camera, settings, &Tuning::DEFAULT, fps, against)
}

pub fn link_tuned(
    tracklets: &[Tracklet],
    camera: &CameraPath,
    settings: &Settings,
    tuning: &Tuning,
    fps: f64,
    against: &mut dyn FnMut(&[usize], &[usize]) -> Option<f64>,
) -> Vec<usize> {
    let mut groups: Vec<Vec<usize>> = (0..tracklets.len()).map(|i| vec![i]).collect();
    let link_seconds = settings.link_seconds;
    for limit in [link_seconds.min(SHORT_SECONDS), link_seconds] {
        let limit = (limit * fps).round().clamp(0.0, f64::from(u32::MAX)) as u32;
        groups = pass(groups, tracklets, camera, limit, tuning, fps, against);
    }
    groups.sort_by_key(|group| group.iter().copied().min());
    let mut group_of = vec![0; tracklets.len()];
    for (number, group) in groups.iter().enumerate() {
        group.iter().for_each(|&member| group_of[member] = number);
    }
    group_of
}

fn pass(
    groups: Vec<Vec<usize>>,
    tracklets: &[Tracklet],
    camera: &CameraPath,
    limit: u32,
    tuning: &Tuning,
    fps: f64,
    against: &mut dyn FnMut(&[usize], &[usize]) -> Option<f64>,
) -> Vec<Vec<usize>> {
    let first = |group: &Vec<usize>| &tracklets[group[0]];
    let last = |group: &Vec<usize>| &tracklets[group[group.len() - 1]];
    let mut by_start: Vec<usize> = (0..groups.len()).collect();
    by_start.sort_by_key(|&group| (first(&groups[group]).first, group));
    let mut pairs = Vec::new();
    for (row, earlier) in groups.iter().enumerate() {
        let a = last(earlier);
        let from = by_start.partition_point(|&group| first(&groups[group]).first <= a.last);
        for &column in &by_start[from..] {
            let later = &groups[column];
            let b = first(later);
            if b.first - a.last > limit {
                break;
            }
            if a.class != b.class {
                continue;
            }
            let Some(gain) = worth(a, b, camera, tuning, fps) else { continue };
            let Some(cost) = against(earlier, later) else { continue };
            if gain > cost {
                pairs.push(Pair { row, column, gain: gain - cost });
            }
        }
    }
    let mut next = vec![None; groups.len()];
    let mut follows = vec![false; groups.len()];
    for pair in assign(&pairs, groups.len(), groups.len()) {
        next[pair.row] = Some(pair.column);
        follows[pair.column] = true;
    }
    let mut joined = Vec::new();
    for head in (0..groups.len()).filter(|&group| !follows[group]) {
        let mut chain = Vec::new();
        let mut group = Some(head);
        while let Some(member) = group {
            chain.extend_from_slice(&groups[member]);
            group = next[member];
        }
        joined.push(chain);
    }
    joined
}

/// What speaks for two tracklets being one object, in nats; `None` if nothing can be said.
fn worth(a: &Tracklet, b: &Tracklet, camera: &CameraPath, tuning: &Tuning, fps: f64) -> Option<f64> {
    let there = camera.between(a.last, b.first)?;
    let back = camera.between(b.first, a.last)?;
    let seconds = f64::from(b.first - a.last) / fps;
    let forwards = surprise(&a.end, &b.start, &there, seconds, tuning);
    let backwards = surprise(&b.start, &a.end, &back, seconds, tuning);
    let (ha, hb) = (a.end.bounds().h * there.scale(), b.start.bounds().h);
    let ratio = if ha > hb { ha / hb } else { hb / ha } - 1.0;
    let size = ratio * ratio / (2.0 * 0.15 * 0.15);
    Some(tuning.link_prior - (forwards + backwards) / 2.0 - size.min(8.0) - tuning.link_per_second * seconds)
}

/// How badly the moved end meets the other one.
fn surprise(from: &Motion, to: &Motion, camera: &CameraMotion, seconds: f64, tuning: &Tuning) -> f64 {
    // A speed is forgotten by and by: x(t) = v t / (1 + t / memory).
    let effective = seconds / (1.0 + seconds / tuning.link_memory);
    let steps = effective * STEPS_PER_SECOND;
    let (a, b) = (from.bounds(), to.bounds());
    let (vx, vy) = from.speed();
    let (x, y) = camera.point(a.cx + vx * steps, a.cy + vy * steps);
    let scale = camera.scale();
    let h = b.h.max(1.0);
    let ((ax, ay), (bx, by)) = (from.variance(), to.variance());
    let (sx, sy) = from.speed_variance();
    let spread = (tuning.link_drift * seconds + tuning.link_turn * effective * effective) * h * h;
    let var = |own: f64, speed: f64, other: f64| (own + speed * steps * steps) * scale * scale + other + spread;
    let (dx, dy) = (x - b.cx, y - b.cy);
    let (var_x, var_y) = (var(ax, sx, bx), var(ay, sy, by));
    dx * dx / (2.0 * var_x) + dy * dy / (2.0 * var_y)
}
