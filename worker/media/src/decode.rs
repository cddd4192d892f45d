//! Decoding one interval: its bytes become pictures with absolute frame numbers, or a gap with a reason.
//! Lanes call it, on a thread of their own.
//!
//! Every interval gets a fresh decoder on one thread and exactly its own packets, so that pictures depend on the
//! recording alone, not on where shards were cut or which interval ran before. Packets carry their frame number as the
//! timestamp; reordering, variable frame rates and edit lists are settled when the index is made.

use std::{collections::BTreeSet, ffi::CString, ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use fulltime_common::index::{Access, Codec, Interval, NEVER_SHOWN, Packets, RecordingIndex};

use crate::{
    av::{Demuxer, Input, Packet},
    codec::{Decoder, Step},
    error::MediaError,
    hardware::{HardwareDevice, Verdict},
    mpegts,
    nal::Rule,
    picture::{Picture, Scaler},
};

/// Why an interval has no pictures. The caller discards those it was given before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GapReason {
    #[error("the recording ends before the data of frame {frame}")]
    Truncated { frame: u32 },
    #[error("data is lost within frame {frame}")]
    Lost { frame: u32 },
    #[error("the container does not hold the packets that were indexed")]
    NotAsIndexed,
    #[error("the time of a frame is off the recording's frame rate")]
    OffGrid,
    #[error("the data of frame {frame} is damaged")]
    Damaged { frame: u32 },
    #[error("frame {frame} is concealed: data that it refers to is damaged or lost")]
    Concealed { frame: u32 },
    #[error("the decoder gave no picture for frame {frame}")]
    Dropped { frame: u32 },
    #[error("frames come out of order at frame {frame}")]
    Disorder { frame: u32 },
}

/// How decoding an interval ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntervalOutcome {
    /// Every frame was sunk, in order, but for the `missing` ones: frames that the recording does not really hold
    /// (skipped by its encoder, or leading pictures whose references were cut off before the recording began).
    Complete { missing: Vec<u32> },
    /// The sink said so.
    Stopped,
    /// No frame of the interval may be used.
    Gap(GapReason),
}

/// Decodes the intervals of one recording, in any order.
pub struct IntervalDecoder {
    access: Access,
    codec: Codec,
    packets: Packets,
    intervals: Vec<Interval>,
    rule: Rule,
    /// Bytes of the recording.
    size: u64,
    scaler: Scaler,
    gpu: Option<Arc<HardwareDevice>>,
    /// Where the last stream was decoded, if that was a question.
    verdict: Option<Verdict>,
}

/// One packet to decode.
struct Unit {
    /// Frame number or [`NEVER_SHOWN`].
    frame: u32,
    data: Bytes,
}

impl std::fmt::Debug for IntervalDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntervalDecoder").field("codec", &self.codec.name).finish_non_exhaustive()
    }
}

impl IntervalDecoder {
    /// # Errors
    /// This machine has no decoder for the recording.
    pub fn new(index: &RecordingIndex) -> Result<Self, MediaError> {
        let decoder = Self {
            access: index.access.clone(),
            codec: index.codec.clone(),
            packets: index.packets.clone(),
            intervals: index.intervals.clone(),
            rule: Rule::new(&index.codec.name, &index.codec.extradata),
            size: index.recording.size,
            scaler: Scaler::default(),
            gpu: None,
            verdict: None,
        };
        Decoder::new(&decoder.codec, 0, None)?;
        Ok(decoder)
    }

    /// Decodes on this GPU from now on what it decodes to the bit (see [`crate::hardware`]), the rest on the processor.
    #[must_use]
    pub fn on_gpu(mut self, device: Arc<HardwareDevice>) -> Self {
        self.gpu = Some(device);
        self
    }

