//! The coordinator dies once at every one of its crash points, before and after every step that others can see, and is
//! started again, as any service manager does. The job ends by itself, with the tables of an undisturbed run.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use fulltime_common::{Digest, crash::CRASH_AT};
use fulltime_coordinator::crash::Deed;
use fulltime_tests::{
    cluster::{Cluster, Part, Shape, wait_until},
    files, fulltime, render, shipped_pipeline, tables_below,
};
use serde_json::Value;

/// Longest time that one story may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(60);
/// Kills whoever decodes it.
const BAD: (&str, u32) = ("bad", 1);

/// What people do while a job runs.
#[derive(Debug, Clone, Copy)]
enum Story {
    /// Nothing.
    Run,
    /// It is paused and resumed.
    Pause,
    /// It gets another priority while its tasks are queued.
    Prioritise,
    /// It is cancelled, and another one does the same work.
    Cancel,
    /// A recording is put into the archive again.
    Change,
    /// One of its intervals kills workers.
    Poison,
}

/// The story in which a deed is done.
fn story(deed: Deed) -> Story {
    match deed {
        Deed::Claim
        | Deed::Epoch
        | Deed::Lead
        | Deed::List
        | Deed::Plan
        | Deed::Release
        | Deed::Inputs
        | Deed::Report
        | Deed::Manifest => Story::Run,
        Deed::Withdraw | Deed::Control | Deed::Answer | Deed::Book => Story::Pause,
        Deed::Discard => Story::Prioritise,
        Deed::Stop => Story::Cancel,
        Deed::Revision => Story::Change,
        Deed::Attempt | Deed::Split | Deed::Quarantine => Story::Poison,
    }
}

/// A cluster whose coordinator dies and comes back.
struct Ground {
    cluster: Cluster,
    archives: PathBuf,
}

impl Ground {
    fn start(dir: &Path, archives: &Path) -> Self {
        let shape = Shape {
            coordinators: 1,
            workers: 2,
            sim_item: Duration::from_millis(8),
            lease: Duration::from_secs(1),
            leader_lease: Duration::from_secs(1),
            poison: Some(format!("{}#{}", recording(&archives.join(BAD.0)), BAD.1)),
            ..Shape::default()
        };
        let mut cluster = Cluster::start(dir, &shape);
        end(&mut cluster.coordinators[0]);
        Self { cluster, archives: archives.to_owned() }
    }

    /// Runs a story with a coordinator that dies at this point. Returns the tables, and how often it died.
    fn suffer(&mut self, story: Story, point: Option<&str>) -> (BTreeMap<String, Digest>, usize) {
        let mut coordinator = self.cluster.coordinators.remove(0);
        // Of each story and point alone: what was found there would need no work.
        let out = self.cluster.dir.join(format!("{story:?}-{}", point.unwrap_or("undisturbed")));
        coordinator.set_env(CRASH_AT, point);
        coordinator.start();
        coordinator.set_env(CRASH_AT, None);
        let over = AtomicBool::new(false);
        let told = Told { cluster: &self.cluster, archives: &self.archives, out: &out };
        let (tables, deaths) = std::thread::scope(|scope| {
            let keeper = scope.spawn(|| keep(&mut coordinator, &over, usize::from(point.is_some())));
            let tables = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| told.tell(story)));
            over.store(true, Ordering::Relaxed);
            (tables, keeper.join().expect("the keeper"))
        });
        let logs = || format!("{}\n{}", coordinator.log(), self.cluster.logs());
        let tables = tables.unwrap_or_else(|_| panic!("{story:?} at {point:?}, {deaths} deaths:\n{}", logs()));
        end(&mut coordinator);
        self.cluster.coordinators.push(coordinator);
        (tables, deaths)
    }
}

