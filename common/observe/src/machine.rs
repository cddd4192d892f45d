//! What the machine says: memory, processors, and what of them a container may use.

use std::{fs, time::Duration};

/// Processor time of all threads of this process.
pub(crate) fn process_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: this clock exists on every Linux, and the pointer is to a local.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Bytes of memory that this process holds; 0 where the system does not tell.
pub(crate) fn resident() -> u64 {
    // SAFETY: a plain question.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let pages = fs::read_to_string("/proc/self/statm").ok();
    pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or_default() * page
}

/// Looks at the machine once in a while.
#[derive(Debug, Default)]
pub struct Machine {
    cpu: Duration,
    /// Ticks of all processors, and those of them that were idle.
    ticks: Option<(u64, u64)>,
}

impl Machine {
    /// Cores that this process may use.
    #[must_use]
    pub fn cores() -> f64 {
        let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
        quota().map_or(cores, |quota| quota.min(cores))
    }

    /// Bytes that this process may hold: the container's limit, or the machine's memory.
    #[must_use]
    pub fn memory_limit() -> u64 {
        let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text)).unwrap_or_default();
        let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
        limit.map_or(total, |limit: u64| limit.min(total))
    }

    /// Bytes that this process holds.
    #[must_use]
    pub fn memory() -> u64 {
        resident()
    }

    /// Seconds of processor time of this process since the last look.
    pub fn cpu(&mut self) -> f64 {
        let now = process_time();
        now.saturating_sub(std::mem::replace(&mut self.cpu, now)).as_secs_f64()
    }

    /// Share of all processors that was busy since the last look, whoever used them.
    pub fn busy(&mut self) -> f64 {
        let now = fs::read_to_string("/proc/stat").ok().and_then(|text| ticks(&text));
        let before = std::mem::replace(&mut self.ticks, now);
        match (before, now) {
            (Some((all, idle)), Some((all_now, idle_now))) if all_now > all => {
                1.0 - idle_now.saturating_sub(idle) as f64 / (all_now - all) as f64
            }
            _ => 0.0,
        }
    }
}

/// `MemTotal` of `/proc/meminfo`.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// All ticks and idle ones (waiting for disks included) of the first line of `/proc/stat`.
fn ticks(text: &str) -> Option<(u64, u64)> {
    let numbers = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map(str::parse);
    // What guests use is counted under user already.
    let numbers: Vec<u64> = numbers.take(8).collect::<Result<_, _>>().ok()?;
    Some((numbers.iter().sum(), numbers.get(3)? + numbers.get(4)?))
}

/// Cores by the container's quota (cgroup v2).
fn quota() -> Option<f64> {
    let text = fs::read_to_string("/sys/fs/cgroup/cpu.max").ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?).filter(|cores| *cores > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_files_are_read_as_they_are() {
        assert_eq!(total("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16384 * 1024));
        assert_eq!(ticks("cpu  10 1 5 100 20 0 2 3 7 0\ncpu0 1"), Some((141, 120)));
        assert_eq!(ticks("intr 5"), None);
    }

    #[test]
    fn this_machine_tells() {
        let mut machine = Machine::default();
        machine.busy();
        assert!(Machine::cores() > 0.0 && Machine::memory_limit() > Machine::memory() && Machine::memory() > 0);
        let spin = std::time::Instant::now();
        while spin.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        assert!(machine.cpu() > 0.0 && (0.0..=1.0).contains(&machine.busy()));
    }
}
