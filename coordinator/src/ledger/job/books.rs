//! What a job has cost and what it may: failed attempts, troubles in a row, lane time, its run window.

use std::time::Duration;

use fulltime_common::{
    Exit,
    digest::Digest,
    wire::{JobFailure, Outcome},
};

use super::{
    super::{Attempt, Booking, Now, Policy, charges::Charges, entry::Charge},
    Job, failure,
};

/// Of how many shards the duration is remembered.
const DURATIONS: usize = 64;

/// Recorded attempts of one unit of work.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    attempts: Vec<Attempt>,
    /// Number of the last one, recorded or not.
    last: u32,
}

impl Job {
    /// Numbers a failure that costs budget.
    pub fn attempt(&mut self, digest: Digest, charge: Charge) -> Attempt {
        let history = self.history.entry(digest).or_default();
        history.last += 1;
        let round = self.setting.as_ref().map_or(0, |setting| setting.round);
        Attempt {
            digest,
            number: history.last,
            generation: self.generation(),
            round,
            release: charge.release,
            worker: charge.worker,
            disposition: charge.disposition,
            evidence: charge.evidence,
            cause: charge.failure.cause,
            exit: charge.failure.exit,
            hint: charge.failure.hint,
        }
    }

    pub fn recorded(&mut self, attempt: Attempt) {
        let history = self.history.entry(attempt.digest).or_default();
        history.last = history.last.max(attempt.number);
        if history.attempts.iter().all(|known| known.number != attempt.number) {
            history.attempts.push(attempt);
        }
    }

    pub fn charges(&self, digest: &Digest, policy: &Policy) -> Charges {
        match (self.history.get(digest), &self.setting) {
            (Some(history), Some(s)) => Charges::of(&history.attempts, s.generation, s.round, policy),
            _ => Charges::default(),
        }
    }

    pub fn forget_attempts(&mut self, digest: &Digest) {
        self.history.remove(digest);
    }

    /// Notes an infrastructure failure. Returns how many there were since the last commit, and for how long.
    pub fn trouble(&mut self, cause: &str, now: Now) -> (u32, Duration) {
        let (count, since) = self.streak.get_or_insert((0, now));
        *count += 1;
        let lasting = (*count, now.saturating_sub(*since));
        self.problem(cause.to_owned());
        lasting
    }

    pub fn goes_well(&mut self) {
        self.streak = None;
    }

    /// Notes what a shard cost that was run.
    pub fn ran(&mut self, outcome: &Outcome) {
        let Ok(elapsed) = Duration::try_from_secs_f64(outcome.elapsed_seconds) else { return };
        self.seen.lane_seconds += elapsed.as_secs_f64();
        self.lane_time = self.lane_time.saturating_add(elapsed);
        self.unbooked = self.unbooked.saturating_add(elapsed);
        if self.durations.len() == DURATIONS {
            self.durations.pop_front();
        }
        self.durations.push_back(elapsed);
    }

    /// Of the last shards that ran; none before there are a few.
    pub fn median_duration(&self) -> Option<Duration> {
        let mut durations: Vec<_> = self.durations.iter().copied().collect();
        durations.sort_unstable();
        durations.get(durations.len() / 2).copied().filter(|_| durations.len() >= 5)
    }

    /// Its lanes have worked as long as they may.
    pub fn over_budget(&self) -> Option<JobFailure> {
        let most = self.setting.as_ref()?.max_lane_time.filter(|most| self.lane_time > *most)?;
        let cause = format!("its lanes have worked for {:.1} hours, which is its limit", most.as_secs_f64() / 3600.0);
        Some(failure(Exit::Paused, cause, Some("resume it to grant as much again, or raise `max_gpu_hours`")))
    }

    /// What is to be booked now: after a while, when it is a hundredth of a limit, and when nothing more may come.
    pub fn book(&mut self, quota: Option<Duration>, all: bool, policy: &Policy, now: Now) -> Option<Booking> {
        let setting = self.setting.as_ref().filter(|_| !self.unbooked.is_zero())?;
        let since = now.saturating_sub(self.booked);
        let limit = setting.max_lane_time.into_iter().chain(quota).min();
        let matters = limit.is_some_and(|limit| self.unbooked >= limit / 100);
        let rests = all || self.over.is_some() || self.paused.is_some();
        if rests || since >= policy.booking || (matters && since >= policy.booking_least) {
            self.booked = now;
            let (tenant, round) = (setting.tenant.clone(), setting.round);
            return Some(Booking { job: self.id.clone(), tenant, round, time: std::mem::take(&mut self.unbooked) });
        }
        None
    }

    /// Opens or closes its run window.
    pub fn look_at_the_clock(&mut self, minute: u16) {
        let window = self.setting.as_ref().and_then(|setting| setting.window);
        self.closed = match window {
            None => false,
            Some((from, to)) if from <= to => !(from..to).contains(&minute),
            Some((from, to)) => (to..from).contains(&minute),
        };
    }
}
