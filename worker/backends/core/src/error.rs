//! Why a backend could not do its work, and what kind of trouble that is.

use std::fmt;

/// An error of the engine or of the model in it.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("load the inference runtime `{library}`")]
    Runtime { library: String, source: Source },
    #[error("inference runtime `{library}` is version {found}, but {needed} or later is needed")]
    RuntimeTooOld { library: String, found: String, needed: String },
    #[error("inference runtime `{wanted}` cannot be loaded beside `{loaded}`: a process holds one")]
    RuntimeTaken { wanted: String, loaded: String },
    #[error("read the model")]
    Model { source: Source },
    #[error("the model has no {side} named `{name}`, only {found}")]
    NoTensor { side: Side, name: String, found: String },
    #[error("the model has {found}, and the manifest does not name the {side} to use")]
    Ambiguous { side: Side, found: String },
    #[error("{side} `{name}` of the model holds {found} values, not f32")]
    ElementType { side: Side, name: String, found: String },
    #[error("{side} `{name}` of the model has shape {found}, but the manifest calls for {expected}")]
    Shape { side: Side, name: String, expected: String, found: String },
    #[error("a batch of {batch} takes {expected} values, not {found}")]
    InputLength { batch: usize, expected: usize, found: usize },
    #[error("out of memory with a batch of {batch}")]
    OutOfMemory { batch: usize, source: Option<Source> },
    #[error("run a batch of {batch}")]
    Run { batch: usize, source: Source },
    #[error("the engine gave two answers for the same picture at batch size {batch}")]
    NotRepeatable { batch: usize },
    #[error("the device is lost: {reason}")]
    DeviceLost { reason: &'static str },
}

/// The library's own error underneath.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Which end of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Input,
    Output,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// What a backend error is about; the caller turns it into policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The runtime library is missing or unusable on this machine.
    Runtime,
    /// The model is unreadable or does not fit its manifest: the same on every machine.
    Model,
    /// A smaller batch may work.
    OutOfMemory,
    /// The engine or device misbehaves: other machines may do better.
    Unfit,
    /// The caller broke the contract: a bug.
    Caller,
}

impl BackendError {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Runtime { .. } | Self::RuntimeTooOld { .. } | Self::RuntimeTaken { .. } => Kind::Runtime,
            Self::Model { .. }
            | Self::NoTensor { .. }
            | Self::Ambiguous { .. }
            | Self::ElementType { .. }
            | Self::Shape { .. } => Kind::Model,
            Self::InputLength { .. } => Kind::Caller,
            Self::OutOfMemory { .. } => Kind::OutOfMemory,
            Self::Run { .. } | Self::NotRepeatable { .. } | Self::DeviceLost { .. } => Kind::Unfit,
        }
    }
}
