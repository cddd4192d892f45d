//! From flags or a job file to a job that a coordinator can take up: read, resolved, checked as far as this machine can
//! see, then stored. `run` and `submit` call it; nothing is written before everything has been checked.

use std::path::{Path, PathBuf};

use fulltime_common::{
    Digest,
    error::{Exit, Explain, Failure},
    keys,
    spec::{Job, JobSpec, Registered, TableRow},
    store::{Store, StoreError, resolve_url},
    wire::Band,
};
use fulltime_coordinator::{
    holdings,
    matching::{self, Listed},
};

use crate::{
    args::JobArgs,
    document::{Document, DocumentError},
    given::{self, GivenError},
    pipeline::{self, Loaded},
};

/// Why there is no job.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error(transparent)]
    File(#[from] DocumentError),
    #[error("`{0}` is not a name for a job")]
    BadName(String),
    #[error("read match table `{}`", file.display())]
    Table { file: PathBuf, source: csv::Error },
    #[error(transparent)]
    Given(#[from] GivenError),
    #[error("`max_gpu_hours` is {0}")]
    BadHours(f64),
    #[error("`tenant` is empty")]
    NoTenant,
    #[error("`cost` has a figure of {0}")]
    BadCost(f64),
    #[error("`webhook` is `{0}`")]
    BadWebhook(String),
    #[error("the job file names a template and a table")]
    TemplateAndTable,
    #[error("archive `{folder}` is not a folder")]
    NoArchive { folder: String },
    #[error("look into archive `{url}`")]
    Archive { url: String, source: StoreError },
    #[error("there is no job `{job}` below `{out}`")]
    NoSuchJob { job: String, out: String },
    #[error("write the job file")]
    Source(#[from] toml::ser::Error),
}

impl Explain for JobError {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            Self::Given(error) => error.exit(),
            Self::BadName(_)
            | Self::Table { .. }
            | Self::BadHours(_)
            | Self::NoTenant
            | Self::BadWebhook(_)
            | Self::BadCost(_)
            | Self::TemplateAndTable
            | Self::NoSuchJob { .. } => Exit::Usage,
            Self::NoArchive { .. } => Exit::Archive,
            Self::Archive { source, .. } => match source.exit() {
                Exit::Usage => Exit::Usage,
                _ => Exit::Archive,
            },
            Self::Source(_) => Exit::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::File(error) => return error.hint(),
            Self::Given(error) => return error.hint(),
            Self::Archive { source, .. } => return source.hint(),
            Self::NoArchive { .. } => "check the path; --archive takes the folder or URL that the recordings lie below",
            Self::BadName(_) => "use letters, digits and dashes, beginning with a letter or digit, up to 60",
            Self::Table { .. } => {
                "a CSV file with the header file,season,match[,period,camera,offset] is needed, relative to the job file"
            }
            Self::BadHours(_) => "give a number above 0 and at most 1000000000, or leave it out for no limit",
            Self::NoTenant => "name the tenant whose account the job runs on, or leave it out",
            Self::BadCost(_) => "give prices and watts as numbers of 0 or more",
            Self::BadWebhook(_) => "give a whole URL that begins with http:// or https://",
            Self::TemplateAndTable => "keep one of them under [matches]",
            Self::NoSuchJob { .. } => "look below jobs/ there for the ids of its jobs",
            Self::Source(_) => return None,
        };
        Some(hint.to_owned())
    }
}

/// A job that has passed every check that needs no worker, with the places it lives in.
#[derive(Debug)]
pub struct Submission {
    pub job: Job,
    out: Store,
    store: Store,
    state: Store,
    /// What is stored for a new job; a resumed one has it all.
    fresh: Option<Fresh>,
}

#[derive(Debug)]
struct Fresh {
    source: String,
    loaded: Loaded,
}

/// Where the coordinator's state lies when nobody says.
#[derive(Debug, Clone, Copy)]
pub enum DefaultState {
    /// `{out}/state`, shared by all jobs of a coordinator.
    Shared,
    /// Below the job: for a coordinator that serves it alone.
    Private,
}

