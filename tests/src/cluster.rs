//! A cluster of real processes that can be hurt: one broker, coordinators and workers over a folder of objects. Every
//! part keeps its address, its name and its log over restarts.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use fulltime_common::{Digest, store::Store};

use crate::{
    binary, kill,
    network::{Network, Way},
    ports::free_port,
    s3::Bucket,
    tables_below,
};

/// A process that can be killed and started again.
#[derive(Debug)]
pub struct Part {
    pub name: String,
    command: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
    stopped: bool,
}

impl Part {
    fn new(name: &str, program: &Path, args: &[&str], logs: &Path) -> Self {
        let program = program.to_str().expect("UTF-8").to_owned();
        let command = std::iter::once(program).chain(args.iter().map(|arg| (*arg).to_owned())).collect();
        let log = logs.join(format!("{name}.log"));
        Self { name: name.to_owned(), command, env: Vec::new(), log, child: None, stopped: false }
    }

    fn with_env(mut self, env: Vec<(String, String)>) -> Self {
        self.env = env;
        self
    }

    pub fn start(&mut self) {
        assert!(!self.runs(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).expect("open a log");
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).envs(self.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        let child = fulltime_common::process::end_with_parent(&mut command).spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("start {}: {error}", self.name)));
        self.stopped = false;
    }

    /// Sets or unsets a variable for the next start.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.env.retain(|(known, _)| known != name);
        self.env.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Whether its process lives (stopped ones do).
    pub fn runs(&mut self) -> bool {
        if let Some(child) = &mut self.child
            && child.try_wait().is_ok_and(|ended| ended.is_some())
        {
            self.child = None;
        }
        self.child.is_some()
    }

    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn signal(&mut self, signal: i32) {
        if let Some(pid) = self.pid() {
            kill(pid, signal);
            match signal {
                libc::SIGSTOP => self.stopped = true,
                libc::SIGCONT => self.stopped = false,
                _ => {}
            }
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        self.stopped = false;
    }

    /// What it has said so far, over all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Shape {
    pub coordinators: usize,
    pub workers: usize,
    pub lanes: usize,
    /// Virtual time that the sim engine takes for a picture.
    pub sim_item: Duration,
    pub lease: Duration,
    /// After so long without progress a lane counts as stalled.
    pub stall: Duration,
    /// Gives every coordinator and worker a wall clock of its own; see [`Cluster::clock`].
    pub clocks: bool,
    /// `{recording}#{interval}`: an interval that kills whatever decodes it, as a bad file might.
    pub poison: Option<String>,
    /// How long a coordinator leads without being heard of.
    pub leader_lease: Duration,
    /// Puts the output on a file system of its own with so many megabytes, where this process may mount one.
    pub small_disk: Option<u32>,
    /// Puts a proxy between every part and the servers it uses; see [`Cluster::network`].
    pub network: bool,
    /// Results and decisions lie here instead of in folders.
    pub bucket: Option<Bucket>,
    /// Further variables of the workers.
    pub worker_env: Vec<(String, String)>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            coordinators: 2,
            workers: 3,
            lanes: 1,
            sim_item: Duration::from_millis(10),
            lease: Duration::from_secs(2),
            stall: Duration::from_secs(5),
            leader_lease: Duration::from_secs(3),
            clocks: false,
            poison: None,
            small_disk: None,
            network: false,
            bucket: None,
            worker_env: Vec::new(),
        }
    }
}

/// See the module. Its processes end with it.
#[derive(Debug)]
pub struct Cluster {
    /// First, so that it ends last.
    pub workers: Vec<Part>,
    pub coordinators: Vec<Part>,
    pub broker: Part,
    /// Where the broker keeps its streams.
    pub broker_files: PathBuf,
    port: u16,
    pub dir: PathBuf,
    /// The ways of coordinators and workers to their servers, where they are proxied.
    pub network: Option<Network>,
    bucket: Option<Bucket>,
    small_disk: Option<SmallDisk>,
}

