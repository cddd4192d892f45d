//! Whole batches through a device: what comes out equals the references whatever the number of slots and streams, and
//! whatever the device is: the processor with threads in place of streams, or what a double of CUDA's driver makes of it.

#![allow(clippy::unwrap_used)] // Helpers of tests may, too.

mod cuda;
mod processor;
mod story;
