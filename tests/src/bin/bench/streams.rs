//! How much copying, computing and copying out overlap, and what it brings: batches of pictures through our own kernels with
//! one, two and three batches in flight, on the GPU where there is one and else on the processor, with threads in place
//! of streams. A stand-in that reads every pixel takes the model's place.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Instant,
};

use clap::Args;
use fulltime_common::process;
use fulltime_kernels::{
    Cache, Colour, Compiler, Conveyor, Cuda, Device, FIVE_STREAMS, Frame, Infer, Io, KernelError, Launch, Load,
    Overlap, Placed, Standin, Standing, Streams, THREE_STREAMS,
};
use fulltime_kernels_cpu::Processor;
use serde_json::json;

#[derive(Debug, Clone, Copy, Args)]
pub struct Options {
    /// Pictures of 1920x1080 in NV12.
    #[arg(long, default_value_t = 96)]
    pictures: usize,
    /// Pictures of a batch.
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Side of the network input.
    #[arg(long, default_value_t = 416)]
    side: i32,
    /// Rounds of the stand-in over the picture.
    #[arg(long, default_value_t = 2)]
    effort: i32,
    /// Which GPU.
    #[arg(long, default_value_t = 0)]
    device: usize,
    /// End with one JSON object on the last line.
    #[arg(long)]
    json: bool,
}

const WIDTH: i32 = 1920;
const HEIGHT: i32 = 1080;
const CELL: i32 = 16;

struct Model {
    effort: i32,
}

impl Infer for Model {
    unsafe fn infer(&mut self, device: &dyn Device, stream: usize, io: &Io) -> Result<(), KernelError> {
        let Io { tensor, items, width, height, boxes, counts, .. } = *io;
        let (items, cell, effort) = (items as i32, CELL, self.effort);
        let standin = Standin { tensor, boxes, counts, items, width, height, cell, effort };
        // SAFETY: handed on.
        unsafe { device.launch(stream, &Launch::Standin(standin)) }
    }
}

/// The GPU, or why there is none.
fn gpu(ordinal: usize) -> Result<Cuda, String> {
    let library = process::nvrtc().ok_or("no NVRTC")?;
    let compiler = Compiler::load(&library).map_err(|error| error.to_string())?;
    let cache = Cache::new(&std::env::temp_dir().join("fulltime-kernels"));
    Cuda::open(ordinal, 5, &compiler, &cache).map_err(|error| error.to_string())
}

pub fn run(options: &Options) {
    let device: Box<dyn Device> = match gpu(options.device) {
        Ok(gpu) => Box::new(gpu),
        Err(why) => {
            println!("not on a GPU: {why}");
            Box::new(Processor::new(5))
        }
    };
    println!("device: {}", device.name());
    println!(
        "{} pictures of {WIDTH}x{HEIGHT} (NV12) to {side}x{side}, {} a batch, effort {}",
        options.pictures,
        options.batch,
        options.effort,
        side = options.side
    );
    println!(
        "{:>7} {:>8} {:>10} {:>8} {:>9} {:>9} {:>9}",
        "streams", "in flight", "frames/s", "MB/s", "together", "achieved", "speed-up"
    );
    let (mut rows, mut alone, mut results) = (Vec::new(), None, None);
    for (streams, slots) in
        [(THREE_STREAMS, 1), (THREE_STREAMS, 2), (THREE_STREAMS, 3), (FIVE_STREAMS, 2), (FIVE_STREAMS, 3)]
    {
        let (seconds, overlap, digest) = measure(&*device, options, streams, slots).expect("the device works");
        // Depth may change when things happen, never what comes out.
        assert_eq!(*results.get_or_insert(digest), digest, "other results with {slots} batches in flight");
        let frames = options.pictures as f64 / seconds;
        let megabytes = frames * bytes() as f64 / 1e6;
        let speed_up = *alone.get_or_insert(seconds) / seconds;
        let count = streams.iter().max().map_or(0, |last| last + 1);
        println!(
            "{count:>7} {slots:>8} {frames:>10.1} {megabytes:>8.1} {:>9.3} {:>9.3} {speed_up:>9.2}",
            overlap.together, overlap.achieved
        );
        rows.push(json!({
            "streams": count, "in_flight": slots, "frames_per_second": frames, "megabytes_per_second": megabytes,
            "together": overlap.together, "achieved": overlap.achieved, "speed_up": speed_up,
            "busiest_seconds": overlap.busiest.as_secs_f64(), "serial_seconds": overlap.serial.as_secs_f64(),
        }));
    }
    println!("together: share of the time in which at least two of copying in, computing and copying out went on");
    println!("achieved: time saved by overlap over what these streams could save; results are the same in every row");
    // On a GPU this is the proof that its kernels give what the references give; beside itself the processor proves nothing.
    let few = Options { pictures: 2 * options.batch, ..*options };
    let digest = |device: &dyn Device| measure(device, &few, THREE_STREAMS, 2).expect("the device works").2;
    assert_eq!(digest(&*device), digest(&Processor::new(3)), "{} differs from the processor", device.name());
    println!("results: equal, bit by bit, to those of the processor");
    if options.json {
        println!("{}", json!({ "bench": "streams", "device": device.name(), "rows": rows }));
    }
}

