//! What makes room again: `fulltime gc` removes from a shared store what no job refers to, `fulltime delete` removes a
//! job's own objects. Both work on the objects alone, beside whatever runs.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Write as _},
};

use fulltime_common::{
    Exit,
    error::{Explain, Failure},
    keys,
    store::{Store, StoreError, resolve_url},
};
use fulltime_coordinator::{
    holdings::{self, Holdings},
    sweep::{Sweep, Swept, Tally},
};
use serde_json::json;

use crate::{
    args::{DeleteArgs, GcArgs},
    text::{bytes, count, plural, table},
};

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub enum TidyError {
    #[error("no job has ever used the store `{store}`")]
    NoReferrer { store: String },
    #[error("there is no job `{job}` below `{out}`")]
    NoSuchJob { job: String, out: String },
    #[error("job `{job}` is neither finished nor cancelled")]
    Live { job: String },
    #[error("deleting `{job}` was not confirmed")]
    Unconfirmed { job: String },
}

impl Explain for TidyError {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoReferrer { .. } => {
                "check the URL: --out takes a job's output, --store a store that jobs share".into()
            }
            Self::NoSuchJob { .. } => "look below jobs/ there for the ids of its jobs".into(),
            Self::Live { job } => format!(
                "cancel it first with `fulltime cancel {job}`; --force deletes a job that no coordinator works on"
            ),
            Self::Unconfirmed { .. } => "add --yes, or --dry-run to see what would go".into(),
        })
    }
}

/// `fulltime gc`.
///
/// # Errors
/// A store or job that cannot be read; then what may still be needed stays.
pub async fn gc(args: GcArgs) -> Result<Exit, Failure> {
    let url = match (&args.store, &args.out) {
        (Some(store), _) => resolve_url(store)?.to_string(),
        (None, out) => format!("{}/store", resolve_url(out.as_deref().unwrap_or_default())?),
    };
    let store = Store::open(&url)?;
    if store.list(Some(keys::store::OUTS)).await?.is_empty() {
        return Err(TidyError::NoReferrer { store: url }.into());
    }
    let gone: Vec<String> =
        args.gone.iter().map(|url| resolve_url(url).map(|url| url.to_string())).collect::<Result<_, _>>()?;
    let holdings = Holdings::new(store.clone(), gone.clone());
    let (swept, holdings) = Sweep::new(store.clone(), holdings, args.older_than.into(), args.dry_run).run().await?;
    if !args.dry_run {
        // Nothing of theirs is left that anybody would have to ask for.
        store.delete(&gone.iter().map(|out| keys::store::out(out)).collect::<Vec<_>>()).await?;
    }
    let jobs = holdings.jobs() as u64;
    if args.json {
        println!("{}", json!({ "store": url, "jobs": jobs, "dry_run": args.dry_run, "swept": swept, "exit": 0 }));
    } else {
        print!("{}", describe(&swept, jobs, args.dry_run));
    }
    Ok(Exit::Ok)
}

fn describe(swept: &Swept, jobs: u64, dry_run: bool) -> String {
    let columns = ["", "results", "objects", "bytes"].map(str::to_owned);
    let going = if dry_run { "would go" } else { "removed" };
    let parts = [(going, &swept.removed), ("kept", &swept.kept), ("too young", &swept.young)];
    let row = |name: String, tally: &Tally| vec![name, count(tally.results), count(tally.objects), bytes(tally.bytes)];
    let rows = parts
        .iter()
        .flat_map(|(word, tallies)| tallies.iter().map(move |(kind, tally)| row(format!("{kind} {word}"), tally)));
    let sum = total(&swept.removed);
    let amount = format!("{} in {}", bytes(sum.bytes), plural(sum.objects, "object"));
    format!(
        "{}\n{going}: {amount}, needed by none of {}\n",
        table(&columns, &rows.collect::<Vec<_>>()),
        plural(jobs, "job")
    )
}

fn total(tallies: &BTreeMap<&'static str, Tally>) -> Tally {
    tallies.values().fold(Tally::default(), |sum, tally| Tally {
        results: sum.results + tally.results,
        objects: sum.objects + tally.objects,
        bytes: sum.bytes + tally.bytes,
    })
}

/// `fulltime delete`.
///
/// # Errors
/// No such job, one that is not over, no confirmation, or a store that cannot be used.
pub async fn delete(args: DeleteArgs) -> Result<Exit, Failure> {
    let out = Store::open(&args.out)?;
    let job = &args.job;
    let own = holdings::own_objects(&out, job).await?;
    if own.is_empty() {
        return Err(TidyError::NoSuchJob { job: job.clone(), out: args.out }.into());
    }
    if !args.force && !holdings::is_over(&out, job).await? {
        return Err(TidyError::Live { job: job.clone() }.into());
    }
    let sum: u64 = own.iter().map(|(_, size)| size).sum();
    let what = format!("{} of job `{job}` ({})", plural(own.len() as u64, "object"), bytes(sum));
    if !args.dry_run {
        if !args.yes && !confirmed(&what) {
            return Err(TidyError::Unconfirmed { job: job.clone() }.into());
        }
        let state = match &args.state {
            Some(url) => resolve_url(url)?.to_string(),
            None => format!("{}/state", out.url()),
        };
        remove(&out, job, &state, &own).await?;
    }
    let done = if args.dry_run { "would delete" } else { "deleted" };
    if args.json {
        let objects = own.len();
        println!("{}", json!({ "job": job, "dry_run": args.dry_run, "objects": objects, "bytes": sum, "exit": 0 }));
    } else {
        println!("{done} {what}; results in the store that other jobs may share are left to `fulltime gc`");
    }
    Ok(Exit::Ok)
}

fn confirmed(what: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    eprint!("delete {what}? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// First from the registry, so that no coordinator takes it up half gone.
async fn remove(out: &Store, job: &str, state: &str, own: &[(String, u64)]) -> Result<(), StoreError> {
    match Store::open(state) {
        Ok(state) => state.delete(&[keys::state::registry(job)]).await?,
        // A job of `fulltime run` has its state among its own objects.
        Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {}
        Err(error) => return Err(error),
    }
    let keys: Vec<String> = own.iter().map(|(key, _)| key.clone()).collect();
    if let Some((spec, others)) = keys.split_last() {
        out.delete(others).await?;
        out.delete(std::slice::from_ref(spec)).await?;
    }
    if let Some(folder) = out.folder() {
        // Only empty folders are left of it, and what a killed process may not have put into place.
        let _ = std::fs::remove_dir_all(folder.join(keys::job::root(job)));
    }
    Ok(())
}
