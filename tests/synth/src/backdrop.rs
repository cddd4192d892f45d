//! The empty stadium as one large texture per camera post, painted once and warped into every frame.
//!
//! A camera that turns on the spot sees a fixed panorama. It is kept as a cylinder (columns are pan angles, rows are
//! tangents of elevation), so that any pan, tilt and zoom is a smooth warp: exact on a coarse grid, linear between. The warp
//! makes a picture of half the size, which is then interpolated: four times fewer texels, and sharp enough for what lies
//! behind the players.

use std::{f32::consts::PI, ops::Range};

use fulltime_media::encode::Yuv420Frame;

use crate::{
    camera::{Camera, Operator, Post},
    cast::rgb_to_yuv,
    geometry::{HALF_LENGTH, HALF_WIDTH, Vec2, Vec3, vec3},
    scene::Ball,
    stadium::Stadium,
};

/// Texels per picture pixel at the closest zoom.
const SHARPNESS: f32 = 0.5;
/// Spacing of the exact grid in pixels of the half-size picture; between its points the warp is off by less than a tenth
/// of a pixel.
const CELL: usize = 16;

#[derive(Debug)]
pub enum Backdrop {
    /// What a camera that never moves sees.
    Still(Yuv420Frame),
    Cylinder {
        /// Y, U, V.
        planes: [Texture; 3],
        /// Pan and elevation tangent of the first texel, texels per radian.
        left: f32,
        top: f32,
        scale: f32,
    },
}

impl Backdrop {
    /// Paints what `post` can see in a picture of this size, on `threads` threads.
    #[must_use]
    pub fn paint(stadium: &Stadium, post: Post, width: u32, height: u32, threads: usize) -> Self {
        let eye = post.position();
        let (wide, close) = post.zoom();
        if post.is_fixed() {
            let camera = Operator::new(post, 0, (width, height), Vec2::default()).follow(&Ball::default(), 0.0);
            let ray = |x: f32, y: f32| turn(camera.ray(x, y), camera.pan);
            let shade = |x: f32, y: f32| stadium.shade(eye, ray(x, y), 1.0 / camera.focal);
            return Self::Still(paint(width as usize, height as usize, threads, shade));
        }
        let scale = close * width as f32 * SHARPNESS;
        // Operators never aim beyond the pitch; half a picture more is all that can come into view.
        let half_view = (0.5 / wide).atan() + 0.02;
        let half_tall = (0.5 / wide * height as f32 / width as f32).atan() + 0.02;
        let right = (HALF_LENGTH / (-HALF_WIDTH + 9.0 - eye.y)).atan() + half_view;
        let down = (eye.z / (-HALF_WIDTH + 6.0 - eye.y)).atan() + half_tall;
        let up = (eye.z / (HALF_WIDTH - eye.y).hypot(HALF_LENGTH)).atan() - half_tall - 0.02;
        let (left, top) = (-right, -up.tan());
        let columns = even((2.0 * right * scale) as usize + 4);
        let rows = even(((down.tan() - up.tan()) * scale) as usize + 4);
        let painted = paint(columns, rows, threads, |x, y| {
            let (sin, cos) = (left + x / scale).sin_cos();
            stadium.shade(eye, vec3(sin, cos, top - y / scale), 1.0 / scale)
        });
        Self::Cylinder { planes: [0, 1, 2].map(|i| Texture::new(painted.plane(i))), left, top, scale }
    }

    /// Fills `frame` with what `camera` sees, smeared sideways over `blur` pixels as a panning shutter does.
    pub fn show(&self, camera: &Camera, blur: f32, frame: &mut Yuv420Frame) {
        let (planes, left, top, scale) = match self {
            Self::Still(picture) => return frame.clone_from(picture),
            Self::Cylinder { planes, left, top, scale } => (planes, *left, *top, *scale),
        };
        let (width, height) = (frame.width as usize, frame.height as usize);
        let (half_width, half_height) = (even(width.div_ceil(2)), even(height.div_ceil(2)));
        let grid = Grid::new(half_width, half_height, &|x, y| {
            let ray = camera.ray(x * 2.0, y * 2.0);
            let pan = wrap(camera.pan + ray.x.atan2(ray.y));
            ((pan - left) * scale, (top - ray.z / ray.x.hypot(ray.y)) * scale)
        });
        let mut half = vec![0; half_width * half_height];
        for (i, (texture, plane)) in planes.iter().zip([&mut frame.y, &mut frame.u, &mut frame.v]).enumerate() {
            let by = if i == 0 { 1 } else { 2 };
            let small = &mut half[..half_width / by * (half_height / by)];
            grid.warp(texture, by, small, half_width / by);
            smear(small, half_width / by, blur / (2 * by) as f32);
            double(small, half_width / by, plane, width / by);
        }
    }
}

