//! The machine of a lane: one shard from bytes to tables. Three threads, decode -> prepare -> infer, joined by bounded
//! channels; whoever ends first takes the others along by dropping its end. Frames carry their absolute number through
//! all of it, so nothing here depends on where a shard was cut.

use std::{
    ops::{ControlFlow, Range},
    panic::resume_unwind,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

use fulltime_common::{
    Digest,
    index::RecordingIndex,
    pipeline::Pipeline,
    plan::{Gap, ShardSpec},
};
use fulltime_media::{IntervalDecoder, IntervalOutcome, Picture};
use fulltime_tables::shard::{DetectionRow, FrameRow, write_descriptions, write_detections, write_frames};
use fulltime_vision::{Detector, FramePlan, Preparer, luma_signature, preview_jpeg};

use super::{
    Engine,
    commit::Computed,
    fetch::{Models, ShardInput},
    loading,
    picture::NoColour,
    window::Window,
};
use crate::{
    attempt::Attempt,
    crash::{self, Point},
    error::TaskError,
};

/// Pictures that wait for the prepare stage. Each is a few megabytes.
const DECODED: usize = 3;
/// Batches that wait for the infer stage.
const PREPARED: usize = 2;

/// Keeps between shards what is dear to make: the loaded model and the decoder's tables.
#[derive(Debug)]
pub struct Machine {
    engine: Engine,
    /// By the digest of the map pipeline.
    detector: Option<(Digest, Detector)>,
    /// By the digest of the container index.
    decoder: Option<(Digest, IntervalDecoder)>,
}

impl Machine {
    pub fn new(engine: Engine) -> Self {
        Self { engine, detector: None, decoder: None }
    }

    /// Computes a shard. Blocks. The attempt is told of every batch, and looked at whether to go on.
    pub fn run(&mut self, input: ShardInput, attempt: &Attempt) -> Result<Computed, TaskError> {
        let ShardInput { shard, pipeline, index, models, mut window, .. } = input;
        loading::watched(attempt, || self.detector(shard.map, &models, &pipeline).map(|_| ()))?;
        let mut decoder = match self.decoder.take() {
            Some((of, decoder)) if of == shard.index => decoder,
            _ => IntervalDecoder::new(&index)?,
        };
        attempt.beat();

        let Some((_, detector)) = &mut self.detector else { return Err(TaskError::PreEmpted) };
        let prepare = Prepare::new(detector, &pipeline, &index);
        let (decoded_in, decoded_out) = sync_channel(DECODED);
        let (prepared_in, prepared_out) = sync_channel(PREPARED);
        let (spent_in, spent_out) = channel();
        let (decoded, prepared, inferred) = thread::scope(|scope| {
            let decoding = scope.spawn(|| decode(&mut decoder, &index, &shard, &mut window, decoded_in));
            let preparing = scope.spawn(|| prepare.run(decoded_out, prepared_in, spent_out));
            let inferred = infer(detector, prepared_out, &spent_in, attempt);
            (decoding.join(), preparing.join(), inferred)
        });
        // The first stage that failed is the cause; the others only ran dry.
        let (gaps, decode_busy) = decoded.unwrap_or_else(|panic| resume_unwind(panic))?;
        let prepare_busy = prepared.unwrap_or_else(|panic| resume_unwind(panic))?;
        if inferred.is_err() {
            // Whatever state the engine is in: the next shard gets a new one.
            self.detector = None;
        }
        let inferred = inferred?;
        self.decoder = Some((shard.index, decoder));

        let clock = ThreadClock::start();
        let Inferred { mut detections, mut frames, infer_busy, read_busy } = inferred;
        let kept = |frame: u32| !gaps.iter().any(|gap| gap.frames.contains(&frame));
        detections.retain(|row| kept(row.frame));
        frames.retain(|row| kept(row.frame));
        let (frame_count, detection_count) = (frames.len() as u32, detections.len() as u64);
        let (detections, frames) = (write_detections(&detections)?, write_frames(&frames)?);
        let stage_seconds = [
            ("fetch", window.busy()),
            ("decode", decode_busy),
            ("preprocess", prepare_busy.crops),
            ("evidence", prepare_busy.evidence),
            ("infer", infer_busy),
            ("postprocess", read_busy),
            ("tables", clock.elapsed()),
        ];
        let stage_seconds = stage_seconds.map(|(name, busy)| (name.to_owned(), busy.as_secs_f64())).into();
        let descriptions = pipeline.describe.as_ref().map(|_| write_descriptions(&[])).transpose()?;
        Ok(Computed { detections, frames, descriptions, frame_count, detection_count, gaps, stage_seconds })
    }

    /// The detector of this map pipeline, loaded if it is not the last one that ran.
    pub fn detector(&mut self, map: Digest, models: &Models, pipeline: &Pipeline) -> Result<&mut Detector, TaskError> {
        let detector = match self.detector.take() {
            Some((of, detector)) if of == map => detector,
            _ => {
                let read = |path: &PathBuf| {
                    std::fs::read(path).map_err(|source| TaskError::Cache { path: path.clone(), source })
                };
                let path = models.get(&pipeline.detect.model.file.sha256);
                let bytes = path.map(read).transpose()?.unwrap_or_default();
                Detector::load(&self.engine.kind, &bytes, &pipeline.detect)?
            }
        };
        Ok(&mut self.detector.insert((map, detector)).1)
    }
}

struct Decoded {
    frame: u32,
    picture: Picture,
}

/// Whole frames of one size, together about as many crops as the engine likes at once.
struct Batch {
    plan: Arc<FramePlan>,
    frames: Vec<Prepared>,
    /// The crops of all frames that are looked at, one after another; longer than `used` when it was used before.
    tensor: Vec<f32>,
    used: usize,
}

struct Prepared {
    evidence: FrameRow,
    /// Whether the detector runs on it (`every`).
    looked_at: bool,
}

/// Decodes the shard's intervals in order. An interval that cannot be decoded without concealment is a gap; what came of
/// it before that was seen is dropped at the end.
fn decode(
    decoder: &mut IntervalDecoder,
    index: &RecordingIndex,
    shard: &ShardSpec,
    window: &mut Window,
    out: SyncSender<Decoded>,
) -> Result<(Vec<Gap>, Duration), TaskError> {
    let clock = ThreadClock::start();
    let mut gaps = Vec::new();
    for number in shard.intervals.clone() {
        let interval = &index.intervals[number as usize];
        // Interleaving may put a later interval's first byte before an earlier one's.
        let ahead = &index.intervals[number as usize..shard.intervals.end as usize];
        let keep = ahead.iter().map(|i| i.bytes.start).min().unwrap_or_default();
        let bytes = window.read(interval.bytes.clone(), keep)?;
        crash::point(Point::BeforeDecode);
        crash::decoding(&shard.recording.key, number);
        let mut sink = |frame, picture| match out.send(Decoded { frame, picture }) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        };
        match decoder.decode(number as usize, &bytes, interval.bytes.start, &mut sink)? {
            IntervalOutcome::Complete { missing } => {
                gaps.extend(runs(&missing).map(|frames| Gap { frames, reason: NOT_HELD.to_owned() }))
            }
            IntervalOutcome::Stopped => break,
            IntervalOutcome::Gap(reason) => {
                gaps.push(Gap { frames: interval.frames.clone(), reason: reason.to_string() });
            }
        }
        crash::point(Point::AfterDecode);
    }
    Ok((gaps, clock.elapsed()))
}

