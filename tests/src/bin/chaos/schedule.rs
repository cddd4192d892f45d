//! What will go wrong, and when: drawn from a seed before anything starts, so that a seed is a bug report.

use std::{borrow::Cow, time::Duration};

use fastrand::Rng;
use fulltime_tests::network::Way;

/// Where a schedule's job keeps its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// In folders; the results on a small disk of their own.
    Folders,
    /// In a bucket of an S3 gateway, the archive too.
    Bucket,
}

impl Ground {
    /// One seed in three is on a bucket, so that a few in a row have seen both.
    pub fn of(seed: u64) -> Self {
        if seed.is_multiple_of(3) { Self::Bucket } else { Self::Folders }
    }
}

/// A part of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Worker(usize),
    Coordinator(usize),
    Broker,
    /// The gateway, for everybody.
    Store,
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
    /// Its wall clock jumps, forwards or backwards, by up to a day, or as far as S3 allows.
    Clock,
    /// Trouble on its way to a server, or on everybody's to it.
    Net(Way, Trouble),
}

/// What may be wrong with a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Nothing gets through, and nobody is told.
    Parted,
    /// Nothing gets to the server; its words still arrive.
    Mute,
    /// Nothing comes back from the server.
    Deaf,
    /// Everything arrives late.
    Delayed,
    /// Little gets through.
    Narrow,
    /// Every connection is reset, once.
    Reset,
    /// Every connection is reset, for a while.
    Refused,
    /// Most requests are answered with 503.
    Busy,
    /// Many requests are carried out and the connection reset instead of the answer.
    Unanswered,
}

impl Target {
    /// What the report counts together.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Worker(_) => "workers",
            Self::Coordinator(_) => "coordinators",
            Self::Broker => "broker",
            Self::Store => "store",
        }
    }
}

impl Trouble {
    /// On any way.
    const ON_THE_WAY: [Self; 7] =
        [Self::Parted, Self::Mute, Self::Deaf, Self::Delayed, Self::Narrow, Self::Reset, Self::Refused];
    /// And of what speaks HTTP.
    const OF_STORES: [Self; 9] = [
        Self::Parted,
        Self::Mute,
        Self::Deaf,
        Self::Delayed,
        Self::Narrow,
        Self::Reset,
        Self::Refused,
        Self::Busy,
        Self::Unanswered,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Parted => "parted",
            Self::Mute => "mute",
            Self::Deaf => "deaf",
            Self::Delayed => "delayed",
            Self::Narrow => "narrow",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::Busy => "answers 503",
            Self::Unanswered => "done, unanswered",
        }
    }
}

impl Kind {
    pub fn name(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Kill => "SIGKILL",
            Self::Term => "SIGTERM",
            Self::Stop => "SIGSTOP",
            Self::Wipe => "storage wiped",
            Self::Flip => "bits flipped",
            Self::Truncate => "files truncated",
            Self::Full => "disk full",
            Self::Clock => "clock jump",
            Self::Net(way, trouble) => {
                let way = match way {
                    Way::ToBroker => "way to broker",
                    Way::ToStore => "way to store",
                };
                return Cow::Owned(format!("{way} {}", trouble.name()));
            }
        })
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
    /// For what the kind draws further: which bits, where to cut, how far to jump, how slow.
    pub seed: u64,
}

/// Longest pause between two faults.
const PAUSE: u64 = 900;
/// Faults drawn; the job is usually over before the last.
const FAULTS: usize = 200;

/// The schedule of a seed.
pub fn draw(seed: u64, workers: usize, coordinators: usize) -> Vec<Fault> {
    let (mut rng, ground) = (Rng::with_seed(seed), Ground::of(seed));
    let mut at = Duration::from_millis(rng.u64(0..600));
    let faults = std::iter::repeat_with(|| {
        let target = match rng.u32(0..10) {
            0..5 => Target::Worker(rng.usize(0..workers)),
            5..8 => Target::Coordinator(rng.usize(0..coordinators)),
            8 => Target::Broker,
            _ if ground == Ground::Bucket => Target::Store,
            _ => Target::Broker,
        };
        let kind = kind(target, ground, &mut rng);
        let longest = match kind {
            // Longer than the leases of tasks and of the leader, now and then.
            Kind::Stop | Kind::Net(..) => 5_000,
            Kind::Full => 1_500,
            _ => 1_000,
        };
        let fault = Fault { at, target, kind, lasts: Duration::from_millis(rng.u64(10..longest)), seed: rng.u64(..) };
        at += Duration::from_millis(rng.u64(20..PAUSE));
        fault
    });
    faults.take(FAULTS).collect()
}

fn kind(target: Target, ground: Ground, rng: &mut Rng) -> Kind {
    let net = |way, rng: &mut Rng| {
        let of = if way == Way::ToStore { &Trouble::OF_STORES[..] } else { &Trouble::ON_THE_WAY };
        Kind::Net(way, of[rng.usize(0..of.len())])
    };
    let draw = rng.u32(0..16);
    match target {
        Target::Store => net(Way::ToStore, rng),
        Target::Broker => match draw {
            0..5 => Kind::Kill,
            5..7 => Kind::Stop,
            7..9 => Kind::Wipe,
            9..11 => Kind::Flip,
            11 => Kind::Truncate,
            _ => net(Way::ToBroker, rng),
        },
        Target::Worker(_) | Target::Coordinator(_) => match (draw, ground) {
            (0..4, _) => Kind::Kill,
            (4..6, _) => Kind::Term,
            (6..8, _) => Kind::Stop,
            (8, _) => Kind::Clock,
            (9, Ground::Folders) => Kind::Full,
            (9..13, Ground::Bucket) => net(Way::ToStore, rng),
            _ => net(Way::ToBroker, rng),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(draw(7, 3, 2), draw(7, 3, 2));
        assert_ne!(draw(7, 3, 2), draw(8, 3, 2));
        let all: Vec<Fault> = (0..50).flat_map(|seed| draw(seed, 3, 2)).collect();
        let parts =
            [Kind::Kill, Kind::Term, Kind::Stop, Kind::Wipe, Kind::Flip, Kind::Truncate, Kind::Full, Kind::Clock];
        let bus = Trouble::ON_THE_WAY.map(|trouble| Kind::Net(Way::ToBroker, trouble));
        let store = Trouble::OF_STORES.map(|trouble| Kind::Net(Way::ToStore, trouble));
        for kind in parts.into_iter().chain(bus).chain(store) {
            assert!(all.iter().any(|fault| fault.kind == kind), "{} is never drawn", kind.name());
        }
        for way in [Way::ToBroker, Way::ToStore] {
            let everybody = |fault: &&Fault| matches!(fault.target, Target::Broker | Target::Store);
            let parted = |fault: &Fault| fault.kind == Kind::Net(way, Trouble::Parted);
            assert!(all.iter().filter(everybody).any(parted), "{way:?} is never cut for all");
        }
    }

    #[test]
    fn what_a_ground_does_not_have_is_not_drawn_for_it() {
        for seed in 0..60 {
            let to_store = |fault: &Fault| matches!(fault.kind, Kind::Net(Way::ToStore, _));
            let drawn = draw(seed, 3, 2);
            assert_eq!(drawn.iter().any(to_store), Ground::of(seed) == Ground::Bucket, "{seed}");
            assert_eq!(drawn.iter().any(|f| f.kind == Kind::Full), Ground::of(seed) == Ground::Folders, "{seed}");
        }
    }
}
