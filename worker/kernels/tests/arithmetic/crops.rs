use fulltime_common::pipeline::Resize;
use fulltime_kernels::{Found, Frame, Launch, People, Placed};
use fulltime_vision::{Detection, Placed as Reference, reference};
use proptest::prelude::*;

use crate::{
    pictures::{Picture, Sketch, address, address_mut, run, sketches},
    preprocess::{compare, input, kernels, placed, resizes},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn people_are_cut_out_where_and_as_the_reference_does(
        sketches in prop::collection::vec(sketches(120), 1..3),
        // Boxes as they come from a detector, clipped to the picture, or not at all.
        boxes in prop::collection::vec((any::<prop::sample::Index>(), [-20.0_f32..130.0, -20.0_f32..130.0, 0.0_f32..90.0, 0.0_f32..90.0], any::<bool>()), 1..8),
        resize in resizes(),
        whole in any::<bool>(),
        region in [0.0_f32..0.5, 0.0_f32..0.5, 0.5_f32..1.0, 0.5_f32..1.0],
    ) {
        let (bt601, full_range) = (sketches[0].bt601, sketches[0].full_range);
        let pictures: Vec<Picture> =
            sketches.iter().map(|&sketch| Picture::new(Sketch { bt601, full_range, ..sketch })).collect();
        let frames: Vec<Frame> = pictures.iter().map(Picture::frame).collect();
        let region = if whole { [0.0, 0.0, 1.0, 1.0] } else { region };
        let found: Vec<(usize, Detection)> = boxes.iter().map(|(index, [x, y, w, h], halves)| {
            // Half pixels are ties: to even, as the reference rounds.
            let [x, y, w, h] = [x, y, w, h].map(|v| if *halves { (v * 2.0).round() / 2.0 } else { *v });
            (index.index(pictures.len()), Detection { class: 0, score: 0.5, x, y, w, h })
        }).collect();
        let boxes: Vec<Found> =
            found.iter().map(|(_, d)| Found { score: d.score, x: d.x, y: d.y, w: d.w, h: d.h, label: 0 }).collect();
        let frame_of: Vec<i32> = found.iter().map(|(frame, _)| *frame as i32).collect();
        let (size, input) = ([24, 48], input(resize, false, false, true, 114));
        let mut crops = vec![Placed { frame: -1, ..Placed::default() }; boxes.len()];
        run(Launch::People(People {
            frames: address(&frames),
            boxes: address(&boxes),
            frame_of: address(&frame_of),
            crops: address_mut(&mut crops),
            count: boxes.len() as i32,
            width: 24,
            height: 48,
            resize: match resize { Resize::LetterboxTopLeft => 0, Resize::LetterboxCentre => 1, Resize::Stretch => 2 },
            region,
        }));
        let colours = reference::Colour::new(pictures[0].view().matrix, full_range, &input);
        let (full, halves) = kernels(&frames, &crops, &input, size, &colours);
        let item = 3 * 24 * 48;
        for (i, (frame, detection)) in found.iter().enumerate() {
            let view = pictures[*frame].view();
            let at = Reference::new(reference::person(&view, detection, region), resize, size, [false; 4]);
            prop_assert_eq!(crops[i], placed(*frame as i32, &at));
            compare(&view, &at, &input, size, &full[i * item..][..item], &halves[i * item..][..item]);
        }
    }
}

#[test]
fn boxes_that_are_no_numbers_or_far_outside_give_a_pixel_of_the_picture() {
    let sketch = Sketch {
        size: [31, 17],
        form: crate::pictures::Form::Nv12,
        margin: 1,
        lead: 0,
        seed: 3,
        bt601: true,
        full_range: false,
    };
    let picture = Picture::new(sketch);
    let (frames, view) = ([picture.frame()], picture.view());
    for [x, y, w, h] in
        [[f32::NAN; 4], [1e30, 1e30, 1.0, 1.0], [-1e30, -5.0, 2.0, 2.0], [f32::INFINITY, 3.0, 1.0, f32::MAX]]
    {
        let boxes = [Found { score: 0.5, x, y, w, h, label: 0 }];
        let mut crops = [Placed::default()];
        run(Launch::People(People {
            frames: address(&frames),
            boxes: address(&boxes),
            frame_of: address(&[0_i32]),
            crops: address_mut(&mut crops),
            count: 1,
            width: 8,
            height: 8,
            resize: 2,
            region: [0.0, 0.0, 1.0, 1.0],
        }));
        let detection = Detection { class: 0, score: 0.5, x, y, w, h };
        let crop = reference::person(&view, &detection, [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(crops[0], placed(0, &Reference::new(crop, Resize::Stretch, [8, 8], [false; 4])));
    }
}
