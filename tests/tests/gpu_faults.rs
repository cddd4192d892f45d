//! GPUs that go bad in the middle of a job: real processes, a real broker, the sim engine on GPUs that only a stand-in for
//! NVIDIA's library knows. Nothing is charged to a shard for its lane's device, and the tables are those of healthy ones.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use fulltime_common::{
    Digest, Disposition,
    queue::{Bus as _, JetStream},
    wire::{Event, EventKind},
};
use fulltime_tests::{
    binary,
    cluster::{Cluster, Shape, wait_until},
    files, render, shipped_pipeline,
};
use futures::StreamExt as _;
use serde_json::Value;

/// Longest time that anything here may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(120);

/// A recording with intervals of a second, and the tables of a run on healthy processors.
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
        render(&archive, "a", &["--seed", "3", "--size", "320x180", "--gop", "25", "--duration", "16s"]);
        let shape = Shape { coordinators: 1, workers: 1, sim_item: Duration::ZERO, ..Shape::default() };
        let cluster = Cluster::start(&dir.path().join("healthy"), &shape);
        let job = submit(&cluster, &archive);
        let expected = cluster.tables(&job, HUNG);
        Season { archive, expected, _dir: dir }
    })
}

fn submit(cluster: &Cluster, archive: &Path) -> String {
    cluster.submit(archive, &shipped_pipeline(), &["--select", "**/*.mp4", "--shard-length", "1s"])
}

/// Workers with so many GPUs each. The first GPU throws `xid` when the file `fault` is there, once.
fn start(dir: &Path, workers: usize, gpus: usize, xid: u32) -> Option<Cluster> {
    let library = binary("fulltime-worker").with_file_name("libfulltime_fakenvml.so");
    if !library.is_file() {
        eprintln!("skipped: no libfulltime_fakenvml.so beside the binaries (cargo build --workspace)");
        return None;
    }
    let mut script = "driver = \"550.127.05\"\ncuda = 12040\n".to_owned();
    for gpu in 0..gpus {
        script.push_str(&format!("\n[[gpu]]\nuuid = \"GPU-{gpu}\"\npci = \"0000:{gpu:02x}:00.0\"\n"));
        if gpu == 0 {
            script.push_str(&format!("\n[[gpu.xid]]\ncode = {xid}\nwhen_file = {:?}\n", dir.join("fault")));
        }
    }
    fs::create_dir_all(dir).expect("make a folder");
    fs::write(dir.join("machine.toml"), script).expect("write the script");
    let env = [
        ("FULLTIME_NVML", library.to_str().expect("UTF-8").to_owned()),
        ("FULLTIME_FAKE_NVML", dir.join("machine.toml").to_str().expect("UTF-8").to_owned()),
        ("FULLTIME_GPUS", "all".to_owned()),
    ];
    let worker_env = env.map(|(name, value)| (name.to_owned(), value)).into();
    let sim_item = Duration::from_millis(60);
    Some(Cluster::start(
        dir,
        &Shape { coordinators: 1, workers, lanes: gpus, sim_item, worker_env, ..Shape::default() },
    ))
}

/// The lanes of a worker as `fulltime status` shows them.
fn lanes(cluster: &Cluster, worker: &str) -> Vec<Value> {
    let status = cluster.ask(&["status"]);
    let workers = status["workers"].as_array().cloned().unwrap_or_default();
    let found = workers.into_iter().find(|known| known["worker"] == worker);
    found.and_then(|worker| worker["places"].as_array().cloned()).unwrap_or_default()
}

fn busy(cluster: &Cluster, worker: &str) -> usize {
    let status = cluster.ask(&["status"]);
    let workers = status["workers"].as_array().cloned().unwrap_or_default();
    let lanes = workers.iter().filter(|known| known["worker"] == worker).filter_map(|known| known["lanes"].as_array());
    lanes.flatten().filter(|lane| !lane["task"].is_null()).count()
}

/// Writes down all that is said from now on.
async fn events(cluster: &Cluster) -> Arc<Mutex<Vec<Event>>> {
    let bus = JetStream::connect(&cluster.nats()).await.expect("connect");
    let mut stream = bus.events().await.expect("events");
    let heard = Arc::new(Mutex::new(Vec::new()));
    let book = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Some(event) = stream.next().await {
            book.lock().expect("the book").push(event);
        }
    });
    heard
}

/// Failures of map tasks that were laid to a device, with what was committed afterwards.
fn stopped<'a>(events: &'a [Event], words: &str) -> Vec<&'a Event> {
    let of_device = |event: &&Event| match &event.kind {
        EventKind::Failed { disposition, cause, .. } => {
            // A lane that stood idle may have tried it, too, and was called off.
            assert!(matches!(disposition, Disposition::PreEmpted | Disposition::Cancelled), "{cause}");
            cause.contains(words)
        }
        EventKind::Started | EventKind::Committed(_) => false,
    };
    let found: Vec<_> = events.iter().filter(of_device).collect();
    for failed in &found {
        let committed = |event: &&Event| event.digest == failed.digest && matches!(event.kind, EventKind::Committed(_));
        assert_eq!(events.iter().filter(committed).count(), 1, "another lane has done it");
    }
    found
}

