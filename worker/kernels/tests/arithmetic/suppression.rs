use fulltime_kernels::{Found, Launch, Suppress};
use fulltime_vision::{Detection, reference};
use proptest::prelude::*;

use crate::pictures::{address, address_mut, run};

/// Boxes of many items through the three kernels.
fn kernels(items: &[Vec<Found>], capacity: usize, iou: f32) -> Vec<Vec<Found>> {
    let nothing = Found { score: f32::NAN, label: 77, ..Found::default() };
    let mut boxes = vec![nothing; items.len() * capacity];
    for (item, room) in items.iter().zip(boxes.chunks_exact_mut(capacity)) {
        room[..item.len()].copy_from_slice(item);
    }
    let counts: Vec<i32> = items.iter().map(|item| item.len() as i32).collect();
    let words = Suppress::words_of(capacity as i32) as usize;
    let mut order = vec![u32::MAX; boxes.len()];
    let mut masks = vec![u64::MAX; boxes.len() * words];
    let mut gone = vec![u64::MAX; items.len() * words];
    let (mut kept, mut kept_counts) = (vec![nothing; boxes.len()], vec![-1_i32; items.len()]);
    let args = Suppress {
        boxes: address(&boxes),
        counts: address(&counts),
        order: address_mut(&mut order),
        masks: address_mut(&mut masks),
        gone: address_mut(&mut gone),
        kept: address_mut(&mut kept),
        kept_counts: address_mut(&mut kept_counts),
        items: items.len() as i32,
        capacity: capacity as i32,
        words: words as i32,
        iou,
    };
    for launch in [Launch::Rank(args), Launch::Overlap(args), Launch::Keep(args)] {
        run(launch);
    }
    kept.chunks_exact(capacity).zip(kept_counts).map(|(kept, count)| kept[..count as usize].to_vec()).collect()
}

/// How much boxes of one class overlap.
fn pairs(boxes: &[Found]) -> Vec<f32> {
    let share = |a: &Found, b: &Found| {
        let w = (a.x + a.w).min(b.x + b.w) - a.x.max(b.x);
        let h = (a.y + a.h).min(b.y + b.h) - a.y.max(b.y);
        let common = w.max(0.0) * h.max(0.0);
        common / (a.w * a.h + b.w * b.h - common)
    };
    let all = boxes.iter().enumerate().flat_map(|(i, a)| boxes[..i].iter().map(move |b| (a, b)));
    all.filter(|(a, b)| a.label == b.label)
        .map(|(a, b)| share(a, b))
        .filter(|share| (0.05..0.95).contains(share))
        .collect()
}

fn boxes() -> impl Strategy<Value = Vec<Found>> {
    // Few scores and places, so that there are ties and the very same box twice.
    let coarse = |steps: i32, unit: f32| (0..steps).prop_map(move |i| i as f32 * unit);
    let one = (coarse(6, 0.15), coarse(12, 3.3), coarse(12, 2.7), coarse(9, 4.1), coarse(9, 3.9), 0_u32..3)
        .prop_map(|(score, x, y, w, h, label)| Found { score, x, y, w: w + 0.5, h: h + 0.5, label });
    let fine = (0.0_f32..1.0, -5.0_f32..60.0, -5.0_f32..60.0, 0.1_f32..40.0, 0.1_f32..40.0, 0_u32..2)
        .prop_map(|(score, x, y, w, h, label)| Found { score, x, y, w, h, label });
    prop::collection::vec(prop_oneof![one, fine], 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_boxes_survive_in_the_same_order(
        items in prop::collection::vec(boxes(), 1..4),
        iou in prop_oneof![Just(0.5_f32), 0.0_f32..1.0],
        edge in prop::option::weighted(0.8, (any::<prop::sample::Index>(), -1_i32..2)),
    ) {
        // Thresholds that a pair of the boxes meets exactly, or misses by the last bit.
        let shares = pairs(&items[0]);
        let iou = match edge {
            Some((index, beside)) if !shares.is_empty() => {
                f32::from_bits((shares[index.index(shares.len())].to_bits() as i32 + beside) as u32)
            }
            _ => iou,
        };
        let found = kernels(&items, 150, iou);
        for (item, found) in items.iter().zip(found) {
            let mut expected: Vec<Detection> = item.iter().map(|b| Detection {
                class: b.label as u16, score: b.score, x: b.x, y: b.y, w: b.w, h: b.h,
            }).collect();
            reference::suppress(&mut expected, iou);
            let expected: Vec<[u32; 6]> = expected.iter().map(|d| {
                let [score, x, y, w, h] = [d.score, d.x, d.y, d.w, d.h].map(f32::to_bits);
                [u32::from(d.class), score, x, y, w, h]
            }).collect();
            let found: Vec<[u32; 6]> = found.iter().map(|b| {
                let [score, x, y, w, h] = [b.score, b.x, b.y, b.w, b.h].map(f32::to_bits);
                [b.label, score, x, y, w, h]
            }).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn items_without_boxes_and_full_items_are_told_apart() {
    let one = Found { score: 0.5, x: 1.0, y: 1.0, w: 2.0, h: 2.0, label: 0 };
    let far = |i: u32| Found { x: i as f32 * 10.0, ..one };
    let full: Vec<Found> = (0..64).map(far).collect();
    let found = kernels(&[vec![], full.clone(), vec![one, one]], 64, 0.5);
    assert_eq!(found, [vec![], full, vec![one]]);
}
