//! Colour of everything that does not move, along a ray: mown grass with its lines, goals, boards and stands full of people.
//! Only [`crate::backdrop`] calls it, once per texel, so it may be slow; the frames are warped from what it made.

use std::f32::consts::TAU;

use crate::{
    cast::{Cast, Rgb},
    geometry::{GOAL_HALF_WIDTH, GOAL_HEIGHT, HALF_LENGTH, HALF_WIDTH, Vec2, Vec3, vec2},
    rng::{Rng, cell_noise},
};

/// Half the width of a line (12 cm is the most that the Laws allow).
const LINE: f32 = 0.06;
const SIDE_BOARD: f32 = HALF_WIDTH + 5.0;
const END_BOARD: f32 = HALF_LENGTH + 6.0;
const BOARD_HEIGHT: f32 = 0.95;
/// Rise of the stands and the depth of a row.
const SLOPE: f32 = 0.55;
const STAND: f32 = SIDE_BOARD + 2.0;
const END_STAND: f32 = END_BOARD + 3.0;
const STAND_DEPTH: f32 = 36.0;
/// The stand below the cameras is shallow, so that they see over it.
const NEAR_STAND_DEPTH: f32 = 6.0;
const STAND_FOOT: f32 = 1.2;
const ROW: f32 = 0.85;
const SEAT: f32 = 0.52;

/// Looks of one ground.
#[derive(Debug, Clone)]
pub struct Stadium {
    seed: u64,
    grass: [f32; 3],
    stripe: f32,
    /// Mown in squares instead of stripes.
    squares: bool,
    boards: Vec<[Rgb; 2]>,
    crowd: [Rgb; 2],
    /// Periodic noise, [`TILE`] square.
    tile: Vec<f32>,
    /// Direction in which shadows fall, and their length per metre of height.
    pub shadow: Vec2,
}

impl Stadium {
    #[must_use]
    pub fn new(seed: u64, cast: &Cast) -> Self {
        let mut rng = Rng::stream(seed, 0x57ad);
        let tone = rng.range(0.85, 1.12);
        let palette = [
            [Rgb(16, 24, 90), Rgb(255, 255, 255)],
            [Rgb(200, 20, 30), Rgb(255, 230, 60)],
            [Rgb(240, 240, 240), Rgb(10, 90, 40)],
            [Rgb(10, 10, 14), Rgb(80, 220, 255)],
            [Rgb(250, 200, 20), Rgb(20, 20, 20)],
            [Rgb(20, 120, 70), Rgb(255, 255, 255)],
            [Rgb(90, 30, 130), Rgb(255, 140, 220)],
        ];
        Self {
            seed,
            grass: [0.215 * tone, 0.40 * tone * rng.range(0.94, 1.06), 0.15 * tone],
            stripe: rng.range(4.5, 7.0),
            squares: rng.chance(0.3),
            boards: (0..24).map(|_| palette[rng.below(palette.len())]).collect(),
            crowd: cast.colours,
            tile: noise_tile(seed),
            shadow: Vec2::from_angle(rng.range(0.0, TAU)) * rng.range(0.35, 1.1),
        }
    }

