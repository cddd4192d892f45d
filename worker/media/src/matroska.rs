//! Matroska (RFC 9559) with cues and a default duration, by ranged reads: header, cues, keyframe heads, and the block
//! heads of the last group of pictures. No packet table: a frame's number is its time on the grid of frame durations.
//!
//! Whatever does not fit (a time off the grid, cues that point elsewhere) gives the recording to [`crate::scan`].

use std::ops::{ControlFlow, Range};

use fulltime_common::index::{Access, Interval, Packets, RecordingIndex};

use crate::{
    ebml::{self, Head},
    error::MediaError,
    index::{MATROSKA, Opened},
    nal::{Rule, Verdict},
    source::Source,
    table::MIN_INTERVAL_US,
};

mod id {
    pub const EBML: u32 = 0x1a45_dfa3;
    pub const SEGMENT: u32 = 0x1853_8067;
    pub const SEEK_HEAD: u32 = 0x114d_9b74;
    pub const SEEK: u32 = 0x4dbb;
    pub const SEEK_ID: u32 = 0x53ab;
    pub const SEEK_POSITION: u32 = 0x53ac;
    pub const INFO: u32 = 0x1549_a966;
    pub const TIMESTAMP_SCALE: u32 = 0x2a_d7b1;
    pub const TRACKS: u32 = 0x1654_ae6b;
    pub const TRACK_ENTRY: u32 = 0xae;
    pub const TRACK_NUMBER: u32 = 0xd7;
    pub const TRACK_TYPE: u32 = 0x83;
    pub const DEFAULT_DURATION: u32 = 0x23_e383;
    pub const CONTENT_ENCODINGS: u32 = 0x6d80;
    pub const CUES: u32 = 0x1c53_bb6b;
    pub const CUE_POINT: u32 = 0xbb;
    pub const CUE_TIME: u32 = 0xb3;
    pub const CUE_TRACK_POSITIONS: u32 = 0xb7;
    pub const CUE_TRACK: u32 = 0xf7;
    pub const CUE_CLUSTER_POSITION: u32 = 0xf1;
    pub const CLUSTER: u32 = 0x1f43_b675;
    pub const TIMESTAMP: u32 = 0xe7;
    pub const SIMPLE_BLOCK: u32 = 0xa3;
    pub const BLOCK_GROUP: u32 = 0xa0;
    pub const BLOCK: u32 = 0xa1;
}

/// As in [`crate::mp4`]: first and second read of a keyframe.
const HEAD: u64 = 1 << 10;
const LONG_HEAD: u64 = 16 << 10;
/// Header, tracks or cues beyond this are not read as such.
const LARGEST_MASTER: u64 = 16 << 20;

/// What header and cues say.
#[derive(Debug)]
pub(crate) struct Survey {
    first_cluster: u64,
    /// Nanoseconds per tick.
    scale: u64,
    track: u64,
    frame_ns: u64,
    /// Cue points of the video track, ascending.
    cues: Vec<Point>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    ticks: i64,
    cluster: u64,
}

/// A block of the video track.
struct Block {
    ticks: i64,
    cluster: u64,
    laced: bool,
    data: Range<u64>,
}

