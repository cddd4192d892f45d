//! Whether a lane's GPU is well: a state machine that hears readings, Xids and canaries, and has one verdict. Pure; time is
//! an argument. `watch` feeds it, the worker obeys it: a lane that is not [`State::works`] stops pulling and says why.

use std::{collections::VecDeque, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::xid::{Action, action};

/// A GPU's figures at one moment. What a device or driver does not tell is `None` (or as if all was well).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// It does not answer any more, in the library's words.
    pub lost: Option<String>,
    /// Degrees Celsius: now, where clocks are cut, where it switches itself off.
    pub temperature: Option<u32>,
    pub slowdown_at: Option<u32>,
    pub shutdown_at: Option<u32>,
    /// NVML's bits of clock event reasons.
    pub throttle: u64,
    pub clock_mhz: Option<u32>,
    pub clock_max_mhz: Option<u32>,
    /// Since the driver was loaded.
    pub ecc_corrected: Option<u64>,
    pub ecc_uncorrected: Option<u64>,
    pub rows_remapped: Option<u64>,
    /// Rows wait for a reset to be remapped; there was none left to remap to.
    pub remap_pending: bool,
    pub remap_failed: bool,
    pub decoder_percent: Option<u32>,
}

const HOUR: Duration = Duration::from_secs(3600);

/// Reasons that cut clocks because something is wrong with cooling or power, by NVML's bit.
const SLOWED: [(u64, &str); 4] = [
    (0x08, "hardware slowdown"),
    (0x20, "slowed by heat"),
    (0x40, "slowed by heat, in hardware"),
    (0x80, "slowed by the power supply"),
];

impl Reading {
    /// Why its clocks are cut.
    #[must_use]
    pub fn slowed(&self) -> Option<&'static str> {
        // The last bit that is set says most.
        SLOWED.iter().rev().find(|(bit, _)| self.throttle & bit != 0).map(|(_, why)| *why)
    }
}

/// From best to worst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    #[default]
    Well,
    /// Works, but slowly or not for long.
    Impaired,
    /// Pulls nothing until a canary has passed.
    Suspect,
    /// Of no use until somebody resets it.
    Sick,
    /// And with it the whole machine.
    NodeSick,
}

impl State {
    /// Whether the lane may pull.
    #[must_use]
    pub fn works(self) -> bool {
        self < Self::Suspect
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Well => "well",
            Self::Impaired => "impaired",
            Self::Suspect => "suspect",
            Self::Sick => "sick",
            Self::NodeSick => "machine sick",
        })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub state: State,
    /// One line; `None` when well.
    pub reason: Option<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{}: {reason}", self.state),
            None => write!(f, "{}", self.state),
        }
    }
}

/// How much is borne.
#[derive(Debug, Clone)]
pub struct Tolerance {
    /// Corrected ECC errors in an hour that are worth a word.
    pub corrected_an_hour: u64,
    /// So long with cut clocks, and it is called slow.
    pub slow: Duration,
    /// Degrees below the switching-off at which a lane rests, and below the slowdown at which it may begin again.
    pub margin: u32,
    pub cooled: u32,
    /// So many doubts within this time are one too many.
    pub doubts: usize,
    pub memory: Duration,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { corrected_an_hour: 1000, slow: Duration::from_secs(10), margin: 3, cooled: 5, doubts: 3, memory: HOUR }
    }
}

/// What a GPU's health hears of.
#[derive(Debug, Clone, PartialEq)]
pub enum Sign {
    Reading(Box<Reading>),
    Xid(u64),
    /// How the canary after a doubt ended.
    Canary {
        passed: bool,
    },
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Health {
    tolerance: Tolerance,
    /// Corrected errors with their time, over the last hour.
    corrected: VecDeque<(Duration, u64)>,
    uncorrected: Option<u64>,
    slow_since: Option<Duration>,
    hot: bool,
    /// Sticky, worst first come.
    verdict: Verdict,
    /// For as long as the readings say so.
    passing: Option<String>,
    doubts: VecDeque<Duration>,
}

impl Health {
    #[must_use]
    pub fn new(tolerance: Tolerance) -> Self {
        Self { tolerance, ..Self::default() }
    }

    /// What is to be thought of a GPU that has only been looked at once.
    #[must_use]
    pub fn at_first_sight(reading: &Reading) -> Verdict {
        let mut health = Self::new(Tolerance { slow: Duration::ZERO, ..Tolerance::default() });
        health.hear(&Sign::Reading(Box::new(reading.clone())), Duration::ZERO)
    }

