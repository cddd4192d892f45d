//! One recording on its way through the reduce: pictures, detections and descriptions in, rows of detections out, and a
//! summary of every reported track for whoever asks later who it was.
//!
//! Frames wait in a short queue, first until the scene around them is known, then until the tracker knows which of their
//! tracks are worth reporting; then their rows are written and tracks get their numbers in the order in which they appear.
//! So numbers have no holes, and memory holds no more than a few seconds of rows besides the tables themselves.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use fulltime_common::{
    index::RecordingIndex,
    pipeline::Track,
    plan::{Gap, ReduceRecording},
    results::RecordingSummary,
};
use fulltime_tables::{
    corners,
    matches::Detection,
    shard::{DescriptionRow, DetectionRow, FrameRow},
};

use crate::{
    error::ReduceError,
    gaps,
    ground::{Ground, Way},
    identity::{Evidence, Place, Span, gain},
    picture::Mark,
    scene::{Picture, Scene, Step},
    timeline::Timeline,
    tracker::{Bounds, Fate, Observation, Serial, Tracker, Tuning, link},
};

/// Places of people are compared at moments that are about so many seconds apart.
const MOMENT_SECONDS: f64 = 1.0;

/// Who is hidden to this share of the box is not described: what would be seen is somebody else.
const HIDDEN: f32 = 0.35;

/// The rows of one shard.
#[derive(Debug, Default)]
pub struct ShardRows {
    pub gaps: Vec<Gap>,
    pub detections: Vec<DetectionRow>,
    /// Of every picture that was decoded.
    pub frames: Vec<FrameRow>,
    pub descriptions: Vec<DescriptionRow>,
    /// Whether the picture of the match may come from here.
    pub pictures: bool,
}

/// Everything about one picture, until it is tracked.
#[derive(Debug, Default)]
struct Frame {
    rows: Vec<DetectionRow>,
    /// By position among the rows.
    descriptions: Vec<DescriptionRow>,
    preview: Option<Vec<u8>>,
    evidence: Option<FrameRow>,
}

/// A frame whose tracks are not all decided.
#[derive(Debug)]
struct Waiting {
    frame: u32,
    shot: i32,
    duplicate_of: Option<u32>,
    rows: Vec<DetectionRow>,
    serials: Vec<Option<Serial>>,
    places: Vec<Option<(f64, f64)>>,
    descriptions: Vec<DescriptionRow>,
    preview: Option<Vec<u8>>,
}

/// A reported track while its rows are written.
#[derive(Debug)]
struct Sums {
    class: u16,
    shot: i32,
    first: u32,
    last: u32,
    seen: u32,
    /// Of those, in pictures that were not shown before.
    fresh: u32,
    score: f64,
    height: f64,
    path: f64,
    foot: (f64, f64),
    way: Way,
    evidence: Evidence,
}

/// What a track came to. Its number is its place among all of the match, from 1.
#[derive(Debug)]
pub struct Ended {
    pub period: i32,
    pub camera: Arc<str>,
    pub class: u16,
    pub shot: i32,
    pub first: (u32, i64),
    pub last: (u32, i64),
    pub seen: u32,
    /// Seconds in which it was seen, repeated pictures left out.
    pub visible: f64,
    pub mean_score: f64,
    pub mean_height: f64,
    pub path: f64,
    /// Metres, and metres a second.
    pub way: Option<(f64, f64)>,
    pub evidence: Evidence,
}

/// One recording in the making.
#[derive(Debug)]
pub struct Recording<'t, 'a> {
    timeline: &'t mut Timeline<'a>,
    inputs: &'t ReduceRecording,
    index: Option<RecordingIndex>,
    camera: Arc<str>,
    fps: f64,
    every: u32,
    moment: u32,
    /// Of a description that follows others so closely.
    weight: f64,
    scene: Scene,
    ground: Ground,
    tracker: Tracker,
    gaps: Vec<Gap>,
    /// Pictures whose scene is not known yet.
    unseen: BTreeMap<u32, Frame>,
    waiting: VecDeque<Waiting>,
    shot: i32,
    /// A cut since the last frame that was tracked; the camera's motion since then, while it is known.
    cut: bool,
    motion: Option<crate::tracker::CameraMotion>,
    /// What was last given to the tracker, and its answer.
    tracked: (Vec<DetectionRow>, Vec<Option<Serial>>),
    /// Reported tracks of this recording, by number, and index into it by serial.
    open: Vec<Sums>,
    number_of: Vec<Option<usize>>,
    detections: u64,
    repeated: u32,
    most: u32,
}

