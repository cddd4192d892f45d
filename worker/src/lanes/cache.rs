//! What lanes share so that a shard does not fetch it again: opened stores, pipelines and container indexes in memory,
//! models on disk, and the last three in a Redis, too, if there is one.

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use fulltime_cache::{CacheError, Key, Kind, Level, RedisOptions, Shelf};
use fulltime_common::{Digest, index::RecordingIndex, keys, pipeline::Pipeline, store::Store, wire::Task};
use fulltime_observe::{CacheTally, Counts, Meter};
use tracing::{info, warn};

use super::seen::Seen;
use crate::error::TaskError;

/// Opened stores kept.
const KEPT: usize = 16;
/// Bytes of pipelines and of indexes kept, as they lie in the store. An index of a 90-minute recording takes about 3 MB.
const PIPELINES: u64 = 4 << 20;
const INDEXES: u64 = 64 << 20;
/// Of what is kept in Redis: the store's own objects.
const VERSION: u32 = 1;

/// Shared by all lanes of a worker; the folder by all workers of a machine.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    stores: Recent<String, Store>,
    shared: fulltime_cache::Cache,
    pipelines: Shelf<Weighed<Pipeline>>,
    indexes: Shelf<Weighed<RecordingIndex>>,
    /// Models whose files were checked by this process. Locked over a download, so that lanes wait for one.
    models: tokio::sync::Mutex<BTreeSet<Digest>>,
    /// Told of every call of a store, and of what was here already.
    meter: Arc<Meter>,
}

impl Cache {
    /// # Errors
    /// A URL of Redis that does not read.
    pub fn new(folder: PathBuf, redis: Option<&RedisOptions>, meter: Arc<Meter>) -> Result<Self, CacheError> {
        let shared = fulltime_cache::Cache::new(redis)?;
        Ok(Self {
            folder,
            stores: Recent::default(),
            pipelines: Shelf::new(&shared, Kind::Pipeline, VERSION, PIPELINES, |kept| kept.bytes),
            indexes: Shelf::new(&shared, Kind::Index, VERSION, INDEXES, |kept| kept.bytes),
            shared,
            models: tokio::sync::Mutex::default(),
            meter,
        })
    }

    /// Lookups since the last time. Their sums go to the meter: pictures left out, which are many and no objects.
    pub fn lookups(&self) -> Vec<CacheTally> {
        let lookups = self.shared.figures().take();
        for CacheTally { what, count, .. } in lookups.iter().filter(|t| !t.fault && t.kind != Kind::Detections.name()) {
            let missed = what == Level::Source.name();
            let (cache_hits, cache_misses) = if missed { (0, *count) } else { (*count, 0) };
            self.meter.count(Counts { cache_hits, cache_misses, ..Counts::default() });
        }
        lookups
    }

    /// What is known of pictures, where others profit from it. Must be called within a tokio runtime.
    pub fn seen(&self) -> Option<Seen> {
        self.shared.is_shared().then(|| Seen::new(&self.shared))
    }

    fn model_from(&self, level: Level) {
        self.shared.figures().answered(Kind::Model, level);
    }

    /// The archive of a task, for reading.
    pub fn archive(&self, task: &Task) -> Result<Store, TaskError> {
        self.opened(&task.archive, Store::archive)
    }

    /// The results shared by jobs.
    pub fn store(&self, task: &Task) -> Result<Store, TaskError> {
        self.opened(&task.store, Store::create)
    }

    /// The job's own place.
    pub fn out(&self, task: &Task) -> Result<Store, TaskError> {
        self.opened(&task.out, Store::create)
    }

    fn opened(
        &self,
        url: &str,
        open: fn(&str) -> Result<Store, fulltime_common::store::StoreError>,
    ) -> Result<Store, TaskError> {
        if let Some(store) = self.stores.get(url) {
            return Ok(store);
        }
        let meter = Arc::clone(&self.meter);
        let store = open(url)?.timed(move |call| {
            meter.called(call.took, call.failed);
            meter.count(Counts { bytes_read: call.read, bytes_written: call.written, ..Counts::default() });
        });
        self.stores.insert(url.to_owned(), store.clone());
        Ok(store)
    }

    /// A pipeline object, checked against its name.
    pub async fn pipeline(&self, store: &Store, digest: Digest) -> Result<Arc<Pipeline>, TaskError> {
        let key = keys::store::pipeline(&digest);
        let decode = |content: &Bytes| {
            let pipeline = serde_json::from_slice::<Pipeline>(content).ok();
            let pipeline = pipeline.filter(|pipeline| pipeline.digest() == digest);
            let other = || TaskError::OtherContent { what: "pipeline", url: store.url_of(&key) };
            Ok(Weighed { value: Arc::new(pipeline.ok_or_else(other)?), bytes: content.len() })
        };
        let kept = self.pipelines.get(digest, decode, self.load("pipeline", store, &key)).await?;
        Ok(Arc::clone(&kept.value))
    }

    /// A container index.
    pub async fn index(&self, store: &Store, digest: Digest) -> Result<Arc<RecordingIndex>, TaskError> {
        let key = keys::store::index(&digest);
        let decode = |content: &Bytes| {
            let index = RecordingIndex::from_bytes(content);
            let index = index.map_err(|source| TaskError::Index { url: store.url_of(&key), source })?;
            Ok(Weighed { value: Arc::new(index), bytes: content.len() })
        };
        let kept = self.indexes.get(digest, decode, self.load("container index", store, &key)).await?;
        Ok(Arc::clone(&kept.value))
    }

    async fn load(&self, what: &'static str, store: &Store, key: &str) -> Result<Bytes, TaskError> {
        store.get(key).await?.ok_or_else(|| missing(what, store, key))
    }

