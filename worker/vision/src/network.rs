//! A model in an engine, warmed up: what detector and describer have in common. Owned by one thread.

use std::path::PathBuf;

use fulltime_backend::{Backend, BackendError, Batches, Contract, Output, Probe, Scratch, Warm, doubling, infer};
use fulltime_backend_onnx::{OnnxBackend, Provider, ProviderOptions, Runtime};
use fulltime_backend_sim::{SimBackend, SimModel, SimOptions};
use fulltime_backend_torch::{Device, TorchBackend, TorchOptions};
use fulltime_common::{
    Digest,
    pipeline::{Layout, Manifest, ModelInput},
};

use crate::error::VisionError;

/// What runs the model.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineKind {
    /// ONNX Runtime, loaded from this library.
    Onnx { library: PathBuf, options: ProviderOptions },
    /// libtorch, in builds that have it.
    Torch(TorchOptions),
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
            Self::Onnx { library, options } => {
                fulltime_backend_onnx::engine_class(library, options).map_err(VisionError::Runtime)
            }
            Self::Torch(options) => fulltime_backend_torch::engine_class(options).map_err(VisionError::Runtime),
            Self::Sim(_) => Ok(fulltime_backend_sim::engine_class()),
        }
    }

    /// ONNX Runtime on the CPU.
    #[must_use]
    pub fn onnx(library: PathBuf) -> Self {
        Self::Onnx { library, options: ProviderOptions::default() }
    }

    /// Why a GPU that might have been there is not used.
    #[must_use]
    pub fn fallback(&self) -> Option<String> {
        match self {
            Self::Onnx { library, options } if options.provider == Provider::Auto => {
                let runtime = Runtime::load(library, options).ok()?;
                runtime.why_not().map(|why| fulltime_common::error::chain(why))
            }
            Self::Onnx { .. } | Self::Torch(_) | Self::Sim(_) => None,
        }
    }

    /// Whether it computes on GPUs where some are, as far as that can be said without loading a runtime.
    #[must_use]
    pub fn wants_gpus(&self) -> bool {
        match self {
            Self::Onnx { library, options } => match options.provider {
                Provider::Cpu => false,
                Provider::Cuda | Provider::TensorRt => true,
                // Runtimes for GPUs keep CUDA in a library beside their own.
                Provider::Auto => library.with_file_name("libonnxruntime_providers_cuda.so").is_file(),
            },
            Self::Torch(options) => options.devices.iter().any(|device| matches!(device, Device::Cuda(_))),
            Self::Sim(_) => false,
        }
    }

    /// Files of a model that this engine reads, in order: TorchScript may come in stages. The virtual device needs none.
    ///
    /// # Errors
    /// When the model is not there in the engine's format.
    pub fn files(&self, manifest: &Manifest) -> Result<Vec<Digest>, VisionError> {
        match self {
            Self::Onnx { .. } => Ok(vec![manifest.file.sha256]),
            Self::Torch(_) if !manifest.torch.is_empty() => Ok(manifest.torch.iter().map(|file| file.sha256).collect()),
            Self::Torch(_) => {
                let extension = manifest.file.path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
                match extension.as_str() {
                    "pt" | "pth" | "ts" | "torchscript" => Ok(vec![manifest.file.sha256]),
                    _ => Err(VisionError::NoTorchScript { model: manifest.name.clone() }),
                }
            }
            Self::Sim(_) => Ok(Vec::new()),
        }
    }

    /// The largest batch that is worth a try: on a CPU `few`, where little is gained and the pictures of a batch take up
    /// memory.
    fn largest_batch(&self, few: usize) -> usize {
        let gpu = match self {
            Self::Onnx { library, options } => Runtime::load(library, options)
                .is_ok_and(|runtime| matches!(runtime.provider(), Provider::Cuda | Provider::TensorRt)),
            Self::Torch(_) => self.wants_gpus(),
            Self::Sim(options) => !options.curve.is_empty(),
        };
        if gpu { 64 } else { few }
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
    /// Opens the model for inputs of `size` (`[width, height]`), checks the bytes of its files (those that
    /// [`EngineKind::files`] names) against the manifest's sha256 and its tensors against `outputs`, and warms it up with
    /// batches of up to `few` items on a CPU, more on a GPU. The virtual device takes `sim` for the model.
    ///
    /// # Errors
    /// When manifest, model and runtime do not fit together; the error says which and how.
    pub(crate) fn load(
        engine: &EngineKind,
        files: &[Vec<u8>],
        manifest: &Manifest,
        size: [u32; 2],
        outputs: Vec<Output>,
        few: usize,
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
        for (at, expected) in engine.files(manifest)?.into_iter().enumerate() {
            let found = Digest::of_bytes(files.get(at).map_or(&[][..], Vec::as_slice));
            if found != expected {
                return Err(VisionError::Digest { model: manifest.name.clone(), expected, found });
            }
        }
        let mut backend: Box<dyn Backend> = match engine {
            EngineKind::Onnx { library, options } => {
                let runtime = Runtime::load(library, options).map_err(VisionError::Runtime)?;
                let model = files.first().map_or(&[][..], Vec::as_slice);
                Box::new(OnnxBackend::open(&runtime, model, contract).map_err(failed)?)
            }
            EngineKind::Torch(options) => {
                let stages: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
                Box::new(TorchBackend::open(&stages, contract, options).map_err(failed)?)
            }
            EngineKind::Sim(options) => Box::new(SimBackend::open(options.clone(), sim, contract)),
        };
        let candidates = doubling(engine.largest_batch(few));
        let warm = backend.warm_up(&probe(&manifest.input), &candidates).map_err(failed)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_wanted_by_what_the_engine_is_told_and_has() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libonnxruntime.so");
        let onnx = |text: &str| EngineKind::Onnx { library: library.clone(), options: text.parse().unwrap() };
        let wants = |text| onnx(text).wants_gpus();
        assert_eq!(["", "provider=auto", "provider=cuda"].map(wants), [false, false, true]);
        std::fs::write(folder.path().join("libonnxruntime_providers_cuda.so"), "").unwrap();
        assert_eq!(["", "provider=auto", "device=1,provider=cuda"].map(wants), [false, true, true]);

        let torch = |text: &str| EngineKind::Torch(text.parse().unwrap()).wants_gpus();
        assert_eq!(["", "device=cpu*2", "device=cuda:0+cuda:1"].map(torch), [false, false, true]);
    }
}
