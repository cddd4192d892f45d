//! Reading a detector's answer: rows of numbers to boxes in the network input. One head so far, YOLOX (Ge et al., 2021).

use fulltime_common::pipeline::{Detect, ModelOutput};

/// How to read one output item of `rows` x `columns` values.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    strides: Vec<u32>,
    /// Network input, `[width, height]`.
    size: [u32; 2],
    columns: usize,
    /// Classes to report, ascending.
    classes: Vec<u16>,
    threshold: f32,
}

/// A box in pixels of the network input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Raw {
    pub class: u16,
    pub score: f32,
    pub centre: [f32; 2],
    pub size: [f32; 2],
}

impl Head {
    /// `detect` must have passed `validate`.
    pub(crate) fn new(detect: &Detect, size: [u32; 2]) -> Self {
        let strides = match &detect.model.output {
            ModelOutput::Yolox { strides, .. } => strides.clone(),
            ModelOutput::Embedding { .. } | ModelOutput::Ctc { .. } => Vec::new(),
        };
        let wanted = &detect.settings.classes;
        let classes = (0_u16..)
            .zip(&detect.model.classes)
            .filter(|(_, name)| wanted.is_empty() || wanted.contains(name))
            .map(|(class, _)| class)
            .collect();
        let columns = 5 + detect.model.classes.len();
        Self { strides, size, columns, classes, threshold: detect.settings.score_threshold }
    }

    /// Shape of one output item.
    pub(crate) fn shape(&self) -> [usize; 2] {
        let rows = self.strides.iter().map(|stride| self.size.map(|side| (side / stride) as usize));
        [rows.map(|[across, down]| across * down).sum(), self.columns]
    }

    /// Calls `found` for every row whose objectness times class probability reaches the threshold, in row order. Among
    /// the classes to report the most probable one counts; of equals the first.
    pub(crate) fn decode(&self, item: &[f32], mut found: impl FnMut(Raw)) {
        let mut rows = item.chunks_exact(self.columns);
        for &stride in &self.strides {
            let [across, down] = self.size.map(|side| side / stride);
            let cells = (0..down).flat_map(|y| (0..across).map(move |x| [x as f32, y as f32]));
            for (cell, row) in cells.zip(rows.by_ref()) {
                // Probabilities are at most 1, so objectness alone decides nearly every row.
                let objectness = row[4];
                if objectness.is_nan() || objectness < self.threshold {
                    continue;
                }
                let mut best = (0, f32::NEG_INFINITY);
                for &class in &self.classes {
                    let probability = row[5 + class as usize];
                    if probability > best.1 {
                        best = (class, probability);
                    }
                }
                let score = objectness * best.1;
                let stride = stride as f32;
                let centre = [0, 1].map(|i| (row[i] + cell[i]) * stride);
                let size = [2, 3].map(|i| exp(row[i]) * stride);
                if score >= self.threshold && centre.iter().chain(&size).all(|value| value.is_finite()) {
                    found(Raw { class: best.0, score, centre, size });
                }
            }
        }
    }
}

/// The exponential function from additions and multiplications alone: the C library's differs between versions and
/// processors in the last bit, and a shard's bytes may not. Error below one unit in the last place of an f32.
fn exp(x: f32) -> f32 {
    // e^x = 2^k * e^r with |r| <= ln(2) / 2.
    let x = f64::from(x).clamp(-100.0, 100.0);
    if x.is_nan() {
        return f32::NAN;
    }
    let k = (x * std::f64::consts::LOG2_E).round();
    let r = x - k * std::f64::consts::LN_2;
    let series = (1..=13).rev().fold(1.0, |sum, n| 1.0 + sum * r / f64::from(n));
    let power = f64::from_bits(((1023 + k as i64) as u64) << 52);
    (series * power) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_exponential_agrees_with_the_library_to_the_last_place_of_an_f32() {
        for i in -4000..4000 {
            let x = i as f32 * 0.021;
            let expected = f64::from(x).exp();
            let (found, tolerance) = (f64::from(exp(x)), expected * f64::from(f32::EPSILON) + 1e-44);
            assert!((found - expected).abs() <= tolerance, "exp({x}) gave {found}, not {expected}");
        }
        assert!(exp(f32::NAN).is_nan() && exp(f32::INFINITY).is_infinite());
        assert_eq!((exp(0.0), exp(f32::NEG_INFINITY)), (1.0, exp(-100.0)));
    }

    fn head(classes: Vec<u16>) -> Head {
        Head { strides: vec![8, 16], size: [32, 16], columns: 7, classes, threshold: 0.3 }
    }

    #[test]
    fn rows_run_over_the_grids_of_all_strides() {
        assert_eq!(head(vec![0, 1]).shape(), [8 + 2, 7]);
        let mut item = vec![0.0; 70];
        // The second cell of the second row at stride 8, and the last cell at stride 16.
        item[5 * 7..6 * 7].copy_from_slice(&[0.5, 0.25, 0.0, 2_f32.ln(), 0.8, 0.5, 0.75]);
        item[9 * 7..10 * 7].copy_from_slice(&[0.0, 0.0, 0.0, 0.0, 0.9, 0.9, 0.9]);
        let mut found = Vec::new();
        head(vec![0, 1]).decode(&item, |raw| found.push(raw));
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].class, found[0].score), (1, 0.8 * 0.75));
        assert_eq!((found[0].centre, found[0].size), ([12.0, 10.0], [8.0, 16.0]));
        assert_eq!((found[1].class, found[1].centre, found[1].size), (0, [16.0, 0.0], [16.0, 16.0]));
    }

    #[test]
    fn classes_that_are_not_wanted_do_not_exist() {
        let mut item = vec![0.0; 70];
        item[..7].copy_from_slice(&[0.5, 0.5, 0.0, 0.0, 0.8, 0.5, 0.75]);
        let mut found = Vec::new();
        head(vec![0]).decode(&item, |raw| found.push((raw.class, raw.score)));
        assert_eq!(found, [(0, 0.8 * 0.5)]);
    }

    #[test]
    fn numbers_that_are_none_are_passed_over() {
        let mut item = vec![f32::NAN; 70];
        item[7..14].copy_from_slice(&[0.5, 0.5, f32::INFINITY, 0.0, 0.8, 0.5, 0.75]);
        head(vec![0, 1]).decode(&item, |raw| panic!("{raw:?}"));
    }
}
