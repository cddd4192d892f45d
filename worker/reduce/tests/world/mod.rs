//! A small made-up match: two halves, two cameras, walkers of two teams and a ball, a gap, a scene cut, a freeze frame, and
//! stores with its shards, cut as asked.

use std::{ops::Range, sync::LazyLock};

use fulltime_common::{
    Digest,
    index::{Access, Codec, Packets, RecordingIndex},
    keys,
    pipeline::{
        Channels, Detect, DetectSettings, Layout, Manifest, ModelFile, ModelInput, ModelOutput, Pipeline, Preview,
        Resize, Track,
    },
    pitch::View,
    plan::{EngineClass, Gap, MatchId, Placement, RecordingRef, ReduceInputs, ReduceRecording, ReduceShard, ShardSpec},
    results::{Part, ShardResult},
    store::{Store, to_json},
};
use fulltime_tables::shard::{
    DescriptionRow, DetectionRow, FrameRow, write_descriptions, write_detections, write_frames,
};

pub const FRAMES: u32 = 500;
pub const WALKERS: u32 = 12;
/// Two GOPs of the second recording that nobody could decode.
pub const GAP: Range<u32> = 200..220;
/// In the last recording another scene begins here: who was at the top is at the bottom.
pub const CUT: u32 = 250;
/// In the first recording the picture of the first of these is shown for all of them.
pub const FREEZE: Range<u32> = 100..110;
const GOP: u32 = 10;

#[derive(Debug)]
pub struct World {
    /// Removed at the end.
    _dir: tempfile::TempDir,
    pub store: Store,
    pub out: Store,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = |name| Store::create(dir.path().join(name).to_str().unwrap()).unwrap();
        Self { store: place("store"), out: place("out"), _dir: dir }
    }

    /// Stores the shards of the match, cut every `length` frames, and returns what the reduce is to read.
    pub async fn shards(&self, job: &str, length: u32) -> ReduceInputs {
        let mut recordings = Vec::new();
        for period in 1..=2 {
            for camera in ["left", "main"] {
                recordings.push(self.recording(period, camera, length).await);
            }
        }
        ReduceInputs {
            id: MatchId { season: "2024".into(), name: "home-away".into() },
            job: job.into(),
            generation: 1,
            pipeline: pipeline().digest(),
            reduce: pipeline().reduce_digest(),
            squads: Vec::new(),
            recordings,
        }
    }

    async fn recording(&self, period: u32, camera: &str, length: u32) -> ReduceRecording {
        let key = format!("half{period}_{camera}.mp4");
        let recording = RecordingRef { size: 1000, etag: key.clone(), key };
        let index = RecordingIndex::digest("file:///archive", &recording);
        let bytes = container(&recording).to_bytes().unwrap();
        self.store.put_once(&keys::store::index(&index), bytes).await.unwrap();
        let mut shards = Vec::new();
        for start in (0..FRAMES).step_by(length as usize) {
            let frames = start..(start + length).min(FRAMES);
            let shard = ShardSpec {
                recording: recording.clone(),
                index,
                intervals: frames.start / GOP..frames.end / GOP,
                frames: frames.clone(),
                bytes: 0..1,
                pipeline: pipeline().digest(),
                map: pipeline().map_digest(),
                engine: EngineClass("sim".into()),
            };
            self.shard(&shard, period, camera).await;
            shards.push(ReduceShard { digest: shard.digest(), frames });
        }
        ReduceRecording {
            placement: Placement {
                recording,
                period,
                camera: camera.into(),
                offset_us: i64::from(period - 1) * 3_600_000_000,
            },
            index,
            frames: FRAMES,
            frame_rate: (25, 1),
            width: 1280,
            height: 720,
            shards,
            gaps: Vec::new(),
            views: if camera == "left" { vec![view()] } else { Vec::new() },
        }
    }

    async fn shard(&self, shard: &ShardSpec, period: u32, camera: &str) {
        let gap = if (period, camera) == (1, "main") { GAP } else { 0..0 };
        let whole: Vec<u32> = shard.frames.clone().filter(|frame| !gap.contains(frame)).collect();
        let rows: Vec<_> = whole.iter().flat_map(|&frame| detections(period, camera, frame)).collect();
        let frames: Vec<_> = whole
            .iter()
            .map(|&frame| FrameRow {
                frame,
                content_hash: u64::from(shown(period, camera, frame)),
                luma: std::array::from_fn(|i| 90 + if cut(period, camera, frame) { i as u8 * 2 } else { 0 }),
                preview: frame.is_multiple_of(50).then(|| GRASS.clone()),
                corners: Vec::new(),
            })
            .collect();
        let digest = shard.digest();
        let mut parts = Vec::new();
        for (key, bytes) in [
            (keys::store::shard_detections(&digest), write_detections(&rows).unwrap()),
            (keys::store::shard_descriptions(&digest), write_descriptions(&described(&rows, period, camera)).unwrap()),
            (keys::store::shard_frames(&digest), write_frames(&frames).unwrap()),
        ] {
            let name = key.rsplit('/').next().unwrap().to_owned();
            parts.push(Part { name, size: bytes.len() as u64, sha256: Digest::of_bytes(&bytes) });
            self.store.put_same(&key, bytes).await.unwrap();
        }
        // The lane lists interval by interval what it could not decode.
        let gaps = gap
            .step_by(GOP as usize)
            .filter(|start| shard.frames.contains(start))
            .map(|start| Gap { frames: start..start + GOP, reason: "decoder concealed a picture".into() })
            .collect();
        let (frames, detections) = (whole.len() as u32, rows.len() as u64);
        let result = ShardResult { shard: shard.into(), frames, detections, gaps, parts };
        self.store.put_same(&keys::store::shard_index(&digest), to_json(&result)).await.unwrap();
    }
}