    /// Colour in 0..=1 seen from `eye` along `way` (any length); `blur` is the ray's width per metre of distance.
    #[must_use]
    pub fn shade(&self, eye: Vec3, way: Vec3, blur: f32) -> [f32; 3] {
        let at = |t: f32| eye + way * t;
        let length = (way.x * way.x + way.y * way.y + way.z * way.z).sqrt();
        let wide = |t: f32| t * length * blur;
        let (down, slant) = (-eye.z / way.z, way.ground() * (1.0 / way.z));
        let ground = at(down).ground();
        // Most rays: onto the field, over board and stand on the near side. Goals are the only thing in their way.
        let over = |y: f32, height: f32| eye.z * (ground.y - y) > height * (ground.y - eye.y);
        let clear =
            over(-SIDE_BOARD, BOARD_HEIGHT) && over(-STAND - NEAR_STAND_DEPTH, STAND_FOOT + NEAR_STAND_DEPTH * SLOPE);
        if down > 0.0 && clear && ground.y < SIDE_BOARD && ground.x.abs() < END_BOARD {
            let colour = self.ground(ground, wide(down), slant);
            // Cameras stand at x = 0, so a ray that ends before the goal lines has passed no goal.
            let passes_goal = ground.x.abs() > HALF_LENGTH - 1.0;
            return if passes_goal { self.goals(eye, way, down, blur * length, colour) } else { colour };
        }
        let mut nearest = f32::MAX;
        // An evening sky, lighter towards the horizon.
        let haze = (way.z / length * 3.0).clamp(0.0, 1.0);
        let mut colour = mix([0.42, 0.46, 0.52], [0.16, 0.22, 0.34], haze);
        let mut hit = |t: f32, shade: &dyn Fn(Vec3, f32) -> Option<[f32; 3]>| {
            if t > 0.0
                && t < nearest
                && let Some(found) = shade(at(t), wide(t))
            {
                (nearest, colour) = (t, found);
            }
        };
        hit(down, &|p, w| (p.x.abs() < 120.0 && p.y.abs() < 120.0).then(|| self.ground(p.ground(), w, slant)));
        for side in [-1.0, 1.0] {
            hit((side * SIDE_BOARD - eye.y) / way.y, &|p, _| self.board(p.x, p.z, END_BOARD, side > 0.0));
            hit((side * END_BOARD - eye.x) / way.x, &|p, _| self.board(p.y, p.z, SIDE_BOARD, true));
        }
        // Stands: planes that rise from behind the boards.
        for (side, depth) in [(-1.0, NEAR_STAND_DEPTH), (1.0, STAND_DEPTH)] {
            let rise = way.z - way.y * side * SLOPE;
            hit((STAND_FOOT + (eye.y * side - STAND) * SLOPE - eye.z) / rise, &|p, w| {
                let up = p.y * side - STAND;
                (0.0..depth).contains(&up).then(|| self.crowd(p.x, up, w))
            });
        }
        for side in [-1.0, 1.0] {
            let rise = way.z - way.x * side * SLOPE;
            hit((STAND_FOOT + (eye.x * side - END_STAND) * SLOPE - eye.z) / rise, &|p, w| {
                let up = p.x * side - END_STAND;
                let beside = p.y.abs() < SIDE_BOARD + STAND_DEPTH;
                ((0.0..STAND_DEPTH).contains(&up) && beside).then(|| self.crowd(p.y, up, w))
            });
        }
        self.goals(eye, way, nearest, blur * length, colour)
    }

    fn ground(&self, p: Vec2, wide: f32, slant: Vec2) -> [f32; 3] {
        if p.x.abs() > END_BOARD + 0.2 || p.y.abs() > SIDE_BOARD + 0.2 {
            return [0.16, 0.16, 0.17];
        }
        let band = |v: f32, edge: f32| ((v + edge) / self.stripe).floor() as i32 & 1;
        let odd = band(p.x, HALF_LENGTH) ^ if self.squares { band(p.y, HALF_WIDTH) } else { 0 };
        // Patches of wear, and blades that only a close camera resolves.
        let patches = self.noise(p, 9.0);
        let blades = self.noise(p, 170.0) * (0.16 / (1.0 + wide * 8.0));
        let light = (if odd == 1 { 1.07 } else { 0.94 }) + patches * 0.16 + blades;
        let dry = patches * 0.05;
        let grass = [self.grass[0] * light + dry, self.grass[1] * light + dry * 0.4, self.grass[2] * light];
        let worn = 0.9 + 0.1 * self.noise(p, 40.0);
        mix(grass, [0.93, 0.95, 0.93], line_coverage(p, wide, slant) * worn)
    }

    fn board(&self, along: f32, z: f32, half: f32, front: bool) -> Option<[f32; 3]> {
        if !(0.0..BOARD_HEIGHT).contains(&z) || along.abs() > half {
            return None;
        }
        if !front {
            return Some([0.08, 0.08, 0.09]);
        }
        let panel = ((along + 200.0) / 7.5) as usize;
        let [ground, ink] = self.boards[panel % self.boards.len()];
        // Blocks as wide as letters, with gaps between words: from the stand it reads as a slogan that nobody wrote.
        let (letter, word) = (((along + 200.0) / 0.42) as i32, ((along + 200.0) / 2.1) as i32);
        let inside = (0.2..0.75).contains(&z);
        let inked =
            inside && letter % 5 != 0 && cell_noise(self.seed, letter, (z * 9.0) as i32) < 0.62 && word % 4 != 0;
        let glow = 0.9;
        let colour = if inked { ink } else { ground };
        Some([colour.0, colour.1, colour.2].map(|c| f32::from(c) / 255.0 * glow))
    }

