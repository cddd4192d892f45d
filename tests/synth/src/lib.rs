//! Synthetic football: deterministic, seedable matches rendered as real video with ground truth, and the small encoder and
//! test card that decode tests build their files with. Used by tests, by the detector's training script and by the demo;
//! never part of the product.
//!
//! From the rules to the file: [`cast`] and [`scene`] (with its tactics) play a match; [`camera`] and [`feed`] film it;
//! [`stadium`], [`backdrop`], `body` and [`raster`] draw it, [`render`] puts a frame together with its [`truth`];
//! [`generate`] makes recordings of it through [`fulltime_media::encode`].

pub mod backdrop;
mod body;
pub mod camera;
pub mod cast;
mod digits;
pub mod error;
pub mod feed;
pub mod generate;
pub mod geometry;
pub mod raster;
pub mod render;
pub mod rng;
pub mod scene;
pub mod stadium;
mod tactics;
pub mod testcard;
pub mod truth;

pub use camera::Post;
pub use error::SynthError;
pub use feed::Directing;
pub use fulltime_media::encode::{Codec, EncodeOptions, Encoder, Yuv420Frame};
pub use generate::{Filming, GeneratedRecording, MatchOptions, generate_match, render_frame};
pub use testcard::{read_testcard, testcard};
pub use truth::{FrameTruth, Print, Truth};
