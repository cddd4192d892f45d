//! Boxes in the picture: their order, suppression within a crop, and the merging of what overlapping tiles saw.

use std::cmp::Ordering;

use fulltime_common::pipeline::SoftNms;

use crate::{
    geometry::{FramePlan, Placed},
    head::exp,
};

/// One object in one frame. Pixels of the picture, clipped to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Index into the manifest's classes.
    pub class: u16,
    /// 0 to 1.
    pub score: f32,
    /// Left and top edge.
    pub x: f32,
    pub y: f32,
    pub w: f32,
    pub h: f32,
}

/// A box within so many pixels of the network input of a tile's inner edge counts as cut by it.
const CUT_MARGIN: f32 = 4.0;

/// A cut box goes when this share of the smaller box is common with a whole one.
const CUT_COVER: f32 = 0.5;

impl Detection {
    /// A total order: best score first, then class and position bit by bit, so that no tie is left to chance.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.class.cmp(&other.class)).then_with(|| {
            let key = |d: &Self| [d.x, d.y, d.w, d.h].map(f32::to_bits);
            key(self).cmp(&key(other))
        })
    }

    fn intersection(&self, other: &Self) -> f32 {
        let w = (self.x + self.w).min(other.x + other.w) - self.x.max(other.x);
        let h = (self.y + self.h).min(other.y + other.h) - self.y.max(other.y);
        if w > 0.0 && h > 0.0 { w * h } else { 0.0 }
    }

    fn area(&self) -> f32 {
        self.w * self.h
    }

    fn iou(&self, other: &Self) -> f32 {
        let common = self.intersection(other);
        common / (self.area() + other.area() - common)
    }

    /// Share of the smaller box that both have in common.
    fn cover(&self, other: &Self) -> f32 {
        self.intersection(other) / self.area().min(other.area())
    }

    /// `None` if nothing of the box is in the picture.
    pub(crate) fn clipped(mut self, width: u32, height: u32) -> Option<Self> {
        let (right, bottom) = ((self.x + self.w).min(width as f32), (self.y + self.h).min(height as f32));
        (self.x, self.y) = (self.x.max(0.0), self.y.max(0.0));
        (self.w, self.h) = (right - self.x, bottom - self.y);
        (self.w > 0.0 && self.h > 0.0).then_some(self)
    }
}

/// Greedy class-aware non-maximum suppression (a box goes if a better one of its class overlaps by more than `iou`).
/// Leaves the survivors in order.
pub fn suppress(boxes: &mut Vec<Detection>, iou: f32) {
    boxes.sort_unstable_by(Detection::order);
    let mut kept = 0;
    for i in 0..boxes.len() {
        let candidate = boxes[i];
        if !boxes[..kept].iter().any(|better| better.class == candidate.class && better.iou(&candidate) > iou) {
            boxes[kept] = candidate;
            kept += 1;
        }
    }
    boxes.truncate(kept);
}

/// Class-aware Soft-NMS (Bodla et al., 2017): the best box is kept, those of its class lose score by how much they overlap
/// it and go below `threshold`, then the best of the others is kept, and so on.
pub(crate) fn soften(boxes: &mut Vec<Detection>, soft: SoftNms, iou: f32, threshold: f32) {
    let mut waiting = std::mem::take(boxes);
    while let Some(at) = (0..waiting.len()).min_by(|&a, &b| waiting[a].order(&waiting[b])) {
        let best = waiting.swap_remove(at);
        for other in waiting.iter_mut().filter(|other| other.class == best.class) {
            let common = best.iou(other);
            other.score *= match soft {
                SoftNms::Linear if common > iou => 1.0 - common,
                SoftNms::Linear => 1.0,
                SoftNms::Gaussian { sigma } => exp(-(common * common) / sigma),
            };
        }
        waiting.retain(|other| other.score >= threshold);
        boxes.push(best);
    }
}

/// Joins what the crops of a frame saw. Whole boxes come first, by score; then those that a tile's inner edge cuts, which
/// lose against any better-placed box that covers them: the neighbouring tile has seen the whole of it.
pub(crate) fn merge(plan: &FramePlan, crops: &[Vec<Detection>], iou: f32) -> Vec<Detection> {
    let mut all: Vec<(bool, Detection)> = plan
        .crops
        .iter()
        .zip(crops)
        .flat_map(|(placed, boxes)| boxes.iter().map(|&found| (is_cut(placed, &found), found)))
        .collect();
    all.sort_unstable_by(|(cut, a), (other, b)| cut.cmp(other).then_with(|| a.order(b)));
    let mut kept: Vec<Detection> = Vec::with_capacity(all.len());
    for (cut, candidate) in all {
        let loses = |better: &Detection| {
            better.class == candidate.class
                && (better.iou(&candidate) > iou || cut && better.cover(&candidate) > CUT_COVER)
        };
        if !kept.iter().any(loses) {
            kept.push(candidate);
        }
    }
    kept
}

