//! The edge to CUDA's driver: a [`Device`] that is a GPU. Each lane opens its own, with streams and events of its own in the
//! device's primary context, which libtorch and ONNX Runtime share.

use std::{
    ffi::{CString, c_void},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cudarc::driver::{
    DriverError,
    result::{self, ctx, device, event, module, primary_ctx, stream},
    sys::{self, CUevent_flags, CUevent_wait_flags},
};

use crate::{
    args::{Address, KERNELS, Launch},
    cache::Cache,
    device::{Device, Event, Memory, Pinned},
    error::KernelError,
    host::HostMemory,
    nvrtc::{Compiler, architecture_for},
    source::SOURCE,
};

/// The driver's functions that are called exist since then: 12.8.
const OLDEST_DRIVER: i32 = 12_080;

/// A GPU with the kernels loaded.
pub struct Cuda {
    name: String,
    module: Option<sys::CUmodule>,
    functions: Vec<sys::CUfunction>,
    streams: Vec<sys::CUstream>,
    events: Mutex<Vec<sys::CUevent>>,
    context: Arc<Context>,
}

// SAFETY: handles of the driver may be used from any thread that has made the context current; every call does.
unsafe impl Send for Cuda {}
// SAFETY: likewise; the driver locks.
unsafe impl Sync for Cuda {}

/// The device's primary context, held as long as anything in it.
struct Context {
    device: sys::CUdevice,
    context: sys::CUcontext,
}

// SAFETY: as `Cuda`.
unsafe impl Send for Context {}
// SAFETY: as `Cuda`.
unsafe impl Sync for Context {}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cuda({}, {} streams)", self.name, self.streams.len())
    }
}

fn on_device(action: &'static str) -> impl FnOnce(DriverError) -> KernelError {
    move |source| KernelError::Driver { action, source }
}

fn of_memory(kind: &'static str, bytes: usize) -> impl FnOnce(DriverError) -> KernelError {
    move |source| match source.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => KernelError::OutOfMemory { bytes, kind, source: Some(source) },
        _ => KernelError::Driver { action: "allocate memory", source },
    }
}

impl Context {
    fn retain(ordinal: usize) -> Result<Self, KernelError> {
        // SAFETY: looks for the library; a panic would follow if it were called without being there.
        if !unsafe { sys::is_culib_present() } {
            return Err(KernelError::NoDriver);
        }
        result::init().map_err(on_device("initialise the driver"))?;
        let mut found = 0;
        // SAFETY: writes the number.
        unsafe { sys::cuDriverGetVersion(&mut found) }.result().map_err(on_device("ask the driver's version"))?;
        if found < OLDEST_DRIVER {
            return Err(KernelError::DriverTooOld { found, needed: OLDEST_DRIVER });
        }
        let count = device::get_count().map_err(on_device("count devices"))?.max(0) as usize;
        if ordinal >= count {
            return Err(KernelError::NoDevice { ordinal, found: count });
        }
        let device = device::get(ordinal as i32).map_err(on_device("find the device"))?;
        // SAFETY: the device comes from the driver.
        let context = unsafe { primary_ctx::retain(device) }.map_err(on_device("make a context"))?;
        Ok(Self { device, context })
    }

    fn bind(&self) -> Result<(), KernelError> {
        // SAFETY: the context is held.
        unsafe { ctx::set_current(self.context) }.map_err(on_device("make the context current"))
    }

    fn attribute(&self, attribute: sys::CUdevice_attribute) -> Result<u32, KernelError> {
        // SAFETY: the device comes from the driver.
        let value = unsafe { device::get_attribute(self.device, attribute) };
        value.map(|value| value.max(0) as u32).map_err(on_device("ask an attribute"))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained in `retain`, released once. An error says that the device is gone, which is no news here.
        let _ = unsafe { primary_ctx::release(self.device) };
    }
}

impl Cuda {
    /// Opens device number `ordinal` with so many streams, and loads the kernels, compiled for it. The calling thread should be
    /// pinned beforehand.
    ///
    /// # Errors
    /// No driver or one that is too old, no such device, a compiler that does not know it, or a device that is lost.
    pub fn open(ordinal: usize, streams: usize, compiler: &Compiler, cache: &Cache) -> Result<Self, KernelError> {
        let context = Arc::new(Context::retain(ordinal)?);
        context.bind()?;
        use sys::CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
        };
        let capability = [context.attribute(MAJOR)?, context.attribute(MINOR)?];
        let architecture = architecture_for(capability, compiler.architectures())?;
        let ptx = cache.ptx(compiler, &SOURCE, architecture)?;
        let name = device::get_name(context.device).map_err(on_device("ask the device's name"))?;
        // From here on dropping `cuda` undoes what was done.
        let mut cuda = Self {
            name,
            module: None,
            functions: Vec::new(),
            streams: Vec::new(),
            events: Mutex::new(Vec::new()),
            context,
        };
        let image = CString::new(ptx.text).unwrap_or_default();
        // SAFETY: PTX with the zero byte that ends it.
        let module = unsafe { module::load_data(image.as_ptr().cast()) }.map_err(on_device("load the kernels"))?;
        cuda.module = Some(module);
        for kernel in KERNELS {
            let name = CString::new(kernel).unwrap_or_default();
            // SAFETY: the module was loaded above.
            let function = unsafe { module::get_function(module, name) };
            cuda.functions.push(function.map_err(on_device("find a kernel"))?);
        }
        for _ in 0..streams.max(1) {
            let made = stream::create(stream::StreamKind::NonBlocking).map_err(on_device("make a stream"))?;
            cuda.streams.push(made);
        }
        Ok(cuda)
    }

    /// For engines that put work of their own on it.
    #[must_use]
    pub fn raw_stream(&self, stream: usize) -> *mut c_void {
        self.streams[stream].cast()
    }

    fn handle(&self, event: Event) -> sys::CUevent {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)[event.0]
    }
}

