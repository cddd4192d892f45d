//! `[identify]` of a pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How tracks become people. Gains are log-likelihood ratios: above 0 two tracks are more likely one person than two. The
/// defaults were chosen on synthetic matches with the shipped embedder and reader; another embedder needs other `look_…`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identify {
    /// Cosine of the mean embeddings at which looks speak neither for nor against one person. 0 to 1.
    pub look_zero: f64,
    /// Gain for each unit of cosine above (and loss for each below) that.
    pub look_slope: f64,
    /// Least and greatest gain that looks can give.
    pub look_floor: f64,
    pub look_most: f64,
    /// What one picture's reading counts of a whole one, since pictures that follow each other repeat mistakes. 0 to 1.
    pub number_weight: f64,
    /// Least gain that numbers can give.
    pub number_floor: f64,
    /// A number is published from this chance on. 0 to 1.
    pub number_sure: f64,
    /// Two of one team with one number are one person unless the cosine of their looks is below this.
    pub look_number: f64,
    /// Gain from which on two tracks are one person.
    pub join_gain: f64,
    /// Gain from which on what was seen shortly is given to somebody known, and by how much he must be ahead of the next.
    pub adopt_gain: f64,
    pub adopt_lead: f64,
    /// Descriptions that make somebody known, and those that a person needs to be published at all.
    pub known_pictures: u32,
    pub min_pictures: u32,
    /// Kits that are further apart are two kits; 0 are equal ones, 1.5 have no colour in common.
    pub kit_apart: f64,
    /// Teams and roles are published from this chance on. 0 to 1.
    pub team_sure: f64,
}

impl Default for Identify {
    fn default() -> Self {
        Self {
            look_zero: 0.8,
            look_slope: 18.0,
            look_floor: -8.0,
            look_most: 4.0,
            number_weight: 0.35,
            number_floor: -7.0,
            number_sure: 0.95,
            look_number: 0.5,
            join_gain: 0.0,
            adopt_gain: -6.0,
            adopt_lead: 1.0,
            known_pictures: 15,
            min_pictures: 3,
            kit_apart: 0.4,
            team_sure: 0.9,
        }
    }
}
