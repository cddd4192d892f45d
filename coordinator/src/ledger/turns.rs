//! Whose turn it is to take up work: tenants go round, and within a tenant its jobs, each until it has used up its credit
//! of frames (surplus round robin: deficit round robin that needs not know what the next unit costs). One round per band.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use fulltime_common::wire::Band;

use super::JobId;

pub(super) type Tenant = Option<Arc<str>>;

#[derive(Debug, Clone)]
pub(super) struct Turns {
    quantum: i64,
    bands: BTreeMap<Band, Round>,
}

#[derive(Debug, Clone, Default)]
struct Round {
    tenants: Rotation<Tenant>,
    jobs: BTreeMap<Tenant, Rotation<JobId>>,
}

impl Turns {
    pub fn new(quantum: u64) -> Self {
        Self { quantum: i64::try_from(quantum).unwrap_or(i64::MAX).max(1), bands: BTreeMap::new() }
    }

    /// This job has something to take up. Again is harmless.
    pub fn join(&mut self, band: Band, tenant: &Tenant, job: &JobId) {
        let round = self.bands.entry(band).or_default();
        round.tenants.join(tenant, self.quantum);
        round.jobs.entry(tenant.clone()).or_default().join(job, self.quantum);
    }

    pub fn next(&self, band: Band) -> Option<JobId> {
        let round = self.bands.get(&band)?;
        round.jobs.get(round.tenants.front()?)?.front().cloned()
    }

    /// The one whose turn it is has taken up work of this cost.
    pub fn spend(&mut self, band: Band, cost: u64) {
        let Some(round) = self.bands.get_mut(&band) else { return };
        let cost = i64::try_from(cost).unwrap_or(i64::MAX / 2);
        if let Some(jobs) = round.tenants.front().and_then(|tenant| round.jobs.get_mut(tenant)) {
            jobs.spend(cost, self.quantum);
        }
        round.tenants.spend(cost, self.quantum);
    }

    /// The one whose turn it is has nothing to take up in this band.
    pub fn leave(&mut self, band: Band) {
        let Some(round) = self.bands.get_mut(&band) else { return };
        let Some(tenant) = round.tenants.front().cloned() else { return };
        let empty = round.jobs.get_mut(&tenant).is_none_or(|jobs| {
            jobs.leave(self.quantum);
            jobs.front().is_none()
        });
        if empty {
            round.jobs.remove(&tenant);
            round.tenants.leave(self.quantum);
        }
    }
}

/// The front one always has credit.
#[derive(Debug, Clone)]
struct Rotation<K> {
    order: VecDeque<K>,
    credit: BTreeMap<K, i64>,
}

impl<K> Default for Rotation<K> {
    fn default() -> Self {
        Self { order: VecDeque::new(), credit: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Rotation<K> {
    fn front(&self) -> Option<&K> {
        self.order.front()
    }

    fn join(&mut self, key: &K, quantum: i64) {
        if !self.credit.contains_key(key) {
            self.credit.insert(key.clone(), quantum);
            self.order.push_back(key.clone());
        }
    }

    fn spend(&mut self, cost: i64, quantum: i64) {
        if let Some(credit) = self.order.front().and_then(|key| self.credit.get_mut(key)) {
            *credit = credit.saturating_sub(cost);
        }
        self.advance(quantum);
    }

    fn leave(&mut self, quantum: i64) {
        if let Some(key) = self.order.pop_front() {
            self.credit.remove(&key);
        }
        self.advance(quantum);
    }

    /// Whoever has used up its credit goes to the end and gets new one.
    fn advance(&mut self, quantum: i64) {
        while let Some(key) = self.order.front()
            && let Some(credit) = self.credit.get_mut(key)
            && *credit <= 0
        {
            *credit += quantum;
            self.order.rotate_left(1);
        }
    }
}
