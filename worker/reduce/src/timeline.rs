//! The pure core of a reduce: shard rows of a whole match in, tables, summary figures and one picture out.
//!
//! Frames wait in a short queue until the tracker knows which of their tracks are worth reporting; then their rows are
//! written and tracks get their numbers in the order in which they appear. So numbers have no holes, and memory holds no
//! more than a few seconds of rows besides the tables themselves. Nothing here knows where one shard ends.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use fulltime_common::{
    index::RecordingIndex,
    pipeline::Pipeline,
    plan::{Gap, MatchId, ReduceRecording},
    results::RecordingSummary,
};
use fulltime_tables::{
    Writer,
    matches::{self, Detection, Player, Track},
    shard::DetectionRow,
};

use crate::{
    error::ReduceError,
    gaps,
    picture::Mark,
    tracker::{Bounds, Fate, Observation, Serial, Tracker},
};

/// Class names that stand for a person, in the manifests we know.
const PEOPLE: [&str; 7] = ["person", "player", "goalkeeper", "referee", "official", "coach", "staff"];

/// The picture that was chosen, still without its boxes.
#[derive(Debug)]
pub struct Candidate {
    pub recording: String,
    pub frame: u32,
    pub jpeg: Vec<u8>,
    pub full_width: u32,
    pub marks: Vec<Mark>,
}

/// What a match comes to.
#[derive(Debug)]
pub struct Reduced {
    /// In the order of `keys::TABLES`.
    pub tables: [Bytes; 3],
    pub recordings: Vec<RecordingSummary>,
    pub detections: u64,
    pub tracks: u64,
    pub players: u64,
    pub candidate: Option<Candidate>,
}

/// Collects a match, recording by recording in reduce order.
#[derive(Debug)]
pub struct Timeline<'a> {
    pipeline: &'a Pipeline,
    classes: Vec<Arc<str>>,
    detections: Writer<Detection>,
    tracks: Writer<Track>,
    players: Writer<Player>,
    recordings: Vec<RecordingSummary>,
    candidate: Option<Candidate>,
    next_track: i32,
}

impl<'a> Timeline<'a> {
    /// # Errors
    /// When a table cannot be begun.
    pub fn new(id: &MatchId, pipeline: &'a Pipeline) -> Result<Self, ReduceError> {
        Ok(Self {
            pipeline,
            classes: pipeline.detect.model.classes.iter().map(|name| name.as_str().into()).collect(),
            detections: matches::writer(id)?,
            tracks: matches::writer(id)?,
            players: matches::writer(id)?,
            recordings: Vec::new(),
            candidate: None,
            next_track: 1,
        })
    }

    /// Begins the next recording. `index` is `None` for one that was refused or has no shards.
    pub fn recording<'t>(
        &'t mut self,
        inputs: &'t ReduceRecording,
        index: Option<RecordingIndex>,
    ) -> Recording<'t, 'a> {
        let (rate, per) = inputs.frame_rate;
        let fps = if rate == 0 { 0.0 } else { f64::from(rate) / f64::from(per.max(1)) };
        let every = self.pipeline.detect.settings.every.max(1);
        Recording {
            tracker: Tracker::new(&self.pipeline.track, if fps > 0.0 { fps } else { 25.0 }, every),
            camera: inputs.placement.camera.as_str().into(),
            gaps: inputs.gaps.clone(),
            waiting: VecDeque::new(),
            open: Vec::new(),
            number_of: Vec::new(),
            detections: 0,
            most: 0,
            fps,
            every,
            inputs,
            index,
            timeline: self,
        }
    }

    /// The finished tables.
    ///
    /// # Errors
    /// When a table cannot be written.
    pub fn finish(self) -> Result<Reduced, ReduceError> {
        Ok(Reduced {
            detections: self.detections.len(),
            tracks: self.tracks.len(),
            players: self.players.len(),
            tables: [self.detections.finish()?, self.tracks.finish()?, self.players.finish()?],
            recordings: self.recordings,
            candidate: self.candidate,
        })
    }

    fn class(&self, class: u16) -> Arc<str> {
        self.classes.get(usize::from(class)).cloned().unwrap_or_else(|| format!("class {class}").into())
    }
}