fn bytes() -> usize {
    (WIDTH * (HEIGHT + HEIGHT / 2)) as usize
}

fn measure(
    device: &dyn Device,
    options: &Options,
    streams: Streams,
    slots: usize,
) -> Result<(f64, Overlap, u64), KernelError> {
    let side = options.side;
    let high = side * HEIGHT / WIDTH;
    let crop = Placed { frame: 0, x: 0, y: 0, width: WIDTH, height: HEIGHT, left: 0, top: 0, wide: side, high };
    let picture = Frame::nv12(0, (WIDTH * HEIGHT) as u64, WIDTH, [WIDTH, HEIGHT]);
    let load = Load { pictures: options.batch, picture, bytes: bytes(), crops: vec![crop] };
    // BT.709, limited range, pixels as 0 to 255.
    let colour = Colour {
        luma: 0.004_548_3,
        red_cr: 0.007_003,
        green_cb: -0.000_833,
        green_cr: -0.002_082,
        blue_cb: 0.008_251_6,
        offset: [-248.1, 76.9, -289.0],
        gain: [1.0; 3],
        bias: [0.0; 3],
        pad: [114.0; 3],
    };
    let capacity = ((side / CELL) * (side / CELL)) as usize;
    let standing = Standing {
        slots,
        streams,
        width: side,
        height: side,
        bgr: true,
        nhwc: false,
        half: false,
        colour,
        capacity,
        iou: 0.3,
        timed: true,
    };
    let model = Model { effort: options.effort };
    let mut conveyor = Conveyor::new(device, Box::new(model), load, standing)?;
    // What a decoder would write: the same pictures for every row of the table.
    let pixels: Vec<u8> = (0..bytes() as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 25) as u8 + (i % WIDTH as u32 / 16) as u8)
        .collect();
    let mut digest = DefaultHasher::new();
    let (mut sent, mut taken) = (0, 0);
    let begin = Instant::now();
    while taken < options.pictures {
        while sent < options.pictures {
            let Some(room) = conveyor.room() else { break };
            let count = options.batch.min(options.pictures - sent);
            for (i, room) in room.chunks_exact_mut(bytes()).take(count).enumerate() {
                room.copy_from_slice(&pixels);
                room[..8].copy_from_slice(&((sent + i) as u64).to_le_bytes());
            }
            conveyor.send(count)?;
            sent += count;
        }
        let Some(output) = conveyor.take()? else { break };
        taken += output.hashes.len();
        output.hashes.hash(&mut digest);
        for found in output.boxes.iter().flatten() {
            [found.score, found.x, found.y].map(f32::to_bits).hash(&mut digest);
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let overlap = Overlap::of(conveyor.timeline()).expect("something ran");
    Ok((seconds, overlap, digest.finish()))
}
