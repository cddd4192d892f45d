//! Where answers came from, and what went wrong, by kind. Counted without locks; told as differences, as lanes tell what
//! they did.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fulltime_observe::CacheTally;

use crate::Kind;

/// Who had the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// This process.
    Memory,
    /// This machine's disk.
    Disk,
    Redis,
    /// Nobody: it was read from the store, or computed.
    Source,
}

/// What went wrong with Redis. None of it stops anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An entry that was not what was put.
    Unsound,
    /// No answer, or not in time.
    Failed,
    /// Not asked: it has failed before.
    Skipped,
    /// Not put: too large, or too much was on its way.
    Unkept,
}

impl Level {
    const ALL: [Self; 4] = [Self::Memory, Self::Disk, Self::Redis, Self::Source];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Redis => "redis",
            Self::Source => "source",
        }
    }
}

impl Fault {
    const ALL: [Self; 4] = [Self::Unsound, Self::Failed, Self::Skipped, Self::Unkept];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsound => "unsound",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Unkept => "unkept",
        }
    }
}

type Counts = [[AtomicU64; 4]; Kind::ALL.len()];

/// See the module.
#[derive(Debug, Default)]
pub struct Figures {
    answers: Counts,
    faults: Counts,
}

impl Figures {
    pub fn answered(&self, kind: Kind, level: Level) {
        self.answers[kind.number()][level as usize].fetch_add(1, Relaxed);
    }

    pub fn failed(&self, kind: Kind, fault: Fault) {
        self.faults[kind.number()][fault as usize].fetch_add(1, Relaxed);
    }

    /// Answers of a level so far, since the last [`Figures::take`].
    #[must_use]
    pub fn answers(&self, kind: Kind, level: Level) -> u64 {
        self.answers[kind.number()][level as usize].load(Relaxed)
    }

    #[must_use]
    pub fn faults(&self, kind: Kind, fault: Fault) -> u64 {
        self.faults[kind.number()][fault as usize].load(Relaxed)
    }

    /// What has been counted since the last time; nothing of what is 0.
    #[must_use]
    pub fn take(&self) -> Vec<CacheTally> {
        let tally = |counts: &Counts, kind: Kind, at: usize, what: &'static str, fault: bool| {
            let count = counts[kind.number()][at].swap(0, Relaxed);
            (count > 0).then(|| CacheTally { kind: kind.name().to_owned(), what: what.to_owned(), fault, count })
        };
        let mut tallies = Vec::new();
        for kind in Kind::ALL {
            tallies.extend(Level::ALL.iter().filter_map(|l| tally(&self.answers, kind, *l as usize, l.name(), false)));
            tallies.extend(Fault::ALL.iter().filter_map(|f| tally(&self.faults, kind, *f as usize, f.name(), true)));
        }
        tallies
    }
}
