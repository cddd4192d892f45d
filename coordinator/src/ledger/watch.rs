//! What only the passing of time shows: lost work, jobs that no worker can run, shards that take too long.

use std::{cmp::Reverse, time::Duration};

use super::{Action, Entry, JobId, Ledger, Now, Pool, WorkId, job, pool_of};

impl Ledger {
    pub(super) fn tick(&mut self, minute: Option<u16>, now: Now, actions: &mut Vec<Action>) {
        self.fleet.forget_the_silent(now);
        self.minute = minute.or(self.minute);
        let running = self.frames_in_lanes(now);
        let ids: Vec<_> = self.jobs.values().filter(|job| !job.is_over()).map(|job| job.id.clone()).collect();
        for id in &ids {
            let frames = running.get(id).copied().unwrap_or_default();
            self.with(id, |job| {
                job.sample(frames, now);
                job.ask_for_the_past(actions);
                minute.into_iter().for_each(|minute| job.look_at_the_clock(minute));
            });
        }
        let all: Vec<_> = self.jobs.keys().cloned().collect();
        all.iter().for_each(|id| self.book(id, false, now, actions));
        for id in &ids {
            let over = self.is_over_quota(id);
            self.with(id, |job| job.over_quota = over);
        }
        self.ask_for_lost_work(now, actions);
        self.pause_the_hopeless(now, actions);
        self.look_at_the_workers(&ids, now);
        for id in &ids {
            self.race_the_stragglers(id, now, actions);
        }
        for job in self.jobs.values_mut() {
            if job.is_news() {
                actions.push(Action::Notify { job: job.id.clone() });
            }
        }
    }

    /// A released task of which nobody has spoken for a long time was lost by the queue, or its event was: the store knows
    /// more. If it does not, the task is released again, in place of what may still be queued.
    fn ask_for_lost_work(&mut self, now: Now, actions: &mut Vec<Action>) {
        let silence = self.policy.lost_after();
        let silent = self.work.iter().filter(|(_, entry)| entry.silent_for(now) >= silence);
        let silent: Vec<_> = silent.map(|(work, _)| work.clone()).collect();
        for work in silent {
            if let Some(entry) = self.work.get_mut(&work) {
                entry.asked_again();
            }
            actions.extend(self.work.get(&work).and_then(|entry| self.check(&work, entry)));
        }
    }

    /// Jobs that no worker can or will run: the last fit worker has declared itself unfit, or the engine class that the
    /// plan pins is on none of the workers that are there.
    fn pause_the_hopeless(&mut self, now: Now, actions: &mut Vec<Action>) {
        let mut hopeless = Vec::new();
        let anybody_fit = self.fleet.fit() > 0;
        for (id, job) in self.jobs.iter_mut().filter(|(_, job)| !job.is_over() && !job.is_paused()) {
            let unfit = self.fleet.failure_of(id).filter(|_| !anybody_fit).cloned();
            let waits = || self.work.values().any(|entry| entry.waits_for_class(id));
            let wrong_class = job.pinned().filter(|class| anybody_fit && !self.fleet.has(class) && waits());
            let (failure, grace) = match (unfit, wrong_class) {
                (Some(failure), _) => (failure, self.policy.unfit_grace),
                (None, Some(class)) => (job::wrong_class(class), self.policy.class_grace),
                (None, None) => {
                    job.hopeless_since = None;
                    continue;
                }
            };
            if now.saturating_sub(*job.hopeless_since.get_or_insert(now)) >= grace {
                hopeless.push((id.clone(), failure));
            }
        }
        for (id, failure) in hopeless {
            self.pause(&id, failure, now, actions);
        }
    }

    pub(super) fn choose_engines(&mut self, actions: &mut Vec<Action>) {
        let Some(class) = self.fleet.choose() else { return };
        self.engineless = false;
        let ids: Vec<_> = self.jobs.values().filter(|job| job.wants_engine()).map(|job| job.id.clone()).collect();
        for id in ids {
            self.with(&id, |job| job.pin(class.clone(), actions));
        }
    }

    /// At the tail of a job, lanes that stand idle run a shard once more that takes much longer than others did, and again
    /// if that run is no faster. The first commit counts.
    fn race_the_stragglers(&mut self, id: &JobId, now: Now, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get(id).filter(|job| !job.is_over() && !job.is_paused() && !job.has_more()) else {
            return;
        };
        let Some(median) = job.median_duration() else { return };
        let least = (median * self.policy.straggler_percent / 100).max(self.policy.straggler_least);
        let of_job = |entry: &Entry| entry.account().is_some_and(|s| s.job == *id);
        let slow = self.work.iter().filter(|(_, entry)| of_job(entry));
        let slow =
            slow.filter_map(|(work, entry)| Some((entry.straggles(least, self.policy.rivals, now)?, entry, work)));
        let mut slow: Vec<(Duration, WorkId, Pool, String)> = slow
            .filter_map(|(run, entry, work)| {
                let kind = job.task(entry.account()?.place)?;
                Some((now.saturating_sub(run.since), work.clone(), pool_of(&kind), run.worker.clone()))
            })
            .collect();
        slow.sort_by_key(|(age, ..)| Reverse(*age));
        // Idle lanes will take what is queued first.
        let mut taken = self.work.values().filter(|entry| !entry.is_running()).count();
        for (_, work, pool, worker) in slow {
            if self.fleet.idle_lanes(&pool, &worker, now) > taken {
                taken += 1;
                if let Some(entry) = self.work.get_mut(&work) {
                    entry.rival();
                }
                self.release(&work, Some(worker), now, actions);
            }
        }
    }
}
