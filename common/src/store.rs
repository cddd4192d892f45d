//! Object storage: opening a URL, putting an object once, and errors that say what an operator can do.

use std::{
    fmt,
    path::Path as FsPath,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use object_store::{
    GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, local::LocalFileSystem,
    path::Path,
};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use crate::error::{Disposition, Exit, Explain};

mod local;
mod remote;

use remote::Role;

/// Told after every object or range that was read (its bytes) or written (0).
type Observer = Arc<dyn Fn(u64) + Send + Sync>;

/// One call of a store, when it is over.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub took: Duration,
    /// Bytes that were read or written.
    pub read: u64,
    pub written: u64,
    pub failed: bool,
}

/// Told after every call that reads or writes an object or looks for it.
type Timer = Arc<dyn Fn(Call) + Send + Sync>;

/// A place below a URL. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    url: Url,
    inner: Arc<dyn ObjectStore>,
    /// Where `inner` keeps its files, if it is a plain folder.
    files: Option<Arc<FsPath>>,
    observer: Option<Observer>,
    timer: Option<Timer>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.url)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

/// What went wrong with which object.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("`{text}` is not a URL or folder")]
    BadUrl { text: String, source: Option<url::ParseError> },
    #[error("open store `{url}`")]
    Open {
        url: String,
        #[source]
        source: object_store::Error,
    },
    #[error("create folder `{path}`")]
    Folder {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{action} `{url}/{key}`")]
    Object {
        action: &'static str,
        url: String,
        key: String,
        #[source]
        source: object_store::Error,
    },
    #[error("`{url}/{key}` is not valid JSON for what it should be")]
    Json {
        url: String,
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("`{url}` does not refuse a second conditional PUT: results could be overwritten")]
    NoConditionalPut { url: String },
    #[error("`{url}/{key}` exists with other bytes")]
    Conflict { url: String, key: String },
}

/// Bytes that must fit before a store counts as having room again.
const ROOM: usize = 8 << 20;

/// Result of [`Store::put_once`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Created,
    /// It was there already; what was there stays.
    Existed,
}

/// Makes a URL of a URL or a folder (`out`, `./out`, `/data/out`, `s3://bucket/prefix`), without a trailing slash.
///
/// # Errors
/// Neither, or a relative folder when there is no current one.
pub fn resolve_url(text: &str) -> Result<Url, StoreError> {
    let bad = |source| StoreError::BadUrl { text: text.to_owned(), source };
    let url = if text.contains("://") {
        Url::parse(text).map_err(|e| bad(Some(e)))?
    } else {
        let path = std::path::absolute(text.strip_prefix("file:").unwrap_or(text)).map_err(|_| bad(None))?;
        // `absolute` keeps `..`; a folder that exists is better named by its real path.
        let path = path.canonicalize().unwrap_or(path);
        Url::from_file_path(path).map_err(|()| bad(None))?
    };
    Url::parse(url.as_str().trim_end_matches('/')).map_err(|e| bad(Some(e)))
}

