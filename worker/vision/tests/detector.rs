//! The detector as a lane uses it: on the virtual device everywhere, on ONNX Runtime with a real model where both are.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

mod common;

use common::{Picture, asset, detect, onnx, sim};
use fulltime_common::{
    Digest, Disposition, Exit,
    error::{Explain, chain},
    pipeline::{Detect, Region, Tiles},
};
use fulltime_vision::{Detection, Detector, EngineKind, Fault, FaultKind, SimOptions, VisionError, validate};

/// Detections of each picture, with `together` pictures in one call of the engine.
fn run(detector: &mut Detector, pictures: &[Picture], together: usize) -> Vec<Vec<Detection>> {
    let (mut preparer, reader) = (detector.preparer(), detector.reader());
    let plan = preparer.plan(pictures[0].width, pictures[0].height).unwrap();
    let mut all = Vec::new();
    for group in pictures.chunks(together) {
        let mut tensor = vec![0.0; group.len() * preparer.frame_len(&plan)];
        for (picture, part) in group.iter().zip(tensor.chunks_exact_mut(preparer.frame_len(&plan))) {
            preparer.prepare(&plan, &picture.view(), part).unwrap();
        }
        let mut outputs = Vec::new();
        detector.infer(&tensor, &mut outputs).unwrap();
        all.extend(outputs.chunks_exact(reader.frame_len(&plan)).map(|one| reader.finish(&plan, one, None).unwrap()));
    }
    all
}

fn pictures(n: u32) -> Vec<Picture> {
    (0..n).map(|seed| Picture::noise(320, 180, [2, 2], seed)).collect()
}

#[test]
fn what_is_found_in_a_frame_does_not_depend_on_the_frames_it_was_batched_with() {
    let mut tiled = detect([64, 64]);
    tiled.settings.tiles = Some(Tiles { columns: 3, rows: 1, overlap: 0.2 });
    let mut detector = Detector::load(&sim(), &[], &tiled).unwrap();
    let alone = run(&mut detector, &pictures(7), 1);
    assert!(alone.iter().all(|found| !found.is_empty()) && alone[0] != alone[1]);
    for together in [2, 3, 7] {
        assert_eq!(run(&mut detector, &pictures(7), together), alone);
    }
}

#[test]
fn a_device_that_runs_out_of_memory_goes_on_with_smaller_batches_to_the_same_result() {
    let expected = run(&mut Detector::load(&sim(), &[], &detect([64, 64])).unwrap(), &pictures(8), 8);
    // Latency per batch makes large batches worthwhile, then a scripted fault takes the first of them.
    let options = SimOptions { per_batch: std::time::Duration::from_millis(4), ..SimOptions::default() };
    let warm = Detector::load(&EngineKind::Sim(options.clone()), &[], &detect([64, 64])).unwrap();
    assert!(warm.preferred_batch() > 1, "{warm:?}");
    // The warm-up is 17 runs long.
    for run_number in 10..20 {
        let faults = vec![Fault { run: run_number, what: FaultKind::OutOfMemory }];
        let engine = EngineKind::Sim(SimOptions { faults, ..options.clone() });
        if let Ok(mut detector) = Detector::load(&engine, &[], &detect([64, 64])) {
            assert_eq!(run(&mut detector, &pictures(8), 8), expected);
        }
    }
}

#[test]
fn only_what_stands_in_the_region_is_reported() {
    let everything = run(&mut Detector::load(&sim(), &[], &detect([64, 64])).unwrap(), &pictures(20), 1);
    let mut left = detect([64, 64]);
    left.settings.region = Region::Polygon(vec![[0.0, 0.0], [0.5, 0.0], [0.5, 1.0], [0.0, 1.0]]);
    let found = run(&mut Detector::load(&sim(), &[], &left).unwrap(), &pictures(20), 1);
    assert!(found.iter().flatten().all(|d| d.x + d.w / 2.0 <= 160.5));
    assert!(everything.iter().flatten().any(|d| d.x + d.w / 2.0 > 160.5));
    assert!(everything.iter().flatten().all(|d| d.x >= 0.0 && d.y >= 0.0 && d.x + d.w <= 320.0 && d.y + d.h <= 180.0));
}