    /// Why recordings are decoded where they are, once a first packet has been; `None` without a GPU.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Decodes interval number `interval`. `bytes` is any part of the recording that holds the interval's bytes; it
    /// begins at `bytes_start` in the file. The sink gets each frame once, in ascending order.
    ///
    /// # Errors
    /// Bytes that do not hold the interval, or a lack of memory. Damage is no error but a gap.
    pub fn decode(
        &mut self,
        interval: usize,
        bytes: &Bytes,
        bytes_start: u64,
        sink: &mut dyn FnMut(u32, Picture) -> ControlFlow<()>,
    ) -> Result<IntervalOutcome, MediaError> {
        let span = self.intervals.get(interval).ok_or(MediaError::NoSuchInterval { interval })?.clone();
        let given = bytes_start..bytes_start + bytes.len() as u64;
        if span.bytes.start < given.start || span.bytes.end > given.end {
            return Err(MediaError::BytesMissing { interval, wanted: span.bytes, given });
        }
        let own = bytes.slice((span.bytes.start - bytes_start) as usize..(span.bytes.end - bytes_start) as usize);
        let units = match self.units(&span, own)? {
            Ok(units) => units,
            Err(reason) => return Ok(IntervalOutcome::Gap(reason)),
        };
        let Some(gpu) = self.gpu.clone() else { return self.run(interval, &span, &units, None, sink) };
        let mut next = span.frames.start;
        let outcome = self.run(interval, &span, &units, Some(&gpu), &mut |number, picture| {
            next = number + 1;
            sink(number, picture)
        });
        let failed = matches!(outcome, Ok(IntervalOutcome::Gap(_)) | Err(_));
        if !failed || self.verdict != Some(Verdict::Able) {
            return outcome;
        }
        // A GPU cannot say whether the data or the decoder is at fault: the processor can. Pictures that came are good.
        let again = self.run(interval, &span, &units, None, &mut |number, picture| {
            if number < next { ControlFlow::Continue(()) } else { sink(number, picture) }
        });
        if matches!(again, Ok(IntervalOutcome::Complete { .. })) {
            tracing::warn!(interval, ?outcome, "the GPU's decoder failed where the processor's does not");
            gpu.add_fault();
        }
        again
    }

    /// The interval's packets in decoding order.
    fn units(&self, span: &Interval, bytes: Bytes) -> Result<Result<Vec<Unit>, GapReason>, MediaError> {
        match &self.access {
            Access::Sliced => Ok(self.sliced(span, &bytes)),
            Access::Demuxed { format, prefix } => {
                let input = Joined { prefix: prefix.clone().into(), body: bytes, seekable: true };
                self.demuxed(span, input, format)
            }
            Access::Gridded { format, prefix, frame_ns, first_ns } => {
                // Unseekable, so that the demuxer does not look for cues where this range has none.
                let input = Joined { prefix: prefix.clone().into(), body: bytes, seekable: false };
                gridded(span, input, format, i128::from(*frame_ns), i128::from(*first_ns))
            }
        }
    }

    fn rows(&self, span: &Interval) -> impl Iterator<Item = (u64, u32, u32)> {
        let rows = span.packets.start as usize..span.packets.end as usize;
        rows.map(|row| (self.packets.pos[row], self.packets.size[row], self.packets.frame[row]))
    }

    fn sliced(&self, span: &Interval, bytes: &Bytes) -> Result<Vec<Unit>, GapReason> {
        let slice = |(pos, size, frame): (u64, u32, u32)| {
            if pos + u64::from(size) > self.size {
                return Err(GapReason::Truncated {
                    frame: if frame == NEVER_SHOWN { span.frames.start } else { frame },
                });
            }
            let start = (pos - span.bytes.start) as usize;
            Ok(Unit { frame, data: bytes.slice(start..start + size as usize) })
        };
        self.rows(span).map(slice).collect()
    }

    fn demuxed(
        &self,
        span: &Interval,
        input: Joined,
        format: &str,
    ) -> Result<Result<Vec<Unit>, GapReason>, MediaError> {
        let Some(mut demuxer) = VideoPackets::open(input, format)? else { return Ok(Err(GapReason::NotAsIndexed)) };
        let mut units = Vec::with_capacity(span.packets.len());
        for (_, size, frame) in self.rows(span) {
            let Some(packet) = demuxer.next() else { return Ok(Err(GapReason::NotAsIndexed)) };
            if mpegts::payload_len(packet.data()) != size {
                return Ok(Err(GapReason::NotAsIndexed));
            }
            if packet.corrupt() {
                return Ok(Err(GapReason::Lost { frame }));
            }
            units.push(Unit { frame, data: Bytes::copy_from_slice(packet.data()) });
        }
        Ok(Ok(units))
    }

