//! The backend of a build with libtorch.

mod ffi;
mod measure;
mod runtime;
mod split;
mod stage;

use fulltime_backend::{Backend, BackendError, Contract, Description, OPEN, Side};
pub use runtime::engine_class;
use split::Split;
use stage::{Answer, Stage, StageError, channels_last, fault, on, to_host, within};
use tch::{Kind, Tensor};

use crate::{Device, TorchOptions};

/// Batch sizes that a model is tried with at opening, until one runs: models may have been traced for one size only.
const TRIES: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// A TorchScript model in libtorch.
///
/// A model's `forward` takes the input tensor and gives a tensor, a tuple or list of tensors in the order of the contract's
/// outputs, or a dictionary of tensors by name. A model in stages is several such modules; each takes what the one before
/// gives.
#[derive(Debug)]
pub struct TorchBackend {
    description: Description,
    options: TorchOptions,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// All of it on one device, on the caller's thread.
    Whole { stages: Vec<Stage>, device: Device },
    /// Runs of stages on several devices, a thread each.
    Split(Split),
}

impl TorchBackend {
    /// Reads a model (its stages in order; most have one), checks by a run that it fits the contract, and, with several
    /// devices, splits it over them by measured time and memory.
    ///
    /// # Errors
    /// When libtorch or a device cannot be had, a stage cannot be read, the stages do not fit on the devices, or what
    /// comes out is not what the contract says; the error names expected and found shape.
    pub fn open(stages: &[&[u8]], contract: Contract, options: &TorchOptions) -> Result<Self, BackendError> {
        let engine = engine_class(options)?;
        let body = match options.devices[..] {
            [device] => {
                let load = |model: &&[u8]| Stage::load(model, device, options).map_err(|fault| fault.of_model());
                Body::Whole { stages: stages.iter().map(load).collect::<Result<_, _>>()?, device }
            }
            _ => Body::Split(Split::open(stages, &contract, options)?),
        };
        let description = Description { engine, contract, fixed_batch: None };
        let mut backend = Self { description, options: options.clone(), body };
        backend.try_out()?;
        Ok(backend)
    }

