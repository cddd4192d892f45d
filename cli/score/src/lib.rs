//! Scoring of detections, tracks and identities against ground truth, and the text formats that both come in. Pure: bytes
//! in, figures or bytes out. Called by `fulltime eval`, `export` and `track`, by the benches and by `cargo xtask accuracy`.

mod error;
pub mod mot;
mod rect;
mod sequence;

pub use error::FormatError;
pub use rect::Rect;
pub use sequence::{Attributes, Object, Sequence};
