//! Average precision of detections against truth, for tests (the product's own evaluation is another matter).

/// A box in pixels, `[x, y, width, height]`.
pub type Box4 = [f32; 4];

/// Intersection over union.
#[must_use]
pub fn iou(a: Box4, b: Box4) -> f32 {
    let width = (a[0] + a[2]).min(b[0] + b[2]) - a[0].max(b[0]);
    let height = (a[1] + a[3]).min(b[1] + b[3]) - a[1].max(b[1]);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let both = width * height;
    both / (a[2] * a[3] + b[2] * b[3] - both)
}

/// AP at IoU 0.5 with 101 recall points (COCO's definition). Truth boxes marked `ignore` may be found or not.
/// `truth[frame]` holds (box, ignore), `found[frame]` (box, score).
#[must_use]
pub fn ap50(truth: &[Vec<(Box4, bool)>], found: &[Vec<(Box4, f32)>]) -> f64 {
    let total = truth.iter().flatten().filter(|(_, ignore)| !ignore).count();
    let mut order: Vec<(usize, usize)> =
        found.iter().enumerate().flat_map(|(frame, boxes)| (0..boxes.len()).map(move |i| (frame, i))).collect();
    order.sort_by(|a, b| found[b.0][b.1].1.total_cmp(&found[a.0][a.1].1));
    let mut taken: Vec<Vec<bool>> = truth.iter().map(|boxes| vec![false; boxes.len()]).collect();
    let (mut hits, mut misses) = (0_usize, 0_usize);
    let mut curve = Vec::new();
    for (frame, i) in order {
        let candidate = found[frame][i].0;
        let best = |ignore: bool| {
            let boxes = truth.get(frame).map_or(&[][..], Vec::as_slice).iter().enumerate();
            boxes
                .filter(|(k, (_, ignored))| *ignored == ignore && (ignore || !taken[frame][*k]))
                .map(|(k, (b, _))| (k, iou(*b, candidate)))
                .filter(|(_, overlap)| *overlap >= 0.5)
                .max_by(|a, b| a.1.total_cmp(&b.1))
        };
        if let Some((k, _)) = best(false) {
            taken[frame][k] = true;
            hits += 1;
        } else if best(true).is_none() {
            misses += 1;
        } else {
            continue;
        }
        curve.push((hits as f64 / total as f64, hits as f64 / (hits + misses) as f64));
    }
    (0..=100)
        .map(|point| {
            let recall = f64::from(point) / 100.0;
            curve.iter().filter(|(r, _)| *r >= recall).map(|(_, p)| *p).fold(0.0, f64::max)
        })
        .sum::<f64>()
        / 101.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfect_boxes_score_one_and_a_missing_half_scores_a_half() {
        let a = [0.0, 0.0, 10.0, 10.0];
        let b = [50.0, 0.0, 10.0, 10.0];
        let truth = vec![vec![(a, false), (b, false)]];
        assert!((ap50(&truth, &[vec![(a, 0.9), (b, 0.8)]]) - 1.0).abs() < 1e-9);
        assert!((ap50(&truth, &[vec![(a, 0.9)]]) - 51.0 / 101.0).abs() < 1e-9);
        assert!(ap50(&truth, &[vec![([200.0, 0.0, 5.0, 5.0], 0.9)]]) < 1e-9);
    }
}
