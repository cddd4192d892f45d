//! Which team people play for, and who are goalkeepers and referees.
//!
//! The two kits that are seen most are the teams'. Among the others, goalkeepers have numbers and come one at a time,
//! referees have none and are several. A goalkeeper's kit does not say whose he is, but the end of the pitch that he stands
//! at does: on average the players of a team are nearer to their own goal than their opponents are.

use fulltime_common::pipeline::Identify;

use super::{
    Place, Role,
    cluster::Cluster,
    kit::{self, Colours, Group, Kit},
    number::{Numbers, Prior},
};
use crate::exact::chance;

/// What a difference of distances to two kits says: log-odds for each unit.
const KIT_SLOPE: f64 = 25.0;
/// Pictures after which a kit's evidence is worth half of what many would be.
const FEW: f64 = 3.0;
/// What the number, company and place of somebody in a third kit say of his role at most, in log-odds.
const NUMBER_MOST: f64 = 8.0;
const COMPANY: f64 = 5.0;
const ALONE: f64 = 0.5;
const SIDE: f64 = 3.0;
/// Moments after which the place is worth half of what many would be, and what it can say of a goalkeeper's team at most.
const MOMENTS: f64 = 5.0;
const PLACE_MOST: f64 = 7.0;
/// Somebody whose number was looked for in so many pictures and hardly read has none: log-odds a picture, and at most.
const SILENCE: f64 = 0.2;
const SILENCE_MOST: f64 = 4.0;
/// Players of a team on the pitch.
const TEAM: usize = 11;
/// Those who wear one kit are two teams if there are more than a team at once in such a share of moments, or if so many pairs
/// of them are on the pitch at a time with one number, each of which is as sure as that.
const CROWDED: f64 = 0.02;
const NAMESAKES: usize = 2;
const NAMESAKE_SURE: f64 = 0.98;
/// Then kits that are less different tell teams apart: by steps, down to a least difference.
const CLOSER: f64 = 0.85;
const LEAST_APART: f64 = 0.12;
/// Two teams' mean places are apart for sure when they differ by so much of how far players spread.
const APART: f64 = 0.2;

/// Where somebody belongs. Chances are of what is said being right.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Belongs {
    /// 0 is the team on the left in the first recording.
    pub team: Option<(usize, f64)>,
    pub role: Option<(Role, f64)>,
}

/// Both teams' colours, and where everybody belongs.
#[derive(Debug)]
pub struct Teams {
    pub colours: Vec<Colours>,
    pub belongs: Vec<Belongs>,
}

