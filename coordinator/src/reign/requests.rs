//! What people ask of the leader, and what they decide. A decision is an object before anybody hears of it.

use std::sync::Arc;

use fulltime_common::{
    error::Failure,
    keys,
    queue::Asked,
    spec::Registered,
    wire::{JobState, Reply, Request},
};
use tracing::warn;

use super::{Message, Reign};
use crate::{
    controls,
    crash::{self, Deed},
    ledger::{Decision, Input, JobId},
    planning::PlanError,
};

impl Reign {
    pub(super) async fn asked(&mut self, asked: Asked) {
        let decision = match asked.request.clone() {
            Request::Status { job } => {
                let now = self.started.elapsed();
                let jobs = self.ledger.status(job.as_deref(), now);
                let reply = match job {
                    Some(job) if jobs.is_empty() => unknown(&job),
                    _ => Reply::Status {
                        jobs,
                        workers: self.ledger.workers(now),
                        findings: self.ledger.findings(now),
                        leader: self.outlook.leader(self.mandate.epoch),
                    },
                };
                return answer(asked, reply).await;
            }
            Request::Submit { job } => return self.look_up(job, asked),
            Request::Rebuild => {
                self.rebuild = true;
                return answer(asked, Reply::Accepted).await;
            }
            Request::Cancel { job } => (job, Decision::Cancel),
            Request::Pause { job } => (job, Decision::Pause),
            Request::Resume { job } => (job, Decision::Resume),
            Request::Retry { job } => (job, Decision::Retry),
            Request::Priority { job, band } => (job, Decision::Priority { band }),
        };
        let (job, decision) = decision;
        let job: JobId = job.as_str().into();
        match self.verdict_on(&job, decision) {
            Answer::Decide => self.decide(job, decision, Some(asked)),
            Answer::Already => answer(asked, Reply::Accepted).await,
            Answer::Refuse(reply) => answer(asked, reply).await,
        }
    }

    fn verdict_on(&self, job: &JobId, decision: Decision) -> Answer {
        use JobState as S;
        let Some(state) = self.ledger.state(job).filter(|_| self.outs.contains_key(job)) else {
            return Answer::Refuse(unknown(job));
        };
        let refuse = |why: &str| Answer::Refuse(Reply::Refused { cause: format!("job `{job}` {why}") });
        match (decision, state) {
            (Decision::Cancel, S::Cancelled) => Answer::Already,
            (Decision::Retry, S::Finished) => {
                let lost = self.ledger.status(Some(job), self.started.elapsed());
                if lost.iter().all(|status| status.quarantined == 0) {
                    return refuse("has nothing quarantined: there is nothing to try again");
                }
                Answer::Decide
            }
            (_, S::Finished) => refuse("is finished"),
            (_, S::Cancelled) => refuse("is cancelled"),
            (Decision::Retry, _) => refuse("is not finished: what is quarantined is tried again afterwards"),
            (Decision::Pause | Decision::Resume | Decision::Priority { .. }, S::Failed) => {
                refuse("could not be planned; mend the cause and submit it again")
            }
            (Decision::Cancel | Decision::Pause | Decision::Resume | Decision::Priority { .. }, _) => Answer::Decide,
        }
    }

    /// Makes a decision durable; the ledger hears of it afterwards.
    pub(super) fn decide(&mut self, job: JobId, decision: Decision, asked: Option<Asked>) {
        let Some(out) = self.outs.get(&job).cloned() else { return };
        let (mandate, turn, answers) = (self.mandate.clone(), Arc::clone(&self.deciding), self.answer.clone());
        self.chores.step(async move {
            let _turn = turn.lock().await;
            let put = controls::put(&job, &out, decision, &mandate).await;
            // Sent before the next decision may be put, so that both have one order.
            let _ = answers.send(Message::Decided(job, decision, put, asked));
            None
        });
    }

    pub(super) async fn decided(
        &mut self,
        job: JobId,
        decision: Decision,
        put: Result<(), PlanError>,
        asked: Option<Asked>,
    ) {
        let reply = match put {
            Ok(()) => {
                self.feed(Input::Decide(job.clone(), decision));
                if decision == Decision::Cancel {
                    self.notify(&job);
                }
                // A retry is read below, and so after it was put.
                if decision != Decision::Retry && !self.files.contains_key(&job) {
                    self.overtaken.insert(job.clone());
                }
                if decision == Decision::Retry
                    && let Some(out) = self.outs.get(&job).cloned()
                {
                    self.admit(job, out);
                }
                Reply::Accepted
            }
            Err(error) => Reply::Refused { cause: Failure::from(error).cause },
        };
        if let Some(asked) = asked {
            answer(asked, reply).await;
        }
    }

    /// Looks for the registry's entry of a job that somebody says is new.
    fn look_up(&mut self, job: String, asked: Asked) {
        let state = self.state.clone();
        self.chores.step(async move {
            let found = state.get_json(&keys::state::registry(&job)).await;
            let found = found.inspect_err(|error| warn!(%error, job, "could not read the registry"));
            Some(Message::Submitted(found.ok().flatten(), asked))
        });
    }

    /// Submitting a job again resumes it if it is paused, and reads it again if it could not be planned.
    pub(super) async fn submitted(&mut self, registered: Option<Registered>, asked: Asked) {
        let Some(registered) = registered else {
            let cause = format!("no such job in the registry `{}`", self.state);
            return answer(asked, Reply::Refused { cause }).await;
        };
        let job: JobId = registered.job.as_str().into();
        match self.ledger.state(&job) {
            Some(JobState::Paused) => return self.decide(job, Decision::Resume, Some(asked)),
            Some(JobState::Failed) => self.feed(Input::Forget(job)),
            Some(JobState::Planning | JobState::Running | JobState::Finished | JobState::Cancelled) | None => {}
        }
        self.take_up(&registered);
        answer(asked, Reply::Accepted).await;
    }
}

/// What a wish to decide comes to.
enum Answer {
    Decide,
    Already,
    Refuse(Reply),
}

fn unknown(job: &str) -> Reply {
    Reply::Refused { cause: format!("there is no job `{job}`") }
}

async fn answer(asked: Asked, reply: Reply) {
    if let Err(error) = crash::around(Deed::Answer, (asked.answer)(reply)).await {
        warn!(%error, "could not answer a request");
    }
}
