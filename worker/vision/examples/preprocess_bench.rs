//! Milliseconds per frame of everything around the model, on one thread: `cargo run --release -p fulltime-vision
//! --example preprocess_bench`. The last line is one JSON object. Best of many rounds, since other load only adds.

use std::{hint::black_box, time::Instant};

use fulltime_common::{
    Digest,
    pipeline::{Channels, Detect, DetectSettings, Layout, Manifest, ModelFile, ModelInput, ModelOutput, Resize, Tiles},
};
use fulltime_vision::{
    Detector, EngineKind, Matrix, PictureView, PlaneView, SimOptions, VisionError, luma_signature, preview_jpeg,
};

fn main() -> Result<(), VisionError> {
    let mut results = serde_json::Map::new();
    for (name, width, height, size, tiles) in [
        ("prepare_720p_to_416", 1280, 720, 416, None),
        ("prepare_1080p_to_640", 1920, 1080, 640, None),
        ("prepare_2160p_to_640", 3840, 2160, 640, None),
        ("prepare_1080p_6x2_tiles_of_416", 1920, 1080, 416, Some(Tiles { columns: 6, rows: 2, overlap: 0.2 })),
    ] {
        let pixels = pixels(width, height);
        let view = view(&pixels, width, height);
        let detector = Detector::load(&EngineKind::Sim(SimOptions::default()), &[], &detect(size, tiles))?;
        let (mut preparer, reader) = (detector.preparer(), detector.reader());
        let plan = preparer.plan(width, height)?;
        let mut tensor = vec![0.0; preparer.frame_len(&plan)];
        report(&mut results, name, || preparer.prepare(&plan, black_box(&view), &mut tensor))?;
        black_box(&tensor);
        // Every row passes nothing: what is left is the scan over objectness.
        let outputs = vec![0.01; reader.frame_len(&plan)];
        let name = name.replace("prepare", "read_empty");
        report(&mut results, &name, || {
            reader.finish(&plan, black_box(&outputs), None).map(|found| drop(black_box(found)))
        })?;
    }
    let pixels = pixels(1280, 720);
    let view = view(&pixels, 1280, 720);
    report(&mut results, "preview_720p_to_640", || preview_jpeg(&view, 640).map(|jpeg| drop(black_box(jpeg))))?;
    report(&mut results, "luma_signature_720p", || luma_signature(black_box(&view)).map(|_| ()))?;
    println!("{}", serde_json::Value::Object(results));
    Ok(())
}

fn report(
    results: &mut serde_json::Map<String, serde_json::Value>,
    name: &str,
    mut work: impl FnMut() -> Result<(), VisionError>,
) -> Result<(), VisionError> {
    let mut best = f64::INFINITY;
    for _ in 0..300 {
        let begin = Instant::now();
        work()?;
        best = best.min(begin.elapsed().as_secs_f64() * 1e3);
    }
    println!("{name:40} {best:8.3} ms");
    results.insert(format!("{name}_ms"), best.into());
    Ok(())
}

/// Y, Cb and Cr of a 4:2:0 picture with some structure.
fn pixels(width: u32, height: u32) -> [Vec<u8>; 3] {
    let plane = |width: u32, height: u32, k: u32| {
        (0..width * height).map(|i| ((i % width) * k + (i / width) * 3 + i * i % 31) as u8).collect()
    };
    [plane(width, height, 7), plane(width / 2, height / 2, 5), plane(width / 2, height / 2, 2)]
}

fn view([y, cb, cr]: &[Vec<u8>; 3], width: u32, height: u32) -> PictureView<'_> {
    let half = |data| PlaneView { data, stride: width as usize / 2, width: width / 2, height: height / 2 };
    PictureView {
        width,
        height,
        planes: [PlaneView { data: y, stride: width as usize, width, height }, half(cb), half(cr)],
        matrix: Matrix::Bt709,
        full_range: false,
    }
}

fn detect(size: u32, tiles: Option<Tiles>) -> Detect {
    Detect {
        model: Manifest {
            name: "bench".into(),
            file: ModelFile { path: "none".into(), sha256: Digest::of_bytes(b"") },
            torch: vec![],
            input: ModelInput {
                name: None,
                layout: Layout::Nchw,
                channels: Channels::Bgr,
                size: [size; 2],
                resize: Resize::LetterboxTopLeft,
                pad: 114,
                scale: 1.0,
                mean: [0.0; 3],
                std: [1.0; 3],
            },
            output: ModelOutput::Yolox { name: None, strides: vec![8, 16, 32] },
            classes: (0..80).map(|i| format!("class {i}")).collect(),
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
            tiles,
            region: Default::default(),
        },
    }
}
