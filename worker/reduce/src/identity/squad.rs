//! What the user's squad lists add: which team is which, which numbers there are, and names.

use fulltime_common::squads::TeamSheet;

use super::{
    kit::Colours,
    number::{NONE, Numbers, Prior},
};
use crate::exact::{chance, ln};

/// What the share of a team's shirts in the listed colour is worth, in log-odds.
const COLOUR: f64 = 6.0;
/// One person's number says no more than this of which list he is on.
const PERSON_MOST: f64 = 3.0;

/// Which list each team is on: `[0]` for the first team. `None` where the evidence leaves it open.
#[must_use]
pub fn sheets_of_teams(
    sheets: &[TeamSheet],
    colours: &[Colours],
    numbers: &[Vec<&Numbers>; 2],
    sure: f64,
) -> [Option<usize>; 2] {
    let (Some(first), second) = (sheets.first(), sheets.get(1)) else { return [None, None] };
    let fit = |team: usize, sheet: &TeamSheet| {
        let shirt = match (colours.get(team), sheet.colour) {
            (Some(colours), Some(colour)) => COLOUR * colours.0[colour_class(colour)],
            _ => 0.0,
        };
        if sheet.players.is_empty() {
            return shirt;
        }
        let listed: Vec<u8> = sheet.players.iter().map(|player| player.number).collect();
        let prior = Prior::squad(&listed);
        shirt + numbers[team].iter().map(|n| evidence(n, &prior)).sum::<f64>()
    };
    let of = |sheet: Option<&TeamSheet>| [0, 1].map(|team| sheet.map_or(0.0, |sheet| fit(team, sheet)));
    let (a, b) = (of(Some(first)), of(second));
    let odds = a[0] + b[1] - a[1] - b[0];
    let there = second.map(|_| 1);
    match odds {
        odds if chance(odds) >= sure => [Some(0), there],
        odds if chance(-odds) >= sure => [there, Some(0)],
        _ => [None, None],
    }
}

/// How much better one person's readings fit a list than any number would: the logarithm.
fn evidence(numbers: &Numbers, prior: &Prior) -> f64 {
    let chances = numbers.chances(&Prior::default());
    let fit: f64 = chances.iter().enumerate().map(|(n, chance)| chance * prior.of(n)).sum();
    ln(fit * NONE as f64).clamp(-PERSON_MOST, PERSON_MOST)
}

/// The class of a kit descriptor that an sRGB colour falls in: one of eight hues, or black, grey or white (8 to 10), as the
/// lane counts pixels: by limited-range BT.709 chroma and luma.
fn colour_class([r, g, b]: [u8; 3]) -> usize {
    const COLOURED: f64 = 18.0;
    const DARK: f64 = 70.0;
    const BRIGHT: f64 = 160.0;
    /// tan(22.5°), half the width of a hue.
    const HALF: f64 = std::f64::consts::SQRT_2 - 1.0;
    let [r, g, b] = [r, g, b].map(|c| f64::from(c) / 255.0);
    let luma = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let (u, v) = ((b - luma) / 1.8556 * 224.0, (r - luma) / 1.5748 * 224.0);
    if u * u + v * v <= COLOURED * COLOURED {
        return match 16.0 + 219.0 * luma {
            y if y < DARK => 8,
            y if y > BRIGHT => 10,
            _ => 9,
        };
    }
    // Hues are 45 degrees wide, the first one around the u axis.
    match (u, v) {
        (u, v) if v.abs() <= HALF * u.abs() => {
            if u > 0.0 {
                0
            } else {
                4
            }
        }
        (u, v) if u.abs() <= HALF * v.abs() => {
            if v > 0.0 {
                2
            } else {
                6
            }
        }
        (u, v) => match (u > 0.0, v > 0.0) {
            (true, true) => 1,
            (false, true) => 3,
            (false, false) => 5,
            (true, false) => 7,
        },
    }
}

#[cfg(test)]
mod tests {
    use fulltime_common::squads::SheetPlayer;

    use super::*;

    fn sheet(colour: Option<[u8; 3]>, numbers: &[u8]) -> TeamSheet {
        let players = numbers.iter().map(|&number| SheetPlayer { number, name: None, role: None }).collect();
        TeamSheet { name: "team".into(), colour, players }
    }

    fn read(number: u8) -> Numbers {
        let mut numbers = Numbers::default();
        (0..8).for_each(|_| numbers.add(&[number, 250], 0.35));
        numbers
    }

    #[test]
    fn the_numbers_tell_which_team_is_on_which_list() {
        let sheets = [sheet(None, &[2, 4, 6, 8]), sheet(None, &[3, 4, 5, 7])];
        let (odd, even) = ([read(3), read(4), read(5)], [read(2), read(6)]);
        let numbers = [odd.iter().collect(), even.iter().collect()];
        assert_eq!(sheets_of_teams(&sheets, &[], &numbers, 0.9), [Some(1), Some(0)]);
        assert_eq!(sheets_of_teams(&sheets[..1], &[], &numbers, 0.9), [None, Some(0)]);
        assert_eq!(sheets_of_teams(&sheets, &[], &[vec![], vec![]], 0.9), [None, None]);
        assert_eq!(sheets_of_teams(&[], &[], &numbers, 0.9), [None, None]);
    }

    #[test]
    fn colours_tell_it_too() {
        let mut red = [0.0; 24];
        red[colour_class([200, 22, 36])] = 0.9;
        let mut white = [0.0; 24];
        white[10] = 0.9;
        let sheets = [sheet(Some([240, 240, 240]), &[]), sheet(Some([200, 22, 36]), &[])];
        assert_eq!(
            sheets_of_teams(&sheets, &[Colours(red), Colours(white)], &[vec![], vec![]], 0.9),
            [Some(1), Some(0)]
        );
    }

    #[test]
    fn colours_fall_where_their_chroma_points() {
        let classes = [[0, 0, 0], [128, 128, 128], [255, 255, 255], [24, 62, 168], [200, 22, 36], [244, 206, 30]];
        assert_eq!(classes.map(colour_class), [8, 9, 10, 7, 2, 4]);
    }
}
