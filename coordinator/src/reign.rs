//! One reign: a leader with its epoch and its ledger, from take-over until the lead is lost or given up. Listens to the
//! bus, feeds the ledger, carries out what it decides. Everything slow is a chore in the background whose answer comes
//! back as a message, so the loop itself never waits for a store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fulltime_common::{
    error::chain,
    keys,
    queue::{Asked, Bus, QueueError},
    spec::Registered,
    store::{Store, StoreError},
    wire::{Control, JobState},
};
use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    admission::{self, Admission},
    campaign::{Leadership, Mandate},
    chores::{Chores, failure, persist},
    dispatch::{Dispatch, Outgoing},
    epoch,
    ledger::{Action, Admitted, Decision, Input, JobId, Ledger, Past, Policy, Tally},
    outlook::{Outlook, View},
    planning::{JobFiles, PlanError},
    service::{ServiceError, beat},
    webhook,
};

mod keeping;
mod requests;

use keeping::Keeping;

/// How often the registry is looked at for jobs of which no request told.
const POLL: Duration = Duration::from_secs(3);
/// How often workers are told who leads: those that have just started have heard nothing yet.
const TELL: Duration = Duration::from_secs(1);
/// Messages that wait for the loop, and how many it takes at once.
const BACKLOG: usize = 4096;
const BATCH: usize = 512;

/// Why a reign ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Shutdown,
    Deposed,
    /// Somebody wants everything to be read again.
    Rebuild,
}

/// What the loop waits for.
enum Message {
    Ledger(Input),
    Asked(Asked),
    /// Entries of the registry that were not known, and known jobs that have none any more.
    Registry(Vec<Registered>, Vec<JobId>),
    /// The entry that a request spoke of.
    Submitted(Option<Registered>, Asked),
    Admitted(JobId, Arc<JobFiles>, Box<Admitted>),
    /// The store of an announced job was away.
    Unread(JobId),
    /// The stores of a job that wanted room can be written again.
    Room(JobId),
    /// A decision is durable, or could not be made so; somebody may wait for the answer.
    Decided(JobId, Decision, Result<(), PlanError>, Option<Asked>),
}

impl From<Input> for Message {
    fn from(input: Input) -> Self {
        Self::Ledger(input)
    }
}

/// Everything the loop owns.
pub(crate) struct Reign {
    ledger: Ledger,
    dispatch: Dispatch,
    chores: Chores<Message>,
    /// From the bus; bounded, so that a flood of events waits there.
    heard: mpsc::Receiver<Message>,
    /// From the chores.
    answers: mpsc::UnboundedReceiver<Message>,
    answer: mpsc::UnboundedSender<Message>,
    _listeners: JoinSet<()>,
    files: BTreeMap<JobId, Arc<JobFiles>>,
    /// Output URL of every registered job.
    outs: BTreeMap<JobId, String>,
    /// Jobs about which something was decided while they were being read: what was read may not know of it.
    overtaken: BTreeSet<JobId>,
    notices: JoinSet<()>,
    /// One decision after the other becomes durable, in the order in which the ledger hears of them.
    deciding: Arc<Mutex<()>>,
    started: Instant,
    state: Store,
    mandate: Mandate,
    beat: Duration,
    stall: Duration,
    rebuild: bool,
    keeping: Keeping,
    bus: Arc<dyn Bus>,
    outlook: Outlook,
    /// What of the ledger's counts the outlook has been told.
    shown: Tally,
}

