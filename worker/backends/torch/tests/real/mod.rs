use std::path::Path;

use fulltime_backend::{
    Backend, BackendError, Contract, Kind, OPEN, Output, Probe,
    conformance::{self, PROBE},
};
use fulltime_backend_onnx::{OnnxBackend, ProviderOptions, Runtime};
use fulltime_backend_torch::{TorchBackend, TorchOptions, engine_class};

use crate::common::{contract, picture, shipped, slices, traced};

fn open(stages: &[Vec<u8>], contract: &Contract, options: &str) -> Result<TorchBackend, BackendError> {
    TorchBackend::open(&slices(stages), contract.clone(), &options.parse::<TorchOptions>().expect("options"))
}

fn noise(len: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as f32 / 257.0
    };
    (0..len).map(|_| next()).collect()
}

fn output(backend: &mut dyn Backend, batch: usize) -> Vec<f32> {
    let mut output = Vec::new();
    let input = noise(batch * backend.describe().contract.input_len());
    backend.run(&input, batch, &mut output).expect("a run");
    output
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn torch_is_a_backend_with_every_shipped_model() {
    for model in shipped() {
        let mut backend = open(&model.stages, &model.contract, "device=cpu").unwrap();
        conformance::check(&mut backend);
    }
}

#[test]
fn a_split_model_is_a_backend() {
    let detector = &shipped()[0];
    for options in ["device=cpu*2", "device=cpu*3,micro-batch=2"] {
        conformance::check(&mut open(&detector.stages, &detector.contract, options).unwrap());
    }
}

#[test]
fn torch_and_onnx_agree_on_the_shipped_models() {
    let Some(library) = fulltime_common::process::onnxruntime() else {
        println!("skipped: no ONNX Runtime here, `cargo xtask test` brings one");
        return;
    };
    let runtime = Runtime::load(&library, &ProviderOptions::default()).unwrap();
    for model in shipped() {
        let mut onnx = OnnxBackend::open(&runtime, &model.onnx, model.contract.clone()).unwrap();
        let mut torch = open(&model.stages, &model.contract, "device=cpu").unwrap();
        assert_eq!(torch.describe().contract.outputs[0].item, onnx.describe().contract.outputs[0].item);
        for batch in [1, 3] {
            let apart = furthest(&output(&mut onnx, batch), &output(&mut torch, batch));
            println!("{}: batch {batch}: at most {apart:e} apart", model.name);
            assert!(apart <= 1e-3, "{}: {apart}", model.name);
        }
    }
}

#[test]
fn a_model_over_several_devices_gives_what_it_gives_on_one() {
    let detector = &shipped()[0];
    for micro in [1, 2, 3] {
        let split =
            |devices: &str| open(&detector.stages, &detector.contract, &format!("{devices},micro-batch={micro}"));
        let mut single = open(&detector.stages, &detector.contract, "device=cpu").unwrap();
        // What one device gives when it is fed the same micro-batches.
        let expected: Vec<f32> = {
            let (item, input) = (detector.contract.input_len(), noise(7 * detector.contract.input_len()));
            let parts = input.chunks(micro * item).map(|part| {
                let mut output = Vec::new();
                single.run(part, part.len() / item, &mut output).unwrap();
                output
            });
            parts.flatten().collect()
        };
        for devices in ["device=cpu*2", "device=cpu*3", "device=cpu*4", "device=cpu*6"] {
            let mut backend = split(devices).unwrap();
            let found = output(&mut backend, 7);
            let equal = found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(found.len() == expected.len() && equal, "{devices}, micro-batches of {micro}");
        }
    }
}

#[test]
fn a_failure_in_one_device_is_told_and_the_lane_goes_on() {
    let pass = traced(&[picture(1, [3, 4, 8])], |given| vec![given[0].relu()]);
    // Accepts batches of up to two: the view below fails for others.
    let picky = traced(&[picture(2, [3, 4, 8])], |given| vec![given[0].view([2, 96])]);
    let stages = [pass.clone(), pass, picky];
    let mut backend = open(&stages, &contract([3, 4, 8], &[96]), "device=cpu*3,micro-batch=2").unwrap();
    assert_eq!(backend.describe().fixed_batch, Some(2));
    let error = backend.run(&noise(3 * 96), 3, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, BackendError::Run { batch: 3, .. }), "{error}");
    assert_eq!(output(&mut backend, 2).len(), 192);
}

#[test]
fn lower_precision_stays_near_and_has_a_class_of_its_own() {
    let embedder = &shipped()[1];
    let mut exact = open(&embedder.stages, &embedder.contract, "").unwrap();
    let expected = output(&mut exact, 2);
    let scale = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let mut lower = open(&embedder.stages, &embedder.contract, "precision=bf16").unwrap();
    let apart = furthest(&expected, &output(&mut lower, 2));
    // bf16 has 8 bits of precision; some layers of it lose a few per cent.
    assert!(apart > 0.0 && apart <= 0.1 * scale, "{apart} of {scale}");
    assert_ne!(lower.describe().engine, exact.describe().engine);
    conformance::check(&mut lower);
}

