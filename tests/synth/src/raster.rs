//! Drawing into a frame: one soft-edged primitive, drawn in luma at full and in chroma at half size, and a plane that
//! remembers whose pixel is whose, so that the truth knows how much of everybody can be seen.

use fulltime_media::encode::Yuv420Frame;

/// A bar with rounded corners along a segment, its half width running from one end to the other: a limb, a torso, a head,
/// a stroke of a digit, a shadow. All lengths in pixels.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    pub from: (f32, f32),
    pub to: (f32, f32),
    /// Half widths at the two ends.
    pub half: (f32, f32),
    /// Radius of the corners; the bar reaches `cap` beyond its ends.
    pub round: f32,
    pub cap: f32,
    pub ink: Ink,
    /// 0..=1.
    pub alpha: f32,
    /// Nearer bars of a body are drawn later; metres from the camera.
    pub depth: f32,
}

/// Colour across a bar.
#[derive(Debug, Clone, Copy)]
pub struct Ink {
    pub yuv: [u8; 3],
    /// Every other of so many stripes has the second colour; below two there are none.
    pub stripes: f32,
    pub second: [u8; 3],
    /// How much darker the side away from the light is.
    pub shade: f32,
}

impl Ink {
    #[must_use]
    pub fn flat(yuv: [u8; 3]) -> Self {
        Self { yuv, stripes: 0.0, second: yuv, shade: 0.0 }
    }

    #[must_use]
    pub fn shaded(yuv: [u8; 3]) -> Self {
        Self { shade: 0.22, ..Self::flat(yuv) }
    }
}

impl Bar {
    /// A limb with round ends.
    #[must_use]
    pub fn limb(from: (f32, f32), to: (f32, f32), half: (f32, f32), ink: Ink, depth: f32) -> Self {
        let round = half.0.min(half.1);
        Self { from, to, half, round, cap: round, ink, alpha: 1.0, depth }
    }

    /// Left, top, right, bottom.
    #[must_use]
    pub fn bounds(&self) -> [f32; 4] {
        let ((x0, y0), (x1, y1)) = (self.from, self.to);
        let length = (x1 - x0).hypot(y1 - y0);
        let axis = |from: f32, to: f32, still: f32| if length > 1e-3 { ((to - from) / length).abs() } else { still };
        let (ax, ay) = (axis(x0, x1, 1.0), axis(y0, y1, 0.0));
        let spread = |half: f32| {
            let (across, along) = ((half - self.round).max(0.0), self.cap - self.round);
            (across * ay + along * ax + self.round, across * ax + along * ay + self.round)
        };
        let ((w0, h0), (w1, h1)) = (spread(self.half.0), spread(self.half.1));
        [(x0 - w0).min(x1 - w1), (y0 - h0).min(y1 - h1), (x0 + w0).max(x1 + w1), (y0 + h0).max(y1 + h1)]
    }

    fn scaled(&self, by: f32) -> Self {
        let point = |(x, y): (f32, f32)| (x * by, y * by);
        Self {
            from: point(self.from),
            to: point(self.to),
            half: point(self.half),
            round: self.round * by,
            cap: self.cap * by,
            ..*self
        }
    }
}

/// Distances in the frame of one bar, prepared for many pixels.
struct Shape {
    x: f32,
    y: f32,
    ux: f32,
    uy: f32,
    length: f32,
    half: f32,
    taper: f32,
    round: f32,
    cap: f32,
}

impl Shape {
    fn new(bar: &Bar) -> Self {
        let ((x, y), (x1, y1)) = (bar.from, bar.to);
        let length = (x1 - x).hypot(y1 - y);
        // A bar without length still needs an axis, or it would have no shape.
        let (ux, uy) = if length > 1e-3 { ((x1 - x) / length, (y1 - y) / length) } else { (1.0, 0.0) };
        let taper = (bar.half.1 - bar.half.0) / length.max(1e-3);
        Self { x, y, ux, uy, length, half: bar.half.0, taper, round: bar.round, cap: bar.cap }
    }

    /// Coverage of the pixel with its middle at (x, y), and where across the bar it lies (-1 to 1).
    #[inline(always)]
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        let (dx, dy) = (x - self.x, y - self.y);
        let (along, across) = (dx * self.ux + dy * self.uy, dx * -self.uy + dy * self.ux);
        let half = self.half + self.taper * along.clamp(0.0, self.length);
        let qx = across.abs() - (half - self.round);
        let qy = (along - self.length * 0.5).abs() - (self.length * 0.5 + self.cap - self.round);
        let outside = if qx > 0.0 && qy > 0.0 { (qx * qx + qy * qy).sqrt() } else { qx.max(qy) };
        ((0.5 - (outside - self.round)).clamp(0.0, 1.0), across / half.max(0.5))
    }
}

