//! Identity: which tracks are one person, over cuts, exits, replays, cameras and periods; his team, number and role.
//!
//! Runs once for a match, when all tracks are known. Pure: summaries of tracks in, people out; nothing here knows rows or
//! recordings. What is not sure is left open: a wrong name is worse than none. Called by `timeline`.

mod cluster;
mod kit;
mod look;
mod number;
mod squad;
mod teams;

use fulltime_common::{pipeline::Identify, squads::TeamSheet};

use crate::exact::chance;
pub use cluster::Span;
use cluster::{Cluster, adopt, agglomerate};
pub use kit::Kit;
pub use look::{Direction, Look};
pub use number::{Numbers, Prior};

/// What a person is in a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Player,
    Goalkeeper,
    Referee,
}

impl Role {
    /// As the tables have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Player => "player",
            Self::Goalkeeper => "goalkeeper",
            Self::Referee => "referee",
        }
    }
}

/// Where a track was at a moment that all tracks of its recording have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Number of the recording.
    pub stage: u32,
    pub frame: u32,
    /// Bottom centre of the box in pixels.
    pub x: f32,
    pub y: f32,
}

/// All that is known of a track when it has ended.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    pub span: Span,
    /// Detections.
    pub seen: u32,
    pub look: Look,
    pub kit: Kit,
    pub numbers: Numbers,
    pub places: Vec<Place>,
}

/// A person. Numbers beside values are the chance that the value is right.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Person {
    /// Indices of tracks, ascending.
    pub tracks: Vec<usize>,
    /// 0 is the team on the left in the first recording.
    pub team: Option<(usize, f64)>,
    pub number: Option<(u8, f64)>,
    pub role: Option<(Role, f64)>,
    /// List and line of the person's entry in the squad lists.
    pub entry: Option<(usize, usize)>,
}

/// The people of a match, in the order of their first appearance.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct People {
    pub people: Vec<Person>,
    /// The list that each team is on.
    pub sheets: [Option<usize>; 2],
}

/// Finds the people behind tracks. `chains`: tracks that are one by their motion alone, as indices; those in none stand for
/// themselves. Tracks that are too little known to be anybody are in no person, unless nothing was described at all: then
/// every chain is a person of whom nothing more is known.
#[must_use]
pub fn identify(tracks: &[Evidence], chains: &[Vec<usize>], sheets: &[TeamSheet], settings: &Identify) -> People {
    let described = tracks.iter().any(|track| pictures(&track.look, &track.kit) > 0);
    let clusters = adopt(agglomerate(of_chains(tracks, chains), settings), settings);
    let places: Vec<_> = tracks.iter().map(|track| track.places.clone()).collect();
    let mut people = clusters;
    let mut found = teams::teams(&people, &places, settings);

    let numbers: [Vec<&Numbers>; 2] = [0, 1].map(|team| {
        let of_team =
            |i: &usize| found.belongs[*i].team.is_some_and(|(t, sure)| t == team && sure >= settings.team_sure);
        (0..people.len()).filter(of_team).map(|i| &people[i].numbers).collect()
    });
    let on = squad::sheets_of_teams(sheets, &found.colours, &numbers, settings.team_sure);
    let priors: [Prior; 2] = on.map(|sheet| match sheet.map(|sheet| &sheets[sheet].players) {
        Some(players) if !players.is_empty() => {
            Prior::squad(&players.iter().map(|player| player.number).collect::<Vec<_>>())
        }
        _ => Prior::default(),
    });

    if join_by_number(&mut people, &found, &priors, settings) {
        found = teams::teams(&people, &places, settings);
    }
    let mut numbers = exclusive_numbers(&people, &found, &priors, settings);
    let known = |person: &Cluster| pictures(&person.look, &person.kit) >= settings.min_pictures;
    let mut result = People { people: Vec::new(), sheets: on };
    for (i, person) in people.iter().enumerate().filter(|(_, person)| !described || known(person)) {
        let belongs = found.belongs[i];
        let team = belongs.team.filter(|team| team.1 >= settings.team_sure);
        let mut role = belongs.role.filter(|role| role.1 >= settings.team_sure);
        let number = numbers[i].take();
        let entry = team.zip(number).and_then(|((team, _), (number, _))| {
            let sheet = on[team]?;
            Some((sheet, sheets[sheet].players.iter().position(|player| player.number == number)?))
        });
        // The list knows better what somebody is than his clothes do.
        if let Some((sheet, line)) = entry
            && let Some(listed) = sheets[sheet].players[line].role.as_deref()
        {
            let sure = number.map_or(0.0, |number| number.1);
            role =
                [Role::Player, Role::Goalkeeper].into_iter().find(|r| r.name() == listed).map(|r| (r, sure)).or(role);
        }
        result.people.push(Person { tracks: person.members.clone(), team, number, role, entry });
    }
    result
}

fn pictures(look: &Look, kit: &Kit) -> u32 {
    look.count.max(kit.count)
}

