//! What an inference engine is to a lane: something that describes itself, shows at start which batch sizes it can be
//! trusted with, turns one batch into outputs in order or says why not, and reports its memory.
//!
//! Implemented by `backends/{onnx,torch,sim}`, called by the vision crate's detector on the one thread that owns
//! the engine. Synchronous on purpose: this crate knows neither the queue, nor an async runtime, nor video.

mod batches;
pub mod conformance;
mod error;
mod gpu;
mod warm;

pub use batches::{Batches, Scratch, infer};
pub use error::{BackendError, Kind, Side};
pub use gpu::{Gpu, GpuError, plain};
pub use warm::{Probe, Warm, doubling, warm_up, warm_up_by};

/// An engine with one model in it. `Send`, but used by one thread at a time.
pub trait Backend: Send {
    fn describe(&self) -> &Description;

    /// Runs `batch` items that lie one after another in `input` and replaces `output` by their results in the same
    /// order.
    ///
    /// # Errors
    /// When `input` is not `batch` items long, and whatever the engine fails with.
    fn run(&mut self, input: &[f32], batch: usize, output: &mut Vec<f32>) -> Result<(), BackendError>;

    /// Memory that the engine holds on its device, if it can tell.
    fn memory_bytes(&self) -> Option<u64> {
        None
    }

    /// Finds out which of the candidate batch sizes give bits equal to the smallest one, and which of those is fastest.
    ///
    /// # Errors
    /// When not even the smallest batch runs and repeats itself.
    fn warm_up(&mut self, probe: &Probe, candidates: &[usize]) -> Result<Warm, BackendError> {
        warm::warm_up(self, probe, candidates)
    }
}

/// What a backend says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Everything outside the model that can change bits: provider, runtime build, device or instruction set.
    pub engine: String,
    pub contract: Contract,
    /// The only batch size the model accepts, if it was exported with one.
    pub fixed_batch: Option<usize>,
}

/// What the caller will feed and what it expects back. Backends check it against the model when they open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// Name of the input tensor; `None`: the model's only one.
    pub input: Option<String>,
    /// Shape of one input item without the batch dimension: `[3, height, width]` or `[height, width, 3]`.
    pub input_item: Vec<usize>,
    /// At least one. In a run's results an item's outputs lie one after another in this order.
    pub outputs: Vec<Output>,
}

/// One tensor that comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Name of the tensor; `None`: the model's only one.
    pub name: Option<String>,
    /// Shape of one item without the batch dimension. A side may be [`OPEN`] as long as no backend has opened a model
    /// for it; from then on the contract says what the model has.
    pub item: Vec<usize>,
}

/// A side of an output that is whatever the model gives.
pub const OPEN: usize = 0;

impl Output {
    /// Values in one item.
    #[must_use]
    pub fn len(&self) -> usize {
        self.item.iter().product()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Contract {
    /// Values in one input item.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.input_item.iter().product()
    }

    /// Values that one item gives, of all outputs together.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.outputs.iter().map(Output::len).sum()
    }

    /// Guards the start of every `run`.
    ///
    /// # Errors
    /// When `input` is not exactly `batch` items long, or `batch` is zero.
    pub fn check_input(&self, input: &[f32], batch: usize) -> Result<(), BackendError> {
        let expected = batch * self.input_len();
        if batch == 0 || input.len() != expected {
            return Err(BackendError::InputLength { batch, expected, found: input.len() });
        }
        Ok(())
    }
}
