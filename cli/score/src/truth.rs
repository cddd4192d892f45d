//! Ground truth of synthetic matches: the JSON lines that `fulltime-synth` writes beside its videos, one object a frame.

use std::{
    io::{BufRead, BufReader, Read},
    sync::Arc,
};

use serde::Deserialize;

use crate::{
    error::FormatError,
    rect::Rect,
    sequence::{Attributes, Object, Sequence},
};

/// Boxes less visible than this may be found or not.
const FAIR: f64 = 0.25;

#[derive(Debug, Deserialize)]
struct Line {
    frame: u32,
    view: String,
    objects: Vec<Thing>,
}

#[derive(Debug, Deserialize)]
struct Thing {
    id: i64,
    role: String,
    #[serde(default)]
    team: Option<String>,
    #[serde(default)]
    number: Option<u32>,
    #[serde(rename = "box")]
    bounds: [f64; 4],
    visible: f64,
    pitch: [f64; 2],
}

/// Reads the truth of a recording, with the frames at which the director cuts.
///
/// # Errors
/// With the line: JSON of another shape.
pub fn read(input: impl Read) -> Result<Sequence, FormatError> {
    let mut sequence = Sequence::new();
    sequence.info.lenient = true;
    let mut view: Option<String> = None;
    for (line, text) in (1..).zip(BufReader::new(input).lines()) {
        let text = text.map_err(|source| FormatError::Read { line, source })?;
        if text.trim().is_empty() {
            continue;
        }
        let truth: Line = serde_json::from_str(&text).map_err(|source| FormatError::JsonLine { line, source })?;
        let frame = truth.frame.saturating_add(1);
        if view.as_ref().is_some_and(|view| *view != truth.view) {
            sequence.cuts.push(frame);
        }
        view = Some(truth.view);
        sequence.info.frames = frame;
        sequence.frames.entry(frame).or_default();
        for Thing { id, role, team, number, bounds: [x, y, w, h], visible, pitch } in truth.objects {
            let attributes = sequence.describe(Attributes {
                name: None,
                role: Some(role.into()),
                team: team.map(Arc::from),
                number,
            });
            let object = Object {
                visibility: Some(visible),
                world: Some([pitch[0], pitch[1], 0.0]),
                attributes: Some(attributes),
                ..Object::new(Some(id), Rect { x, y, w, h }, f64::from(u8::from(visible >= FAIR)))
            };
            sequence.push(frame, object);
        }
    }
    Ok(sequence)
}
