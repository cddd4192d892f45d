//! What jobs refer to in a shared store, read from the jobs' own objects: whoever cleans up keeps that. Everything read
//! here is put once, so each object is read once, however often one looks for new ones.

use std::collections::{BTreeMap, BTreeSet};

use fulltime_common::{
    Digest,
    index::RecordingIndex,
    keys::{
        self,
        store::{Kind, OUTS},
    },
    pipeline::Pipeline,
    plan::{MatchList, MatchPlan, PlannedMatch, ReduceInputs, ShardSpec},
    spec::{Job, Referrer},
    store::{Store, StoreError, resolve_url},
};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::de::DeserializeOwned;

use crate::{
    controls::Standing,
    ledger::whole_result,
    planning::{Parts, PlanError},
    verdict::required,
};

/// Objects read at once.
const READERS: usize = 32;

/// Says, in the store, that jobs below `out` refer to it. Comes before anything that they refer to.
///
/// # Errors
/// Whatever the store says.
pub async fn announce(store: &Store, out: &str) -> Result<(), StoreError> {
    store.put_json_once(&keys::store::out(out), &Referrer { out: out.to_owned() }).await.map(|_| ())
}

/// Whether nothing of a job will be begun any more: its latest generation is finished, or it is cancelled.
///
/// # Errors
/// Whatever the store says.
pub async fn is_over(out: &Store, job: &str) -> Result<bool, PlanError> {
    let standing = Standing::read(out, job).await?;
    Ok(standing.cancelled || out.exists(&keys::job::manifest(job, standing.generation)).await?)
}

/// What is referred to, as far as it has been read.
#[derive(Debug)]
pub struct Holdings {
    store: Store,
    /// Places that are known to be gone with all their jobs.
    gone: BTreeSet<String>,
    outs: BTreeMap<String, Store>,
    jobs: BTreeMap<(String, String), JobHoldings>,
    held: BTreeSet<(Kind, Digest)>,
}

/// One job, and what of it has been read.
#[derive(Debug)]
struct JobHoldings {
    job: Job,
    /// Of the pipeline, once that could be read.
    reduce: Option<Digest>,
    read: BTreeSet<String>,
    splits: BTreeMap<Digest, Vec<ShardSpec>>,
}

impl Holdings {
    /// `gone`: URLs of places that need not be asked any more.
    #[must_use]
    pub fn new(store: Store, gone: impl IntoIterator<Item = String>) -> Self {
        let (outs, jobs, held) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { store, gone: gone.into_iter().collect(), outs, jobs, held }
    }

    #[must_use]
    pub fn holds(&self, kind: Kind, digest: &Digest) -> bool {
        self.held.contains(&(kind, *digest))
    }

    /// Jobs that use the store.
    #[must_use]
    pub fn jobs(&self) -> usize {
        self.jobs.values().filter(|job| job.reduce.is_some()).count()
    }

    /// Reads what is new. Whatever was referred to when this began is held afterwards.
    ///
    /// # Errors
    /// A place or an object that cannot be read: then nobody knows what it refers to.
    pub async fn refresh(&mut self) -> Result<(), PlanError> {
        for meta in self.store.list(Some(OUTS)).await? {
            let referrer: Referrer = required(&self.store, "place of jobs", meta.location.as_ref()).await?;
            if !self.gone.contains(&referrer.out) && !self.outs.contains_key(&referrer.out) {
                let out = Store::open(&referrer.out)?;
                self.outs.insert(referrer.out, out);
            }
        }
        for (url, out) in self.outs.clone() {
            for job in out.folders(keys::job::ROOT).await? {
                self.refresh_job(&url, &out, job).await?;
            }
        }
        Ok(())
    }

    async fn refresh_job(&mut self, url: &str, out: &Store, id: String) -> Result<(), PlanError> {
        let name = (url.to_owned(), id);
        let mut known = match self.jobs.remove(&name) {
            Some(known) => known,
            None => match out.get_json::<Job>(&keys::job::spec(&name.1)).await? {
                Some(job) => JobHoldings { job, reduce: None, read: BTreeSet::new(), splits: BTreeMap::new() },
                // It is not there yet, or not any more: its spec is put before its plan, and goes after it.
                None if !out.exists(&keys::job::plan_index(&name.1)).await? => return Ok(()),
                None => return Err(PlanError::Missing { what: "job", url: out.url_of(&keys::job::spec(&name.1)) }),
            },
        };
        let read = self.read_job(out, &name.1, &mut known).await;
        self.jobs.insert(name, known);
        read
    }

