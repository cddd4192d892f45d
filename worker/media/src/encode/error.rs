//! What can go wrong while a video is made.

use std::path::PathBuf;

/// Everything here ends the encoder: there is nothing to retry.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("{step} `{path}`", path = path.display())]
    Libav { step: &'static str, path: PathBuf, source: ffmpeg_next::Error },
    #[error("encode with `{codec}`: {step}")]
    Encode { codec: &'static str, step: &'static str, source: ffmpeg_next::Error },
    #[error("encoder `{codec}` is not in this FFmpeg")]
    NoEncoder { codec: &'static str },
    #[error("container of `{path}` is unknown: use .mp4, .mov, .mkv, .ts or .avi", path = path.display())]
    Container { path: PathBuf },
    #[error("picture size `{width}x{height}`: both must be even and at least 64")]
    Size { width: u32, height: u32 },
    #[error("frame of {found:?} pixels in a video of {expected:?}")]
    FrameSize { found: (u32, u32), expected: (u32, u32) },
    #[error("frame {frame} has no timestamp: `timestamps_ms` holds {given}")]
    Timestamp { frame: usize, given: usize },
    #[error("`{option}`: {reason}")]
    Option { option: &'static str, reason: &'static str },
}