impl Reign {
    /// Takes over: listens, tells everybody, reads the registry.
    pub async fn begin(
        bus: Arc<dyn Bus>,
        state: Store,
        policy: Policy,
        leadership: &Leadership,
        mandate: Mandate,
        outlook: Outlook,
    ) -> Result<Self, ServiceError> {
        let (sender, heard) = mpsc::channel(BACKLOG);
        let mut listeners = JoinSet::new();
        // Events first: what happens while the registry is read is then heard, not missed.
        let (events, hellos) = (bus.events().await?, bus.hellos().await?);
        let told = |event| Message::Ledger(Input::Heard(event));
        listeners.spawn(listen(Arc::clone(&bus), |bus| bus.events(), events, told, sender.clone()));
        let greeted = |hello| Message::Ledger(Input::Hello(hello));
        listeners.spawn(listen(Arc::clone(&bus), |bus| bus.hellos(), hellos, greeted, sender.clone()));
        let (answer, answers) = mpsc::unbounded_channel();
        let mut reign = Self {
            beat: beat(&policy, leadership),
            ledger: Ledger::new(policy),
            dispatch: Dispatch::start(Arc::clone(&bus), mandate.clone()),
            chores: Chores::start(answer.clone()),
            heard,
            answers,
            answer,
            _listeners: JoinSet::new(),
            files: BTreeMap::new(),
            outs: BTreeMap::new(),
            overtaken: BTreeSet::new(),
            notices: JoinSet::new(),
            deciding: Arc::default(),
            started: Instant::now(),
            state,
            mandate,
            stall: leadership.lease / 2,
            rebuild: false,
            keeping: Keeping::default(),
            bus: Arc::clone(&bus),
            outlook,
            shown: Tally::default(),
        };
        reign.proclaim();
        let (registered, _) = registry(&reign.state, &BTreeSet::new()).await.map_err(ServiceError::Registry)?;
        registered.iter().for_each(|registered| reign.take_up(registered));
        // Who asks now is answered by a ledger that knows all jobs.
        let requests = bus.requests().await?;
        listeners.spawn(listen(bus, |bus| bus.requests(), requests, Message::Asked, sender));
        reign._listeners = listeners;
        Ok(reign)
    }

