//! libtorch in this process: loaded for CUDA where that is asked for, set up once, and named by everything about it that can
//! change bits.

use std::{
    ffi::{CStr, CString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use fulltime_backend::{BackendError, Gpu, plain};
use sha2::{Digest as _, Sha256};

use super::ffi;
use crate::{Device, TorchFault, TorchOptions};

/// What this process has been set up for.
struct Loaded {
    /// What torch keeps once a process: all lanes of one must agree on it.
    switches: TorchOptions,
    cuda: bool,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Folder of `libtorch_cuda.so`, where it is not beside `libtorch_cpu.so`: the `torch/lib` of a Python installation.
const FOLDER: &str = "FULLTIME_TORCH_LIB";

/// Sets torch up for these options, or finds that it has been.
///
/// # Errors
/// When CUDA is asked for and cannot be had, or when this process runs torch with other switches already.
pub fn load(options: &TorchOptions) -> Result<(), BackendError> {
    let mut slot = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    // The rest is a model's own.
    let switches = TorchOptions {
        tf32: options.tf32,
        autotune: options.autotune,
        flash: options.flash,
        memory_efficient: options.memory_efficient,
        memory_fraction: options.memory_fraction,
        ..TorchOptions::default()
    };
    let failed = |source: TorchFault| BackendError::Runtime { library: "libtorch".to_owned(), source: source.into() };
    let cuda = options.devices.iter().any(|device| matches!(device, Device::Cuda(_)));
    match &mut *slot {
        Some(loaded) if loaded.switches != switches => {
            let name = |options: &TorchOptions| format!("torch with {}", options.class());
            return Err(BackendError::RuntimeTaken { wanted: name(&switches), loaded: name(&loaded.switches) });
        }
        Some(loaded) => {
            if cuda && !loaded.cuda {
                load_cuda()?;
                loaded.cuda = true;
            }
        }
        None => {
            if cuda {
                load_cuda()?;
            }
            ffi::switches(&switches).map_err(failed)?;
            // Lanes bring their own parallelism, and a thread count would be part of the engine class.
            tch::set_num_threads(1);
            tch::set_num_interop_threads(1);
            *slot = Some(Loaded { switches, cuda });
        }
    }
    for device in &options.devices {
        let Device::Cuda(index) = device else { continue };
        let there = tch::Cuda::device_count();
        if i64::from(*index) >= there {
            let message = format!("there is no `{device}`, torch sees {there} of them");
            return Err(failed(TorchFault { doing: "find the device", message }));
        }
    }
    Ok(())
}

/// Loads `libtorch_cuda` for good: its initialisers register the CUDA kernels with the dispatcher.
fn load_cuda() -> Result<(), BackendError> {
    let folder = std::env::var_os(FOLDER).map(PathBuf::from).or_else(library_folder);
    let path = folder.unwrap_or_default().join("libtorch_cuda.so");
    let failed = |message: String| {
        let fault = TorchFault { doing: "load torch's CUDA half", message };
        BackendError::Runtime { library: path.display().to_string(), source: fault.into() }
    };
    if !path.is_file() {
        let fix = format!("no such file; set {FOLDER} to the `torch/lib` of a torch with CUDA, or use `device=cpu`");
        return Err(failed(fix));
    }
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|error| failed(error.to_string()))?;
    // SAFETY: torch's initialisers make no demands on the caller; the library stays loaded.
    let handle = unsafe { libc::dlopen(text.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        // SAFETY: after a failure this is a C string of the loader's.
        let message = unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned();
        return Err(failed(message));
    }
    if !tch::Cuda::is_available() {
        return Err(failed("loaded, but it finds no GPU: is NVIDIA's driver there?".to_owned()));
    }
    Ok(())
}

/// The folder of libtorch_cpu, with links followed: a prepared folder may hold a link into a Python installation.
fn library_folder() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().filter_map(|line| line.split_once('/')).map(|(_, path)| format!("/{path}"));
    let cpu = path.into_iter().find(|path| path.ends_with("/libtorch_cpu.so"))?;
    Path::new(&cpu).canonicalize().ok()?.parent().map(Path::to_owned)
}

/// The engine class: device, version and build of torch, what computes, and the options' part.
/// `torch-cpu-2.13.0-1f2e3d4c-avx512-fp32`,
/// `torch-cuda-2.13.0-1f2e3d4c-nvidia-h100-80gb-hbm3-sm90-580.95.05-bf16-nhwc`.
///
/// # Errors
/// As [`load`].
pub fn engine_class(options: &TorchOptions) -> Result<String, BackendError> {
    load(options)?;
    let config = ffi::config();
    let build: String = Sha256::digest(config.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let version = config.split("TORCH_VERSION=").nth(1).and_then(|rest| rest.split([',', ' ']).next());
    let version = plain(version.unwrap_or("unknown"));
    let mut devices = options.devices.iter().map(|device| computing(*device)).collect::<Result<Vec<_>, _>>()?;
    devices.dedup();
    let kind = if options.devices.contains(&Device::Cpu) { "cpu" } else { "cuda" };
    Ok(format!("torch-{kind}-{version}-{build}-{}-{}", devices.join("-"), options.class()))
}

fn computing(device: Device) -> Result<String, BackendError> {
    match device {
        Device::Cpu => Ok(instructions().to_owned()),
        Device::Cuda(index) => Gpu::find(index)
            .map(|gpu| gpu.class())
            .map_err(|error| BackendError::Runtime { library: "libtorch".to_owned(), source: error.into() }),
    }
}

/// What oneDNN and torch's own kernels choose their code by.
fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        // Leaf 7, EDX bit 22: AMX for bf16 (Intel SDM, CPUID).
        let amx = std::arch::x86_64::__cpuid_count(7, 0).edx & (1 << 22) != 0;
        match () {
            () if amx && has!("avx512bf16") => "avx512.amx",
            () if has!("avx512bf16") => "avx512.bf16",
            () if has!("avx512f") && has!("avx512bw") && has!("avx512vl") => "avx512",
            () if has!("avx2") && has!("fma") => "avx2",
            () => "sse",
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH
}
