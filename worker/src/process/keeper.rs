//! The keeper of one lane: starts its process, hands it tasks, passes on what it reports, and starts another one when it
//! dies. The death is laid to the task on the lane; one that was only being fetched goes to another lane.

use std::{
    collections::BTreeMap,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fulltime_common::{
    Digest, Disposition, Exit,
    error::{Failure, chain},
    plan::EngineClass,
    wire::{Outcome, Task, Witness},
};
use fulltime_observe::{CacheTally, LaneSample};
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixStream, unix::OwnedWriteHalf},
    process::Child,
    sync::{mpsc, oneshot, watch},
};
use tracing::{info, warn};

use super::{
    Program,
    death::Death,
    frames::{self, Order, Report},
    ward::handed_back,
};
use crate::{
    attempt::{Attempt, Phase},
    error::WorkerError,
    executor::TaskFailure,
};

/// Processes that die before they are ready, one after another, until there is no hope.
const STARTS: u32 = 3;
/// Pause before the second start in a row; doubles with each.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Longest time until a process is ready, and from its last word to its end.
const READY: Duration = Duration::from_secs(60);
const LAST_WORD: Duration = Duration::from_secs(2);
/// Reports on their way from the socket.
const REPORTS: usize = 64;

/// The end of an assignment.
#[derive(Debug)]
pub enum Ended {
    Here(Result<Outcome, TaskFailure>),
    /// The process is gone, and not for this task's sake.
    Lost,
}

/// A lane, whatever process it is in at the moment. Dropping it ends the process.
#[derive(Debug)]
pub struct Lane {
    mail: mpsc::UnboundedSender<Mail>,
    care: mpsc::UnboundedSender<Care>,
    state: watch::Receiver<State>,
}

/// How a canary ended: its answers with the map pipeline that gave them, or the words of its failure.
#[derive(Debug)]
pub struct Canary {
    pub lane: usize,
    pub result: Result<Option<(Digest, u64)>, String>,
}

/// Who hears of a lane: its number, and the ends of its canaries and of its pinning.
#[derive(Debug, Clone)]
pub struct Ear {
    pub lane: usize,
    pub canaries: mpsc::UnboundedSender<Canary>,
    pub places: mpsc::UnboundedSender<(usize, bool, String)>,
}

/// What becomes of the lane's process, whatever it is doing.
#[derive(Debug)]
enum Care {
    /// No process, and no task, until there is another word.
    Rest(String),
    /// A process, and the canary in it.
    Try(Option<Box<Task>>),
    Work,
}

/// Whether there is a lane at all.
#[derive(Debug, Clone)]
enum State {
    Starting,
    Ready(EngineClass),
    Hopeless(Arc<WorkerError>),
}

#[derive(Debug)]
enum Mail {
    Run {
        id: u64,
        task: Box<Task>,
        assignment: Assignment,
    },
    Halt(u64),
    /// Nobody waits for it any more, and it must not go on.
    Abandon(u64),
}

#[derive(Debug)]
struct Assignment {
    attempt: Arc<Attempt>,
    done: oneshot::Sender<Ended>,
}

/// Where the samples of all lanes wait for the next heartbeat.
#[derive(Debug, Default)]
pub struct Tray(Mutex<BTreeMap<u32, LaneSample>>, Mutex<Vec<CacheTally>>);

impl Tray {
    fn put(&self, lane: u32, samples: Vec<LaneSample>) {
        let mut tray = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for sample in samples {
            tray.entry(lane).or_default().merge(LaneSample { lane, ..sample });
        }
    }

    fn put_lookups(&self, lookups: Vec<CacheTally>) {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).extend(lookups);
    }

    pub fn take_lookups(&self) -> Vec<CacheTally> {
        std::mem::take(&mut *self.1.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn take(&self) -> Vec<LaneSample> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_values().collect()
    }
}

/// Abandons an assignment when dropped.
struct Waiting<'a> {
    lane: &'a Lane,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // After the end this names nothing.
        let _ = self.lane.mail.send(Mail::Abandon(self.id));
    }
}

impl Lane {
    /// Without an ear it is a process for one task that runs alone.
    ///
    /// `tray` gets its samples under the number `number`.
    pub fn start(program: Program, ear: Option<Ear>, number: u32, tray: Arc<Tray>) -> Self {
        let (mail, received) = mpsc::unbounded_channel();
        let (care, cared) = mpsc::unbounded_channel();
        let (state, seen) = watch::channel(State::Starting);
        let keeper = Keeper {
            program,
            ear,
            number,
            tray,
            mail: received,
            care: cared,
            state,
            held: BTreeMap::new(),
            ready: false,
            worked: false,
            trial: Trial::None,
        };
        tokio::spawn(keeper.run());
        Self { mail, care, state: seen }
    }

