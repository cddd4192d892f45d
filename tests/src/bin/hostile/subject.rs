//! The process that the broken files meet: what an index task and a lane do with a recording, what reads tables, messages
//! and people's files, and nothing else. It reads paths from its standard input and answers a line each. Whatever ends it is
//! the finding.

use std::{
    error::Error,
    io::{BufRead as _, Write as _},
    ops::ControlFlow,
    path::Path,
};

use bytes::Bytes;
use fulltime_common::{
    index::RecordingIndex,
    pipeline::{Manifest, PipelineFile},
    pitch::PitchFile,
    plan::RecordingRef,
    spec::JobSpec,
    squads::Squads,
    store::Store,
    wire::{self, Event, Task},
};
use fulltime_media::{IntervalDecoder, IntervalOutcome, MediaError, index_recording};
use fulltime_tables::shard::{read_descriptions, read_detections, read_frames};
use serde::de::DeserializeOwned;

use crate::extension;

/// Reads paths until the input ends.
pub fn run() -> std::io::Result<()> {
    // A panic within a task would only be an error to its caller: here it must be seen.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        std::process::abort();
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let path = Path::new(&line);
        let said = match document(path) {
            Some(Ok(())) => "whole".to_owned(),
            Some(Err(error)) => format!("refused: {error}"),
            None => match runtime.block_on(recording(path)) {
                Ok((frames, 0)) => format!("whole: {frames} frames"),
                Ok((frames, gaps)) => format!("gaps: {frames} frames, {gaps} intervals are gaps"),
                Err(error) => format!("refused: {error}"),
            },
        };
        writeln!(stdout, "{}", said.replace('\n', " "))?;
        stdout.flush()?;
    }
    Ok(())
}

/// Reads a file that is no recording; `None` if it is one.
fn document(path: &Path) -> Option<Result<(), Box<dyn Error>>> {
    let bytes = || Ok::<_, Box<dyn Error>>(Bytes::from(std::fs::read(path)?));
    let read = || match extension(path).as_str() {
        "detections" => read_detections(bytes()?).map(drop).map_err(Into::into),
        "frames" => read_frames(bytes()?).map(drop).map_err(Into::into),
        "descriptions" => read_descriptions(bytes()?).map(drop).map_err(Into::into),
        "index" => RecordingIndex::from_bytes(&bytes()?).map(drop).map_err(Into::into),
        "task" => wire::decode::<Task>(&bytes()?).map(drop).map_err(Into::into),
        "event" => wire::decode::<Event>(&bytes()?).map(drop).map_err(Into::into),
        "mot" => fulltime_score::mot::read(&*bytes()?).map(drop).map_err(Into::into),
        "job" => parsed::<JobSpec>(path),
        "manifest" => parsed::<Manifest>(path),
        "pipeline" => parsed::<PipelineFile>(path),
        "squads" => parsed::<Squads>(path),
        "pitch" => parsed::<PitchFile>(path),
        other => unreachable!("nothing reads `{other}`"),
    };
    let container = ["mp4", "mov", "mkv", "avi", "ts"].contains(&extension(path).as_str());
    (!container).then(read)
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<(), Box<dyn Error>> {
    toml::from_str::<T>(&std::fs::read_to_string(path)?)?;
    Ok(())
}

/// Frames and gaps of a recording, each interval from exactly its own bytes.
async fn recording(path: &Path) -> Result<(usize, usize), MediaError> {
    let (store, recording, index) = index(path).await?;
    let mut decoder = IntervalDecoder::new(&index)?;
    let (mut frames, mut gaps) = (0, 0);
    for (number, interval) in index.intervals.iter().enumerate() {
        let range = interval.bytes.clone();
        let bytes = store.get_range_if_match(&recording.key, range.clone(), &recording.etag).await?;
        let mut sunk = 0;
        let outcome = decoder.decode(number, &bytes, range.start, &mut |_, picture| {
            // A picture is looked at, to its last sample.
            let sum = |plane| picture.plane(plane).rows().map(|row| row.iter().map(|&s| u64::from(s)).sum::<u64>());
            std::hint::black_box((0..picture.planes()).map(|plane| sum(plane).sum::<u64>()).sum::<u64>());
            sunk += 1;
            ControlFlow::Continue(())
        })?;
        match outcome {
            IntervalOutcome::Gap(_) => gaps += 1,
            IntervalOutcome::Complete { .. } | IntervalOutcome::Stopped => frames += sunk,
        }
    }
    Ok((frames, gaps))
}

/// What an index task makes of a file.
pub async fn index(path: &Path) -> Result<(Store, RecordingRef, RecordingIndex), MediaError> {
    let folder = path.parent().and_then(|folder| url::Url::from_directory_path(folder).ok());
    let key = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (Some(folder), Ok(meta)) = (folder, std::fs::metadata(path)) else { return Err(MediaError::Empty { key }) };
    let store = Store::open(folder.as_str())?;
    let etag = store.head(&key).await?.and_then(|meta| meta.e_tag).unwrap_or_default();
    let recording = RecordingRef { key, size: meta.len(), etag };
    let index = index_recording(&store, &recording).await?;
    Ok((store, recording, index))
}
