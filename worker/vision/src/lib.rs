//! From a decoded picture to detections: tiling geometry, preprocessing, the detector model in one of the backends, the
//! reading of its head, suppression, and the small pictures kept for people. The lane turns a decoder's frame into a
//! [`PictureView`] and calls [`Detector`]; no decoder, runtime or store is known here.
//!
//! Architecture invariant: what comes out for a picture depends on the picture, the pipeline and the engine class alone.
//! All arithmetic outside the engine is integer or plain IEEE addition, multiplication and division in a fixed order
//! (no fused multiply-add, no library `exp`), hence the same on every processor. `common::semantics` numbers it and
//! the golden digests in `tests/golden.rs` guard it.

mod boxes;
mod corners;
mod describe;
mod detector;
mod error;
mod geometry;
mod head;
mod kit;
mod network;
mod numbers;
mod picture;
mod pitch;
mod preprocess;
mod preview;
pub mod reference;
mod validate;

pub use boxes::Detection;
pub use corners::{Corner, Corners};
pub use describe::{Describer, Description};
pub use detector::{Detector, Preparer, Reader};
pub use error::VisionError;
pub use fulltime_backend_onnx::{ProviderOptions, ProviderOptionsError};
pub use fulltime_backend_sim::{Fault, FaultKind, ScriptError, SimOptions};
pub use fulltime_backend_torch::{OptionsError as TorchOptionsError, TorchOptions};
pub use geometry::{Crop, FramePlan, Placed};
pub use network::EngineKind;
pub use picture::{Matrix, PictureView, PlaneView};
pub use pitch::Region;
pub use preview::{luma_signature, preview_jpeg};
pub use validate::validate;
