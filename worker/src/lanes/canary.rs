//! The canary: a second of test cards inside the binary. A fresh process decodes it, and infers it with the pipeline of
//! the task that is to run alone, before that task: who fails at the canary says nothing about any recording.

use std::ops::ControlFlow;

use bytes::Bytes;
use fulltime_common::index::RecordingIndex;
use fulltime_media::{IntervalDecoder, IntervalOutcome, Picture};
use fulltime_vision::{Describer, Detection, Detector};

use super::{picture::NoColour, shard::Loaded};
use crate::error::TaskError;

/// Test cards in H.264 with B-frames, in MP4. Made by `worker/tests/worker/canary.rs`, as is its index.
static RECORDING: &[u8] = include_bytes!("canary.mp4");
static INDEX: &[u8] = include_bytes!("canary.index");
/// Of the content hashes of all its pictures. H.264 is exact to the bit, so every libavcodec must agree.
const PICTURES: u64 = 0x3468_e9fd_9ff3_dcf8;
/// Pictures that are shown to the detector: the first, and one that refers to others.
const LOOKED_AT: [u32; 2] = [0, 7];

/// Decodes the canary, and with the task's models infers and describes it twice. What the answers amount to is the same
/// on every lane of an engine class, or one of them is wrong; 0 without models.
///
/// # Errors
/// [`TaskError::Canary`], and whatever decoder and engine fail with.
pub fn check(models: Option<&mut Loaded>) -> Result<u64, TaskError> {
    let pictures = decode()?;
    if digest(&pictures) != PICTURES {
        return Err(TaskError::Canary { what: "decodes to other pictures" });
    }
    let Some(Loaded { detector, describer }) = models else { return Ok(0) };
    let mut answers = 0;
    for (_, picture) in pictures.iter().filter(|(frame, _)| LOOKED_AT.contains(frame)) {
        answers = fold(answers, infer(detector, picture)?.iter().map(|value| u64::from(value.to_bits())));
        if let Some(describer) = describer {
            describe(describer, picture)?;
        }
    }
    Ok(answers)
}

fn fold(hash: u64, values: impl Iterator<Item = u64>) -> u64 {
    values.fold(hash, |hash, value| (hash.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

pub fn decode() -> Result<Vec<(u32, Picture)>, TaskError> {
    let index = RecordingIndex::from_bytes(INDEX).map_err(|_| TaskError::Canary { what: "has no index" })?;
    let mut decoder = IntervalDecoder::new(&index)?;
    let mut pictures = Vec::new();
    for interval in 0..index.intervals.len() {
        let outcome = decoder.decode(interval, &Bytes::from_static(RECORDING), 0, &mut |frame, picture| {
            pictures.push((frame, picture));
            ControlFlow::Continue(())
        })?;
        if outcome != (IntervalOutcome::Complete { missing: Vec::new() }) {
            return Err(TaskError::Canary { what: "does not decode whole" });
        }
    }
    Ok(pictures)
}

/// What the detector says of one of the pictures, bit by bit: compared with what it said before, it shows an engine that
/// drifts (memory, heat, a driver that was exchanged under it).
///
/// # Errors
/// Whatever decoder and engine fail with.
pub fn answer(detector: &mut Detector) -> Result<Vec<u32>, TaskError> {
    let pictures = decode()?;
    let Some((_, picture)) = pictures.iter().find(|(frame, _)| *frame == LOOKED_AT[1]) else { return Ok(Vec::new()) };
    let tensor = tensor(detector, picture)?;
    let mut said = Vec::new();
    detector.infer(&tensor, &mut said)?;
    Ok(said.iter().map(|value| value.to_bits()).collect())
}

/// The share of an answer that is as it was, 0 to 1.
#[must_use]
pub fn score(first: &[u32], now: &[u32]) -> f64 {
    let same = first.iter().zip(now).filter(|(a, b)| a == b).count();
    same as f64 / first.len().max(now.len()).max(1) as f64
}

fn digest(pictures: &[(u32, Picture)]) -> u64 {
    fold(0, pictures.iter().map(|(frame, picture)| picture.content_hash() ^ u64::from(*frame)))
}

fn tensor(detector: &Detector, picture: &Picture) -> Result<Vec<f32>, TaskError> {
    let mut no_colour = NoColour::default();
    let view = no_colour.view(picture);
    let mut preparer = detector.preparer();
    let plan = preparer.plan(view.width, view.height)?;
    let mut tensor = vec![0.0; preparer.frame_len(&plan)];
    preparer.prepare(&plan, &view, &mut tensor)?;
    Ok(tensor)
}

fn infer(detector: &mut Detector, picture: &Picture) -> Result<Vec<f32>, TaskError> {
    let tensor = tensor(detector, picture)?;
    let [mut once, mut again] = [Vec::new(), Vec::new()];
    detector.infer(&tensor, &mut once)?;
    detector.infer(&tensor, &mut again)?;
    if once.iter().any(|value| !value.is_finite()) {
        return Err(TaskError::Canary { what: "gives answers that are no numbers" });
    }
    if once.iter().map(|value| value.to_bits()).ne(again.iter().map(|value| value.to_bits())) {
        return Err(TaskError::Canary { what: "gives two answers to one picture" });
    }
    Ok(once)
}

/// Describes a made-up person of every class.
fn describe(describer: &mut Describer, picture: &Picture) -> Result<(), TaskError> {
    let mut no_colour = NoColour::default();
    let view = no_colour.view(picture);
    let (w, h) = (view.width as f32 / 2.0, view.height as f32);
    let people: Vec<_> = (0..8).map(|class| Detection { class, score: 1.0, x: w / 2.0, y: 0.0, w, h }).collect();
    let mut say = || {
        describer.add(0, &view, &people)?;
        describer.finish()
    };
    if say()? != say()? {
        return Err(TaskError::Canary { what: "describes one picture in two ways" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canary_decodes_to_its_pictures_here() {
        let pictures = decode().unwrap();
        assert_eq!(pictures.len(), 25);
        assert_eq!(digest(&pictures), PICTURES, "{:#018x}", digest(&pictures));
        check(None).unwrap();
    }

    #[test]
    fn an_answer_scores_by_how_much_of_it_is_as_it_was() {
        assert_eq!(score(&[1, 2, 3, 4], &[1, 2, 3, 4]), 1.0);
        assert_eq!(score(&[1, 2, 3, 4], &[1, 2, 9, 4]), 0.75);
        assert_eq!(score(&[1, 2], &[]), 0.0);
    }

    #[test]
    fn one_changed_picture_changes_the_digest() {
        let mut pictures = decode().unwrap();
        let whole = digest(&pictures);
        pictures.swap(3, 4);
        assert_ne!(digest(&pictures), whole);
    }
}
