//! The calls to CUDA's driver, made to a double of it that is strict: every handle, address and length is checked, kernels
//! really run (on the processor), and what is made is counted. Not shown by it: anything that happens later than it was asked for.

use std::{
    ffi::{CString, c_char, c_int},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use fulltime_common::process;
use fulltime_kernels::{
    Cache, Compiler, Conveyor, Cuda, Device, FIVE_STREAMS, KernelError, Kind, Output, SOURCE, THREE_STREAMS,
};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::story::{OnHost, OnStream, load, run, standing};

/// The double's own functions. It has one state, so tests take turns.
struct Double {
    parts: &'static Parts,
    _turn: MutexGuard<'static, ()>,
}

struct Parts {
    library: Library,
    compiler: Compiler,
    cache: tempfile::TempDir,
}

/// What may be alive: device memory, pinned memory, streams, events, contexts, modules.
const KINDS: c_int = 6;

impl Double {
    /// `None`, said aloud, without a compiler for the kernels or beside a real driver.
    fn take() -> Option<Self> {
        static TURN: Mutex<()> = Mutex::new(());
        static PARTS: OnceLock<Option<Parts>> = OnceLock::new();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = PARTS.get_or_init(Parts::load).as_ref()?;
        Some(Self { parts, _turn: turn })
    }

    fn open(&self, ordinal: usize) -> Result<Cuda, KernelError> {
        Cuda::open(ordinal, 5, &self.parts.compiler, &Cache::new(self.parts.cache.path()))
    }

    fn alive(&self) -> Vec<c_int> {
        // SAFETY: the function has that signature.
        let alive = unsafe { self.parts.library.get::<unsafe extern "C" fn(c_int) -> c_int>(b"double_alive") }.unwrap();
        // SAFETY: likewise.
        (0..KINDS).map(|kind| unsafe { alive(kind) }).collect()
    }

    /// Lets a call fail, the `after`th from now on counted from 0.
    fn fail(&self, function: &str, code: c_int, after: c_int) {
        let name = CString::new(function).unwrap().into_raw();
        type Fail = unsafe extern "C" fn(*const c_char, c_int, c_int);
        // SAFETY: the function has that signature, and keeps the name, which is never freed.
        unsafe { self.parts.library.get::<Fail>(b"double_fail").unwrap()(name, code, after) };
    }

    fn version(&self, version: c_int) {
        // SAFETY: the function has that signature.
        unsafe { self.parts.library.get::<unsafe extern "C" fn(c_int)>(b"double_version").unwrap()(version) };
    }
}

impl Parts {
    fn load() -> Option<Self> {
        let Some(path) = process::nvrtc() else {
            println!("skipped: no NVRTC here, `cargo xtask test` brings one");
            return None;
        };
        // SAFETY: looks for a driver.
        if unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW) }.is_ok() {
            println!("skipped: a real CUDA driver is here");
            return None;
        }
        // NVRTC asks the driver, where one is loaded, for what nobody has documented: it compiles before.
        let (compiler, cache) = (Compiler::load(&path).unwrap(), tempfile::tempdir().unwrap());
        Cache::new(cache.path()).ptx(&compiler, &SOURCE, 86).unwrap();
        // SAFETY: a library of ours without initialisers.
        let library = unsafe { Library::open(Some(fulltime_kernels_cpu::driver_double()), RTLD_NOW | RTLD_GLOBAL) };
        Some(Self { library: library.unwrap(), compiler, cache })
    }
}

/// A few batches, as far as they get.
fn some(double: &Double) -> Result<Vec<Output>, KernelError> {
    let device = double.open(0)?;
    let mut conveyor = Conveyor::new(&device, Box::new(OnStream), load(), standing(2, THREE_STREAMS))?;
    let mut outputs = Vec::new();
    for _ in 0..3 {
        conveyor.send(2)?;
        outputs.extend(conveyor.take()?);
    }
    Ok(outputs)
}

#[test]
fn batches_equal_the_references_and_everything_is_given_back() {
    let Some(double) = Double::take() else { return };
    let device = double.open(0).unwrap();
    assert_eq!((device.name(), device.streams()), ("a double of a GPU", 5));
    for slots in [1, 3] {
        for streams in [THREE_STREAMS, FIVE_STREAMS] {
            let mut conveyor = Conveyor::new(&device, Box::new(OnStream), load(), standing(slots, streams)).unwrap();
            run(&mut conveyor, slots);
            assert_eq!(conveyor.timeline().len(), 8 * 5);
            drop(conveyor);
            run(&mut Conveyor::new(&device, Box::new(OnHost), load(), standing(slots, streams)).unwrap(), slots);
        }
    }
    drop(device);
    assert_eq!(double.alive(), [0; 6]);
}

#[test]
fn whatever_call_fails_is_an_error_and_nothing_is_left_behind() {
    let Some(double) = Double::take() else { return };
    let good = some(&double).unwrap();
    let calls = [
        "cuInit",
        "cuDriverGetVersion",
        "cuDeviceGetCount",
        "cuDeviceGet",
        "cuDevicePrimaryCtxRetain",
        "cuDeviceGetAttribute",
        "cuDeviceGetName",
        "cuModuleLoadData",
        "cuModuleGetFunction",
        "cuStreamCreate",
        "cuStreamWaitEvent",
        "cuStreamSynchronize",
        "cuEventCreate",
        "cuEventRecord",
        "cuEventSynchronize",
        "cuEventElapsedTime_v2",
        "cuMemAlloc_v2",
        "cuMemHostRegister_v2",
        "cuMemcpyHtoDAsync_v2",
        "cuMemcpyDtoHAsync_v2",
        "cuLaunchKernel",
    ];
    // 719: the kernel has failed, and with it the context.
    const LAUNCH_FAILED: c_int = 719;
    for call in calls {
        let mut failures = 0;
        for after in [0, 1, 5] {
            double.fail(call, LAUNCH_FAILED, after);
            match some(&double) {
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Unfit, "{call}: {error}");
                    failures += 1;
                }
                // Some are called once.
                Ok(outputs) => assert!(outputs == good && after > 0, "{call} after {after}"),
            }
            double.fail("none", 0, 0);
            assert_eq!(double.alive(), [0; 6], "{call} after {after}");
        }
        assert!(failures > 0, "{call} is never called");
    }
}

#[test]
fn too_little_memory_is_told_apart_from_a_sick_device() {
    let Some(double) = Double::take() else { return };
    for (call, text) in
        [("cuMemAlloc_v2", "bytes of device memory"), ("cuMemHostRegister_v2", "bytes of pinned host memory")]
    {
        for after in 0..5 {
            double.fail(call, 2, after);
            let error = some(&double).unwrap_err();
            assert_eq!(error.kind(), Kind::OutOfMemory, "{error}");
            assert!(error.to_string().contains(text), "{error}");
            assert_eq!(double.alive(), [0; 6]);
        }
    }
}

#[test]
fn a_device_that_is_not_there_and_a_driver_that_is_too_old_are_said() {
    let Some(double) = Double::take() else { return };
    assert_eq!(double.open(1).unwrap_err().to_string(), "no CUDA device 1: the driver has 1");
    double.version(12_040);
    let error = double.open(0).unwrap_err();
    double.version(13_000);
    assert_eq!(error.to_string(), "the CUDA driver is too old: it does 12.4, 12.8 is needed");
    assert_eq!(error.kind(), Kind::Runtime);
    double.fail("cuLaunchKernel", 719, 3);
    let error = some(&double).unwrap_err();
    assert_eq!(error.to_string(), "launch a kernel on the CUDA device");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("719"), "{error:?}");
}
