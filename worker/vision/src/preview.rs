//! What is kept of a frame for people and for the reduce, which has no pixels of its own: a small JPEG and 64 mean
//! luma values. The same bytes on every machine: the JPEG encoder is built without its SIMD variants.

use fulltime_common::pipeline::{Channels, Layout, ModelInput, Resize};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use crate::{
    error::VisionError,
    geometry::{Crop, Placed},
    picture::{PictureView, PlaneView},
    preprocess::{Scratch, prepare},
};

const QUALITY: u8 = 80;

/// The picture scaled to `width` pixels (never up), as a JPEG.
///
/// # Errors
/// When the view's planes do not fit its size.
pub fn preview_jpeg(view: &PictureView, width: u32) -> Result<Vec<u8>, VisionError> {
    view.check()?;
    // A side of a JPEG has 16 bits.
    let limit = (65_535 * u64::from(view.width) / u64::from(view.height)).clamp(1, 65_535) as u32;
    let width = width.clamp(1, view.width).min(limit);
    let height = ((2 * u64::from(view.height) * u64::from(width) + u64::from(view.width)) / (2 * u64::from(view.width)))
        .max(1) as u32;

    // Whole-numbered averaging first, so that the bilinear step only has a factor below two to do and does not alias.
    let factor = (view.width / width).max(1);
    let means = view.planes.map(|plane| average(&plane, factor));
    let [luma, cb, cr] = &means;
    let small = PictureView {
        width: luma.width,
        height: luma.height,
        planes: [luma.view(), cb.view(), cr.view()],
        matrix: view.matrix,
        full_range: view.full_range,
    };

    let input = ModelInput {
        name: None,
        layout: Layout::Nhwc,
        channels: Channels::Rgb,
        size: [width, height],
        resize: Resize::Stretch,
        pad: 0,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let crop = Crop { x: 0, y: 0, width: small.width, height: small.height };
    let placed = Placed::new(crop, Resize::Stretch, input.size, [false; 4]);
    let mut pixels = vec![0.0; width as usize * height as usize * 3];
    prepare(&small, &placed, &input, input.size, &mut Scratch::default(), &mut pixels);
    let pixels: Vec<u8> = pixels.iter().map(|value| (value + 0.5) as u8).collect();

    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(&pixels, width as u16, height as u16, ColorType::Rgb).map_err(VisionError::Preview)?;
    Ok(jpeg)
}

/// Mean luma of an 8x8 grid over the picture, row by row: enough to see cuts and frozen pictures by.
///
/// # Errors
/// When the view's planes do not fit its size.
pub fn luma_signature(view: &PictureView) -> Result<[u8; 64], VisionError> {
    view.check()?;
    let luma = &view.planes[0];
    let (width, height) = (luma.width as usize, luma.height as usize);
    let cut = |side: usize, i: usize| (i * side / 8).min(side - 1);
    Ok(std::array::from_fn(|cell| {
        let (column, row) = (cell % 8, cell / 8);
        let (left, top) = (cut(width, column), cut(height, row));
        let (right, bottom) = (cut(width, column + 1).max(left + 1), cut(height, row + 1).max(top + 1));
        let sum: u64 = (top..bottom).map(|y| sum(luma.row(y, left, right - left))).sum();
        let count = ((right - left) * (bottom - top)) as u64;
        ((sum + count / 2) / count) as u8
    }))
}

/// Four sums of 16 bits in a word, each of two samples at a time: the compiler widens that to whole registers, and a sum of
/// single bytes it does not.
fn sum(samples: &[u8]) -> u64 {
    const EVEN: u64 = 0x00FF_00FF_00FF_00FF;
    let (words, rest) = samples.as_chunks::<8>();
    // 128 times two samples of 255 fit into 16 bits.
    let wide = words.chunks(128).map(|words| {
        let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        let sums = words.iter().fold(0, |sums, bytes| sums + (word(bytes) & EVEN) + (word(bytes) >> 8 & EVEN));
        (0..4).map(|lane| sums >> (16 * lane) & 0xFFFF).sum::<u64>()
    });
    wide.sum::<u64>() + rest.iter().map(|&sample| u64::from(sample)).sum::<u64>()
}

struct Plane {
    data: Vec<u8>,
    width: u32,
    height: u32,
}

impl Plane {
    fn view(&self) -> PlaneView<'_> {
        PlaneView { data: &self.data, stride: self.width as usize, width: self.width, height: self.height }
    }
}

/// Means of `factor` x `factor` samples, fewer at the right and lower edge.
fn average(plane: &PlaneView, factor: u32) -> Plane {
    let (width, height) = (plane.width.div_ceil(factor), plane.height.div_ceil(factor));
    let factor = factor as usize;
    let mut data = Vec::with_capacity(width as usize * height as usize);
    let mut sums = vec![0_u32; plane.width as usize];
    for top in (0..plane.height as usize).step_by(factor) {
        let rows = factor.min(plane.height as usize - top);
        sums.fill(0);
        for y in top..top + rows {
            for (sum, &sample) in sums.iter_mut().zip(plane.row(y, 0, plane.width as usize)) {
                *sum += u32::from(sample);
            }
        }
        data.extend(sums.chunks(factor).map(|part| {
            let count = (part.len() * rows) as u32;
            ((part.iter().sum::<u32>() + count / 2) / count) as u8
        }));
    }
    Plane { data, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Matrix;

    fn grey(luma: &[u8], stride: usize, width: u32, height: u32, chroma: &[u8]) -> Vec<u8> {
        let plane = |data, stride, width, height| PlaneView { data, stride, width, height };
        let (w, h) = (width.div_ceil(2), height.div_ceil(2));
        let view = PictureView {
            width,
            height,
            planes: [
                plane(luma, stride, width, height),
                plane(chroma, w as usize, w, h),
                plane(chroma, w as usize, w, h),
            ],
            matrix: Matrix::Bt709,
            full_range: false,
        };
        let signature = luma_signature(&view).unwrap();
        assert_eq!((signature[0], signature[63]), (16, 235));
        preview_jpeg(&view, 40).unwrap()
    }

    #[test]
    fn a_preview_has_the_width_that_was_asked_and_the_colours_of_the_picture() {
        // Left half black, right half white, with bytes between the rows that belong to no picture.
        let (width, height, stride) = (161_u32, 91_u32, 192);
        let luma: Vec<u8> = (0..stride * height as usize)
            .map(|i| {
                if i % stride >= 161 {
                    99
                } else if i % stride < 80 {
                    16
                } else {
                    235
                }
            })
            .collect();
        let jpeg = grey(&luma, stride, width, height, &vec![128; 81 * 46]);
        let mut decoder = jpeg_decoder::Decoder::new(&jpeg[..]);
        let pixels = decoder.decode().unwrap();
        let info = decoder.info().unwrap();
        assert_eq!((info.width, info.height), (40, 23));
        let pixel = |x: usize| &pixels[(11 * 40 + x) * 3..][..3];
        assert!(pixel(4).iter().all(|&v| v < 12), "{:?}", pixel(4));
        assert!(pixel(35).iter().all(|&v| v > 243), "{:?}", pixel(35));
    }

    #[test]
    fn samples_add_up_in_rows_of_any_length() {
        let row: Vec<u8> = (0..4099_u32).map(|i| if i % 5 == 0 { (i % 251) as u8 } else { 255 }).collect();
        for length in [0, 1, 7, 8, 160, 1023, 1024, 1025, 4099] {
            let expected: u64 = row[..length].iter().map(|&sample| u64::from(sample)).sum();
            assert_eq!(sum(&row[..length]), expected, "{length}");
        }
    }
}
