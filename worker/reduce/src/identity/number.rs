//! Which shirt number somebody wears, from what a reader made of many pictures of the back.
//!
//! Each picture's answer is a probability for every number and for "nothing to be read". What counts is how likely such an
//! answer is for each number that may really be there: numbers are misread (a digit is hidden, 14 looks like 11), so even a
//! sure answer is evidence of some strength only, and pictures that follow each other repeat each other's mistakes.

use std::sync::LazyLock;

use crate::exact::{exp, ln};

/// Shirt numbers are 0 to 99; this stands for no number at all.
pub const NONE: usize = 100;
const ALL: usize = 101;

/// How answers come about, measured with the shipped reader on matches that nothing else was chosen on: a number on the
/// back is read in so many pictures, and so many of those answers are right; of somebody without, it makes one up in so many.
const READ: f64 = 0.73;
const RIGHT: f64 = 0.91;
const MADE_UP: f64 = 0.03;
/// What the wrong answers are: one digit of two, another last digit, another first digit, anything else.
const ONE_DIGIT: f64 = 0.30;
const OTHER_LAST: f64 = 0.40;
const OTHER_FIRST: f64 = 0.05;
const ANYTHING: f64 = 0.25;
/// No answer is impossible.
const LEAST: f64 = 1e-4;
/// Chances are written in 255ths.
const WHOLE: f64 = 255.0;

/// `chance[m][n]`: the chance of answer `m` when number `n` is there.
static CHANCE: LazyLock<Vec<[f64; ALL]>> = LazyLock::new(|| {
    let mut chance = vec![[0.0; ALL]; ALL];
    for n in 0..NONE {
        let wrong: Vec<f64> = (0..NONE).map(|m| weight(n, m)).collect();
        let total: f64 = wrong.iter().sum();
        for m in 0..NONE {
            chance[m][n] = READ * if m == n { RIGHT } else { (1.0 - RIGHT) * wrong[m] / total };
        }
        chance[NONE][n] = 1.0 - READ;
    }
    for row in chance.iter_mut().take(NONE) {
        row[NONE] = MADE_UP / NONE as f64;
    }
    chance[NONE][NONE] = 1.0 - MADE_UP;
    chance
});

/// How often `n` is mistaken for `m`, against other mistakes.
fn weight(n: usize, m: usize) -> f64 {
    if n == m {
        return 0.0;
    }
    let (two, first, last) = (n > 9, n / 10, n % 10);
    let special = match (two, m > 9) {
        (true, false) if m == first || m == last => ONE_DIGIT / 2.0,
        (true, true) if m / 10 == first => OTHER_LAST / 9.0,
        (true, true) if m % 10 == last => OTHER_FIRST / 9.0,
        _ => 0.0,
    };
    special + ANYTHING / (NONE - 1) as f64
}

/// What is known of a number: log-likelihoods of all of them and of none.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    log: [f64; ALL],
    /// Pictures that the reader was asked about.
    pub asked: u32,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { log: [0.0; ALL], asked: 0 }
    }
}

impl Numbers {
    /// Takes one picture's answer: pairs of number and chance in 255ths. `weight` is less than 1 where pictures follow each
    /// other closely.
    pub fn add(&mut self, answer: &[u8], weight: f64) {
        self.asked += 1;
        let (pairs, _) = answer.as_chunks::<2>();
        let read: f64 = pairs.iter().filter(|p| usize::from(p[0]) < NONE).map(|p| f64::from(p[1]) / WHOLE).sum();
        // An answer that is almost surely none says next to nothing: backs are turned away most of the time.
        if read < 0.02 {
            return;
        }
        let mut likely = [LEAST; ALL];
        let mut take = |m: usize, share: f64| {
            for (sum, chance) in likely.iter_mut().zip(&CHANCE[m]) {
                *sum += chance * share;
            }
        };
        for &[number, share] in pairs.iter().filter(|pair| usize::from(pair[0]) < NONE) {
            take(usize::from(number), f64::from(share) / WHOLE);
        }
        take(NONE, (1.0 - read).max(0.0));
        for (sum, likely) in self.log.iter_mut().zip(likely) {
            *sum += ln(likely) * weight;
        }
    }

    pub fn join(&mut self, other: &Self) {
        for (sum, log) in self.log.iter_mut().zip(other.log) {
            *sum += log;
        }
        self.asked += other.asked;
    }

    /// Chances of the numbers 0 to 99 for somebody who has one, given how probable each was before.
    #[must_use]
    pub fn chances(&self, prior: &Prior) -> [f64; NONE] {
        let mut best = f64::NEG_INFINITY;
        for (log, prior) in self.log.iter().zip(&prior.0) {
            best = best.max(log + prior);
        }
        let mut chances = [0.0; NONE];
        for ((chance, log), prior) in chances.iter_mut().zip(self.log).zip(prior.0) {
            *chance = exp(log + prior - best);
        }
        let total: f64 = chances.iter().sum();
        chances.map(|chance| chance / total)
    }

    /// The most probable number and its chance, that there is none among the possibilities. Of equals the lowest.
    #[must_use]
    pub fn best(&self, prior: &Prior) -> (u8, f64) {
        let chances = self.chances(prior);
        let (mut best, mut chance) = (0, chances[0]);
        for (number, &other) in chances.iter().enumerate() {
            if other > chance {
                (best, chance) = (number, other);
            }
        }
        let for_it = self.log[best] - self.log[NONE];
        (best as u8, chance * crate::exact::chance(for_it))
    }

