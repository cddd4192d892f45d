//! Crash points of the worker (see `fulltime_common::crash`), and `FULLTIME_POISON=b.mp4#2`, which ends a process whenever
//! it decodes that interval of that recording, as a file that kills its decoder would.
//!
//! Points of the lane end its process, those of the delivery (from `before-event` on) the whole worker.

use std::sync::OnceLock;

use fulltime_common::crash;

const POISON: &str = "FULLTIME_POISON";

/// Where a process can be made to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The delivery has been pulled, nothing is fetched.
    BeforeFetch,
    /// A part of the shard's bytes is here.
    AfterFetch,
    BeforeDecode,
    /// An interval is decoded.
    AfterDecode,
    BeforeInfer,
    /// A batch is inferred.
    AfterInfer,
    /// The result is computed, nothing of it is stored.
    BeforeCommit,
    /// The tables are stored, the index that makes them a result is not.
    AfterTables,
    /// The result exists.
    AfterCommit,
    /// The worker knows of the result, and nobody else does.
    BeforeEvent,
    AfterEvent,
    /// The queue still holds the task.
    BeforeAck,
    AfterAck,
}

impl Point {
    /// In the order of a shard's way.
    pub const ALL: [Self; 13] = [
        Self::BeforeFetch,
        Self::AfterFetch,
        Self::BeforeDecode,
        Self::AfterDecode,
        Self::BeforeInfer,
        Self::AfterInfer,
        Self::BeforeCommit,
        Self::AfterTables,
        Self::AfterCommit,
        Self::BeforeEvent,
        Self::AfterEvent,
        Self::BeforeAck,
        Self::AfterAck,
    ];

    /// As `FULLTIME_CRASH_AT` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeFetch => "before-fetch",
            Self::AfterFetch => "after-fetch",
            Self::BeforeDecode => "before-decode",
            Self::AfterDecode => "after-decode",
            Self::BeforeInfer => "before-infer",
            Self::AfterInfer => "after-infer",
            Self::BeforeCommit => "before-commit",
            Self::AfterTables => "after-tables",
            Self::AfterCommit => "after-commit",
            Self::BeforeEvent => "before-event",
            Self::AfterEvent => "after-event",
            Self::BeforeAck => "before-ack",
            Self::AfterAck => "after-ack",
        }
    }
}

static POISONED: OnceLock<Option<(String, u32)>> = OnceLock::new();

pub fn point(point: Point) {
    crash::reached(point.name());
}

/// The decoder is about to see this interval.
pub fn decoding(recording: &str, interval: u32) {
    let poisoned = POISONED.get_or_init(|| {
        let text = std::env::var(POISON).ok()?;
        let (recording, interval) = text.rsplit_once('#')?;
        Some((recording.to_owned(), interval.parse().ok()?))
    });
    if let Some((poisoned, bad)) = poisoned
        && poisoned == recording
        && *bad == interval
    {
        tracing::error!(recording, interval, "poisoned interval reached");
        std::process::abort();
    }
}
