//! Containers without an index that can be trusted: transport streams, AVI, FLV, fragmented MP4, Matroska without cues.
//! The file is read once, in large pieces, and the index holds every packet.
//!
//! Where every payload is found verbatim at its position (all but transport streams), workers slice it out of the file
//! and need no demuxer. Transport streams scatter it over packets of 188 bytes; there a worker demuxes its byte range
//! behind the stream's program tables.

use fulltime_common::index::{Access, RecordingIndex};

use crate::{
    av::Packet,
    error::MediaError,
    index::{MPEGTS, Opened},
    mp4, mpegts,
    order::PresentationOrder,
    source::{Mode, Source},
    table::{MIN_INTERVAL_US, Row, Table},
};

/// How far behind a packet's position its payload may begin (block and tag headers).
const HEADERS: usize = 64;
/// Where a transport stream's program tables are looked for.
const TABLES_WITHIN: u64 = 4 << 20;

pub(crate) fn index(mut source: Source) -> Result<RecordingIndex, MediaError> {
    source.mode = Mode::Scan;
    let head = source.bytes(0..TABLES_WITHIN)?;
    let tables = mpegts::program_tables(&head);
    let Opened { mut demuxer, stream, container, codec, rule } = Opened::new(source, true)?;
    let transport = container == MPEGTS.to_string_lossy();
    let key = demuxer.input().recording.key.clone();
    if transport && tables.is_none() {
        return Err(MediaError::UnsupportedContainer { key, container });
    }

    // AVI knows decoding times alone.
    let mut order = match container == "avi" && stream.reorders() {
        true => Some(PresentationOrder::new(&codec)?),
        false => None,
    };
    let (mut rows, mut any_key) = (Vec::<Row>::new(), false);
    let mut packet = Packet::new()?;
    while demuxer.read(&mut packet).is_some() {
        if packet.stream() != stream.index || packet.data().is_empty() {
            continue;
        }
        let mut at = packet.pos();
        if !transport {
            at = match at {
                Some(pos) => locate(demuxer.input(), pos, packet.data())?,
                None => None,
            };
            if at.is_none() {
                return Err(MediaError::UnsupportedContainer { key, container });
            }
        }
        if let Some(order) = &mut order {
            order.push(rows.len(), packet.data())?;
        }
        let before = rows.last().map(|row| row.pos);
        rows.push(Row {
            // Several access units in one transport packet: the later ones have no position of their own.
            pos: at.or(before).unwrap_or_default(),
            size: if transport { mpegts::payload_len(packet.data()) } else { packet.data().len() as u32 },
            pts: packet.pts().filter(|_| !packet.discard()),
            dts: packet.dts(),
            key: packet.key() && rule.judge(packet.data()).is_clean(),
            entry: at.is_some() && at != before,
        });
        any_key |= packet.key();
    }
    demuxer.input().take_error()?;
    if !any_key {
        return Err(MediaError::NoKeyframe { key });
    }
    match order {
        Some(order) => order.apply(&mut rows),
        None if !stream.reorders() => rows.iter_mut().for_each(|row| row.pts = row.pts.or(row.dts)),
        None => {}
    }
    // A few packets without a time (second fields, damage) are decoded but never shown; a file full of them has no order.
    if rows.iter().filter(|row| row.pts.is_none()).count() * 2 > rows.len() {
        return Err(MediaError::NoTimestamps { key });
    }

    let table = Table::new(rows, stream.time_base(), transport);
    let frame_rate = stream.frame_rate().unwrap_or_else(|| table.frame_rate());
    let source = demuxer.into_input();
    let size = source.recording.size;
    let cuts = table.candidates(MIN_INTERVAL_US);
    let intervals = table.intervals(&cuts, |rows| match transport {
        false => mp4::reach(&table.rows[rows], size),
        true => {
            let next = table.rows[rows.end..].iter().find(|row| row.entry);
            table.rows[rows.start].pos..next.map_or(size, |row| row.pos)
        }
    });
    let frames = table.frames();
    let (packets, frame_us) = table.into_packets();
    let access = match tables.filter(|_| transport) {
        Some(prefix) => Access::Demuxed { format: container.clone(), prefix },
        None => Access::Sliced,
    };
    let (bytes_read, recording) = (source.bytes_read, source.recording);
    Ok(RecordingIndex {
        recording,
        container,
        access,
        codec,
        frame_rate,
        frame_us,
        frames,
        packets,
        intervals,
        bytes_read,
    })
}

/// Where in the file the payload of the packet at `pos` lies in one piece.
fn locate(source: &mut Source, pos: u64, payload: &[u8]) -> Result<Option<u64>, MediaError> {
    let around = source.bytes(pos..pos + (payload.len() + HEADERS) as u64)?;
    let found = (0..=HEADERS).find(|&skip| around.get(skip..skip + payload.len()) == Some(payload));
    Ok(found.map(|skip| pos + skip as u64))
}
