//! Pictures, what the references say of them, and a run that compares.

use fulltime_common::pipeline::{Channels, Layout, ModelInput, Resize};
use fulltime_kernels::{
    Colour, Conveyor, Device, Found, Frame, Infer, Io, KernelError, Launch, Load, Output, Placed, Standin, Standing,
    Streams,
};
use fulltime_vision::{
    Crop, Detection, Matrix, PictureView, Placed as Reference, PlaneView,
    reference::{self, suppress},
};

pub const WIDTH: u32 = 62;
pub const HEIGHT: u32 = 38;
pub const PITCH: usize = 64;
const BYTES: usize = PITCH * (HEIGHT + HEIGHT / 2) as usize;
const SIZE: [u32; 2] = [48, 32];
const CELL: i32 = 8;
const CELLS: usize = 6 * 4;
const IOU: f32 = 0.3;

/// An NV12 picture that no other equals.
pub fn picture(number: u64) -> Vec<u8> {
    (0..BYTES as u64).map(|i| ((i ^ number << 32).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 41) as u8).collect()
}

fn input() -> ModelInput {
    ModelInput {
        name: None,
        layout: Layout::Nchw,
        channels: Channels::Bgr,
        size: SIZE,
        resize: Resize::LetterboxCentre,
        pad: 114,
        scale: 1.0 / 255.0,
        mean: [0.4; 3],
        std: [0.25; 3],
    }
}

/// Two tiles.
fn tiles() -> [Reference; 2] {
    [(0, 40), (21, 41)].map(|(x, width)| {
        let crop = Crop { x, y: 0, width, height: HEIGHT };
        Reference::new(crop, input().resize, SIZE, [false; 4])
    })
}

pub fn load() -> Load {
    let crops = tiles().map(|at| {
        let Crop { x, y, width, height } = at.crop;
        let all = [x, y, width, height, at.left, at.top, at.width, at.height].map(|value| value as i32);
        let [x, y, width, height, left, top, wide, high] = all;
        Placed { frame: 0, x, y, width, height, left, top, wide, high }
    });
    let picture = Frame::nv12(0, (PITCH * HEIGHT as usize) as u64, PITCH as i32, [WIDTH as i32, HEIGHT as i32]);
    Load { pictures: 3, picture, bytes: BYTES, crops: crops.to_vec() }
}

pub fn standing(slots: usize, streams: Streams) -> Standing {
    let reference::Colour { luma, red_cr, green_cb, green_cr, blue_cb, offset, gain, bias, pad } =
        reference::Colour::new(Matrix::Bt709, false, &input());
    Standing {
        slots,
        streams,
        width: SIZE[0] as i32,
        height: SIZE[1] as i32,
        bgr: true,
        nhwc: false,
        half: false,
        colour: Colour { luma, red_cr, green_cb, green_cr, blue_cb, offset, gain, bias, pad },
        capacity: CELLS,
        iou: IOU,
        timed: true,
    }
}

/// The stand-in for a model, on the device's stream.
pub struct OnStream;

fn standin(io: &Io) -> Launch {
    Launch::Standin(Standin {
        tensor: io.tensor,
        boxes: io.boxes,
        counts: io.counts,
        items: io.items as i32,
        width: io.width,
        height: io.height,
        cell: CELL,
        effort: 2,
    })
}

impl Infer for OnStream {
    unsafe fn infer(&mut self, device: &dyn Device, stream: usize, io: &Io) -> Result<(), KernelError> {
        // SAFETY: handed on.
        unsafe { device.launch(stream, &standin(io)) }
    }
}

/// The same, done by the host before it returns, as an engine does that knows nothing of our streams.
pub struct OnHost;

impl Infer for OnHost {
    fn on_host(&self) -> bool {
        true
    }

    unsafe fn infer(&mut self, _: &dyn Device, _: usize, io: &Io) -> Result<(), KernelError> {
        // SAFETY: the device is the processor, so its memory is this process's.
        unsafe { fulltime_kernels_cpu::run(&standin(io)) };
        Ok(())
    }
}

