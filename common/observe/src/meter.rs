//! What a lane notes of itself while it works. Cheap: a lock that nobody else wants and a look at the clock, once a batch
//! or a picture.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    machine,
    sample::{Doing, LaneSample, StageSample, thread_time},
};

/// One lane's notes. Every stage of the lane may write to it.
#[derive(Debug)]
pub struct Meter(Mutex<Notes>);

#[derive(Debug)]
struct Notes {
    /// Since the last sample.
    sample: LaneSample,
    doing: Doing,
    since: Instant,
    /// When the last sample was taken.
    taken: Instant,
    times: [Duration; Doing::ALL.len()],
    /// Tasks whose input is on its way.
    fetching: usize,
    /// Processor time of this process up to the last sample.
    cpu: Duration,
}

/// What can be counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub frames: u64,
    pub images: u64,
    pub batches: u64,
    pub shards: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
}

impl Default for Meter {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Notes {
            sample: LaneSample::default(),
            doing: Doing::Idle,
            since: now,
            taken: now,
            times: Default::default(),
            fetching: 0,
            cpu: machine::process_time(),
        }))
    }
}

impl Meter {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the lane does this. What it did before.
    pub fn does(&self, doing: Doing) -> Doing {
        self.notes().turn_to(doing)
    }

    /// The lane works for this job until the turn is dropped; then it waits again.
    #[must_use]
    pub fn turn(&self, job: &str, doing: Doing) -> Turn<'_> {
        self.begin(job, doing);
        Turn(self)
    }

    /// From now on the lane does this, and for this job.
    pub fn begin(&self, job: &str, doing: Doing) {
        let mut notes = self.notes();
        notes.sample.job = Some(job.to_owned());
        notes.turn_to(doing);
    }

    /// Input of a task is being fetched until this is dropped: a lane without work then waits for the store.
    #[must_use]
    pub fn fetching(&self) -> Fetching<'_> {
        self.notes().fetch(1);
        Fetching(self)
    }

    /// A stage was at work since then, by the wall and by the processor.
    pub fn worked(&self, stage: &'static str, since: Clock) -> Worked {
        let worked = since.elapsed();
        self.add(stage, worked);
        worked
    }

    /// As [`Meter::worked`], of work that was timed in parts.
    pub fn add(&self, stage: &'static str, Worked { busy, cpu }: Worked) {
        let mut notes = self.notes();
        let stage = notes.stage(stage);
        stage.busy += busy.as_secs_f64();
        stage.cpu += cpu.as_secs_f64();
        stage.latency.add(busy.as_secs_f64());
    }

    /// How long something took from end to end, which is nobody's work alone.
    pub fn took(&self, what: &'static str, time: Duration) {
        self.notes().stage(what).latency.add(time.as_secs_f64());
    }

    pub fn count(&self, counts: Counts) {
        let sample = &mut self.notes().sample;
        sample.frames += counts.frames;
        sample.images += counts.images;
        sample.batches += counts.batches;
        sample.shards += counts.shards;
        sample.bytes_read += counts.bytes_read;
        sample.bytes_written += counts.bytes_written;
        sample.cache_hits += counts.cache_hits;
        sample.cache_misses += counts.cache_misses;
    }

    /// A canary has scored so much.
    pub fn canary(&self, score: f64) {
        self.notes().sample.canaries.push(score);
    }

    /// A call of archive or store has ended.
    pub fn called(&self, time: Duration, failed: bool) {
        let sample = &mut self.notes().sample;
        sample.store.add(time.as_secs_f64());
        sample.store_errors += u64::from(failed);
    }

    /// Everything since the last time.
    pub fn take(&self) -> LaneSample {
        let mut notes = self.notes();
        let doing = notes.doing;
        notes.turn_to(doing);
        let now = notes.since;
        let job = notes.sample.job.clone().filter(|_| !matches!(doing, Doing::Idle | Doing::Fetch));
        let mut sample = std::mem::replace(&mut notes.sample, LaneSample { job, ..LaneSample::default() });
        sample.seconds = now.duration_since(notes.taken).as_secs_f64();
        notes.taken = now;
        let times = std::mem::take(&mut notes.times);
        let times = Doing::ALL.into_iter().zip(times).filter(|(_, time)| !time.is_zero());
        sample.doing = times.map(|(doing, time)| (doing, time.as_secs_f64())).collect();
        let cpu = machine::process_time();
        sample.cpu = cpu.saturating_sub(notes.cpu).as_secs_f64();
        notes.cpu = cpu;
        sample.memory = machine::resident();
        sample
    }
}

