//! The coordinator's own steps against the stores, one method each: admit a job, open and plan its matches, freeze reduce
//! inputs, look for results. Every object is put once and read back if it was there, so any step may be repeated by
//! anybody at any time. `service` runs them; what they find goes to the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fulltime_common::{
    Disposition,
    digest::Digest,
    error::{Exit, Explain},
    index::{IndexError, RecordingIndex},
    keys,
    pipeline::Pipeline,
    plan::{MatchId, MatchList, MatchPlan, RecordingPlan, ReduceInputs},
    results::MatchSummary,
    spec::Job,
    store::{Put, Store, StoreError},
    wire::Band,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    cut::{Cutting, cut},
    ledger::{Admitted, Decision, Figures, GENERATION, Limits, Object, PlanOrder},
    manifest::{Manifest, Quarantined, given_up},
    matching::{Listed, MatchingError, match_list},
};

/// Why one of the coordinator's own steps failed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("read the archive")]
    Archive(#[source] StoreError),
    #[error(transparent)]
    Matching(#[from] MatchingError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the {what} `{url}` is not there")]
    Missing { what: &'static str, url: String },
    #[error("read the container index `{url}`")]
    Index {
        url: String,
        #[source]
        source: IndexError,
    },
    #[error("`{url}` does not belong to the job's match list")]
    OtherPlan { url: String },
}

impl Explain for PlanError {
    fn exit(&self) -> Exit {
        match self {
            Self::Archive(source) => match source.exit() {
                Exit::Usage => Exit::Usage,
                _ => Exit::Archive,
            },
            Self::Matching(error) => error.exit(),
            Self::Store(error) => error.exit(),
            Self::Missing { .. } | Self::Index { .. } | Self::OtherPlan { .. } => Exit::Store,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Archive(error) | Self::Store(error) => return error.hint(),
            Self::Matching(error) => return error.hint(),
            Self::Missing { .. } => "submit the job again; was the store cleaned up while it ran?",
            Self::Index { .. } => "remove this object and submit the job again: the index is made anew",
            Self::OtherPlan { .. } => "remove this object, or submit the job under a new name",
        };
        Some(hint.to_owned())
    }
}

impl PlanError {
    /// Whether trying again a little later may help. A full disk or a missing right will not pass by itself.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        use std::io::ErrorKind as K;
        match self {
            Self::Archive(error) | Self::Store(error) => {
                let lasting =
                    [K::StorageFull, K::QuotaExceeded, K::PermissionDenied, K::ReadOnlyFilesystem, K::NotFound];
                error.disposition() == Disposition::Transient
                    && error.io_kind().is_none_or(|kind| !lasting.contains(&kind))
            }
            Self::Matching(_) | Self::Missing { .. } | Self::Index { .. } | Self::OtherPlan { .. } => false,
        }
    }
}

/// What the registry's job turns out to be.
#[derive(Debug)]
pub enum Admission {
    Run(Arc<JobFiles>, Box<Admitted>),
    Finished(Box<Manifest>, String),
    Cancelled,
}

/// A job's objects: where they are read and put.
#[derive(Debug)]
pub struct JobFiles {
    pub job: Job,
    pub pipeline: Pipeline,
    pub out: Store,
    pub store: Store,
}

/// Reads a registered job and fixes its match list.
///
/// # Errors
/// Everything that makes it impossible to run: stores that cannot be written, an archive without matches, …
pub async fn admit(id: &str, out: &str) -> Result<Admission, PlanError> {
    let out = Store::open(out)?;
    let job: Job = required(&out, "job", &keys::job::spec(id)).await?;
    let manifest = keys::job::manifest(id, GENERATION);
    if let Some(done) = out.get_json::<Manifest>(&manifest).await? {
        return Ok(Admission::Finished(Box::new(done), out.url_of(&manifest)));
    }
    if is_cancelled(&out, id).await? {
        return Ok(Admission::Cancelled);
    }
    let store = Store::create(&job.store)?;
    out.probe_writable().await?;
    store.probe_writable().await?;
    let pipeline: Pipeline = required(&store, "pipeline", &keys::store::pipeline(&job.pipeline)).await?;
    let list = fixed_match_list(&job, &out).await?;
    let admitted = Admitted {
        archive: job.archive.clone(),
        store: job.store.clone(),
        out: job.out.clone(),
        pipeline: job.pipeline,
        map: pipeline.map_digest(),
        reduce: pipeline.reduce_digest(),
        matches: list.matches,
        revisions: BTreeMap::new(),
        generation: GENERATION,
        band: Band::default(),
        tenant: None,
        limits: Limits::default(),
        paused: false,
        round: 0,
        attempts: Vec::new(),
        splits: BTreeMap::new(),
        finished: BTreeSet::new(),
    };
    Ok(Admission::Run(Arc::new(JobFiles { job, pipeline, out, store }), Box::new(admitted)))
}

/// The match list as some coordinator fixed it, or else from the archive's listing.
async fn fixed_match_list(job: &Job, out: &Store) -> Result<MatchList, PlanError> {
    let key = keys::job::plan_index(&job.id);
    if let Some(list) = out.get_json(&key).await? {
        return Ok(list);
    }
    let archive = Store::open(&job.archive).map_err(PlanError::Archive)?;
    let objects = archive.list(None).await.map_err(PlanError::Archive)?;
    let listing = objects.into_iter().map(|object| Listed {
        key: object.location.to_string(),
        size: object.size,
        etag: object.e_tag,
    });
    put_or_read(out, &key, match_list(job, listing.collect())?).await
}

async fn is_cancelled(out: &Store, job: &str) -> Result<bool, PlanError> {
    for object in out.list(Some(&keys::job::controls(job))).await? {
        if out.get_json::<Decision>(object.location.as_ref()).await? == Some(Decision::Cancel) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a cancellation durable, before anybody hears of it.
///
/// # Errors
/// The store cannot be written; then the job is not cancelled.
pub async fn put_cancel(job: &str, out: &str) -> Result<(), PlanError> {
    let out = Store::open(out)?;
    let mut seq = out.list(Some(&keys::job::controls(job))).await?.len() as u32;
    while out.put_json_once(&keys::job::control(job, seq), &Decision::Cancel).await? == Put::Existed {
        seq += 1;
    }
    Ok(())
}

impl JobFiles {
    /// What an earlier run has decided about a match.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn open(&self, id: &MatchId) -> Result<(Option<MatchPlan>, Option<ReduceInputs>), PlanError> {
        let job = &self.job.id;
        let plan = self.out.get_json(&keys::job::plan(job, id)).await?;
        Ok((plan, self.out.get_json(&keys::job::inputs(job, id, GENERATION)).await?))
    }

    /// Whether a result has been committed.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn exists(&self, object: &Object) -> Result<bool, PlanError> {
        let found = match object {
            Object::Store(key) => self.store.head(key).await?,
            Object::Out(key) => self.out.head(key).await?,
        };
        Ok(found.is_some())
    }

    /// Cuts a match's recordings by their container indexes and fixes the plan.
    ///
    /// # Errors
    /// An index that is gone or damaged, a store that cannot be used.
    pub async fn plan(&self, order: &PlanOrder) -> Result<MatchPlan, PlanError> {
        let PlanOrder { id, engine, pipeline, map, recordings, revision: _ } = order;
        let mut planned = Vec::with_capacity(recordings.len());
        for (placement, index, refused) in recordings {
            let mut recording = RecordingPlan {
                placement: placement.clone(),
                index: *index,
                frames: 0,
                frame_rate: (0, 1),
                width: 0,
                height: 0,
                shards: Vec::new(),
                refused: refused.clone(),
            };
            if recording.refused.is_none() {
                let length = self.job.shard_length;
                let cutting = Cutting { length, index: *index, pipeline: *pipeline, map: *map, engine: engine.clone() };
                self.cut_recording(&mut recording, &cutting).await?;
            }
            planned.push(recording);
        }
        let key = keys::job::plan(&self.job.id, id);
        let plan = MatchPlan { id: id.clone(), engine: engine.clone(), pipeline: *pipeline, recordings: planned };
        let plan = put_or_read(&self.out, &key, plan).await?;
        if plan.recordings.iter().map(|r| &r.placement).ne(recordings.iter().map(|(placement, ..)| placement)) {
            return Err(PlanError::OtherPlan { url: self.out.url_of(&key) });
        }
        Ok(plan)
    }

    /// The index is dropped as soon as the recording is cut.
    async fn cut_recording(&self, recording: &mut RecordingPlan, cutting: &Cutting) -> Result<(), PlanError> {
        let index = self.index(&recording.index).await?;
        recording.shards = cut(&index, cutting);
        recording.frames = index.frames;
        recording.frame_rate = index.frame_rate;
        (recording.width, recording.height) = (index.codec.width, index.codec.height);
        if recording.shards.is_empty() {
            recording.refused = Some("no frame of it can be decoded".to_owned());
        }
        Ok(())
    }

    async fn index(&self, digest: &Digest) -> Result<RecordingIndex, PlanError> {
        let key = keys::store::index(digest);
        let url = || self.store.url_of(&key);
        let missing = || PlanError::Missing { what: "container index", url: url() };
        let bytes = self.store.get(&key).await?.ok_or_else(missing)?;
        RecordingIndex::from_bytes(&bytes).map_err(|source| PlanError::Index { url: url(), source })
    }

    /// Creates the inputs object, the exactly-once release of a reduce. What another coordinator froze before counts.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn freeze(&self, inputs: &ReduceInputs) -> Result<ReduceInputs, PlanError> {
        let key = keys::job::inputs(&self.job.id, &inputs.id, GENERATION);
        put_or_read(&self.out, &key, inputs.clone()).await
    }

    /// # Errors
    /// Whatever the store says.
    pub async fn figures(&self, id: &MatchId) -> Result<Figures, PlanError> {
        let (inputs, summary) = self.reduced(id).await?;
        let gaps = given_up(&inputs, &summary).iter().filter(|entry| entry.frames.is_some()).count() as u64;
        let shards = inputs.recordings.iter().map(|r| r.shards.len() as u64).sum();
        let (frames, gap_frames, detections) = (summary.frames, summary.gap_frames, summary.detections);
        Ok(Figures { engine: None, shards, frames, gap_frames, detections, gaps })
    }

    /// What a reduce read and what it made.
    ///
    /// # Errors
    /// An object that is gone, a store that cannot be used.
    pub async fn reduced(&self, id: &MatchId) -> Result<(ReduceInputs, MatchSummary), PlanError> {
        let job = &self.job.id;
        let inputs = required(&self.out, "list of reduce inputs", &keys::job::inputs(job, id, GENERATION)).await?;
        let summary = required(&self.out, "match summary", &keys::job::summary(job, GENERATION, id)).await?;
        Ok((inputs, summary))
    }

    /// Records for people what was given up. The frozen inputs, not this, say what counts.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn quarantine(&self, name: &str, record: &Quarantined) -> Result<(), PlanError> {
        self.out.put_json_once(&keys::job::quarantine(&self.job.id, name), record).await?;
        Ok(())
    }
}

/// Puts a value once and returns what is there.
async fn put_or_read<T: Serialize + DeserializeOwned>(store: &Store, key: &str, value: T) -> Result<T, PlanError> {
    match store.put_json_once(key, &value).await? {
        Put::Created => Ok(value),
        Put::Existed => required(store, "object", key).await,
    }
}

async fn required<T: DeserializeOwned>(store: &Store, what: &'static str, key: &str) -> Result<T, PlanError> {
    store.get_json(key).await?.ok_or_else(|| PlanError::Missing { what, url: store.url_of(key) })
}
