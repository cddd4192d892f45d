//! This machine's GPUs for metrics and heartbeats: what the driver tells, once a second.

use fulltime_observe::{GpuProbe, GpuReading};
use fulltime_topology::{Pulse, Watcher};

/// See the module.
#[derive(Debug)]
pub struct Gpus(Watcher);

impl Gpus {
    /// `None` without a driver.
    pub fn open() -> Option<Self> {
        Watcher::open().map(Self)
    }
}

impl GpuProbe for Gpus {
    fn read(&self) -> Vec<GpuReading> {
        self.0.pulses().into_iter().map(shown).collect()
    }
}

fn shown(pulse: Pulse) -> GpuReading {
    let share = |percent: Option<u32>| percent.map(|percent| f64::from(percent) / 100.0);
    let node = pulse.pci.as_deref().and_then(node_of);
    GpuReading {
        gpu: pulse.index,
        name: pulse.name,
        uuid: pulse.uuid,
        numa_node: node,
        utilisation: share(pulse.busy_percent),
        decoder_utilisation: share(pulse.decoder_percent),
        memory_used: pulse.memory_used,
        memory_total: pulse.memory_total,
        temperature: pulse.reading.temperature.map(f64::from),
        power: pulse.power_milliwatts.map(|milliwatts| f64::from(milliwatts) / 1000.0),
        clock: pulse.reading.clock_mhz.map(|mhz| u64::from(mhz) * 1_000_000),
        throttled: pulse.reading.slowed().map(str::to_owned),
        nvlinks: None,
    }
}

/// The node that a PCI device is on, as the kernel has it; -1 is none.
fn node_of(pci: &str) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/sys/bus/pci/devices/{pci}/numa_node")).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_tells_is_shown_in_plain_units() {
        let pulse = Pulse {
            index: 2,
            name: "H100".into(),
            busy_percent: Some(93),
            decoder_percent: Some(40),
            memory_used: Some(1 << 30),
            power_milliwatts: Some(412_500),
            ..Pulse::default()
        };
        let shown = shown(pulse);
        assert_eq!((shown.gpu, shown.utilisation, shown.decoder_utilisation), (2, Some(0.93), Some(0.4)));
        assert_eq!((shown.power, shown.temperature, shown.throttled), (Some(412.5), None, None));
    }
}
