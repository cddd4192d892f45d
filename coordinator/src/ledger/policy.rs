//! Budgets and patience.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Each kind of failure has its own budget, so that a flaky network never condemns an input.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Of a delivery, as the bus has it.
    pub lease: Duration,
    /// Of this leader; see [`fulltime_common::wire::Task::epoch`].
    pub epoch: u64,
    /// Where release numbers start: seconds at the coordinator's start.
    pub first_release: u32,
    /// Least number of tasks released and unfinished at once, and how many per lane. A higher band has this much beside
    /// what lower bands hold.
    pub window: usize,
    pub window_per_lane: usize,
    /// Frames that a tenant, and within it a job, may take up before it is the next one's turn.
    pub quantum: u64,
    /// Failures of store or network that one task may have before its match pauses.
    pub transient: u32,
    pub out_of_memory: u32,
    /// Workers that may vanish while they run one task.
    pub vanished: u32,
    /// Workers that one task may make unfit.
    pub unfit: u32,
    /// Poison failures that were never reproduced alone elsewhere, before the match pauses for a person to look.
    pub unproven: u32,
    /// How often a match is planned anew because its recordings change.
    pub revisions: u32,
    /// Store or network failures in a row, and for how long, before a job pauses whatever task they hit.
    pub trouble: u32,
    pub patience: Duration,
    /// Lane time that tenants may use in a month.
    pub quotas: BTreeMap<Arc<str>, Duration>,
    /// Used lane time is made durable after so long, or once it matters to a limit, but not more often than the second.
    pub booking: Duration,
    pub booking_least: Duration,
    /// A worker that has not said hello for so long is gone.
    pub silence: Duration,
    /// How long to wait for another worker once all are unfit, or none has the pinned engine class.
    pub unfit_grace: Duration,
    pub class_grace: Duration,
    /// A shard that runs for so many percent of the job's median, and at least this long, is tried elsewhere, too, if
    /// lanes stand idle; so many times.
    pub straggler_percent: u32,
    pub straggler_least: Duration,
    pub rivals: u32,
}

impl Policy {
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        Self {
            lease,
            epoch: 0,
            first_release: 0,
            window: 64,
            window_per_lane: 4,
            quantum: 1500,
            transient: 8,
            out_of_memory: 4,
            vanished: 8,
            unfit: 3,
            unproven: 6,
            revisions: 3,
            trouble: 8,
            patience: Duration::from_secs(30),
            quotas: BTreeMap::new(),
            booking: Duration::from_secs(600),
            booking_least: Duration::from_secs(15),
            silence: Duration::from_secs(5),
            unfit_grace: Duration::from_secs(3),
            class_grace: Duration::from_secs(30),
            straggler_percent: 150,
            straggler_least: Duration::from_secs(1),
            rivals: 2,
        }
    }

    /// Of a released task of which nobody speaks: then it is looked for.
    #[must_use]
    pub fn lost_after(&self) -> Duration {
        self.lease * 3
    }
}
