//! The parts of a frame's work, each alone in a process of its own, timed by the processor's clock and by the wall's.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Subcommand;
use ffmpeg_next::{codec, format, frame::Video, media, threading};
use fulltime_common::{
    pipeline::{Detect, Manifest, PipelineFile},
    process,
};
use fulltime_vision::{Detector, EngineKind, Matrix, PictureView, PlaneView};
use serde_json::json;

/// Repetitions of parts that work on one frame.
const FRAMES: u32 = 300;

#[derive(Debug, Subcommand)]
pub enum Part {
    /// FFmpeg's demuxer and decoder with one thread and nothing of ours.
    Decode { files: Vec<PathBuf> },
    /// Picture to tensor.
    Preprocess {
        #[arg(long)]
        pipeline: PathBuf,
        file: PathBuf,
    },
    /// The model in ONNX Runtime with one thread, one frame a run.
    Model {
        #[arg(long)]
        pipeline: PathBuf,
        file: PathBuf,
    },
}

pub fn run(part: &Part) {
    ffmpeg_next::init().expect("FFmpeg");
    let mut work: Box<dyn FnMut() -> u32> = match part {
        Part::Decode { files } => {
            let files = files.clone();
            Box::new(move || files.iter().map(|file| decode(file, &mut |_| true)).sum())
        }
        Part::Preprocess { pipeline, file } => {
            let (detector, frame) = (detector(pipeline), first_frame(file));
            let mut preparer = detector.preparer();
            let plan = preparer.plan(frame.width(), frame.height()).expect("a plan");
            let mut tensor = vec![0.0; preparer.frame_len(&plan)];
            Box::new(move || {
                for _ in 0..FRAMES {
                    preparer.prepare(&plan, &view(&frame), &mut tensor).expect("preprocess");
                }
                FRAMES
            })
        }
        Part::Model { pipeline, file } => {
            let (mut detector, frame) = (detector(pipeline), first_frame(file));
            let mut preparer = detector.preparer();
            let plan = preparer.plan(frame.width(), frame.height()).expect("a plan");
            let mut tensor = vec![0.0; preparer.frame_len(&plan)];
            preparer.prepare(&plan, &view(&frame), &mut tensor).expect("preprocess");
            let mut output = Vec::new();
            Box::new(move || {
                for _ in 0..FRAMES {
                    detector.infer(&tensor, &mut output).expect("inference");
                }
                FRAMES
            })
        }
    };
    let (wall, cpu) = (Instant::now(), cpu_seconds(libc::RUSAGE_SELF));
    let frames = work();
    let (seconds, cpu_seconds) = (wall.elapsed().as_secs_f64(), cpu_seconds(libc::RUSAGE_SELF) - cpu);
    println!("{}", json!({ "frames": frames, "seconds": seconds, "cpu_seconds": cpu_seconds }));
}

/// Decodes the video of a file while `go_on` wants more, and returns the number of frames.
fn decode(file: &Path, go_on: &mut dyn FnMut(&Video) -> bool) -> u32 {
    let mut input = format::input(file).expect("open the recording");
    let stream = input.streams().best(media::Type::Video).expect("a video stream");
    let index = stream.index();
    let mut context = codec::context::Context::from_parameters(stream.parameters()).expect("a decoder");
    context.set_threading(threading::Config { kind: threading::Type::None, count: 1, ..Default::default() });
    let mut decoder = context.decoder().video().expect("a video decoder");
    let mut frame = Video::empty();
    let mut frames = 0;
    let mut more = true;
    for packet in input.packets().filter(|(stream, _)| stream.index() == index) {
        decoder.send_packet(&packet.1).expect("decode");
        while more && decoder.receive_frame(&mut frame).is_ok() {
            frames += 1;
            more = go_on(&frame);
        }
        if !more {
            return frames;
        }
    }
    decoder.send_eof().expect("decode");
    while decoder.receive_frame(&mut frame).is_ok() {
        frames += 1;
    }
    frames
}

fn first_frame(file: &Path) -> Video {
    let mut first = None;
    decode(file, &mut |frame| {
        first = Some(frame.clone());
        false
    });
    first.expect("a frame")
}

/// The benches use 8-bit 4:2:0 recordings.
fn view(frame: &Video) -> PictureView<'_> {
    let plane = |i: usize| {
        let (width, height) = (frame.plane_width(i), frame.plane_height(i));
        PlaneView { data: frame.data(i), stride: frame.stride(i), width, height }
    };
    PictureView {
        width: frame.width(),
        height: frame.height(),
        planes: [plane(0), plane(1), plane(2)],
        matrix: Matrix::Bt709,
        full_range: false,
    }
}

/// The pipeline's detector in ONNX Runtime.
fn detector(pipeline: &Path) -> Detector {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    let file: PipelineFile = toml::from_str(&read(pipeline)).expect("a pipeline file");
    let beside = |base: &Path, path: &Path| base.parent().expect("a folder").join(path);
    let manifest = beside(pipeline, &file.detect.model);
    let model: Manifest = toml::from_str(&read(&manifest)).expect("a model manifest");
    let bytes = std::fs::read(beside(&manifest, &model.file.path)).expect("read the model");
    let library = process::onnxruntime().expect("ONNX Runtime: run `cargo xtask setup`");
    let detect = Detect { model, settings: file.detect.settings };
    Detector::load(&EngineKind::onnx(library), &bytes, &detect).expect("load the model")
}

/// Processor time so far, user and system, of this process or of its ended children (`RUSAGE_*`).
pub fn cpu_seconds(whose: libc::c_int) -> f64 {
    // SAFETY: `usage` is plain data that the call fills in.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(whose, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
