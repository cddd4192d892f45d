//! Heads that give a box in every row: where its numbers are, what they mean, and how scores are given. `YOLOv5`, `YOLOv8`,
//! DETR and a manifest's own layout are values of one type.

use std::array;

use fulltime_backend::{OPEN, Output};
use fulltime_common::pipeline::{BoxFormat, Generic, ModelOutput, Scores};

use super::{Raw, best, exp};

/// Where the numbers of all boxes are in an item.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    boxes: Part,
    format: BoxFormat,
    normalised: bool,
    objectness: Option<usize>,
    scores: Part,
    /// First column of the class scores, or the column of the one score that goes with `label`.
    score: usize,
    label: Option<usize>,
    given: Scores,
    count: usize,
    /// Boxes in an item.
    n: usize,
}

/// One of the tensors, by its place in the list of outputs.
#[derive(Debug, Clone, Copy)]
struct Part {
    tensor: usize,
    transposed: bool,
    /// First column of the box; scores have columns of their own.
    column: usize,
    start: usize,
    row_step: usize,
    column_step: usize,
}

impl Part {
    fn new(tensor: usize, transposed: bool, column: usize) -> Self {
        Self { tensor, transposed, column, start: 0, row_step: 0, column_step: 0 }
    }

    /// Returns the number of rows.
    fn settle(&mut self, outputs: &[Output]) -> usize {
        self.start = outputs[..self.tensor].iter().map(Output::len).sum();
        let item = &outputs[self.tensor].item;
        let (rows, columns) = if self.transposed { (item[1], item[0]) } else { (item[0], item[1]) };
        (self.row_step, self.column_step) = if self.transposed { (1, rows) } else { (columns, 1) };
        rows
    }

    fn at(&self, item: &[f32], row: usize, column: usize) -> f32 {
        item[self.start + row * self.row_step + column * self.column_step]
    }
}

impl Rows {
    /// The reading of a head other than YOLOX, and the tensors that it calls for. `count` is the number of classes.
    pub(super) fn new(output: &ModelOutput, count: usize) -> (Self, Vec<Output>) {
        let one = |name: &Option<String>, item| vec![Output { name: name.clone(), item }];
        let plain = |transposed, objectness, score| Self {
            boxes: Part::new(0, transposed, 0),
            format: BoxFormat::Cxcywh,
            normalised: false,
            objectness,
            scores: Part::new(0, transposed, 0),
            score,
            label: None,
            given: Scores::Probability,
            count,
            n: 0,
        };
        match output {
            ModelOutput::Yolov8 { name } => (plain(true, None, 4), one(name, vec![4 + count, OPEN])),
            ModelOutput::Detr { name, boxes, scores } => {
                let classes = count + usize::from(*scores == Scores::Softmax);
                let rows = Self { normalised: true, given: *scores, ..plain(false, None, 4) };
                match boxes {
                    None => (rows, one(name, vec![OPEN, 4 + classes])),
                    Some(_) => {
                        let rows = Self { scores: Part::new(1, false, 0), score: 0, ..rows };
                        (rows, [one(boxes, vec![OPEN, 4]), one(name, vec![OPEN, classes])].concat())
                    }
                }
            }
            ModelOutput::Generic(Generic {
                name,
                transposed,
                columns,
                box_column,
                box_format,
                normalised,
                objectness_column,
                score_column,
                label_column,
                scores,
                suppress: _,
            }) => {
                let index = |column: &u32| *column as usize;
                let rows = Self {
                    boxes: Part::new(0, *transposed, index(box_column)),
                    format: *box_format,
                    normalised: *normalised,
                    label: label_column.as_ref().map(index),
                    given: *scores,
                    ..plain(*transposed, objectness_column.as_ref().map(index), index(score_column))
                };
                let columns = index(columns);
                (rows, one(name, if *transposed { vec![columns, OPEN] } else { vec![OPEN, columns] }))
            }
            // Models that detect nothing are refused before.
            ModelOutput::Yolov5 { name }
            | ModelOutput::Yolox { name, .. }
            | ModelOutput::Embedding { name }
            | ModelOutput::Ctc { name, .. } => (plain(false, Some(4), 5), one(name, vec![OPEN, 5 + count])),
        }
    }

