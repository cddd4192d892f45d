//! In-process encoding through libav: one picture in, packets out, and [`Encoder`] that writes them to a file at once.
//! Single-threaded and bit-exact, so the same pictures and options give the same bytes. Called by exports of annotated
//! video, and by the makers of synthetic matches and of test files.
//!
//! ```no_run
//! use fulltime_media::encode::{EncodeOptions, Encoder, Yuv420Frame};
//! let options = EncodeOptions { gop: 25, bframes: 2, open_gop: true, ..EncodeOptions::new(320, 180) };
//! let mut encoder = Encoder::create("open-gop.mp4", &options)?;
//! for _ in 0..250 {
//!     encoder.push(&Yuv420Frame::new(320, 180))?;
//! }
//! encoder.finish()?;
//! # Ok::<(), fulltime_media::encode::EncodeError>(())
//! ```

use std::{
    path::{Path, PathBuf},
    sync::Once,
};

use ffmpeg_next::{
    Dictionary, Packet, Rational, codec, color, encoder, error::EAGAIN, format::Pixel, frame::Video, log,
};

mod error;
mod frame;
mod mux;

pub use error::EncodeError;
pub use frame::{Yuv420Frame, check_size};
pub use mux::{Container, Muxer};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    H264,
    Hevc,
    /// MPEG-4 part 2, what old AVI files hold.
    Mpeg4,
}

impl Codec {
    #[must_use]
    pub fn encoder_name(self) -> &'static str {
        match self {
            Self::H264 => "libx264",
            Self::Hevc => "libx265",
            Self::Mpeg4 => "mpeg4",
        }
    }
}

/// How to encode and wrap. The container follows from the path's extension: mp4, mov, mkv, ts or avi.
#[derive(Debug, Clone)]
pub struct EncodeOptions {
    pub width: u32,
    pub height: u32,
    /// Frames per second as a fraction.
    pub fps: (u32, u32),
    pub codec: Codec,
    /// Distance of keyframes; they come nowhere else (no scene-cut detection).
    pub gop: u32,
    pub bframes: u32,
    /// Keyframes after the first are recovery points (H.264) or CRA pictures (HEVC) with leading pictures before them.
    pub open_gop: bool,
    /// No keyframe after the first: a column of intra blocks wanders over the picture instead. x264 and x265 only.
    pub intra_refresh: bool,
    /// Constant quality of x264 and x265; the quantiser of MPEG-4 is derived from it.
    pub crf: u32,
    /// Constant quantiser instead of `crf`: x264 then spares itself a look at every picture, a quarter of its time.
    pub qp: Option<u32>,
    pub preset: &'static str,
    /// One presentation time per frame in milliseconds, rising: variable frame rate.
    pub timestamps_ms: Option<Vec<i64>>,
    /// So many frames at the start lie before time zero; MP4 and MOV hide them with an edit list.
    pub hidden_lead: u32,
    /// An MP2 tone, interleaved, so that byte ranges hold more than video.
    pub audio: bool,
    /// MP4 and MOV: a fragment per keyframe and no index in front.
    pub fragmented: bool,
    /// Matroska: with Cues and duration; without, the file looks like a recorded live stream.
    pub cues: bool,
}

