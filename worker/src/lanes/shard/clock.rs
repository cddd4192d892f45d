//! What a stage costs: by the wall for the lane, by the processor for the job.

use std::time::Duration;

use fulltime_observe::{Clock, Meter, Worked};

/// Starts the clock of a stage's next piece of work, and notes the one that ends.
pub struct Stage<'a> {
    meter: &'a Meter,
    name: &'static str,
    clock: Clock,
    /// All that was noted.
    pub total: Worked,
}

impl<'a> Stage<'a> {
    pub fn start(meter: &'a Meter, name: &'static str) -> Self {
        Self { meter, name, clock: Clock::start(), total: Worked::default() }
    }

    /// A piece of work begins: what was since the last note was waiting.
    pub fn begin(&mut self) {
        self.clock = Clock::start();
    }

    /// The piece of work is done, and the next may begin.
    pub fn done(&mut self) {
        self.total += self.meter.worked(self.name, self.clock);
        self.clock = Clock::start();
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
