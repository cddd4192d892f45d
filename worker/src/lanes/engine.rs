//! What runs the models here, and the class of its results.

use fulltime_common::{plan::EngineClass, process};
use fulltime_vision::{EngineKind, SimOptions};

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
    /// No runtime, one that cannot be used, or a script for the sim that does not read.
    pub fn find(options: &Options) -> Result<Self, WorkerError> {
        let kind = match options.engine {
            EngineChoice::Auto | EngineChoice::Onnx => {
                EngineKind::Onnx { library: process::onnxruntime().ok_or(WorkerError::NoRuntime)? }
            }
            EngineChoice::Sim => EngineKind::Sim(match &options.sim {
                Some(script) => script.parse().map_err(WorkerError::Script)?,
                None => SimOptions::default(),
            }),
        };
        // Decoders may differ in the last bit from release to release, so theirs is part of the class.
        let class = EngineClass(format!("{}-{}", kind.engine_class()?, fulltime_media::decoder_class()));
        Ok(Self { kind, class, reuse: !options.no_reuse })
    }

    /// The sim needs none.
    pub fn needs_model(&self) -> bool {
        match self.kind {
            EngineKind::Onnx { .. } => true,
            EngineKind::Sim(_) => false,
        }
    }
}