impl EncodeOptions {
    /// 25 frames/s H.264 with a closed GOP of 50 frames and no B-frames.
    #[must_use]
    pub fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            fps: (25, 1),
            codec: Codec::H264,
            gop: 50,
            bframes: 0,
            open_gop: false,
            intra_refresh: false,
            crf: 23,
            qp: None,
            preset: "superfast",
            timestamps_ms: None,
            hidden_lead: 0,
            audio: false,
            fragmented: false,
            cues: true,
        }
    }

    /// Unit of the timestamps given to the encoder.
    #[must_use]
    pub fn time_base(&self) -> Rational {
        if self.timestamps_ms.is_some() { Rational(1, 1000) } else { Rational(self.fps.1 as i32, self.fps.0 as i32) }
    }

    /// Presentation time of frame `n` in [`Self::time_base`] units.
    pub fn pts(&self, n: usize) -> Result<i64, EncodeError> {
        let time = |n: usize| match &self.timestamps_ms {
            None => Ok(n as i64),
            Some(times) => times.get(n).copied().ok_or(EncodeError::Timestamp { frame: n, given: times.len() }),
        };
        Ok(time(n)? - time(self.hidden_lead as usize)?)
    }

    fn check(&self) -> Result<(), EncodeError> {
        let refuse = |option, reason| Err(EncodeError::Option { option, reason });
        check_size(self.width, self.height)?;
        match self {
            Self { fps: (0, _) | (_, 0), .. } => refuse("fps", "must be above zero"),
            Self { gop: 0, .. } => refuse("gop", "must be above zero"),
            Self { codec: Codec::Mpeg4, intra_refresh: true, .. } => refuse("intra_refresh", "mpeg4 cannot"),
            _ => Ok(()),
        }
    }

    fn dictionary(&self) -> Dictionary<'static> {
        let mut options = Dictionary::new();
        let on = |flag: bool| u8::from(flag);
        match (self.codec, self.qp) {
            (Codec::Mpeg4, _) => {}
            (Codec::H264 | Codec::Hevc, Some(qp)) => options.set("qp", &qp.to_string()),
            (Codec::H264 | Codec::Hevc, None) => options.set("crf", &self.crf.to_string()),
        }
        match self.codec {
            Codec::H264 => {
                options.set("preset", self.preset);
                // Fixed B-frame placement: a test that asks for B-frames gets them whatever the pictures show.
                let params = format!(
                    "keyint={gop}:min-keyint={gop}:scenecut=0:open-gop={}:intra-refresh={}:bframes={}:b-adapt=0",
                    on(self.open_gop),
                    on(self.intra_refresh),
                    self.bframes,
                    gop = self.gop,
                );
                options.set("x264-params", &params);
            }
            Codec::Hevc => {
                options.set("preset", self.preset);
                let params = format!(
                    "keyint={gop}:min-keyint={gop}:scenecut=0:open-gop={}:intra-refresh={}:bframes={}:b-adapt=0:\
                     frame-threads=1:pools=none:wpp=0:log-level=none",
                    on(self.open_gop),
                    on(self.intra_refresh),
                    self.bframes,
                    gop = self.gop,
                );
                options.set("x265-params", &params);
            }
            Codec::Mpeg4 => {
                let quantiser = (self.crf / 5).clamp(2, 31).to_string();
                options.set("qmin", &quantiser);
                options.set("qmax", &quantiser);
                options.set("sc_threshold", "1000000000");
            }
        }
        options
    }
}

/// Frames to packets. Its own instance a segment, so that segments can be encoded side by side.
pub struct VideoEncoder {
    inner: encoder::video::Encoder,
    picture: Video,
    codec: &'static str,
    size: (u32, u32),
}

impl std::fmt::Debug for VideoEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VideoEncoder({}, {:?})", self.codec, self.size)
    }
}

impl VideoEncoder {
    pub fn open(options: &EncodeOptions, container: Container) -> Result<Self, EncodeError> {
        quiet();
        options.check()?;
        let name = options.codec.encoder_name();
        let failed = |step| move |source| EncodeError::Encode { codec: name, step, source };
        let codec = encoder::find_by_name(name).ok_or(EncodeError::NoEncoder { codec: name })?;
        let mut video =
            codec::Context::new_with_codec(codec).encoder().video().map_err(failed("make a video context"))?;
        video.set_width(options.width);
        video.set_height(options.height);
        video.set_format(Pixel::YUV420P);
        video.set_time_base(options.time_base());
        video.set_frame_rate(Some(Rational(options.fps.0 as i32, options.fps.1 as i32)));
        video.set_gop(options.gop);
        video.set_max_b_frames(options.bframes as usize);
        video.set_threading(codec::threading::Config::count(1));
        video.set_color_range(color::Range::MPEG);
        video.set_colorspace(color::Space::BT709);
        video.set_color_primaries(color::Primaries::BT709);
        video.set_color_transfer_characteristic(color::TransferCharacteristic::BT709);
        let mut flags = codec::Flags::BITEXACT;
        flags.set(codec::Flags::GLOBAL_HEADER, container.wants_global_header());
        flags.set(codec::Flags::CLOSED_GOP, !options.open_gop);
        video.set_flags(flags);
        let inner = video.open_as_with(codec, options.dictionary()).map_err(failed("open"))?;
        let picture = Video::new(Pixel::YUV420P, options.width, options.height);
        Ok(Self { inner, picture, codec: name, size: (options.width, options.height) })
    }

