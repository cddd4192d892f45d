//! The workers that are there, by their heartbeats: how many lanes, of which engine classes, idle or not, fit or not.

use std::{collections::BTreeMap, time::Duration};

use fulltime_common::{
    plan::EngineClass,
    wire::{Hello, JobFailure, Pool},
};

use super::{JobId, Now};

/// How long the verdict on a worker that is gone is remembered.
const MEMORY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Default)]
pub(super) struct Fleet {
    workers: BTreeMap<String, (Hello, Now)>,
    unfit: BTreeMap<String, Unfit>,
    silence: Duration,
    /// Of the fit workers, as of the last change or tick: events must not cost a look at every worker.
    fit: usize,
    lanes: usize,
    classes: BTreeMap<EngineClass, usize>,
}

/// A worker that said it cannot do such work.
#[derive(Debug, Clone)]
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
        let mut news = false;
        if let Some(unfit) = self.unfit.get_mut(&hello.worker)
            && *unfit.pid.get_or_insert(hello.pid) != hello.pid
        {
            self.unfit.remove(&hello.worker);
            news = true;
        }
        let pulls = |hello: &Hello| (hello.engine.clone(), hello.lanes.len(), hello.draining);
        let after = pulls(&hello);
        let before = self.workers.insert(hello.worker.clone(), (hello, now));
        news |= before.is_none_or(|(before, seen)| now.saturating_sub(seen) >= self.silence || pulls(&before) != after);
        if news {
            self.count(now);
        }
    }

    pub fn unfit(&mut self, worker: &str, job: &str, failure: JobFailure, now: Now) {
        let pid = self.workers.get(worker).map(|(hello, _)| hello.pid);
        self.unfit.insert(worker.to_owned(), Unfit { pid, job: job.into(), failure, since: now });
        self.count(now);
    }

    pub fn forget_the_silent(&mut self, now: Now) {
        let silence = self.silence;
        self.workers.retain(|_, (_, seen)| now.saturating_sub(*seen) < silence);
        let workers = &self.workers;
        self.unfit.retain(|name, u| workers.contains_key(name) || now.saturating_sub(u.since) < MEMORY);
        self.count(now);
    }

    fn count(&mut self, now: Now) {
        let mut classes: BTreeMap<EngineClass, usize> = BTreeMap::new();
        let (mut fit, mut lanes) = (0, 0);
        for hello in self.fit_ones(now) {
            fit += 1;
            lanes += hello.lanes.len();
            match classes.get_mut(&hello.engine) {
                Some(count) => *count += hello.lanes.len(),
                None => {
                    classes.insert(hello.engine.clone(), hello.lanes.len());
                }
            }
        }
        (self.fit, self.lanes, self.classes) = (fit, lanes, classes);
    }

    pub fn live(&self, now: Now) -> impl Iterator<Item = &Hello> {
        let silence = self.silence;
        self.workers.values().filter(move |(_, seen)| now.saturating_sub(*seen) < silence).map(|(hello, _)| hello)
    }

    fn fit_ones(&self, now: Now) -> impl Iterator<Item = &Hello> {
        self.live(now).filter(|hello| !hello.draining && !self.unfit.contains_key(&hello.worker))
    }

    /// Workers that pull tasks.
    pub fn fit(&self) -> usize {
        self.fit
    }

    pub fn lanes(&self) -> usize {
        self.lanes
    }

    pub fn has(&self, class: &EngineClass) -> bool {
        self.classes.contains_key(class)
    }

    /// Whether a fit worker other than these pulls from this pool.
    pub fn has_another(&self, pool: &Pool, not: impl Fn(&str) -> bool, now: Now) -> bool {
        self.fit_ones(now).any(|hello| pulls_from(hello, pool) && !not(&hello.worker))
    }

    /// Lanes of a pool that have nothing to do, on workers other than this one.
    pub fn idle_lanes(&self, pool: &Pool, not: &str, now: Now) -> usize {
        let workers = self.fit_ones(now).filter(|hello| pulls_from(hello, pool) && hello.worker != not);
        workers.flat_map(|hello| &hello.lanes).filter(|lane| lane.task.is_none()).count()
    }

    /// The class with the most lanes; of equals the first by name.
    pub fn choose(&self) -> Option<EngineClass> {
        let most = self.classes.iter().max_by_key(|(class, lanes)| (**lanes, std::cmp::Reverse(*class)));
        most.map(|(class, _)| class.clone())
    }

    /// Why workers refused the work of this job, by the last one that did.
    pub fn failure_of(&self, job: &str) -> Option<&JobFailure> {
        self.unfit.values().filter(|u| &*u.job == job).max_by_key(|u| u.since).map(|u| &u.failure)
    }
}

fn pulls_from(hello: &Hello, pool: &Pool) -> bool {
    match pool {
        Pool::Any => true,
        Pool::Class(class) => hello.engine == *class,
    }
}
