//! The ONNX Runtime backend: one session, one thread, on the CPU, or on a GPU by CUDA or TensorRT. The vision crate's
//! detector opens it; the library is loaded at run time from a path that the worker found, so that nothing links to it.

mod bound;
mod provider;
mod runtime;

use std::path::Path;

use fulltime_backend::{Backend, BackendError, Contract, Description, OPEN, Side};
use ort::{
    logging::LogLevel,
    session::{
        Session, SessionInputValue,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::{Outlet, TensorElementType, TensorRef, ValueType},
};
pub use provider::{Batches, NoProvider, Precision, Provider, ProviderOptions, ProviderOptionsError};
pub use runtime::Runtime;

use crate::bound::Bound;

/// The engine class of this library on this machine, before any model is there.
///
/// # Errors
/// When the library, or the provider that is asked for, cannot be loaded.
pub fn engine_class(library: &Path, options: &ProviderOptions) -> Result<String, BackendError> {
    Ok(Runtime::load(library, options)?.engine_class().to_owned())
}

/// A model in ONNX Runtime.
#[derive(Debug)]
pub struct OnnxBackend {
    session: Session,
    description: Description,
    /// Names of the outputs, in the order of the contract.
    outputs: Vec<String>,
    /// Input shape as the engine wants it, the batch size in front; rewritten at every run instead of allocated.
    shape: Vec<i64>,
    /// Input and outputs on the device, where that is a GPU.
    bound: Option<Bound>,
}

impl OnnxBackend {
    /// Builds a session from the bytes of an ONNX file and checks that it fits the contract.
    ///
    /// # Errors
    /// When the model cannot be read, or its tensors are not those of the contract; the error names tensor, expected and
    /// found shape.
    pub fn open(runtime: &Runtime, model: &[u8], mut contract: Contract) -> Result<Self, BackendError> {
        let session = session(runtime, model, None)?;
        let (input, item) = (find(session.inputs(), Side::Input, contract.input.as_deref())?, &contract.input_item);
        // TensorRT wants to know shapes by the input's name before it reads the model: read it once for that.
        let session = match runtime.provider() {
            Provider::Auto | Provider::Cpu => session,
            Provider::Cuda | Provider::TensorRt => self::session(runtime, model, Some((input.name(), item)))?,
        };
        let input = find(session.inputs(), Side::Input, contract.input.as_deref())?;
        let fixed_batch = fit(input, Side::Input, &contract.input_item)?;
        if session.inputs().len() > 1 {
            // Named or not, the others would stay empty.
            return Err(BackendError::Ambiguous { side: Side::Input, found: names(session.inputs()) });
        }
        let mut outputs = Vec::new();
        for output in &mut contract.outputs {
            let outlet = find(session.outputs(), Side::Output, output.name.as_deref())?;
            fit(outlet, Side::Output, &output.item)?;
            settle(outlet, &mut output.item);
            outputs.push(outlet.name().to_owned());
        }
        let shape = std::iter::once(0).chain(contract.input_item.iter().map(|&dim| dim as i64)).collect();
        let description = Description { engine: runtime.engine_class().to_owned(), contract, fixed_batch };
        let bound = Bound::new(&session, runtime, &outputs)?;
        let mut backend = Self { session, description, outputs, shape, bound };
        if backend.description.contract.outputs.iter().any(|output| output.item.contains(&OPEN)) {
            backend.try_out()?;
        }
        Ok(backend)
    }

    /// Learns from one run what the model does not say about its outputs.
    fn try_out(&mut self) -> Result<(), BackendError> {
        let batch = self.description.fixed_batch.unwrap_or(1);
        let input = vec![0.0_f32; batch * self.description.contract.input_len()];
        self.shape[0] = batch as i64;
        let failed = |error| run_error(error, batch);
        let tensor = TensorRef::from_array_view((self.shape.as_slice(), &input[..])).map_err(failed)?;
        let given = self.session.run([SessionInputValue::from(tensor)]).map_err(failed)?;
        for (output, name) in self.description.contract.outputs.iter_mut().zip(&self.outputs) {
            let (shape, _) = given[name.as_str()].try_extract_tensor::<f32>().map_err(failed)?;
            let found = shape.get(1..).unwrap_or_default();
            let agrees = |(&found, &item): (&i64, &usize)| found > 0 && (item == OPEN || found == item as i64);
            if found.len() != output.item.len() || !found.iter().zip(&output.item).all(agrees) {
                return Err(other_shape(name, batch, &output.item, shape));
            }
            output.item = found.iter().map(|&dim| dim as usize).collect();
        }
        Ok(())
    }
}

/// Takes the open sides of an item from what the model declares, if it declares them.
fn settle(outlet: &Outlet, item: &mut [usize]) {
    if let ValueType::Tensor { shape, .. } = outlet.dtype() {
        for (side, &declared) in item.iter_mut().zip(shape.iter().skip(1)) {
            if *side == OPEN && declared > 0 {
                *side = declared as usize;
            }
        }
    }
}

/// One thread and no spinning: lanes bring their own parallelism, and a thread count would be part of the engine class.
/// `profile` is the input's name and shape for the runtime's provider; without, the session is on the CPU.
fn session(runtime: &Runtime, model: &[u8], profile: Option<(&str, &[usize])>) -> Result<Session, BackendError> {
    let built = || -> ort::Result<SessionBuilder> {
        Session::builder(runtime.environment())?
            .with_optimization_level(GraphOptimizationLevel::Level3)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_deterministic_compute(true)?
            .with_log_level(LogLevel::Error)
            .map_err(ort::Error::from)
    };
    let unread = |error: ort::Error| BackendError::Model { source: error.into() };
    let mut builder = built().map_err(unread)?;
    if let Some((input, item)) = profile {
        builder = runtime.register(builder, input, item)?;
    }
    builder.commit_from_memory(model).map_err(unread)
}

impl Backend for OnnxBackend {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn run(&mut self, input: &[f32], batch: usize, output: &mut Vec<f32>) -> Result<(), BackendError> {
        let contract = &self.description.contract;
        contract.check_input(input, batch)?;
        self.shape[0] = batch as i64;
        let failed = |error| run_error(error, batch);
        let outputs = match &mut self.bound {
            Some(bound) => bound.run(&mut self.session, &self.shape, input).map_err(failed)?,
            None => {
                let tensor = TensorRef::from_array_view((self.shape.as_slice(), input)).map_err(failed)?;
                self.session.run([SessionInputValue::from(tensor)]).map_err(failed)?
            }
        };
        let mut tensors = Vec::with_capacity(self.outputs.len());
        for (expected, name) in contract.outputs.iter().zip(&self.outputs) {
            let (shape, values) = outputs[name.as_str()].try_extract_tensor::<f32>().map_err(failed)?;
            let whole = std::iter::once(batch).chain(expected.item.iter().copied());
            if !shape.iter().copied().eq(whole.map(|dim| dim as i64)) {
                return Err(other_shape(name, batch, &expected.item, shape));
            }
            tensors.push((values, expected.len()));
        }
        output.clear();
        for item in 0..batch {
            for (values, len) in &tensors {
                output.extend_from_slice(&values[item * len..(item + 1) * len]);
            }
        }
        Ok(())
    }
}

fn other_shape(name: &str, batch: usize, item: &[usize], found: &[i64]) -> BackendError {
    let side = |&side: &usize| if side == OPEN { -1 } else { side as i64 };
    let expected = show(std::iter::once(batch as i64).chain(item.iter().map(side)));
    let found = show(found.iter().copied());
    BackendError::Shape { side: Side::Output, name: name.to_owned(), expected, found }
}

fn find<'a>(outlets: &'a [Outlet], side: Side, name: Option<&str>) -> Result<&'a Outlet, BackendError> {
    match (name, outlets) {
        (None, [only]) => Ok(only),
        (None, _) => Err(BackendError::Ambiguous { side, found: names(outlets) }),
        (Some(name), _) => outlets.iter().find(|outlet| outlet.name() == name).ok_or_else(|| BackendError::NoTensor {
            side,
            name: name.to_owned(),
            found: names(outlets),
        }),
    }
}

