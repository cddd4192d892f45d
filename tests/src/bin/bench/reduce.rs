//! The reduce of a whole match: shard tables of a made-up broadcast of 90 minutes are written, then reduced, and the time and
//! the memory of the second part are told.

use std::{f64::consts::TAU, path::Path, time::Instant};

use clap::Args;
use fulltime_common::{
    Digest,
    index::{Access, Codec, Packets, RecordingIndex},
    keys,
    pipeline::{Detect, DetectSettings, Identify, Manifest, Pipeline, Preview, Track},
    plan::{EngineClass, MatchId, Placement, RecordingRef, ReduceInputs, ReduceRecording, ReduceShard, ShardSpec},
    results::{Part, ShardResult},
    store::{Store, to_json},
};
use fulltime_tables::{
    corners::{self, Corner},
    shard::{DescriptionRow, DetectionRow, FrameRow, write_descriptions, write_detections, write_frames},
};
use serde_json::json;

const FPS: u32 = 25;
const SHARD: u32 = 250;
/// Frames from description to description.
const DESCRIBED: u32 = 5;
/// Teams of eleven and three referees.
const PEOPLE: u32 = 25;
/// Frames of a shot; every other one is from the second camera.
const SHOT: u32 = 400;
const CORNERS: u32 = 48;
const WIDTH: u32 = 1280;
const HEIGHT: u32 = 720;

#[derive(Debug, Args)]
pub struct Options {
    /// Minutes of each half.
    #[arg(long, default_value_t = 45)]
    minutes: u32,
    /// Folder for the shards; default: a temporary one.
    #[arg(long)]
    work: Option<std::path::PathBuf>,
    /// One JSON object on standard output.
    #[arg(long)]
    json: bool,
}

