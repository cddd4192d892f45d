//! The pitch found by its grass, in one picture alone: what lies outside (crowd, bench, advertising boards) is not
//! reported. Chroma is averaged over cells of about 16 by 16 pixels; the largest connected patch of green cells is the
//! pitch, with the convex hull closing the holes that lines and players make. Integer arithmetic.

use crate::picture::{PictureView, PlaneView};

/// A convex or any other polygon in pixels of the picture; empty: the whole picture.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Region(pub(crate) Vec<[f64; 2]>);

impl Region {
    /// Whether the region holds the point. The border belongs to it, with half a pixel to spare: people stand on
    /// touchlines, and boxes end at the edge of the picture.
    pub(crate) fn contains(&self, x: f64, y: f64) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let mut inside = false;
        let ends = self.0.iter().cycle().skip(1);
        for (&[ax, ay], &[bx, by]) in self.0.iter().zip(ends) {
            let (dx, dy) = (bx - ax, by - ay);
            // Squared distance to the segment.
            let length = dx * dx + dy * dy;
            let t = if length > 0.0 { (((x - ax) * dx + (y - ay) * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
            let (ex, ey) = (x - ax - t * dx, y - ay - t * dy);
            if ex * ex + ey * ey <= 0.25 {
                return true;
            }
            if (ay > y) != (by > y) && x < ax + (y - ay) / dy * dx {
                inside = !inside;
            }
        }
        inside
    }
}

/// Pixels of a cell's side.
const CELL: u32 = 16;
/// Mean chroma of a green cell lies so far below grey, in both planes: BT.601 and BT.709 alike.
const GREEN: [i32; 2] = [-6, -4];
/// Less than one in so many cells is no pitch: a close-up, the crowd, a studio. Then everything is reported.
const LEAST: usize = 8;
/// Cells that the pitch is larger than its grass: who takes a throw-in stands outside the line.
const MARGIN: i64 = 1;

/// The pitch of a picture that has passed its check.
pub(crate) fn pitch(view: &PictureView) -> Region {
    let (columns, rows) = (view.width.div_ceil(CELL) as usize, view.height.div_ceil(CELL) as usize);
    let [cb, cr] = [&view.planes[1], &view.planes[2]].map(|plane| means(plane, columns, rows));
    let green: Vec<bool> = cb.iter().zip(&cr).map(|(&cb, &cr)| cb <= GREEN[0] && cr <= GREEN[1]).collect();
    let patch = largest(&green, columns);
    if patch.len() * LEAST < columns * rows {
        return Region::default();
    }
    let corners = patch.iter().flat_map(|&cell| {
        let (x, y) = ((cell % columns) as i64, (cell / columns) as i64);
        let [left, right] = [x - MARGIN, x + 1 + MARGIN];
        let [top, bottom] = [y - MARGIN, y + 1 + MARGIN];
        [[left, top], [right, top], [left, bottom], [right, bottom]]
    });
    let limit = |[x, y]: [i64; 2]| {
        let pixels = |cells: i64, side: u32| (cells * i64::from(CELL)).clamp(0, i64::from(side)) as f64;
        [pixels(x, view.width), pixels(y, view.height)]
    };
    Region(hull(corners.collect()).into_iter().map(limit).collect())
}

/// Mean of every cell less grey.
fn means(plane: &PlaneView, columns: usize, rows: usize) -> Vec<i32> {
    let (width, height) = (plane.width as usize, plane.height as usize);
    let cut = |i: usize, side: usize, of: usize| i * side / of;
    let mut sums = vec![0_i32; columns];
    let mut all = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        let (top, bottom) = (cut(row, height, rows), cut(row + 1, height, rows).max(cut(row, height, rows) + 1));
        let lines = top..bottom.min(height);
        sums.fill(0);
        for y in lines.clone() {
            let line = plane.row(y, 0, width);
            for (column, sum) in sums.iter_mut().enumerate() {
                let part = &line[cut(column, width, columns)..cut(column + 1, width, columns)];
                *sum += part.iter().map(|&sample| i32::from(sample)).sum::<i32>();
            }
        }
        all.extend(sums.iter().enumerate().map(|(column, sum)| {
            let count = (cut(column + 1, width, columns) - cut(column, width, columns)) * lines.len();
            sum / count.max(1) as i32 - 128
        }));
    }
    all
}

/// The cells of the largest patch of neighbours (left, right, above, below); of equals the first.
fn largest(green: &[bool], columns: usize) -> Vec<usize> {
    let mut seen = vec![false; green.len()];
    let mut best = Vec::new();
    for start in 0..green.len() {
        if !green[start] || seen[start] {
            continue;
        }
        let mut patch = vec![start];
        seen[start] = true;
        let mut next = 0;
        while let Some(&cell) = patch.get(next) {
            next += 1;
            let (x, last) = (cell % columns, columns - 1);
            let neighbours = [
                (x > 0).then(|| cell - 1),
                (x < last).then(|| cell + 1),
                cell.checked_sub(columns),
                (cell + columns < green.len()).then_some(cell + columns),
            ];
            for neighbour in neighbours.into_iter().flatten() {
                if green[neighbour] && !seen[neighbour] {
                    seen[neighbour] = true;
                    patch.push(neighbour);
                }
            }
        }
        if patch.len() > best.len() {
            best = patch;
        }
    }
    best
}

/// Convex hull (Andrew's monotone chain, 1979).
fn hull(mut points: Vec<[i64; 2]>) -> Vec<[i64; 2]> {
    points.sort_unstable();
    points.dedup();
    let turns_left =
        |a: [i64; 2], b: [i64; 2], c: [i64; 2]| (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]) > 0;
    let chain = |points: &mut dyn Iterator<Item = [i64; 2]>| {
        let mut chain: Vec<[i64; 2]> = Vec::new();
        for point in points {
            while let [.., a, b] = chain[..] {
                if turns_left(a, b, point) {
                    break;
                }
                chain.pop();
            }
            chain.push(point);
        }
        chain.pop();
        chain
    };
    let mut lower = chain(&mut points.iter().copied());
    lower.extend(chain(&mut points.iter().rev().copied()));
    lower
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Matrix;