impl Notes {
    fn turn_to(&mut self, doing: Doing) -> Doing {
        let now = Instant::now();
        self.times[self.doing as usize] += now.duration_since(self.since);
        self.since = now;
        let doing = if doing == Doing::Idle && self.fetching > 0 { Doing::Fetch } else { doing };
        std::mem::replace(&mut self.doing, doing)
    }

    fn fetch(&mut self, more: isize) {
        self.fetching = self.fetching.saturating_add_signed(more);
        if matches!(self.doing, Doing::Idle | Doing::Fetch) {
            self.turn_to(Doing::Idle);
        }
    }

    fn stage(&mut self, name: &'static str) -> &mut StageSample {
        let stages = &mut self.sample.stages;
        let at = stages.iter().position(|stage| stage.stage == name).unwrap_or_else(|| {
            stages.push(StageSample { stage: name.to_owned(), ..StageSample::default() });
            stages.len() - 1
        });
        &mut stages[at]
    }
}

/// See [`Meter::turn`].
#[derive(Debug)]
pub struct Turn<'a>(&'a Meter);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.does(Doing::Idle);
    }
}

/// See [`Meter::fetching`].
#[derive(Debug)]
pub struct Fetching<'a>(&'a Meter);

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.0.notes().fetch(-1);
    }
}

/// Time that a stage was at work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Worked {
    /// By the wall.
    pub busy: Duration,
    /// By the processor, of the calling thread alone.
    pub cpu: Duration,
}

impl std::ops::AddAssign for Worked {
    fn add_assign(&mut self, more: Self) {
        self.busy += more.busy;
        self.cpu += more.cpu;
    }
}

/// The beginning of a piece of work, on the thread that does it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    since: Instant,
    cpu: Duration,
}

impl Clock {
    #[must_use]
    pub fn start() -> Self {
        Self { since: Instant::now(), cpu: thread_time() }
    }

    #[must_use]
    pub fn elapsed(self) -> Worked {
        Worked { busy: self.since.elapsed(), cpu: thread_time().saturating_sub(self.cpu) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lane_does_adds_up_to_all_its_time() {
        let meter = Meter::default();
        std::thread::sleep(Duration::from_millis(5));
        let turn = meter.turn("season", Doing::Load);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(meter.does(Doing::Infer), Doing::Load);
        std::thread::sleep(Duration::from_millis(5));
        drop(turn);
        let sample = meter.take();
        let sum: f64 = sample.doing.iter().map(|(_, seconds)| seconds).sum();
        assert!((sum - sample.seconds).abs() < 1e-6, "{sample:?}");
        assert_eq!(sample.job.as_deref(), Some("season"));
        assert!(sample.spent(Doing::Infer) >= 5e-3 && sample.spent(Doing::Idle) >= 5e-3);
        let next = meter.take();
        assert_eq!((&next.job, next.spent(Doing::Infer)), (&None, 0.0), "an idle lane works for nobody");
        assert!(sample.memory > 1 << 20 && sample.cpu >= 0.0);
    }

    #[test]
    fn a_lane_without_work_waits_for_the_store_while_something_is_fetched() {
        let meter = Meter::default();
        let fetching = meter.fetching();
        std::thread::sleep(Duration::from_millis(3));
        let turn = meter.turn("season", Doing::Infer);
        drop(fetching);
        let ahead = meter.fetching();
        drop(turn);
        std::thread::sleep(Duration::from_millis(3));
        drop(ahead);
        std::thread::sleep(Duration::from_millis(3));
        let sample = meter.take();
        assert!(sample.spent(Doing::Fetch) >= 6e-3 && sample.spent(Doing::Idle) >= 3e-3, "{sample:?}");
    }

    #[test]
    fn stages_are_timed_by_wall_and_processor() {
        let meter = Meter::default();
        let clock = Clock::start();
        std::thread::sleep(Duration::from_millis(10));
        meter.worked("decode", clock);
        meter.took("total", Duration::from_millis(40));
        meter.count(Counts { frames: 3, ..Counts::default() });
        meter.called(Duration::from_millis(2), true);
        let sample = meter.take();
        let decode = sample.stage("decode").unwrap();
        assert!(decode.busy >= 0.01 && decode.cpu < decode.busy && decode.latency.count == 1);
        assert_eq!(sample.stage("total").unwrap().busy, 0.0, "nobody's work");
        assert_eq!((sample.frames, sample.store.count, sample.store_errors), (3, 1, 1));
    }
}
