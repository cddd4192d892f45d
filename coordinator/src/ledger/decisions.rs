//! What people decide about jobs, and what it takes to take work off the bus: for a job, or for one match of it.

use fulltime_common::{
    Exit,
    wire::{Band, JobFailure, JobState, Task},
};

use super::{
    Action, Decision, Entry, Job, JobId, Ledger, Now, Subscriber, WorkId, discard,
    entry::Phase,
    job::{asked_to_pause, cancelled},
};

/// How a job, or a match of it, leaves the work that it has subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// The job is paused: its queue is withdrawn, what runs goes on and counts.
    Pause,
    /// One match is held: its queued tasks are taken off one by one, what runs goes on and counts.
    Hold,
    /// The job is cancelled: its queue is withdrawn, what runs for nobody else is stopped.
    Cancel,
    /// One match is planned anew: its tasks are taken off one by one and stopped.
    Drop,
    /// The job is taken up anew: it will find its tasks where they are.
    Forget,
}

impl Parting {
    fn keeps_what_runs(self) -> bool {
        matches!(self, Self::Pause | Self::Hold)
    }

    fn stops_what_runs(self) -> bool {
        matches!(self, Self::Cancel | Self::Drop)
    }

    /// Task by task, where the whole queue of the job is not withdrawn.
    fn discards(self) -> bool {
        matches!(self, Self::Hold | Self::Drop)
    }
}

impl Ledger {
    pub(super) fn decided_by_people(&mut self, id: &JobId, decision: Decision, now: Now, actions: &mut Vec<Action>) {
        match decision {
            Decision::Cancel => self.cancel(id, now, actions),
            Decision::Pause => {
                self.pause(id, asked_to_pause(), now, actions);
                self.with(id, Job::pause_for_good);
            }
            Decision::Resume => self.resume(id, now, actions),
            Decision::Priority { band } => self.prioritise(id, band, now, actions),
            Decision::Retry => {
                if self.jobs.get(id).is_some_and(|job| job.state() == JobState::Finished) {
                    self.book(id, true, now, actions);
                    self.jobs.insert(id.clone(), Job::new(id.clone(), now));
                }
            }
        }
    }

    pub(super) fn forget(&mut self, id: &JobId, now: Now, actions: &mut Vec<Action>) {
        if self.jobs.get(id).is_some_and(|job| job.state().is_over()) {
            self.part(id, None, Parting::Forget, now, actions);
            self.jobs.remove(id);
        }
    }

    pub(super) fn pause(&mut self, id: &JobId, failure: JobFailure, now: Now, actions: &mut Vec<Action>) {
        if self.jobs.get(id).is_none_or(|job| job.is_over() || job.is_paused()) {
            return;
        }
        self.with(id, |job| job.pause(failure));
        actions.push(Action::Withdraw { job: id.clone() });
        self.part(id, None, Parting::Pause, now, actions);
    }

    /// As [`Ledger::pause`]; a job that only wants room goes on by itself once there is some.
    pub(super) fn pause_unfit(&mut self, id: &JobId, failure: JobFailure, now: Now, actions: &mut Vec<Action>) {
        if self.jobs.get(id).is_none_or(|job| job.is_over() || job.is_paused()) {
            return;
        }
        let wants_room = failure.exit == Exit::Store as u8;
        self.pause(id, failure, now, actions);
        self.with(id, |job| job.wants_room = wants_room);
    }

    /// Jobs that pause because their output could not be written.
    #[must_use]
    pub fn wanting_room(&self) -> Vec<JobId> {
        let wanting = self.jobs.values().filter(|job| job.wants_room && !job.is_over());
        wanting.map(|job| job.id.clone()).collect()
    }

    fn resume(&mut self, id: &JobId, now: Now, actions: &mut Vec<Action>) {
        for entry in self.work.values_mut().filter(|entry| entry.account().is_some_and(|s| s.job == *id)) {
            entry.charges.forgive();
        }
        self.book(id, true, now, actions);
        self.with(id, |job| job.resume(now, actions));
    }

    fn cancel(&mut self, id: &JobId, now: Now, actions: &mut Vec<Action>) {
        if self.jobs.get(id).is_none_or(|job| matches!(job.state(), JobState::Cancelled | JobState::Finished)) {
            return;
        }
        actions.push(Action::Withdraw { job: id.clone() });
        self.part(id, None, Parting::Cancel, now, actions);
        if let Some(job) = self.jobs.get_mut(id) {
            job.end(JobState::Cancelled, Some(cancelled()), now);
        }
    }

    fn prioritise(&mut self, id: &JobId, band: Band, now: Now, actions: &mut Vec<Action>) {
        self.with(id, |job| job.band = band);
        for work in self.concerned(id, None) {
            let jobs = &self.jobs;
            let Some(entry) = self.work.get_mut(&work) else { continue };
            let bands = entry.subscribers.iter().filter_map(|s| jobs.get(&s.job)).map(|job| job.band);
            let urgent = bands.min().unwrap_or(band);
            self.move_to(&work, urgent, now, actions);
        }
    }

