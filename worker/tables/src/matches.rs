//! The published tables of a match. Season and match are the Hive partition folders they lie in
//! (`season=…/match=…/part-0.parquet`) and therefore no columns: a reader with Hive partitioning adds them, and would
//! find them twice otherwise. A file that was taken out of its folder still names both in its key-value metadata.
//!
//! Integers are signed, since Spark knows no others. Rows come in reduce order: (period, camera, time).

use std::sync::Arc;

use fulltime_common::{plan::MatchId, semantics};

use crate::{
    error::TableError,
    file::Writer,
    row::{Row, table},
};

table! {
    /// One detection of one frame.
    Detection in "detections" {
        period: i32, "";
        camera: Arc<str>, "";
        /// Frame number from the start of the recording.
        frame: i32, "";
        /// Presentation time with the recording's offset.
        t_us: i64, "us";
        /// The track it belongs to; null where it belongs to none that is reported.
        track_id: Option<i32>, "";
        class: Arc<str>, "";
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
    /// One object followed through one recording.
    Track in "tracks" {
        period: i32, "";
        camera: Arc<str>, "";
        /// From 1, in the order of first appearance; unique in the match.
        track_id: i32, "";
        class: Arc<str>, "";
        first_frame: i32, "";
        last_frame: i32, "";
        start_us: i64, "us";
        end_us: i64, "us";
        /// Frames in which it was detected.
        frames_seen: i32, "frames";
        mean_score: f32, "0..1";
        mean_height: f32, "px";
        /// Way of the bottom centre of its box through the picture.
        path_length: f32, "px";
    }
}

table! {
    /// One person. For now one row a track: identity across tracks, team, number and role are still to be read.
    Player in "players" {
        player_id: i32, "";
        period: i32, "";
        camera: Arc<str>, "";
        class: Arc<str>, "";
        /// Time in which the player was detected.
        visible: f64, "s";
        team: Option<Arc<str>>, "";
        number: Option<i32>, "";
        role: Option<Arc<str>>, "";
    }
}

/// A writer of one of the tables of this match.
///
/// # Errors
/// When the Parquet package refuses the schema.
pub fn writer<R: Row>(id: &MatchId) -> Result<Writer<R>, TableError> {
    Writer::new(&[("semantics", &semantics::REDUCE.to_string()), ("season", &id.season), ("match", &id.name)])
}
