//! A model in an engine, warmed up: what detector and describer have in common. Owned by one thread.

use std::path::PathBuf;

use fulltime_backend::{Backend, BackendError, Batches, Contract, Output, Probe, Scratch, Warm, infer};
use fulltime_backend_onnx::{OnnxBackend, Runtime};
use fulltime_backend_sim::{SimBackend, SimModel, SimOptions};
use fulltime_common::{
    Digest,
    pipeline::{Layout, Manifest, ModelInput},
};

use crate::error::VisionError;

/// What runs the model.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineKind {
    /// ONNX Runtime on the CPU, loaded from this library.
    Onnx { library: PathBuf },
    /// The virtual device; it needs no model file.
    Sim(SimOptions),
}

impl EngineKind {
    /// Everything about this engine on this machine that can change bits; known before any model.
    ///
    /// # Errors
    /// When the runtime library cannot be loaded.
    pub fn engine_class(&self) -> Result<String, VisionError> {
        match self {
            Self::Onnx { library } => fulltime_backend_onnx::engine_class(library).map_err(VisionError::Runtime),
            Self::Sim(_) => Ok(fulltime_backend_sim::engine_class()),
        }
    }
}

pub(crate) struct Network {
    backend: Box<dyn Backend>,
    warm: Warm,
    /// Sizes in use: fewer for a while when memory has run out.
    batches: Batches,
    model: String,
    scratch: Scratch,
}

impl Network {
    /// Opens the model for inputs of `size` (`[width, height]`), checks its bytes against the manifest's sha256 and its
    /// tensors against `outputs`, and warms it up with the batch sizes that `candidates` names. The virtual device takes
    /// `sim` for the model.
    ///
    /// # Errors
    /// When manifest, model and runtime do not fit together; the error says which and how.
    pub(crate) fn load(
        engine: &EngineKind,
        model: &[u8],
        manifest: &Manifest,
        size: [u32; 2],
        outputs: Vec<Output>,
        candidates: &[usize],
        sim: SimModel,
    ) -> Result<Self, VisionError> {
        let [width, height] = size.map(|side| side as usize);
        let contract = Contract {
            input: manifest.input.name.clone(),
            input_item: match manifest.input.layout {
                Layout::Nchw => vec![3, height, width],
                Layout::Nhwc => vec![height, width, 3],
            },
            outputs,
        };
        let failed = |source: BackendError| VisionError::Engine { model: manifest.name.clone(), source };
        let mut backend: Box<dyn Backend> = match engine {
            EngineKind::Onnx { library } => {
                let found = Digest::of_bytes(model);
                if found != manifest.file.sha256 {
                    let expected = manifest.file.sha256;
                    return Err(VisionError::Digest { model: manifest.name.clone(), expected, found });
                }
                let runtime = Runtime::load(library).map_err(VisionError::Runtime)?;
                Box::new(OnnxBackend::open(&runtime, model, contract).map_err(failed)?)
            }
            EngineKind::Sim(options) => Box::new(SimBackend::open(options.clone(), sim, contract)),
        };
        let warm = backend.warm_up(&probe(&manifest.input), candidates).map_err(failed)?;
        let model = manifest.name.clone();
        let batches = Batches::new(&warm);
        Ok(Self { backend, warm, batches, model, scratch: Scratch::default() })
    }

    pub(crate) fn engine_class(&self) -> &str {
        &self.backend.describe().engine
    }

    /// What is fed and given, with no side left open.
    pub(crate) fn contract(&self) -> &Contract {
        &self.backend.describe().contract
    }

    pub(crate) fn warm(&self) -> &Warm {
        &self.warm
    }

    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        self.backend.memory_bytes()
    }

    /// Runs any number of items that lie one after another and replaces `output` by their results in the same order.
    /// Splits into batches that are known to be bit-equal; falls back to smaller ones when memory runs out.
    ///
    /// # Errors
    /// When `input` is not a whole number of items, and whatever the engine fails with.
    pub(crate) fn infer(&mut self, input: &[f32], output: &mut Vec<f32>) -> Result<(), VisionError> {
        let item = self.contract().input_len();
        if !input.len().is_multiple_of(item) {
            return Err(VisionError::Tensor { expected: (input.len() / item + 1) * item, found: input.len() });
        }
        infer(&mut *self.backend, &mut self.batches, &mut self.scratch, input, output)
            .map_err(|source| VisionError::Engine { model: self.model.clone(), source })
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let engine = self.engine_class();
        f.debug_struct("Network")
            .field("model", &self.model)
            .field("engine", &engine)
            .field("warm", &self.warm)
            .finish()
    }
}

fn probe(input: &ModelInput) -> Probe {
    let values = |pixel: f32| (0..3).map(move |c| (pixel * input.scale - input.mean[c]) / input.std[c]);
    let both = || values(0.0).chain(values(255.0));
    Probe { low: both().fold(f32::INFINITY, f32::min), high: both().fold(f32::NEG_INFINITY, f32::max) }
}
