//! Removes from a shared store what no job refers to. `fulltime gc` runs it beside running coordinators, so a job may be
//! planned at any moment and find a result there that is about to go. Hence the order: the commit objects of a batch go
//! first, their bytes at hand; then the jobs are looked at once more. Whoever found a result had fixed the plan that names
//! it before it looked, so the plan is seen now and the commit is put back. Whoever looks later finds nothing and makes
//! the result anew. Only then the rest goes.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use fulltime_common::{
    Digest,
    error::{Exit, Explain},
    keys::store::Kind,
    store::{Store, StoreError},
};
use serde::Serialize;

use crate::{holdings::Holdings, planning::PlanError};

/// Results removed between two looks at the jobs, and bytes of their commit objects at hand meanwhile (one may be larger).
const BATCH: usize = 1000;
const AT_HAND: u64 = 64 << 20;

/// Why nothing more was removed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    #[error("read what the jobs refer to")]
    Holdings(#[source] Box<PlanError>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PlanError> for SweepError {
    fn from(error: PlanError) -> Self {
        Self::Holdings(Box::new(error))
    }
}

impl Explain for SweepError {
    fn exit(&self) -> Exit {
        match self {
            Self::Holdings(_) => Exit::Store,
            Self::Store(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Holdings(_) => Some(
                "make every place readable whose jobs use this store, or name those that are gone for good with --gone; \
                 what nobody can read may still be needed"
                    .to_owned(),
            ),
            Self::Store(error) => error.hint(),
        }
    }
}

/// How much there is of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub results: u64,
    pub objects: u64,
    pub bytes: u64,
}

/// What a sweep found, kind by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    pub removed: BTreeMap<&'static str, Tally>,
    /// Referred to by some job.
    pub kept: BTreeMap<&'static str, Tally>,
    /// Referred to by nobody, but too young to go.
    pub young: BTreeMap<&'static str, Tally>,
}

/// All objects of one result.
#[derive(Debug, Clone)]
struct Lot {
    kind: Kind,
    digest: Digest,
    objects: Vec<(String, u64)>,
    /// Of the object that changed last.
    changed: SystemTime,
}

impl Lot {
    fn bytes(&self) -> u64 {
        self.objects.iter().map(|(_, size)| size).sum()
    }

    fn count(&self, tallies: &mut BTreeMap<&'static str, Tally>) {
        let tally = tallies.entry(self.kind.folder()).or_default();
        tally.results += 1;
        tally.objects += self.objects.len() as u64;
        tally.bytes += self.bytes();
    }
}

/// A result whose commit object has been taken away, its bytes at hand.
#[derive(Debug)]
struct Taken {
    lot: Lot,
    commit: String,
    bytes: Option<Bytes>,
}

/// See the module.
#[derive(Debug)]
pub struct Sweep {
    store: Store,
    holdings: Holdings,
    /// What has changed since stays: its job may be on its way.
    before: SystemTime,
    dry_run: bool,
    swept: Swept,
}

impl Sweep {
    #[must_use]
    pub fn new(store: Store, holdings: Holdings, older_than: Duration, dry_run: bool) -> Self {
        let before = SystemTime::now().checked_sub(older_than).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { store, holdings, before, dry_run, swept: Swept::default() }
    }

    /// Goes through the whole store, folder by folder.
    ///
    /// # Errors
    /// A job that cannot be read, a store that cannot be used. What was removed by then was needed by nobody.
    pub async fn run(mut self) -> Result<(Swept, Holdings), SweepError> {
        self.holdings.refresh().await?;
        let (mut batch, mut at_hand) = (Vec::new(), 0);
        for folder in self.places().await? {
            for lot in self.lots(&folder).await? {
                if self.holdings.holds(lot.kind, &lot.digest) {
                    lot.count(&mut self.swept.kept);
                } else if lot.changed >= self.before {
                    lot.count(&mut self.swept.young);
                } else if self.dry_run {
                    lot.count(&mut self.swept.removed);
                } else {
                    let commit = lot.kind.commit(&lot.digest);
                    let size = lot.objects.iter().find(|(key, _)| *key == commit).map_or(0, |(_, size)| *size);
                    if batch.len() == BATCH || (at_hand + size > AT_HAND && !batch.is_empty()) {
                        self.remove(std::mem::take(&mut batch)).await?;
                        at_hand = 0;
                    }
                    at_hand += size;
                    batch.push(lot);
                }
            }
        }
        self.remove(batch).await?;
        Ok((self.swept, self.holdings))
    }

