//! What all formats are read into: the objects of one recording, frame by frame.

use std::{collections::BTreeMap, sync::Arc};

use crate::rect::Rect;

/// One object of one frame: something detected, something tracked, or something that is really there.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Who it is over the frames; `None` for a plain detection.
    pub id: Option<i64>,
    /// `None` where a format knows places on the pitch only.
    pub bounds: Option<Rect>,
    /// Confidence of a detection; in ground truth 0 marks what does not count.
    pub score: f64,
    /// Class number of the format's own list.
    pub class: Option<i32>,
    /// Share that can be seen, 0 to 1.
    pub visibility: Option<f64>,
    /// Place in metres. On a pitch: from the centre spot along the touchline, across, up.
    pub world: Option<[f64; 3]>,
    /// What [`Sequence::describe`] gave for its person.
    pub attributes: Option<u32>,
    /// What few objects have.
    pub extra: Option<Box<Extra>>,
}

/// What only some formats say of an object.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Extra {
    /// Left and right end of the box's lower edge on the pitch: x, y, x, y in metres.
    pub base: Option<[f64; 4]>,
    /// Square pixels, where it is not the box's.
    pub area: Option<f64>,
    /// A crowd, not one object.
    pub crowd: bool,
}

impl Object {
    /// A plain box.
    #[must_use]
    pub fn new(id: Option<i64>, bounds: Rect, score: f64) -> Self {
        Self {
            id,
            bounds: Some(bounds),
            score,
            class: None,
            visibility: None,
            world: None,
            attributes: None,
            extra: None,
        }
    }
}

/// What is known of a person. `None` is "unknown", which is an answer, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attributes {
    /// Its name in the format, where that is not the number of its identity.
    pub name: Option<Arc<str>>,
    pub role: Option<Arc<str>>,
    pub team: Option<Arc<str>>,
    pub number: Option<u32>,
}

/// What a format says of the recording itself; empty or 0 where it does not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Info {
    pub name: String,
    pub width: u32,
    pub height: u32,
    pub fps: f64,
    /// Length of the recording.
    pub frames: u32,
    /// Ground truth whose uncounted objects (confidence 0) may be found or not.
    pub lenient: bool,
}

/// The objects of one recording by frame, in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sequence {
    pub info: Info,
    /// By frame number from 1. Frames without objects may be missing.
    pub frames: BTreeMap<u32, Vec<Object>>,
    /// Names of classes by number.
    pub classes: BTreeMap<i32, Arc<str>>,
    /// Frames at which the picture changes to another view.
    pub cuts: Vec<u32>,
    people: BTreeMap<Attributes, u32>,
    attributes: Vec<Attributes>,
}

impl Sequence {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, frame: u32, object: Object) {
        self.frames.entry(frame).or_default().push(object);
    }

    /// Objects of a frame, none where the frame is missing.
    #[must_use]
    pub fn frame(&self, frame: u32) -> &[Object] {
        self.frames.get(&frame).map_or(&[], Vec::as_slice)
    }

    /// Every object with its frame, in order.
    pub fn objects(&self) -> impl Iterator<Item = (u32, &Object)> {
        self.frames.iter().flat_map(|(&frame, objects)| objects.iter().map(move |object| (frame, object)))
    }

    /// Objects of all frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.values().map(Vec::len).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.values().all(Vec::is_empty)
    }

    /// The index of these attributes, for [`Object::attributes`]; each is kept once.
    pub fn describe(&mut self, attributes: Attributes) -> u32 {
        let next = self.attributes.len() as u32;
        let index = *self.people.entry(attributes.clone()).or_insert(next);
        if index == next {
            self.attributes.push(attributes);
        }
        index
    }

    /// What is known of this object's person.
    #[must_use]
    pub fn attributes_of(&self, object: &Object) -> Option<&Attributes> {
        object.attributes.and_then(|index| self.attributes_at(index))
    }

    /// What [`Self::describe`] was given.
    #[must_use]
    pub fn attributes_at(&self, index: u32) -> Option<&Attributes> {
        self.attributes.get(index as usize)
    }

    /// Whether anything is known of anybody.
    #[must_use]
    pub fn has_attributes(&self) -> bool {
        !self.attributes.is_empty()
    }

    /// The same with only some of its objects; no frame is lost.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&Object) -> bool) -> Self {
        let kept = |objects: &Vec<Object>| objects.iter().filter(|object| keep(object)).cloned().collect();
        Self {
            info: self.info.clone(),
            frames: self.frames.iter().map(|(&frame, objects)| (frame, kept(objects))).collect(),
            classes: self.classes.clone(),
            cuts: self.cuts.clone(),
            people: self.people.clone(),
            attributes: self.attributes.clone(),
        }
    }
}
