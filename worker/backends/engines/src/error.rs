//! Why there is no engine.

use std::path::PathBuf;

use fulltime_common::{
    error::{Disposition, Exit, Explain},
    store::StoreError,
};

/// An error of fetching, building or keeping an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("build the engine `{key}`")]
    Build {
        key: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{action} engine file `{path}`")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the engine `{key}` is damaged at byte {at}: {what}")]
    Damaged { key: String, at: usize, what: &'static str },
    #[error("the engine folder `{path}` holds `{name}`, which is no plain file with a plain name")]
    Name { path: PathBuf, name: String },
}

impl EngineError {
    /// What it means for the worker that wanted the engine.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Store(error) => error.disposition(),
            Self::Build { .. } | Self::File { .. } | Self::Damaged { .. } | Self::Name { .. } => {
                Disposition::WorkerUnfit
            }
        }
    }
}

impl Explain for EngineError {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Build { .. } | Self::File { .. } | Self::Damaged { .. } | Self::Name { .. } => Exit::Runtime,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Build { .. } => Some("run with `provider=cuda`, or see the cause".to_owned()),
            Self::File { .. } | Self::Name { .. } => Some("give a folder of its own that can be written".to_owned()),
            Self::Damaged { .. } => Some("remove the object: it is built again".to_owned()),
        }
    }
}
