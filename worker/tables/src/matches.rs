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
    #[derive(Default)]
    /// One detection of one frame.
    Detection in "detections" {
        period: i32, "";
        camera: Arc<str>, "";
        /// Frame number from the start of the recording.
        frame: i32, "";
        /// Presentation time with the recording's offset.
        t_us: i64, "us";
        /// The track it belongs to (a row of `tracks`, which says whose it is); null where it belongs to none that is reported.
        track_id: Option<i32>, "";
        class: Arc<str>, "";
        score: f32, "0..1";
        /// Left edge.
        x: f32, "px";
        /// Top edge.
        y: f32, "px";
        w: f32, "px";
        h: f32, "px";
        /// Earlier frame of this recording that shows the same picture (a freeze frame, a repeated field): whoever counts
        /// what was seen leaves such rows out.
        duplicate_of: Option<i32>, "";
        /// Place on the pitch of the bottom centre of the box, from the centre spot along the touchline (to the right of
        /// the main camera). Null without a known view of the pitch.
        pitch_x: Option<f32>, "m";
        /// The same across the pitch, away from the main camera.
        pitch_y: Option<f32>, "m";
    }
}

table! {
    #[derive(Default)]
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
        /// Run of pictures without a scene cut that it lies in, from 1 in each recording.
        shot: i32, "";
        /// Who it is; null for what is not a person.
        player_id: Option<i32>, "";
        /// What its own pictures say of the shirt number, whoever it was found to be; null where they say nothing.
        read_number: Option<i32>, "";
        /// Chance that this reading is right.
        read_confidence: Option<f32>, "0..1";
        /// Way on the pitch, from positions smoothed over a second; null without pitch positions.
        distance: Option<f32>, "m";
        /// Highest speed that it kept for half a second.
        top_speed: Option<f32>, "m/s";
    }
}

table! {
    #[derive(Default)]
    /// One person of the match, over all cameras and periods. What is not sure enough is null.
    Player in "players" {
        /// From 1, in the order of first appearance.
        player_id: i32, "";
        class: Arc<str>, "";
        /// Name of the team from the squad list, otherwise `A` or `B`.
        team: Option<Arc<str>>, "";
        team_confidence: Option<f32>, "0..1";
        /// On the shirt.
        number: Option<i32>, "";
        number_confidence: Option<f32>, "0..1";
        /// `player`, `goalkeeper` or `referee`.
        role: Option<Arc<str>>, "";
        role_confidence: Option<f32>, "0..1";
        /// From the squad list.
        name: Option<Arc<str>>, "";
        /// Rows of `tracks` that show this person.
        tracks: i32, "tracks";
        /// Time in which the person was detected; repeated pictures count once, cameras each.
        visible: f64, "s";
        first_period: i32, "";
        /// First sighting.
        first_us: i64, "us";
        last_period: i32, "";
        /// Last sighting.
        last_us: i64, "us";
        /// Way on the pitch while seen, from positions smoothed over a second; null without pitch positions.
        distance: Option<f32>, "m";
        /// Highest speed that was kept for half a second.
        top_speed: Option<f32>, "m/s";
    }
}

/// A writer of one of the tables of this match.
///
/// # Errors
/// When the Parquet package refuses the schema.
pub fn writer<R: Row>(id: &MatchId) -> Result<Writer<R>, TableError> {
    Writer::new(&[("semantics", &semantics::REDUCE.to_string()), ("season", &id.season), ("match", &id.name)])
}
