//! What can end a task, and what can end the worker.

use std::path::PathBuf;

use fulltime_cache::CacheError;
use fulltime_common::{
    Digest, Disposition, Exit,
    error::{Explain, Failure},
    index::IndexError,
    plan::EngineClass,
    queue::QueueError,
    store::StoreError,
};
use fulltime_media::MediaError;
use fulltime_observe::http::HttpError;
use fulltime_reduce::ReduceError;
use fulltime_tables::TableError;
use fulltime_vision::{ProviderOptionsError, ScriptError, TorchOptionsError, VisionError};

use crate::{executor::TaskFailure, process::Death};

const BUG: &str = "this is a bug in fulltime: please report it with this line";

/// Why an attempt is over without a result.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error(transparent)]
    Store(Box<StoreError>),
    #[error(transparent)]
    Media(Box<MediaError>),
    #[error(transparent)]
    Vision(Box<VisionError>),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Reduce(Box<ReduceError>),
    #[error("the {what} `{url}` is not there")]
    Missing { what: &'static str, url: String },
    #[error("the {what} `{url}` is not what its name says")]
    OtherContent { what: &'static str, url: String },
    #[error("read the container index `{url}`")]
    Index {
        url: String,
        #[source]
        source: IndexError,
    },
    #[error("pack the container index of `{recording}`")]
    PackIndex {
        recording: String,
        #[source]
        source: IndexError,
    },
    #[error("the shard `{digest}` does not fit the container index of `{recording}`")]
    PlanMismatch { digest: Digest, recording: String },
    #[error("the model `{url}` has sha256 {found}")]
    ModelDigest { url: String, found: Digest },
    #[error("keep a model as `{path}`")]
    Cache {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("work for engine class `{wanted}` came to a worker of class `{ours}`")]
    OtherClass { wanted: EngineClass, ours: EngineClass },
    #[error("the worker was told to stop")]
    PreEmpted,
    #[error("the job was cancelled")]
    Cancelled,
    #[error("the task panicked: {message}")]
    Panicked { message: String },
    /// See the canary of the lanes.
    #[error("the canary {what}")]
    Canary { what: &'static str },
}

/// Boxed where an error is large: results are passed through every stage.
macro_rules! boxed {
    ($($variant:ident($error:ty)),*) => {
        $(impl From<$error> for TaskError {
            fn from(error: $error) -> Self {
                Self::$variant(Box::new(error))
            }
        })*
    };
}

boxed!(Store(StoreError), Media(MediaError), Vision(VisionError), Reduce(ReduceError));

impl TaskError {
    /// A blocking thread that did not come back with a value.
    pub(crate) fn from_join(error: tokio::task::JoinError) -> Self {
        let Ok(panic) = error.try_into_panic() else { return Self::PreEmpted };
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Self::Panicked { message: text.unwrap_or_else(|| "without a message".to_owned()) }
    }

    /// What it means for the task.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Store(error) => match &**error {
                // The job names places that cannot work, wherever they are tried.
                StoreError::BadUrl { .. } | StoreError::NoConditionalPut { .. } => Disposition::JobUnfit,
                error => error.disposition(),
            },
            Self::Media(error) => error.disposition(),
            Self::Vision(error) => error.disposition(),
            Self::Table(error) => error.disposition(),
            Self::Reduce(error) => error.disposition(),
            // The coordinator releases nothing before these are there: a store that does not show them yet, or lost them.
            Self::Missing { .. } | Self::Cache { .. } => Disposition::Transient,
            Self::Index { .. } | Self::PackIndex { .. } | Self::PlanMismatch { .. } => Disposition::PoisonInput,
            // No recording is to blame for a model or a pipeline, so none may be quarantined for it, and no worker.
            Self::OtherContent { .. } | Self::ModelDigest { .. } => Disposition::JobUnfit,
            Self::OtherClass { .. } | Self::Canary { .. } => Disposition::WorkerUnfit,
            Self::PreEmpted => Disposition::PreEmpted,
            Self::Cancelled => Disposition::Cancelled,
            Self::Panicked { .. } => Disposition::PoisonInput,
        }
    }
}