pub fn run(options: &Options) {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let folder = options.work.as_deref().unwrap_or(scratch.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let figures = runtime.block_on(measure(folder, options.minutes * 60 * FPS));
    if options.json {
        println!("{figures}");
        return;
    }
    for (name, value) in figures.as_object().expect("an object") {
        println!("{name:<24}{value}");
    }
}

async fn measure(folder: &Path, frames: u32) -> serde_json::Value {
    let place = |name: &str| Store::create(&folder.join(name).display().to_string()).expect("a store");
    let (store, out) = (place("store"), place("out"));
    let pipeline = pipeline();
    eprintln!("writing the shards of {} frames", 2 * frames);
    let mut bytes = 0;
    let mut recordings = Vec::new();
    for period in 1..=2 {
        recordings.push(recording(&store, &pipeline, period, frames, &mut bytes).await);
    }
    let inputs = ReduceInputs {
        id: MatchId { season: "bench".into(), name: "match".into() },
        job: "bench".into(),
        generation: 1,
        pipeline: pipeline.digest(),
        reduce: pipeline.reduce_digest(),
        squads: Vec::new(),
        recordings,
    };
    // The greatest resident memory is counted from here on.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    eprintln!("reducing");
    let (begin, cpu) = (Instant::now(), processor_seconds());
    let outcome = fulltime_reduce::reduce_match(&store, &out, &inputs, &pipeline, &|_| {}).await.expect("a reduce");
    let (seconds, cpu) = (begin.elapsed().as_secs_f64(), processor_seconds() - cpu);
    let summary = keys::job::summary("bench", 1, &inputs.id);
    let summary: fulltime_common::results::MatchSummary =
        out.get_json(&summary).await.expect("the store").expect("a summary");
    let numbered = summary.people.iter().filter(|person| person.number.is_some()).count();
    let shots: u32 = summary.recordings.iter().map(|recording| recording.shots).sum();
    json!({
        "frames": outcome.frames,
        "detections": outcome.detections,
        "shard_mb": mb(bytes),
        "seconds": rounded(seconds),
        "cpu_seconds": rounded(cpu),
        "frames_per_s": (outcome.frames as f64 / seconds).round(),
        "peak_rss_mb": peak_rss_mb(),
        "tracks": summary.tracks,
        "players": summary.players,
        "people_known": summary.people.len(),
        "people_numbered": numbered,
        "shots": shots,
        "shots_true": 2 * frames.div_ceil(SHOT),
    })
}

fn pipeline() -> Pipeline {
    let manifest = fulltime_tests::root().join("models/synth-detector/manifest.toml");
    let manifest: Manifest =
        toml::from_str(&std::fs::read_to_string(manifest).expect("the shipped manifest")).expect("a manifest");
    let settings: DetectSettings = toml::from_str("").expect("defaults");
    Pipeline {
        name: "bench".into(),
        detect: Detect { model: manifest, settings },
        describe: None,
        preview: Preview::default(),
        track: Track::default(),
        identify: Identify::default(),
    }
}

async fn recording(store: &Store, pipeline: &Pipeline, period: u32, frames: u32, bytes: &mut u64) -> ReduceRecording {
    let key = format!("half{period}.mp4");
    let recording = RecordingRef { size: 1, etag: key.clone(), key };
    let index = RecordingIndex::digest("file:///bench", &recording);
    let container = RecordingIndex {
        recording: recording.clone(),
        container: "mov,mp4".into(),
        access: Access::Sliced,
        codec: Codec {
            name: "h264".into(),
            tag: 0,
            extradata: Vec::new(),
            width: WIDTH,
            height: HEIGHT,
            bits_per_coded_sample: 0,
        },
        frame_rate: (FPS, 1),
        frame_us: (0..frames).map(|frame| i64::from(frame) * 1_000_000 / i64::from(FPS)).collect(),
        frames,
        packets: Packets::default(),
        intervals: Vec::new(),
        bytes_read: 0,
    };
    store.put_once(&keys::store::index(&index), container.to_bytes().expect("bytes")).await.expect("the store");
    let mut shards = Vec::new();
    for start in (0..frames).step_by(SHARD as usize) {
        let frames = start..(start + SHARD).min(frames);
        let shard = ShardSpec {
            recording: recording.clone(),
            index,
            intervals: 0..1,
            frames: frames.clone(),
            bytes: 0..1,
            pipeline: pipeline.digest(),
            map: pipeline.map_digest(),
            engine: EngineClass("bench".into()),
        };
        *bytes += write_shard(store, &shard, period).await;
        shards.push(ReduceShard { digest: shard.digest(), frames });
    }
    ReduceRecording {
        placement: Placement { recording, period, camera: "main".into(), offset_us: 0 },
        index,
        frames,
        frame_rate: (FPS, 1),
        width: WIDTH,
        height: HEIGHT,
        shards,
        gaps: Vec::new(),
        views: Vec::new(),
    }
}

async fn write_shard(store: &Store, shard: &ShardSpec, period: u32) -> u64 {
    let (mut detections, mut descriptions, mut frames) = (Vec::new(), Vec::new(), Vec::new());
    for frame in shard.frames.clone() {
        let view = View::of(period, frame);
        for (who, row) in people(period, frame, &view) {
            if frame % DESCRIBED == 0 {
                let detection = detections.iter().rev().take_while(|d: &&DetectionRow| d.frame == frame).count() as u16;
                descriptions.push(described(who, frame, detection, period));
            }
            detections.push(row);
        }
        frames.push(picture(frame, &view));
    }
    let digest = shard.digest();
    let (mut parts, mut size) = (Vec::new(), 0);
    for (key, bytes) in [
        (keys::store::shard_detections(&digest), write_detections(&detections).expect("a table")),
        (keys::store::shard_descriptions(&digest), write_descriptions(&descriptions).expect("a table")),
        (keys::store::shard_frames(&digest), write_frames(&frames).expect("a table")),
    ] {
        let name = key.rsplit('/').next().unwrap_or_default().to_owned();
        parts.push(Part { name, size: bytes.len() as u64, sha256: Digest::of_bytes(&bytes) });
        size += bytes.len() as u64;
        store.put_once(&key, bytes).await.expect("the store");
    }
    let (frames, detections) = (frames.len() as u32, detections.len() as u64);
    let result = ShardResult { shard: shard.into(), frames, detections, gaps: Vec::new(), parts };
    store.put_once(&keys::store::shard_index(&digest), to_json(&result)).await.expect("the store");
    size
}

/// Where a camera looks: pixels are (metres - centre) * zoom.
struct View {
    scene: u32,
    centre: f64,
    zoom: f64,
}

impl View {
    fn of(period: u32, frame: u32) -> Self {
        let shot = frame / SHOT;
        let t = f64::from(frame) / f64::from(FPS);
        let zoom = if shot.is_multiple_of(2) { 22.0 } else { 34.0 };
        Self { scene: period * 1000 + shot % 2, centre: 22.0 * (t * TAU / 60.0).sin(), zoom }
    }

    fn pixels(&self, x: f64, y: f64) -> (f64, f64) {
        (640.0 + (x - self.centre) * self.zoom, 380.0 - y * self.zoom * 0.4)
    }
}

fn people(period: u32, frame: u32, view: &View) -> Vec<(u32, DetectionRow)> {
    let t = f64::from(frame) / f64::from(FPS);
    let mut rows = Vec::new();
    for who in 0..PEOPLE {
        let own = |what| f64::from(random([period, who, what, 0]));
        let (pace, phase) = (0.02 + 0.04 * own(1), own(2) * TAU);
        let x = 22.0 * (t * TAU / 60.0).sin() + 20.0 * (t * TAU * pace + phase).sin() + 12.0 * (own(3) - 0.5);
        let y = 28.0 * (t * TAU * pace * 0.7 + own(4) * TAU).cos();
        let (cx, bottom) = view.pixels(x, y);
        let jitter = |what| 2.0 * f64::from(random([period * 64 + who, frame, what, 9])) - 1.0;
        let h = 3.2 * view.zoom;
        let w = 0.42 * h;
        if random([who, frame, 5, period]) < 0.03 || !(0.0..f64::from(WIDTH)).contains(&cx) {
            continue;
        }
        let score = 0.6 + 0.35 * random([who, frame, 6, period]);
        let (x, y) = (cx - w / 2.0 + jitter(0), bottom - h + jitter(1));
        rows.push((who, DetectionRow { frame, class: 0, score, x: x as f32, y: y as f32, w: w as f32, h: h as f32 }));
    }
    rows
}

fn described(who: u32, frame: u32, detection: u16, period: u32) -> DescriptionRow {
    let look: Vec<f64> = (0..128)
        .map(|i| f64::from(random([who, i, 77, 0]) - 0.5) + 0.35 * f64::from(random([who, i, frame, period]) - 0.5))
        .collect();
    let length = look.iter().map(|v| v * v).sum::<f64>().sqrt();
    let look = look.iter().map(|v| ((v / length * 127.0).round() as i8).cast_unsigned()).collect();
    let team = (who / 11) as usize;
    let mut kit = [0; 24];
    (kit[team * 3], kit[12 + team * 3], kit[11], kit[23]) = (220, 200, 200, 150);
    let read = random([who, frame, 78, period]);
    let number = match (team, read) {
        (0 | 1, 0.0..0.3) => vec![(who % 11 + 2) as u8, 230, 100, 25],
        (0 | 1, 0.3..0.32) => vec![(frame % 40) as u8, 140, 100, 115],
        _ => vec![100, 255],
    };
    DescriptionRow { frame, detection, look: Some(look), kit, numbers: Some(number), sharpness: 20.0 }
}

fn picture(frame: u32, view: &View) -> FrameRow {
    let corner = |i: u32| {
        let place = |what| f64::from(random([view.scene, i, what, 1]));
        // A band of places far behind the pitch, of which the view shows a part.
        let (x, y) = ((place(0) - 0.5) * 160.0, (place(1) - 0.2) * 30.0);
        let (x, y) = view.pixels(x, y);
        let descriptor = std::array::from_fn(|at| (random([view.scene, i, 2, at as u32]) * 256.0) as u8);
        Corner { x: x as f32, y: y as f32, descriptor }
    };
    let inside = |c: &Corner| (0.0..WIDTH as f32).contains(&c.x) && (0.0..HEIGHT as f32).contains(&c.y);
    let corners: Vec<Corner> = (0..CORNERS * 3).map(corner).filter(inside).take(CORNERS as usize).collect();
    let luma = std::array::from_fn(|i| (random([view.scene, i as u32, 3, 0]) * 200.0) as u8);
    FrameRow { frame, content_hash: u64::from(frame), luma, preview: None, corners: corners::pack(&corners) }
}

/// A number from 0 to 1 that depends on its arguments alone.
fn random(seed: [u32; 4]) -> f32 {
    let mut state = 0x9E37_79B9_u32;
    for part in seed {
        state = (state ^ part).wrapping_mul(0x85EB_CA6B);
        state ^= state >> 13;
        state = state.wrapping_mul(0xC2B2_AE35);
        state ^= state >> 16;
    }
    (state >> 8) as f32 / (1 << 24) as f32
}

fn mb(bytes: u64) -> f64 {
    rounded(bytes as f64 / 1e6)
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Of this process, all threads.
fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the struct that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kb: f64 = line.trim().trim_end_matches("kB").trim().parse().unwrap_or_default();
    rounded(kb / 1e3)
}
