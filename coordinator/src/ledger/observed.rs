//! What the ledger remembers for people and for metrics: samples of workers, findings about them, failed attempts, how much
//! is waiting. No decision follows from it.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
};

use fulltime_common::{
    Disposition,
    wire::{Event, EventKind, Hello, JobState},
};
use fulltime_observe::{anomaly::Finding, record::Record};
use serde::{Deserialize, Serialize};

use super::{JobId, Ledger, Now, Verdict, job::Job};

/// Findings that are remembered of a job.
const FINDINGS: usize = 50;

/// What was wrong with a worker while it worked for a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastFinding {
    pub finding: Finding,
    /// Seconds since the job's start.
    pub first: f64,
    pub last: f64,
}

/// Kept aside: no decision follows from it, so two ledgers that differ in nothing else are the same to whoever tells them
/// apart by how they print themselves (the model checker does).
#[derive(Clone, Default, PartialEq)]
pub struct Aside<T>(T);

impl<T> fmt::Debug for Aside<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("aside")
    }
}

impl<T> Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Aside<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// What was seen of a job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// What workers' samples showed.
    pub record: Record,
    /// Attempts that failed, by disposition.
    pub failures: Vec<(Disposition, u64)>,
    /// What was wrong with the workers, in the order in which it began.
    pub findings: Vec<PastFinding>,
    /// Seconds that lanes took for the shards that were run.
    pub lane_seconds: f64,
}

/// Counts of one reign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub released: u64,
    /// Work that was run to a result, and work whose result was found.
    pub run: u64,
    pub found: u64,
    /// Of shards that were run.
    pub frames: u64,
    pub failures: Vec<(Disposition, u64)>,
}

impl Tally {
    pub(super) fn decided(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Found => self.found += 1,
            Verdict::Committed(outcome) if outcome.found => self.found += 1,
            Verdict::Committed(outcome) => {
                self.run += 1;
                self.frames += outcome.frames;
            }
            Verdict::GivenUp(_) | Verdict::Changed => {}
        }
    }
}

fn count(failures: &mut Vec<(Disposition, u64)>, disposition: Disposition) {
    match failures.iter_mut().find(|(known, _)| *known == disposition) {
        Some((_, count)) => *count += 1,
        None => failures.push((disposition, 1)),
    }
}

impl Job {
    fn note_finding(&mut self, finding: &Finding, now: Now) {
        let at = now.saturating_sub(self.started).as_secs_f64();
        let same = |past: &PastFinding| {
            let known = &past.finding;
            // What comes back after a while is told again.
            (known.kind, &known.worker, known.gpu) == (finding.kind, &finding.worker, finding.gpu)
                && at - past.last < 60.0
        };
        let findings = &mut self.seen.findings;
        match findings.iter().position(same) {
            Some(known) => {
                let past = &mut findings[known];
                past.last = at;
                past.finding.for_seconds = at - past.first;
            }
            None if findings.len() < FINDINGS => {
                let first = (at - finding.for_seconds).max(0.0);
                findings.push(PastFinding { finding: finding.clone(), first, last: at });
            }
            None => {}
        }
    }
}

impl Ledger {
    pub(super) fn note_failure(&mut self, event: &Event) {
        let EventKind::Failed { disposition, .. } = &event.kind else { return };
        count(&mut self.tally.failures, *disposition);
        if let Some(job) = self.jobs.get_mut(event.job.as_str()) {
            count(&mut job.seen.failures, *disposition);
        }
    }

    pub(super) fn note_sample(&mut self, hello: &Hello, now: Now) {
        let Some(sample) = &hello.sample else { return };
        self.watch.note(&hello.worker, sample, now);
        for job in self.jobs.values_mut().filter(|job| !job.is_over()) {
            let works = || sample.lanes.iter().any(|lane| lane.job.as_deref() == Some(&*job.id));
            if job.seen.record.knows(&hello.worker) || works() {
                let at = now.saturating_sub(job.started).as_secs_f64();
                job.seen.record.note(&job.id, &hello.worker, sample, at);
            }
        }
    }

    pub(super) fn look_at_the_workers(&mut self, running: &[JobId], now: Now) {
        self.watch.look(now);
        let findings = self.watch.findings(now);
        if findings.is_empty() {
            return;
        }
        for id in running {
            let watch = &self.watch;
            let Some(job) = self.jobs.get_mut(id) else { continue };
            let ours = findings.iter().filter(|finding| watch.works_for(&finding.worker, id));
            ours.for_each(|finding| job.note_finding(finding, now));
        }
    }

    /// What is wrong with workers at the moment.
    #[must_use]
    pub fn findings(&self, now: Now) -> Vec<Finding> {
        self.watch.findings(now)
    }

    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Tasks that workers could do, by the engine class that their job is pinned to. While a recording is not indexed it
    /// counts as one task, whatever comes of it.
    #[must_use]
    pub fn backlog(&self) -> BTreeMap<String, u64> {
        let mut backlog: BTreeMap<String, u64> = BTreeMap::new();
        for job in self.jobs.values() {
            let waits = matches!(job.state(), JobState::Planning | JobState::Running) && !job.closed && !job.over_quota;
            let share = &job.share;
            let held = job.held_share();
            let left = share.recordings.saturating_sub(share.recordings_indexed)
                + share.shards.saturating_sub(share.shards_done)
                + job.matches.saturating_sub(job.matches_done);
            let left = left.saturating_sub(held);
            if waits && left > 0 {
                let class = job.pinned().map_or_else(|| "any".to_owned(), ToString::to_string);
                *backlog.entry(class).or_default() += left;
            }
        }
        backlog
    }
}
