//! What the worker's stories play on: a bus in memory, folders as stores, a recording of test cards, the sim engine.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use clap::Parser as _;
use fulltime_common::{
    Digest, Disposition,
    index::RecordingIndex,
    keys,
    pipeline::{Describe, DescribeSettings, Detect, DetectSettings, Manifest, Pipeline},
    plan::{EngineClass, RecordingRef, ShardSpec},
    queue::{Bus, MemoryBus},
    store::Store,
    wire::{Band, Event, EventKind, Evidence, Outcome, Task, TaskKind},
};
use fulltime_synth::{EncodeOptions, Encoder, testcard};
use fulltime_worker::{Options, Worker, WorkerError};
use futures::{StreamExt as _, stream::BoxStream};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longest time that anything here may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(60);

/// Frames of a recording: four seconds, in intervals of one.
pub const FRAMES: u32 = 100;

/// How a recording is encoded.
pub fn small() -> EncodeOptions {
    EncodeOptions { gop: 25, bframes: 2, ..EncodeOptions::new(320, 192) }
}

pub struct Ground {
    pub dir: TempDir,
    pub bus: MemoryBus,
    pub events: BoxStream<'static, Event>,
    pub store: Store,
    pub engine: &'static str,
    pub pipeline: Pipeline,
    /// Where the lanes of its workers are: in processes of this program, or else in this process.
    pub program: Option<PathBuf>,
    /// Further flags of its workers.
    pub flags: Vec<&'static str>,
}

/// A worker on the ground; told to stop when dropped.
pub struct Running {
    pub engine: EngineClass,
    pub shutdown: DropGuard,
    pub ended: JoinHandle<Result<(), WorkerError>>,
}

impl Ground {
    /// `settings` is the `[detect]` table without its model.
    pub async fn new(settings: &str) -> Self {
        Self::on(MemoryBus::default(), settings).await
    }

