//! Corners of a picture, spread over it, for the reduce to find the camera's motion by: Harris responses (Harris and
//! Stephens, 1988) on a downscaled luma, the best of every cell of a grid, and for each 128 comparisons of smoothed
//! neighbours (BRIEF, Calonder et al., 2010). Found in every frame, so they must be cheap; the lane packs them.
//!
//! Gradients and their sums are integers; the response is two multiplications of them in f32, in a fixed order.

use crate::{
    error::VisionError,
    picture::{PictureView, PlaneView},
};

/// A place that is likely to be found again in the next picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Corner {
    /// Pixels of the picture.
    pub x: f32,
    pub y: f32,
    /// Equal places have few bits different.
    pub descriptor: [u8; 16],
}

/// The luma is halved as often as it stays at least so wide: noise averages out, and little is left to look at.
const WIDTH: u32 = 480;
/// Cells of the grid; each gives its best corner.
const GRID: [usize; 2] = [10, 6];
/// Corners of a picture at most.
const MOST: usize = 40;
/// Least response: below it is noise. In units of gradient (doubled luma steps) to the fourth.
const LEAST: f32 = 1.0e6;
/// Half the side of the window that gradients are summed over.
const WINDOW: usize = 2;
/// How far the comparisons of a descriptor reach, and half the side of the squares that they compare.
const REACH: i32 = 8;
const SMOOTH: i32 = 2;
/// Responses that are looked at together.
const PART: usize = 16;
/// Pixels at the edge that have no whole neighbourhood.
const EDGE: usize = (REACH + SMOOTH) as usize + 1;

/// Buffers that keep their memory from picture to picture.
#[derive(Debug, Clone, Default)]
pub struct Corners {
    small: Small,
    /// Products of gradients (xx, yy, xy), a row at a time, summed over the rows of the window.
    sums: [Vec<i32>; 3],
    responses: Vec<f32>,
}

impl Corners {
    /// The corners of a picture, best first of those that stand out from the noise.
    ///
    /// # Errors
    /// When the view's planes do not fit its size.
    pub fn find(&mut self, view: &PictureView) -> Result<Vec<Corner>, VisionError> {
        view.check()?;
        let factor = 1_u32 << (view.width / WIDTH).max(1).ilog2();
        #[cfg(target_arch = "x86_64")]
        let wide = std::arch::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let wide = false;
        match wide {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the processor has AVX2, asked above.
            true => unsafe { self.look_avx2(&view.planes[0], factor) },
            _ => self.look(&view.planes[0], factor),
        }
        let (width, height) = (self.small.width, self.small.height);
        if self.responses.is_empty() {
            return Ok(Vec::new());
        }
        let mut places = self.best_of_cells(width, height);
        // A total order: the strongest, then by place.
        places.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        places.truncate(MOST);
        let corner = |&(_, at): &(f32, usize)| {
            let place = |step: usize| refined(&self.responses, at, step);
            // Centres of the small picture's pixels, then of the picture's.
            let pixels = |index: usize, shift: f32| (index as f32 + shift + 0.5) * factor as f32 - 0.5;
            let (x, y) = (at % width, at / width);
            let limit = |pixels: f32, side: u32| pixels.clamp(0.0, (side - 1) as f32);
            Corner {
                x: limit(pixels(x, place(1)), view.width),
                y: limit(pixels(y, place(width)), view.height),
                descriptor: describe(&self.small.data, width, at),
            }
        };
        Ok(places.iter().map(corner).collect())
    }

    /// The same code, compiled for wider registers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn look_avx2(&mut self, luma: &PlaneView, factor: u32) {
        self.look(luma, factor);
    }

    /// Fills `small` and `responses`, the latter zero at the edges; empty if the picture is all edge.
    #[inline(always)]
    fn look(&mut self, luma: &PlaneView, factor: u32) {
        self.small.fill(luma, factor);
        let Small { data: luma, width, height, .. } = &self.small;
        let (width, height) = (*width, *height);
        self.responses.clear();
        if width <= 2 * EDGE || height <= 2 * EDGE {
            return;
        }
        self.responses.resize(width * height, 0.0);
        for sums in &mut self.sums {
            sums.clear();
            sums.resize(width, 0);
        }
        // Sums over rows are kept by adding the row that comes and taking away the one that goes.
        for y in 1..height - 1 {
            products(luma, width, y, 1, &mut self.sums);
            let Some(centre) = y.checked_sub(WINDOW).filter(|&centre| centre > WINDOW) else { continue };
            if centre > WINDOW + 1 {
                products(luma, width, centre - WINDOW - 1, -1, &mut self.sums);
            }
            if centre >= EDGE && centre < height - EDGE {
                let row = &mut self.responses[centre * width..(centre + 1) * width];
                respond_row(&self.sums, &mut row[EDGE..width - EDGE]);
            }
        }
    }

    /// The greatest response of every cell, if it is one among its neighbours, too.
    /// The strongest peak of every cell, of equals the first.
    fn best_of_cells(&self, width: usize, height: usize) -> Vec<(f32, usize)> {
        let mut best = [(LEAST, 0); GRID[0] * GRID[1]];
        for y in EDGE..height - EDGE {
            let row = &self.responses[y * width..(y + 1) * width];
            for column in 0..GRID[0] {
                let [from, to] = [column, column + 1].map(|c| (c * width / GRID[0]).clamp(EDGE, width - EDGE));
                let cell = &mut best[y * GRID[1] / height * GRID[0] + column];
                for (x, part) in (from..to).step_by(PART).zip(row[from..to].chunks(PART)) {
                    // Hardly any part has a better one, and to see that takes a comparison of a whole register.
                    if !part.iter().fold(false, |any, &response| any | (response > cell.0)) {
                        continue;
                    }
                    for (at, &response) in (y * width + x..).zip(part) {
                        if response > cell.0 && self.is_peak(at, width) {
                            *cell = (response, at);
                        }
                    }
                }
            }
        }
        best.into_iter().filter(|&(_, at)| at > 0).collect()
    }

    fn is_peak(&self, at: usize, width: usize) -> bool {
        let neighbours =
            [at - width - 1, at - width, at - width + 1, at - 1, at + 1, at + width - 1, at + width, at + width + 1];
        neighbours.iter().all(|&other| self.responses[other] <= self.responses[at])
    }
}

