//! `SoccerNet` game state: JSON with one object a person and picture, its box, its place on the pitch, role, team side and
//! shirt number (Somers et al., "`SoccerNet` Game State Reconstruction", CVPR workshops 2024).
//!
//! Picture ids have ten characters: one digit for the split, three for the sequence, six for the frame from 1. The pitch
//! box is the lower edge of the picture's box, thrown onto the pitch: left, right and middle, in metres from the centre
//! spot. Ground truth lists `annotations`, results list `predictions`; written here are both kinds with `images` and
//! `categories`, so that a file stands for itself.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::FormatError,
    rect::Rect,
    sequence::{Attributes, Extra, Object, Sequence},
};

/// Number and name of every category, as the data set has them.
const CATEGORIES: [(i32, &str); 5] = [(1, "player"), (2, "goalkeeper"), (3, "referee"), (4, "ball"), (7, "other")];

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Truth,
    Results,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    #[serde(default)]
    info: FileInfo,
    #[serde(default)]
    images: Vec<Image>,
    #[serde(default)]
    categories: Vec<Category>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<Vec<Annotation>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    predictions: Option<Vec<Annotation>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct FileInfo {
    #[serde(default)]
    name: String,
    #[serde(default)]
    frame_rate: f64,
    #[serde(default)]
    seq_length: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Image {
    image_id: String,
    #[serde(default)]
    file_name: String,
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
    /// Only labelled pictures are scored.
    #[serde(default = "yes")]
    is_labeled: bool,
    #[serde(default = "yes")]
    has_labeled_person: bool,
    #[serde(default = "yes")]
    has_labeled_pitch: bool,
    #[serde(default = "yes")]
    has_labeled_camera: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, Deserialize)]