    /// Learns from runs what TorchScript does not say: shapes of outputs, and whether the batch size is open.
    fn try_out(&mut self) -> Result<(), BackendError> {
        let mut first = None;
        for batch in TRIES {
            match self.answer(&vec![0.0; batch * self.description.contract.input_len()], batch) {
                Ok(answer) => {
                    self.settle(&answer, batch)?;
                    first = None;
                    // A size that only happens to run beside its neighbour is the only one.
                    let next = if batch == 1 { 2 } else { batch * 2 };
                    let others = self.answer(&vec![0.0; next * self.description.contract.input_len()], next);
                    let open = match others {
                        Ok(answer) => self.check(&answer, next).is_ok(),
                        Err(error) => matches!(error.of_run(next), BackendError::OutOfMemory { .. }),
                    };
                    self.description.fixed_batch = (!open || batch > 1).then_some(batch);
                    break;
                }
                Err(error) => {
                    let error = error.of_model();
                    if !matches!(error, BackendError::Model { .. }) {
                        return Err(error);
                    }
                    // The first size's words are those that make sense.
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Takes the open sides of the outputs from what came out.
    fn settle(&mut self, answer: &Answer, batch: usize) -> Result<(), BackendError> {
        self.check(answer, batch)?;
        let found: Vec<Vec<usize>> = self
            .pick(answer)?
            .into_iter()
            .map(|(_, tensor)| tensor.size().iter().skip(1).map(|&side| side as usize).collect())
            .collect();
        for (output, item) in self.description.contract.outputs.iter_mut().zip(found) {
            output.item = item;
        }
        Ok(())
    }

    /// Whether every output has the contract's shape.
    fn check(&self, answer: &Answer, batch: usize) -> Result<(), BackendError> {
        for (output, (name, tensor)) in self.description.contract.outputs.iter().zip(self.pick(answer)?) {
            let size = tensor.size();
            let fits = size.len() == output.item.len() + 1
                && size[0] == batch as i64
                && size[1..]
                    .iter()
                    .zip(&output.item)
                    .all(|(&found, &item)| found > 0 && (item == OPEN || found == item as i64));
            if !fits {
                let open = |&side: &usize| if side == OPEN { "?".to_owned() } else { side.to_string() };
                let sides = std::iter::once(batch.to_string()).chain(output.item.iter().map(open));
                let expected = format!("[{}]", sides.collect::<Vec<_>>().join(", "));
                return Err(BackendError::Shape { side: Side::Output, name, expected, found: format!("{size:?}") });
            }
        }
        Ok(())
    }

    /// The contract's outputs among what came out: by name from a dictionary, otherwise by position.
    fn pick<'a>(&self, answer: &'a Answer) -> Result<Vec<(String, &'a Tensor)>, BackendError> {
        let wanted = &self.description.contract.outputs;
        if let Some(names) = &answer.names {
            let found = || names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return wanted
                .iter()
                .map(|output| match (&output.name, &answer.tensors[..]) {
                    (None, [only]) => Ok((names[0].clone(), only)),
                    (None, _) => Err(BackendError::Ambiguous { side: Side::Output, found: found() }),
                    (Some(name), _) => match names.iter().position(|found| found == name) {
                        Some(at) => Ok((name.clone(), &answer.tensors[at])),
                        None => Err(BackendError::NoTensor { side: Side::Output, name: name.clone(), found: found() }),
                    },
                })
                .collect();
        }
        if answer.tensors.len() < wanted.len() || (wanted.len() == 1 && answer.tensors.len() > 1) {
            let found = format!("{} outputs without names", answer.tensors.len());
            return Err(BackendError::Ambiguous { side: Side::Output, found });
        }
        let name = |at: usize| wanted[at].name.clone().unwrap_or_else(|| format!("output {at}"));
        Ok(answer.tensors.iter().take(wanted.len()).enumerate().map(|(at, tensor)| (name(at), tensor)).collect())
    }

    /// One batch through the model; tensors on the host, f32.
    fn answer(&mut self, input: &[f32], batch: usize) -> Result<Answer, StageError> {
        let Self { description, options, body } = self;
        match body {
            Body::Whole { stages, device } => within(*device, options, || {
                // SAFETY: the values outlive the tensor, which does not leave this closure but for what torch has copied:
                // results that are views of the input are copied by `hosted`.
                let fed = unsafe { view(input, &description.contract, batch) };
                let fed = fed.map_err(|fault| StageError::Torch(fault))?;
                let mut tensors = vec![place(&fed, *device, options)?];
                let mut names = None;
                for stage in stages {
                    Answer { tensors, names } = stage.call(tensors)?;
                }
                hosted(Answer { tensors, names }, input)
            }),
            Body::Split(split) => split.answer(input, &description.contract, batch),
        }
    }
}

/// The input as a tensor of torch's, without a copy.
///
/// # Safety
/// `input` must stay as it is for as long as the tensor and views of it are used.
unsafe fn view(input: &[f32], contract: &Contract, batch: usize) -> Result<Tensor, crate::TorchFault> {
    let size: Vec<i64> = std::iter::once(batch).chain(contract.input_item.iter().copied()).map(|d| d as i64).collect();
    let mut strides = vec![1_i64; size.len()];
    for at in (0..size.len().saturating_sub(1)).rev() {
        strides[at] = strides[at + 1] * size[at + 1];
    }
    // SAFETY: the caller's promise; the length has been checked against the contract.
    unsafe { Tensor::f_from_blob(input.as_ptr().cast(), &size, &strides, Kind::Float, tch::Device::Cpu) }
        .map_err(fault("make the input"))
}

/// Brings an input tensor to a device, in the layout of the options.
fn place(fed: &Tensor, device: Device, options: &TorchOptions) -> Result<Tensor, StageError> {
    let failed = |error| StageError::Torch(fault("feed the model")(error));
    let there = if device == Device::Cpu { Ok(fed.shallow_clone()) } else { fed.f_to_device(on(device)) };
    let there = there.map_err(failed)?;
    if options.channels_last && there.dim() == 4 { channels_last(&there).map_err(failed) } else { Ok(there) }
}

/// Brings an answer to the host.
fn hosted(answer: Answer, input: &[f32]) -> Result<Answer, StageError> {
    let range = input.as_ptr_range();
    let host = |(at, tensor): (usize, &Tensor)| {
        let name = answer.names.as_ref().map_or_else(|| format!("output {at}"), |names| names[at].clone());
        let values = to_host(tensor, &name)?;
        let inside = range.contains(&(values.data_ptr() as *const f32));
        let copied = if inside { values.f_detach_copy() } else { Ok(values) };
        copied.map_err(|error| StageError::Torch(fault("fetch the results")(error)))
    };
    let tensors = answer.tensors.iter().enumerate().map(host).collect::<Result<_, _>>()?;
    Ok(Answer { tensors, names: answer.names })
}

impl Backend for TorchBackend {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn run(&mut self, input: &[f32], batch: usize, output: &mut Vec<f32>) -> Result<(), BackendError> {
        self.description.contract.check_input(input, batch)?;
        let answer = self.answer(input, batch).map_err(|error| error.of_run(batch))?;
        self.check(&answer, batch)?;
        let contract = &self.description.contract;
        output.clear();
        output.resize(batch * contract.output_len(), 0.0);
        let mut flat = Vec::new();
        let mut before = 0;
        for ((_, tensor), wanted) in self.pick(&answer)?.into_iter().zip(&contract.outputs) {
            let copied = |error| fault("fetch the results")(error).of_run(batch);
            if contract.outputs.len() == 1 {
                let values = output.len();
                return tensor.f_copy_data(output, values).map_err(copied);
            }
            // An item's outputs lie one after another, a tensor's items do.
            let len = wanted.len();
            flat.resize(batch * len, 0.0_f32);
            tensor.f_copy_data(&mut flat, batch * len).map_err(copied)?;
            for (item, values) in output.chunks_exact_mut(contract.output_len()).zip(flat.chunks_exact(len)) {
                item[before..before + len].copy_from_slice(values);
            }
            before += len;
        }
        Ok(())
    }

    fn memory_bytes(&self) -> Option<u64> {
        let devices = self.options.devices.iter().filter_map(|device| match device {
            Device::Cuda(index) => Some(*index),
            Device::Cpu => None,
        });
        let held: Option<Vec<u64>> =
            devices.map(|index| ffi::memory(index).ok().and_then(|memory| u64::try_from(memory.held).ok())).collect();
        held.filter(|held| !held.is_empty()).map(|held| held.iter().sum())
    }
}
