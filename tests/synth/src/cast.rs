//! Who is on the pitch: the people of a match with their kits, shirt numbers and looks, all drawn from the seed.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// Colour as 8-bit sRGB; the renderer converts it once to the video's YUV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl Rgb {
    /// Limited-range BT.709.
    #[must_use]
    pub fn to_yuv(self) -> [u8; 3] {
        rgb_to_yuv([f32::from(self.0) / 255.0, f32::from(self.1) / 255.0, f32::from(self.2) / 255.0])
    }

    #[must_use]
    pub fn mixed(self, other: Self, part: f32) -> Self {
        let mix = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * part) as u8;
        Self(mix(self.0, other.0), mix(self.1, other.1), mix(self.2, other.2))
    }

    fn luma(self) -> i32 {
        (54 * i32::from(self.0) + 183 * i32::from(self.1) + 19 * i32::from(self.2)) / 256
    }

    /// Distance as the eye sees it, roughly: red-mean weighted RGB.
    fn distance(self, other: Self) -> f32 {
        let [dr, dg, db] =
            [(self.0, other.0), (self.1, other.1), (self.2, other.2)].map(|(a, b)| f32::from(a) - f32::from(b));
        let red = (f32::from(self.0) + f32::from(other.0)) / 512.0;
        ((2.0 + red) * dr * dr + 4.0 * dg * dg + (3.0 - red) * db * db).sqrt()
    }
}

/// Limited-range BT.709 (ITU-R BT.709-6) of a colour in 0..=1.
#[must_use]
pub fn rgb_to_yuv([r, g, b]: [f32; 3]) -> [u8; 3] {
    let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let (u, v) = ((b - y) / 1.8556, (r - y) / 1.5748);
    [16.0 + 219.0 * y, 128.0 + 224.0 * u, 128.0 + 224.0 * v].map(|c| (c + 0.5) as u8)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Player,
    Goalkeeper,
    Referee,
    Ball,
}