    pub async fn run(mut self, shutdown: &CancellationToken) -> Result<Ended, ServiceError> {
        let mut ticks = tokio::time::interval(self.beat);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut polled, mut told, mut turned) = (Instant::now(), Instant::now(), Instant::now());
        let mut batch = Vec::with_capacity(BATCH);
        let mandate = self.mandate.clone();
        let mut lost = std::pin::pin!(mandate.lost());
        loop {
            let mut tick = false;
            tokio::select! {
                // A lost lead is seen before anything else is.
                biased;
                () = &mut lost => return Ok(Ended::Deposed),
                () = shutdown.cancelled() => {
                    self.close_books().await;
                    return Ok(Ended::Shutdown);
                }
                _ = ticks.tick() => tick = true,
                Some(message) = self.answers.recv() => batch.push(message),
                Some(message) = self.heard.recv() => batch.push(message),
                () = self.chores.tidy() => {}
            }
            if turned.elapsed() > self.stall && self.superseded().await {
                return Ok(Ended::Deposed);
            }
            turned = Instant::now();
            // What else is there already is taken in the same turn.
            while batch.len() < BATCH
                && let Ok(message) = self.answers.try_recv().or_else(|_| self.heard.try_recv())
            {
                batch.push(message);
            }
            for message in batch.drain(..) {
                self.handle(message).await;
            }
            if self.rebuild {
                self.close_books().await;
                return Ok(Ended::Rebuild);
            }
            if tick {
                while self.notices.try_join_next().is_some() {}
                self.feed(Input::Tick { minute: minute_of_the_day() });
                let ledger = &self.ledger;
                self.files.retain(|job, _| ledger.state(job).is_some_and(|state| !is_closed(state)));
                self.look_at_the_calendar();
                self.look_for_room();
                if polled.elapsed() >= POLL {
                    polled = Instant::now();
                    self.poll();
                }
                let lack = if self.bus.is_connected() { None } else { Some("the bus is away".to_owned()) };
                self.outlook.health.beat(lack);
                if told.elapsed() >= TELL {
                    told = Instant::now();
                    self.proclaim();
                    self.show();
                }
            }
        }
    }

    /// After a pause that nobody planned (the process was stopped, the machine slept): has anybody taken over?
    async fn superseded(&self) -> bool {
        if self.mandate.check().is_err() {
            return true;
        }
        match epoch::highest(&self.state).await {
            Ok(highest) => highest > self.mandate.epoch || self.mandate.check().is_err(),
            Err(error) => {
                warn!(%error, "cannot tell whether another coordinator has taken over");
                true
            }
        }
    }

    fn proclaim(&self) {
        self.dispatch.send(Outgoing::Tell(Control::Lead { epoch: self.mandate.epoch }));
    }

    /// For metrics and dashboard.
    fn show(&mut self) {
        let now = self.started.elapsed();
        let (jobs, workers) = (self.ledger.status(None, now), self.ledger.workers(now));
        let findings = self.ledger.findings(now);
        let view = View { ledger: &self.ledger, epoch: self.mandate.epoch, jobs, workers, findings };
        self.outlook.lead(view, &mut self.shown);
    }

    async fn handle(&mut self, message: Message) {
        match message {
            Message::Ledger(input) => {
                let over = match &input {
                    Input::Finished { job, .. } | Input::Refuse(job, _) => Some(job.clone()),
                    _ => None,
                };
                self.feed(input);
                over.into_iter().for_each(|job| self.notify(&job));
            }
            Message::Asked(asked) => self.asked(asked).await,
            Message::Registry(found, gone) => {
                gone.iter().for_each(|job| self.let_go(job));
                found.iter().for_each(|registered| self.take_up(registered));
            }
            Message::Submitted(registered, asked) => self.submitted(registered, asked).await,
            Message::Admitted(job, ..) if self.overtaken.remove(&job) => {
                if let Some(out) = self.outs.get(&job).cloned() {
                    self.admit(job, out);
                }
            }
            Message::Admitted(job, files, admitted) => {
                self.files.insert(job.clone(), files);
                self.feed(Input::Admit(job, admitted));
            }
            // Behind whatever else waits for a store by now.
            Message::Unread(job) => {
                if let Some(out) = self.outs.get(&job).cloned() {
                    self.admit(job, out);
                }
            }
            Message::Room(job) => self.go_on(job),
            Message::Decided(job, decision, put, asked) => self.decided(job, decision, put, asked).await,
        }
    }

    /// A registered job that the ledger does not have.
    fn take_up(&mut self, registered: &Registered) {
        let job: JobId = registered.job.as_str().into();
        if self.ledger.state(&job).is_some() {
            return;
        }
        info!(%job, "taking up a job");
        self.outs.insert(job.clone(), registered.out.clone());
        self.feed(Input::Announce(job.clone()));
        self.admit(job, registered.out.clone());
    }

    /// A job that is over and was deleted since.
    fn let_go(&mut self, job: &JobId) {
        if self.ledger.state(job).is_some_and(is_closed) {
            info!(%job, "the job was deleted");
            self.outs.remove(job);
            self.feed(Input::Forget(job.clone()));
        }
    }

    /// Reads an announced job's objects.
    fn admit(&mut self, job: JobId, out: String) {
        let (state, mandate) = (self.state.clone(), self.mandate.clone());
        self.chores.step(async move {
            let read = persist(&job, || admission::admit(&state, &job, &out, &mandate)).await;
            Some(match read {
                Ok(Admission::Run(files, admitted)) => Message::Admitted(job, files, admitted),
                Ok(Admission::Finished(manifest, url)) => {
                    Message::Ledger(Input::Past(job, Box::new(Past::finished(&manifest, url))))
                }
                Ok(Admission::Cancelled) => Message::Ledger(Input::Past(job, Box::new(Past::cancelled()))),
                Err(PlanError::Deposed(_)) => return None,
                // A store that is away says nothing against the job, which may be half done.
                Err(error @ PlanError::Store(_)) if error.may_pass() => Message::Unread(job),
                Err(error) => {
                    warn!(%job, cause = chain(&error), "this job cannot be run");
                    Message::Ledger(Input::Refuse(job, failure(error)))
                }
            })
        });
    }

    /// Tells the job's webhook, if it has one, that the job is over or paused.
    fn notify(&mut self, job: &JobId) {
        let status = self.ledger.status(Some(job), self.started.elapsed()).pop();
        let url = self.files.get(job).and_then(|files| files.job.webhook.clone());
        if let (Some(url), Some(status)) = (url, status.filter(|status| status.state.is_over())) {
            // Not among the chores: a slow webhook must not take a place from them.
            self.notices.spawn(async move { webhook::post(&url, &status.into()).await });
        }
    }

    fn poll(&mut self) {
        let (state, known) = (self.state.clone(), self.outs.keys().cloned().collect());
        self.chores.step(async move {
            let looked = registry(&state, &known).await;
            let looked = looked.inspect_err(|error| warn!(%error, "could not read the registry"));
            let (found, gone) = looked.unwrap_or_default();
            (!found.is_empty() || !gone.is_empty()).then_some(Message::Registry(found, gone))
        });
    }

    /// Tells the ledger and does what it says.
    fn feed(&mut self, input: Input) {
        for action in self.ledger.step(input, self.started.elapsed()) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Release(mut task) => {
                task.trace = self.files.get(task.job.as_str()).and_then(|files| files.job.trace.clone());
                self.dispatch.send(Outgoing::Release(vec![*task]));
            }
            Action::Withdraw { job } => self.dispatch.send(Outgoing::Withdraw(job)),
            Action::Stop { work, .. } => {
                self.dispatch.send(Outgoing::Tell(Control::Stop { epoch: self.mandate.epoch, work }));
            }
            Action::Discard { tasks } => {
                let mut work: BTreeMap<&str, Vec<_>> = BTreeMap::new();
                for task in &tasks {
                    work.entry(&task.job).or_default().push(task.digest);
                }
                for (job, work) in work {
                    self.dispatch.send(Outgoing::Discard(job.into(), work));
                }
            }
            Action::Book(booking) => self.book(booking),
            Action::Notify { job } => {
                info!(%job, "the job has paused by itself");
                self.notify(&job);
            }
            Action::Check { ref job, .. }
            | Action::Open { ref job, .. }
            | Action::Plan { ref job, .. }
            | Action::FindReduced { ref job, .. }
            | Action::Record { ref job, .. }
            | Action::Split { ref job, .. }
            | Action::Relist { ref job, .. }
            | Action::Freeze { ref job, .. }
            | Action::Summarise { ref job, .. }
            | Action::Quarantine { ref job, .. }
            | Action::Finish { ref job, .. } => {
                let job = job.clone();
                if let Some(files) = self.files.get(&job).cloned() {
                    self.chores.act(action, job, files);
                }
            }
        }
    }
}

