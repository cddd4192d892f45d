//! Follows objects through one recording: first frame by frame, then over the whole of it.
//!
//! [`Tracker`] is the first part: strong detections are matched to tracks, weak ones then only prolong what was just seen,
//! what is left of the strong ones starts tracks (ByteTrack: Zhang et al., 2022). The camera's motion, given by the caller
//! or read off the detections, is taken out first, so that what a track has learned is its own motion; boxes are grown
//! before they are compared (Deep-EIoU: Huang et al., 2023). It streams: memory holds the live tracks, a summary of each
//! one that has ended ([`Tracklet`]), and the camera's path. [`link`] is the second part: it joins tracklets to objects,
//! with the future as well as the past in sight.
//!
//! Pure. What a track knows is its state at its last sighting, and each frame is met by one prediction from there, so
//! frames that are missing (gaps, sampling, frames without detections) need no care: only the distance in time counts.
//! Called by `timeline`, which waits for the [`Fate`] of a track before it publishes its rows, and by `fulltime track`.

mod assignment;
mod camera;
mod interpolate;
mod link;
mod motion;
mod smooth;
mod steady;
mod tracklet;
mod tuning;
mod untangle;
mod whole;

use std::{cmp::Ordering, collections::VecDeque};

use fulltime_common::pipeline::Track as Settings;

use crate::identity::{Direction, Look};
pub use assignment::{Pair, assign};
pub use camera::{CameraMotion, CameraPath};
pub use interpolate::interpolate;
pub use link::{link, link_tuned};
pub use motion::{Bounds, Motion, Noise};
pub use smooth::smooth;
pub use tracklet::Tracklet;
pub use tuning::Tuning;
pub use untangle::Exchange;
pub use whole::{Followed, Object, Sighting, follow};

use tracklet::Growing;
use untangle::{Close, Looks, Memory};

/// A track remembers its sightings for so long.
const REMEMBER_SECONDS: f64 = 2.0;
/// Pictures from which on a track's look is known.
const KNOWN: u32 = 3;
/// The unit of time in the motion model.
const STEPS_PER_SECOND: f64 = 30.0;

/// One detection as the tracker sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation<'a> {
    pub class: u16,
    pub score: f64,
    pub bounds: Bounds,
    /// What it looks like, where it was described: an embedding of unit length in 127ths, as the shard tables have it.
    pub look: Option<&'a [u8]>,
}

/// Names a track within its recording, counting from 0.
pub type Serial = u32;

/// Whether a track is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Too young to say.
    Open,
    /// Seen for long enough.
    Reported,
    /// Ended before it was.
    Dropped,
}

#[derive(Debug, Clone)]
struct Live {
    serial: Serial,
    class: u16,
    first: u32,
    last: u32,
    /// As of frame `last`, in the pixels of frame `last`.
    motion: Motion,
    /// In frame `last`.
    seen: Bounds,
    story: Growing,
    /// The last seconds, for second thoughts.
    memory: VecDeque<Memory>,
    looks: Looks,
}

impl Live {
    fn remember(&mut self, frame: u32, seen: &Observation, frames: u32) {
        self.memory.push_back(Memory { frame, score: seen.score, bounds: seen.bounds });
        while self.memory.front().is_some_and(|memory| frame - memory.frame > frames) {
            self.memory.pop_front();
        }
        self.looks.remember(frame, seen.look, frames);
    }
}

/// What it is worth to match a track and a detection that are so alike; nothing unless it is more than 0.
type Round<'a> = dyn Fn(&Live, &Observation, f64) -> f64 + 'a;

