//! From a reader's answer to the chances of shirt numbers: the sum over all paths that collapse to a number's digits
//! (connectionist temporal classification, Graves et al., 2006), in f64 and a fixed order.

/// Which column of the answer is which digit, and the blank's.
#[derive(Debug, Clone)]
pub(crate) struct Alphabet {
    digits: [usize; 10],
    blank: usize,
    columns: usize,
}

/// Stands for "no number is to be read" among the numbers 0 to 99.
pub(crate) const NONE: u8 = 100;
/// Numbers that are kept of one picture, most probable first: the rest have a few 255ths together.
const KEPT: usize = 8;

impl Alphabet {
    /// `None` if a digit is missing or the blank has no column: `validate` says so before.
    pub(crate) fn new(characters: &str, blank: u32) -> Option<Self> {
        let (blank, count) = (blank as usize, characters.chars().count());
        if blank > count {
            return None;
        }
        let mut digits = [0; 10];
        for (digit, column) in ('0'..='9').zip(&mut digits) {
            let place = characters.chars().position(|character| character == digit)?;
            // The blank's column may lie between the characters'.
            *column = place + usize::from(place >= blank);
        }
        Some(Self { digits, blank, columns: count + 1 })
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// The chance of every number 0 to 99 without leading zeros, and last that nothing is to be read. `answer` holds
    /// probabilities, a row of `columns` for each place.
    pub(crate) fn chances(&self, answer: &[f32]) -> [f64; 101] {
        let mut empty = 1.0;
        // Paths that end in digit d, nothing else seen; the same, then blank; and likewise for a second digit e after d.
        let ([mut one, mut one_gap], [mut two, mut two_gap]) = ([[0.0; 10]; 2], [[[0.0; 10]; 10]; 2]);
        for place in answer.chunks_exact(self.columns) {
            let digit = self.digits.map(|column| f64::from(place[column]));
            let blank = f64::from(place[self.blank]);
            for d in 0..10 {
                for e in 0..10 {
                    two_gap[d][e] = (two_gap[d][e] + two[d][e]) * blank;
                    let begun = one_gap[d] + if d == e { 0.0 } else { one[d] };
                    two[d][e] = (two[d][e] + begun) * digit[e];
                }
                one_gap[d] = (one_gap[d] + one[d]) * blank;
                one[d] = (one[d] + empty) * digit[d];
            }
            empty *= blank;
        }
        let mut chances = [0.0; 101];
        for d in 0..10 {
            chances[d] = one[d] + one_gap[d];
            if d > 0 {
                for e in 0..10 {
                    chances[10 * d + e] = two[d][e] + two_gap[d][e];
                }
            }
        }
        chances[usize::from(NONE)] = empty;
        chances
    }

    /// The chances in 255ths as pairs of number and chance, most probable first, as far as they are above 0.
    pub(crate) fn packed(&self, answer: &[f32]) -> Vec<u8> {
        let chances = self.chances(answer);
        let rounded = chances.iter().map(|chance| (chance.clamp(0.0, 1.0) * 255.0 + 0.5) as u8);
        let mut pairs: Vec<(u8, u8)> = (0..=NONE).zip(rounded).filter(|(_, chance)| *chance > 0).collect();
        pairs.sort_by_key(|&(number, chance)| (std::cmp::Reverse(chance), number));
        pairs.truncate(KEPT);
        pairs.into_iter().flat_map(|(number, chance)| [number, chance]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places in which each of these columns has these chances, the blank (10) the rest.
    fn answer(places: &[&[(usize, f32)]]) -> Vec<f32> {
        let row = |place: &&[(usize, f32)]| {
            let mut row = [0.0; 11];
            place.iter().for_each(|&(column, chance)| row[column] = chance);
            row[10] = 1.0 - row[..10].iter().sum::<f32>();
            row
        };
        places.iter().flat_map(row).collect()
    }

    fn digits() -> Alphabet {
        Alphabet::new("0123456789", 10).unwrap()
    }

    #[test]
    fn every_path_is_counted_once() {
        // 7 then 3 with chances: 73 = 0.5 * 0.25, 7 = 0.5 * 0.75, 3 = 0.5 * 0.25, nothing = 0.5 * 0.75.
        let chances = digits().chances(&answer(&[&[(7, 0.5)], &[(3, 0.25)]]));
        let expected = |number: usize| match number {
            73 | 3 => 0.125,
            7 | 100 => 0.375,
            _ => 0.0,
        };
        assert!((0..=100).all(|number| chances[number] == expected(number)), "{chances:?}");
    }

    #[test]
    fn a_digit_repeats_only_over_a_blank_and_no_number_begins_with_zero() {
        let sure = |places: &[usize]| {
            let rows: Vec<Vec<(usize, f32)>> = places.iter().map(|&column| vec![(column, 1.0)]).collect();
            let rows: Vec<&[(usize, f32)]> = rows.iter().map(Vec::as_slice).collect();
            digits().packed(&answer(&rows))
        };
        assert_eq!(sure(&[8, 8]), [8, 255]);
        assert_eq!(sure(&[8, 10, 8]), [88, 255]);
        assert_eq!(sure(&[0, 10]), [0, 255]);
        assert_eq!(sure(&[0, 5]), [0_u8; 0], "05 is no number");
        assert_eq!(sure(&[1, 2, 3]), [0_u8; 0], "nor is 123");
        assert_eq!(sure(&[10, 10]), [100, 255]);
    }

    #[test]
    fn columns_follow_the_alphabet_with_the_blank_wherever_it_is() {
        let letters = Alphabet::new("A9876543210", 0).unwrap();
        let mut places = vec![0.0; 24];
        places[2] = 1.0; // 9 is the second character, after the blank's column.
        places[12 + 11] = 1.0;
        assert_eq!(letters.packed(&places), [90, 255]);
        assert!(Alphabet::new("012345678", 9).is_none() && Alphabet::new("0123456789", 11).is_none());
    }

    /// By `chance_of_numbers` of models/synthpeople/measure.py.
    #[test]
    fn chances_are_those_of_the_python_that_trained_the_reader() {
        let mut state = 7_u32;
        let mut places = Vec::new();
        for _ in 0..16 {
            let mut row: Vec<u32> = (0..11)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 20) * (state >> 20)
                })
                .collect();
            row[10] *= 40;
            let sum = row.iter().sum::<u32>() as f32;
            places.extend(row.iter().map(|&value| value as f32 / sum));
        }
        let chances = digits().chances(&places);
        for (number, expected) in GOLDEN {
            let found = chances[number];
            assert!((found - expected).abs() <= expected * 1e-12, "{number}: {found} instead of {expected}");
        }
    }

    const GOLDEN: [(usize, f64); 5] = [
        (0, 9.704_106_146_629_53e-5),
        (7, 1.131_242_592_546_059e-4),
        (10, 1.441_515_916_528_383_4e-4),
        (44, 7.769_609_781_759_388e-5),
        (97, 1.107_261_469_445_528_5e-4),
    ];
}
