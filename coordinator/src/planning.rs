//! The coordinator's own steps against a job's objects, one method each: open, plan, split and relist its matches, freeze
//! reduce inputs, record attempts. Every verdict is put once and read back if it was there, so any step may be repeated
//! by anybody at any time. `chores` runs them; what they find goes to the ledger.

use std::collections::BTreeMap;

use fulltime_common::{
    Disposition,
    digest::Digest,
    error::{Exit, Explain},
    index::{IndexError, RecordingIndex},
    keys,
    pipeline::Pipeline,
    plan::{MatchId, MatchList, MatchPlan, Placement, PlannedMatch, RecordingPlan, ReduceInputs, ShardSpec},
    results::MatchSummary,
    spec::Job,
    store::{Put, Store, StoreError},
};
use serde::{Deserialize, Serialize};

use crate::{
    campaign::{Deposed, Mandate},
    crash::{self, Deed},
    cut::{Cutting, cut, halves},
    ledger::{Attempt, Figures, PlanOrder},
    manifest::{Quarantined, given_up},
    matching::MatchingError,
    verdict::{Stamped, fix, required},
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
    #[error(transparent)]
    Deposed(#[from] Deposed),
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
            Self::Deposed(_) => Exit::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Archive(error) | Self::Store(error) => return error.hint(),
            Self::Matching(error) => return error.hint(),
            Self::Missing { .. } => "submit the job again; was the store cleaned up while it ran?",
            Self::Index { .. } => "remove this object and submit the job again: the index is made anew",
            Self::OtherPlan { .. } => "remove this object, or submit the job under a new name",
            Self::Deposed(_) => "ask again: another coordinator is taking over",
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
            Self::Matching(_)
            | Self::Missing { .. }
            | Self::Index { .. }
            | Self::OtherPlan { .. }
            | Self::Deposed(_) => false,
        }
    }
}

/// A job's objects: where they are read and put.
#[derive(Debug)]
pub struct JobFiles {
    pub job: Job,
    pub pipeline: Pipeline,
    pub out: Store,
    pub store: Store,
    /// The generation that is being made.
    pub generation: u32,
    /// Latest revision of matches that were looked at anew before this leader took over.
    pub(crate) revisions: BTreeMap<MatchId, u32>,
    pub(crate) mandate: Mandate,
}

/// `splits/{digest}.json`: what a shard was cut into.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Parts {
    pub parts: Vec<ShardSpec>,
}