impl Explain for TaskError {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Media(error) => error.exit(),
            Self::Vision(error) => error.exit(),
            Self::Reduce(error) => match &**error {
                ReduceError::Store(error) => error.exit(),
                ReduceError::Missing { .. } | ReduceError::Damaged { .. } => Exit::Store,
                _ => Exit::Internal,
            },
            Self::Missing { .. } | Self::OtherContent { .. } | Self::Index { .. } | Self::Cache { .. } => Exit::Store,
            Self::ModelDigest { .. } => Exit::Model,
            Self::Cancelled => Exit::Cancelled,
            Self::PreEmpted => Exit::Interrupted,
            Self::Canary { .. } => Exit::Runtime,
            Self::Table(_)
            | Self::PackIndex { .. }
            | Self::PlanMismatch { .. }
            | Self::OtherClass { .. }
            | Self::Panicked { .. } => Exit::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Store(error) => return error.hint(),
            Self::Media(error) => return error.hint(),
            Self::Vision(error) => return error.hint(),
            Self::Reduce(error) => match &**error {
                ReduceError::Store(error) => return error.hint(),
                ReduceError::Missing { .. } | ReduceError::Damaged { .. } => {
                    "submit the job again; was the store cleaned up while it ran?"
                }
                _ => BUG,
            },
            Self::Missing { .. } => "submit the job again; was the store cleaned up while it ran?",
            Self::OtherContent { .. } | Self::Index { .. } => "remove this object and submit the job again",
            Self::ModelDigest { .. } => "remove this object and submit the job again: it uploads the model anew",
            Self::Cache { .. } => "give a writable folder with free space as --cache",
            Self::PreEmpted | Self::Cancelled => return None,
            Self::Canary { .. } => "check this machine's memory, processor and drivers",
            Self::Table(_)
            | Self::PackIndex { .. }
            | Self::PlanMismatch { .. }
            | Self::OtherClass { .. }
            | Self::Panicked { .. } => BUG,
        };
        Some(hint.to_owned())
    }
}

/// Why the worker ended, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Listen(#[from] HttpError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("serve metrics")]
    Serve(#[source] std::io::Error),
    #[error("ONNX Runtime (libonnxruntime.so) was not found")]
    NoRuntime,
    #[error("start the engine")]
    Engine(#[from] VisionError),
    #[error("--decode gpu")]
    Decode(#[from] MediaError),
    #[error("script of the sim engine")]
    Script(#[source] ScriptError),
    #[error("--onnx")]
    Onnx(#[source] ProviderOptionsError),
    #[error("--torch")]
    Torch(#[source] TorchOptionsError),
    #[error("--torch: with `autotune` every process gets other bits, so its results could not be proven")]
    Unrepeatable,
    #[error("find this program")]
    Program(#[source] std::io::Error),
    #[error("start a lane process `{program}`")]
    Spawn {
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no lane can run here: {why}")]
    NoLanes { why: String },
    /// Their GPUs are to blame.
    #[error("this worker has no lane left: {why}")]
    NoLaneLeft { why: String },
    #[error("the lane processes end before they are ready: {last}")]
    NotReady { last: Death },
    /// Found by a lane: in its own process, so only the words are left.
    #[error("{cause}")]
    Lane { exit: Exit, cause: String, hint: Option<String> },
    #[error("this worker cannot do its work: {cause}")]
    Unfit { exit: Exit, cause: String, hint: Option<String> },
}

impl WorkerError {
    pub(crate) fn unfit(failure: &TaskFailure) -> Self {
        let Failure { exit, cause, hint } = failure.failure();
        Self::Unfit { exit, cause, hint }
    }
}

impl Explain for WorkerError {
    fn exit(&self) -> Exit {
        match self {
            Self::Queue(error) => error.exit(),
            Self::NoRuntime | Self::NotReady { .. } | Self::NoLanes { .. } | Self::NoLaneLeft { .. } => Exit::Runtime,
            Self::Engine(error) => error.exit(),
            Self::Decode(error) => error.exit(),
            Self::Cache(error) => error.exit(),
            Self::Script(_) | Self::Onnx(_) | Self::Torch(_) | Self::Unrepeatable | Self::Listen(_) => Exit::Usage,
            Self::Serve(_) => Exit::Internal,
            Self::Program(_) | Self::Spawn { .. } => Exit::Runtime,
            Self::Lane { exit, .. } | Self::Unfit { exit, .. } => *exit,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Queue(error) => return error.hint(),
            Self::Engine(error) => return error.hint(),
            Self::Decode(error) => return error.hint(),
            Self::Cache(error) => return error.hint(),
            Self::Listen(error) => return Some(error.hint()),
            Self::Serve(_) => "try another address with --listen",
            Self::Lane { hint, .. } | Self::Unfit { hint, .. } => return hint.clone(),
            Self::NoRuntime => {
                "install ONNX Runtime 1.24 or newer (`pip download onnxruntime` has the library in its wheel) and set \
                 ORT_DYLIB_PATH to its libonnxruntime.so"
            }
            Self::Onnx(_) => "correct --onnx (or FULLTIME_ONNX)",
            Self::Torch(_) => "correct --torch (or FULLTIME_TORCH)",
            Self::Unrepeatable => "leave `autotune` to `cargo xtask bench model`",
            Self::Script(_) => "correct --sim",
            Self::Program(_) | Self::Spawn { .. } => "install fulltime-worker again",
            Self::NoLanes { .. } => "see `fulltime topology` and `fulltime doctor`, then choose other --gpus",
            Self::NoLaneLeft { .. } => "reset the GPUs or restart the machine; nothing is lost, other workers go on",
            Self::NotReady { .. } => "look at what the lanes say above; is the inference runtime whole?",
        };
        Some(hint.to_owned())
    }
}