/// The tracker of one recording.
#[derive(Debug)]
pub struct Tracker {
    settings: Settings,
    tuning: Tuning,
    fps: f64,
    /// Frames without a sighting after which a track ends, one that is not yet sure ends, and one is no longer recent.
    lost: u32,
    patience: u32,
    recent: u32,
    /// Frames from first to last sighting that make a track.
    least: u32,
    /// Frames for which two tracks are watched after they were close, and that a track remembers.
    watch: u32,
    remember: u32,
    live: Vec<Live>,
    rethinks: bool,
    close: Vec<Close>,
    exchanges: Vec<Exchange>,
    fates: Vec<Fate>,
    camera: CameraPath,
    /// What the picture does per frame if it goes on, in pixels; only where the caller does not say.
    drift: (f64, f64),
    /// The last frame that was stepped, unless there was a cut since.
    stepped: Option<u32>,
    tracklets: Vec<Tracklet>,
}

impl Tracker {
    /// `every`: only every so many frames are looked at.
    #[must_use]
    pub fn new(settings: &Settings, fps: f64, every: u32) -> Self {
        Self::with_tuning(settings, Tuning::DEFAULT, fps, every)
    }

    #[must_use]
    pub fn with_tuning(settings: &Settings, tuning: Tuning, fps: f64, every: u32) -> Self {
        let frames = |seconds: f64| (seconds * fps).round().clamp(0.0, f64::from(u32::MAX)) as u32;
        Self {
            lost: frames(settings.lost_seconds).max(every),
            patience: frames(tuning.new_patience_seconds).max(every),
            recent: frames(tuning.recent_seconds).max(every),
            least: frames(settings.min_seconds),
            watch: frames(tuning.exchange_seconds).max(every),
            remember: frames(REMEMBER_SECONDS).max(every),
            settings: settings.clone(),
            tuning,
            fps,
            live: Vec::new(),
            rethinks: false,
            close: Vec::new(),
            exchanges: Vec::new(),
            fates: Vec::new(),
            camera: CameraPath::default(),
            drift: (0.0, 0.0),
            stepped: None,
            tracklets: Vec::new(),
        }
    }

    /// With second thoughts: tracks that came close are watched, and where they were mixed up this is found out later. Whoever
    /// asks for it must put right what [`Tracker::exchanges`] tells.
    #[must_use]
    pub fn rethinking(mut self) -> Self {
        self.rethinks = true;
        self
    }

    #[must_use]
    pub fn fate(&self, serial: Serial) -> Fate {
        self.fates.get(serial as usize).copied().unwrap_or(Fate::Dropped)
    }

    /// Another scene begins with this frame, which is stepped next: all tracks end here.
    pub fn cut(&mut self, frame: u32) {
        self.end_all(frame);
        self.drift = (0.0, 0.0);
        self.stepped = None;
    }

    /// Takes the detections of a frame; frames must ascend. Returns the track of each detection.
    ///
    /// `motion` is the camera's since the last frame that was stepped; without it, it is read off the detections.
    pub fn step(&mut self, frame: u32, seen: &[Observation], motion: Option<&CameraMotion>) -> Vec<Option<Serial>> {
        // Sums and equal sums depend on the order, and nothing here shall.
        let mut order: Vec<usize> = (0..seen.len()).collect();
        let key = |o: &Observation| [o.bounds.cx, o.bounds.cy, o.bounds.w, o.bounds.h, o.score];
        order.sort_by(|&a, &b| {
            let (a, b) = (&seen[a], &seen[b]);
            let pairs = key(a).into_iter().zip(key(b));
            a.class.cmp(&b.class).then(pairs.fold(Ordering::Equal, |order, (a, b)| order.then(a.total_cmp(&b))))
        });
        let sorted: Vec<Observation> = order.iter().map(|&i| seen[i]).collect();
        let mut track_of = vec![None; seen.len()];
        for (i, track) in order.into_iter().zip(self.step_sorted(frame, &sorted, motion)) {
            track_of[i] = track;
        }
        track_of
    }

