//! What the types cannot say about a pipeline: ranges, and what must agree between settings and manifest.

use fulltime_common::pipeline::{
    DescribeFile, DetectSettings, Generic, Manifest, ModelOutput, PipelineFile, Scores, SoftNms,
};

/// A setting that cannot be.
#[derive(Debug)]
pub struct Fault {
    pub keys: &'static [&'static str],
    /// Completes "`key` …".
    pub why: String,
}

/// Largest network input in pixels a side: beyond it is a typing error.
const MAX_SIDE: u32 = 8192;
const MAX_TILES: u32 = 32;

fn fault<T>(keys: &'static [&'static str], why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { keys, why: why.into() })
}

/// Not-a-number is in no range, so it is refused too.
fn within(keys: &'static [&'static str], value: f64, low: f64, high: f64) -> Result<(), Fault> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    // Settings are f32; without rounding 1.1 would be shown as 1.10000002384.
    let shown = (value * 1e6).round() / 1e6;
    fault(keys, format!("is {shown}; it must lie between {low} and {high}"))
}

/// Width and height of the detector's input must be multiples of this.
fn stride(manifest: &Manifest) -> u32 {
    match &manifest.output {
        ModelOutput::Yolox { strides, .. } => strides.iter().copied().max().unwrap_or(1).max(1),
        ModelOutput::Yolov5 { .. }
        | ModelOutput::Yolov8 { .. }
        | ModelOutput::Detr { .. }
        | ModelOutput::Generic(_)
        | ModelOutput::Embedding { .. }
        | ModelOutput::Ctc { .. } => 1,
    }
}

fn size(keys: &'static [&'static str], size: [u32; 2], stride: u32) -> Result<(), Fault> {
    if size.iter().all(|side| (1..=MAX_SIDE).contains(side) && side.is_multiple_of(stride)) {
        return Ok(());
    }
    fault(
        keys,
        format!("is {size:?}; width and height must be multiples of {stride}, the largest stride, up to {MAX_SIDE}"),
    )
}

/// The first thing wrong with a detector's manifest.
pub fn detector(manifest: &Manifest) -> Option<Fault> {
    check_detector(manifest).err()
}

fn check_detector(manifest: &Manifest) -> Result<(), Fault> {
    match &manifest.output {
        ModelOutput::Yolox { strides, .. } if strides.is_empty() || strides.contains(&0) => {
            let why = format!("is {strides:?}; at least one stride is needed, none of them 0");
            return fault(&["output", "strides"], why);
        }
        ModelOutput::Yolox { .. }
        | ModelOutput::Yolov5 { .. }
        | ModelOutput::Yolov8 { .. }
        | ModelOutput::Detr { .. } => {}
        ModelOutput::Generic(generic) => check_generic(generic, manifest.classes.len())?,
        ModelOutput::Embedding { .. } | ModelOutput::Ctc { .. } => {
            return fault(&["output", "head"], "is no detector's");
        }
    }
    size(&["input", "size"], manifest.input.size, stride(manifest))?;
    if manifest.classes.is_empty() {
        return fault(&["classes"], "is empty; a detector needs at least one class");
    }
    if let Some((i, name)) = manifest.classes.iter().enumerate().find(|(i, name)| manifest.classes[..*i].contains(name))
    {
        return fault(&["classes"], format!("names `{name}` again at index {i}; every class needs a name of its own"));
    }
    check_input(manifest)
}

/// Every column that is read must exist.
fn check_generic(generic: &Generic, classes: usize) -> Result<(), Fault> {
    let columns = u64::from(generic.columns);
    let within = |key: &'static [&'static str], first: u32, count: usize, what: &str| {
        let end = u64::from(first) + count as u64;
        match end <= columns {
            true => Ok(()),
            false => fault(key, format!("is {first}; {what} ends at column {end}, but there are {columns}")),
        }
    };
    let scores = match (generic.label_column, generic.scores) {
        (Some(_), _) => 1,
        (None, Scores::Softmax) => classes + 1,
        (None, Scores::Probability | Scores::Sigmoid) => classes,
    };
    within(&["output", "box_column"], generic.box_column, 4, "the box")?;
    within(&["output", "score_column"], generic.score_column, scores, "the scores")?;
    if let Some(column) = generic.objectness_column {
        within(&["output", "objectness_column"], column, 1, "the objectness")?;
    }
    if let Some(column) = generic.label_column {
        within(&["output", "label_column"], column, 1, "the label")?;
    }
    Ok(())
}