impl Device for Cuda {
    fn name(&self) -> &str {
        &self.name
    }

    fn streams(&self) -> usize {
        self.streams.len()
    }

    fn memory(&self, bytes: usize) -> Result<Memory, KernelError> {
        self.context.bind()?;
        // SAFETY: freed by its owner, once.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(of_memory("device", bytes))?;
        let owner = DeviceMemory { address, context: Arc::clone(&self.context) };
        Ok(Memory::new(address, bytes, Box::new(owner)))
    }

    fn pinned(&self, bytes: usize) -> Result<Pinned, KernelError> {
        let memory = HostMemory::new(bytes)?;
        self.context.bind()?;
        // SAFETY: whole pages that stay mapped until they are unregistered (see `Pinned`).
        let registered = unsafe { sys::cuMemHostRegister_v2(memory.as_ptr().cast(), memory.len(), 0) };
        registered.result().map_err(of_memory("pinned host", bytes))?;
        let owner = Registered { address: memory.as_ptr() as usize, context: Arc::clone(&self.context) };
        Ok(Pinned::new(memory, Some(Box::new(owner))))
    }

    fn event(&self) -> Result<Event, KernelError> {
        self.context.bind()?;
        // The host sleeps while it waits: the cores belong to decoders.
        let made = event::create(CUevent_flags::CU_EVENT_BLOCKING_SYNC).map_err(on_device("make an event"))?;
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(made);
        Ok(Event(events.len() - 1))
    }

    unsafe fn copy_in(&self, stream: usize, from: *const u8, to: Address, len: usize) -> Result<(), KernelError> {
        self.context.bind()?;
        // SAFETY: the caller's promise.
        let copied = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.cast(), len, self.streams[stream]) };
        copied.result().map_err(on_device("copy in"))
    }

    unsafe fn copy_out(&self, stream: usize, from: Address, to: *mut u8, len: usize) -> Result<(), KernelError> {
        self.context.bind()?;
        // SAFETY: the caller's promise.
        let copied = unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from, len, self.streams[stream]) };
        copied.result().map_err(on_device("copy out"))
    }

    unsafe fn launch(&self, stream: usize, launch: &Launch) -> Result<(), KernelError> {
        self.context.bind()?;
        let function = self.functions[launch.number()];
        let shape = launch.shape();
        let [[gx, gy, gz], [bx, by, bz]] = [shape.grid, shape.block];
        let mut arguments = [launch.argument().cast_mut()];
        // SAFETY: the driver copies the argument before it returns; the addresses in it are the caller's promise.
        unsafe { result::launch_kernel(function, (gx, gy, gz), (bx, by, bz), 0, self.streams[stream], &mut arguments) }
            .map_err(on_device("launch a kernel"))
    }

    fn record(&self, stream: usize, event: Event) -> Result<(), KernelError> {
        self.context.bind()?;
        // SAFETY: both live as long as `self`.
        unsafe { event::record(self.handle(event), self.streams[stream]) }.map_err(on_device("record an event"))
    }

    fn wait(&self, stream: usize, event: Event) -> Result<(), KernelError> {
        self.context.bind()?;
        let flags = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: both live as long as `self`.
        unsafe { stream::wait_event(self.streams[stream], self.handle(event), flags) }
            .map_err(on_device("wait on a stream"))
    }

    fn has_passed(&self, event: Event) -> Result<bool, KernelError> {
        self.context.bind()?;
        // SAFETY: lives as long as `self`.
        match unsafe { event::query(self.handle(event)) } {
            Ok(()) => Ok(true),
            Err(DriverError(sys::CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
            Err(source) => Err(KernelError::Driver { action: "ask for an event", source }),
        }
    }

    fn finish(&self, event: Event) -> Result<(), KernelError> {
        self.context.bind()?;
        // SAFETY: lives as long as `self`.
        unsafe { event::synchronize(self.handle(event)) }.map_err(on_device("wait for an event"))
    }

    fn between(&self, earlier: Event, later: Event) -> Result<Duration, KernelError> {
        self.context.bind()?;
        // SAFETY: both live as long as `self` and have passed.
        let milliseconds = unsafe { event::elapsed(self.handle(earlier), self.handle(later)) }
            .map_err(on_device("read the time of an event"))?;
        Ok(Duration::from_secs_f64((f64::from(milliseconds) / 1e3).max(0.0)))
    }

    fn synchronize(&self) -> Result<(), KernelError> {
        self.context.bind()?;
        for &stream in &self.streams {
            // SAFETY: lives as long as `self`.
            unsafe { stream::synchronize(stream) }.map_err(on_device("wait for a stream"))?;
        }
        Ok(())
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        if self.context.bind().is_err() {
            return;
        }
        // SAFETY: made by this and destroyed once; the owner of what they work on has waited for it.
        unsafe {
            for &event in self.events.get_mut().unwrap_or_else(PoisonError::into_inner).iter() {
                let _ = event::destroy(event);
            }
            for &stream in &self.streams {
                let _ = stream::destroy(stream);
            }
            if let Some(module) = self.module {
                let _ = module::unload(module);
            }
        }
    }
}

struct DeviceMemory {
    address: sys::CUdeviceptr,
    context: Arc<Context>,
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: allocated by `memory`, freed once. Of a device that is lost nothing is left to free.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

struct Registered {
    address: usize,
    context: Arc<Context>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: registered by `pinned`, and still mapped.
            let _ = unsafe { sys::cuMemHostUnregister(self.address as *mut c_void) }.result();
        }
    }
}
