//! The way from warm-up to the last frame on a device whose memory comes and goes.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers, too")]

use std::time::Duration;

use fulltime_backend::{
    Backend as _, BackendError, Batches, Contract, Kind, Output, Probe, Scratch, Warm, doubling, infer,
};
use fulltime_backend_sim::{Fault, FaultKind, SimBackend, SimModel, SimOptions};

const PROBE: Probe = Probe { low: 0.0, high: 255.0 };
const ITEM: usize = 3 * 4 * 4;

fn open(options: SimOptions) -> SimBackend {
    let outputs = vec![Output { name: None, item: vec![8] }];
    SimBackend::open(options, SimModel::Embedder, Contract { input: None, input_item: vec![3, 4, 4], outputs })
}

/// A batch costs 2 ms and an item 0.1 ms, so that 64 would be best; there is memory for 16.
fn device() -> SimOptions {
    SimOptions {
        per_batch: Duration::from_millis(2),
        per_item: Duration::from_micros(100),
        model_bytes: 100,
        item_bytes: 10,
        memory_bytes: Some(100 + 16 * 10),
        ..SimOptions::default()
    }
}

fn frames(count: usize) -> Vec<f32> {
    (0..count * ITEM).map(|at| ((at * 31 + at / ITEM) % 251) as f32).collect()
}

/// Each frame on its own, on a device without limits.
fn expected(frames: &[f32]) -> Vec<f32> {
    let mut sim = open(SimOptions::default());
    let mut output = Vec::new();
    frames
        .chunks(ITEM)
        .flat_map(|frame| {
            sim.run(frame, 1, &mut output).unwrap();
            output.clone()
        })
        .collect()
}

#[test]
fn warm_up_ends_at_the_memory_ceiling() {
    let warm = open(device()).warm_up(&PROBE, &doubling(64)).unwrap();
    assert_eq!((warm.sizes, warm.preferred), (vec![1, 2, 4, 8, 16], 16));
}

#[test]
fn the_out_of_memory_script_ends_at_the_knee_and_loses_no_frame() {
    // One, a row of them, and one after the other.
    let faults = [60, 61, 62, 63, 200, 700].map(|run| Fault { run, what: FaultKind::OutOfMemory });
    let warm = open(device()).warm_up(&PROBE, &doubling(64)).unwrap();
    assert_eq!(warm.preferred, 16);
    let mut sim = open(SimOptions { faults: faults.to_vec(), ..device() }.at_once());
    let mut batches = Batches::new(&warm);
    let (mut scratch, mut output, mut all) = (Scratch::default(), Vec::new(), Vec::new());
    let mut smallest = usize::MAX;
    let input = frames(16 * 1500 + 5);
    for shard in input.chunks(ITEM * 100) {
        infer(&mut sim, &mut batches, &mut scratch, shard, &mut output).unwrap();
        all.extend_from_slice(&output);
        smallest = smallest.min(batches.current());
    }
    assert!(smallest < 16, "the script did nothing");
    assert_eq!((batches.current(), batches.knee()), (16, 16));
    assert_eq!(all, expected(&input));
}

#[test]
fn a_device_whose_ceiling_sinks_goes_on_below_it() {
    let warm = Warm { sizes: vec![1, 2, 4, 8, 16], preferred: 16 };
    let mut sim = open(SimOptions { memory_bytes: Some(100 + 5 * 10), ..device().at_once() });
    let mut batches = Batches::new(&warm);
    let (mut scratch, mut output) = (Scratch::default(), Vec::new());
    let input = frames(1000);
    infer(&mut sim, &mut batches, &mut scratch, &input, &mut output).unwrap();
    assert_eq!(batches.current(), 4);
    assert_eq!(output, expected(&input));
}

#[test]
fn no_memory_for_a_single_frame_is_an_error_that_says_so() {
    let mut sim = open(SimOptions { memory_bytes: Some(105), ..device().at_once() });
    let warm = Warm { sizes: vec![1, 2], preferred: 2 };
    let error: BackendError =
        infer(&mut sim, &mut Batches::new(&warm), &mut Scratch::default(), &frames(4), &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::OutOfMemory);
}

trait AtOnce {
    fn at_once(self) -> Self;
}

impl AtOnce for SimOptions {
    /// The same without waiting.
    fn at_once(self) -> Self {
        Self { per_batch: Duration::ZERO, per_item: Duration::ZERO, ..self }
    }
}