impl JobFiles {
    /// What an earlier run has decided about a match: the plan of this revision, the inputs of this generation. A plan of
    /// an earlier generation counts if it refused no recording.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn open(
        &self,
        id: &MatchId,
        revision: u32,
    ) -> Result<(Option<MatchPlan>, Option<ReduceInputs>), PlanError> {
        let job = &self.job.id;
        let mut plan = None;
        for generation in (1..=self.generation).rev() {
            let found: Option<MatchPlan> = self.out.get_json(&keys::job::plan(job, id, revision, generation)).await?;
            let whole = |plan: &MatchPlan| plan.recordings.iter().all(|recording| recording.refused.is_none());
            plan = found.filter(|plan| generation == self.generation || whole(plan));
            if plan.is_some() {
                break;
            }
        }
        Ok((plan, self.out.get_json(&keys::job::inputs(job, id, self.generation)).await?))
    }

    /// Cuts a match's recordings by their container indexes and fixes the plan.
    ///
    /// # Errors
    /// An index that is gone or damaged, a store that cannot be used.
    pub async fn plan(&self, order: &PlanOrder) -> Result<MatchPlan, PlanError> {
        let PlanOrder { id, engine, pipeline, map, recordings, revision } = order;
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
        let key = keys::job::plan(&self.job.id, id, *revision, self.generation);
        let plan = MatchPlan { id: id.clone(), engine: engine.clone(), pipeline: *pipeline, recordings: planned };
        let plan = fix(&self.out, &key, plan, &self.mandate, Deed::Plan).await?;
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
        let key = keys::job::inputs(&self.job.id, &inputs.id, self.generation);
        fix(&self.out, &key, inputs.clone(), &self.mandate, Deed::Inputs).await
    }

    /// Halves a shard by whole intervals, once and for all; one part if it cannot be cut.
    ///
    /// # Errors
    /// An index that is gone or damaged, a store that cannot be used.
    pub async fn split(&self, shard: &ShardSpec) -> Result<Vec<ShardSpec>, PlanError> {
        let index = self.index(&shard.index).await?;
        let parts = Parts { parts: halves(&index, shard) };
        let key = keys::job::split(&self.job.id, &shard.digest());
        Ok(fix(&self.out, &key, parts, &self.mandate, Deed::Split).await?.parts)
    }

    /// Looks at a match's recordings anew, because one of them is no longer what was planned, and fixes what they are as
    /// this revision. A recording that is gone stays as it was: reading it says so.
    ///
    /// # Errors
    /// The archive cannot be read, the store cannot be written.
    pub async fn relist(&self, id: &MatchId, revision: u32) -> Result<PlannedMatch, PlanError> {
        let list: MatchList = required(&self.out, "match list", &keys::job::plan_index(&self.job.id)).await?;
        let unlisted =
            || PlanError::OtherPlan { url: self.out.url_of(&keys::job::revision(&self.job.id, id, revision)) };
        let mut planned = list.matches.into_iter().find(|planned| planned.id == *id).ok_or_else(unlisted)?;
        let archive = Store::archive(&self.job.archive).map_err(PlanError::Archive)?;
        for Placement { recording, .. } in &mut planned.recordings {
            if let Some(there) = archive.head(&recording.key).await.map_err(PlanError::Archive)?
                && let Some(etag) = there.e_tag
            {
                (recording.size, recording.etag) = (there.size, etag);
            }
        }
        let key = keys::job::revision(&self.job.id, id, revision);
        fix(&self.out, &key, planned, &self.mandate, Deed::Revision).await
    }

    /// Keeps a failed attempt. Should another leader have used its number, it gets the next one.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn record(&self, attempt: &Attempt) -> Result<Attempt, PlanError> {
        let mut attempt = attempt.clone();
        loop {
            self.mandate.check()?;
            let key = keys::job::attempt(&self.job.id, &attempt.digest, attempt.number);
            let stamped = Stamped::new(&attempt, &self.mandate);
            let put = crash::around(Deed::Attempt, self.out.put_json_once(&key, &stamped));
            if put.await? == Put::Created {
                return Ok(attempt);
            }
            let there: Attempt = required(&self.out, "attempt", &key).await?;
            if there == attempt {
                return Ok(attempt);
            }
            attempt.number += 1;
        }
    }

    /// # Errors
    /// Whatever the store says.
    pub async fn figures(&self, id: &MatchId) -> Result<Figures, PlanError> {
        let (inputs, summary) = self.reduced(id).await?;
        let gaps = given_up(&inputs, &summary).iter().filter(|entry| entry.frames.is_some()).count() as u64;
        let shards = inputs.recordings.iter().map(|r| r.shards.len() as u64).sum();
        let (frames, gap_frames, detections) = (summary.frames, summary.gap_frames, summary.detections);
        let revision = self.revisions.get(id).copied().unwrap_or_default();
        let engine = self.open(id, revision).await?.0.map(|plan| plan.engine);
        Ok(Figures { engine, shards, frames, gap_frames, detections, gaps })
    }

    /// What a reduce read and what it made.
    ///
    /// # Errors
    /// An object that is gone, a store that cannot be used.
    pub async fn reduced(&self, id: &MatchId) -> Result<(ReduceInputs, MatchSummary), PlanError> {
        let (job, generation) = (&self.job.id, self.generation);
        let inputs = required(&self.out, "list of reduce inputs", &keys::job::inputs(job, id, generation)).await?;
        let summary = required(&self.out, "match summary", &keys::job::summary(job, generation, id)).await?;
        Ok((inputs, summary))
    }

    /// Records for people what was given up. The frozen inputs, not this, say what counts.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn quarantine(&self, name: &str, record: &Quarantined) -> Result<(), PlanError> {
        self.mandate.check()?;
        let key = keys::job::quarantine(&self.job.id, &format!("{name}-{}", self.generation));
        let stamped = Stamped::new(record, &self.mandate);
        crash::around(Deed::Quarantine, self.out.put_json_once(&key, &stamped)).await?;
        Ok(())
    }
}
