//! Every head on a real engine: models that only regroup the values they are fed, so that the answer is known by heart.

#![allow(clippy::unwrap_used, dead_code)] // Helpers of tests may, too.

mod common;
#[path = "../../backends/onnx/tests/common/mod.rs"]
mod model;

use common::detect;
use fulltime_common::{
    Digest,
    pipeline::{BoxFormat, Detect, Generic, ModelOutput, Scores, SoftNms},
};
use fulltime_vision::{Detection, Detector, EngineKind};
use model::{reshape, reshapes, runtime};

/// Class, score, left, top, width, height.
type Found = (u16, f32, f32, f32, f32, f32);

/// What the head finds in these values, on a picture of the size of the input (`[width, height]`), best first. The model
/// has three classes; values that are not given are zero.
fn find(
    size: [u32; 2],
    model: &[u8],
    output: ModelOutput,
    change: impl Fn(&mut Detect),
    values: &[f32],
) -> Option<Vec<Found>> {
    let library = runtime()?;
    let mut detect = detect(size);
    detect.model.file.sha256 = Digest::of_bytes(model);
    detect.model.classes = ["person", "ball", "horse"].map(str::to_owned).to_vec();
    detect.model.output = output;
    change(&mut detect);
    let mut detector = Detector::load(&EngineKind::onnx(library), model, &detect).unwrap();
    let plan = detector.preparer().plan(size[0], size[1]).unwrap();
    let mut tensor = values.to_vec();
    tensor.resize(3 * (size[0] * size[1]) as usize, 0.0);
    let mut outputs = Vec::new();
    detector.infer(&tensor, &mut outputs).unwrap();
    let found = detector.reader().finish(&plan, &outputs, None).unwrap();
    Some(found.into_iter().map(|Detection { class, score, x, y, w, h }| (class, score, x, y, w, h)).collect())
}

fn as_is(_: &mut Detect) {}

#[test]
fn yolov5_gives_objectness_and_classes_in_every_row() {
    // 12 rows of 8.
    let model = reshape([-1, 3, 4, 8], [12, 8], [-1, 12, 8]);
    let rows = [
        [4.0, 2.0, 2.0, 1.0, 0.5, 0.25, 0.75, 0.5],
        [6.0, 2.0, 2.0, 2.0, 0.75, 1.0, 0.5, 0.25],
        // The same object again, and one that is not sure enough.
        [6.0, 2.0, 2.0, 1.75, 0.5, 1.0, 0.5, 0.25],
        [1.0, 1.0, 1.0, 1.0, 0.25, 0.75, 0.5, 0.25],
    ];
    let Some(found) = find([8, 4], &model, ModelOutput::Yolov5 { name: None }, as_is, rows.as_flattened()) else {
        return;
    };
    assert_eq!(found, [(0, 0.75, 5.0, 1.0, 2.0, 2.0), (1, 0.375, 3.0, 1.5, 2.0, 1.0)]);
}

#[test]
fn yolov8_gives_a_column_to_every_box() {
    // Of 7 rows, 4 for the box and 3 classes, by 6 x 7 x 3 / 7 = 18 boxes.
    let model = reshape([-1, 3, 6, 7], [7, 18], [-1, 7, 18]);
    let mut values = vec![0.0; 7 * 18];
    for (column, numbers) in [
        (3, [3.0, 2.0, 4.0, 2.0, 0.125, 0.5, 0.25]),
        (17, [5.0, 4.0, 2.0, 2.0, 0.75, 0.5, 0.25]),
        (5, [5.0, 4.0, 2.0, 1.5, 0.5, 0.625, 0.25]),
    ] {
        numbers.iter().enumerate().for_each(|(row, number)| values[row * 18 + column] = *number);
    }
    let output = ModelOutput::Yolov8 { name: Some("output".into()) };
    let Some(found) = find([7, 6], &model, output.clone(), as_is, &values) else { return };
    let all = [(0, 0.75, 4.0, 3.0, 2.0, 2.0), (1, 0.625, 4.0, 3.25, 2.0, 1.5), (1, 0.5, 1.0, 1.0, 4.0, 2.0)];
    assert_eq!(found, all, "boxes of different classes do not suppress each other");
    let people =
        find([7, 6], &model, output, |detect| detect.settings.classes = vec!["person".into()], &values).unwrap();
    assert_eq!(people, [(0, 0.75, 4.0, 3.0, 2.0, 2.0)], "an IoU of 0.75 is suppressed");
}

#[test]
fn detr_gives_shares_of_the_input_and_nothing_is_suppressed() {
    // 8 x 7 x 3 / 7 = 24 queries.
    let model = reshape([-1, 3, 7, 8], [24, 7], [-1, 24, 7]);
    let rows = [[0.5, 0.5, 0.25, 0.5, 2.0, -1.0, 0.0], [0.5, 0.5, 0.25, 0.5, 1.0, -1.0, 0.0]];
    let mut values = rows.as_flattened().to_vec();
    // Queries without an object have logits far below zero.
    (2..24).for_each(|_| values.extend([0.5, 0.5, 0.1, 0.1, -9.0, -9.0, -9.0]));
    let output = ModelOutput::Detr { name: None, boxes: None, scores: Scores::Sigmoid };
    let Some(found) = find([8, 7], &model, output, as_is, &values) else { return };
    assert_eq!(found.len(), 2, "{found:?}");
    for (row, found) in rows.iter().zip(&found) {
        let expected = 1.0 / (1.0 + (-f64::from(row[4])).exp());
        assert!((f64::from(found.1) - expected).abs() < 1e-6, "{found:?}");
        assert_eq!((found.0, found.2, found.3, found.4, found.5), (0, 3.0, 1.75, 2.0, 3.5));
    }
}

