//! A decoded picture as this crate sees it: three borrowed 8-bit planes and what their numbers mean.

use crate::error::VisionError;

/// One 8-bit plane. `data` holds `height` rows of `stride` bytes, of which the first `width` count.
#[derive(Debug, Clone, Copy)]
pub struct PlaneView<'a> {
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Samples.
    pub width: u32,
    pub height: u32,
}

/// Luma and the two colour differences to red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// ITU-R BT.601: standard definition.
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
}

/// A planar Y, Cb, Cr picture with any chroma subsampling that is a power of two.
#[derive(Debug, Clone, Copy)]
pub struct PictureView<'a> {
    /// Pixels.
    pub width: u32,
    pub height: u32,
    pub planes: [PlaneView<'a>; 3],
    pub matrix: Matrix,
    /// Whether black and white are 0 and 255 (JPEG) or 16 and 235 (video).
    pub full_range: bool,
}

impl<'a> PlaneView<'a> {
    /// `n` samples of row `y` from column `x`. In range for planes that passed [`PictureView::check`].
    pub(crate) fn row(&self, y: usize, x: usize, n: usize) -> &'a [u8] {
        let begin = y * self.stride + x;
        &self.data[begin..begin + n]
    }

    fn needed(&self) -> usize {
        match self.height {
            0 => 0,
            height => self.stride * (height as usize - 1) + self.width as usize,
        }
    }
}

impl PictureView<'_> {
    /// Luma samples per chroma sample, horizontally and vertically.
    pub(crate) fn subsampling(&self) -> [u32; 2] {
        let [_, chroma, _] = &self.planes;
        // Rounding up to a power of two matters for tiny pictures, where the last chroma sample covers few pixels.
        let factor = |full: u32, part: u32| full.div_ceil(part.max(1)).next_power_of_two();
        [factor(self.width, chroma.width), factor(self.height, chroma.height)]
    }

    /// Checks once what all later arithmetic relies on.
    pub(crate) fn check(&self) -> Result<(), VisionError> {
        let (width, height) = (self.width, self.height);
        let [luma, cb, cr] = &self.planes;
        let factors = self.subsampling();
        let fits = |full: u32, factor: u32, part: u32| full.div_ceil(factor) == part;
        if width == 0
            || height == 0
            || (luma.width, luma.height) != (width, height)
            || (cb.width, cb.height) != (cr.width, cr.height)
            || !fits(width, factors[0], cb.width)
            || !fits(height, factors[1], cb.height)
        {
            return Err(VisionError::Chroma { width, height, chroma_width: cb.width, chroma_height: cb.height });
        }
        for (index, plane) in self.planes.iter().enumerate() {
            let (needed, found) = (plane.needed(), plane.data.len());
            if found < needed || plane.stride < plane.width as usize {
                return Err(VisionError::Plane { plane: index, width, height, needed, found });
            }
        }
        Ok(())
    }
}
