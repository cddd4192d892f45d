//! The tables of fulltime: typed rows to Parquet bytes and back.
//!
//! Two families. [`shard`] holds what a map task leaves for the reduce of its match; [`matches`] holds what a reduce
//! publishes for people, read as they lie by `DuckDB`, Polars and Spark. [`performance`] holds how lanes did. [`show`] prints a few rows of any of them.
//!
//! Equal rows give equal bytes: row groups have a fixed number of rows however the rows arrive, the writer's name is
//! fixed, no clock and no host is asked. The bytes do depend on the Parquet and zstd packages, which is what the golden
//! digests in the tests are for: where one changes, the semantics version must be raised with the package.
//!
//! Every column with a unit carries it as field metadata `unit`, and all of them again in the file's key-value metadata
//! `fulltime.units`, which readers that know nothing of Arrow can show (`parquet_kv_metadata` in `DuckDB`).

mod cell;
pub mod corners;
mod error;
mod file;
pub mod matches;
pub mod performance;
pub mod pick;
mod row;
pub mod shard;
pub mod show;

pub use error::TableError;
pub use file::{Reader, Writer};
pub use row::{Column, Row};