    pub async fn on(bus: MemoryBus, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("archive")).unwrap();
        let store = Store::create(dir.path().join("store").to_str().unwrap()).unwrap();
        let events = bus.events().await.unwrap();
        let manifest: Manifest = toml::from_str(&format!(
            "name = 'test'\nclasses = ['player', 'ball']\nfile = {{ path = 'x', sha256 = '{}' }}\n\
             input = {{ channels = 'bgr', size = [96, 64] }}\noutput = {{ head = 'yolox', strides = [8, 16, 32] }}",
            Digest::of_bytes(b"weights"),
        ))
        .unwrap();
        let settings: DetectSettings = toml::from_str(settings).unwrap();
        let pipeline = Pipeline {
            name: "test".into(),
            detect: Detect { model: manifest, settings },
            describe: Some(describe()),
            preview: fulltime_common::pipeline::Preview { every_seconds: 1.0, width: 160 },
            track: fulltime_common::pipeline::Track::default(),
            identify: Default::default(),
        };
        Self { dir, bus, events, store, engine: "sim", pipeline, program: None, flags: Vec::new() }
    }

    /// From now on, workers have their lanes in processes, and these have such environment.
    pub fn with_processes(&mut self, environment: &str) {
        let (path, worker) = (self.path("worker.sh"), env!("CARGO_BIN_EXE_fulltime-worker"));
        std::fs::write(&path, format!("#!/bin/sh\n{environment} exec {worker} \"$@\"\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        self.program = Some(path);
    }

    /// The processes of this ground's lanes.
    pub fn lane_processes(&self) -> Vec<i32> {
        let (cache, ours) = (self.path("cache"), std::process::id().to_string());
        let of_this_ground = |pid: &i32| {
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let stat = read("stat");
            let state = stat.rsplit_once(')').map_or("", |(_, tail)| tail).split_whitespace().collect::<Vec<_>>();
            state.get(1) == Some(&ours.as_str())
                && state[0] != "Z"
                && read("cmdline").split('\0').any(|argument| Path::new(argument) == cache)
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(of_this_ground).collect()
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Encodes test cards into the archive.
    pub fn record(&self, name: &str, frames: u32, options: &EncodeOptions) -> PathBuf {
        let path = self.path("archive").join(name);
        let mut encoder = Encoder::create(&path, options).unwrap();
        (0..frames).for_each(|n| encoder.push(&testcard(n, options.width, options.height)).unwrap());
        encoder.finish().unwrap();
        path
    }

    pub fn options(&self, name: &str, lanes: usize) -> Options {
        let cache = self.path("cache");
        let lanes = lanes.to_string();
        let flags = ["fulltime-worker", "--engine", self.engine, "--lanes", &lanes, "--name", name, "--cache"];
        let flags = flags.map(std::ffi::OsString::from).into_iter().chain([cache.into()]);
        Options::parse_from(flags.chain(self.flags.iter().map(Into::into)))
    }

    pub async fn worker(&self, name: &str, lanes: usize) -> Result<Worker, WorkerError> {
        let (bus, options) = (Arc::new(self.bus.clone()), self.options(name, lanes));
        match &self.program {
            Some(program) => Worker::supervising(bus, &options, program).await,
            None => Worker::on(bus, &options),
        }
    }

    pub async fn start(&self, lanes: usize) -> Running {
        self.start_named("w", lanes).await
    }

    pub async fn start_named(&self, name: &str, lanes: usize) -> Running {
        self.store.put_json_once(&keys::store::pipeline(&self.pipeline.digest()), &self.pipeline).await.unwrap();
        let mut hellos = self.bus.hellos().await.unwrap();
        let worker = self.worker(name, lanes).await.unwrap();
        let engine = worker.engine().clone();
        let shutdown = CancellationToken::new();
        let ended = tokio::spawn(worker.run(shutdown.clone()));
        // From its first heartbeat on it obeys controls.
        while hung(hellos.next()).await.unwrap().worker != name {}
        Running { engine, shutdown: shutdown.drop_guard(), ended }
    }

    pub async fn recording(&self, name: &str) -> RecordingRef {
        let archive = Store::open(self.path("archive").to_str().unwrap()).unwrap();
        let meta = archive.head(name).await.unwrap().unwrap();
        RecordingRef { key: name.into(), size: meta.size, etag: meta.e_tag.unwrap() }
    }

    pub fn task(&self, digest: Digest, kind: TaskKind) -> Task {
        let url = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let (archive, store, out) = (url("archive"), url("store"), url("out"));
        Task {
            job: "job".into(),
            digest,
            release: 1,
            epoch: 1,
            band: Band::Normal,
            avoid: None,
            alone: false,
            looked_for: true,
            archive,
            store,
            out,
            generation: 1,
            trace: None,
            kind,
        }
    }

    /// Has the recording indexed by a worker.
    pub async fn index(&mut self, name: &str) -> (Digest, RecordingIndex) {
        let recording = self.recording(name).await;
        let digest = RecordingIndex::digest("archive", &recording);
        self.release(&self.task(digest, TaskKind::Index { recording })).await;
        self.committed(digest).await;
        let bytes = self.store.get(&keys::store::index(&digest)).await.unwrap().unwrap();
        (digest, RecordingIndex::from_bytes(&bytes).unwrap())
    }

    /// The task of a shard made of these intervals, for this worker.
    pub fn shard(&self, index: &(Digest, RecordingIndex), intervals: Range<u32>, on: &Running) -> Task {
        self.shard_of(index, intervals, &on.engine)
    }

    pub fn shard_of(
        &self,
        (digest, index): &(Digest, RecordingIndex),
        intervals: Range<u32>,
        engine: &EngineClass,
    ) -> Task {
        let chosen = &index.intervals[intervals.start as usize..intervals.end as usize];
        let shard = ShardSpec {
            recording: index.recording.clone(),
            index: *digest,
            intervals,
            frames: chosen[0].frames.start..chosen[chosen.len() - 1].frames.end,
            bytes: chosen.iter().map(|i| i.bytes.start).min().unwrap()
                ..chosen.iter().map(|i| i.bytes.end).max().unwrap(),
            pipeline: self.pipeline.digest(),
            map: self.pipeline.map_digest(),
            engine: engine.clone(),
        };
        self.task(shard.digest(), TaskKind::Map { shard })
    }

    pub async fn release(&self, task: &Task) {
        self.bus.release(std::slice::from_ref(task)).await.unwrap();
    }

    /// The next event about this work that is not its start.
    pub async fn verdict(&mut self, digest: Digest) -> EventKind {
        loop {
            let event = hung(self.events.next()).await.unwrap();
            if event.digest == digest && event.kind != EventKind::Started {
                return event.kind;
            }
        }
    }

    /// The first verdict on each of these, in whatever order they come.
    pub async fn verdicts<const N: usize>(&mut self, tasks: [&Task; N]) -> [EventKind; N] {
        let mut found = tasks.map(|_| EventKind::Started);
        while found.contains(&EventKind::Started) {
            let event = hung(self.events.next()).await.unwrap();
            if event.kind != EventKind::Started
                && let Some(at) = tasks.iter().position(|task| task.digest == event.digest)
                && found[at] == EventKind::Started
            {
                found[at] = event.kind;
            }
        }
        found
    }

    pub async fn committed(&mut self, digest: Digest) -> Outcome {
        match self.verdict(digest).await {
            EventKind::Committed(outcome) => outcome,
            other => panic!("not committed: {other:?}"),
        }
    }

    /// Disposition, cause and exit code of the next failure of this work.
    pub async fn failed(&mut self, digest: Digest) -> (Disposition, String, u8) {
        match self.verdict(digest).await {
            EventKind::Failed { disposition, cause, exit, .. } => (disposition, cause, exit),
            other => panic!("did not fail: {other:?}"),
        }
    }

    /// Disposition of the next failure of this work, and how it was seen.
    pub async fn evidence(&mut self, digest: Digest) -> (Disposition, Evidence) {
        evidence(&self.verdict(digest).await)
    }

    /// No such task is to be had.
    pub async fn nothing_left(&self, task: &Task) {
        assert!(self.bus.pull_one(&[task.pool()], Duration::ZERO).await.unwrap().is_none(), "nothing is left of it");
    }

    pub async fn started(&mut self) {
        while hung(self.events.next()).await.unwrap().kind != EventKind::Started {}
    }

    pub async fn object(&self, key: &str) -> Bytes {
        self.store.get(key).await.unwrap().unwrap_or_else(|| panic!("no object `{key}`"))
    }

    /// Every file below `store/shards`, by path.
    pub fn shard_files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        collect(&self.path("store/shards"), &mut files);
        files.sort();
        files.iter().map(|path| (path.strip_prefix(self.path("store")).unwrap().into(), read(path))).collect()
    }
}

/// Everybody is described, with models that only the sim engine has.
fn describe() -> Describe {
    let manifest = |output: &str| {
        let text = format!(
            "name = 'test'\nfile = {{ path = 'x', sha256 = '{}' }}\ninput = {{ channels = 'rgb', size = [16, 24] }}\n\
             output = {{ {output} }}",
            Digest::of_bytes(b"weights"),
        );
        Some(toml::from_str(&text).unwrap())
    };
    let settings = DescribeSettings {
        min_height: 1.0,
        number_min_height: 1.0,
        number_max_aspect: 100.0,
        number_min_sharpness: 0.0,
        ..DescribeSettings::default()
    };
    let numbers = manifest("head = 'ctc', alphabet = '0123456789', blank = 10");
    Describe { embedder: manifest("head = 'embedding'"), numbers, settings }
}

/// Disposition of a failure, and how it was seen.
pub fn evidence(verdict: &EventKind) -> (Disposition, Evidence) {
    match verdict {
        EventKind::Failed { disposition, evidence, .. } => (*disposition, *evidence),
        other => panic!("did not fail: {other:?}"),
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => collect(&path, files),
            path => files.push(path),
        }
    }
}

pub async fn hung<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(HUNG, work).await.expect("this takes far too long")
}

/// A file of the test assets, or `None` (said on standard error) where they are not there.
pub fn asset(relative: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/assets");
    let path = std::env::var_os("FULLTIME_ASSETS").map_or(beside, PathBuf::from).join(relative);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: no test asset `{relative}` (set FULLTIME_ASSETS to the folder that has it)");
    None
}