impl<'t, 'a> Recording<'t, 'a> {
    /// `index` is `None` for a recording that was refused or has no shards.
    pub(crate) fn new(
        timeline: &'t mut Timeline<'a>,
        inputs: &'t ReduceRecording,
        index: Option<RecordingIndex>,
    ) -> Self {
        let pipeline = timeline.pipeline;
        let (rate, per) = inputs.frame_rate;
        let fps = if rate == 0 { 0.0 } else { f64::from(rate) / f64::from(per.max(1)) };
        let every = pipeline.detect.settings.every.max(1);
        let known = if fps > 0.0 { fps } else { 25.0 };
        let mut settings = pipeline.track.clone();
        if pipeline.describe.as_ref().is_some_and(|describe| describe.embedder.is_some()) {
            settings.lost_seconds = settings.lost_seconds.min(Tuning::DEFAULT.described_lost_seconds);
        }
        let moments = (known * MOMENT_SECONDS / f64::from(every)).round().max(1.0) as u32;
        Self {
            tracker: Tracker::new(&settings, known, every).rethinking(),
            scene: Scene::new(inputs.width),
            ground: Ground::new(&inputs.views),
            camera: inputs.placement.camera.as_str().into(),
            gaps: inputs.gaps.clone(),
            unseen: BTreeMap::new(),
            waiting: VecDeque::new(),
            shot: 1,
            cut: false,
            motion: None,
            tracked: Default::default(),
            open: Vec::new(),
            number_of: Vec::new(),
            detections: 0,
            repeated: 0,
            most: 0,
            moment: moments.saturating_mul(every),
            weight: pipeline.identify.number_weight,
            fps,
            every,
            inputs,
            index,
            timeline,
        }
    }

    /// Takes the next shard.
    ///
    /// # Errors
    /// When a table cannot be written.
    pub fn shard(&mut self, shard: ShardRows) -> Result<(), ReduceError> {
        self.gaps.extend(shard.gaps);
        let mut frames: BTreeMap<u32, Frame> = BTreeMap::new();
        for row in shard.detections {
            frames.entry(row.frame).or_default().rows.push(row);
        }
        for row in shard.descriptions {
            frames.entry(row.frame).or_default().descriptions.push(row);
        }
        for mut row in shard.frames {
            let preview = row.preview.take().filter(|_| shard.pictures);
            let frame = frames.entry(row.frame).or_default();
            (frame.preview, frame.evidence) = (preview, Some(row));
        }
        for (number, mut frame) in frames {
            let picture = self.picture(number, &mut frame);
            self.unseen.insert(number, frame);
            if let Some(step) = self.scene.push(picture) {
                self.track(step)?;
            }
        }
        Ok(())
    }

    fn picture(&self, number: u32, frame: &mut Frame) -> Picture {
        match frame.evidence.take() {
            None => Picture::new(number, u64::MAX ^ u64::from(number), [0; 64], Vec::new(), &[]),
            Some(row) => {
                let people: Vec<Bounds> = frame.rows.iter().map(bounds).collect();
                Picture::new(number, row.content_hash, row.luma, corners::unpack(&row.corners), &people)
            }
        }
    }

    fn track(&mut self, step: Step) -> Result<(), ReduceError> {
        let Some(mut frame) = self.unseen.remove(&step.frame) else { return Ok(()) };
        let followed = followed(&frame.rows, &self.timeline.pipeline.track);
        // Of somebody behind another it is the other who would be described.
        frame.descriptions.retain(|d| !is_hidden(&frame.rows, &followed, usize::from(d.detection)));
        self.repeated += u32::from(step.duplicate_of.is_some());
        self.ground.step(step.frame, step.motion.as_ref());
        if step.cut {
            (self.shot, self.cut) = (self.shot + 1, true);
        }
        self.motion = match (self.motion, step.motion) {
            (Some(before), Some(motion)) => Some(before.then(&motion)),
            _ => None,
        };
        if !step.frame.is_multiple_of(self.every) && frame.rows.is_empty() {
            return self.wait(step, frame, Vec::new());
        }
        // Who stands still because the picture does would seem to jump when it goes on: the tracker gets a picture once.
        if step.duplicate_of.is_some() && !self.cut && same_boxes(&self.tracked.0, &frame.rows) {
            let serials = self.tracked.1.clone();
            return self.wait(step, frame, serials);
        }
        if std::mem::take(&mut self.cut) {
            self.tracker.cut(step.frame);
        }
        let mut looks = vec![None; frame.rows.len()];
        for described in &frame.descriptions {
            if let Some(look) = looks.get_mut(usize::from(described.detection)) {
                *look = described.look.as_deref();
            }
        }
        let seen: Vec<Observation> = followed.iter().map(|&at| observation(&frame.rows[at], looks[at])).collect();
        let mut serials = vec![None; frame.rows.len()];
        for (&at, serial) in followed.iter().zip(self.tracker.step(step.frame, &seen, self.motion.as_ref())) {
            serials[at] = serial;
        }
        self.tracked = (frame.rows.clone(), serials.clone());
        self.put_right();
        self.motion = Some(crate::tracker::CameraMotion::STILL);
        self.wait(step, frame, serials)
    }

