//! How a registered job enters the ledger, from its objects alone: what people decided, the fixed match list, revisions,
//! splits, attempts, and which matches have been published. Lists the job's own prefixes, each once, and never the shared
//! results.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fulltime_common::{
    digest::Digest,
    keys,
    pipeline::Pipeline,
    plan::{MatchId, MatchList, PlannedMatch, ShardSpec},
    spec::Job,
    store::{Store, StoreError},
};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::de::DeserializeOwned;

use crate::{
    campaign::Mandate,
    controls::Standing,
    crash::Deed,
    ledger::{Admitted, Attempt, Limits},
    manifest::Manifest,
    matching::{Listed, match_list},
    planning::{JobFiles, Parts, PlanError},
    usage,
    verdict::{fix, required},
};

/// Objects of one job read at once.
const READERS: usize = 32;

/// What the registry's job turns out to be.
#[derive(Debug)]
pub(crate) enum Admission {
    Run(Arc<JobFiles>, Box<Admitted>),
    Finished(Box<Manifest>, String),
    Cancelled,
}

/// Reads a registered job and fixes its match list.
///
/// # Errors
/// Everything that makes it impossible to run: stores that cannot be written, an archive without matches, …
pub(crate) async fn admit(state: &Store, id: &str, out: &str, mandate: &Mandate) -> Result<Admission, PlanError> {
    let out = Store::open(out)?;
    let job: Job = required(&out, "job", &keys::job::spec(id)).await?;
    let standing = Standing::read(&out, id).await?;
    let generation = standing.generation;
    let manifest = keys::job::manifest(id, generation);
    if let Some(done) = out.get_json::<Manifest>(&manifest).await? {
        return Ok(Admission::Finished(Box::new(done), out.url_of(&manifest)));
    }
    if standing.cancelled {
        return Ok(Admission::Cancelled);
    }
    let store = Store::create(&job.store)?;
    let pipeline: Pipeline = required(&store, "pipeline", &keys::store::pipeline(&job.pipeline)).await?;
    let mut list = fixed_match_list(&job, &out, &store, mandate).await?;
    let (revisions, finished) = {
        let ids: BTreeMap<String, MatchId> = list.matches.iter().map(|m| (m.id.slug(), m.id.clone())).collect();
        let revised = revisions(&out, id, &ids).await?;
        let finished = finished(&out, id, generation, &ids).await?;
        let numbers: BTreeMap<MatchId, u32> = revised.iter().map(|(id, (number, _))| (id.clone(), *number)).collect();
        replace(&mut list.matches, revised);
        (numbers, finished)
    };
    let admitted = Admitted {
        archive: job.archive.clone(),
        store: job.store.clone(),
        out: job.out.clone(),
        pipeline: job.pipeline,
        map: pipeline.map_digest(),
        reduce: pipeline.reduce_digest(),
        given: Arc::new(job.given.clone()),
        matches: list.matches,
        revisions: revisions.clone(),
        generation,
        band: standing.band.unwrap_or(job.priority),
        tenant: job.tenant.clone(),
        limits: Limits { max_gpu_hours: job.max_gpu_hours, window: job.window.map(|window| (window.from, window.to)) },
        spent: usage::of_job(state, job.tenant.as_deref(), id, standing.round).await?,
        paused: standing.paused,
        round: standing.round,
        attempts: attempts(&out, id).await?,
        splits: splits(&out, id).await?,
        finished,
    };
    let files = JobFiles { job, pipeline, out, store, generation, revisions, mandate: mandate.clone() };
    Ok(Admission::Run(Arc::new(files), Box::new(admitted)))
}