    /// A model's file on this machine, its content checked once by this process.
    pub async fn model(&self, store: &Store, sha256: Digest) -> Result<PathBuf, TaskError> {
        let mut checked = self.models.lock().await;
        let folder = self.folder.join("models");
        let path = folder.join(sha256.to_string());
        if checked.contains(&sha256) {
            self.model_from(Level::Memory);
            return Ok(path);
        }
        let cache = |source| TaskError::Cache { path: path.clone(), source };
        match std::fs::File::open(&path) {
            Ok(file) => {
                let (found, _) = blocking(move || Digest::of_reader(file)).await?.map_err(cache)?;
                if found == sha256 {
                    self.model_from(Level::Disk);
                    checked.insert(sha256);
                    return Ok(path);
                }
                warn!(path = %path.display(), "a cached model is damaged: fetching it again");
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(cache(error)),
        }
        let (key, entry) = (keys::store::model(&sha256), Key { kind: Kind::Model, version: VERSION, digest: sha256 });
        let shared = self.shared.fetch(&entry).await.filter(|bytes| Digest::of_bytes(bytes) == sha256);
        let bytes = match shared {
            Some(bytes) => bytes,
            None => {
                let bytes = self.load("model", store, &key).await?;
                let found = Digest::of_bytes(&bytes);
                if found != sha256 {
                    return Err(TaskError::ModelDigest { url: store.url_of(&key), found });
                }
                self.model_from(Level::Source);
                self.shared.share(entry, bytes.clone());
                bytes
            }
        };
        let size = bytes.len();
        // Other workers of this machine may do the same now: each renames a file of its own.
        let (partial, file) = (folder.join(format!("{sha256}.{}", std::process::id())), path.clone());
        let write = move || {
            std::fs::create_dir_all(&folder)?;
            let written = std::fs::write(&partial, &bytes).and_then(|()| std::fs::rename(&partial, &file));
            written.inspect_err(|_| drop(std::fs::remove_file(&partial)))
        };
        blocking(write).await?.map_err(cache)?;
        info!(model = %sha256.short(), bytes = size, "model fetched");
        checked.insert(sha256);
        Ok(path)
    }
}

/// With the bytes that it takes in the store.
#[derive(Debug)]
struct Weighed<T> {
    value: Arc<T>,
    bytes: usize,
}

fn missing(what: &'static str, store: &Store, key: &str) -> TaskError {
    TaskError::Missing { what, url: store.url_of(key) }
}

/// Runs something that blocks on a thread of its own; a panic in it is an error of the task.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TaskError> {
    tokio::task::spawn_blocking(work).await.map_err(TaskError::from_join)
}

/// The most recently used values, newest first.
#[derive(Debug)]
struct Recent<K, V>(Mutex<VecDeque<(K, V)>>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: PartialEq + ?Sized,
    {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(k, _)| k.borrow() == key)?;
        let found = kept.remove(at)?;
        let value = found.1.clone();
        kept.push_front(found);
        Some(value)
    }

    fn insert(&self, key: K, value: V) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(k, _)| *k != key);
        kept.push_front((key, value));
        kept.truncate(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use fulltime_common::{Disposition, Exit, error::Explain as _};

    use super::*;

    fn store(dir: &std::path::Path) -> Store {
        Store::create(dir.join("store").to_str().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_model_is_fetched_once_and_found_by_the_next_worker() {
        let dir = tempfile::tempdir().unwrap();
        let (store, sha256) = (store(dir.path()), Digest::of_bytes(b"weights"));
        let key = keys::store::model(&sha256);
        store.put(&key, "weights").await.unwrap();
        let path =
            Cache::new(dir.path().join("cache"), None, Arc::default()).unwrap().model(&store, sha256).await.unwrap();
        std::fs::remove_file(store.folder().unwrap().join(&key)).unwrap();
        let next = Cache::new(dir.path().join("cache"), None, Arc::default()).unwrap();
        assert_eq!(next.model(&store, sha256).await.unwrap(), path);
        assert_eq!(std::fs::read(path).unwrap(), b"weights");
    }

    #[tokio::test]
    async fn a_model_of_another_sha256_is_refused_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (store, sha256) = (store(dir.path()), Digest::of_bytes(b"weights"));
        store.put(&keys::store::model(&sha256), "tampered").await.unwrap();
        let error = Cache::new(dir.path().join("cache"), None, Arc::default())
            .unwrap()
            .model(&store, sha256)
            .await
            .unwrap_err();
        assert!(matches!(error, TaskError::ModelDigest { .. }));
        assert_eq!((error.exit(), error.disposition()), (Exit::Model, Disposition::JobUnfit));
        assert!(!dir.path().join("cache/models").exists());
    }

    #[tokio::test]
    async fn a_damaged_cached_model_is_fetched_again() {
        let dir = tempfile::tempdir().unwrap();
        let (store, sha256) = (store(dir.path()), Digest::of_bytes(b"weights"));
        store.put(&keys::store::model(&sha256), "weights").await.unwrap();
        let file = dir.path().join("cache/models").join(sha256.to_string());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "weig").unwrap();
        let path =
            Cache::new(dir.path().join("cache"), None, Arc::default()).unwrap().model(&store, sha256).await.unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"weights");
    }

    #[test]
    fn the_least_recently_used_value_goes_first() {
        let recent = Recent::default();
        (0..KEPT).for_each(|i| recent.insert(i, i));
        assert_eq!(recent.get(&0), Some(0));
        recent.insert(KEPT, KEPT);
        assert_eq!((recent.get(&0), recent.get(&1)), (Some(0), None));
    }
}
