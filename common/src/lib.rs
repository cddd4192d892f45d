//! What every part of fulltime must agree on: the job and pipeline a user writes, the plan the coordinator makes of it,
//! the messages between them, where objects lie, and how store and queue are reached. No video, no inference, no policy.

pub mod crash;
pub mod digest;
pub mod error;
pub mod index;
pub mod keys;
pub mod pipeline;
pub mod pitch;
pub mod plan;
pub mod process;
pub mod queue;
pub mod results;
pub mod semantics;
pub mod spec;
pub mod squads;
pub mod store;
pub mod telemetry;
pub mod wire;

pub use digest::Digest;
pub use error::{Disposition, Exit};