    /// Folders that fit into memory: shards are many.
    async fn places(&self) -> Result<Vec<String>, StoreError> {
        let shards = Kind::Shard.folder();
        let mut places: Vec<_> =
            self.store.folders(shards).await?.into_iter().map(|folder| format!("{shards}/{folder}")).collect();
        places.extend(Kind::ALL.into_iter().filter(|kind| *kind != Kind::Shard).map(|kind| kind.folder().to_owned()));
        Ok(places)
    }

    async fn lots(&self, folder: &str) -> Result<Vec<Lot>, StoreError> {
        let mut lots: BTreeMap<(Kind, Digest), Lot> = BTreeMap::new();
        for meta in self.store.list(Some(folder)).await? {
            let key = meta.location.to_string();
            let Some((kind, digest)) = Kind::of(&key) else { continue };
            let changed = SystemTime::from(meta.last_modified);
            let new = Lot { kind, digest, objects: Vec::new(), changed };
            let lot = lots.entry((kind, digest)).or_insert(new);
            lot.changed = lot.changed.max(changed);
            lot.objects.push((key, meta.size));
        }
        Ok(lots.into_values().collect())
    }

    async fn remove(&mut self, batch: Vec<Lot>) -> Result<(), SweepError> {
        let taken = self.take(batch).await?;
        self.settle(taken).await
    }

    /// Takes the commit objects away: nobody finds these results any more.
    async fn take(&self, batch: Vec<Lot>) -> Result<Vec<Taken>, StoreError> {
        let mut taken = Vec::with_capacity(batch.len());
        for lot in batch {
            let commit = lot.kind.commit(&lot.digest);
            let bytes = self.store.get(&commit).await?;
            taken.push(Taken { lot, commit, bytes });
        }
        self.store.delete(&taken.iter().map(|taken| taken.commit.clone()).collect::<Vec<_>>()).await?;
        Ok(taken)
    }

    /// Puts back what somebody had found before, and removes the rest of all others.
    async fn settle(&mut self, taken: Vec<Taken>) -> Result<(), SweepError> {
        let looked = self.look_again(&taken).await;
        let mut rest = Vec::new();
        for Taken { lot, commit, bytes } in &taken {
            if looked.is_err() || self.holdings.holds(lot.kind, &lot.digest) {
                self.put_back(commit, bytes.as_ref()).await?;
                lot.count(&mut self.swept.kept);
            } else if self.store.exists(commit).await? {
                // Made anew in this very moment.
                lot.count(&mut self.swept.kept);
            } else {
                lot.count(&mut self.swept.removed);
                rest.extend(lot.objects.iter().map(|(key, _)| key.clone()).filter(|key| key != commit));
            }
        }
        self.store.delete(&rest).await?;
        for Taken { lot, commit, .. } in &taken {
            if let (Kind::Shard | Kind::Reduced, Some((folder, _))) = (lot.kind, commit.rsplit_once('/')) {
                self.store.remove_empty_folder(folder);
            }
        }
        looked
    }

    async fn put_back(&self, commit: &str, bytes: Option<&Bytes>) -> Result<(), StoreError> {
        if let Some(bytes) = bytes {
            self.store.put_once(commit, bytes.clone()).await?;
        }
        Ok(())
    }

    /// A job may name a pipeline that has just gone: what that names is known only when it is back.
    async fn look_again(&mut self, taken: &[Taken]) -> Result<(), SweepError> {
        let Err(error) = self.holdings.refresh().await else { return Ok(()) };
        let held =
            |taken: &&Taken| taken.lot.kind == Kind::Pipeline && self.holdings.holds(taken.lot.kind, &taken.lot.digest);
        let missed: Vec<_> = taken.iter().filter(held).collect();
        if missed.is_empty() {
            return Err(error.into());
        }
        for Taken { commit, bytes, .. } in missed {
            self.put_back(commit, bytes.as_ref()).await?;
        }
        Ok(self.holdings.refresh().await?)
    }
}

