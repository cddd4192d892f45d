//! A decoder's picture as the vision crate sees it: borrowed planes, no copy.

use fulltime_media::Picture;
use fulltime_vision::{Matrix, PictureView, PlaneView};

/// Colour differences of pictures that have none; kept by the caller, since the view only borrows.
#[derive(Debug, Default)]
pub struct NoColour(Vec<u8>);

impl NoColour {
    /// The view of a picture; a gray one gets planes without colour in 4:2:0.
    pub fn view<'a>(&'a mut self, picture: &'a Picture) -> PictureView<'a> {
        let (width, height) = (picture.width() as u32, picture.height() as u32);
        let plane = |i: usize| {
            let plane = picture.plane(i);
            let (width, height) = (plane.width as u32, plane.height as u32);
            PlaneView { data: plane.data, stride: plane.stride, width, height }
        };
        let planes = match picture.planes() {
            1 => {
                let (width, height) = (width.div_ceil(2), height.div_ceil(2));
                self.0.resize(width as usize * height as usize, 128);
                let none = PlaneView { data: &self.0, stride: width as usize, width, height };
                [plane(0), none, none]
            }
            _ => [plane(0), plane(1), plane(2)],
        };
        let matrix = match picture.matrix() {
            fulltime_media::Matrix::Bt601 => Matrix::Bt601,
            fulltime_media::Matrix::Bt709 => Matrix::Bt709,
        };
        PictureView { width, height, planes, matrix, full_range: picture.full_range() }
    }
}
