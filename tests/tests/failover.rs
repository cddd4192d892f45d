//! Parts of a cluster die, stop, or wake up too late; the job goes on, and its tables are those of an undisturbed run.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
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
const HUNG: Duration = Duration::from_secs(90);
const TEMPLATE: &str = "{match}/{ignore}_p{period}_{camera}.{ignore}";

/// Recordings with intervals of a second, and the tables of an undisturbed run over them.
struct Season {
    archive: PathBuf,
    expected: BTreeMap<String, Digest>,
    _dir: tempfile::TempDir,
}

fn season() -> &'static Season {
    static SEASON: OnceLock<Season> = OnceLock::new();
    SEASON.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let archive = dir.path().join("archive");
        let small = ["--seed", "3", "--size", "320x180", "--gop", "25"];
        render(&archive.join("a"), "a", &[&small[..], &["--duration", "10s", "--halves", "2"]].concat());
        render(&archive.join("b"), "b", &[&small[..], &["--duration", "8s", "--container", "ts"]].concat());
        let shape = Shape { coordinators: 1, sim_item: Duration::ZERO, ..Shape::default() };
        let cluster = Cluster::start(&dir.path().join("undisturbed"), &shape);
        let job = submit(&cluster, &archive);
        let expected = cluster.tables(&job, HUNG);
        Season { archive, expected, _dir: dir }
    })
}

fn submit(cluster: &Cluster, archive: &Path) -> String {
    let more = ["--template", TEMPLATE, "--select", "**/*.{mp4,ts}", "--shard-length", "1s"];
    cluster.submit(archive, &shipped_pipeline(), &more)
}

/// A cluster whose shards take about a second each.
fn slow(dir: &Path, more: Shape) -> Cluster {
    Cluster::start(dir, &Shape { sim_item: Duration::from_millis(40), ..more })
}

async fn events(cluster: &Cluster) -> BoxStream<'static, Event> {
    let bus = JetStream::connect(&cluster.nats()).await.expect("connect");
    bus.events().await.expect("events")
}

