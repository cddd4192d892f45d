//! The coordinator's edge: listens to the bus, feeds the ledger, and carries out what it decides. Everything slow is a
//! chore in the background whose answer comes back as a message, so the loop itself never waits for a store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fulltime_common::{
    error::{Exit, Explain, Failure},
    keys,
    queue::{Asked, Bus, QueueError},
    spec::Registered,
    store::{Store, StoreError},
    wire::{Control, JobFailure, JobState, Reply, Request},
};
use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    dispatch::{Dispatch, Outgoing},
    ledger::{Action, Decision, Input, JobId, Ledger, Past, Policy},
    planning::{self, Admission, JobFiles, PlanError},
    steps::carry_out,
};

/// Steps against the stores at once.
const CHORES: usize = 32;
/// How often the registry is looked at for jobs of which no request told.
const POLL: Duration = Duration::from_secs(3);
/// Pauses before a chore that failed for a passing reason is tried again.
const RETRIES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// Why the coordinator cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("read the registry")]
    Registry(#[source] StoreError),
}

impl Explain for ServiceError {
    fn exit(&self) -> Exit {
        match self {
            Self::Queue(error) => error.exit(),
            Self::Registry(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Queue(error) => error.hint(),
            Self::Registry(error) => error.hint(),
        }
    }
}

/// A coordinator over one bus and one registry.
#[derive(Debug)]
pub struct Service {
    bus: Arc<dyn Bus>,
    state: Store,
    policy: Policy,
}

/// What the loop waits for.
enum Message {
    Ledger(Input),
    Asked(Asked),
    /// An entry of the registry; `Asked` when somebody waits for the answer.
    Registered(Option<Registered>, Option<Asked>),
    Admitted(JobId, Arc<JobFiles>, Box<crate::ledger::Admitted>),
    Cancelled(JobId, Result<(), PlanError>, Asked),
}

impl Service {
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, state: Store, policy: Policy) -> Self {
        Self { bus, state, policy }
    }

    /// Works until `shutdown`. Whatever it has not finished, the next coordinator continues from the objects alone.
    ///
    /// # Errors
    /// Bus or registry cannot be reached at the start. Later troubles are waited out.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        let tick = (self.policy.lease / 20).clamp(Duration::from_millis(20), Duration::from_millis(500));
        let (sender, mut messages) = mpsc::channel(1024);
        let mut listeners = JoinSet::new();
        // Events first: what happens while the registry is read is then heard, not missed.
        let events = self.bus.events().await?;
        let hellos = self.bus.hellos().await?;
        let requests = self.bus.requests().await?;
        let bus = || Arc::clone(&self.bus);
        let heard = |event| Message::Ledger(Input::Heard(event));
        listeners.spawn(listen(bus(), |bus| bus.events(), events, heard, sender.clone()));
        let greeted = |hello| Message::Ledger(Input::Hello(hello));
        listeners.spawn(listen(bus(), |bus| bus.hellos(), hellos, greeted, sender.clone()));
        listeners.spawn(listen(bus(), |bus| bus.requests(), requests, Message::Asked, sender.clone()));

        let mut desk = Desk {
            ledger: Ledger::new(self.policy.clone()),
            dispatch: Dispatch::start(bus()),
            chores: JoinSet::new(),
            permits: Arc::new(Semaphore::new(CHORES)),
            files: BTreeMap::new(),
            outs: BTreeMap::new(),
            started: Instant::now(),
            state: self.state.clone(),
            epoch: self.policy.epoch,
        };
        for registered in unknown_jobs(&self.state, &BTreeSet::new()).await.map_err(ServiceError::Registry)? {
            desk.take_up(&registered, false);
        }
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut polled = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                Some(message) = messages.recv() => desk.handle(message).await,
                Some(done) = desk.chores.join_next() => match done {
                    Ok(found) => {
                        for message in found {
                            desk.handle(message).await;
                        }
                    }
                    Err(error) => warn!(%error, "a step of the coordinator broke off"),
                },
                _ = ticks.tick() => {
                    desk.feed(Input::Tick { minute: None });
                    if polled.elapsed() >= POLL {
                        polled = Instant::now();
                        desk.poll();
                    }
                }
            }
        }
    }
}