    fn run(
        &mut self,
        interval: usize,
        span: &Interval,
        units: &[Unit],
        gpu: Option<&Arc<HardwareDevice>>,
        sink: &mut dyn FnMut(u32, Picture) -> ControlFlow<()>,
    ) -> Result<IntervalOutcome, MediaError> {
        // Leading pictures come before the keyframe in presentation and need the interval before: they are decoded, as
        // the decoder expects them, but what becomes of them says nothing about this interval.
        let key =
            units.first().map(|unit| unit.frame).filter(|&frame| frame != NEVER_SHOWN).unwrap_or(span.frames.start);
        let shown = |frame: u32| (key..span.frames.end).contains(&frame);
        let mut due: BTreeSet<u32> = units.iter().map(|unit| unit.frame).filter(|&frame| shown(frame)).collect();
        let mut missing = Vec::new();
        let mut next = span.frames.start;
        let mut decoder = Decoder::new(&self.codec, reorder_depth(units), gpu)?;
        let gap = |reason| Ok(IntervalOutcome::Gap(reason));

        for unit in units.iter().map(Some).chain([None]) {
            // Damage that shows when the last pictures come out is laid to the last frame.
            let frame = unit.map_or(span.frames.end - 1, |unit| unit.frame);
            let leading = frame < key;
            let blamed = if frame == NEVER_SHOWN { key } else { frame };
            match unit {
                Some(unit) => {
                    if self.rule.is_broken(&unit.data) && !leading {
                        return gap(GapReason::Damaged { frame: blamed });
                    }
                    let number = (unit.frame != NEVER_SHOWN).then_some(i64::from(unit.frame));
                    if !decoder.send(&unit.data, number)? && !leading {
                        return gap(GapReason::Damaged { frame: blamed });
                    }
                }
                None => decoder.drain(),
            }
            self.note(decoder.verdict());
            loop {
                let (number, whole, frame) = match decoder.receive() {
                    Step::Picture { number, whole, frame } => (number, whole, frame),
                    Step::Hungry => break,
                    Step::Damaged if leading => continue,
                    Step::Damaged => return gap(GapReason::Damaged { frame: blamed }),
                };
                let number = number.and_then(|number| u32::try_from(number).ok());
                // The first interval owns its leading pictures: they are shown if they can be decoded.
                let owned = number.filter(|number| span.frames.contains(number) && (*number >= key || interval == 0));
                if !whole && number.is_none_or(|number| number >= key) {
                    return gap(GapReason::Concealed { frame: number.unwrap_or(blamed) });
                }
                let Some(number) = owned.filter(|_| whole) else { continue };
                if number < next {
                    return gap(GapReason::Disorder { frame: number });
                }
                missing.extend(next..number);
                next = number + 1;
                due.remove(&number);
                if sink(number, Picture::new(frame, &mut self.scaler)?).is_break() {
                    return Ok(IntervalOutcome::Stopped);
                }
            }
            // The first packet refers to nothing: what the decoder misses there lies before the interval.
            let first = unit.is_some_and(|unit| std::ptr::eq(unit, &units[0]));
            if decoder.concealed() && !leading && !first {
                return gap(GapReason::Concealed { frame: blamed });
            }
        }
        missing.extend(next..span.frames.end);
        // These codecs have a picture for every packet: one that is missing was lost, and others refer to it.
        match due.first() {
            Some(&frame) if matches!(self.codec.name.as_str(), "h264" | "hevc") => gap(GapReason::Dropped { frame }),
            _ => Ok(IntervalOutcome::Complete { missing }),
        }
    }

    /// Says where recordings are decoded, when that becomes known or changes.
    fn note(&mut self, verdict: Option<Verdict>) {
        let Some(verdict) = verdict.filter(|&verdict| self.verdict != Some(verdict)) else { return };
        self.verdict = Some(verdict);
        match verdict {
            Verdict::Able => tracing::info!("decoding on the GPU"),
            why => tracing::warn!(%why, "decoding on the processor"),
        }
    }
}

