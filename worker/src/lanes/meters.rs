//! A meter for each lane of this process, and which of them are free.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fulltime_observe::{Doing, Fetching, LaneSample, Meter};

/// See the module.
#[derive(Debug)]
pub struct Meters {
    all: Vec<Arc<Meter>>,
    free: Mutex<Vec<usize>>,
}

/// A lane at work.
#[derive(Debug)]
pub struct OnLane<'a> {
    meters: &'a Meters,
    lane: usize,
}

impl Meters {
    pub fn new(lanes: usize) -> Self {
        let lanes = lanes.max(1);
        Self { all: (0..lanes).map(|_| Arc::default()).collect(), free: Mutex::new((0..lanes).rev().collect()) }
    }

    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first lane's.
    pub fn shared(&self) -> Arc<Meter> {
        Arc::clone(&self.all[0])
    }

    /// Input of a task is on its way until this is dropped.
    pub fn fetching(&self) -> Vec<Fetching<'_>> {
        self.all.iter().map(|meter| meter.fetching()).collect()
    }

    /// A free lane. There is one for everybody who has a turn.
    pub fn take(&self, job: &str, doing: Doing) -> OnLane<'_> {
        let lane = self.free().pop().unwrap_or_default();
        self.all[lane].begin(job, doing);
        OnLane { meters: self, lane }
    }

    /// What every lane did since the last time.
    pub fn samples(&self) -> Vec<LaneSample> {
        let numbered = |(lane, meter): (usize, &Arc<Meter>)| LaneSample { lane: lane as u32, ..meter.take() };
        self.all.iter().enumerate().map(numbered).collect()
    }
}

impl OnLane<'_> {
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meters.all[self.lane]
    }
}

impl Drop for OnLane<'_> {
    fn drop(&mut self) {
        self.meter().does(Doing::Idle);
        self.meters.free().push(self.lane);
    }
}