    /// Ends its process, and hands back what it runs, for this reason.
    pub fn rest(&self, reason: &str) {
        let _ = self.care.send(Care::Rest(reason.to_owned()));
    }

    /// Has it look at the canary, with this task's models.
    pub fn try_out(&self, task: Option<Box<Task>>) {
        let _ = self.care.send(Care::Try(task));
    }

    /// It may have tasks again.
    pub fn work(&self) {
        let _ = self.care.send(Care::Work);
    }

    /// Whether its process could take a task.
    pub fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Ready(_))
    }

    /// Waits for the process to be ready.
    pub async fn ready(&self) -> Result<EngineClass, WorkerError> {
        let mut state = self.state.clone();
        loop {
            match &*state.borrow_and_update() {
                State::Ready(class) => return Ok(class.clone()),
                State::Hopeless(error) => return Err(again(error)),
                State::Starting => {}
            }
            if state.changed().await.is_err() {
                return Err(WorkerError::Program(io::ErrorKind::BrokenPipe.into()));
            }
        }
    }

    pub async fn run(&self, task: &Task, attempt: &Arc<Attempt>) -> Ended {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (done, mut ended) = oneshot::channel();
        let assignment = Assignment { attempt: Arc::clone(attempt), done };
        let _ = self.mail.send(Mail::Run { id, task: Box::new(task.clone()), assignment });
        let _waiting = Waiting { lane: self, id };
        tokio::select! {
            ended = &mut ended => return ended.unwrap_or(Ended::Lost),
            () = attempt.halt().cancelled() => drop(self.mail.send(Mail::Halt(id))),
        }
        ended.await.unwrap_or(Ended::Lost)
    }
}

/// The same error once more: sources cannot be cloned, so their words are kept.
fn again(error: &WorkerError) -> WorkerError {
    let Failure { exit, cause, hint } = explain(error);
    WorkerError::Lane { exit, cause, hint }
}

fn explain(error: &WorkerError) -> Failure {
    use fulltime_common::error::Explain as _;
    Failure { exit: error.exit(), cause: chain(error), hint: error.hint() }
}

struct Keeper {
    program: Program,
    /// `None`: a process for one task.
    ear: Option<Ear>,
    number: u32,
    tray: Arc<Tray>,
    mail: mpsc::UnboundedReceiver<Mail>,
    care: mpsc::UnboundedReceiver<Care>,
    state: watch::Sender<State>,
    held: BTreeMap<u64, Assignment>,
    /// Whether the present process has said that it is ready, and whether it has ended a task.
    ready: bool,
    worked: bool,
    trial: Trial,
}

/// The canary that this lane has been asked for.
#[derive(Debug, Default)]
enum Trial {
    #[default]
    None,
    /// As soon as there is a process.
    Wanted(Option<Box<Task>>),
    Shown,
}

/// How the life of one process ended.
enum Life {
    /// The lane is not wanted any more.
    Over,
    Died(Death),
    /// We ended it, for the sake of a task that would not end.
    Ended,
    /// We ended it, since the lane is not to work.
    Rested(String),
    Hopeless(WorkerError),
}

impl Keeper {
    async fn run(mut self) {
        // Deaths in a row without a task that was ended.
        let mut deaths = 0;
        loop {
            let begun = Instant::now();
            self.worked = false;
            let life = match self.live(deaths > 0 || self.ear.is_none()).await {
                Ok(life) => life,
                Err(source) => Life::Hopeless(WorkerError::Spawn { program: self.program.path.clone(), source }),
            };
            match life {
                Life::Over => return,
                Life::Hopeless(error) => return self.refuse(error).await,
                Life::Ended => {
                    self.lose();
                    deaths = 1;
                    continue;
                }
                Life::Rested(reason) => {
                    self.hand_back(&reason);
                    if !self.rest().await {
                        return;
                    }
                    deaths = 1;
                    continue;
                }
                Life::Died(death) => {
                    self.shown(Err(format!("its process ended: {death}")));
                    warn!(%death, seconds = begun.elapsed().as_secs(), "a lane process ended");
                    self.bury(death);
                    deaths = if self.worked { 1 } else { deaths + 1 };
                    if !self.ready && deaths >= STARTS {
                        return self.refuse(WorkerError::NotReady { last: death }).await;
                    }
                }
            }
            if self.ear.is_none() && self.ready {
                // Its one task has been told.
                return;
            }
            if deaths > 1 {
                tokio::time::sleep((PAUSE * 2_u32.pow((deaths - 2).min(10))).min(PAUSE_MAX)).await;
            }
        }
    }

