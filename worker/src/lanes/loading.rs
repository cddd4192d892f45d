//! Loading a model is one opaque call that may take minutes (optimising a graph, building an engine). It beats while this
//! process works: its processor time grows. A load that only waits shows nothing, and even one that spins for ever is
//! believed no longer than [`MOST`].

use std::{
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use super::shard::process_time;
use crate::attempt::Attempt;

/// Between two looks, and the processor time that must have gone by from one to the next: a twentieth of a core.
const LOOK: Duration = Duration::from_millis(400);
const LEAST: Duration = Duration::from_millis(20);
/// From then on the usual patience counts.
const MOST: Duration = Duration::from_secs(30 * 60);

/// Does `work` and beats for it.
pub fn watched<T>(attempt: &Attempt, work: impl FnOnce() -> T) -> T {
    let (working, over) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (begun, mut last) = (Instant::now(), process_time());
            while begun.elapsed() < MOST && over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let now = process_time();
                if now.saturating_sub(last) >= LEAST {
                    attempt.beat();
                }
                last = now;
            }
        });
        let done = work();
        drop(working);
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::{Phase, Watcher};

    struct Nobody;

    impl Watcher for Nobody {
        fn phase(&self, _: Phase) {}
        fn beat(&self, _: u64) {}
    }

    #[test]
    fn a_load_beats_while_it_works() {
        let attempt = Attempt::new(true, Box::new(Nobody));
        let begun = Instant::now();
        let sum = watched(&attempt, || {
            let mut sum = 0_u64;
            while begun.elapsed() < LOOK * 4 {
                sum = sum.wrapping_mul(31).wrapping_add(std::hint::black_box(7));
            }
            sum
        });
        assert!(sum != 0 && attempt.pulse().last() >= begun + LOOK, "it has beaten");
    }
}