/// Sorts people by their kits. `places` of a track: where it was at moments that all tracks of a recording have in common.
#[must_use]
pub fn teams(people: &[Cluster], places: &[Vec<Place>], settings: &Identify) -> Teams {
    let kits: Vec<Kit> = people.iter().map(|person| person.kit.clone()).collect();
    let moments = Moments::new(people, places);
    let mut apart = settings.kit_apart;
    let mut groups = kit::group(&kits, apart);
    // Where the teams' kits are alike, one group is both of them: then a smaller difference must do.
    while apart * CLOSER > LEAST_APART && groups.iter().any(|group| moments.is_two_teams(people, group)) {
        apart *= CLOSER;
        groups = kit::group(&kits, apart);
    }
    let seen = |group: &Group| group.wearers.iter().map(|&i| u64::from(people[i].seen)).sum::<u64>();
    groups.sort_by_key(|group| (std::cmp::Reverse(seen(group)), group.wearers.first().copied()));
    if apart < settings.kit_apart {
        // What tells the teams apart does not make strangers of those who would have been with them.
        absorb(&mut groups, settings.kit_apart);
    }

    let mut side_of = vec![None; people.len()];
    for (team, group) in groups.iter().take(2).enumerate() {
        group.wearers.iter().for_each(|&i| side_of[i] = Some(team));
    }
    let stages = moments.left_to_right(&side_of);
    if stages.iter().find(|lead| **lead != 0.0).is_some_and(|lead| *lead > 0.0) && groups.len() > 1 {
        groups.swap(0, 1);
        side_of.iter_mut().flatten().for_each(|team| *team = 1 - *team);
    }
    let stages = moments.left_to_right(&side_of);

    // Of the third kits: how surely they have numbers, whether two who wear it are seen at once.
    let others: Vec<(f64, bool)> =
        groups.iter().skip(2).map(|group| (numbered(people, group), moments.together(group))).collect();
    // Several with numbers are a team in another light.
    let is_light = |&(numbered, together): &(f64, bool)| together && numbered > NUMBER_MOST / 2.0;

    let mut belongs = vec![Belongs::default(); people.len()];
    for (team, group) in groups.iter().take(2).enumerate() {
        for &i in &group.wearers {
            let (colours, few) = (kits[i].colours(), f64::from(kits[i].count));
            let own = group.colours.distance(&colours);
            let to = |others: &mut dyn Iterator<Item = &Group>| {
                others.map(|other| other.colours.distance(&colours)).fold(f64::INFINITY, f64::min).min(2.0)
            };
            let sure = |other: f64| chance((other - own) * KIT_SLOPE * few / (few + FEW));
            belongs[i].team = Some((team, sure(to(&mut groups.iter().take(2).skip(1 - team).take(1)))));
            let strangers = groups.iter().skip(2).zip(&others).filter(|(_, other)| !is_light(other));
            belongs[i].role = Some((Role::Player, sure(to(&mut strangers.map(|(group, _)| group)))));
        }
    }

    let mut keepers: Vec<(usize, f64)> = Vec::new();
    for ((at, group), &(numbered, together)) in groups.iter().enumerate().skip(2).zip(&others) {
        if is_light(&(numbered, together)) {
            // Whose, the likeness may say.
            for &i in &group.wearers {
                let [first, second] = [0, 1].map(|team| groups[team].colours.distance(&kits[i].colours()));
                let sure = chance((first - second).abs() * KIT_SLOPE / 2.0);
                belongs[i].team = Some((usize::from(second < first), sure));
                belongs[i].role = Some((Role::Player, chance(numbered - NUMBER_MOST / 2.0)));
            }
            continue;
        }
        let company = if together { -COMPANY } else { ALONE };
        let odds = numbered.clamp(-NUMBER_MOST, NUMBER_MOST) + company + moments.place_odds(group, stages.len());
        let (role, sure) = if odds > 0.0 { (Role::Goalkeeper, chance(odds)) } else { (Role::Referee, chance(-odds)) };
        group.wearers.iter().for_each(|&i| belongs[i].role = Some((role, sure)));
        if role == Role::Goalkeeper {
            keepers.push((at, moments.team_odds(group, &stages)));
        }
    }
    // Two goalkeepers are of two teams: what speaks for the one speaks against the other.
    if let [(_, first), (_, second)] = &mut keepers[..] {
        (*first, *second) = (*first - *second, *second - *first);
    }
    for (at, odds) in keepers {
        let (team, sure) = (usize::from(odds < 0.0), chance(odds.abs()));
        groups[at].wearers.iter().for_each(|&i| belongs[i].team = Some((team, sure)));
    }
    Teams { colours: groups.iter().take(2).map(|group| group.colours).collect(), belongs }
}

/// Gives those of other groups that are less than `apart` from a team, the first two groups, to the nearer one.
fn absorb(groups: &mut Vec<Group>, apart: f64) {
    let count = groups.len().min(2);
    let (teams, others) = groups.split_at_mut(count);
    for other in others {
        if let Some((at, _)) = kit::nearest(teams, &other.colours).filter(|(_, distance)| *distance < apart) {
            teams[at].wearers.append(&mut other.wearers);
            teams[at].wearers.sort_unstable();
        }
    }
    groups.retain(|group| !group.wearers.is_empty());
}

/// Who was where at the moments that tracks have in common, in the order of recording and time.
struct Moments(Vec<Moment>);

struct Moment {
    stage: u32,
    /// Who, and how far to the right.
    people: Vec<(usize, f64)>,
}

