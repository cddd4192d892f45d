//! The crew's ward: keeps how every lane is, by what `fulltime-topology` says of its GPUs. A lane that is not well is
//! stopped, what it ran is handed back, and after a doubt it has to show by a canary that it gives the answers that this
//! crew knows, before it gets anything again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as blocking},
    time::{Duration, Instant},
};

use fulltime_common::{
    Digest, Disposition, Exit,
    error::Failure,
    wire::{LanePlace, Task, TaskKind},
};
use fulltime_topology::{
    Action, Alarm, NVML, action,
    health::{State, Verdict},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

use super::keeper::{Canary, Lane};
use crate::{
    executor::{Fitness, TaskFailure},
    layout,
};

/// Longest time by which a driver tells of a fault after what ran has felt it.
const LATE: Duration = Duration::from_secs(1);
/// Between two canaries of a lane that could not show anything yet (it was too hot, say).
const AGAIN: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Ward {
    berths: Vec<fulltime_topology::Lane>,
    state: Mutex<Record>,
    fitness: watch::Sender<Fitness>,
    _over: DropGuard,
}

#[derive(Debug, Default)]
struct Record {
    lanes: Vec<Condition>,
    /// Answers to the canary by map pipeline, as a lane gave them that was well.
    known: BTreeMap<Digest, u64>,
}

#[derive(Debug, Clone, Default)]
struct Condition {
    verdict: Verdict,
    pinned: Option<(bool, String)>,
    /// The last fault of its device.
    fault: Option<(Instant, String)>,
    /// The last map task that it has run to its end: its canary is looked at with the same models.
    last: Option<Box<Task>>,
    /// A canary is under way since.
    trial: Option<Instant>,
}

impl Ward {
    /// Begins to look after these lanes, which are in the order of the berths.
    pub fn open(
        berths: Vec<fulltime_topology::Lane>,
        lanes: &Arc<[Lane]>,
        canaries: mpsc::UnboundedReceiver<Canary>,
    ) -> Arc<Self> {
        let verdict = |lane: &fulltime_topology::Lane| {
            lane.devices
                .iter()
                .map(|device| device.health.clone())
                .max_by_key(|health| health.state)
                .unwrap_or_default()
        };
        let conditions =
            berths.iter().map(|lane| Condition { verdict: verdict(lane), ..Condition::default() }).collect();
        let state = Mutex::new(Record { lanes: conditions, ..Record::default() });
        let over = CancellationToken::new();
        let (fitness, _) = watch::channel(Fitness::default());
        let ward = Arc::new(Self { berths, state, fitness, _over: over.clone().drop_guard() });
        ward.publish();
        let mut uuids: Vec<_> = ward.devices().map(|(_, parent)| parent.to_owned()).collect();
        uuids.sort();
        uuids.dedup();
        if !uuids.is_empty() {
            let (tell, alarms) = mpsc::unbounded_channel();
            let (results, heard) = blocking::channel();
            std::thread::spawn(move || {
                let watched =
                    fulltime_topology::watch(std::env::var_os(NVML), &uuids, &heard, |alarm| drop(tell.send(alarm)));
                if let Err(error) = watched {
                    warn!(%error, "nobody looks after the GPUs: the driver does not answer");
                }
            });
            let rounds = Rounds { ward: Arc::downgrade(&ward), lanes: Arc::clone(lanes), results };
            tokio::spawn(async move {
                tokio::select! {
                    () = over.cancelled() => {}
                    () = rounds.walk(alarms, canaries) => {}
                }
            });
        }
        ward
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lanes with the whole GPUs they use.
    fn devices(&self) -> impl Iterator<Item = (usize, &str)> {
        self.berths.iter().enumerate().flat_map(|(at, lane)| lane.devices.iter().map(move |d| (at, d.parent.as_str())))
    }

    /// How the lanes are, from now on.
    pub fn fitness(&self) -> watch::Receiver<Fitness> {
        self.fitness.subscribe()
    }

    pub fn works(&self, lane: usize) -> bool {
        self.record().lanes.get(lane).is_some_and(|lane| lane.verdict.state.works())
    }

    /// What a lane's process has made of its place.
    pub fn pinned(&self, lane: usize, pinned: bool, words: String) {
        if let Some(condition) = self.record().lanes.get_mut(lane) {
            condition.pinned = Some((pinned, words));
        }
        self.publish();
    }

    /// A lane has run this to its end. Whether its canary's answers should now be learnt.
    pub fn ran(&self, lane: usize, task: &Task) -> bool {
        let TaskKind::Map { shard } = &task.kind else { return false };
        let has_gpu = self.berths.get(lane).is_some_and(|lane| !lane.devices.is_empty());
        let mut record = self.record();
        let unknown = has_gpu && !record.known.contains_key(&shard.map);
        let Some(condition) = record.lanes.get_mut(lane) else { return false };
        let ask = unknown && condition.trial.is_none();
        if has_gpu && condition.last.as_ref().is_none_or(|last| last.digest != task.digest) {
            condition.last = Some(Box::new(task.clone()));
        }
        if ask {
            condition.trial = Some(Instant::now());
        }
        ask
    }

    /// The failure, or what it really was: if the lane's device had a fault meanwhile, nothing is charged to the task.
    pub async fn judge(&self, lane: usize, since: Instant, failure: TaskFailure) -> TaskFailure {
        let suspicious = match failure.disposition {
            Disposition::PoisonInput | Disposition::WorkerUnfit | Disposition::OutOfMemory => true,
            Disposition::Transient
            | Disposition::PreEmpted
            | Disposition::InputChanged
            | Disposition::JobUnfit
            | Disposition::Cancelled => false,
        };
        if !suspicious || self.berths.get(lane).is_none_or(|lane| lane.devices.is_empty()) {
            return failure;
        }
        let mut news = self.fitness();
        let fault = async {
            loop {
                let fault = self.record().lanes.get(lane).and_then(|lane| lane.fault.clone());
                if let Some((_, words)) = fault.filter(|(at, _)| *at >= since) {
                    return words;
                }
                if news.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        match tokio::time::timeout(LATE, fault).await {
            Ok(words) => handed_back(lane, &words),
            Err(_) => failure,
        }
    }

    fn publish(&self) {
        let record = self.record();
        let place = |(lane, condition): (&fulltime_topology::Lane, &Condition)| {
            let mut place = layout::describe(lane);
            place.health = condition.verdict.to_string();
            place.works = condition.verdict.state.works();
            if let Some((pinned, words)) = &condition.pinned {
                place.pinned = *pinned;
                if *pinned {
                    place.cores.clone_from(words);
                }
            }
            place
        };
        let places: Vec<LanePlace> = self.berths.iter().zip(&record.lanes).map(place).collect();
        let working = places.iter().filter(|place| place.works).count();
        let hope = record.lanes.iter().any(|lane| lane.verdict.state <= State::Suspect);
        let words = || record.lanes.iter().filter_map(|lane| lane.verdict.reason.clone()).next().unwrap_or_default();
        let unfit = (!hope).then(|| format!("no lane is well: {}", words()));
        drop(record);
        self.fitness.send_replace(Fitness { working, places, unfit });
    }
}

/// A task whose lane was taken away from under it.
pub fn handed_back(lane: usize, words: &str) -> TaskFailure {
    let cause = format!("lane {lane} was stopped: {words}");
    TaskFailure::new(Disposition::PreEmpted, Failure { exit: Exit::Runtime, cause, hint: None })
}

/// What the ward does when it hears something.
struct Rounds {
    ward: std::sync::Weak<Ward>,
    lanes: Arc<[Lane]>,
    /// To the watch: how canaries ended, by GPU.
    results: blocking::Sender<(String, bool)>,
}

impl Rounds {
    async fn walk(self, mut alarms: mpsc::UnboundedReceiver<Alarm>, mut canaries: mpsc::UnboundedReceiver<Canary>) {
        let mut again = tokio::time::interval(AGAIN / 5);
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(alarm) = alarms.recv() => self.alarm(&alarm),
                Some(canary) = canaries.recv() => self.canary(canary),
                _ = again.tick() => self.try_again(),
                else => return,
            }
        }
    }

    fn alarm(&self, alarm: &Alarm) {
        let Some(ward) = self.ward.upgrade() else { return };
        if let Some(xid) = alarm.xid {
            let (what, todo) = action(xid);
            warn!(gpu = alarm.uuid, xid, what, action = ?todo, "a GPU reports an error");
        }
        let of_gpu = |lane: usize| ward.devices().any(|(at, parent)| at == lane && parent == alarm.uuid);
        for lane in 0..self.lanes.len() {
            if of_gpu(lane) || alarm.verdict.state == State::NodeSick {
                self.settle(&ward, lane, alarm);
            }
        }
        ward.publish();
    }

    fn settle(&self, ward: &Ward, lane: usize, alarm: &Alarm) {
        let mut record = ward.record();
        let condition = &mut record.lanes[lane];
        let (before, verdict) = (condition.verdict.clone(), alarm.verdict.clone());
        // A lane of several GPUs is as its worst one; only a canary makes it better again.
        if verdict.state < before.state && !before.state.works() && condition.trial.is_none() {
            return;
        }
        let words = verdict.reason.clone().unwrap_or_default();
        if alarm.xid.is_some_and(|xid| action(xid).1 >= Action::Retry) || !verdict.state.works() {
            condition.fault = Some((Instant::now(), words.clone()));
        }
        condition.verdict = verdict.clone();
        let last = condition.last.clone();
        match (before.state.works(), verdict.state.works()) {
            (true, false) => {
                error!(lane, health = %verdict, "a lane is stopped");
                self.lanes[lane].rest(&words);
                condition.trial = None;
            }
            (false, true) => {
                info!(lane, "a lane works again");
                condition.trial = None;
                self.lanes[lane].work();
            }
            (true, true) if verdict != before => info!(lane, health = %verdict, "a lane's GPU has changed"),
            (false, false) if verdict.state == State::Suspect || verdict != before => {
                warn!(lane, health = %verdict, "a lane stays stopped");
                self.lanes[lane].rest(&words);
                condition.trial = None;
            }
            _ => return,
        }
        if verdict.state == State::Suspect {
            condition.trial = Some(Instant::now());
            self.lanes[lane].try_out(last);
        }
    }

    /// A canary came back: from a lane in doubt, or from one that is to teach us the answers.
    fn canary(&self, canary: Canary) {
        let Some(ward) = self.ward.upgrade() else { return };
        let (lane, mut record) = (canary.lane, ward.record());
        let Record { lanes, known } = &mut *record;
        let Some(condition) = lanes.get_mut(lane) else { return };
        let in_doubt = condition.verdict.state == State::Suspect;
        let passed = match (&canary.result, in_doubt) {
            (Ok(Some((map, answers))), _) => {
                let expected = known.get(map).copied();
                if expected.is_none() && !in_doubt {
                    known.insert(*map, *answers);
                }
                expected.is_none_or(|expected| expected == *answers)
            }
            (Ok(None), _) => true,
            // Of a lane that was well a task will say so itself.
            (Err(_), false) => {
                condition.trial = None;
                return;
            }
            (Err(words), true) => {
                warn!(lane, words, "a canary failed");
                false
            }
        };
        if in_doubt || !passed {
            info!(lane, passed, "a canary came back");
            // Kept until the verdict comes: so long a better one is believed.
            condition.trial = Some(Instant::now());
            drop(record);
            for (_, gpu) in ward.devices().filter(|(at, _)| *at == lane) {
                let _ = self.results.send((gpu.to_owned(), passed));
            }
        } else {
            condition.trial = None;
        }
    }

    fn try_again(&self) {
        let Some(ward) = self.ward.upgrade() else { return };
        let mut record = ward.record();
        for (lane, condition) in record.lanes.iter_mut().enumerate() {
            let waited = condition.trial.is_none_or(|since| since.elapsed() > AGAIN);
            if condition.verdict.state == State::Suspect && waited {
                condition.trial = Some(Instant::now());
                self.lanes[lane].try_out(condition.last.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fulltime_topology::Device;

    use super::*;

    fn ward(devices: usize) -> Arc<Ward> {
        let device = |n: usize| Device { uuid: format!("GPU-{n}"), parent: format!("GPU-{n}"), ..Device::default() };
        let lane = fulltime_topology::Lane { devices: (0..devices).map(device).collect(), ..Default::default() };
        Ward::open(vec![lane], &Arc::from([]), mpsc::unbounded_channel().1)
    }

    fn failure(disposition: Disposition) -> TaskFailure {
        TaskFailure::new(disposition, Failure { exit: Exit::Runtime, cause: "the device is lost".into(), hint: None })
    }

    #[tokio::test]
    async fn a_failure_is_the_devices_doing_if_the_device_had_a_fault_meanwhile() {
        let (ward, since) = (ward(1), Instant::now());
        let late = Arc::clone(&ward);
        tokio::spawn(async move {
            // The engine feels it before the driver tells.
            tokio::time::sleep(LATE / 10).await;
            late.record().lanes[0].fault = Some((Instant::now(), "Xid 79".into()));
            late.publish();
        });
        let judged = ward.judge(0, since, failure(Disposition::WorkerUnfit)).await;
        assert_eq!((judged.disposition, judged.cause.as_str()), (Disposition::PreEmpted, "lane 0 was stopped: Xid 79"));
        let later = Instant::now();
        let own = ward.judge(0, later, failure(Disposition::WorkerUnfit)).await;
        assert_eq!(own.disposition, Disposition::WorkerUnfit, "that fault was before");
        let store = ward.judge(0, since, failure(Disposition::Transient)).await;
        assert_eq!(store.disposition, Disposition::Transient, "no device does that");
    }

    #[tokio::test]
    async fn processors_have_no_faults_to_wait_for() {
        let (ward, since) = (ward(0), Instant::now());
        let judged = ward.judge(0, since, failure(Disposition::PoisonInput)).await;
        assert!(judged.disposition == Disposition::PoisonInput && since.elapsed() < LATE);
    }
}
