//! The coordinator: plans jobs, releases their work, decides what failures mean, and writes the manifest. `service`,
//! `campaign` and `reign` are the edge; everything they do is decided by pure modules: `leader` (who leads), `matching`
//! (files to matches), `cut` (recordings to shards) and `ledger` (what happens next). Binaries use [`Options`] and
//! [`Service`]; the CLI shares `matching` and `manifest`, and cleans up with `holdings` and `sweep`.

mod admission;
mod campaign;
mod chores;
mod controls;
pub mod crash;
pub mod cut;
mod dispatch;
mod epoch;
mod face;
mod finish;
pub mod holdings;
pub mod leader;
pub mod ledger;
pub mod manifest;
pub mod matching;
mod options;
mod outlook;
mod planning;
mod reign;
pub mod report;
mod service;
pub mod sweep;
mod usage;
mod verdict;
mod webhook;

pub use campaign::Leadership;
pub use ledger::Policy;
pub use options::Options;
pub use service::{Service, ServiceError};
