//! What people look like: for every box of a person its kit's colours, an embedding of its picture, and the chances of
//! the number on its shirt. The lane gives pictures with their detections, as many as it likes before it asks for the
//! results; what is said of a person depends on picture and box alone.

use fulltime_backend::{OPEN, Output};
use fulltime_backend_sim::{SimModel, SimOptions};
use fulltime_common::{
    Digest,
    pipeline::{Channels, Describe, DescribeSettings, Layout, Manifest, ModelInput, ModelOutput, PEOPLE, Resize},
};

use crate::{
    boxes::Detection,
    error::VisionError,
    geometry::{Crop, Placed},
    kit::kit,
    network::{EngineKind, Network},
    numbers::Alphabet,
    picture::PictureView,
    preprocess::{Scratch, prepare},
    validate,
};

/// Batch sizes that a warm-up tries. People are small: a large batch costs little memory.
const FEW: usize = 32;

/// What is said of one person. The columns of the shard's table have the same meaning.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Position among the frame's detections.
    pub detection: u16,
    /// Embedding of unit length, times 127, each number an `i8`; `None` without an embedder.
    pub look: Option<Vec<u8>>,
    /// Colours of torso and legs in 255ths.
    pub kit: [u8; 24],
    /// Pairs of number and chance in 255ths; `None` where nothing was read.
    pub numbers: Option<Vec<u8>>,
    pub sharpness: f32,
}

/// The models of a description, warmed up. Owned by one thread.
#[derive(Debug)]
pub struct Describer {
    settings: DescribeSettings,
    /// By the detector's class.
    people: Vec<bool>,
    embedder: Option<Crops>,
    reader: Option<(Crops, Alphabet)>,
    sharpness: Sharpness,
    /// Whose crops wait for the models, with the frame each is in.
    waiting: Vec<(u32, Description)>,
}

impl Describer {
    /// Opens and warms up the models; `file` gives the bytes of each by sha256 and is not asked by the sim engine.
    /// `classes` are the detector's.
    ///
    /// # Errors
    /// When settings, manifests, models and runtime do not fit together, or whatever `file` fails with.
    pub fn load<E: From<VisionError>>(
        engine: &EngineKind,
        describe: &Describe,
        classes: &[String],
        mut file: impl FnMut(&Digest) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        validate::describe(describe, classes)?;
        let (people, settings) = (people(&describe.settings, classes), describe.settings.clone());
        let mut open = |manifest: &Manifest, output, sim| -> Result<Crops, E> {
            let files = engine.files(manifest)?.iter().map(&mut file).collect::<Result<Vec<_>, E>>()?;
            Ok(Crops::load(engine, &files, manifest, output, sim)?)
        };
        let (mut embedder, mut reader) = (None, None);
        if let Some(manifest) = &describe.embedder
            && let ModelOutput::Embedding { name } = &manifest.output
        {
            let output = Output { name: name.clone(), item: vec![OPEN] };
            embedder = Some(open(manifest, output, SimModel::Embedder)?);
        }
        if let Some(manifest) = &describe.numbers
            && let ModelOutput::Ctc { name, alphabet, blank } = &manifest.output
            && let Some(alphabet) = Alphabet::new(alphabet, *blank)
        {
            let output = Output { name: name.clone(), item: vec![OPEN, alphabet.columns()] };
            reader = Some((open(manifest, output, SimModel::Reader)?, alphabet));
        }
        let (sharpness, waiting) = (Sharpness::default(), Vec::new());
        Ok(Self { settings, people, embedder, reader, sharpness, waiting })
    }

    /// Looks at the people among a frame's detections, in their order; what the models say follows in `finish`.
    /// Afterwards the picture is not needed any more. Returns how many people wait.
    ///
    /// # Errors
    /// When the view's planes do not fit its size.
    pub fn add(&mut self, frame: u32, view: &PictureView, detections: &[Detection]) -> Result<usize, VisionError> {
        view.check()?;
        for (position, found) in (0_u16..).zip(detections) {
            if !self.is_described(found) {
                continue;
            }
            if let Some(embedder) = &mut self.embedder {
                embedder.cut(view, within(view, found, [0.0, 0.0, 1.0, 1.0]));
            }
            let place = within(view, found, self.settings.number_region);
            let sharpness = self.sharpness.of(view, place);
            let mut numbers = None;
            if let Some((reader, _)) = &mut self.reader
                && legible(&self.settings, found, sharpness)
            {
                reader.cut(view, place);
                numbers = Some(Vec::new());
            }
            let kit = kit(view, [found.x, found.y, found.w, found.h]);
            self.waiting.push((frame, Description { detection: position, look: None, kit, numbers, sharpness }));
        }
        Ok(self.waiting.len())
    }

