//! Warm-up: the proof that a batch size may be used at all. A shard's bytes must not depend on how its frames were
//! batched, so a size is allowed only if every item comes out with the bits that it has alone, in whatever slot and
//! beside whatever neighbours.

use std::time::{Duration, Instant};

use crate::{Backend, BackendError, Kind};

/// The knee of throughput is the smallest batch that reaches this share of the best: beyond it a batch costs memory and
/// latency for nothing. The search ends where a size gains no more than that.
const KNEE: f64 = 0.98;

/// Range of the pseudo-random items that are fed: what the model sees in earnest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probe {
    pub low: f32,
    pub high: f32,
}

/// What a warm-up has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warm {
    /// Batch sizes that may be mixed freely, ascending. Never empty; the first is 1 or the model's fixed size.
    pub sizes: Vec<usize>,
    /// The knee of throughput among them: the smallest within 2 % of the fastest per item, on this machine today. Has no
    /// influence on any bit.
    pub preferred: usize,
}

/// Batch sizes for a warm-up to try: doubling, from 1 to `most`.
#[must_use]
pub fn doubling(most: usize) -> Vec<usize> {
    std::iter::successors(Some(1_usize), |size| size.checked_mul(2)).take_while(|&size| size <= most.max(1)).collect()
}

/// [`Backend::warm_up`] for engines without a way of their own. Candidates are tried in ascending order until one is not
/// worth it, runs out of memory or changes bits.
///
/// # Errors
/// When the smallest batch does not run, or does not repeat itself.
pub fn warm_up<B: Backend + ?Sized>(
    backend: &mut B,
    probe: &Probe,
    candidates: &[usize],
) -> Result<Warm, BackendError> {
    let begin = Instant::now();
    warm_up_by(backend, probe, candidates, &|| begin.elapsed())
}

/// The same by another clock, such as a simulated device's own.
///
/// # Errors
/// As [`warm_up`].
pub fn warm_up_by<B: Backend + ?Sized>(
    backend: &mut B,
    probe: &Probe,
    candidates: &[usize],
    now: &dyn Fn() -> Duration,
) -> Result<Warm, BackendError> {
    let item = backend.describe().contract.input_len();
    let base = backend.describe().fixed_batch.unwrap_or(1);
    let mut larger: Vec<usize> = match backend.describe().fixed_batch {
        Some(_) => Vec::new(),
        None => candidates.iter().copied().filter(|&size| size > base).collect(),
    };
    larger.sort_unstable();
    larger.dedup();

    let mut trial = Trial { backend, probe, now, item, base, references: Vec::new(), base_time: Duration::MAX };
    // The first run pays for lazy initialisation and must not count as a measurement.
    trial.reference(0)?;
    trial.base_time = Duration::MAX;
    if trial.bit_equal(base)?.is_none() {
        return Err(BackendError::NotRepeatable { batch: base });
    }
    let each = |time: Duration, size: usize| time.as_secs_f64() / size as f64;
    let mut times = vec![(base, each(trial.base_time, base))];
    let mut best = times[0].1;
    for size in larger {
        let time = match trial.bit_equal(size) {
            Ok(Some(time)) => each(time, size),
            Ok(None) => break,
            Err(error) if error.kind() == Kind::OutOfMemory => break,
            Err(error) => return Err(error),
        };
        times.push((size, time));
        let worth_it = time < best * KNEE;
        best = best.min(time);
        if !worth_it {
            break;
        }
    }
    let knee = times.iter().find(|(_, time)| time * KNEE <= best).unwrap_or(&times[0]);
    let warm = Warm { preferred: knee.0, sizes: times.iter().map(|(size, _)| *size).collect() };
    Ok(warm)
}

struct Trial<'a, B: Backend + ?Sized> {
    backend: &'a mut B,
    probe: &'a Probe,
    now: &'a dyn Fn() -> Duration,
    item: usize,
    base: usize,
    /// What each probe item gives in slot 0 of the smallest batch.
    references: Vec<Vec<f32>>,
    /// Shortest run of the smallest batch.
    base_time: Duration,
}

impl<B: Backend + ?Sized> Trial<'_, B> {
    fn reference(&mut self, seed: usize) -> Result<(), BackendError> {
        while self.references.len() <= seed {
            let mut input = noise(self.probe, self.item, self.references.len());
            input.resize(self.base * self.item, self.probe.low);
            let (mut output, time) = self.run(&input, self.base)?;
            self.base_time = self.base_time.min(time);
            output.truncate(output.len() / self.base);
            self.references.push(output);
        }
        Ok(())
    }

    /// Two runs with the items rotated by one, so that every slot sees two items and every item two sets of neighbours.
    /// The time of the shorter run if all bits are equal.
    fn bit_equal(&mut self, size: usize) -> Result<Option<Duration>, BackendError> {
        self.reference(size)?;
        let mut shortest = Duration::MAX;
        for rotation in 0..2 {
            let seeds: Vec<usize> = (0..size).map(|slot| (slot + rotation) % (size + 1)).collect();
            let input: Vec<f32> = seeds.iter().flat_map(|&seed| noise(self.probe, self.item, seed)).collect();
            let (output, time) = self.run(&input, size)?;
            shortest = shortest.min(time);
            let mut items = output.chunks_exact((output.len() / size).max(1));
            if !seeds.iter().all(|&seed| items.next().is_some_and(|item| same_bits(item, &self.references[seed]))) {
                return Ok(None);
            }
        }
        Ok(Some(shortest))
    }

    fn run(&mut self, input: &[f32], batch: usize) -> Result<(Vec<f32>, Duration), BackendError> {
        let mut output = Vec::new();
        let begin = (self.now)();
        self.backend.run(input, batch, &mut output)?;
        Ok((output, (self.now)().saturating_sub(begin)))
    }
}

