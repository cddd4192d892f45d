//! Why a recording cannot be indexed or decoded, what that means for its task, and what an operator can do.

use fulltime_common::{
    error::{Disposition, Exit, Explain},
    store::StoreError,
};

/// A recording that is refused, or a machine that cannot process it. Damage within a recording is no error: it makes
/// gaps (see [`crate::GapReason`]).
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    #[error("recording `{key}` is empty (0 bytes)")]
    Empty { key: String },
    #[error("recording `{key}` is not a video in a container that fulltime reads")]
    NotAVideo { key: String },
    #[error("recording `{key}` has no moov atom: it was cut off before its index was written")]
    NoMoov { key: String },
    #[error("recording `{key}` ({container}) has no video stream, it is audio only")]
    NoVideoStream { key: String, container: String },
    #[error("recording `{key}`: no decoder for its video codec `{codec}`")]
    UnsupportedCodec { key: String, codec: String },
    #[error("recording `{key}`: the packets of a `{container}` file cannot be read by byte range")]
    UnsupportedContainer { key: String, container: String },
    #[error("recording `{key}` has no keyframe")]
    NoKeyframe { key: String },
    #[error("recording `{key}` has reordered frames without presentation timestamps")]
    NoTimestamps { key: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{action} failed in libav")]
    Libav {
        action: &'static str,
        #[source]
        source: ffmpeg_next::Error,
    },
    #[error("this machine's libavcodec has no decoder `{name}`")]
    NoDecoder { name: String },
    #[error("GPU {ordinal} cannot be opened for decoding")]
    NoHardware {
        ordinal: u32,
        #[source]
        source: ffmpeg_next::Error,
    },
    #[error("interval {interval} needs bytes {wanted:?}, {given:?} were given")]
    BytesMissing { interval: usize, wanted: std::ops::Range<u64>, given: std::ops::Range<u64> },
    #[error("the recording has no interval {interval}")]
    NoSuchInterval { interval: usize },
    #[error("indexing was interrupted")]
    Interrupted,
}

impl MediaError {
    /// What it means for the index or map task that met it.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Empty { .. }
            | Self::NotAVideo { .. }
            | Self::NoMoov { .. }
            | Self::NoVideoStream { .. }
            | Self::UnsupportedCodec { .. }
            | Self::UnsupportedContainer { .. }
            | Self::NoKeyframe { .. }
            | Self::NoTimestamps { .. }
            | Self::BytesMissing { .. }
            | Self::NoSuchInterval { .. } => Disposition::PoisonInput,
            Self::Store(error) => error.disposition(),
            // What libav refuses outright is out of memory; everything that the input can cause is a gap or a refusal.
            Self::Libav { .. } => Disposition::OutOfMemory,
            Self::NoDecoder { .. } | Self::NoHardware { .. } => Disposition::WorkerUnfit,
            Self::Interrupted => Disposition::PreEmpted,
        }
    }
}

impl Explain for MediaError {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::NoDecoder { .. } | Self::NoHardware { .. } | Self::Libav { .. } => Exit::Runtime,
            Self::Interrupted => Exit::Interrupted,
            Self::BytesMissing { .. } | Self::NoSuchInterval { .. } => Exit::Internal,
            Self::Empty { .. }
            | Self::NotAVideo { .. }
            | Self::NoMoov { .. }
            | Self::NoVideoStream { .. }
            | Self::UnsupportedCodec { .. }
            | Self::UnsupportedContainer { .. }
            | Self::NoKeyframe { .. }
            | Self::NoTimestamps { .. } => Exit::Archive,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Empty { .. } => "copy the recording into the archive again",
            Self::NotAVideo { .. } => "remove it from the selection, or convert it to MP4",
            Self::NoMoov { .. } => "the recording is truncated; copy it again, or repair it with the recorder's tool",
            Self::NoVideoStream { .. } => "remove it from the selection",
            Self::UnsupportedCodec { .. } => "convert it to H.264 or HEVC",
            Self::UnsupportedContainer { .. } => "remux it to MP4: ffmpeg -i IN -c copy OUT.mp4",
            Self::NoKeyframe { .. } => "decoding cannot start anywhere in it; encode it again from its source",
            Self::NoTimestamps { .. } => "remux it to MP4: ffmpeg -fflags +genpts -i IN -c copy OUT.mp4",
            Self::Store(error) => return error.hint(),
            Self::Libav { .. } => "give the worker more memory or fewer lanes",
            Self::NoDecoder { .. } => "install an FFmpeg that has this decoder",
            Self::NoHardware { .. } => {
                "install NVIDIA's driver with its video part and an FFmpeg with CUDA, or leave `--decode` at `cpu`"
            }
            Self::BytesMissing { .. } | Self::NoSuchInterval { .. } => {
                "report it: plan and index do not belong together"
            }
            Self::Interrupted => return None,
        };
        Some(hint.to_owned())
    }
}
