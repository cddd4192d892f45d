//! The detector in three parts that a lane may put on different threads: a [`Preparer`] (pictures to tensors), the
//! [`Detector`] itself (tensors to outputs, owns the engine) and a [`Reader`] (outputs to detections).

use std::path::PathBuf;

use fulltime_backend::{Backend, BackendError, Contract, Probe, Warm};
use fulltime_backend_onnx::{OnnxBackend, Runtime};
use fulltime_backend_sim::{SimBackend, SimOptions};
use fulltime_common::{
    Digest,
    pipeline::{Detect, DetectSettings, Layout, ModelInput, ModelOutput},
};

use crate::{
    boxes::{Detection, merge, suppress},
    error::VisionError,
    geometry::{FramePlan, Placed},
    head::{Head, Raw},
    picture::PictureView,
    preprocess::{self, Scratch},
    validate::validate,
};

/// Batch sizes that a warm-up tries.
const CANDIDATES: [usize; 4] = [1, 2, 4, 8];

/// What runs the model.
#[derive(Debug, Clone, PartialEq)]
pub enum EngineKind {
    /// ONNX Runtime on the CPU, loaded from this library.
    Onnx { library: PathBuf },
    /// The virtual device; it needs no model file.
    Sim(SimOptions),
}

impl EngineKind {
    /// Everything about this engine on this machine that can change bits; known before any model.
    ///
    /// # Errors
    /// When the runtime library cannot be loaded.
    pub fn engine_class(&self) -> Result<String, VisionError> {
        match self {
            Self::Onnx { library } => fulltime_backend_onnx::engine_class(library).map_err(VisionError::Runtime),
            Self::Sim(_) => Ok(fulltime_backend_sim::engine_class()),
        }
    }
}

/// A model in an engine, warmed up. Owned by one thread.
pub struct Detector {
    backend: Box<dyn Backend>,
    warm: Warm,
    model: String,
    preparer: Preparer,
    reader: Reader,
    /// A batch's output, or a padded batch's input, when it is not the caller's buffer itself.
    part: Vec<f32>,
    padded: Vec<f32>,
}

impl Detector {
    /// Opens the model, checks its bytes against the manifest's sha256 and its tensors against the manifest's shapes, and
    /// warms it up. `model` is not looked at by the sim engine.
    ///
    /// # Errors
    /// When settings, manifest, model and runtime do not fit together; the error says which and how.
    pub fn load(engine: &EngineKind, model: &[u8], detect: &Detect) -> Result<Self, VisionError> {
        validate(detect)?;
        let manifest = &detect.model;
        let preparer = Preparer::new(detect);
        let reader = Reader { head: Head::new(detect, preparer.size), nms_iou: detect.settings.nms_iou };
        let output = match &manifest.output {
            ModelOutput::Yolox { name, .. } | ModelOutput::Embedding { name } | ModelOutput::Ctc { name, .. } => name,
        };
        let [width, height] = preparer.size.map(|side| side as usize);
        let contract = Contract {
            input: manifest.input.name.clone(),
            input_item: match manifest.input.layout {
                Layout::Nchw => vec![3, height, width],
                Layout::Nhwc => vec![height, width, 3],
            },
            output: output.clone(),
            output_item: reader.head.shape().to_vec(),
        };
        let failed = |source: BackendError| VisionError::Engine { model: manifest.name.clone(), source };
        let mut backend: Box<dyn Backend> = match engine {
            EngineKind::Onnx { library } => {
                let found = Digest::of_bytes(model);
                if found != manifest.file.sha256 {
                    let expected = manifest.file.sha256;
                    return Err(VisionError::Digest { model: manifest.name.clone(), expected, found });
                }
                let runtime = Runtime::load(library).map_err(VisionError::Runtime)?;
                Box::new(OnnxBackend::open(&runtime, model, contract).map_err(failed)?)
            }
            EngineKind::Sim(options) => Box::new(SimBackend::open(options.clone(), contract)),
        };
        let warm = backend.warm_up(&probe(&manifest.input), &CANDIDATES).map_err(failed)?;
        let model = manifest.name.clone();
        Ok(Self { backend, warm, model, preparer, reader, part: Vec::new(), padded: Vec::new() })
    }

