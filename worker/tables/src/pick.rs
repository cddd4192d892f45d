//! A few rows of a table that lies elsewhere, read in ranges: one picture of a shard, the detections of some frames. For who
//! looks at single moments of a match, the coordinator's viewer; whoever wants all rows takes a [`crate::Reader`].

use std::{fmt, io, ops::Range, sync::Arc};

use arrow_array::RecordBatch;
use bytes::{Buf as _, Bytes};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
        },
    },
    errors::ParquetError,
    file::{
        metadata::{PageIndexPolicy, RowGroupMetaData},
        reader::{ChunkReader, Length},
        statistics::Statistics,
    },
};

use crate::{
    cell::Cell,
    error::TableError,
    file::whole,
    matches::Detection,
    row::{Row, typed},
    shard::FrameRow,
};

/// Bytes that are read at once where the file does not tell how many are wanted.
const BLOCK: u64 = 256 << 10;

type Read = Arc<dyn Fn(Range<u64>) -> io::Result<Bytes> + Send + Sync>;

/// A file of which only ranges are read. Reading blocks.
#[derive(Clone)]
pub struct Ranges {
    size: u64,
    read: Read,
}

impl fmt::Debug for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ranges({} bytes)", self.size)
    }
}

impl Ranges {
    /// A file of this many bytes; `read` gives exactly the range that it is asked for.
    #[must_use]
    pub fn new(size: u64, read: impl Fn(Range<u64>) -> io::Result<Bytes> + Send + Sync + 'static) -> Self {
        Self { size, read: Arc::new(read) }
    }
}

impl Length for Ranges {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Ranges {
    type T = Blocks;

