//! The container index of one recording: which bytes are which frames, and where decoding can start cleanly.
//! Made once by an index task, committed under `indexes/{digest}`, read by the planner (to cut) and by lanes (to fetch
//! and decode exactly the bytes of their shard, without parsing the container again).

use std::ops::Range;

use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

use crate::{digest::Digest, plan::RecordingRef, semantics};

/// How a lane gets from bytes to packets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub enum Access {
    /// `packets` lists position and size of every payload: slice them out of the file (MP4, MOV, AVI, FLV, Matroska).
    Sliced,
    /// Put `prefix` (the container's header bytes) before the shard's byte range and let the demuxer named `format` run
    /// over both. The n-th video packet it yields is the n-th row of `packets` from the interval's first (transport
    /// streams, whose payload does not lie in one piece).
    Demuxed { format: String, prefix: Vec<u8> },
    /// As `Demuxed`, but the index was made from the container's cues alone: `packets` is empty, and a frame's number is
    /// its timestamp less `first_ns` divided by `frame_ns`, rounded (Matroska with cues and a default duration).
    Gridded { format: String, prefix: Vec<u8>, frame_ns: u64, first_ns: i64 },
}

/// What a decoder must know before the first packet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct Codec {
    /// libav's decoder name: `h264`, `hevc`, `msmpeg4v3`, …
    pub name: String,
    /// Container's codec tag (FourCC), needed by a few decoders.
    pub tag: u32,
    pub extradata: Vec<u8>,
    /// Coded picture size in pixels.
    pub width: u32,
    pub height: u32,
    /// Bits per coded sample and block alignment as in `AVCodecParameters`, zero when unknown.
    pub bits_per_coded_sample: i32,
}

/// The packets of the video stream in decoding order, as columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct Packets {
    /// Byte offset in the file. For `Demuxed`, of the transport packet that the payload begins in.
    pub pos: Vec<u64>,
    /// Bytes of payload; for `Demuxed` without the zero bytes around it.
    pub size: Vec<u32>,
    /// Frame number in presentation order from 0; `u32::MAX` for packets that are decoded but never shown (edit lists).
    pub frame: Vec<u32>,
}

/// A maximal run of frames that starts at a clean point (IDR, HEVC IRAP, recovery point with count 0, any keyframe of an
/// intra-only or MPEG-4 codec) and is decoded on its own: the decoder is fresh at `packets.start`. In an open GOP the
/// packets run past the next clean point, through the leading pictures that belong to this interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct Interval {
    /// Frames in presentation order.
    pub frames: Range<u32>,
    /// Rows of the packet table; empty for `Gridded`.
    pub packets: Range<u32>,
    /// Bytes to fetch in order to decode all `frames`.
    pub bytes: Range<u64>,
}

/// The index itself. Written with wincode (bincode's format), compressed with zstd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, SchemaRead, SchemaWrite)]
pub struct RecordingIndex {
    pub recording: RecordingRef,
    /// libav's demuxer name, for people.
    pub container: String,
    pub access: Access,
    pub codec: Codec,
    /// Average frame rate as a fraction.
    pub frame_rate: (u32, u32),
    /// Presentation time of every frame in microseconds, ascending. From the container's time zero; transport streams,
    /// whose clock starts anywhere, are counted from their first frame. For `Gridded` empty.
    pub frame_us: Vec<i64>,
    /// Number of frames.
    pub frames: u32,
    pub packets: Packets,
    /// Ascending, adjoining, covering `0..frames`.
    pub intervals: Vec<Interval>,
    /// Bytes read from the archive to make this index.
    pub bytes_read: u64,
}

/// Mark of a packet that is decoded but never shown.
pub const NEVER_SHOWN: u32 = u32::MAX;

/// An index object that cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("decompress the container index")]
    Decompress(#[source] std::io::Error),
    #[error("decode the container index")]
    Decode(#[source] wincode::ReadError),
    #[error("encode the container index")]
    Encode(#[source] wincode::WriteError),
}

impl RecordingIndex {
    /// Key of the index of this recording: known before the recording is opened.
    #[must_use]
    pub fn digest(archive: &str, recording: &RecordingRef) -> Digest {
        Digest::of_json(&("index", semantics::INDEX, archive, recording))
    }

    /// # Errors
    /// Only when a length does not fit the format.
    pub fn to_bytes(&self) -> Result<Vec<u8>, IndexError> {
        let plain = wincode::serialize(self).map_err(IndexError::Encode)?;
        zstd::bulk::compress(&plain, 3).map_err(IndexError::Decompress)
    }

    /// # Errors
    /// When the bytes are not an index of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IndexError> {
        let plain = zstd::stream::decode_all(bytes).map_err(IndexError::Decompress)?;
        wincode::deserialize(&plain).map_err(IndexError::Decode)
    }

    /// Presentation time of a frame in microseconds from the container's time zero.
    #[must_use]
    pub fn frame_us(&self, frame: u32) -> i64 {
        match &self.access {
            Access::Gridded { frame_ns, first_ns, .. } => {
                ((i128::from(*first_ns) + i128::from(frame) * i128::from(*frame_ns)) / 1000) as i64
            }
            _ => self.frame_us.get(frame as usize).copied().unwrap_or_default(),
        }
    }

    /// Frames per second.
    #[must_use]
    pub fn fps(&self) -> f64 {
        f64::from(self.frame_rate.0) / f64::from(self.frame_rate.1.max(1))
    }
}
