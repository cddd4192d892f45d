//! The edge: store, files and clock around the decision.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use fulltime_common::store::{Put, Store};
use serde::Serialize;

use crate::{
    EngineError, EngineKey,
    bundle::{pack, unpack},
    claim::{Claim, Seen, Step, Watch, decide},
};

/// Builds an engine into a folder. Blocking; minutes.
pub type Builder<'a> = &'a (dyn Fn(&Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + Sync);

/// How an attempt has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obtained {
    /// It was in the store.
    Fetched,
    /// Built here, and put into the store.
    Built,
    /// Built here, but another was there first: theirs is what lies in the folder.
    BuiltTwice,
    /// Another builds it.
    Elsewhere,
}

/// Engines in a store, for one worker.
#[derive(Debug)]
pub struct Engines {
    store: Store,
    worker: String,
    /// Between two beats; a claim without one for four of them is over.
    beat: Duration,
    /// Claims that this worker has put and the newest that it has seen, of the engine it waits for.
    watch: Watch,
    ours: Option<u64>,
    started: Instant,
}

/// What a claim says, for people.
#[derive(Debug, Serialize)]
struct ClaimBody<'a> {
    worker: &'a str,
    key: &'a EngineKey,
}

impl Engines {
    #[must_use]
    pub fn new(store: Store, worker: &str, beat: Duration) -> Self {
        let (watch, started) = (Watch::default(), Instant::now());
        Self { store, worker: worker.to_owned(), beat, watch, ours: None, started }
    }

    /// One attempt to get an engine into `folder`. Where another builds it, the answer is [`Obtained::Elsewhere`]: ask again
    /// after a beat or two, with the same `Engines`, and run something else meanwhile. A build holds the task up that asks.
    ///
    /// # Errors
    /// Whatever store, files or builder fail with. A builder that fails leaves its claim behind, which the next takes for
    /// dead.
    pub async fn obtain(
        &mut self,
        key: &EngineKey,
        folder: &Path,
        build: Builder<'_>,
    ) -> Result<Obtained, EngineError> {
        loop {
            let seen = self.look(key).await?;
            match decide(&seen, self.beat * 4) {
                Step::Fetch => return self.fetch(key, folder).await.map(|()| Obtained::Fetched),
                Step::Wait => return Ok(Obtained::Elsewhere),
                Step::Claim(number) => {
                    let body = ClaimBody { worker: &self.worker, key };
                    let put = self.store.put_json_once(&format!("{}/{number}/claim.json", key.claims()), &body).await?;
                    if put == Put::Created {
                        self.ours = Some(number);
                    }
                }
                Step::Build => return self.build(key, seen.newest, folder, build).await,
            }
        }
    }

    async fn look(&mut self, key: &EngineKey) -> Result<Seen, EngineError> {
        let engine = self.store.exists(&key.engine()).await?;
        let newest = if engine { None } else { newest(&self.store, &key.claims()).await? };
        let quiet = self.watch.quiet(newest, self.started.elapsed());
        Ok(Seen { engine, newest, ours: self.ours, quiet })
    }

    async fn fetch(&self, key: &EngineKey, folder: &Path) -> Result<(), EngineError> {
        let at = key.engine();
        let missing = || EngineError::Damaged { key: at.clone(), at: 0, what: "it is not there any more" };
        let packed = self.store.get(&at).await?.ok_or_else(missing)?;
        unpack(&at, &packed, folder)
    }

    async fn build(
        &self,
        key: &EngineKey,
        newest: Option<Claim>,
        folder: &Path,
        build: Builder<'_>,
    ) -> Result<Obtained, EngineError> {
        let claim = newest.unwrap_or(Claim { number: self.ours.unwrap_or(0), beats: 0 });
        // Into a folder of its own: what is half built must never lie where sessions look.
        let scratch = Scratch::new(folder)?;
        let beats =
            Beats::start(self.store.clone(), format!("{}/{}", key.claims(), claim.number), claim.beats, self.beat);
        let built = tokio::task::block_in_place(|| build(&scratch.0));
        beats.end().await;
        built.map_err(|source| EngineError::Build { key: key.engine(), source })?;
        let packed = pack(&scratch.0)?;
        let put = self.store.put_once(&key.engine(), packed).await?;
        // Whatever is in the store is what everybody runs: two builds are not equal to the bit.
        self.fetch(key, folder).await?;
        Ok(if put == Put::Created { Obtained::Built } else { Obtained::BuiltTwice })
    }
}

/// The newest claim and its beats, from the names of objects alone.
async fn newest(store: &Store, claims: &str) -> Result<Option<Claim>, EngineError> {
    let mut newest: Option<Claim> = None;
    for object in store.list(Some(claims)).await? {
        let path = object.location.as_ref();
        let Some(rest) = path.strip_prefix(claims).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let Some((number, name)) = rest.split_once('/') else { continue };
        let Ok(number) = number.parse() else { continue };
        let beats = name.strip_prefix("beat-").and_then(|beat| beat.parse().ok()).unwrap_or(0);
        newest = newest.max(Some(Claim { number, beats }));
    }
    Ok(newest)
}

/// Puts a beat now and then while the build goes on.
struct Beats {
    over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Beats {
    fn start(store: Store, claim: String, from: u64, every: Duration) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let task = tokio::spawn(async move {
            for beat in from + 1.. {
                tokio::time::sleep(every).await;
                if ended.load(Relaxed) {
                    return;
                }
                // A beat that does not get through is one less; the next may.
                let _ = store.put_once(&format!("{claim}/beat-{beat}"), "").await;
            }
        });
        Self { over, task }
    }

    async fn end(self) {
        self.over.store(true, Relaxed);
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A folder beside the one that is wanted, removed when it is not needed any more.
struct Scratch(PathBuf);

impl Scratch {
    fn new(folder: &Path) -> Result<Self, EngineError> {
        let mut name = folder.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".building-{}", std::process::id()));
        let path = folder.with_file_name(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(|source| EngineError::File {
            action: "make the folder of",
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
