//! Golden digests of everything around the engine. When one fails, either undo the change or, if it is meant, raise the
//! stage's number in `fulltime_common::semantics` and put the new digest here: stored results stay valid only so.

mod common;

use common::{Picture, detect, sim};
use fulltime_common::{
    Digest,
    pipeline::{Region, Tiles},
    semantics,
};
use fulltime_vision::{Detection, Detector, luma_signature, preview_jpeg};

fn digest_of(values: impl IntoIterator<Item = f32>) -> String {
    Digest::of_bytes(&values.into_iter().flat_map(|value| value.to_bits().to_le_bytes()).collect::<Vec<u8>>()).short()
}

fn tiled() -> fulltime_common::pipeline::Detect {
    let mut detect = detect([160, 128]);
    detect.settings.tiles = Some(Tiles { columns: 3, rows: 2, overlap: 0.2 });
    detect.settings.region = Region::Polygon(vec![[0.1, 0.2], [0.9, 0.15], [1.0, 1.0], [0.0, 0.97]]);
    detect
}

#[test]
fn preprocessing_is_what_its_semantics_version_says() {
    let mut preparer = Detector::load(&sim(), &[], &tiled()).unwrap().preparer();
    let plan = preparer.plan(641, 359).unwrap();
    let mut digests = Vec::new();
    for (mut picture, full_range) in
        [(Picture::waves(641, 359, [2, 2]), false), (Picture::noise(641, 359, [2, 1], 7), true)]
    {
        picture.full_range = full_range;
        let mut tensor = vec![0.0; preparer.frame_len(&plan)];
        preparer.prepare(&plan, &picture.view(), &mut tensor).unwrap();
        digests.push(digest_of(tensor));
    }
    assert_eq!((semantics::PREPROCESS, digests), (1, vec!["5548b6d2b309".to_owned(), "5a59dcf1ca7f".to_owned()]));
}

#[test]
fn postprocessing_is_what_its_semantics_version_says() {
    let reader = Detector::load(&sim(), &[], &tiled()).unwrap().reader();
    let plan = Detector::load(&sim(), &[], &tiled()).unwrap().preparer().plan(641, 359).unwrap();
    // Many overlapping boxes at all scores, by a generator of integers.
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as f32 / 65536.0
    };
    let outputs: Vec<f32> = (0..reader.frame_len(&plan) / 7)
        .flat_map(|_| [next() * 3.0 - 1.0, next() * 3.0 - 1.0, next() * 2.0, next() * 2.5, next(), next(), next()])
        .collect();
    let found = reader.finish(&plan, &outputs, None).unwrap();
    assert!(found.len() > 100, "only {} survive", found.len());
    assert!(found.is_sorted_by(|a, b| a.score >= b.score));
    let values = |d: &Detection| [f32::from(d.class), d.score, d.x, d.y, d.w, d.h];
    let digest = digest_of(found.iter().flat_map(values));
    assert_eq!((semantics::POSTPROCESS, digest.as_str()), (1, "0c28e1ef6694"));
}

#[test]
fn previews_and_signatures_are_what_the_shard_version_says() {
    let picture = Picture::waves(641, 359, [2, 2]);
    let jpeg = Digest::of_bytes(&preview_jpeg(&picture.view(), 200).unwrap()).short();
    let signature = Digest::of_bytes(&luma_signature(&picture.view()).unwrap()).short();
    assert_eq!((semantics::SHARD, jpeg.as_str(), signature.as_str()), (3, "8a1a42d94c0a", "63bf91c00615"));
}
