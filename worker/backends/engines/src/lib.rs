//! Engine files that take minutes to build (TensorRT's) are built once a fleet and kept in the object store. A worker that
//! needs one, before it takes any work of its class, asks [`Engines::obtain`]: it downloads the engine, or builds it, or,
//! while another builds, is told so and may run another class meanwhile.
//!
//! The protocol is `claim`: a pure decision over what lies in the store. `key` says what makes two engines the same.

mod bundle;
mod claim;
mod error;
mod key;
mod service;

pub use bundle::{pack, unpack};
pub use claim::{Claim, Seen, Step, decide};
pub use error::EngineError;
pub use key::EngineKey;
pub use service::{Builder, Engines, Obtained};
