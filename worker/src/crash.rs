//! Crash points by name: `FULLTIME_CRASH_AT=commit` (or `commit:3` for the third time) ends this process abruptly where
//! the code says [`point`]. Crash tests set it; without the variable a point is one load.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

static ARMED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();

/// Names in use: `fetch`, `decode`, `infer`, `commit` (tables written, index not), `ack` (committed, not acknowledged).
pub fn point(name: &str) {
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("FULLTIME_CRASH_AT").ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU64::new(times.parse().ok()?)))
    });
    if let Some((armed, left)) = armed
        && armed == name
        && left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        tracing::error!(point = name, "crash point reached");
        std::process::abort();
    }
}