/// The first thing wrong with an embedder's manifest.
pub fn embedder(manifest: &Manifest) -> Option<Fault> {
    let check = || match &manifest.output {
        ModelOutput::Embedding { .. } => check_crop(manifest),
        _ => fault(&["output", "head"], "is no embedder's; `embedding` is needed"),
    };
    check().err()
}

/// The first thing wrong with the manifest of a reader of numbers.
pub fn reader(manifest: &Manifest) -> Option<Fault> {
    let check = || match &manifest.output {
        ModelOutput::Ctc { alphabet, blank, .. } => {
            if let Some(digit) = ('0'..='9').find(|&digit| !alphabet.contains(digit)) {
                return fault(&["output", "alphabet"], format!("lacks `{digit}`; shirt numbers need all ten digits"));
            }
            let count = alphabet.chars().count();
            if *blank as usize > count {
                return fault(
                    &["output", "blank"],
                    format!("is {blank}; with {count} characters it is at most {count}"),
                );
            }
            check_crop(manifest)
        }
        _ => fault(&["output", "head"], "is no reader's; `ctc` is needed"),
    };
    check().err()
}

/// Of models that see the picture of one person.
fn check_crop(manifest: &Manifest) -> Result<(), Fault> {
    size(&["input", "size"], manifest.input.size, 1)?;
    check_input(manifest)
}

fn check_input(manifest: &Manifest) -> Result<(), Fault> {
    let input = &manifest.input;
    if !input.scale.is_finite() || input.scale == 0.0 {
        return fault(&["input", "scale"], format!("is {}; it must be a number other than 0", input.scale));
    }
    if input.std.iter().any(|v| !v.is_finite() || *v == 0.0) {
        return fault(&["input", "std"], format!("is {:?}; values are divided by it, so none may be 0", input.std));
    }
    if input.mean.iter().any(|v| !v.is_finite()) {
        return fault(&["input", "mean"], format!("is {:?}; three numbers are needed", input.mean));
    }
    Ok(())
}

/// The first thing wrong with `[describe]` of a pipeline file, given the detector's manifest.
pub fn describe(file: &DescribeFile, detector: &Manifest) -> Option<Fault> {
    check_describe(file, detector).err()
}

fn check_describe(file: &DescribeFile, detector: &Manifest) -> Result<(), Fault> {
    let settings = &file.settings;
    within(&["describe", "per_second"], settings.per_second, 0.01, 1000.0)?;
    if let Some(unknown) = settings.classes.iter().find(|class| !detector.classes.contains(class)) {
        return fault(&["describe", "classes"], unknown_class(unknown, &detector.classes));
    }
    within(&["describe", "min_score"], settings.min_score.into(), 0.0, 1.0)?;
    within(&["describe", "min_height"], settings.min_height.into(), 1.0, f64::from(MAX_SIDE))?;
    within(&["describe", "number_min_height"], settings.number_min_height.into(), 1.0, f64::from(MAX_SIDE))?;
    within(&["describe", "number_max_aspect"], settings.number_max_aspect.into(), 0.0, 100.0)?;
    within(&["describe", "number_min_sharpness"], settings.number_min_sharpness.into(), 0.0, 1e6)?;
    let region @ [left, top, right, bottom] = settings.number_region;
    if !region.iter().all(|side| (0.0..=1.0).contains(side)) || left >= right || top >= bottom {
        let why = format!("is {region:?}; left, top, right, bottom between 0 and 1 are needed, left before right");
        return fault(&["describe", "number_region"], why);
    }
    Ok(())
}

/// The first thing wrong with a pipeline file, given a manifest that is right.
pub fn settings(file: &PipelineFile, manifest: &Manifest) -> Option<Fault> {
    check_settings(file, manifest).err()
}

