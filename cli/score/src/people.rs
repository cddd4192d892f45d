//! How right the answers about people are: shirt number, team and role of every track, and whether an identity outlasts a
//! cut to another view. "Unknown" is counted apart from "wrong": it is an answer, too.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    assignment::cheapest,
    comparison::by_box,
    sequence::{Attributes, Sequence},
};

/// Overlap from which a found box shows a true person.
const THRESHOLD: f64 = 0.5;

/// Answers to one question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    pub right: u64,
    pub wrong: u64,
    pub unknown: u64,
}

impl Answers {
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.right + self.wrong + self.unknown
    }

    /// Share of all, 0 to 1; `None` where nothing was asked.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        (self.asked() > 0).then(|| self.right as f64 / self.asked() as f64)
    }

    /// Share of wrong answers, 0 to 1.
    #[must_use]
    pub fn error(&self) -> Option<f64> {
        (self.asked() > 0).then(|| self.wrong as f64 / self.asked() as f64)
    }

    pub fn add(&mut self, other: &Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.unknown += other.unknown;
    }

    fn take<T: PartialEq>(&mut self, truth: Option<&T>, found: Option<&T>) {
        match (truth, found) {
            (None, None) => {}
            (Some(_), None) => self.unknown += 1,
            (truth, found) if truth == found => self.right += 1,
            _ => self.wrong += 1,
        }
    }
}

/// A true and a found team, or none.
type Teams = (Option<Arc<str>>, Option<Arc<str>>);

/// What a person is found as in a shot, and in how many frames.
type Shot = BTreeMap<Option<i64>, u32>;

/// One match. Recordings of one match are counted into one; several matches are added up by their [`Figures`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People {
    number: Answers,
    role: Answers,
    /// True team (or none) and found team (or none) of every track. Teams may be called otherwise than in the truth.
    teams: BTreeMap<Teams, u64>,
    tracks: u64,
    nobody: u64,
    lasting: Answers,
}

/// What came of a match, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Tracks long enough to be asked about, and those that show nobody in particular.
    pub tracks: u64,
    pub nobody: u64,
    pub number: Answers,
    pub team: Answers,
    pub role: Answers,
    /// True people seen before and after a cut: found as the same one, as another, or (unknown) without identity.
    pub lasting: Answers,
}

impl Figures {
    pub fn add(&mut self, other: &Self) {
        self.tracks += other.tracks;
        self.nobody += other.nobody;
        for (answers, others) in [
            (&mut self.number, &other.number),
            (&mut self.team, &other.team),
            (&mut self.role, &other.role),
            (&mut self.lasting, &other.lasting),
        ] {
            answers.add(others);
        }
    }
}

impl People {
    /// Takes the tracks of a recording in. Asked about are those that span at least `least` frames, of people: each is
    /// compared with the true person whom it shows in most of its frames.
    pub fn take_tracks(&mut self, truth: &Sequence, tracks: &Sequence, least: u32) {
        #[derive(Default)]
        struct Track {
            first: u32,
            last: u32,
            attributes: Option<u32>,
            shows: BTreeMap<i64, u32>,
        }
        let known: BTreeMap<i64, Attributes> = truth
            .objects()
            .filter_map(|(_, object)| Some((object.id?, truth.attributes_of(object)?.clone())))
            .collect();
        let mut all: BTreeMap<i64, Track> = BTreeMap::new();
        for (&frame, objects) in &tracks.frames {
            for (index, person) in shown(truth, tracks, frame).into_iter().enumerate() {
                let Some(id) = objects[index].id else { continue };
                let track = all.entry(id).or_insert_with(|| Track { first: frame, ..Track::default() });
                track.last = frame;
                track.attributes = objects[index].attributes;
                if let Some(person) = person {
                    *track.shows.entry(person).or_default() += 1;
                }
            }
        }
        for track in all.into_values().filter(|track| track.last - track.first + 1 >= least) {
            let found = track.attributes.and_then(|index| tracks.attributes_at(index)).cloned().unwrap_or_default();
            let most = track.shows.iter().max_by_key(|&(id, frames)| (*frames, std::cmp::Reverse(*id)));
            let person = most.and_then(|(id, _)| known.get(id));
            let is_ball = |of: &Attributes| of.role.as_deref() == Some("ball");
            if is_ball(&found) || person.is_some_and(is_ball) {
                continue;
            }
            self.tracks += 1;
            let Some(person) = person else {
                self.nobody += 1;
                continue;
            };
            self.number.take(person.number.as_ref(), found.number.as_ref());
            self.role.take(person.role.as_ref(), found.role.as_ref());
            *self.teams.entry((person.team.clone(), found.team)).or_default() += 1;
        }
    }

