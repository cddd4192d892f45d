//! What lanes share so that a shard does not fetch it again: opened stores, pipelines and container indexes in memory,
//! models on disk.

use std::{
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use fulltime_common::{Digest, index::RecordingIndex, keys, pipeline::Pipeline, store::Store, wire::Task};
use fulltime_observe::{Counts, Meter};
use tracing::{info, warn};

use crate::error::TaskError;

/// Stores, pipelines and indexes kept. An index of a 90-minute recording takes about 3 MB.
const KEPT: usize = 16;

/// Shared by all lanes of a worker; the folder by all workers of a machine.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    stores: Recent<String, Store>,
    pipelines: Recent<Digest, Arc<Pipeline>>,
    indexes: Recent<Digest, Arc<RecordingIndex>>,
    /// Models whose files were checked by this process. Locked over a download, so that lanes wait for one.
    models: tokio::sync::Mutex<BTreeSet<Digest>>,
    /// Told of every call of a store, and of what was here already.
    meter: Arc<Meter>,
}

impl Cache {
    pub fn new(folder: PathBuf, meter: Arc<Meter>) -> Self {
        Self {
            folder,
            stores: Recent::default(),
            pipelines: Recent::default(),
            indexes: Recent::default(),
            models: tokio::sync::Mutex::default(),
            meter,
        }
    }

    /// Notes whether something was here; passes it on.
    fn noted<T>(&self, found: Option<T>) -> Option<T> {
        let (hit, miss) = (u64::from(found.is_some()), u64::from(found.is_none()));
        self.meter.count(Counts { cache_hits: hit, cache_misses: miss, ..Counts::default() });
        found
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
        if let Some(pipeline) = self.noted(self.pipelines.get(&digest)) {
            return Ok(pipeline);
        }
        let key = keys::store::pipeline(&digest);
        let pipeline: Pipeline = store.get_json(&key).await?.ok_or_else(|| missing("pipeline", store, &key))?;
        if pipeline.digest() != digest {
            return Err(TaskError::OtherContent { what: "pipeline", url: store.url_of(&key) });
        }
        let pipeline = Arc::new(pipeline);
        self.pipelines.insert(digest, Arc::clone(&pipeline));
        Ok(pipeline)
    }

    /// A container index.
    pub async fn index(&self, store: &Store, digest: Digest) -> Result<Arc<RecordingIndex>, TaskError> {
        if let Some(index) = self.noted(self.indexes.get(&digest)) {
            return Ok(index);
        }
        let key = keys::store::index(&digest);
        let bytes = store.get(&key).await?.ok_or_else(|| missing("container index", store, &key))?;
        let decoded = RecordingIndex::from_bytes(&bytes);
        let index = Arc::new(decoded.map_err(|source| TaskError::Index { url: store.url_of(&key), source })?);
        self.indexes.insert(digest, Arc::clone(&index));
        Ok(index)
    }

    /// A model's file on this machine, its content checked once by this process.
    pub async fn model(&self, store: &Store, sha256: Digest) -> Result<PathBuf, TaskError> {
        let mut checked = self.models.lock().await;
        let folder = self.folder.join("models");
        let path = folder.join(sha256.to_string());
        if checked.contains(&sha256) {
            self.noted(Some(()));
            return Ok(path);
        }
        let cache = |source| TaskError::Cache { path: path.clone(), source };
        match std::fs::File::open(&path) {
            Ok(file) => {
                let (found, _) = blocking(move || Digest::of_reader(file)).await?.map_err(cache)?;
                if found == sha256 {
                    self.noted(Some(()));
                    checked.insert(sha256);
                    return Ok(path);
                }
                warn!(path = %path.display(), "a cached model is damaged: fetching it again");
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(cache(error)),
        }
        self.noted(None::<()>);
        let key = keys::store::model(&sha256);
        let bytes = store.get(&key).await?.ok_or_else(|| missing("model", store, &key))?;
        let (found, size) = (Digest::of_bytes(&bytes), bytes.len());
        if found != sha256 {
            return Err(TaskError::ModelDigest { url: store.url_of(&key), found });
        }
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
        let path = Cache::new(dir.path().join("cache"), Arc::default()).model(&store, sha256).await.unwrap();
        std::fs::remove_file(store.folder().unwrap().join(&key)).unwrap();
        let next = Cache::new(dir.path().join("cache"), Arc::default());
        assert_eq!(next.model(&store, sha256).await.unwrap(), path);
        assert_eq!(std::fs::read(path).unwrap(), b"weights");
    }

    #[tokio::test]
    async fn a_model_of_another_sha256_is_refused_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (store, sha256) = (store(dir.path()), Digest::of_bytes(b"weights"));
        store.put(&keys::store::model(&sha256), "tampered").await.unwrap();
        let error = Cache::new(dir.path().join("cache"), Arc::default()).model(&store, sha256).await.unwrap_err();
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
        let path = Cache::new(dir.path().join("cache"), Arc::default()).model(&store, sha256).await.unwrap();
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
