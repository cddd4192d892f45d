//! What will go wrong, and when: drawn from a seed before anything starts, so that a seed is a bug report.

use std::time::Duration;

use fastrand::Rng;

/// A part of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Worker(usize),
    Coordinator(usize),
    Broker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL; started again later.
    Kill,
    /// SIGTERM; started again once it has ended.
    Term,
    /// SIGSTOP, then SIGCONT.
    Stop,
    /// Killed, and its whole storage removed.
    Wipe,
    /// Killed, and random bits of its files flipped.
    Flip,
    /// Killed, and its files cut at random places.
    Truncate,
    /// The disk of the results is full for a while.
    Full,
    /// Its wall clock jumps, forwards or backwards, by up to a day.
    Clock,
}

impl Target {
    /// What the report counts together.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Worker(_) => "workers",
            Self::Coordinator(_) => "coordinators",
            Self::Broker => "broker",
        }
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Term => "SIGTERM",
            Self::Stop => "SIGSTOP",
            Self::Wipe => "storage wiped",
            Self::Flip => "bits flipped",
            Self::Truncate => "files truncated",
            Self::Full => "disk full",
            Self::Clock => "clock jump",
        }
    }
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// After the job was submitted.
    pub at: Duration,
    pub target: Target,
    pub kind: Kind,
    /// Until the part is back.
    pub lasts: Duration,
    /// For what the kind draws further: which bits, where to cut, how far to jump.
    pub seed: u64,
}

/// Longest pause between two faults.
const PAUSE: u64 = 900;
/// Faults drawn; the job is usually over before the last.
const FAULTS: usize = 200;

/// The schedule of a seed.
pub fn draw(seed: u64, workers: usize, coordinators: usize) -> Vec<Fault> {
    let mut rng = Rng::with_seed(seed);
    let mut at = Duration::from_millis(rng.u64(0..600));
    let faults = std::iter::repeat_with(|| {
        let target = match rng.u32(0..10) {
            0..5 => Target::Worker(rng.usize(0..workers)),
            5..8 => Target::Coordinator(rng.usize(0..coordinators)),
            _ => Target::Broker,
        };
        let kind = if target == Target::Broker {
            match rng.u32(0..12) {
                0..5 => Kind::Kill,
                5..7 => Kind::Stop,
                7..9 => Kind::Wipe,
                9..11 => Kind::Flip,
                _ => Kind::Truncate,
            }
        } else {
            match rng.u32(0..12) {
                0..5 => Kind::Kill,
                5..7 => Kind::Term,
                7..10 => Kind::Stop,
                10 => Kind::Clock,
                _ => Kind::Full,
            }
        };
        let longest = match kind {
            // Longer than the leases of tasks and of the leader, now and then.
            Kind::Stop => 5_000,
            Kind::Full => 1_500,
            _ => 1_000,
        };
        let fault = Fault { at, target, kind, lasts: Duration::from_millis(rng.u64(10..longest)), seed: rng.u64(..) };
        at += Duration::from_millis(rng.u64(20..PAUSE));
        fault
    });
    faults.take(FAULTS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(draw(7, 3, 2), draw(7, 3, 2));
        assert_ne!(draw(7, 3, 2), draw(8, 3, 2));
        let all: Vec<Fault> = (0..50).flat_map(|seed| draw(seed, 3, 2)).collect();
        for kind in
            [Kind::Kill, Kind::Term, Kind::Stop, Kind::Wipe, Kind::Flip, Kind::Truncate, Kind::Full, Kind::Clock]
        {
            assert!(all.iter().any(|fault| fault.kind == kind), "{} is never drawn", kind.name());
        }
    }
}
