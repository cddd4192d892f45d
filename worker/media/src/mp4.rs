//! MP4 and MOV by ranged reads: the `moov` atom is fetched whole and libav makes the packet table from it.
//!
//! The table comes from a *hollow read*: libav reads the whole file packet by packet as it always would, edit lists and
//! all, but payload that was never fetched reads as zeros. Nobody looks at it; what counts is where each packet lies,
//! how long it is and when it is shown. That runs at the speed of memory, and no sample table is parsed a second time.

use ffmpeg_next::ffi::{AVFMT_FLAG_NOFILLIN, AVFMT_FLAG_NOPARSE};
use fulltime_common::index::{Access, RecordingIndex};

use crate::{
    av::Packet,
    error::MediaError,
    index::Opened,
    nal::{Rule, Verdict},
    source::{Mode, Source},
    table::{MIN_INTERVAL_US, Row, Table},
};

/// Size and kind of an atom.
const HEADER: u64 = 8;
/// First read of a keyframe: parameter sets, supplemental information and the first slice's header fit nearly always.
const HEAD: u64 = 1 << 10;
/// Second read, where they do not.
const LONG_HEAD: u64 = 16 << 10;
/// A file with more top-level atoms than this is some kind of stream: it is read once instead.
const MOST_ATOMS: usize = 64;

/// Walks the top-level atoms. True: this is an MP4 whose `moov` describes every packet, and it has been fetched.
///
/// # Errors
/// An MP4 without `moov`, or the store's failure.
pub(crate) fn survey(source: &mut Source) -> Result<bool, MediaError> {
    let size = source.recording.size;
    if size < HEADER {
        return Ok(false);
    }
    let mut at = 0;
    let mut moov = None;
    for atoms in 0.. {
        if at + HEADER > size {
            break;
        }
        if atoms == MOST_ATOMS {
            return Ok(false);
        }
        let header = source.bytes(at..at + 16)?;
        let (length, kind) = (u64::from(be32(&header, 0)), &header[4..8]);
        if at == 0 && !matches!(kind, b"ftyp" | b"moov" | b"mdat" | b"free" | b"skip" | b"wide" | b"pnot" | b"uuid") {
            return Ok(false);
        }
        let length = match length {
            0 => size - at,
            1 if header.len() == 16 => u64::from(be32(&header, 8)) << 32 | u64::from(be32(&header, 12)),
            length => length,
        };
        match kind {
            b"moof" => return Ok(false),
            b"moov" => moov = Some(at..at.saturating_add(length)),
            _ => {}
        }
        match at.checked_add(length) {
            Some(next) if length >= HEADER => at = next,
            _ => break,
        }
    }
    let Some(moov) = moov.filter(|moov| moov.end <= size && moov.end - moov.start >= HEADER) else {
        return Err(MediaError::NoMoov { key: source.recording.key.clone() });
    };
    let bytes = source.bytes(moov)?;
    Ok(!has_child(&bytes[HEADER as usize..], b"mvex"))
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

/// Whether the atom's body has such a child (`mvex`: fragments follow, which `moov` does not list).
fn has_child(mut body: &[u8], kind: &[u8; 4]) -> bool {
    while body.len() >= 8 {
        if &body[4..8] == kind {
            return true;
        }
        match be32(body, 0) as usize {
            length @ 8.. if length <= body.len() => body = &body[length..],
            _ => return false,
        }
    }
    false
}

/// Makes the index of a file that [`survey`] accepted.
pub(crate) fn index(source: Source) -> Result<RecordingIndex, MediaError> {
    let Opened { mut demuxer, stream, container, codec, rule } = Opened::new(source, false)?;
    demuxer.set_flags(AVFMT_FLAG_NOPARSE | AVFMT_FLAG_NOFILLIN);
    demuxer.input().mode = Mode::Hollow;
    let (mut rows, mut packet) = (Vec::new(), Packet::new()?);
    while demuxer.read(&mut packet).is_some() {
        let (Some(pos), false) = (packet.pos(), packet.data().is_empty()) else { continue };
        if packet.data().len() as u64 > demuxer.input().recording.size {
            // No table says such a thing in earnest; the rest of it would be invented at great length.
            break;
        }
        rows.push(Row {
            pos,
            size: packet.data().len() as u32,
            pts: packet.pts().or(packet.dts()).filter(|_| !packet.discard()),
            dts: packet.dts(),
            key: packet.key(),
            entry: true,
        });
    }
    let table = Table::new(rows, stream.time_base(), false);
    let frame_rate = stream.frame_rate().unwrap_or_else(|| table.frame_rate());
    let mut source = demuxer.into_input();
    source.mode = Mode::Header;
    if !table.rows.iter().any(|row| row.key) || table.frames() == 0 {
        return Err(MediaError::NoKeyframe { key: source.recording.key });
    }
    let cuts = clean_cuts(&mut source, &table, rule)?;
    let size = source.recording.size;
    let intervals = table.intervals(&cuts, |rows| reach(&table.rows[rows], size));
    let frames = table.frames();
    let (packets, frame_us) = table.into_packets();
    Ok(RecordingIndex {
        bytes_read: source.bytes_read,
        recording: source.recording,
        container,
        access: Access::Sliced,
        codec,
        frame_rate,
        frame_us,
        frames,
        packets,
        intervals,
    })
}

/// The bytes that hold these packets, as far as the file goes.
pub(crate) fn reach(rows: &[Row], size: u64) -> std::ops::Range<u64> {
    let start = rows.iter().map(|row| row.pos).min().unwrap_or_default().min(size);
    let end = rows.iter().map(|row| row.pos + u64::from(row.size)).max().unwrap_or_default();
    start..end.clamp(start, size)
}

/// Keyframes to cut at: as dense as the budget for reading their heads allows, at most about one a second.
fn clean_cuts(source: &mut Source, table: &Table, rule: Rule) -> Result<Vec<usize>, MediaError> {
    let mut spacing = MIN_INTERVAL_US;
    let mut cuts = table.candidates(spacing);
    if rule == Rule::Flag {
        return Ok(cuts);
    }
    // Half of the budget is kept for heads that must be read a second time.
    let most = (source.budget() / HEAD / 2).max(16) as usize;
    while cuts.len() > most {
        spacing *= 2;
        cuts = table.candidates(spacing);
    }
    let head = |row: usize, length: u64| {
        let Row { pos, size, .. } = table.rows[row];
        pos..pos + u64::from(size).min(length)
    };
    source.fetch(cuts.iter().map(|&row| head(row, HEAD)))?;
    let mut clean = Vec::with_capacity(cuts.len());
    for row in cuts {
        let mut verdict = rule.judge(&source.bytes(head(row, HEAD))?);
        if verdict == Verdict::Undecided && source.budget() > LONG_HEAD {
            verdict = rule.judge(&source.bytes(head(row, LONG_HEAD))?);
        }
        if verdict.is_clean() {
            clean.push(row);
        }
    }
    Ok(clean)
}
