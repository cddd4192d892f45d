//! What has been read or computed before, kept at two levels above the object store: in this process, bounded by bytes, and
//! in a Redis that processes and machines share. Workers keep container indexes, pipelines, models and what the detector said
//! of a picture; `fulltime cache` counts and clears.
//!
//! An entry is named by the digest of its content or of everything that it was computed from, so it never has to be
//! invalidated; it is sealed (`entry`), so one that is damaged is found out and made again; and Redis is never needed: where
//! it is away or slow, work goes on without it (`breaker`).

use std::sync::Arc;

use bytes::Bytes;

mod admin;
mod breaker;
mod entry;
mod error;
mod figures;
mod kind;
mod shared;
mod shelf;

pub use admin::{Admin, Amount, Stats};
pub use error::CacheError;
pub use figures::{Fault, Figures, Level};
pub use kind::{Key, Kind, NotAKind, PREFIX};
pub use shared::RedisOptions;
pub use shelf::Shelf;

use shared::Shared;

/// What the shelves of a process have in common: the way to Redis, if there is one, and the figures. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    shared: Option<Arc<Shared>>,
    figures: Arc<Figures>,
}

impl Cache {
    /// Connects when it is first asked for something.
    ///
    /// # Errors
    /// A URL that does not read.
    pub fn new(redis: Option<&RedisOptions>) -> Result<Self, CacheError> {
        let figures = Arc::<Figures>::default();
        let shared = redis.map(|options| Shared::new(options, Arc::clone(&figures)).map(Arc::new)).transpose()?;
        Ok(Self { shared, figures })
    }

    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Whether entries are shared with other processes.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// What is in Redis, of entries that this process keeps elsewhere (files).
    pub async fn fetch(&self, key: &Key) -> Option<Bytes> {
        let content = self.shared.as_ref()?.get(key).await?;
        self.figures.answered(key.kind, Level::Redis);
        Some(content)
    }

    /// Puts an entry into Redis, if there is one, in the background. Must be called within a tokio runtime.
    pub fn share(&self, key: Key, content: Bytes) {
        if let Some(shared) = &self.shared {
            shared.put(key, content);
        }
    }

    /// When everything that was put so far has arrived or failed: before a process ends that wants others to have it.
    pub async fn settled(&self) {
        if let Some(shared) = &self.shared {
            shared.settled().await;
        }
    }
}
