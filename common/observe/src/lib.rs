//! What can be seen of a running fulltime: samples that lanes take of themselves, the metrics that daemons serve, findings
//! about workers that do worse than they did, and the small HTTP server in front of all that.
//!
//! Nothing here decides anything about work, and no result depends on it. `common` sends samples over the bus, workers
//! collect them, the coordinator keeps what its report and its dashboard show.

pub mod anomaly;
pub mod chart;
pub mod health;
mod histogram;
pub mod http;
mod machine;
mod meter;
pub mod metrics;
pub mod record;
mod sample;

pub use histogram::{Histogram, Quantiles};
pub use machine::Machine;
pub use meter::{Clock, Counts, Fetching, Meter, Turn, Worked};
pub use sample::{CacheTally, Doing, GpuProbe, GpuReading, LaneSample, NoGpus, Sample, StageSample, thread_time};
