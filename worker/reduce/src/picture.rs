//! The picture of a match: a stored preview with boxes and track numbers drawn on it.

use crate::error::ReduceError;

/// Wide pictures are drawn as they are; smaller ones are doubled first, since a number needs a few pixels to be read.
const WIDE: usize = 1000;
const QUALITY: u8 = 85;

/// Colours that can be told apart and from grass, by track number. Annotated videos use them, too.
pub const COLOURS: [[u8; 3]; 12] = [
    [255, 214, 10],
    [64, 196, 255],
    [255, 92, 92],
    [186, 104, 255],
    [255, 255, 255],
    [255, 150, 36],
    [0, 229, 200],
    [255, 128, 210],
    [160, 200, 255],
    [255, 236, 150],
    [214, 160, 120],
    [120, 255, 120],
];

/// Digits of 3 by 5 pixels, a row in three bits, from the top.
pub const DIGITS: [[u8; 5]; 10] = [
    [0b111, 0b101, 0b101, 0b101, 0b111],
    [0b010, 0b110, 0b010, 0b010, 0b111],
    [0b111, 0b001, 0b111, 0b100, 0b111],
    [0b111, 0b001, 0b111, 0b001, 0b111],
    [0b101, 0b101, 0b111, 0b001, 0b001],
    [0b111, 0b100, 0b111, 0b001, 0b111],
    [0b111, 0b100, 0b111, 0b101, 0b111],
    [0b111, 0b001, 0b010, 0b010, 0b010],
    [0b111, 0b101, 0b111, 0b101, 0b111],
    [0b111, 0b101, 0b111, 0b001, 0b111],
];
/// Pixels of the picture for a pixel of a digit.
const DOT: i64 = 2;

/// A box to draw, in pixels of the recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    pub track: i32,
    pub x: f32,
    pub y: f32,
    pub w: f32,
    pub h: f32,
}

/// A finished picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    pub jpeg: Vec<u8>,
    pub width: u32,
    pub height: u32,
}

/// Draws `marks` on the preview `jpeg` of a recording that is `full_width` pixels wide.
///
/// # Errors
/// When the preview is not a JPEG.
pub fn draw(frame: u32, jpeg: &[u8], full_width: u32, marks: &[Mark]) -> Result<Drawn, ReduceError> {
    let mut canvas = Canvas::decode(frame, jpeg)?;
    if canvas.width < WIDE {
        canvas = canvas.doubled();
    }
    let scale = canvas.width as f32 / full_width.max(1) as f32;
    // Lower boxes are nearer to the camera, so they come last.
    let mut marks = marks.to_vec();
    marks.sort_by(|a, b| (a.y + a.h).total_cmp(&(b.y + b.h)).then(a.track.cmp(&b.track)));
    for mark in &marks {
        let colour = COLOURS[mark.track.unsigned_abs() as usize % COLOURS.len()];
        let edge = |at: f32| (at * scale).round() as i64;
        let (left, top) = (edge(mark.x), edge(mark.y));
        let (right, bottom) = (edge(mark.x + mark.w).max(left + 3), edge(mark.y + mark.h).max(top + 3));
        canvas.outline(left - 1, top - 1, right + 1, bottom + 1, [0, 0, 0]);
        canvas.outline(left, top, right, bottom, colour);
        canvas.outline(left + 1, top + 1, right - 1, bottom - 1, colour);
        canvas.number(left - 1, top, mark.track, colour);
    }
    canvas.encode(frame)
}

struct Canvas {
    width: usize,
    height: usize,
    /// Row by row, three bytes a pixel.
    rgb: Vec<u8>,
}