    #[must_use]
    pub fn engine_class(&self) -> &str {
        &self.backend.describe().engine
    }

    /// How many items (crops) one run of the engine takes best. Collecting more than that before calling `infer` gains
    /// nothing; the number has no influence on any result.
    #[must_use]
    pub fn preferred_batch(&self) -> usize {
        self.warm.preferred
    }

    /// Batch sizes that warm-up has shown to be bit-equal.
    #[must_use]
    pub fn batch_sizes(&self) -> &[usize] {
        &self.warm.sizes
    }

    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        self.backend.memory_bytes()
    }

    /// A preparer of its own for each thread that prepares pictures.
    #[must_use]
    pub fn preparer(&self) -> Preparer {
        self.preparer.clone()
    }

    /// A reader for the thread that reads outputs.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Runs any number of items (the crops of one or of many frames, one after another) and replaces `output` by their
    /// results in the same order. Splits into batches that are known to be bit-equal; falls back to smaller ones when
    /// memory runs out.
    ///
    /// # Errors
    /// When `input` is not a whole number of items, and whatever the engine fails with.
    pub fn infer(&mut self, input: &[f32], output: &mut Vec<f32>) -> Result<(), VisionError> {
        let contract = &self.backend.describe().contract;
        let (item, answer) = (contract.input_len(), contract.output_len());
        let items = input.len() / item;
        if items * item != input.len() {
            return Err(VisionError::Tensor { expected: (items + 1) * item, found: input.len() });
        }
        output.clear();
        let mut done = 0;
        while done < items {
            let left = items - done;
            let batch = self.batch_for(left);
            let real = batch.min(left);
            let mut feed = &input[done * item..(done + real) * item];
            if real < batch {
                self.padded.clear();
                self.padded.extend_from_slice(feed);
                self.padded.resize(batch * item, 0.0);
                feed = &self.padded;
            }
            let whole = batch == items;
            let target = if whole { &mut *output } else { &mut self.part };
            match self.backend.run(feed, batch, target) {
                Ok(()) => {}
                Err(BackendError::OutOfMemory { .. }) if batch > self.warm.sizes[0] => {
                    self.warm.sizes.retain(|&size| size < batch);
                    self.warm.preferred = self.warm.preferred.min(*self.warm.sizes.last().unwrap_or(&1));
                    continue;
                }
                Err(source) => return Err(VisionError::Engine { model: self.model.clone(), source }),
            }
            if !whole {
                output.extend_from_slice(&self.part[..real * answer]);
            }
            done += real;
        }
        Ok(())
    }

    fn batch_for(&self, left: usize) -> usize {
        let limit = left.min(self.warm.preferred);
        let sizes = &self.warm.sizes;
        sizes.iter().rev().find(|&&size| size <= limit).or(sizes.first()).copied().unwrap_or(1)
    }
}

impl std::fmt::Debug for Detector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let engine = self.engine_class();
        f.debug_struct("Detector")
            .field("model", &self.model)
            .field("engine", &engine)
            .field("warm", &self.warm)
            .finish()
    }
}

/// Turns pictures into network input. Holds buffers: one for each thread.
#[derive(Debug, Clone)]
pub struct Preparer {
    input: ModelInput,
    settings: DetectSettings,
    size: [u32; 2],
    scratch: Scratch,
}

impl Preparer {
    fn new(detect: &Detect) -> Self {
        let size = detect.settings.input_size.unwrap_or(detect.model.input.size);
        let (input, settings) = (detect.model.input.clone(), detect.settings.clone());
        Self { input, settings, size, scratch: Scratch::default() }
    }

    /// Where to look in pictures of this size. Made once per recording.
    ///
    /// # Errors
    /// When the size is zero or beyond what a decoder gives.
    pub fn plan(&self, width: u32, height: u32) -> Result<FramePlan, VisionError> {
        if width == 0 || height == 0 || width.max(height) > 1 << 16 {
            return Err(VisionError::Size { width, height });
        }
        Ok(FramePlan::new(&self.settings, self.input.resize, self.size, width, height))
    }