/// Reads header and cues. `None`: not Matroska, or without what this module needs.
pub(crate) fn survey(source: &mut Source) -> Result<Option<Survey>, MediaError> {
    let size = source.recording.size;
    let Some(ebml) = element(source, 0)?.filter(|e| e.id == id::EBML) else { return Ok(None) };
    let start = ebml.len + ebml.size.unwrap_or(0);
    let Some(segment) = element(source, start)?.filter(|e| e.id == id::SEGMENT) else { return Ok(None) };
    let segment = start + segment.len;

    let mut at = segment;
    let (mut scale, mut track, mut cues_at, mut cues) = (1_000_000, None, None, None);
    let first_cluster = loop {
        let Some(Head { id, size: Some(length), len }) = element(source, at)? else { return Ok(None) };
        let body = at + len..(at + len).saturating_add(length);
        if id == id::CLUSTER {
            break at;
        }
        if matches!(id, id::SEEK_HEAD | id::INFO | id::TRACKS | id::CUES) {
            if length > LARGEST_MASTER || body.end > size {
                return Ok(None);
            }
            let bytes = source.bytes(body.clone())?;
            match id {
                id::SEEK_HEAD => cues_at = cues_position(&bytes).map(|position| segment.saturating_add(position)),
                id::INFO => scale = ebml::child(&bytes, id::TIMESTAMP_SCALE).map_or(scale, ebml::uint),
                id::TRACKS => track = video_track(&bytes),
                _ => cues = Some(bytes),
            }
        }
        at = body.end;
    };
    let Some((track, frame_ns)) = track else { return Ok(None) };
    if let (None, Some(at)) = (&cues, cues_at)
        && let Some(Head { id: id::CUES, size: Some(length @ ..LARGEST_MASTER), len }) = element(source, at)?
        && at + len + length <= size
    {
        cues = Some(source.bytes(at + len..at + len + length)?);
    }
    let mut cues: Vec<Point> = cues.map(|bytes| cue_points(&bytes, track, segment)).unwrap_or_default();
    cues.sort();
    let ordered = cues.windows(2).all(|pair| pair[0].ticks < pair[1].ticks && pair[0].cluster < pair[1].cluster);
    let usable = ordered && cues.first().is_some_and(|cue| cue.cluster >= first_cluster);
    let inside = cues.last().is_some_and(|cue| cue.cluster < size);
    Ok((usable && inside && scale > 0).then_some(Survey { first_cluster, scale, track, frame_ns, cues }))
}

fn element(source: &mut Source, at: u64) -> Result<Option<Head>, MediaError> {
    let end = at.saturating_add(ebml::LONGEST_HEAD);
    Ok(if at < source.recording.size { ebml::head(&source.bytes(at..end)?) } else { None })
}

fn cues_position(seek_head: &[u8]) -> Option<u64> {
    ebml::children(seek_head).filter(|(id, _)| *id == id::SEEK).find_map(|(_, seek)| {
        let cues = ebml::child(seek, id::SEEK_ID).map(ebml::uint) == Some(u64::from(id::CUES));
        ebml::child(seek, id::SEEK_POSITION).filter(|_| cues).map(ebml::uint)
    })
}

/// Number and frame duration of the first video track. Not of one whose blocks are compressed or encrypted.
fn video_track(tracks: &[u8]) -> Option<(u64, u64)> {
    let is_video = |entry: &&[u8]| ebml::child(entry, id::TRACK_TYPE).map(ebml::uint) == Some(1);
    let entries = ebml::children(tracks).filter(|(id, _)| *id == id::TRACK_ENTRY).map(|(_, entry)| entry);
    let entry = entries.into_iter().find(is_video)?;
    let plain = ebml::child(entry, id::CONTENT_ENCODINGS).is_none();
    let number = ebml::child(entry, id::TRACK_NUMBER).map(ebml::uint)?;
    let frame_ns = ebml::child(entry, id::DEFAULT_DURATION).map(ebml::uint).filter(|&ns| ns > 0)?;
    plain.then_some((number, frame_ns))
}

fn cue_points(cues: &[u8], track: u64, segment: u64) -> Vec<Point> {
    let points = ebml::children(cues).filter(|(id, _)| *id == id::CUE_POINT);
    let video = points.filter_map(|(_, point)| {
        let ticks = i64::try_from(ebml::child(point, id::CUE_TIME).map(ebml::uint)?).ok()?;
        let position =
            ebml::children(point).filter(|(id, _)| *id == id::CUE_TRACK_POSITIONS).find_map(|(_, place)| {
                let ours = ebml::child(place, id::CUE_TRACK).map(ebml::uint) == Some(track);
                ebml::child(place, id::CUE_CLUSTER_POSITION).filter(|_| ours).map(ebml::uint)
            })?;
        Some(Point { ticks, cluster: segment.checked_add(position)? })
    });
    video.collect()
}

