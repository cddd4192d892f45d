//! Micro-batches on their way through the devices of a split model: a thread for each device, a bounded channel between
//! neighbours. Knows nothing of tensors; the backend puts the stages in, the tests a clock.

use std::{
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::{self, JoinHandle},
};

/// Micro-batches that may wait between two devices: one, so that a device that is through can go on while the next still
/// works.
pub const SLOTS: usize = 1;

/// What one device does to a micro-batch. Lives and dies on the device's thread.
pub type Work<T, E> = Box<dyn FnMut(T) -> Result<T, E>>;

/// Makes the work of a device, on its thread.
pub type Build<T, E> = Box<dyn FnOnce() -> Result<Work<T, E>, E> + Send>;

/// Why nothing came out.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The first micro-batch that failed, in the order in which they were given.
    Work(E),
    /// A thread has ended: whatever it did had panicked, or the system gave no thread.
    Gone,
}

/// The threads of a split model.
#[derive(Debug)]
pub struct Pipeline<T, E> {
    /// `None` once the pipeline ends. Holds what a run is given, which is a batch; only between devices is there a bound.
    first: Option<Sender<Result<T, E>>>,
    last: Receiver<Result<T, E>>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static, E: Send + 'static> Pipeline<T, E> {
    /// Starts a thread for each device and waits until each has built its work.
    ///
    /// # Errors
    /// When one cannot be built.
    pub fn start(devices: Vec<Build<T, E>>) -> Result<Self, Failure<E>> {
        let (first, mut before) = channel();
        let mut threads = Vec::with_capacity(devices.len());
        let (built, ready) = channel();
        let count = devices.len();
        for (device, build) in devices.into_iter().enumerate() {
            let (after, next) = sync_channel(SLOTS);
            let (given, built) = (std::mem::replace(&mut before, next), built.clone());
            let body = move || match build() {
                Ok(work) => {
                    let _ = built.send(Ok(()));
                    drop(built);
                    carry(&given, work, &after);
                }
                Err(error) => {
                    let _ = built.send(Err(error));
                }
            };
            let spawned = thread::Builder::new().name(format!("stage-{device}")).spawn(body);
            threads.push(spawned.map_err(|_| Failure::Gone)?);
        }
        drop(built);
        let pipeline = Self { first: Some(first), last: before, threads };
        for _ in 0..count {
            ready.recv().map_err(|_| Failure::Gone)?.map_err(Failure::Work)?;
        }
        Ok(pipeline)
    }

    /// Sends micro-batches through all devices and returns them in their order. All of them are through when this returns,
    /// failed or not.
    ///
    /// # Errors
    /// The first failure; micro-batches behind it are worked on and dropped.
    pub fn run(&mut self, micros: impl IntoIterator<Item = T>) -> Result<Vec<T>, Failure<E>> {
        let first = self.first.as_ref().ok_or(Failure::Gone)?;
        let mut inside = 0_usize;
        for micro in micros {
            first.send(Ok(micro)).map_err(|_| Failure::Gone)?;
            inside += 1;
        }
        let (mut done, mut failed) = (Vec::with_capacity(inside), None);
        for _ in 0..inside {
            match self.last.recv().map_err(|_| Failure::Gone)? {
                Ok(micro) => done.push(micro),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(done), |error| Err(Failure::Work(error)))
    }
}

fn carry<T, E>(given: &Receiver<Result<T, E>>, mut work: Work<T, E>, after: &SyncSender<Result<T, E>>) {
    while let Ok(micro) = given.recv() {
        if after.send(micro.and_then(&mut work)).is_err() {
            return;
        }
    }
}

impl<T, E> Drop for Pipeline<T, E> {
    fn drop(&mut self) {
        // Closes the first channel; each thread ends when its own is closed and empty.
        self.first = None;
        while self.last.recv().is_ok() {}
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Condvar, Mutex},
        time::Duration,
    };

    use super::*;
    use crate::schedule::{Span, Timeline, simulate};

    fn adding(number: u32) -> Build<u32, String> {
        Box::new(move || {
            Ok(Box::new(move |x| if x == 13 { Err(format!("13 at {number}")) } else { Ok(x * 10 + number) }))
        })
    }

    #[test]
    fn what_goes_in_comes_out_in_order_and_through_every_device() {
        let mut pipeline = Pipeline::start(vec![adding(1), adding(2), adding(3)]).unwrap();
        for _ in 0..3 {
            assert_eq!(pipeline.run([4, 5, 6, 7, 8, 9, 4]).unwrap(), [4123, 5123, 6123, 7123, 8123, 9123, 4123]);
        }
        assert_eq!(pipeline.run([]).unwrap(), [0_u32; 0]);
    }

