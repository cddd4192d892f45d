//! The coordinator: plans jobs, releases their work, decides what failures mean, and writes the manifest. `service` is the
//! edge; everything it does is decided by pure modules: `matching` (files to matches), `cut` (recordings to shards) and
//! `ledger` (what happens next). Binaries use [`Options`] and [`Service`]; the CLI shares `matching` and `manifest`.

pub mod cut;
mod dispatch;
mod finish;
pub mod ledger;
pub mod manifest;
pub mod matching;
mod options;
pub mod planning;
pub mod report;
mod service;
mod steps;

pub use ledger::Policy;
pub use options::Options;
pub use service::{Service, ServiceError};
