//! What every backend must do, as checks that each implementation calls from its tests. They panic with what is wrong.

use crate::{
    Backend, BackendError, Probe,
    warm::{noise, same_bits},
};

/// The values that the checks feed: pixels.
pub const PROBE: Probe = Probe { low: 0.0, high: 255.0 };

/// Runs the whole suite.
pub fn check(backend: &mut dyn Backend) {
    describes_its_engine(backend);
    outputs_have_the_promised_length(backend);
    repeats_itself_bit_for_bit(backend);
    keeps_the_order_of_a_batch(backend);
    refuses_input_of_the_wrong_length(backend);
}

fn describes_its_engine(backend: &dyn Backend) {
    let description = backend.describe();
    let engine = &description.engine;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    assert!(!engine.is_empty() && engine.chars().all(plain), "engine class `{engine}` must be usable in object keys");
    assert!(description.contract.input_len() > 0 && description.contract.output_len() > 0);
}

fn outputs_have_the_promised_length(backend: &mut dyn Backend) {
    let batch = smallest(backend);
    let mut output = vec![f32::NAN; 7];
    backend.run(&items(backend, 0..batch), batch, &mut output).expect("run the smallest batch");
    assert_eq!(output.len(), batch * backend.describe().contract.output_len(), "what was in the buffer is replaced");
}

fn repeats_itself_bit_for_bit(backend: &mut dyn Backend) {
    let batch = smallest(backend);
    let input = items(backend, 0..batch);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    backend.run(&input, batch, &mut first).expect("run once");
    backend.run(&input, batch, &mut second).expect("run again");
    assert!(same_bits(&first, &second), "the same input gave two outputs");
}

fn keeps_the_order_of_a_batch(backend: &mut dyn Backend) {
    let warm = backend.warm_up(&PROBE, &[1, 2, 3]).expect("warm up");
    assert!(warm.sizes.is_sorted() && warm.sizes.contains(&warm.preferred), "{warm:?}");
    let (base, size) = (warm.sizes[0], *warm.sizes.last().expect("sizes are never empty"));
    let mut together = Vec::new();
    backend.run(&items(backend, 0..size), size, &mut together).expect("run the largest batch");
    for (slot, found) in together.chunks_exact(together.len() / size).enumerate() {
        let mut alone = Vec::new();
        let input: Vec<f32> = (0..base).flat_map(|_| items(backend, slot..slot + 1)).collect();
        backend.run(&input, base, &mut alone).expect("run alone");
        assert!(same_bits(found, &alone[..found.len()]), "slot {slot} of a batch of {size} differs");
    }
}

fn refuses_input_of_the_wrong_length(backend: &mut dyn Backend) {
    let batch = smallest(backend);
    let mut input = items(backend, 0..batch);
    input.pop();
    for (input, batch) in [(&input[..], batch), (&[][..], 0)] {
        let error = backend.run(input, batch, &mut Vec::new()).expect_err("the input is too short");
        assert!(matches!(error, BackendError::InputLength { .. }), "{error}");
    }
}

fn smallest(backend: &dyn Backend) -> usize {
    backend.describe().fixed_batch.unwrap_or(1)
}

fn items(backend: &dyn Backend, seeds: std::ops::Range<usize>) -> Vec<f32> {
    let len = backend.describe().contract.input_len();
    seeds.flat_map(|seed| noise(&PROBE, len, seed)).collect()
}
