//! Pictures in memory as a decoder lays them out, and the same as the references see them.

use fulltime_kernels::{Address, Colour, Frame};
use fulltime_vision::{Matrix, PictureView, PlaneView, reference};
use proptest::prelude::*;

/// How samples lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Luma samples per sample of a colour difference.
    Planar([u32; 2]),
    Nv12,
    Gray,
}

/// What a picture is made from.
#[derive(Debug, Clone, Copy)]
pub struct Sketch {
    pub size: [u32; 2],
    pub form: Form,
    /// Bytes behind each row that belong to no picture, and before the first.
    pub margin: u32,
    pub lead: u32,
    pub seed: u32,
    pub bt601: bool,
    pub full_range: bool,
}

/// A picture as a device holds it (`memory`) and as planes for the references.
pub struct Picture {
    sketch: Sketch,
    memory: Vec<u64>,
    /// Where each plane begins, and its stride.
    places: [(usize, usize); 3],
    pub planes: [Vec<u8>; 3],
}

pub fn sketches(longest: u32) -> impl Strategy<Value = Sketch> {
    let forms = vec![
        Form::Nv12,
        Form::Planar([2, 2]),
        Form::Planar([2, 1]),
        Form::Planar([1, 1]),
        Form::Planar([4, 1]),
        Form::Planar([1, 2]),
        Form::Gray,
    ];
    let size = [1..=longest, 1..=longest];
    let form = prop::sample::select(forms);
    // Most decoders align rows; some do not.
    let margin = prop_oneof![Just(0), Just(7), Just(8), 1_u32..40];
    (size, form, margin, 0_u32..9, any::<(u32, bool, bool)>()).prop_map(
        |(size, form, margin, lead, (seed, bt601, full_range))| Sketch {
            size,
            form,
            margin,
            lead,
            seed,
            bt601,
            full_range,
        },
    )
}

pub fn noise(seed: u32, x: u32, y: u32, plane: u32) -> u8 {
    let mut h = (x ^ y.rotate_left(11) ^ plane << 28 ^ seed).wrapping_mul(0x9E37_79B1);
    h = (h ^ h >> 15).wrapping_mul(0x85EB_CA77);
    (h ^ h >> 13) as u8
}

impl Sketch {
    fn factors(&self) -> [u32; 2] {
        match self.form {
            Form::Planar(factors) => factors,
            Form::Nv12 | Form::Gray => [2, 2],
        }
    }

    fn chroma(&self) -> [u32; 2] {
        [0, 1].map(|i| self.size[i].div_ceil(self.factors()[i]))
    }
}

impl Picture {
    pub fn new(sketch: Sketch) -> Self {
        let chroma = sketch.chroma();
        let planes = [0, 1, 2].map(|plane| {
            let [width, height] = if plane == 0 { sketch.size } else { chroma };
            let sample =
                |x, y| if sketch.form == Form::Gray && plane > 0 { 128 } else { noise(sketch.seed, x, y, plane) };
            (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| sample(x, y)).collect()
        });
        let step = if sketch.form == Form::Nv12 { 2 } else { 1 };
        let strides = [sketch.size[0], chroma[0] * step, chroma[0] * step].map(|row| (row + sketch.margin) as usize);
        let rows = [sketch.size[1], chroma[1], chroma[1]].map(|rows| rows as usize);
        // NV12 may have its pairs at any address; all else likewise, so that words straddle.
        let first = sketch.lead as usize;
        let second = first + strides[0] * rows[0] + sketch.lead as usize;
        let third = if step == 2 { second + 1 } else { second + strides[1] * rows[1] };
        let places = [(first, strides[0]), (second, strides[1]), (third, strides[2])];
        let mut memory = vec![0xa5a5_a5a5_a5a5_a5a5_u64; (third + strides[2] * rows[2]) / 8 + 2];
        // SAFETY: plain bytes of a vector that lives here.
        let bytes = unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast::<u8>(), memory.len() * 8) };
        for (p, samples) in planes.iter().enumerate() {
            let samples: &Vec<u8> = samples;
            let (width, step) = if p == 0 { (sketch.size[0], 1) } else { (chroma[0], step) };
            let (begin, stride) = places[p];
            for (i, &sample) in samples.iter().enumerate() {
                let (x, y) = (i % width as usize, i / width as usize);
                bytes[begin + y * stride + x * step as usize] = sample;
            }
        }
        Self { sketch, memory, places, planes }
    }

    /// As the kernels see it.
    pub fn frame(&self) -> Frame {
        let base = self.memory.as_ptr() as Address;
        let [width, height] = self.sketch.size.map(|side| side as i32);
        let [chroma_width, chroma_height] = self.sketch.chroma().map(|side| side as i32);
        let [across, down] = factors(&self.view());
        let mut planes = self.places.map(|(begin, _)| base + begin as Address);
        if self.sketch.form == Form::Gray {
            (planes[1], planes[2]) = (0, 0);
        }
        Frame {
            planes,
            strides: self.places.map(|(_, stride)| stride as i32),
            step: if self.sketch.form == Form::Nv12 { 2 } else { 1 },
            width,
            height,
            chroma_width,
            chroma_height,
            across,
            down,
        }
    }

    /// As the references see it.
    pub fn view(&self) -> PictureView<'_> {
        let [width, height] = self.sketch.size;
        let [chroma_width, chroma_height] = self.sketch.chroma();
        let plane = |data, width: u32, height| PlaneView { data, stride: width as usize, width, height };
        PictureView {
            width,
            height,
            planes: [
                plane(&self.planes[0], width, height),
                plane(&self.planes[1], chroma_width, chroma_height),
                plane(&self.planes[2], chroma_width, chroma_height),
            ],
            matrix: if self.sketch.bt601 { Matrix::Bt601 } else { Matrix::Bt709 },
            full_range: self.sketch.full_range,
        }
    }
}

/// What the references take the subsampling for, which in tiny pictures is not what was meant.
fn factors(view: &PictureView) -> [i32; 2] {
    let factor = |full: u32, part: u32| full.div_ceil(part.max(1)).next_power_of_two() as i32;
    [factor(view.width, view.planes[1].width), factor(view.height, view.planes[1].height)]
}

pub fn colour(from: &reference::Colour) -> Colour {
    let reference::Colour { luma, red_cr, green_cb, green_cr, blue_cb, offset, gain, bias, pad } = *from;
    Colour { luma, red_cr, green_cb, green_cr, blue_cb, offset, gain, bias, pad }
}

pub fn address<T>(of: &[T]) -> Address {
    of.as_ptr() as Address
}

pub fn address_mut<T>(of: &mut [T]) -> Address {
    of.as_mut_ptr() as Address
}

/// Runs a launch whose addresses come from slices of the caller's that are long enough.
pub fn run(launch: fulltime_kernels::Launch) {
    // SAFETY: said above.
    unsafe { fulltime_kernels_cpu::run(&launch) };
}
