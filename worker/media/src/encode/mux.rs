//! Packets to a container file, with an optional tone interleaved. Bit-exact: no dates, no random ids, no version strings.

use std::path::{Path, PathBuf};

use ffmpeg_next::{
    ChannelLayout, Dictionary, Packet, Rational, Rescale, codec, encoder,
    error::EAGAIN,
    format::{self, Sample, sample::Type},
    frame::Audio,
};

use super::{EncodeError, EncodeOptions, quiet};

const SAMPLE_RATE: u32 = 48_000;
const TONE_HZ: f64 = 440.0;
const VIDEO: usize = 0;
const AUDIO: usize = 1;

/// The containers that the decode tests care about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    Mp4,
    Mov,
    Matroska,
    MpegTs,
    Avi,
}

impl Container {
    pub fn of(path: &Path) -> Result<Self, EncodeError> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("mp4") => Ok(Self::Mp4),
            Some("mov") => Ok(Self::Mov),
            Some("mkv") => Ok(Self::Matroska),
            Some("ts") => Ok(Self::MpegTs),
            Some("avi") => Ok(Self::Avi),
            _ => Err(EncodeError::Container { path: path.into() }),
        }
    }

    /// Whether parameter sets belong in the container's header instead of in the stream.
    #[must_use]
    pub fn wants_global_header(self) -> bool {
        match self {
            Self::Mp4 | Self::Mov | Self::Matroska => true,
            Self::MpegTs | Self::Avi => false,
        }
    }

    fn muxer_name(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Mov => "mov",
            Self::Matroska => "matroska",
            Self::MpegTs => "mpegts",
            Self::Avi => "avi",
        }
    }

    fn options(self, options: &EncodeOptions) -> Dictionary<'static> {
        let mut dictionary = Dictionary::new();
        dictionary.set("fflags", "+bitexact");
        match self {
            Self::Mp4 | Self::Mov if options.fragmented => {
                dictionary.set("movflags", "frag_keyframe+empty_moov+default_base_moof");
            }
            Self::Matroska if !options.cues => dictionary.set("live", "1"),
            Self::Mp4 | Self::Mov | Self::Matroska | Self::MpegTs | Self::Avi => {}
        }
        dictionary
    }
}

/// Writes one video stream (and the tone) to one file.
pub struct Muxer {
    output: format::context::Output,
    path: PathBuf,
    time_base: Rational,
    nominal_duration: i64,
    tone: Option<Tone>,
}

impl std::fmt::Debug for Muxer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Muxer({})", self.path.display())
    }
}

impl Muxer {
    /// Creates the file and writes its header; `video` comes from the encoder that makes the packets.
    pub fn create(path: &Path, options: &EncodeOptions, video: codec::Parameters) -> Result<Self, EncodeError> {
        quiet();
        let failed = |step| move |source| EncodeError::Libav { step, path: path.into(), source };
        let container = Container::of(path)?;
        let mut output = format::output_as(path, container.muxer_name()).map_err(failed("create"))?;
        let time_base = options.time_base();
        {
            let mut stream = output.add_stream(codec::Id::None).map_err(failed("add a video stream to"))?;
            stream.set_parameters(video);
            stream.set_time_base(time_base);
            // Matroska takes its default duration from this; a variable rate has none.
            if options.timestamps_ms.is_none() {
                stream.set_avg_frame_rate(time_base.invert());
            }
        }
        let tone = match options.audio {
            false => None,
            true => {
                let tone = Tone::open(container)?;
                let mut stream = output.add_stream(codec::Id::None).map_err(failed("add an audio stream to"))?;
                stream.set_parameters(codec::Parameters::from(&tone.encoder));
                stream.set_time_base((1, SAMPLE_RATE as i32));
                Some(tone)
            }
        };
        output.write_header_with(container.options(options)).map_err(failed("write the header of"))?;
        let frame_time = Rational(options.fps.1 as i32, options.fps.0 as i32);
        Ok(Self { output, path: path.into(), time_base, nominal_duration: 1.rescale(frame_time, time_base), tone })
    }

    /// Writes a video packet in decoding order, its times moved by `offset` (for segments that were encoded alone).
    pub fn write(&mut self, mut packet: Packet, offset: i64) -> Result<(), EncodeError> {
        packet.set_pts(packet.pts().map(|t| t + offset));
        packet.set_dts(packet.dts().map(|t| t + offset));
        if packet.duration() == 0 {
            // Without it the last frame lasts no time, and an edit list would hide it.
            packet.set_duration(self.nominal_duration);
        }
        if let Some(dts) = packet.dts() {
            self.play_until(dts.rescale(self.time_base, (1, SAMPLE_RATE as i32)))?;
        }
        self.put(packet, VIDEO, self.time_base)
    }