/// What the references say of a picture: its hash and the boxes of each tile.
fn expected(pixels: &[u8]) -> (u64, Vec<Vec<[u32; 6]>>) {
    let [half_width, half_height] = [WIDTH / 2, HEIGHT / 2];
    let luma: Vec<u8> = (0..HEIGHT as usize).flat_map(|y| &pixels[y * PITCH..][..WIDTH as usize]).copied().collect();
    let chroma = |odd: usize| -> Vec<u8> {
        let rows = &pixels[PITCH * HEIGHT as usize..];
        (0..half_height as usize)
            .flat_map(|y| rows[y * PITCH..][..WIDTH as usize].chunks(2))
            .map(|two| two[odd])
            .collect()
    };
    let (cb, cr) = (chroma(0), chroma(1));
    let rows = [(&luma, WIDTH), (&cb, half_width), (&cr, half_width)];
    let hash = rows.iter().fold(u64::from(WIDTH) << 32 | u64::from(HEIGHT), |hash, (plane, width)| {
        plane.chunks(*width as usize).fold(hash, twox_hash::XxHash64::oneshot)
    });
    let plane = |data, width, height| PlaneView { data, stride: width as usize, width, height };
    let planes =
        [plane(&luma[..], WIDTH, HEIGHT), plane(&cb, half_width, half_height), plane(&cr, half_width, half_height)];
    let view = PictureView { width: WIDTH, height: HEIGHT, planes, matrix: Matrix::Bt709, full_range: false };
    let boxes = tiles().map(|at| {
        let mut tensor = vec![0.0; 3 * (SIZE[0] * SIZE[1]) as usize];
        reference::prepare(&view, &at, &input(), SIZE, &mut tensor).unwrap();
        let mut boxes: Vec<Detection> = (0..CELLS).map(|i| cell(&tensor, i)).collect();
        suppress(&mut boxes, IOU);
        boxes.iter().map(|d| bits(u32::from(d.class), [d.score, d.x, d.y, d.w, d.h])).collect()
    });
    (hash, boxes.to_vec())
}

/// What the stand-in says of a cell.
fn cell(tensor: &[f32], i: usize) -> Detection {
    let (side, across) = (CELL as usize, SIZE[0] as usize / CELL as usize);
    let (x, y) = (i % across * side, i / across * side);
    let mut score = 0.0_f32;
    for _ in 0..2 {
        for j in 0..side * side {
            score = score * 0.5 + tensor[(y + j / side) * SIZE[0] as usize + x + j % side];
        }
    }
    let long = 2.0 * side as f32;
    Detection { class: (i % 3) as u16, score, x: x as f32, y: y as f32, w: long, h: long }
}

fn bits(label: u32, [score, x, y, w, h]: [f32; 5]) -> [u32; 6] {
    [label, score.to_bits(), x.to_bits(), y.to_bits(), w.to_bits(), h.to_bits()]
}

pub fn check(output: &Output, first: u64, pictures: usize) {
    assert_eq!((output.hashes.len(), output.boxes.len()), (pictures, 2 * pictures));
    for i in 0..pictures {
        let (hash, boxes) = expected(&picture(first + i as u64));
        assert_eq!(output.hashes[i], hash, "picture {}", first + i as u64);
        for (tile, expected) in boxes.iter().enumerate() {
            let found = output.boxes[2 * i + tile].iter();
            let found: Vec<[u32; 6]> = found.map(|b: &Found| bits(b.label, [b.score, b.x, b.y, b.w, b.h])).collect();
            assert!(expected.len() > 1 && expected.len() < CELLS, "{}", expected.len());
            assert_eq!(&found, expected, "picture {} tile {tile}", first + i as u64);
        }
    }
}

/// Sends 20 pictures in batches of at most three, as far as there is room, and checks all that comes out.
pub fn run(conveyor: &mut Conveyor, slots: usize) {
    let sizes = [3, 3, 1, 3, 2, 3, 3, 2];
    let (mut sent, mut taken, mut first_sent, mut first_taken) = (0, 0, 0, 0);
    while taken < sizes.len() {
        while sent < sizes.len() {
            let Some(room) = conveyor.room() else { break };
            for (i, room) in room.chunks_exact_mut(BYTES).take(sizes[sent]).enumerate() {
                room.copy_from_slice(&picture(first_sent + i as u64));
            }
            assert_eq!(conveyor.send(sizes[sent]).unwrap(), sent as u64);
            first_sent += sizes[sent] as u64;
            sent += 1;
        }
        assert!(conveyor.in_flight() <= slots && (conveyor.in_flight() == slots || sent == sizes.len()));
        let output = conveyor.take().unwrap().unwrap();
        assert_eq!(output.batch, taken as u64);
        check(&output, first_taken, sizes[taken]);
        first_taken += sizes[taken] as u64;
        taken += 1;
    }
    assert_eq!(conveyor.take().unwrap(), None);
}
