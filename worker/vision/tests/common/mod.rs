//! Pictures and pipelines for the tests.
#![allow(dead_code)] // Each test binary uses its part.

use std::path::PathBuf;

use fulltime_common::{
    Digest,
    pipeline::{Channels, Detect, DetectSettings, Layout, Manifest, ModelFile, ModelInput, ModelOutput, Resize},
};
use fulltime_vision::{EngineKind, Matrix, PictureView, PlaneView, SimOptions};

/// A picture that owns its planes, with bytes behind every row that belong to no picture.
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub factors: [u32; 2],
    chroma: [u32; 2],
    planes: [Vec<u8>; 3],
    pub matrix: Matrix,
    pub full_range: bool,
}

const MARGIN: u32 = 5;

impl Picture {
    /// `factors`: luma samples per chroma sample, horizontally and vertically. `sample(plane, x, y)` gives the values.
    pub fn new(width: u32, height: u32, factors: [u32; 2], sample: impl Fn(usize, u32, u32) -> u8) -> Self {
        let chroma = [width.div_ceil(factors[0]), height.div_ceil(factors[1])];
        let planes = [0, 1, 2].map(|plane| {
            let [width, height] = if plane == 0 { [width, height] } else { chroma };
            let row = |y| (0..width + MARGIN).map(move |x| (x, y));
            let rows = (0..height).flat_map(row);
            rows.map(|(x, y)| if x < width { sample(plane, x, y) } else { 255 }).collect()
        });
        Self { width, height, factors, chroma, planes, matrix: Matrix::Bt709, full_range: false }
    }

    /// Deterministic noise.
    pub fn noise(width: u32, height: u32, factors: [u32; 2], seed: u32) -> Self {
        Self::new(width, height, factors, |plane, x, y| {
            let mut h = (x ^ y.rotate_left(11) ^ (plane as u32) << 28 ^ seed).wrapping_mul(0x9E37_79B1);
            h = (h ^ h >> 15).wrapping_mul(0x85EB_CA77);
            (h ^ h >> 13) as u8
        })
    }

    /// Smooth waves: what pictures look like at the scale of a pixel.
    pub fn waves(width: u32, height: u32, factors: [u32; 2]) -> Self {
        Self::new(width, height, factors, |plane, x, y| {
            // Triangles of integers, so that the picture is the same wherever the test runs.
            let wave = |v: u32, period: u32| (v % period).abs_diff(period / 2) * 200 / (period / 2);
            let p = plane as u32;
            (20 + (wave(x * (p + 1) + y, 97) + wave(y * (3 - p) + 2 * x, 61)) / 2) as u8
        })
    }

    pub fn view(&self) -> PictureView<'_> {
        let plane = |i: usize, width: u32, height: u32| PlaneView {
            data: &self.planes[i],
            stride: (width + MARGIN) as usize,
            width,
            height,
        };
        let [w, h] = self.chroma;
        PictureView {
            width: self.width,
            height: self.height,
            planes: [plane(0, self.width, self.height), plane(1, w, h), plane(2, w, h)],
            matrix: self.matrix,
            full_range: self.full_range,
        }
    }

    pub fn sample(&self, plane: usize, x: u32, y: u32) -> u8 {
        let width = if plane == 0 { self.width } else { self.chroma[0] };
        self.planes[plane][(y * (width + MARGIN) + x) as usize]
    }

    pub fn plane_size(&self, plane: usize) -> [u32; 2] {
        if plane == 0 { [self.width, self.height] } else { self.chroma }
    }
}

/// A YOLOX-shaped detector of two classes, without a model file.
pub fn detect(size: [u32; 2]) -> Detect {
    Detect {
        model: Manifest {
            name: "test".into(),
            file: ModelFile { path: "none.onnx".into(), sha256: Digest::of_bytes(b"") },
            torch: vec![],
            input: ModelInput {
                name: None,
                layout: Layout::Nchw,
                channels: Channels::Bgr,
                size,
                resize: Resize::LetterboxTopLeft,
                pad: 114,
                scale: 1.0,
                mean: [0.0; 3],
                std: [1.0; 3],
            },
            output: ModelOutput::Yolox { name: None, strides: vec![8, 16, 32] },
            classes: vec!["person".into(), "ball".into()],
            licence: None,
            notes: Default::default(),
        },
        settings: DetectSettings {
            input_size: None,
            score_threshold: 0.25,
            nms_iou: 0.6,
            soft_nms: None,
            classes: vec![],
            every: 1,
            tiles: None,
            region: Default::default(),
        },
    }
}

pub fn sim() -> EngineKind {
    EngineKind::Sim(SimOptions::default())
}

/// A file of the test assets, unless they are absent: then the test says so and passes.
pub fn asset(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/assets");
    let root = std::env::var_os("FULLTIME_ASSETS").map_or_else(beside, PathBuf::from);
    let path = root.join(name);
    if !path.is_file() {
        println!("skipped: test asset `{name}` is not here");
        return None;
    }
    Some(path)
}

/// ONNX Runtime, likewise.
pub fn onnx() -> Option<EngineKind> {
    let found = fulltime_common::process::onnxruntime();
    if found.is_none() {
        println!("skipped: no ONNX Runtime here, `cargo xtask test` brings one");
    }
    found.map(EngineKind::onnx)
}
