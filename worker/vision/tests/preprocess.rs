//! Preprocessing against its definition, written plainly in f64: every output value of random geometries.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

mod common;

use common::{Picture, detect, sim};
use fulltime_common::pipeline::{Channels, Detect, Layout, Region, Resize, Tiles};
use fulltime_vision::{Detector, Matrix, PictureView, Placed};
use proptest::prelude::*;

fn prepare(detect: &Detect, view: &PictureView) -> (Vec<Placed>, Vec<f32>) {
    let mut preparer = Detector::load(&sim(), &[], detect).unwrap().preparer();
    let plan = preparer.plan(view.width, view.height).unwrap();
    let mut tensor = vec![f32::NAN; preparer.frame_len(&plan)];
    preparer.prepare(&plan, view, &mut tensor).unwrap();
    (plan.crops, tensor)
}

/// Bilinear sample of a plane at a position in luma samples; chroma sited left and half way down.
fn sample(picture: &Picture, plane: usize, x: f64, y: f64) -> f64 {
    let [width, height] = picture.plane_size(plane);
    let [across, down] = if plane == 0 { [1.0; 2] } else { picture.factors.map(f64::from) };
    let x = (x / across).min(f64::from(width - 1));
    let y = ((y + 0.5) / down - 0.5).clamp(0.0, f64::from(height - 1));
    let at = |dx: u32, dy: u32| {
        let (x, y) = ((x as u32 + dx).min(width - 1), (y as u32 + dy).min(height - 1));
        f64::from(picture.sample(plane, x, y))
    };
    let (u, v) = (x.fract(), y.fract());
    let row = |dy| at(0, dy) * (1.0 - u) + at(1, dy) * u;
    row(0) * (1.0 - v) + row(1) * v
}

/// Red, green and blue, 0 to 255, after ITU-R BT.601 and BT.709.
fn rgb(picture: &Picture, x: f64, y: f64) -> [f64; 3] {
    let [luma, cb, cr] = [0, 1, 2].map(|plane| sample(picture, plane, x, y));
    let (luma, cb, cr) = match picture.full_range {
        true => (luma / 255.0, (cb - 128.0) / 255.0, (cr - 128.0) / 255.0),
        false => ((luma - 16.0) / 219.0, (cb - 128.0) / 224.0, (cr - 128.0) / 224.0),
    };
    let (kr, kb) = match picture.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
    };
    let (red, blue) = (luma + 2.0 * (1.0 - kr) * cr, luma + 2.0 * (1.0 - kb) * cb);
    let green = (luma - kr * red - kb * blue) / (1.0 - kr - kb);
    [red, green, blue].map(|value| (value * 255.0).clamp(0.0, 255.0))
}

