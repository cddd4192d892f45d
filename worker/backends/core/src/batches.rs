//! Which batch size to run next: the knee that warm-up has found, less after memory ran out, and step by step more again
//! when it has been enough for a while. Pure; only sizes that warm-up has shown bit-equal are ever used, so nothing in
//! here can change a result.

use crate::{Backend, BackendError, Warm};

/// Runs without trouble before a larger size is tried again. Each try that fails doubles it, so that a ceiling that stays
/// costs ever less.
const PATIENCE: u64 = 32;
/// At most.
const MOST_PATIENCE: u64 = 4096;

/// The state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batches {
    /// Ascending; up to the knee.
    sizes: Vec<usize>,
    /// Index of the largest that is used now.
    now: usize,
    /// Runs at that size, or as large as there were items, since it changed.
    quiet: u64,
    /// How many of them it takes to grow.
    patience: u64,
    /// Whether a run went well since memory last ran out: sizes that fail one after the other are one failure.
    settled: bool,
}

impl Batches {
    #[must_use]
    pub fn new(warm: &Warm) -> Self {
        let sizes: Vec<usize> = warm.sizes.iter().copied().filter(|&size| size <= warm.preferred).collect();
        let sizes = if sizes.is_empty() { vec![warm.preferred.max(1)] } else { sizes };
        Self { now: sizes.len() - 1, sizes, quiet: 0, patience: PATIENCE, settled: false }
    }

    /// The size for a run when `left` items wait: the largest allowed that they fill, else the smallest there is, to be
    /// padded.
    #[must_use]
    pub fn size_for(&self, left: usize) -> usize {
        let allowed = &self.sizes[..=self.now];
        allowed.iter().rev().find(|&&size| size <= left).copied().unwrap_or(self.sizes[0])
    }

    /// The largest size in use at present.
    #[must_use]
    pub fn current(&self) -> usize {
        self.sizes[self.now]
    }

    /// The size that is aimed at.
    #[must_use]
    pub fn knee(&self) -> usize {
        self.sizes[self.sizes.len() - 1]
    }

    /// A run of this size went well.
    pub fn succeeded(&mut self, size: usize) {
        self.settled = true;
        if size < self.sizes[self.now] {
            // The last few items of a frame: says nothing about the size in question.
            return;
        }
        self.quiet += 1;
        if self.quiet < self.patience {
            return;
        }
        self.quiet = 0;
        if self.now + 1 < self.sizes.len() {
            self.now += 1;
        } else {
            // Quiet at the knee: what was before is forgotten.
            self.patience = PATIENCE;
        }
    }

    /// A run of this size ran out of memory. Whether a smaller one is left to try it again with.
    pub fn ran_out(&mut self, size: usize) -> bool {
        let Some(smaller) = self.sizes.iter().rposition(|&other| other < size) else { return false };
        self.now = self.now.min(smaller);
        self.quiet = 0;
        if self.settled {
            self.patience = (self.patience * 2).min(MOST_PATIENCE);
            self.settled = false;
        }
        true
    }
}

/// Buffers of [`infer`], kept from call to call.
#[derive(Debug, Default)]
pub struct Scratch {
    /// A batch's output, or a padded batch's input, when it is not the caller's buffer itself.
    part: Vec<f32>,
    padded: Vec<f32>,
}

/// Runs any number of items that lie one after another and replaces `output` by their results in the same order, in batches
/// of allowed sizes. Where memory runs out the same items are run again in smaller ones: none is lost, none is twice.
///
/// # Errors
/// When `input` is not a whole number of items, when not even the smallest batch has memory, and whatever the engine fails
/// with.
pub fn infer<B: Backend + ?Sized>(
    backend: &mut B,
    batches: &mut Batches,
    scratch: &mut Scratch,
    input: &[f32],
    output: &mut Vec<f32>,
) -> Result<(), BackendError> {
    let contract = &backend.describe().contract;
    let (item, answer) = (contract.input_len(), contract.output_len());
    let items = input.len() / item;
    if items * item != input.len() {
        return Err(BackendError::InputLength { batch: items + 1, expected: (items + 1) * item, found: input.len() });
    }
    output.clear();
    let mut done = 0;
    while done < items {
        let left = items - done;
        let batch = batches.size_for(left);
        let real = batch.min(left);
        let mut feed = &input[done * item..(done + real) * item];
        if real < batch {
            scratch.padded.clear();
            scratch.padded.extend_from_slice(feed);
            scratch.padded.resize(batch * item, 0.0);
            feed = &scratch.padded;
        }
        let whole = batch == items;
        let target = if whole { &mut *output } else { &mut scratch.part };
        match backend.run(feed, batch, target) {
            Ok(()) => batches.succeeded(batch),
            Err(BackendError::OutOfMemory { .. }) if batches.ran_out(batch) => continue,
            Err(error) => return Err(error),
        }
        if !whole {
            output.extend_from_slice(&scratch.part[..real * answer]);
        }
        done += real;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches() -> Batches {
        Batches::new(&Warm { sizes: vec![1, 2, 4, 8, 16], preferred: 8 })
    }

    fn quiet(batches: &mut Batches, runs: u64) {
        for _ in 0..runs {
            let size = batches.size_for(usize::MAX);
            batches.succeeded(size);
        }
    }

    #[test]
    fn the_knee_is_run_and_not_the_edge_of_memory() {
        let batches = batches();
        assert_eq!((batches.knee(), batches.current()), (8, 8));
        assert_eq!([100, 16, 8, 7, 3, 1].map(|left| batches.size_for(left)), [8, 8, 8, 4, 2, 1]);
    }

    #[test]
    fn less_memory_means_smaller_batches_until_it_was_quiet_for_a_while() {
        let mut batches = batches();
        assert!(batches.ran_out(8) && batches.ran_out(4));
        assert_eq!(batches.current(), 2);
        quiet(&mut batches, PATIENCE - 1);
        assert_eq!(batches.current(), 2);
        quiet(&mut batches, 1);
        assert_eq!(batches.current(), 4);
        batches.ran_out(4);
        quiet(&mut batches, 2 * PATIENCE - 1);
        assert_eq!(batches.current(), 2, "a failed try has made it patient");
        quiet(&mut batches, 1 + 2 * PATIENCE);
        assert_eq!(batches.current(), 8);
    }

    #[test]
    fn a_ceiling_that_stays_is_bumped_into_ever_less() {
        let mut batches = batches();
        let (mut failures, mut before) = (0, 0);
        for run in 0..100_000 {
            let size = batches.size_for(usize::MAX);
            if size > 4 {
                assert!(batches.ran_out(size));
                failures += 1;
                assert!(failures < 9 || run - before >= MOST_PATIENCE, "{failures} failures by run {run}");
                before = run;
            } else {
                batches.succeeded(size);
            }
        }
        assert!(failures < 40, "{failures}");
        quiet(&mut batches, 2 * MOST_PATIENCE);
        assert_eq!((batches.current(), batches.patience), (8, PATIENCE), "quiet at the knee forgets");
    }

    #[test]
    fn small_remainders_do_not_count_as_quiet() {
        let mut batches = batches();
        batches.ran_out(8);
        (0..10_000).for_each(|_| batches.succeeded(2));
        assert_eq!(batches.current(), 4);
    }

    #[test]
    fn below_the_smallest_there_is_nothing() {
        let mut fixed = Batches::new(&Warm { sizes: vec![4], preferred: 4 });
        assert!(!fixed.ran_out(4));
        assert_eq!(fixed.size_for(1), 4);
    }
}