    fn step_sorted(&mut self, frame: u32, seen: &[Observation], motion: Option<&CameraMotion>) -> Vec<Option<Serial>> {
        self.untangle(frame);
        self.retire(frame);
        let mut track_of = vec![None; seen.len()];
        let mut guess = motion.copied().unwrap_or_else(|| self.expected_motion(frame));
        self.camera.push(frame, self.stepped.map(|_| &guess));
        if seen.is_empty() {
            self.stepped = Some(frame);
            return track_of;
        }
        let mut foreseen: Vec<Motion> = self.live.iter().map(|track| self.foresee(track, frame)).collect();
        if motion.is_none() {
            self.read_motion(frame, seen, &mut guess, &mut foreseen);
        }
        let mut matched: Vec<Option<usize>> = vec![None; self.live.len()];

        let strong = |o: &Observation| o.score >= f64::from(self.settings.high_score);
        let reported = |t: &Live| self.fate(t.serial) == Fate::Reported;
        let least = f64::from(self.settings.match_iou);
        let rounds: [&Round; 3] = [
            &|t, o, alike| if reported(t) && strong(o) { alike - least } else { 0.0 },
            &|t, o, alike| {
                if !strong(o) && frame - t.last <= self.recent { alike - self.tuning.weak_gain } else { 0.0 }
            },
            &|t, o, alike| if !reported(t) && strong(o) { alike - self.tuning.new_gain } else { 0.0 },
        ];
        let fits = self.fits(seen);
        for gain in rounds {
            let mut pairs = Vec::new();
            for (row, track) in self.live.iter().enumerate().filter(|(row, _)| matched[*row].is_none()) {
                for (column, observation) in seen.iter().enumerate() {
                    if track_of[column].is_some() || track.class != observation.class {
                        continue;
                    }
                    let alike = self.alike(&foreseen[row], observation);
                    let gain = if alike > 0.0 { gain(track, observation, alike + fits(row, column)) } else { 0.0 };
                    if gain > 0.0 {
                        pairs.push(Pair { row, column, gain });
                    }
                }
            }
            for pair in assign(&pairs, self.live.len(), seen.len()) {
                matched[pair.row] = Some(pair.column);
                track_of[pair.column] = Some(self.live[pair.row].serial);
            }
        }

        if motion.is_none() {
            self.settle_motion(frame, seen, &matched, &guess, &mut foreseen);
        }
        for (row, column) in matched.into_iter().enumerate() {
            if let Some(column) = column {
                let track = &mut self.live[row];
                track.motion = foreseen[row].correct(&seen[column].bounds, &self.tuning.noise);
                track.last = frame;
                track.seen = seen[column].bounds;
                track.story.add(frame, &seen[column]);
                track.remember(frame, &seen[column], self.remember);
                if track.last - track.first >= self.least {
                    self.fates[track.serial as usize] = Fate::Reported;
                }
            }
        }
        if self.rethinks {
            self.watch(frame);
        }
        for (observation, track) in seen.iter().zip(&mut track_of) {
            if track.is_none() && observation.score >= f64::from(self.settings.start_score) {
                *track = Some(self.start(frame, observation));
            }
        }
        self.stepped = Some(frame);
        track_of
    }

    /// Mix-ups that have been found out since the last call; they come in the order in which they must be put right.
    pub fn exchanges(&mut self) -> Vec<Exchange> {
        std::mem::take(&mut self.exchanges)
    }

    /// What was said of the frames before this one is settled: no exchange will touch it any more.
    #[must_use]
    pub fn settled(&self) -> u32 {
        self.close.iter().map(|close| close.since.saturating_sub(1)).min().unwrap_or(u32::MAX)
    }

    /// No more frames: what is open now is dropped.
    pub fn finish(&mut self) {
        self.end_all(u32::MAX);
        self.tracklets.sort_by_key(|tracklet| tracklet.serial);
    }

    /// The reported tracks that have ended; after [`Tracker::finish`] all of them, by serial.
    #[must_use]
    pub fn tracklets(&self) -> &[Tracklet] {
        &self.tracklets
    }

    #[must_use]
    pub fn camera(&self) -> &CameraPath {
        &self.camera
    }

    #[must_use]
    pub fn into_camera(self) -> CameraPath {
        self.camera
    }

