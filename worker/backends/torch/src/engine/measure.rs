//! What each stage of a model takes, measured on one micro-batch before the model is split.

use std::time::{Duration, Instant};

use fulltime_backend::{BackendError, Contract};
use tch::Tensor;

use super::{
    ffi, place,
    stage::{Stage, StageError, fault, within},
    view,
};
use crate::{Device, StageCost, TorchOptions};

/// Runs of a stage, of which the fastest counts; one more before them pays for lazy initialisation.
const RUNS: usize = 3;

/// Time and memory of each stage on the first of the devices. Only one stage is there at a time: the whole model may fit on
/// no device.
///
/// # Errors
/// When a stage cannot be read or run.
pub fn measure(stages: &[&[u8]], contract: &Contract, options: &TorchOptions) -> Result<Vec<StageCost>, BackendError> {
    let device = options.devices.first().copied().unwrap_or(Device::Cpu);
    let input = vec![0.0; options.micro_batch * contract.input_len()];
    // SAFETY: `input` lives to the end of this function, and so does everything made from it.
    let fed = unsafe { view(&input, contract, options.micro_batch) }.map_err(|fault| fault.of_model())?;
    let mut given = vec![fed];
    let mut costs = Vec::with_capacity(stages.len());
    for (at, model) in stages.iter().enumerate() {
        let cost = within(device, options, || {
            let mut stage = Stage::load(model, device, options).map_err(StageError::Torch)?;
            let laid_out =
                |tensor: &Tensor| if at == 0 { place(tensor, device, options) } else { moved(tensor, device) };
            let inputs = given.iter().map(laid_out).collect::<Result<Vec<_>, _>>()?;
            let mut fastest = Duration::MAX;
            let mut answer = stage.call(clones(&inputs))?;
            if let Device::Cuda(index) = device {
                ffi::forget_peak(index).map_err(StageError::Torch)?;
            }
            for _ in 0..RUNS {
                let begin = Instant::now();
                answer = stage.call(clones(&inputs))?;
                if let Device::Cuda(index) = device {
                    tch::Cuda::synchronize(i64::from(index));
                }
                fastest = fastest.min(begin.elapsed());
            }
            let passing = inputs.iter().chain(&answer.tensors).map(bytes).sum::<u64>();
            let working = match device {
                // Weights are within the peak; they come off again.
                Device::Cuda(index) => {
                    let peak = ffi::memory(index).map_err(StageError::Torch)?.peak;
                    u64::try_from(peak).unwrap_or(0).saturating_sub(model.len() as u64).max(passing)
                }
                // The CPU's allocator does not count; a device of its is a thread, which has all the memory there is.
                Device::Cpu => passing,
            };
            given = answer.tensors.iter().map(|tensor| moved(tensor, Device::Cpu)).collect::<Result<_, _>>()?;
            Ok(StageCost { time: fastest, weights: model.len() as u64, working })
        });
        costs.push(cost.map_err(StageError::of_model)?);
    }
    Ok(costs)
}

/// Bytes of each device's memory that stages may take.
pub fn rooms(options: &TorchOptions) -> Result<Vec<u64>, BackendError> {
    let room = |device: &Device| match device {
        Device::Cpu => Ok(u64::MAX),
        Device::Cuda(index) => {
            let total = ffi::memory(*index).map_err(|fault| fault.of_model())?.total;
            let share = options.memory_fraction.unwrap_or(1.0);
            Ok((total as f64 * share) as u64)
        }
    };
    options.devices.iter().map(room).collect()
}

fn clones(tensors: &[Tensor]) -> Vec<Tensor> {
    tensors.iter().map(Tensor::shallow_clone).collect()
}

fn moved(tensor: &Tensor, device: Device) -> Result<Tensor, StageError> {
    let there = tensor.f_to_device(super::on(device));
    there.map_err(|error| StageError::Torch(fault("move a tensor")(error)))
}

fn bytes(tensor: &Tensor) -> u64 {
    (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64
}
