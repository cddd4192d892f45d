//! Scoring of detections, tracks and identities against ground truth, and the text formats that both come in. Pure: bytes
//! in, figures or bytes out. Called by `fulltime eval`, `export` and `track`, by the benches and by `cargo xtask accuracy`.

pub mod assignment;
pub mod cdf;
mod clear;
pub mod coco;
pub mod comparison;
mod error;
pub mod gsr;
mod hota;
mod identity;
pub mod mot;
pub mod people;
mod place;
pub mod precision;
mod rect;
mod sequence;
mod tally;
pub mod truth;

pub use clear::Clear;
pub use comparison::{Comparison, Rules, by_box};
pub use error::{FormatError, ScoreError};
pub use hota::{ALPHAS, Hota, HotaFigures, alpha};
pub use identity::Identity;
pub use place::{by_place, gs_hota};
pub use rect::Rect;
pub use sequence::{Attributes, Extra, Info, Object, Sequence};
pub use tally::{Tracking, pictures};