/// Everything the loop owns.
struct Desk {
    ledger: Ledger,
    dispatch: Dispatch,
    chores: JoinSet<Vec<Message>>,
    permits: Arc<Semaphore>,
    files: BTreeMap<JobId, Arc<JobFiles>>,
    /// Output URL of every registered job.
    outs: BTreeMap<JobId, String>,
    started: Instant,
    state: Store,
    epoch: u64,
}

impl Desk {
    async fn handle(&mut self, message: Message) {
        match message {
            Message::Ledger(input) => self.feed(input),
            Message::Asked(asked) => self.asked(asked).await,
            Message::Registered(registered, asked) => {
                if let Some(registered) = &registered {
                    self.take_up(registered, asked.is_some());
                }
                if let Some(asked) = asked {
                    let unknown = || Reply::Refused { cause: format!("no such job in the registry `{}`", self.state) };
                    answer(asked, registered.map_or_else(unknown, |_| Reply::Accepted)).await;
                }
            }
            Message::Admitted(job, files, admitted) => {
                self.files.insert(job.clone(), files);
                self.feed(Input::Admit(job, admitted));
            }
            Message::Cancelled(job, result, asked) => {
                let reply = match result {
                    Ok(()) => {
                        self.feed(Input::Decide(job, Decision::Cancel));
                        Reply::Accepted
                    }
                    Err(error) => Reply::Refused { cause: Failure::from(error).cause },
                };
                answer(asked, reply).await;
            }
        }
    }

    /// Starts a background step whose messages come back to the loop.
    fn chore(&mut self, work: impl Future<Output = Vec<Message>> + Send + 'static) {
        let permits = Arc::clone(&self.permits);
        self.chores.spawn(async move {
            let _permit = permits.acquire_owned().await;
            work.await
        });
    }

    /// A registered job that the ledger does not have, or that was paused or refused and is submitted again.
    fn take_up(&mut self, registered: &Registered, again: bool) {
        let job: JobId = registered.job.as_str().into();
        match self.ledger.state(&job) {
            None => {}
            Some(JobState::Paused | JobState::Failed) if again => self.feed(Input::Forget(job.clone())),
            Some(_) => return,
        }
        info!(%job, "taking up a job");
        self.outs.insert(job.clone(), registered.out.clone());
        self.feed(Input::Announce(job.clone()));
        let out = registered.out.clone();
        self.chore(async move {
            let message = match planning::admit(&job, &out).await {
                Ok(Admission::Run(files, admitted)) => Message::Admitted(job, files, admitted),
                Ok(Admission::Finished(manifest, url)) => {
                    Message::Ledger(Input::Past(job, Box::new(Past::finished(&manifest, url))))
                }
                Ok(Admission::Cancelled) => Message::Ledger(Input::Past(job, Box::new(Past::cancelled()))),
                Err(error) => Message::Ledger(Input::Refuse(job, failure(error))),
            };
            vec![message]
        });
    }

    fn poll(&mut self) {
        let (state, known) = (self.state.clone(), self.outs.keys().cloned().collect());
        self.chore(async move {
            let found = unknown_jobs(&state, &known).await;
            let found = found.inspect_err(|error| warn!(%error, "could not read the registry")).unwrap_or_default();
            found.into_iter().map(|registered| Message::Registered(Some(registered), None)).collect()
        });
    }

    async fn asked(&mut self, asked: Asked) {
        let now = self.started.elapsed();
        match asked.request.clone() {
            Request::Status { job } => {
                let jobs = self.ledger.status(job.as_deref(), now);
                let reply = match job {
                    Some(job) if jobs.is_empty() => Reply::Refused { cause: format!("there is no job `{job}`") },
                    _ => Reply::Status { jobs, workers: self.ledger.workers(now) },
                };
                answer(asked, reply).await;
            }
            Request::Submit { job } => {
                let state = self.state.clone();
                self.chore(async move {
                    let found = state.get_json(&keys::state::registry(&job)).await;
                    let found = found.inspect_err(|error| warn!(%error, job, "could not read the registry"));
                    vec![Message::Registered(found.ok().flatten(), Some(asked))]
                });
            }
            Request::Cancel { job } => {
                let job: JobId = job.as_str().into();
                let out = self.outs.get(&job).cloned();
                match (self.ledger.state(&job), out) {
                    (None, _) | (_, None) => {
                        answer(asked, Reply::Refused { cause: format!("there is no job `{job}`") }).await;
                    }
                    (Some(JobState::Cancelled), _) => answer(asked, Reply::Accepted).await,
                    (Some(JobState::Finished), _) => {
                        answer(asked, Reply::Refused { cause: format!("job `{job}` is finished") }).await;
                    }
                    (Some(_), Some(out)) => self.chore(async move {
                        // The decision is an object before anybody acts on it.
                        let put = planning::put_cancel(&job, &out).await;
                        vec![Message::Cancelled(job, put, asked)]
                    }),
                }
            }
        }
    }