    fn crowd(&self, along: f32, up: f32, wide: f32) -> [f32; 3] {
        let row = (up / ROW).floor();
        let within = up / ROW - row;
        let stagger = if row as i32 & 1 == 0 { 0.0 } else { 0.5 };
        let seat = along / SEAT + stagger;
        let (column, across) = (seat.floor(), seat - seat.floor() - 0.5);
        let (r, c) = (row as i32, column as i32);
        // Gangways every thirty seats; a few seats stay empty.
        if c.rem_euclid(30) == 0 {
            return [0.3, 0.3, 0.31];
        }
        let noise = |k: u64| cell_noise(self.seed ^ k, c, r);
        let light = 0.9 - 0.007 * up;
        let shirt = match (noise(1) * 10.0) as u32 {
            0 | 1 => self.crowd[usize::from(along > 0.0)],
            2 => self.crowd[usize::from(along <= 0.0)],
            3 | 4 => Rgb(40, 44, 52),
            5 => Rgb(200, 200, 205),
            6 => Rgb(70, 60, 60),
            7 => Rgb(60, 80, 130),
            8 => Rgb(130, 60, 50),
            _ => Rgb(90, 96, 100),
        };
        let skin = 0.35 + 0.45 * noise(2);
        let body = if across.abs() < 0.4 && (0.1..0.55).contains(&within) {
            [shirt.0, shirt.1, shirt.2].map(|v| f32::from(v) / 255.0 * (0.55 + 0.45 * noise(3)))
        } else if across.abs() < 0.2 && (0.55..0.9).contains(&within) {
            [skin, skin * 0.78, skin * 0.64]
        } else {
            [0.12, 0.12, 0.14]
        };
        let empty = noise(4) < 0.08;
        let body = if empty { [0.16, 0.18, 0.3] } else { body };
        // Far rows melt into their mean, as they do behind a real lens.
        mix(body, [0.25, 0.23, 0.23], (wide / SEAT - 0.3).clamp(0.0, 0.75)).map(|v| v * light)
    }

    /// Posts and nets over what lies behind them.
    fn goals(&self, eye: Vec3, way: Vec3, behind: f32, blur: f32, mut colour: [f32; 3]) -> [f32; 3] {
        for side in [-1.0f32, 1.0] {
            let mut net = |t: f32, inside: &dyn Fn(Vec3) -> Option<Vec2>| {
                if t > 0.0
                    && t < behind
                    && let Some(cell) = inside(eye + way * t)
                {
                    let mesh = |v: f32| ((v / 0.14) - (v / 0.14).round()).abs() * 0.14;
                    let near = mesh(cell.x).min(mesh(cell.y));
                    colour = mix(colour, [0.85; 3], coverage(near - 0.012, t * blur) * 0.7 + 0.06);
                }
            };
            let back = |p: &Vec3| (p.x * side - HALF_LENGTH) / 2.0;
            net((side * (HALF_LENGTH + 2.0) - eye.x) / way.x, &|p| {
                (p.y.abs() < GOAL_HALF_WIDTH && (0.0..GOAL_HEIGHT * 0.8).contains(&p.z)).then_some(vec2(p.y, p.z))
            });
            for flank in [-GOAL_HALF_WIDTH, GOAL_HALF_WIDTH] {
                net((flank - eye.y) / way.y, &|p| {
                    let roof = GOAL_HEIGHT * (1.0 - 0.2 * back(&p));
                    ((0.0..1.0).contains(&back(&p)) && (0.0..roof).contains(&p.z)).then_some(vec2(p.x, p.z))
                });
            }
            let t = (side * HALF_LENGTH - eye.x) / way.x;
            if t > 0.0 && t < behind {
                let p = eye + way * t;
                let post = (p.y.abs() - GOAL_HALF_WIDTH - LINE).abs();
                let bar = (p.z - GOAL_HEIGHT - LINE).abs();
                let (y_end, z_end) = (p.y.abs() < GOAL_HALF_WIDTH + 0.12, (0.0..GOAL_HEIGHT + 0.12).contains(&p.z));
                let near = if z_end { post } else { f32::MAX }.min(if y_end { bar } else { f32::MAX });
                colour = mix(colour, [0.96; 3], coverage(near - LINE, t * blur));
            }
        }
        colour
    }

    /// About -0.5 to 0.5, with `density` tile cells a metre.
    fn noise(&self, p: Vec2, density: f32) -> f32 {
        let cell = |v: f32| (v * density) as i32 as usize & (TILE - 1);
        self.tile[cell(p.y + 100.0) * TILE + cell(p.x + 100.0)]
    }
}

/// A power of two.
const TILE: usize = 512;

