//! What a coordinator shows of itself: metrics, whether it is ready, and the state of affairs for its dashboard. The reign
//! fills it every second; nobody who looks can hold up the reign.

use std::sync::{Arc, Mutex, PoisonError};

use fulltime_common::wire::{Hello, JobState, JobStatus, Leader, Reply};
use fulltime_observe::{
    Machine,
    anomaly::{Finding, Kind},
    health::Health,
    metrics::{self, Board, COORDINATOR},
};
use tokio::{sync::watch, time::Duration};

use crate::{
    campaign::Heard,
    ledger::{Ledger, Tally},
};

/// A main loop that stands still for longer is taken for dead.
const STILL: Duration = Duration::from_secs(60);

/// How things stand, as of the last second.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    Leads(Arc<Reply>),
    /// Who leads instead, if anybody is heard of.
    StandsBy(Option<String>),
}

/// Clones show the same.
#[derive(Debug, Clone)]
pub(crate) struct Outlook {
    pub board: Board,
    pub health: Health,
    standing: watch::Sender<Standing>,
    /// Where the dashboard is.
    pub dashboard: Option<String>,
    name: String,
    machine: Arc<Mutex<Machine>>,
}

impl Outlook {
    pub fn new(name: &str) -> Self {
        Self {
            board: Board::new(COORDINATOR),
            health: Health::new(STILL),
            standing: watch::Sender::new(Standing::StandsBy(None)),
            dashboard: None,
            name: name.to_owned(),
            machine: Arc::default(),
        }
    }

    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub fn leader(&self, epoch: u64) -> Leader {
        Leader { name: self.name.clone(), epoch, dashboard: self.dashboard.clone() }
    }

    /// This coordinator holds nothing. `lease`: for how long what was heard of the leader counts.
    pub fn stand_by(&self, connected: bool, heard: Option<&Heard>, lease: Duration) {
        let heard = heard.filter(|heard| heard.at.elapsed() <= 2 * lease);
        let lack = match heard {
            _ if !connected => Some("the bus is away"),
            Some(heard) if heard.leads => None,
            Some(_) => Some("nobody leads"),
            None => Some("the leader is not heard of"),
        };
        self.health.beat(lack.map(str::to_owned));
        self.standing.send_replace(Standing::StandsBy(heard.and_then(|heard| heard.leader.clone())));
        self.board.set(&metrics::LEADING, &[], 0.0);
        self.show_process();
    }

    fn show_process(&self) {
        self.board.set(&metrics::COORDINATOR_MEMORY, &[], Machine::memory() as f64);
        let cpu = self.machine.lock().unwrap_or_else(PoisonError::into_inner).cpu();
        self.board.add(&metrics::COORDINATOR_CPU, &[], cpu);
    }

    /// Everything a leader shows. `shown` is what of the tally is on the board already.
    pub fn lead(&self, view: View<'_>, shown: &mut Tally) {
        let View { ledger, epoch, jobs, workers, findings } = view;
        let board = &self.board;
        board.set(&metrics::LEADING, &[], 1.0);
        board.set(&metrics::EPOCH, &[], epoch as f64);
        self.show_process();
        board.clear(&metrics::BACKLOG);
        let backlog = ledger.backlog();
        backlog.iter().for_each(|(class, tasks)| board.set(&metrics::BACKLOG, &[class], *tasks as f64));
        if backlog.is_empty() {
            // An autoscaler must see an empty queue, not a missing one.
            board.set(&metrics::BACKLOG, &["any"], 0.0);
        }
        let busy = workers.iter().flat_map(|hello| &hello.lanes).filter(|lane| lane.task.is_some()).count();
        board.set(&metrics::RUNNING, &[], busy as f64);
        for state in STATES {
            let count = jobs.iter().filter(|job| job.state == state).count();
            board.set(&metrics::JOBS, &[word(state)], count as f64);
        }
        board.set(&metrics::QUARANTINED, &[], jobs.iter().map(|job| job.quarantined).sum::<u64>() as f64);
        board.clear(&metrics::ETA);
        let eta = jobs.iter().filter_map(|job| job.eta_seconds).max_by(f64::total_cmp);
        eta.into_iter().for_each(|eta| board.set(&metrics::ETA, &[], eta));
        board.clear(&metrics::WORKERS);
        for class in workers.iter().map(|hello| &hello.engine) {
            let count = workers.iter().filter(|hello| hello.engine == *class).count();
            board.set(&metrics::WORKERS, &[&class.0], count as f64);
        }
        for kind in Kind::ALL {
            let count = findings.iter().filter(|finding| finding.kind == kind).count();
            board.set(&metrics::ANOMALIES, &[kind.name()], count as f64);
        }
        self.show_tally(ledger.tally(), shown);
        let leader = self.leader(epoch);
        self.standing.send_replace(Standing::Leads(Arc::new(Reply::Status { jobs, workers, findings, leader })));
    }

