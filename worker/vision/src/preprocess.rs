//! YUV planes to network input: bilinear resize of a crop, colour conversion and normalisation in one pass over the
//! rows, without an intermediate picture. Used by the detector's `Preparer` and by the preview.
//!
//! Sampling. Output pixel `i` of `n` lies at `(i + 0.5) * crop / n - 0.5` in luma samples from the crop's first,
//! clamped to the crop, as OpenCV's `INTER_LINEAR` has it. Subsampled chroma is sited as in H.264, HEVC and MPEG-2 by
//! default: on the left luma sample horizontally, half way vertically; positions follow from luma's, so a crop may start
//! at odd pixels. Positions are exact fractions of integers.
//!
//! Arithmetic. Rows are blended first, with 8-bit weights in 16-bit integers (exact); then columns, colour matrix and
//! normalisation in f32 without fused multiply-add. Nothing depends on the instruction set: AVX2 only makes it faster.

use fulltime_common::pipeline::{Channels, Layout, ModelInput};

use crate::{
    geometry::Placed,
    picture::{Matrix, PictureView},
};

/// Buffers that keep their memory from crop to crop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scratch {
    luma: Columns,
    chroma: Columns,
    /// A blended row of one plane, in 1/256.
    row: Vec<u16>,
    /// Left and right neighbour of every output sample, per plane.
    pairs: [Vec<u32>; 3],
    /// One row of each channel, for the interleaved layout.
    channels: [Vec<f32>; 3],
}

/// Where the output columns lie in a plane.
#[derive(Debug, Clone, Default)]
struct Columns {
    /// First column of the plane that is needed, and how many.
    first: usize,
    count: usize,
    /// Left neighbour, counted from `first`, and the weight of its right neighbour.
    left: Vec<u32>,
    weight: Vec<f32>,
}

/// Resizes `placed.crop` of the picture to its place in `out`, which is one item of the network input, and fills the
/// rest with the padding value. The view must have passed `PictureView::check`, and `out` must have the item's length.
pub(crate) fn prepare(
    view: &PictureView,
    placed: &Placed,
    input: &ModelInput,
    size: [u32; 2],
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let colour = Colour::new(view.matrix, view.full_range, input);
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, asked in the line above.
        unsafe { resample_avx2(view, placed, input, size, &colour, scratch, out) };
        return;
    }
    resample(view, placed, input, size, &colour, scratch, out);
}

/// The same code, compiled for wider registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn resample_avx2(
    view: &PictureView,
    placed: &Placed,
    input: &ModelInput,
    size: [u32; 2],
    colour: &Colour,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    resample(view, placed, input, size, colour, scratch, out);
}

#[inline(always)]
fn resample(
    view: &PictureView,
    placed: &Placed,
    input: &ModelInput,
    size: [u32; 2],
    colour: &Colour,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    let [width, height] = size.map(|side| side as usize);
    let (left, top) = (placed.left as usize, placed.top as usize);
    let (wide, high) = (placed.width as usize, placed.height as usize);
    let [across, down] = view.subsampling();
    let crop = placed.crop;
    let horizontal = |factor| Axis::new(crop.x, crop.width, wide, factor, Siting::Left);
    let vertical = |factor| Axis::new(crop.y, crop.height, high, factor, Siting::Centre);
    scratch.luma.fill(&horizontal(1), view.width as usize);
    scratch.chroma.fill(&horizontal(across), view.planes[1].width as usize);
    let rows = [vertical(1), vertical(down), vertical(down)];
    for channel in &mut scratch.channels {
        channel.resize(wide, 0.0);
    }

    // Which channel red, green and blue become.
    let order = match input.channels {
        Channels::Rgb => [0, 1, 2],
        Channels::Bgr => [2, 1, 0],
    };
    for y in 0..height {
        let inside = y >= top && y < top + high;
        if inside {
            for (p, plane) in view.planes.iter().enumerate() {
                let columns = if p == 0 { &scratch.luma } else { &scratch.chroma };
                let (upper, weight) = rows[p].blend(y - top);
                let lower = (upper + 1).min(plane.height as usize - 1);
                let upper = plane.row(upper, columns.first, columns.count);
                let lower = plane.row(lower, columns.first, columns.count);
                blend(upper, lower, weight, &mut scratch.row);
                gather(&scratch.row, &columns.left, &mut scratch.pairs[p]);
            }
        }
        match input.layout {
            Layout::Nchw => {
                let mut planes = out.chunks_exact_mut(width * height);
                let mut channels = [0, 1, 2].map(|_| &mut planes.next().unwrap_or_default()[y * width..][..width]);
                for (channel, &pad) in channels.iter_mut().zip(&colour.pad) {
                    if inside {
                        channel[..left].fill(pad);
                        channel[left + wide..].fill(pad);
                    } else {
                        channel.fill(pad);
                    }
                }
                if inside {
                    let [a, b, c] = channels.map(|channel| &mut channel[left..left + wide]);
                    let target = if order[0] == 0 { [a, b, c] } else { [c, b, a] };
                    colour.convert(&scratch.pairs, &scratch.luma.weight, &scratch.chroma.weight, target);
                }
            }
            Layout::Nhwc => {
                let row = &mut out[y * width * 3..][..width * 3];
                for pixel in row.chunks_exact_mut(3) {
                    pixel.copy_from_slice(&colour.pad);
                }
                if inside {
                    let [red, green, blue] = &mut scratch.channels;
                    colour.convert(&scratch.pairs, &scratch.luma.weight, &scratch.chroma.weight, [red, green, blue]);
                    for (x, pixel) in row[left * 3..].chunks_exact_mut(3).take(wide).enumerate() {
                        for (value, &channel) in pixel.iter_mut().zip(&order) {
                            *value = scratch.channels[channel][x];
                        }
                    }
                }
            }
        }
    }
}

