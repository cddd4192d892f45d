//! What a map task stores for its frames: detections, what people look like, and per-frame evidence for what the reduce
//! derives from neighbours. Written by the lane, read by the reduce; all tables ascend by frame.

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
        /// Marked places of the picture, packed as [`crate::corners`] has it: camera motion is found by them.
        corners: Vec<u8>, "";
    }
}

table! {
    /// What one detected person looks like. Not every frame is described, nor everybody in it.
    DescriptionRow in "shard-descriptions" {
        frame: u32, "";
        /// Position among the frame's detection rows.
        detection: u16, "";
        /// Embedding of unit length, times 127, each number an `i8`; null where the pipeline has no embedder.
        look: Option<Vec<u8>>, "1/127";
        /// Colours of torso and legs, 12 numbers each: shares of eight hues, of black, grey and white among the pixels that
        /// are not grass, and the share of those.
        kit: [u8; 24], "1/255";
        /// Chances of shirt numbers as pairs of bytes, number (0 to 99, or 100: none is to be read) and chance, most
        /// probable first; null where the picture was not fit for reading.
        numbers: Option<Vec<u8>>, "1/255";
        /// How sharp the picture is where the number would be; 0 is flat.
        sharpness: f32, "";
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
/// When the rows do not strictly ascend by frame and detection, or do not fit a table.
pub fn write_descriptions(rows: &[DescriptionRow]) -> Result<Bytes, TableError> {
    for pair in rows.windows(2) {
        let [before, after] = [&pair[0], &pair[1]].map(|row| u32::from(row.detection));
        if pair[0].frame == pair[1].frame && after <= before {
            return Err(TableError::Unsorted { table: DescriptionRow::TABLE, column: "detection", before, after });
        }
    }
    write(rows, |row| row.frame, false)
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

/// # Errors
/// When the bytes are not such a table.
pub fn read_descriptions(bytes: Bytes) -> Result<Vec<DescriptionRow>, TableError> {
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