    /// Takes in how identities outlast the cuts of a recording: a person who is followed on both sides of one or more cuts is
    /// a case, decided by the identity that is found for him most on either side. Detections that nobody follows are
    /// candidates, however weak; they make no case.
    pub fn take_cuts(&mut self, truth: &Sequence, found: &Sequence) {
        // By person and shot: what he is found as, and how often.
        let mut cases: BTreeMap<i64, BTreeMap<usize, Shot>> = BTreeMap::new();
        for (&frame, objects) in &found.frames {
            let shot = truth.cuts.partition_point(|cut| *cut <= frame);
            for (object, person) in objects.iter().zip(shown(truth, found, frame)) {
                if let Some(person) = person.filter(|_| object.id.is_some()) {
                    let shots = cases.entry(person).or_default();
                    *shots.entry(shot).or_default().entry(object.id).or_default() += 1;
                }
            }
        }
        for shots in cases.into_values() {
            let found: Vec<Option<i64>> = shots
                .into_values()
                .filter_map(|ids| ids.into_iter().max_by_key(|&(id, frames)| (frames, std::cmp::Reverse(id))))
                .map(|(id, _)| id)
                .collect();
            for pair in found.windows(2) {
                match (pair[0], pair[1]) {
                    (Some(before), Some(after)) if before == after => self.lasting.right += 1,
                    (Some(_), Some(_)) => self.lasting.wrong += 1,
                    _ => self.lasting.unknown += 1,
                }
            }
        }
    }

    /// The true team that each found one stands for: those names that make most answers right.
    #[must_use]
    pub fn team_names(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let names = |of: fn(&Teams) -> &Option<Arc<str>>| {
            let mut names: Vec<Arc<str>> = self.teams.keys().filter_map(|key| of(key).clone()).collect();
            names.sort();
            names.dedup();
            names
        };
        let (truth, found) = (names(|key| &key.0), names(|key| &key.1));
        let common = |a: &Arc<str>, b: &Arc<str>| {
            let key = (Some(Arc::clone(a)), Some(Arc::clone(b)));
            self.teams.get(&key).copied().unwrap_or(0) as f64
        };
        let pairs = cheapest(truth.len(), found.len(), |row, column| -common(&truth[row], &found[column]));
        pairs.into_iter().map(|(row, column)| (Arc::clone(&found[column]), Arc::clone(&truth[row]))).collect()
    }

    #[must_use]
    pub fn figures(&self) -> Figures {
        let names = self.team_names();
        let mut team = Answers::default();
        for ((truth, found), &tracks) in &self.teams {
            let mut once = Answers::default();
            let found = found.as_ref().map(|found| names.get(found).unwrap_or(found));
            once.take(truth.as_ref(), found);
            team.add(&Answers {
                right: once.right * tracks,
                wrong: once.wrong * tracks,
                unknown: once.unknown * tracks,
            });
        }
        let &Self { number, role, tracks, nobody, lasting, .. } = self;
        Figures { tracks, nobody, number, team, role, lasting }
    }
}

