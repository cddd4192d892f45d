//! Annotated video: a recording decoded, its objects drawn, encoded again. For people to look at; nothing is measured on it.

use std::{ops::ControlFlow, path::Path};

use fulltime_common::{
    Exit,
    error::{Failure, chain},
    plan::RecordingRef,
    store::Store,
};
use fulltime_media::{
    IntervalDecoder, Picture, Plane,
    encode::{EncodeError, EncodeOptions, Encoder, Yuv420Frame},
    index_recording,
};
use fulltime_reduce::{COLOURS, DIGITS};
use fulltime_score::{Attributes, Object, Sequence};

use crate::screen::{Meter, Screen};

/// Pixels of the picture for a pixel of a digit, at 720 lines.
const DOT: usize = 2;

/// Draws `sequence` over the recording `key` of `archive` and writes the video to `path`.
///
/// # Errors
/// A recording that is gone or cannot be decoded, a folder that cannot be written.
pub async fn draw(
    archive: &Store,
    key: &str,
    sequence: &Sequence,
    path: &Path,
    screen: &Screen,
) -> Result<u32, Failure> {
    let meta = archive.head(key).await?.ok_or_else(|| {
        let cause = format!("recording `{key}` is not in `{}`", archive.url());
        Failure::new(Exit::Archive, cause, "give the archive that the job was run on with --archive")
    })?;
    let recording = RecordingRef { key: key.to_owned(), size: meta.size, etag: meta.e_tag.unwrap_or_default() };
    let index = index_recording(archive, &recording).await?;
    let mut decoder = IntervalDecoder::new(&index)?;
    // Chroma is halved, so an odd last row or column is left out.
    let (width, height) = (index.codec.width & !1, index.codec.height & !1);
    let (rate, per) = index.frame_rate;
    let fps = if rate == 0 { (25, 1) } else { (rate, per.max(1)) };
    let options = EncodeOptions { fps, gop: (fps.0 / fps.1).max(1) * 2, ..EncodeOptions::new(width, height) };

    // A video that was not finished does not play: it gets its name at the end.
    let unfinished = path.with_extension("part.mp4");
    let failed = |error: EncodeError| {
        let cause = format!("write `{}`: {}", unfinished.display(), chain(&error));
        Failure::new(Exit::Store, cause, "make room, or give another folder with --out")
    };
    let mut encoder = Encoder::create(&unfinished, &options).map_err(failed)?;
    let mut artist = Artist { sequence, teams: teams(sequence), canvas: Yuv420Frame::new(width, height) };
    let mut meter = Meter::new(screen, key, u64::from(index.frames));
    let mut next = 0;
    for (number, interval) in index.intervals.iter().enumerate() {
        let bytes = archive.get_range_if_match(key, interval.bytes.clone(), &recording.etag).await?;
        let mut trouble = None;
        decoder.decode(number, &bytes, interval.bytes.start, &mut |frame, picture| {
            // What the recording does not hold is shown as the picture before it.
            let repeats = frame.saturating_sub(next);
            let shown = (0..repeats).try_for_each(|_| encoder.push(&artist.canvas)).and_then(|()| {
                artist.draw(frame, &picture);
                encoder.push(&artist.canvas)
            });
            next = frame + 1;
            meter.show(u64::from(next));
            match shown {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    trouble = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = trouble {
            return Err(failed(error));
        }
        for _ in next..interval.frames.end {
            encoder.push(&artist.canvas).map_err(failed)?;
        }
        next = next.max(interval.frames.end);
        meter.show(u64::from(next));
    }
    encoder.finish().map_err(failed)?;
    std::fs::rename(&unfinished, path).map_err(|error| {
        let cause = format!("rename `{}` to `{}`: {error}", unfinished.display(), path.display());
        Failure::new(Exit::Store, cause, "make the folder writable")
    })?;
    Ok(next)
}

/// Names of the teams, for their colours.
fn teams(sequence: &Sequence) -> Vec<String> {
    let mut names: Vec<String> = sequence
        .objects()
        .filter_map(|(_, object)| sequence.attributes_of(object)?.team.as_deref().map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    names
}

struct Artist<'a> {
    sequence: &'a Sequence,
    teams: Vec<String>,
    canvas: Yuv420Frame,
}

/// Luma and the two colour differences of BT.709, 16 to 235.
type Colour = [u8; 3];

fn colour([r, g, b]: [u8; 3]) -> Colour {
    let [r, g, b] = [r, g, b].map(f64::from);
    let luma = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    let chroma = |difference: f64, span: f64| (128.0 + 112.0 * difference / 255.0 / span).round() as u8;
    [(16.0 + luma * 219.0 / 255.0).round() as u8, chroma(b - luma, 0.9278), chroma(r - luma, 0.7874)]
}

const WHITE: [u8; 3] = [255, 255, 255];
const GREY: [u8; 3] = [160, 160, 160];
const ORANGE: [u8; 3] = [255, 150, 36];
const BLACK: Colour = [16, 128, 128];

impl Artist<'_> {
    fn draw(&mut self, frame: u32, picture: &Picture) {
        self.fill(picture);
        let mut objects: Vec<&Object> = self.sequence.frame(frame + 1).iter().collect();
        // Lower boxes are nearer to the camera, so they come last.
        let foot = |object: &&Object| object.bounds.map_or(0.0, |bounds| bounds.y + bounds.h);
        objects.sort_by(|a, b| foot(a).total_cmp(&foot(b)));
        let dot = (DOT * self.canvas.height as usize / 720).max(1) as i64;
        for object in objects {
            let Some(bounds) = object.bounds else { continue };
            let known = self.sequence.attributes_of(object).cloned().unwrap_or_default();
            let colour = colour(self.colour_of(&known));
            let at = |v: f64| v.round() as i64;
            let (left, top) = (at(bounds.x), at(bounds.y));
            let (right, bottom) = (at(bounds.x + bounds.w).max(left + 4), at(bounds.y + bounds.h).max(top + 4));
            self.outline([left, top, right, bottom], dot, colour);
            if known.role.as_deref() == Some("ball") {
                continue;
            }
            // Who it is, above; the shirt number, below.
            if let Some(id) = object.id {
                self.plate(left, top - 7 * dot, &id.to_string(), dot, colour);
            }
            if let Some(number) = known.number {
                self.plate(left, bottom, &number.to_string(), dot, colour);
            }
        }
    }

    fn colour_of(&self, known: &Attributes) -> [u8; 3] {
        let team = known.team.as_deref().and_then(|team| self.teams.iter().position(|name| name == team));
        match (known.role.as_deref(), team) {
            (Some("ball"), _) => ORANGE,
            (Some("referee"), _) => WHITE,
            (_, Some(team)) => COLOURS[team % COLOURS.len()],
            _ => GREY,
        }
    }

    /// The picture as 4:2:0 of limited range.
    fn fill(&mut self, picture: &Picture) {
        let (width, height) = (self.canvas.width as usize, self.canvas.height as usize);
        let full = picture.full_range();
        let luma = |v: u8| if full { (16 + u32::from(v) * 219 / 255) as u8 } else { v };
        let chroma = |v: u8| if full { (128 + (i32::from(v) - 128) * 224 / 255) as u8 } else { v };
        copy(&mut self.canvas.y, width, height, picture.plane(0), (picture.width(), picture.height()), luma);
        for (index, plane) in [(1, &mut self.canvas.u), (2, &mut self.canvas.v)] {
            match picture.planes() {
                3 => copy(
                    plane,
                    width / 2,
                    height / 2,
                    picture.plane(index),
                    (picture.width() / 2, picture.height() / 2),
                    chroma,
                ),
                _ => plane.fill(128),
            }
        }
    }

    fn block(&mut self, [left, top, right, bottom]: [i64; 4], [y, u, v]: Colour) {
        let (width, height) = (self.canvas.width as usize, self.canvas.height as usize);
        let clamp = |at: i64, end: usize| at.clamp(0, end as i64) as usize;
        let (left, right) = (clamp(left, width), clamp(right, width));
        for row in clamp(top, height)..clamp(bottom, height) {
            self.canvas.y[row * width + left..row * width + right.max(left)].fill(y);
            let half = row / 2 * (width / 2);
            self.canvas.u[half + left / 2..half + right.max(left).div_ceil(2)].fill(u);
            self.canvas.v[half + left / 2..half + right.max(left).div_ceil(2)].fill(v);
        }
    }

    fn outline(&mut self, [left, top, right, bottom]: [i64; 4], thick: i64, colour: Colour) {
        self.block([left, top, right, top + thick], colour);
        self.block([left, bottom - thick, right, bottom], colour);
        self.block([left, top, left + thick, bottom], colour);
        self.block([right - thick, top, right, bottom], colour);
    }

    /// Black digits on a plate, moved into the picture where it would leave it.
    fn plate(&mut self, left: i64, top: i64, text: &str, dot: i64, colour: Colour) {
        let (width, height) = ((4 * text.len() as i64 + 1) * dot, 7 * dot);
        let left = left.min(i64::from(self.canvas.width) - width).max(0);
        let top = top.min(i64::from(self.canvas.height) - height).max(0);
        self.block([left, top, left + width, top + height], colour);
        for (i, digit) in (0i64..).zip(text.bytes().filter(u8::is_ascii_digit)) {
            for (row, bits) in (0i64..).zip(DIGITS[usize::from(digit - b'0')]) {
                for column in (0..3).filter(|column| bits & (0b100 >> column) != 0) {
                    let (x, y) = (left + (4 * i + 1 + column) * dot, top + (1 + row) * dot);
                    self.block([x, y, x + dot, y + dot], BLACK);
                }
            }
        }
    }
}

/// Samples of a plane, the nearest one where it is finer than the canvas. `fits` is the plane's size at the canvas's own
/// subsampling.
fn copy(to: &mut [u8], width: usize, height: usize, from: Plane<'_>, fits: (usize, usize), value: impl Fn(u8) -> u8) {
    let step = |has: usize, fits: usize| if has > fits + 1 { 2 } else { 1 };
    let (right, down) = (step(from.width, fits.0), step(from.height, fits.1));
    for (y, row) in to.chunks_exact_mut(width).take(height).enumerate() {
        let source = &from.data[(y * down).min(from.height.saturating_sub(1)) * from.stride..];
        for (x, sample) in row.iter_mut().enumerate() {
            *sample = value(source[(x * right).min(from.width - 1)]);
        }
    }
}