    /// What is queued goes to the other band's queue; what runs only changes its place in the books.
    pub(super) fn move_to(&mut self, work: &WorkId, band: Band, now: Now, actions: &mut Vec<Action>) {
        let Some(entry) = self.work.get_mut(work).filter(|entry| entry.band != band) else { return };
        let before = std::mem::replace(&mut entry.band, band);
        let moves = entry.phase == Phase::Out && !entry.is_running() && !entry.live.is_empty();
        if let Some(busy) = self.busy.get_mut(&before) {
            *busy = busy.saturating_sub(1);
        }
        *self.busy.entry(band).or_default() += 1;
        if moves {
            self.again(work, now, actions);
        }
    }

    fn concerned(&self, id: &JobId, at: Option<u32>) -> Vec<WorkId> {
        let wants = |s: &Subscriber| s.job == *id && at.is_none_or(|at| s.place.at == at);
        let entries = self.work.iter().filter(|(_, entry)| entry.subscribers.iter().any(wants));
        entries.map(|(work, _)| work.clone()).collect()
    }

    /// Holds a match of every job that wants this work.
    pub(super) fn hold(&mut self, work: &WorkId, failure: &JobFailure, now: Now, actions: &mut Vec<Action>) {
        let subscribers = self.work.get(work).map(|entry| entry.subscribers.clone()).unwrap_or_default();
        for subscriber in subscribers {
            self.with(&subscriber.job, |job| job.hold(subscriber.place.at, failure.clone()));
            self.part(&subscriber.job, Some(subscriber.place.at), Parting::Hold, now, actions);
        }
    }

    /// Takes a job, or one match of it, off all work. Work that another job wants goes on, on that job's account: without
    /// a second release if it runs already.
    pub(super) fn part(&mut self, id: &JobId, at: Option<u32>, how: Parting, now: Now, actions: &mut Vec<Action>) {
        let mut stops = Vec::new();
        for work in self.concerned(id, at) {
            let queued = self.queued_by(&work, id, how);
            if how.discards() {
                discard(queued, actions);
            }
            let Some(entry) = self.work.get_mut(&work) else { continue };
            entry.live.retain(|live| live.run.is_some() || live.account.as_ref() != Some(id));
            if how.keeps_what_runs() && entry.is_running() {
                continue;
            }
            let was_account = entry.account().is_some_and(|s| s.job == *id);
            let leaves = |s: &Subscriber| s.job == *id && at.is_none_or(|at| s.place.at == at);
            let (leaving, staying): (Vec<_>, Vec<_>) =
                std::mem::take(&mut entry.subscribers).into_iter().partition(leaves);
            entry.subscribers = staying;
            if entry.subscribers.is_empty() {
                if how.stops_what_runs() && entry.phase == Phase::Out {
                    stops.push((work.digest, entry.release()));
                }
                self.least_release = self.least_release.max(entry.release() + 1);
                self.remove(&work);
            } else if was_account {
                self.go_on(&work, now, actions);
            }
            for Subscriber { job, place } in leaving {
                self.with(&job, |job| job.put_back(place));
            }
        }
        if !stops.is_empty() {
            actions.push(Action::Stop { job: id.clone(), work: stops });
        }
    }

    /// The queued releases on a job's account, to be taken off one by one.
    fn queued_by(&self, work: &WorkId, id: &JobId, how: Parting) -> Vec<Task> {
        let Some(entry) = self.work.get(work).filter(|_| how.discards()) else { return Vec::new() };
        let queued = entry.live.iter().filter(|live| live.run.is_none() && live.account.as_ref() == Some(id));
        queued.filter_map(|live| self.task(work, live)).collect()
    }

    /// Work whose account has left.
    fn go_on(&mut self, work: &WorkId, now: Now, actions: &mut Vec<Action>) {
        let Some(entry) = self.work.get(work) else { return };
        match entry.phase {
            Phase::Asking => actions.extend(self.check(work, entry)),
            Phase::Out if entry.is_stranded() => self.again(work, now, actions),
            Phase::Out => {}
        }
    }

    /// Nobody who wants this work may run now: it waits with them.
    pub(super) fn drop_work(&mut self, work: &WorkId, actions: &mut Vec<Action>) {
        let queued = self.work.get_mut(work).map(Entry::take_queued).unwrap_or_default();
        discard(queued.iter().filter_map(|live| self.task(work, live)).collect(), actions);
        let Some(entry) = self.remove(work) else { return };
        self.least_release = self.least_release.max(entry.release() + 1);
        for Subscriber { job, place } in entry.subscribers {
            self.with(&job, |job| job.put_back(place));
        }
    }
}