/// The match list as some coordinator fixed it, or else from the archive's listing, if the stores can be written.
async fn fixed_match_list(job: &Job, out: &Store, store: &Store, mandate: &Mandate) -> Result<MatchList, PlanError> {
    let key = keys::job::plan_index(&job.id);
    if let Some(list) = out.get_json(&key).await? {
        // Whatever is wrong with the stores by now pauses the job when it matters; it is no reason to fail it.
        return Ok(list);
    }
    out.probe_writable().await?;
    store.probe_writable().await?;
    let archive = Store::archive(&job.archive).map_err(PlanError::Archive)?;
    let objects = archive.list(None).await.map_err(PlanError::Archive)?;
    let listing = objects.into_iter().map(|object| Listed {
        key: object.location.to_string(),
        size: object.size,
        etag: object.e_tag,
    });
    fix(out, &key, match_list(job, listing.collect())?, mandate, Deed::List).await
}

/// Names of the objects below a folder of the job, without `.json`.
async fn names(out: &Store, folder: &str) -> Result<Vec<String>, StoreError> {
    let objects = out.list(Some(folder)).await?;
    let name = |key: &str| Some(key.rsplit('/').next()?.strip_suffix(".json")?.to_owned());
    let mut names: Vec<_> = objects.iter().filter_map(|object| name(object.location.as_ref())).collect();
    names.sort();
    Ok(names)
}

async fn read_all<T: DeserializeOwned>(out: &Store, folder: &str, names: &[String]) -> Result<Vec<T>, PlanError> {
    let read = |key: String| async move { required(out, "object", &key).await };
    let keys: Vec<_> = names.iter().map(|name| format!("{folder}/{name}.json")).collect();
    futures::stream::iter(keys.into_iter().map(read)).buffered(READERS).try_collect().await
}

/// The latest revision of every match that has one.
async fn revisions(
    out: &Store,
    job: &str,
    ids: &BTreeMap<String, MatchId>,
) -> Result<BTreeMap<MatchId, (u32, PlannedMatch)>, PlanError> {
    let folder = keys::job::revisions(job);
    let mut latest: BTreeMap<&MatchId, (u32, String)> = BTreeMap::new();
    for name in names(out, &folder).await? {
        let Some((slug, number)) = name.rsplit_once('-') else { continue };
        let (Some(id), Ok(number)) = (ids.get(slug), number.parse::<u32>()) else { continue };
        let entry = latest.entry(id).or_default();
        if number >= entry.0 {
            *entry = (number, name);
        }
    }
    let names: Vec<_> = latest.values().map(|(_, name)| name.clone()).collect();
    let matches: Vec<PlannedMatch> = read_all(out, &folder, &names).await?;
    Ok(latest.into_iter().zip(matches).map(|((id, (number, _)), planned)| (id.clone(), (number, planned))).collect())
}

fn replace(matches: &mut [PlannedMatch], mut revised: BTreeMap<MatchId, (u32, PlannedMatch)>) {
    for planned in matches {
        if let Some((_, latest)) = revised.remove(&planned.id) {
            *planned = latest;
        }
    }
}

/// Matches that this generation has published.
async fn finished(
    out: &Store,
    job: &str,
    generation: u32,
    ids: &BTreeMap<String, MatchId>,
) -> Result<BTreeSet<MatchId>, PlanError> {
    let names = names(out, &keys::job::summaries(job, generation)).await?;
    Ok(names.iter().filter_map(|slug| ids.get(slug).cloned()).collect())
}

async fn attempts(out: &Store, job: &str) -> Result<Vec<Attempt>, PlanError> {
    let folder = keys::job::attempts(job);
    let mut attempts: Vec<Attempt> = read_all(out, &folder, &names(out, &folder).await?).await?;
    // In the order in which they were made: names do not sort numbers.
    attempts.sort_by_key(|attempt| (attempt.digest, attempt.number));
    Ok(attempts)
}

async fn splits(out: &Store, job: &str) -> Result<BTreeMap<Digest, Vec<ShardSpec>>, PlanError> {
    let folder = keys::job::splits(job);
    let digest = |name: String| Some((name.parse::<Digest>().ok()?, name));
    let (digests, names): (Vec<_>, Vec<_>) = names(out, &folder).await?.into_iter().filter_map(digest).unzip();
    let parts: Vec<Parts> = read_all(out, &folder, &names).await?;
    Ok(digests.into_iter().zip(parts).map(|(digest, Parts { parts })| (digest, parts)).collect())
}