/// A frame whose tracks are not all decided.
#[derive(Debug)]
struct Waiting {
    frame: u32,
    rows: Vec<(DetectionRow, Option<Serial>)>,
    preview: Option<Vec<u8>>,
}

/// A reported track while its rows are written.
#[derive(Debug)]
struct Sums {
    class: u16,
    first: u32,
    last: u32,
    seen: u32,
    score: f64,
    height: f64,
    path: f64,
    foot: (f64, f64),
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
    tracker: Tracker,
    gaps: Vec<Gap>,
    waiting: VecDeque<Waiting>,
    /// Reported tracks of this recording, by number.
    open: Vec<Sums>,
    /// Index into `open` by serial.
    number_of: Vec<Option<usize>>,
    detections: u64,
    most: u32,
}

impl Recording<'_, '_> {
    /// Takes the next shard: its gaps, its rows, and preview pictures by frame.
    ///
    /// # Errors
    /// When a table cannot be written.
    pub fn shard(
        &mut self,
        gaps: Vec<Gap>,
        rows: Vec<DetectionRow>,
        previews: BTreeMap<u32, Vec<u8>>,
    ) -> Result<(), ReduceError> {
        self.gaps.extend(gaps);
        let mut frames: BTreeMap<u32, (&[DetectionRow], Option<Vec<u8>>)> = BTreeMap::new();
        for rows in rows.chunk_by(|a, b| a.frame == b.frame) {
            frames.insert(rows[0].frame, (rows, None));
        }
        for (frame, jpeg) in previews {
            frames.entry(frame).or_default().1 = Some(jpeg);
        }
        for (frame, (rows, preview)) in frames {
            let seen: Vec<Observation> = rows.iter().map(observation).collect();
            let serials = self.tracker.step(frame, &seen, None);
            self.detections += rows.len() as u64;
            self.most = self.most.max(rows.len() as u32);
            self.waiting.push_back(Waiting { frame, rows: rows.iter().cloned().zip(serials).collect(), preview });
            self.write_decided()?;
        }
        Ok(())
    }

    /// Ends the recording.
    ///
    /// # Errors
    /// When a table cannot be written.
    pub fn finish(mut self) -> Result<(), ReduceError> {
        self.tracker.finish();
        self.write_decided()?;
        let (inputs, gaps) = (self.inputs, gaps::normalise(std::mem::take(&mut self.gaps)));
        let looked_at = gaps::looked_at(inputs.frames, &gaps, self.every);
        for (offset, sums) in std::mem::take(&mut self.open).into_iter().enumerate() {
            self.write_track(offset, &sums)?;
        }
        let tracks = self.number_of.iter().flatten().count();
        let timeline = self.timeline;
        timeline.next_track += tracks as i32;
        timeline.recordings.push(RecordingSummary {
            key: inputs.placement.recording.key.clone(),
            period: inputs.placement.period,
            camera: inputs.placement.camera.clone(),
            width: inputs.width,
            height: inputs.height,
            fps: self.fps,
            frames: inputs.frames,
            detections: self.detections,
            tracks: tracks as u64,
            detections_max: self.most,
            detections_mean: self.detections as f64 / f64::from(looked_at.max(1)),
            gaps,
        });
        Ok(())
    }

    fn write_decided(&mut self) -> Result<(), ReduceError> {
        let undecided = |waiting: &Waiting, tracker: &Tracker| {
            waiting.rows.iter().any(|(_, serial)| serial.is_some_and(|serial| tracker.fate(serial) == Fate::Open))
        };
        while self.waiting.front().is_some_and(|front| !undecided(front, &self.tracker)) {
            if let Some(waiting) = self.waiting.pop_front() {
                self.write_frame(waiting)?;
            }
        }
        Ok(())
    }

