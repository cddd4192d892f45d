//! What a map task stores for its frames: detections, and per-frame evidence for what the reduce derives from
//! neighbours. Written by the lane, read by the reduce; both tables ascend by frame.

use bytes::Bytes;
use fulltime_common::semantics;

use crate::{
    error::TableError,
    file::{Reader, Writer},
    row::{Row, table},
};

table! {
    /// One detection. Rows of one frame keep the detector's order, best score first.
    DetectionRow in "shard-detections" {
        /// Frame number from the start of the recording.
        frame: u32, "";
        /// Index into the manifest's class names.
        class: u16, "";
        score: f32, "0..1";
        /// Left edge.
        x: f32, "px";
        /// Top edge.
        y: f32, "px";
        w: f32, "px";
        h: f32, "px";
    }
}

table! {
    /// Evidence of one frame that was decoded, looked at or not.
    FrameRow in "shard-frames" {
        frame: u32, "";
        /// Hash of the visible pixels: equal for equal pictures.
        content_hash: u64, "";
        /// Mean luma of an 8 by 8 grid, row by row.
        luma: [u8; 64], "0..255";
        /// A small JPEG every few seconds.
        preview: Option<Vec<u8>>, "";
    }
}

/// # Errors
/// When the rows do not ascend by frame, or do not fit a table.
pub fn write_detections(rows: &[DetectionRow]) -> Result<Bytes, TableError> {
    write(rows, |row| row.frame, false)
}

/// # Errors
/// When the rows do not strictly ascend by frame, or do not fit a table.
pub fn write_frames(rows: &[FrameRow]) -> Result<Bytes, TableError> {
    write(rows, |row| row.frame, true)
}

/// # Errors
/// When the bytes are not such a table.
pub fn read_detections(bytes: Bytes) -> Result<Vec<DetectionRow>, TableError> {
    Reader::new(bytes)?.collect()
}

/// # Errors
/// When the bytes are not such a table.
pub fn read_frames(bytes: Bytes) -> Result<Vec<FrameRow>, TableError> {
    Reader::new(bytes)?.collect()
}

fn write<R: Row + Clone>(rows: &[R], frame: impl Fn(&R) -> u32, once: bool) -> Result<Bytes, TableError> {
    for pair in rows.windows(2) {
        let (before, after) = (frame(&pair[0]), frame(&pair[1]));
        if after < before || (once && after == before) {
            return Err(TableError::Unsorted { table: R::TABLE, column: "frame", before, after });
        }
    }
    let mut writer = Writer::new(&[("semantics", &semantics::SHARD.to_string())])?;
    rows.iter().cloned().try_for_each(|row| writer.push(row))?;
    writer.finish()
}
