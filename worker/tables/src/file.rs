//! Parquet files of rows: a streaming writer whose bytes depend on the rows alone, and a reader that holds one batch.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, KeyValue, ParquetMetaData, RowGroupMetaData},
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};

use crate::{
    error::TableError,
    row::{Column, Row},
};

/// Rows of every row group but the last. Part of the bytes: changing it means raising the semantics version.
const ROW_GROUP: usize = 65_536;
/// Rows a reader holds at a time.
const BATCH: usize = 8_192;

/// Collects rows into a Parquet file in memory. Memory is the compressed file and one row group of rows.
#[derive(Debug)]
pub struct Writer<R> {
    schema: SchemaRef,
    parquet: ArrowWriter<Vec<u8>>,
    rows: Vec<R>,
    written: u64,
}

impl<R: Row> Writer<R> {
    /// `notes` go into the file's key-value metadata in this order, below the prefix `fulltime.`; they are part of the
    /// bytes, so nothing that differs between two runs of the same work may be in them.
    ///
    /// # Errors
    /// When the Parquet package refuses the schema.
    pub fn new(notes: &[(&str, &str)]) -> Result<Self, TableError> {
        let columns = R::columns();
        let schema = Arc::new(Schema::new(columns.iter().map(Column::field).collect::<Vec<Field>>()));
        let parquet = properties(R::TABLE, &columns, notes)
            .and_then(|properties| ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties)))
            .map_err(|source| TableError::Write { table: R::TABLE, source })?;
        Ok(Self { schema, parquet, rows: Vec::new(), written: 0 })
    }

    /// # Errors
    /// When a full row group cannot be written.
    pub fn push(&mut self, row: R) -> Result<(), TableError> {
        self.rows.push(row);
        if self.rows.len() == ROW_GROUP { self.write_group() } else { Ok(()) }
    }

    /// Rows so far.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.written + self.rows.len() as u64
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The finished file.
    ///
    /// # Errors
    /// When the last row group cannot be written.
    pub fn finish(mut self) -> Result<Bytes, TableError> {
        if !self.rows.is_empty() {
            self.write_group()?;
        }
        let bytes = self.parquet.into_inner().map_err(|source| TableError::Write { table: R::TABLE, source })?;
        Ok(bytes.into())
    }

    /// Row groups are closed by hand, so that they never depend on the package's idea of a good size.
    fn write_group(&mut self) -> Result<(), TableError> {
        let build = |source| TableError::Build { table: R::TABLE, source };
        let arrays = R::arrays(&self.rows).map_err(build)?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(build)?;
        self.written += self.rows.len() as u64;
        self.rows.clear();
        self.parquet
            .write(&batch)
            .and_then(|()| self.parquet.flush())
            .map_err(|source| TableError::Write { table: R::TABLE, source })
    }
}

fn properties(table: &str, columns: &[Column], notes: &[(&str, &str)]) -> Result<WriterProperties, ParquetError> {
    let units: Vec<String> =
        columns.iter().filter(|c| !c.unit.is_empty()).map(|c| format!("{}={}", c.name, c.unit)).collect();
    let mut metadata = vec![
        KeyValue::new("fulltime.table".to_owned(), table.to_owned()),
        KeyValue::new("fulltime.units".to_owned(), units.join(" ")),
    ];
    metadata.extend(notes.iter().map(|(key, value)| KeyValue::new(format!("fulltime.{key}"), (*value).to_owned())));

    let mut builder = WriterProperties::builder()
        .set_created_by("fulltime".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_max_row_group_bytes(None)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(metadata));
    for column in columns {
        let path = ColumnPath::from(column.name);
        if let Some(encoding) = column.encoding() {
            builder =
                builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path.clone(), encoding);
        }
        // The least and the greatest of pictures and signatures help nobody.
        if column.is_opaque() {
            builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    Ok(builder.build())
}

/// The rows of a file, one batch in memory at a time.
#[derive(Debug)]
pub struct Reader<R> {
    batches: ParquetRecordBatchReader,
    rows: std::vec::IntoIter<R>,
}

impl<R: Row> Reader<R> {
    /// # Errors
    /// When the bytes are not a Parquet file.
    pub fn new(bytes: Bytes) -> Result<Self, TableError> {
        let len = bytes.len() as u64;
        let batches = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(|builder| {
                whole(builder.metadata(), len)?;
                builder.with_batch_size(BATCH).build()
            })
            .map_err(|source| TableError::Open { table: R::TABLE, source })?;
        Ok(Self { batches, rows: Vec::new().into_iter() })
    }
}

/// Whether every column lies within the file: the package takes that for granted, and panics where it is not so.
fn whole(metadata: &ParquetMetaData, len: u64) -> Result<(), ParquetError> {
    let within = |column: &ColumnChunkMetaData| {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let end = u64::try_from(start).ok()?.checked_add(u64::try_from(column.compressed_size()).ok()?)?;
        (end <= len && column.data_page_offset() >= start).then_some(())
    };
    let columns = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    match columns.map(within).find(Option::is_none) {
        Some(_) => Err(ParquetError::EOF("a column lies outside of the file".to_owned())),
        None => Ok(()),
    }
}

impl<R: Row> Iterator for Reader<R> {
    type Item = Result<R, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            match self.batches.next()?.map_err(|source| TableError::Rows { table: R::TABLE, source }) {
                Ok(batch) => match R::rows(&batch) {
                    Ok(rows) => self.rows = rows.into_iter(),
                    Err(error) => return Some(Err(error)),
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