/// How subsampled chroma lies relative to luma.
#[derive(Clone, Copy)]
enum Siting {
    Left,
    Centre,
}

/// Positions of output samples along one axis of a plane, as fractions of integers.
struct Axis {
    start: i64,
    length: i64,
    samples: i64,
    factor: i64,
    siting: Siting,
}

impl Axis {
    fn new(start: u32, length: u32, samples: usize, factor: u32, siting: Siting) -> Self {
        let [start, length, factor] = [start, length, factor].map(i64::from);
        Self { start, length, samples: samples as i64, factor, siting }
    }

    /// Whole part, remainder and denominator of the position of output sample `i` in the plane.
    #[inline(always)]
    fn position(&self, i: usize) -> (usize, i64, i64) {
        let denominator = 2 * self.samples;
        let inside = ((2 * i as i64 + 1) * self.length - self.samples).clamp(0, (self.length - 1) * denominator);
        let luma = self.start * denominator + inside;
        let (at, denominator) = match self.siting {
            Siting::Left => (luma, denominator * self.factor),
            Siting::Centre => {
                ((2 * luma + denominator - self.factor * denominator).max(0), 2 * denominator * self.factor)
            }
        };
        ((at / denominator) as usize, at % denominator, denominator)
    }

    /// The upper of the two rows that output row `i` lies between, and the weight of the lower one in 1/256.
    fn blend(&self, i: usize) -> (usize, u16) {
        let (row, remainder, denominator) = self.position(i);
        (row, ((512 * remainder + denominator) / (2 * denominator)) as u16)
    }
}

impl Columns {
    fn fill(&mut self, axis: &Axis, plane: usize) {
        let samples = axis.samples as usize;
        self.first = axis.position(0).0;
        self.left.clear();
        self.weight.clear();
        for i in 0..samples {
            let (column, remainder, denominator) = axis.position(i);
            self.left.push((column - self.first) as u32);
            self.weight.push(remainder as f32 / denominator as f32);
        }
        let last = self.first + self.left.last().map_or(0, |&left| left as usize) + 1;
        self.count = last.min(plane - 1) + 1 - self.first;
    }
}

/// `upper` and `lower` in 1/256, with the last sample doubled so that every sample has a right neighbour.
#[inline(always)]
fn blend(upper: &[u8], lower: &[u8], weight: u16, row: &mut Vec<u16>) {
    row.resize(upper.len() + 1, 0);
    let other = 256 - weight;
    for ((out, &a), &b) in row.iter_mut().zip(upper).zip(lower) {
        *out = u16::from(a) * other + u16::from(b) * weight;
    }
    row[upper.len()] = row[upper.len() - 1];
}

/// The two neighbours of every output sample, the left one in the lower half.
#[inline(always)]
fn gather(row: &[u16], left: &[u32], pairs: &mut Vec<u32>) {
    pairs.resize(left.len(), 0);
    for (pair, &left) in pairs.iter_mut().zip(left) {
        let two = &row[left as usize..left as usize + 2];
        *pair = u32::from(two[0]) | u32::from(two[1]) << 16;
    }
}

/// Colour matrix, range, channel order and normalisation, folded into one affine map with a clamp in the middle. Samples
/// come in 1/256. Kernels for other processors get these numbers, so that there is one place that makes them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Colour {
    pub luma: f32,
    pub red_cr: f32,
    pub green_cb: f32,
    pub green_cr: f32,
    pub blue_cb: f32,
    /// Added to red, green and blue.
    pub offset: [f32; 3],
    /// Pixel value 0 to 255 to network value, for red, green and blue.
    pub gain: [f32; 3],
    pub bias: [f32; 3],
    /// Padding in network values, in the order of the channels.
    pub pad: [f32; 3],
}