    pub(super) fn settle(&mut self, outputs: &[Output]) {
        self.n = self.boxes.settle(outputs).min(self.scores.settle(outputs));
    }

    /// Calls `found` for every row that may reach the threshold, in row order.
    pub(super) fn decode(
        &self,
        item: &[f32],
        size: [u32; 2],
        classes: &[u16],
        threshold: f32,
        mut found: impl FnMut(Raw),
    ) {
        let tops = self.tops(item, classes);
        for row in 0..self.n {
            let objectness = self.objectness.map_or(1.0, |column| self.scores.at(item, row, column));
            if objectness.is_nan() || objectness < threshold {
                continue;
            }
            let (class, score) = match (&tops, self.label) {
                (Some(tops), _) => tops[row],
                (None, Some(label)) => {
                    let class = self.scores.at(item, row, label);
                    let known = classes.iter().find(|&&known| f32::from(known) == class);
                    let Some(&class) = known else { continue };
                    (class, self.probability(self.scores.at(item, row, self.score)))
                }
                (None, None) => self.top(item, row, classes),
            };
            let score = objectness * score;
            if score >= threshold {
                let [centre, size] = self.place(item, row, size);
                found(Raw { class, score, centre, size });
            }
        }
    }

    /// The best class of every row, found class by class where the classes lie apart: memory is read in order.
    fn tops(&self, item: &[f32], classes: &[u16]) -> Option<Vec<(u16, f32)>> {
        if self.scores.column_step == 1 || self.label.is_some() || self.given == Scores::Softmax {
            return None;
        }
        let mut tops = vec![(0, f32::NEG_INFINITY); self.n];
        for &class in classes {
            let start = self.scores.start + (self.score + usize::from(class)) * self.scores.column_step;
            for (top, &value) in tops.iter_mut().zip(&item[start..start + self.n]) {
                if value > top.1 {
                    *top = (class, value);
                }
            }
        }
        tops.iter_mut().for_each(|top| top.1 = self.probability(top.1));
        Some(tops)
    }

    fn top(&self, item: &[f32], row: usize, classes: &[u16]) -> (u16, f32) {
        let value = |class: usize| self.scores.at(item, row, self.score + class);
        let (class, top) = best(classes, value);
        let score = match self.given {
            Scores::Probability | Scores::Sigmoid => self.probability(top),
            Scores::Softmax => {
                // The classes, wanted or not, and no object at all.
                let highest = (0..=self.count).map(value).fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = (0..=self.count).map(|class| exp(value(class) - highest)).sum();
                exp(top - highest) / sum
            }
        };
        (class, score)
    }

    fn probability(&self, value: f32) -> f32 {
        match self.given {
            Scores::Probability | Scores::Softmax => value,
            Scores::Sigmoid => 1.0 / (1.0 + exp(-value)),
        }
    }

    /// Centre and size in pixels of the network input.
    fn place(&self, item: &[f32], row: usize, size: [u32; 2]) -> [[f32; 2]; 2] {
        let scale = size.map(|side| if self.normalised { side as f32 } else { 1.0 });
        let [a, b, c, d] = array::from_fn(|i| self.boxes.at(item, row, self.boxes.column + i) * scale[i % 2]);
        match self.format {
            BoxFormat::Cxcywh => [[a, b], [c, d]],
            BoxFormat::Xywh => [[a + c / 2.0, b + d / 2.0], [c, d]],
            BoxFormat::Xyxy => [[(a + c) / 2.0, (b + d) / 2.0], [c - a, d - b]],
        }
    }
}
