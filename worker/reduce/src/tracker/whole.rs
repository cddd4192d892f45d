//! A whole recording at once, for callers who have all of its detections in hand: `fulltime track`, exports and benches.

use fulltime_common::pipeline::Track as Settings;

use super::{
    Fate, Observation, Serial, Tracker, camera::CameraPath, interpolate::interpolate, link::link_tuned, motion::Bounds,
    smooth::smooth, tuning::Tuning, untangle::Exchange,
};

/// One object of a recording.
#[derive(Debug, Clone)]
pub struct Object {
    pub class: u16,
    pub sightings: Vec<Sighting>,
}

/// A detection that belongs to an object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sighting {
    pub frame: u32,
    /// Which of the frame's detections it is.
    pub detection: usize,
    /// The track it belonged to before tracks were joined.
    pub track: Serial,
    pub score: f64,
    pub bounds: Bounds,
}

/// What a recording comes to.
#[derive(Debug)]
pub struct Followed {
    /// In the order in which they appear; of those that appear in one frame, in the order of its detections.
    pub objects: Vec<Object>,
    pub camera: CameraPath,
    /// Tracks before they were joined.
    pub tracklets: usize,
    settings: Settings,
    tuning: Tuning,
    fps: f64,
}

/// Follows the objects through a recording; frames must ascend, those without detections may be left out.
pub fn follow<'a>(
    frames: impl IntoIterator<Item = (u32, Vec<Observation<'a>>)>,
    settings: &Settings,
    tuning: &Tuning,
    fps: f64,
) -> Followed {
    let mut tracker = Tracker::with_tuning(settings, tuning.clone(), fps, 1).rethinking();
    let mut tracks: Vec<Vec<Sighting>> = Vec::new();
    let mut scores = Vec::new();
    for (frame, seen) in frames {
        scores.extend(seen.iter().map(|observation| observation.score));
        let serials = tracker.step(frame, &seen, None);
        put_right(&mut tracks, tracker.exchanges());
        for (detection, serial) in serials.into_iter().enumerate() {
            let Some(track) = serial else { continue };
            if tracks.len() <= track as usize {
                tracks.resize_with(track as usize + 1, Vec::new);
            }
            let Observation { score, bounds, .. } = seen[detection];
            tracks[track as usize].push(Sighting { frame, detection, track, score, bounds });
        }
    }
    tracker.finish();
    put_right(&mut tracks, tracker.exchanges());
    let tracklets = tracker.tracklets();
    let groups = link_tuned(tracklets, tracker.camera(), settings, tuning, fps, &mut |_, _| Some(0.0));
    let mut objects: Vec<Object> = Vec::new();
    // Frames that its tracks span, of each object.
    let mut spans: Vec<u32> = Vec::new();
    for (tracklet, group) in tracklets.iter().zip(groups) {
        if objects.len() <= group {
            objects.push(Object { class: tracklet.class, sightings: Vec::new() });
            spans.push(0);
        }
        spans[group] += tracklet.last - tracklet.first + 1;
        debug_assert_eq!(tracker.fate(tracklet.serial), Fate::Reported);
        objects[group].sightings.append(&mut tracks[tracklet.serial as usize]);
    }
    scores.sort_by(f64::total_cmp);
    let mut spans = spans.into_iter();
    objects.retain(|object| {
        let span = f64::from(spans.next().unwrap_or(1));
        let support: f64 = object.sightings.iter().map(|sighting| rank(&scores, sighting.score)).sum();
        support >= tuning.least_support * span
    });
    objects.iter_mut().for_each(|object| object.sightings.sort_by_key(|sighting| sighting.frame));
    objects.sort_by_key(|object| object.sightings.first().map(|first| (first.frame, first.detection)));
    let tracklets = tracklets.len();
    let camera = tracker.into_camera();
    Followed { objects, camera, tracklets, settings: settings.clone(), tuning: tuning.clone(), fps }
}

fn put_right(tracks: &mut [Vec<Sighting>], exchanges: Vec<Exchange>) {
    for Exchange { a, b, frames } in exchanges {
        let tail = |track: &mut Vec<Sighting>| track.split_off(track.partition_point(|s| s.frame < frames.start));
        let Ok([track_a, track_b]) = tracks.get_disjoint_mut([a as usize, b as usize]) else { continue };
        let (gone, come) = (tail(track_a), tail(track_b));
        track_a.extend(come.into_iter().map(|sighting| Sighting { track: a, ..sighting }));
        track_b.extend(gone.into_iter().map(|sighting| Sighting { track: b, ..sighting }));
    }
}

/// Where a score stands among all, 0 to 1; in the middle of those that are equal.
fn rank(sorted: &[f64], score: f64) -> f64 {
    let (below, to) = (sorted.partition_point(|s| *s < score), sorted.partition_point(|s| *s <= score));
    (below + to) as f64 / (2 * sorted.len().max(1)) as f64
}

impl Followed {
    /// An object's boxes in every frame from its first to its last sighting but for long holes: smoothed, and short holes
    /// filled.
    #[must_use]
    pub fn path(&self, object: &Object) -> Vec<(u32, Bounds)> {
        let seen: Vec<_> = object.sightings.iter().map(|sighting| (sighting.frame, sighting.bounds)).collect();
        let limit = (self.settings.fill_seconds * self.fps).round().clamp(0.0, f64::from(u32::MAX)) as u32;
        let seen = smooth(&seen, Some(&self.camera), self.fps, &self.tuning.smoothing);
        let mut path = interpolate(&seen, limit, Some(&self.camera));
        path.extend(seen);
        path.sort_by_key(|(frame, _)| *frame);
        path
    }
}
