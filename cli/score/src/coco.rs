//! COCO detections: a data set (`images`, `annotations`, `categories`), or a bare list of results. A frame is the picture
//! of that id. Tracks are kept as `track_id`, which detection tools pass over.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    error::FormatError,
    rect::Rect,
    sequence::{Extra, Object, Sequence},
};

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum File {
    Results(Vec<Annotation>),
    Set(Set),
}

#[derive(Debug, Serialize, Deserialize)]
struct Set {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    categories: Vec<Category>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Image {
    id: u32,
    #[serde(default)]
    file_name: String,
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Category {
    id: i32,
    name: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Annotation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    image_id: u32,
    category_id: i32,
    bbox: [f64; 4],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    area: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iscrowd: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    track_id: Option<i64>,
}

/// Reads a data set or a list of results.
///
/// # Errors
/// JSON of another shape.
pub fn read(input: impl Read) -> Result<Sequence, FormatError> {
    let mut sequence = Sequence::new();
    let annotations = match serde_json::from_reader(input)? {
        File::Results(annotations) => annotations,
        File::Set(set) => {
            for image in set.images {
                (sequence.info.width, sequence.info.height) = (image.width, image.height);
                sequence.frames.entry(image.id).or_default();
            }
            sequence.classes = set.categories.into_iter().map(|c| (c.id, Arc::from(c.name))).collect();
            set.annotations
        }
    };
    for annotation in annotations {
        let [x, y, w, h] = annotation.bbox;
        let bounds = Rect { x, y, w, h };
        // An area that is the box's own but for the last digit says nothing new.
        let own = bounds.area();
        let area = annotation.area.filter(|area| (area - own).abs() > 1e-12 * own.abs());
        let extra = Extra { base: None, area, crowd: annotation.iscrowd == Some(1) };
        let object = Object {
            class: Some(annotation.category_id),
            extra: (extra != Extra::default()).then(|| Box::new(extra)),
            ..Object::new(annotation.track_id, bounds, annotation.score.unwrap_or(1.0))
        };
        sequence.push(annotation.image_id, object);
    }
    Ok(sequence)
}

fn annotations(sequence: &Sequence) -> impl Iterator<Item = Annotation> {
    sequence.objects().filter_map(|(frame, object)| {
        let Rect { x, y, w, h } = object.bounds?;
        let extra = object.extra.as_deref().copied().unwrap_or_default();
        Some(Annotation {
            id: None,
            image_id: frame,
            category_id: object.class.unwrap_or(1),
            bbox: [x, y, w, h],
            area: Some(extra.area.unwrap_or(w * h)),
            iscrowd: Some(u8::from(extra.crowd)),
            score: Some(object.score),
            track_id: object.id,
        })
    })
}

/// Writes a data set: every frame a picture (also those without objects), every object with a box an annotation.
///
/// # Errors
/// When the writer fails.
pub fn write(sequence: &Sequence, output: impl Write) -> Result<(), FormatError> {
    let (width, height) = (sequence.info.width, sequence.info.height);
    let image = |id: u32| Image { id, file_name: format!("{id:06}.jpg"), width, height };
    let listed = sequence.frames.keys().copied().filter(|frame| *frame > sequence.info.frames);
    let number = |(n, annotation)| Annotation { id: Some(n), ..annotation };
    let mut categories: BTreeMap<i32, String> =
        sequence.objects().map(|(_, o)| o.class.unwrap_or(1)).map(|class| (class, format!("class {class}"))).collect();
    categories.extend(sequence.classes.iter().map(|(&id, name)| (id, name.to_string())));
    let set = Set {
        images: (1..=sequence.info.frames).chain(listed).map(image).collect(),
        annotations: (1..).zip(annotations(sequence)).map(number).collect(),
        categories: categories.into_iter().map(|(id, name)| Category { id, name }).collect(),
    };
    serde_json::to_writer(output, &set)?;
    Ok(())
}

/// Writes the list of results that `loadRes` of `pycocotools` takes.
///
/// # Errors
/// When the writer fails.
pub fn write_results(sequence: &Sequence, output: impl Write) -> Result<(), FormatError> {
    let bare = |annotation| Annotation { area: None, iscrowd: None, ..annotation };
    serde_json::to_writer(output, &annotations(sequence).map(bare).collect::<Vec<_>>())?;
    Ok(())
}