    fn wait(&mut self, step: Step, frame: Frame, serials: Vec<Option<Serial>>) -> Result<(), ReduceError> {
        let Frame { rows, descriptions, preview, .. } = frame;
        self.detections += rows.len() as u64;
        self.most = self.most.max(rows.len() as u32);
        let places = rows.iter().map(foot).map(|(x, y)| self.ground.place(x, y)).collect();
        let (shot, duplicate_of) = (self.shot, step.duplicate_of);
        self.waiting.push_back(Waiting {
            frame: step.frame,
            shot,
            duplicate_of,
            rows,
            serials,
            places,
            descriptions,
            preview,
        });
        self.write_decided()
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// When a table cannot be written.
    pub fn finish(mut self) -> Result<(), ReduceError> {
        while let Some(step) = self.scene.next() {
            self.track(step)?;
        }
        self.tracker.finish();
        self.put_right();
        self.write_decided()?;
        let gaps = gaps::normalise(std::mem::take(&mut self.gaps));
        let looked_at = gaps::looked_at(self.inputs.frames, &gaps, self.every);
        let chains = self.chains();
        let tracks = self.open.len() as u64;
        for sums in std::mem::take(&mut self.open) {
            let ended = self.ended(sums);
            self.timeline.ended.push(ended);
        }
        let Self { timeline, inputs, .. } = self;
        timeline.chains.extend(chains);
        timeline.recordings.push(RecordingSummary {
            key: inputs.placement.recording.key.clone(),
            period: inputs.placement.period,
            camera: inputs.placement.camera.clone(),
            width: inputs.width,
            height: inputs.height,
            fps: self.fps,
            frames: inputs.frames,
            detections: self.detections,
            tracks,
            shots: self.shot as u32,
            repeated_frames: self.repeated,
            detections_max: self.most,
            detections_mean: self.detections as f64 / f64::from(looked_at.max(1)),
            gaps,
        });
        Ok(())
    }

    /// Tracks of people that are one by their motion, as indices into the tracks of the match.
    fn chains(&self) -> Vec<Vec<usize>> {
        let tracklets = self.tracker.tracklets();
        let number = |at: usize| self.number_of.get(tracklets[at].serial as usize).copied().flatten();
        let evidence = |group: &[usize]| -> Vec<&Evidence> {
            group.iter().filter_map(|&at| number(at)).map(|offset| &self.open[offset].evidence).collect()
        };
        let settings = &self.timeline.pipeline.identify;
        let mut against =
            |earlier: &[usize], later: &[usize]| Some(-gain(&evidence(earlier), &evidence(later), settings));
        let fps = if self.fps > 0.0 { self.fps } else { 25.0 };
        let group_of = link(tracklets, self.tracker.camera(), &self.timeline.pipeline.track, fps, &mut against);
        let mut chains: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let base = self.timeline.ended.len();
        for (at, group) in group_of.into_iter().enumerate() {
            let person = self.timeline.is_person(tracklets[at].class);
            if let Some(offset) = number(at).filter(|_| person) {
                chains.entry(group).or_default().push(base + offset);
            }
        }
        chains.into_values().collect()
    }

    /// Two who were mixed up get each other's rows; none of them is written yet.
    fn put_right(&mut self) {
        for exchange in self.tracker.exchanges() {
            for waiting in &mut self.waiting {
                let frame = waiting.frame;
                waiting.serials.iter_mut().flatten().for_each(|serial| *serial = exchange.put_right(frame, *serial));
            }
        }
    }

    fn write_decided(&mut self) -> Result<(), ReduceError> {
        let undecided = |waiting: &Waiting, tracker: &Tracker| {
            waiting.frame >= tracker.settled()
                || waiting.serials.iter().flatten().any(|&serial| tracker.fate(serial) == Fate::Open)
        };
        while self.waiting.front().is_some_and(|front| !undecided(front, &self.tracker)) {
            if let Some(waiting) = self.waiting.pop_front() {
                self.write_frame(waiting)?;
            }
        }
        Ok(())
    }

    fn write_frame(&mut self, mut waiting: Waiting) -> Result<(), ReduceError> {
        let t_us = self.time_us(waiting.frame);
        let mut marks = Vec::new();
        waiting.serials.resize(waiting.rows.len(), None);
        let mut offsets = Vec::with_capacity(waiting.rows.len());
        for (at, row) in waiting.rows.iter().enumerate() {
            let track = waiting.serials[at].filter(|&serial| self.tracker.fate(serial) == Fate::Reported);
            let place = waiting.places[at];
            let offset = track.map(|serial| self.sighting(serial, row, &waiting, t_us, place));
            let track_id = offset.map(|offset| (self.timeline.ended.len() + offset + 1) as i32);
            offsets.push(offset);
            marks.extend(track_id.map(|track| Mark { track, x: row.x, y: row.y, w: row.w, h: row.h }));
            self.timeline.detections.push(Detection {
                period: self.inputs.placement.period as i32,
                camera: Arc::clone(&self.camera),
                frame: row.frame as i32,
                t_us,
                track_id,
                class: self.timeline.class(row.class),
                score: row.score,
                x: row.x,
                y: row.y,
                w: row.w,
                h: row.h,
                duplicate_of: waiting.duplicate_of.map(|frame| frame as i32),
                pitch_x: place.map(|(x, _)| x as f32),
                pitch_y: place.map(|(_, y)| y as f32),
            })?;
        }
        // A picture that is shown again says nothing new.
        if waiting.duplicate_of.is_none() {
            for described in &waiting.descriptions {
                if let Some(offset) = offsets.get(usize::from(described.detection)).copied().flatten() {
                    let evidence = &mut self.open[offset].evidence;
                    evidence.kit.add(&described.kit);
                    described.look.iter().for_each(|look| evidence.look.add(look));
                    described.numbers.iter().for_each(|numbers| evidence.numbers.add(numbers, self.weight));
                }
            }
        }
        if let Some(jpeg) = waiting.preview {
            self.timeline.consider(self.inputs, waiting.frame, jpeg, marks);
        }
        Ok(())
    }

    /// Counts a row to its track, which gets its number when it is first written, and returns its offset.
    fn sighting(
        &mut self,
        serial: Serial,
        row: &DetectionRow,
        waiting: &Waiting,
        t_us: i64,
        place: Option<(f64, f64)>,
    ) -> usize {
        let slot = serial as usize;
        if self.number_of.len() <= slot {
            self.number_of.resize(slot + 1, None);
        }
        let (foot, stage) = (foot(row), self.timeline.recordings.len() as u32);
        let offset = *self.number_of[slot].get_or_insert_with(|| {
            let (first, last, shot) = (row.frame, row.frame, waiting.shot);
            let evidence = Evidence { span: Span { stage, first, last }, ..Evidence::default() };
            self.open.push(Sums {
                class: row.class,
                shot,
                first,
                last,
                seen: 0,
                fresh: 0,
                score: 0.0,
                height: 0.0,
                path: 0.0,
                foot,
                way: Way::default(),
                evidence,
            });
            self.open.len() - 1
        });
        let sums = &mut self.open[offset];
        let (dx, dy) = (foot.0 - sums.foot.0, foot.1 - sums.foot.1);
        sums.path += (dx * dx + dy * dy).sqrt();
        sums.foot = foot;
        sums.last = row.frame;
        sums.seen += 1;
        sums.score += f64::from(row.score);
        sums.height += f64::from(row.h);
        (sums.evidence.span.last, sums.evidence.seen) = (row.frame, sums.seen);
        if row.frame.is_multiple_of(self.moment) {
            sums.evidence.places.push(Place { stage, frame: row.frame, x: foot.0 as f32, y: foot.1 as f32 });
        }
        if waiting.duplicate_of.is_none() {
            sums.fresh += 1;
            place.into_iter().for_each(|place| sums.way.add(t_us, place));
        }
        offset
    }

    fn ended(&self, sums: Sums) -> Ended {
        let seen = f64::from(sums.seen);
        let fresh = f64::from(sums.fresh);
        Ended {
            period: self.inputs.placement.period as i32,
            camera: Arc::clone(&self.camera),
            class: sums.class,
            shot: sums.shot,
            first: (sums.first, self.time_us(sums.first)),
            last: (sums.last, self.time_us(sums.last)),
            seen: sums.seen,
            visible: if self.fps > 0.0 { fresh * f64::from(self.every) / self.fps } else { 0.0 },
            mean_score: sums.score / seen,
            mean_height: sums.height / seen,
            path: sums.path,
            way: sums.way.finish(),
            evidence: sums.evidence,
        }
    }

    fn time_us(&self, frame: u32) -> i64 {
        self.index.as_ref().map_or(0, |index| index.frame_us(frame)) + self.inputs.placement.offset_us
    }
}

fn bounds(row: &DetectionRow) -> Bounds {
    let (w, h) = (f64::from(row.w), f64::from(row.h));
    Bounds { cx: f64::from(row.x) + w / 2.0, cy: f64::from(row.y) + h / 2.0, w, h }
}

/// Bottom centre of a box.
fn foot(row: &DetectionRow) -> (f64, f64) {
    (f64::from(row.x) + f64::from(row.w) / 2.0, f64::from(row.y) + f64::from(row.h))
}

/// The rows that are followed, ascending: strong enough, and no stronger one of their class in nearly the same place.
fn followed(rows: &[DetectionRow], settings: &Track) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.len()).filter(|&at| rows[at].score >= settings.least_score).collect();
    order.sort_by(|&a, &b| rows[b].score.total_cmp(&rows[a].score).then(a.cmp(&b)));
    let mut followed: Vec<usize> = Vec::with_capacity(order.len());
    for at in order {
        let same = |&other: &usize| {
            rows[other].class == rows[at].class
                && bounds(&rows[other]).iou(&bounds(&rows[at])) > f64::from(settings.overlap)
        };
        if !followed.iter().any(same) {
            followed.push(at);
        }
    }
    followed.sort_unstable();
    followed
}

