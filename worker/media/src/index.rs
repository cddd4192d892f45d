//! Making the container index of a recording: chooses the cheapest way its container allows.
//!
//! 1. MP4 and MOV with their index atom: [`crate::mp4`], ranged reads of the atom and of keyframe heads.
//! 2. Matroska with cues and a default duration: [`crate::matroska`], ranged reads of header, cues and keyframe heads.
//! 3. Everything else: [`crate::scan`], the whole file is read once.

use std::ffi::CStr;

use ffmpeg_next::ffi::{AVERROR, ENOMEM, avcodec_find_decoder};
use fulltime_common::{
    index::{Codec, RecordingIndex},
    plan::RecordingRef,
    store::Store,
};
use tokio::runtime::Handle;

use crate::{
    av::{Demuxer, Stream, failed, text},
    error::MediaError,
    matroska, mp4,
    nal::Rule,
    scan,
    source::Source,
};

/// Reads a recording's container and says which bytes are which frames. Every read is conditional on the planned
/// `ETag`. libav's work runs on a blocking thread of the current runtime.
///
/// # Errors
/// The recording is refused by name, it is no longer the planned one, or the store fails.
pub async fn index_recording(archive: &Store, recording: &RecordingRef) -> Result<RecordingIndex, MediaError> {
    let source = Source::new(archive.clone(), recording.clone(), Handle::current());
    tokio::task::spawn_blocking(move || index(source)).await.map_err(|_| MediaError::Interrupted)?
}

fn index(mut source: Source) -> Result<RecordingIndex, MediaError> {
    if source.recording.size == 0 {
        return Err(MediaError::Empty { key: source.recording.key });
    }
    if mp4::survey(&mut source)? {
        return mp4::index(source);
    }
    if let Some(survey) = matroska::survey(&mut source)? {
        match matroska::index(source, survey)? {
            Ok(index) => return Ok(index),
            // Cues that do not tell the truth: read it all, and do not trust them.
            Err(back) => source = back,
        }
    }
    scan::index(source)
}

/// An opened container with its video stream.
pub(crate) struct Opened {
    pub demuxer: Demuxer<Source>,
    pub stream: Stream,
    pub container: String,
    pub codec: Codec,
    pub rule: Rule,
}

impl Opened {
    /// Opens whatever the bytes are. `look_inside` lets libav read packets for what the header does not say.
    pub fn new(source: Source, look_inside: bool) -> Result<Self, MediaError> {
        let key = source.recording.key.clone();
        let mut demuxer = match Demuxer::open(source, None) {
            Ok(demuxer) => demuxer,
            Err((mut source, code)) => {
                source.take_error()?;
                return Err(match code {
                    code if code == AVERROR(ENOMEM) => failed("open a container", code),
                    _ => MediaError::NotAVideo { key },
                });
            }
        };
        if look_inside {
            let found = demuxer.find_stream_info();
            demuxer.input().take_error()?;
            found.map_err(|_| MediaError::NotAVideo { key: key.clone() })?;
        }
        let container = demuxer.format();
        let Some(stream) = demuxer.video() else { return Err(MediaError::NoVideoStream { key, container }) };
        demuxer.only(&stream);
        let Some(codec) = codec(&stream) else {
            return Err(MediaError::UnsupportedCodec { key, codec: stream.codec_name() });
        };
        let rule = Rule::new(&codec.name, &codec.extradata);
        Ok(Self { demuxer, stream, container, codec, rule })
    }
}

/// What a decoder must know; `None` where this libavcodec has none for the codec.
fn codec(stream: &Stream) -> Option<Codec> {
    // SAFETY: the demuxer that owns the parameters is open; `extradata` has `extradata_size` bytes.
    unsafe {
        let parameters = &*stream.parameters();
        let decoder = avcodec_find_decoder(parameters.codec_id);
        if decoder.is_null() {
            return None;
        }
        let extradata = match parameters.extradata_size {
            1.. => std::slice::from_raw_parts(parameters.extradata, parameters.extradata_size as usize).to_vec(),
            _ => Vec::new(),
        };
        Some(Codec {
            name: text((*decoder).name),
            tag: parameters.codec_tag,
            extradata,
            width: parameters.width.max(0) as u32,
            height: parameters.height.max(0) as u32,
            bits_per_coded_sample: parameters.bits_per_coded_sample,
        })
    }
}

/// The name that a demuxer is found by: the first of libav's list.
pub(crate) const MPEGTS: &CStr = c"mpegts";
pub(crate) const MATROSKA: &CStr = c"matroska";
