//! Whether detector settings and a model's manifest can be meant at all, before any model is read or runtime loaded.
//! `submit` asks, so that nobody waits for a worker to say it; `Detector::load` asks again.

use fulltime_common::pipeline::{Describe, Detect, Generic, Manifest, ModelOutput, Scores, SoftNms};

use crate::{error::VisionError, numbers::Alphabet};

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
    check_input(manifest)?;
    let none = Vec::new();
    let strides = match &manifest.output {
        ModelOutput::Yolox { strides, .. } => strides,
        ModelOutput::Yolov5 { .. } | ModelOutput::Yolov8 { .. } | ModelOutput::Detr { .. } => &none,
        ModelOutput::Generic(generic) => {
            let fits = generic_fits(generic, manifest.classes.len());
            model("output.columns", fits, generic.columns.to_string(), "more than every column that is named")?;
            &none
        }
        ModelOutput::Embedding { .. } | ModelOutput::Ctc { .. } => {
            return model("output.head", false, "no detector's".to_owned(), "a detector's");
        }
    };
    let count = manifest.classes.len();
    model("classes", count > 0 && count < usize::from(u16::MAX), count.to_string(), "1 to 65534 names")?;
    let yolox = matches!(manifest.output, ModelOutput::Yolox { .. });
    let apart = yolox != strides.is_empty() && strides.iter().all(|&stride| stride > 0);
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
    let sigma = settings.soft_nms.map_or(1.0, |soft| match soft {
        SoftNms::Linear => 1.0,
        SoftNms::Gaussian { sigma } => sigma,
    });
    setting("detect.soft_nms.sigma", sigma.is_finite() && sigma > 0.0, sigma.to_string(), "above 0")?;
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
    let region = settings.region.polygon();
    let polygon = region.is_empty() || region.len() >= 3 && region.iter().flatten().all(|&value| share(value));
    setting("detect.region", polygon, format!("{region:?}"), "empty, or three or more corners with coordinates 0 to 1")
}

/// Checks everything about a description that can be checked without model and runtime. `classes` are the detector's.
///
/// # Errors
/// The first setting or manifest entry that cannot be meant, by name.
pub fn describe(describe: &Describe, classes: &[String]) -> Result<(), VisionError> {
    let settings = &describe.settings;
    let setting = |key: &'static str, ok: bool, found: String, expected: &str| match ok {
        true => Ok(()),
        false => Err(VisionError::Setting { key, found, expected: expected.to_owned() }),
    };
    let often = settings.per_second;
    setting("describe.per_second", often.is_finite() && often > 0.0, often.to_string(), "above 0")?;
    for class in &settings.classes {
        setting("describe.classes", classes.contains(class), format!("`{class}`"), "among the detector's classes")?;
    }
    let region @ [left, top, right, bottom] = settings.number_region;
    let inside = region.iter().all(|side| (0.0..=1.0).contains(side)) && left < right && top < bottom;
    setting("describe.number_region", inside, format!("{region:?}"), "left, top, right, bottom between 0 and 1")?;
    for (manifest, fits, expected) in [
        (&describe.embedder, is_embedder as fn(&Manifest) -> bool, "`embedding`"),
        (&describe.numbers, is_reader, "`ctc` with all ten digits and the blank among its columns"),
    ] {
        let Some(manifest) = manifest else { continue };
        if !fits(manifest) {
            let (model, found) = (manifest.name.clone(), format!("{:?}", manifest.output));
            return Err(VisionError::Manifest { model, key: "output", found, expected: expected.to_owned() });
        }
        let size = manifest.input.size;
        if !size.iter().all(|side| (1..=MAX_SIDE).contains(side)) {
            let (model, expected) = (manifest.name.clone(), format!("1 to {MAX_SIDE} pixels a side"));
            return Err(VisionError::Manifest { model, key: "input.size", found: format!("{size:?}"), expected });
        }
        check_input(manifest)?;
    }
    Ok(())
}

/// Whether all columns that are read exist.
fn generic_fits(generic: &Generic, classes: usize) -> bool {
    let scores = match (generic.label_column, generic.scores) {
        (Some(_), _) => 1,
        (None, Scores::Softmax) => classes + 1,
        (None, Scores::Probability | Scores::Sigmoid) => classes,
    };
    let ends = [
        u64::from(generic.box_column) + 4,
        u64::from(generic.score_column) + scores as u64,
        generic.objectness_column.map_or(0, |column| u64::from(column) + 1),
        generic.label_column.map_or(0, |column| u64::from(column) + 1),
    ];
    ends.iter().all(|&end| end <= u64::from(generic.columns))
}

fn is_embedder(manifest: &Manifest) -> bool {
    matches!(manifest.output, ModelOutput::Embedding { .. })
}

fn is_reader(manifest: &Manifest) -> bool {
    match &manifest.output {
        ModelOutput::Ctc { alphabet, blank, .. } => Alphabet::new(alphabet, *blank).is_some(),
        _ => false,
    }
}

fn check_input(manifest: &Manifest) -> Result<(), VisionError> {
    let input = &manifest.input;
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    let normal = finite(&input.mean) && finite(&input.std) && input.std.iter().all(|&std| std > 0.0);
    let faults = [
        ("input.std", normal, format!("{:?}", input.std), "finite and above 0, as mean finite"),
        ("input.scale", input.scale.is_finite() && input.scale > 0.0, input.scale.to_string(), "above 0"),
    ];
    match faults.into_iter().find(|(_, ok, ..)| !ok) {
        None => Ok(()),
        Some((key, _, found, expected)) => {
            Err(VisionError::Manifest { model: manifest.name.clone(), key, found, expected: expected.to_owned() })
        }
    }
}