    fn get_read(&self, start: u64) -> Result<Blocks, ParquetError> {
        Ok(Blocks { file: self.clone(), at: start, block: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.saturating_add(length as u64);
        if end > self.size {
            return Err(ParquetError::EOF(format!("bytes {start} to {end} of {}", self.size)));
        }
        Ok((self.read)(start..end)?)
    }
}

/// A file from some byte on, block by block.
#[derive(Debug)]
pub struct Blocks {
    file: Ranges,
    at: u64,
    block: Bytes,
}

impl io::Read for Blocks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() && self.at < self.file.size {
            let end = self.file.size.min(self.at + BLOCK);
            self.block = (self.file.read)(self.at..end)?;
            self.at = end;
        }
        let length = into.len().min(self.block.len());
        self.block.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// The preview picture of a frame in a shard's table of frames, a JPEG; `None` where the frame has none. Reads the frame
/// numbers and the one page with the picture.
///
/// # Errors
/// When the file is not such a table, or cannot be read.
pub fn picture(file: &Ranges, frame: u32) -> Result<Option<Vec<u8>>, TableError> {
    let table = FrameRow::TABLE;
    let metadata = load(file, table)?;
    let mut before = 0;
    let mut found = None;
    for batch in batches(file, &metadata, table, &["frame"], |builder| builder)? {
        let frames = typed::<u32>(&batch, table, "frame")?;
        // Frames ascend.
        let at = frames.values().partition_point(|other| *other < frame);
        if at < frames.len() {
            found = (frames.value(at) == frame).then_some(before + at);
            break;
        }
        before += frames.len();
    }
    let Some(row) = found else { return Ok(None) };
    let only = RowSelection::from(vec![RowSelector::skip(row), RowSelector::select(1)]);
    let rows = batches(file, &metadata, table, &["preview"], |builder| builder.with_row_selection(only))?;
    let batch = rows.into_iter().find(|batch| batch.num_rows() > 0);
    let Some(batch) = batch else { return Ok(None) };
    Ok(<Option<Vec<u8>> as Cell>::at(typed::<Option<Vec<u8>>>(&batch, table, "preview")?, 0))
}

/// The detections of some frames of one recording, in the table's order. Reads the row groups that may hold them.
///
/// # Errors
/// When the file is not such a table, or cannot be read.
pub fn detections(file: &Ranges, period: u32, camera: &str, frames: &Range<u32>) -> Result<Vec<Detection>, TableError> {
    let table = Detection::TABLE;
    let metadata = load(file, table)?;
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let (period, first, end) = (number(period), number(frames.start), number(frames.end));
    let groups = metadata.metadata().row_groups().iter().enumerate();
    let holding = groups.filter(|(_, group)| {
        let holds =
            |column, least: i32, most: i32| bounds(group, column).is_none_or(|(min, max)| min <= most && least <= max);
        holds("period", period, period) && holds("frame", first, end - 1)
    });
    let holding: Vec<usize> = holding.map(|(at, _)| at).collect();
    let mut found = Vec::new();
    let names: Vec<&str> = Detection::columns().iter().map(|column| column.name).collect();
    for batch in batches(file, &metadata, table, &names, |builder| builder.with_row_groups(holding))? {
        let own = |row: &Detection| row.period == period && *row.camera == *camera && (first..end).contains(&row.frame);
        found.extend(Detection::rows(&batch)?.into_iter().filter(own));
    }
    Ok(found)
}

fn load(file: &Ranges, table: &'static str) -> Result<ArrowReaderMetadata, TableError> {
    let options = ArrowReaderOptions::new().with_offset_index_policy(PageIndexPolicy::Optional);
    let loaded = ArrowReaderMetadata::load(file, options).and_then(|metadata| {
        whole(metadata.metadata(), file.size)?;
        Ok(metadata)
    });
    loaded.map_err(|source| TableError::Open { table, source })
}

type Builder = ParquetRecordBatchReaderBuilder<Ranges>;

/// Some columns of some rows.
fn batches(
    file: &Ranges,
    metadata: &ArrowReaderMetadata,
    table: &'static str,
    columns: &[&str],
    narrow: impl FnOnce(Builder) -> Builder,
) -> Result<Vec<RecordBatch>, TableError> {
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata.clone());
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let reader = narrow(builder.with_projection(mask)).build();
    let reader = reader.map_err(|source| TableError::Open { table, source })?;
    reader.collect::<Result<_, _>>().map_err(|source| TableError::Rows { table, source })
}

/// Least and greatest value of a column in a row group, where they are known.
fn bounds(group: &RowGroupMetaData, column: &str) -> Option<(i32, i32)> {
    let chunk = group.columns().iter().find(|chunk| chunk.column_path().string() == column)?;
    match chunk.statistics()? {
        Statistics::Int32(values) => Some((*values.min_opt()?, *values.max_opt()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use fulltime_common::plan::MatchId;

    use super::*;
    use crate::{matches, shard};

    fn counted(bytes: Bytes) -> (Ranges, Arc<AtomicU64>) {
        let read = Arc::new(AtomicU64::new(0));
        let tally = Arc::clone(&read);
        let file = Ranges::new(bytes.len() as u64, move |range: Range<u64>| {
            tally.fetch_add(range.end - range.start, Ordering::Relaxed);
            Ok(bytes.slice(range.start as usize..range.end as usize))
        });
        (file, read)
    }

    /// Bytes that no compression makes smaller.
    fn noise(seed: u32, length: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(2_654_435_769) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn one_picture_costs_a_fraction_of_the_file() {
        let frame = |frame: u32| FrameRow {
            frame,
            content_hash: u64::from(frame),
            luma: [3; 64],
            preview: frame.is_multiple_of(50).then(|| noise(frame, 30_000)),
            corners: noise(frame, 300),
        };
        // As after a gap: the numbers do not begin with 0 and some are missing.
        let rows: Vec<FrameRow> = (500..10_000).filter(|number| !(700..800).contains(number)).map(frame).collect();
        let bytes = shard::write_frames(&rows).unwrap();
        let size = bytes.len() as u64;
        let (file, read) = counted(bytes);
        assert_eq!(picture(&file, 9_000).unwrap(), Some(noise(9_000, 30_000)));
        let read = read.load(Ordering::Relaxed);
        assert!(read < size / 3, "{read} of {size} bytes were read");
        for none in [499, 750, 9_001, 10_000] {
            assert_eq!(picture(&file, none).unwrap(), None, "{none}");
        }
    }

    #[test]
    fn detections_of_some_frames_come_from_their_recording_alone() {
        let mut writer = matches::writer::<Detection>(&MatchId { season: "s".into(), name: "m".into() }).unwrap();
        for (period, camera) in [(1, "left"), (1, "right"), (2, "left")] {
            for frame in 0..10_000 {
                for place in noise((frame * 7 + period) as u32, 20).as_chunks::<2>().0 {
                    let [x, y] = place.map(f32::from);
                    writer
                        .push(Detection { period, camera: camera.into(), frame, x, y, ..Detection::default() })
                        .unwrap();
                }
            }
        }
        let bytes = writer.finish().unwrap();
        let size = bytes.len() as u64;
        let (file, read) = counted(bytes);
        let rows = detections(&file, 1, "right", &(5_000..5_002)).unwrap();
        assert_eq!(rows.len(), 20);
        assert!(
            rows.iter().all(|row| row.period == 1 && *row.camera == *"right" && (5_000..5_002).contains(&row.frame))
        );
        read.store(0, Ordering::Relaxed);
        assert_eq!(detections(&file, 2, "left", &(9_000..9_001)).unwrap().len(), 10);
        let read = read.load(Ordering::Relaxed);
        // The last two of five row groups may hold it.
        assert!(read < size / 2, "{read} of {size} bytes were read");
        assert_eq!(detections(&file, 3, "left", &(0..10)).unwrap(), vec![]);
    }

    #[test]
    fn what_is_no_table_is_said_to_be_none() {
        let (file, _) = counted(Bytes::from_static(b"not a table at all"));
        assert!(matches!(picture(&file, 0), Err(TableError::Open { .. })));
        let (file, _) = counted(shard::write_frames(&[]).unwrap());
        assert!(matches!(detections(&file, 1, "left", &(0..1)), Ok(rows) if rows.is_empty()));
    }
}
