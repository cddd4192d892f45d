//! A model over several devices: a run of its stages on each, micro-batches in a pipeline between them.

use std::sync::Arc;

use fulltime_backend::{BackendError, Contract};
use tch::Tensor;

use super::{
    ffi::{Lane, Mark},
    measure::{measure, rooms},
    on, place,
    stage::{Answer, Stage, StageError, fault, within},
};
use crate::{Build, Device, Failure, Pipeline, TorchFault, TorchOptions, partition};

/// A micro-batch between two devices.
struct Parcel {
    answer: Answer,
    /// On GPUs: where in its lane's work the device before has finished with it.
    mark: Option<Mark>,
}

pub struct Split {
    pipeline: Pipeline<Parcel, StageError>,
    micro_batch: usize,
}

impl std::fmt::Debug for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Split").field("micro_batch", &self.micro_batch).finish_non_exhaustive()
    }
}

/// What the thread of one device is given.
struct Part {
    device: Device,
    /// The one after it, which results are brought to; `None`: to the host.
    next: Option<Device>,
    stages: Vec<Arc<[u8]>>,
    first: bool,
    options: TorchOptions,
}

impl Split {
    pub fn open(stages: &[&[u8]], contract: &Contract, options: &TorchOptions) -> Result<Self, BackendError> {
        let model = |source: crate::PartitionError| BackendError::Model { source: source.into() };
        let costs = measure(stages, contract, options)?;
        let placed = partition(&costs, &rooms(options)?).map_err(model)?;
        // A device without stages takes no part.
        let used: Vec<_> = placed.iter().zip(&options.devices).filter(|(run, _)| !run.is_empty()).collect();
        let builds = used.iter().enumerate().map(|(at, (run, device))| {
            let part = Part {
                device: **device,
                next: used.get(at + 1).map(|(_, device)| **device),
                stages: stages[(*run).clone()].iter().map(|model| Arc::from(*model)).collect(),
                first: at == 0,
                options: options.clone(),
            };
            Box::new(move || part.build()) as Build<Parcel, StageError>
        });
        let pipeline = Pipeline::start(builds.collect()).map_err(|failure| told(failure).of_model())?;
        Ok(Self { pipeline, micro_batch: options.micro_batch })
    }

    pub fn answer(&mut self, input: &[f32], contract: &Contract, batch: usize) -> Result<Answer, StageError> {
        let item = contract.input_len();
        let mut parcels = Vec::with_capacity(batch.div_ceil(self.micro_batch));
        for values in input.chunks(self.micro_batch * item) {
            let size = std::iter::once(values.len() / item).chain(contract.input_item.iter().copied());
            let size: Vec<i64> = size.map(|side| side as i64).collect();
            // A copy: the threads must not depend on how long the caller keeps its buffer.
            let fed = Tensor::f_from_slice(values).and_then(|fed| fed.f_view(&size[..]));
            let fed = fed.map_err(|error| StageError::Torch(fault("make the input")(error)))?;
            parcels.push(Parcel { answer: Answer { tensors: vec![fed], names: None }, mark: None });
        }
        let done = self.pipeline.run(parcels).map_err(told)?;
        let mut answers = done.into_iter().map(|parcel| parcel.answer);
        let Some(mut whole) = answers.next() else { return Err(StageError::NoTensors) };
        let rest: Vec<Answer> = answers.collect();
        for (at, tensor) in whole.tensors.iter_mut().enumerate() {
            let parts = std::iter::once(Some(&*tensor)).chain(rest.iter().map(|answer| answer.tensors.get(at)));
            let parts = parts.collect::<Option<Vec<_>>>().ok_or(StageError::NoTensors)?;
            let joined = Tensor::f_cat(&parts, 0);
            *tensor = joined.map_err(|error| StageError::Torch(fault("join the micro-batches")(error)))?;
        }
        Ok(whole)
    }
}

fn told(failure: Failure<StageError>) -> StageError {
    match failure {
        Failure::Work(error) => error,
        Failure::Gone => {
            let message = "a device's thread has ended".to_owned();
            StageError::Torch(TorchFault { doing: "run the pipeline", message })
        }
    }
}

impl Part {
    /// On the device's thread: its stream, its stages.
    fn build(self) -> Result<crate::Work<Parcel, StageError>, StageError> {
        let lane = match self.device {
            Device::Cuda(index) => Some(Lane::enter(index).map_err(StageError::Torch)?),
            Device::Cpu => None,
        };
        let load = |model: &Arc<[u8]>| Stage::load(model, self.device, &self.options).map_err(StageError::Torch);
        let mut stages = self.stages.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        let Self { device, next, first, options, .. } = self;
        Ok(Box::new(move |parcel: Parcel| {
            within(device, &options, || {
                let Parcel { mut answer, mark } = parcel;
                if let (Some(lane), Some(mark)) = (&lane, &mark) {
                    lane.follow(mark).map_err(StageError::Torch)?;
                    for tensor in &answer.tensors {
                        lane.uses(tensor).map_err(StageError::Torch)?;
                    }
                }
                if first {
                    let fed = answer.tensors.iter().map(|tensor| place(tensor, device, &options));
                    answer.tensors = fed.collect::<Result<_, _>>()?;
                }
                for stage in &mut stages {
                    answer = stage.call(answer.tensors)?;
                }
                hand_over(answer, next, lane.as_ref())
            })
        }))
    }
}

/// Brings results to the next device, on this one's stream, or to the host.
fn hand_over(answer: Answer, next: Option<Device>, lane: Option<&Lane>) -> Result<Parcel, StageError> {
    let Some(next) = next else {
        // Waits for the stream: what leaves the pipeline is there.
        return Ok(Parcel { answer: super::hosted(answer, &[])?, mark: None });
    };
    let Some(lane) = lane else { return Ok(Parcel { answer, mark: None }) };
    // From GPU to GPU torch copies on the stream of the source, directly where they are peers.
    let moved = |tensor: &Tensor| {
        let there = tensor.f_to_device_(on(next), tensor.kind(), true, false);
        there.map_err(|error| StageError::Torch(fault("copy to the next device")(error)))
    };
    let tensors = answer.tensors.iter().map(moved).collect::<Result<_, _>>()?;
    let mark = lane.mark().map_err(StageError::Torch)?;
    Ok(Parcel { answer: Answer { tensors, names: answer.names }, mark: Some(mark) })
}
