//! The program tables of a transport stream: the few packets (PAT and PMTs, ISO/IEC 13818-1 2.4.4) that a demuxer must
//! see before a byte range from the middle. Used by [`crate::scan`], which stores them in the index.

/// Sync byte of every packet.
const SYNC: u8 = 0x47;
const PAYLOAD: usize = 188;

/// The packets of the first PAT and of the first PMT of each programme, verbatim and in file order. `head` is the
/// beginning of the file. `None`: no transport stream, or its tables are not in there.
pub(crate) fn program_tables(head: &[u8]) -> Option<Vec<u8>> {
    let (first, stride) = packets(head)?;
    // Which table pids to look for, and where each stands: not begun, begun, complete (its next one has begun).
    let mut tables = vec![(0u16, Progress::Awaited)];
    let mut kept = Vec::new();
    for raw in head[first..].chunks_exact(stride) {
        let lead = stride - PAYLOAD;
        // 192-byte packets carry a time stamp in front, 204-byte ones a checksum behind.
        let packet = if stride == 192 { &raw[lead..] } else { &raw[..PAYLOAD] };
        let (pid, starts) = (u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]), packet[1] & 0x40 != 0);
        let Some(entry) = tables.iter_mut().find(|(table, _)| *table == pid) else { continue };
        entry.1 = match (entry.1, starts) {
            (Progress::Awaited, true) => Progress::Begun,
            (Progress::Begun, true) | (Progress::Complete, _) => Progress::Complete,
            (state, false) => state,
        };
        if entry.1 == Progress::Begun {
            kept.extend_from_slice(raw);
            if pid == 0 {
                for program in programs(packet) {
                    if !tables.iter().any(|(table, _)| *table == program) {
                        tables.push((program, Progress::Awaited));
                    }
                }
            }
        }
        if tables.len() > 1 && tables.iter().all(|(_, progress)| *progress == Progress::Complete) {
            break;
        }
    }
    let found = tables.iter().filter(|(_, progress)| *progress != Progress::Awaited).count();
    (found > 1).then_some(kept)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Awaited,
    Begun,
    Complete,
}

/// Bytes of an access unit without the zeros around it: to which of two neighbours the zero byte before a start code goes
/// depends on where reading began.
pub(crate) fn payload_len(unit: &[u8]) -> u32 {
    let zeros = unit.iter().take_while(|&&byte| byte == 0).count();
    let rest = &unit[zeros..];
    (rest.len() - rest.iter().rev().take_while(|&&byte| byte == 0).count()) as u32
}

/// First packet and distance of packets.
fn packets(head: &[u8]) -> Option<(usize, usize)> {
    [188, 192, 204].into_iter().find_map(|stride| {
        let lead = if stride == 192 { 4 } else { 0 };
        let synced = |first: &usize| (0..5).all(|n| head.get(first + lead + n * stride) == Some(&SYNC));
        (0..stride).find(synced).map(|first| (first, stride))
    })
}

/// Pids of the PMTs in a packet that begins a PAT.
fn programs(packet: &[u8]) -> Vec<u16> {
    let body = || {
        let adaptation = if packet[3] & 0x20 != 0 { 1 + usize::from(packet[4]) } else { 0 };
        let section = packet.get(4 + adaptation..)?;
        let section = section.get(1 + usize::from(*section.first()?)..)?;
        let length = usize::from(section.get(1)? & 0x0f) << 8 | usize::from(*section.get(2)?);
        // Eight bytes of header before the list, four of checksum behind it; a long list ends with the packet.
        section.get(8..(3 + length.checked_sub(4)?).min(section.len()))
    };
    let list = body().unwrap_or_default();
    let entries = list.chunks_exact(4).map(|e| (u16::from_be_bytes([e[0], e[1]]), u16::from_be_bytes([e[2], e[3]])));
    // Programme 0 names the network table.
    entries.filter(|(program, _)| *program != 0).map(|(_, pid)| pid & 0x1fff).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(pid: u16, starts: bool, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![SYNC, (pid >> 8) as u8 | if starts { 0x40 } else { 0 }, pid as u8, 0x10];
        packet.extend_from_slice(body);
        packet.resize(PAYLOAD, 0xff);
        packet
    }

    fn stream() -> (Vec<u8>, Vec<u8>) {
        let pat = packet(0, true, &[0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe1, 0x23, 1, 2, 3, 4]);
        let (pmt, more) = (packet(0x123, true, &[0, 2, 0xb0, 200]), packet(0x123, false, &[]));
        let video = packet(0x100, true, &[]);
        let parts = [&video, &pat, &video, &pmt, &video, &more, &video, &pat, &pmt, &video];
        (parts.into_iter().flatten().copied().collect(), [pat.clone(), pmt.clone(), more.clone()].concat())
    }

    #[test]
    fn the_first_tables_are_kept_whole_and_alone() {
        let (stream, tables) = stream();
        assert_eq!(program_tables(&stream), Some(tables));
    }

    #[test]
    fn a_stream_that_begins_within_a_packet_is_found() {
        let (stream, tables) = stream();
        assert_eq!(program_tables(&stream[100..]), Some(tables));
    }

    #[test]
    fn zeros_around_an_access_unit_do_not_count() {
        assert_eq!(payload_len(&[0, 0, 0, 1, 9, 0, 7, 0]), 4);
        assert_eq!(payload_len(&[0, 0, 1, 9, 0, 7]), 4);
        assert_eq!(payload_len(&[0, 0]), 0);
    }

    #[test]
    fn other_bytes_are_no_transport_stream() {
        assert_eq!(program_tables(&[SYNC; 300]), None);
        assert_eq!(program_tables(&[0; 5000]), None);
        assert_eq!(program_tables(&packet(0x100, true, &[]).repeat(20)), None);
    }
}
