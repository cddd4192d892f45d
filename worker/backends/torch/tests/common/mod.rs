//! Models for the tests: the shipped ones, and small ones traced here.

use std::path::PathBuf;

use fulltime_backend::{Contract, OPEN, Output};
use tch::{CModule, Device, Kind, Tensor};

/// One of the shipped models: TorchScript stages, ONNX file, what goes in and comes out.
pub struct Shipped {
    pub name: &'static str,
    pub stages: Vec<Vec<u8>>,
    pub onnx: Vec<u8>,
    pub contract: Contract,
}

pub fn shipped() -> Vec<Shipped> {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../models");
    let read = |name: &str, file: String| std::fs::read(models.join(name).join(file)).expect("a shipped model");
    let of = |name: &'static str, stages: usize, size: [usize; 2], item: &[usize]| Shipped {
        name,
        stages: match stages {
            1 => vec![read(name, format!("{name}.pt"))],
            _ => (0..stages).map(|at| read(name, format!("{name}.{at}.pt"))).collect(),
        },
        onnx: read(name, format!("{name}.onnx")),
        contract: contract([3, size[1], size[0]], item),
    };
    vec![
        of("synth-detector", 4, [224, 128], &[OPEN, 7]),
        of("synth-embedder", 1, [64, 128], &[128]),
        of("synth-digits", 1, [64, 48], &[16, 11]),
    ]
}

pub fn contract(input: [usize; 3], item: &[usize]) -> Contract {
    let outputs = vec![Output { name: None, item: item.to_vec() }];
    Contract { input: Some("images".into()), input_item: input.to_vec(), outputs }
}

pub fn slices(stages: &[Vec<u8>]) -> Vec<&[u8]> {
    stages.iter().map(Vec::as_slice).collect()
}

/// Traces `run` on an example and returns the saved module.
pub fn traced(example: &[Tensor], mut run: impl FnMut(&[Tensor]) -> Vec<Tensor>) -> Vec<u8> {
    let _guard = tch::no_grad_guard();
    let module = CModule::create_by_tracing("Net", "forward", example, &mut run).expect("trace");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.pt");
    module.save(&path).expect("save");
    std::fs::read(&path).expect("read it back")
}

pub fn picture(batch: i64, sides: [i64; 3]) -> Tensor {
    Tensor::ones([batch, sides[0], sides[1], sides[2]], (Kind::Float, Device::Cpu))
}
