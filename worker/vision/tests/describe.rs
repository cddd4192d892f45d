//! Descriptions: kit colours against the Python that defines them, gates, and independence of batches.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

mod common;

use common::{Picture, sim};
use fulltime_common::{
    Digest, Exit,
    error::Explain as _,
    pipeline::{Channels, Describe, DescribeSettings, Layout, Manifest, ModelFile, ModelInput, ModelOutput, Resize},
    semantics,
};
use fulltime_vision::{Describer, Description, Detection, VisionError};

fn manifest(name: &str, size: [u32; 2], output: ModelOutput) -> Manifest {
    let input = ModelInput {
        name: None,
        layout: Layout::Nchw,
        channels: Channels::Rgb,
        size,
        resize: Resize::Stretch,
        pad: 0,
        scale: 1.0,
        mean: [0.0; 3],
        std: [1.0; 3],
    };
    let file = ModelFile { path: "none.onnx".into(), sha256: Digest::of_bytes(name.as_bytes()) };
    Manifest {
        name: name.into(),
        file,
        torch: vec![],
        input,
        output,
        classes: vec![],
        licence: None,
        notes: Default::default(),
    }
}

fn everything() -> Describe {
    let alphabet = "0123456789".to_owned();
    Describe {
        embedder: Some(manifest("looks", [32, 64], ModelOutput::Embedding { name: None })),
        numbers: Some(manifest("numbers", [32, 24], ModelOutput::Ctc { name: None, alphabet, blank: 10 })),
        settings: DescribeSettings { number_min_sharpness: 0.0, ..DescribeSettings::default() },
    }
}

fn load(describe: &Describe) -> Result<Describer, VisionError> {
    let classes = ["player", "ball"].map(str::to_owned);
    Describer::load(&sim(), describe, &classes, |_| unreachable!("the virtual device has no files"))
}

fn person(x: f32, y: f32, w: f32, h: f32) -> Detection {
    Detection { class: 0, score: 0.9, x, y, w, h }
}

/// By `kit` of models/synthpeople/kit.py, on the same waves.
#[test]
fn kits_are_what_the_python_that_defines_them_says() {
    let boxes = [
        (
            person(10.3, 20.7, 40.25, 90.5),
            [0, 0, 2, 135, 66, 8, 44, 0, 0, 0, 0, 200, 23, 74, 56, 73, 27, 0, 0, 3, 0, 0, 0, 255],
        ),
        (
            person(250.0, 60.0, 33.0, 88.0),
            [10, 0, 0, 0, 0, 2, 8, 123, 33, 80, 0, 222, 0, 0, 0, 0, 41, 102, 41, 71, 0, 0, 0, 181],
        ),
        (
            person(-3.5, -2.0, 9.0, 11.0),
            [0, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255],
        ),
        (
            person(300.5, 120.0, 30.0, 70.0),
            [3, 0, 0, 0, 0, 0, 219, 33, 0, 0, 0, 218, 12, 0, 0, 0, 0, 0, 24, 219, 0, 0, 0, 255],
        ),
        (
            person(100.0, 50.0, 2.0, 4.0),
            [0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 255],
        ),
    ];
    let settings = DescribeSettings { min_height: 1.0, ..DescribeSettings::default() };
    let mut describer = load(&Describe { embedder: None, numbers: None, settings }).unwrap();
    let picture = Picture::waves(320, 180, [2, 2]);
    assert_eq!(describer.add(0, &picture.view(), &boxes.map(|(found, _)| found)).unwrap(), boxes.len());
    for ((_, said), (found, expected)) in describer.finish().unwrap().iter().zip(boxes) {
        assert_eq!(said.kit, expected, "{found:?}");
        assert_eq!((&said.look, &said.numbers), (&None, &None));
    }
}

fn people(seed: u32) -> (Picture, Vec<Detection>) {
    let people = (0..7).map(|i| person(10.0 + 40.0 * i as f32, 20.0 + seed as f32, 25.0, 60.0)).collect();
    (Picture::noise(320, 180, [2, 2], seed), people)
}

fn said(frames: impl IntoIterator<Item = u32>, describer: &mut Describer) -> Vec<(u32, Description)> {
    for seed in frames {
        let (picture, people) = people(seed);
        describer.add(seed, &picture.view(), &people).unwrap();
    }
    describer.finish().unwrap()
}

