//! The second stage of a shard: evidence and network input of pictures. Pictures that equal one that is being inferred
//! already are not inferred again: their results are copied, which leaves no trace, since equal pictures have equal ones.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender},
    },
    time::Instant,
};

use fulltime_common::{Digest, index::RecordingIndex, pipeline::Pipeline};
use fulltime_media::Picture;
use fulltime_observe::{Meter, Worked};
use fulltime_tables::{
    corners::{Corner, pack},
    shard::FrameRow,
};
use fulltime_vision::{
    Corners, Detection, Detector, FramePlan, PictureView, Preparer, Region, luma_signature, preview_jpeg,
};

use super::{clock::Stage, decode::Decoded};
use crate::{
    error::TaskError,
    lanes::{picture::NoColour, seen::Seen},
};

/// Inferred pictures that the next ones are compared with: a frozen picture equals the last, a repeated field at times the
/// last but one.
pub const RECENT: usize = 2;
/// Frames of a batch at most, looked at or not.
const FRAMES: usize = 64;

/// Whole frames of one size, together about as many crops as the engine likes at once.
pub struct Batch {
    pub plan: Arc<FramePlan>,
    pub frames: Vec<Prepared>,
    /// The crops of all frames that are inferred, one after another; longer than `used` when it was used before.
    pub tensor: Vec<f32>,
    pub used: usize,
    /// Crops in it, and when its first picture was decoded.
    pub images: u64,
    pub since: Instant,
}

pub struct Prepared {
    pub evidence: FrameRow,
    pub look: Look,
    /// By which what the detector says of it is to be kept, if it is.
    pub name: Option<Digest>,
    /// Where the pitch was found, if it is looked for.
    pub pitch: Option<Region>,
    /// The picture, where people are to be described.
    pub described: Option<Arc<Picture>>,
}

/// What the detector does with a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// Sampled out (`every`).
    Away,
    /// It is among the batch's crops.
    Infer,
    /// It shows the same picture as this frame, which came before and was looked at.
    Like(u32),
    /// What the detector says of it is known from elsewhere.
    Known(Arc<Vec<Detection>>),
}

/// The stage.
pub struct Prepare {
    preparer: Preparer,
    batch: usize,
    every: u32,
    preview_stride: u32,
    preview_width: u32,
    describe_stride: u32,
    corners: Corners,
    recent: Option<Recent>,
    seen: Option<Seen>,
}

pub struct PrepareBusy {
    pub evidence: Worked,
    pub crops: Worked,
}

impl Prepare {
    /// `reuse`: whether equal pictures are inferred once. `seen`: what is known of others' pictures.
    pub fn new(
        detector: &Detector,
        pipeline: &Pipeline,
        index: &RecordingIndex,
        reuse: bool,
        seen: Option<Seen>,
    ) -> Self {
        Self {
            preparer: detector.preparer(),
            batch: detector.preferred_batch(),
            every: pipeline.detect.settings.every.max(1),
            preview_stride: pipeline.preview_stride(index.fps()),
            preview_width: pipeline.preview.width,
            describe_stride: pipeline.describe_stride(index.fps()),
            corners: Corners::default(),
            recent: reuse.then(Recent::default),
            seen: seen.filter(|_| reuse),
        }
    }

    fn corners(&mut self, view: &PictureView) -> Result<Vec<u8>, TaskError> {
        let found = self.corners.find(view)?.into_iter();
        let found = found.map(|fulltime_vision::Corner { x, y, descriptor }| Corner { x, y, descriptor });
        Ok(pack(&found.collect::<Vec<_>>()))
    }

