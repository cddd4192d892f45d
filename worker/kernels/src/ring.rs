//! What to issue next, where, and after what: the state of k batches that are on their way through a device at once.
//!
//! Pure: events go in, steps come out; `conveyor` does what it says. A batch takes the slot `batch % k` and goes through the
//! [`Stage`]s in order; each stage is issued on its stream as soon as the stage before has been *issued*, and the device is
//! told to wait for that one's event. The host waits for nothing but a finished batch, except before a stage that runs
//! on the host itself (`on_host`).
//!
//! Completions come in any order across streams. One that belongs to a batch whose end is known already says nothing new
//! and is ignored: events carry the batch, not the slot.

/// What a batch goes through, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    CopyIn,
    Preprocess,
    Infer,
    Postprocess,
    CopyOut,
}

impl Stage {
    pub const ALL: [Self; 5] = [Self::CopyIn, Self::Preprocess, Self::Infer, Self::Postprocess, Self::CopyOut];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CopyIn => "copy-in",
            Self::Preprocess => "preprocess",
            Self::Infer => "infer",
            Self::Postprocess => "postprocess",
            Self::CopyOut => "copy-out",
        }
    }

    fn before(self) -> Option<Self> {
        (self as usize).checked_sub(1).map(|i| Self::ALL[i])
    }
}

/// The stream of every stage.
pub type Streams = [usize; 5];

/// Both directions of the bus and the processors: what a GPU has engines for.
pub const THREE_STREAMS: Streams = [0, 1, 1, 1, 2];

/// Each stage on its own, so that kernels of neighbouring batches may share the processors.
pub const FIVE_STREAMS: Streams = [0, 1, 2, 3, 4];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingOptions {
    /// Batches in flight, at least 1.
    pub slots: usize,
    pub streams: Streams,
    /// A stage that the host does when the stage before has completed: an engine that knows no streams of ours.
    pub on_host: Option<Stage>,
}

/// One thing to issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub batch: u64,
    pub slot: usize,
    pub stage: Stage,
    pub stream: usize,
    /// The stage of the same batch whose event the stream must wait for; `None` where the stream's own order will do.
    pub after: Option<Stage>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The host has filled the free slot.
    Filled,
    /// A step was put on its stream.
    Issued { batch: u64, stage: Stage },
    /// A stream has come past a stage.
    Completed { batch: u64, stage: Stage },
    /// The host has read what the oldest batch has left in its slot.
    Taken,
}

/// An event that cannot have happened: a bug of whoever reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    #[error("no slot is free to be filled")]
    NoneFree,
    #[error("{} of batch {batch} was issued out of turn", stage.name())]
    OutOfTurn { batch: u64, stage: Stage },
    #[error("{} of batch {batch} completed without having been issued", stage.name())]
    NeverIssued { batch: u64, stage: Stage },
    #[error("no batch has been finished")]
    NoneDone,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// How many stages have been issued, and which have completed as far as was told.
    issued: usize,
    completed: [bool; 5],
}

/// The state.
#[derive(Debug, Clone)]
pub struct Ring {
    options: RingOptions,
    slots: Vec<Slot>,
    /// Batches below were taken; below the second were filled.
    taken: u64,
    filled: u64,
}

impl Ring {
    #[must_use]
    pub fn new(options: RingOptions) -> Self {
        let slots = options.slots.max(1);
        Self { options: RingOptions { slots, ..options }, slots: vec![Slot::default(); slots], taken: 0, filled: 0 }
    }

    #[must_use]
    pub fn slot_of(&self, batch: u64) -> usize {
        (batch % self.slots.len() as u64) as usize
    }

    /// Batches that were filled and not taken.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        (self.filled - self.taken) as usize
    }

    /// The batch that comes next and the slot that it may be filled into.
    #[must_use]
    pub fn free(&self) -> Option<(u64, usize)> {
        (self.in_flight() < self.slots.len()).then(|| (self.filled, self.slot_of(self.filled)))
    }

    /// The oldest batch, if it is finished.
    #[must_use]
    pub fn done(&self) -> Option<(u64, usize)> {
        let slot = self.slot_of(self.taken);
        (self.in_flight() > 0 && self.slots[slot].completed[Stage::CopyOut as usize]).then_some((self.taken, slot))
    }

    /// What can be issued now. Older batches come first, and no stage overtakes itself in an older batch, so every stream
    /// sees the batches in order.
    #[must_use]
    pub fn next(&self) -> Option<Step> {
        let mut limit = Stage::ALL.len();
        for batch in self.taken..self.filled {
            let slot = self.slot_of(batch);
            let issued = self.slots[slot].issued;
            if issued < limit && self.may_issue(slot, Stage::ALL[issued]) {
                let stage = Stage::ALL[issued];
                let stream = self.options.streams[issued];
                let after = stage.before().filter(|&before| self.options.streams[before as usize] != stream);
                return Some(Step { batch, slot, stage, stream, after });
            }
            limit = issued.min(limit);
        }
        None
    }

    /// What the host must wait for when nothing can be issued, filled or taken: the last stage issued of the oldest batch.
    #[must_use]
    pub fn awaited(&self) -> Option<(u64, Stage)> {
        let issued = self.slots[self.slot_of(self.taken)].issued;
        (self.in_flight() > 0 && issued > 0).then(|| (self.taken, Stage::ALL[issued - 1]))
    }

    fn may_issue(&self, slot: usize, stage: Stage) -> bool {
        match stage.before() {
            Some(before) if self.options.on_host == Some(stage) => self.slots[slot].completed[before as usize],
            _ => true,
        }
    }

    /// # Errors
    /// When that cannot have happened.
    pub fn on(&mut self, event: Event) -> Result<(), RingError> {
        match event {
            Event::Filled => {
                let (_, slot) = self.free().ok_or(RingError::NoneFree)?;
                self.slots[slot] = Slot::default();
                self.filled += 1;
            }
            Event::Issued { batch, stage } => {
                let due = self.next().filter(|step| (step.batch, step.stage) == (batch, stage));
                let step = due.ok_or(RingError::OutOfTurn { batch, stage })?;
                self.slots[step.slot].issued += 1;
            }
            Event::Completed { batch, stage } if batch >= self.taken => {
                let slot = self.slot_of(batch);
                if batch >= self.filled || self.slots[slot].issued <= stage as usize {
                    return Err(RingError::NeverIssued { batch, stage });
                }
                // Each stage of a batch waits for the one before.
                self.slots[slot].completed[..=stage as usize].fill(true);
            }
            Event::Completed { .. } => {}
            Event::Taken => {
                self.done().ok_or(RingError::NoneDone)?;
                self.taken += 1;
            }
        }
        Ok(())
    }
}
