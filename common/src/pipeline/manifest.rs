//! A model's manifest: all that is needed to feed a model and to read its answer.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// A model manifest (TOML): all that is needed to feed a model and to read its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub name: String,
    pub file: ModelFile,
    pub input: ModelInput,
    pub output: ModelOutput,
    /// Names by class index; none for models that do not detect.
    #[serde(default)]
    pub classes: Vec<String>,
    /// SPDX expression or a sentence.
    #[serde(default)]
    pub licence: Option<String>,
    /// Where it comes from, how it was trained, what it scores.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
}

/// The weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Relative to the manifest.
    pub path: PathBuf,
    pub sha256: Digest,
}

/// The input tensor, f32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelInput {
    /// Tensor name; default: the model's only input.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub layout: Layout,
    pub channels: Channels,
    /// `[width, height]` in pixels.
    pub size: [u32; 2],
    #[serde(default)]
    pub resize: Resize,
    /// Value of padding pixels, 0 to 255.
    #[serde(default = "default_pad")]
    pub pad: u8,
    /// value = (pixel * scale - mean) / std, pixel 0 to 255, per channel in the order of `channels`.
    #[serde(default = "default_scale")]
    pub scale: f32,
    #[serde(default)]
    pub mean: [f32; 3],
    #[serde(default = "default_std")]
    pub std: [f32; 3],
}

fn default_pad() -> u8 {
    114
}
fn default_scale() -> f32 {
    1.0
}
fn default_std() -> [f32; 3] {
    [1.0; 3]
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    #[default]
    Nchw,
    Nhwc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    Rgb,
    Bgr,
}

/// How a picture is brought to the input size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Keep the aspect ratio, picture at the top left, padding right and below (YOLOX).
    #[default]
    LetterboxTopLeft,
    /// Keep the aspect ratio, picture centred (YOLOv5, YOLOv8).
    LetterboxCentre,
    /// Ignore the aspect ratio.
    Stretch,
}

/// The output tensor and how to read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, tag = "head", rename_all = "lowercase")]
pub enum ModelOutput {
    /// `[batch, n, 5 + classes]`, n over the strides' grids: cx, cy = (o + grid) * stride; w, h = exp(o) * stride;
    /// objectness and classes already sigmoid (Ge et al., YOLOX, 2021).
    Yolox {
        /// Tensor name; default: the model's only output.
        #[serde(default)]
        name: Option<String>,
        strides: Vec<u32>,
    },
    /// `[batch, n]`: what a person looks like. Only the direction counts.
    Embedding {
        /// Tensor name; default: the model's only output.
        #[serde(default)]
        name: Option<String>,
    },
    /// `[batch, places, characters + 1]`: probabilities of the alphabet's characters and of the blank at every place
    /// (Graves et al., Connectionist temporal classification, 2006).
    Ctc {
        /// Tensor name; default: the model's only output.
        #[serde(default)]
        name: Option<String>,
        /// A character for each column but the blank's. A reader of shirt numbers has all ten digits among them.
        alphabet: String,
        /// Column of the blank, from 0.
        blank: u32,
    },
}