    /// One process from start to end.
    async fn live(&mut self, again: bool) -> io::Result<Life> {
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let command = self.program.command(Stdio::from(OwnedFd::from(theirs)), again);
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let (mut reading, mut orders) = UnixStream::from_std(ours)?.into_split();
        let (sender, mut reports) = mpsc::channel(REPORTS);
        // A read must not be dropped half-way, so it is not part of the select.
        tokio::spawn(async move {
            while let Ok(report) = frames::read_async::<Report>(&mut reading).await {
                if sender.send(report).await.is_err() {
                    return;
                }
            }
        });
        let begun = Instant::now();
        self.ready = false;
        self.state.send_replace(State::Starting);
        loop {
            tokio::select! {
                report = reports.recv() => match report {
                    Some(Report::Hopeless { exit, cause, hint }) => {
                        let exit = Exit::from_code(exit).unwrap_or(Exit::Internal);
                        return Ok(Life::Hopeless(WorkerError::Lane { exit, cause, hint }));
                    }
                    Some(report) => {
                        self.hear(report);
                        self.try_out(&mut orders).await;
                    }
                    None => return last_word(&mut child).await,
                },
                Some(care) = self.care.recv() => match care {
                    Care::Rest(reason) => {
                        end_soon(&mut child).await;
                        return Ok(Life::Rested(reason));
                    }
                    Care::Try(task) => {
                        self.trial = Trial::Wanted(task);
                        self.try_out(&mut orders).await;
                    }
                    Care::Work => {}
                },
                () = tokio::time::sleep_until((begun + READY).into()), if !self.ready => {
                    end(&mut child).await?;
                    return Ok(Life::Died(Death { witness: Witness::Stalled }));
                }
                // What comes before it is ready waits, for this process or for the next.
                mail = self.mail.recv(), if self.ready => match mail {
                    None => return Ok(Life::Over),
                    Some(mail) => if self.deliver(mail, &mut orders).await {
                        end(&mut child).await?;
                        return Ok(Life::Ended);
                    }
                },
            }
        }
    }

    fn hear(&mut self, report: Report) {
        match report {
            Report::Ready { class, place } => {
                info!(class, place = place.as_ref().map(|(_, words)| words), "a lane is ready");
                if let (Some(ear), Some((pinned, words))) = (&self.ear, place) {
                    let _ = ear.places.send((ear.lane, pinned, words));
                }
                self.ready = true;
                self.state.send_replace(State::Ready(EngineClass(class)));
            }
            Report::Hopeless { .. } => {}
            Report::Canary { map, answers, failure } => {
                self.shown(failure.map_or(Ok(map.map(|map| (map, answers))), Err));
            }
            Report::Phase { id, phase } => {
                if let Some(held) = self.held.get(&id) {
                    if self.ear.is_none() && phase == Phase::Running {
                        held.attempt.isolate();
                    }
                    held.attempt.enter(phase);
                }
            }
            Report::Beat { id, frames } => {
                if let Some(held) = self.held.get(&id) {
                    held.attempt.add_frames(frames);
                }
            }
            Report::Samples(samples) => self.tray.put(self.number, samples),
            Report::Lookups(lookups) => self.tray.put_lookups(lookups),
            Report::Committed { id, outcome } => self.done(id, Ok(outcome)),
            Report::Failed { id, failure } => self.done(id, Err(failure)),
        }
    }

    fn done(&mut self, id: u64, result: Result<Outcome, TaskFailure>) {
        self.worked = true;
        if let Some(held) = self.held.remove(&id) {
            let _ = held.done.send(Ended::Here(result));
        }
    }

    /// Whether the process must be ended. What cannot be written is lost with the process, which is then known to die.
    async fn deliver(&mut self, mail: Mail, orders: &mut OwnedWriteHalf) -> bool {
        let order = match mail {
            Mail::Run { id, task, assignment } => {
                if assignment.done.is_closed() {
                    return false;
                }
                let may_exist = assignment.attempt.may_exist();
                self.held.insert(id, assignment);
                Order::Run { id, task, may_exist }
            }
            Mail::Halt(id) if self.held.contains_key(&id) => Order::Halt { id },
            Mail::Halt(_) => return false,
            Mail::Abandon(id) => match self.held.remove(&id) {
                Some(held) if held.attempt.phase().holds_lane() => return true,
                Some(_) => Order::Halt { id },
                None => return false,
            },
        };
        send(&order, orders).await;
        false
    }