fn of_chains(tracks: &[Evidence], chains: &[Vec<usize>]) -> Vec<Cluster> {
    let mut chained = vec![false; tracks.len()];
    chains.iter().flatten().for_each(|&track| chained[track] = true);
    let alone = (0..tracks.len()).filter(|&track| !chained[track]).map(|track| vec![track]);
    let whole = |chain: Vec<usize>| {
        let mut whole = Cluster::default();
        chain.into_iter().for_each(|track| whole.join(&one(track, &tracks[track])));
        whole
    };
    chains.iter().filter(|chain| !chain.is_empty()).cloned().chain(alone).map(whole).collect()
}

fn one(at: usize, track: &Evidence) -> Cluster {
    let Evidence { span, seen, look, kit, numbers, .. } = track;
    Cluster {
        members: vec![at],
        spans: vec![*span],
        seen: *seen,
        look: look.clone(),
        kit: kit.clone(),
        numbers: numbers.clone(),
    }
}

/// The number of one person with a team, and how sure it is.
fn number_of(person: &Cluster, team: Option<(usize, f64)>, priors: &[Prior; 2]) -> (u8, f64) {
    let prior = team.map_or_else(Prior::default, |(team, _)| priors[team].clone());
    person.numbers.best(&prior)
}

/// Joins those of one team who wear one number, unless they are seen together or look too different: nobody else of the
/// team can have it. Says whether it joined any.
fn join_by_number(people: &mut Vec<Cluster>, found: &teams::Teams, priors: &[Prior; 2], settings: &Identify) -> bool {
    let mut wearers: Vec<(usize, u8, f64, usize)> = Vec::new();
    for (i, person) in people.iter().enumerate() {
        let team = found.belongs[i].team.filter(|team| team.1 >= settings.team_sure);
        let (number, sure) = number_of(person, team, priors);
        if let Some((team, _)) = team.filter(|_| sure >= settings.number_sure) {
            wearers.push((team, number, sure, i));
        }
    }
    wearers.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(b.2.total_cmp(&a.2)).then(a.3.cmp(&b.3)));
    let mut gone = vec![false; people.len()];
    for same in wearers.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        for (at, &(.., i)) in same.iter().enumerate() {
            for &(.., j) in &same[at + 1..] {
                let apart = people[i].look.direction().cosine(&people[j].look.direction());
                let alike = apart.is_none_or(|cosine| cosine >= settings.look_number);
                if !gone[i] && !gone[j] && alike && !people[i].overlaps(&people[j]) {
                    let other = std::mem::take(&mut people[j]);
                    people[i].join(&other);
                    gone[j] = true;
                }
            }
        }
    }
    let any = gone.contains(&true);
    let mut gone = gone.into_iter();
    people.retain(|_| !gone.next().unwrap_or(false));
    people.sort_by(|a, b| (a.spans.first(), a.members.first()).cmp(&(b.spans.first(), b.members.first())));
    any
}

/// Everybody's number where it is sure enough. Within a team each number is given once, to whom it was read of most surely.
/// Referees have none, and who wears one without a team has it for himself.
fn exclusive_numbers(
    people: &[Cluster],
    found: &teams::Teams,
    priors: &[Prior; 2],
    settings: &Identify,
) -> Vec<Option<(u8, f64)>> {
    let mut claims: Vec<(f64, usize, u8, f64)> = Vec::new();
    for (i, person) in people.iter().enumerate() {
        let belongs = found.belongs[i];
        let (number, sure) = number_of(person, belongs.team, priors);
        let referee = belongs.role.is_some_and(|(role, sure)| role == Role::Referee && sure >= settings.team_sure);
        if sure >= settings.number_sure && !referee {
            claims.push((person.numbers.for_some(), i, number, sure));
        }
    }
    claims.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut given: Vec<(usize, u8)> = Vec::new();
    let mut numbers = vec![None; people.len()];
    for (_, i, number, sure) in claims {
        let team = found.belongs[i].team.filter(|team| team.1 >= 0.5).map(|team| team.0);
        match team {
            Some(team) if given.contains(&(team, number)) => {}
            _ => {
                numbers[i] = Some((number, sure));
                given.extend(team.map(|team| (team, number)));
            }
        }
    }
    numbers
}

/// How much more likely two groups of tracks show one person than two: the logarithm, 0 where nothing is known. For the
/// tracker's links, which know motion alone.
#[must_use]
pub fn gain(earlier: &[&Evidence], later: &[&Evidence], settings: &Identify) -> f64 {
    let whole = |tracks: &[&Evidence]| {
        let mut whole = Cluster::default();
        tracks.iter().for_each(|track| whole.join(&one(0, track)));
        whole
    };
    cluster::gain(&whole(earlier), &whole(later), settings)
}

/// The number that one track's own pictures show, where they show one, and how sure that is.
#[must_use]
pub fn read_number(numbers: &Numbers) -> Option<(u8, f64)> {
    let best = numbers.best(&Prior::default());
    (numbers.asked > 0 && best.1 >= 0.5 && chance(numbers.for_some()) >= 0.5).then_some(best)
}
