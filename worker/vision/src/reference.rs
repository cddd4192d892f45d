//! What kernels for other processors are held to, bit by bit. `fulltime-kernels` compares its own arithmetic with these
//! functions, and takes the numbers of the colour conversion from here, so that they are made in one place.

use fulltime_common::pipeline::ModelInput;

pub use crate::{boxes::suppress, describe::within as person, preprocess::Colour};
use crate::{
    error::VisionError,
    geometry::Placed,
    picture::PictureView,
    preprocess::{self, Scratch},
};

/// One item of a network input of `size` (width, height): the placed crop of the picture, padding around it.
///
/// # Errors
/// When the view's planes do not fit its size, or `out` is not an item long.
pub fn prepare(
    view: &PictureView,
    placed: &Placed,
    input: &ModelInput,
    size: [u32; 2],
    out: &mut [f32],
) -> Result<(), VisionError> {
    view.check()?;
    let expected = 3 * size[0] as usize * size[1] as usize;
    if out.len() != expected {
        return Err(VisionError::Tensor { expected, found: out.len() });
    }
    preprocess::prepare(view, placed, input, size, &mut Scratch::default(), out);
    Ok(())
}
