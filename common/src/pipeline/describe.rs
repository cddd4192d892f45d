//! `[describe]` of a pipeline: what the map task writes down about every person that the detector found, for the reduce
//! to tell people, teams and numbers by.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;
use crate::{digest::Digest, semantics};

/// `[describe]` of a pipeline file. The colours of the kit are always written down; each model adds its part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeFile {
    /// Manifest of a model that tells people apart (head `embedding`), relative to the pipeline file.
    #[serde(default)]
    pub embedder: Option<PathBuf>,
    /// Manifest of a model that reads shirt numbers (head `ctc`), relative to the pipeline file.
    #[serde(default)]
    pub numbers: Option<PathBuf>,
    #[serde(flatten)]
    pub settings: DescribeSettings,
}

/// Class names that stand for a person, in the manifests we know.
pub const PEOPLE: [&str; 7] = ["person", "player", "goalkeeper", "referee", "official", "coach", "staff"];

/// Who is described, how often, and whose number is worth reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DescribeSettings {
    /// So many times a second of video, on frames chosen by their number and the average frame rate. Above 0.
    pub per_second: f64,
    /// The detector's classes that are people; empty: those named person, player, goalkeeper, referee, official, coach
    /// or staff.
    pub classes: Vec<String>,
    /// Detections below this score are not described. 0 to 1.
    pub min_score: f32,
    /// Boxes lower than this are not described, in pixels of the picture.
    pub min_height: f32,
    /// Numbers are read in boxes at least so high, in pixels of the picture,
    pub number_min_height: f32,
    /// at most so wide, as a share of their height (who lies or slides shows no number),
    pub number_max_aspect: f32,
    /// and at least so sharp (as the shard's descriptions have it; 0: however blurred).
    pub number_min_sharpness: f32,
    /// Where in the box the number is: left, top, right, bottom as shares of its sides.
    pub number_region: [f32; 4],
}

impl Default for DescribeSettings {
    fn default() -> Self {
        Self {
            per_second: 5.0,
            classes: Vec::new(),
            min_score: 0.3,
            min_height: 16.0,
            number_min_height: 32.0,
            number_max_aspect: 1.0,
            number_min_sharpness: 12.0,
            number_region: [0.0, 0.12, 1.0, 0.55],
        }
    }
}

/// Description with its models by content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Describe {
    pub embedder: Option<Manifest>,
    pub numbers: Option<Manifest>,
    pub settings: DescribeSettings,
}

impl Describe {
    /// The manifests of its models.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.embedder.iter().chain(&self.numbers)
    }

    /// Digest of what is computed. File names, model names and notes are not in it.
    pub(super) fn digest(&self) -> Digest {
        let part = |model: &Manifest| (model.weights(), model.input.clone(), model.output.clone());
        let models = [&self.embedder, &self.numbers].map(|model| model.as_ref().map(part));
        Digest::of_json(&("describe", semantics::DESCRIBE, models, &self.settings))
    }
}
