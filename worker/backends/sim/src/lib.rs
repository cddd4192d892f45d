//! A virtual device: takes the place of an engine and a model where neither is at hand. Its answers depend on the bits
//! of the input alone; its latency, memory and faults are scripted. Cluster tests and capacity planning use it.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

mod calibration;
mod script;

pub use calibration::{Calibration, CalibrationError, Memory, Point};
use fulltime_backend::{Backend, BackendError, Contract, Description, OPEN, Probe, Warm, warm_up_by};
pub use script::ScriptError;

/// Raised by hand when the answers change.
const SEMANTICS: u32 = 1;

/// How the virtual device behaves. The default answers at once and never fails.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SimOptions {
    /// Cost of a batch however small, and of each item in it.
    pub per_batch: Duration,
    pub per_item: Duration,
    /// Measured costs of batches instead, ascending; between two of them on a straight line, beyond the last as steep as
    /// before it.
    pub curve: Vec<(usize, Duration)>,
    /// Items a second that the device can decode at most, which its model then waits for.
    pub decoded_per_second: Option<f64>,
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

/// What the device makes believe to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimModel {
    /// An output that reads as `[n, 5 + classes]` rows of a YOLOX head.
    Detector,
    /// `[n]` numbers from -1 to 1.
    Embedder,
    /// `[places, characters + 1]` probabilities, the blank last.
    Reader,
}

impl SimModel {
    /// What it gives where the contract leaves a side open.
    fn side(self) -> usize {
        match self {
            Self::Detector => 400,
            Self::Embedder => 128,
            Self::Reader => 16,
        }
    }
}

/// The device with its "model".
#[derive(Debug)]
pub struct SimBackend {
    options: SimOptions,
    model: SimModel,
    description: Description,
    runs: u64,
    lost: bool,
    held: u64,
    /// Nanoseconds that runs have cost: what warm-up measures by, so that no other load of the machine has a say.
    spent: Arc<AtomicU64>,
}

/// What a call costs that costs nothing, for the comparison of batch sizes alone.
const CALL: Duration = Duration::from_micros(1);

/// Engine class of every sim backend: nothing about the machine can change its bits.
#[must_use]
pub fn engine_class() -> String {
    format!("sim-{SEMANTICS}")
}

impl SimBackend {
    #[must_use]
    pub fn open(options: SimOptions, model: SimModel, mut contract: Contract) -> Self {
        for side in contract.outputs.iter_mut().flat_map(|output| &mut output.item) {
            if *side == OPEN {
                *side = model.side();
            }
        }
        let held = options.model_bytes;
        let description = Description { engine: engine_class(), contract, fixed_batch: None };
        Self { options, model, description, runs: 0, lost: false, held, spent: Arc::default() }
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
        let cost = self.options.cost(batch);
        if !cost.is_zero() {
            thread::sleep(cost);
        }
        self.spent.fetch_add((cost + CALL).as_nanos() as u64, Relaxed);
        let contract = &self.description.contract;
        let row = contract.outputs.first().and_then(|output| output.item.last()).copied().unwrap_or(1);
        output.clear();
        output.resize(batch * contract.output_len(), 0.0);
        let items = input.chunks_exact(contract.input_len()).zip(output.chunks_exact_mut(contract.output_len()));
        for (picture, answer) in items {
            let mut next = draws(picture);
            match self.model {
                SimModel::Detector => see_things(&mut next, answer, row),
                SimModel::Embedder => answer.fill_with(|| next(2001) as f32 / 1000.0 - 1.0),
                SimModel::Reader => read(&mut next, answer, row),
            }
        }
        Ok(())
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(self.held)
    }

    fn warm_up(&mut self, probe: &Probe, candidates: &[usize]) -> Result<Warm, BackendError> {
        let spent = self.spent.clone();
        warm_up_by(self, probe, candidates, &|| Duration::from_nanos(spent.load(Relaxed)))
    }
}

impl SimOptions {
    /// How long a batch takes.
    #[must_use]
    pub fn cost(&self, batch: usize) -> Duration {
        let model = match &self.curve[..] {
            [] => self.per_batch + self.per_item * batch as u32,
            curve => calibration::on_curve(curve, batch),
        };
        let decoded = self.decoded_per_second.map(|rate| Duration::from_secs_f64(batch as f64 / rate));
        model.max(decoded.unwrap_or_default())
    }
}

/// Numbers below a limit that follow from the bits of the picture alone.
fn draws(picture: &[f32]) -> impl FnMut(usize) -> usize {
    let mut hash = picture.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01B3)
    });
    move |limit| {
        hash = (hash ^ (hash >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (hash >> 33) as usize % limit.max(1)
    }
}

/// Marks three to six rows as objects. Which rows, classes and sizes follows from the draws.
fn see_things(next: &mut impl FnMut(usize) -> usize, answer: &mut [f32], row: usize) {
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

/// Up to two characters, each with three quarters to all of the chance at its place, blanks between.
fn read(next: &mut impl FnMut(usize) -> usize, answer: &mut [f32], row: usize) {
    let places = answer.len() / row;
    if row < 2 {
        return;
    }
    for place in answer.chunks_exact_mut(row) {
        place.fill(0.0);
        place[row - 1] = 1.0;
    }
    for character in 0..next(3) {
        let place = &mut answer[(places / 4 + character * places / 2) * row..][..row];
        let chance = 1.0 - 0.0625 * next(5) as f32;
        place[row - 1] = 1.0 - chance;
        place[next(row - 1)] = chance;
    }
}

#[cfg(test)]
mod tests {
    use fulltime_backend::{Kind, Output, conformance};

    use super::*;

    fn contract() -> Contract {
        giving(vec![42, 7])
    }

    fn giving(item: Vec<usize>) -> Contract {
        Contract { input: None, input_item: vec![3, 32, 64], outputs: vec![Output { name: None, item }] }
    }

    #[test]
    fn the_sim_is_a_backend() {
        let open = |model, contract| SimBackend::open(SimOptions::default(), model, contract);
        conformance::check(&mut open(SimModel::Detector, contract()));
        conformance::check(&mut open(SimModel::Embedder, giving(vec![OPEN])));
        conformance::check(&mut open(SimModel::Reader, giving(vec![OPEN, 11])));
    }

    #[test]
    fn every_picture_shows_something_and_different_pictures_show_different_things() {
        let mut sim = SimBackend::open(SimOptions::default(), SimModel::Detector, contract());
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
        let mut sim = SimBackend::open(SimOptions { faults, ..memory }, SimModel::Detector, contract());
        let input = vec![0.0; 3 * contract().input_len()];
        let mut kind = |batch: usize| sim.run(&input[..batch * 6144], batch, &mut Vec::new()).map_err(|e| e.kind());
        assert_eq!(kind(2), Ok(()));
        assert_eq!(kind(3), Err(Kind::OutOfMemory));
        assert_eq!(kind(1), Err(Kind::Unfit));
        assert_eq!(kind(1), Err(Kind::Unfit), "a lost device does not come back");
        assert_eq!(sim.memory_bytes(), Some(20));
    }
}