    /// Values in one item of a batch.
    #[must_use]
    pub fn item_len(&self) -> usize {
        3 * self.size[0] as usize * self.size[1] as usize
    }

    /// Values that `prepare` writes for one frame: an item for each crop.
    #[must_use]
    pub fn frame_len(&self, plan: &FramePlan) -> usize {
        plan.crops.len() * self.item_len()
    }

    /// Writes the crops of one frame, in the plan's order, into `tensor`, which is `frame_len` long. Allocates nothing
    /// after the first frame.
    ///
    /// # Errors
    /// When picture, plan and tensor do not fit each other.
    pub fn prepare(&mut self, plan: &FramePlan, view: &PictureView, tensor: &mut [f32]) -> Result<(), VisionError> {
        let (width, height) = (plan.width, plan.height);
        if (view.width, view.height) != (width, height) {
            let (found_width, found_height) = (view.width, view.height);
            return Err(VisionError::OtherSize { width, height, found_width, found_height });
        }
        view.check()?;
        if tensor.len() != self.frame_len(plan) {
            return Err(VisionError::Tensor { expected: self.frame_len(plan), found: tensor.len() });
        }
        for (placed, item) in plan.crops.iter().zip(tensor.chunks_exact_mut(self.item_len())) {
            preprocess::prepare(view, placed, &self.input, self.size, &mut self.scratch, item);
        }
        Ok(())
    }
}

/// Turns the engine's outputs into detections.
#[derive(Debug, Clone)]
pub struct Reader {
    head: Head,
    nms_iou: f32,
}

impl Reader {
    /// Values that the engine gives for one frame.
    #[must_use]
    pub fn frame_len(&self, plan: &FramePlan) -> usize {
        plan.crops.len() * self.item_len()
    }

    fn item_len(&self) -> usize {
        self.head.shape().iter().product()
    }

    /// The detections of one frame, best first (score, then class, then position: a total order).
    ///
    /// # Errors
    /// When `outputs` is not `frame_len` long.
    pub fn finish(&self, plan: &FramePlan, outputs: &[f32]) -> Result<Vec<Detection>, VisionError> {
        if outputs.len() != self.frame_len(plan) {
            return Err(VisionError::Tensor { expected: self.frame_len(plan), found: outputs.len() });
        }
        let mut crops: Vec<Vec<Detection>> = Vec::with_capacity(plan.crops.len());
        for (placed, item) in plan.crops.iter().zip(outputs.chunks_exact(self.item_len())) {
            let mut boxes = Vec::new();
            self.head.decode(item, |raw| boxes.extend(to_picture(placed, &raw).clipped(plan.width, plan.height)));
            suppress(&mut boxes, self.nms_iou);
            crops.push(boxes);
        }
        let mut boxes = match &mut crops[..] {
            [only] => std::mem::take(only),
            _ => merge(plan, &crops, self.nms_iou),
        };
        boxes.retain(|b| plan.in_region(f64::from(b.x) + f64::from(b.w) / 2.0, f64::from(b.y) + f64::from(b.h)));
        boxes.sort_unstable_by(Detection::order);
        Ok(boxes)
    }
}

fn to_picture(placed: &Placed, raw: &Raw) -> Detection {
    let [across, down] = placed.scale();
    let (w, h) = (raw.size[0] * across, raw.size[1] * down);
    Detection {
        class: raw.class,
        score: raw.score,
        x: placed.crop.x as f32 + (raw.centre[0] - placed.left as f32) * across - w / 2.0,
        y: placed.crop.y as f32 + (raw.centre[1] - placed.top as f32) * down - h / 2.0,
        w,
        h,
    }
}

fn probe(input: &ModelInput) -> Probe {
    let values = |pixel: f32| (0..3).map(move |c| (pixel * input.scale - input.mean[c]) / input.std[c]);
    let both = || values(0.0).chain(values(255.0));
    Probe { low: both().fold(f32::INFINITY, f32::min), high: both().fold(f32::NEG_INFINITY, f32::max) }
}