#[cfg(test)]
mod tests {
    use fulltime_common::{
        keys,
        plan::{EngineClass, MatchId, MatchPlan, Placement, RecordingPlan, RecordingRef, ShardSpec},
        spec::{Job, ShardLength, Unmatched},
        wire::Band,
    };

    use super::*;
    use crate::holdings::announce;

    struct Ground {
        out: Store,
        store: Store,
        _folder: tempfile::TempDir,
    }

    const OLD: Duration = Duration::ZERO;

    impl Ground {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let create = |name: &str| Store::create(folder.path().join(name).to_str().unwrap()).unwrap();
            let (out, store) = (create("out"), create("out/store"));
            announce(&store, out.url().as_str()).await.unwrap();
            Self { out, store, _folder: folder }
        }

        /// A job with a pipeline of its own.
        async fn job(&self, id: &str) -> Digest {
            let pipeline = pipeline();
            let digest = pipeline.digest();
            self.store.put_json_once(&keys::store::pipeline(&digest), &pipeline).await.unwrap();
            self.spec(id, digest).await;
            digest
        }

        async fn spec(&self, id: &str, pipeline: Digest) {
            let job = Job {
                id: id.into(),
                archive: "file:///archive".into(),
                out: self.out.url().to_string(),
                store: self.store.url().to_string(),
                select: None,
                shard_length: ShardLength::Whole,
                template: None,
                table: None,
                unmatched: Unmatched::Refuse,
                priority: Band::Normal,
                tenant: None,
                max_gpu_hours: None,
                window: None,
                webhook: None,
                cost: None,
                trace: None,
                given: fulltime_common::spec::Given::default(),
                pipeline,
                submitted_at: String::new(),
            };
            self.out.put_json_once(&keys::job::spec(id), &job).await.unwrap();
        }

        /// Its plan of one shard.
        async fn plan(&self, id: &str, pipeline: Digest) -> ShardSpec {
            let recording = RecordingRef { key: "a.mp4".into(), size: 1, etag: "e".into() };
            let index = Digest::of_bytes(b"index");
            let shard = ShardSpec {
                recording: recording.clone(),
                index,
                intervals: 0..1,
                frames: 0..25,
                bytes: 0..1,
                pipeline,
                map: Digest::of_bytes(b"map"),
                engine: EngineClass("e".into()),
            };
            let recording = RecordingPlan {
                placement: Placement { recording, period: 1, camera: "main".into(), offset_us: 0 },
                index,
                frames: 25,
                frame_rate: (25, 1),
                width: 64,
                height: 64,
                shards: vec![shard.clone()],
                refused: None,
            };
            let recordings = vec![recording];
            let plan = MatchPlan { id: the_match(), engine: shard.engine.clone(), pipeline, recordings };
            self.out.put_json_once(&keys::job::plan(id, &the_match(), 0, 1), &plan).await.unwrap();
            shard
        }

        async fn result(&self, digest: &Digest) {
            for key in [
                keys::store::shard_detections(digest),
                keys::store::shard_frames(digest),
                keys::store::shard_index(digest),
            ] {
                self.store.put_once(&key, "bytes").await.unwrap();
            }
        }

        fn sweep(&self, older_than: Duration, dry_run: bool) -> Sweep {
            Sweep::new(self.store.clone(), Holdings::new(self.store.clone(), []), older_than, dry_run)
        }