    /// Tells the ledger and does what it says.
    fn feed(&mut self, input: Input) {
        for action in self.ledger.step(input, self.started.elapsed()) {
            self.act(action);
        }
        let ledger = &self.ledger;
        self.files.retain(|job, _| ledger.state(job).is_some_and(|state| !state.is_over()));
    }

    fn act(&mut self, action: Action) {
        let job = match &action {
            Action::Release(task) => return self.dispatch.send(Outgoing::Task(task.clone())),
            Action::Withdraw { job } => return self.dispatch.send(Outgoing::Withdraw(job.clone())),
            Action::Stop { work, .. } => {
                let stop = Control::Stop { epoch: self.epoch, work: work.clone() };
                return self.dispatch.send(Outgoing::Stop(stop));
            }
            // What lies on the bus although it is decided is found to be done by the lane that takes it.
            Action::Discard { .. } => return,
            Action::Open { job, .. }
            | Action::Check { job, .. }
            | Action::Plan { job, .. }
            | Action::FindReduced { job, .. }
            | Action::Record { job, .. }
            | Action::Split { job, .. }
            | Action::Relist { job, .. }
            | Action::Freeze { job, .. }
            | Action::Summarise { job, .. }
            | Action::Quarantine { job, .. }
            | Action::Finish { job, .. } => job.clone(),
        };
        let Some(files) = self.files.get(&job).cloned() else { return };
        self.chore(async move {
            let mut pauses = RETRIES.iter();
            let input = loop {
                // All steps put what is true anyway, so each may be repeated.
                match carry_out(&action, &files).await {
                    Ok(input) => break input,
                    Err(error) => match pauses.next().filter(|_| error.may_pass()) {
                        Some(pause) => {
                            warn!(%job, cause = fulltime_common::error::chain(&error), "trying again");
                            tokio::time::sleep(*pause).await;
                        }
                        None => break Some(Input::Stuck { job, failure: failure(error) }),
                    },
                }
            };
            input.map(Message::Ledger).into_iter().collect()
        });
    }
}

fn failure(error: impl Explain) -> JobFailure {
    let Failure { exit, cause, hint } = error.into();
    JobFailure { exit: exit as u8, cause, hint }
}

async fn answer(asked: Asked, reply: Reply) {
    if let Err(error) = (asked.answer)(reply).await {
        warn!(%error, "could not answer a request");
    }
}

async fn unknown_jobs(state: &Store, known: &BTreeSet<JobId>) -> Result<Vec<Registered>, StoreError> {
    let mut jobs = Vec::new();
    for object in state.list(Some(keys::state::REGISTRY)).await? {
        let key = object.location.as_ref();
        let job = key.rsplit('/').next().and_then(|name| name.strip_suffix(".json"));
        if job.is_none_or(|job| known.contains(job)) {
            continue;
        }
        match state.get_json::<Registered>(key).await {
            Ok(registered) => jobs.extend(registered),
            Err(error) => warn!(%error, "an entry of the registry cannot be read"),
        }
    }
    jobs.sort_by(|a, b| a.job.cmp(&b.job));
    Ok(jobs)
}

type OpenStream<T> = for<'a> fn(&'a dyn Bus) -> BoxFuture<'a, Result<BoxStream<'static, T>, QueueError>>;

/// Forwards one of the bus's streams to the loop, and opens it again when it breaks off.
async fn listen<T>(
    bus: Arc<dyn Bus>,
    open: OpenStream<T>,
    mut stream: BoxStream<'static, T>,
    wrap: impl Fn(T) -> Message,
    messages: mpsc::Sender<Message>,
) {
    loop {
        while let Some(item) = stream.next().await {
            if messages.send(wrap(item)).await.is_err() {
                return;
            }
        }
        stream = loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            match open(&*bus).await {
                Ok(stream) => break stream,
                Err(error) => warn!(%error, "the bus is away"),
            }
        };
    }
}
