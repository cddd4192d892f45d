//! What processes share: entries in Redis. Whatever is wrong with it is an absent entry here, counted, and said once.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use redis::{
    Client, Cmd, FromRedisValue,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::sync::{OnceCell, Semaphore};
use tracing::{debug, info, warn};

use crate::{
    CacheError, Fault, Figures, Key, Kind,
    breaker::{Breaker, Turn},
    entry::{open, seal},
};

/// Entries that are on their way to Redis at once, and their bytes; what is more is not put.
const PUTS: usize = 32;
const CONNECT: Duration = Duration::from_millis(500);

/// Where Redis is and how long it keeps entries.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// `redis://` or `rediss://`, with whatever credentials.
    pub url: String,
    pub ttl: Duration,
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOptions").field("url", &"(hidden)").field("ttl", &self.ttl).finish()
    }
}

/// See the module.
pub(crate) struct Shared {
    client: Client,
    /// Host and port, for people.
    pub place: String,
    ttl: Duration,
    connection: OnceCell<ConnectionManager>,
    breaker: Mutex<Breaker>,
    room: Arc<Semaphore>,
    figures: Arc<Figures>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("place", &self.place).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// Checks a URL, without a connection.
pub(crate) fn client(url: &str) -> Result<(Client, String), CacheError> {
    if url.ends_with("#insecure") {
        return Err(CacheError::Insecure);
    }
    if url.starts_with("rediss:") {
        // A second time is no mistake: the store may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let client = Client::open(url).map_err(CacheError::Url)?;
    let place = client.get_connection_info().addr().to_string();
    Ok((client, place))
}

impl Shared {
    pub fn new(options: &RedisOptions, figures: Arc<Figures>) -> Result<Self, CacheError> {
        let (client, place) = client(&options.url)?;
        Ok(Self {
            client,
            place,
            ttl: options.ttl,
            connection: OnceCell::new(),
            breaker: Mutex::default(),
            room: Arc::new(Semaphore::new(PUTS)),
            figures,
        })
    }

    async fn connection(&self) -> redis::RedisResult<ConnectionManager> {
        let make = || async {
            // Its own attempts are few: the breaker knows better when to try again.
            let config = ConnectionManagerConfig::new()
                .set_number_of_retries(1)
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(Some(Kind::Model.patience()));
            ConnectionManager::new_lazy_with_config(self.client.clone(), config)
        };
        self.connection.get_or_try_init(make).await.cloned()
    }

    /// Asks, if there is hope for an answer.
    async fn ask<T: FromRedisValue>(&self, kind: Kind, command: Cmd) -> Option<T> {
        if !self.breaker().allows(Instant::now()) {
            self.figures.failed(kind, Fault::Skipped);
            return None;
        }
        let asked = async { command.query_async::<T>(&mut self.connection().await?).await };
        let reason = match tokio::time::timeout(kind.patience(), asked).await {
            Ok(Ok(answer)) => {
                if self.breaker().worked() == Some(Turn::Back) {
                    info!(redis = self.place, "Redis answers again");
                }
                return Some(answer);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", kind.patience().as_millis()),
        };
        self.figures.failed(kind, Fault::Failed);
        if self.breaker().failed(Instant::now()) == Some(Turn::Away) {
            warn!(redis = self.place, reason, "Redis does not answer: going on without it, trying now and then");
        }
        None
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content of an entry. One that is not what was put is removed.
    pub async fn get(&self, key: &Key) -> Option<Bytes> {
        let mut get = redis::cmd("GET");
        get.arg(key.to_string());
        let entry = self.ask::<Option<Bytes>>(key.kind, get).await??;
        match open(key, &entry) {
            Ok(content) => Some(content),
            Err(reason) => {
                self.unsound(key, &reason).await;
                None
            }
        }
    }

    /// Counts and removes an entry that nobody can use.
    pub async fn unsound(&self, key: &Key, reason: &(dyn std::error::Error + Sync)) {
        self.figures.failed(key.kind, Fault::Unsound);
        warn!(redis = self.place, %key, %reason, "a cached entry is unsound: dropped, and made again");
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(key.to_string());
        let _: Option<u64> = self.ask(key.kind, unlink).await;
    }

    /// Puts an entry, sooner or later or not at all.
    pub fn put(self: &Arc<Self>, key: Key, content: Bytes) {
        let room = Arc::clone(&self.room).try_acquire_owned();
        let (true, Ok(permit)) = (content.len() <= key.kind.largest(), room) else {
            self.figures.failed(key.kind, Fault::Unkept);
            return debug!(%key, bytes = content.len(), "not put into Redis");
        };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let mut set = redis::cmd("SET");
            set.arg(key.to_string()).arg(seal(&key, &content)).arg("PX").arg(shared.ttl.as_millis() as u64);
            let _: Option<()> = shared.ask(key.kind, set).await;
            drop(permit);
        });
    }

    /// When everything that was put so far has arrived or failed.
    pub async fn settled(&self) {
        let _ = self.room.acquire_many(PUTS as u32).await;
    }
}