/// Reads and checks everything.
///
/// # Errors
/// The first thing that is wrong, with what to do about it.
pub async fn prepare(args: &JobArgs, state: Option<&str>, default: DefaultState) -> Result<Submission, Failure> {
    let (job, fresh) = match &args.resume {
        Some(id) => (stored(id, args.out.as_deref().unwrap_or_default()).await?, None),
        None => {
            let draft = Draft::new(args)?;
            let loaded = pipeline::load(&draft.pipeline())?;
            let job = draft.resolve(loaded.pipeline.digest())?;
            (job, Some(Fresh { source: draft.source, loaded }))
        }
    };
    check_archive(&job).await?;
    let state = match (state, default) {
        (Some(url), _) => resolve_url(url)?.to_string(),
        (None, DefaultState::Shared) => format!("{}/state", job.out),
        (None, DefaultState::Private) => format!("{}/{}", job.out, keys::job::private_state(&job.id)),
    };
    let out = Store::create(&job.out)?;
    out.probe_writable().await?;
    let store = Store::create(&job.store)?;
    if job.store != format!("{}/store", job.out) {
        store.probe_writable().await?;
    }
    Ok(Submission { state: Store::create(&state)?, job, out, store, fresh })
}

impl Submission {
    /// URL of the coordinator's state.
    #[must_use]
    pub fn state(&self) -> &str {
        self.state.url().as_str()
    }

    /// Stores models, pipeline and job; the registry entry, which makes the job exist, comes last. `say` hears of long
    /// uploads.
    ///
    /// # Errors
    /// Whatever the stores say.
    pub async fn store(&mut self, say: impl Fn(String)) -> Result<(), StoreError> {
        let id = &self.job.id;
        holdings::announce(&self.store, &self.job.out).await?;
        if let Some(Fresh { source, loaded }) = self.fresh.take() {
            pipeline::upload(&loaded, &self.store, &say).await?;
            self.out.put_once(&keys::job::source(id), source.into_bytes()).await?;
            self.out.put_json_once(&keys::job::spec(id), &self.job).await?;
            // What was found there may have been cleaned up before the job was there to keep it.
            pipeline::upload(&loaded, &self.store, &say).await?;
        }
        let registered = Registered { job: id.clone(), out: self.job.out.clone() };
        self.state.put_json_once(&keys::state::registry(id), &registered).await?;
        Ok(())
    }
}

/// A spec and the folder its relative paths start from.
struct Draft {
    spec: JobSpec,
    folder: PathBuf,
    /// The job file as written, or as it would have been.
    source: String,
}

impl Draft {
    fn new(args: &JobArgs) -> Result<Self, JobError> {
        let Some(path) = &args.job else {
            let spec = JobSpec {
                name: args.name.clone(),
                archive: args.archive.clone().unwrap_or_default(),
                out: args.out.clone().unwrap_or_default(),
                store: None,
                pipeline: args.pipeline.clone().unwrap_or_default(),
                select: args.select.clone(),
                shard_length: args.shard_length.unwrap_or_default(),
                priority: Band::default(),
                tenant: None,
                max_gpu_hours: None,
                window: None,
                webhook: None,
                cost: None,
                matches: fulltime_common::spec::MatchRule { template: args.template.clone(), ..Default::default() },
                squads: None,
                pitch: None,
            };
            return Ok(Self { source: toml::to_string(&spec)?, spec, folder: PathBuf::new() });
        };
        let document = Document::read("job file", path)?;
        let mut spec: JobSpec = document.parse("job file")?;
        if args.name.is_some() {
            spec.name.clone_from(&args.name);
        }
        Ok(Self { spec, folder: document.folder().to_owned(), source: document.text().to_owned() })
    }

    fn pipeline(&self) -> PathBuf {
        self.folder.join(&self.spec.pipeline)
    }

