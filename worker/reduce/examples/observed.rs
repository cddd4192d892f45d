//! Reduces what `models/observe_people.py` wrote down of synthetic matches, as if a lane had found those people five times a
//! second: `observed OUT [--settings SETTINGS.toml] MATCH.jsonl…`. The tables lie in `OUT/jobs/observed/g1/`; the truth is in
//! the folders that the same script has made. For choosing settings of identity (tune matches) and judging them (judge matches).

use std::{collections::BTreeMap, path::Path};

use fulltime_common::{
    Digest,
    index::{Access, Codec, Packets, RecordingIndex},
    keys,
    pipeline::{Detect, DetectSettings, Identify, Manifest, Pipeline, Preview, Track},
    plan::{EngineClass, MatchId, Placement, RecordingRef, ReduceInputs, ReduceRecording, ReduceShard, ShardSpec},
    results::{Part, ShardResult},
    store::{Store, to_json},
};
use fulltime_tables::shard::{
    DescriptionRow, DetectionRow, FrameRow, write_descriptions, write_detections, write_frames,
};

type Failure = Box<dyn std::error::Error>;

const FPS: u32 = 5;

#[derive(Debug, serde::Deserialize)]
struct Observed {
    period: u32,
    shot: u32,
    frame: u32,
    #[serde(rename = "box")]
    bounds: [f32; 4],
    embedding: Vec<i8>,
    kit: Vec<u8>,
    chances: Vec<[u8; 2]>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Settings {
    track: Option<Track>,
    identify: Option<Identify>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let out = args.next().ok_or("observed OUT [--settings SETTINGS.toml] MATCH.jsonl…")?;
    let mut settings = Settings::default();
    while let Some(argument) = args.next() {
        if argument == "--settings" {
            settings = toml::from_str(&std::fs::read_to_string(args.next().ok_or("which settings?")?)?)?;
            continue;
        }
        let pipeline = pipeline(&settings)?;
        let (store, out) = (Store::create(&format!("{out}/store"))?, Store::create(&out)?);
        let inputs = inputs(Path::new(&argument), &store, &pipeline).await?;
        fulltime_reduce::reduce_match(&store, &out, &inputs, &pipeline, &|_| {}).await?;
    }
    Ok(())
}

fn pipeline(settings: &Settings) -> Result<Pipeline, Failure> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/synth-detector/manifest.toml");
    let model: Manifest = toml::from_str(&std::fs::read_to_string(manifest)?)?;
    let detect: DetectSettings = toml::from_str("")?;
    Ok(Pipeline {
        name: "observed".into(),
        detect: Detect { model, settings: detect },
        describe: None,
        preview: Preview::default(),
        track: settings.track.clone().unwrap_or_default(),
        identify: settings.identify.clone().unwrap_or_default(),
    })
}

async fn inputs(file: &Path, store: &Store, pipeline: &Pipeline) -> Result<ReduceInputs, Failure> {
    let name = file.file_stem().and_then(|stem| stem.to_str()).ok_or("a file name")?.to_owned();
    let mut periods: BTreeMap<u32, Vec<Observed>> = BTreeMap::new();
    for line in std::fs::read_to_string(file)?.lines() {
        let row: Observed = serde_json::from_str(line)?;
        periods.entry(row.period).or_default().push(row);
    }
    let mut recordings = Vec::new();
    for (period, rows) in periods {
        recordings.push(recording(&name, period, rows, store, pipeline).await?);
    }
    Ok(ReduceInputs {
        id: MatchId { season: "observed".into(), name },
        job: "observed".into(),
        generation: 1,
        pipeline: pipeline.digest(),
        reduce: pipeline.reduce_digest(),
        squads: Vec::new(),
        recordings,
    })
}