/// Nothing of the job will be asked for again, unless it is taken up anew.
fn is_closed(state: JobState) -> bool {
    matches!(state, JobState::Finished | JobState::Cancelled | JobState::Failed)
}

fn minute_of_the_day() -> Option<u16> {
    let minutes = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs() / 60;
    u16::try_from(minutes % (24 * 60)).ok()
}

/// The registry's entries that are not known, and which known jobs have none.
async fn registry(state: &Store, known: &BTreeSet<JobId>) -> Result<(Vec<Registered>, Vec<JobId>), StoreError> {
    let (mut jobs, mut gone) = (Vec::new(), known.clone());
    for object in state.list(Some(keys::state::REGISTRY)).await? {
        let key = object.location.as_ref();
        let job = key.rsplit('/').next().and_then(|name| name.strip_suffix(".json"));
        if job.is_none_or(|job| gone.remove(job)) {
            continue;
        }
        match state.get_json::<Registered>(key).await {
            Ok(registered) => jobs.extend(registered),
            Err(error) => warn!(%error, "an entry of the registry cannot be read"),
        }
    }
    jobs.sort_by(|a, b| a.job.cmp(&b.job));
    Ok((jobs, gone.into_iter().collect()))
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
            tokio::time::sleep(Duration::from_millis(500)).await;
            match open(&*bus).await {
                Ok(stream) => break stream,
                Err(error) => warn!(%error, "the bus is away"),
            }
        };
    }
}
