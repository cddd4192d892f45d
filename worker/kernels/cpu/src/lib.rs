//! Runs the kernels' own source on the processor. Tests compare it with the references, benches run it where there is no
//! GPU; no product binary has it.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_uint, c_void},
    path::Path,
};

use fulltime_kernels::Launch;

mod device;

pub use device::Processor;

/// A double of CUDA's driver: loaded into a process beforehand, it is what that process takes for `libcuda.so.1`. It does at
/// once what a GPU would do later, and is strict.
#[must_use]
pub fn driver_double() -> &'static Path {
    Path::new(env!("FULLTIME_CUDA_DOUBLE"))
}

unsafe extern "C" {
    fn fulltime_kernels_args(name: *const c_char) -> usize;
    fn fulltime_kernels_run(
        name: *const c_char,
        grid: *const c_uint,
        block: *const c_uint,
        args: *const c_void,
    ) -> c_int;
}

/// Bytes of a kernel's argument as the C compiler sees it; `None` of a kernel that is not in the source.
#[must_use]
pub fn argument_len(kernel: &str) -> Option<usize> {
    let name = CString::new(kernel).ok()?;
    // SAFETY: reads the name.
    Some(unsafe { fulltime_kernels_args(name.as_ptr()) }).filter(|&len| len > 0)
}

/// Runs every thread of the launch's grid, one after another.
///
/// # Safety
/// The argument's addresses must be those of this process's memory, as large as the kernel needs, and nobody else may use
/// what is written until this returns.
///
/// # Panics
/// When the source has no such kernel.
pub unsafe fn run(launch: &Launch) {
    let shape = launch.shape();
    let name = CString::new(launch.kernel()).unwrap_or_default();
    // SAFETY: promised by the caller.
    let ran =
        unsafe { fulltime_kernels_run(name.as_ptr(), shape.grid.as_ptr(), shape.block.as_ptr(), launch.argument()) };
    assert!(ran != 0, "no kernel {}", CStr::to_string_lossy(&name));
}