/// Pixels that are sampled together, and the texels that they can step over at the widest zoom, with a neighbour.
const BLOCK: usize = 8;
const REACH: usize = 16;

/// One plane of the panorama.
pub struct Texture {
    texels: Vec<u8>,
    columns: usize,
    rows: usize,
}

impl std::fmt::Debug for Texture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Texture({}x{})", self.columns, self.rows)
    }
}

impl Texture {
    fn new((plane, columns, rows): (&[u8], usize, usize)) -> Self {
        Self { texels: plane.to_vec(), columns, rows }
    }

    /// Fills `span` with bilinear samples along a straight way, positions in 16.16 fixed point. Rows hardly change within
    /// a few pixels (the camera does not roll), so each block of them takes one height: two stretches of rows are mixed as
    /// vectors, and only the step across remains for every pixel.
    #[inline(always)]
    fn sample(&self, span: &mut [u8], (mut u, mut v): (i32, i32), (du, dv): (i32, i32)) {
        for block in span.chunks_mut(BLOCK) {
            let middle = (v + dv * (BLOCK as i32 / 2)) as u32;
            let first = u.min(u + du * BLOCK as i32) as u32 >> 16;
            let at = (middle >> 16) as usize * self.columns + first as usize;
            let (Some(top), Some(bottom)) = (self.stretch::<REACH>(at), self.stretch::<REACH>(at + self.columns))
            else {
                block.fill(16);
                continue;
            };
            let down = (middle >> 8 & 0xff) as u16;
            let mut mixed = [0u8; REACH];
            for ((mixed, top), bottom) in mixed.iter_mut().zip(top).zip(bottom) {
                *mixed = ((u16::from(*top) * (256 - down) + u16::from(*bottom) * down) >> 8) as u8;
            }
            for value in &mut *block {
                let (i, across) = (((u as u32 >> 16) - first) as usize, u as u32 >> 8 & 0xff);
                let (left, right) = (u32::from(mixed[i & (REACH - 1)]), u32::from(mixed[(i + 1) & (REACH - 1)]));
                *value = ((left * (256 - across) + right * across + 128) >> 8) as u8;
                u += du;
            }
            v += dv * BLOCK as i32;
        }
    }

    fn stretch<const LENGTH: usize>(&self, at: usize) -> Option<&[u8; LENGTH]> {
        self.texels.get(at..)?.first_chunk()
    }
}

/// Texel positions at the corners of square cells.
struct Grid {
    corners: Vec<(f32, f32)>,
    columns: usize,
}

impl Grid {
    fn new(width: usize, height: usize, to_texel: &dyn Fn(f32, f32) -> (f32, f32)) -> Self {
        let (columns, rows) = (width.div_ceil(CELL) + 1, height.div_ceil(CELL) + 1);
        let corners = (0..columns * rows).map(|i| to_texel((i % columns * CELL) as f32, (i / columns * CELL) as f32));
        Self { corners: corners.collect(), columns }
    }

    /// Samples `texture` into a plane that is `smaller` times smaller than the one that the grid was made for (and the
    /// texture as many times smaller than its luma).
    fn warp(&self, texture: &Texture, smaller: usize, plane: &mut [u8], width: usize) {
        const ONE: f32 = 65536.0;
        const HALF: i32 = 32768;
        let (cell, scale) = (CELL / smaller, ONE / smaller as f32);
        let cell_bits = cell.ilog2();
        let (u_end, v_end) = ((texture.columns - 2) as f32 * ONE, (texture.rows - 2) as f32 * ONE);
        for (y, row) in plane.chunks_exact_mut(width).enumerate() {
            let part = (y % cell) as f32 / cell as f32;
            let upper = &self.corners[y / cell * self.columns..][..self.columns];
            let lower = &self.corners[(y / cell + 1) * self.columns..][..self.columns];
            let edge = |i: usize| {
                let ((u0, v0), (u1, v1)) = (upper[i], lower[i]);
                let (u, v) = ((u0 + (u1 - u0) * part) * scale, (v0 + (v1 - v0) * part) * scale);
                (u.clamp(ONE, u_end) as i32, v.clamp(ONE, v_end) as i32)
            };
            let mut from = edge(0);
            for (i, span) in row.chunks_mut(cell).enumerate() {
                let to = edge(i + 1);
                let (du, dv) = ((to.0 - from.0) >> cell_bits, (to.1 - from.1) >> cell_bits);
                // From the middle of the pixel to the index of the texel whose middle is there.
                texture.sample(span, (from.0 + du / 2 - HALF, from.1 + dv / 2 - HALF), (du, dv));
                from = to;
            }
        }
    }
}

