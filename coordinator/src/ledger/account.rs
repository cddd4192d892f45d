//! What jobs and tenants have used, and what they may: lane time of committed attempts. It is booked as objects now and
//! then, so that the next leader knows of it; what was used since the last booking dies with a leader.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Action, JobId, Ledger, Now};

/// Tenants' use of this month.
#[derive(Debug, Clone, Default)]
pub(super) struct Accounts {
    /// By earlier leaders.
    before: BTreeMap<String, Duration>,
    /// By this one.
    booked: BTreeMap<Arc<str>, Duration>,
}

impl Accounts {
    fn used(&self, tenant: &str) -> Duration {
        let of = |time: Option<&Duration>| time.copied().unwrap_or_default();
        of(self.before.get(tenant)) + of(self.booked.get(tenant))
    }
}

impl Ledger {
    pub(super) fn spent(&mut self, tenants: BTreeMap<String, Duration>, fresh: bool) {
        self.accounts.before = tenants;
        if fresh {
            self.accounts.booked.clear();
        }
    }

    /// Books what a job has used, if it is time to; `all`: in any case.
    pub(super) fn book(&mut self, id: &JobId, all: bool, now: Now, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let quota = job.tenant().and_then(|tenant| self.policy.quotas.get(&tenant).copied());
        let Some(booking) = job.book(quota, all, &self.policy, now) else { return };
        if let Some(tenant) = &booking.tenant {
            *self.accounts.booked.entry(Arc::clone(tenant)).or_default() += booking.time;
        }
        actions.push(Action::Book(booking));
    }

    /// Tenants whose use has a limit.
    pub fn tenants_with_quotas(&self) -> impl Iterator<Item = &Arc<str>> {
        self.policy.quotas.keys()
    }

    /// Books everything: this leader is about to go.
    pub fn close_books(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        for id in self.jobs.keys().cloned().collect::<Vec<_>>() {
            self.book(&id, true, now, &mut actions);
        }
        actions
    }

    /// Whether the job's tenant may not use more this month.
    pub(super) fn is_over_quota(&self, id: &JobId) -> bool {
        let tenant = self.jobs.get(id).and_then(|job| job.tenant());
        let quota = tenant.as_ref().and_then(|tenant| Some((tenant, self.policy.quotas.get(tenant)?)));
        quota.is_some_and(|(tenant, most)| self.accounts.used(tenant) >= *most)
    }
}
