//! What a stage costs, however many others share the cores.

use std::time::Duration;

/// CPU time of the calling thread.
pub struct ThreadClock(Duration);

impl ThreadClock {
    pub fn start() -> Self {
        Self(Self::now())
    }

    pub fn elapsed(&self) -> Duration {
        Self::now().saturating_sub(self.0)
    }

    fn now() -> Duration {
        cpu_time(libc::CLOCK_THREAD_CPUTIME_ID)
    }
}

/// CPU time of all threads of this process.
pub fn process_time() -> Duration {
    cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: these clocks exist on every Linux, and the pointer is to a local.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
