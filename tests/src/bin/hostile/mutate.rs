//! Broken recordings from good ones. Pure: the same bytes and the same draw give the same file.

use fastrand::Rng;

/// Tags whose neighbourhood says how much is where: the sizes before them and the fields behind them are worth more
/// blows than picture data.
const TAGS: [&[u8]; 22] = [
    b"moov", b"trak", b"mdia", b"stbl", b"stsd", b"stts", b"ctts", b"stsc", b"stsz", b"stco", b"co64", b"stss",
    b"elst", b"mdhd", b"tkhd", b"moof", b"trun", b"avcC", b"hvcC", b"idx1", b"strf", b"RIFF",
];
/// Identifiers of EBML elements that govern a Matroska file: Segment, SeekHead, Info, Tracks, Cues, Cluster.
const ELEMENTS: [&[u8]; 6] = [
    &[0x18, 0x53, 0x80, 0x67],
    &[0x11, 0x4d, 0x9b, 0x74],
    &[0x15, 0x49, 0xa9, 0x66],
    &[0x16, 0x54, 0xae, 0x6b],
    &[0x1c, 0x53, 0xbb, 0x6b],
    &[0x1f, 0x43, 0xb6, 0x75],
];
/// Numbers at which arithmetic breaks.
const EDGES: [u64; 12] = [
    0,
    1,
    7,
    0x7f,
    0x80,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff8,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_ffff,
];
/// Longest stretch that one blow changes.
const STRETCH: usize = 4096;

/// One to six blows at `good`; `other` is another recording to take pieces from.
pub fn mutate(good: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..rng.usize(1..=6) {
        if bytes.len() < 16 {
            break;
        }
        strike(&mut bytes, other, rng);
    }
    bytes
}

fn strike(bytes: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = place(bytes, rng);
    let end = bytes.len().min(at + rng.usize(1..=STRETCH));
    match rng.u8(0..10) {
        0 | 1 => bytes[at] ^= 1 << rng.u8(0..8),
        2 => bytes[at] = rng.u8(..),
        3 | 4 => {
            let width = [1, 2, 4, 8][rng.usize(0..4)];
            let edge = EDGES[rng.usize(0..EDGES.len())].to_be_bytes();
            let len = width.min(bytes.len() - at);
            bytes[at..at + len].copy_from_slice(&edge[8 - len..]);
        }
        5 => bytes[at..end].fill(if rng.bool() { 0 } else { 0xff }),
        6 => bytes[at..end].iter_mut().for_each(|byte| *byte = rng.u8(..)),
        7 => drop(bytes.drain(at..end)),
        8 => {
            let from = rng.usize(0..other.len());
            let piece = &other[from..other.len().min(from + end - at)];
            // In place of what was there, or between it.
            let replaced = if rng.bool() { at..bytes.len().min(at + piece.len()) } else { at..at };
            bytes.splice(replaced, piece.iter().copied());
        }
        _ => bytes.truncate(at.max(16)),
    }
}

/// Where to strike: one time in two near something that governs the file.
fn place(bytes: &[u8], rng: &mut Rng) -> usize {
    let anywhere = rng.usize(0..bytes.len());
    if rng.bool() {
        return anywhere;
    }
    let wanted: &[&[u8]] = if rng.bool() { &TAGS } else { &ELEMENTS };
    // The next one behind a place drawn at random, else the file's head.
    let next = (anywhere..bytes.len()).find(|&at| wanted.iter().any(|tag| bytes[at..].starts_with(tag)));
    let near = match next {
        Some(at) => (at + rng.usize(0..48)).saturating_sub(8),
        None => rng.usize(0..bytes.len().min(512)),
    };
    near.min(bytes.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_draw_breaks_a_file_the_same_way() {
        let good: Vec<u8> = (0..10_000u32).map(|n| ((n * n) >> 3) as u8).collect();
        let mutants = |seed| mutate(&good, b"somebody else's bytes", &mut Rng::with_seed(seed));
        assert!((0..200).all(|seed| mutants(seed) == mutants(seed)));
        let changed = (0..200).filter(|&seed| mutants(seed) != good).count();
        assert!(changed > 190, "{changed} of 200 are broken");
    }
}
