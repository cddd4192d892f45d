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

/// However badly the sizes fit, it is no more than so many nats: an occluded box may be half of one.
const WORST_SIZE: f64 = 6.0;

/// Of all that may follow a tracklet, so many are weighed against each other.
const MOST_CANDIDATES: usize = 16;

/// A density's logarithm at its peak, about: what it falls short of that is misfit.
const UPRIGHT_FLOOR: f64 = 1.5;

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
    let mut candidates: Vec<Candidate> = Vec::new();
    for (row, earlier) in groups.iter().enumerate() {
        let a = last(earlier);
        let from = by_start.partition_point(|&group| first(&groups[group]).first <= a.last);
        let kept = candidates.len();
        for &column in &by_start[from..] {
            let later = &groups[column];
            let b = first(later);
            if b.first - a.last > limit {
                break;
            }
            if a.class != b.class {
                continue;
            }
            let Some(meeting) = Meeting::of(a, b, camera, tuning, fps) else { continue };
            let Some(cost) = against(earlier, later) else { continue };
            let gain = meeting.gain - cost;
            if gain + tuning.link_consensus > 0.0 {
                candidates.push(Candidate { row, column, gain, last: a.last, first: b.first, meeting });
            }
        }
        candidates[kept..].sort_by(|a, b| b.gain.total_cmp(&a.gain).then(a.column.cmp(&b.column)));
        candidates.truncate(kept + MOST_CANDIDATES);
    }
    candidates.sort_by_key(|candidate| (candidate.last, candidate.row, candidate.column));
    let window = (tuning.link_window * fps).round().clamp(0.0, f64::from(u32::MAX)) as u32;
    let pairs = (0..candidates.len()).filter_map(|i| {
        let Candidate { row, column, gain, .. } = candidates[i];
        let gain = gain + tuning.link_consensus * consensus(&candidates, i, window, tuning);
        (gain > 0.0).then_some(Pair { row, column, gain })
    });
    let pairs: Vec<Pair> = pairs.collect();
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

/// Two groups that may be one.
#[derive(Debug)]
struct Candidate {
    row: usize,
    column: usize,
    gain: f64,
    /// Frames of the earlier one's end and of the later one's start.
    last: u32,
    first: u32,
    meeting: Meeting,
}

/// How two ends meet over a hole.
#[derive(Debug, Clone, Copy)]
struct Meeting {
    /// What speaks for one object, in nats.
    gain: f64,
    /// From where the first would be if it had stood still to where the second is, in pixels, and its height.
    shift: (f64, f64),
    h: f64,
    /// How well all but the shift along the picture fits, 0 to 1.
    fit: f64,
}

/// The share of the other ends of the same time that a candidate's shift would bring to a start of the same time, too. What is
/// known of the camera's path while nobody familiar is in sight drifts, and a team moves as one: a shift that many have
/// in common is right even where each alone looks far.
fn consensus(candidates: &[Candidate], of: usize, window: u32, tuning: &Tuning) -> f64 {
    let own = &candidates[of];
    let from = candidates.partition_point(|other| other.last + window < own.last);
    let around = candidates[from..].iter().take_while(|other| other.last <= own.last + window);
    let (mut rows, mut sum, mut best, mut row) = (0.0, 0.0, 0.0, usize::MAX);
    for other in around.filter(|other| other.row != own.row) {
        if other.row != row {
            (rows, sum, best, row) = (rows + 1.0, sum + best, 0.0, other.row);
        }
        if other.column == own.column || other.first.abs_diff(own.first) > window {
            continue;
        }
        let (dx, dy) = (other.meeting.shift.0 - own.meeting.shift.0, other.meeting.shift.1 - own.meeting.shift.1);
        let (x, y) = (dx / (tuning.link_agree * own.meeting.h), 2.0 * dy / (tuning.link_agree * own.meeting.h));
        best = f64::max(best, other.meeting.fit * (1.0 - x * x - y * y));
    }
    (sum + best) / (rows + 1.0)
}

impl Meeting {
    /// `None` if nothing can be said: there was a cut.
    fn of(a: &Tracklet, b: &Tracklet, camera: &CameraPath, tuning: &Tuning, fps: f64) -> Option<Self> {
        let there = camera.between(a.last, b.first)?;
        let back = camera.between(b.first, a.last)?;
        let seconds = f64::from(b.first - a.last) / fps;
        let (along, upright) = surprise(&a.end, &b.start, &there, seconds, tuning);
        let (along_back, upright_back) = surprise(&b.start, &a.end, &back, seconds, tuning);
        let (along, upright) = ((along + along_back) / 2.0, (upright + upright_back) / 2.0);
        let (end, start) = (a.end.bounds(), b.start.bounds());
        let (ha, hb) = (end.h * there.scale(), start.h);
        let ratio = (if ha > hb { ha / hb } else { hb / ha } - 1.0) / tuning.link_size;
        let size = (ratio * ratio / 2.0).min(WORST_SIZE);
        let (x, y) = there.point(end.cx, end.cy);
        Some(Self {
            gain: tuning.link_prior - along - upright - size - tuning.link_per_second * seconds,
            shift: (start.cx - x, start.cy - y),
            h: hb.max(1.0),
            fit: 1.0 / ((1.0 + size) * (1.0 + (upright + UPRIGHT_FLOOR).max(0.0))),
        })
    }
}

/// How badly the moved end meets the other one, along the picture and upright: minus the logarithms of normal densities,
/// in heights.
fn surprise(from: &Motion, to: &Motion, camera: &CameraMotion, seconds: f64, tuning: &Tuning) -> (f64, f64) {
    // A speed is forgotten by and by: x(t) = v t / (1 + t / memory).
    let effective = seconds / (1.0 + seconds / tuning.link_memory);
    let steps = effective * STEPS_PER_SECOND;
    let (a, b) = (from.bounds(), to.bounds());
    let (vx, vy) = from.speed();
    let (x, y) = camera.point(a.cx + vx * steps, a.cy + vy * steps);
    let square = |value: f64| value * value;
    let spread =
        square(tuning.link_spread) + square(tuning.link_drift) * seconds + square(tuning.link_turn * effective);
    let h = b.h.max(1.0);
    let scale = camera.scale() / h;
    let ((ax, ay), (bx, by), (sx, sy)) = (from.variance(), to.variance(), from.speed_variance());
    let axis = |away: f64, own: f64, speed: f64, other: f64, spread: f64| {
        let var = (own + speed * steps * steps) * scale * scale + other / (h * h) + spread;
        square(away / h) / (2.0 * var) + ln(var) / 2.0
    };
    (axis(x - b.cx, ax, sx, bx, spread), axis(y - b.cy, ay, sy, by, spread * square(tuning.link_upright)))
}

/// The natural logarithm of a positive, normal number, the same on every machine: that of libm differs between versions.
fn ln(value: f64) -> f64 {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    // ln m = 2 artanh((m - 1) / (m + 1)); about the middle of 1 and 2 the series converges fast.
    let ratio = (mantissa / std::f64::consts::SQRT_2 - 1.0) / (mantissa / std::f64::consts::SQRT_2 + 1.0);
    let square = ratio * ratio;
    let mut sum = 0.0;
    for n in (0..9).rev() {
        sum = sum * square + 1.0 / f64::from(2 * n + 1);
    }
    2.0 * ratio * sum + (f64::from(exponent) + 0.5) * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm() {
        for value in [1e-12, 0.3, 0.999, 1.0, 1.5, 2.0, 7.0, 12345.678] {
            assert!((ln(value) - f64::ln(value)).abs() < 1e-12, "ln {value}");
        }
    }
}