/// Whether another person stands before this one: whose feet are lower in the picture is nearer.
fn is_hidden(rows: &[DetectionRow], followed: &[usize], at: usize) -> bool {
    let Some(own) = rows.get(at) else { return true };
    let before = |other: &&DetectionRow| other.class == own.class && other.y + other.h > own.y + own.h;
    let shared = |other: &DetectionRow| {
        let w = (own.x + own.w).min(other.x + other.w) - own.x.max(other.x);
        let h = (own.y + own.h).min(other.y + other.h) - own.y.max(other.y);
        w.max(0.0) * h.max(0.0)
    };
    followed.iter().map(|&at| &rows[at]).filter(before).any(|other| shared(other) > HIDDEN * own.w * own.h)
}

/// Whether two pictures gave the same detections in the same order.
fn same_boxes(a: &[DetectionRow], b: &[DetectionRow]) -> bool {
    let boxes = |row: &DetectionRow| (row.class, [row.score, row.x, row.y, row.w, row.h].map(f32::to_bits));
    a.iter().map(boxes).eq(b.iter().map(boxes))
}

fn observation<'a>(row: &DetectionRow, look: Option<&'a [u8]>) -> Observation<'a> {
    Observation { class: row.class, score: f64::from(row.score), bounds: bounds(row), look }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(x: f32, y: f32, score: f32) -> DetectionRow {
        DetectionRow { frame: 0, class: 0, score, x, y, w: 40.0, h: 100.0 }
    }

    #[test]
    fn only_the_strongest_of_those_in_one_place_is_followed() {
        let rows = [row(0.0, 0.0, 0.5), row(5.0, 0.0, 0.9), row(200.0, 0.0, 0.2), row(300.0, 0.0, 0.4)];
        let settings = Track { least_score: 0.3, overlap: 0.6, ..Track::default() };
        assert_eq!(followed(&rows, &settings), [1, 3]);
        assert_eq!(followed(&rows, &Track::default()), [0, 1, 2, 3]);
    }

    #[test]
    fn who_stands_behind_another_is_hidden_and_the_other_is_not() {
        let rows = [row(0.0, 0.0, 0.9), row(15.0, 10.0, 0.8), row(30.0, -30.0, 0.7)];
        let hidden = |followed: &[usize]| [0, 1, 2].map(|at| is_hidden(&rows, followed, at));
        assert_eq!(hidden(&[0, 1, 2]), [true, false, true]);
        assert_eq!(hidden(&[0]), [false, false, false], "what is not followed hides nobody");
    }
}
