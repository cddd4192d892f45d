//! The kernels' own source, run on the processor, against the references: equal bit by bit over sizes, strides, odd widths,
//! borders, samplings and layouts.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

mod crops;
mod hashes;
mod layout;
mod pictures;
mod preprocess;
mod suppression;