pub fn pipeline() -> Pipeline {
    Pipeline {
        name: "made-up".into(),
        detect: Detect {
            model: Manifest {
                name: "made-up".into(),
                file: ModelFile { path: "model.onnx".into(), sha256: Digest::of_bytes(b"model") },
                torch: vec![],
                input: ModelInput {
                    name: None,
                    layout: Layout::Nchw,
                    channels: Channels::Rgb,
                    size: [416, 416],
                    resize: Resize::LetterboxTopLeft,
                    pad: 114,
                    scale: 1.0,
                    mean: [0.0; 3],
                    std: [1.0; 3],
                },
                output: ModelOutput::Yolox { name: None, strides: vec![8, 16, 32] },
                classes: vec!["player".into(), "ball".into()],
                licence: None,
                notes: Default::default(),
            },
            settings: DetectSettings {
                input_size: None,
                score_threshold: 0.25,
                nms_iou: 0.6,
                soft_nms: None,
                classes: Vec::new(),
                every: 1,
                tiles: None,
                region: Default::default(),
            },
        },
        describe: None,
        preview: Preview::default(),
        track: Track::default(),
        identify: Default::default(),
    }
}

fn container(recording: &RecordingRef) -> RecordingIndex {
    RecordingIndex {
        recording: recording.clone(),
        container: "mov,mp4".into(),
        access: Access::Sliced,
        codec: Codec {
            name: "h264".into(),
            tag: 0,
            extradata: Vec::new(),
            width: 1280,
            height: 720,
            bits_per_coded_sample: 0,
        },
        frame_rate: (25, 1),
        frame_us: (0..FRAMES).map(|frame| i64::from(frame) * 40_000).collect(),
        frames: FRAMES,
        packets: Packets::default(),
        intervals: Vec::new(),
        bytes_read: 0,
    }
}

/// A number from 0 to 1 that depends on its arguments alone.
fn noise(seed: [u32; 4]) -> f32 {
    let mut state = 0x9E37_79B9_u32;
    for part in seed {
        state = (state ^ part).wrapping_mul(0x85EB_CA6B);
        state ^= state >> 13;
    }
    (state >> 8) as f32 / (1 << 24) as f32
}