fn names(outlets: &[Outlet]) -> String {
    outlets.iter().map(|outlet| format!("`{}`", outlet.name())).collect::<Vec<_>>().join(", ")
}

/// Compares a tensor of the model with one item of the contract. Returns the batch size if the model fixes it.
fn fit(outlet: &Outlet, side: Side, item: &[usize]) -> Result<Option<usize>, BackendError> {
    let name = outlet.name().to_owned();
    let shape = match outlet.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => shape,
        ValueType::Tensor { ty, .. } => {
            return Err(BackendError::ElementType { side, name, found: ty.to_string() });
        }
        other => return Err(BackendError::ElementType { side, name, found: other.to_string() }),
    };
    // Dimensions that the model leaves open are -1. An output may leave even their number open.
    let unknown = side == Side::Output && shape.is_empty();
    let fits = shape.len() == item.len() + 1
        && shape.iter().skip(1).zip(item).all(|(&found, &expected)| {
            let open = side == Side::Output && expected == OPEN;
            found < 0 || open || found == expected as i64
        });
    if !fits && !unknown {
        let open = |dim: usize| if dim == OPEN { -1 } else { dim as i64 };
        let expected = show(std::iter::once(-1).chain(item.iter().map(|&dim| open(dim))));
        return Err(BackendError::Shape { side, name, expected, found: show(shape.iter().copied()) });
    }
    Ok(shape.first().and_then(|&batch| usize::try_from(batch).ok()).filter(|&batch| batch > 0))
}

/// `[?, 3, 416, 416]`.
fn show(dims: impl Iterator<Item = i64>) -> String {
    let dims: Vec<_> = dims.map(|dim| if dim < 0 { "?".to_owned() } else { dim.to_string() }).collect();
    format!("[{}]", dims.join(", "))
}

/// ONNX Runtime has no error code for exhausted memory, only these words of its allocators.
fn run_error(error: ort::Error, batch: usize) -> BackendError {
    let text = error.message();
    if ["bad_alloc", "bad allocation", "Failed to allocate", "out of memory"].iter().any(|word| text.contains(word)) {
        BackendError::OutOfMemory { batch, source: Some(error.into()) }
    } else {
        BackendError::Run { batch, source: error.into() }
    }
}