impl Moments {
    fn new(people: &[Cluster], places: &[Vec<Place>]) -> Self {
        let mut all: Vec<(u32, u32, usize, f64)> = Vec::new();
        for (who, person) in people.iter().enumerate() {
            for &track in &person.members {
                all.extend(places[track].iter().map(|p| (p.stage, p.frame, who, f64::from(p.x))));
            }
        }
        all.sort_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)).then(a.3.total_cmp(&b.3)));
        let moments = all.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1));
        Self(
            moments
                .map(|m| Moment { stage: m[0].0, people: m.iter().map(|&(_, _, who, x)| (who, x)).collect() })
                .collect(),
        )
    }

    /// For each recording, how surely the first team is on the right (1) or on the left (-1) of the second.
    fn left_to_right(&self, team_of: &[Option<usize>]) -> Vec<f64> {
        let stages = self.0.last().map_or(0, |moment| moment.stage as usize + 1);
        let (mut lead, mut spread) = (vec![0.0; stages], vec![0.0; stages]);
        for moment in &self.0 {
            let of = |team: usize| mean(moment.people.iter().filter(|p| team_of[p.0] == Some(team)).map(|p| p.1));
            let (Some((first, _)), Some((second, _))) = (of(0), of(1)) else { continue };
            let middle = mean(moment.people.iter().map(|p| p.1)).map_or(0.0, |m| m.0);
            lead[moment.stage as usize] += first - second;
            spread[moment.stage as usize] +=
                mean(moment.people.iter().map(|p| (p.1 - middle).abs())).map_or(0.0, |m| m.0);
        }
        let sure =
            |(lead, spread): (f64, f64)| if spread > 0.0 { (lead / (spread * APART)).clamp(-1.0, 1.0) } else { 0.0 };
        lead.into_iter().zip(spread).map(sure).collect()
    }

    /// Whether those who wear this kit must be two teams.
    fn is_two_teams(&self, people: &[Cluster], group: &Group) -> bool {
        let at_once = |m: &&Moment| m.people.iter().filter(|p| group.wearers.contains(&p.0)).count() > TEAM;
        if self.0.iter().filter(at_once).count() as f64 > CROWDED * self.0.len() as f64 {
            return true;
        }
        let numbered: Vec<(u8, &Cluster)> = group
            .wearers
            .iter()
            .map(|&i| (people[i].numbers.best(&Prior::default()), &people[i]))
            .filter_map(|((number, sure), person)| (sure > NAMESAKE_SURE).then_some((number, person)))
            .collect();
        let pairs = numbered.iter().enumerate().flat_map(|(at, a)| numbered[at + 1..].iter().map(move |b| (a, b)));
        pairs.filter(|(a, b)| a.0 == b.0 && a.1.overlaps(b.1)).count() >= NAMESAKES
    }

    /// Whether two who wear this kit are seen at one moment.
    fn together(&self, group: &Group) -> bool {
        self.0.iter().any(|m| m.people.iter().filter(|p| group.wearers.contains(&p.0)).count() > 1)
    }

    /// What the place says for a goalkeeper, who stays on one side of the others; a referee is in the middle of them.
    fn place_odds(&self, group: &Group, stages: usize) -> f64 {
        let (mut sides, mut moments) = (vec![0.0; stages], 0.0);
        for (stage, side) in self.sides(group) {
            sides[stage] += side;
            moments += 1.0;
        }
        let constant = sides.iter().map(|side: &f64| side.abs()).sum::<f64>() / f64::max(moments, 1.0);
        SIDE * (constant - 0.7) * moments / (moments + MOMENTS)
    }

    /// Log-odds of a goalkeeper's playing for the first team.
    fn team_odds(&self, group: &Group, stages: &[f64]) -> f64 {
        let (mut sum, mut moments) = (0.0, 0.0);
        for (stage, side) in self.sides(group) {
            sum += side * stages[stage];
            moments += 1.0;
        }
        PLACE_MOST * sum / (moments + MOMENTS)
    }

    /// Recording, and whether the wearer of this kit is to the right (1) or to the left (-1) of the others, in every moment
    /// with others in it.
    fn sides<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = (usize, f64)> + 'a {
        self.0.iter().filter_map(|moment| {
            let (own, others): (Vec<&(usize, f64)>, Vec<&(usize, f64)>) =
                moment.people.iter().partition(|p| group.wearers.contains(&p.0));
            let (own, _) = mean(own.iter().map(|p| p.1))?;
            let (others, count) = mean(others.iter().map(|p| p.1))?;
            (count > 1).then(|| (moment.stage as usize, if own > others { 1.0 } else { -1.0 }))
        })
    }
}

/// How much more likely it is that those who wear this kit have numbers than that they have none: the logarithm.
fn numbered(people: &[Cluster], group: &Group) -> f64 {
    let all = || group.wearers.iter().map(|&i| &people[i].numbers);
    let asked = f64::from(all().map(|numbers| numbers.asked).sum::<u32>());
    all().map(Numbers::for_some).sum::<f64>() - (asked * SILENCE).min(SILENCE_MOST)
}

