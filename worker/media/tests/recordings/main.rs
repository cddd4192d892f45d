//! Indexing and decoding of whole recordings, against libav's own straight decode.

// Lists of one range are meant; the damage is written byte by byte, by position.
#![allow(clippy::single_range_in_vec_init, clippy::needless_range_loop)]
// Clippy knows tests by their attribute alone; the helpers here are tests, too.
#![allow(clippy::unwrap_used)]

mod bench;
mod damage;
mod formats;
mod golden;
mod hardware;
mod real_clips;
mod refusals;
mod support;
