//! The tables of a finished job as sequences: one a recording.

use std::{collections::BTreeMap, sync::Arc};

use fulltime_common::{
    Exit,
    error::Failure,
    keys,
    plan::MatchId,
    results::{MatchSummary, RecordingSummary},
    store::Store,
};
use fulltime_score::{Attributes, Object, Rect, Sequence};
use fulltime_tables::{
    Reader, Row, TableError,
    matches::{Detection, Player, Track},
};

/// Identities of tracks that belong to no person (the ball, what nobody could be told from) begin here.
const PERSONLESS: i64 = 1_000_000;

/// A generation of a job: `jobs/JOB/gN` with tables and summaries.
#[derive(Debug)]
pub struct Job {
    store: Store,
    matches: Vec<MatchSummary>,
}

/// What an object's identity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The person, over cuts, cameras and periods.
    Identity,
    /// The track within its recording.
    Track,
}

impl Job {
    /// The generation at this folder or URL, or the newest one of the job there; `None` if there is no such thing.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn open(place: &str) -> Result<Option<Self>, Failure> {
        let Ok(store) = Store::open(place) else { return Ok(None) };
        if let Some(job) = Self::at(store).await? {
            return Ok(Some(job));
        }
        let mut newest = None;
        for generation in 1.. {
            let Ok(store) = Store::open(&format!("{}/g{generation}", place.trim_end_matches('/'))) else { break };
            match Self::at(store).await? {
                Some(job) => newest = Some(job),
                None => break,
            }
        }
        Ok(newest)
    }

    async fn at(store: Store) -> Result<Option<Self>, Failure> {
        let listed = match store.list(Some("summaries")).await {
            Ok(listed) => listed,
            // A file, or a folder that is none of ours.
            Err(_) => return Ok(None),
        };
        let mut keys: Vec<String> = listed.into_iter().map(|meta| meta.location.to_string()).collect();
        keys.sort();
        let mut matches = Vec::new();
        for key in keys {
            matches.extend(store.get_json::<MatchSummary>(&key).await?);
        }
        Ok((!matches.is_empty()).then_some(Self { store, matches }))
    }

    #[must_use]
    pub fn matches(&self) -> &[MatchSummary] {
        &self.matches
    }

    /// Bytes of a published table.
    ///
    /// # Errors
    /// Not there, or whatever the store says.
    pub async fn table(&self, name: &str, id: &MatchId) -> Result<bytes::Bytes, Failure> {
        let key = format!("{name}/{}/part-0.parquet", id.partition());
        let bytes = self.store.get(&key).await?;
        bytes.ok_or_else(|| {
            let cause = format!("`{}` is not there", self.store.url_of(&key));
            Failure::new(Exit::Store, cause, "run the job again; what is finished is kept")
        })
    }

    async fn rows<R: Row>(&self, name: &str, id: &MatchId) -> Result<Vec<R>, Failure> {
        let bytes = self.table(name, id).await?;
        let rows: Result<Vec<R>, TableError> = Reader::<R>::new(bytes).and_then(Iterator::collect);
        rows.map_err(|error| {
            let cause = format!("read `{name}` of {id}: {}", fulltime_common::error::chain(&error));
            Failure::new(Exit::Store, cause, "the table was made by another version of fulltime: run the job again")
        })
    }

    /// The tables of a match.
    ///
    /// # Errors
    /// Tables that are not there, or of another version.
    pub async fn tables(&self, id: &MatchId) -> Result<Tables, Failure> {
        let [detections, tracks, players] = keys::TABLES;
        Ok(Tables {
            detections: self.rows(detections, id).await?,
            tracks: self.rows::<Track>(tracks, id).await?.into_iter().map(|track| (track.track_id, track)).collect(),
            players: self.rows::<Player>(players, id).await?.into_iter().map(|p| (p.player_id, p)).collect(),
        })
    }
}

/// All rows of a match.
#[derive(Debug)]
pub struct Tables {
    detections: Vec<Detection>,
    tracks: BTreeMap<i32, Track>,
    players: BTreeMap<i32, Player>,
}

impl Tables {
    /// The objects of one recording; those without a track have no identity.
    #[must_use]
    pub fn sequence(&self, recording: &RecordingSummary, by: By) -> Sequence {
        let mut sequence = Sequence::new();
        sequence.info.name = stem(&recording.key).to_owned();
        (sequence.info.width, sequence.info.height) = (recording.width, recording.height);
        (sequence.info.fps, sequence.info.frames) = (recording.fps, recording.frames);
        let classes = self.classes();
        sequence.classes = (1..).zip(classes.iter().cloned()).collect();
        let own =
            |row: &&Detection| u32::try_from(row.period) == Ok(recording.period) && *row.camera == *recording.camera;
        for row in self.detections.iter().filter(own) {
            let track = row.track_id.and_then(|id| self.tracks.get(&id));
            let person = track.and_then(|track| track.player_id).and_then(|id| self.players.get(&id));
            let attributes = match person {
                Some(Player { role, team, number, .. }) => Attributes {
                    name: None,
                    role: role.clone(),
                    team: team.clone(),
                    number: number.and_then(|number| u32::try_from(number).ok()),
                },
                None if *row.class == *"ball" => Attributes { role: Some("ball".into()), ..Attributes::default() },
                None => Attributes::default(),
            };
            let id = match (by, person) {
                (By::Identity, Some(person)) => Some(i64::from(person.player_id)),
                (By::Identity, None) => row.track_id.map(|id| PERSONLESS + i64::from(id)),
                (By::Track, _) => row.track_id.map(i64::from),
            };
            let bounds = Rect { x: short(row.x), y: short(row.y), w: short(row.w), h: short(row.h) };
            let class = classes.binary_search(&row.class).ok().and_then(|index| i32::try_from(index + 1).ok());
            let place = row.pitch_x.zip(row.pitch_y).map(|(x, y)| [short(x), short(y), 0.0]);
            let attributes = (attributes != Attributes::default()).then(|| sequence.describe(attributes));
            let object = Object { class, world: place, attributes, ..Object::new(id, bounds, short(row.score)) };
            sequence.push(u32::try_from(row.frame).unwrap_or_default() + 1, object);
        }
        sequence
    }

    fn classes(&self) -> Vec<Arc<str>> {
        let mut classes: Vec<Arc<str>> = Vec::new();
        for row in &self.detections {
            if let Err(at) = classes.binary_search(&row.class) {
                classes.insert(at, Arc::clone(&row.class));
            }
        }
        classes
    }
}

/// The shortest decimal number that is this one: tables hold 32 bits, text formats should not show the digits that were
/// never there.
fn short(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}

/// The key of a recording without its ending.
#[must_use]
pub fn stem(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((stem, ending)) if !ending.contains('/') && !stem.is_empty() => stem,
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_32_bits_keeps_its_looks_and_its_value() {
        for value in [12.3_f32, 0.1, 1e-7, 1234.567] {
            assert_eq!(short(value) as f32, value);
            assert_eq!(short(value).to_string(), value.to_string());
        }
    }

    #[test]
    fn a_stem_keeps_dots_of_folders() {
        assert_eq!((stem("a.b/c.mp4"), stem("a.b/c"), stem("c.d.mkv")), ("a.b/c", "a.b/c", "c.d"));
    }
}
