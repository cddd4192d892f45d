//! CUDA of our own: the kernels that bring a decoded picture to a network input on the device, cut out people, suppress
//! boxes and find repeated pictures, and what compiles and launches them.
//!
//! Architecture invariant: a kernel's result equals its reference in `fulltime-vision` and `fulltime-media` bit by bit, so
//! that a shard's bytes do not depend on where its pictures were prepared. The source (`kernels/*.cu`) is compiled twice: by
//! NVRTC for a GPU, without fused multiply-add and fast math, and by a C compiler for the processor
//! (`fulltime-kernels-cpu`), where tests hold its arithmetic against the references. Nothing here needs CUDA to be built or to
//! start: its libraries are loaded when a device is asked for.

mod args;
mod cache;
mod conveyor;
mod cuda;
mod device;
mod error;
mod host;
mod nvrtc;
mod ring;
mod source;
mod timeline;

pub use args::{
    Address, Axes, Colour, Column, Differ, Found, Frame, Hash, KERNELS, Launch, People, Placed, Prepare, Row, Shape,
    Standin, Suppress,
};
pub use cache::{Cache, Ptx};
pub use conveyor::{Conveyor, Infer, Io, Load, Output, Standing};
pub use cuda::Cuda;
pub use device::{Device, Event as DeviceEvent, Memory, Pinned};
pub use error::{KernelError, Kind};
pub use host::HostMemory;
pub use nvrtc::{Compiler, Target, architecture_for};
pub use ring::{Event, FIVE_STREAMS, Ring, RingError, RingOptions, Stage, Step, Streams, THREE_STREAMS};
pub use source::{OPTIONS, SOURCE, Source};
pub use timeline::{Overlap, Span};