fn is_cut(placed: &Placed, found: &Detection) -> bool {
    let [left, top, right, bottom] = placed.inner;
    let [across, down] = placed.scale().map(|scale| scale * CUT_MARGIN);
    let crop = placed.crop;
    (left && found.x <= crop.x as f32 + across)
        || (top && found.y <= crop.y as f32 + down)
        || (right && found.x + found.w >= (crop.x + crop.width) as f32 - across)
        || (bottom && found.y + found.h >= (crop.y + crop.height) as f32 - down)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{geometry::Crop, pitch::Region};

    fn found(class: u16, score: f32, x: f32, w: f32) -> Detection {
        Detection { class, score, x, y: 10.0, w, h: 20.0 }
    }

    fn two_tiles() -> FramePlan {
        let crop = |x| Crop { x, y: 0, width: 100, height: 100 };
        let place = |x, inner| Placed { crop: crop(x), left: 0, top: 0, width: 100, height: 100, inner };
        let crops = vec![place(0, [false, false, true, false]), place(80, [true, false, false, false])];
        FramePlan { width: 180, height: 100, crops, region: Region::default() }
    }

    #[test]
    fn the_weaker_of_two_boxes_on_one_player_goes_but_not_one_of_another_class() {
        let mut boxes = vec![found(0, 0.5, 11.0, 20.0), found(0, 0.9, 10.0, 20.0), found(1, 0.4, 10.0, 20.0)];
        suppress(&mut boxes, 0.6);
        assert_eq!(boxes, [found(0, 0.9, 10.0, 20.0), found(1, 0.4, 10.0, 20.0)]);
    }

    #[test]
    fn soft_suppression_lowers_the_score_of_what_overlaps_a_better_box() {
        // 10 of 30 pixels are common: an IoU of a third.
        let pair = || vec![found(0, 0.9, 10.0, 20.0), found(0, 0.6, 20.0, 20.0), found(1, 0.5, 20.0, 20.0)];
        let third = pair()[0].iou(&pair()[1]);
        let mut boxes = pair();
        soften(&mut boxes, SoftNms::Linear, 0.3, 0.25);
        assert_eq!(
            boxes,
            [found(0, 0.9, 10.0, 20.0), found(1, 0.5, 20.0, 20.0), found(0, 0.6 * (1.0 - third), 20.0, 20.0)]
        );
        let mut boxes = pair();
        soften(&mut boxes, SoftNms::Linear, 0.5, 0.25);
        assert_eq!(boxes, [pair()[0], pair()[1], pair()[2]], "below the threshold of overlap nothing is lost");
        let mut boxes = pair();
        soften(&mut boxes, SoftNms::Gaussian { sigma: 0.5 }, 0.5, 0.5);
        assert_eq!(boxes, [pair()[0], pair()[2]], "0.6 * exp(-2/9) is 0.48");
    }

    #[test]
    fn a_box_cut_by_a_tile_edge_loses_against_the_whole_one_even_with_a_better_score() {
        // The player spans 85 to 115; the left tile sees 85 to 100 of him.
        let crops = [vec![found(0, 0.9, 85.0, 15.0)], vec![found(0, 0.4, 85.0, 30.0)]];
        assert_eq!(merge(&two_tiles(), &crops, 0.6), [found(0, 0.4, 85.0, 30.0)]);
    }

    #[test]
    fn a_cut_box_that_nobody_else_saw_stays() {
        let crops = [vec![found(0, 0.9, 85.0, 15.0)], vec![found(0, 0.4, 120.0, 30.0)]];
        assert_eq!(merge(&two_tiles(), &crops, 0.6).len(), 2);
    }

    #[test]
    fn the_outer_edges_of_the_grid_cut_nothing() {
        let crops = [vec![found(0, 0.4, 0.0, 15.0), found(0, 0.5, 8.0, 20.0)], vec![]];
        assert_eq!(merge(&two_tiles(), &crops, 0.6).len(), 2, "two players side by side at the picture's edge");
    }

    #[test]
    fn boxes_outside_the_picture_vanish_and_others_are_clipped() {
        assert_eq!(found(0, 0.5, 190.0, 20.0).clipped(180, 100), None);
        let clipped = found(0, 0.5, -5.0, 20.0).clipped(180, 25).unwrap();
        assert_eq!((clipped.x, clipped.y, clipped.w, clipped.h), (0.0, 10.0, 15.0, 15.0));
    }
}
