//! Whether Redis is asked at all. After some failures in a row it is left alone for a second, then for two, and so on up to
//! a minute; one call a time tries whether it is back. A function of what happened and when.

use std::time::{Duration, Instant};

/// Failures in a row that are forgiven.
const FORGIVEN: u32 = 2;
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    /// Not before then.
    until: Option<Instant>,
}

/// What is worth a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is left alone from now on.
    Away,
    /// It answers again.
    Back,
}

impl Breaker {
    /// Whether to ask. Who is let through while it is left alone asks for all.
    pub fn allows(&mut self, now: Instant) -> bool {
        match self.until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.until = Some(now + self.pause());
                true
            }
        }
    }

    pub fn failed(&mut self, now: Instant) -> Option<Turn> {
        self.failures = self.failures.saturating_add(1);
        if self.failures <= FORGIVEN {
            return None;
        }
        self.until.replace(now + self.pause()).is_none().then_some(Turn::Away)
    }

    pub fn worked(&mut self) -> Option<Turn> {
        self.failures = 0;
        self.until.take().map(|_| Turn::Back)
    }

    fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(FORGIVEN + 1).min(6);
        (FIRST * (1 << doublings)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_left_alone_after_failures_in_a_row_and_tried_ever_more_rarely() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((breaker.failed(start), breaker.worked()), (None, None));
        assert_eq!([(); 3].map(|()| breaker.failed(start)), [None, None, Some(Turn::Away)], "said once");
        assert_eq!(breaker.failed(start), None);
        // The fourth failure in a row: two seconds.
        assert!(!breaker.allows(at(1)));
        assert!(breaker.allows(at(2)));
        assert!(!breaker.allows(at(2)), "one call tries for all");
        let mut now = at(2);
        for pause in [4, 8, 16, 32, 60, 60, 60] {
            breaker.failed(now);
            now += Duration::from_secs(pause);
            assert!(!breaker.allows(now - Duration::from_millis(1)), "{pause}");
            assert!(breaker.allows(now), "{pause}");
        }
        assert_eq!(breaker.worked(), Some(Turn::Back));
        assert!(breaker.allows(now) && breaker.allows(now));
    }
}
