//! Following a job to its end, and what that end means. `run` and `watch` call it.

use std::time::{Duration, Instant};

use fulltime_common::{
    error::{Exit, Failure},
    queue::{Bus, QueueError},
    wire::{JobState, JobStatus, Reply, Request},
};

use crate::screen::{Follower, Screen};

/// How often the coordinator is asked.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long nobody may answer: a coordinator that is started again needs a moment.
const SILENCE: Duration = Duration::from_secs(30);

/// Asks until an answer comes or nobody has answered for too long.
///
/// # Errors
/// Trouble on the bus, or silence.
pub async fn ask(bus: &dyn Bus, request: &Request, patience: Duration) -> Result<Reply, QueueError> {
    let since = Instant::now();
    loop {
        match bus.request(request).await {
            Err(QueueError::NoCoordinator) if since.elapsed() < patience => tokio::time::sleep(ASK_EVERY / 4).await,
            answer => return answer,
        }
    }
}

/// Announces a job to a coordinator that may still be starting.
///
/// # Errors
/// Trouble on the bus, or a coordinator that does not take the job.
pub async fn submit(bus: &dyn Bus, job: &str, patience: Duration) -> Result<(), Failure> {
    match ask(bus, &Request::Submit { job: job.to_owned() }, patience).await? {
        Reply::Accepted | Reply::Status { .. } => Ok(()),
        Reply::Refused { cause } => Err(Failure::new(
            Exit::Usage,
            cause,
            "give --state the same folder or URL that the coordinator was started with",
        )),
    }
}

/// Shows the job until it is over.
///
/// # Errors
/// Trouble on the bus, or a coordinator that does not know the job.
pub async fn follow(bus: &dyn Bus, job: &str, screen: &Screen) -> Result<JobStatus, Failure> {
    let mut follower = Follower::new(screen.clone());
    let mut told = false;
    let request = Request::Status { job: Some(job.to_owned()) };
    loop {
        let status = match ask(bus, &request, SILENCE).await? {
            Reply::Status { jobs, leader, .. } => {
                if let Some(dashboard) = leader.dashboard.filter(|_| !told) {
                    screen.say(&format!("dashboard {dashboard}"));
                    told = true;
                }
                jobs.into_iter().find(|status| status.job == job)
            }
            Reply::Refused { cause } => return Err(unknown(cause)),
            Reply::Accepted => None,
        };
        let status = status.ok_or_else(|| unknown(format!("the coordinator does not know job `{job}`")))?;
        follower.show(&status);
        if status.state.is_over() {
            return Ok(status);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// A job that the coordinator has never heard of.
pub fn unknown(cause: String) -> Failure {
    Failure::new(Exit::Usage, cause, "look at `fulltime status` for the jobs there are")
}

/// What the end of a job means for whoever started it: a code for finished jobs, a failure for all others.
///
/// # Errors
/// Cancelled, paused and failed jobs.
pub fn verdict(status: &JobStatus) -> Result<Exit, Failure> {
    let failure = |exit: Exit, cause: String, hint: &str| {
        let Some(told) = &status.failure else { return Failure::new(exit, cause, hint) };
        Failure {
            exit: Exit::from_code(told.exit).unwrap_or(exit),
            cause: told.cause.clone(),
            hint: told.hint.clone().or_else(|| Some(hint.to_owned())),
        }
    };
    let job = &status.job;
    match status.state {
        JobState::Finished if status.quarantined > 0 => Ok(Exit::Quarantine),
        JobState::Finished => Ok(Exit::Ok),
        JobState::Cancelled => {
            Err(Failure::new(Exit::Cancelled, format!("job `{job}` was cancelled"), "submit it anew to run it"))
        }
        JobState::Paused => {
            let cause = format!("job `{job}` is paused after too many failures");
            let hint = format!("mend the cause, then go on with `--resume {job}`; nothing is lost");
            Err(failure(Exit::Paused, cause, &hint))
        }
        JobState::Failed => Err(failure(Exit::Internal, format!("job `{job}` failed"), "see the coordinator's log")),
        JobState::Planning | JobState::Running => {
            Err(Failure::new(Exit::Internal, format!("job `{job}` is not over"), "report this as a bug"))
        }
    }
}

#[cfg(test)]
mod tests {
    use fulltime_common::wire::JobFailure;

    use super::*;
    use crate::screen::tests::status;

    #[test]
    fn the_end_of_a_job_is_an_exit_code() {
        assert_eq!(verdict(&status(JobState::Finished)).unwrap(), Exit::Ok);
        let partly = JobStatus { quarantined: 1, ..status(JobState::Finished) };
        assert_eq!(verdict(&partly).unwrap(), Exit::Quarantine);
        assert_eq!(verdict(&status(JobState::Cancelled)).unwrap_err().exit, Exit::Cancelled);
        assert_eq!(verdict(&status(JobState::Paused)).unwrap_err().exit, Exit::Paused);
    }

    #[test]
    fn a_paused_job_ends_with_the_code_and_the_words_of_its_cause() {
        let told = JobFailure { exit: 6, cause: "model does not fit".into(), hint: None };
        let failure = verdict(&JobStatus { failure: Some(told), ..status(JobState::Paused) }).unwrap_err();
        assert_eq!((failure.exit, failure.cause.as_str()), (Exit::Model, "model does not fit"));
        assert!(failure.hint.is_some());
    }
}