/// A luma plane at a half, a quarter and so on of its size; what a half cannot hold at the right and below is left out.
#[derive(Debug, Clone, Default)]
struct Small {
    data: Vec<u8>,
    width: usize,
    height: usize,
    /// The size before, while halving again.
    larger: Vec<u8>,
}

impl Small {
    #[inline(always)]
    fn fill(&mut self, luma: &PlaneView, factor: u32) {
        let rows = |y: usize| luma.row(y, 0, luma.width as usize);
        (self.width, self.height) = (luma.width as usize, luma.height as usize);
        self.data.clear();
        if factor == 1 {
            (0..self.height).for_each(|y| self.data.extend_from_slice(rows(y)));
            return;
        }
        (self.width, self.height) = (self.width / 2, self.height / 2);
        self.data.resize(self.width * self.height, 0);
        for (y, out) in self.data.chunks_exact_mut(self.width.max(1)).enumerate() {
            halve(rows(2 * y), rows(2 * y + 1), out);
        }
        for _ in 1..factor.ilog2() {
            std::mem::swap(&mut self.data, &mut self.larger);
            let before = self.width;
            (self.width, self.height) = (self.width / 2, self.height / 2);
            self.data.clear();
            self.data.resize(self.width * self.height, 0);
            for (y, out) in self.data.chunks_exact_mut(self.width.max(1)).enumerate() {
                let row = |y: usize| &self.larger[y * before..(y + 1) * before];
                halve(row(2 * y), row(2 * y + 1), out);
            }
        }
    }
}

/// Rounded means of two by two samples.
#[inline(always)]
fn halve(upper: &[u8], lower: &[u8], out: &mut [u8]) {
    for ((out, above), below) in out.iter_mut().zip(upper.as_chunks::<2>().0).zip(lower.as_chunks::<2>().0) {
        let [a, b, c, d] = [above[0], above[1], below[0], below[1]].map(u16::from);
        *out = ((a + b + c + d + 2) / 4) as u8;
    }
}

/// Adds (or takes away, by `sign`) the products of gradients of row `y` to the sums of each column.
#[inline(always)]
fn products(luma: &[u8], width: usize, y: usize, sign: i32, sums: &mut [Vec<i32>; 3]) {
    let row = |y: usize| &luma[y * width..(y + 1) * width];
    let (above, here, below) = (row(y - 1), row(y), row(y + 1));
    // All of one length that the compiler sees, so that it leaves out the checks.
    let n = width - 2;
    let [xx, yy, xy] = sums.each_mut().map(|sums| &mut sums[1..][..n]);
    let (left, right) = (&here[..n], &here[2..][..n]);
    let (above, below) = (&above[1..][..n], &below[1..][..n]);
    for i in 0..n {
        let dx = i32::from(right[i]) - i32::from(left[i]);
        let dy = i32::from(below[i]) - i32::from(above[i]);
        xx[i] += sign * dx * dx;
        yy[i] += sign * dy * dy;
        xy[i] += sign * dx * dy;
    }
}

/// Harris: determinant less 1/16 of the squared trace, of the sums over the window.
#[inline(always)]
fn respond_row(sums: &[Vec<i32>; 3], row: &mut [f32]) {
    let n = row.len();
    // The five columns of the window, each a slice of the same length, for the same reason.
    let [xx, yy, xy] = sums.each_ref().map(|sums| {
        let sums = &sums[EDGE - WINDOW..];
        [0, 1, 2, 3, 4].map(|column| &sums[column..][..n])
    });
    for i in 0..n {
        let over = |columns: [&[i32]; 5]| columns.iter().map(|column| column[i]).sum::<i32>() as f32;
        let (a, b, c) = (over(xx), over(yy), over(xy));
        row[i] = (a * b - c * c) - (a + b) * (a + b) * 0.0625;
    }
}