impl Shape {
    /// The part of `xs` that the bar can touch in the row with its middle at `y`: both distances are linear along a row.
    fn row(&self, xs: &std::ops::Range<usize>, y: f32) -> std::ops::Range<usize> {
        let dy = y - self.y;
        let (mut from, mut to) = (xs.start as f32, xs.end as f32);
        let mut keep = |slope: f32, start: f32, low: f32, high: f32| {
            if slope.abs() > 0.05 {
                let (a, b) = ((low - start) / slope + self.x, (high - start) / slope + self.x);
                (from, to) = (from.max(a.min(b) - 1.0), to.min(a.max(b) + 1.0));
            }
        };
        let widest = self.half.max(self.half + self.taper * self.length) + 1.0;
        keep(-self.uy, dy * self.ux, -widest, widest);
        keep(self.ux, dy * self.uy, -self.cap - 1.0, self.length + self.cap + 1.0);
        let start = (from as usize).min(xs.end);
        start..(to.ceil() as usize).clamp(start, xs.end)
    }
}

/// Where pixels of one bar fall in a plane.
fn window(bounds: [f32; 4], width: usize, height: usize) -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let [left, top, right, bottom] = bounds;
    let clip = |from: f32, to: f32, end: usize| {
        let (from, to) = ((from - 1.0).floor().max(0.0), (to + 1.0).ceil().min(end as f32));
        (from < to).then_some(from as usize..to as usize)
    };
    Some((clip(left, right, width)?, clip(top, bottom, height)?))
}

#[inline(always)]
fn blend(under: u8, over: f32, part: f32) -> u8 {
    let under = f32::from(under);
    (under + (over - under) * part + 0.5) as u8
}

/// A frame being drawn.
#[derive(Debug)]
pub struct Canvas {
    pub frame: Yuv420Frame,
    /// Whose chroma-sized pixel it is; zero is nobody's.
    owner: Vec<u8>,
    drawn: [u32; 256],
    left: [u32; 256],
}

/// Owner of graphics that cover everything below them.
pub const NOBODY: u8 = 0;

impl Canvas {
    #[must_use]
    pub fn new(width: u32, height: u32) -> Self {
        let frame = Yuv420Frame::new(width, height);
        Self { owner: vec![NOBODY; frame.u.len()], frame, drawn: [0; 256], left: [0; 256] }
    }

    /// Forgets who was where; the picture itself is left to be overdrawn.
    pub fn forget(&mut self) {
        self.owner.fill(NOBODY);
        self.drawn = [0; 256];
        self.left = [0; 256];
    }

    /// Share of the pixels of `who` that nothing was drawn over, of those inside the picture.
    #[must_use]
    pub fn unhidden(&self, who: u8) -> f32 {
        let drawn = self.drawn[usize::from(who)];
        if drawn == 0 { 0.0 } else { self.left[usize::from(who)] as f32 / drawn as f32 }
    }

    /// Whether the picture shows the point and nobody but `who` was drawn over it.
    #[must_use]
    pub fn shows(&self, (x, y): (f32, f32), who: u8) -> bool {
        let (width, height) = (self.frame.width as f32, self.frame.height as f32);
        if !(0.0..width).contains(&x) || !(0.0..height).contains(&y) {
            return false;
        }
        let owner = self.owner.get(y as usize / 2 * (self.frame.width as usize / 2) + x as usize / 2);
        owner.is_some_and(|owner| *owner == who || *owner == NOBODY)
    }

    /// Draws one bar for `who`.
    pub fn draw(&mut self, bar: &Bar, who: u8) {
        self.draw_luma(bar);
        self.draw_chroma(bar, Some(who));
    }

    /// Darkens what lies below without owning it.
    pub fn draw_shadow(&mut self, bar: &Bar) {
        let (w, h) = (self.frame.width as usize, self.frame.height as usize);
        let shape = Shape::new(bar);
        let Some((xs, ys)) = window(bar.bounds(), w, h) else { return };
        for y in ys {
            let xs = shape.row(&xs, y as f32 + 0.5);
            for (x, luma) in xs.clone().zip(&mut self.frame.y[y * w..][xs]) {
                let (cover, _) = shape.at(x as f32 + 0.5, y as f32 + 0.5);
                *luma = blend(*luma, 16.0, cover * bar.alpha);
            }
        }
    }

    fn draw_luma(&mut self, bar: &Bar) {
        let (w, h) = (self.frame.width as usize, self.frame.height as usize);
        let Some((xs, ys)) = window(bar.bounds(), w, h) else { return };
        let shape = Shape::new(bar);
        let (first, second) = (f32::from(bar.ink.yuv[0]), f32::from(bar.ink.second[0]));
        for y in ys {
            let xs = shape.row(&xs, y as f32 + 0.5);
            for (x, luma) in xs.clone().zip(&mut self.frame.y[y * w..][xs]) {
                let (cover, across) = shape.at(x as f32 + 0.5, y as f32 + 0.5);
                if cover > 0.0 {
                    let colour = if is_second(&bar.ink, across) { second } else { first };
                    let lit = 16.0 + (colour - 16.0) * (1.0 - bar.ink.shade * (across + 0.35));
                    *luma = blend(*luma, lit.clamp(16.0, 235.0), cover * bar.alpha);
                }
            }
        }
    }

