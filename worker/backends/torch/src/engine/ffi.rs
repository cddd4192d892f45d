//! The shim (`shim/fulltime_torch.cpp`): what tch has no call for, behind safe names.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr::null_mut,
};

use tch::Tensor;

use crate::{Device, Precision, TorchFault, TorchOptions};

unsafe extern "C" {
    fn ft_free(message: *mut c_char);
    fn ft_config() -> *mut c_char;
    fn ft_switches(tf32: bool, autotune: bool, flash: bool, memory_efficient: bool) -> *mut c_char;
    fn ft_memory_fraction(fraction: f64) -> *mut c_char;
    fn ft_memory(cuda: c_int, held: *mut i64, peak: *mut i64, total: *mut i64) -> *mut c_char;
    fn ft_forget_peak(cuda: c_int) -> *mut c_char;
    fn ft_empty_cache() -> *mut c_char;
    fn ft_scope_begin(cuda: c_int, inference: bool, precision: c_int, scope: *mut *mut c_void) -> *mut c_char;
    fn ft_scope_end(scope: *mut c_void);
    fn ft_lane_new(cuda: c_int, lane: *mut *mut c_void) -> *mut c_char;
    fn ft_lane_free(lane: *mut c_void);
    fn ft_lane_enter(lane: *mut c_void) -> *mut c_char;
    fn ft_lane_follow(lane: *mut c_void, mark: *const c_void) -> *mut c_char;
    fn ft_lane_uses(lane: *mut c_void, tensor: *const c_void) -> *mut c_char;
    fn ft_mark_new(lane: *mut c_void, mark: *mut *mut c_void) -> *mut c_char;
    fn ft_mark_free(mark: *mut c_void);
}

/// Takes a C string of the shim's.
fn take(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the shim gives null or a C string that it has allocated for us.
    let owned = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: as above; it is not used any more.
    unsafe { ft_free(text) };
    Some(owned)
}

fn done(doing: &'static str, message: *mut c_char) -> Result<(), TorchFault> {
    take(message).map_or(Ok(()), |message| Err(TorchFault::new(doing, &message)))
}

fn number(device: Device) -> c_int {
    match device {
        Device::Cpu => -1,
        Device::Cuda(index) => c_int::try_from(index).unwrap_or(c_int::MAX),
    }
}

/// Commit, compilers and libraries of libtorch, and the instructions that it uses here.
pub fn config() -> String {
    // SAFETY: takes nothing; the string is ours.
    take(unsafe { ft_config() }).unwrap_or_default()
}

/// Sets what torch keeps once a process.
pub fn switches(options: &TorchOptions) -> Result<(), TorchFault> {
    // SAFETY: plain values.
    done("set torch's switches", unsafe {
        ft_switches(options.tf32, options.autotune, options.flash, options.memory_efficient)
    })?;
    match options.memory_fraction {
        // SAFETY: a plain value.
        Some(share) => done("limit torch's memory", unsafe { ft_memory_fraction(share) }),
        None => Ok(()),
    }
}

/// Bytes of a GPU.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// What the allocator holds.
    pub held: i64,
    /// Most that tensors have taken since the last [`forget_peak`].
    pub peak: i64,
    pub total: i64,
}

pub fn memory(cuda: u32) -> Result<Memory, TorchFault> {
    let mut memory = Memory::default();
    // SAFETY: the three places are there for as long as the call takes.
    let message = unsafe {
        ft_memory(number(Device::Cuda(cuda)), &raw mut memory.held, &raw mut memory.peak, &raw mut memory.total)
    };
    done("ask for memory", message).map(|()| memory)
}

pub fn forget_peak(cuda: u32) -> Result<(), TorchFault> {
    // SAFETY: a plain value.
    done("reset the memory's peak", unsafe { ft_forget_peak(number(Device::Cuda(cuda))) })
}

/// Gives back what the allocator keeps for later.
pub fn empty_cache() -> Result<(), TorchFault> {
    // SAFETY: takes nothing.
    done("empty the memory cache", unsafe { ft_empty_cache() })
}

/// Inference mode and autocast on this thread, until it is dropped. Not `Send`, by its pointer.
pub struct Scope(*mut c_void);

impl Scope {
    pub fn enter(device: Device, options: &TorchOptions) -> Result<Self, TorchFault> {
        let precision = match options.precision {
            Precision::Fp32 => 0,
            Precision::Fp16 => 1,
            Precision::Bf16 => 2,
        };
        let mut scope = null_mut();
        // SAFETY: the place is there for as long as the call takes.
        let message = unsafe { ft_scope_begin(number(device), options.inference_mode, precision, &raw mut scope) };
        done("enter inference mode", message).map(|()| Self(scope))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // SAFETY: made by `ft_scope_begin` on this thread, ended once.
        unsafe { ft_scope_end(self.0) }
    }
}

/// A CUDA stream of a device's own.
pub struct Lane(*mut c_void);

/// A point in a lane's work.
pub struct Mark(*mut c_void);

// SAFETY: a mark is an event that its maker has recorded and does not touch any more; it has one owner.
unsafe impl Send for Mark {}

impl Lane {
    /// Makes the stream and makes it, and its device, this thread's.
    pub fn enter(cuda: u32) -> Result<Self, TorchFault> {
        let mut lane = null_mut();
        // SAFETY: the place is there for as long as the call takes.
        done("make a stream", unsafe { ft_lane_new(number(Device::Cuda(cuda)), &raw mut lane) })?;
        let lane = Self(lane);
        // SAFETY: the lane is alive.
        done("enter a stream", unsafe { ft_lane_enter(lane.0) })?;
        Ok(lane)
    }

    pub fn mark(&self) -> Result<Mark, TorchFault> {
        let mut mark = null_mut();
        // SAFETY: the lane is alive, the place is there.
        done("record an event", unsafe { ft_mark_new(self.0, &raw mut mark) }).map(|()| Mark(mark))
    }

    /// Waits, on the device, for another lane's mark.
    pub fn follow(&self, mark: &Mark) -> Result<(), TorchFault> {
        // SAFETY: both are alive.
        done("wait for an event", unsafe { ft_lane_follow(self.0, mark.0) })
    }

    /// Keeps a tensor's memory from being handed out again before this lane has used it.
    pub fn uses(&self, tensor: &Tensor) -> Result<(), TorchFault> {
        // SAFETY: tch's pointer is to an `at::Tensor`, alive for as long as the call takes.
        done("keep a tensor", unsafe { ft_lane_uses(self.0, tensor.as_ptr().cast()) })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // SAFETY: made by `ft_lane_new`, freed once.
        unsafe { ft_lane_free(self.0) }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: made by `ft_mark_new`, freed once.
        unsafe { ft_mark_free(self.0) }
    }
}
