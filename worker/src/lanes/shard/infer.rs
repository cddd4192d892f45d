//! The third stage of a shard: batches through the detector's model, in frame order, to detections.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, SyncSender},
    },
    time::Duration,
};

use fulltime_media::Picture;
use fulltime_observe::{Counts, Doing, Meter};
use fulltime_tables::shard::{DetectionRow, FrameRow};
use fulltime_vision::{Detection, Detector};

use super::{
    clock::Stage,
    prepare::{Batch, Look, Prepared, RECENT},
};
use crate::{
    attempt::Attempt,
    crash::{self, Point},
    error::TaskError,
    lanes::seen::Seen,
};

/// A frame whose people are to be described.
pub struct Found {
    pub frame: u32,
    /// The frame that was inferred: this one, or an earlier one with the same picture.
    pub inferred: u32,
    pub picture: Arc<Picture>,
    pub detections: Vec<Detection>,
}

#[derive(Default)]
pub struct Inferred {
    pub detections: Vec<DetectionRow>,
    pub frames: Vec<FrameRow>,
    pub infer_busy: Duration,
    pub read_busy: Duration,
}

/// Works until there are no batches any more, nobody who describes, or the attempt is halted.
pub fn infer(
    detector: &mut Detector,
    batches: Receiver<Batch>,
    spent: &Sender<Vec<f32>>,
    found: SyncSender<Found>,
    seen: Option<&Seen>,
    attempt: &Attempt,
    meter: &Meter,
) -> Result<Inferred, TaskError> {
    let reader = detector.reader();
    let mut all = Inferred::default();
    let mut outputs = Vec::new();
    // What the latest inferred frames show, for those that show the same.
    let mut recent: VecDeque<(u32, Vec<Detection>)> = VecDeque::new();
    let (mut inferring, mut reading) = (Stage::start(meter, "infer"), Stage::start(meter, "postprocess"));
    meter.does(Doing::Pictures);
    for Batch { plan, frames, tensor, used, images, since } in batches {
        crash::point(Point::BeforeInfer);
        meter.does(Doing::Infer);
        inferring.begin();
        detector.infer(&tensor[..used], &mut outputs)?;
        inferring.done();
        // The prepare stage may be gone already.
        let _ = spent.send(tensor);
        crash::point(Point::AfterInfer);

        meter.does(Doing::Postprocess);
        reading.begin();
        let count = frames.len() as u64;
        let mut results = outputs.chunks_exact(reader.frame_len(&plan));
        for Prepared { evidence, look, name, pitch, described } in frames {
            let frame = evidence.frame;
            let (inferred, detections) = match look {
                Look::Away => (frame, Vec::new()),
                Look::Infer => {
                    let detections = reader.finish(&plan, results.next().unwrap_or_default(), pitch.as_ref())?;
                    if let (Some(seen), Some(name)) = (seen, name) {
                        seen.keep(name, &detections);
                    }
                    recent.truncate(RECENT - 1);
                    recent.push_front((frame, detections.clone()));
                    (frame, detections)
                }
                Look::Known(known) => {
                    let detections = known.to_vec();
                    recent.truncate(RECENT - 1);
                    recent.push_front((frame, detections.clone()));
                    (frame, detections)
                }
                Look::Like(same) => {
                    let known = recent.iter().find(|(frame, _)| *frame == same);
                    (same, known.map(|(_, detections)| detections.clone()).unwrap_or_default())
                }
            };
            all.detections.extend(detections.iter().map(|d| DetectionRow {
                frame,
                class: d.class,
                score: d.score,
                x: d.x,
                y: d.y,
                w: d.w,
                h: d.h,
            }));
            all.frames.push(evidence);
            let Some(picture) = described else { continue };
            // It may have as many frames before it as there is room for.
            meter.does(Doing::Describe);
            let sent = found.send(Found { frame, inferred, picture, detections });
            meter.does(Doing::Postprocess);
            if sent.is_err() {
                // The describe stage has ended, and knows why.
                return Ok(all);
            }
        }
        reading.done();
        meter.took("total", since.elapsed());
        meter.count(Counts { frames: count, images, batches: u64::from(images > 0), ..Counts::default() });
        meter.does(Doing::Pictures);
        attempt.add_frames(count);
        if attempt.is_halted() {
            break;
        }
    }
    all.infer_busy = inferring.total.cpu;
    all.read_busy = reading.total.cpu;
    Ok(all)
}
