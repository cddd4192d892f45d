//! A cheap moving picture that carries its own frame number, so that a decode test can prove which frame it got.

use fulltime_media::encode::Yuv420Frame;

const COLUMNS: usize = 8;
/// Two rows of bits and the same two rows inverted: a picture that is not a test card, or a damaged one, does not read.
const CODE_ROWS: usize = 4;
/// The code takes the upper two thirds, moving texture the rest.
const ROWS: usize = 6;
const WHITE: u8 = 210;
const BLACK: u8 = 40;

/// Frame `number` (modulo 65536) as large black and white cells above a texture that moves and changes in every frame.
#[must_use]
pub fn testcard(number: u32, width: u32, height: u32) -> Yuv420Frame {
    let mut frame = Yuv420Frame::new(width, height);
    let (w, h) = (width as usize, height as usize);
    let code_end = cell_edge(CODE_ROWS, h, ROWS);
    for (y, row) in frame.y.chunks_exact_mut(w).enumerate() {
        if y < code_end {
            let code_row = (0..CODE_ROWS).rfind(|&r| cell_edge(r, h, ROWS) <= y).unwrap_or(0);
            for column in 0..COLUMNS {
                let level = if bit(number, code_row, column) { WHITE } else { BLACK };
                row[cell_edge(column, w, COLUMNS)..cell_edge(column + 1, w, COLUMNS)].fill(level);
            }
        } else {
            for (x, luma) in row.iter_mut().enumerate() {
                *luma = texture(x + 3 * number as usize, y + number as usize);
            }
        }
    }
    let (cw, shift) = (w / 2, number as usize);
    for (y, (u, v)) in frame.u.chunks_exact_mut(cw).zip(frame.v.chunks_exact_mut(cw)).enumerate() {
        for (x, (u, v)) in u.iter_mut().zip(v).enumerate() {
            *u = 96 + ((x + 2 * shift) / 4 % 64) as u8;
            *v = 96 + ((y + shift) / 4 % 64) as u8;
        }
    }
    frame
}

/// The number of a test card from its luma plane, or `None` when the picture is none (or too damaged to tell).
#[must_use]
pub fn read_testcard(luma: &[u8], stride: usize, width: u32, height: u32) -> Option<u16> {
    let (w, h) = (width as usize, height as usize);
    let mean = |row: usize, column: usize| -> Option<u32> {
        let inner = |i: usize, length: usize, cells: usize| {
            let (from, to) = (cell_edge(i, length, cells), cell_edge(i + 1, length, cells));
            from + (to - from) / 4..to - (to - from) / 4
        };
        let (xs, ys) = (inner(column, w, COLUMNS), inner(row, h, ROWS));
        let count = (xs.len() * ys.len()) as u32;
        let mut sum = 0u32;
        for y in ys {
            sum += luma.get(y * stride..)?.get(xs.clone())?.iter().map(|&v| u32::from(v)).sum::<u32>();
        }
        sum.checked_div(count)
    };
    let threshold = (u32::from(WHITE) + u32::from(BLACK)) / 2;
    let mut number = 0u16;
    for i in 0..16 {
        let (row, column) = (i / COLUMNS, i % COLUMNS);
        let set = mean(row, column)? > threshold;
        if set == (mean(row + 2, column)? > threshold) {
            return None;
        }
        number |= u16::from(set) << i;
    }
    Some(number)
}

fn bit(number: u32, code_row: usize, column: usize) -> bool {
    let index = (code_row % 2) * COLUMNS + column;
    ((number >> index) & 1 == 1) != (code_row >= 2)
}

fn cell_edge(i: usize, length: usize, cells: usize) -> usize {
    i * length / cells
}

/// Soft diagonal bands with a hard edge now and then: enough detail for motion search and residuals to matter.
fn texture(x: usize, y: usize) -> u8 {
    let band = (x * 2 + y) % 96;
    let soft = if band < 48 { band } else { 95 - band };
    let edge = usize::from((x / 24 + y / 16).is_multiple_of(5)) * 60;
    (60 + soft * 2 + edge) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_reads_as_its_own_number() {
        for (width, height) in [(64, 64), (320, 180), (1280, 720), (706, 398)] {
            for number in [0u32, 1, 2, 255, 256, 21845, 43690, 65535] {
                let card = testcard(number, width, height);
                assert_eq!(read_testcard(&card.y, width as usize, width, height), Some(number as u16));
            }
        }
    }

    #[test]
    fn a_grey_picture_is_no_card() {
        assert_eq!(read_testcard(&[128; 128 * 128], 128, 128, 128), None);
        assert_eq!(read_testcard(&[0; 10], 128, 128, 128), None);
    }
}