    /// How many people are worth waiting for before `finish`: more gain nothing. Has no influence on any result.
    #[must_use]
    pub fn preferred_batch(&self) -> usize {
        let networks = self.embedder.iter().chain(self.reader.iter().map(|(reader, _)| reader));
        networks.map(|crops| crops.network.warm().preferred).max().unwrap_or(1)
    }

    /// What there is to say about everybody who waits, with the frame, in the order in which they came.
    ///
    /// # Errors
    /// Whatever the engine fails with.
    pub fn finish(&mut self) -> Result<Vec<(u32, Description)>, VisionError> {
        let mut all = std::mem::take(&mut self.waiting);
        if let Some(embedder) = &mut self.embedder {
            let answers = embedder.infer()?;
            for ((_, person), answer) in all.iter_mut().zip(answers) {
                person.look = quantised(answer);
            }
        }
        if let Some((reader, alphabet)) = &mut self.reader {
            let mut answers = reader.infer()?;
            for numbers in all.iter_mut().filter_map(|(_, person)| person.numbers.as_mut()) {
                *numbers = alphabet.packed(answers.next().unwrap_or_default());
            }
        }
        Ok(all)
    }

    fn is_described(&self, found: &Detection) -> bool {
        let person = self.people.get(usize::from(found.class)).is_some_and(|&is| is);
        person && found.score >= self.settings.min_score && found.h >= self.settings.min_height
    }
}

/// Which of the detector's classes are people.
fn people(settings: &DescribeSettings, classes: &[String]) -> Vec<bool> {
    let named = |class: &String| match settings.classes.is_empty() {
        true => PEOPLE.contains(&class.as_str()),
        false => settings.classes.contains(class),
    };
    classes.iter().map(named).collect()
}

/// Whether a number could be read: by size, by pose (who lies or slides shows none), by blur.
fn legible(settings: &DescribeSettings, found: &Detection, sharpness: f32) -> bool {
    found.h >= settings.number_min_height
        && found.w <= found.h * settings.number_max_aspect
        && sharpness >= settings.number_min_sharpness
}

/// The whole pixels nearest to a part of the box (left, top, right, bottom as shares of its sides), at least one.
pub fn within(view: &PictureView, found: &Detection, [left, top, right, bottom]: [f32; 4]) -> Crop {
    let span = |start: f32, length: f32, from: f32, to: f32, limit: u32| {
        let pixel = |share: f32| (start + length * share).round_ties_even().max(0.0) as u32;
        let first = pixel(from).min(limit - 1);
        (first, pixel(to).clamp(first + 1, limit) - first)
    };
    let (x, width) = span(found.x, found.w, left, right, view.width);
    let (y, height) = span(found.y, found.h, top, bottom, view.height);
    Crop { x, y, width, height }
}

/// Each number times 127 in units of the vector's length, rounded to an `i8`; `None` of a vector without direction.
fn quantised(vector: &[f32]) -> Option<Vec<u8>> {
    let squares: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let scale = 127.0 / squares.sqrt();
    scale.is_finite().then(|| vector.iter().map(|&value| (f64::from(value) * scale).round() as i8 as u8).collect())
}

/// A model that sees one person at a time, and the crops that wait for it.
#[derive(Debug)]
struct Crops {
    network: Network,
    input: ModelInput,
    item: usize,
    scratch: Scratch,
    tensor: Vec<f32>,
    used: usize,
    output: Vec<f32>,
}