#[test]
fn detr_with_boxes_apart_reads_both_tensors_and_leaves_out_no_object() {
    // Both outputs are all of the 48 values, 12 rows of 4: here box and logits of a query are the same four numbers.
    let declared = ("logits", [12, 4], [-1, 12, 4]);
    let model = reshapes([-1, 3, 4, 4], &[declared, ("pred_boxes", [12, 4], [-1, -1, 4])]);
    let [logits, boxes] = ["logits", "pred_boxes"].map(|name| Some(name.to_owned()));
    let output = ModelOutput::Detr { name: logits, boxes, scores: Scores::Softmax };
    let rows = [[0.5, 2.0, 0.25, 1.0], [0.5, 0.5, 0.25, 4.0], [1.0, 0.5, 0.5, 0.5]];
    let Some(found) = find([4, 4], &model, output, as_is, rows.as_flattened()) else { return };
    let softmax = |row: [f32; 4], class: usize| {
        let powers = row.map(|logit| f64::from(logit).exp());
        powers[class] / powers.iter().sum::<f64>()
    };
    let expected = [(1, softmax(rows[0], 1), [1.5, 6.0, 1.0, 2.0]), (0, softmax(rows[2], 0), [3.0, 1.0, 2.0, 2.0])];
    let real: Vec<_> = found.iter().filter(|found| found.1 > 0.26).collect();
    // The first lies below the picture, whose height is 4: it is clipped away. The second is no object for certain.
    assert_eq!(real.len(), 1, "{found:?}");
    let (class, score, ..) = expected[1];
    assert_eq!((real[0].0, [real[0].2, real[0].3, real[0].4, real[0].5]), (class, [3.0, 1.0, 1.0, 2.0]), "clipped");
    assert!((f64::from(real[0].1) - score).abs() < 1e-6);
}

#[test]
fn a_layout_of_its_own_is_read_as_the_manifest_has_it() {
    // Score, label, left, top, right, bottom, as detectors with suppression inside give them.
    let model = reshape([-1, 3, 4, 4], [8, 6], [-1, 8, 6]);
    let generic = Generic {
        name: None,
        transposed: false,
        columns: 6,
        box_column: 2,
        box_format: BoxFormat::Xyxy,
        normalised: true,
        objectness_column: None,
        score_column: 0,
        label_column: Some(1),
        scores: Scores::Probability,
        suppress: false,
    };
    let rows = [
        [0.5, 2.0, 0.25, 0.25, 0.75, 1.0],
        [0.75, 1.0, 0.25, 0.25, 0.75, 1.0],
        [0.9, 7.0, 0.0, 0.0, 1.0, 1.0],
        [0.5, 2.0, 0.25, 0.25, 0.75, 1.0],
    ];
    let output = ModelOutput::Generic(generic.clone());
    let Some(found) = find([4, 4], &model, output, as_is, rows.as_flattened()) else { return };
    let of = |class, score| (class, score, 1.0, 1.0, 2.0, 3.0);
    assert_eq!(found, [of(1, 0.75), of(2, 0.5), of(2, 0.5)], "label 7 is no class, and nothing is suppressed");
    let suppressed = ModelOutput::Generic(Generic { suppress: true, ..generic.clone() });
    assert_eq!(find([4, 4], &model, suppressed, as_is, rows.as_flattened()).unwrap(), [of(1, 0.75), of(2, 0.5)]);

    // Columns by rows: 3 class scores, objectness, then left, top, width, height.
    let model = reshape([-1, 3, 4, 4], [8, 6], [-1, 8, 6]);
    let generic = Generic {
        transposed: true,
        columns: 8,
        box_column: 4,
        box_format: BoxFormat::Xywh,
        normalised: false,
        objectness_column: Some(3),
        label_column: None,
        suppress: true,
        ..generic
    };
    let mut values = vec![0.0; 48];
    for (row, number) in [0.25, 0.5, 0.75, 0.5, 1.0, 1.0, 2.0, 3.0].iter().enumerate() {
        values[row * 6 + 5] = *number;
    }
    let found = find([4, 4], &model, ModelOutput::Generic(generic), as_is, &values).unwrap();
    assert_eq!(found, [of(2, 0.375)]);
}

#[test]
fn soft_suppression_keeps_a_neighbour_with_a_lower_score() {
    let model = reshape([-1, 3, 4, 8], [12, 8], [-1, 12, 8]);
    let rows = [[4.0, 2.0, 4.0, 2.0, 1.0, 0.75, 0.0, 0.0], [4.0, 2.0, 2.0, 2.0, 1.0, 0.5, 0.0, 0.0]];
    let of = |soft_nms, nms_iou: f32| {
        let change = move |detect: &mut Detect| {
            (detect.settings.soft_nms, detect.settings.nms_iou) = (soft_nms, nms_iou);
        };
        find([8, 4], &model, ModelOutput::Yolov5 { name: None }, change, rows.as_flattened())
    };
    let Some(hard) = of(None, 0.4) else { return };
    assert_eq!(hard.len(), 1);
    let soft = of(Some(SoftNms::Linear), 0.4).unwrap();
    assert_eq!(soft[1], (0, 0.25, 3.0, 1.0, 2.0, 2.0), "half of it is common: 0.5 * (1 - 0.5)");
    assert_eq!(of(Some(SoftNms::Linear), 0.6).unwrap()[1].1, 0.5);
}
