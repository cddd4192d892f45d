//! A small archive, stores in a temporary folder, and a worker that answers tasks the way real ones do, but whose videos
//! are made up: a file's text says how its recording behaves.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use fulltime_common::{
    Digest, Disposition, Exit,
    index::{Access, Codec, Interval, Packets, RecordingIndex},
    keys,
    pipeline::Pipeline,
    plan::{EngineClass, Gap, RecordingRef, ReduceInputs, ShardSpec},
    queue::{Bus, Delivery, MemoryBus},
    results::{MatchSummary, Part, RecordingSummary, ShardResult},
    spec::{Given, Job, Registered, ShardLength, Unmatched},
    store::Store,
    wire::{
        Band, Control, Event, EventKind, Evidence, Hello, JobStatus, LaneState, Outcome, Reply, Request, Task, TaskKind,
    },
};
use fulltime_coordinator::{Leadership, Policy, Service, manifest::Manifest};
use futures::StreamExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Everything must happen within this; nothing waits for it.
pub const SOON: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_millis(200);
const LEADER_LEASE: Duration = Duration::from_millis(600);
/// Frames of every made-up recording, in intervals of 25.
pub const FRAMES: u32 = 100;

/// Folders, registry and archive of one test.
pub struct Ground {
    pub folder: tempfile::TempDir,
    pub out: Store,
    pub store: Store,
    pub state: Store,
    pub archive: Store,
}

impl Ground {
    pub async fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let create = |name: &str| Store::create(folder.path().join(name).to_str().unwrap()).unwrap();
        let ground = Self {
            out: create("out"),
            store: create("out/store"),
            state: create("out/state"),
            archive: create("archive"),
            folder,
        };
        for (key, text) in files {
            ground.archive.put(key, text.as_bytes().to_vec()).await.unwrap();
        }
        ground
    }

    /// What `fulltime submit` stores.
    pub async fn submit(&self, id: &str) {
        self.submit_with(id, |_| ()).await;
    }

    pub async fn submit_with(&self, id: &str, change: impl FnOnce(&mut Job)) {
        let pipeline = pipeline();
        let mut job = Job {
            id: id.into(),
            archive: self.archive.url().to_string(),
            out: self.out.url().to_string(),
            store: self.store.url().to_string(),
            select: None,
            shard_length: ShardLength::Seconds(2.0),
            template: Some("{match}-h{period}.mp4".into()),
            table: None,
            unmatched: Unmatched::Refuse,
            given: Given::default(),
            priority: Band::Normal,
            tenant: None,
            max_gpu_hours: None,
            window: None,
            webhook: None,
            cost: None,
            trace: None,
            pipeline: pipeline.digest(),
            submitted_at: "2026-11-03T10:15:00Z".into(),
        };
        change(&mut job);
        self.store.put_json_once(&keys::store::pipeline(&pipeline.digest()), &pipeline).await.unwrap();
        self.out.put_json_once(&keys::job::spec(id), &job).await.unwrap();
        let registered = Registered { job: id.into(), out: job.out };
        self.state.put_json_once(&keys::state::registry(id), &registered).await.unwrap();
    }

    pub async fn manifest(&self, job: &str) -> Manifest {
        self.manifest_of(job, 1).await
    }

    pub async fn manifest_of(&self, job: &str, generation: u32) -> Manifest {
        self.out.get_json(&keys::job::manifest(job, generation)).await.unwrap().expect("a manifest")
    }

    pub fn is_file(&self, key: &str) -> bool {
        self.folder.path().join("out").join(key).is_file()
    }

    pub fn archive_path(&self) -> std::path::PathBuf {
        self.folder.path().join("archive")
    }
}

pub fn pipeline() -> Pipeline {
    let model = Digest::of_bytes(b"model");
    let json = serde_json::json!({
        "name": "test",
        "detect": {
            "model": {
                "name": "net",
                "file": { "path": "net.onnx", "sha256": model },
                "input": { "channels": "rgb", "size": [64, 64] },
                "output": { "head": "yolox", "strides": [8] },
                "classes": ["player"],
            },
            "settings": {},
        },
        "preview": {},
        "track": {},
    });
    serde_json::from_value(json).unwrap()
}

