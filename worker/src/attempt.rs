//! One attempt at a task, as the one who runs it sees it: where to show progress, and whether to go on.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};

use tokio_util::sync::CancellationToken;
use wincode::{SchemaRead, SchemaWrite};

use crate::progress::Pulse;

/// Where an attempt stands. Phases only go forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, SchemaRead, SchemaWrite)]
pub enum Phase {
    /// What the task needs is brought near, perhaps while the lane still runs another.
    Fetching,
    /// A fresh process shows that it can work at all, before a task that runs alone.
    Canary,
    /// Everything is there; the lane is not free yet. Needs no beats.
    Waiting,
    /// On the lane.
    Running,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Fetching, Self::Canary, Self::Waiting, Self::Running];

    /// Whether the death of the lane is this attempt's doing.
    #[must_use]
    pub fn holds_lane(self) -> bool {
        match self {
            Self::Fetching | Self::Waiting => false,
            Self::Canary | Self::Running => true,
        }
    }
}

/// Who is told of an attempt's progress: the heartbeat of this worker, or the supervisor of this process.
pub trait Watcher: Send + Sync {
    fn phase(&self, phase: Phase);
    /// Something was finished, and with it so many frames.
    fn beat(&self, frames: u64);
}

/// Nobody: of what is no task.
pub struct Unwatched;

impl Watcher for Unwatched {
    fn phase(&self, _: Phase) {}
    fn beat(&self, _: u64) {}
}

/// See the module.
pub struct Attempt {
    may_exist: bool,
    halt: CancellationToken,
    phase: AtomicU8,
    isolated: AtomicBool,
    pulse: Pulse,
    watcher: Box<dyn Watcher>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("phase", &self.phase())
            .field("halted", &self.is_halted())
            .finish_non_exhaustive()
    }
}

impl Attempt {
    pub(crate) fn new(may_exist: bool, watcher: Box<dyn Watcher>) -> Self {
        let (phase, pulse) = (AtomicU8::new(Phase::Fetching as u8), Pulse::default());
        Self { may_exist, halt: CancellationToken::new(), phase, isolated: AtomicBool::new(false), pulse, watcher }
    }

    /// Whether the result may be there already: not when the coordinator looked just before this delivery.
    #[must_use]
    pub fn may_exist(&self) -> bool {
        self.may_exist
    }

    /// Cancelled when the attempt must end at the next batch. Nothing may be committed afterwards.
    #[must_use]
    pub fn halt(&self) -> &CancellationToken {
        &self.halt
    }

    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.halt.is_cancelled()
    }

    /// Something was finished: the lease may be renewed.
    pub fn beat(&self) {
        self.add_frames(0);
    }

    /// As [`Attempt::beat`], and with it so many frames.
    pub fn add_frames(&self, frames: u64) {
        self.pulse.beat();
        self.watcher.beat(frames);
    }

    /// The next phase; one that is behind the present one is ignored.
    pub fn enter(&self, phase: Phase) {
        self.pulse.beat();
        if self.phase.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8 {
            self.watcher.phase(phase);
        }
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::Acquire))]
    }

    /// From now on a failure is evidence against the input: the process is fresh, does nothing else, and its canary has
    /// passed.
    pub fn isolate(&self) {
        self.isolated.store(true, Ordering::Release);
    }

    #[must_use]
    pub fn is_isolated(&self) -> bool {
        self.isolated.load(Ordering::Acquire)
    }

    pub(crate) fn pulse(&self) -> &Pulse {
        &self.pulse
    }
}