impl Role {
    /// Class in the MOT text.
    #[must_use]
    pub fn class(self) -> u8 {
        match self {
            Self::Player => 1,
            Self::Goalkeeper => 2,
            Self::Referee => 3,
            Self::Ball => 4,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Team {
    Home,
    Away,
}

/// What somebody wears. `trim` colours the sleeves and, when `striped`, every other stripe of the shirt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kit {
    pub shirt: Rgb,
    pub trim: Rgb,
    pub striped: bool,
    pub shorts: Rgb,
    pub socks: Rgb,
    pub number: Rgb,
}

/// One person, the same for the whole match.
#[derive(Debug, Clone)]
pub struct Member {
    /// 1 to 11 home, 12 to 22 away, 23 the referee, 24 and 25 his assistants; [`BALL_ID`] is the ball.
    pub id: u8,
    pub team: Option<Team>,
    pub role: Role,
    /// On the back, and smaller on the chest.
    pub number: Option<u8>,
    pub kit: Kit,
    /// Metres.
    pub height: f32,
    pub skin: Rgb,
    pub hair: Rgb,
    pub boots: Rgb,
}

pub const BALL_ID: u8 = 26;
/// Index of the referee among the members; his assistants follow.
pub const REFEREE: usize = 22;

#[derive(Debug, Clone)]
pub struct Cast {
    pub members: Vec<Member>,
    /// Home and away, for the score graphic and the crowd.
    pub colours: [Rgb; 2],
}

const WHITE: Rgb = Rgb(240, 240, 238);
const BLACK: Rgb = Rgb(24, 24, 28);
/// Far enough from grass, and most from each other.
const SHIRTS: [Rgb; 12] = [
    WHITE,
    Rgb(200, 22, 36),
    Rgb(24, 62, 168),
    Rgb(110, 178, 232),
    Rgb(244, 206, 30),
    BLACK,
    Rgb(120, 20, 48),
    Rgb(240, 116, 22),
    Rgb(88, 40, 140),
    Rgb(20, 28, 72),
    Rgb(232, 120, 168),
    Rgb(20, 150, 160),
];
const SKINS: [Rgb; 5] = [Rgb(236, 190, 160), Rgb(222, 168, 132), Rgb(176, 122, 86), Rgb(122, 78, 52), Rgb(84, 54, 40)];
const HAIRS: [Rgb; 5] = [Rgb(28, 22, 20), Rgb(58, 40, 28), Rgb(104, 72, 40), Rgb(196, 160, 96), Rgb(40, 30, 28)];
const BOOTS: [Rgb; 5] = [BLACK, WHITE, Rgb(240, 80, 40), Rgb(220, 240, 40), Rgb(40, 160, 230)];

impl Cast {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::stream(seed, 0xca57);
        let mut taken: Vec<Rgb> = Vec::new();
        let mut pick = |rng: &mut Rng, from: &[Rgb]| {
            let mut order = from.to_vec();
            rng.shuffle(&mut order);
            let apart = |c: &Rgb, limit: f32| taken.iter().all(|t| c.distance(*t) > limit);
            // Strict first; the palette is wide enough for the looser limit always to hold.
            let found = order.iter().find(|c| apart(c, 300.0)).or_else(|| order.iter().find(|c| apart(c, 150.0)));
            let colour = found.copied().unwrap_or(WHITE);
            taken.push(colour);
            colour
        };
        let shirts = [pick(&mut rng, &SHIRTS), pick(&mut rng, &SHIRTS)];
        let referee = pick(&mut rng, &[BLACK, Rgb(244, 206, 30), Rgb(232, 60, 120), Rgb(60, 200, 220)]);
        let keepers = [pick(&mut rng, &SHIRTS), pick(&mut rng, &SHIRTS)];

        let mut members = Vec::with_capacity(25);
        for (side, team) in [Team::Home, Team::Away].into_iter().enumerate() {
            let kit = outfit(&mut rng, shirts[side]);
            let mut numbers: Vec<u8> = (2..=34).collect();
            // Low numbers are worn most, so the ten come mostly from the front of the list.
            let reach = 14 + rng.below(numbers.len() - 14);
            rng.shuffle(&mut numbers[..reach]);
            for i in 0..11u8 {
                let keeper = i == 0;
                members.push(Member {
                    id: side as u8 * 11 + i + 1,
                    team: Some(team),
                    role: if keeper { Role::Goalkeeper } else { Role::Player },
                    number: Some(if keeper { 1 } else { numbers[usize::from(i) - 1] }),
                    kit: if keeper { plain(keepers[side]) } else { kit },
                    ..stranger(&mut rng)
                });
            }
        }
        for id in 23..=25 {
            let kit = Kit { shorts: BLACK, socks: BLACK, ..plain(referee) };
            members.push(Member { id, kit, boots: BLACK, ..stranger(&mut rng) });
        }
        Self { members, colours: shirts }
    }
}

/// A referee with random looks; players replace what differs.
fn stranger(rng: &mut Rng) -> Member {
    Member {
        id: 0,
        team: None,
        role: Role::Referee,
        number: None,
        kit: plain(BLACK),
        height: rng.range(1.70, 1.95),
        skin: SKINS[rng.below(SKINS.len())],
        hair: HAIRS[rng.below(HAIRS.len())],
        boots: BOOTS[rng.below(BOOTS.len())],
    }
}

fn plain(shirt: Rgb) -> Kit {
    Kit { shirt, trim: shirt, striped: false, shorts: shirt, socks: shirt, number: readable_on(shirt) }
}

fn outfit(rng: &mut Rng, shirt: Rgb) -> Kit {
    let contrast = readable_on(shirt);
    let second = if rng.chance(0.5) { contrast } else { shirt };
    let striped = rng.chance(0.25);
    Kit {
        shirt,
        // Stripes of full contrast would swallow the number.
        trim: if striped { shirt.mixed(contrast, 0.35) } else { second },
        striped,
        shorts: if rng.chance(0.5) { contrast } else { shirt },
        socks: if rng.chance(0.5) { contrast } else { shirt },
        number: contrast,
    }
}

fn readable_on(shirt: Rgb) -> Rgb {
    if shirt.luma() > 120 { Rgb(16, 18, 40) } else { WHITE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kits_of_every_seed_can_be_told_apart() {
        for seed in 0..500 {
            let cast = Cast::new(seed);
            let shirts = [0, 1, 11, 12, REFEREE].map(|i| cast.members[i].kit.shirt);
            for (i, a) in shirts.iter().enumerate() {
                for b in &shirts[..i] {
                    assert!(a.distance(*b) > 120.0, "seed {seed}: {shirts:?}");
                }
            }
            assert!(shirts[1].distance(shirts[3]) > 200.0, "seed {seed}: the teams look alike");
        }
    }

    #[test]
    fn nobody_shares_an_id_or_a_number_in_a_team() {
        let cast = Cast::new(7);
        assert_eq!(cast.members.iter().map(|m| m.id).collect::<Vec<_>>(), (1..=25).collect::<Vec<_>>());
        for team in [Team::Home, Team::Away] {
            let mut numbers: Vec<_> = cast.members.iter().filter(|m| m.team == Some(team)).map(|m| m.number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), 11);
        }
    }
}
