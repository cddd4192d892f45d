//! The ONNX backend against the suite of all backends, and against models and libraries that do not fit.

mod common;

use std::path::Path;

use common::{reshape, runtime};
use fulltime_backend::{Backend, BackendError, Contract, Kind, OPEN, Output, conformance};
use fulltime_backend_onnx::{OnnxBackend, ProviderOptions, Runtime, engine_class};

fn contract() -> Contract {
    giving(None, vec![16, 6])
}

fn giving(name: Option<&str>, item: Vec<usize>) -> Contract {
    let outputs = vec![Output { name: name.map(str::to_owned), item }];
    Contract { input: None, input_item: vec![3, 4, 8], outputs }
}

fn open(library: &Path, model: &[u8], contract: Contract) -> Result<OnnxBackend, BackendError> {
    OnnxBackend::open(&Runtime::load(library, &ProviderOptions::default())?, model, contract)
}

#[test]
fn onnx_is_a_backend() {
    let Some(library) = runtime() else { return };
    let model = reshape([-1, 3, 4, 8], [16, 6], [-1, 16, 6]);
    conformance::check(&mut open(&library, &model, contract()).unwrap());
}

#[test]
fn onnx_with_a_fixed_batch_is_a_backend() {
    let Some(library) = runtime() else { return };
    let model = reshape([2, 3, 4, 8], [16, 6], [2, 16, 6]);
    let mut backend = open(&library, &model, contract()).unwrap();
    assert_eq!(backend.describe().fixed_batch, Some(2));
    conformance::check(&mut backend);
}

#[test]
fn the_engine_class_is_known_without_a_model_and_names_the_build() {
    let Some(library) = runtime() else { return };
    let class = engine_class(&library, &ProviderOptions::default()).unwrap();
    assert!(class.starts_with("onnx-cpu-1.") && class.split('-').count() == 5, "{class}");
    let model = reshape([-1, 3, 4, 8], [16, 6], [-1, 16, 6]);
    assert_eq!(open(&library, &model, contract()).unwrap().describe().engine, class);
}

#[test]
fn a_model_of_another_input_size_is_refused_by_tensor_and_shape() {
    let Some(library) = runtime() else { return };
    let error = open(&library, &reshape([1, 3, 8, 8], [16, 6], [1, 16, 6]), contract()).unwrap_err();
    let text = "input `images` of the model has shape [1, 3, 8, 8], but the manifest calls for [?, 3, 4, 8]";
    assert_eq!((error.to_string().as_str(), error.kind()), (text, Kind::Model));
}

#[test]
fn a_model_with_other_classes_is_refused_by_tensor_and_shape() {
    let Some(library) = runtime() else { return };
    let error = open(&library, &reshape([-1, 3, 4, 8], [12, 8], [-1, 12, 8]), contract()).unwrap_err();
    let text = "output `output` of the model has shape [?, 12, 8], but the manifest calls for [?, 16, 6]";
    assert_eq!(error.to_string(), text);
}

#[test]
fn an_output_that_shows_its_shape_only_when_run_is_refused_then() {
    let Some(library) = runtime() else { return };
    let open_ended = reshape([-1, 3, -1, -1], [-1, 6], [-1, -1, -1]);
    let mut backend = open(&library, &open_ended, giving(None, vec![15, 6])).unwrap();
    let error = backend.run(&[0.0; 96], 1, &mut Vec::new()).unwrap_err();
    let text = "output `output` of the model has shape [1, 16, 6], but the manifest calls for [1, 15, 6]";
    assert_eq!(error.to_string(), text);
}

#[test]
fn sides_left_open_are_what_the_model_declares_or_else_gives() {
    let Some(library) = runtime() else { return };
    for declared in [[-1, 16, 6], [-1, -1, -1]] {
        let model = reshape([-1, 3, 4, 8], [16, 6], declared);
        let mut backend = open(&library, &model, giving(None, vec![OPEN, 6])).unwrap();
        assert_eq!(backend.describe().contract.outputs[0].item, [16, 6]);
        conformance::check(&mut backend);
    }
    let error =
        open(&library, &reshape([-1, 3, 4, 8], [16, 6], [-1, -1, -1]), giving(None, vec![OPEN, 5])).unwrap_err();
    let text = "output `output` of the model has shape [?, 16, 6], but the manifest calls for [?, ?, 5]";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_tensor_that_the_model_lacks_is_named_with_those_it_has() {
    let Some(library) = runtime() else { return };
    let model = reshape([-1, 3, 4, 8], [16, 6], [-1, 16, 6]);
    let named = Contract { input: Some("x".into()), ..contract() };
    let error = open(&library, &model, named).unwrap_err();
    assert_eq!(error.to_string(), "the model has no input named `x`, only `images`");
    assert!(open(&library, &model, giving(Some("output"), vec![16, 6])).is_ok());
}

#[test]
fn bytes_that_are_no_model_are_a_model_error() {
    let Some(library) = runtime() else { return };
    let error = open(&library, b"not an onnx file", contract()).unwrap_err();
    assert_eq!(error.kind(), Kind::Model, "{error}");
}