struct Category {
    id: i32,
    name: String,
    supercategory: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Annotation {
    id: String,
    image_id: String,
    #[serde(default)]
    track_id: Option<i64>,
    supercategory: String,
    category_id: i32,
    #[serde(default)]
    attributes: Option<Described>,
    #[serde(default)]
    bbox_image: Option<BoxImage>,
    #[serde(default)]
    bbox_pitch: Option<BoxPitch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confidence: Option<f64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Described {
    role: Option<String>,
    /// As text in the data set.
    jersey: Option<Jersey>,
    team: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Jersey {
    Text(String),
    Number(u32),
}

#[derive(Debug, Serialize, Deserialize)]
struct BoxImage {
    x: f64,
    y: f64,
    #[serde(default)]
    x_center: f64,
    #[serde(default)]
    y_center: f64,
    w: f64,
    h: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct BoxPitch {
    x_bottom_left: f64,
    y_bottom_left: f64,
    x_bottom_right: f64,
    y_bottom_right: f64,
    x_bottom_middle: f64,
    y_bottom_middle: f64,
}

/// Reads ground truth or results. What is not a person or a ball (pitch lines, camera) is left aside; pictures that are
/// not wholly labelled are left out, with everything in them.
///
/// # Errors
/// JSON of another shape, or a picture id that is not one.
pub fn read(input: impl Read) -> Result<Sequence, FormatError> {
    let file: File = serde_json::from_reader(input)?;
    let mut sequence = Sequence::new();
    sequence.info.name = file.info.name;
    sequence.info.fps = file.info.frame_rate;
    sequence.info.frames = file.info.seq_length;
    let mut unlabelled = Vec::new();
    for image in &file.images {
        let frame = frame_of(&image.image_id)?;
        (sequence.info.width, sequence.info.height) = (image.width, image.height);
        if image.has_labeled_person && image.has_labeled_pitch && image.has_labeled_camera {
            sequence.frames.entry(frame).or_default();
        } else {
            unlabelled.push(frame);
        }
    }
    unlabelled.sort_unstable();
    sequence.classes = file.categories.into_iter().map(|c| (c.id, Arc::from(c.name))).collect();
    for annotation in file.annotations.into_iter().chain(file.predictions).flatten() {
        let frame = frame_of(&annotation.image_id)?;
        if annotation.supercategory != "object" || unlabelled.binary_search(&frame).is_ok() {
            continue;
        }
        let object = object(annotation, &mut sequence)?;
        sequence.push(frame, object);
    }
    Ok(sequence)
}

fn object(annotation: Annotation, sequence: &mut Sequence) -> Result<Object, FormatError> {
    let text = |text: Option<String>| text.filter(|text| !text.is_empty()).map(Arc::from);
    let described = annotation.attributes.unwrap_or_default();
    let number = match described.jersey {
        None => None,
        Some(Jersey::Number(number)) => Some(number),
        Some(Jersey::Text(text)) if text.is_empty() => None,
        Some(Jersey::Text(text)) => Some(text.parse().map_err(|_| FormatError::Field {
            what: format!("annotation `{}`", annotation.id),
            field: "attributes.jersey",
            text,
            expected: "a number",
        })?),
    };
    let attributes = Attributes { name: None, role: text(described.role), team: text(described.team), number };
    let pitch = annotation.bbox_pitch;
    let base = pitch.as_ref().map(|p| [p.x_bottom_left, p.y_bottom_left, p.x_bottom_right, p.y_bottom_right]);
    Ok(Object {
        id: annotation.track_id,
        bounds: annotation.bbox_image.map(|b| Rect { x: b.x, y: b.y, w: b.w, h: b.h }),
        score: annotation.confidence.unwrap_or(1.0),
        class: Some(annotation.category_id),
        visibility: None,
        world: pitch.map(|p| [p.x_bottom_middle, p.y_bottom_middle, 0.0]),
        attributes: (attributes != Attributes::default()).then(|| sequence.describe(attributes)),
        extra: base.map(|base| Box::new(Extra { base: Some(base), ..Extra::default() })),
    })
}

/// The last six digits of a picture's id.
fn frame_of(id: &str) -> Result<u32, FormatError> {
    let digits = id.len().checked_sub(6).filter(|_| id.len() == 10).and_then(|at| id.get(at..));
    digits.and_then(|digits| digits.parse().ok()).filter(|frame| *frame > 0).ok_or_else(|| FormatError::Field {
        what: "a picture".to_owned(),
        field: "image_id",
        text: id.to_owned(),
        expected: "ten digits: split, sequence (3), frame from 1 (6)",
    })
}

/// Writes every object that has a place on the pitch; the evaluator takes no others. `split` is 1 to 4 (train, valid,
/// test, challenge), `number` the sequence's, 0 to 999. Names `left` and `right` for teams are the caller's business.
///
/// # Errors
/// When the writer fails.
pub fn write(
    sequence: &Sequence,
    kind: Kind,
    (split, number): (u8, u16),
    output: impl Write,
) -> Result<usize, FormatError> {
    let image_id = |frame: u32| format!("{split}{number:03}{frame:06}");
    let last = sequence.frames.keys().next_back().copied().unwrap_or(0).max(sequence.info.frames);
    let images = (1..=last)
        .map(|frame| Image {
            image_id: image_id(frame),
            file_name: format!("{frame:06}.jpg"),
            width: sequence.info.width,
            height: sequence.info.height,
            is_labeled: true,
            has_labeled_person: true,
            has_labeled_pitch: true,
            has_labeled_camera: true,
        })
        .collect();
    let mut all = Vec::new();
    for (frame, object) in sequence.objects() {
        let Some([x, y, _]) = object.world else { continue };
        let known = sequence.attributes_of(object).cloned().unwrap_or_default();
        let base = object.extra.as_ref().and_then(|extra| extra.base).unwrap_or([x, y, x, y]);
        let owned = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        all.push(Annotation {
            id: format!("{split}{number:03}{:06}", all.len() + 1),
            image_id: image_id(frame),
            track_id: object.id,
            supercategory: "object".to_owned(),
            category_id: object.class.unwrap_or_else(|| category(known.role.as_deref())),
            attributes: Some(Described {
                role: owned(&known.role),
                jersey: known.number.map(|number| Jersey::Text(number.to_string())),
                team: owned(&known.team),
            }),
            bbox_image: object.bounds.map(|Rect { x, y, w, h }| BoxImage {
                x,
                y,
                x_center: x + w / 2.0,
                y_center: y + h / 2.0,
                w,
                h,
            }),
            bbox_pitch: Some(BoxPitch {
                x_bottom_left: base[0],
                y_bottom_left: base[1],
                x_bottom_right: base[2],
                y_bottom_right: base[3],
                x_bottom_middle: x,
                y_bottom_middle: y,
            }),
            confidence: (kind == Kind::Results).then_some(object.score),
        });
    }
    let written = all.len();
    let names: BTreeMap<i32, String> = match sequence.classes.is_empty() {
        true => CATEGORIES.iter().map(|&(id, name)| (id, name.to_owned())).collect(),
        false => sequence.classes.iter().map(|(&id, name)| (id, name.to_string())).collect(),
    };
    let category = |(id, name)| Category { id, name, supercategory: "object".to_owned() };
    let (annotations, predictions) = match kind {
        Kind::Truth => (Some(all), None),
        Kind::Results => (None, Some(all)),
    };
    let info = &sequence.info;
    let file = File {
        info: FileInfo { name: info.name.clone(), frame_rate: info.fps, seq_length: last },
        images,
        categories: names.into_iter().map(category).collect(),
        annotations,
        predictions,
    };
    serde_json::to_writer(output, &file)?;
    Ok(written)
}

/// The category of a role.
#[must_use]
pub fn category(role: Option<&str>) -> i32 {
    CATEGORIES.iter().find(|(_, name)| Some(*name) == role).map_or(7, |&(id, _)| id)
}
