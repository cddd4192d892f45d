//! One TorchScript module on one device: tensors in, tensors out.

use fulltime_backend::{BackendError, Side};
use tch::{CModule, IValue, Kind, TchError, Tensor};

use super::ffi;
use crate::{Device, TorchFault, TorchOptions};

/// What a module gives: its tensors, with names where it gives a dictionary.
#[derive(Debug)]
pub struct Answer {
    pub tensors: Vec<Tensor>,
    pub names: Option<Vec<String>>,
}

#[derive(Debug)]
pub struct Stage {
    module: CModule,
    /// Whether it gives a single tensor; `None` before the first call.
    single: Option<bool>,
}

pub fn on(device: Device) -> tch::Device {
    match device {
        Device::Cpu => tch::Device::Cpu,
        Device::Cuda(index) => tch::Device::Cuda(index as usize),
    }
}

pub fn fault(doing: &'static str) -> impl Fn(TchError) -> TorchFault {
    move |error| TorchFault::new(doing, &error.to_string())
}

impl Stage {
    /// Reads a module onto a device.
    pub fn load(model: &[u8], device: Device, options: &TorchOptions) -> Result<Self, TorchFault> {
        // The profiling executor rewrites a graph after its first runs, with other bits from then on: what runs is the graph
        // as it was exported. (A property of the thread.)
        tch::jit::f_set_graph_executor_optimize(false).map_err(fault("set up TorchScript"))?;
        let mut module =
            CModule::load_data_on_device(&mut &model[..], on(device)).map_err(fault("read TorchScript"))?;
        module.f_set_eval().map_err(fault("set the model to evaluation"))?;
        if options.channels_last {
            // Frozen modules have no parameters any more, only constants: torch lays those out by itself, at every run.
            for (_, mut weights) in module.named_parameters().map_err(fault("list the weights"))? {
                if weights.dim() == 4 {
                    let laid = tch::no_grad(|| channels_last(&weights)).map_err(fault("lay out the weights"))?;
                    weights.f_set_data(&laid).map_err(fault("lay out the weights"))?;
                }
            }
        }
        Ok(Self { module, single: None })
    }

    /// Runs the module. Within a scope of its device.
    pub fn call(&mut self, inputs: Vec<Tensor>) -> Result<Answer, StageError> {
        let failed = |error| StageError::Torch(fault("run the model")(error));
        if self.single == Some(true) {
            // tch forgets to free its handles on the inputs when the other call fails, and with them device memory just
            // when that has run out.
            let tensor = self.module.forward_ts(&inputs).map_err(failed)?;
            return Ok(Answer { tensors: vec![tensor], names: None });
        }
        let inputs: Vec<IValue> = inputs.into_iter().map(IValue::Tensor).collect();
        let given = self.module.forward_is(&inputs).map_err(failed)?;
        self.single = Some(matches!(given, IValue::Tensor(_)));
        answer(given).ok_or(StageError::NoTensors)
    }
}

/// Why a stage gave nothing usable.
#[derive(Debug)]
pub enum StageError {
    Torch(TorchFault),
    /// What it gave is not tensors, in a tuple, list or dictionary at most.
    NoTensors,
    /// In the words of all backends already.
    Backend(BackendError),
}

impl StageError {
    pub fn of_run(self, batch: usize) -> BackendError {
        match self {
            Self::Torch(fault) => fault.of_run(batch),
            Self::NoTensors => no_tensors(),
            Self::Backend(error) => error,
        }
    }

    pub fn of_model(self) -> BackendError {
        match self {
            Self::Torch(fault) => fault.of_model(),
            Self::NoTensors => no_tensors(),
            Self::Backend(error) => error,
        }
    }
}

fn no_tensors() -> BackendError {
    let found = "what is no tensor, nor a tuple, list or dictionary of tensors".to_owned();
    BackendError::ElementType { side: Side::Output, name: "forward".to_owned(), found }
}

fn answer(given: IValue) -> Option<Answer> {
    let tensor = |value| if let IValue::Tensor(tensor) = value { Some(tensor) } else { None };
    let unnamed = |tensors| Some(Answer { tensors, names: None });
    match given {
        IValue::Tensor(tensor) => unnamed(vec![tensor]),
        IValue::TensorList(tensors) => unnamed(tensors),
        IValue::Tuple(values) | IValue::GenericList(values) => {
            unnamed(values.into_iter().map(tensor).collect::<Option<_>>()?)
        }
        IValue::GenericDict(entries) => {
            let (mut names, mut tensors) = (Vec::new(), Vec::new());
            for (key, value) in entries {
                let IValue::String(name) = key else { return None };
                names.push(name);
                tensors.push(tensor(value)?);
            }
            Some(Answer { tensors, names: Some(names) })
        }
        _ => None,
    }
}

/// The same values with the channels innermost in memory: shape `[n, c, h, w]` as before.
pub fn channels_last(tensor: &Tensor) -> Result<Tensor, TchError> {
    tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
}

/// Values of an output tensor on the host, as f32.
pub fn to_host(tensor: &Tensor, name: &str) -> Result<Tensor, StageError> {
    let failed = |error| StageError::Torch(fault("fetch the results")(error));
    match tensor.kind() {
        // What autocast leaves behind.
        Kind::Float | Kind::Half | Kind::BFloat16 => {}
        other => {
            let (side, name, found) = (Side::Output, name.to_owned(), format!("{other:?}").to_lowercase());
            return Err(StageError::Backend(BackendError::ElementType { side, name, found }));
        }
    }
    let values = tensor.f_to_kind(Kind::Float).and_then(|values| values.f_to_device(tch::Device::Cpu));
    values.and_then(|values| values.f_contiguous()).map_err(failed)
}

/// Runs `work` in a scope of the device, and when memory runs out gives back what the allocator has kept for later.
pub fn within<T>(
    device: Device,
    options: &TorchOptions,
    work: impl FnOnce() -> Result<T, StageError>,
) -> Result<T, StageError> {
    let result = {
        let _scope = ffi::Scope::enter(device, options).map_err(StageError::Torch)?;
        tch::no_grad(work)
    };
    if let (Err(StageError::Torch(fault)), Device::Cuda(_)) = (&result, device)
        && matches!(fault.clone().of_run(1), BackendError::OutOfMemory { .. })
    {
        // Once, where it helps: fragments of other sizes are what a smaller batch would run into.
        let _ = ffi::empty_cache();
    }
    result
}