/// Value noise in three octaves that repeats without a seam.
fn noise_tile(seed: u64) -> Vec<f32> {
    let octave = |x: usize, y: usize, cells: usize| {
        let size = TILE / cells;
        let corner = |dx: usize, dy: usize| {
            let (cx, cy) = ((x / size + dx) % cells, (y / size + dy) % cells);
            cell_noise(seed ^ cells as u64, cx as i32, cy as i32) - 0.5
        };
        let ease = |t: usize| {
            let t = t as f32 / size as f32;
            t * t * (3.0 - 2.0 * t)
        };
        let (fx, fy) = (ease(x % size), ease(y % size));
        let (top, bottom) =
            (corner(0, 0) + (corner(1, 0) - corner(0, 0)) * fx, corner(0, 1) + (corner(1, 1) - corner(0, 1)) * fx);
        top + (bottom - top) * fy
    };
    (0..TILE * TILE)
        .map(|i| {
            let (x, y) = (i % TILE, i / TILE);
            octave(x, y, 16) * 0.45 + octave(x, y, 64) * 0.35 + octave(x, y, 256) * 0.3
        })
        .collect()
}

/// How much of a ray of width `wide` falls on a shape whose edge is `distance` away (negative inside).
fn coverage(distance: f32, wide: f32) -> f32 {
    (0.5 - distance / wide.max(1e-4)).clamp(0.0, 1.0)
}

/// The markings of Law 1. A ray of width `wide` covers an ellipse of ground, longer by `slant` (horizontal part of the
/// ray's direction over its vertical part) along the view: far lines that run across it must pale, not break up.
fn line_coverage(p: Vec2, wide: f32, slant: Vec2) -> f32 {
    // Farther than this from a line there is nothing of it; asking first spares most of the roots.
    const NEAR: f32 = 1.2;
    let (x, y) = (p.x.abs(), p.y.abs());
    let paint = |off: f32, normal: Vec2| {
        // Half of the slant: two rays a texel share it.
        let width = wide * (1.0 + (0.5 * normal.dot(slant)).powi(2)).sqrt();
        ((off + width / 2.0).min(LINE) - (off - width / 2.0).max(-LINE)).max(0.0) / width.max(1e-4)
    };
    // A stretch of line parallel to an axis; the other coordinate must lie within.
    let straight = |v: f32, at: f32, other: f32, from: f32, to: f32, normal: Vec2| {
        let (off, beyond) = ((v - at).abs(), (from - other).max(other - to));
        if off > NEAR || beyond > LINE { 0.0 } else { paint(off, normal) }
    };
    let (across, along) = (vec2(0.0, 1.0), vec2(1.0, 0.0));
    let circle = |centre: Vec2, radius: f32| {
        let away = vec2(x, y) - centre;
        let square = away.dot(away);
        let near = ((radius - NEAR).max(0.0).powi(2)..(radius + NEAR).powi(2)).contains(&square);
        // By symmetry the slant's sign does not matter to a circle that was folded into one quarter.
        if near {
            paint((square.sqrt() - radius).abs(), vec2(away.x * p.x.signum(), away.y * p.y.signum()).normalised())
        } else {
            0.0
        }
    };
    let mut line = straight(y, HALF_WIDTH, x, 0.0, HALF_LENGTH, across);
    line = line.max(straight(x, HALF_LENGTH, y, 0.0, HALF_WIDTH, along));
    line = line.max(straight(x, 0.0, y, 0.0, HALF_WIDTH, along));
    for (depth, half) in [(16.5, 20.16), (5.5, 9.16)] {
        line = line.max(straight(x, HALF_LENGTH - depth, y, 0.0, half, along));
        line = line.max(straight(y, half, x, HALF_LENGTH - depth, HALF_LENGTH, across));
    }
    let (centre, spot) = (Vec2::default(), vec2(HALF_LENGTH - 11.0, 0.0));
    line = line.max(circle(centre, 9.15)).max(circle(centre, 0.05)).max(circle(spot, 0.05));
    if x < HALF_LENGTH - 16.5 {
        line = line.max(circle(spot, 9.15));
    }
    if x < HALF_LENGTH && y < HALF_WIDTH {
        line = line.max(circle(vec2(HALF_LENGTH, HALF_WIDTH), 1.0));
    }
    line
}

fn mix(a: [f32; 3], b: [f32; 3], part: f32) -> [f32; 3] {
    [0, 1, 2].map(|i| a[i] + (b[i] - a[i]) * part)
}