    /// The present verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &self.passing {
            Some(reason) if self.verdict.state < State::Impaired => {
                Verdict { state: State::Impaired, reason: Some(reason.clone()) }
            }
            _ => self.verdict.clone(),
        }
    }

    /// Whether a canary would tell something now: not as long as what raised the doubt goes on.
    #[must_use]
    pub fn wants_canary(&self) -> bool {
        self.verdict.state == State::Suspect && !self.hot
    }

    /// `now`: of any clock that does not jump.
    pub fn hear(&mut self, sign: &Sign, now: Duration) -> Verdict {
        match sign {
            Sign::Reading(reading) => self.read(reading, now),
            Sign::Xid(xid) => {
                let (what, todo) = action(*xid);
                let reason = format!("Xid {xid}: {what}");
                match todo {
                    Action::Note | Action::Application => {}
                    Action::Retry => self.doubt(reason, now),
                    Action::DrainLane => self.sink(State::Sick, reason),
                    Action::DrainNode => self.sink(State::NodeSick, reason),
                }
            }
            Sign::Canary { passed: true } => {
                if self.wants_canary() {
                    self.verdict = Verdict::default();
                }
            }
            Sign::Canary { passed: false } => {
                let before = self.verdict.reason.clone().unwrap_or_else(|| "a doubt".to_owned());
                self.sink(State::Sick, format!("its canary failed after {before}"));
            }
        }
        self.verdict()
    }

    fn read(&mut self, reading: &Reading, now: Duration) {
        if let Some(words) = &reading.lost {
            self.sink(State::Sick, format!("the GPU does not answer: {words}"));
            return;
        }
        if reading.remap_failed {
            self.sink(State::Sick, "no memory rows are left to remap bad ones to".to_owned());
        }
        if let Some(count) = reading.ecc_uncorrected
            && self.uncorrected.replace(count).is_some_and(|before| count > before)
        {
            self.doubt(format!("uncorrected ECC errors: {count} now"), now);
        }
        self.heat(reading, now);
        self.passing = self.slowed(reading, now).or_else(|| self.worn(reading, now));
    }

    /// Rests before the GPU switches itself off, until it has cooled down.
    fn heat(&mut self, reading: &Reading, now: Duration) {
        let (Some(degrees), Some(limit)) = (reading.temperature, reading.shutdown_at) else { return };
        let Tolerance { margin, cooled, .. } = self.tolerance;
        if degrees + margin >= limit && !self.hot {
            self.hot = true;
            self.doubt(format!("{degrees} °C, and it switches itself off at {limit} °C"), now);
        } else if degrees + cooled <= reading.slowdown_at.unwrap_or(limit) {
            self.hot = false;
        }
    }

    fn slowed(&mut self, reading: &Reading, now: Duration) -> Option<String> {
        let Some(why) = reading.slowed() else {
            self.slow_since = None;
            return None;
        };
        let since = *self.slow_since.get_or_insert(now);
        if now.saturating_sub(since) < self.tolerance.slow {
            return None;
        }
        let clocks = reading.clock_mhz.zip(reading.clock_max_mhz);
        let clocks = clocks.map(|(now, most)| format!(", {now} of {most} MHz")).unwrap_or_default();
        let degrees = reading.temperature.map(|degrees| format!(", {degrees} °C")).unwrap_or_default();
        Some(format!("{why}{clocks}{degrees}"))
    }

    fn worn(&mut self, reading: &Reading, now: Duration) -> Option<String> {
        if reading.remap_pending {
            return Some("memory rows wait to be remapped: reset the GPU when it has nothing to do".to_owned());
        }
        let count = reading.ecc_corrected?;
        self.corrected.push_back((now, count));
        while self.corrected.front().is_some_and(|(at, _)| now.saturating_sub(*at) > HOUR) {
            self.corrected.pop_front();
        }
        let before = self.corrected.front().map_or(count, |(_, before)| *before);
        let grown = count.saturating_sub(before);
        (grown > self.tolerance.corrected_an_hour).then(|| format!("{grown} corrected ECC errors within an hour"))
    }

    /// Better never, worse at any time.
    fn sink(&mut self, state: State, reason: String) {
        if state > self.verdict.state {
            self.verdict = Verdict { state, reason: Some(reason) };
        }
    }

    fn doubt(&mut self, reason: String, now: Duration) {
        self.doubts.push_back(now);
        while self.doubts.front().is_some_and(|at| now.saturating_sub(*at) > self.tolerance.memory) {
            self.doubts.pop_front();
        }
        if self.doubts.len() >= self.tolerance.doubts {
            let times = self.doubts.len();
            self.sink(State::Sick, format!("{times} faults within an hour, the last: {reason}"));
        } else {
            self.sink(State::Suspect, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn read(reading: &Reading) -> Sign {
        Sign::Reading(Box::new(reading.clone()))
    }

    #[test]
    fn an_xid_that_takes_the_gpu_away_is_for_good_and_one_of_the_application_is_nobodys() {
        let mut health = Health::default();
        assert_eq!(health.hear(&Sign::Xid(31), SECOND).state, State::Well);
        let lost = health.hear(&Sign::Xid(79), SECOND);
        assert_eq!(
            (lost.state, lost.reason.unwrap().as_str()),
            (State::Sick, "Xid 79: the GPU has fallen off the bus")
        );
        assert!(!health.wants_canary());
        assert_eq!(health.hear(&Sign::Canary { passed: true }, SECOND).state, State::Sick);
        assert_eq!(health.hear(&read(&Reading::default()), SECOND).state, State::Sick);
        assert_eq!(health.hear(&Sign::Xid(110), SECOND).state, State::NodeSick, "worse is still heard");
    }

    #[test]
    fn a_doubt_ends_with_a_canary_and_the_third_within_an_hour_does_not() {
        let mut health = Health::default();
        for n in 0..2 {
            assert_eq!(health.hear(&Sign::Xid(94), SECOND * n).state, State::Suspect);
            assert!(health.wants_canary());
            assert_eq!(health.hear(&Sign::Canary { passed: true }, SECOND * n).state, State::Well);
        }
        let mut later = health.clone();
        assert_eq!(health.hear(&Sign::Xid(94), SECOND * 9).state, State::Sick);
        assert_eq!(later.hear(&Sign::Xid(94), SECOND * 7200).state, State::Suspect, "long ago");
        let failed = later.hear(&Sign::Canary { passed: false }, SECOND * 7200);
        assert_eq!(failed.state, State::Sick);
        assert_eq!(failed.reason.unwrap(), "its canary failed after Xid 94: contained memory error");
    }

    #[test]
    fn ecc_errors_count_from_what_was_there_before() {
        let mut health = Health::default();
        let at = |corrected, uncorrected| Reading {
            ecc_corrected: Some(corrected),
            ecc_uncorrected: Some(uncorrected),
            ..Reading::default()
        };
        assert_eq!(health.hear(&read(&at(5_000_000, 7)), SECOND).state, State::Well, "an old device has a past");
        assert_eq!(health.hear(&read(&at(5_000_900, 7)), SECOND * 60).state, State::Well);
        let many = health.hear(&read(&at(5_001_001, 7)), SECOND * 90);
        assert_eq!(
            (many.state, many.reason.unwrap().as_str()),
            (State::Impaired, "1001 corrected ECC errors within an hour")
        );
        assert_eq!(health.hear(&read(&at(5_001_001, 7)), SECOND * 4000).state, State::Well, "it has calmed down");
        assert_eq!(health.hear(&read(&at(5_001_001, 8)), SECOND * 4001).state, State::Suspect);
    }

    #[test]
    fn clocks_must_be_cut_for_a_while_to_be_worth_a_word() {
        let mut health = Health::default();
        let cut = Reading {
            throttle: 0x40 | 0x01,
            clock_mhz: Some(600),
            clock_max_mhz: Some(1980),
            temperature: Some(91),
            ..Reading::default()
        };
        assert_eq!(health.hear(&read(&cut), SECOND).state, State::Well);
        let slow = health.hear(&read(&cut), SECOND * 11);
        assert_eq!(slow.to_string(), "impaired: slowed by heat, in hardware, 600 of 1980 MHz, 91 °C");
        assert!(slow.state.works());
        assert_eq!(health.hear(&read(&Reading::default()), SECOND * 12).state, State::Well);
        let idle = Reading { throttle: 0x01 | 0x04, ..Reading::default() };
        assert_eq!(Health::at_first_sight(&idle).state, State::Well, "idle, or at its power limit");
        assert_eq!(Health::at_first_sight(&cut).state, State::Impaired);
    }

    #[test]
    fn a_gpu_rests_before_it_switches_itself_off() {
        let mut health = Health::default();
        let at = |degrees| Reading {
            temperature: Some(degrees),
            slowdown_at: Some(90),
            shutdown_at: Some(95),
            ..Reading::default()
        };
        assert_eq!(health.hear(&read(&at(91)), SECOND).state, State::Well);
        assert_eq!(health.hear(&read(&at(92)), SECOND).state, State::Suspect);
        assert!(!health.wants_canary(), "while it is hot");
        health.hear(&read(&at(86)), SECOND);
        assert!(!health.wants_canary(), "not cool enough");
        health.hear(&read(&at(85)), SECOND);
        assert!(health.wants_canary());
        assert_eq!(health.hear(&Sign::Canary { passed: true }, SECOND).state, State::Well);
    }

    #[test]
    fn rows_that_cannot_be_remapped_are_the_end_and_rows_that_wait_are_a_word() {
        let pending = Reading { remap_pending: true, ..Reading::default() };
        assert_eq!(Health::at_first_sight(&pending).state, State::Impaired);
        let failed = Reading { remap_failed: true, ..Reading::default() };
        assert_eq!(Health::at_first_sight(&failed).state, State::Sick);
        let lost = Reading { lost: Some("gone".into()), ..Reading::default() };
        assert_eq!(Health::at_first_sight(&lost).to_string(), "sick: the GPU does not answer: gone");
    }
}
