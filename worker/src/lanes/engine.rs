//! What runs the models here, and the class of its results.

use fulltime_common::{Digest, pipeline::Manifest, plan::EngineClass, process};
use fulltime_vision::{EngineKind, SimOptions, TorchOptions, VisionError};
use tracing::{debug, warn};

use crate::{
    error::WorkerError,
    options::{EngineChoice, Options},
};

#[derive(Debug, Clone)]
pub struct Engine {
    pub kind: EngineKind,
    pub class: EngineClass,
    /// Whether pictures that equal the one before are inferred once.
    pub reuse: bool,
}

impl Engine {
    /// # Errors
    /// No runtime, one that cannot be used, or options that do not read.
    pub fn find(options: &Options) -> Result<Self, WorkerError> {
        let kind = kind(options)?;
        let class = kind.engine_class()?;
        if let (Some(reason), false) = (kind.fallback(), options.lane_process) {
            // Where there is no GPU nobody expects one to be used.
            match std::path::Path::new("/proc/driver/nvidia/version").exists() {
                true => warn!(reason, "inference runs on the CPU"),
                false => debug!(reason, "inference runs on the CPU"),
            }
        }
        // Decoders may differ in the last bit from release to release, so theirs is part of the class.
        let class = EngineClass(format!("{class}-{}", fulltime_media::decoder_class()));
        Ok(Self { kind, class, reuse: !options.no_reuse })
    }

    /// Files of a model that this engine reads, in order. The sim needs none.
    ///
    /// # Errors
    /// A model that is not there in the engine's format.
    pub fn files(&self, manifest: &Manifest) -> Result<Vec<Digest>, VisionError> {
        self.kind.files(manifest)
    }
}

/// What the options say, read without touching any runtime: the supervisor plans lanes by it.
///
/// # Errors
/// No library, or options that do not read.
pub fn kind(options: &Options) -> Result<EngineKind, WorkerError> {
    Ok(match options.engine {
        EngineChoice::Auto | EngineChoice::Onnx => {
            let text = match (options.engine, options.onnx.as_str()) {
                (EngineChoice::Auto, "") => "provider=auto",
                (_, text) => text,
            };
            EngineKind::Onnx {
                library: process::onnxruntime().ok_or(WorkerError::NoRuntime)?,
                options: text.parse().map_err(WorkerError::Onnx)?,
            }
        }
        EngineChoice::Torch => {
            let torch: TorchOptions = options.torch.parse().map_err(WorkerError::Torch)?;
            if !torch.repeatable() {
                return Err(WorkerError::Unrepeatable);
            }
            EngineKind::Torch(torch)
        }
        EngineChoice::Sim => EngineKind::Sim(match &options.sim {
            Some(script) => script.parse().map_err(WorkerError::Script)?,
            None => SimOptions::default(),
        }),
    })
}
