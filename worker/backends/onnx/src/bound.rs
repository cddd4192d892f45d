//! Input and outputs that stay on the GPU: the input is copied once into a tensor of the device's own, which is used again
//! for every batch of its size, and outputs are taken from where the session leaves them, without a copy and a wait for
//! each. On the CPU there is nothing to bind: tensors lie where the caller has them.

use fulltime_backend::BackendError;
use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, Session, SessionOutputs},
    value::{Tensor, TensorRef},
};

use crate::{Provider, runtime::Runtime};

/// Bindings of one session.
#[derive(Debug)]
pub struct Bound {
    binding: IoBinding,
    /// The device's input tensor and its shape.
    input: Option<(Vec<i64>, Tensor<f32>)>,
    name: String,
    allocator: Allocator,
}

impl Bound {
    /// Binds the outputs of a session on a GPU; `None` on the CPU.
    pub fn new(session: &Session, runtime: &Runtime, outputs: &[String]) -> Result<Option<Self>, BackendError> {
        match runtime.provider() {
            Provider::Auto | Provider::Cpu => return Ok(None),
            Provider::Cuda | Provider::TensorRt => {}
        }
        let failed = |error: ort::Error| BackendError::Run { batch: 1, source: error.into() };
        let bind = || -> ort::Result<Self> {
            let mut binding = session.create_binding()?;
            // Pinned host memory, which the device writes to by itself: results are needed on the host.
            let pinned = || {
                let (device, kind) = (AllocationDevice::CUDA_PINNED, MemoryType::CPUOutput);
                MemoryInfo::new(device, runtime.device(), AllocatorType::Device, kind)
            };
            for name in outputs {
                binding.bind_output_to_device(name, &pinned()?)?;
            }
            let own =
                MemoryInfo::new(AllocationDevice::CUDA, runtime.device(), AllocatorType::Device, MemoryType::Default)?;
            let allocator = Allocator::new(session, own)?;
            let name = session.inputs().first().map(|input| input.name().to_owned()).unwrap_or_default();
            Ok(Self { binding, input: None, name, allocator })
        };
        bind().map(Some).map_err(failed)
    }

    /// Runs a batch that lies on the host.
    pub fn run<'s>(
        &'s mut self,
        session: &'s mut Session,
        shape: &[i64],
        values: &[f32],
    ) -> ort::Result<SessionOutputs<'s>> {
        if self.input.as_ref().is_none_or(|(known, _)| known != shape) {
            let tensor = Tensor::<f32>::new(&self.allocator, shape)?;
            self.binding.bind_input(&self.name, &tensor)?;
            self.input = Some((shape.to_vec(), tensor));
        }
        if let Some((_, tensor)) = &mut self.input {
            TensorRef::from_array_view((shape, values))?.copy_into(&mut *tensor)?;
        }
        let outputs = session.run_binding(&self.binding)?;
        self.binding.synchronize_outputs()?;
        Ok(outputs)
    }
}
