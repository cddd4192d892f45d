//! The detector in three parts that a lane may put on different threads: a [`Preparer`] (pictures to tensors), the
//! [`Detector`] itself (tensors to outputs, owns the engine) and a [`Reader`] (outputs to detections).

use fulltime_backend_sim::SimModel;
use fulltime_common::pipeline::{self, Detect, DetectSettings, Ground, ModelInput};

use crate::{
    boxes::{Detection, merge, soften, suppress},
    error::VisionError,
    geometry::{FramePlan, Placed},
    head::{Head, Raw},
    network::{EngineKind, Network},
    picture::PictureView,
    pitch::{Region, pitch},
    preprocess::{self, Scratch},
    validate::validate,
};

/// The largest batch that a warm-up tries on a CPU.
const FEW: usize = 8;

/// A detector's model in an engine, warmed up. Owned by one thread.
#[derive(Debug)]
pub struct Detector {
    network: Network,
    preparer: Preparer,
    reader: Reader,
}

impl Detector {
    /// Opens the model, checks its bytes against the manifest's sha256 and its tensors against the manifest's shapes, and
    /// warms it up. `model` is not looked at by the sim engine.
    ///
    /// # Errors
    /// When settings, manifest, model and runtime do not fit together; the error says which and how.
    pub fn load(engine: &EngineKind, model: &[u8], detect: &Detect) -> Result<Self, VisionError> {
        Self::load_files(engine, &[model.to_vec()], detect)
    }

    /// The same for models of several files: those that [`EngineKind::files`] names.
    ///
    /// # Errors
    /// As [`Detector::load`].
    pub fn load_files(engine: &EngineKind, files: &[Vec<u8>], detect: &Detect) -> Result<Self, VisionError> {
        validate(detect)?;
        let manifest = &detect.model;
        let preparer = Preparer::new(detect);
        let mut head = Head::new(detect, preparer.size);
        let outputs = head.outputs().to_vec();
        let network = Network::load(engine, files, manifest, preparer.size, outputs, FEW, SimModel::Detector)?;
        head.settle(network.contract());
        let reader = Reader { head, settings: detect.settings.clone() };
        Ok(Self { network, preparer, reader })
    }

    #[must_use]
    pub fn engine_class(&self) -> &str {
        self.network.engine_class()
    }

    /// How many items (crops) one run of the engine takes best. Collecting more than that before calling `infer` gains
    /// nothing; the number has no influence on any result.
    #[must_use]
    pub fn preferred_batch(&self) -> usize {
        self.network.warm().preferred
    }

    /// Batch sizes that warm-up has shown to be bit-equal.
    #[must_use]
    pub fn batch_sizes(&self) -> &[usize] {
        &self.network.warm().sizes
    }

    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        self.network.memory_bytes()
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
        self.network.infer(input, output)
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

    /// Where the pitch is in this picture, if the settings have it found.
    ///
    /// # Errors
    /// When the view's planes do not fit its size.
    pub fn pitch(&self, view: &PictureView) -> Result<Option<Region>, VisionError> {
        view.check()?;
        Ok(match self.settings.region {
            pipeline::Region::Found(Ground::Grass) => Some(pitch(view)),
            pipeline::Region::Polygon(_) => None,
        })
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
    settings: DetectSettings,
}

impl Reader {
    /// Values that the engine gives for one frame.
    #[must_use]
    pub fn frame_len(&self, plan: &FramePlan) -> usize {
        plan.crops.len() * self.item_len()
    }

    fn item_len(&self) -> usize {
        self.head.item_len()
    }

    /// The detections of one frame, best first (score, then class, then position: a total order). `pitch` is what the
    /// frame's preparer has found.
    ///
    /// # Errors
    /// When `outputs` is not `frame_len` long.
    pub fn finish(
        &self,
        plan: &FramePlan,
        outputs: &[f32],
        pitch: Option<&Region>,
    ) -> Result<Vec<Detection>, VisionError> {
        if outputs.len() != self.frame_len(plan) {
            return Err(VisionError::Tensor { expected: self.frame_len(plan), found: outputs.len() });
        }
        let mut crops: Vec<Vec<Detection>> = Vec::with_capacity(plan.crops.len());
        for (placed, item) in plan.crops.iter().zip(outputs.chunks_exact(self.item_len())) {
            let mut boxes = Vec::new();
            self.head.decode(item, |raw| boxes.extend(to_picture(placed, &raw).clipped(plan.width, plan.height)));
            self.suppress(&mut boxes);
            crops.push(boxes);
        }
        let mut boxes = match &mut crops[..] {
            [only] => std::mem::take(only),
            _ => merge(plan, &crops, self.settings.nms_iou),
        };
        boxes.retain(|b| {
            let (x, y) = (f64::from(b.x) + f64::from(b.w) / 2.0, f64::from(b.y) + f64::from(b.h));
            plan.region.contains(x, y) && pitch.is_none_or(|pitch| pitch.contains(x, y))
        });
        boxes.sort_unstable_by(Detection::order);
        Ok(boxes)
    }
}

impl Reader {
    /// Within a crop, by the head's and the settings' way.
    fn suppress(&self, boxes: &mut Vec<Detection>) {
        let DetectSettings { nms_iou, soft_nms, score_threshold, .. } = &self.settings;
        match soft_nms {
            _ if !self.head.suppresses() => {}
            Some(soft) => soften(boxes, *soft, *nms_iou, *score_threshold),
            None => suppress(boxes, *nms_iou),
        }
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