/// Walkers on lanes of their own, some seen badly or not at all now and then, a ball, and false alarms.
fn detections(period: u32, camera: &str, frame: u32) -> Vec<DetectionRow> {
    let (number, frame) = (frame, shown(period, camera, frame));
    let place = period * 2 + u32::from(camera == "main");
    let mut rows = Vec::new();
    for walker in 0..WALKERS {
        let chance = |what| noise([place, walker, frame, what]);
        if chance(0) < 0.04 {
            continue;
        }
        let speed = 0.4 + noise([place, walker, 0, 1]) * 1.2;
        let score = if chance(2) < 0.1 { 0.3 } else { 0.6 + 0.3 * chance(3) };
        let x = 40.0 + frame as f32 * speed + 4.0 * chance(4);
        let lane = if cut(period, camera, frame) { WALKERS - 1 - walker } else { walker };
        rows.push(DetectionRow { frame, class: 0, score, x, y: lane_y(lane), w: 18.0, h: 46.0 });
    }
    rows.push(DetectionRow { frame, class: 1, score: 0.7, x: 1000.0 - frame as f32, y: 5.0, w: 12.0, h: 12.0 });
    if noise([place, 99, frame, 5]) < 0.2 {
        let (x, y) = (noise([place, 99, frame, 6]) * 1200.0, noise([place, 99, frame, 7]) * 650.0);
        rows.push(DetectionRow { frame, class: 0, score: 0.55, x, y, w: 18.0, h: 46.0 });
    }
    rows.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.x.total_cmp(&b.x)));
    rows.iter_mut().for_each(|row| row.frame = number);
    rows
}

fn cut(period: u32, camera: &str, frame: u32) -> bool {
    (period, camera) == (2, "main") && frame >= CUT
}

/// The frame whose picture is shown.
fn shown(period: u32, camera: &str, frame: u32) -> u32 {
    if (period, camera) == (1, "left") && FREEZE.contains(&frame) { FREEZE.start } else { frame }
}

fn lane_y(lane: u32) -> f32 {
    30.0 + 55.0 * lane as f32
}

/// Twelve pixels a metre, the centre spot in the middle of the picture.
pub fn view() -> View {
    let homography = [12.0, 0.0, 640.0, 0.0, -12.0, 360.0, 0.0, 0.0, 1.0];
    View { frame: 0, moving: false, homography, pitch: [105.0, 68.0] }
}

/// The number of a walker; even and odd ones are two teams.
pub fn number(walker: u32) -> u8 {
    (walker / 2 + 3) as u8
}

/// What is seen of the walkers five times a second. The number can be read one time in three, and now and then it is misread.
fn described(rows: &[DetectionRow], period: u32, camera: &str) -> Vec<DescriptionRow> {
    let mut descriptions = Vec::new();
    for frame in rows.chunk_by(|a, b| a.frame == b.frame).filter(|frame| frame[0].frame.is_multiple_of(5)) {
        for (detection, row) in (0..).zip(frame) {
            let Some(lane) = (0..WALKERS).find(|lane| row.class == 0 && row.y == lane_y(*lane)) else { continue };
            let walker = if cut(period, camera, row.frame) { WALKERS - 1 - lane } else { lane };
            let chance = |what| noise([period * 7 + walker, row.frame, what, camera.len() as u32]);
            let look: Vec<f32> =
                (0..16).map(|i| noise([walker, i, 8, 8]) - 0.5 + 0.2 * (chance(20 + i) - 0.5)).collect();
            let length = look.iter().map(|v| v * v).sum::<f32>().sqrt();
            let mut kit = [0; 24];
            let shirt = if walker.is_multiple_of(2) { 2 } else { 10 };
            (kit[shirt], kit[11], kit[12 + shirt], kit[23]) = (230, 200, 200, 120);
            let numbers = match chance(1) {
                0.0..0.33 => vec![number(walker), 240, 100, 15],
                0.33..0.36 => vec![number(walker) + 10, 200, 100, 55],
                _ => vec![100, 255],
            };
            descriptions.push(DescriptionRow {
                frame: row.frame,
                detection,
                look: Some(look.iter().map(|v| ((v / length * 127.0) as i8).cast_unsigned()).collect()),
                kit,
                numbers: Some(numbers),
                sharpness: 9.0,
            });
        }
    }
    descriptions
}

/// A mown pitch as JPEG.
static GRASS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let stripe = |x: u32| if (x / 40).is_multiple_of(2) { [46, 120, 50] } else { [52, 134, 56] };
    let rgb: Vec<u8> = (0..360).flat_map(|_| (0..640).flat_map(stripe)).collect();
    let mut jpeg = Vec::new();
    jpeg_encoder::Encoder::new(&mut jpeg, 80).encode(&rgb, 640, 360, jpeg_encoder::ColorType::Rgb).unwrap();
    jpeg
});