    async fn read_job(&mut self, out: &Store, id: &str, known: &mut JobHoldings) -> Result<(), PlanError> {
        let job = known.job.clone();
        let Some(reduce) = self.pipeline(known).await? else { return Ok(()) };
        for (name, Parts { parts }) in known.unread_by_name(out, &keys::job::splits(id)).await? {
            let Ok(digest) = name.parse() else { continue };
            self.held.extend(parts.iter().map(|part| (Kind::Shard, part.digest())));
            // Plans name other results from now on.
            known.splits.insert(digest, parts);
            known.read.retain(|key| !key.starts_with(&keys::job::plans(id)));
        }
        for planned in known.unread::<PlannedMatch>(out, &keys::job::revisions(id)).await? {
            self.hold_indexes(&job.archive, &planned);
        }
        let list = keys::job::plan_index(id);
        if !known.read.contains(&list)
            && let Some(matches) = out.get_json::<MatchList>(&list).await?
        {
            matches.matches.iter().for_each(|planned| self.hold_indexes(&job.archive, planned));
            known.read.insert(list);
        }
        for plan in known.unread::<MatchPlan>(out, &keys::job::plans(id)).await? {
            for recording in &plan.recordings {
                self.held.insert((Kind::Index, recording.index));
                self.held.extend(recording.shards.iter().map(|shard| (Kind::Shard, shard.digest())));
            }
            // It may be found there, and published, before its inputs are fixed.
            self.held.insert((Kind::Reduced, whole_result(&plan, &known.splits, &job.archive, reduce, &job.given)));
        }
        for inputs in known.unread::<ReduceInputs>(out, &keys::job::all_inputs(id)).await? {
            self.held.insert((Kind::Reduced, inputs.digest()));
            let shards = inputs.recordings.iter().flat_map(|recording| &recording.shards);
            self.held.extend(shards.map(|shard| (Kind::Shard, shard.digest)));
        }
        Ok(())
    }

    /// Digest of the part of a job's pipeline that its reduces compute; `None` if the job uses another store. URLs of one
    /// store may differ, so what decides is that the pipeline lies here.
    async fn pipeline(&mut self, known: &mut JobHoldings) -> Result<Option<Digest>, PlanError> {
        if known.reduce.is_none() {
            let job = &known.job;
            self.held.insert((Kind::Pipeline, job.pipeline));
            let key = keys::store::pipeline(&job.pipeline);
            match self.store.get_json::<Pipeline>(&key).await? {
                Some(pipeline) => {
                    self.held.extend(pipeline.models().into_iter().map(|model| (Kind::Model, model)));
                    known.reduce = Some(pipeline.reduce_digest());
                }
                None if resolve_url(&job.store)? != *self.store.url() => {}
                None => return Err(PlanError::Missing { what: "pipeline", url: self.store.url_of(&key) }),
            }
        }
        Ok(known.reduce)
    }

    fn hold_indexes(&mut self, archive: &str, planned: &PlannedMatch) {
        let recordings = planned.recordings.iter().map(|placement| &placement.recording);
        self.held.extend(recordings.map(|recording| (Kind::Index, RecordingIndex::digest(archive, recording))));
    }
}

impl JobHoldings {
    /// What has come into a folder since it was last read, but for the match list.
    async fn unread<T: DeserializeOwned>(&mut self, out: &Store, folder: &str) -> Result<Vec<T>, PlanError> {
        Ok(self.unread_by_name(out, folder).await?.into_iter().map(|(_, value)| value).collect())
    }

    /// As [`JobHoldings::unread`], with the objects' names. One that goes between list and read belongs to a job that is
    /// being deleted.
    async fn unread_by_name<T: DeserializeOwned>(
        &mut self,
        out: &Store,
        folder: &str,
    ) -> Result<Vec<(String, T)>, PlanError> {
        let objects = out.list(Some(folder)).await?;
        let keys = objects.into_iter().map(|object| object.location.to_string());
        let new: Vec<_> = keys.filter(|key| !key.ends_with("plan/index.json") && !self.read.contains(key)).collect();
        let read =
            |key: String| async move { out.get_json::<T>(&key).await.map(|value| value.map(|value| (key, value))) };
        let found: Vec<_> =
            futures::stream::iter(new.iter().cloned().map(read)).buffered(READERS).try_collect().await?;
        self.read.extend(new);
        let name = |key: &str| key.rsplit('/').next().and_then(|name| name.strip_suffix(".json")).map(str::to_owned);
        Ok(found.into_iter().flatten().filter_map(|(key, value)| Some((name(&key)?, value))).collect())
    }
}

/// The objects of a job's own, below `jobs/{job}/`: its spec comes last, so that a removal that broke off can be repeated.
///
/// # Errors
/// Whatever the store says.
pub async fn own_objects(out: &Store, job: &str) -> Result<Vec<(String, u64)>, StoreError> {
    let objects = out.list(Some(&keys::job::root(job))).await?;
    let mut own: Vec<_> = objects.into_iter().map(|object| (object.location.to_string(), object.size)).collect();
    let spec = keys::job::spec(job);
    own.sort_by_key(|(key, _)| (*key == spec, key.clone()));
    Ok(own)
}
