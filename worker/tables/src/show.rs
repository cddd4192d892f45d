//! The first rows of any table as text, for people at a terminal.

use arrow_array::{
    Array, BinaryArray, Float32Array, Float64Array, Int32Array, Int64Array, StringArray, UInt16Array, UInt32Array,
    UInt64Array,
};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::TableError;

/// The head of a table. A null is an empty text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// Rows of the whole table.
    pub total: u64,
}

/// The column names and the first `limit` rows of a Parquet file.
///
/// # Errors
/// When the bytes are not a Parquet file.
pub fn preview_rows(bytes: Bytes, limit: usize) -> Result<Head, TableError> {
    const TABLE: &str = "preview";
    let open = |source| TableError::Open { table: TABLE, source };
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(open)?;
    let columns = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
    let mut rows = Vec::new();
    for batch in builder.with_limit(limit).build().map_err(open)? {
        let batch = batch.map_err(|source| TableError::Rows { table: TABLE, source })?;
        rows.extend((0..batch.num_rows()).map(|row| batch.columns().iter().map(|c| text(c.as_ref(), row)).collect()));
    }
    Ok(Head { columns, rows, total })
}

fn text(array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return String::new();
    }
    macro_rules! by_type {
        ($($array:ty, $value:ident => $text:expr;)*) => {
            $(if let Some(array) = array.as_any().downcast_ref::<$array>() {
                let $value = array.value(row);
                return $text;
            })*
        };
    }
    by_type! {
        Float32Array, v => format!("{v:.2}");
        Float64Array, v => format!("{v:.2}");
        StringArray, v => v.to_owned();
        Int32Array, v => v.to_string();
        Int64Array, v => v.to_string();
        UInt16Array, v => v.to_string();
        UInt32Array, v => v.to_string();
        UInt64Array, v => format!("{v:016x}");
        BinaryArray, v => format!("{} bytes", v.len());
    }
    array.data_type().to_string()
}