/// How many packets precede, in decoding order, a packet that is shown before them.
fn reorder_depth(units: &[Unit]) -> usize {
    let frames: Vec<u32> = units.iter().map(|unit| unit.frame).filter(|&frame| frame != NEVER_SHOWN).collect();
    // No codec reorders over more than 16 pictures.
    let depth = |(i, frame)| frames[usize::saturating_sub(i, 32)..i].iter().filter(|&before| before > frame).count();
    frames.iter().enumerate().map(depth).max().unwrap_or_default()
}

/// The packets of an indexed Matroska range, numbered by their time.
fn gridded(
    span: &Interval,
    input: Joined,
    format: &str,
    frame_ns: i128,
    first_ns: i128,
) -> Result<Result<Vec<Unit>, GapReason>, MediaError> {
    let Some(mut demuxer) = VideoPackets::open(input, format)? else { return Ok(Err(GapReason::NotAsIndexed)) };
    let (num, den) = demuxer.time_base;
    let tick_ns = (i128::from(num) * 1_000_000_000 / i128::from(den)).max(1);
    let mut units: Vec<Unit> = Vec::with_capacity(span.frames.len());
    while let Some(packet) = demuxer.next() {
        let Some(pts) = packet.pts() else { return Ok(Err(GapReason::OffGrid)) };
        let ns = i128::from(pts) * i128::from(num) * 1_000_000_000 / i128::from(den) - first_ns;
        let number = (ns + frame_ns / 2).div_euclid(frame_ns);
        if (ns - number * frame_ns).abs() > tick_ns {
            return Ok(Err(GapReason::OffGrid));
        }
        let Ok(frame) = u32::try_from(number) else { return Ok(Err(GapReason::OffGrid)) };
        if units.is_empty() && frame != span.frames.start {
            return Ok(Err(GapReason::NotAsIndexed));
        }
        // Behind the next keyframe come its leading pictures, which are ours, and then pictures that are not.
        if frame > span.frames.end {
            break;
        }
        if units.iter().rev().take(32).any(|unit| unit.frame == frame) {
            return Ok(Err(GapReason::OffGrid));
        }
        if packet.corrupt() {
            return Ok(Err(GapReason::Lost { frame }));
        }
        units.push(Unit { frame, data: Bytes::copy_from_slice(packet.data()) });
    }
    Ok(if units.is_empty() { Err(GapReason::NotAsIndexed) } else { Ok(units) })
}

/// The packets of the video stream.
struct VideoPackets {
    demuxer: Demuxer<Joined>,
    stream: i32,
    time_base: (i64, i64),
    packet: Packet,
}

impl VideoPackets {
    fn open(input: Joined, format: &str) -> Result<Option<Self>, MediaError> {
        let name = CString::new(format).unwrap_or_default();
        let Ok(demuxer) = Demuxer::open(input, Some(&name)) else { return Ok(None) };
        let Some(stream) = demuxer.video() else { return Ok(None) };
        let (stream, time_base) = (stream.index, stream.time_base());
        Ok(Some(Self { demuxer, stream, time_base, packet: Packet::new()? }))
    }

    fn next(&mut self) -> Option<&Packet> {
        loop {
            self.demuxer.read(&mut self.packet)?;
            if self.packet.stream() == self.stream && !self.packet.data().is_empty() {
                return Some(&self.packet);
            }
        }
    }
}

/// Header bytes and a byte range, as if the file were nothing else.
struct Joined {
    prefix: Bytes,
    body: Bytes,
    seekable: bool,
}

impl Input for Joined {
    fn read(&mut self, at: u64, into: &mut [u8]) -> Option<usize> {
        let (part, at) = match (at as usize).checked_sub(self.prefix.len()) {
            Some(at) => (&self.body, at),
            None => (&self.prefix, at as usize),
        };
        let rest = part.get(at..)?;
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        Some(len)
    }

    fn len(&self) -> u64 {
        (self.prefix.len() + self.body.len()) as u64
    }

    fn seekable(&self) -> bool {
        self.seekable
    }
}
