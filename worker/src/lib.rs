//! The worker: takes tasks from the bus, runs them on its lanes and commits what they give. `fulltime run` starts it as a
//! process of its own beside the coordinator; in a cluster it is the container that scales.
//!
//! [`Options`] builds a [`Worker`], whose `run` ends when it is told to stop or finds itself unfit. It holds the
//! deliveries: the intake (`intake`) pulls for free lanes, `tend` keeps each lease by the task's progress, `settle` says
//! what became of it. What runs a task is an [`Executor`]: in earnest a crew of lane processes (`process`), each with one
//! lane of `lanes` in it, so that a file that kills its decoder or a device that hangs takes one lane along and leaves a
//! witness. Where they are is planned before they are started (`layout`), and how their GPUs are is looked after (`process`). A map task is a short pipeline of threads there (`lanes::shard`) that ends in a commit (`lanes::commit`).

mod attempt;
mod crash;
mod error;
mod executor;
mod gpus;
mod intake;
mod lanes;
mod layout;
mod options;
mod orders;
mod process;
mod progress;
mod recorder;
mod seats;
mod service;
mod settle;
mod tend;
mod vitals;

pub use attempt::{Attempt, Phase};
pub use crash::Point;
pub use error::{TaskError, WorkerError};
pub use executor::{Executor, Fitness, TaskFailure};
pub use layout::take_place;
pub use options::{DecodeChoice, EngineChoice, Options, PinChoice};
pub use process::{Death, serve};
pub use service::Worker;
