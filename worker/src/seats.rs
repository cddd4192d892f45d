//! Which lane runs what, and what waits for one, for the heartbeat.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use fulltime_common::{
    Digest,
    wire::{LaneState, Task},
};

use crate::{
    attempt::{Phase, Watcher},
    progress::Pulse,
};

/// The lanes of a worker. A task that runs alone, in a process of its own, takes a further one for as long as it runs.
#[derive(Debug)]
pub struct Seats {
    /// Those that work.
    lanes: AtomicUsize,
    plan: Mutex<Plan>,
    /// Beats with every lane.
    pub pulse: Pulse,
}

#[derive(Debug, Default)]
struct Plan {
    taken: BTreeMap<usize, LaneState>,
    /// Numbers that were taken before and are not now.
    free: BTreeSet<usize>,
    /// Frames since the start, by lane.
    totals: BTreeMap<usize, u64>,
    /// Tasks that are here and on no lane yet, by the order in which they came.
    waiting: BTreeMap<u64, (String, Digest)>,
    came: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seats {
    pub fn new(lanes: usize) -> Self {
        Self { lanes: AtomicUsize::new(lanes), plan: Mutex::default(), pulse: Pulse::default() }
    }

    /// So many lanes work from now on.
    pub fn set_lanes(&self, lanes: usize) {
        self.lanes.store(lanes, Ordering::Relaxed);
    }

    /// Lanes that there are without those of tasks that run alone.
    pub fn lanes(&self) -> usize {
        self.lanes.load(Ordering::Relaxed)
    }

    /// One entry a lane, in order. A task that began a moment before the one before it had left its seat is shown where
    /// there is room.
    pub fn states(&self) -> Vec<LaneState> {
        let plan = locked(&self.plan);
        let lanes = self.lanes();
        let mut further = plan.taken.range(lanes..).map(|(_, state)| state);
        let state = |seat| {
            let frames_total = plan.totals.get(&seat).copied().unwrap_or(0);
            let state = plan.taken.get(&seat).or_else(|| further.next());
            LaneState { frames_total, ..state.cloned().unwrap_or_default() }
        };
        let mut states: Vec<_> = (0..lanes).map(state).collect();
        states.extend(further.cloned());
        // What was done on further seats is not forgotten with them.
        let more: u64 = plan.totals.range(lanes..).map(|(_, frames)| frames).sum();
        if let Some(last) = states.last_mut() {
            last.frames_total += more;
        }
        states
    }

    /// Tasks on no lane yet, with their jobs.
    pub fn waiting(&self) -> Vec<(String, Digest)> {
        locked(&self.plan).waiting.values().cloned().collect()
    }

    fn wait(&self, task: &Task) -> u64 {
        let mut plan = locked(&self.plan);
        plan.came += 1;
        let number = plan.came;
        plan.waiting.insert(number, (task.job.clone(), task.digest));
        number
    }

    fn wait_no_more(&self, number: u64) {
        locked(&self.plan).waiting.remove(&number);
    }

    fn take(&self, number: u64, state: LaneState) -> usize {
        let mut plan = locked(&self.plan);
        plan.waiting.remove(&number);
        let seat = plan.free.pop_first().unwrap_or(plan.taken.len());
        plan.taken.insert(seat, state);
        seat
    }

    fn leave(&self, seat: usize) {
        let mut plan = locked(&self.plan);
        plan.taken.remove(&seat);
        plan.free.insert(seat);
    }

    fn add_frames(&self, seat: usize, frames: u64) {
        let mut plan = locked(&self.plan);
        *plan.totals.entry(seat).or_default() += frames;
        if let Some(state) = plan.taken.get_mut(&seat) {
            state.frames += frames;
        }
    }
}

/// One task's seat, taken when it begins to run and left when this is dropped. Until then it waits for one.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    number: u64,
    task: LaneState,
    at: Mutex<Option<usize>>,
}

impl Seat {
    pub fn of(seats: &Arc<Seats>, task: &Task) -> Self {
        let number = seats.wait(task);
        let task = LaneState { task: Some(task.digest), job: Some(task.job.clone()), ..LaneState::default() };
        Self { seats: Arc::clone(seats), number, task, at: Mutex::default() }
    }
}

impl Watcher for Seat {
    fn phase(&self, phase: Phase) {
        if phase.holds_lane() {
            locked(&self.at).get_or_insert_with(|| self.seats.take(self.number, self.task.clone()));
        }
    }

    fn beat(&self, frames: u64) {
        self.seats.pulse.beat();
        if let Some(seat) = *locked(&self.at)
            && frames > 0
        {
            self.seats.add_frames(seat, frames);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        match locked(&self.at).take() {
            Some(seat) => self.seats.leave(seat),
            None => self.seats.wait_no_more(self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use fulltime_common::wire::{Band, TaskKind};

    use super::*;

    fn seat(seats: &Arc<Seats>, name: &str) -> Seat {
        let kind = TaskKind::Reduce { inputs: "k".into(), generation: 1 };
        let (archive, store, out) = ("a".into(), "s".into(), "o".into());
        let (job, digest) = (name.to_owned(), Digest::of_bytes(name.as_bytes()));
        let (band, avoid) = (Band::Normal, None);
        Seat::of(
            seats,
            &Task {
                job,
                digest,
                release: 1,
                epoch: 1,
                band,
                avoid,
                alone: false,
                looked_for: true,
                archive,
                store,
                out,
                generation: 1,
                trace: None,
                kind,
            },
        )
    }

    #[test]
    fn a_lane_shows_its_task_while_it_runs_and_keeps_its_total() {
        let seats = Arc::new(Seats::new(2));
        let (first, second) = (seat(&seats, "a"), seat(&seats, "b"));
        first.phase(Phase::Waiting);
        let waiting = |seats: &Seats| seats.waiting().into_iter().map(|(job, _)| job).collect::<Vec<_>>();
        assert_eq!(waiting(&seats), ["a", "b"]);
        assert!(seats.states().iter().all(|lane| lane.task.is_none()), "waiting takes no lane");
        first.phase(Phase::Running);
        second.phase(Phase::Running);
        drop(seat(&seats, "given back"));
        assert!(waiting(&seats).is_empty());
        first.beat(5);
        second.beat(7);
        let jobs = |seats: &Seats| seats.states().into_iter().map(|lane| (lane.job, lane.frames)).collect::<Vec<_>>();
        assert_eq!(jobs(&seats), [(Some("a".into()), 5), (Some("b".into()), 7)]);
        drop(first);
        assert_eq!((jobs(&seats)[0].clone(), seats.states()[0].frames_total), ((None, 0), 5));
        let third = seat(&seats, "c");
        third.phase(Phase::Canary);
        third.phase(Phase::Running);
        assert_eq!(jobs(&seats)[0], (Some("c".into()), 0), "the free lane, once");
        let early = seat(&seats, "e");
        early.phase(Phase::Running);
        drop(third);
        let lanes = seats.states();
        assert_eq!((lanes.len(), lanes[0].job.as_deref()), (2, Some("e")), "shown where there is room");
        drop(early);
        let alone = seat(&seats, "d");
        let third = seat(&seats, "c");
        third.phase(Phase::Running);
        alone.phase(Phase::Running);
        assert_eq!(seats.states().len(), 3);
        drop(alone);
        assert_eq!(seats.states().len(), 2);
    }
}