impl Canvas {
    fn decode(frame: u32, jpeg: &[u8]) -> Result<Self, ReduceError> {
        let failed = |source| ReduceError::Decode { frame, source };
        let mut decoder = jpeg_decoder::Decoder::new(jpeg);
        let pixels = decoder.decode().map_err(failed)?;
        let missing = || failed(jpeg_decoder::Error::Format("no picture".to_owned()));
        let info = decoder.info().ok_or_else(missing)?;
        let rgb = match info.pixel_format {
            jpeg_decoder::PixelFormat::RGB24 => pixels,
            jpeg_decoder::PixelFormat::L8 => pixels.into_iter().flat_map(|luma| [luma; 3]).collect(),
            jpeg_decoder::PixelFormat::L16 | jpeg_decoder::PixelFormat::CMYK32 => return Err(missing()),
        };
        Ok(Self { width: info.width.into(), height: info.height.into(), rgb })
    }

    /// Twice as wide and high, by linear interpolation in integers.
    fn doubled(&self) -> Self {
        let (width, height) = (self.width * 2, self.height * 2);
        let mut rgb = Vec::with_capacity(width * height * 3);
        // The nearer source pixel counts three quarters.
        let near_far = |at: usize, end: usize| {
            let near = at / 2;
            let far = if at.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(end - 1) };
            (near, far)
        };
        for y in 0..height {
            let (row, other_row) = near_far(y, self.height);
            for x in 0..width {
                let (column, other_column) = near_far(x, self.width);
                for channel in 0..3 {
                    let at = |row, column| u32::from(self.rgb[(row * self.width + column) * 3 + channel]);
                    let near = 3 * at(row, column) + at(row, other_column);
                    let far = 3 * at(other_row, column) + at(other_row, other_column);
                    rgb.push(((3 * near + far + 8) / 16) as u8);
                }
            }
        }
        Self { width, height, rgb }
    }

    fn encode(&self, frame: u32) -> Result<Drawn, ReduceError> {
        // A JPEG was the source, and its sides fit in 16 bits; doubling is for small ones.
        let (width, height) = (self.width as u16, self.height as u16);
        let mut jpeg = Vec::new();
        jpeg_encoder::Encoder::new(&mut jpeg, QUALITY)
            .encode(&self.rgb, width, height, jpeg_encoder::ColorType::Rgb)
            .map_err(|source| ReduceError::Encode { frame, source })?;
        Ok(Drawn { jpeg, width: width.into(), height: height.into() })
    }

    fn fill(&mut self, left: i64, top: i64, right: i64, bottom: i64, colour: [u8; 3]) {
        let columns = left.clamp(0, self.width as i64) as usize..right.clamp(0, self.width as i64) as usize;
        for y in top.clamp(0, self.height as i64) as usize..bottom.clamp(0, self.height as i64) as usize {
            for x in columns.clone() {
                let at = (y * self.width + x) * 3;
                self.rgb[at..at + 3].copy_from_slice(&colour);
            }
        }
    }

    fn outline(&mut self, left: i64, top: i64, right: i64, bottom: i64, colour: [u8; 3]) {
        self.fill(left, top, right, top + 1, colour);
        self.fill(left, bottom - 1, right, bottom, colour);
        self.fill(left, top, left + 1, bottom, colour);
        self.fill(right - 1, top, right, bottom, colour);
    }

    /// Black digits on a plate that stands on (left, bottom), moved into the picture where it would leave it.
    fn number(&mut self, left: i64, bottom: i64, number: i32, colour: [u8; 3]) {
        let text = number.unsigned_abs().to_string();
        let (width, height) = ((4 * text.len() as i64 + 1) * DOT, 7 * DOT);
        let left = left.min(self.width as i64 - width).max(0);
        let top = (bottom - height).min(self.height as i64 - height).max(0);
        self.fill(left, top, left + width, top + height, colour);
        for (i, digit) in text.bytes().enumerate() {
            for (row, bits) in (0i64..).zip(DIGITS[usize::from(digit - b'0')]) {
                for column in (0..3).filter(|column| bits & (0b100 >> column) != 0) {
                    let (x, y) = (left + (4 * i as i64 + 1 + column) * DOT, top + (1 + row) * DOT);
                    self.fill(x, y, x + DOT, y + DOT, [0, 0, 0]);
                }
            }
        }
    }
}