fn check_settings(file: &PipelineFile, manifest: &Manifest) -> Result<(), Fault> {
    let detect = &file.detect.settings;
    within(&["detect", "score_threshold"], detect.score_threshold.into(), 0.0, 1.0)?;
    within(&["detect", "nms_iou"], detect.nms_iou.into(), 0.0, 1.0)?;
    if let Some(SoftNms::Gaussian { sigma }) = detect.soft_nms {
        within(&["detect", "soft_nms", "sigma"], sigma.into(), 1e-3, 1e3)?;
    }
    if detect.every == 0 {
        return fault(&["detect", "every"], "is 0; at least 1 is needed");
    }
    if let Some(input) = detect.input_size {
        size(&["detect", "input_size"], input, stride(manifest))?;
    }
    if let Some(unknown) = detect.classes.iter().find(|class| !manifest.classes.contains(class)) {
        return fault(&["detect", "classes"], unknown_class(unknown, &manifest.classes));
    }
    if let Some(tiles) = detect.tiles {
        if ![tiles.columns, tiles.rows].iter().all(|n| (1..=MAX_TILES).contains(n)) {
            let grid = format!("is {} by {}", tiles.columns, tiles.rows);
            return fault(&["detect", "tiles"], format!("{grid}; columns and rows must lie between 1 and {MAX_TILES}"));
        }
        within(&["detect", "tiles", "overlap"], tiles.overlap.into(), 0.0, 0.5)?;
    }
    let region = detect.region.polygon();
    if !region.is_empty() {
        if region.len() < 3 {
            let n = region.len();
            return fault(&["detect", "region"], format!("has {n} corners; a polygon needs at least 3"));
        }
        if let Some(point) = region.iter().find(|p| !p.iter().all(|v| (0.0..=1.0).contains(v))) {
            let why = format!("has the corner {point:?}; relative coordinates lie between 0 and 1");
            return fault(&["detect", "region"], why);
        }
    }
    within(&["preview", "every_seconds"], file.preview.every_seconds, 0.0, 86_400.0)?;
    within(&["preview", "width"], file.preview.width.into(), 16.0, f64::from(MAX_SIDE))?;
    within(&["track", "start_score"], file.track.start_score.into(), 0.0, 1.0)?;
    within(&["track", "high_score"], file.track.high_score.into(), 0.0, 1.0)?;
    within(&["track", "match_iou"], file.track.match_iou.into(), 0.0, 1.0)?;
    within(&["track", "lost_seconds"], file.track.lost_seconds, 0.0, 3600.0)?;
    within(&["track", "link_seconds"], file.track.link_seconds, 0.0, 3600.0)?;
    within(&["track", "fill_seconds"], file.track.fill_seconds, 0.0, 3600.0)?;
    within(&["track", "min_seconds"], file.track.min_seconds, 0.0, 3600.0)?;
    let identify = &file.identify;
    within(&["identify", "look_zero"], identify.look_zero, -1.0, 1.0)?;
    within(&["identify", "look_slope"], identify.look_slope, 0.0, 1000.0)?;
    within(&["identify", "look_floor"], identify.look_floor, -100.0, 0.0)?;
    within(&["identify", "look_most"], identify.look_most, 0.0, 100.0)?;
    within(&["identify", "number_weight"], identify.number_weight, 0.0, 1.0)?;
    within(&["identify", "number_floor"], identify.number_floor, -100.0, 0.0)?;
    within(&["identify", "number_sure"], identify.number_sure, 0.5, 1.0)?;
    within(&["identify", "look_number"], identify.look_number, -1.0, 1.0)?;
    within(&["identify", "join_gain"], identify.join_gain, -100.0, 100.0)?;
    within(&["identify", "adopt_gain"], identify.adopt_gain, -100.0, 100.0)?;
    within(&["identify", "adopt_lead"], identify.adopt_lead, 0.0, 100.0)?;
    within(&["identify", "kit_apart"], identify.kit_apart, 0.0, 1.5)?;
    within(&["identify", "team_sure"], identify.team_sure, 0.5, 1.0)
}

fn unknown_class(unknown: &str, known: &[String]) -> String {
    let lower = unknown.to_lowercase();
    let near = known.iter().find(|k| lower.starts_with(&k.to_lowercase()) || k.to_lowercase().starts_with(&lower));
    match near {
        Some(near) => format!("names `{unknown}`, which the model does not know; is `{near}` meant?"),
        None => {
            let mut list = known.iter().take(10).map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
            if known.len() > 10 {
                list.push_str(&format!(" and {} more", known.len() - 10));
            }
            format!("names `{unknown}`, which the model does not know; it knows {list}")
        }
    }
}

/// Settings that mean the same become the same, so that they share results: classes in the model's order, each once
/// (all of them as none), no input size where it is the model's own.
pub fn canonical(mut settings: DetectSettings, manifest: &Manifest) -> DetectSettings {
    let wanted = std::mem::take(&mut settings.classes);
    if !manifest.classes.iter().all(|class| wanted.contains(class)) {
        settings.classes = manifest.classes.iter().filter(|class| wanted.contains(class)).cloned().collect();
    }
    settings.input_size = settings.input_size.filter(|size| *size != manifest.input.size);
    settings
}