#[test]
fn channels_last_gives_the_same_within_rounding() {
    let detector = &shipped()[0];
    let expected = output(&mut open(&detector.stages, &detector.contract, "").unwrap(), 2);
    // Another process would have other switches; the layout is a model's own.
    let options = TorchOptions { channels_last: true, ..TorchOptions::default() };
    let found = match TorchBackend::open(&slices(&detector.stages), detector.contract.clone(), &options) {
        Ok(mut backend) => output(&mut backend, 2),
        Err(error) => panic!("{error:?}"),
    };
    assert!(furthest(&expected, &found) <= 1e-3);
}

#[test]
fn a_model_traced_for_one_size_is_fixed_to_it() {
    let four = traced(&[picture(4, [3, 4, 8])], |given| vec![given[0].view([4, 16, 6])]);
    let mut backend = open(&[four], &contract([3, 4, 8], &[16, 6]), "").unwrap();
    assert_eq!(backend.describe().fixed_batch, Some(4));
    conformance::check(&mut backend);
}

#[test]
fn several_outputs_come_by_position_or_by_name() {
    let output = |name: &str, item: Vec<usize>| Output { name: Some(name.to_owned()), item };
    let outputs = vec![output("once", vec![96]), output("twice", vec![OPEN])];
    let wanted = Contract { outputs, ..contract([3, 4, 8], &[]) };
    for model in [&include_bytes!("../models/pair.pt")[..], include_bytes!("../models/named.pt")] {
        let mut backend = open(&[model.to_vec()], &wanted, "").unwrap();
        let found = self::output(&mut backend, 2);
        let input = noise(192);
        assert_eq!(found[..96], input[..96]);
        assert_eq!(found[96..192], input[..96].iter().map(|value| value * 2.0).collect::<Vec<_>>()[..]);
        assert_eq!(found[192..288], input[96..]);
        conformance::check(&mut backend);
    }
    let named = include_bytes!("../models/named.pt").to_vec();
    let other = Contract { outputs: vec![output("thrice", vec![96])], ..wanted };
    let error = open(&[named], &other, "").unwrap_err().to_string();
    assert!(error.starts_with("the model has no output named `thrice`, only `"), "{error}");
}

#[test]
fn a_model_that_does_not_fit_is_refused_by_shape() {
    let embedder = &shipped()[1];
    let error = open(&embedder.stages, &contract([3, 128, 64], &[64]), "").unwrap_err();
    let text = "output `output 0` of the model has shape [1, 128], but the manifest calls for [1, 64]";
    assert_eq!((error.to_string().as_str(), error.kind()), (text, Kind::Model));
    let error = open(&embedder.stages, &contract([5, 128, 64], &[128]), "").unwrap_err();
    assert_eq!(error.kind(), Kind::Model);
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("3 channels") && source.len() < 400, "{source}");
}

#[test]
fn bytes_that_are_no_model_are_a_model_error() {
    let error = open(&[b"not a zip".to_vec()], &contract([3, 4, 8], &[96]), "").unwrap_err();
    assert_eq!(error.kind(), Kind::Model, "{error}");
    let error = open(&[], &contract([3, 4, 8], &[96]), "device=cpu*2").unwrap_err();
    assert_eq!(error.kind(), Kind::Model, "{error}");
}

#[test]
fn integers_are_refused() {
    let whole = traced(&[picture(1, [3, 4, 8])], |given| vec![given[0].argmax(1, false)]);
    let error = open(&[whole], &contract([3, 4, 8], &[4, 8]), "").unwrap_err();
    assert_eq!(error.to_string(), "output `output 0` of the model holds int64 values, not f32");
}

#[test]
fn memory_that_does_not_suffice_is_told_apart() {
    // All products of two values of a picture: harmless for the example, 75 TB for a real one.
    let products = traced(&[picture(1, [3, 2, 2])], |given| {
        let flat = given[0].flatten(1, -1);
        let pairs = flat.unsqueeze(2) * flat.unsqueeze(1);
        vec![pairs.sum_dim_intlist([1_i64, 2].as_slice(), false, None)]
    });
    let error = open(&[products], &contract([3, 1200, 1200], &[]), "").unwrap_err();
    assert_eq!(error.kind(), Kind::OutOfMemory, "{error:?}");
}

#[test]
fn the_engine_class_names_what_can_change_bits() {
    let class = engine_class(&TorchOptions::default()).unwrap();
    assert!(class.starts_with("torch-cpu-2.") && class.ends_with("-fp32"), "{class}");
    assert_eq!(engine_class(&"device=cpu*3".parse().unwrap()).unwrap(), class);
    assert_ne!(engine_class(&"precision=bf16".parse().unwrap()).unwrap(), class);
    assert!(Path::new("/proc/self/maps").exists());
}

#[test]
fn a_gpu_that_is_not_there_is_told_with_what_helps() {
    let error = engine_class(&"device=cuda:0".parse().unwrap()).unwrap_err();
    if std::env::var_os("FULLTIME_TORCH_LIB").is_none() {
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("FULLTIME_TORCH_LIB") || source.contains("GPU"), "{source}");
    }
    assert_eq!(error.kind(), Kind::Runtime);
}

#[test]
fn warm_up_finds_the_sizes_that_agree() {
    let digits = &shipped()[2];
    let mut backend = open(&digits.stages, &digits.contract, "").unwrap();
    let warm = backend.warm_up(&Probe { ..PROBE }, &[1, 2, 4, 8, 16]).unwrap();
    println!("sizes {:?}, best {}", warm.sizes, warm.preferred);
    assert!(warm.sizes.contains(&1));
}
