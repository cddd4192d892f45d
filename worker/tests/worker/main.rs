//! A worker as the bus and the stores see it.

// Clippy knows `#[test]` functions as tests, not their helpers.
#![allow(clippy::unwrap_used)]

mod caches;
mod canary;
mod failures;
mod ground;
mod lanes;
mod many;
mod processes;
mod results;