    #[test]
    fn the_first_failure_is_told_and_the_pipeline_goes_on() {
        let mut pipeline = Pipeline::start(vec![adding(1), adding(2)]).unwrap();
        assert_eq!(pipeline.run([1, 13, 2, 13, 3]), Err(Failure::Work("13 at 1".to_owned())));
        assert_eq!(pipeline.run([2, 1]), Ok(vec![212, 112]));
    }

    #[test]
    fn a_device_that_cannot_be_built_and_one_that_panics_are_told() {
        let broken: Build<u32, String> = Box::new(|| Err("no such device".to_owned()));
        let error = Pipeline::start(vec![adding(1), broken, adding(2)]).err();
        assert_eq!(error, Some(Failure::Work("no such device".to_owned())));
        let panics: Build<u32, String> = Box::new(|| Ok(Box::new(|_| panic!("on purpose"))));
        let mut pipeline = Pipeline::start(vec![adding(1), panics, adding(2)]).unwrap();
        assert_eq!(pipeline.run([1, 2, 3, 4, 5, 6]), Err(Failure::Gone));
    }

    /// A micro-batch that carries the time at which it is ready. Devices read and set clocks of their own, so that the
    /// schedule of the real threads and channels comes out whatever the machine is doing; what a full channel holds up is
    /// not seen by such clocks, so costs here are such that none is ever full for longer than the next device takes.
    struct Timed {
        micro: usize,
        ready: Duration,
    }

    fn timed(devices: usize, micros: usize, cost: fn(usize, usize) -> Duration) -> Timeline {
        let spans = Arc::new(Mutex::new(Vec::new()));
        let device = |device: usize| -> Build<Timed, ()> {
            let spans = spans.clone();
            Box::new(move || {
                let mut clock = Duration::ZERO;
                Ok(Box::new(move |timed: Timed| {
                    let start = clock.max(timed.ready);
                    clock = start + cost(device, timed.micro);
                    spans.lock().unwrap().push(Span { device, micro: timed.micro, start, end: clock });
                    Ok(Timed { ready: clock, ..timed })
                }))
            })
        };
        let mut pipeline = Pipeline::start((0..devices).map(device).collect()).unwrap();
        pipeline.run((0..micros).map(|micro| Timed { micro, ready: Duration::ZERO })).unwrap();
        drop(pipeline);
        let mut spans = Arc::into_inner(spans).unwrap().into_inner().unwrap();
        spans.sort_by_key(|span| (span.device, span.micro));
        Timeline { spans, devices }
    }

    #[test]
    fn the_real_threads_keep_the_schedule() {
        let cost =
            |device: usize, micro: usize| Duration::from_millis(1000 + ((device * 7 + micro * 13) % 5) as u64 * 5);
        for devices in [2, 3, 4] {
            for micros in [4, 8, 16] {
                let timeline = timed(devices, micros, cost);
                assert_eq!(timeline, simulate(devices, micros, SLOTS, cost));
                let theory = (devices - 1) as f64 / (micros + devices - 1) as f64;
                let bubble = timeline.bubble();
                assert!((bubble - theory).abs() <= 0.05 * theory, "{devices} devices, {micros}: {bubble} {theory}");
            }
        }
    }

    #[test]
    fn all_devices_work_at_the_same_time() {
        const DEVICES: usize = 4;
        const MICROS: usize = 8;
        // How many micro-batches each device has begun. A device is not through with one before the device ahead of it has
        // begun the next: that needs all of them at work.
        let begun = Arc::new((Mutex::new([0; DEVICES]), Condvar::new()));
        let device = |device: usize| -> Build<usize, ()> {
            let begun = begun.clone();
            Box::new(move || {
                Ok(Box::new(move |micro: usize| {
                    let (counts, changed) = &*begun;
                    let mut counts = counts.lock().unwrap();
                    counts[device] = micro + 1;
                    changed.notify_all();
                    let wanted = if device == 0 { 0 } else { MICROS.min(micro + 2) };
                    let behind = |counts: &mut [usize; DEVICES]| device > 0 && counts[device - 1] < wanted;
                    let waited = changed.wait_timeout_while(counts, Duration::from_secs(20), behind).unwrap();
                    if waited.1.timed_out() { Err(()) } else { Ok(micro) }
                }))
            })
        };
        let mut pipeline = Pipeline::start((0..DEVICES).map(device).collect()).unwrap();
        assert_eq!(pipeline.run(0..MICROS), Ok((0..MICROS).collect()));
    }
}