fn nothing_was_charged(cluster: &Cluster, job: &str) {
    let attempts = files(&cluster.out().join("jobs").join(job).join("attempts"));
    assert_eq!(attempts, Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_falls_off_the_bus_takes_its_lane_along_and_no_shard() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let season = season();
    let Some(cluster) = start(dir.path(), 1, 2, 79) else { return };
    let job = submit(&cluster, &season.archive);
    let heard = events(&cluster).await;
    assert!(wait_until(HUNG, || busy(&cluster, "worker-0") == 2), "{}", cluster.logs());
    let before = lanes(&cluster, "worker-0");
    assert_eq!(before.len(), 2);
    assert!(before.iter().all(|lane| lane["works"] == true && lane["health"] == "well"), "{before:?}");
    assert_eq!(before[1]["gpu"], "1 NVIDIA H100 80GB HBM3");

    fs::write(dir.path().join("fault"), "").expect("throw the Xid");
    let sick = || lanes(&cluster, "worker-0").first().is_some_and(|lane| lane["works"] == false);
    assert!(wait_until(HUNG, sick), "{}", cluster.logs());
    let after = lanes(&cluster, "worker-0");
    assert_eq!(after[0]["health"], "sick: Xid 79: the GPU has fallen off the bus");
    assert_eq!(after[1]["works"], true);

    assert_eq!(cluster.tables(&job, HUNG), season.expected);
    nothing_was_charged(&cluster, &job);
    let events = heard.lock().expect("the book").clone();
    assert_eq!(stopped(&events, "lane 0 was stopped: Xid 79").len(), 1, "{}", cluster.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_healthy_gpu_goes_and_another_one_does_its_work() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let season = season();
    let Some(mut cluster) = start(dir.path(), 2, 1, 119) else { return };
    // The second worker's GPU is another one, and stays well.
    let healthy = fs::read_to_string(dir.path().join("machine.toml")).expect("the script");
    let healthy = healthy.split("\n[[gpu.xid]]").next().unwrap_or_default().replace("GPU-0", "GPU-other");
    let script = dir.path().join("healthy.toml");
    fs::write(&script, healthy).expect("write the script");
    cluster.workers[1].kill();
    cluster.workers[1].set_env("FULLTIME_FAKE_NVML", script.to_str());
    cluster.workers[1].start();

    let job = submit(&cluster, &season.archive);
    let heard = events(&cluster).await;
    assert!(wait_until(HUNG, || busy(&cluster, "worker-0") == 1), "{}", cluster.logs());
    fs::write(dir.path().join("fault"), "").expect("throw the Xid");
    assert!(wait_until(HUNG, || !cluster.workers[0].runs()), "{}", cluster.logs());
    let words = cluster.workers[0].log();
    assert!(words.contains("this worker has no lane left") && words.contains("fix: reset the GPUs"), "{words}");

    assert_eq!(cluster.tables(&job, HUNG), season.expected);
    nothing_was_charged(&cluster, &job);
    let events = heard.lock().expect("the book").clone();
    let handed_back = stopped(&events, "lane 0 was stopped: Xid 119");
    assert!(handed_back.iter().all(|event| event.worker == "worker-0"));
    assert!(cluster.workers[1].runs(), "the other one is well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubtful_gpu_gets_work_again_after_its_canary_has_given_the_known_answers() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let season = season();
    let Some(cluster) = start(dir.path(), 1, 2, 94) else { return };
    let job = submit(&cluster, &season.archive);
    let heard = events(&cluster).await;
    // By then the answers are known from a lane that was well.
    let two_done =
        || files(&dir.path().join("out/store/shards")).iter().filter(|f| f.ends_with("index.json")).count() >= 2;
    assert!(wait_until(HUNG, || two_done() && busy(&cluster, "worker-0") == 2), "{}", cluster.logs());
    fs::write(dir.path().join("fault"), "").expect("throw the Xid");
    let says = |words: &str| cluster.workers[0].log().contains(words);
    assert!(wait_until(HUNG, || says("a lane works again")), "{}", cluster.logs());
    assert!(says("suspect: Xid 94: contained memory error") && says("a canary came back"), "{}", cluster.logs());
    assert!(wait_until(HUNG, || lanes(&cluster, "worker-0").iter().all(|lane| lane["works"] == true)));
    assert_eq!(cluster.tables(&job, HUNG), season.expected);
    nothing_was_charged(&cluster, &job);
    let events = heard.lock().expect("the book").clone();
    assert_eq!(stopped(&events, "lane 0 was stopped: Xid 94").len(), 1, "{}", cluster.logs());
}
