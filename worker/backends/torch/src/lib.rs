//! The torch backend: TorchScript models in libtorch, on the CPU, on a GPU, or split by stages over several. The vision
//! crate opens it. One build serves CPU and CUDA: only `libtorch_cpu` is linked, and `libtorch_cuda` is loaded at run time
//! where the options name a GPU.
//!
//! Without the cargo feature `torch` there is no libtorch in the build; everything else is, and [`TorchBackend::open`] says
//! what is missing.
//!
//! Data parallelism has no code here: a lane is a process with one GPU (or the GPUs of one split model), so that a device
//! that fails costs one lane, and each lane has its replica.

#[cfg(not(feature = "torch"))]
mod absent;
#[cfg(feature = "torch")]
mod engine;
mod message;
mod options;
mod partition;
mod pipeline;
mod schedule;

#[cfg(not(feature = "torch"))]
pub use absent::{NotBuilt, TorchBackend, engine_class};
#[cfg(feature = "torch")]
pub use engine::{TorchBackend, engine_class};
pub use message::TorchFault;
pub use options::{Device, OptionsError, Precision, TorchOptions};
pub use partition::{PartitionError, StageCost, partition};
pub use pipeline::{Build, Failure, Pipeline, SLOTS, Work};
pub use schedule::{Span, Timeline, simulate};
