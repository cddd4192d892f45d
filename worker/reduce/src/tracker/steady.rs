//! The tracker's own eye for the camera, where the caller has no better one: what it expects, what all tracks need to meet
//! the detections, and, once it is known who is who, what the picture did.

use super::{
    Live, Observation, Tracker,
    camera::{CameraMotion, common_shift, mean_shift},
    motion::{Bounds, Motion},
};

impl Tracker {
    /// How the camera will move if it goes on as it did.
    pub(super) fn expected_motion(&self, frame: u32) -> CameraMotion {
        let frames = self.stepped.map_or(0.0, |last| f64::from(frame - last).min(self.fps));
        CameraMotion::shift(self.drift.0 * frames, self.drift.1 * frames)
    }

    /// Adds to the expected motion what all tracks need to meet the detections.
    pub(super) fn read_motion(
        &mut self,
        frame: u32,
        seen: &[Observation],
        guess: &mut CameraMotion,
        foreseen: &mut [Motion],
    ) {
        // Counted in frames that were looked at: after a gap those that were seen before it are all there is.
        let stepped = self.stepped.unwrap_or(frame);
        let known = |track: &&Live| stepped.saturating_sub(track.last) < self.recent.max(2);
        let mut tracks = Vec::with_capacity(self.live.len());
        tracks.extend(self.live.iter().zip(&*foreseen).filter(|(t, _)| known(t)).map(|(_, motion)| motion.bounds()));
        let strong = |o: &&Observation| o.score >= f64::from(self.settings.high_score);
        let boxes: Vec<Bounds> = seen.iter().filter(strong).map(|o| o.bounds).collect();
        if let Some((x, y)) = common_shift(&tracks, &boxes) {
            let shift = CameraMotion::shift(x, y);
            *guess = guess.then(&shift);
            self.camera.amend(guess);
            foreseen.iter_mut().for_each(|motion| *motion = motion.seen_through(&shift));
        }
    }

    /// Now that it is known who is who: what did the picture do since the last frame?
    pub(super) fn settle_motion(
        &mut self,
        frame: u32,
        seen: &[Observation],
        matched: &[Option<usize>],
        guess: &CameraMotion,
        foreseen: &mut [Motion],
    ) {
        let Some(stepped) = self.stepped else { return };
        let mut moves = Vec::with_capacity(matched.len());
        for (track, column) in self.live.iter().zip(matched) {
            if let Some(column) = column
                && stepped.saturating_sub(track.last) < self.recent
                && let Some(camera) = self.camera.between(track.last, stepped)
            {
                let (then, now) = (track.seen, &seen[*column].bounds);
                let (x, y) = camera.point(then.cx, then.cy);
                moves.push((now.cx - x, now.cy - y, now.h.max(1.0)));
            }
        }
        let (x, y) = mean_shift(&moves, self.tuning.camera_doubt, self.tuning.camera_spread).unwrap_or_default();
        self.camera.amend(&CameraMotion::shift(x, y));
        let shift = CameraMotion::shift(x - guess.x0, y - guess.y0);
        foreseen.iter_mut().for_each(|motion| *motion = motion.seen_through(&shift));
        let (frames, inertia) = (f64::from(frame - stepped), self.tuning.camera_inertia);
        self.drift.0 = self.drift.0 * inertia + x / frames * (1.0 - inertia);
        self.drift.1 = self.drift.1 * inertia + y / frames * (1.0 - inertia);
    }
}
