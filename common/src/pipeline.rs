//! What is run on every frame: the pipeline file, the model manifests it names, and the resolved pipeline that travels
//! to the workers. Paths live only in the files; a resolved pipeline names every model by sha256.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{digest::Digest, semantics};

mod describe;
mod identify;
mod manifest;

pub use describe::{Describe, DescribeFile, DescribeSettings, PEOPLE};
pub use identify::Identify;
pub use manifest::{
    BoxFormat, Channels, Generic, Layout, Manifest, ModelFile, ModelInput, ModelOutput, Resize, Scores,
};

/// A pipeline file (TOML).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineFile {
    /// Shown in reports; not part of any digest.
    pub name: String,
    pub detect: DetectFile,
    /// What is written down about every person that was detected; absent: nothing.
    #[serde(default)]
    pub describe: Option<DescribeFile>,
    #[serde(default)]
    pub preview: Preview,
    #[serde(default)]
    pub track: Track,
    #[serde(default)]
    pub identify: Identify,
}

/// `[detect]` of a pipeline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DetectFile {
    /// Model manifest, relative to the pipeline file.
    pub model: PathBuf,
    #[serde(flatten)]
    pub settings: DetectSettings,
}

/// How the detector is applied to a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DetectSettings {
    /// Network input `[width, height]` in pixels; default: the manifest's. Only for models with dynamic height and width.
    #[serde(default)]
    pub input_size: Option<[u32; 2]>,
    /// Detections below this score are dropped. 0 to 1.
    #[serde(default = "default_score")]
    pub score_threshold: f32,
    /// Class-aware non-maximum suppression: of two boxes that overlap more (IoU) the weaker goes. 0 to 1.
    #[serde(default = "default_nms")]
    pub nms_iou: f32,
    /// Lower the scores of boxes that overlap a better one instead of dropping them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_nms: Option<SoftNms>,
    /// Classes to keep, by the manifest's names; empty keeps all.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Run every n-th frame only (absolute frame number divisible by n).
    #[serde(default = "one")]
    pub every: u32,
    /// Cut the region into tiles and run the model on each.
    #[serde(default)]
    pub tiles: Option<Tiles>,
    /// Where the pitch is: a polygon in relative coordinates (0 to 1), or `"grass"`, found in every picture by its colour.
    /// Only boxes whose bottom centre lies inside are kept, and of a polygon only the bounding box is looked at. Empty:
    /// the whole picture.
    #[serde(default)]
    pub region: Region,
}

/// Soft suppression (Bodla et al., Soft-NMS, 2017). What falls below `score_threshold` goes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "decay", deny_unknown_fields)]
pub enum SoftNms {
    /// Times 1 - IoU, where the IoU is above `nms_iou`.
    Linear,
    /// Times exp(-IoU² / sigma).
    Gaussian { sigma: f32 },
}

/// Where the pitch is in the picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a list of corners `[x, y]`, or \"grass\"")]
pub enum Region {
    /// Corners, the same in every picture.
    Polygon(Vec<[f32; 2]>),
    /// Found in each picture.
    Found(Ground),
}

/// What the pitch is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ground {
    Grass,
}

impl Default for Region {
    fn default() -> Self {
        Self::Polygon(Vec::new())
    }
}

impl Region {
    /// The corners that are the same in every picture; none: all of it, or what is found.
    #[must_use]
    pub fn polygon(&self) -> &[[f32; 2]] {
        match self {
            Self::Polygon(corners) => corners,
            Self::Found(Ground::Grass) => &[],
        }
    }
}

/// A grid of overlapping tiles over the region's bounding box.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tiles {
    pub columns: u32,
    pub rows: u32,
    /// Share of a tile's width and height that it has in common with its neighbour. 0 to 0.5.
    #[serde(default = "default_overlap")]
    pub overlap: f32,
}

/// Small pictures kept for people, since the reduce has no pixels of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Preview {
    /// One picture every so many seconds of video (by frame number and average frame rate). 0 turns them off.
    pub every_seconds: f64,
    /// Pixels; height follows.
    pub width: u32,
}

