//! The Common Data Format for football (Anzer et al., "Common Data Format (CDF)", arXiv:2505.15820, version 0.3.2):
//! tracking data as one JSON object a frame and line, and meta data of the match as one JSON object. Knows places on the
//! pitch only, in metres from the centre spot, of players by team, officials and the ball.
//!
//! What a person is called (`player_7`, `referee_3`) is the identity where it ends with a number of ours, and a name where
//! it does not. Frame ids are the frame numbers from 0.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    error::FormatError,
    sequence::{Attributes, Object, Sequence},
};

/// Identities that are named in other words than ours begin here.
const NAMED: i64 = 1 << 40;
/// Identity of the ball, which has no id in the format.
pub const BALL: i64 = 0;
/// The format's places end here, in metres from the centre spot.
const REACH: (f64, f64) = (65.0, 42.5);

/// What the format asks for besides the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    pub competition: String,
    pub season: String,
    pub id: String,
    /// First frame of each half or extra time, in order.
    pub periods: Vec<u32>,
}

/// Names of the format, in the order of play.
const PERIODS: [&str; 5] = ["first_half", "second_half", "first_half_extratime", "second_half_extratime", "shootout"];

#[derive(Debug, Serialize, Deserialize)]
struct Frame {
    frame_id: u32,
    timestamp: String,
    period: String,
    #[serde(rename = "match")]
    of: MatchId,
    teams: Teams,
    ball: Ball,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    officials: Vec<Person>,
}

