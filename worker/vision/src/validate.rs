//! Whether detector settings and a model's manifest can be meant at all, before any model is read or runtime loaded.
//! `submit` asks, so that nobody waits for a worker to say it; `Detector::load` asks again.

use fulltime_common::pipeline::{Detect, ModelOutput};

use crate::error::VisionError;

/// Longest side of a network input: beyond it a typing error is likelier than a model.
const MAX_SIDE: u32 = 8192;

/// Checks everything about a detector that can be checked without model and runtime: for `submit`, and before loading.
///
/// # Errors
/// The first setting or manifest entry that cannot be meant, by name.
pub fn validate(detect: &Detect) -> Result<(), VisionError> {
    let (manifest, settings) = (&detect.model, &detect.settings);
    let model = |key: &'static str, ok: bool, found: String, expected: &str| match ok {
        true => Ok(()),
        false => {
            let (model, expected) = (manifest.name.clone(), expected.to_owned());
            Err(VisionError::Manifest { model, key, found, expected })
        }
    };
    let setting = |key: &'static str, ok: bool, found: String, expected: &str| match ok {
        true => Ok(()),
        false => Err(VisionError::Setting { key, found, expected: expected.to_owned() }),
    };

    let input = &manifest.input;
    let strides = match &manifest.output {
        ModelOutput::Yolox { strides, .. } => strides.as_slice(),
        ModelOutput::Embedding { .. } | ModelOutput::Ctc { .. } => {
            return model("output.head", false, "no detector's".to_owned(), "a detector's");
        }
    };
    let count = manifest.classes.len();
    model("classes", count > 0 && count < usize::from(u16::MAX), count.to_string(), "1 to 65534 names")?;
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    let normal = finite(&input.mean) && finite(&input.std) && input.std.iter().all(|&std| std > 0.0);
    model("input.std", normal, format!("{:?}", input.std), "finite and above 0, as mean finite")?;
    model("input.scale", input.scale.is_finite() && input.scale > 0.0, input.scale.to_string(), "above 0")?;
    let apart = !strides.is_empty() && strides.iter().all(|&stride| stride > 0);
    model("output.strides", apart, format!("{strides:?}"), "a list of numbers above 0")?;
    let coarsest = strides.iter().copied().max().unwrap_or(1);
    let expected = format!("1 to {MAX_SIDE} pixels a side and a multiple of every stride in {strides:?}");
    let usable = |size: [u32; 2]| {
        let whole = |side: u32| {
            (coarsest..=MAX_SIDE).contains(&side) && strides.iter().all(|stride| side.is_multiple_of(*stride))
        };
        size.into_iter().all(whole)
    };
    match settings.input_size {
        Some(size) => setting("detect.input_size", usable(size), format!("{size:?}"), &expected)?,
        None => model("input.size", usable(input.size), format!("{:?}", input.size), &expected)?,
    }

    let share = |value: f32| (0.0..=1.0).contains(&value);
    let score = settings.score_threshold;
    setting("detect.score_threshold", share(score), score.to_string(), "0 to 1")?;
    setting("detect.nms_iou", share(settings.nms_iou), settings.nms_iou.to_string(), "0 to 1")?;
    setting("detect.every", settings.every > 0, settings.every.to_string(), "1 or more")?;
    for class in &settings.classes {
        let names = manifest.classes.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = if count > 12 { ", …" } else { "" };
        let expected = format!("among the model's classes ({names}{more})");
        setting("detect.classes", manifest.classes.contains(class), format!("`{class}`"), &expected)?;
    }
    if let Some(tiles) = settings.tiles {
        let few = |n: u32| (1..=64).contains(&n);
        setting("detect.tiles.columns", few(tiles.columns), tiles.columns.to_string(), "1 to 64")?;
        setting("detect.tiles.rows", few(tiles.rows), tiles.rows.to_string(), "1 to 64")?;
        let overlap = tiles.overlap;
        setting("detect.tiles.overlap", (0.0..=0.5).contains(&overlap), overlap.to_string(), "0 to 0.5")?;
    }
    let region = &settings.region;
    let polygon = region.is_empty() || region.len() >= 3 && region.iter().flatten().all(|&value| share(value));
    setting("detect.region", polygon, format!("{region:?}"), "empty, or three or more corners with coordinates 0 to 1")
}