/// Catmull-Rom weights (times 64) a quarter of a pixel from the second of four neighbours.
const QUARTER: [i16; 4] = [-4, 55, 15, -2];

/// Twice the size in both directions, as much of it as `plane` (of `width`) holds.
fn double(small: &[u8], small_width: usize, plane: &mut [u8], width: usize) {
    let rows = small.len() / small_width;
    let row = |i: isize| &small[i.clamp(0, rows as isize - 1) as usize * small_width..][..small_width];
    // The row between, with two pixels repeated at either end.
    let mut line = vec![0u8; small_width + 4];
    let (mut left, mut right) = (vec![0u8; small_width], vec![0u8; small_width]);
    for (y, out) in plane.chunks_exact_mut(width).enumerate() {
        let (at, away) = (y as isize / 2, if y % 2 == 0 { -1 } else { 1 });
        quarters([-away, 0, away, 2 * away].map(|step| row(at + step)), &mut line[2..small_width + 2]);
        let (first, last) = (line[2], line[small_width + 1]);
        line[..2].fill(first);
        line[small_width + 2..].fill(last);
        let shifted = |k: usize| &line[k..k + small_width];
        quarters([3, 2, 1, 0].map(shifted), &mut left);
        quarters([1, 2, 3, 4].map(shifted), &mut right);
        for ((pair, left), right) in out.chunks_exact_mut(2).zip(&left).zip(&right) {
            pair.copy_from_slice(&[*left, *right]);
        }
        if width % 2 == 1 {
            out[width - 1] = left[width / 2];
        }
    }
}

/// A quarter of a pixel from the second slice towards the third. A loop of its own over slices of one length, because the
/// compiler turns exactly that into vector code, and this touches every pixel of every frame.
#[inline(never)]
fn quarters([a, b, c, d]: [&[u8]; 4], out: &mut [u8]) {
    for ((((out, a), b), c), d) in out.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        let [a, b, c, d] = [*a, *b, *c, *d].map(i16::from);
        let sum = a * QUARTER[0] + b * QUARTER[1] + c * QUARTER[2] + d * QUARTER[3];
        *out = ((sum + 32) >> 6).clamp(0, 255) as u8;
    }
}

/// Mean over an odd number of pixels, in place. Adding shifted rows is more work than a running sum, but vector work.
fn smear(plane: &mut [u8], width: usize, length: f32) {
    let radius = (length / 2.0).round() as usize;
    if radius == 0 || width <= 2 * radius {
        return;
    }
    let count = 2 * radius + 1;
    // Division by a constant as a multiplication; 16 bits of fraction are exact enough for 8-bit values.
    let share = (1u32 << 16).div_ceil(count as u32);
    let mut padded = vec![0u8; width + 2 * radius];
    let mut sums = vec![0u16; width];
    for row in plane.chunks_exact_mut(width) {
        padded[..radius].fill(row[0]);
        padded[radius..radius + width].copy_from_slice(row);
        padded[radius + width..].fill(row[width - 1]);
        sums.fill(0);
        for shift in 0..count {
            for (sum, value) in sums.iter_mut().zip(&padded[shift..]) {
                *sum += u16::from(*value);
            }
        }
        for (out, sum) in row.iter_mut().zip(&sums) {
            *out = ((u32::from(*sum) * share) >> 16) as u8;
        }
    }
}

