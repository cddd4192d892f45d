//! What is broken: a good file of every kind that the product reads from others, or from stores and brokers that may have
//! damaged it. The extension says what reads it.

use std::path::Path;

use fulltime_common::{
    Digest,
    index::RecordingIndex,
    plan::{EngineClass, RecordingRef, ShardSpec},
    wire::{self, Band, Event, EventKind, Outcome, Task, TaskKind},
};
use fulltime_synth::{Codec, EncodeOptions, Encoder, testcard};
use fulltime_tables::shard::{
    DescriptionRow, DetectionRow, FrameRow, write_descriptions, write_detections, write_frames,
};

/// Name and bytes.
pub type Sample = (String, Vec<u8>);

/// Recordings: every way in which a container can be indexed, every codec with a rule of its own.
pub fn recordings(folder: &Path) -> Vec<Sample> {
    let plain = || EncodeOptions { gop: 8, bframes: 2, audio: true, ..EncodeOptions::new(96, 64) };
    let kinds = [
        ("closed.mp4", plain()),
        ("open.mp4", EncodeOptions { open_gop: true, ..plain() }),
        ("fragmented.mp4", EncodeOptions { fragmented: true, ..plain() }),
        ("hevc.mp4", EncodeOptions { codec: Codec::Hevc, ..plain() }),
        ("refresh.mov", EncodeOptions { intra_refresh: true, ..plain() }),
        ("mpeg4.avi", EncodeOptions { codec: Codec::Mpeg4, bframes: 0, ..plain() }),
        ("cues.mkv", plain()),
        ("live.mkv", EncodeOptions { cues: false, ..plain() }),
        ("hevc.mkv", EncodeOptions { codec: Codec::Hevc, open_gop: true, ..plain() }),
        ("air.ts", plain()),
    ];
    let record = |(name, options): (&str, EncodeOptions)| {
        let path = folder.join(name);
        let mut encoder = Encoder::create(&path, &options).expect("an encoder");
        for n in 0..30 {
            encoder.push(&testcard(n, options.width, options.height)).expect("encode");
        }
        encoder.finish().expect("finish the recording");
        (name.to_owned(), std::fs::read(&path).expect("read the recording"))
    };
    kinds.into_iter().map(record).collect()
}

/// Everything else: tables and indexes of the store, messages of the broker, files that people write or get from others.
pub fn documents(index: &RecordingIndex) -> Vec<Sample> {
    let shipped = |path: &str| std::fs::read(fulltime_tests::root().join("models").join(path)).expect("a shipped file");
    let mut samples = tables();
    samples.push(("recording.index".to_owned(), index.to_bytes().expect("an index")));
    samples.extend(messages(index));
    samples.push(("detector.manifest".to_owned(), shipped("synth-detector/manifest.toml")));
    samples.push(("detector.pipeline".to_owned(), shipped("synth-detector/pipeline.toml")));
    for (name, text) in [("season.job", JOB), ("season.squads", SQUADS), ("season.pitch", PITCH), ("truth.mot", MOT)] {
        samples.push((name.to_owned(), text.as_bytes().to_vec()));
    }
    samples
}

fn tables() -> Vec<Sample> {
    let detection = |n: u32| DetectionRow {
        frame: n / 8,
        class: (n % 2) as u16,
        score: 0.9,
        x: n as f32,
        y: 7.5,
        w: 20.0,
        h: 50.0,
    };
    let frame = |n: u32| FrameRow {
        frame: n,
        content_hash: u64::from(n) << 32,
        luma: [n as u8; 64],
        preview: n.is_multiple_of(10).then(|| vec![0xff; 99]),
        corners: vec![7; 40],
    };
    let description = |n: u32| DescriptionRow {
        frame: n,
        detection: 3,
        look: Some(vec![n as u8; 128]),
        kit: [9; 24],
        numbers: Some(vec![10, 200, 100, 55]),
        sharpness: 4.0,
    };
    let written = |name: &str, bytes: Result<bytes::Bytes, _>| {
        let bytes: Result<_, fulltime_tables::TableError> = bytes;
        (name.to_owned(), bytes.expect("a table").to_vec())
    };
    vec![
        written("shard.detections", write_detections(&(0..400).map(detection).collect::<Vec<_>>())),
        written("shard.frames", write_frames(&(0..50).map(frame).collect::<Vec<_>>())),
        written("shard.descriptions", write_descriptions(&(0..50).map(description).collect::<Vec<_>>())),
    ]
}

fn messages(index: &RecordingIndex) -> [Sample; 2] {
    let digest = Digest::of_bytes(b"some work");
    let shard = ShardSpec {
        recording: RecordingRef { key: "a/half1.mp4".into(), size: 5_000_000, etag: "\"e\"".into() },
        index: digest,
        intervals: 0..3,
        frames: 0..24,
        bytes: index.intervals[0].bytes.clone(),
        pipeline: digest,
        map: digest,
        engine: EngineClass("onnx-cpu".into()),
    };
    let task = Task {
        job: "job-1".into(),
        digest,
        release: 2,
        epoch: 7,
        band: Band::default(),
        avoid: Some("worker-3".into()),
        alone: false,
        looked_for: true,
        archive: "s3://recordings/2024".into(),
        store: "s3://results/store".into(),
        out: "s3://results".into(),
        generation: 1,
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        kind: TaskKind::Map { shard },
    };
    let outcome = Outcome { frames: 24, stage_seconds: vec![("decode".into(), 0.5)], ..Outcome::default() };
    let event = Event {
        job: "job-1".into(),
        digest,
        release: 2,
        worker: "worker-1".into(),
        kind: EventKind::Committed(outcome),
    };
    [
        ("map.task".to_owned(), wire::encode(&task).expect("a message")),
        ("committed.event".to_owned(), wire::encode(&event).expect("a message")),
    ]
}

const JOB: &str = "archive = \"s3://recordings/2024\"\nout = \"s3://results/2024\"\npipeline = \"pipeline.toml\"\n\
    shard_length = \"10s\"\npriority = \"high\"\ntenant = \"blue\"\nwindow = \"22:00-06:00\"\nmax_gpu_hours = 12.5\n\
    [matches]\ntemplate = \"{season}/{match}/half{period}_{camera}.mp4\"\n[cost]\nlane_hour = 1.2\ncurrency = \"EUR\"\n";
const SQUADS: &str = "[[match]]\nmatch = \"final\"\n[[match.team]]\nname = \"Home\"\ncolour = \"#c81624\"\n\
    player = [{ number = 1, name = \"A. Keeper\", role = \"goalkeeper\" }, { number = 9 }]\n\
    [[match.team]]\nname = \"Away\"\n";
const PITCH: &str = "length = 105.0\nwidth = 68.0\n[[view]]\nrecording = \"*\"\n\
    homography = [0.1, 0.0, -50.0, 0.0, 0.1, -30.0, 0.0, 0.0, 1.0]\n";
const MOT: &str =
    "1,1,100.5,50,20,60,1,1,1\n1,2,300,80,22,61,1,1,0.8\n2,1,101.5,50,20,60,1,1,1\n3,2,304,80,22,61,1,1,1\n";