/// The tracker's parameters. Times in seconds, so that they mean the same at any frame rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Track {
    /// Detections below this score are kept in the tables, but not followed.
    pub least_score: f32,
    /// Of detections of one class that overlap by more (IoU, 0 to 1) only the strongest is followed.
    pub overlap: f32,
    /// Detections from this score on may start a track.
    pub start_score: f32,
    /// Detections from this score on take part in the first association; weaker ones in the second.
    pub high_score: f32,
    /// Least likeness for an association, 0 to 1: the IoU of both boxes, a little grown, and how near their centres are.
    pub match_iou: f32,
    /// A track that was not seen for so long ends.
    pub lost_seconds: f64,
    /// Tracks seen for less are not reported.
    pub min_seconds: f64,
    /// Tracks of one object are joined over holes up to so long, where the motion of both ends speaks for it. 0 joins
    /// nothing.
    pub link_seconds: f64,
    /// Holes up to so long are filled with boxes by `fulltime track` and exports that want one in every frame. The match
    /// tables always keep what was detected.
    pub fill_seconds: f64,
}

impl Default for Preview {
    fn default() -> Self {
        Self { every_seconds: 2.0, width: 640 }
    }
}

impl Default for Track {
    fn default() -> Self {
        Self {
            least_score: 0.0,
            overlap: 1.0,
            start_score: 0.5,
            high_score: 0.4,
            match_iou: 0.23,
            lost_seconds: 1.8,
            min_seconds: 0.2,
            link_seconds: 15.0,
            fill_seconds: 0.3,
        }
    }
}

fn default_score() -> f32 {
    0.25
}
fn default_nms() -> f32 {
    0.6
}
fn default_overlap() -> f32 {
    0.2
}
fn one() -> u32 {
    1
}

/// A pipeline with everything in it: what is stored below `pipelines/{digest}` and what workers load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    pub name: String,
    pub detect: Detect,
    #[serde(default)]
    pub describe: Option<Describe>,
    pub preview: Preview,
    pub track: Track,
    #[serde(default)]
    pub identify: Identify,
}

/// The detector: model by content, and how it is applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detect {
    pub model: Manifest,
    pub settings: DetectSettings,
}

impl Pipeline {
    /// Names the whole pipeline object.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    /// Digest of what the map task computes. File names, model names and notes are not in it.
    #[must_use]
    pub fn map_digest(&self) -> Digest {
        let Detect { model, settings } = &self.detect;
        Digest::of_json(&(
            "map",
            model.weights(),
            &model.input,
            &model.output,
            &model.classes,
            settings,
            &self.preview,
            self.describe.as_ref().map(Describe::digest),
        ))
    }

    /// Digest of what the reduce computes.
    #[must_use]
    pub fn reduce_digest(&self) -> Digest {
        Digest::of_json(&("reduce", semantics::REDUCE, &self.track, &self.identify))
    }

    /// The manifests of all models, the detector's first.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        let described = self.describe.iter().flat_map(Describe::manifests);
        std::iter::once(&self.detect.model).chain(described)
    }

    /// Files of all models, whatever engine wants them: sha256 of each, once.
    #[must_use]
    pub fn models(&self) -> Vec<Digest> {
        let mut models: Vec<Digest> = Vec::new();
        for file in self.manifests().flat_map(Manifest::files) {
            if !models.contains(&file.sha256) {
                models.push(file.sha256);
            }
        }
        models
    }

    /// Network input `[width, height]`.
    #[must_use]
    pub fn input_size(&self) -> [u32; 2] {
        self.detect.settings.input_size.unwrap_or(self.detect.model.input.size)
    }

    /// Every how many frames a preview is kept at this frame rate; 0: never.
    #[must_use]
    pub fn preview_stride(&self, fps: f64) -> u32 {
        if self.preview.every_seconds <= 0.0 { 0 } else { (self.preview.every_seconds * fps).round().max(1.0) as u32 }
    }

    /// Every how many frames people are described at this frame rate; 0: never. A multiple of the detector's `every`, for
    /// only detected people can be described.
    #[must_use]
    pub fn describe_stride(&self, fps: f64) -> u32 {
        let every = self.detect.settings.every.max(1);
        match &self.describe {
            None => 0,
            Some(describe) => {
                let frames = fps / describe.settings.per_second / f64::from(every);
                (frames.round().max(1.0) as u32).saturating_mul(every)
            }
        }
    }
}