async fn recording(
    name: &str,
    period: u32,
    rows: Vec<Observed>,
    store: &Store,
    pipeline: &Pipeline,
) -> Result<ReduceRecording, Failure> {
    let key = format!("{name}_p{period}.mp4");
    let recording = RecordingRef { size: 1, etag: key.clone(), key };
    let index = RecordingIndex::digest("file:///observed", &recording);
    let frames = rows.iter().map(|row| row.frame + 1).max().unwrap_or_default();
    let codec = Codec {
        name: "h264".into(),
        tag: 0,
        extradata: Vec::new(),
        width: 1280,
        height: 720,
        bits_per_coded_sample: 0,
    };
    let container = RecordingIndex {
        recording: recording.clone(),
        container: "mov,mp4".into(),
        access: Access::Sliced,
        codec,
        frame_rate: (FPS, 1),
        frame_us: (0..frames).map(|frame| i64::from(frame) * 1_000_000 / i64::from(FPS)).collect(),
        frames,
        packets: Packets::default(),
        intervals: Vec::new(),
        bytes_read: 0,
    };
    store.put_same(&keys::store::index(&index), container.to_bytes()?).await?;
    let shard = ShardSpec {
        recording: recording.clone(),
        index,
        intervals: 0..1,
        frames: 0..frames,
        bytes: 0..1,
        pipeline: pipeline.digest(),
        map: pipeline.map_digest(),
        engine: EngineClass("observed".into()),
    };
    let digest = shard.digest();
    let (detections, descriptions, pictures) = tables(&rows)?;
    let mut parts = Vec::new();
    for (key, bytes) in [
        (keys::store::shard_detections(&digest), write_detections(&detections)?),
        (keys::store::shard_descriptions(&digest), write_descriptions(&descriptions)?),
        (keys::store::shard_frames(&digest), write_frames(&pictures)?),
    ] {
        let name = key.rsplit('/').next().unwrap_or_default().to_owned();
        parts.push(Part { name, size: bytes.len() as u64, sha256: Digest::of_bytes(&bytes) });
        store.put_same(&key, bytes).await?;
    }
    let detections = detections.len() as u64;
    let result = ShardResult { shard: (&shard).into(), frames, detections, gaps: Vec::new(), parts };
    store.put_same(&keys::store::shard_index(&digest), to_json(&result)).await?;
    Ok(ReduceRecording {
        placement: Placement { recording, period, camera: "main".into(), offset_us: 0 },
        index,
        frames,
        frame_rate: (FPS, 1),
        width: 1280,
        height: 720,
        shards: vec![ReduceShard { digest, frames: 0..frames }],
        gaps: Vec::new(),
        views: Vec::new(),
    })
}

type Tables = (Vec<DetectionRow>, Vec<DescriptionRow>, Vec<FrameRow>);

/// The observations as a lane would have stored them; the light changes with the shot, so that cuts are found.
fn tables(rows: &[Observed]) -> Result<Tables, Failure> {
    let (mut detections, mut descriptions, mut pictures) = (Vec::new(), Vec::new(), Vec::new());
    for frame in rows.chunk_by(|a, b| a.frame == b.frame) {
        let (number, shot) = (frame[0].frame, frame[0].shot);
        for (detection, row) in (0..).zip(frame) {
            let [x, y, w, h] = row.bounds;
            detections.push(DetectionRow { frame: number, class: 0, score: 0.9, x, y, w, h });
            descriptions.push(DescriptionRow {
                frame: number,
                detection,
                look: Some(row.embedding.iter().map(|v| v.cast_unsigned()).collect()),
                kit: row.kit.as_slice().try_into()?,
                numbers: Some(row.chances.iter().flatten().copied().collect()),
                sharpness: 0.0,
            });
        }
        pictures.push(FrameRow {
            frame: number,
            content_hash: u64::from(number),
            luma: std::array::from_fn(|i| 60 + if shot % 2 == 0 { i as u8 } else { 63 - i as u8 }),
            preview: None,
            corners: Vec::new(),
        });
    }
    Ok((detections, descriptions, pictures))
}