/// A running coordinator. Dropping it is a crash.
pub struct Coordinator {
    pub bus: MemoryBus,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Coordinator {
    pub fn start(ground: &Ground, bus: &MemoryBus) -> Self {
        let policy = Policy {
            unfit_grace: Duration::from_millis(200),
            // Distinct between the coordinators of one test, as seconds are between real ones.
            first_release: first_release(),
            ..Policy::new(LEASE)
        };
        let service = Service::new(Arc::new(bus.clone()), ground.state.clone(), policy);
        let service = service.with_leadership(Leadership { lease: LEADER_LEASE, alone: false });
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { service.run(stop).await.unwrap() });
        Self { bus: bus.clone(), shutdown, task }
    }

    pub async fn stop(mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap();
    }

    pub async fn ask(&self, request: Request) -> Reply {
        // The API opens while the coordinator starts.
        for _ in 0..1000 {
            match self.bus.request(&request).await {
                Ok(reply) => return reply,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        panic!("the coordinator does not answer");
    }

    pub async fn status(&self, job: &str) -> Option<JobStatus> {
        match self.ask(Request::Status { job: Some(job.into()) }).await {
            Reply::Status { mut jobs, .. } => jobs.pop(),
            _ => None,
        }
    }

    /// Polls the status until it is as wanted.
    pub async fn until(&self, job: &str, wanted: impl Fn(&JobStatus) -> bool) -> JobStatus {
        let mut last = None;
        let polling = async {
            loop {
                last = self.status(job).await;
                if let Some(status) = last.clone().filter(|status| wanted(status)) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let polled = tokio::time::timeout(SOON, polling).await;
        polled.unwrap_or_else(|_| panic!("job `{job}` does not get there: {last:#?}"))
    }

    pub async fn until_over(&self, job: &str) -> JobStatus {
        self.until(job, |status| status.state.is_over()).await
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn first_release() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1000, Ordering::Relaxed)
}

/// A made-up worker with one lane.
pub struct Worker {
    /// Tasks it has run (not found), by kind.
    pub ran: Arc<Mutex<BTreeMap<&'static str, u32>>>,
    pub stopped: Arc<Mutex<Vec<(Digest, u32)>>>,
    /// Shards wait for a permit where there are none left.
    pub shards: Arc<tokio::sync::Semaphore>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Worker {
    pub fn start(bus: &MemoryBus, name: &str) -> Self {
        Self::with_shards(bus, name, 1_000_000)
    }

    /// Runs so many shards and then waits for more permits.
    pub fn with_shards(bus: &MemoryBus, name: &str, shards: usize) -> Self {
        let ran = Arc::<Mutex<BTreeMap<&'static str, u32>>>::default();
        let stopped = Arc::<Mutex<Vec<(Digest, u32)>>>::default();
        let shards = Arc::new(tokio::sync::Semaphore::new(shards));
        let engine = EngineClass("made-up".into());
        let lane = Arc::new(Mutex::new(LaneState::default()));
        let body = Body {
            bus: bus.clone(),
            name: name.into(),
            engine: engine.clone(),
            lane: Arc::clone(&lane),
            ran: Arc::clone(&ran),
            shards: Arc::clone(&shards),
        };
        let (hello_bus, hello_name) = (bus.clone(), name.to_owned());
        let hello = tokio::spawn(async move {
            loop {
                let lanes = vec![lane.lock().unwrap().clone()];
                let (worker, host) = (hello_name.clone(), "here".into());
                let (engine, waiting) = (engine.clone(), Vec::new());
                let (draining, places, sample) = (false, vec![], None);
                let hello = Hello { worker, host, pid: 1, engine, lanes, waiting, draining, places, sample };
                hello_bus.hello(&hello).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let (control_bus, heard) = (bus.clone(), Arc::clone(&stopped));
        let controls = tokio::spawn(async move {
            let mut controls = control_bus.controls().await.unwrap();
            while let Some(control) = controls.next().await {
                let Control::Stop { work, .. } = control else { continue };
                heard.lock().unwrap().extend(work);
            }
        });
        let lane = tokio::spawn(async move { body.run().await });
        Self { ran, stopped, shards, tasks: vec![hello, controls, lane] }
    }

    pub fn ran(&self, kind: &str) -> u32 {
        self.ran.lock().unwrap().get(kind).copied().unwrap_or_default()
    }
}

struct Body {
    bus: MemoryBus,
    name: String,
    engine: EngineClass,
    lane: Arc<Mutex<LaneState>>,
    ran: Arc<Mutex<BTreeMap<&'static str, u32>>>,
    shards: Arc<tokio::sync::Semaphore>,
}

/// What a made-up attempt comes to.
type Attempt = Result<Outcome, (Disposition, &'static str)>;

impl Body {
    async fn run(self) {
        let pools = [fulltime_common::wire::Pool::Any, fulltime_common::wire::Pool::Class(self.engine.clone())];
        loop {
            if let Some(delivery) = self.bus.pull_one(&pools, Duration::from_millis(50)).await.unwrap() {
                self.take(delivery).await;
            }
        }
    }

    async fn take(&self, delivery: Delivery) {
        let task = delivery.task.clone();
        if task.avoid.as_ref() == Some(&self.name) {
            return delivery.give_back(Duration::from_millis(10)).await.unwrap();
        }
        *self.lane.lock().unwrap() =
            LaneState { task: Some(task.digest), job: Some(task.job.clone()), ..LaneState::default() };
        self.emit(&task, EventKind::Started).await;
        if matches!(task.kind, TaskKind::Map { .. }) {
            loop {
                // As a real lane in the middle of a long shard.
                match tokio::time::timeout(LEASE / 4, self.shards.acquire()).await {
                    Ok(permit) => break permit.unwrap().forget(),
                    Err(_) => delivery.progress().await.unwrap(),
                }
            }
        }
        let attempt = match &task.kind {
            TaskKind::Index { recording } => index(&task, recording).await,
            TaskKind::Map { shard } => map(&task, shard).await,
            TaskKind::Reduce { inputs, generation } => reduce(&task, inputs, *generation).await,
        };
        let kind = match attempt {
            Ok(outcome) => {
                if !outcome.found {
                    let kind = match &task.kind {
                        TaskKind::Index { .. } => "index",
                        TaskKind::Map { .. } => "map",
                        TaskKind::Reduce { .. } => "reduce",
                    };
                    *self.ran.lock().unwrap().entry(kind).or_default() += 1;
                }
                EventKind::Committed(outcome)
            }
            Err((disposition, cause)) => {
                let exit = if disposition == Disposition::WorkerUnfit { Exit::Model } else { Exit::Store };
                EventKind::Failed {
                    disposition,
                    cause: cause.into(),
                    exit: exit as u8,
                    hint: None,
                    evidence: Evidence { alone: task.alone, ..Evidence::default() },
                }
            }
        };
        self.emit(&task, kind.clone()).await;
        *self.lane.lock().unwrap() = LaneState::default();
        match kind {
            EventKind::Failed { disposition: Disposition::Transient | Disposition::WorkerUnfit, .. } => {
                delivery.give_back(Duration::from_millis(10)).await.unwrap();
            }
            _ => delivery.finish().await.unwrap(),
        }
    }

    async fn emit(&self, task: &Task, kind: EventKind) {
        let (job, digest, release) = (task.job.clone(), task.digest, task.release);
        self.bus.emit(&Event { job, digest, release, worker: self.name.clone(), kind }).await.unwrap();
    }
}

/// The text of a recording.
async fn read(task: &Task, recording: &RecordingRef) -> Result<String, (Disposition, &'static str)> {
    let archive = Store::open(&task.archive).unwrap();
    let bytes = archive.get_range_if_match(&recording.key, 0..recording.size, &recording.etag).await;
    let bytes = bytes.map_err(|error| (error.disposition(), "the recording changed"))?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

async fn index(task: &Task, recording: &RecordingRef) -> Attempt {
    match read(task, recording).await?.as_str() {
        "corrupt" => return Err((Disposition::PoisonInput, "no video stream")),
        "unreachable" => return Err((Disposition::Transient, "connection refused")),
        "wrong model" => return Err((Disposition::WorkerUnfit, "the model has another sha256")),
        _ => {}
    }
    let interval = |n: u32| Interval { frames: n..n + 25, packets: n..n + 25, bytes: 0..1 };
    let index = RecordingIndex {
        recording: recording.clone(),
        container: "mp4".into(),
        access: Access::Sliced,
        codec: Codec {
            name: "h264".into(),
            tag: 0,
            extradata: vec![],
            width: 64,
            height: 48,
            bits_per_coded_sample: 0,
        },
        frame_rate: (25, 1),
        frame_us: vec![0; FRAMES as usize],
        frames: FRAMES,
        packets: Packets::default(),
        intervals: (0..FRAMES).step_by(25).map(interval).collect(),
        bytes_read: 0,
    };
    let store = Store::open(&task.store).unwrap();
    store.put_once(&keys::store::index(&task.digest), index.to_bytes().unwrap()).await.unwrap();
    Ok(Outcome::default())
}

async fn map(task: &Task, shard: &ShardSpec) -> Attempt {
    assert_eq!(task.digest, shard.digest());
    if read(task, &shard.recording).await? == "bad end" && shard.frames.end == FRAMES {
        return Err((Disposition::PoisonInput, "decoder crashes"));
    }
    let frames = shard.frames.len() as u32;
    let result =
        ShardResult { shard: shard.into(), frames, detections: u64::from(frames), gaps: vec![], parts: vec![] };
    let store = Store::open(&task.store).unwrap();
    let put = store.put_json_once(&keys::store::shard_index(&task.digest), &result).await.unwrap();
    let found = put == fulltime_common::store::Put::Existed;
    let stage_seconds = vec![("decode".to_owned(), 0.5), ("infer".to_owned(), 1.5)];
    let (frames, detections) = (u64::from(frames), u64::from(frames));
    Ok(Outcome { frames, detections, found, stage_seconds, ..Outcome::default() })
}

async fn reduce(task: &Task, inputs: &str, generation: u32) -> Attempt {
    let (store, out) = (Store::open(&task.store).unwrap(), Store::open(&task.out).unwrap());
    let inputs: ReduceInputs = out.get_json(inputs).await.unwrap().expect("frozen inputs");
    assert_eq!(task.digest, inputs.digest());
    for shard in inputs.recordings.iter().flat_map(|recording| &recording.shards) {
        let committed = store.head(&keys::store::shard_index(&shard.digest)).await.unwrap();
        assert!(committed.is_some(), "a reduce was released before its shards were committed");
    }
    let summary = summary_of(&inputs);
    let key = keys::store::reduced_summary(&task.digest);
    let found = store.put_json_once(&key, &summary).await.unwrap() == fulltime_common::store::Put::Existed;
    for name in keys::TABLES {
        out.put(&keys::job::table(&task.job, generation, name, &inputs.id), name).await.unwrap();
    }
    let view = serde_json::to_vec(&summary).unwrap();
    out.put(&keys::job::summary(&task.job, generation, &inputs.id), view).await.unwrap();
    Ok(Outcome { found, ..Outcome::default() })
}

fn summary_of(inputs: &ReduceInputs) -> MatchSummary {
    let recordings = inputs.recordings.iter().map(|recording| {
        let frames: u32 = recording.shards.iter().map(|shard| shard.frames.len() as u32).sum();
        RecordingSummary {
            key: recording.placement.recording.key.clone(),
            period: recording.placement.period,
            camera: recording.placement.camera.clone(),
            width: recording.width,
            height: recording.height,
            fps: 25.0,
            frames,
            detections: u64::from(frames),
            tracks: 1,
            shots: 1,
            repeated_frames: 0,
            detections_max: 1,
            detections_mean: 1.0,
            gaps: recording.gaps.clone(),
        }
    });
    let recordings: Vec<_> = recordings.collect();
    let sum = |figure: fn(&RecordingSummary) -> u64| recordings.iter().map(figure).sum::<u64>();
    let missing = |gap: &Gap| gap.frames.len() as u64;
    let part =
        |name: &&str| Part { name: format!("{name}-0.parquet"), size: 1, sha256: Digest::of_bytes(name.as_bytes()) };
    MatchSummary {
        id: inputs.id.clone(),
        frames: sum(|r| u64::from(r.frames)),
        detections: sum(|r| r.detections),
        tracks: sum(|r| r.tracks),
        players: 1,
        people: Vec::new(),
        gap_frames: inputs.recordings.iter().flat_map(|r| &r.gaps).map(missing).sum(),
        preview: None,
        parts: keys::TABLES.iter().map(part).collect(),
        recordings,
    }
}

/// Takes all rights to write away, and says whether that means anything to this user.
pub fn make_read_only(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    std::fs::write(folder.join("probe"), b"x").is_err()
}