pub(crate) fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Pseudo-random values (SplitMix64, Steele et al. 2014), the same on every machine.
pub(crate) fn noise(probe: &Probe, len: usize, seed: usize) -> Vec<f32> {
    let mut state = (seed as u64 + 1).wrapping_mul(0xD1B5_4A32_D192_ED03);
    let step = (probe.high - probe.low) / 65536.0;
    (0..len)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            probe.low + step * (z >> 48) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    };

    use super::*;
    use crate::{Contract, Description, Output};

    /// Sums its items on a virtual clock. Batches from `leaky_from` on depend on the neighbour.
    struct Summing {
        description: Description,
        leaky_from: usize,
        memory_for: usize,
        per_run: u64,
        per_item: u64,
        clock: Arc<AtomicU64>,
    }

    fn summing(fixed_batch: Option<usize>) -> Summing {
        let outputs = vec![Output { name: None, item: vec![1] }];
        let contract = Contract { input: None, input_item: vec![3, 2, 2], outputs };
        let description = Description { engine: "summing".into(), contract, fixed_batch };
        let (leaky_from, memory_for, clock) = (usize::MAX, usize::MAX, Arc::default());
        Summing { description, leaky_from, memory_for, per_run: 100, per_item: 1, clock }
    }

    impl Backend for Summing {
        fn describe(&self) -> &Description {
            &self.description
        }

        fn run(&mut self, input: &[f32], batch: usize, output: &mut Vec<f32>) -> Result<(), BackendError> {
            self.description.contract.check_input(input, batch)?;
            if batch > self.memory_for {
                return Err(BackendError::OutOfMemory { batch, source: None });
            }
            self.clock.fetch_add(self.per_run + self.per_item * batch as u64, Relaxed);
            let leak = if batch >= self.leaky_from { input[0] * 0.01 } else { 0.0 };
            output.clear();
            output.extend(input.chunks_exact(12).map(|item| item.iter().sum::<f32>() + leak));
            Ok(())
        }
    }

    fn warm(mut backend: Summing) -> Result<Warm, BackendError> {
        let clock = backend.clock.clone();
        let probe = Probe { low: 0.0, high: 255.0 };
        warm_up_by(&mut backend, &probe, &[8, 4, 2, 1], &|| Duration::from_millis(clock.load(Relaxed)))
    }

    #[test]
    fn the_fastest_batch_per_item_is_preferred() {
        assert_eq!(warm(summing(None)).unwrap(), Warm { sizes: vec![1, 2, 4, 8], preferred: 8 });
    }

    #[test]
    fn the_search_ends_where_a_larger_batch_gains_nothing() {
        let backend = Summing { per_run: 1, per_item: 100, ..summing(None) };
        assert_eq!(warm(backend).unwrap(), Warm { sizes: vec![1, 2], preferred: 1 });
    }

    #[test]
    fn the_knee_is_the_smallest_batch_that_is_nearly_as_fast() {
        // 10.10, 10.05 s an item for 1 and 2: nothing worth a second picture.
        let backend = Summing { per_run: 100, per_item: 10_000, ..summing(None) };
        assert_eq!(warm(backend).unwrap(), Warm { sizes: vec![1, 2], preferred: 1 });
        let backend = Summing { per_run: 1000, per_item: 10_000, ..summing(None) };
        // 11.0, 10.5, 10.25, 10.125 s an item: 4 is 2.4 % better than 2, 8 only 1.2 % better than 4.
        assert_eq!(warm(backend).unwrap(), Warm { sizes: vec![1, 2, 4, 8], preferred: 4 });
    }

    #[test]
    fn candidates_double() {
        assert_eq!(doubling(20), [1, 2, 4, 8, 16]);
        assert_eq!(doubling(0), [1]);
    }

    #[test]
    fn a_batch_size_that_leaks_between_neighbours_is_not_allowed() {
        let backend = Summing { leaky_from: 4, ..summing(None) };
        assert_eq!(warm(backend).unwrap(), Warm { sizes: vec![1, 2], preferred: 2 });
    }

    #[test]
    fn memory_ends_the_search_for_larger_batches() {
        let backend = Summing { memory_for: 2, ..summing(None) };
        assert_eq!(warm(backend).unwrap(), Warm { sizes: vec![1, 2], preferred: 2 });
    }

    #[test]
    fn a_model_with_a_fixed_batch_gets_only_that() {
        assert_eq!(warm(summing(Some(4))).unwrap(), Warm { sizes: vec![4], preferred: 4 });
    }

    #[test]
    fn an_engine_whose_answers_depend_on_the_slot_is_unfit() {
        let error = warm(Summing { leaky_from: 1, ..summing(Some(2)) }).unwrap_err();
        assert_eq!(error.kind(), Kind::Unfit, "{error}");
    }
}
