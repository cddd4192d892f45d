//! The colours of a kit in 24 numbers, for the reduce to tell teams by: torso and legs, twelve each, counted over the
//! chroma samples of a part of the box. The definition is `models/synthpeople/kit.py`; all of it is integer arithmetic.

use crate::picture::PictureView;

/// Torso and legs: left, top, right, bottom as shares of the box.
const REGIONS: [[f64; 4]; 2] = [[0.2, 0.15, 0.8, 0.5], [0.2, 0.5, 0.8, 0.85]];
/// Chroma further than this from grey is a colour; luma below and above these is black and white.
const COLOURED: i32 = 18;
const DARK: i32 = 70;
const BRIGHT: i32 = 160;
const HUES: usize = 8;

/// Shares of eight hues (the first around pure Cb, then every 45 degrees towards Cr), of black, grey and white among the
/// pixels that are not grass, out of 255, and the share of those pixels; torso, then legs. `sides` is left, top, width,
/// height in pixels of the picture, which must have passed its check. All zero where no pixel is.
pub(crate) fn kit(view: &PictureView, sides: [f32; 4]) -> [u8; 24] {
    let [x, y, w, h] = sides.map(f64::from);
    let mut numbers = [0; 24];
    for (part, [left, top, right, bottom]) in numbers.chunks_exact_mut(12).zip(REGIONS) {
        let half = |pixels: f64| (pixels / 2.0).round_ties_even().max(0.0) as usize;
        let (x0, y0) = (half(x + w * left), half(y + h * top));
        let (x1, y1) = (half(x + w * right).max(x0 + 1), half(y + h * bottom).max(y0 + 1));
        part.copy_from_slice(&region(view, [x0, y0, x1, y1]));
    }
    numbers
}

/// Corners in units of two pixels.
fn region(view: &PictureView, [x0, y0, x1, y1]: [usize; 4]) -> [u8; 12] {
    let [luma, cb, cr] = &view.planes;
    let [across, down] = view.subsampling().map(|factor| factor as usize);
    let (columns, rows) = (view.width.div_ceil(2) as usize, view.height.div_ceil(2) as usize);
    let (mut counts, mut seen) = ([0_usize; HUES + 3], 0);
    for y in y0..y1.min(rows) {
        let bright = luma.row(2 * y, 0, luma.width as usize);
        let [blue, red] = [cb, cr].map(|plane| plane.row(2 * y / down, 0, plane.width as usize));
        for x in x0..x1.min(columns) {
            let (y, u, v) =
                (i32::from(bright[2 * x]), i32::from(blue[2 * x / across]) - 128, i32::from(red[2 * x / across]) - 128);
            seen += 1;
            if !is_grass(y, u, v) {
                counts[kind(y, u, v)] += 1;
            }
        }
    }
    let total: usize = counts.iter().sum();
    let mut numbers = [0; 12];
    if let Some(share) = (255 * total).checked_div(seen) {
        let of_total = |count: usize| ((count * 255 + total.max(1) / 2) / total.max(1)) as u8;
        numbers[..HUES + 3].copy_from_slice(&counts.map(of_total));
        numbers[HUES + 3] = share as u8;
    }
    numbers
}

/// Grass in BT.709: both colour differences below grey.
fn is_grass(y: i32, u: i32, v: i32) -> bool {
    u < -8 && v < -4 && y < 150
}

fn kind(y: i32, u: i32, v: i32) -> usize {
    if u * u + v * v > COLOURED * COLOURED {
        hue(u, v)
    } else if y < DARK {
        HUES
    } else if y > BRIGHT {
        HUES + 2
    } else {
        HUES + 1
    }
}

/// The eighth of the circle that the angle of (u, v) is nearest to. The bounds lie at 22.5 degrees and so on, whose
/// tangent is the square root of 2 less 1: the angle is below if (|u| + |v|)² < 2u². No integer lies on a bound.
fn hue(u: i32, v: i32) -> usize {
    let both = (u.abs() + v.abs()) * (u.abs() + v.abs());
    if both < 2 * u * u {
        if u > 0 { 0 } else { 4 }
    } else if both < 2 * v * v {
        if v > 0 { 2 } else { 6 }
    } else {
        match (u > 0, v > 0) {
            (true, true) => 1,
            (false, true) => 3,
            (false, false) => 5,
            (true, false) => 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hues_are_the_nearest_eighths_of_the_circle() {
        for u in -128_i32..128 {
            for v in -128_i32..128 {
                if (u, v) != (0, 0) {
                    let angle = f64::from(v).atan2(f64::from(u)) / std::f64::consts::TAU;
                    let expected = ((angle + 1.0) * 8.0 + 0.5).floor() as usize % 8;
                    assert_eq!(hue(u, v), expected, "{u}, {v}");
                }
            }
        }
    }
}
