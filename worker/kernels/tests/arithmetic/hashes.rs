use fulltime_kernels::{Differ, Frame, Hash, Launch};
use proptest::prelude::*;
use twox_hash::XxHash64;

use crate::pictures::{Form, Picture, Sketch, address, address_mut, run, sketches};

/// The definition in worker/media/src/picture.rs, with another's XXH64.
fn expected(sketch: &Sketch, picture: &Picture) -> u64 {
    let [width, height] = sketch.size;
    let planes = if sketch.form == Form::Gray { 1 } else { 3 };
    let chroma = picture.view().planes[1].width;
    (0..planes).fold(u64::from(width) << 32 | u64::from(height), |hash, p| {
        let row = if p == 0 { width } else { chroma } as usize;
        picture.planes[p].chunks(row).fold(hash, XxHash64::oneshot)
    })
}

fn hashes(frames: &[Frame]) -> Vec<u64> {
    let mut hashes = vec![0; frames.len()];
    run(Launch::Hash(Hash { frames: address(frames), hashes: address_mut(&mut hashes), count: frames.len() as i32 }));
    hashes
}

fn differs(frames: &[Frame], pairs: &[[i32; 2]]) -> Vec<u32> {
    let mut differs = vec![0; pairs.len()];
    let differ = Differ {
        frames: address(frames),
        pairs: address(pairs),
        differs: address_mut(&mut differs),
        count: pairs.len() as i32,
    };
    let rows = frames.iter().map(|frame| frame.height + 2 * frame.chroma_height).max().unwrap();
    run(Launch::Differ(differ, rows as u32));
    differs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hashes_equal_the_reference(sketches in prop::collection::vec(sketches(170), 1..5)) {
        let pictures: Vec<Picture> = sketches.iter().map(|&sketch| Picture::new(sketch)).collect();
        let frames: Vec<Frame> = pictures.iter().map(Picture::frame).collect();
        let expected: Vec<u64> = sketches.iter().zip(&pictures).map(|(s, p)| expected(s, p)).collect();
        prop_assert_eq!(hashes(&frames), expected);
    }

    #[test]
    fn pictures_are_the_same_whatever_their_strides_until_a_sample_differs(
        sketch in sketches(60), margin in 0_u32..20, lead in 0_u32..9,
        plane in 0_usize..3, at in any::<prop::sample::Index>(),
    ) {
        let one = Picture::new(sketch);
        // NV12 and planar pictures of the same samples are the same picture.
        let form = match sketch.form { Form::Nv12 => Form::Planar([2, 2]), Form::Planar([2, 2]) => Form::Nv12, form => form };
        let other = Picture::new(Sketch { margin, lead, form, ..sketch });
        let mut frames = [one.frame(), other.frame(), other.frame()];
        prop_assert_eq!(hashes(&frames[..1]), hashes(&frames[1..2]));
        // The third has one sample changed in place, so it needs memory of its own.
        let third = Picture::new(Sketch { margin, lead, form, ..sketch });
        let plane = if sketch.form == Form::Gray { 0 } else { plane };
        let i = at.index(third.planes[plane].len());
        let view = third.view();
        let width = view.planes[plane].width as usize;
        frames[2] = third.frame();
        let step = if plane == 0 { 1 } else { frames[2].step as usize };
        let place = frames[2].planes[plane] + (i / width * frames[2].strides[plane] as usize + i % width * step) as u64;
        // SAFETY: a sample of a picture that only this test has, written before anybody reads it.
        unsafe { *(place as *mut u8) ^= 1 };
        prop_assert_eq!(differs(&frames, &[[0, 1], [0, 2], [2, 1], [2, 2]]), [0, 1, 1, 0]);
        prop_assert_ne!(hashes(&frames[..1]), hashes(&frames[2..]));
    }
}
