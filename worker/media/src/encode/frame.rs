//! The picture that everything here draws into and encodes: 8-bit planar YUV 4:2:0, limited range, BT.709.

use super::EncodeError;

/// Tightly packed planes (stride equals width; chroma is half size in both directions).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Yuv420Frame {
    pub width: u32,
    pub height: u32,
    pub y: Vec<u8>,
    pub u: Vec<u8>,
    pub v: Vec<u8>,
}

impl Yuv420Frame {
    /// A black frame. Both sides must be even (see [`check_size`]); an odd last row or column would have no chroma.
    #[must_use]
    pub fn new(width: u32, height: u32) -> Self {
        let luma = width as usize * height as usize;
        let chroma = (width / 2) as usize * (height / 2) as usize;
        Self { width, height, y: vec![16; luma], u: vec![128; chroma], v: vec![128; chroma] }
    }

    /// Plane `i` in the order Y, U, V with its width and height.
    #[must_use]
    pub fn plane(&self, i: usize) -> (&[u8], usize, usize) {
        let (w, h) = (self.width as usize, self.height as usize);
        match i {
            0 => (&self.y, w, h),
            1 => (&self.u, w / 2, h / 2),
            _ => (&self.v, w / 2, h / 2),
        }
    }
}

/// Refuses sizes that 4:2:0 or the test card cannot hold.
pub fn check_size(width: u32, height: u32) -> Result<(), EncodeError> {
    let fits = |n: u32| n >= 64 && n.is_multiple_of(2);
    if fits(width) && fits(height) { Ok(()) } else { Err(EncodeError::Size { width, height }) }
}