/// Two rays a texel, one above the other: rows are where foreshortening aliases.
fn paint(width: usize, height: usize, threads: usize, shade: impl Fn(f32, f32) -> [f32; 3] + Sync) -> Yuv420Frame {
    let mut frame = Yuv420Frame::new(width as u32, height as u32);
    // Bands of whole chroma rows; a texel's colour depends on its place alone, so the split changes nothing.
    let band = (height / 2).div_ceil(threads.max(1));
    let chroma = frame.u.chunks_mut(band * width / 2).zip(frame.v.chunks_mut(band * width / 2));
    let bands = frame.y.chunks_mut(band * 2 * width).zip(chroma);
    std::thread::scope(|scope| {
        for (index, (luma, (u, v))) in bands.enumerate() {
            let (shade, first) = (&shade, index * band * 2);
            scope.spawn(move || {
                let mut sums = vec![[0u16; 2]; width / 2];
                for (y, row) in luma.chunks_exact_mut(width).enumerate() {
                    for (x, out) in row.iter_mut().enumerate() {
                        let (px, py) = (x as f32 + 0.5, (first + y) as f32);
                        let (a, b) = (shade(px, py + 0.25), shade(px, py + 0.75));
                        let [luma, cu, cv] = rgb_to_yuv([0, 1, 2].map(|i| ((a[i] + b[i]) * 0.5).clamp(0.0, 1.0)));
                        *out = luma;
                        sums[x / 2][0] += u16::from(cu);
                        sums[x / 2][1] += u16::from(cv);
                    }
                    if y % 2 == 1 {
                        let chroma: Range<usize> = y / 2 * (width / 2)..(y / 2 + 1) * (width / 2);
                        for ((u, v), sum) in u[chroma.clone()].iter_mut().zip(&mut v[chroma]).zip(&mut sums) {
                            (*u, *v) = (((sum[0] + 2) / 4) as u8, ((sum[1] + 2) / 4) as u8);
                            *sum = [0; 2];
                        }
                    }
                }
            });
        }
    });
    frame
}

fn turn(ray: Vec3, pan: f32) -> Vec3 {
    let (sin, cos) = pan.sin_cos();
    vec3(ray.x * cos + ray.y * sin, -ray.x * sin + ray.y * cos, ray.z)
}

fn wrap(angle: f32) -> f32 {
    if angle > PI {
        angle - 2.0 * PI
    } else if angle < -PI {
        angle + 2.0 * PI
    } else {
        angle
    }
}

fn even(n: usize) -> usize {
    n + n % 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cast::Cast, geometry::vec2};

    #[test]
    fn doubling_and_smearing_keep_a_flat_picture_flat() {
        let mut small = vec![131u8; 32 * 20];
        smear(&mut small, 32, 9.0);
        assert!(small.iter().all(|v| (130..=131).contains(v)));
        let mut plane = vec![0u8; 63 * 39];
        double(&[77; 32 * 20], 32, &mut plane, 63);
        assert!(plane.iter().all(|v| *v == 77));
    }

    #[test]
    fn a_block_never_steps_over_more_texels_than_are_fetched_for_it() {
        for post in [Post::Main, Post::Tight] {
            let (wide, close) = post.zoom();
            // At the edge of the picture, pan angles are closest together; in the middle a pixel steps farthest.
            let step = close / wide * SHARPNESS * 2.0;
            assert!((BLOCK as f32 * step).ceil() as usize + 2 <= REACH, "{post:?} steps {step} texels a pixel");
        }
    }

    #[test]
    fn the_warped_panorama_shows_lines_where_the_camera_sees_them() {
        let (width, height) = (1280, 720);
        let stadium = Stadium::new(1, &Cast::new(1));
        let backdrop = Backdrop::paint(&stadium, Post::Main, width, height, 1);
        let mut frame = Yuv420Frame::new(width, height);
        for (target, zoom) in [(vec2(0.0, 5.0), 3.6), (vec2(30.0, -10.0), 4.5), (vec2(-40.0, 20.0), 4.0)] {
            let camera = Camera::looking_at(Post::Main, target, zoom, width, height);
            backdrop.show(&camera, 0.0, &mut frame);
            // A far line is thinner than a pixel, which it may share with its neighbour.
            let luma = |point: Vec2| {
                let p = camera.project(point.at_height(0.0));
                let inside = (4.0..1276.0).contains(&p.x) && (4.0..716.0).contains(&p.y);
                let row = |y: usize| i32::from(frame.y[y * width as usize + p.x as usize]);
                inside.then(|| row(p.y as usize - 1).max(row(p.y as usize)).max(row(p.y as usize + 1)))
            };
            let mut seen = 0;
            for step in -50..50 {
                let t = step as f32;
                for (on, beside) in [(vec2(0.0, t * 0.6), vec2(0.8, t * 0.6)), (vec2(t, 34.0), vec2(t, 31.5))] {
                    if t.abs() > 20.0
                        && let (Some(line), Some(grass)) = (luma(on), luma(beside))
                    {
                        assert!(line > grass + 6, "{target:?}: {on:?} is {line}, beside it {grass}");
                        seen += 1;
                    }
                }
            }
            assert!(seen > 0 || target.x.abs() > 20.0);
        }
    }
}