/// A mounted file system; gone with its owner.
#[derive(Debug)]
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(at).expect("make a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "none"]).arg(at);
        let mounted = mount.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

impl Cluster {
    /// Starts everything, with the sim engine, below `dir`.
    #[must_use]
    pub fn start(dir: &Path, shape: &Shape) -> Self {
        let (logs, broker_files) = (dir.join("logs"), dir.join("nats"));
        for folder in [&logs, &broker_files, &dir.join("state")] {
            fs::create_dir_all(folder).expect("make a folder");
        }
        let port = free_port();
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let times = [shape.lease, shape.leader_lease, shape.stall];
        let [lease, leader_lease, stall] = times.map(|time| humantime::format_duration(time).to_string());

        let program = fulltime_common::process::nats_server().expect("nats-server: run `cargo xtask setup`");
        let port_text = port.to_string();
        let args = ["-a", "127.0.0.1", "-p", &port_text, "-js", "-sd", &text(&broker_files)];
        let broker = Part::new("broker", &program, &args, &logs);

        let mut network = shape.network.then(Network::default);
        let mut reach = |part: &str| {
            let mut address = |way, server| network.as_mut().map_or(server, |n| n.lay(part, way, server));
            let nats = address(Way::ToBroker, (Ipv4Addr::LOCALHOST, port).into());
            let store = shape.bucket.as_ref().map(|bucket| Bucket::environment(address(Way::ToStore, bucket.server)));
            let store = store.into_iter().flatten().map(|(key, value)| (key.to_owned(), value)).collect();
            (format!("nats://{nats}"), store)
        };
        let mut coordinators = Vec::new();
        for n in 0..shape.coordinators {
            let name = format!("coordinator-{n}");
            let (nats, env) = reach(&name);
            let state = place(shape.bucket.as_ref(), dir, "state");
            let args = ["--nats", &nats, "--state", &state, "--lease", &lease, "--leader-lease", &leader_lease];
            coordinators.push(Part::new(&name, &binary("fulltime-coordinator"), &args, &logs).with_env(env));
        }
        let mut workers = Vec::new();
        for n in 0..shape.workers {
            let name = format!("worker-{n}");
            let (nats, env) = reach(&name);
            let (lanes, cache) = (shape.lanes.to_string(), text(&dir.join("cache").join(&name)));
            let mut args = vec!["--nats", &nats, "--name", &name, "--lanes", &lanes, "--lease", &lease];
            args.extend(["--engine", "sim", "--cache", &cache, "--stall", &stall]);
            let sim = format!("item-ms={}", shape.sim_item.as_millis());
            args.extend(["--sim", &sim]);
            let mut env = env;
            env.extend(shape.worker_env.iter().cloned());
            env.extend(shape.poison.iter().map(|poison| ("FULLTIME_POISON".to_owned(), poison.clone())));
            workers.push(Part::new(&name, &binary("fulltime-worker"), &args, &logs).with_env(env));
        }
        let small_disk = shape.small_disk.and_then(|size| SmallDisk::mount(&dir.join("out"), size));
        let (dir, bucket) = (dir.to_owned(), shape.bucket.clone());
        let mut cluster = Self { workers, coordinators, broker, broker_files, port, dir, network, bucket, small_disk };
        if shape.clocks && !cluster.set_clocks() {
            eprintln!("skipped: clock jumps need libfulltime_clock.so beside the binaries");
        }
        cluster.start_broker();
        cluster.coordinators.iter_mut().chain(&mut cluster.workers).for_each(Part::start);
        cluster
    }

    fn set_clocks(&mut self) -> bool {
        let library = binary("fulltime-worker").with_file_name("libfulltime_clock.so");
        let (dir, there) = (self.dir.clone(), library.is_file());
        for part in self.coordinators.iter_mut().chain(&mut self.workers).filter(|_| there) {
            let file = clock_file(&dir, &part.name);
            fs::write(&file, "0").expect("make a clock");
            let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
            part.env.push(("LD_PRELOAD".into(), text(&library)));
            part.env.push(("FULLTIME_CLOCK_FILE".into(), text(&file)));
        }
        there
    }

    /// Sets how many seconds a part's wall clock is off; `false` without clocks of their own.
    #[must_use]
    pub fn set_clock(&self, part: &str, seconds: i64) -> bool {
        let file = clock_file(&self.dir, part);
        // Renamed into place: a process must never read half a number.
        let new = file.with_extension("new");
        file.is_file() && fs::write(&new, seconds.to_string()).and_then(|()| fs::rename(&new, &file)).is_ok()
    }

    /// Whether the output lies on a small file system of its own.
    #[must_use]
    pub fn has_small_disk(&self) -> bool {
        self.small_disk.is_some()
    }

    #[must_use]
    pub fn has_bucket(&self) -> bool {
        self.bucket.is_some()
    }

    #[must_use]
    pub fn nats(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts the broker and waits until it accepts connections.
    pub fn start_broker(&mut self) {
        self.broker.start();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(self.broker.runs(), "the broker ended at start:\n{}", self.broker.log());
            std::thread::yield_now();
        }
    }

    /// Kills the broker, does something to its files, and starts it again.
    pub fn hurt_broker(&mut self, harm: impl FnOnce(&Path)) {
        self.broker.kill();
        harm(&self.broker_files);
        fs::create_dir_all(&self.broker_files).expect("make a folder");
        self.start_broker();
    }

    /// Runs a command about a job; its last line as JSON.
    #[must_use]
    pub fn ask(&self, args: &[&str]) -> serde_json::Value {
        let nats = self.nats();
        let args: Vec<&str> = args.iter().copied().chain(["--json", "--nats", &nats]).collect();
        crate::fulltime(&args).with_code(0).json()
    }

    /// The state of a job, as a coordinator has it.
    #[must_use]
    pub fn state(&self, job: &str) -> String {
        self.ask(&["status", job])["jobs"][0]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Hands a job in and returns its id. The archive is a folder or a URL.
    #[must_use]
    pub fn submit(&self, archive: impl AsRef<Path>, pipeline: &Path, more: &[&str]) -> String {
        let mut command = Command::new(binary("fulltime"));
        command.arg("submit").arg("--archive").arg(archive.as_ref()).arg("--pipeline").arg(pipeline).args(more);
        command.args(["--out", &self.place("out"), "--state", &self.place("state"), "--nats", &self.nats()]);
        if let Some(bucket) = &self.bucket {
            command.envs(Bucket::environment(bucket.server));
        }
        let ended = crate::start_command(&mut command).end().with_code(0);
        ended.stdout.lines().last().expect("the job's id").trim().to_owned()
    }

    fn place(&self, name: &str) -> String {
        place(self.bucket.as_ref(), &self.dir, name)
    }

    /// Where the results lie, opened past all proxies.
    #[must_use]
    pub fn results(&self) -> Store {
        match &self.bucket {
            Some(bucket) => bucket.below("out").open(),
            None => Store::create(&self.place("out")).expect("open a folder"),
        }
    }

    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.dir.join("out")
    }

    /// The manifest of a job's first generation.
    #[must_use]
    pub fn manifest(&self, job: &str) -> PathBuf {
        self.out().join("jobs").join(job).join("g1/manifest.json")
    }

    /// Waits until the job is finished; `false` after `patience`.
    #[must_use]
    pub fn finished(&self, job: &str, patience: Duration) -> bool {
        wait_until(patience, || self.manifest(job).is_file())
    }

    /// The tables of a job that must finish within `patience`.
    #[must_use]
    pub fn tables(&self, job: &str, patience: Duration) -> BTreeMap<String, Digest> {
        assert!(self.finished(job, patience), "not finished:\n{}", self.logs());
        tables_below(self.manifest(job).parent().expect("its folder"))
    }

    /// The logs of every part, for a test that failed.
    #[must_use]
    pub fn logs(&self) -> String {
        let parts = std::iter::once(&self.broker).chain(&self.coordinators).chain(&self.workers);
        parts.map(|part| format!("=== {}\n{}\n", part.name, part.log())).collect()
    }
}

/// A folder of a cluster's, or its place in the bucket.
fn place(bucket: Option<&Bucket>, dir: &Path, name: &str) -> String {
    match bucket {
        Some(bucket) => bucket.below(name).url,
        None => dir.join(name).to_str().expect("UTF-8").to_owned(),
    }
}

fn clock_file(dir: &Path, part: &str) -> PathBuf {
    dir.join(format!("{part}.clock"))
}

/// Waits for something that only the file system tells; looks often.
#[must_use]
pub fn wait_until(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}
