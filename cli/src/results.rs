//! What a finished job left behind, for people: where it lies, figures by match, the first rows of a table, and a line
//! for `DuckDB`. `run` shows it at the end, `fulltime results` at any time.

use fulltime_common::{
    Exit,
    error::Failure,
    keys,
    store::{Store, StoreError},
};
use fulltime_coordinator::manifest::{Manifest, MatchRecord};
use fulltime_tables::show;
use object_store::{ObjectStore as _, path::Path};

use crate::{
    args::ResultsArgs,
    text::{count, plural, table},
};

/// Matches that are listed one by one.
const MATCHES: usize = 12;

/// The manifest of a job's newest finished generation.
#[derive(Debug)]
pub struct Results {
    out: Store,
    pub manifest: Manifest,
}

impl Results {
    /// `None` when the job has not finished any generation.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn of(out: &str, job: &str) -> Result<Option<Self>, StoreError> {
        let out = Store::open(out)?;
        let mut newest = None;
        for generation in 1.. {
            match out.get_json(&keys::job::manifest(job, generation)).await? {
                Some(manifest) => newest = Some(manifest),
                None => break,
            }
        }
        Ok(newest.map(|manifest| Self { out, manifest }))
    }

    fn place_of(&self, key: &str) -> String {
        place_in(&self.out, key)
    }

    #[must_use]
    pub fn manifest_url(&self) -> String {
        self.out.url_of(&keys::job::manifest(&self.manifest.job, self.manifest.generation))
    }

    #[must_use]
    pub fn report_url(&self) -> String {
        self.out.url_of(&self.manifest.report)
    }

    /// Where everything lies, the figures of the matches, and the first rows of one table.
    ///
    /// # Errors
    /// A table that cannot be read.
    pub async fn describe(&self, name: &str, rows: usize) -> Result<String, Failure> {
        let Manifest { job, generation, matches, .. } = &self.manifest;
        let root = self.place_of(&keys::job::generation(job, *generation));
        let mut text = figures(matches);
        if let Some((id, head)) = self.head(name, rows).await? {
            text.push_str(&format!(
                "\n{name} of {id} ({} of {}):\n\n",
                count(head.rows.len() as u64),
                plural(head.total, "row")
            ));
            let head = telling(head);
            text.push_str(&table(&head.columns, &head.rows));
        }
        text.push_str(&format!("\nreport    {}\n", self.place_of(&self.manifest.report)));
        match matches.iter().filter_map(|m| m.preview.as_ref()).collect::<Vec<_>>().as_slice() {
            [] => {}
            [only] => text.push_str(&format!("preview   {}\n", self.place_of(only))),
            many => text.push_str(&format!("previews  {root}/previews/ ({})\n", plural(many.len() as u64, "picture"))),
        }
        text.push_str(&format!("tables    {root}/{{{}}}/\n", keys::TABLES.join(",")));
        text.push_str(&format!("manifest  {}\n", self.place_of(&keys::job::manifest(job, *generation))));
        if !matches.is_empty() {
            text.push_str(&format!("query     {}\n", duckdb(&root)));
        }
        Ok(text)
    }

    /// The head of the first table of this name that has rows.
    async fn head(&self, name: &str, rows: usize) -> Result<Option<(String, show::Head)>, Failure> {
        for record in self.manifest.matches.iter().take(MATCHES) {
            let Some(key) = record.tables.iter().find(|t| t.name == name).map(|t| &t.key) else { continue };
            let Some(bytes) = self.out.get(key).await? else { continue };
            let unreadable = |error: fulltime_tables::TableError| {
                let cause = format!("read `{}`: {}", self.place_of(key), fulltime_common::error::chain(&error));
                Failure::new(Exit::Store, cause, "the table was damaged after it was written; run the job again")
            };
            let head = show::preview_rows(bytes, rows).map_err(unreadable)?;
            if head.total > 0 && rows > 0 {
                return Ok(Some((record.id.to_string(), head)));
            }
        }
        Ok(None)
    }
}

/// Without columns that say nothing in any of the rows, and without times in microseconds: a terminal is narrow.
fn telling(head: show::Head) -> show::Head {
    let says = |column: &usize| {
        !head.columns[*column].ends_with("_us") && head.rows.iter().any(|row| !row[*column].is_empty())
    };
    let kept: Vec<usize> = (0..head.columns.len()).filter(says).collect();
    let pick = |cells: &[String]| kept.iter().map(|&column| cells[column].clone()).collect();
    show::Head {
        columns: pick(&head.columns),
        rows: head.rows.iter().map(|row| pick(row)).collect(),
        total: head.total,
    }
}