    fn show_tally(&self, tally: &Tally, shown: &mut Tally) {
        let board = &self.board;
        let more = |now: u64, before: u64| now.saturating_sub(before) as f64;
        board.add(&metrics::RELEASES, &[], more(tally.released, shown.released));
        board.add(&metrics::TASKS_DONE, &["false"], more(tally.run, shown.run));
        board.add(&metrics::TASKS_DONE, &["true"], more(tally.found, shown.found));
        board.add(&metrics::FRAMES_DONE, &[], more(tally.frames, shown.frames));
        for (disposition, count) in &tally.failures {
            let before = shown.failures.iter().find(|(known, _)| known == disposition).map_or(0, |(_, count)| *count);
            board.add(&metrics::FAILURES, &[&disposition.to_string()], more(*count, before));
        }
        shown.clone_from(tally);
    }
}

/// What there is to show.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub ledger: &'a Ledger,
    pub epoch: u64,
    pub jobs: Vec<JobStatus>,
    pub workers: Vec<Hello>,
    pub findings: Vec<Finding>,
}

const STATES: [JobState; 6] = [
    JobState::Planning,
    JobState::Running,
    JobState::Paused,
    JobState::Finished,
    JobState::Cancelled,
    JobState::Failed,
];

/// As in JSON.
fn word(state: JobState) -> &'static str {
    match state {
        JobState::Planning => "planning",
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::Finished => "finished",
        JobState::Cancelled => "cancelled",
        JobState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn lack(connected: bool, heard: Option<Heard>) -> Option<String> {
        let outlook = Outlook::new("me");
        outlook.stand_by(connected, heard.as_ref(), Duration::from_secs(3));
        outlook.health.ready().err()
    }

    #[test]
    fn a_standby_is_ready_while_it_hears_the_leader() {
        let heard = |leads, at| Some(Heard { leads, leader: Some("other".into()), at });
        let now = Instant::now();
        assert_eq!(lack(true, heard(true, now)), None);
        assert_eq!(lack(false, heard(true, now)).unwrap(), "the bus is away");
        assert_eq!(lack(true, heard(false, now)).unwrap(), "nobody leads");
        assert_eq!(lack(true, None).unwrap(), "the leader is not heard of");
        if let Some(long_ago) = now.checked_sub(Duration::from_secs(7)) {
            assert_eq!(lack(true, heard(true, long_ago)).unwrap(), "the leader is not heard of");
        }
    }

    #[test]
    fn a_leader_shows_an_empty_queue_and_each_count_once() {
        let outlook = Outlook::new("me");
        let ledger = Ledger::new(crate::Policy::new(Duration::from_secs(10)));
        let mut shown = Tally::default();
        let view = || View { ledger: &ledger, epoch: 7, jobs: vec![], workers: vec![], findings: vec![] };
        outlook.lead(view(), &mut shown);
        let scrape = outlook.board.scrape();
        for line in ["fulltime_leading 1.0", "fulltime_epoch 7.0", "fulltime_backlog_tasks{class=\"any\"} 0.0"] {
            assert!(scrape.lines().any(|found| found == line), "{line} in {scrape}");
        }
        let tally = Tally { released: 5, frames: 100, ..Tally::default() };
        outlook.show_tally(&tally, &mut shown);
        outlook.show_tally(&tally, &mut shown);
        assert!(outlook.board.scrape().contains("fulltime_releases_total 5.0"));
        assert!(matches!(*outlook.standing().borrow(), Standing::Leads(_)));
    }
}
