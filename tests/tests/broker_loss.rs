//! The broker loses what it had, or finds it damaged, while one job runs, one is paused, one is cancelled, and one is
//! half-way through the search for its bad interval. Objects know better: everything goes on as decided, by itself, to the
//! same bytes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use fulltime_common::{
    Digest,
    queue::{Bus as _, JetStream},
    wire::{Event, EventKind},
};
use fulltime_tests::{
    cluster::{Cluster, Shape, wait_until},
    files, render, shipped_pipeline,
};
use futures::{StreamExt as _, stream::BoxStream};
use serde_json::Value;

/// Longest time that anything here may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(120);
/// Recordings of the jobs, each with intervals of a second, and how long their shards are.
const JOBS: [(&str, &str, &str); 4] =
    [("running", "10s", "1s"), ("paused", "8s", "1s"), ("cancelled", "8s", "1s"), ("bisected", "8s", "whole")];
/// The interval of the last one that kills whoever decodes it: frames 50 to 75.
const BAD: u64 = 2;

/// An archive for each job, and the tables of undisturbed runs.
struct Season {
    dir: tempfile::TempDir,
    expected: BTreeMap<&'static str, BTreeMap<String, Digest>>,
}

impl Season {
    fn archive(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn shape(sim_item: Duration, archives: &Path) -> Shape {
    let recording = recording(&archives.join("bisected"));
    Shape { sim_item, poison: Some(format!("{recording}#{BAD}")), ..Shape::default() }
}

/// Key of the one recording of an archive.
fn recording(archive: &Path) -> String {
    let mut all = files(archive).into_iter().filter(|path| path.extension().is_some_and(|e| e == "mp4"));
    let path = all.next().expect("a recording");
    path.strip_prefix(archive).expect("below it").to_str().expect("UTF-8").to_owned()
}

fn season() -> &'static Season {
    static SEASON: OnceLock<Season> = OnceLock::new();
    SEASON.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (name, duration, _) in JOBS {
            let small = ["--seed", "3", "--size", "320x180", "--gop", "25", "--duration", duration];
            render(&dir.path().join(name), name, &small);
        }
        let calm = Cluster::start(&dir.path().join("undisturbed"), &shape(Duration::ZERO, dir.path()));
        let jobs = JOBS.map(|(name, _, length)| (name, submit(&calm, &dir.path().join(name), length)));
        let expected = jobs.iter().map(|(name, job)| (*name, calm.tables(job, HUNG))).collect();
        Season { expected, dir }
    })
}

fn submit(cluster: &Cluster, archive: &Path, length: &str) -> String {
    cluster.submit(archive, &shipped_pipeline(), &["--select", "**/*.mp4", "--shard-length", length])
}

/// Waits until some shard of the job has been committed.
async fn begun(events: &mut BoxStream<'static, Event>, job: &str) {
    let next = async {
        loop {
            let event = events.next().await.expect("the events go on");
            if event.job == job && matches!(&event.kind, EventKind::Committed(outcome) if outcome.detections > 0) {
                return;
            }
        }
    };
    tokio::time::timeout(HUNG, next).await.expect("it begins in time");
}

async fn everything_goes_on_after(harm: impl FnOnce(&Path)) {
    let (season, dir) = (season(), tempfile::tempdir().expect("a temporary folder"));
    let mut cluster = Cluster::start(dir.path(), &shape(Duration::from_millis(25), season.dir.path()));
    let bus = JetStream::connect(&cluster.nats()).await.expect("connect");
    let mut events = bus.events().await.expect("events");
    let submit = |cluster: &Cluster, name: &str| {
        let (_, _, length) = JOBS.into_iter().find(|(job, ..)| *job == name).expect("one of the jobs");
        submit(cluster, &season.archive(name), length)
    };
    let paused = submit(&cluster, "paused");
    begun(&mut events, &paused).await;
    let _ = cluster.ask(&["pause", &paused]);
    let cancelled = submit(&cluster, "cancelled");
    begun(&mut events, &cancelled).await;
    let _ = cluster.ask(&["cancel", &cancelled]);
    let bisected = submit(&cluster, "bisected");
    let own = |job: &str, folder: &str| files(&cluster.out().join("jobs").join(job).join(folder));
    assert!(wait_until(HUNG, || !own(&bisected, "splits").is_empty()), "the search begins:\n{}", cluster.logs());
    let running = submit(&cluster, "running");
    begun(&mut events, &running).await;
    assert!(own(&bisected, "quarantine").is_empty(), "the search is not over yet");
    let unfinished = [&running, &paused, &cancelled, &bisected].iter().all(|job| !cluster.manifest(job).exists());
    assert!(unfinished, "all of them have something left to do");
    cluster.hurt_broker(harm);

    assert_eq!(cluster.tables(&running, HUNG), season.expected["running"]);
    assert_eq!(cluster.tables(&bisected, HUNG), season.expected["bisected"]);
    let manifest: Value = serde_json::from_slice(&fs::read(cluster.manifest(&bisected)).expect("read")).expect("JSON");
    let quarantined = manifest["quarantined"].as_array().expect("a list");
    let bad = serde_json::json!({ "start": 25 * BAD, "end": 25 * (BAD + 1) });
    assert!(quarantined.len() == 1 && quarantined[0]["frames"] == bad, "exactly the bad interval: {manifest:#}");

    let states = [&paused, &cancelled].map(|job| cluster.state(job));
    assert_eq!(states, ["paused", "cancelled"]);
    assert!(!cluster.manifest(&paused).exists() && !cluster.manifest(&cancelled).exists());
    let _ = cluster.ask(&["resume", &paused]);
    assert_eq!(cluster.tables(&paused, HUNG), season.expected["paused"]);
    assert_eq!(cluster.state(&cancelled), "cancelled");
    assert!(!cluster.manifest(&cancelled).exists(), "dead it stays");
}

#[tokio::test]
async fn a_broker_that_lost_its_whole_storage() {
    everything_goes_on_after(|storage| fs::remove_dir_all(storage).unwrap()).await;
}

#[tokio::test]
async fn a_broker_with_random_bits_flipped_in_all_its_files() {
    everything_goes_on_after(|storage| {
        let mut random = fastrand::Rng::with_seed(11);
        for path in files(storage) {
            flip(&path, &mut random).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    })
    .await;
}

/// A few bits of a file.
fn flip(path: &Path, random: &mut fastrand::Rng) -> std::io::Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let size = file.metadata()?.len();
    for _ in 0..if size == 0 { 0 } else { 3 } {
        let (at, mut byte) = (SeekFrom::Start(random.u64(0..size)), [0]);
        file.seek(at)?;
        file.read_exact(&mut byte)?;
        byte[0] ^= 1 << random.u8(0..8);
        file.seek(at)?;
        file.write_all(&byte)?;
    }
    Ok(())
}
