//! What a schedule runs on: the season, where its objects lie, a cluster over them, and the tables of an undisturbed run.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fulltime_common::{keys, store::Store, wire::JobState};
use fulltime_tests::{
    cluster::{Cluster, Shape},
    files, render,
    s3::Gateway,
    shipped_pipeline, start_command,
};
use tokio::runtime::Runtime;

use crate::{
    PATIENCE, TICK,
    schedule::Ground,
    verdict::{self, Tables},
};

/// The generation of a job that nobody retries.
const GENERATION: u32 = 1;
/// Megabytes for the results in folders.
const SMALL_DISK: u32 = 64;
/// Time that the sim engine takes for a picture.
const ITEM: Duration = Duration::from_millis(12);
/// No schedule stops a lane alone, and on a machine that has much else to do a picture may take seconds.
const STALL: Duration = Duration::from_secs(20);

/// See the module.
pub struct Grounds {
    dir: PathBuf,
    archive: PathBuf,
    /// Started for the first schedule that needs it; `Some(None)` where there is none.
    gateway: Option<Option<Gateway>>,
    pub expected: Tables,
    runtime: Runtime,
}

/// A cluster with a job, ready to suffer.
pub struct Ordeal {
    pub cluster: Cluster,
    pub job: String,
    results: Store,
}

impl Grounds {
    /// Makes the season and runs it once, undisturbed, in folders.
    pub fn prepare(dir: &Path) -> Self {
        let (archive, calm) = (dir.join("archive"), dir.join("undisturbed"));
        season(&archive);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut grounds = Self { dir: dir.to_owned(), archive, gateway: None, expected: Tables::new(), runtime };
        let shape = Shape { coordinators: 1, sim_item: Duration::ZERO, stall: STALL, ..Shape::default() };
        let ordeal = Ordeal::begin(&calm, &shape, &grounds.archive);
        let begin = Instant::now();
        while !grounds.is_finished(&ordeal) {
            assert!(begin.elapsed() < PATIENCE, "the undisturbed job does not finish:\n{}", ordeal.cluster.logs());
            std::thread::sleep(TICK);
        }
        grounds.expected = grounds.tables(&ordeal);
        grounds
    }

    /// A cluster and a job for this seed, in a folder of their own. Everything about it can be hurt.
    pub fn ordeal(&mut self, seed: u64, workers: usize, coordinators: usize) -> Ordeal {
        let folder = self.folder(seed);
        let shape = Shape { workers, coordinators, sim_item: ITEM, stall: STALL, ..Shape::default() };
        let shape = Shape { clocks: true, network: true, ..shape };
        let bucket = match Ground::of(seed) {
            Ground::Folders => None,
            Ground::Bucket => self.gateway().map(|gateway| gateway.bucket(&format!("seed-{seed}"))),
        };
        let Some(bucket) = bucket else {
            let shape = Shape { small_disk: Some(SMALL_DISK), ..shape };
            return Ordeal::begin(&folder, &shape, &self.archive);
        };
        // An archive of its own for each: what one schedule leaves behind must not help the next.
        let place = bucket.below("archive");
        self.runtime.block_on(upload(&self.archive, &place.open()));
        Ordeal::begin(&folder, &Shape { bucket: Some(bucket), ..shape }, Path::new(&place.url))
    }

    pub fn folder(&self, seed: u64) -> PathBuf {
        self.dir.join(format!("seed-{seed}"))
    }

    fn gateway(&mut self) -> Option<&Gateway> {
        self.gateway.get_or_insert_with(Gateway::start).as_ref()
    }

    pub fn is_finished(&self, ordeal: &Ordeal) -> bool {
        let manifest = keys::job::manifest(&ordeal.job, GENERATION);
        self.runtime.block_on(ordeal.results.exists(&manifest)).expect("the store is there")
    }

    pub fn tables(&self, ordeal: &Ordeal) -> Tables {
        self.runtime.block_on(verdict::read(&ordeal.results, &ordeal.job, GENERATION))
    }
}

impl Ordeal {
    fn begin(folder: &Path, shape: &Shape, archive: &Path) -> Self {
        let cluster = Cluster::start(folder, shape);
        let template = "{match}/{ignore}_p{period}_{camera}.{ignore}";
        let more = ["--template", template, "--select", "**/*.{mp4,ts}", "--shard-length", "1s"];
        let job = cluster.submit(archive, &shipped_pipeline(), &more);
        let results = cluster.results();
        Self { cluster, job, results }
    }

    /// What the leader says of the job, if one answers.
    pub fn state(&self) -> Option<JobState> {
        let mut command = std::process::Command::new(fulltime_tests::binary("fulltime"));
        command.args(["status", &self.job, "--json", "--nats", &self.cluster.nats()]);
        let ended = start_command(&mut command).end();
        let answer: serde_json::Value = serde_json::from_str(ended.stdout.lines().last()?).ok()?;
        serde_json::from_value(answer["jobs"][0]["state"].clone()).ok()
    }

    /// The operator's word that a paused job may go on.
    pub fn resume(&self) {
        let _ = fulltime_tests::fulltime(&["resume", &self.job, "--nats", &self.cluster.nats()]);
    }
}

/// Three small matches, of one-second intervals.
fn season(archive: &Path) {
    for (name, more) in [("a", &["--halves", "2"][..]), ("b", &["--codec", "hevc"]), ("c", &["--container", "ts"])] {
        let small = ["--seed", "3", "--size", "320x180", "--gop", "25", "--duration", "8s"];
        render(&archive.join(name), name, &[&small, more].concat());
    }
}

async fn upload(archive: &Path, to: &Store) {
    for path in files(archive) {
        let key = path.strip_prefix(archive).expect("below it").to_str().expect("UTF-8");
        to.put(key, std::fs::read(&path).expect("read a recording")).await.expect("the gateway takes it");
    }
}