impl Crops {
    fn load(
        engine: &EngineKind,
        files: &[Vec<u8>],
        manifest: &Manifest,
        output: Output,
        sim: SimModel,
    ) -> Result<Self, VisionError> {
        // Scripted faults and latencies are the detector's: one fault is one fault.
        let engine = match engine {
            EngineKind::Onnx { .. } | EngineKind::Torch(_) => engine.clone(),
            EngineKind::Sim(_) => EngineKind::Sim(SimOptions::default()),
        };
        let input = manifest.input.clone();
        let network = Network::load(&engine, files, manifest, input.size, vec![output], FEW, sim)?;
        let item = network.contract().input_len();
        Ok(Self { network, input, item, scratch: Scratch::default(), tensor: Vec::new(), used: 0, output: Vec::new() })
    }

    fn cut(&mut self, view: &PictureView, crop: Crop) {
        let end = self.used + self.item;
        if self.tensor.len() < end {
            self.tensor.resize(end, 0.0);
        }
        let placed = Placed::new(crop, self.input.resize, self.input.size, [false; 4]);
        let item = &mut self.tensor[self.used..end];
        prepare(view, &placed, &self.input, self.input.size, &mut self.scratch, item);
        self.used = end;
    }

    /// The answers to all crops that wait, in order.
    fn infer(&mut self) -> Result<impl Iterator<Item = &[f32]>, VisionError> {
        let crops = &self.tensor[..std::mem::take(&mut self.used)];
        self.network.infer(crops, &mut self.output)?;
        Ok(self.output.chunks_exact(self.network.contract().output_len().max(1)))
    }
}

/// Measures how sharp a part of a picture is.
#[derive(Debug, Clone)]
struct Sharpness {
    input: ModelInput,
    scratch: Scratch,
    pixels: Vec<f32>,
}

/// Columns and rows that any place is brought to first: what is as sharp as its few pixels allow is still not legible.
const LOOK: [u32; 2] = [32, 24];

impl Default for Sharpness {
    fn default() -> Self {
        let input = ModelInput {
            name: None,
            layout: Layout::Nchw,
            channels: Channels::Rgb,
            size: LOOK,
            resize: Resize::Stretch,
            pad: 0,
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        Self { input, scratch: Scratch::default(), pixels: vec![0.0; 3 * (LOOK[0] * LOOK[1]) as usize] }
    }
}

impl Sharpness {
    /// Mean of the absolute Laplacian of the green channel, 0 to 255 (Pech-Pacheco et al., Diatom autofocusing in
    /// brightfield microscopy, 2000, take its variance).
    fn of(&mut self, view: &PictureView, crop: Crop) -> f32 {
        let placed = Placed::new(crop, Resize::Stretch, LOOK, [false; 4]);
        prepare(view, &placed, &self.input, LOOK, &mut self.scratch, &mut self.pixels);
        let [width, height] = LOOK.map(|side| side as usize);
        let green = &self.pixels[width * height..2 * width * height];
        let mut sum = 0.0;
        for y in 1..height - 1 {
            for x in 1..width - 1 {
                let at = |x: usize, y: usize| green[y * width + x];
                let around = at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1);
                sum += (4.0 * at(x, y) - around).abs();
            }
        }
        sum / ((width - 2) * (height - 2)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantised_look_keeps_its_direction() {
        let vector: Vec<f32> = (0..128_i32).map(|i| ((i * 37) % 101 - 50) as f32 * 0.3).collect();
        let look = quantised(&vector).unwrap();
        let kept: Vec<f64> = look.iter().map(|&byte| f64::from(byte as i8)).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let vector: Vec<f64> = vector.iter().map(|&value| f64::from(value)).collect();
        let cosine = dot(&vector, &kept) / (dot(&vector, &vector) * dot(&kept, &kept)).sqrt();
        assert!(cosine > 0.999, "{cosine}");
        assert_eq!(quantised(&[0.0, -3.0]), Some(vec![0, -127_i8 as u8]));
        assert_eq!((quantised(&[0.0, 0.0]), quantised(&[f32::NAN, 1.0])), (None, None));
    }

    #[test]
    fn people_are_the_classes_named_so_or_those_that_are_asked_for() {
        let classes = ["ball", "referee", "horse"].map(str::to_owned);
        let mut settings = DescribeSettings::default();
        assert_eq!(people(&settings, &classes), [false, true, false]);
        settings.classes = vec!["horse".into()];
        assert_eq!(people(&settings, &classes), [false, false, true]);
    }
}