#[derive(Debug, Serialize, Deserialize)]
struct MatchId {
    id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Teams {
    home: Team,
    away: Team,
}

#[derive(Debug, Serialize, Deserialize)]
struct Team {
    id: String,
    players: Vec<Person>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Person {
    id: String,
    x: Option<f64>,
    y: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    z: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Ball {
    x: Option<f64>,
    y: Option<f64>,
    z: Option<f64>,
    /// Not of the format for a ball, but allowed: its validator wants a place in every frame, seen or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    is_visible: Option<bool>,
}

/// Reads tracking data. Shirt numbers and who keeps goal are in the meta data, where it is given.
///
/// # Errors
/// With the line: JSON of another shape.
pub fn read(tracking: impl Read, meta: Option<&mut dyn Read>) -> Result<Sequence, FormatError> {
    let numbers = meta.map(numbers).transpose()?.unwrap_or_default();
    let mut sequence = Sequence::new();
    let mut names: BTreeMap<String, i64> = BTreeMap::new();
    for (line, text) in (1..).zip(BufReader::new(tracking).lines()) {
        let text = text.map_err(|source| FormatError::Read { line, source })?;
        if text.trim().is_empty() {
            continue;
        }
        let frame: Frame = serde_json::from_str(&text).map_err(|source| FormatError::JsonLine { line, source })?;
        let number = frame.frame_id.saturating_add(1);
        sequence.frames.entry(number).or_default();
        let Teams { home, away } = frame.teams;
        let people = [("home", home.players), ("away", away.players)]
            .into_iter()
            .flat_map(|(team, players)| players.into_iter().map(move |person| (Some(team), person)));
        for (team, person) in people.chain(frame.officials.into_iter().map(|person| (None, person))) {
            let (Some(x), Some(y)) = (person.x, person.y) else { continue };
            let (id, name) = identity(&person.id, &mut names);
            let role = match (team, person.id.split('_').next()) {
                (None, _) => "referee",
                (Some(_), Some("goalkeeper")) => "goalkeeper",
                (Some(_), _) => "player",
            };
            let attributes = Attributes {
                name,
                role: Some(role.into()),
                team: team.map(Arc::from),
                number: numbers.get(&person.id).copied(),
            };
            let attributes = Some(sequence.describe(attributes));
            sequence.push(number, placed(id, [x, y, person.z.unwrap_or(0.0)], attributes));
        }
        if let Ball { x: Some(x), y: Some(y), z, is_visible } = frame.ball
            && is_visible != Some(false)
        {
            let attributes = Some(sequence.describe(Attributes { role: Some("ball".into()), ..Attributes::default() }));
            sequence.push(number, placed(BALL, [x, y, z.unwrap_or(0.0)], attributes));
        }
    }
    Ok(sequence)
}

fn placed(id: i64, world: [f64; 3], attributes: Option<u32>) -> Object {
    Object {
        id: Some(id),
        bounds: None,
        score: 1.0,
        class: None,
        visibility: None,
        world: Some(world),
        attributes,
        extra: None,
    }
}

/// `player_7` is 7; anything else gets a number of its own, and keeps its name.
fn identity(text: &str, names: &mut BTreeMap<String, i64>) -> (i64, Option<Arc<str>>) {
    let ours = text.rsplit_once('_').filter(|(role, _)| ["player", "goalkeeper", "referee"].contains(role));
    if let Some(id) = ours.and_then(|(_, id)| id.parse::<u32>().ok()).filter(|id| *id > 0) {
        return (i64::from(id), None);
    }
    let next = NAMED + names.len() as i64;
    (*names.entry(text.to_owned()).or_insert(next), Some(text.into()))
}

fn numbers(meta: &mut dyn Read) -> Result<BTreeMap<String, u32>, FormatError> {
    let meta: Value = serde_json::from_reader(meta)?;
    let players = ["home", "away"].into_iter().filter_map(|team| meta["teams"][team]["players"].as_array());
    let number = |player: &Value| {
        let number = player["jersey_number"].as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0)?;
        Some((player["id"].as_str()?.to_owned(), number))
    };
    Ok(players.flatten().filter_map(number).collect())
}

/// What the format calls a person.
fn name(id: i64, known: &Attributes) -> String {
    match (&known.name, known.role.as_deref()) {
        (Some(name), _) => name.to_string(),
        (None, Some("goalkeeper")) => format!("goalkeeper_{id}"),
        (None, Some("referee" | "other")) => format!("referee_{id}"),
        (None, _) => format!("player_{id}"),
    }
}

/// Seconds after midnight of the first day of 1970: the recordings do not say when they were made.
fn timestamp(seconds: f64) -> String {
    let millis = (seconds.max(0.0) * 1000.0).round() as u64;
    let (s, day) = (millis / 1000 % 86_400, millis / 86_400_000 + 1);
    format!("1970-01-{day:02}T{:02}:{:02}:{:02}.{:03}Z", s / 3600, s / 60 % 60, s % 60, millis % 1000)
}

fn fps(sequence: &Sequence) -> f64 {
    if sequence.info.fps > 0.0 { sequence.info.fps } else { 25.0 }
}

/// What an export left out, since the format has no place for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// No place on the pitch, or one that is outside of the format's reach.
    pub placeless: usize,
    /// People of neither team, who are no officials either.
    pub teamless: usize,
}

/// Writes tracking data: every frame from the first to the last, people with a place on the pitch and a team (`home`,
/// `away`), officials, and the ball with the best score. Where no ball is known it stays where it was, marked as not
/// visible (at first: on the centre spot), and is not read back.
///
/// # Errors
/// When the writer fails.
pub fn write(sequence: &Sequence, of: &Match, mut output: impl Write) -> Result<Left, FormatError> {
    let mut left = Left::default();
    let mut ball_at = [0.0; 3];
    let first = sequence.frames.keys().next().copied().unwrap_or(1);
    let last = sequence.frames.keys().next_back().copied().unwrap_or(0);
    for number in first..=last {
        let mut frame = Frame {
            frame_id: number - 1,
            timestamp: timestamp(f64::from(number - 1) / fps(sequence)),
            period: period(of, number).to_owned(),
            of: MatchId { id: of.id.clone() },
            teams: Teams { home: team("home"), away: team("away") },
            ball: Ball { x: Some(ball_at[0]), y: Some(ball_at[1]), z: Some(ball_at[2]), is_visible: Some(false) },
            officials: Vec::new(),
        };
        let mut ball_score = f64::NEG_INFINITY;
        for object in sequence.frame(number) {
            let known = sequence.attributes_of(object).cloned().unwrap_or_default();
            let Some([x, y, z]) = object.world.filter(|[x, y, _]| x.abs() <= REACH.0 && y.abs() <= REACH.1) else {
                left.placeless += 1;
                continue;
            };
            if known.role.as_deref() == Some("ball") {
                if object.score > ball_score {
                    ball_score = object.score;
                    ball_at = [x, y, z];
                    frame.ball = Ball { x: Some(x), y: Some(y), z: Some(z), is_visible: None };
                }
                continue;
            }
            let id = name(object.id.unwrap_or(0), &known);
            let person = Person { id, x: Some(x), y: Some(y), z: (z != 0.0).then_some(z) };
            match (known.team.as_deref(), known.role.as_deref()) {
                (_, Some("referee")) => frame.officials.push(person),
                (Some("home"), _) => frame.teams.home.players.push(person),
                (Some("away"), _) => frame.teams.away.players.push(person),
                _ => left.teamless += 1,
            }
        }
        serde_json::to_writer(&mut output, &frame)?;
        output.write_all(b"\n")?;
    }
    output.flush()?;
    Ok(left)
}

fn team(id: &str) -> Team {
    Team { id: id.to_owned(), players: Vec::new() }
}

fn period(of: &Match, frame: u32) -> &'static str {
    let index = of.periods.iter().filter(|&&first| first <= frame).count().saturating_sub(1);
    PERIODS[index.min(PERIODS.len() - 1)]
}