fn mean(numbers: impl Iterator<Item = f64>) -> Option<(f64, usize)> {
    let (mut sum, mut count) = (0.0, 0);
    for number in numbers {
        sum += number;
        count += 1;
    }
    (count > 0).then(|| (sum / count as f64, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::cluster::Span;

    fn person(at: usize, colour: usize, number: Option<u8>) -> Cluster {
        let mut descriptor = [0; kit::LENGTH];
        (descriptor[colour], descriptor[12 + colour]) = (255, 255);
        let mut person = Cluster { members: vec![at], seen: 500, ..Cluster::default() };
        person.spans.push(Span { stage: 0, first: 0, last: 500 });
        for _ in 0..20 {
            person.kit.add(&descriptor);
            person.numbers.add(&number.map_or(vec![100, 255], |number| vec![number, 250]), 0.35);
        }
        person
    }

    fn standing(x: f32) -> Vec<Place> {
        (0..20).map(|i| Place { stage: 0, frame: i * 25, x, y: 0.0 }).collect()
    }

    #[test]
    fn kits_numbers_and_places_tell_teams_and_roles() {
        // Away (colour 4) defends the left end; its goalkeeper stands there in pink, the referee is in the middle in black.
        let people: Vec<_> =
            [(0, Some(5)), (0, Some(6)), (0, Some(7)), (4, Some(5)), (4, Some(9)), (4, None), (6, Some(1)), (8, None)]
                .into_iter()
                .enumerate()
                .map(|(at, (colour, number))| person(at, colour, number))
                .collect();
        let places: Vec<_> = [700.0, 600.0, 500.0, 300.0, 400.0, 550.0, 100.0, 450.0].map(standing).into();
        let teams = teams(&people, &places, &Identify::default());
        let team: Vec<_> = teams.belongs.iter().map(|b| b.team.map(|t| t.0)).collect();
        assert_eq!(team, [Some(1), Some(1), Some(1), Some(0), Some(0), Some(0), Some(0), None]);
        let roles: Vec<_> = teams.belongs.iter().map(|b| b.role.map(|r| r.0)).collect();
        assert!(roles[..6].iter().all(|role| *role == Some(Role::Player)));
        assert_eq!(roles[6..], [Some(Role::Goalkeeper), Some(Role::Referee)]);
        assert!(teams.belongs.iter().all(|b| b.role.is_some_and(|r| r.1 > 0.9) && b.team.is_none_or(|t| t.1 > 0.9)));
    }

    #[test]
    fn kits_that_are_alike_are_two_where_one_would_have_too_many_players() {
        // One half of the torso is the same, and all of the legs: they differ by a quarter.
        let player = |at: usize, colour: usize, number: Option<u8>| {
            let mut descriptor = [0; kit::LENGTH];
            (descriptor[0], descriptor[colour], descriptor[12]) = (190, 65, 255);
            let mut person = person(at, 0, number);
            person.kit = kit::Kit::default();
            (0..20).for_each(|_| person.kit.add(&descriptor));
            person
        };
        let sides = |people: &[Cluster]| {
            let places: Vec<_> = (0..people.len()).map(|at| standing(100.0 + 30.0 * at as f32)).collect();
            let found = teams(people, &places, &Identify::default());
            found.belongs.iter().map(|b| b.team.map(|t| t.0)).collect::<Vec<_>>()
        };
        let half = |of: usize, one: usize| (0..of).map(|at| Some(usize::from(at >= one))).collect::<Vec<_>>();
        // Sixteen at a time, nobody with a number.
        let many: Vec<_> = (0..16).map(|at| player(at, if at < 8 { 4 } else { 6 }, None)).collect();
        assert_eq!(sides(&many), half(16, 8));
        // Or three and three, with the same numbers.
        let few: Vec<_> = (0..6).map(|at| player(at, if at < 3 { 4 } else { 6 }, Some(5 + at as u8 % 3))).collect();
        assert_eq!(sides(&few), half(6, 3));
        // Without either reason they are one.
        let one: Vec<_> = (0..6).map(|at| player(at, if at < 3 { 4 } else { 6 }, Some(5 + at as u8))).collect();
        assert_eq!(sides(&one), half(6, 6));
    }

    #[test]
    fn nobody_described_is_nobody_of_a_team() {
        let people = [Cluster { members: vec![0], ..Cluster::default() }];
        let teams = teams(&people, &[standing(3.0)], &Identify::default());
        assert_eq!(teams.belongs, [Belongs::default()]);
    }
}
