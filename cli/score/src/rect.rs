//! A box in a picture.

/// Left and top edge, width and height, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

impl Rect {
    /// In square pixels.
    #[must_use]
    pub fn area(&self) -> f64 {
        self.w * self.h
    }

    /// Intersection over union, 0 to 1; 0 where either has no area. Worked out from the corners, as `TrackEval` does it:
    /// where an overlap is exactly a threshold, the last bit decides.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f64 {
        let (right, below) = (self.x + self.w, self.y + self.h);
        let (other_right, other_below) = (other.x + other.w, other.y + other.h);
        let w = right.min(other_right) - self.x.max(other.x);
        let h = below.min(other_below) - self.y.max(other.y);
        if w <= 0.0 || h <= 0.0 {
            return 0.0;
        }
        let area = (right - self.x) * (below - self.y);
        let other_area = (other_right - other.x) * (other_below - other.y);
        if area <= f64::EPSILON || other_area <= f64::EPSILON {
            return 0.0;
        }
        let both = w * h;
        both / (area + other_area - both)
    }

    /// Middle of the lower edge: where a person stands.
    #[must_use]
    pub fn foot(&self) -> (f64, f64) {
        (self.x + self.w / 2.0, self.y + self.h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_covers_itself_and_not_its_neighbour() {
        let a = Rect { x: 1.0, y: 2.0, w: 4.0, h: 5.0 };
        let beside = Rect { x: 5.0, ..a };
        let half = Rect { x: 3.0, ..a };
        assert_eq!((a.iou(&a), a.iou(&beside)), (1.0, 0.0));
        assert!((a.iou(&half) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(Rect { w: 0.0, ..a }.iou(&Rect { w: 0.0, ..a }), 0.0);
    }
}