        /// Objects of a shard result that are there.
        async fn objects(&self, digest: &Digest) -> usize {
            self.store.list(Some(&keys::store::shard(digest))).await.unwrap().len()
        }
    }

    fn the_match() -> MatchId {
        MatchId { season: "s".into(), name: "m".into() }
    }

    fn pipeline() -> fulltime_common::pipeline::Pipeline {
        let json = serde_json::json!({
            "name": "p",
            "detect": {
                "model": {
                    "name": "net",
                    "file": { "path": "net.onnx", "sha256": Digest::of_bytes(b"model") },
                    "input": { "channels": "rgb", "size": [64, 64] },
                    "output": { "head": "yolox", "strides": [8] },
                    "classes": ["player"],
                },
                "settings": {},
            },
            "preview": {},
            "track": {},
        });
        serde_json::from_value(json).unwrap()
    }

    fn count(tallies: &BTreeMap<&'static str, Tally>, kind: Kind) -> u64 {
        tallies.get(kind.folder()).map_or(0, |tally| tally.results)
    }

    #[tokio::test]
    async fn what_a_job_refers_to_stays_and_the_rest_goes_once_it_is_old_enough() {
        let ground = Ground::new().await;
        let pipeline = ground.job("j").await;
        let shard = ground.plan("j", pipeline).await.digest();
        let (stray, torn) = (Digest::of_bytes(b"stray"), Digest::of_bytes(b"torn"));
        ground.result(&shard).await;
        ground.result(&stray).await;
        ground.store.put_once(&keys::store::shard_frames(&torn), "tables without a commit").await.unwrap();
        ground.store.put_once(&keys::store::model(&Digest::of_bytes(b"model")), "m").await.unwrap();
        ground.store.put_once(&keys::store::model(&Digest::of_bytes(b"other")), "m").await.unwrap();
        ground.store.put_once("incidents/x.json", "kept for people").await.unwrap();

        let (young, _) = ground.sweep(Duration::from_secs(3600), false).run().await.unwrap();
        assert!(young.removed.is_empty() && count(&young.young, Kind::Shard) == 2, "{young:?}");
        let (dry, _) = ground.sweep(OLD, true).run().await.unwrap();
        assert_eq!(ground.objects(&stray).await, 3);
        let (swept, holdings) = ground.sweep(OLD, false).run().await.unwrap();
        assert_eq!((&swept, holdings.jobs()), (&dry, 1), "a dry run says what happens");
        assert_eq!((count(&swept.removed, Kind::Shard), count(&swept.removed, Kind::Model)), (2, 1));
        assert_eq!((count(&swept.kept, Kind::Shard), count(&swept.kept, Kind::Model)), (1, 1));
        assert_eq!(
            (ground.objects(&stray).await, ground.objects(&torn).await, ground.objects(&shard).await),
            (0, 0, 3)
        );
        assert!(ground.store.exists("incidents/x.json").await.unwrap());
    }

    #[tokio::test]
    async fn a_result_that_a_job_found_while_it_was_being_removed_is_put_back() {
        let ground = Ground::new().await;
        let pipeline = ground.job("j").await;
        // Of a job that is gone; its pipeline is being removed, too.
        let shard = ground.plan("j", pipeline).await.digest();
        ground.result(&shard).await;
        ground.out.delete(&[keys::job::spec("j"), keys::job::plan("j", &the_match(), 0, 1)]).await.unwrap();
        let mut sweep = ground.sweep(OLD, false);
        sweep.holdings.refresh().await.unwrap();
        let mut lots = sweep.lots("shards").await.unwrap();
        lots.extend(sweep.lots("pipelines").await.unwrap());
        assert_eq!(lots.len(), 2);
        let taken = sweep.take(lots).await.unwrap();
        assert!(!ground.store.exists(&keys::store::shard_index(&shard)).await.unwrap());
        // A job had looked for both before they went, so its plan is there.
        ground.spec("late", pipeline).await;
        ground.plan("late", pipeline).await;
        sweep.settle(taken).await.unwrap();
        assert_eq!(ground.objects(&shard).await, 3);
        assert!(ground.store.exists(&keys::store::pipeline(&pipeline)).await.unwrap());
        assert!(sweep.swept.removed.is_empty(), "{:?}", sweep.swept);
    }

    #[tokio::test]
    async fn nothing_goes_while_some_place_of_jobs_cannot_be_read() {
        let ground = Ground::new().await;
        let stray = Digest::of_bytes(b"stray");
        ground.result(&stray).await;
        let away = format!("{}/unmounted", ground.out.url());
        announce(&ground.store, &away).await.unwrap();
        let error = ground.sweep(OLD, false).run().await.unwrap_err();
        assert!(matches!(error, SweepError::Holdings(_)), "{error:?}");
        assert_eq!(ground.objects(&stray).await, 3);
        let holdings = Holdings::new(ground.store.clone(), [away]);
        let (swept, _) = Sweep::new(ground.store.clone(), holdings, OLD, false).run().await.unwrap();
        assert_eq!(count(&swept.removed, Kind::Shard), 1, "unless it is gone for good");
    }
}
