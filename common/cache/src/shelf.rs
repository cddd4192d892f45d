//! Entries of one kind, decoded, in this process: bounded by bytes, the least useful go first. What is not here is looked
//! for in Redis and then read from where it comes from; however many ask for one entry at once, one of them goes.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use fulltime_common::Digest;

use crate::{Cache, Key, Kind, Level};

/// Bytes that an entry takes at least, for its place in the tables.
const PLACE: usize = 128;

/// See the module.
pub struct Shelf<T> {
    cache: Cache,
    kind: Kind,
    version: u32,
    here: moka::sync::Cache<Digest, Arc<T>>,
    flights: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl<T> fmt::Debug for Shelf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("kind", &self.kind).field("version", &self.version).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Shelf<T> {
    /// `version`: of the encoding in Redis. `most`: bytes kept here, as `weigh` counts them.
    #[must_use]
    pub fn new(cache: &Cache, kind: Kind, version: u32, most: u64, weigh: fn(&T) -> usize) -> Self {
        let weigher = move |_: &Digest, value: &Arc<T>| u32::try_from(weigh(value) + PLACE).unwrap_or(u32::MAX);
        let here = moka::sync::Cache::builder().max_capacity(most).weigher(weigher).build();
        Self { cache: cache.clone(), kind, version, here, flights: Mutex::default() }
    }

    fn key(&self, digest: Digest) -> Key {
        Key { kind: self.kind, version: self.version, digest }
    }

    /// What is in this process or in Redis. `decode` refuses what is not an entry of this kind.
    pub async fn find<E: std::error::Error + Sync>(
        &self,
        digest: Digest,
        decode: impl Fn(&Bytes) -> Result<T, E>,
    ) -> Option<Arc<T>> {
        if let Some(value) = self.here.get(&digest) {
            self.cache.figures.answered(self.kind, Level::Memory);
            return Some(value);
        }
        let shared = self.cache.shared.as_ref()?;
        let key = self.key(digest);
        let content = shared.get(&key).await?;
        match decode(&content) {
            Ok(value) => {
                self.cache.figures.answered(self.kind, Level::Redis);
                let value = Arc::new(value);
                self.here.insert(digest, Arc::clone(&value));
                Some(value)
            }
            Err(reason) => {
                shared.unsound(&key, &reason).await;
                None
            }
        }
    }

    /// Keeps what `content` decodes to, here and in Redis.
    pub fn keep(&self, digest: Digest, value: Arc<T>, content: Bytes) {
        self.cache.figures.answered(self.kind, Level::Source);
        self.here.insert(digest, value);
        if let Some(shared) = &self.cache.shared {
            shared.put(self.key(digest), content);
        }
    }

    /// What is here or in Redis; else what `load` brings, which is then kept.
    ///
    /// # Errors
    /// Those of `load`, and of `decode` with what it brought. Who waited for a load that failed tries one of its own.
    pub async fn get<E: std::error::Error + Sync>(
        &self,
        digest: Digest,
        decode: impl Fn(&Bytes) -> Result<T, E>,
        load: impl Future<Output = Result<Bytes, E>>,
    ) -> Result<Arc<T>, E> {
        if let Some(value) = self.here.get(&digest) {
            self.cache.figures.answered(self.kind, Level::Memory);
            return Ok(value);
        }
        let flight = self.flight(digest);
        let _turn = flight.lock().await;
        if let Some(value) = self.find(digest, &decode).await {
            return Ok(value);
        }
        let content = load.await?;
        let value = Arc::new(decode(&content)?);
        self.keep(digest, Arc::clone(&value), content);
        Ok(value)
    }

    fn flight(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, flight| flight.strong_count() > 0);
        if let Some(flight) = flights.get(&digest).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::default();
        flights.insert(digest, Arc::downgrade(&flight));
        flight
    }

    /// Bytes that are kept here.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.here.run_pending_tasks();
        self.here.weighted_size()
    }
}
