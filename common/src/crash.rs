//! Crash points by name: `FULLTIME_CRASH_AT=after-tables` (or `after-tables:3` for the third time) ends a process abruptly
//! where its code says that the point is reached. Crash tests set it; without it a point is one load. Worker and
//! coordinator each name their own.

use std::{
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The variable that arms a point.
pub const CRASH_AT: &str = "FULLTIME_CRASH_AT";

static ARMED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();

/// The process has come to this point, and may end here.
pub fn reached(point: &str) {
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var(CRASH_AT).ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU64::new(times.parse().ok()?)))
    });
    if let Some((armed, left)) = armed
        && armed == point
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        tracing::error!(point, "crash point reached");
        std::process::abort();
    }
}

/// A process that takes the place of one that died does not die of the same crash point.
pub fn disarm(command: &mut Command) {
    command.env_remove(CRASH_AT);
}