/// Visits the blocks of the video track in file order, reading their heads alone. Returns where the clusters end.
fn blocks(
    source: &mut Source,
    mut at: u64,
    track: u64,
    mut visit: impl FnMut(Block) -> ControlFlow<()>,
) -> Result<u64, MediaError> {
    // Clusters and block groups are entered, so that the walk is flat and unknown sizes do no harm.
    let (mut cluster, mut time) = (at, 0);
    loop {
        // One request for the heads of element and block.
        source.fetch([at..at + 2 * ebml::LONGEST_HEAD])?;
        let Some(Head { id, size, len }) = element(source, at)? else { break };
        let data = at + len;
        match (id, size) {
            (id::CLUSTER, _) => {
                cluster = at;
                at = data;
                continue;
            }
            (id::BLOCK_GROUP, _) => {
                at = data;
                continue;
            }
            // Other top-level elements: the clusters are over.
            (0x1000_0000.., _) | (_, None) => break,
            (id::TIMESTAMP, Some(size)) => time = ebml::uint(&source.bytes(data..data + size.min(8))?) as i64,
            (id::SIMPLE_BLOCK | id::BLOCK, Some(size)) => {
                let head = source.bytes(data..data + size.min(ebml::LONGEST_HEAD))?;
                if let Some((number, len)) = ebml::vint(&head)
                    && let Some(&[high, low, flags]) = head.get(len..len + 3)
                    && number == track
                {
                    let ticks = time + i64::from(i16::from_be_bytes([high, low]));
                    let block =
                        Block { ticks, cluster, laced: flags & 0x06 != 0, data: data + len as u64 + 3..data + size };
                    if visit(block).is_break() {
                        return Ok(at);
                    }
                }
            }
            (_, Some(_)) => {}
        }
        at = data.saturating_add(size.unwrap_or(0));
    }
    Ok(at.min(source.recording.size))
}

fn first_block(source: &mut Source, at: u64, track: u64) -> Result<Option<Block>, MediaError> {
    let mut first = None;
    blocks(source, at, track, |block| {
        first = Some(block);
        ControlFlow::Break(())
    })?;
    Ok(first)
}

/// The grid that frame numbers lie on.
struct Grid {
    first: i64,
    scale: u64,
    frame_ns: u64,
}

impl Grid {
    /// The frame at this time, if the time is on the grid (up to the rounding of a tick).
    fn frame(&self, ticks: i64) -> Option<u32> {
        let ns = i128::from(ticks - self.first) * i128::from(self.scale);
        let frame_ns = i128::from(self.frame_ns);
        let frame = (ns + frame_ns / 2).div_euclid(frame_ns);
        let off = (ns - frame * frame_ns).abs();
        u32::try_from(frame).ok().filter(|_| off <= i128::from(self.scale))
    }
}