impl Colour {
    #[must_use]
    pub fn new(matrix: Matrix, full_range: bool, input: &ModelInput) -> Self {
        let (kr, kb) = match matrix {
            Matrix::Bt601 => (0.299, 0.114),
            Matrix::Bt709 => (0.2126, 0.0722),
        };
        let kg = 1.0 - kr - kb;
        // Samples come in 1/256.
        let (black, luma, chroma): (f64, f64, f64) = match full_range {
            true => (0.0, 1.0 / 256.0, 1.0 / 256.0),
            false => (16.0, 255.0 / 219.0 / 256.0, 255.0 / 224.0 / 256.0),
        };
        let red_cr = 2.0 * (1.0 - kr) * chroma;
        let green_cb = -2.0 * kb * (1.0 - kb) / kg * chroma;
        let green_cr = -2.0 * kr * (1.0 - kr) / kg * chroma;
        let blue_cb = 2.0 * (1.0 - kb) * chroma;
        let (dark, grey) = (-256.0 * black * luma, -256.0 * 128.0);
        let offset = [dark + grey * red_cr, dark + grey * (green_cb + green_cr), dark + grey * blue_cb];

        let gain: [f32; 3] = std::array::from_fn(|c| input.scale / input.std[c]);
        let bias: [f32; 3] = std::array::from_fn(|c| -input.mean[c] / input.std[c]);
        let pad = std::array::from_fn(|c| f32::from(input.pad) * gain[c] + bias[c]);
        // Gain and bias are given in the order of the channels, the conversion thinks in red, green, blue.
        let rgb = |values: [f32; 3]| match input.channels {
            Channels::Rgb => values,
            Channels::Bgr => [values[2], values[1], values[0]],
        };
        Self {
            luma: luma as f32,
            red_cr: red_cr as f32,
            green_cb: green_cb as f32,
            green_cr: green_cr as f32,
            blue_cb: blue_cb as f32,
            offset: offset.map(|value| value as f32),
            gain: rgb(gain),
            bias: rgb(bias),
            pad,
        }
    }

    /// One row: interpolates between the neighbours, converts and normalises. `out` is red, green, blue.
    #[inline(always)]
    fn convert(&self, pairs: &[Vec<u32>; 3], luma: &[f32], chroma: &[f32], out: [&mut [f32]; 3]) {
        let n = out[0].len();
        let [red, green, blue] = out.map(|channel| &mut channel[..n]);
        let [ys, cbs, crs] = [0, 1, 2].map(|p| &pairs[p][..n]);
        let (luma, chroma) = (&luma[..n], &chroma[..n]);
        for x in 0..n {
            let y = self.luma * between(ys[x], luma[x]);
            let cb = between(cbs[x], chroma[x]);
            let cr = between(crs[x], chroma[x]);
            let r = y + self.red_cr * cr + self.offset[0];
            let g = y + self.green_cb * cb + self.green_cr * cr + self.offset[1];
            let b = y + self.blue_cb * cb + self.offset[2];
            red[x] = r.clamp(0.0, 255.0) * self.gain[0] + self.bias[0];
            green[x] = g.clamp(0.0, 255.0) * self.gain[1] + self.bias[1];
            blue[x] = b.clamp(0.0, 255.0) * self.gain[2] + self.bias[2];
        }
    }
}

#[inline(always)]
fn between(pair: u32, weight: f32) -> f32 {
    // Both halves fit an i32, which converts in one instruction; a u32 does not.
    let (left, right) = ((pair & 0xFFFF) as i32 as f32, (pair >> 16) as i32 as f32);
    left + (right - left) * weight
}

#[cfg(test)]
mod tests {
    use fulltime_common::pipeline::Resize;

    use super::*;
    use crate::{geometry::Crop, picture::PlaneView};

    #[test]
    fn wider_registers_change_no_bit() {
        let data: Vec<u8> = (0..300_u32 * 200).map(|i| (i.wrapping_mul(0x9E37_79B1) >> 24) as u8).collect();
        let plane = |width, height| PlaneView { data: &data, stride: width as usize, width, height };
        let planes = [plane(300, 200), plane(150, 100), plane(150, 100)];
        let view = PictureView { width: 300, height: 200, planes, matrix: Matrix::Bt601, full_range: false };
        let input = ModelInput {
            name: None,
            layout: Layout::Nchw,
            channels: Channels::Rgb,
            size: [160, 96],
            resize: Resize::LetterboxCentre,
            pad: 114,
            scale: 1.0 / 255.0,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        };
        let crop = Crop { x: 7, y: 3, width: 251, height: 187 };
        let placed = Placed::new(crop, input.resize, input.size, [false; 4]);
        let (mut narrow, mut wide) = (vec![0.0; 3 * 160 * 96], vec![0.0; 3 * 160 * 96]);
        let colour = Colour::new(view.matrix, view.full_range, &input);
        resample(&view, &placed, &input, input.size, &colour, &mut Scratch::default(), &mut narrow);
        prepare(&view, &placed, &input, input.size, &mut Scratch::default(), &mut wide);
        assert!(narrow.iter().zip(&wide).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
