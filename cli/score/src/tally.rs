//! Everything that is counted when results are scored, sequence by sequence, and the sum of it.

use std::collections::BTreeSet;

use crate::{
    clear::Clear,
    comparison::{Comparison, Rules, by_box},
    error::ScoreError,
    hota::Hota,
    identity::Identity,
    precision::{FoundBox, Picture, TrueBox},
    sequence::Sequence,
};

/// Tracks against truth.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tracking {
    pub hota: Hota,
    pub clear: Clear,
    pub identity: Identity,
}

impl Tracking {
    #[must_use]
    pub fn of(comparison: &Comparison) -> Self {
        Self { hota: Hota::of(comparison), clear: Clear::of(comparison), identity: Identity::of(comparison) }
    }

    /// By overlap of boxes in the picture.
    ///
    /// # Errors
    /// As [`Comparison::new`].
    pub fn score(truth: &Sequence, found: &Sequence, rules: Rules) -> Result<Self, ScoreError> {
        Ok(Self::of(&Comparison::new(truth, found, rules, by_box)?))
    }

    /// Takes the counts of another sequence in.
    pub fn add(&mut self, other: &Self) {
        self.hota.add(&other.hota);
        self.clear.add(&other.clear);
        self.identity.add(&other.identity);
    }
}

/// The boxes of every frame as pictures of one class, for [`crate::precision`]. Truth that does not count (confidence 0,
/// or a class that the rules leave out) may be found or not.
#[must_use]
pub fn pictures(truth: &Sequence, found: &Sequence, rules: Rules) -> Vec<Picture> {
    let frames: BTreeSet<u32> = truth.frames.keys().chain(found.frames.keys()).copied().collect();
    let picture = |frame| Picture {
        truth: truth
            .frame(frame)
            .iter()
            .filter_map(|object| {
                let (bounds, ignore) = (object.bounds?, !rules.counts(object));
                Some(TrueBox { bounds, area: bounds.area(), ignore, crowd: false })
            })
            .collect(),
        found: found
            .frame(frame)
            .iter()
            .filter_map(|object| Some(FoundBox { bounds: object.bounds?, score: object.score }))
            .collect(),
    };
    frames.into_iter().map(picture).collect()
}
