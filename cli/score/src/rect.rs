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

    /// Area of what both cover.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> f64 {
        let w = (self.x + self.w).min(other.x + other.w) - self.x.max(other.x);
        let h = (self.y + self.h).min(other.y + other.h) - self.y.max(other.y);
        w.max(0.0) * h.max(0.0)
    }

    /// Intersection over union, 0 to 1; 0 where both are empty.
    #[must_use]
    pub fn iou(&self, other: &Self) -> f64 {
        let both = self.overlap(other);
        let any = self.area() + other.area() - both;
        // Boxes without area overlap nothing, the same box without area included.
        if any > f64::EPSILON { both / any } else { 0.0 }
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
