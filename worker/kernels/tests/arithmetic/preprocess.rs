use fulltime_common::pipeline::{Channels, Layout, ModelInput, Resize};
use fulltime_kernels::{Axes, Column, Frame, Launch, Placed, Prepare, Row};
use fulltime_vision::{Crop, PictureView, Placed as Reference, reference};
use half::f16;
use proptest::prelude::*;

use crate::pictures::{Picture, Sketch, address, address_mut, colour, run, sketches};

pub fn placed(frame: i32, from: &Reference) -> Placed {
    let Crop { x, y, width, height } = from.crop;
    let [x, y, width, height, left, top, wide, high] =
        [x, y, width, height, from.left, from.top, from.width, from.height].map(|value| value as i32);
    Placed { frame, x, y, width, height, left, top, wide, high }
}

/// Crops of frames through both kernels, f32 and halves.
pub fn kernels(
    frames: &[Frame],
    crops: &[Placed],
    input: &ModelInput,
    [width, height]: [u32; 2],
    colours: &reference::Colour,
) -> (Vec<f32>, Vec<u16>) {
    let (count, sides) = (crops.len(), [width as usize, height as usize]);
    // What nobody writes must not be read.
    let mut columns = vec![Column { left: -9_999_999, right: 9_999_999, weight: f32::NAN }; 2 * count * sides[0]];
    let mut rows = vec![Row { upper: -9_999_999, lower: 9_999_999, weight: 7 }; 2 * count * sides[1]];
    let (width, height) = (width as i32, height as i32);
    let mut axes =
        Axes { frames: address(frames), crops: address(crops), count: count as i32, width, height, ..Axes::default() };
    (axes.columns, axes.rows) = (address_mut(&mut columns), address_mut(&mut rows));
    run(Launch::Axes(axes));
    let len = 3 * count * sides[0] * sides[1];
    let (mut full, mut halves) = (vec![f32::NAN; len], vec![0xffff_u16; len]);
    let mut prepare = Prepare {
        frames: address(frames),
        crops: address(crops),
        columns: axes.columns,
        rows: axes.rows,
        out: address_mut(&mut full),
        count: count as i32,
        width,
        height,
        bgr: i32::from(input.channels == Channels::Bgr),
        nhwc: i32::from(input.layout == Layout::Nhwc),
        half: 0,
        colour: colour(colours),
    };
    run(Launch::Prepare(prepare));
    (prepare.half, prepare.out) = (1, address_mut(&mut halves));
    run(Launch::Prepare(prepare));
    (full, halves)
}

pub fn compare(
    view: &PictureView,
    placed: &Reference,
    input: &ModelInput,
    size: [u32; 2],
    full: &[f32],
    halves: &[u16],
) {
    let mut expected = vec![f32::NAN; full.len()];
    reference::prepare(view, placed, input, size, &mut expected).unwrap();
    for (i, expected) in expected.iter().enumerate() {
        assert_eq!(full[i].to_bits(), expected.to_bits(), "value {i}: {} instead of {expected}", full[i]);
        let half = f16::from_f32(*expected).to_bits();
        assert_eq!(halves[i], half, "half {i} of {expected}: {:#x} instead of {half:#x}", halves[i]);
    }
}

pub fn input(resize: Resize, bgr: bool, nhwc: bool, normalised: bool, pad: u8) -> ModelInput {
    ModelInput {
        name: None,
        layout: if nhwc { Layout::Nhwc } else { Layout::Nchw },
        channels: if bgr { Channels::Bgr } else { Channels::Rgb },
        size: [32, 32],
        resize,
        pad,
        scale: if normalised { 1.0 / 255.0 } else { 1.0 },
        mean: if normalised { [0.485, 0.456, 0.406] } else { [0.0; 3] },
        std: if normalised { [0.229, 0.224, 0.225] } else { [1.0; 3] },
    }
}

pub fn resizes() -> impl Strategy<Value = Resize> {
    prop::sample::select(vec![Resize::LetterboxTopLeft, Resize::LetterboxCentre, Resize::Stretch])
}

/// Shares of a side to a part of it, at least one pixel.
fn cut(side: u32, from: f64, to: f64) -> (u32, u32) {
    let first = (f64::from(side) * from.min(to)) as u32;
    let last = (f64::from(side) * from.max(to)).ceil() as u32;
    let first = first.min(side - 1);
    (first, last.clamp(first + 1, side) - first)
}