impl Store {
    /// Opens an existing place for reading. A folder must exist.
    ///
    /// # Errors
    /// A bad URL, a missing folder, credentials that cannot be read.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        Self::build(url, false, Role::Results)
    }

    /// As [`Store::open`], with the archive's own credentials where it has some (`FULLTIME_ARCHIVE_AWS_…`).
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn archive(url: &str) -> Result<Self, StoreError> {
        Self::build(url, false, Role::Archive)
    }

    /// As [`Store::open`], with settings of the scheme's store (such as `aws_endpoint`) instead of the environment's.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(
        url: &str,
        options: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Result<Self, StoreError> {
        let url = resolve_url(url)?;
        let settings = options.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let inner = remote::open(&url, settings).map_err(|source| StoreError::Open { url: url.to_string(), source })?;
        Ok(Self { url, inner, files: None, observer: None, timer: None })
    }

    /// Opens a place for writing. A folder is created.
    ///
    /// # Errors
    /// As [`Store::open`], and when the folder cannot be created.
    pub fn create(url: &str) -> Result<Self, StoreError> {
        Self::build(url, true, Role::Results)
    }

    fn build(text: &str, create: bool, role: Role) -> Result<Self, StoreError> {
        let url = resolve_url(text)?;
        let open = |source| StoreError::Open { url: url.to_string(), source };
        let folder = (url.scheme() == "file").then(|| url.to_file_path().ok()).flatten();
        let inner: Arc<dyn ObjectStore> = match &folder {
            Some(path) => {
                if create {
                    std::fs::create_dir_all(path)
                        .map_err(|source| StoreError::Folder { path: path.display().to_string(), source })?;
                }
                Arc::new(LocalFileSystem::new_with_prefix(path).map_err(open)?.with_automatic_cleanup(false))
            }
            None => remote::open(&url, remote::environment(role)).map_err(open)?,
        };
        Ok(Self { url, inner, files: folder.map(Into::into), observer: None, timer: None })
    }

    /// A store over any implementation: counting, failing or in-memory ones in tests.
    #[must_use]
    pub fn over(url: Url, inner: Arc<dyn ObjectStore>) -> Self {
        Self { url, inner, files: None, observer: None, timer: None }
    }

    /// The same place, telling `observer` after every object or range that was read (its bytes) or written (0): leases
    /// follow it, and figures of bytes read come from it.
    #[must_use]
    pub fn observed(&self, observer: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self { observer: Some(Arc::new(observer)), ..self.clone() }
    }

    /// The same place, telling `timer` of every call: for metrics.
    #[must_use]
    pub fn timed(&self, timer: impl Fn(Call) + Send + Sync + 'static) -> Self {
        Self { timer: Some(Arc::new(timer)), ..self.clone() }
    }

    /// Tells how a call went: bytes read and written, `None` of a call that failed.
    fn time(&self, since: Instant, moved: Option<(usize, usize)>) {
        if let Some(timer) = &self.timer {
            let (read, written) = moved.unwrap_or_default();
            let (read, written) = (read as u64, written as u64);
            timer(Call { took: since.elapsed(), read, written, failed: moved.is_none() });
        }
    }

    fn observe(&self, bytes: usize) {
        if let Some(observer) = &self.observer {
            observer(bytes as u64);
        }
    }

    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The URL of an object, for people.
    #[must_use]
    pub fn url_of(&self, key: &str) -> String {
        format!("{}/{key}", self.url)
    }

    /// The folder, if this is a local one.
    #[must_use]
    pub fn folder(&self) -> Option<std::path::PathBuf> {
        (self.url.scheme() == "file").then(|| self.url.to_file_path().ok()).flatten()
    }

    #[must_use]
    pub fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.inner
    }

    /// Keys are taken as they are: `Path::from` would percent-encode what names of recordings may hold (`é`, `#`, `~`).
    fn path(&self, action: &'static str, key: &str) -> Result<Path, StoreError> {
        Path::parse(key).map_err(|source| self.object(action, key, source.into()))
    }

    fn object(&self, action: &'static str, key: &str, source: object_store::Error) -> StoreError {
        StoreError::Object { action, url: self.url.to_string(), key: key.to_owned(), source }
    }

    fn file(&self, action: &'static str, key: &str, source: std::io::Error) -> StoreError {
        self.object(action, key, object_store::Error::Generic { store: "LocalFileSystem", source: source.into() })
    }

    /// Creates an object, if it is not there.
    ///
    /// # Errors
    /// Anything but "exists already".
    pub async fn put_once(&self, key: &str, bytes: impl Into<Bytes>) -> Result<Put, StoreError> {
        let (path, bytes, since) = (self.path("create", key)?, bytes.into(), Instant::now());
        let size = bytes.len();
        if let Some(folder) = self.files.as_ref().filter(|_| bytes.len() <= local::SMALL) {
            let put = local::create(&folder.join(key), &bytes);
            self.observe(0);
            self.time(since, put.as_ref().ok().map(|put| if *put == Put::Created { (0, size) } else { (0, 0) }));
            return put.map_err(|source| self.file("create", key, source));
        }
        let options = PutOptions { mode: PutMode::Create, ..Default::default() };
        let result = self.inner.put_opts(&path, PutPayload::from_bytes(bytes), options).await;
        self.observe(0);
        let put = match result {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Put::Existed),
            Err(source) => Err(self.object("create", key, source)),
        };
        self.time(since, put.as_ref().ok().map(|put| if *put == Put::Created { (0, size) } else { (0, 0) }));
        put
    }

    /// Creates an object; if it is there, its bytes must be the same.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when other bytes are there: a non-deterministic engine, never to be hidden.
    pub async fn put_same(&self, key: &str, bytes: impl Into<Bytes>) -> Result<Put, StoreError> {
        let bytes = bytes.into();
        let put = self.put_once(key, bytes.clone()).await?;
        if put == Put::Existed && self.get(key).await?.is_none_or(|there| there != bytes) {
            return Err(StoreError::Conflict { url: self.url.to_string(), key: key.to_owned() });
        }
        Ok(put)
    }

    /// # Errors
    /// As [`Store::put_once`].
    pub async fn put_json_once<T: Serialize>(&self, key: &str, value: &T) -> Result<Put, StoreError> {
        self.put_once(key, to_json(value)).await
    }

    /// The whole object, or `None` where there is none.
    ///
    /// # Errors
    /// Anything but "not found".
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let (path, since) = (self.path("read", key)?, Instant::now());
        let result = match self.inner.get_opts(&path, GetOptions::default()).await {
            Ok(result) => result.bytes().await,
            Err(error) => Err(error),
        };
        match result {
            Ok(bytes) => {
                self.observe(bytes.len());
                self.time(since, Some((bytes.len(), 0)));
                Ok(Some(bytes))
            }
            Err(object_store::Error::NotFound { .. }) => {
                self.time(since, Some((0, 0)));
                Ok(None)
            }
            Err(source) => {
                self.time(since, None);
                Err(self.object("read", key, source))
            }
        }
    }

    /// # Errors
    /// As [`Store::get`], and when the object is not such JSON.
    pub async fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.get(key).await? else { return Ok(None) };
        let json = |source| StoreError::Json { url: self.url.to_string(), key: key.to_owned(), source };
        serde_json::from_slice(&bytes).map(Some).map_err(json)
    }

    /// Size and `ETag`, or `None`.
    ///
    /// # Errors
    /// Anything but "not found".
    pub async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, StoreError> {
        match self.inner.head(&self.path("look for", key)?).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.object("look for", key, source)),
        }
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// Anything but "not found".
    pub async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        if let Some(folder) = &self.files {
            return local::exists(&folder.join(key)).map_err(|source| self.file("look for", key, source));
        }
        Ok(self.head(key).await?.is_some())
    }

    /// A byte range of a recording that must still have this `ETag`.
    ///
    /// # Errors
    /// [`StoreError::Object`] with `Precondition` inside when it changed; see [`StoreError::disposition`].
    pub async fn get_range_if_match(
        &self,
        key: &str,
        range: std::ops::Range<u64>,
        etag: &str,
    ) -> Result<Bytes, StoreError> {
        let since = Instant::now();
        let options = GetOptions { range: Some(range.into()), if_match: Some(etag.to_owned()), ..Default::default() };
        let result = match self.inner.get_opts(&self.path("read", key)?, options).await {
            Ok(result) => result.bytes().await,
            Err(error) => Err(error),
        };
        self.time(since, result.as_ref().ok().map(|bytes| (bytes.len(), 0)));
        let bytes = result.map_err(|source| self.object("read", key, source))?;
        self.observe(bytes.len());
        Ok(bytes)
    }

    /// Copies within the store, overwriting: for views of results, which are equal whoever copies them.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        let payload = PutPayload::from_bytes(bytes.into());
        let path = self.path("write", key)?;
        self.inner.put(&path, payload).await.map(|_| ()).map_err(|source| self.object("write", key, source))
    }

    /// Every object below a prefix, in no particular order.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn list(&self, prefix: Option<&str>) -> Result<Vec<ObjectMeta>, StoreError> {
        use futures::TryStreamExt as _;
        let path = prefix.map(|prefix| self.path("list", prefix)).transpose()?;
        let list = self.inner.list(path.as_ref()).try_collect();
        list.await.map_err(|source| self.object("list", prefix.unwrap_or_default(), source))
    }

    /// Names of the folders directly below a prefix, sorted.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let path = self.path("list", prefix)?;
        let list = self.inner.list_with_delimiter(Some(&path)).await;
        let list = list.map_err(|source| self.object("list", prefix, source))?;
        let mut names: Vec<_> =
            list.common_prefixes.iter().filter_map(|folder| Some(folder.filename()?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// Removes objects, many at once where the store can. One that is not there is no error.
    ///
    /// # Errors
    /// Whatever the store says; what was removed before stays so.
    pub async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        use futures::StreamExt as _;
        let paths: Result<Vec<_>, _> = keys.iter().map(|key| self.path("delete", key)).collect();
        let mut deleted = self.inner.delete_stream(futures::stream::iter(paths?).map(Ok).boxed());
        while let Some(result) = deleted.next().await {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(source) => return Err(self.object("delete", keys.first().map_or("", String::as_str), source)),
            }
        }
        Ok(())
    }

    /// Removes a folder from which the last object has gone, where there are folders. One that is not empty stays.
    pub fn remove_empty_folder(&self, key: &str) {
        if let Some(folder) = self.folder() {
            let _ = std::fs::remove_dir(folder.join(key));
        }
    }

    /// Shows that there is room for results: writes a few megabytes and removes them.
    ///
    /// # Errors
    /// Why that much cannot be written.
    pub async fn probe_room(&self) -> Result<(), StoreError> {
        let nonce = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let key = format!(".fulltime-probe-{}-{nonce}", std::process::id());
        let put = self.put_once(&key, vec![0; ROOM]).await;
        let deleted = self.delete(std::slice::from_ref(&key)).await;
        put?;
        deleted
    }

    /// Shows that this place can be written and that a second create is refused. Leaves nothing behind.
    ///
    /// # Errors
    /// [`StoreError::NoConditionalPut`], or why the place cannot be written.
    pub async fn probe_writable(&self) -> Result<(), StoreError> {
        let nonce = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let key = format!(".fulltime-probe-{}-{nonce}", std::process::id());
        self.put_once(&key, Bytes::from_static(b"probe")).await?;
        let second = self.put_once(&key, Bytes::from_static(b"other")).await;
        let deleted = self.inner.delete(&self.path("delete", &key)?).await;
        match second? {
            Put::Existed => deleted.map_err(|source| self.object("delete", &key, source)),
            Put::Created => Err(StoreError::NoConditionalPut { url: self.url.to_string() }),
        }
    }
}

