//! Indexing and decoding of whole recordings, against libav's own straight decode.

// Clippy knows tests by their attribute alone; the helpers here are tests, too.
#![allow(clippy::unwrap_used)]

mod bench;
mod damage;
mod formats;
mod real_clips;
mod refusals;
mod support;
