//! Reading a detector's answer: rows of numbers to boxes in the network input. YOLOX (Ge et al., 2021) counts its offsets
//! from grid cells; all other heads say where a box is, and differ in where what is written (`rows`).

use fulltime_backend::{Contract, Output};
use fulltime_common::pipeline::{Detect, ModelOutput};

use rows::Rows;

mod rows;

/// How to read one output item.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    kind: Kind,
    /// Network input, `[width, height]`.
    size: [u32; 2],
    /// Classes to report, ascending.
    classes: Vec<u16>,
    threshold: f32,
    suppress: bool,
    outputs: Vec<Output>,
}

#[derive(Debug, Clone)]
enum Kind {
    Yolox { strides: Vec<u32>, columns: usize },
    Rows(Rows),
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
        let output = &detect.model.output;
        let count = detect.model.classes.len();
        let wanted = &detect.settings.classes;
        let classes = (0_u16..)
            .zip(&detect.model.classes)
            .filter(|(_, name)| wanted.is_empty() || wanted.contains(name))
            .map(|(class, _)| class)
            .collect();
        let (kind, outputs) = match output {
            ModelOutput::Yolox { name, strides } => {
                let rows = strides.iter().map(|stride| size.map(|side| (side / stride) as usize));
                let rows = rows.map(|[across, down]| across * down).sum();
                let kind = Kind::Yolox { strides: strides.clone(), columns: 5 + count };
                (kind, vec![Output { name: name.clone(), item: vec![rows, 5 + count] }])
            }
            _ => {
                let (rows, outputs) = Rows::new(output, count);
                (Kind::Rows(rows), outputs)
            }
        };
        let suppress = match output {
            ModelOutput::Detr { .. } => false,
            ModelOutput::Generic(generic) => generic.suppress,
            ModelOutput::Yolox { .. }
            | ModelOutput::Yolov5 { .. }
            | ModelOutput::Yolov8 { .. }
            | ModelOutput::Embedding { .. }
            | ModelOutput::Ctc { .. } => true,
        };
        Self { kind, size, classes, threshold: detect.settings.score_threshold, suppress, outputs }
    }

    /// What the model must give.
    pub(crate) fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Takes from the opened model how many boxes it gives.
    pub(crate) fn settle(&mut self, contract: &Contract) {
        self.outputs.clone_from(&contract.outputs);
        if let Kind::Rows(rows) = &mut self.kind {
            rows.settle(&self.outputs);
        }
    }

    /// Values in one output item.
    pub(crate) fn item_len(&self) -> usize {
        self.outputs.iter().map(Output::len).sum()
    }

    /// Whether boxes that overlap are still to be suppressed.
    pub(crate) fn suppresses(&self) -> bool {
        self.suppress
    }

    /// Calls `found` for every row whose score reaches the threshold, in row order. Among the classes to report the most
    /// probable one counts; of equals the first.
    pub(crate) fn decode(&self, item: &[f32], mut found: impl FnMut(Raw)) {
        let whole = |raw: &Raw| raw.centre.iter().chain(&raw.size).all(|value| value.is_finite());
        let found = |raw: Raw| {
            if raw.score >= self.threshold && whole(&raw) {
                found(raw);
            }
        };
        match &self.kind {
            Kind::Yolox { strides, columns } => self.yolox(strides, *columns, item, found),
            Kind::Rows(rows) => rows.decode(item, self.size, &self.classes, self.threshold, found),
        }
    }

    fn yolox(&self, strides: &[u32], columns: usize, item: &[f32], mut found: impl FnMut(Raw)) {
        let mut rows = item.chunks_exact(columns);
        for &stride in strides {
            let [across, down] = self.size.map(|side| side / stride);
            let cells = (0..down).flat_map(|y| (0..across).map(move |x| [x as f32, y as f32]));
            for (cell, row) in cells.zip(rows.by_ref()) {
                // Probabilities are at most 1, so objectness alone decides nearly every row.
                let objectness = row[4];
                if objectness.is_nan() || objectness < self.threshold {
                    continue;
                }
                let (class, probability) = best(&self.classes, |class| row[5 + class]);
                let score = objectness * probability;
                let stride = stride as f32;
                let centre = [0, 1].map(|i| (row[i] + cell[i]) * stride);
                let size = [2, 3].map(|i| exp(row[i]) * stride);
                found(Raw { class, score, centre, size });
            }
        }
    }
}

/// The class with the greatest probability, of equals the first.
fn best(classes: &[u16], probability: impl Fn(usize) -> f32) -> (u16, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for &class in classes {
        let probability = probability(usize::from(class));
        if probability > best.1 {
            best = (class, probability);
        }
    }
    best
}

/// The exponential function from additions and multiplications alone: the C library's differs between versions and
/// processors in the last bit, and a shard's bytes may not. Error below one unit in the last place of an f32.
pub(crate) fn exp(x: f32) -> f32 {
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
        let kind = Kind::Yolox { strides: vec![8, 16], columns: 7 };
        let outputs = vec![Output { name: None, item: vec![8 + 2, 7] }];
        Head { kind, size: [32, 16], classes, threshold: 0.3, suppress: true, outputs }
    }

    #[test]
    fn rows_run_over_the_grids_of_all_strides() {
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
