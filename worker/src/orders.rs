//! What the leader has said: its epoch, and which work nobody wants any more. Pure; the service feeds it.

use std::collections::{BTreeMap, VecDeque};

use fulltime_common::{
    Digest,
    wire::{Control, Task},
};

/// Unwanted tasks remembered, for those that are still on their way.
const STOPPED: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub struct Orders {
    /// The highest seen, in tasks or controls.
    epoch: u64,
    /// Unwanted up to which release.
    stopped: BTreeMap<Digest, u32>,
    /// The same digests, oldest first.
    order: VecDeque<Digest>,
}

/// What to do with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Run,
    /// Released by a leader that leads no more: its successor releases again what it wants.
    Void,
    /// For anybody but this worker.
    Elsewhere,
}

impl Orders {
    /// Whether it concerns anybody who runs: who leads does not, and is said every second.
    pub fn obey(&mut self, control: Control) -> bool {
        match control {
            Control::Lead { epoch } => {
                self.hear(epoch);
                false
            }
            Control::Stop { epoch, work } => {
                let counts = self.hear(epoch);
                if counts {
                    work.into_iter().for_each(|(digest, release)| self.stop(digest, release));
                }
                counts
            }
        }
    }

    pub fn admit(&mut self, task: &Task, worker: &str) -> Admission {
        if !self.hear(task.epoch) {
            Admission::Void
        } else if task.avoid.as_deref() == Some(worker) {
            Admission::Elsewhere
        } else {
            Admission::Run
        }
    }

    pub fn unwanted(&self, task: &Task) -> bool {
        self.stopped.get(&task.digest).is_some_and(|last| task.release <= *last)
    }

    /// Whether this epoch is still in force.
    fn hear(&mut self, epoch: u64) -> bool {
        self.epoch = self.epoch.max(epoch);
        epoch == self.epoch
    }

    fn stop(&mut self, digest: Digest, release: u32) {
        if let Some(last) = self.stopped.get_mut(&digest) {
            *last = release.max(*last);
            return;
        }
        self.stopped.insert(digest, release);
        self.order.push_back(digest);
        if self.order.len() > STOPPED
            && let Some(oldest) = self.order.pop_front()
        {
            self.stopped.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use fulltime_common::wire::{Band, TaskKind};

    use super::*;

    fn task(name: &str, release: u32, epoch: u64) -> Task {
        Task {
            job: "j".into(),
            digest: Digest::of_bytes(name.as_bytes()),
            release,
            epoch,
            band: Band::Normal,
            avoid: Some("w1".into()),
            alone: false,
            looked_for: true,
            archive: "a".into(),
            store: "s".into(),
            out: "o".into(),
            generation: 1,
            trace: None,
            kind: TaskKind::Reduce { inputs: "k".into(), generation: 1 },
        }
    }

    #[test]
    fn an_old_leader_is_not_obeyed_whether_it_speaks_by_task_or_by_control() {
        let mut orders = Orders::default();
        assert_eq!(orders.admit(&task("a", 1, 3), "w2"), Admission::Run);
        assert_eq!(orders.admit(&task("b", 1, 2), "w2"), Admission::Void);
        let stop = |epoch| Control::Stop { epoch, work: vec![(task("a", 1, 3).digest, 1)] };
        assert!(!orders.obey(stop(2)));
        assert!(!orders.unwanted(&task("a", 1, 3)));
        orders.obey(Control::Lead { epoch: 4 });
        assert_eq!(orders.admit(&task("a", 1, 3), "w2"), Admission::Void);
        assert!(orders.obey(stop(4)));
        assert!(orders.unwanted(&task("a", 1, 4)));
    }

    #[test]
    fn a_later_release_is_wanted_again() {
        let mut orders = Orders::default();
        orders.obey(Control::Stop { epoch: 1, work: vec![(task("a", 2, 1).digest, 2)] });
        orders.obey(Control::Stop { epoch: 1, work: vec![(task("a", 1, 1).digest, 1)] });
        assert!(orders.unwanted(&task("a", 1, 1)) && orders.unwanted(&task("a", 2, 1)));
        assert!(!orders.unwanted(&task("a", 3, 1)));
    }

    #[test]
    fn a_worker_leaves_alone_what_must_run_elsewhere() {
        assert_eq!(Orders::default().admit(&task("a", 1, 1), "w1"), Admission::Elsewhere);
    }

    #[test]
    fn the_oldest_unwanted_work_is_forgotten_first() {
        let mut orders = Orders::default();
        let name = |i: usize| format!("t{i}");
        for i in 0..=STOPPED {
            orders.obey(Control::Stop { epoch: 1, work: vec![(task(&name(i), 1, 1).digest, 1)] });
        }
        assert_eq!((orders.stopped.len(), orders.order.len()), (STOPPED, STOPPED));
        assert!(!orders.unwanted(&task(&name(0), 1, 1)) && orders.unwanted(&task(&name(STOPPED), 1, 1)));
    }
}
