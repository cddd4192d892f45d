//! Names, subjects and settings of everything that the bus keeps in JetStream, and how it comes (back) into being. The
//! broker may lose all of it at any moment: whoever misses something calls [`Streams::ensure`] and tries again.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use async_nats::{
    Client, HeaderMap,
    connection::State,
    jetstream::{
        self, ErrorCode,
        consumer::{AckPolicy, pull},
        context::{CreateStreamError, CreateStreamErrorKind, PublishError, PublishErrorKind},
        stream::{Config, ConsumerError, ConsumerErrorKind, DiscardPolicy, RetentionPolicy, StorageType},
    },
};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::{QueueError, broker};
use crate::{
    digest::Digest,
    plan::encode,
    wire::{Band, Pool, Task},
};

pub(super) const TASKS: &str = "FULLTIME_TASKS";
pub(super) const EVENTS: &str = "FULLTIME_EVENTS";
pub(super) const ADVISORIES: &str = "FULLTIME_ADVISORIES";
/// Laid out as a key-value bucket, so that `nats kv get FULLTIME_LEADER leader` shows who leads.
pub(super) const LEADER: &str = "KV_FULLTIME_LEADER";
pub(super) const LEADER_KEY: &str = "$KV.FULLTIME_LEADER.leader";

/// For so long the broker remembers the ids of released tasks.
const DUPLICATES: Duration = Duration::from_secs(120);
/// More leases than any window and any number of lanes: the ledger's window is the limit, not this.
const LEASES: i64 = 1_000_000;
/// Every idle worker process has one pull request waiting at a consumer.
const WAITING: i64 = 100_000;

/// What one durable consumer delivers: the tasks of one pool and band.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lineup {
    pub band: Band,
    pub pool: Pool,
}

impl Lineup {
    /// The consumer's name, which allows neither dots nor percent signs.
    pub fn consumer(&self) -> String {
        format!("{}_{}", class(&self.pool), band(self.band)).replace('%', "=")
    }

    fn filter(&self) -> String {
        format!("fulltime.task.{}.{}.>", class(&self.pool), band(self.band))
    }
}

/// Any text as one subject token.
fn token(text: &str) -> String {
    encode(text).replace('.', "%2E")
}

fn class(pool: &Pool) -> String {
    match pool {
        Pool::Any => "any".to_owned(),
        // Marked, so that no class can be named like the pool of all.
        Pool::Class(class) => format!("class-{}", token(&class.0)),
    }
}

fn band(band: Band) -> &'static str {
    match band {
        Band::High => "high",
        Band::Normal => "normal",
        Band::Low => "low",
    }
}

pub(super) fn task_subject(task: &Task) -> String {
    let lineup = (class(&task.pool()), band(task.band));
    format!("fulltime.task.{}.{}.{}.{}", lineup.0, lineup.1, token(&task.job), task.digest)
}

/// Everything of a job.
pub(super) fn job_filter(job: &str) -> String {
    format!("fulltime.task.*.*.{}.*", token(job))
}

/// One piece of a job's work, in whatever band it was released.
pub(super) fn work_filter(job: &str, digest: &Digest) -> String {
    format!("fulltime.task.*.*.{}.{digest}", token(job))
}

pub(super) fn event_subject(job: &str) -> String {
    format!("fulltime.event.{}", token(job))
}

/// Makes streams and consumers where they are missing.
#[derive(Debug)]
pub(super) struct Streams {
    pub client: Client,
    pub context: jetstream::Context,
    lease: Duration,
    /// Grows with every [`Streams::ensure`], so that many who miss the same stream make it once.
    made: AtomicU64,
    making: Mutex<()>,
}

impl Streams {
    pub fn new(client: Client, lease: Duration) -> Self {
        let context = jetstream::new(client.clone());
        Self { client, context, lease, made: AtomicU64::new(0), making: Mutex::default() }
    }

    /// Makes every stream that is not there, unless somebody else has since `seen`.
    pub async fn ensure(&self, seen: u64) -> Result<(), QueueError> {
        let _making = self.making.lock().await;
        if self.made.load(Ordering::Acquire) != seen {
            return Ok(());
        }
        for config in configs() {
            let name = config.name.clone();
            self.create(config).await?;
            tracing::debug!(stream = name, "there");
        }
        self.made.fetch_add(1, Ordering::Release);
        Ok(())
    }

    async fn create(&self, config: Config) -> Result<(), QueueError> {
        let create = || self.context.get_or_create_stream(config.clone());
        let error = match create().await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        match code(&error) {
            // Somebody else has made it in between; the leader's register then begins at another revision.
            Some(ErrorCode::STREAM_NAME_EXIST) => return Ok(()),
            // The broker has read something in its files that it takes for a later version's: it will never serve it.
            Some(ErrorCode::STREAM_OFFLINE_REASON) => {}
            _ => return Err(broker("create a stream")(error)),
        }
        warn!(stream = config.name, %error, "the broker does not serve this stream: making a new one");
        self.context.delete_stream(&config.name).await.map_err(broker("delete a stream that is not served"))?;
        create().await.map(|_| ()).map_err(broker("create a stream"))
    }

    /// Publishes and waits until the broker keeps it. What comes twice with one `Nats-Msg-Id` is kept once.
    pub async fn publish(
        &self,
        stream: &'static str,
        action: &'static str,
        subject: String,
        headers: HeaderMap,
        bytes: Vec<u8>,
    ) -> Result<(), QueueError> {
        let bytes = bytes::Bytes::from(bytes);
        let attempt = || async {
            let published = self.context.publish_with_headers(subject.clone(), headers.clone(), bytes.clone());
            published.await.map_err(broker(action))?.await.map_err(broker(action))?;
            Ok(())
        };
        self.healing(stream, attempt).await
    }

