//! The worker: takes tasks from the bus, runs them on its lanes and commits what they give. `fulltime run` starts it as a
//! process of its own beside the coordinator; in a cluster it is the container that scales.
//!
//! [`Options`] builds a [`Worker`], whose `run` ends when it is told to stop or finds itself unfit. Inside, the fetch
//! stage (`fetch`) holds one delivery ahead per lane; a lane (`lane`) runs one task at a time; a map task is a short
//! pipeline of threads (`shard`) that ends in a commit (`commit`).

mod cache;
mod commit;
mod crash;
mod error;
mod fetch;
mod lane;
mod options;
mod picture;
mod progress;
mod service;
mod settle;
mod shard;
mod window;

pub use error::{TaskError, WorkerError};
pub use options::{EngineChoice, Options};
pub use service::Worker;
