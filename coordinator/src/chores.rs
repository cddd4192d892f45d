//! The ledger's actions against a job's objects, carried out in the background: what came of each goes back to the loop
//! as an input. Looking for results is by far the most frequent one and has a pool of its own, without a task each.

use std::{sync::Arc, time::Duration};

use fulltime_common::{
    error::{Explain, Failure, chain},
    wire::JobFailure,
};
use futures::StreamExt as _;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tracing::{info, warn};

use crate::{
    ledger::{Action, Input, JobId, Object},
    planning::{JobFiles, PlanError},
};

/// Steps against the stores at once.
const STEPS: usize = 32;
/// Objects looked for at once.
const LOOKS: usize = 64;
/// Pauses before a step that failed for a passing reason is tried again.
const RETRIES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// One of the ledger's actions, and the objects that it is about.
struct Chore {
    job: JobId,
    action: Action,
    files: Arc<JobFiles>,
}

/// Runs steps and looks until it is dropped.
pub(crate) struct Chores<M> {
    messages: mpsc::UnboundedSender<M>,
    permits: Arc<Semaphore>,
    steps: JoinSet<()>,
    looks: mpsc::UnboundedSender<Chore>,
    _looking: JoinSet<()>,
}

impl<M: From<Input> + Send + 'static> Chores<M> {
    /// What they find goes to `messages`. Unbounded, because the loop must not wait; the ledger's window bounds it.
    pub fn start(messages: mpsc::UnboundedSender<M>) -> Self {
        let (looks, wanted) = mpsc::unbounded_channel();
        let mut looking = JoinSet::new();
        looking.spawn(look_for(wanted, messages.clone()));
        Self { messages, permits: Arc::new(Semaphore::new(STEPS)), steps: JoinSet::new(), looks, _looking: looking }
    }

    /// Starts a step whose message goes to the loop.
    pub fn step(&mut self, work: impl Future<Output = Option<M>> + Send + 'static) {
        let (permits, messages) = (Arc::clone(&self.permits), self.messages.clone());
        self.steps.spawn(async move {
            let _permit = permits.acquire_owned().await;
            if let Some(message) = work.await {
                let _ = messages.send(message);
            }
        });
    }

    pub fn act(&mut self, action: Action, job: JobId, files: Arc<JobFiles>) {
        let chore = Chore { job, action, files };
        if matches!(chore.action, Action::Check { .. }) {
            // The other end lives as long as this one.
            let _ = self.looks.send(chore);
        } else {
            self.step(async move { perform(chore).await.map(M::from) });
        }
    }

    /// Waits for the end of some step; says what broke off.
    pub async fn tidy(&mut self) {
        match self.steps.join_next().await {
            Some(Ok(())) => {}
            Some(Err(error)) => warn!(%error, "a step of the coordinator broke off"),
            None => std::future::pending().await,
        }
    }
}

async fn look_for<M: From<Input>>(wanted: mpsc::UnboundedReceiver<Chore>, messages: mpsc::UnboundedSender<M>) {
    let wanted = futures::stream::unfold(wanted, |mut wanted| async { Some((wanted.recv().await?, wanted)) });
    let mut found = std::pin::pin!(wanted.map(perform).buffer_unordered(LOOKS));
    while let Some(input) = found.next().await {
        if let Some(input) = input
            && messages.send(input.into()).is_err()
        {
            return;
        }
    }
}

/// Tries until it works or cannot. All steps put what is true anyway, so each may be repeated. What fails because the lead
/// is lost is nobody's business any more.
async fn perform(chore: Chore) -> Option<Input> {
    let Chore { job, action, files } = chore;
    match persist(&job, || carry_out(&action, &files)).await {
        Ok(input) => input,
        Err(PlanError::Deposed(_)) => None,
        Err(error) => Some(Input::Stuck { job, failure: failure(error) }),
    }
}

/// Tries a few times, unless what is wrong will not pass by itself.
pub(crate) async fn persist<T, F>(job: &JobId, attempt: impl Fn() -> F) -> Result<T, PlanError>
where
    F: Future<Output = Result<T, PlanError>>,
{
    for pause in RETRIES {
        match attempt().await {
            Err(error) if error.may_pass() => warn!(%job, cause = chain(&error), "trying again"),
            result => return result,
        }
        tokio::time::sleep(pause).await;
    }
    attempt().await
}

pub(crate) fn failure(error: impl Explain) -> JobFailure {
    let Failure { exit, cause, hint } = error.into();
    JobFailure { exit: exit as u8, cause, hint }
}

/// Does one of the ledger's actions that need a store, and says what came of it.
async fn carry_out(action: &Action, files: &JobFiles) -> Result<Option<Input>, PlanError> {
    Ok(Some(match action {
        // These go to the bus.
        Action::Release(_) | Action::Withdraw { .. } | Action::Stop { .. } | Action::Discard { .. } => return Ok(None),
        // The reign does these itself.
        Action::Book(_) | Action::Notify { .. } => return Ok(None),
        Action::Check { work, object, .. } => {
            let exists = match object {
                Object::Store(key) => files.store.exists(key).await?,
                Object::Out(key) => files.out.exists(key).await?,
            };
            Input::Checked { work: work.clone(), exists }
        }
        Action::Open { job, at, id, revision } => {
            let (plan, inputs) = files.open(id, *revision).await?;
            Input::Opened { job: job.clone(), at: *at, plan: plan.map(Box::new), inputs: inputs.map(Box::new) }
        }
        Action::Plan { job, at, order } => {
            Input::Planned { job: job.clone(), at: *at, plan: Box::new(files.plan(order).await?) }
        }
        Action::FindReduced { job, at, reduce } => {
            let exists = files.store.exists(&fulltime_common::keys::store::reduced_summary(reduce)).await?;
            Input::Reduced { job: job.clone(), at: *at, exists }
        }
        Action::Freeze { job, at, inputs } => {
            Input::Frozen { job: job.clone(), at: *at, inputs: Box::new(files.freeze(inputs).await?) }
        }
        Action::Record { job, attempt } => {
            Input::Recorded { job: job.clone(), attempt: Box::new(files.record(attempt).await?) }
        }
        Action::Split { job, at, recording, shard } => {
            let parts = files.split(shard).await?;
            Input::SplitInto { job: job.clone(), at: *at, recording: *recording, digest: shard.digest(), parts }
        }
        Action::Relist { job, at, id, revision } => {
            warn!(%job, "match `{id}` changed in the archive; looking at it anew");
            let planned = Box::new(files.relist(id, *revision).await?);
            Input::Relisted { job: job.clone(), at: *at, revision: *revision, planned }
        }
        Action::Summarise { job, at, id } => {
            Input::Summarised { job: job.clone(), at: *at, figures: files.figures(id).await? }
        }
        Action::Quarantine { job, name, record } => {
            warn!(%job, "given up: {record}");
            files.quarantine(name, record).await?;
            return Ok(None);
        }
        Action::Finish { job, outcomes, run } => {
            let manifest = files.finish(outcomes, run).await?;
            info!(%job, manifest, "finished");
            Input::Finished { job: job.clone(), manifest }
        }
    }))
}
