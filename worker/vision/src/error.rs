//! What can go wrong between a picture and its detections.

use fulltime_backend::{BackendError, Kind};
use fulltime_common::{Digest, Disposition, Exit, error::Explain};

/// An error of settings, model, engine or picture.
#[derive(Debug, thiserror::Error)]
pub enum VisionError {
    #[error("pipeline setting `{key}` is {found}, but must be {expected}")]
    Setting { key: &'static str, found: String, expected: String },
    #[error("model manifest `{model}`: `{key}` is {found}, but must be {expected}")]
    Manifest { model: String, key: &'static str, found: String, expected: String },
    #[error("model `{model}` has sha256 {found}, but its manifest says {expected}")]
    Digest { model: String, expected: Digest, found: Digest },
    #[error("model `{model}` is not there as TorchScript")]
    NoTorchScript { model: String },
    #[error("model `{model}`")]
    Engine { model: String, source: BackendError },
    #[error("inference runtime")]
    Runtime(#[source] BackendError),
    #[error("plane {plane} of a picture of {width}x{height} has {found} bytes, but needs {needed}")]
    Plane { plane: usize, width: u32, height: u32, needed: usize, found: usize },
    #[error("a picture of {width}x{height} with chroma of {chroma_width}x{chroma_height}")]
    Chroma { width: u32, height: u32, chroma_width: u32, chroma_height: u32 },
    #[error("a picture of {width}x{height} is empty or larger than any decoder gives")]
    Size { width: u32, height: u32 },
    #[error("a picture of {found_width}x{found_height} where the plan is for {width}x{height}")]
    OtherSize { width: u32, height: u32, found_width: u32, found_height: u32 },
    #[error("a tensor of {found} values where {expected} are due")]
    Tensor { expected: usize, found: usize },
    #[error("encode a preview picture")]
    Preview(#[source] jpeg_encoder::EncodingError),
}

impl VisionError {
    /// What the error means for the shard it happened in.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            // The same on every worker and for every recording.
            Self::Setting { .. } | Self::Manifest { .. } | Self::Digest { .. } | Self::NoTorchScript { .. } => {
                Disposition::JobUnfit
            }
            Self::Plane { .. }
            | Self::Chroma { .. }
            | Self::Size { .. }
            | Self::OtherSize { .. }
            | Self::Tensor { .. }
            | Self::Preview(_) => Disposition::PoisonInput,
            Self::Engine { source, .. } | Self::Runtime(source) => match source.kind() {
                Kind::Runtime | Kind::Unfit => Disposition::WorkerUnfit,
                Kind::Model => Disposition::JobUnfit,
                Kind::Caller => Disposition::PoisonInput,
                Kind::OutOfMemory => Disposition::OutOfMemory,
            },
        }
    }
}

impl Explain for VisionError {
    fn exit(&self) -> Exit {
        match self {
            Self::Setting { .. } => Exit::Usage,
            Self::Manifest { .. } | Self::Digest { .. } | Self::NoTorchScript { .. } => Exit::Model,
            Self::Engine { source, .. } | Self::Runtime(source) => match source.kind() {
                Kind::Runtime | Kind::Unfit | Kind::OutOfMemory => Exit::Runtime,
                Kind::Model => Exit::Model,
                Kind::Caller => Exit::Internal,
            },
            Self::Plane { .. }
            | Self::Chroma { .. }
            | Self::Size { .. }
            | Self::OtherSize { .. }
            | Self::Tensor { .. }
            | Self::Preview(_) => Exit::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Setting { key, .. } => format!("correct `{key}` in the pipeline file"),
            Self::Manifest { key, .. } => format!("correct `{key}` in the model's manifest"),
            Self::Digest { .. } => {
                "get the model file again, or put its own sha256 into the manifest if the change is meant".to_owned()
            }
            Self::NoTorchScript { .. } => {
                "export it (`torch.jit.trace`, see models/export_torch.py) and name the file in a `[[torch]]` entry of the \
                 manifest, or run with `--engine onnx`"
                    .to_owned()
            }
            Self::Engine { source, .. } | Self::Runtime(source) => match source {
                // What is missing there, and what helps, is in the source.
                BackendError::Runtime { library, .. } if library == "libtorch" => {
                    "see the cause, or run with `--engine onnx`".to_owned()
                }
                BackendError::Runtime { .. } => {
                    "install ONNX Runtime (`pip install onnxruntime`) and set ORT_DYLIB_PATH to its libonnxruntime.so, \
                     or run `cargo xtask test` once in a checkout"
                        .to_owned()
                }
                BackendError::RuntimeTooOld { needed, .. } => {
                    format!("install ONNX Runtime {needed} or later and set ORT_DYLIB_PATH to its libonnxruntime.so")
                }
                BackendError::RuntimeTaken { .. } => "give all parts of the process the same library (ORT_DYLIB_PATH) and options".to_owned(),
                BackendError::Model { .. } => "check that the manifest names a file in the engine's format: ONNX, or TorchScript in a `[[torch]]` entry".to_owned(),
                BackendError::NoTensor { side, .. } | BackendError::Ambiguous { side, .. } => {
                    format!("set `{side}.name` in the model's manifest")
                }
                BackendError::ElementType { .. } => "export the model with f32 inputs and outputs".to_owned(),
                BackendError::Shape { .. } => {
                    "correct `input.size`, `output.strides` or `classes` in the model's manifest (or `input_size` in the \
                     pipeline file), or export the model with dynamic height and width"
                        .to_owned()
                }
                BackendError::OutOfMemory { .. } => "lower `input_size`, or run fewer workers on this machine".to_owned(),
                BackendError::Run { .. } | BackendError::NotRepeatable { .. } | BackendError::DeviceLost { .. } => {
                    "run the job on another machine, and check this one's memory and processor".to_owned()
                }
                BackendError::InputLength { .. } => return None,
            },
            Self::Plane { .. }
            | Self::Chroma { .. }
            | Self::Size { .. }
            | Self::OtherSize { .. }
            | Self::Tensor { .. }
            | Self::Preview(_) => return None,
        };
        Some(hint)
    }
}