    /// Lays the death to the task on the lane, or, when there was none, to those that were being fetched.
    fn bury(&mut self, death: Death) {
        let held = std::mem::take(&mut self.held);
        let on_lane = held.values().any(|held| held.attempt.phase().holds_lane());
        for Assignment { attempt, done } in held.into_values() {
            let guilty = match attempt.phase() {
                Phase::Canary | Phase::Running => true,
                Phase::Fetching => !on_lane,
                Phase::Waiting => false,
            };
            let _ = done.send(if guilty { Ended::Here(Err(death.failure())) } else { Ended::Lost });
        }
    }

    /// Sends the canary that is wanted, if there is a process for it.
    async fn try_out(&mut self, orders: &mut OwnedWriteHalf) {
        if !self.ready {
            return;
        }
        match std::mem::replace(&mut self.trial, Trial::None) {
            Trial::Wanted(task) => {
                self.trial = Trial::Shown;
                send(&Order::Canary { task }, orders).await;
            }
            other => self.trial = other,
        }
    }

    fn shown(&mut self, result: Result<Option<(Digest, u64)>, String>) {
        if !matches!(std::mem::take(&mut self.trial), Trial::None)
            && let Some(ear) = &self.ear
        {
            let _ = ear.canaries.send(Canary { lane: ear.lane, result });
        }
    }

    /// What was on the lane goes back to the queue, what waited for it to another lane.
    fn hand_back(&mut self, reason: &str) {
        let lane = self.ear.as_ref().map_or(0, |ear| ear.lane);
        for Assignment { attempt, done } in std::mem::take(&mut self.held).into_values() {
            let on_lane = attempt.phase().holds_lane();
            let _ = done.send(if on_lane { Ended::Here(Err(handed_back(lane, reason))) } else { Ended::Lost });
        }
    }

    /// Waits until the lane is wanted again; `false` if it never will be.
    async fn rest(&mut self) -> bool {
        self.trial = Trial::None;
        loop {
            tokio::select! {
                biased;
                care = self.care.recv() => match care {
                    Some(Care::Rest(_)) => {}
                    Some(Care::Try(task)) => {
                        self.trial = Trial::Wanted(task);
                        return true;
                    }
                    Some(Care::Work) => return true,
                    None => return false,
                },
                mail = self.mail.recv() => match mail {
                    Some(Mail::Run { assignment, .. }) => drop(assignment.done.send(Ended::Lost)),
                    Some(Mail::Halt(_) | Mail::Abandon(_)) => {}
                    None => return false,
                },
            }
        }
    }

    fn lose(&mut self) {
        for (_, held) in std::mem::take(&mut self.held) {
            let _ = held.done.send(Ended::Lost);
        }
    }

    /// There will be no lane: every task is answered so.
    async fn refuse(mut self, error: WorkerError) {
        let failure = TaskFailure::new(Disposition::WorkerUnfit, explain(&error));
        self.state.send_replace(State::Hopeless(Arc::new(error)));
        let refuse = |assignment: Assignment| drop(assignment.done.send(Ended::Here(Err(failure.clone()))));
        std::mem::take(&mut self.held).into_values().for_each(refuse);
        while let Some(mail) = self.mail.recv().await {
            if let Mail::Run { assignment, .. } = mail {
                refuse(assignment);
            }
        }
    }
}

/// The status of a process that has closed its socket.
async fn last_word(child: &mut Child) -> io::Result<Life> {
    match tokio::time::timeout(LAST_WORD, child.wait()).await {
        Ok(status) => Ok(Life::Died(Death::of(status?))),
        Err(_) => {
            end(child).await?;
            Ok(Life::Ended)
        }
    }
}

async fn send(order: &Order, orders: &mut OwnedWriteHalf) {
    match frames::frame(order) {
        Ok(frame) => drop(orders.write_all(&frame).await),
        Err(error) => warn!(error = chain(&error), "could not write to a lane"),
    }
}

/// SIGKILL to a process whose device may be gone: the kernel may not let go of it for long, and nobody waits for that.
async fn end_soon(child: &mut Child) {
    if tokio::time::timeout(LAST_WORD, end(child)).await.is_err() {
        warn!(pid = child.id(), "a lane process does not end: its driver holds it");
    }
}

/// SIGKILL, and no zombie.
async fn end(child: &mut Child) -> io::Result<()> {
    warn!(pid = child.id(), "a lane process is ended");
    child.kill().await
}
