//! A virtual device: takes the place of an engine and a model where neither is at hand. Its answers depend on the bits
//! of the input alone; its latency, memory and faults are scripted. Cluster tests and capacity planning use it.

use std::{process, thread, time::Duration};

mod script;

pub use script::ScriptError;

use fulltime_backend::{Backend, BackendError, Contract, Description};

/// Raised by hand when the answers change.
const SEMANTICS: u32 = 1;

/// How the virtual device behaves. The default answers at once and never fails.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SimOptions {
    /// Cost of a batch however small, and of each item in it.
    pub per_batch: Duration,
    pub per_item: Duration,
    /// Bytes that the model takes, and each item of a batch on top.
    pub model_bytes: u64,
    pub item_bytes: u64,
    /// Device memory; `None`: unlimited.
    pub memory_bytes: Option<u64>,
    /// What goes wrong, and when.
    pub faults: Vec<Fault>,
}

/// A scripted failure: the run with this number (from 0, warm-up included) fails so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub run: u64,
    pub what: FaultKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    OutOfMemory,
    /// This run and all that follow.
    DeviceLost,
    /// Never comes back.
    Hang,
    /// Takes the process along, as a driver would.
    Crash,
}

/// The device with its "model": an output that reads as `[n, 5 + classes]` rows of a YOLOX head.
#[derive(Debug)]
pub struct SimBackend {
    options: SimOptions,
    description: Description,
    runs: u64,
    lost: bool,
    held: u64,
}

/// Engine class of every sim backend: nothing about the machine can change its bits.
#[must_use]
pub fn engine_class() -> String {
    format!("sim-{SEMANTICS}")
}

impl SimBackend {
    #[must_use]
    pub fn open(options: SimOptions, contract: Contract) -> Self {
        let held = options.model_bytes;
        let description = Description { engine: engine_class(), contract, fixed_batch: None };
        Self { options, description, runs: 0, lost: false, held }
    }

    fn fail_as_scripted(&mut self, batch: usize) -> Result<(), BackendError> {
        let run = self.runs;
        self.runs += 1;
        let fault = self.options.faults.iter().find(|fault| fault.run == run).map(|fault| fault.what);
        match fault {
            Some(FaultKind::Hang) => loop {
                thread::park();
            },
            Some(FaultKind::Crash) => process::abort(),
            Some(FaultKind::DeviceLost) => self.lost = true,
            Some(FaultKind::OutOfMemory) | None => {}
        }
        if self.lost {
            return Err(BackendError::DeviceLost { reason: "scripted fault" });
        }
        let needed = self.options.model_bytes + self.options.item_bytes * batch as u64;
        if fault == Some(FaultKind::OutOfMemory) || self.options.memory_bytes.is_some_and(|limit| needed > limit) {
            return Err(BackendError::OutOfMemory { batch, source: None });
        }
        self.held = self.held.max(needed);
        Ok(())
    }
}

impl Backend for SimBackend {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn run(&mut self, input: &[f32], batch: usize, output: &mut Vec<f32>) -> Result<(), BackendError> {
        self.description.contract.check_input(input, batch)?;
        self.fail_as_scripted(batch)?;
        let cost = self.options.per_batch + self.options.per_item * batch as u32;
        if !cost.is_zero() {
            thread::sleep(cost);
        }
        let contract = &self.description.contract;
        let row = contract.output_item.last().copied().unwrap_or(1);
        output.clear();
        output.resize(batch * contract.output_len(), 0.0);
        let items = input.chunks_exact(contract.input_len()).zip(output.chunks_exact_mut(contract.output_len()));
        for (picture, answer) in items {
            see_things(picture, answer, row);
        }
        Ok(())
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(self.held)
    }
}

/// Marks three to six rows as objects. Which rows, classes and sizes follows from a hash of the picture's bits.
fn see_things(picture: &[f32], answer: &mut [f32], row: usize) {
    let mut hash = picture.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01B3)
    });
    let mut next = |limit: usize| {
        hash = (hash ^ (hash >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (hash >> 33) as usize % limit.max(1)
    };
    let rows = answer.len() / row;
    if row < 6 {
        return;
    }
    for _ in 0..3 + next(4) {
        let (at, class) = (next(rows), next(row - 5));
        let cell = &mut answer[at * row..(at + 1) * row];
        // Offset, logarithmic size in strides, objectness; see the YOLOX head.
        cell[..5].copy_from_slice(&[0.5, 0.5, 0.75 + 0.125 * next(4) as f32, 1.5 + 0.125 * next(4) as f32, 0.9375]);
        cell[5..].fill(0.0);
        cell[5 + class] = 0.625 + 0.0625 * next(6) as f32;
    }
}

#[cfg(test)]
mod tests {
    use fulltime_backend::{Kind, conformance};

    use super::*;

    fn contract() -> Contract {
        Contract { input: None, input_item: vec![3, 32, 64], output: None, output_item: vec![42, 7] }
    }

    #[test]
    fn the_sim_is_a_backend() {
        conformance::check(&mut SimBackend::open(SimOptions::default(), contract()));
    }

    #[test]
    fn every_picture_shows_something_and_different_pictures_show_different_things() {
        let mut sim = SimBackend::open(SimOptions::default(), contract());
        let mut output = Vec::new();
        let input: Vec<f32> = (0..2 * contract().input_len()).map(|i| (i % 251) as f32).collect();
        sim.run(&input, 2, &mut output).unwrap();
        let (first, second) = output.split_at(contract().output_len());
        assert!(first.chunks_exact(7).filter(|row| row[4] > 0.9).count() >= 1);
        assert_ne!(first, second);
    }

    #[test]
    fn a_scripted_device_runs_out_of_memory_and_is_lost() {
        let faults = vec![Fault { run: 2, what: FaultKind::DeviceLost }];
        let memory = SimOptions { model_bytes: 10, item_bytes: 5, memory_bytes: Some(20), ..SimOptions::default() };
        let mut sim = SimBackend::open(SimOptions { faults, ..memory }, contract());
        let input = vec![0.0; 3 * contract().input_len()];
        let mut kind = |batch: usize| sim.run(&input[..batch * 6144], batch, &mut Vec::new()).map_err(|e| e.kind());
        assert_eq!(kind(2), Ok(()));
        assert_eq!(kind(3), Err(Kind::OutOfMemory));
        assert_eq!(kind(1), Err(Kind::Unfit));
        assert_eq!(kind(1), Err(Kind::Unfit), "a lost device does not come back");
        assert_eq!(sim.memory_bytes(), Some(20));
    }
}