    fn resolve(&self, pipeline: Digest) -> Result<Job, Failure> {
        let spec = &self.spec;
        if spec.matches.template.is_some() && spec.matches.table.is_some() {
            return Err(JobError::TemplateAndTable.into());
        }
        let name = spec.name.as_deref().unwrap_or("job");
        if !is_name(name) {
            return Err(JobError::BadName(name.to_owned()).into());
        }
        if let Some(fault) = fault(spec) {
            return Err(fault.into());
        }
        let url = |text: &str| resolve_url(&below(&self.folder, text)).map(|url| url.to_string());
        let out = url(&spec.out)?;
        let submitted_at = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        Ok(Job {
            id: new_id(name, &submitted_at),
            archive: url(&spec.archive)?,
            store: spec.store.as_deref().map_or_else(|| Ok(format!("{out}/store")), url)?,
            out,
            select: spec.select.clone(),
            shard_length: spec.shard_length,
            template: spec.matches.template.clone(),
            table: spec.matches.table.as_ref().map(|path| read_table(&self.folder.join(path))).transpose()?,
            unmatched: spec.matches.unmatched,
            given: given::read(&self.folder, spec)?,
            priority: spec.priority,
            tenant: spec.tenant.clone(),
            max_gpu_hours: spec.max_gpu_hours,
            window: spec.window,
            webhook: spec.webhook.clone(),
            cost: spec.cost.clone(),
            trace: Some(new_trace()),
            pipeline,
            submitted_at,
        })
    }
}

/// What is wrong with a spec that reads well.
fn fault(spec: &JobSpec) -> Option<JobError> {
    let hours = spec.max_gpu_hours.filter(|hours| !(*hours > 0.0 && *hours <= 1e9)).map(JobError::BadHours);
    let tenant = spec.tenant.as_deref().is_some_and(|tenant| tenant.trim().is_empty()).then_some(JobError::NoTenant);
    let is_web = |text: &str| {
        let url = url::Url::parse(text);
        url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    };
    let webhook = spec.webhook.clone().filter(|text| !is_web(text)).map(JobError::BadWebhook);
    let figures = spec.cost.iter().flat_map(|cost| [cost.lane_hour, cost.lane_watts]).flatten();
    let cost = figures.into_iter().find(|figure| !(0.0..=1e9).contains(figure)).map(JobError::BadCost);
    hours.or(tenant).or(webhook).or(cost)
}

/// W3C `traceparent` of a new trace: everything that is done for the job can be found by it.
fn new_trace() -> String {
    // All zeros are forbidden.
    let (high, low, span) = (fastrand::u64(1..), fastrand::u64(..), fastrand::u64(1..));
    format!("00-{high:016x}{low:016x}-{span:016x}-01")
}

/// A relative folder in a job file starts at the file; URLs and absolute paths stay.
fn below(folder: &Path, text: &str) -> String {
    if text.contains("://") || text.is_empty() {
        return text.to_owned();
    }
    folder.join(text.strip_prefix("file:").unwrap_or(text)).display().to_string()
}

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=60).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('-')
}

/// `{name}-{UTC date}-{UTC time}-{4 hex}`: sorts by time, and two that start in the same second still differ.
fn new_id(name: &str, rfc3339: &str) -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The standard library seeds this from the operating system; it is all the randomness that an id needs.
    let random = std::hash::RandomState::new().build_hasher().finish() & 0xffff;
    let time: String = rfc3339.replace('T', "-").chars().filter(|c| c.is_ascii_digit() || *c == '-').collect();
    // 2026-11-03-101500 → 20261103-101500
    let (date, clock) = time.rsplit_once('-').unwrap_or((&time, ""));
    format!("{name}-{}-{clock}-{random:04x}", date.replace('-', ""))
}

fn read_table(file: &Path) -> Result<Vec<TableRow>, JobError> {
    let bad = |source| JobError::Table { file: file.to_owned(), source };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).comment(Some(b'#')).from_path(file).map_err(bad)?;
    reader.deserialize().collect::<Result<_, _>>().map_err(bad)
}

async fn stored(id: &str, out: &str) -> Result<Job, Failure> {
    let missing = || JobError::NoSuchJob { job: id.to_owned(), out: out.to_owned() };
    let job: Option<Job> = Store::open(out)?.get_json(&keys::job::spec(id)).await?;
    Ok(job.ok_or_else(missing)?)
}

