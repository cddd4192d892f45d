//! Which recordings are decoded on the lane's GPU, if the operator asked for it (`--decode gpu`). Pure but for `edge`, which asks
//! libav; [`IntervalDecoder`](crate::IntervalDecoder) is its caller.
//!
//! A GPU may decode what its standard decodes exactly: H.264, HEVC, VP9 and AV1 prescribe every bit, so the pictures are those
//! of the processor. MPEG-2 and MPEG-4 leave the rounding of their transform to the decoder; they stay where they are. So do 10
//! bits and 4:2:2, whose way to the 8 bits that we work on is libswscale's. Whether this GPU has a decoder for a codec and a size,
//! the driver says when libav opens it.
//!
//! What a GPU cannot say is that a slice is damaged within: libav does not ask for the status of a decoded picture. Where the
//! processor finds a gap, a GPU may give pixels; so the processor is the default.

mod edge;

use std::fmt;

pub use edge::HardwareDevice;
pub(crate) use edge::{Choosing, in_memory};

/// The decoder implementation, for engine classes: with `nvdec-` in front where a GPU decodes what it can.
#[must_use]
pub fn decoder_class() -> String {
    format!("nvdec-{}", crate::decoder_class())
}

/// A stream as its headers describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stream<'a> {
    /// libav's decoder name: `h264`, `hevc`.
    codec: &'a str,
    /// libav's number of the profile.
    profile: i32,
    /// Bits of a sample.
    depth: u32,
    /// By how many bits the colour planes are smaller; `None`: not Y, Cb, Cr.
    chroma: Option<(u32, u32)>,
}

/// Why a stream is decoded where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// On the GPU.
    Able,
    Inexact,
    Samples {
        depth: u32,
    },
    Profile {
        profile: i32,
    },
    /// It failed so often where the processor did not.
    Sick {
        faults: u32,
    },
    /// libav does not offer the GPU, or could not open its decoder.
    Refused,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Able => f.write_str("the GPU decodes it"),
            Self::Sick { faults } => write!(f, "the GPU's decoder has failed {faults} times"),
            Self::Inexact => f.write_str("the codec's standard does not prescribe every bit"),
            Self::Samples { depth } => write!(f, "samples are not 4:2:0 with 8 bits ({depth} bits)"),
            Self::Profile { profile } => write!(f, "no GPU decodes profile {profile} to the bit"),
            Self::Refused => f.write_str("libav or the driver does not offer the GPU's decoder for this stream"),
        }
    }
}

/// After so many faults a GPU's decoder is left alone.
const SICK: u32 = 3;

/// Codecs and profiles: H.264 baseline (with and without its constraint), main, high; HEVC main; VP9 0; AV1 main.
const ABLE: [(&str, &[i32]); 4] = [("h264", &[66, 578, 77, 100]), ("hevc", &[1]), ("vp9", &[0]), ("av1", &[0])];

/// Where to decode a stream, on a GPU whose decoder has met so many faults.
fn judge(stream: &Stream, faults: u32) -> Verdict {
    let Some((_, profiles)) = ABLE.iter().find(|(codec, _)| *codec == stream.codec) else { return Verdict::Inexact };
    if (stream.depth, stream.chroma) != (8, Some((1, 1))) {
        return Verdict::Samples { depth: stream.depth };
    }
    if !profiles.contains(&stream.profile) {
        return Verdict::Profile { profile: stream.profile };
    }
    if faults >= SICK { Verdict::Sick { faults } } else { Verdict::Able }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(codec: &str, profile: i32) -> Stream<'_> {
        Stream { codec, profile, depth: 8, chroma: Some((1, 1)) }
    }

    #[test]
    fn the_gpu_decodes_what_its_standard_prescribes_to_the_bit() {
        for (codec, profile) in [("h264", 66), ("h264", 77), ("h264", 100), ("hevc", 1), ("vp9", 0), ("av1", 0)] {
            assert_eq!(judge(&stream(codec, profile), 0), Verdict::Able, "{codec}");
        }
        for codec in ["mpeg2video", "mpeg4", "msmpeg4v3", "mjpeg", "vc1"] {
            assert_eq!(judge(&stream(codec, 0), 0), Verdict::Inexact, "{codec}");
        }
        assert_eq!(judge(&stream("h264", 110), 0), Verdict::Profile { profile: 110 });
        assert_eq!(judge(&stream("hevc", 4), 0), Verdict::Profile { profile: 4 });
    }

    #[test]
    fn samples_that_would_have_to_be_converted_stay_on_the_processor() {
        let ten = Stream { depth: 10, ..stream("hevc", 1) };
        assert_eq!(judge(&ten, 0), Verdict::Samples { depth: 10 });
        for chroma in [Some((1, 0)), Some((0, 0)), None] {
            assert_eq!(judge(&Stream { chroma, ..stream("h264", 100) }, 0), Verdict::Samples { depth: 8 });
        }
    }

    #[test]
    fn several_faults_end_the_trust_in_a_decoder() {
        assert_eq!(judge(&stream("h264", 100), SICK - 1), Verdict::Able);
        assert_eq!(judge(&stream("h264", 100), SICK), Verdict::Sick { faults: SICK });
    }
}