#[test]
fn what_is_said_of_a_person_does_not_depend_on_who_waits_beside() {
    let mut describer = load(&everything()).unwrap();
    let alone: Vec<_> = (0..6).flat_map(|seed| said([seed], &mut describer)).collect();
    assert_eq!(said(0..6, &mut describer), alone);
    assert_eq!(alone.len(), 42);
    assert!(said([], &mut describer).is_empty());
    let looks: std::collections::BTreeSet<_> = alone.iter().map(|(_, person)| person.look.clone().unwrap()).collect();
    assert_eq!(looks.len(), 42, "different pictures look different");
    let length = |look: &Vec<u8>| look.iter().map(|&byte| f64::from(byte as i8).powi(2)).sum::<f64>().sqrt();
    assert!(looks.iter().all(|look| look.len() == 128 && (length(look) - 127.0).abs() < 1.5));
    assert!(alone.iter().all(|(_, person)| person.numbers.as_ref().unwrap().chunks_exact(2).all(|pair| pair[1] > 0)));
}

#[test]
fn only_people_who_can_be_told_are_described_and_only_legible_numbers_read() {
    let (picture, _) = people(3);
    let mut describe = everything();
    describe.settings.number_min_height = 50.0;
    describe.settings.number_max_aspect = 0.8;
    let found = [
        Detection { class: 1, ..person(10.0, 20.0, 25.0, 60.0) },
        person(10.0, 20.0, 25.0, 60.0),
        Detection { score: 0.1, ..person(10.0, 20.0, 25.0, 60.0) },
        person(60.0, 20.0, 5.0, 10.0),
        person(60.0, 20.0, 20.0, 40.0),
        person(90.0, 20.0, 90.0, 60.0),
    ];
    let mut describer = load(&describe).unwrap();
    describer.add(9, &picture.view(), &found).unwrap();
    let said = describer.finish().unwrap();
    let read: Vec<_> = said.iter().map(|(_, person)| (person.detection, person.numbers.is_some())).collect();
    assert_eq!(read, [(1, true), (4, false), (5, false)], "the ball, the unsure and the tiny are left out");

    let sharpness = said[0].1.sharpness;
    describe.settings.number_min_sharpness = sharpness + 0.1;
    let mut describer = load(&describe).unwrap();
    describer.add(9, &picture.view(), &found).unwrap();
    assert_eq!(describer.finish().unwrap()[0].1.numbers, None, "too blurred at {sharpness}");
    let flat = Picture::new(320, 180, [2, 2], |_, _, _| 90);
    describer.add(9, &flat.view(), &found).unwrap();
    assert_eq!(describer.finish().unwrap()[0].1.sharpness, 0.0);
}

#[test]
fn manifests_of_other_heads_are_refused() {
    let mut describe = everything();
    std::mem::swap(&mut describe.embedder, &mut describe.numbers);
    let error = load(&describe).unwrap_err();
    assert_eq!(error.exit(), Exit::Model);
    assert!(error.to_string().starts_with("model manifest `numbers`: `output` is"), "{error}");
    let mut describe = everything();
    describe.settings.classes = vec!["horse".into()];
    assert!(load(&describe).unwrap_err().to_string().starts_with("pipeline setting `describe.classes` is `horse`"));
}

/// Golden: if it fails, undo the change, or raise `semantics::DESCRIBE` and put the new digest here.
#[test]
fn descriptions_are_what_their_semantics_version_says() {
    let mut describer = load(&everything()).unwrap();
    let picture = Picture::waves(320, 180, [2, 2]);
    describer.add(0, &picture.view(), &people(0).1).unwrap();
    let mut bytes = Vec::new();
    for (_, person) in describer.finish().unwrap() {
        bytes.extend_from_slice(&person.look.unwrap());
        bytes.extend_from_slice(&person.kit);
        bytes.extend_from_slice(&person.numbers.unwrap());
        bytes.extend_from_slice(&person.sharpness.to_bits().to_le_bytes());
    }
    assert_eq!((semantics::DESCRIBE, Digest::of_bytes(&bytes).short().as_str()), (1, "a58bf322af4a"));
}
