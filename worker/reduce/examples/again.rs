//! Reduces a match of a finished job again, with other settings: how settings of the tracker and of identity are chosen.
//! `again STORE INPUTS.json OUT [SETTINGS.toml]` with `[track]` and `[identify]` as in a pipeline file; `INPUTS.json` lies in
//! the job's folder `inputs/`. Whatever the store has of an earlier run is left alone.

use std::{path::PathBuf, time::Instant};

use fulltime_common::{
    keys,
    pipeline::{Identify, Pipeline, Track},
    plan::ReduceInputs,
    store::Store,
};

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Settings {
    track: Option<Track>,
    identify: Option<Identify>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(store), Some(inputs), Some(out)) = (args.next(), args.next(), args.next()) else {
        return Err("again STORE INPUTS.json OUT [SETTINGS.toml]".into());
    };
    let settings: Settings = match args.next() {
        Some(path) => toml::from_str(&std::fs::read_to_string(path)?)?,
        None => Settings::default(),
    };
    let mut inputs: ReduceInputs = serde_json::from_slice(&std::fs::read(PathBuf::from(inputs))?)?;
    let (store, out) = (Store::open(&store)?, Store::create(&out)?);
    let pipeline: Option<Pipeline> = store.get_json(&keys::store::pipeline(&inputs.pipeline)).await?;
    let mut pipeline = pipeline.ok_or("the store has no such pipeline")?;
    pipeline.track = settings.track.unwrap_or_default();
    pipeline.identify = settings.identify.unwrap_or_default();
    inputs.reduce = pipeline.reduce_digest();
    let begin = Instant::now();
    let outcome = fulltime_reduce::reduce_match(&store, &out, &inputs, &pipeline, &|_| {}).await?;
    eprintln!("{}: {} frames in {:.2} s", inputs.id, outcome.frames, begin.elapsed().as_secs_f64());
    Ok(())
}
