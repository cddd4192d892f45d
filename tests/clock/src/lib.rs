//! Takes the place of the C library's `clock_gettime` in a process that is started with this library in `LD_PRELOAD`:
//! the wall clock is off by as many seconds as the file named by `FULLTIME_CLOCK_FILE` says at that moment. All other
//! clocks are the kernel's. Chaos runs use it to let the wall clock of one process jump.

use libc::{CLOCK_REALTIME, SYS_clock_gettime, c_int, c_long, clockid_t, timespec};

/// # Safety
/// `time` must point to a `timespec`, as for the C library's function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the arguments are the caller's; the kernel checks them.
    let result = unsafe { libc::syscall(SYS_clock_gettime, c_long::from(clock), time) };
    if result == 0
        && clock == CLOCK_REALTIME
        && let Some(offset) = offset()
    {
        // SAFETY: the kernel has just written to it.
        unsafe { (*time).tv_sec += offset };
    }
    result as c_int
}

fn offset() -> Option<i64> {
    let path = std::env::var_os("FULLTIME_CLOCK_FILE")?;
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