    fn start(&mut self, frame: u32, seen: &Observation) -> Serial {
        let serial = self.fates.len() as Serial;
        self.fates.push(if self.least == 0 { Fate::Reported } else { Fate::Open });
        let motion = Motion::new(&seen.bounds, &self.tuning.noise);
        let story = Growing::new(frame, seen);
        let memory = VecDeque::from([Memory { frame, score: seen.score, bounds: seen.bounds }]);
        self.live.push(Live {
            serial,
            class: seen.class,
            first: frame,
            last: frame,
            motion,
            seen: seen.bounds,
            story,
            memory,
            looks: Looks::of(frame, seen.look),
        });
        serial
    }

    /// Ends the tracks that were not seen for too long. One that is not yet sure must be seen nearly all the time.
    fn retire(&mut self, frame: u32) {
        let live = std::mem::take(&mut self.live);
        for track in live {
            let patience = if self.fate(track.serial) == Fate::Open { self.patience } else { self.lost };
            if frame - track.last <= patience {
                self.live.push(track);
            } else {
                self.end(track);
            }
        }
    }

    /// `frame` is the first one after.
    fn end_all(&mut self, frame: u32) {
        for close in std::mem::take(&mut self.close) {
            self.decide(&close, frame);
        }
        for track in std::mem::take(&mut self.live) {
            self.end(track);
        }
    }

    fn end(&mut self, track: Live) {
        let fate = &mut self.fates[track.serial as usize];
        match *fate {
            Fate::Open => *fate = Fate::Dropped,
            Fate::Reported => {
                let Live { serial, class, first, last, motion, story, .. } = track;
                let back = story.backwards(&self.camera, self.fps, &self.tuning.noise);
                let (seen, score) = (story.seen, story.score);
                self.tracklets.push(Tracklet { serial, class, first, last, seen, score, start: back, end: motion });
            }
            Fate::Dropped => {}
        }
    }

    fn alike(&self, foreseen: &Motion, seen: &Observation) -> f64 {
        let (a, b, tuning) = (foreseen.bounds(), &seen.bounds, &self.tuning);
        let overlap = a.grown(tuning.grow).iou(&b.grown(tuning.grow));
        if overlap <= 0.0 {
            return 0.0;
        }
        let (var_x, var_y) = foreseen.variance();
        let own = tuning.noise.sighting * tuning.noise.sighting * a.h * a.h;
        let (dx, dy) = (a.cx - b.cx, a.cy - b.cy);
        let away = dx * dx / (var_x + own) + dy * dy / (var_y + own);
        let near = tuning.distance_half / (tuning.distance_half + away);
        overlap * (1.0 - tuning.distance) + near * tuning.distance
    }

    /// What the looks of a track and a detection, by their positions, add to their likeness.
    fn fits(&self, seen: &[Observation]) -> impl Fn(usize, usize) -> f64 + use<> {
        let looks: Vec<Option<Direction>> = seen.iter().map(|o| o.look.map(Look::of).map(|l| l.direction())).collect();
        let described = looks.iter().any(Option::is_some);
        let known = |track: &Live| {
            let all = track.looks.all();
            (all.direction(), f64::from(all.count.min(KNOWN)) / f64::from(KNOWN))
        };
        let known: Vec<_> = self.live.iter().filter(|_| described).map(known).collect();
        let Tuning { look_weight, look_zero, look_most, .. } = self.tuning;
        move |row, column| {
            let (Some((known, sure)), Some(look)) = (known.get(row), &looks[column]) else { return 0.0 };
            let fits = |cosine: f64| (look_weight * (cosine - look_zero)).clamp(-look_most, look_most);
            known.cosine(look).map_or(0.0, |cosine| sure * fits(cosine))
        }
    }

    fn foresee(&self, track: &Live, frame: u32) -> Motion {
        let away = frame - track.last;
        let steps = f64::from(away) / self.fps * STEPS_PER_SECOND;
        let camera = self.camera.between(track.last, frame).unwrap_or(CameraMotion::STILL);
        let motion = if away > self.recent { track.motion.with_steady_size() } else { track.motion };
        motion.predict(steps, &self.tuning.noise).seen_through(&camera)
    }
}
