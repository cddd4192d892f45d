//! Tells a job's webhook that the job is over: a POST of a small JSON object, tried a few times and never waited for. It
//! may come twice (after a take-over) or, when the leader dies at that very moment, not at all: the truth is the manifest.

use std::time::Duration;

use fulltime_common::wire::{JobState, JobStatus};
use serde::Serialize;
use tracing::{debug, warn};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses before it is tried again.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30)];

/// What is posted.
#[derive(Debug, Serialize)]
pub(crate) struct Notice {
    job: String,
    state: JobState,
    matches: u64,
    frames: u64,
    quarantined: u64,
    manifest: Option<String>,
    cause: Option<String>,
}

impl From<JobStatus> for Notice {
    fn from(status: JobStatus) -> Self {
        Self {
            job: status.job,
            state: status.state,
            matches: status.matches_done,
            frames: status.frames_done,
            quarantined: status.quarantined,
            manifest: status.manifest,
            cause: status.failure.map(|failure| failure.cause),
        }
    }
}

/// Posts until somebody says that it has arrived.
pub(crate) async fn post(url: &str, notice: &Notice) {
    // reqwest is built without a TLS provider of its own; installing ours twice is harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let body = serde_json::to_vec(notice).unwrap_or_default();
    let mut pauses = PAUSES.iter();
    loop {
        let sent = async {
            let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
            let request = client.post(url).header("content-type", "application/json").body(body.clone());
            request.send().await?.error_for_status()
        };
        // Without the URL, which may hold a secret.
        let Err(error) = sent.await.map_err(reqwest::Error::without_url) else { return };
        let Some(pause) = pauses.next() else {
            warn!(%error, job = notice.job, "gave up telling the job's webhook");
            return;
        };
        debug!(%error, job = notice.job, "the job's webhook does not answer; trying again");
        tokio::time::sleep(*pause).await;
    }
}
