//! Progress: what leases follow. A [`Pulse`] beats when a piece of work is finished (a batch, a range read, a stage);
//! nothing renews a lease from a timer alone.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The time of the last beat. An atomic, since a thousand lanes beat and hardly anyone looks.
#[derive(Debug)]
pub struct Pulse(AtomicU64);

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

impl Default for Pulse {
    fn default() -> Self {
        let pulse = Self(AtomicU64::new(0));
        pulse.beat();
        pulse
    }
}

impl Pulse {
    pub fn beat(&self) {
        self.0.fetch_max(origin().elapsed().as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn last(&self) -> Instant {
        origin() + Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// How leases follow beats.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub lease: Duration,
    /// Longest time without a beat.
    pub stall: Duration,
}

/// What is to be done about a delivery now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Nothing,
    Renewal,
    /// It has stalled.
    End,
}

impl Pace {
    /// `may_stall`: whether a lack of beats is a fault, or only waiting.
    pub fn due(&self, now: Instant, renewed: Instant, beat: Instant, may_stall: bool) -> Due {
        if may_stall && now.saturating_duration_since(beat) >= self.stall {
            Due::End
        } else if beat > renewed && now.saturating_duration_since(renewed) >= self.lease / 3 {
            Due::Renewal
        } else {
            Due::Nothing
        }
    }

    /// How often to look while a beat is awaited: often enough that one just before the end of a lease is still in time.
    pub fn tick(&self) -> Duration {
        (self.lease / 10).min(self.stall / 8).max(Duration::from_millis(5))
    }

    /// How long to wait until the next look: there is nothing to renew before a third of the lease is over.
    pub fn pause(&self, now: Instant, renewed: Instant) -> Duration {
        let tick = self.tick();
        (renewed + self.lease / 3).saturating_duration_since(now).min(self.stall / 8).max(tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { lease: Duration::from_secs(9), stall: Duration::from_secs(60) };

    #[test]
    fn a_lease_is_kept_by_beats_and_by_nothing_else() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(PACE.due(at(2), start, at(1), true), Due::Nothing, "a third of the lease is not over");
        assert_eq!(PACE.due(at(3), start, at(1), true), Due::Renewal);
        assert_eq!(PACE.due(at(50), start, start, true), Due::Nothing, "no beat, no renewal");
        assert_eq!(PACE.due(at(50), at(40), at(40), true), Due::Nothing, "that beat has been paid for");
    }

    #[test]
    fn what_makes_no_progress_ends_unless_it_waits() {
        let start = Instant::now();
        let late = start + PACE.stall;
        assert_eq!(PACE.due(late, start, start, true), Due::End);
        assert_eq!(PACE.due(late, start, start, false), Due::Nothing);
        assert_eq!(PACE.due(late, start, late, true), Due::Renewal);
    }

    #[test]
    fn nobody_looks_before_there_can_be_anything_to_renew() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(PACE.pause(at(0), start), Duration::from_secs(3));
        assert_eq!(PACE.pause(at(2_000), start), Duration::from_secs(1));
        assert_eq!(PACE.pause(at(2_990), start), PACE.tick(), "a beat is awaited");
        assert_eq!(PACE.pause(at(8_000), start), PACE.tick());
        let impatient = Pace { stall: Duration::from_secs(8), ..PACE };
        assert_eq!(impatient.pause(at(0), start), Duration::from_secs(1), "a stall is seen in time");
    }

    #[test]
    fn a_pulse_remembers_its_last_beat() {
        let before = Instant::now();
        let pulse = Pulse::default();
        assert!(pulse.last() >= before && pulse.last() <= Instant::now());
    }
}