/// The next event for which `wanted` holds.
async fn heard(events: &mut BoxStream<'static, Event>, wanted: impl Fn(&Event) -> bool) -> Event {
    let next = async {
        loop {
            let event = events.next().await.expect("the events go on");
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(HUNG, next).await.expect("it is said in time")
}

/// Which coordinator leads, by the latest epoch object.
fn leader(cluster: &Cluster) -> Option<usize> {
    let latest = files(&cluster.dir.join("state/epoch")).pop()?;
    let entry: Value = serde_json::from_slice(&std::fs::read(latest).ok()?).ok()?;
    let name = entry["leader"].as_str()?;
    let led_by = |pid: u32| name.split(|c: char| !c.is_ascii_digit()).any(|word| word == pid.to_string());
    cluster.coordinators.iter().position(|part| part.pid().is_some_and(led_by))
}

fn epochs(cluster: &Cluster) -> usize {
    files(&cluster.dir.join("state/epoch")).len()
}

#[tokio::test]
async fn the_shard_of_a_killed_worker_runs_again_within_its_lease_and_two_seconds() {
    let (season, dir) = (season(), tempfile::tempdir().unwrap());
    let lease = Duration::from_secs(3);
    let mut cluster = slow(dir.path(), Shape { workers: 2, lease, ..Shape::default() });
    let mut events = events(&cluster).await;
    let job = submit(&cluster, &season.archive);
    heard(&mut events, |event| matches!(&event.kind, EventKind::Committed(o) if o.detections > 0)).await;
    let lost = heard(&mut events, |event| event.worker == "worker-0" && event.kind == EventKind::Started).await;
    cluster.workers[0].kill();
    let killed = Instant::now();
    heard(&mut events, |event| event.digest == lost.digest && event.worker == "worker-1").await;
    let after = killed.elapsed();
    assert!(after <= lease + Duration::from_secs(2), "taken over after {after:?}");
    assert_eq!(cluster.tables(&job, HUNG), season.expected);
}

#[tokio::test]
async fn dispatch_goes_on_within_five_seconds_of_the_leaders_death() {
    let (season, dir) = (season(), tempfile::tempdir().unwrap());
    let mut cluster = slow(dir.path(), Shape::default());
    let mut events = events(&cluster).await;
    let job = submit(&cluster, &season.archive);
    heard(&mut events, |event| matches!(&event.kind, EventKind::Committed(o) if o.detections > 0)).await;
    let leading = leader(&cluster).expect("somebody leads");
    let reigns = epochs(&cluster);
    cluster.coordinators[leading].kill();
    let killed = Instant::now();
    let taken_over = wait_until(HUNG, || epochs(&cluster) > reigns);
    assert!(taken_over, "nobody takes over:\n{}", cluster.logs());
    // What the dead one released may still be running: only a release of the new one counts.
    let first = heard(&mut events, |event| event.kind == EventKind::Started).await;
    let after = killed.elapsed();
    assert!(after <= Duration::from_secs(5), "dispatch went on after {after:?}: {first:?}");
    assert_eq!(cluster.tables(&job, HUNG), season.expected);
    assert_ne!(leader(&cluster), Some(leading));
}

#[tokio::test]
async fn a_wiped_broker_heals_by_itself_and_every_decision_stands() {
    let (season, dir) = (season(), tempfile::tempdir().unwrap());
    let mut cluster = slow(dir.path(), Shape::default());
    let mut events = events(&cluster).await;
    let [running, paused, cancelled] = [(); 3].map(|()| submit(&cluster, &season.archive));
    heard(&mut events, |event| matches!(&event.kind, EventKind::Committed(o) if o.detections > 0)).await;
    let nats = cluster.nats();
    let _ = fulltime_tests::fulltime(&["pause", &paused, "--nats", &nats]).with_code(0);
    let _ = fulltime_tests::fulltime(&["cancel", &cancelled, "--nats", &nats]).with_code(0);
    cluster.broker.kill();
    std::fs::remove_dir_all(&cluster.broker_files).unwrap();
    std::fs::create_dir_all(&cluster.broker_files).unwrap();
    cluster.start_broker();
    assert_eq!(cluster.tables(&running, HUNG), season.expected);
    let state = |job: &str| {
        let ended = fulltime_tests::fulltime(&["status", job, "--json", "--nats", &nats]).with_code(0);
        ended.json()["jobs"][0]["state"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!((state(&paused).as_str(), state(&cancelled).as_str()), ("paused", "cancelled"));
    assert!(!cluster.manifest(&paused).exists() && !cluster.manifest(&cancelled).exists());
    let _ = fulltime_tests::fulltime(&["resume", &paused, "--nats", &nats]).with_code(0);
    assert_eq!(cluster.tables(&paused, HUNG), season.expected);
}

#[tokio::test]
async fn a_lane_that_stands_still_is_ended_and_its_shard_runs_elsewhere() {
    let (season, dir) = (season(), tempfile::tempdir().unwrap());
    let cluster = slow(dir.path(), Shape { workers: 2, ..Shape::default() });
    let mut events = events(&cluster).await;
    let job = submit(&cluster, &season.archive);
    heard(&mut events, |event| matches!(&event.kind, EventKind::Committed(o) if o.detections > 0)).await;
    let stuck = heard(&mut events, |event| event.worker == "worker-0" && event.kind == EventKind::Started).await;
    let lanes = fulltime_tests::children(cluster.workers[0].pid().unwrap(), "fulltime-worker");
    assert_eq!(lanes.len(), 1, "a lane process");
    fulltime_tests::kill(lanes[0], libc::SIGSTOP);
    heard(&mut events, |event| {
        event.digest == stuck.digest && event.worker == "worker-1" && matches!(event.kind, EventKind::Committed(_))
    })
    .await;
    assert_eq!(cluster.tables(&job, HUNG), season.expected);
}

#[tokio::test]
async fn a_worker_that_is_told_to_go_spends_no_budget() {
    let (season, dir) = (season(), tempfile::tempdir().unwrap());
    let mut cluster = slow(dir.path(), Shape { workers: 2, ..Shape::default() });
    let mut events = events(&cluster).await;
    let job = submit(&cluster, &season.archive);
    heard(&mut events, |event| event.worker == "worker-0" && event.kind == EventKind::Started).await;
    cluster.workers[0].signal(libc::SIGTERM);
    assert!(wait_until(HUNG, || !cluster.workers[0].runs()), "it goes");
    assert_eq!(cluster.tables(&job, HUNG), season.expected);
    let attempts = files(&cluster.out().join("jobs").join(&job).join("attempts"));
    assert_eq!(attempts, Vec::<PathBuf>::new());
}
