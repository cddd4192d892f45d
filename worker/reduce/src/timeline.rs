//! The pure core of a reduce: shard rows of a whole match in, tables, summary figures and one picture out. Rows of detections
//! are written recording by recording (`recording`); when all have ended, tracks become people (`identity`), and the tables
//! of tracks and players are written. Nothing here knows where one shard ends.

use std::{cmp::Reverse, sync::Arc};

use bytes::Bytes;
use fulltime_common::{
    index::RecordingIndex,
    pipeline::Pipeline,
    plan::{MatchId, ReduceRecording},
    results::{PersonSummary, RecordingSummary},
    squads::TeamSheet,
};
use fulltime_tables::{
    Writer,
    matches::{self, Detection, Player, Track},
};

use crate::{
    error::ReduceError,
    identity::{People, Person, identify, read_number},
    picture::Mark,
    recording::{Ended, Recording},
};

/// Class names that stand for a person, in the manifests we know.
const PEOPLE: [&str; 7] = ["person", "player", "goalkeeper", "referee", "official", "coach", "staff"];
/// Names of teams that the user has not named: on the left in the first recording, and on the right.
const TEAMS: [&str; 2] = ["A", "B"];

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
    /// Those of whom more is known than where they were.
    pub people: Vec<PersonSummary>,
    pub candidate: Option<Candidate>,
}

/// Collects a match, recording by recording in reduce order.
#[derive(Debug)]
pub struct Timeline<'a> {
    pub(crate) pipeline: &'a Pipeline,
    sheets: &'a [TeamSheet],
    classes: Vec<Arc<str>>,
    people: Vec<bool>,
    pub(crate) detections: Writer<Detection>,
    tracks: Writer<Track>,
    players: Writer<Player>,
    pub(crate) recordings: Vec<RecordingSummary>,
    /// Reported tracks in the order of their numbers, and those of people that are one by their motion.
    pub(crate) ended: Vec<Ended>,
    pub(crate) chains: Vec<Vec<usize>>,
    candidate: Option<Candidate>,
}

impl<'a> Timeline<'a> {
    /// # Errors
    /// When a table cannot be begun.
    pub fn new(id: &MatchId, pipeline: &'a Pipeline, sheets: &'a [TeamSheet]) -> Result<Self, ReduceError> {
        let classes = &pipeline.detect.model.classes;
        let named = pipeline.describe.as_ref().map_or(&[][..], |describe| &describe.settings.classes);
        let person =
            |name: &String| if named.is_empty() { PEOPLE.contains(&name.as_str()) } else { named.contains(name) };
        Ok(Self {
            pipeline,
            sheets,
            people: classes.iter().map(person).collect(),
            classes: classes.iter().map(|name| name.as_str().into()).collect(),
            detections: matches::writer(id)?,
            tracks: matches::writer(id)?,
            players: matches::writer(id)?,
            recordings: Vec::new(),
            ended: Vec::new(),
            chains: Vec::new(),
            candidate: None,
        })
    }

