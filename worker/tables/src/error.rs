//! What can be wrong with a table: always named, with the column where there is one.

use arrow_schema::{ArrowError, DataType};
use fulltime_common::Disposition;
use parquet::errors::ParquetError;

/// A table that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("build a column of table `{table}`")]
    Build {
        table: &'static str,
        #[source]
        source: ArrowError,
    },
    #[error("write table `{table}`")]
    Write {
        table: &'static str,
        #[source]
        source: ParquetError,
    },
    #[error("open table `{table}`")]
    Open {
        table: &'static str,
        #[source]
        source: ParquetError,
    },
    #[error("read rows of table `{table}`")]
    Rows {
        table: &'static str,
        #[source]
        source: ArrowError,
    },
    #[error("table `{table}` has no column `{column}`")]
    NoColumn { table: &'static str, column: &'static str },
    #[error("column `{column}` of table `{table}` is {found}, not {expected}")]
    ColumnType { table: &'static str, column: &'static str, expected: DataType, found: DataType },
    #[error("column `{column}` of table `{table}` has no value in some row")]
    Null { table: &'static str, column: &'static str },
    #[error("rows of table `{table}` are not in order: `{column}` goes from {before} to {after}")]
    Unsorted { table: &'static str, column: &'static str, before: u32, after: u32 },
}

impl TableError {
    /// Bytes that do not read are the same everywhere, and rows that do not fit their table are a matter of the input,
    /// too: trying again on this worker cannot help.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Build { .. }
            | Self::Write { .. }
            | Self::Open { .. }
            | Self::Rows { .. }
            | Self::NoColumn { .. }
            | Self::ColumnType { .. }
            | Self::Null { .. }
            | Self::Unsorted { .. } => Disposition::PoisonInput,
        }
    }
}