    fn write_frame(&mut self, waiting: Waiting) -> Result<(), ReduceError> {
        let t_us = self.time_us(waiting.frame);
        let mut marks = Vec::new();
        for (row, serial) in waiting.rows {
            let track = serial.filter(|&serial| self.tracker.fate(serial) == Fate::Reported);
            let track_id = track.map(|serial| self.sighting(serial, &row));
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
                ..Detection::default()
            })?;
        }
        if let Some(jpeg) = waiting.preview {
            self.consider(waiting.frame, jpeg, marks);
        }
        Ok(())
    }

    /// Counts a row to its track, which gets its number when it is first written, and returns the number.
    fn sighting(&mut self, serial: Serial, row: &DetectionRow) -> i32 {
        let slot = serial as usize;
        if self.number_of.len() <= slot {
            self.number_of.resize(slot + 1, None);
        }
        let foot = (f64::from(row.x) + f64::from(row.w) / 2.0, f64::from(row.y) + f64::from(row.h));
        let offset = *self.number_of[slot].get_or_insert_with(|| {
            let (first, last) = (row.frame, row.frame);
            self.open.push(Sums { class: row.class, first, last, seen: 0, score: 0.0, height: 0.0, path: 0.0, foot });
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
        self.timeline.next_track + offset as i32
    }

    fn write_track(&mut self, offset: usize, sums: &Sums) -> Result<(), ReduceError> {
        let (period, camera) = (self.inputs.placement.period as i32, &self.camera);
        let (track_id, class) = (self.timeline.next_track + offset as i32, self.timeline.class(sums.class));
        let seen = f64::from(sums.seen);
        self.timeline.tracks.push(Track {
            period,
            camera: Arc::clone(camera),
            track_id,
            class: Arc::clone(&class),
            first_frame: sums.first as i32,
            last_frame: sums.last as i32,
            start_us: self.time_us(sums.first),
            end_us: self.time_us(sums.last),
            frames_seen: sums.seen as i32,
            mean_score: (sums.score / seen) as f32,
            mean_height: (sums.height / seen) as f32,
            path_length: sums.path as f32,
            shot: 1,
            player_id: PEOPLE.contains(&&*class).then_some(track_id),
            ..Track::default()
        })?;
        if PEOPLE.contains(&&*class) {
            self.timeline.players.push(Player {
                player_id: track_id,
                class,
                tracks: 1,
                visible: if self.fps > 0.0 { seen * f64::from(self.every) / self.fps } else { 0.0 },
                first_period: period,
                first_us: self.time_us(sums.first),
                last_period: period,
                last_us: self.time_us(sums.last),
                ..Player::default()
            })?;
        }
        Ok(())
    }

    /// Keeps the picture with most tracks on it; of equals the one nearest to the middle, then the earliest.
    fn consider(&mut self, frame: u32, jpeg: Vec<u8>, marks: Vec<Mark>) {
        let middle = self.inputs.frames / 2;
        let rank = |marks: &[Mark], frame: u32| (marks.len(), Reverse(frame.abs_diff(middle)), Reverse(frame));
        let better = self.timeline.candidate.as_ref().is_none_or(|c| rank(&c.marks, c.frame) < rank(&marks, frame));
        if better {
            let recording = self.inputs.placement.recording.key.clone();
            self.timeline.candidate = Some(Candidate { recording, frame, jpeg, full_width: self.inputs.width, marks });
        }
    }

    fn time_us(&self, frame: u32) -> i64 {
        self.index.as_ref().map_or(0, |index| index.frame_us(frame)) + self.inputs.placement.offset_us
    }
}

fn observation(row: &DetectionRow) -> Observation<'static> {
    let (w, h) = (f64::from(row.w), f64::from(row.h));
    let bounds = Bounds { cx: f64::from(row.x) + w / 2.0, cy: f64::from(row.y) + h / 2.0, w, h };
    Observation { class: row.class, score: f64::from(row.score), bounds, look: None }
}
