//! The torch backend against the suite of all backends, the shipped models against ONNX Runtime, and models that do not fit.
//! In a build without torch there is nothing to test here but that, which the crate's own tests do.

#[cfg(not(feature = "torch"))]
#[test]
fn torch_is_a_backend() {
    println!("skipped: this build has no torch (`cargo xtask setup --torch`, then `--features torch`)");
}

#[cfg(feature = "torch")]
mod common;
#[cfg(feature = "torch")]
mod real;