    /// Begins the next recording. `index` is `None` for one that was refused or has no shards.
    pub fn recording<'t>(
        &'t mut self,
        inputs: &'t ReduceRecording,
        index: Option<RecordingIndex>,
    ) -> Recording<'t, 'a> {
        Recording::new(self, inputs, index)
    }

    /// The finished tables.
    ///
    /// # Errors
    /// When a table cannot be written.
    pub fn finish(mut self) -> Result<Reduced, ReduceError> {
        // Identity knows tracks of people only: `whose` has the index of each.
        let whose: Vec<usize> = (0..self.ended.len()).filter(|&at| self.is_person(self.ended[at].class)).collect();
        let mut place = vec![None; self.ended.len()];
        whose.iter().enumerate().for_each(|(i, &at)| place[at] = Some(i));
        let evidence: Vec<_> = whose.iter().map(|&at| std::mem::take(&mut self.ended[at].evidence)).collect();
        let chains: Vec<Vec<usize>> =
            self.chains.iter().map(|chain| chain.iter().filter_map(|&at| place[at]).collect()).collect();
        let found = identify(&evidence, &chains, self.sheets, &self.pipeline.identify);

        let mut player_of = vec![None; self.ended.len()];
        for (number, person) in (1..).zip(&found.people) {
            person.tracks.iter().for_each(|&track| player_of[whose[track]] = Some(number));
        }
        for (at, player_id) in player_of.iter().enumerate() {
            let read = place[at].and_then(|i| read_number(&evidence[i].numbers));
            self.tracks.push(self.track(at, *player_id, read))?;
        }
        let mut people = Vec::new();
        for (number, person) in (1..).zip(&found.people) {
            let tracks: Vec<&Ended> = person.tracks.iter().map(|&track| &self.ended[whose[track]]).collect();
            let player = self.player(number, person, &tracks, &found);
            if player.team.is_some() || player.number.is_some() || player.role.is_some() {
                people.push(summary(&player));
            }
            self.players.push(player)?;
        }
        Ok(Reduced {
            detections: self.detections.len(),
            tracks: self.tracks.len(),
            players: self.players.len(),
            tables: [self.detections.finish()?, self.tracks.finish()?, self.players.finish()?],
            recordings: self.recordings,
            people,
            candidate: self.candidate,
        })
    }

    pub(crate) fn class(&self, class: u16) -> Arc<str> {
        self.classes.get(usize::from(class)).cloned().unwrap_or_else(|| format!("class {class}").into())
    }

    pub(crate) fn is_person(&self, class: u16) -> bool {
        self.people.get(usize::from(class)).copied().unwrap_or_default()
    }

    fn track(&self, at: usize, player_id: Option<i32>, read: Option<(u8, f64)>) -> Track {
        let track = &self.ended[at];
        Track {
            period: track.period,
            camera: Arc::clone(&track.camera),
            track_id: at as i32 + 1,
            class: self.class(track.class),
            first_frame: track.first.0 as i32,
            last_frame: track.last.0 as i32,
            start_us: track.first.1,
            end_us: track.last.1,
            frames_seen: track.seen as i32,
            mean_score: track.mean_score as f32,
            mean_height: track.mean_height as f32,
            path_length: track.path as f32,
            shot: track.shot,
            player_id,
            read_number: read.map(|(number, _)| i32::from(number)),
            read_confidence: read.map(|(_, sure)| sure as f32),
            distance: track.way.map(|(metres, _)| metres as f32),
            top_speed: track.way.map(|(_, speed)| speed as f32),
        }
    }

    fn player(&self, player_id: i32, person: &Person, tracks: &[&Ended], found: &People) -> Player {
        let team = person.team.map(|(team, _)| match found.sheets[team] {
            Some(sheet) => self.sheets[sheet].name.as_str().into(),
            None => TEAMS[team].into(),
        });
        let name = person.entry.and_then(|(sheet, line)| self.sheets[sheet].players[line].name.as_deref());
        let seen_most = tracks.iter().max_by_key(|track| (track.seen, Reverse(track.class)));
        let first = tracks.iter().map(|track| (track.period, track.first.1)).min().unwrap_or_default();
        let last = tracks.iter().map(|track| (track.period, track.last.1)).max().unwrap_or_default();
        let (distance, top_speed) = way(tracks);
        Player {
            player_id,
            class: self.class(seen_most.map_or(0, |track| track.class)),
            team,
            team_confidence: person.team.map(|(_, sure)| sure as f32),
            number: person.number.map(|(number, _)| i32::from(number)),
            number_confidence: person.number.map(|(_, sure)| sure as f32),
            role: person.role.map(|(role, _)| role.name().into()),
            role_confidence: person.role.map(|(_, sure)| sure as f32),
            name: name.map(Into::into),
            tracks: tracks.len() as i32,
            visible: tracks.iter().map(|track| track.visible).sum(),
            first_period: first.0,
            first_us: first.1,
            last_period: last.0,
            last_us: last.1,
            distance: distance.map(|metres| metres as f32),
            top_speed: top_speed.map(|speed| speed as f32),
        }
    }

    /// Keeps the picture with most tracks on it; of equals the one nearest to the middle, then the earliest.
    pub(crate) fn consider(&mut self, inputs: &ReduceRecording, frame: u32, jpeg: Vec<u8>, marks: Vec<Mark>) {
        let middle = inputs.frames / 2;
        let rank = |marks: &[Mark], frame: u32| (marks.len(), Reverse(frame.abs_diff(middle)), Reverse(frame));
        if self.candidate.as_ref().is_none_or(|c| rank(&c.marks, c.frame) < rank(&marks, frame)) {
            let recording = inputs.placement.recording.key.clone();
            self.candidate = Some(Candidate { recording, frame, jpeg, full_width: inputs.width, marks });
        }
    }
}

/// Way and top speed of a person. Cameras see the same run: of each period the one that saw most of it counts.
fn way(tracks: &[&Ended]) -> (Option<f64>, Option<f64>) {
    let mut seen: Vec<(i32, &str, f64)> = Vec::new();
    let mut top = None;
    for track in tracks {
        let Some((metres, speed)) = track.way else { continue };
        top = Some(f64::max(top.unwrap_or_default(), speed));
        match seen.iter_mut().find(|s| (s.0, s.1) == (track.period, &*track.camera)) {
            Some(sum) => sum.2 += metres,
            None => seen.push((track.period, &track.camera, metres)),
        }
    }
    seen.sort_by(|a, b| a.0.cmp(&b.0).then(b.2.total_cmp(&a.2)));
    seen.dedup_by_key(|sum| sum.0);
    (top.map(|_| seen.iter().map(|sum| sum.2).sum()), top)
}

fn summary(player: &Player) -> PersonSummary {
    PersonSummary {
        player_id: player.player_id,
        team: player.team.as_deref().map(str::to_owned),
        number: player.number,
        role: player.role.as_deref().map(str::to_owned),
        name: player.name.as_deref().map(str::to_owned),
        visible: player.visible,
        distance: player.distance,
        top_speed: player.top_speed,
    }
}