    fn draw_chroma(&mut self, bar: &Bar, who: Option<u8>) {
        let (w, h) = (self.frame.width as usize / 2, self.frame.height as usize / 2);
        let bar = bar.scaled(0.5);
        let Some((xs, ys)) = window(bar.bounds(), w, h) else { return };
        let shape = Shape::new(&bar);
        let colours = [bar.ink.yuv, bar.ink.second].map(|c| [f32::from(c[1]), f32::from(c[2])]);
        for y in ys {
            for x in shape.row(&xs, y as f32 + 0.5) {
                let (cover, across) = shape.at(x as f32 + 0.5, y as f32 + 0.5);
                if cover > 0.0 {
                    let i = y * w + x;
                    let [u, v] = colours[usize::from(is_second(&bar.ink, across))];
                    self.frame.u[i] = blend(self.frame.u[i], u, cover * bar.alpha);
                    self.frame.v[i] = blend(self.frame.v[i], v, cover * bar.alpha);
                    if let Some(who) = who.filter(|_| cover > 0.5) {
                        self.own(i, who);
                    }
                }
            }
        }
    }

    fn own(&mut self, i: usize, who: u8) {
        let before = std::mem::replace(&mut self.owner[i], who);
        if before != who {
            self.left[usize::from(before)] = self.left[usize::from(before)].saturating_sub(1);
            self.left[usize::from(who)] += 1;
            self.drawn[usize::from(who)] += 1;
        }
    }

    /// Adds grain from a table (see [`grain_table`]), at another place for every picture.
    pub fn add_grain(&mut self, table: &[i8], picture: u64) {
        let width = self.frame.width as usize;
        let places = table.len() - width;
        for (y, row) in self.frame.y.chunks_exact_mut(width).enumerate() {
            let place = crate::rng::Rng::stream(picture, y as u64).below(places);
            for (luma, grain) in row.iter_mut().zip(&table[place..place + width]) {
                *luma = luma.saturating_add_signed(*grain);
            }
        }
    }
}

#[inline(always)]
fn is_second(ink: &Ink, across: f32) -> bool {
    ink.stripes >= 2.0 && ((across + 1.0) * 0.5 * ink.stripes) as i32 % 2 == 1
}

/// Noise of a sensor: bell-shaped, `deviation` levels wide. `width` is that of the pictures it is meant for.
#[must_use]
pub fn grain_table(seed: u64, width: u32, deviation: f32) -> Vec<i8> {
    let mut rng = crate::rng::Rng::stream(seed, 0x9ea1);
    let bell = |rng: &mut crate::rng::Rng| (0..4).map(|_| rng.unit() - 0.5).sum::<f32>() * 1.73;
    (0..width as usize + 65_536).map(|_| (bell(&mut rng) * deviation).round() as i8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(x: f32, alpha: f32) -> Bar {
        let ink = Ink::flat([200, 90, 160]);
        Bar { alpha, ..Bar::limb((x, 20.0), (x, 50.0), (8.0, 8.0), ink, 1.0) }
    }

    #[test]
    fn who_is_covered_is_counted() {
        let mut canvas = Canvas::new(128, 64);
        canvas.draw(&bar(30.0, 1.0), 1);
        assert_eq!(canvas.unhidden(1), 1.0);
        canvas.draw(&bar(38.0, 1.0), 2);
        assert!((0.35..0.65).contains(&canvas.unhidden(1)), "{}", canvas.unhidden(1));
        assert_eq!(canvas.unhidden(2), 1.0);
        canvas.draw(&bar(30.0, 1.0), NOBODY);
        assert_eq!(canvas.unhidden(1), 0.0);
        assert_eq!(canvas.unhidden(9), 0.0, "somebody who was never drawn");
        assert!(canvas.shows((38.0, 40.0), 2) && !canvas.shows((38.0, 40.0), 1));
        assert!(canvas.shows((100.0, 5.0), 1) && !canvas.shows((128.0, 5.0), 1) && !canvas.shows((9.0, -0.1), 1));
    }

    #[test]
    fn a_bar_without_length_is_a_disc() {
        let mut canvas = Canvas::new(64, 64);
        canvas.draw(&Bar::limb((32.0, 32.0), (32.0, 32.0), (10.0, 10.0), Ink::flat([200, 90, 160]), 1.0), 1);
        let luma = |x: usize, y: usize| canvas.frame.y[y * 64 + x];
        assert_eq!([luma(32, 32), luma(24, 32), luma(32, 24)], [200; 3]);
        assert_eq!([luma(23, 23), luma(40, 40), luma(45, 32), luma(32, 45)], [16; 4]);
    }

    #[test]
    fn bars_outside_the_picture_are_harmless() {
        let mut canvas = Canvas::new(64, 64);
        let before = canvas.frame.clone();
        for x in [-500.0, 900.0] {
            canvas.draw(&bar(x, 1.0), 1);
        }
        assert_eq!(canvas.frame, before);
    }
}