fn check(sketch: Sketch, input: &ModelInput, size: [u32; 2], [x0, x1, y0, y1]: [f64; 4]) {
    let picture = Picture::new(sketch);
    let view = picture.view();
    let ((x, width), (y, height)) = (cut(view.width, x0, x1), cut(view.height, y0, y1));
    let at = Reference::new(Crop { x, y, width, height }, input.resize, size, [false; 4]);
    let colours = reference::Colour::new(view.matrix, view.full_range, input);
    let (full, halves) = kernels(&[picture.frame()], &[placed(0, &at)], input, size, &colours);
    compare(&view, &at, input, size, &full, &halves);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_of_a_crop_equals_the_reference_bit_by_bit(
        sketch in sketches(90), resize in resizes(),
        size in [1_u32..70, 1_u32..70],
        (bgr, nhwc, normalised, pad) in any::<(bool, bool, bool, u8)>(),
        cut in [0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0],
    ) {
        check(sketch, &input(resize, bgr, nhwc, normalised, pad), size, cut);
    }

    #[test]
    fn a_batch_of_tiles_of_several_frames_equals_each_tile_alone(
        sketches in prop::collection::vec(sketches(40), 1..4),
        tiles in prop::collection::vec((any::<prop::sample::Index>(), [0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0]), 1..6),
        resize in resizes(),
    ) {
        // One batch has one colour conversion: recordings do not mix them.
        let (bt601, full_range) = (sketches[0].bt601, sketches[0].full_range);
        let pictures: Vec<Picture> =
            sketches.iter().map(|&sketch| Picture::new(Sketch { bt601, full_range, ..sketch })).collect();
        let frames: Vec<Frame> = pictures.iter().map(Picture::frame).collect();
        let (size, input) = ([24, 16], input(resize, true, false, true, 114));
        let tiles: Vec<(usize, Reference)> = tiles.iter().map(|(index, [x0, x1, y0, y1])| {
            let frame = index.index(pictures.len());
            let view = pictures[frame].view();
            let ((x, width), (y, height)) = (cut(view.width, *x0, *x1), cut(view.height, *y0, *y1));
            (frame, Reference::new(Crop { x, y, width, height }, resize, size, [false; 4]))
        }).collect();
        // The last item is empty: a batch that is not full is padded.
        let crops: Vec<Placed> =
            tiles.iter().map(|(frame, at)| placed(*frame as i32, at)).chain([Placed::default()]).collect();
        let colours = reference::Colour::new(pictures[0].view().matrix, full_range, &input);
        let (full, halves) = kernels(&frames, &crops, &input, size, &colours);
        let item = 3 * 24 * 16;
        for (i, (frame, at)) in tiles.iter().enumerate() {
            let items = i * item..(i + 1) * item;
            compare(&pictures[*frame].view(), at, &input, size, &full[items.clone()], &halves[items]);
        }
        let empty = &full[tiles.len() * item..];
        prop_assert!((0..3).all(|c| empty[c * 24 * 16..][..24 * 16].iter().all(|&value| value == colours.pad[c])));
    }
}

#[test]
fn a_broadcast_picture_equals_the_reference_bit_by_bit() {
    let sketch = Sketch {
        size: [1920, 1080],
        form: crate::pictures::Form::Nv12,
        margin: 128,
        lead: 0,
        seed: 5,
        bt601: false,
        full_range: false,
    };
    check(sketch, &input(Resize::LetterboxTopLeft, true, false, false, 114), [640, 640], [0.0, 1.0, 0.0, 1.0]);
    check(sketch, &input(Resize::LetterboxCentre, false, true, true, 114), [416, 416], [0.123, 0.7, 0.2, 0.9]);
}

/// Every half and the middles between neighbours, through a picture that is nothing but the bias.
#[test]
fn halves_are_rounded_to_nearest_even_over_the_whole_range() {
    let mut wanted = Vec::new();
    for bits in 0..=0x7c00_u16 {
        let value = f16::from_bits(bits).to_f32();
        let next = f16::from_bits((bits + 1).min(0x7c00)).to_f32();
        let middle = if next.is_finite() { f32::midpoint(value, next) } else { 65520.0 };
        for value in
            [value, middle, f32::from_bits(middle.to_bits().saturating_sub(1)), f32::from_bits(middle.to_bits() + 1)]
        {
            wanted.extend([value, -value]);
        }
    }
    wanted.extend([f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-40, f32::NAN]);
    for three in wanted.chunks(3) {
        let mut pad = [0.0; 3];
        pad[..three.len()].copy_from_slice(three);
        let mut out = [0_u16; 3];
        let colour = fulltime_kernels::Colour { pad, ..Default::default() };
        let crop = [Placed::default()];
        let prepare = Prepare {
            crops: address(&crop),
            out: address_mut(&mut out),
            count: 1,
            width: 1,
            height: 1,
            half: 1,
            colour,
            ..Prepare::default()
        };
        run(Launch::Prepare(prepare));
        for (value, found) in pad.iter().zip(out) {
            assert_eq!(found, f16::from_f32(*value).to_bits(), "{value}");
        }
    }
}