    /// Works until there are no pictures any more, or nobody who takes batches. Tensors come back by `spent`.
    pub fn run(
        mut self,
        pictures: Receiver<Decoded>,
        out: SyncSender<Batch>,
        spent: Receiver<Vec<f32>>,
        meter: &Meter,
    ) -> Result<PrepareBusy, TaskError> {
        let (mut noting, mut cutting) = (Stage::start(meter, "evidence"), Stage::start(meter, "preprocess"));
        let mut no_colour = NoColour::default();
        let mut batch: Option<Batch> = None;
        for Decoded { frame, picture, at } in pictures {
            let picture = Arc::new(picture);
            let view = no_colour.view(&picture);
            noting.begin();
            let preview = self.preview_stride > 0 && frame.is_multiple_of(self.preview_stride);
            let evidence = FrameRow {
                frame,
                content_hash: picture.content_hash(),
                luma: luma_signature(&view)?,
                preview: preview.then(|| preview_jpeg(&view, self.preview_width)).transpose()?,
                corners: self.corners(&view)?,
            };
            let mut look = match (frame.is_multiple_of(self.every), &mut self.recent) {
                (false, _) => Look::Away,
                (true, None) => Look::Infer,
                (true, Some(recent)) => recent.look(frame, evidence.content_hash, &picture),
            };
            let mut name = None;
            if let (Look::Infer, Some(seen)) = (&look, &self.seen) {
                let picture = seen.name(&picture);
                match seen.find(picture) {
                    Some(known) => look = Look::Known(known),
                    None => name = Some(picture),
                }
            }
            noting.done();

            // A recording may change its size on the way: a batch holds frames of one plan.
            let other_size = |batch: &mut Batch| (batch.plan.width, batch.plan.height) != (view.width, view.height);
            if let Some(done) = batch.take_if(other_size)
                && out.send(done).is_err()
            {
                break;
            }
            cutting.begin();
            let current = match &mut batch {
                Some(batch) => batch,
                None => {
                    let plan = Arc::new(self.preparer.plan(view.width, view.height)?);
                    let tensor = spent.try_recv().unwrap_or_default();
                    batch.insert(Batch { plan, frames: Vec::new(), tensor, used: 0, images: 0, since: at })
                }
            };
            if look == Look::Infer {
                let end = current.used + self.preparer.frame_len(&current.plan);
                if current.tensor.len() < end {
                    current.tensor.resize(end, 0.0);
                }
                self.preparer.prepare(&current.plan, &view, &mut current.tensor[current.used..end])?;
                current.used = end;
                current.images = (end / self.preparer.item_len().max(1)) as u64;
            }
            let pitch = if look == Look::Infer { self.preparer.pitch(&view)? } else { None };
            let described =
                look != Look::Away && self.describe_stride > 0 && frame.is_multiple_of(self.describe_stride);
            current.frames.push(Prepared { evidence, look, name, pitch, described: described.then_some(picture) });
            cutting.done();

            // Frames that are not inferred cost nothing further: they wait for one that is, but not for ever.
            let full = current.used >= self.batch * self.preparer.item_len() || current.frames.len() >= FRAMES;
            if full
                && let Some(done) = batch.take()
                && out.send(done).is_err()
            {
                break;
            }
        }
        if let Some(last) = batch {
            // Nobody there means that the infer stage has ended, and knows why.
            let _ = out.send(last);
        }
        Ok(PrepareBusy { evidence: noting.total, crops: cutting.total })
    }
}

/// The latest pictures that are inferred, each once.
#[derive(Default)]
struct Recent(VecDeque<(u32, u64, Arc<Picture>)>);

impl Recent {
    fn look(&mut self, frame: u32, hash: u64, picture: &Arc<Picture>) -> Look {
        // Hashes may collide; what is copied must be right.
        let equal = self.0.iter().find(|(_, other, kept)| *other == hash && kept == picture);
        if let Some(&(same, ..)) = equal {
            return Look::Like(same);
        }
        self.0.truncate(RECENT - 1);
        self.0.push_front((frame, hash, Arc::clone(picture)));
        Look::Infer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::canary;

    #[test]
    fn only_equal_pictures_of_the_latest_ones_are_taken_for_another() {
        let decoded = || canary::decode().unwrap().into_iter().map(|(_, picture)| Arc::new(picture));
        let (once, again): (Vec<_>, Vec<_>) = (decoded().take(3).collect(), decoded().take(3).collect());
        let mut recent = Recent::default();
        let mut look = |frame, picture: &Arc<Picture>| recent.look(frame, picture.content_hash(), picture);
        assert_eq!(look(0, &once[0]), Look::Infer);
        assert_eq!(look(1, &again[0]), Look::Like(0));
        assert_eq!(look(2, &once[1]), Look::Infer);
        assert_eq!(look(3, &again[0]), Look::Like(0), "a repeated field");
        assert_eq!(look(4, &again[1]), Look::Like(2));
        assert_eq!(look(5, &once[2]), Look::Infer);
        assert_eq!(look(6, &once[0]), Look::Infer, "too long ago");
        assert_eq!(recent.look(7, once[0].content_hash(), &once[1]), Look::Infer, "a collision of hashes");
    }
}
