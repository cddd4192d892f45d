//! Corners of a picture: places that are found again in the next one, with a few bits each of how they look. The lane
//! finds and packs them for every frame; the reduce unpacks them, matches neighbours and so knows how the camera moved.
//!
//! Packed, a corner takes [`PACKED`] bytes: x and y in quarters of a pixel of the picture (`u16`, little endian), then its
//! descriptor. Positions beyond 16,383 pixels do not fit; no codec here has such pictures.

/// Bytes of a packed corner.
pub const PACKED: usize = 20;

/// A place in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Corner {
    /// Pixels of the picture.
    pub x: f32,
    pub y: f32,
    /// Equal places have few bits different (Hamming distance).
    pub descriptor: [u8; 16],
}

impl Corner {
    /// Bits in which both descriptors differ, 0 to 128.
    #[must_use]
    pub fn distance(&self, other: &Self) -> u32 {
        (u128::from_le_bytes(self.descriptor) ^ u128::from_le_bytes(other.descriptor)).count_ones()
    }
}

/// Bytes for the table. Positions are rounded to quarters of a pixel.
#[must_use]
pub fn pack(corners: &[Corner]) -> Vec<u8> {
    let quarters = |pixels: f32| ((pixels * 4.0 + 0.5) as u16).to_le_bytes();
    let mut bytes = Vec::with_capacity(corners.len() * PACKED);
    for corner in corners {
        bytes.extend_from_slice(&quarters(corner.x));
        bytes.extend_from_slice(&quarters(corner.y));
        bytes.extend_from_slice(&corner.descriptor);
    }
    bytes
}

/// The corners in bytes of the table, in their order there. Bytes that are no whole corner are left out.
#[must_use]
pub fn unpack(bytes: &[u8]) -> Vec<Corner> {
    let (corners, _) = bytes.as_chunks::<PACKED>();
    let read = |packed: &[u8; PACKED]| {
        let [x0, x1, y0, y1, descriptor @ ..] = *packed;
        let pixels = |quarters: [u8; 2]| f32::from(u16::from_le_bytes(quarters)) / 4.0;
        Corner { x: pixels([x0, x1]), y: pixels([y0, y1]), descriptor }
    };
    corners.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_come_back_to_a_quarter_of_a_pixel() {
        let corner = |x, y, first| Corner { x, y, descriptor: std::array::from_fn(|i| if i == 0 { first } else { 7 }) };
        let corners = [corner(0.0, 0.25, 1), corner(4095.75, 2160.5, 255), corner(10.1, 3.9, 0)];
        let found = unpack(&pack(&corners));
        assert_eq!(found[..2], corners[..2]);
        assert_eq!((found[2].x, found[2].y), (10.0, 4.0));
        assert_eq!((found[0].distance(&found[1]), found[0].distance(&found[0])), (7, 0));
        assert_eq!(unpack(&pack(&corners)[..50]).len(), 2);
    }
}