/// How far the top of the parabola through a peak and its two neighbours (`step` apart) lies from it, -0.5 to 0.5.
fn refined(responses: &[f32], at: usize, step: usize) -> f32 {
    let (before, peak, after) = (responses[at - step], responses[at], responses[at + step]);
    let bend = before - 2.0 * peak + after;
    if bend < 0.0 { ((before - after) / (2.0 * bend)).clamp(-0.5, 0.5) } else { 0.0 }
}

/// 128 comparisons of squares around a place.
fn describe(luma: &[u8], width: usize, at: usize) -> [u8; 16] {
    const SIDE: usize = 2 * EDGE;
    // Sums over all to the left and above, so that any square costs four reads.
    let (left, top) = (at % width - EDGE, at / width - EDGE);
    let mut sums = [[0_u32; SIDE + 1]; SIDE + 1];
    for y in 0..SIDE {
        let row = &luma[(top + y) * width + left..][..SIDE];
        let mut sum = 0;
        for x in 0..SIDE {
            sum += u32::from(row[x]);
            sums[y + 1][x + 1] = sums[y][x + 1] + sum;
        }
    }
    let square = |[dx, dy]: [i8; 2]| {
        let from = |d: i8| (EDGE as i32 + i32::from(d) - SMOOTH) as usize;
        let (x, y, side) = (from(dx), from(dy), 2 * SMOOTH as usize + 1);
        sums[y + side][x + side] + sums[y][x] - sums[y][x + side] - sums[y + side][x]
    };
    let mut bits = 0_u128;
    for (i, [a, b]) in PAIRS.iter().enumerate() {
        bits |= u128::from(square(*a) < square(*b)) << i;
    }
    bits.to_le_bytes()
}

/// What is compared: places drawn once from a generator of integers, those near the corner more often.
const PAIRS: [[[i8; 2]; 2]; 128] = {
    let mut pairs = [[[0; 2]; 2]; 128];
    let mut state = 0x2545_F491_u32;
    let mut i = 0;
    while i < pairs.len() {
        let mut j = 0;
        while j < 4 {
            let mut sum = 0;
            let mut draw = 0;
            while draw < 2 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                sum += ((state >> 16) % (REACH as u32 + 1)) as i8;
                draw += 1;
            }
            pairs[i][j / 2][j % 2] = sum - REACH as i8;
            j += 1;
        }
        i += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::{Matrix, PlaneView};

    /// Blots of different brightness on grey, moved by whole pixels.
    fn blots(shift: [i32; 2]) -> Vec<u8> {
        let (width, height) = (1280_i32, 720_i32);
        let noise = |x: i32, y: i32| {
            let mut h = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77);
            h = (h ^ h >> 15).wrapping_mul(0x2C1B_3C6D);
            (h ^ h >> 12) as u8
        };
        (0..width * height)
            .map(|i| {
                let (x, y) = (i % width + shift[0] + 4000, i / width + shift[1] + 4000);
                let blot = noise(x / 18, y / 18);
                if blot < 60 { 60 + blot } else { 128 + noise(x, y) / 64 }
            })
            .collect()
    }

    fn corners(luma: &[u8]) -> Vec<Corner> {
        let chroma = vec![128; 640 * 360];
        let plane = |data, width, height| PlaneView { data, stride: width as usize, width, height };
        let planes = [plane(luma, 1280, 720), plane(&chroma, 640, 360), plane(&chroma, 640, 360)];
        let view = PictureView { width: 1280, height: 720, planes, matrix: Matrix::Bt709, full_range: false };
        Corners::default().find(&view).unwrap()
    }

    #[test]
    fn wider_registers_change_no_bit() {
        let luma = blots([5, 6]);
        let plane = PlaneView { data: &luma, stride: 1280, width: 1280, height: 720 };
        let (mut narrow, mut wide) = (Corners::default(), Corners::default());
        narrow.look(&plane, 2);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: asked in the line above.
            unsafe { wide.look_avx2(&plane, 2) };
            assert_eq!(narrow.small.data, wide.small.data);
            assert!(narrow.responses.iter().zip(&wide.responses).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
        wide.look(&plane, 4);
        assert_eq!((wide.small.width, wide.small.height), (320, 180));
    }

    #[test]
    fn corners_move_with_the_picture() {
        let still = corners(&blots([0, 0]));
        assert_eq!(still.len(), MOST);
        assert!(corners(&vec![90; 1280 * 720]).is_empty(), "nothing stands out of a plain picture");
        for shift in [[7, -4], [-13, 2], [3, 11]] {
            let moved = corners(&blots(shift));
            let bits = |c: &Corner| u128::from_le_bytes(c.descriptor);
            let mut right = 0;
            for a in &still {
                let near = moved.iter().min_by_key(|b| (bits(a) ^ bits(b)).count_ones()).unwrap();
                let (dx, dy) = (a.x - near.x - shift[0] as f32, a.y - near.y - shift[1] as f32);
                right += usize::from(dx * dx + dy * dy < 1.0);
            }
            assert!(right * 3 > still.len(), "{right} of {} are found again after {shift:?}", still.len());
        }
    }
}
