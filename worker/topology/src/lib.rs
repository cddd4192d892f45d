//! Where a worker is: the machine's NUMA nodes, cores and GPUs, what of them this process may use, how lanes are laid out
//! over them, how a lane binds itself to its place, and whether its GPU is well.
//!
//! The decisions are pure: [`plan`] turns a [`Machine`] and [`Wishes`] into a [`LanePlan`], [`health`] turns readings into
//! a verdict. The edges are thin: `sysfs` and `limits` read files below a root that is an argument, `nvml` asks NVIDIA's
//! library, which is loaded at run time and may be missing, [`pin`] makes the system calls. The worker and the commands
//! `fulltime topology` and `fulltime doctor` call it.

mod cpus;
pub mod health;
mod limits;
mod machine;
mod nvml;
pub mod pin;
mod plan;
mod show;
mod sysfs;
mod watch;
mod xid;

pub use cpus::CpuSet;
pub use machine::{Card, Decoder, Gpu, Gpus, Limits, Link, Machine, Node, Slice};
pub use nvml::{Pulse, Watcher};
pub use pin::{Pinned, Place, Unpinned};
pub use plan::{Choice, Device, Lane, LanePlan, LeftOut, Memory, Wishes, plan};
pub use show::{Table, lanes, machine};
pub use watch::{Alarm, watch};
pub use xid::{Action, XIDS, action};

/// Another library than the driver's `libnvidia-ml.so.1`, for tests and for drivers in odd places.
pub const NVML: &str = "FULLTIME_NVML";