    /// Runs `attempt` on a stream; where it fails although the broker is there, makes what may be missing and runs it
    /// once more. A stream that the broker itself can no longer use (its files were deleted or damaged under it) is given
    /// up for a new one: what it held can be told again from the store.
    pub async fn healing<T, F>(&self, stream: &'static str, attempt: impl Fn() -> F) -> Result<T, QueueError>
    where
        F: Future<Output = Result<T, QueueError>>,
    {
        let connected = || self.client.connection_state() == State::Connected;
        let seen = self.made.load(Ordering::Acquire);
        let error = match attempt().await {
            Err(error) if connected() => error,
            result => return result,
        };
        info!(stream, error = crate::error::chain(&error), "making sure of the streams");
        self.ensure(seen).await?;
        let born = self.born(stream).await?;
        match attempt().await {
            // Unless somebody else has already replaced it.
            Err(error) if connected() && is_broken(&error) && self.born(stream).await? == born => {
                warn!(
                    stream,
                    error = crate::error::chain(&error),
                    "the broker cannot use its stream: making a new one"
                );
                self.context.delete_stream(stream).await.map_err(broker("delete a broken stream"))?;
                self.ensure(self.made.load(Ordering::Acquire)).await?;
                attempt().await
            }
            result => result,
        }
    }

    /// When a stream was made: tells it from its successor.
    pub async fn born(&self, stream: &'static str) -> Result<String, QueueError> {
        let stream = self.context.get_stream(stream).await.map_err(broker("look at a stream"))?;
        Ok(stream.cached_info().created.to_string())
    }

    /// Makes the consumer of a line-up where it is missing.
    pub async fn consumer(&self, lineup: &Lineup) -> Result<(), QueueError> {
        let config = pull::Config {
            durable_name: Some(lineup.consumer()),
            filter_subject: lineup.filter(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.lease,
            max_deliver: -1,
            max_ack_pending: LEASES,
            max_waiting: WAITING,
            ..Default::default()
        };
        self.healing(TASKS, || async {
            let created = self.context.create_consumer_on_stream(config.clone(), TASKS).await;
            created.map(|_| ()).map_err(broker("create a consumer"))
        })
        .await
    }
}

/// Whether the broker's storage is at fault: it fails with an internal error, or does not answer at all although it
/// answers questions about the stream.
fn is_broken(error: &QueueError) -> bool {
    let QueueError::Broker { source, .. } = error else { return false };
    let silent = source.downcast_ref::<PublishError>().is_some_and(|error| error.kind() == PublishErrorKind::TimedOut);
    let failed = source
        .downcast_ref::<ConsumerError>()
        .is_some_and(|error| matches!(error.kind(), ConsumerErrorKind::JetStream(error) if error.code() == 500));
    silent || failed
}

fn code(error: &CreateStreamError) -> Option<ErrorCode> {
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => Some(error.error_code()),
        _ => None,
    }
}

fn configs() -> [Config; 4] {
    let consumer_advisories = |kind: &str| format!("$JS.EVENT.ADVISORY.CONSUMER.{kind}.{TASKS}.>");
    // Revisions go on where time stands, so that one seen before a wipe is not seen again after it.
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let first_revision = u64::try_from(since_epoch.as_millis()).unwrap_or(1);
    [
        Config {
            name: TASKS.to_owned(),
            subjects: vec!["fulltime.task.>".to_owned()],
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            duplicate_window: DUPLICATES,
            ..Default::default()
        },
        Config {
            name: EVENTS.to_owned(),
            subjects: vec!["fulltime.event.>".to_owned()],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            max_age: Duration::from_secs(24 * 3600),
            max_bytes: 1 << 30,
            ..Default::default()
        },
        Config {
            name: ADVISORIES.to_owned(),
            subjects: ["MAX_DELIVERIES", "MSG_TERMINATED", "MSG_NAKED"].map(consumer_advisories).to_vec(),
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            storage: StorageType::File,
            max_age: Duration::from_secs(7 * 24 * 3600),
            max_bytes: 16 << 20,
            ..Default::default()
        },
        Config {
            name: LEADER.to_owned(),
            subjects: vec!["$KV.FULLTIME_LEADER.>".to_owned()],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            max_messages_per_subject: 1,
            first_sequence: Some(first_revision),
            allow_rollup: true,
            deny_delete: true,
            ..Default::default()
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::EngineClass;

    #[test]
    fn consumers_and_subjects_of_different_pools_never_overlap() {
        let names = ["any", "a.b", "a%2Eb", "a=2Eb", "a b", ""].map(|name| Pool::Class(EngineClass(name.into())));
        let lineups: Vec<Lineup> = std::iter::once(Pool::Any)
            .chain(names)
            .flat_map(|pool| Band::ALL.map(|band| Lineup { band, pool: pool.clone() }))
            .collect();
        for (i, one) in lineups.iter().enumerate() {
            assert!(!one.consumer().contains(['.', '%', ' ', '*', '>', '/']), "{}", one.consumer());
            assert_eq!(one.filter().split('.').count(), 5, "{}", one.filter());
            for other in &lineups[i + 1..] {
                assert_ne!(one.consumer(), other.consumer());
                assert_ne!(one.filter(), other.filter());
            }
        }
    }
}