/// The true person whom each found object of a frame shows: who overlaps it most, each once. Objects without identity are
/// detections that the tracker did not follow; they come after those with one.
fn shown(truth: &Sequence, found: &Sequence, frame: u32) -> Vec<Option<i64>> {
    let (truth, found) = (truth.frame(frame), found.frame(frame));
    let mut pairs: Vec<(bool, f64, usize, usize)> = Vec::new();
    for (column, b) in found.iter().enumerate() {
        for (row, a) in truth.iter().enumerate() {
            let overlap = by_box(a, b);
            if overlap >= THRESHOLD && a.id.is_some() {
                pairs.push((b.id.is_none(), overlap, row, column));
            }
        }
    }
    pairs.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then((a.2, a.3).cmp(&(b.2, b.3))));
    let mut taken = vec![false; truth.len()];
    let mut shown = vec![None; found.len()];
    for (_, _, row, column) in pairs {
        if !taken[row] && shown[column].is_none() {
            taken[row] = true;
            shown[column] = truth[row].id;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Object, Rect};

    fn object(sequence: &mut Sequence, id: i64, x: f64, team: Option<&str>, number: Option<u32>) -> Object {
        let attributes = Attributes { name: None, role: Some("player".into()), team: team.map(Arc::from), number };
        let attributes = Some(sequence.describe(attributes));
        Object { attributes, ..Object::new(Some(id), Rect { x, y: 0.0, w: 10.0, h: 20.0 }, 1.0) }
    }

    /// Two people for ten frames, a cut before frame 6.
    fn truth() -> Sequence {
        let mut truth = Sequence::new();
        for frame in 1..=10 {
            for (id, x, team, number) in [(1, 0.0, "home", 7), (2, 100.0, "away", 9)] {
                let object = object(&mut truth, id, x, Some(team), Some(number));
                truth.push(frame, object);
            }
        }
        truth.cuts = vec![6];
        truth
    }

    #[test]
    fn unknown_is_not_wrong_and_teams_may_have_other_names() {
        let mut found = Sequence::new();
        for frame in 1..=10 {
            let a = object(&mut found, 1, 1.0, Some("B"), Some(7));
            let b = object(&mut found, 2, 101.0, Some("A"), None);
            found.push(frame, a);
            found.push(frame, b);
        }
        let mut people = People::default();
        people.take_tracks(&truth(), &found, 5);
        people.take_cuts(&truth(), &found);
        let figures = people.figures();
        assert_eq!((figures.tracks, figures.nobody), (2, 0));
        assert_eq!(figures.number, Answers { right: 1, wrong: 0, unknown: 1 });
        assert_eq!(figures.team, Answers { right: 2, wrong: 0, unknown: 0 });
        assert_eq!(figures.lasting, Answers { right: 2, wrong: 0, unknown: 0 });
        assert_eq!(&*people.team_names()["A"], "away");
    }

    #[test]
    fn who_is_followed_comes_before_a_better_box_that_nobody_follows() {
        let mut found = Sequence::new();
        for frame in 1..=10 {
            let person = object(&mut found, 1, 1.0, None, None);
            found.push(frame, person);
            found.push(frame, Object::new(None, Rect { x: 0.0, y: 0.0, w: 10.0, h: 20.0 }, 0.2));
        }
        let mut people = People::default();
        people.take_cuts(&truth(), &found);
        assert_eq!(people.figures().lasting, Answers { right: 1, wrong: 0, unknown: 0 });
    }

    #[test]
    fn another_identity_after_the_cut_is_one_that_did_not_last() {
        let mut found = Sequence::new();
        for frame in 1..=10 {
            let id = if frame < 6 { 1 } else { 3 };
            let object = object(&mut found, id, 0.0, None, Some(8));
            found.push(frame, object);
        }
        let mut people = People::default();
        people.take_tracks(&truth(), &found, 5);
        people.take_cuts(&truth(), &found);
        let figures = people.figures();
        assert_eq!(figures.lasting, Answers { right: 0, wrong: 1, unknown: 0 });
        assert_eq!((figures.number.wrong, figures.team.unknown), (2, 2));
        assert_eq!(figures.number.accuracy(), Some(0.0));
    }
}
