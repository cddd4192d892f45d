//! Similarity of places on the pitch, and the game-state HOTA that `SoccerNet` scores with it (Somers et al., "`SoccerNet`
//! Game State Reconstruction", CVPR workshops 2024): how near two people are, if role, team and number are the same, and
//! nothing if they are not.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    comparison::{Comparison, Rules},
    error::ScoreError,
    hota::Hota,
    sequence::{Attributes, Object, Sequence},
};

/// At this distance in metres the similarity is 0.05, the least that HOTA counts.
const TOLERANCE: f64 = 5.0;

/// A Gaussian of the distance of two places, 0 to 1; 0 where either has none.
#[must_use]
pub fn by_place(truth: &Object, found: &Object) -> f64 {
    match (truth.world, found.world) {
        (Some([ax, ay, _]), Some([bx, by, _])) => {
            let squared = (ax - bx) * (ax - bx) + (ay - by) * (ay - by);
            (0.05_f64.ln() * squared / (TOLERANCE * TOLERANCE)).exp()
        }
        _ => 0.0,
    }
}

/// What the evaluator looks at: teams of players and goalkeepers, numbers of players.
fn told(attributes: Option<&Attributes>) -> (Option<&Arc<str>>, Option<&Arc<str>>, Option<u32>) {
    let Some(Attributes { role, team, number, .. }) = attributes else { return (None, None, None) };
    match role.as_deref() {
        Some("player") => (role.as_ref(), team.as_ref(), *number),
        Some("goalkeeper") => (role.as_ref(), team.as_ref(), None),
        _ => (role.as_ref(), None, None),
    }
}

/// GS-HOTA of everybody but the ball. `teams` says what found teams are called in the truth, where they are called
/// otherwise. Objects without a place or an identity are left out on both sides.
///
/// # Errors
/// As [`Comparison::new`].
pub fn gs_hota(truth: &Sequence, found: &Sequence, teams: &BTreeMap<Arc<str>, Arc<str>>) -> Result<Hota, ScoreError> {
    let counted = |sequence: &Sequence, object: &Object| {
        let ball = sequence.attributes_of(object).is_some_and(|of| of.role.as_deref() == Some("ball"));
        object.world.is_some() && object.id.is_some() && !ball
    };
    let (true_people, found_people) = (truth.only(|o| counted(truth, o)), found.only(|o| counted(found, o)));
    let similarity = |a: &Object, b: &Object| {
        let (role, team, number) = told(truth.attributes_of(a));
        let (found_role, found_team, found_number) = told(found.attributes_of(b));
        let found_team = found_team.map(|team| teams.get(team).unwrap_or(team));
        let same = (role, team, number) == (found_role, found_team, found_number);
        if same { by_place(a, b) } else { 0.0 }
    };
    Ok(Hota::of(&Comparison::new(&true_people, &found_people, Rules::Everything, similarity)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_metres_off_is_the_least_that_counts() {
        let at = |x: f64| Object {
            world: Some([x, 0.0, 0.0]),
            ..Object::new(None, crate::Rect { x, y: 0.0, w: 1.0, h: 1.0 }, 1.0)
        };
        assert!((by_place(&at(0.0), &at(5.0)) - 0.05).abs() < 1e-12);
        assert_eq!(by_place(&at(3.0), &at(3.0)), 1.0);
    }
}
