//! Why kernels cannot be compiled or run, and what kind of trouble that is.

use std::path::PathBuf;

use cudarc::driver::DriverError;

use crate::ring::RingError;

/// An error of the compiler or of a device.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("load NVRTC from `{library}`")]
    Compiler { library: PathBuf, source: libloading::Error },
    #[error("`{library}` is no usable NVRTC: it lacks `{symbol}`")]
    Symbol { library: PathBuf, symbol: &'static str, source: libloading::Error },
    #[error("NVRTC offers no architecture that compute capability {major}.{minor} can run (only {offered:?})")]
    Architecture { major: u32, minor: u32, offered: Vec<u32> },
    #[error("compile `{file}` for {architecture}:\n{log}")]
    Source { file: String, architecture: String, log: String },
    #[error("NVRTC could not {action}: {text} (code {code})")]
    Nvrtc { action: &'static str, code: i32, text: String },
    #[error("no CUDA driver here: libcuda.so.1 is missing or cannot be loaded")]
    NoDriver,
    #[error("the CUDA driver is too old: it does {}.{}, {}.{} is needed", found / 1000, found % 1000 / 10, needed / 1000, needed % 1000 / 10)]
    DriverTooOld { found: i32, needed: i32 },
    #[error("no CUDA device {ordinal}: the driver has {found}")]
    NoDevice { ordinal: usize, found: usize },
    #[error("{action} on the CUDA device")]
    Driver { action: &'static str, source: DriverError },
    #[error("{bytes} bytes of {kind} memory cannot be allocated")]
    OutOfMemory { bytes: usize, kind: &'static str, source: Option<DriverError> },
    #[error("{what}: {found}, but at most {limit}")]
    Room { what: &'static str, limit: usize, found: usize },
    #[error("a device with {found} streams cannot take work for {needed}")]
    Streams { needed: usize, found: usize },
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error("the thread of stream {stream} has ended")]
    StreamEnded { stream: usize },
}

/// What an error is about; the caller turns it into policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Driver or compiler are missing or unusable on this machine.
    Runtime,
    /// A smaller batch may work.
    OutOfMemory,
    /// The device misbehaves: other machines may do better.
    Unfit,
    /// A bug of ours: the kernels' source or a call.
    Bug,
}

impl KernelError {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Compiler { .. }
            | Self::Symbol { .. }
            | Self::Architecture { .. }
            | Self::Nvrtc { .. }
            | Self::NoDriver
            | Self::DriverTooOld { .. }
            | Self::NoDevice { .. } => Kind::Runtime,
            Self::OutOfMemory { .. } => Kind::OutOfMemory,
            Self::Driver { .. } => Kind::Unfit,
            Self::Source { .. }
            | Self::Room { .. }
            | Self::Streams { .. }
            | Self::Ring(_)
            | Self::StreamEnded { .. } => Kind::Bug,
        }
    }

    /// What an operator can do.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Compiler { .. } | Self::Symbol { .. } => Some(
                "install NVRTC 12 or 13 (CUDA's own packages, or the Python package nvidia-cuda-nvrtc) and set FULLTIME_NVRTC to libnvrtc.so",
            ),
            Self::Architecture { .. } => Some("install the NVRTC of the CUDA release that knows this GPU"),
            Self::NoDriver => {
                Some("install NVIDIA's driver, or give the container the device (its `utility` and `compute` parts)")
            }
            Self::DriverTooOld { .. } => Some("install driver 570 or later, and 580 or later for NVRTC 13"),
            Self::NoDevice { .. } => Some("look at nvidia-smi -L and at CUDA_VISIBLE_DEVICES"),
            Self::OutOfMemory { .. } => Some("give the lane fewer or smaller batches"),
            Self::Nvrtc { .. } | Self::Driver { .. } => Some("look at the driver's log (dmesg | grep NVRM)"),
            Self::Source { .. }
            | Self::Room { .. }
            | Self::Streams { .. }
            | Self::Ring(_)
            | Self::StreamEnded { .. } => Some("report it: this is a bug"),
        }
    }
}