/// Why frames are missing that nothing has damaged.
const NOT_HELD: &str = "the recording does not hold these frames";

/// Ascending frames as runs without a hole.
fn runs(frames: &[u32]) -> impl Iterator<Item = Range<u32>> {
    frames.chunk_by(|a, b| a + 1 == *b).filter_map(|run| Some(*run.first()?..*run.last()? + 1))
}

/// Makes evidence and network input of pictures.
struct Prepare {
    preparer: Preparer,
    batch: usize,
    every: u32,
    preview_stride: u32,
    preview_width: u32,
}

#[derive(Default)]
struct PrepareBusy {
    evidence: Duration,
    crops: Duration,
}

impl Prepare {
    fn new(detector: &Detector, pipeline: &Pipeline, index: &RecordingIndex) -> Self {
        Self {
            preparer: detector.preparer(),
            batch: detector.preferred_batch(),
            every: pipeline.detect.settings.every.max(1),
            preview_stride: pipeline.preview_stride(index.fps()),
            preview_width: pipeline.preview.width,
        }
    }

    fn run(
        mut self,
        pictures: Receiver<Decoded>,
        out: SyncSender<Batch>,
        spent: Receiver<Vec<f32>>,
    ) -> Result<PrepareBusy, TaskError> {
        let mut busy = PrepareBusy::default();
        let mut no_colour = NoColour::default();
        let mut batch: Option<Batch> = None;
        for Decoded { frame, picture } in pictures {
            let view = no_colour.view(&picture);
            let clock = ThreadClock::start();
            let preview = self.preview_stride > 0 && frame.is_multiple_of(self.preview_stride);
            let evidence = FrameRow {
                frame,
                content_hash: picture.content_hash(),
                luma: luma_signature(&view)?,
                preview: preview.then(|| preview_jpeg(&view, self.preview_width)).transpose()?,
                corners: Vec::new(),
            };
            busy.evidence += clock.elapsed();

            let clock = ThreadClock::start();
            // A recording may change its size on the way: a batch holds frames of one plan.
            let other_size = |batch: &mut Batch| (batch.plan.width, batch.plan.height) != (view.width, view.height);
            if let Some(done) = batch.take_if(other_size)
                && out.send(done).is_err()
            {
                break;
            }
            let current = match &mut batch {
                Some(batch) => batch,
                None => {
                    let plan = Arc::new(self.preparer.plan(view.width, view.height)?);
                    let tensor = spent.try_recv().unwrap_or_default();
                    batch.insert(Batch { plan, frames: Vec::new(), tensor, used: 0 })
                }
            };
            let looked_at = frame.is_multiple_of(self.every);
            if looked_at {
                let end = current.used + self.preparer.frame_len(&current.plan);
                if current.tensor.len() < end {
                    current.tensor.resize(end, 0.0);
                }
                self.preparer.prepare(&current.plan, &view, &mut current.tensor[current.used..end])?;
                current.used = end;
            }
            current.frames.push(Prepared { evidence, looked_at });
            busy.crops += clock.elapsed();

            // Frames that are not looked at cost nothing further: they wait for one that is, but not for ever.
            let full = current.used >= self.batch * self.preparer.item_len() || current.frames.len() >= 64;
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
        Ok(busy)
    }
}

#[derive(Default)]
struct Inferred {
    detections: Vec<DetectionRow>,
    frames: Vec<FrameRow>,
    infer_busy: Duration,
    read_busy: Duration,
}

/// Runs the model over batches in frame order and reads its outputs.
fn infer(
    detector: &mut Detector,
    batches: Receiver<Batch>,
    spent: &Sender<Vec<f32>>,
    attempt: &Attempt,
) -> Result<Inferred, TaskError> {
    let reader = detector.reader();
    let mut all = Inferred::default();
    let mut outputs = Vec::new();
    for Batch { plan, frames, tensor, used } in batches {
        crash::point(Point::BeforeInfer);
        let clock = ThreadClock::start();
        detector.infer(&tensor[..used], &mut outputs)?;
        all.infer_busy += clock.elapsed();
        // The prepare stage may be gone already.
        let _ = spent.send(tensor);
        crash::point(Point::AfterInfer);

        let clock = ThreadClock::start();
        let count = frames.len() as u64;
        let mut results = outputs.chunks_exact(reader.frame_len(&plan));
        for Prepared { evidence, looked_at } in frames {
            let found = match looked_at {
                true => reader.finish(&plan, results.next().unwrap_or_default())?,
                false => Vec::new(),
            };
            let frame = evidence.frame;
            all.detections.extend(found.iter().map(|d| DetectionRow {
                frame,
                class: d.class,
                score: d.score,
                x: d.x,
                y: d.y,
                w: d.w,
                h: d.h,
            }));
            all.frames.push(evidence);
        }
        all.read_busy += clock.elapsed();
        attempt.add_frames(count);
        if attempt.is_halted() {
            break;
        }
    }
    Ok(all)
}

/// CPU time of the calling thread: what a stage costs, however many others share the cores.
struct ThreadClock(Duration);

impl ThreadClock {
    fn start() -> Self {
        Self(Self::now())
    }

    fn elapsed(&self) -> Duration {
        Self::now().saturating_sub(self.0)
    }

    fn now() -> Duration {
        cpu_time(libc::CLOCK_THREAD_CPUTIME_ID)
    }
}

/// CPU time of all threads of this process.
pub fn process_time() -> Duration {
    cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: these clocks exist on every Linux, and the pointer is to a local.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_frames_make_gaps_as_long_as_they_are() {
        assert_eq!(runs(&[]).count(), 0);
        assert_eq!(runs(&[3, 4, 5, 9, 11, 12]).collect::<Vec<_>>(), [3..6, 9..10, 11..13]);
    }
}