fn refused(change: impl FnOnce(&mut Detect)) -> (String, Exit) {
    let mut detect = detect([64, 64]);
    change(&mut detect);
    let error = validate(&detect).unwrap_err();
    assert!(error.hint().is_some());
    (error.to_string(), error.exit())
}

#[test]
fn settings_that_cannot_be_meant_are_refused_by_name() {
    let (text, exit) = refused(|d| d.settings.classes = vec!["referee".into()]);
    assert_eq!(
        text,
        "pipeline setting `detect.classes` is `referee`, but must be among the model's classes (person, ball)"
    );
    assert_eq!(exit, Exit::Usage);
    let (text, _) = refused(|d| d.settings.tiles = Some(Tiles { columns: 3, rows: 1, overlap: 0.6 }));
    assert_eq!(text, "pipeline setting `detect.tiles.overlap` is 0.6, but must be 0 to 0.5");
    let (text, _) = refused(|d| d.settings.region = Region::Polygon(vec![[0.0, 0.0], [1.0, 1.0]]));
    assert!(text.starts_with("pipeline setting `detect.region`"), "{text}");
    let (text, _) = refused(|d| d.settings.score_threshold = f32::NAN);
    assert_eq!(text, "pipeline setting `detect.score_threshold` is NaN, but must be 0 to 1");
    let (text, exit) = refused(|d| d.model.input.size = [100, 64]);
    assert!(text.starts_with("model manifest `test`: `input.size` is [100, 64], but must be"), "{text}");
    assert_eq!(exit, Exit::Model);
}

fn yolox() -> Option<(EngineKind, Vec<u8>, Detect)> {
    let (path, engine) = (asset("models/yolox_nano_dyn.onnx")?, onnx()?);
    let model = std::fs::read(path).unwrap();
    let mut detect = detect([416, 416]);
    detect.model.file.sha256 = Digest::of_bytes(&model);
    detect.model.classes = (0..80).map(|i| format!("class-{i}")).collect();
    detect.settings.score_threshold = 0.02;
    Some((engine, model, detect))
}

#[test]
fn the_real_model_gives_equal_bits_in_any_batch() {
    let Some((engine, model, detect)) = yolox() else { return };
    let mut detector = Detector::load(&engine, &model, &detect).unwrap();
    assert!(detector.engine_class().starts_with("onnx-cpu-1."));
    let waves: Vec<_> = (0..4).map(|i| Picture::waves(300 + i, 200, [2, 2])).collect();
    let pictures: Vec<_> =
        waves.iter().map(|w| Picture::new(300, 200, [2, 2], |plane, x, y| w.sample(plane, x, y))).collect();
    let alone = run(&mut detector, &pictures, 1);
    assert_eq!(run(&mut detector, &pictures, 4), alone);
}

#[test]
fn a_model_that_does_not_fit_its_manifest_is_refused_with_both_shapes() {
    let Some((engine, model, mut detect)) = yolox() else { return };
    detect.model.classes.truncate(3);
    let error = Detector::load(&engine, &model, &detect).unwrap_err();
    assert_eq!(
        chain(&error),
        "model `test`: output `output` of the model has shape [?, ?, 85], but the manifest calls for [?, 3549, 8]"
    );
    assert_eq!((error.exit(), error.disposition()), (Exit::Model, Disposition::JobUnfit));
    assert!(error.hint().is_some_and(|hint| hint.contains("`classes`")));
}

#[test]
fn a_model_of_another_sha256_is_refused_before_it_is_parsed() {
    let Some(engine) = onnx() else { return };
    let error = Detector::load(&engine, b"something else", &detect([64, 64])).unwrap_err();
    assert!(matches!(error, VisionError::Digest { .. }), "{error}");
    assert_eq!((error.exit(), error.disposition()), (Exit::Model, Disposition::JobUnfit));
}

#[test]
fn without_a_runtime_the_error_says_what_to_install() {
    let engine = EngineKind::onnx("/nonexistent/libonnxruntime.so".into());
    let error = Detector::load(&engine, b"", &detect([64, 64])).unwrap_err();
    assert_eq!((error.exit(), error.disposition()), (Exit::Runtime, Disposition::WorkerUnfit));
    assert!(error.hint().is_some_and(|hint| hint.contains("ORT_DYLIB_PATH")));
}
