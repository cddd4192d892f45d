//! Where a detector looks in a frame: the crops, how each is laid into the network input, and the way back.

use fulltime_common::pipeline::{DetectSettings, Resize};

use crate::pitch::Region;

/// A rectangle of the picture in whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// A crop and its place in the network input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed {
    pub crop: Crop,
    /// Top-left corner and size of the resized crop in the network input, pixels.
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
    /// Which edges (left, top, right, bottom) lie inside the region, so that a neighbouring tile sees what they cut.
    pub inner: [bool; 4],
}

/// Everything about the frames of one size that does not depend on their pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct FramePlan {
    /// Picture size in pixels.
    pub width: u32,
    pub height: u32,
    /// In row order; each becomes one item of a batch.
    pub crops: Vec<Placed>,
    /// What the settings say, the same in every picture.
    pub(crate) region: Region,
}

impl FramePlan {
    /// `size` is the network input. Settings must have passed `validate`.
    pub(crate) fn new(settings: &DetectSettings, resize: Resize, size: [u32; 2], width: u32, height: u32) -> Self {
        let full = [f64::from(width), f64::from(height)];
        let region: Vec<_> =
            settings.region.polygon().iter().map(|p| [0, 1].map(|i| f64::from(p[i]) * full[i])).collect();
        let (columns, rows) = match region.is_empty() {
            true => (0..width, 0..height),
            false => (extent(&region, 0, width), extent(&region, 1, height)),
        };
        let (across, down, overlap) = settings.tiles.map_or((1, 1, 0.0), |t| (t.columns, t.rows, f64::from(t.overlap)));
        let columns = spans(columns, across, overlap);
        let rows = spans(rows, down, overlap);
        let mut crops = Vec::with_capacity(columns.len() * rows.len());
        for (r, row) in rows.iter().enumerate() {
            for (c, column) in columns.iter().enumerate() {
                let crop = Crop { x: column.start, y: row.start, width: column.len() as u32, height: row.len() as u32 };
                let inner = [c > 0, r > 0, c + 1 < columns.len(), r + 1 < rows.len()];
                crops.push(Placed::new(crop, resize, size, inner));
            }
        }
        Self { width, height, crops, region: Region(region) }
    }
}

impl Placed {
    /// Lays a crop into a network input of that size.
    #[must_use]
    pub fn new(crop: Crop, resize: Resize, [width, height]: [u32; 2], inner: [bool; 4]) -> Self {
        let (w, h) = match resize {
            Resize::Stretch => (width, height),
            Resize::LetterboxTopLeft | Resize::LetterboxCentre => {
                // The side that fills the input is exact; the other is rounded to whole pixels.
                let part = |side: u32, by: u32, of: u32, limit: u32| {
                    let exact = (2 * u64::from(side) * u64::from(by) + u64::from(of)) / (2 * u64::from(of));
                    exact.clamp(1, u64::from(limit)) as u32
                };
                if u64::from(crop.width) * u64::from(height) >= u64::from(crop.height) * u64::from(width) {
                    (width, part(crop.height, width, crop.width, height))
                } else {
                    (part(crop.width, height, crop.height, width), height)
                }
            }
        };
        let (left, top) = match resize {
            Resize::LetterboxCentre => ((width - w) / 2, (height - h) / 2),
            Resize::LetterboxTopLeft | Resize::Stretch => (0, 0),
        };
        Self { crop, left, top, width: w, height: h, inner }
    }

    /// Picture pixels per pixel of the network input, horizontally and vertically.
    pub(crate) fn scale(&self) -> [f32; 2] {
        [self.crop.width as f32 / self.width as f32, self.crop.height as f32 / self.height as f32]
    }
}

/// Whole pixels that the region covers along one axis; at least one.
fn extent(region: &[[f64; 2]], axis: usize, limit: u32) -> std::ops::Range<u32> {
    let low = region.iter().map(|p| p[axis]).fold(f64::INFINITY, f64::min);
    let high = region.iter().map(|p| p[axis]).fold(f64::NEG_INFINITY, f64::max);
    let start = (low.floor().max(0.0) as u32).min(limit - 1);
    let end = (high.ceil().max(0.0) as u32).clamp(start + 1, limit);
    start..end
}

/// `n` equal spans that cover `over`, neighbours sharing `overlap` of their length.
fn spans(over: std::ops::Range<u32>, n: u32, overlap: f64) -> Vec<std::ops::Range<u32>> {
    let total = over.len() as u32;
    let length = f64::from(total) / (f64::from(n) - f64::from(n - 1) * overlap);
    let length = (length.ceil() as u32).clamp(1, total);
    let slack = u64::from(total - length);
    let last = u64::from(n.max(2) - 1);
    (0..n)
        .map(|i| {
            let start = over.start + ((2 * u64::from(i) * slack + last) / (2 * last)) as u32;
            start..start + length
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use fulltime_common::pipeline::Tiles;
    use proptest::prelude::*;

    use super::*;

    fn settings(tiles: Option<Tiles>, region: Vec<[f32; 2]>) -> DetectSettings {
        DetectSettings {
            input_size: None,
            score_threshold: 0.3,
            nms_iou: 0.6,
            soft_nms: None,
            classes: vec![],
            every: 1,
            tiles,
            region: fulltime_common::pipeline::Region::Polygon(region),
        }
    }

    #[test]
    fn a_picture_without_tiles_is_one_crop_letterboxed_at_the_top_left() {
        let plan = FramePlan::new(&settings(None, vec![]), Resize::LetterboxTopLeft, [416, 416], 1280, 720);
        let [placed] = plan.crops[..] else { panic!("{plan:?}") };
        assert_eq!(placed.crop, Crop { x: 0, y: 0, width: 1280, height: 720 });
        assert_eq!((placed.left, placed.top, placed.width, placed.height), (0, 0, 416, 234));
        let centred = FramePlan::new(&settings(None, vec![]), Resize::LetterboxCentre, [416, 416], 720, 1280);
        let [placed] = centred.crops[..] else { panic!("{centred:?}") };
        assert_eq!((placed.left, placed.top, placed.width, placed.height), (91, 0, 234, 416));
    }

    #[test]
    fn a_region_narrows_the_view_to_its_bounding_box_and_keeps_its_border() {
        let region = vec![[0.25, 0.5], [0.75, 0.5], [1.0, 1.0], [0.0, 1.0]];
        let plan = FramePlan::new(&settings(None, region), Resize::Stretch, [64, 64], 100, 60);
        assert_eq!(plan.crops[0].crop, Crop { x: 0, y: 30, width: 100, height: 30 });
        assert!(
            plan.region.contains(50.0, 45.0) && plan.region.contains(50.0, 60.0) && plan.region.contains(25.0, 30.0)
        );
        assert!(!plan.region.contains(5.0, 35.0) && !plan.region.contains(50.0, 20.0));
    }

    proptest! {
        #[test]
        fn tiles_cover_the_region_and_share_what_was_asked(
            total in 64_u32..4000, n in 1_u32..9, overlap in 0.0_f64..0.5,
        ) {
            let spans = spans(10..10 + total, n, overlap);
            prop_assert_eq!(spans.len(), n as usize);
            prop_assert_eq!((spans[0].start, spans[spans.len() - 1].end), (10, 10 + total));
            for pair in spans.windows(2) {
                prop_assert_eq!(pair[0].len(), pair[1].len());
                let shared = f64::from(pair[0].end) - f64::from(pair[1].start);
                let wanted = overlap * pair[0].len() as f64;
                prop_assert!((shared - wanted).abs() <= 3.0, "{shared} pixels are shared, {wanted} were asked");
            }
        }
    }
}
