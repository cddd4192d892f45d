//! The machine of a lane: one shard from bytes to tables. Four threads, decode -> prepare -> infer -> describe, joined by
//! bounded channels; whoever ends first takes the others along by dropping its end. Frames carry their absolute number
//! through all of it, so nothing here depends on where a shard was cut.

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        mpsc::{channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use fulltime_common::{Digest, error::chain, pipeline::Pipeline};
use fulltime_media::IntervalDecoder;
use fulltime_observe::{Doing, Meter, Worked};
use fulltime_tables::shard::{write_descriptions, write_detections, write_frames};
use fulltime_vision::{Describer, Detector};
use tracing::warn;

use super::{
    Engine, canary,
    commit::Computed,
    fetch::{Models, ShardInput},
    loading,
    seen::Seen,
};
use crate::{attempt::Attempt, error::TaskError};

mod clock;
mod decode;
mod describe;
mod infer;
mod prepare;

use clock::Stage;
pub use clock::process_time;
use decode::decode;
use describe::describe;
use infer::{Inferred, infer};
use prepare::Prepare;

/// Pictures that wait for the prepare stage. Each is a few megabytes.
const DECODED: usize = 3;
/// Batches that wait for the infer stage.
const PREPARED: usize = 2;

/// Between two canaries of a machine: so rarely that they cost nothing.
const CANARY: Duration = Duration::from_secs(300);

/// Frames that wait for the describe stage, with their pictures.
const FOUND: usize = 3;

/// Keeps between shards what is dear to make: the loaded models and the decoder's tables.
#[derive(Debug)]
pub struct Machine {
    engine: Engine,
    /// By the digest of the map pipeline.
    loaded: Option<(Digest, Loaded)>,
    /// By the digest of the container index.
    decoder: Option<(Digest, IntervalDecoder)>,
    /// When the last canary was asked, and what the first said, by the digest of the map pipeline.
    canary: (Instant, Option<(Digest, Vec<u32>)>),
    /// What is known of pictures, where that is shared.
    seen: Option<Seen>,
}

/// The models of a map pipeline.
#[derive(Debug)]
pub struct Loaded {
    pub detector: Detector,
    /// Only of pipelines that describe people.
    pub describer: Option<Describer>,
}

impl Machine {
    pub fn new(engine: Engine, seen: Option<Seen>) -> Self {
        Self { engine, loaded: None, decoder: None, canary: (Instant::now(), None), seen }
    }

    /// Computes a shard. Blocks. The attempt is told of every batch, and looked at whether to go on.
    pub fn run(&mut self, input: ShardInput, attempt: &Attempt, meter: &Meter) -> Result<Computed, TaskError> {
        let ShardInput { shard, pipeline, index, models, mut window, .. } = input;
        meter.does(Doing::Load);
        loading::watched(attempt, || self.load(shard.map, &models, &pipeline).map(|_| ()))?;
        let mut decoder = match self.decoder.take() {
            Some((of, decoder)) if of == shard.index => decoder,
            _ => match &self.engine.decoder {
                Some(gpu) => IntervalDecoder::new(&index)?.on_gpu(Arc::clone(gpu)),
                None => IntervalDecoder::new(&index)?,
            },
        };
        attempt.beat();

        let Some((_, Loaded { detector, describer })) = &mut self.loaded else { return Err(TaskError::PreEmpted) };
        let seen = self.seen.as_ref().map(|seen| seen.by(&pipeline, &self.engine.class));
        let prepare = Prepare::new(detector, &pipeline, &index, self.engine.reuse, seen.clone());
        let (decoded_in, decoded_out) = sync_channel(DECODED);
        let (prepared_in, prepared_out) = sync_channel(PREPARED);
        let (spent_in, spent_out) = channel();
        let (found_in, found_out) = sync_channel(FOUND);
        let (decoded, prepared, inferred, described) = thread::scope(|scope| {
            let decoding = scope.spawn(|| decode(&mut decoder, &index, &shard, &mut window, decoded_in, meter));
            let preparing = scope.spawn(|| prepare.run(decoded_out, prepared_in, spent_out, meter));
            let describing = scope.spawn(|| describe(describer.as_mut(), found_out, attempt, meter));
            let inferred = infer(detector, prepared_out, &spent_in, found_in, seen.as_ref(), attempt, meter);
            meter.does(Doing::Describe);
            (decoding.join(), preparing.join(), inferred, describing.join())
        });
        // The first stage that failed is the cause; the others only ran dry.
        let (gaps, decode_busy) = decoded.unwrap_or_else(|panic| resume_unwind(panic))?;
        let prepare_busy = prepared.unwrap_or_else(|panic| resume_unwind(panic))?;
        let described = described.unwrap_or_else(|panic| resume_unwind(panic));
        if inferred.is_err() || described.is_err() {
            // Whatever state the engine is in: the next shard gets a new one.
            self.loaded = None;
        }
        let (inferred, described) = (inferred?, described?);
        self.decoder = Some((shard.index, decoder));
        self.ask_the_canary(meter);

        meter.does(Doing::Tables);
        meter.add("fetch", Worked { busy: window.busy(), ..Worked::default() });
        let mut packing = Stage::start(meter, "tables");
        let Inferred { mut detections, mut frames, infer_busy, read_busy } = inferred;
        let mut descriptions = described.rows;
        let kept = |frame: u32| !gaps.iter().any(|gap| gap.frames.contains(&frame));
        detections.retain(|row| kept(row.frame));
        frames.retain(|row| kept(row.frame));
        descriptions.retain(|row| kept(row.frame));
        let (frame_count, detection_count) = (frames.len() as u32, detections.len() as u64);
        let (detections, frames) = (write_detections(&detections)?, write_frames(&frames)?);
        let descriptions = pipeline.describe.as_ref().map(|_| write_descriptions(&descriptions)).transpose()?;
        packing.done();
        let stage_seconds = [
            ("fetch", window.busy()),
            ("decode", decode_busy),
            ("preprocess", prepare_busy.crops.cpu),
            ("evidence", prepare_busy.evidence.cpu),
            ("infer", infer_busy),
            ("postprocess", read_busy),
            ("describe", described.busy),
            ("tables", packing.total.cpu),
        ];
        let stage_seconds = stage_seconds.map(|(name, busy)| (name.to_owned(), busy.as_secs_f64())).into();
        Ok(Computed { detections, frames, descriptions, frame_count, detection_count, gaps, stage_seconds })
    }

    /// Now and then the detector is shown a picture that it has seen before. What came of it is told, and decides nothing.
    fn ask_the_canary(&mut self, meter: &Meter) {
        let Some((map, Loaded { detector, .. })) = self.loaded.as_mut().filter(|_| self.canary.0.elapsed() >= CANARY)
        else {
            return;
        };
        meter.does(Doing::Canary);
        self.canary.0 = Instant::now();
        let now = match canary::answer(detector) {
            Ok(now) => now,
            // The next shard will meet it, too, and then it is no canary's matter.
            Err(error) => return warn!(error = chain(&error), "a canary could not be asked"),
        };
        match &self.canary.1 {
            Some((of, first)) if *of == *map => meter.canary(canary::score(first, &now)),
            Some(_) | None => self.canary.1 = Some((*map, now)),
        }
    }

    /// The models of this map pipeline, loaded if they are not the last ones that ran.
    pub fn load(&mut self, map: Digest, models: &Models, pipeline: &Pipeline) -> Result<&mut Loaded, TaskError> {
        let loaded = match self.loaded.take() {
            Some((of, loaded)) if of == map => loaded,
            _ => {
                let kind = &self.engine.kind;
                let file = |sha256: &Digest| match models.get(sha256) {
                    Some(path) => std::fs::read(path).map_err(|source| TaskError::Cache { path: path.clone(), source }),
                    None => Ok(Vec::new()),
                };
                let files = kind.files(&pipeline.detect.model)?.iter().map(file).collect::<Result<Vec<_>, _>>()?;
                let detector = Detector::load_files(kind, &files, &pipeline.detect)?;
                let classes = &pipeline.detect.model.classes;
                let describer = pipeline.describe.as_ref();
                let describer = describer.map(|describe| Describer::load(kind, describe, classes, file)).transpose()?;
                Loaded { detector, describer }
            }
        };
        Ok(&mut self.loaded.insert((map, loaded)).1)
    }
}