/// Starts the coordinator again whenever it has died. Returns how often. The story may be over a moment before the last
/// death that is expected: what it waits for is there, and then the coordinator dies.
fn keep(coordinator: &mut Part, over: &AtomicBool, expected: usize) -> usize {
    let (mut deaths, mut over_since) = (0, None);
    loop {
        if over.load(Ordering::Relaxed) {
            let waited = over_since.get_or_insert_with(Instant::now).elapsed();
            if deaths >= expected || waited > Duration::from_secs(5) {
                return deaths;
            }
        }
        if !coordinator.runs() {
            deaths += 1;
            coordinator.start();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Gives up the lead, so that the next one need not wait.
fn end(coordinator: &mut Part) {
    coordinator.signal(libc::SIGTERM);
    assert!(wait_until(HUNG, || !coordinator.runs()), "it goes");
}

/// A story while it is being told.
struct Told<'a> {
    cluster: &'a Cluster,
    archives: &'a Path,
    /// Of this story alone, so that it finds no results.
    out: &'a Path,
}

impl Told<'_> {
    fn tell(&self, story: Story) -> BTreeMap<String, Digest> {
        let archive = match story {
            Story::Poison => self.archives.join(BAD.0),
            Story::Run => self.archives.join("short"),
            Story::Pause | Story::Prioritise | Story::Cancel | Story::Change => self.archives.join("long"),
        };
        let length = if matches!(story, Story::Poison) { "whole" } else { "1s" };
        let mut job = self.submit(&archive, length);
        match story {
            Story::Run | Story::Poison => {}
            Story::Pause => {
                // Something has been worked, which is booked.
                assert!(wait_until(HUNG, || self.shards() >= 3), "it runs");
                self.say(&["pause", &job]);
                self.say(&["resume", &job]);
            }
            Story::Prioritise => {
                self.wait_for(&job, "plan", 2);
                self.say(&["priority", &job, "high"]);
            }
            Story::Cancel => {
                self.wait_for(&job, "plan", 2);
                assert!(wait_until(HUNG, || self.shards() >= 1), "it runs");
                let _ = self.cluster.ask(&["cancel", &job]);
                let state = || self.cluster.state(&job) == "cancelled";
                assert!(wait_until(HUNG, state), "cancelled it is");
                let dead = std::mem::replace(&mut job, self.submit(&archive, length));
                let _ = self.finished(&job);
                assert!(!self.manifest(&dead).exists(), "and stays");
            }
            Story::Change => {
                self.wait_for(&job, "plan", 2);
                let path = archive.join(recording(&archive));
                let copy = path.with_extension("copy");
                fs::copy(&path, &copy).and_then(|_| fs::rename(&copy, &path)).expect("put it there again");
            }
        }
        self.finished(&job)
    }

    fn submit(&self, archive: &Path, length: &str) -> String {
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let (state, nats) = (text(&self.cluster.dir.join("state")), self.cluster.nats());
        let [archive, out, pipeline] = [text(archive), text(self.out), text(&shipped_pipeline())];
        let args = ["submit", "--json", "--archive", &archive, "--out", &out, "--pipeline", &pipeline];
        let more = ["--select", "**/*.mp4", "--shard-length", length, "--state", &state, "--nats", &nats];
        let submitted = fulltime(&[&args[..], &more].concat()).with_code(0).json();
        submitted["job"].as_str().expect("an id").to_owned()
    }

    /// Tells the coordinator, which may die of it; the job may be finished by the time it is asked again.
    fn say(&self, words: &[&str]) {
        let nats = self.cluster.nats();
        let _ = fulltime(&[words, &["--json", "--nats", &nats]].concat());
    }

    fn wait_for(&self, job: &str, folder: &str, objects: usize) {
        let there = || files(&self.out.join("jobs").join(job).join(folder)).len() >= objects;
        assert!(wait_until(HUNG, there), "{objects} objects in {folder}");
    }

    /// Shards that are committed.
    fn shards(&self) -> usize {
        files(&self.out.join("store/shards")).iter().filter(|path| path.ends_with("index.json")).count()
    }

    fn manifest(&self, job: &str) -> PathBuf {
        self.out.join("jobs").join(job).join("g1/manifest.json")
    }

    fn finished(&self, job: &str) -> BTreeMap<String, Digest> {
        let manifest = self.manifest(job);
        assert!(wait_until(HUNG, || manifest.is_file()), "it finishes");
        let content: Value = serde_json::from_slice(&fs::read(&manifest).expect("read")).expect("JSON");
        let bad = content["quarantined"].as_array().map_or(0, Vec::len);
        assert_eq!(
            bad,
            usize::from(content["archive"].as_str().is_some_and(|url| url.ends_with(BAD.0))),
            "{content:#}"
        );
        tables_below(manifest.parent().expect("its folder"))
    }
}

/// Key of the one recording of an archive.
fn recording(archive: &Path) -> String {
    let path = files(archive).into_iter().find(|path| path.extension().is_some_and(|e| e == "mp4"));
    let path = path.expect("a recording");
    path.strip_prefix(archive).expect("below it").to_str().expect("UTF-8").to_owned()
}

/// All points of these deeds, one after the other.
fn die_at_all_points(dir: &Path, archives: &Path, deeds: &[Deed]) {
    let mut ground = Ground::start(dir, archives);
    let mut undisturbed = BTreeMap::new();
    for deed in deeds {
        let story = story(*deed);
        let expected = undisturbed.entry(format!("{story:?}")).or_insert_with(|| ground.suffer(story, None).0).clone();
        for point in deed.points() {
            let begin = Instant::now();
            let (tables, deaths) = ground.suffer(story, Some(point));
            println!("{point}: {:.1} s", begin.elapsed().as_secs_f64());
            assert_eq!(deaths, 1, "`{point}` is reached, once");
            assert_eq!(tables, expected, "`{point}`");
        }
    }
}

#[test]
fn a_coordinator_may_die_at_every_crash_point_and_the_tables_are_the_same() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, duration) in [("short", "2s"), ("long", "20s"), (BAD.0, "4s")] {
        let small = ["--seed", "3", "--size", "320x180", "--gop", "25", "--duration", duration];
        render(&dir.path().join("archives").join(name), name, &small);
    }
    // Most of the time is waited: several clusters at once, each with archives of its own.
    std::thread::scope(|scope| {
        let of =
            |wanted: fn(Story) -> bool| Deed::ALL.into_iter().filter(|deed| wanted(story(*deed))).collect::<Vec<_>>();
        let shares = [
            of(|story| matches!(story, Story::Run)),
            of(|story| matches!(story, Story::Pause | Story::Prioritise | Story::Cancel | Story::Change)),
            of(|story| matches!(story, Story::Poison)),
        ];
        assert_eq!(shares.iter().map(Vec::len).sum::<usize>(), Deed::ALL.len(), "no deed is forgotten");
        for (n, deeds) in shares.into_iter().enumerate() {
            let (dir, archives) = (dir.path().join(n.to_string()), dir.path().join("archives"));
            scope.spawn(move || die_at_all_points(&dir, &archives, &deeds));
        }
    });
}
