//! When which device of a split model works on which micro-batch: the fill and drain of GPipe (Huang et al., 2019), without
//! its backward half. Pure, on a clock of its own; the pipeline's tests hold the real threads against it.

use std::time::Duration;

/// One micro-batch on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub device: usize,
    pub micro: usize,
    pub start: Duration,
    pub end: Duration,
}

/// All of them, by device and micro-batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    pub spans: Vec<Span>,
    pub devices: usize,
}

impl Timeline {
    /// From the start of the first to the end of the last.
    #[must_use]
    pub fn makespan(&self) -> Duration {
        let start = self.spans.iter().map(|span| span.start).min().unwrap_or_default();
        self.spans.iter().map(|span| span.end).max().unwrap_or_default().saturating_sub(start)
    }

    /// Share of the devices' time in which they wait: between equal devices `(k - 1) / (m + k - 1)` for `k` devices and
    /// `m` micro-batches.
    #[must_use]
    pub fn bubble(&self) -> f64 {
        let whole = self.makespan().as_secs_f64() * self.devices as f64;
        let busy: f64 = self.spans.iter().map(|span| (span.end - span.start).as_secs_f64()).sum();
        if whole > 0.0 { 1.0 - busy / whole } else { 0.0 }
    }
}

/// What a pipeline of bounded channels does: a device begins a micro-batch when it has arrived and the one before is gone;
/// and that one is gone when the channel to the next device, which holds `slots` (one at least), has room for it.
///
/// `cost(device, micro)` is how long one takes.
#[must_use]
pub fn simulate(devices: usize, micros: usize, slots: usize, cost: impl Fn(usize, usize) -> Duration) -> Timeline {
    let mut start = vec![vec![Duration::ZERO; micros]; devices];
    let mut end = start.clone();
    // When it has left the device for the channel behind it.
    let mut gone = start.clone();
    for micro in 0..micros {
        for device in 0..devices {
            let arrived = if device == 0 { Duration::ZERO } else { gone[device - 1][micro] };
            let free = if micro == 0 { Duration::ZERO } else { gone[device][micro - 1] };
            start[device][micro] = arrived.max(free);
            end[device][micro] = start[device][micro] + cost(device, micro);
            // The last device's results are taken at once.
            let room = match micro.checked_sub(slots.max(1)) {
                Some(earlier) if device + 1 < devices => start[device + 1][earlier],
                _ => Duration::ZERO,
            };
            gone[device][micro] = end[device][micro].max(room);
        }
    }
    let span =
        |device: usize, micro: usize| Span { device, micro, start: start[device][micro], end: end[device][micro] };
    let spans = (0..devices).flat_map(|device| (0..micros).map(move |micro| (device, micro)));
    Timeline { spans: spans.map(|(device, micro)| span(device, micro)).collect(), devices }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_bubble_of_equal_devices_is_the_theoretical_one() {
        for devices in [2, 3, 4] {
            for micros in [1, 2, 4, 8, 32] {
                // Costs that differ by a few per cent, as measured ones do.
                let cost = |device: usize, micro: usize| MS * (1000 + ((device * 7 + micro * 13) % 5) as u32 * 5);
                let bubble = simulate(devices, micros, 1, cost).bubble();
                let theory = (devices - 1) as f64 / (micros + devices - 1) as f64;
                assert!((bubble - theory).abs() <= 0.05 * theory, "{devices} devices, {micros}: {bubble} {theory}");
            }
        }
    }

    #[test]
    fn one_slow_device_sets_the_pace() {
        let timeline = simulate(3, 10, 1, |device, _| if device == 1 { MS * 5 } else { MS });
        assert_eq!(timeline.makespan(), MS * 5 * 10 + MS * 2);
    }

    #[test]
    fn a_channel_without_room_holds_the_device_before_it() {
        let timeline = simulate(2, 5, 1, |device, _| if device == 0 { MS } else { MS * 10 });
        let starts: Vec<_> = timeline.spans.iter().filter(|span| span.device == 0).map(|span| span.start).collect();
        // The first is begun elsewhere at 1, the second waits in the channel, the third in the device until 11.
        assert_eq!(starts, [Duration::ZERO, MS, MS * 2, MS * 11, MS * 21]);
    }

    proptest! {
        #[test]
        fn nobody_works_on_two_things_or_too_early(
            costs in prop::collection::vec(prop::collection::vec(1_u32..50, 6), 1..5),
            slots in 1_usize..3,
        ) {
            let timeline = simulate(costs.len(), 6, slots, |device, micro| MS * costs[device][micro]);
            let at = |device: usize, micro: usize| timeline.spans[device * 6 + micro];
            for (device, own) in costs.iter().enumerate() {
                for (micro, cost) in own.iter().enumerate() {
                    let span = at(device, micro);
                    prop_assert_eq!(span.end - span.start, MS * *cost);
                    prop_assert!(micro == 0 || at(device, micro - 1).end <= span.start);
                    prop_assert!(device == 0 || at(device - 1, micro).end <= span.start);
                }
            }
            let busiest: u32 = costs.iter().map(|own| own.iter().sum()).max().unwrap_or(0);
            prop_assert!(timeline.makespan() >= MS * busiest);
        }
    }
}
