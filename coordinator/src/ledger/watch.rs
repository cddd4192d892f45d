//! What only the passing of time shows: lost work, jobs that no worker can run, shards that take too long.

use std::{cmp::Reverse, time::Duration};

use super::{Action, Entry, JobId, Ledger, Now, WorkId, job, pool_of};

/// How a queue moves. Tasks leave it about in the order in which they were released, so one that waits behind others is
/// not lost, however long it waits: a full window on slow lanes takes longer than any patience.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flow {
    /// When the latest release that has begun was made.
    begun: Now,
    /// When a task last began.
    moved: Now,
}

impl Flow {
    pub(super) fn moved(&mut self, released: Now, now: Now) {
        (self.begun, self.moved) = (self.begun.max(released), now);
    }

    /// Whether later releases than this one have begun.
    fn has_passed(&self, released: Now) -> bool {
        released < self.begun
    }

    fn stands_still(&self, patience: Duration, now: Now) -> bool {
        now.saturating_sub(self.moved) >= patience
    }
}

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

    /// A released task of which nobody has spoken for a long time, though it was its turn, was lost by the queue, or its event
    /// was: the store knows more. If it does not, the task is released again, in place of what may still be queued.
    fn ask_for_lost_work(&mut self, now: Now, actions: &mut Vec<Action>) {
        let silence = self.policy.lost_after();
        let mut silent = Vec::new();
        for (work, entry) in &mut self.work {
            let flow = self.flows.get(&(entry.is_map(), entry.band)).copied().unwrap_or_default();
            // Neighbours in a queue overtake each other a little; only who is left behind for long is lost.
            let left = entry.left_behind(flow.has_passed(entry.released_at()), now) >= silence;
            let missed = entry.is_running() || left || flow.stands_still(silence, now);
            if missed && entry.silent_for(now) >= silence {
                silent.push(work.clone());
            }
        }
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

    /// At the tail of a job, lanes that stand idle take over what waits for a lane elsewhere; then they run once more what takes
    /// much longer than others did, and again if that run is no faster. The first commit counts.
    fn race_the_stragglers(&mut self, id: &JobId, now: Now, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get(id).filter(|job| !job.is_over() && !job.is_paused() && !job.has_more()) else {
            return;
        };
        let least = job
            .median_duration()
            .map(|median| (median * self.policy.straggler_percent / 100).max(self.policy.straggler_least));
        let of_job = self.work.iter().filter(|(_, entry)| entry.account().is_some_and(|s| s.job == *id));
        let candidate = |(work, entry): (&WorkId, &Entry)| {
            let slow = || least.and_then(|least| entry.straggles(least, self.policy.rivals, now));
            let run = entry.waits_at().or_else(slow)?;
            let kind = job.task(entry.account()?.place)?;
            let age = Reverse(now.saturating_sub(run.since));
            Some((!run.waits, age, work.clone(), pool_of(&kind), run.worker.clone()))
        };
        let mut candidates: Vec<_> = of_job.filter_map(candidate).collect();
        // What waits comes first, the longest before the others.
        candidates.sort_by_key(|candidate| (candidate.0, candidate.1));
        // Idle lanes will take what is queued first.
        let mut taken = self.work.values().filter(|entry| !entry.is_running()).count();
        for (runs, _, work, pool, worker) in candidates {
            if self.fleet.idle_lanes(&pool, &worker, now) > taken {
                taken += 1;
                if !runs {
                    self.call_off(&work, None, actions);
                }
                if let Some(entry) = self.work.get_mut(&work) {
                    if runs { entry.rival() } else { entry.live.clear() }
                }
                self.release(&work, Some(worker), now, actions);
            }
        }
    }
}
