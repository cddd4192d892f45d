//! What of a GPU can change bits, for the engine classes of the backends that run on one: its name, compute capability and
//! driver, as CUDA's driver library tells them. Loaded at run time; a machine without one has no GPU.

use std::ffi::{CStr, c_char, c_int};

/// One GPU, by CUDA's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// 90 for 9.0.
    pub capability: u32,
    /// `580.95.05`.
    pub driver: String,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    #[error("load `{DRIVER}`: NVIDIA's driver is not installed, or not passed into this container")]
    NoDriver(#[source] libloading::Error),
    #[error("`{call}` of `{DRIVER}` failed with CUDA error {code}")]
    Call { call: &'static str, code: c_int },
}

const DRIVER: &str = "libcuda.so.1";
/// CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
const CAPABILITY: [c_int; 2] = [75, 76];

impl Gpu {
    /// Asks the driver.
    ///
    /// # Errors
    /// No driver, or no such GPU.
    pub fn find(index: u32) -> Result<Self, GpuError> {
        // SAFETY: the driver's initialisers make no demands on the caller.
        let driver = unsafe { libloading::Library::new(DRIVER) }.map_err(GpuError::NoDriver)?;
        let done = |call, code: c_int| if code == 0 { Ok(()) } else { Err(GpuError::Call { call, code }) };
        // SAFETY: these functions have had these types since CUDA 2.
        let (init, get, get_name, attribute) = unsafe {
            (
                driver.get::<unsafe extern "C" fn(u32) -> c_int>(b"cuInit").map_err(GpuError::NoDriver)?,
                driver
                    .get::<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>(b"cuDeviceGet")
                    .map_err(GpuError::NoDriver)?,
                driver
                    .get::<unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int>(b"cuDeviceGetName")
                    .map_err(GpuError::NoDriver)?,
                driver
                    .get::<unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int>(b"cuDeviceGetAttribute")
                    .map_err(GpuError::NoDriver)?,
            )
        };
        let (mut device, mut name, mut parts) = (0, [0 as c_char; 256], [0 as c_int; 2]);
        // SAFETY: every place that is written to is there and as long as said.
        unsafe {
            done("cuInit", init(0))?;
            done("cuDeviceGet", get(&raw mut device, c_int::try_from(index).unwrap_or(c_int::MAX)))?;
            done("cuDeviceGetName", get_name(name.as_mut_ptr(), 256, device))?;
            for (part, which) in parts.iter_mut().zip(CAPABILITY) {
                done("cuDeviceGetAttribute", attribute(part, which, device))?;
            }
        }
        name[255] = 0;
        // SAFETY: ended by the line above at the latest.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let version = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
        let driver = driver_version(&version).unwrap_or("unknown").to_owned();
        Ok(Self { name, capability: parts[0].unsigned_abs() * 10 + parts[1].unsigned_abs(), driver })
    }

    /// As in an engine class: `nvidia-h100-80gb-hbm3-sm90-580.95.05`.
    #[must_use]
    pub fn class(&self) -> String {
        format!("{}-sm{}-{}", plain(&self.name), self.capability, plain(&self.driver))
    }
}

/// `580.95.05` out of `NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue ...`.
fn driver_version(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("NVRM version"))?;
    line.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))
}

/// Only what an engine class may hold: lower case, digits, dots, single hyphens.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' | '.' => plain.push(c),
            _ if !plain.ends_with('-') => plain.push('-'),
            _ => {}
        }
    }
    plain.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_named_by_its_kernel_module() {
        let text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder)\n\
                    GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n";
        assert_eq!(driver_version(text), Some("580.95.05"));
        let older = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Fri Jan 26\n";
        assert_eq!(driver_version(older), Some("535.161.08"));
        assert_eq!(driver_version("nothing"), None);
    }

    #[test]
    fn a_gpu_is_named_as_engine_classes_allow() {
        let gpu = Gpu { name: "NVIDIA H100  80GB HBM3".into(), capability: 90, driver: "580.95.05".into() };
        assert_eq!(gpu.class(), "nvidia-h100-80gb-hbm3-sm90-580.95.05");
        assert_eq!(plain("2.13.0+cu130"), "2.13.0-cu130");
    }

    #[test]
    fn without_a_driver_that_is_what_is_said() {
        match Gpu::find(0) {
            Ok(gpu) => println!("found {gpu:?}"),
            Err(error @ GpuError::NoDriver(_)) => assert!(error.to_string().contains("driver is not installed")),
            Err(GpuError::Call { call, code }) => println!("a driver without a GPU: {call} {code}"),
        }
    }
}