/// Largest and mean difference in grey levels over all values of all items.
fn difference(picture: &Picture, detect: &Detect) -> (f64, f64) {
    let input = &detect.model.input;
    let [width, height] = input.size;
    let (crops, tensor) = prepare(detect, &picture.view());
    let (mut worst, mut sum) = (0.0_f64, 0.0);
    for (placed, item) in crops.iter().zip(tensor.chunks_exact(3 * (width * height) as usize)) {
        let position = |i: u32, from: u32, crop: u32, n: u32| {
            let inside = (f64::from(i) + 0.5) * f64::from(crop) / f64::from(n) - 0.5;
            f64::from(from) + inside.clamp(0.0, f64::from(crop - 1))
        };
        for y in 0..height {
            for x in 0..width {
                let (right, low) = (placed.left + placed.width, placed.top + placed.height);
                let inside = (placed.left..right).contains(&x) && (placed.top..low).contains(&y);
                let mut expected = [f64::from(input.pad); 3];
                if inside {
                    let u = position(x - placed.left, placed.crop.x, placed.crop.width, placed.width);
                    let v = position(y - placed.top, placed.crop.y, placed.crop.height, placed.height);
                    expected = rgb(picture, u, v);
                    if input.channels == Channels::Bgr {
                        expected.reverse();
                    }
                }
                for (c, expected) in expected.into_iter().enumerate() {
                    let at = match input.layout {
                        Layout::Nchw => (c as u32 * height + y) * width + x,
                        Layout::Nhwc => (y * width + x) * 3 + c as u32,
                    };
                    let found = f64::from((item[at as usize] * input.std[c] + input.mean[c]) / input.scale);
                    worst = worst.max((found - expected).abs());
                    sum += (found - expected).abs();
                }
            }
        }
    }
    (worst, sum / tensor.len() as f64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_value_is_the_bilinear_sample_in_the_right_colours(
        width in 1_u32..90, height in 1_u32..90,
        factors in prop::sample::select(vec![[1, 1], [2, 1], [2, 2], [1, 2], [4, 1]]),
        size in prop::sample::select(vec![[32_u32, 32_u32], [64, 32], [32, 96]]),
        resize in prop::sample::select(vec![Resize::LetterboxTopLeft, Resize::LetterboxCentre, Resize::Stretch]),
        tiles in prop::option::of((1_u32..4, 1_u32..3)),
        region in prop::option::of((0.0_f32..0.5, 0.5_f32..1.0)),
        (bgr, nhwc, full_range, bt601) in any::<(bool, bool, bool, bool)>(),
        seed in any::<u32>(),
    ) {
        let mut picture = Picture::noise(width, height, factors, seed);
        picture.full_range = full_range;
        picture.matrix = if bt601 { Matrix::Bt601 } else { Matrix::Bt709 };
        let mut detect = detect(size);
        let input = &mut detect.model.input;
        (input.resize, input.scale, input.mean, input.std) =
            (resize, 1.0 / 255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        input.channels = if bgr { Channels::Bgr } else { Channels::Rgb };
        input.layout = if nhwc { Layout::Nhwc } else { Layout::Nchw };
        detect.settings.tiles = tiles.map(|(columns, rows)| Tiles { columns, rows, overlap: 0.2 });
        detect.settings.region = Region::Polygon(region.map_or(vec![], |(a, b)| vec![[a, a], [b, a], [b, b], [a, b]]));
        // Rows are weighted in 1/256: on noise of full contrast half a step of luma and of chroma, times the matrix.
        let (worst, _) = difference(&picture, &detect);
        prop_assert!(worst < 2.2, "off by {worst} grey levels");
    }
}

#[test]
fn on_a_picture_without_hard_edges_values_are_right_to_a_tenth_of_a_grey_level() {
    for factors in [[1, 1], [2, 1], [2, 2]] {
        let (worst, mean) = difference(&Picture::waves(333, 187, factors), &detect([160, 96]));
        assert!(worst < 0.1 && mean < 0.02, "{factors:?}: worst {worst}, mean {mean}");
    }
}

#[test]
fn a_crop_at_odd_pixels_sees_what_the_whole_picture_shows_there() {
    // The picture in its own size, once whole and once as a crop from (3, 5): no value may differ where both look.
    let picture = Picture::waves(64, 64, [2, 2]);
    let (_, whole) = prepare(&detect([64, 64]), &picture.view());
    let mut cropped = detect([32, 32]);
    let (x, y) = (3.0 / 64.0, 5.0 / 64.0);
    cropped.settings.region = Region::Polygon(vec![[x, y], [x + 0.5, y], [x + 0.5, y + 0.5], [x, y + 0.5]]);
    let (crops, part) = prepare(&cropped, &picture.view());
    assert_eq!((crops[0].crop.x, crops[0].crop.y, crops[0].crop.width), (3, 5, 32));
    for (i, value) in part.iter().enumerate() {
        let (c, y, x) = (i / 1024, i / 32 % 32, i % 32);
        assert_eq!(*value, whole[(c * 64 + y + 5) * 64 + x + 3], "channel {c} at {x}, {y}");
    }
}

#[test]
fn black_and_white_come_out_as_0_and_255() {
    for (low, high, full_range) in [(16, 235, false), (0, 255, true)] {
        let mut picture = Picture::new(64, 64, [2, 2], |plane, x, _| match (plane, x < 32) {
            (0, true) => low,
            (0, false) => high,
            _ => 128,
        });
        picture.full_range = full_range;
        let (_, tensor) = prepare(&detect([64, 64]), &picture.view());
        for (i, value) in tensor.iter().enumerate() {
            let expected = if i % 64 < 32 { 0.0 } else { 255.0 };
            assert!((value - expected).abs() < 1e-3, "{value} instead of {expected}");
        }
    }
}

#[test]
fn a_picture_whose_planes_do_not_fit_is_refused() {
    let picture = Picture::noise(64, 48, [2, 2], 1);
    let mut preparer = Detector::load(&sim(), &[], &detect([64, 64])).unwrap().preparer();
    let plan = preparer.plan(64, 48).unwrap();
    let mut tensor = vec![0.0; preparer.frame_len(&plan)];

    let mut short = picture.view();
    short.planes[2].data = &short.planes[2].data[..100];
    let error = preparer.prepare(&plan, &short, &mut tensor).unwrap_err();
    assert_eq!(error.to_string(), "plane 2 of a picture of 64x48 has 100 bytes, but needs 883");

    let mut odd = picture.view();
    odd.planes[1].width = 20;
    assert!(preparer.prepare(&plan, &odd, &mut tensor).is_err());
    let other = preparer.plan(48, 64).unwrap();
    assert!(preparer.prepare(&other, &picture.view(), &mut tensor).is_err());
    assert!(preparer.prepare(&plan, &picture.view(), &mut tensor[1..]).is_err());
}