    /// Writes the trailer. Disk-full and the like may show only here.
    pub fn finish(mut self) -> Result<(), EncodeError> {
        if let Some(mut tone) = self.tone.take() {
            for packet in tone.finish()? {
                self.put(packet, AUDIO, Rational(1, SAMPLE_RATE as i32))?;
            }
        }
        self.output.write_trailer().map_err(|source| self.failed("finish", source))
    }

    fn play_until(&mut self, sample: i64) -> Result<(), EncodeError> {
        let packets = match &mut self.tone {
            None => return Ok(()),
            Some(tone) => tone.until(sample)?,
        };
        packets.into_iter().try_for_each(|packet| self.put(packet, AUDIO, Rational(1, SAMPLE_RATE as i32)))
    }

    fn put(&mut self, mut packet: Packet, stream: usize, from: Rational) -> Result<(), EncodeError> {
        // The muxer may have replaced the time base that we asked for.
        let to = self.output.stream(stream).map_or(from, |s| s.time_base());
        packet.set_stream(stream);
        packet.rescale_ts(from, to);
        packet.set_position(-1);
        packet.write_interleaved(&mut self.output).map_err(|source| self.failed("write a packet to", source))
    }

    fn failed(&self, step: &'static str, source: ffmpeg_next::Error) -> EncodeError {
        EncodeError::Libav { step, path: self.path.clone(), source }
    }
}

/// A mono MP2 tone: the one audio codec that every container here takes as it is.
struct Tone {
    encoder: encoder::audio::Encoder,
    next: i64,
}

impl Tone {
    const CODEC: &str = "mp2";

    fn open(container: Container) -> Result<Self, EncodeError> {
        let failed = |step| move |source| EncodeError::Encode { codec: Self::CODEC, step, source };
        let codec = encoder::find_by_name(Self::CODEC).ok_or(EncodeError::NoEncoder { codec: Self::CODEC })?;
        let mut audio =
            codec::Context::new_with_codec(codec).encoder().audio().map_err(failed("make an audio context"))?;
        audio.set_rate(SAMPLE_RATE as i32);
        audio.set_format(Sample::I16(Type::Packed));
        audio.set_channel_layout(ChannelLayout::MONO);
        audio.set_channels(1);
        audio.set_bit_rate(64_000);
        audio.set_time_base((1, SAMPLE_RATE as i32));
        let mut flags = codec::Flags::BITEXACT;
        flags.set(codec::Flags::GLOBAL_HEADER, container.wants_global_header());
        audio.set_flags(flags);
        Ok(Self { encoder: audio.open_as(codec).map_err(failed("open"))?, next: 0 })
    }

    /// Whole audio frames that start before `sample`.
    fn until(&mut self, sample: i64) -> Result<Vec<Packet>, EncodeError> {
        let mut packets = Vec::new();
        while self.next < sample {
            let length = self.encoder.frame_size() as usize;
            let mut frame = Audio::new(Sample::I16(Type::Packed), length, ChannelLayout::MONO);
            frame.set_rate(SAMPLE_RATE);
            frame.set_channels(1);
            frame.set_pts(Some(self.next));
            for (i, value) in frame.plane_mut::<i16>(0).iter_mut().enumerate() {
                let time = (self.next + i as i64) as f64 / f64::from(SAMPLE_RATE);
                *value = ((time * TONE_HZ * std::f64::consts::TAU).sin() * 3000.0) as i16;
            }
            self.next += length as i64;
            self.encoder.send_frame(&frame).map_err(|source| Self::failed("take a frame", source))?;
            self.drain(&mut packets)?;
        }
        Ok(packets)
    }

    fn finish(&mut self) -> Result<Vec<Packet>, EncodeError> {
        let mut packets = Vec::new();
        self.encoder.send_eof().map_err(|source| Self::failed("end", source))?;
        self.drain(&mut packets)?;
        Ok(packets)
    }

    fn drain(&mut self, packets: &mut Vec<Packet>) -> Result<(), EncodeError> {
        loop {
            let mut packet = Packet::empty();
            match self.encoder.receive_packet(&mut packet) {
                Ok(()) => packets.push(packet),
                Err(ffmpeg_next::Error::Eof | ffmpeg_next::Error::Other { errno: EAGAIN }) => return Ok(()),
                Err(source) => return Err(Self::failed("give a packet", source)),
            }
        }
    }

    fn failed(step: &'static str, source: ffmpeg_next::Error) -> EncodeError {
        EncodeError::Encode { codec: Self::CODEC, step, source }
    }
}
