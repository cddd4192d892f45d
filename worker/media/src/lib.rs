//! From bytes in object storage to numbered pictures, over libav (FFmpeg's libraries).
//!
//! Two entry points. [`index_recording`] is what an index task runs: it reads as little of a container as will do and
//! says which bytes are which frames and where decoding can start cleanly. [`IntervalDecoder`] is what a lane runs: it
//! turns the bytes of one interval into [`Picture`]s that carry their absolute frame number. Neither knows jobs, queues
//! or models; the decoder knows no runtime and no store.
//!
//! [`encode`] is the way back, from pictures to a file; nothing that is stored as a result comes out of it.
//!
//! What keeps results independent of how a recording was cut: an interval is always decoded by a fresh decoder from its
//! own packets, and an interval in which the decoder had to conceal anything yields nothing at all.

// `fetch` takes a list of ranges; a list of one is no slip.
#![allow(clippy::single_range_in_vec_init)]

mod av;
mod codec;
mod decode;
mod ebml;
pub mod encode;
mod error;
pub mod hardware;
mod index;
mod matroska;
mod mp4;
mod mpegts;
mod nal;
mod order;
mod picture;
mod scan;
mod source;
mod table;

pub use decode::{GapReason, IntervalDecoder, IntervalOutcome};
pub use error::MediaError;
pub use index::index_recording;
pub use picture::{Matrix, Picture, Plane};

/// The decoder implementation, for engine classes: `libavcodec-59.37.100`. [`hardware::decoder_class`] where a GPU decodes.
#[must_use]
pub fn decoder_class() -> String {
    let version = ffmpeg_next::codec::version();
    format!("libavcodec-{}.{}.{}", version >> 16, version >> 8 & 0xff, version & 0xff)
}