/// The planner's own rules, applied before anything is started: an archive that is missing or empty, a template that
/// does not fit, two files for one camera.
async fn check_archive(job: &Job) -> Result<(), Failure> {
    let failed = |source| JobError::Archive { url: job.archive.clone(), source };
    let folder =
        resolve_url(&job.archive).ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(JobError::NoArchive { folder: folder.display().to_string() }.into());
    }
    let archive = Store::archive(&job.archive).map_err(failed)?;
    let objects = archive.list(None).await.map_err(failed)?;
    let listing =
        objects.into_iter().map(|o| Listed { key: o.location.to_string(), size: o.size, etag: o.e_tag }).collect();
    matching::match_list(job, listing)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_begins_with_the_name_and_sorts_by_time() {
        let id = new_id("season-24", "2026-11-03T10:15:00Z");
        assert!(id.starts_with("season-24-20261103-101500-"), "{id}");
        assert_eq!(id.rsplit('-').next().unwrap().len(), 4);
        assert!(is_name(&id));
        assert!(!is_name("../x") && !is_name("") && !is_name("-x") && !is_name("a b") && !is_name(&"x".repeat(61)));
    }

    #[test]
    fn folders_in_a_job_file_start_at_the_file() {
        assert_eq!(below(Path::new("/jobs"), "videos"), "/jobs/videos");
        assert_eq!(below(Path::new("/jobs"), "file:videos"), "/jobs/videos");
        assert_eq!(below(Path::new("/jobs"), "/data"), "/data");
        assert_eq!(below(Path::new("/jobs"), "s3://bucket/x"), "s3://bucket/x");
    }

    #[test]
    fn a_table_without_periods_means_first_half_and_main_camera() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("matches.csv");
        std::fs::write(&file, "file,season,match\n a.mp4 , 2024 , final \n").unwrap();
        let rows = read_table(&file).unwrap();
        assert_eq!((rows[0].file.as_str(), rows[0].name.as_str(), rows[0].period), ("a.mp4", "final", 1));
        assert_eq!(rows[0].camera, "main");
        std::fs::write(&file, "datei,match\na.mp4,final\n").unwrap();
        let text = fulltime_common::error::chain(&read_table(&file).unwrap_err());
        assert!(text.contains("missing field `file`"), "{text}");
    }

    #[test]
    fn limits_that_mean_nothing_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("job.toml");
        let resolve = |line: &str| {
            let text = format!("archive = \"a\"\nout = \"o\"\npipeline = \"p.toml\"\n{line}\n");
            std::fs::write(&file, text).unwrap();
            let draft =
                Draft::new(&JobArgs { job: Some(file.clone()), ..Default::default() }).map_err(Failure::from)?;
            draft.resolve(Digest::of_bytes(b"p"))
        };
        let job = resolve("window = \"22:00-06:00\"\nmax_gpu_hours = 1.5\ntenant = \"blue\"").unwrap();
        assert_eq!((job.window.unwrap().from, job.max_gpu_hours), (22 * 60, Some(1.5)));
        for (line, word) in [
            ("window = \"22-06\"", "job.toml:4:10: `22-06` is not a run window"),
            ("max_gpu_hours = 0.0", "`max_gpu_hours` is 0"),
            ("max_gpu_hours = nan", "`max_gpu_hours` is NaN"),
            ("tenant = \" \"", "`tenant` is empty"),
            ("webhook = \"ftp://x\"", "`webhook` is `ftp://x`"),
        ] {
            let failure = resolve(line).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.cause.contains(word) && failure.hint.is_some(), "{}", failure.cause);
        }
    }

    #[test]
    fn flags_become_the_job_file_that_would_have_said_the_same() {
        let args = JobArgs {
            archive: Some("videos".into()),
            out: Some("out".into()),
            pipeline: Some("p.toml".into()),
            shard_length: Some("2s".parse().unwrap()),
            ..Default::default()
        };
        let draft = Draft::new(&args).unwrap();
        assert_eq!(toml::from_str::<JobSpec>(&draft.source).unwrap(), draft.spec);
        let job = draft.resolve(Digest::of_bytes(b"p")).unwrap();
        assert!(job.archive.starts_with("file:///") && job.archive.ends_with("/videos"), "{}", job.archive);
        assert_eq!(job.store, format!("{}/store", job.out));
    }
}
