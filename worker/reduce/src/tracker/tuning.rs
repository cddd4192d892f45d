//! The numbers of the tracker that are no setting: found by measurement (`cargo xtask bench track`), the same for every
//! sport and camera. Those a user may have a reason to change are in the pipeline file's `[track]`.

use super::motion::Noise;

#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    pub noise: Noise,
    /// Boxes are grown by this share of their size on every side before they are compared.
    pub grow: f64,
    /// How much the distance of the centres counts beside the overlap, 0 to 1.
    pub distance: f64,
    /// Distance (in standard deviations, squared) at which it counts half.
    pub distance_half: f64,
    /// Least gain of the second association: weak detections are often wrong, so they must lie well.
    pub weak_gain: f64,
    /// Least gain for a track that is not yet sure to be one.
    pub new_gain: f64,
    /// A track that was missed for longer is lost: weak detections do not prolong it.
    pub recent_seconds: f64,
    /// A track that is not yet sure to be one may be missed for so long.
    pub new_patience_seconds: f64,
    /// Share of the camera's last motion that is expected to go on.
    pub camera_inertia: f64,
    /// Nats that speak for a link of two tracklets before anything is known about them.
    pub link_prior: f64,
    /// Nats against a link per second of the hole.
    pub link_per_second: f64,
    /// A hole's uncertainty: (heights)² per second, and (heights per second)² that a speed may change by.
    pub link_drift: f64,
    pub link_turn: f64,
    /// After so many seconds a speed says little about where somebody is.
    pub link_memory: f64,
}

impl Tuning {
    pub const DEFAULT: Self = Self {
        noise: Noise { position: 0.02, speed: 0.006, sighting: 0.05, first_speed: 0.06 },
        grow: 0.2,
        distance: 0.3,
        distance_half: 4.0,
        weak_gain: 0.5,
        new_gain: 0.3,
        recent_seconds: 0.1,
        new_patience_seconds: 0.1,
        camera_inertia: 0.9,
        link_prior: 5.0,
        link_per_second: 0.3,
        link_drift: 0.05,
        link_turn: 0.3,
        link_memory: 1.0,
    };
}

impl Default for Tuning {
    fn default() -> Self {
        Self::DEFAULT
    }
}