    /// Encodes `frame`, shown at `pts` ([`EncodeOptions::time_base`]), and returns the packets that are ready.
    pub fn push(&mut self, frame: &Yuv420Frame, pts: i64) -> Result<Vec<Packet>, EncodeError> {
        if (frame.width, frame.height) != self.size {
            return Err(EncodeError::FrameSize { found: (frame.width, frame.height), expected: self.size });
        }
        let picture = &mut self.picture;
        // SAFETY: the frame is ours and has buffers. Encoders may keep references to them; then this gives it new ones.
        let writable = unsafe { ffmpeg_next::ffi::av_frame_make_writable(picture.as_mut_ptr()) };
        if writable < 0 {
            return Err(self.failed("make room for a frame", writable.into()));
        }
        picture.set_pts(Some(pts));
        for i in 0..3 {
            let (plane, width, _) = frame.plane(i);
            let stride = picture.stride(i);
            for (to, from) in picture.data_mut(i).chunks_mut(stride).zip(plane.chunks_exact(width)) {
                to[..width].copy_from_slice(from);
            }
        }
        self.inner.send_frame(&self.picture).map_err(|source| self.failed("take a frame", source))?;
        self.drain()
    }

    /// What the encoder still holds.
    pub fn finish(mut self) -> Result<Vec<Packet>, EncodeError> {
        self.inner.send_eof().map_err(|source| self.failed("end", source))?;
        self.drain()
    }

    /// What a muxer has to know of the stream.
    #[must_use]
    pub fn parameters(&self) -> codec::Parameters {
        codec::Parameters::from(&self.inner)
    }

    fn drain(&mut self) -> Result<Vec<Packet>, EncodeError> {
        let mut packets = Vec::new();
        loop {
            let mut packet = Packet::empty();
            match self.inner.receive_packet(&mut packet) {
                Ok(()) => packets.push(packet),
                Err(ffmpeg_next::Error::Eof | ffmpeg_next::Error::Other { errno: EAGAIN }) => return Ok(packets),
                Err(source) => return Err(self.failed("give a packet", source)),
            }
        }
    }

    fn failed(&self, step: &'static str, source: ffmpeg_next::Error) -> EncodeError {
        EncodeError::Encode { codec: self.codec, step, source }
    }
}

/// Frames to a file: encoder and muxer in one, for tests that need a file of a certain kind.
#[derive(Debug)]
pub struct Encoder {
    options: EncodeOptions,
    video: VideoEncoder,
    muxer: Muxer,
    pushed: usize,
}

impl Encoder {
    pub fn create(path: impl AsRef<Path>, options: &EncodeOptions) -> Result<Self, EncodeError> {
        let path: PathBuf = path.as_ref().into();
        let video = VideoEncoder::open(options, Container::of(&path)?)?;
        let muxer = Muxer::create(&path, options, video.parameters())?;
        Ok(Self { options: options.clone(), video, muxer, pushed: 0 })
    }

    pub fn push(&mut self, frame: &Yuv420Frame) -> Result<(), EncodeError> {
        let pts = self.options.pts(self.pushed)?;
        self.pushed += 1;
        self.video.push(frame, pts)?.into_iter().try_for_each(|packet| self.muxer.write(packet, 0))
    }

    /// Writes what is left and the container's index. A file that was not finished is not valid.
    pub fn finish(mut self) -> Result<(), EncodeError> {
        self.video.finish()?.into_iter().try_for_each(|packet| self.muxer.write(packet, 0))?;
        self.muxer.finish()
    }
}

/// libav and x264 talk on stderr; errors come back as values anyway.
pub(crate) fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| log::set_level(log::Level::Fatal));
}

/// The codec that a name on the command line means.
impl std::str::FromStr for Codec {
    type Err = EncodeError;

    fn from_str(name: &str) -> Result<Self, EncodeError> {
        match name {
            "h264" => Ok(Self::H264),
            "hevc" => Ok(Self::Hevc),
            "mpeg4" => Ok(Self::Mpeg4),
            _ => Err(EncodeError::Option { option: "codec", reason: "must be h264, hevc or mpeg4" }),
        }
    }
}