/// Which way the home team plays from frame to frame: who stands further to the left on average defends the left goal.
fn play_direction(sequence: &Sequence, first: u32, last: u32) -> &'static str {
    let (mut sums, mut counts) = ([0.0; 2], [0.0_f64; 2]);
    for object in sequence.frames.range(first..=last).flat_map(|(_, objects)| objects) {
        let team = match sequence.attributes_of(object).and_then(|known| known.team.as_deref()) {
            Some("home") => 0,
            Some("away") => 1,
            _ => continue,
        };
        if let Some([x, ..]) = object.world {
            sums[team] += x;
            counts[team] += 1.0;
        }
    }
    let [home, away] = [0, 1].map(|team| sums[team] / counts[team].max(1.0));
    if home <= away { "left_right" } else { "right_left" }
}

/// Writes the meta data that the tracking data needs: match, periods, line-ups. A shirt number of 0 is an unknown one.
///
/// # Errors
/// When the writer fails.
pub fn write_meta(sequence: &Sequence, of: &Match, output: impl Write) -> Result<(), FormatError> {
    let mut people: BTreeMap<(i64, u32), &Attributes> = BTreeMap::new();
    for (_, object) in sequence.objects().filter(|(_, object)| object.world.is_some()) {
        if let (Some(id), Some(index), Some(known)) = (object.id, object.attributes, sequence.attributes_of(object)) {
            people.entry((id, index)).or_insert(known);
        }
    }
    let mut named: BTreeMap<String, Value> = BTreeMap::new();
    let mut officials: BTreeMap<String, Value> = BTreeMap::new();
    for ((id, _), known) in people {
        let name = name(id, known);
        match (known.team.as_deref(), known.role.as_deref()) {
            (_, Some("ball")) => {}
            (_, Some("referee")) => drop(officials.insert(name.clone(), json!({ "id": name }))),
            (Some(team @ ("home" | "away")), _) => {
                let number = known.number.unwrap_or(0);
                let player = json!({ "id": name, "team_id": team, "jersey_number": number, "is_starter": true });
                named.insert(name, player);
            }
            _ => {}
        }
    }
    let of_team = |team: &str| -> Vec<&Value> { named.values().filter(|player| player["team_id"] == team).collect() };
    let last = sequence.frames.keys().next_back().copied().unwrap_or(1);
    let time = |frame: u32| timestamp(f64::from(frame - 1) / fps(sequence));
    let periods: Vec<Value> = of
        .periods
        .iter()
        .enumerate()
        .map(|(index, &first)| {
            let end = of.periods.get(index + 1).map_or(last, |next| next - 1).max(first);
            let name = PERIODS[index.min(PERIODS.len() - 1)];
            json!({ "period": name, "play_direction": play_direction(sequence, first, end),
                "start_time": time(first), "end_time": time(end),
                "frame_id_start": first - 1, "frame_id_end": end - 1 })
        })
        .collect();
    let whistles: Vec<Value> = periods
        .iter()
        .flat_map(|period| {
            [("start", "start_time"), ("end", "end_time")]
                .map(|(kind, time)| json!({ "type": period["period"], "sub_type": kind, "time": period[time] }))
        })
        .collect();
    let meta = json!({
        "competition": { "id": of.competition },
        "season": { "id": of.season },
        "match": { "id": of.id, "kickoff_time": time(1), "periods": periods, "whistles": whistles },
        "teams": {
            "home": { "id": "home", "players": of_team("home") },
            "away": { "id": "away", "players": of_team("away") },
        },
        "venue": { "id": "unknown" },
        "officials": officials.values().collect::<Vec<_>>(),
        "meta": {
            "video": null, "event": null, "landmarks": null, "ball": null,
            "tracking": { "version": env!("CARGO_PKG_VERSION"), "name": "fulltime", "fps": fps(sequence).round() as u32,
                "collection_timing": "post_match" },
            "meta": { "version": env!("CARGO_PKG_VERSION"), "name": "fulltime" },
            "cdf": { "version": "0.3.2" },
        },
    });
    serde_json::to_writer_pretty(output, &meta)?;
    Ok(())
}