/// Where an object lies, as people type it. Not by way of its URL: a key may hold percent signs of its own.
fn place_in(store: &Store, key: &str) -> String {
    match store.folder() {
        Some(folder) => folder.join(key).display().to_string(),
        None => store.url_of(key),
    }
}

/// Figures by match.
fn figures(matches: &[MatchRecord]) -> String {
    let columns = ["match", "recordings", "frames", "gaps", "detections", "tracks", "players"].map(str::to_owned);
    let row = |m: &MatchRecord| {
        let numbers = [m.recordings.len() as u64, m.frames, m.gap_frames, m.detections, m.tracks, m.players];
        std::iter::once(m.id.to_string()).chain(numbers.map(count)).collect()
    };
    let mut text = table(&columns, &matches.iter().take(MATCHES).map(row).collect::<Vec<_>>());
    if matches.len() > MATCHES {
        text.push_str(&format!("  … and {} more\n", plural((matches.len() - MATCHES) as u64, "match")));
    }
    text
}

/// A line for a shell. Quotes in a path end neither the SQL string nor the shell's.
fn duckdb(root: &str) -> String {
    let glob = format!("{root}/tracks/*/*/*.parquet").replace('\'', "''");
    let sql = format!("SELECT season, match, class, count(*) AS tracks FROM '{glob}' GROUP BY ALL ORDER BY ALL");
    let quoted: String =
        sql.chars().flat_map(|c| matches!(c, '"' | '$' | '`' | '\\').then_some('\\').into_iter().chain([c])).collect();
    format!("duckdb -c \"{quoted}\"")
}

/// The job below `out` that finished last.
async fn newest(out: &Store) -> Result<Option<String>, StoreError> {
    let list = out.object_store().list_with_delimiter(Some(&Path::from("jobs"))).await.map_err(|source| {
        StoreError::Object { action: "list", url: out.url().to_string(), key: "jobs".to_owned(), source }
    })?;
    let mut newest = None;
    for job in list.common_prefixes.iter().filter_map(|prefix| prefix.filename()) {
        if let Some(meta) = out.head(&keys::job::manifest(job, 1)).await? {
            newest = newest.max(Some((meta.last_modified, job.to_owned())));
        }
    }
    Ok(newest.map(|(_, job)| job))
}

/// `fulltime results`.
///
/// # Errors
/// No such job, or not finished.
pub async fn results(args: ResultsArgs) -> Result<Exit, Failure> {
    let nothing = |cause: String| {
        Failure::new(Exit::Usage, cause, "look below jobs/ there for the jobs; `fulltime status` tells of running ones")
    };
    let job = match args.job {
        Some(job) => job,
        None => {
            let newest = newest(&Store::open(&args.out)?).await?;
            newest.ok_or_else(|| nothing(format!("no job has finished below `{}`", args.out)))?
        }
    };
    let results = Results::of(&args.out, &job).await?;
    let results = results.ok_or_else(|| nothing(format!("job `{job}` has not finished below `{}`", args.out)))?;
    if args.json {
        println!("{}", serde_json::json!({ "manifest": results.manifest_url(), "content": results.manifest }));
    } else {
        println!("{job}\n\n{}", results.describe(&args.table, args.rows).await?.trim_end());
        for quarantined in &results.manifest.quarantined {
            println!("! {quarantined}");
        }
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use fulltime_common::plan::MatchId;

    use super::*;

    #[test]
    fn the_query_survives_shell_and_sql() {
        let line = duckdb("/data/it's $HOME");
        assert!(line.contains("FROM '/data/it''s \\$HOME/tracks/*/*/*.parquet'"), "{line}");
    }

    #[tokio::test]
    async fn the_preview_that_is_named_is_the_file_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let out = Store::create(&dir.path().display().to_string()).unwrap();
        let key = keys::job::preview("j", 1, &MatchId { season: "2024".into(), name: "cup/a b".into() });
        out.put(&key, "jpeg").await.unwrap();
        assert_eq!(std::fs::read(place_in(&out, &key)).unwrap(), b"jpeg");
    }

    #[tokio::test]
    async fn a_place_without_a_finished_job_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().display().to_string();
        let args = ResultsArgs { job: None, out, table: "players".into(), rows: 3, json: false };
        let failure = results(args).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.cause.contains("no job has finished"), "{}", failure.cause);
    }
}
