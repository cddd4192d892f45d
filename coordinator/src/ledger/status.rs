//! What the ledger tells people: figures, rates, and what is in the way.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use fulltime_common::wire::{Hello, JobState, JobStatus};

use super::{JobId, Ledger, Now, entry::Entry, job::Job};

/// Over which frames per second are counted.
const WINDOW: Duration = Duration::from_secs(10);
const BETWEEN_SAMPLES: Duration = Duration::from_millis(250);

/// Frames per second over a sliding window.
#[derive(Debug, Clone, Default)]
pub(super) struct Rate {
    samples: VecDeque<(Now, u64)>,
}

impl Rate {
    pub fn note(&mut self, frames: u64, now: Now) {
        if let Some((at, last)) = self.samples.back_mut()
            && now.saturating_sub(*at) < BETWEEN_SAMPLES
        {
            *last = frames.max(*last);
            return;
        }
        // What lanes report and what was committed come by different ways: never count backwards.
        let frames = self.samples.back().map_or(frames, |(_, last)| frames.max(*last));
        self.samples.push_back((now, frames));
        while self.samples.len() > 2 && self.samples.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    pub fn per_second(&self) -> f64 {
        match (self.samples.front(), self.samples.back()) {
            (Some((from, first)), Some((to, last))) if to > from => {
                (last - first) as f64 / to.saturating_sub(*from).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

impl Job {
    /// `running` are frames that lanes have done of shards not yet committed.
    pub fn sample(&mut self, running: u64, now: Now) {
        self.rate.note(self.frames_run + running, now);
        let at = now.saturating_sub(self.started).as_secs_f64();
        self.seen.record.frames.total(at, (self.frames_run + running) as f64);
    }

    fn status(&self, running: u64, now: Now) -> JobStatus {
        let tally = &self.share;
        let state = self.state();
        let fps = if state.is_over() { 0.0 } else { self.rate.per_second() };
        let frames_done = (tally.frames_done + running).min(tally.frames);
        // While recordings are being indexed, those still unknown are taken to be as long as the known ones.
        let expected = if tally.recordings_indexed == 0 {
            0.0
        } else {
            tally.frames as f64 * tally.recordings as f64 / tally.recordings_indexed as f64
        };
        let left = (expected - frames_done as f64).max(0.0);
        JobStatus {
            job: self.id.to_string(),
            state,
            matches: self.matches,
            matches_done: self.matches_done,
            recordings: tally.recordings,
            recordings_indexed: tally.recordings_indexed,
            shards: tally.shards,
            shards_done: tally.shards_done,
            frames: tally.frames,
            frames_done,
            detections: tally.detections,
            quarantined: tally.lost,
            problems: self.problems.iter().cloned().collect(),
            elapsed_seconds: self.ended.unwrap_or(now).saturating_sub(self.started).as_secs_f64(),
            fps,
            eta_seconds: (state == JobState::Running && fps > 0.0).then(|| left / fps),
            stage_seconds: self.stages.clone(),
            manifest: self.manifest.clone(),
            failure: self.failure(),
            timeline: self.seen.record.frames.rates(),
            failed_attempts: self.seen.failures.clone(),
        }
    }
}

impl Ledger {
    /// One job, or all of them in the order of their names.
    #[must_use]
    pub fn status(&self, job: Option<&str>, now: Now) -> Vec<JobStatus> {
        let running = self.frames_in_lanes(now);
        let wanted = self.jobs.values().filter(|j| job.is_none_or(|id| *j.id == *id));
        wanted
            .map(|job| {
                let mut status = job.status(running.get(&job.id).copied().unwrap_or_default(), now);
                status.problems.extend(self.in_the_way(job));
                let surplus = status.problems.len().saturating_sub(20);
                status.problems.drain(..surplus);
                status
            })
            .collect()
    }

    /// Workers by their last heartbeat.
    #[must_use]
    pub fn workers(&self, now: Now) -> Vec<Hello> {
        self.fleet.live(now).cloned().collect()
    }

    #[must_use]
    pub fn state(&self, job: &str) -> Option<JobState> {
        self.jobs.get(job).map(Job::state)
    }

    fn in_the_way(&self, job: &Job) -> Option<String> {
        if job.state().is_over() {
            return None;
        }
        if job.closed {
            return Some("waiting for its run window".to_owned());
        }
        if job.over_quota {
            let tenant = job.tenant().unwrap_or_default();
            return Some(format!("waiting for the next month: tenant `{tenant}` has used up its quota"));
        }
        if self.fleet.fit() == 0 {
            return Some("waiting for workers".to_owned());
        }
        let class = job.pinned().filter(|class| !self.fleet.has(class))?;
        Some(format!("waiting for a worker of engine class `{class}`"))
    }

    /// Frames that lanes have done of shards not yet committed, by the job that pays for them.
    pub(super) fn frames_in_lanes(&self, now: Now) -> BTreeMap<JobId, u64> {
        let mut frames = BTreeMap::new();
        for lane in self.fleet.live(now).flat_map(|hello| &hello.lanes) {
            let (Some(digest), Some(job)) = (lane.task, &lane.job) else { continue };
            let entry = self.work_of(job, digest).and_then(|work| self.work.get(&work));
            if let Some(account) = entry.filter(|entry| entry.is_map()).and_then(Entry::account) {
                *frames.entry(account.job.clone()).or_default() += lane.frames;
            }
        }
        frames
    }
}
