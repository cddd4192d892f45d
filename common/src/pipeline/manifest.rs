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
    /// The same model as TorchScript, for the torch engine: one file, or the stages of a model that may be split over several
    /// devices, in order. A model whose `file` is TorchScript needs none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub torch: Vec<ModelFile>,
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

impl Manifest {
    /// All files that it names.
    pub fn files(&self) -> impl Iterator<Item = &ModelFile> {
        std::iter::once(&self.file).chain(&self.torch)
    }

    /// What stands for the weights in digests: the file's sha256, or, with TorchScript beside it, a digest of all.
    #[must_use]
    pub fn weights(&self) -> Digest {
        if self.torch.is_empty() {
            return self.file.sha256;
        }
        let files: Vec<&Digest> = self.files().map(|file| &file.sha256).collect();
        Digest::of_json(&files)
    }
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
    /// `[batch, n, 5 + classes]`: centre x, y, width and height in pixels of the input, objectness, class probabilities
    /// (YOLOv5, YOLOv6, YOLOv7).
    Yolov5 {
        /// Tensor name; default: the model's only output.
        #[serde(default)]
        name: Option<String>,
    },
    /// `[batch, 4 + classes, n]`: centre x, y, width and height in pixels of the input, class probabilities (YOLOv8 and
    /// after).
    Yolov8 {
        /// Tensor name; default: the model's only output.
        #[serde(default)]
        name: Option<String>,
    },
    /// `[batch, n, 4 + classes]`, or boxes and scores in a tensor each: centre x, y, width and height as shares of the
    /// input, and scores (Carion et al., DETR, 2020; RT-DETR). Every object is given once: nothing is suppressed.
    Detr {
        /// Name of the tensor, or with `boxes` of that of the scores, `[batch, n, classes]`; default: the model's only
        /// output.
        #[serde(default)]
        name: Option<String>,
        /// Name of the tensor of the boxes, `[batch, n, 4]`, where it is another.
        #[serde(default)]
        boxes: Option<String>,
        #[serde(default)]
        scores: Scores,
    },
    /// Any tensor with a row or a column for every box.
    Generic(Generic),
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

/// How scores are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scores {
    /// As probabilities.
    #[default]
    Probability,
    /// As logits, each class for itself.
    Sigmoid,
    /// As logits of the classes and of one more, the last, for no object at all.
    Softmax,
}

/// Where the parts of a box are in a tensor. Columns count from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generic {
    /// Tensor name; default: the model's only output.
    #[serde(default)]
    pub name: Option<String>,
    /// `[batch, n, columns]`, or `[batch, columns, n]` if true.
    #[serde(default)]
    pub transposed: bool,
    /// Columns of the tensor.
    pub columns: u32,
    /// First of four columns with the box.
    #[serde(default)]
    pub box_column: u32,
    #[serde(default)]
    pub box_format: BoxFormat,
    /// Whether boxes are given as shares of the input's width and height, not in its pixels.
    #[serde(default)]
    pub normalised: bool,
    /// Column of the objectness, a probability that all class scores are multiplied with.
    #[serde(default)]
    pub objectness_column: Option<u32>,
    /// First column of the class scores; or, with `label_column`, the column of the box's score.
    pub score_column: u32,
    /// Column that holds the number of the class.
    #[serde(default)]
    pub label_column: Option<u32>,
    #[serde(default)]
    pub scores: Scores,
    /// Whether boxes that overlap are still to be suppressed.
    #[serde(default = "yes")]
    pub suppress: bool,
}

fn yes() -> bool {
    true
}

/// What the four numbers of a box are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BoxFormat {
    /// Centre x, y, width, height.
    #[default]
    Cxcywh,
    /// Left, top, width, height.
    Xywh,
    /// Left, top, right, bottom.
    Xyxy,
}
