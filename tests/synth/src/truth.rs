//! What is really in a picture: per object its box, identity and place, per frame the camera; written as MOTChallenge text
//! and as JSON lines.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::cast::{Role, Team};

/// One object of a frame. Only objects with at least one pixel in the picture are listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// Stable over the match; see [`crate::cast::Member::id`].
    pub id: u8,
    pub role: Role,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub team: Option<Team>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub number: Option<u8>,
    /// Left, top, width, height in pixels, clipped to the picture.
    #[serde(rename = "box")]
    pub bounds: [f32; 4],
    /// Share of the whole object that is neither outside the picture nor behind something, 0 to 1.
    pub visible: f32,
    /// The number as it is drawn, for those who turn it to the camera.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub print: Option<Print>,
    /// Metres from the centre spot: along the pitch (to the right of the main camera), across it (away from it).
    pub pitch: [f32; 2],
}

/// A shirt number in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Print {
    /// Left, top, width, height in pixels, not clipped: the number, not the shirt.
    #[serde(rename = "box")]
    pub bounds: [f32; 4],
    /// Share of its strokes that is neither outside the picture nor behind somebody else, 0 to 1.
    pub visible: f32,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameTruth {
    /// Zero-based number in the recording.
    pub frame: u32,
    /// The view, `main` or what the director cut to.
    pub view: String,
    /// A repeated picture.
    pub frozen: bool,
    /// A scene of the past, shown again.
    pub replay: bool,
    /// Row-major 3x3: pitch metres (x, y, 1) to homogeneous pixels of this frame.
    pub homography: [f64; 9],
    pub objects: Vec<Truth>,
}

/// Boxes less visible than this do not count against a detector.
const FAIR: f32 = 0.25;

impl FrameTruth {
    /// Lines of a MOTChallenge `gt.txt`: frame from 1, id, left, top, width, height, whether to count it, class
    /// (see [`Role::class`]), visibility.
    pub fn write_mot(&self, text: &mut String) {
        for Truth { id, role, bounds: [x, y, w, h], visible, .. } in &self.objects {
            let (counts, class) = (u8::from(*visible >= FAIR), role.class());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{},{id},{x:.1},{y:.1},{w:.1},{h:.1},{counts},{class},{visible:.2}", self.frame + 1);
        }
    }

    pub fn write_json(&self, text: &mut String) {
        // Plain data with string keys: serialising it cannot fail.
        text.push_str(&serde_json::to_string(self).unwrap_or_default());
        text.push('\n');
    }
}

/// To the tenth of a pixel, or the hundredth of a metre: more is noise that makes files large.
#[must_use]
pub(crate) fn rounded(value: f32, steps: f32) -> f32 {
    (value * steps).round() / steps
}