    /// A picture whose pixel (x, y) is grass where `grass` says so, and grey elsewhere.
    fn region(grass: impl Fn(u32, u32) -> bool) -> Region {
        let (width, height) = (640, 360);
        let luma = vec![100; width * height];
        let [cb, cr] = [108_u8, 112].map(|green| {
            let sample = |i: usize| if grass((i % 320) as u32 * 2, (i / 320) as u32 * 2) { green } else { 128 };
            (0..320 * 180).map(sample).collect::<Vec<u8>>()
        });
        let plane = |data, width, height| PlaneView { data, stride: width as usize, width, height };
        let planes = [plane(&luma[..], 640, 360), plane(&cb[..], 320, 180), plane(&cr[..], 320, 180)];
        pitch(&PictureView { width: 640, height: 360, planes, matrix: Matrix::Bt709, full_range: false })
    }

    #[test]
    fn what_lies_beyond_the_grass_is_outside_and_holes_in_it_are_not() {
        // Grass from a slanted line down, with a hole, and a green flag in the crowd.
        let found = region(|x, y| {
            let pitch = y > 100 + x / 8 && !(200..260).contains(&x);
            pitch || y > 340 || (x > 500 && x < 560 && y < 60)
        });
        assert!(found.contains(100.0, 200.0) && found.contains(230.0, 200.0) && found.contains(639.0, 359.0));
        assert!(!found.contains(530.0, 30.0) && !found.contains(20.0, 60.0) && !found.contains(600.0, 130.0));
    }

    #[test]
    fn a_picture_without_a_pitch_is_reported_whole() {
        assert_eq!(region(|x, y| x < 100 && y < 100), Region::default());
        assert!(region(|_, _| false).contains(3.0, 3.0));
    }
}
