//! The workers that are there, by their heartbeats: how many lanes, of which engine classes, idle or not, fit or not.

use std::{collections::BTreeMap, time::Duration};

use fulltime_common::{
    plan::EngineClass,
    wire::{Hello, JobFailure, Pool},
};

use super::{JobId, Now};

/// How long the verdict on a worker that is gone is remembered.
const MEMORY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Fleet {
    workers: BTreeMap<String, (Hello, Now)>,
    unfit: BTreeMap<String, Unfit>,
    silence: Duration,
}

/// A worker that said it cannot do such work.
#[derive(Debug)]
struct Unfit {
    /// The process that said so; a restarted one gets a new chance.
    pid: Option<u32>,
    job: JobId,
    failure: JobFailure,
    since: Now,
}

impl Fleet {
    pub fn new(silence: Duration) -> Self {
        Self { silence, ..Self::default() }
    }

    pub fn hear(&mut self, hello: Hello, now: Now) {
        if let Some(unfit) = self.unfit.get_mut(&hello.worker)
            && *unfit.pid.get_or_insert(hello.pid) != hello.pid
        {
            self.unfit.remove(&hello.worker);
        }
        self.workers.insert(hello.worker.clone(), (hello, now));
    }

    pub fn unfit(&mut self, worker: &str, job: &str, failure: JobFailure, now: Now) {
        let pid = self.workers.get(worker).map(|(hello, _)| hello.pid);
        self.unfit.insert(worker.to_owned(), Unfit { pid, job: job.into(), failure, since: now });
    }

    pub fn forget_the_silent(&mut self, now: Now) {
        let silence = self.silence;
        self.workers.retain(|_, (_, seen)| now.saturating_sub(*seen) < silence);
        let workers = &self.workers;
        self.unfit.retain(|name, u| workers.contains_key(name) || now.saturating_sub(u.since) < MEMORY);
    }

    pub fn live(&self, now: Now) -> impl Iterator<Item = &Hello> {
        let silence = self.silence;
        self.workers.values().filter(move |(_, seen)| now.saturating_sub(*seen) < silence).map(|(hello, _)| hello)
    }

    fn fit_ones(&self, now: Now) -> impl Iterator<Item = &Hello> {
        self.live(now).filter(|hello| !hello.draining && !self.unfit.contains_key(&hello.worker))
    }

    /// Workers that pull tasks.
    pub fn fit(&self, now: Now) -> usize {
        self.fit_ones(now).count()
    }

    pub fn lanes(&self, now: Now) -> usize {
        self.fit_ones(now).map(|hello| hello.lanes.len()).sum()
    }

    pub fn has(&self, class: &EngineClass, now: Now) -> bool {
        self.fit_ones(now).any(|hello| hello.engine == *class)
    }

    /// Whether a lane that pulls from this pool has nothing to do.
    pub fn idle(&self, pool: &Pool, now: Now) -> bool {
        self.fit_ones(now)
            .filter(|hello| match pool {
                Pool::Any => true,
                Pool::Class(class) => hello.engine == *class,
            })
            .any(|hello| hello.lanes.iter().any(|lane| lane.task.is_none()))
    }

    /// The class with the most lanes; of equals the first by name.
    pub fn choose(&self, now: Now) -> Option<EngineClass> {
        let mut lanes: BTreeMap<&EngineClass, usize> = BTreeMap::new();
        for hello in self.fit_ones(now) {
            *lanes.entry(&hello.engine).or_default() += hello.lanes.len();
        }
        lanes
            .into_iter()
            .max_by_key(|(class, lanes)| (*lanes, std::cmp::Reverse(*class)))
            .map(|(class, _)| class.clone())
    }

    /// Why workers refused the work of this job, by the last one that did.
    pub fn failure_of(&self, job: &str) -> Option<&JobFailure> {
        self.unfit.values().filter(|u| &*u.job == job).max_by_key(|u| u.since).map(|u| &u.failure)
    }
}