/// Makes the index, or gives the source back when the file is not what its cues say.
pub(crate) fn index(mut source: Source, survey: Survey) -> Result<Result<RecordingIndex, Source>, MediaError> {
    let Survey { first_cluster, scale, track, frame_ns, cues } = survey;
    let Some(first) = first_block(&mut source, first_cluster, track)? else { return Ok(Err(source)) };
    let grid = Grid { first: first.ticks, scale, frame_ns };

    // The last cue leads to the last group of pictures; its block heads tell how many frames there are.
    let last = cues.last().map_or(first_cluster, |cue| cue.cluster);
    if source.recording.size - last < source.budget() / 4 {
        source.fetch([last..source.recording.size])?;
    }
    let (mut frames, mut fits) = (0, !first.laced && grid.frame(first.ticks) == Some(0));
    let end = blocks(&mut source, last, track, |block| {
        match grid.frame(block.ticks) {
            Some(frame) if !block.laced => frames = frames.max(frame + 1),
            _ => fits = false,
        }
        ControlFlow::Continue(())
    })?;
    let numbers: Option<Vec<u32>> = cues.iter().map(|cue| grid.frame(cue.ticks)).collect();
    let (Some(numbers), true) = (numbers.filter(|_| frames > 0), fits) else { return Ok(Err(source)) };

    let Opened { demuxer, stream, container, codec, rule } = Opened::new(source, false)?;
    let frame_rate = stream.frame_rate().unwrap_or((1_000_000_000, frame_ns.min(u64::from(u32::MAX)) as u32));
    let mut source = demuxer.into_input();
    let clean = clean_points(&mut source, &cues, track, scale, rule)?;
    let mut intervals = vec![Interval { frames: 0..frames, packets: 0..0, bytes: first_cluster..end }];
    for (i, verdict) in clean {
        if numbers[i] == 0 || numbers[i] >= frames {
            continue;
        }
        // Leading pictures lie between this keyframe and the next.
        let beyond = cues.get(i + 1).map_or(end, |next| next.cluster);
        if let Some(before) = intervals.last_mut() {
            before.frames.end = numbers[i];
            before.bytes.end = if verdict == Verdict::Closed { cues[i].cluster } else { beyond };
        }
        intervals.push(Interval { frames: numbers[i]..frames, packets: 0..0, bytes: cues[i].cluster..end });
    }
    let prefix = source.bytes(0..first_cluster)?.to_vec();
    let format = MATROSKA.to_string_lossy().into_owned();
    let first_ns = grid.first * scale as i64;
    Ok(Ok(RecordingIndex {
        bytes_read: source.bytes_read,
        recording: source.recording,
        container,
        access: Access::Gridded { format, prefix, frame_ns, first_ns },
        codec,
        frame_rate,
        frame_us: Vec::new(),
        frames,
        packets: Packets::default(),
        intervals,
    }))
}

/// Cues whose cluster begins with a clean keyframe, as far as the budget allows to look.
fn clean_points(
    source: &mut Source,
    cues: &[Point],
    track: u64,
    scale: u64,
    rule: Rule,
) -> Result<Vec<(usize, Verdict)>, MediaError> {
    let most = (source.budget() / HEAD / 4).max(16) as usize;
    let mut spacing = MIN_INTERVAL_US;
    let chosen = loop {
        let ticks = spacing * 1000 / scale.max(1) as i64;
        let mut last = cues.first().map_or(0, |cue| cue.ticks);
        let far = |(_, cue): &(usize, &Point)| {
            let far = cue.ticks - last >= ticks;
            last = if far { cue.ticks } else { last };
            far
        };
        let chosen: Vec<_> = cues.iter().enumerate().filter(far).collect();
        if chosen.len() <= most {
            break chosen;
        }
        spacing *= 2;
    };
    source.fetch(chosen.iter().map(|(_, cue)| cue.cluster..cue.cluster + HEAD))?;
    let mut clean = Vec::with_capacity(chosen.len());
    for (i, cue) in chosen {
        // A cluster that begins with other frames of the track would give them to the wrong interval.
        let Some(block) = first_block(source, cue.cluster, track)? else { continue };
        if block.ticks != cue.ticks || block.cluster != cue.cluster || block.laced {
            continue;
        }
        let head = |length: u64| block.data.start..block.data.end.min(block.data.start + length);
        let mut verdict = rule.judge(&source.bytes(head(HEAD))?);
        if verdict == Verdict::Undecided && source.budget() > LONG_HEAD {
            verdict = rule.judge(&source.bytes(head(LONG_HEAD))?);
        }
        if verdict.is_clean() {
            clean.push((i, verdict));
        }
    }
    Ok(clean)
}