    /// How much more likely the answers are with a number than without: its logarithm.
    #[must_use]
    pub fn for_some(&self) -> f64 {
        self.log[..NONE].iter().fold(f64::NEG_INFINITY, |best, log| best.max(*log)) - self.log[NONE]
    }
}

/// Logarithms of how probable each number is before anything was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Prior([f64; NONE]);

impl Default for Prior {
    /// Every number is as probable as any other.
    fn default() -> Self {
        Self([0.0; NONE])
    }
}

impl Prior {
    /// Numbers of a squad, and with a little chance one that is missing in the list.
    #[must_use]
    pub fn squad(numbers: &[u8]) -> Self {
        const MISSING: f64 = 0.02;
        let (listed, others) = (ln((1.0 - MISSING) / numbers.len().max(1) as f64), ln(MISSING / NONE as f64));
        let mut prior = [others; NONE];
        for &number in numbers {
            if let Some(log) = prior.get_mut(usize::from(number)) {
                *log = listed;
            }
        }
        Self(prior)
    }

    /// How probable a number is, if all chances of one prior add up to 1.
    #[must_use]
    pub fn of(&self, number: usize) -> f64 {
        self.0.get(number).map_or(0.0, |log| exp(*log))
    }
}

/// Chances of numbers in fixed point, for comparing many: the sum of products is exact.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    chances: [i16; NONE],
    sum: i32,
}

const ONE: f64 = 32_767.0;

impl Profile {
    #[must_use]
    pub fn new(numbers: &Numbers) -> Self {
        let chances = numbers.chances(&Prior::default()).map(|chance| (chance * ONE + 0.5) as i16);
        Self { chances, sum: chances.iter().copied().map(i32::from).sum() }
    }

    /// How much more likely both are one person than two with numbers of their own: the logarithm, and no less than `floor`.
    #[must_use]
    pub fn same(&self, other: &Self, floor: f64) -> f64 {
        let product: i32 = self.chances.iter().zip(&other.chances).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
        // Over the sums as they were rounded, so that two of whom nothing was read are neither like nor unlike.
        let shared = f64::from(product) / (f64::from(self.sum) * f64::from(other.sum)) * NONE as f64;
        // Even the same number, read for sure, was read twice by chance in one case of 25: so many are worn.
        const WORN: f64 = 25.0;
        ln(shared.min(WORN)).max(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers<A: AsRef<[u8]>>(answers: &[A]) -> Numbers {
        let mut numbers = Numbers::default();
        answers.iter().for_each(|answer| numbers.add(answer.as_ref(), 0.35));
        numbers
    }

    #[test]
    fn chances_of_answers_add_up() {
        for n in 0..ALL {
            let total: f64 = (0..ALL).map(|m| CHANCE[m][n]).sum();
            assert!((total - 1.0).abs() < 1e-12, "{n}: {total}");
        }
    }

    #[test]
    fn one_picture_is_a_hint_and_three_are_an_answer() {
        let prior = Prior::default();
        let sure: &[u8] = &[14, 250, 11, 5];
        assert_eq!(numbers(&[sure]).best(&prior).0, 14);
        assert!(numbers(&[sure]).best(&prior).1 < 0.9);
        assert!(numbers(&[sure; 4]).best(&prior).1 > 0.98);
        assert!(numbers::<[u8; 2]>(&[]).best(&prior).1 < 0.02);
        let torn = numbers(&[[14, 250], [14, 250], [14, 250], [7, 250], [7, 250], [7, 250]]);
        assert!(torn.best(&prior).1 < 0.6, "{:?}", torn.best(&prior));
    }

    #[test]
    fn half_a_number_does_not_speak_against_the_whole() {
        let (whole, half, other) = (numbers(&[&[14, 250]; 6]), numbers(&[&[1, 250]; 6]), numbers(&[&[9, 250]; 6]));
        let [whole, half, other] = [whole, half, other].map(|n| Profile::new(&n));
        assert!(whole.same(&half, -9.0) > whole.same(&other, -9.0));
        assert!(whole.same(&whole, -9.0) > 3.0 && whole.same(&other, -9.0) < -1.0);
        let nothing = Profile::new(&Numbers::default());
        assert!(nothing.same(&whole, -9.0).abs() < 0.02);
    }

    #[test]
    fn a_squad_list_decides_between_two_numbers() {
        let torn = numbers(&[&[14, 128, 11, 127]; 4]);
        let prior = Prior::squad(&[1, 9, 11, 23]);
        assert_eq!(torn.best(&Prior::default()).0, 14);
        assert_eq!(torn.best(&prior).0, 11);
        assert!(torn.best(&prior).1 > 0.9);
        assert_eq!(numbers(&[&[14, 250]; 9]).best(&prior).0, 14, "the list may be wrong");
    }

    #[test]
    fn made_up_numbers_all_differ() {
        let referee = numbers(&[&[4, 200, 100, 55], &[31, 180, 100, 75], &[17, 210, 100, 45], &[8, 190, 100, 65]]);
        assert!(referee.for_some() < 0.0 && referee.best(&Prior::default()).1 < 0.5);
        assert!(numbers(&[&[14, 250]; 4]).for_some() > 2.0);
    }
}