/// Bytes of a JSON object: pretty, since operators read them, with a final newline.
#[must_use]
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

impl StoreError {
    /// What it means for a task that reads or writes through this store.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Object { source: object_store::Error::Precondition { .. }, .. } => Disposition::InputChanged,
            Self::Object { source: object_store::Error::NotModified { .. }, .. } => Disposition::InputChanged,
            Self::Conflict { .. } => Disposition::WorkerUnfit,
            Self::Json { .. } | Self::BadUrl { .. } | Self::NoConditionalPut { .. } => Disposition::PoisonInput,
            // Nothing that is written there works anywhere, and waiting frees no space.
            Self::Object { action: "create" | "write", .. } | Self::Folder { .. } if self.is_unwritable() => {
                Disposition::JobUnfit
            }
            Self::Open { .. } | Self::Folder { .. } | Self::Object { .. } => Disposition::Transient,
        }
    }

    /// A full or read-only disk.
    fn is_unwritable(&self) -> bool {
        use std::io::ErrorKind as K;
        let lasting = [K::StorageFull, K::QuotaExceeded, K::PermissionDenied, K::ReadOnlyFilesystem];
        self.io_kind().is_some_and(|kind| lasting.contains(&kind))
    }

    /// The operating system's error below, if there is one.
    #[must_use]
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        let mut next: Option<&dyn std::error::Error> = Some(self);
        while let Some(error) = next {
            if let Some(io) = error.downcast_ref::<std::io::Error>() {
                return Some(io.kind());
            }
            next = error.source();
        }
        None
    }
}

