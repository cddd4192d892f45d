//! The numbers of the tracker that are no setting: found by measurement (`cargo xtask bench track`), the same for every
//! sport and camera. Those a user may have a reason to change are in the pipeline file's `[track]`.

use super::motion::Noise;

#[derive(Debug, Clone, PartialEq)]
pub struct Tuning {
    pub noise: Noise,
    /// Of the smoother: what a box does by itself is calmer than what a track must be ready for.
    pub smoothing: Noise,
    /// Boxes are grown by this share of their size on every side before they are compared.
    pub grow: f64,
    /// How much the distance of the centres counts beside the overlap, 0 to 1.
    pub distance: f64,
    /// Distance (in standard deviations, squared) at which it counts half.
    pub distance_half: f64,
    /// What a look counts beside the box: gain for each unit of cosine above `look_zero`, and at most.
    pub look_weight: f64,
    pub look_zero: f64,
    pub look_most: f64,
    /// Least gain of the second association: weak detections are often wrong, so they must lie well.
    pub weak_gain: f64,
    /// Least gain for a track that is not yet sure to be one.
    pub new_gain: f64,
    /// A track that was missed for longer is lost: weak detections do not prolong it.
    pub recent_seconds: f64,
    /// Where people are described, a track that was missed for longer ends, whatever the settings say: who comes back is
    /// better told by looks, when all of it is known.
    pub described_lost_seconds: f64,
    /// A track that is not yet sure to be one may be missed for so long.
    pub new_patience_seconds: f64,
    /// Share of the camera's known motion that outlives a frame's own evidence, 0 to 1.
    pub camera_inertia: f64,
    /// With so many objects in sight, half of what they have in common is taken for the camera's motion.
    pub camera_doubt: f64,
    /// Displacements that differ from the common one by more than this share of the height count less.
    pub camera_spread: f64,
    /// Two tracks whose boxes overlap by more (IoU) are close to each other.
    pub close_iou: f64,
    /// For so long after that both are watched before it is decided whether they were mixed up.
    pub exchange_seconds: f64,
    /// Nats that an exchange must save.
    pub exchange_margin: f64,
    /// What an object must have on average in every frame of its tracks, 0 to 1: the rank of its detection's score among
    /// all of the recording, nothing where it is missed.
    pub least_support: f64,
    /// Nats that speak for a link of two tracklets before anything is known about them.
    pub link_prior: f64,
    /// Nats against a link per second of the hole.
    pub link_per_second: f64,
    /// Spread of a position at the end of a hole, in heights: at once, per square root of a second, and per second for
    /// as long as the speed is remembered.
    pub link_spread: f64,
    pub link_drift: f64,
    pub link_turn: f64,
    /// The same up and down, as a factor.
    pub link_upright: f64,
    /// After so many seconds half of what the speed promised has come true, and no more than twice that ever will.
    pub link_memory: f64,
    /// Standard deviation of the ratio of heights.
    pub link_size: f64,
    /// Nats that speak for a link if all others of the same time agree with the shift it stands for; seconds that count as
    /// the same time; heights within which they agree.
    pub link_consensus: f64,
    pub link_window: f64,
    pub link_agree: f64,
}

impl Tuning {
    pub const DEFAULT: Self = Self {
        noise: Noise { position: 0.022, speed: 0.0045, sighting: 0.061, first_speed: 0.035, upright: 0.6 },
        smoothing: Noise { position: 0.023, speed: 0.0015, sighting: 0.03, first_speed: 0.03, upright: 0.6 },
        grow: 0.087,
        distance: 0.3,
        distance_half: 2.2,
        look_weight: 1.0,
        look_zero: 0.85,
        look_most: 0.3,
        weak_gain: 0.6,
        new_gain: 0.25,
        recent_seconds: 0.1,
        described_lost_seconds: 0.7,
        new_patience_seconds: 0.16,
        camera_inertia: 0.71,
        camera_doubt: 0.4,
        camera_spread: 0.057,
        close_iou: 0.3,
        exchange_seconds: 0.79,
        exchange_margin: 3.2,
        least_support: 0.17,
        link_prior: 6.0,
        link_per_second: 0.12,
        link_spread: 0.088,
        link_drift: 0.52,
        link_turn: 0.38,
        link_upright: 0.4,
        link_memory: 1.2,
        link_size: 0.15,
        link_consensus: 3.4,
        link_window: 2.7,
        link_agree: 2.0,
    };
}

impl Default for Tuning {
    fn default() -> Self {
        Self::DEFAULT
    }
}