impl Explain for StoreError {
    fn exit(&self) -> Exit {
        match self {
            Self::BadUrl { .. } => Exit::Usage,
            _ => Exit::Store,
        }
    }

    fn hint(&self) -> Option<String> {
        use std::io::ErrorKind as K;
        let hint = match (self, self.io_kind()) {
            (Self::BadUrl { .. }, _) => "give a folder or a URL such as s3://bucket/prefix",
            (Self::NoConditionalPut { .. }, _) => "use a store that supports If-None-Match on PUT",
            (Self::Conflict { .. }, _) => {
                "an engine gave two answers for the same work; keep both objects and report it"
            }
            (Self::Json { .. }, _) => "the object was damaged or written by another version; remove it",
            (_, Some(K::StorageFull | K::QuotaExceeded)) => {
                "free some space, then run the same command again; finished shards are kept"
            }
            (_, Some(K::PermissionDenied | K::ReadOnlyFilesystem)) => {
                "make it writable for this user, or choose another place"
            }
            (_, Some(K::NotFound)) => "check the path",
            _ => "check the address, the network, the credentials in the environment and this machine's clock",
        };
        Some(hint.to_owned())
    }
}

/// The last part of a path, without its extension: a match's name when nothing else names it.
#[must_use]
pub fn stem(key: &str) -> &str {
    FsPath::new(key).file_stem().and_then(|s| s.to_str()).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_is_put_once_and_other_bytes_are_a_conflict() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path().join("new").to_str().unwrap()).unwrap();
        store.probe_writable().await.unwrap();
        assert_eq!(store.put_same("a/b", "one").await.unwrap(), Put::Created);
        assert_eq!(store.put_same("a/b", "one").await.unwrap(), Put::Existed);
        assert!(matches!(store.put_same("a/b", "two").await, Err(StoreError::Conflict { .. })));
        assert_eq!(store.get("a/b").await.unwrap().unwrap(), "one");
        assert_eq!(store.get("a/c").await.unwrap(), None);
        let keys: Vec<_> = store.list(None).await.unwrap().into_iter().map(|meta| meta.location.to_string()).collect();
        assert_eq!(keys, ["a/b"], "the probe leaves nothing behind");
    }

    #[tokio::test]
    async fn names_of_recordings_are_taken_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path().to_str().unwrap()).unwrap();
        let key = "Saison 23~24/Köln – Mainz #1 [50%].mp4";
        std::fs::create_dir(dir.path().join("Saison 23~24")).unwrap();
        std::fs::write(dir.path().join(key), "video").unwrap();
        let listed = store.list(None).await.unwrap();
        assert_eq!(listed[0].location.as_ref(), key);
        assert_eq!(store.get(key).await.unwrap().unwrap(), "video");
        store.put_once("match=a%2Fb/x", "table").await.unwrap();
        assert!(dir.path().join("match=a%2Fb/x").is_file());
        assert!(store.get("../secret").await.is_err());
    }

    #[tokio::test]
    async fn a_recording_that_changed_is_told_from_one_that_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path().to_str().unwrap()).unwrap();
        store.put("v.mp4", "0123456789").await.unwrap();
        let etag = store.head("v.mp4").await.unwrap().unwrap().e_tag.unwrap();
        assert_eq!(store.get_range_if_match("v.mp4", 2..5, &etag).await.unwrap(), "234");
        store.put("v.mp4", "0123456789abc").await.unwrap();
        let changed = store.get_range_if_match("v.mp4", 2..5, &etag).await.unwrap_err();
        assert_eq!(changed.disposition(), Disposition::InputChanged);
        let missing = store.get_range_if_match("w.mp4", 2..5, &etag).await.unwrap_err();
        assert_eq!(missing.disposition(), Disposition::Transient);
    }

    #[test]
    fn a_full_disk_pauses_the_job_at_once_and_an_unreadable_recording_does_not() {
        let error = |action, kind: std::io::ErrorKind| {
            let source =
                object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(std::io::Error::from(kind)) };
            StoreError::Object { action, url: "file:///out".into(), key: "k".into(), source }.disposition()
        };
        use std::io::ErrorKind as K;
        assert_eq!(error("create", K::StorageFull), Disposition::JobUnfit);
        assert_eq!(error("write", K::ReadOnlyFilesystem), Disposition::JobUnfit);
        assert_eq!(error("create", K::TimedOut), Disposition::Transient);
        assert_eq!(error("read", K::PermissionDenied), Disposition::Transient);
    }

    #[test]
    fn folders_and_urls_are_both_places() {
        assert_eq!(resolve_url("s3://bucket/a/").unwrap().as_str(), "s3://bucket/a");
        assert_eq!(resolve_url("/tmp").unwrap().as_str(), "file:///tmp");
        assert_eq!(resolve_url("file:///tmp").unwrap().as_str(), "file:///tmp");
        assert!(resolve_url("not here").unwrap().as_str().ends_with("/not%20here"));
    }
}
