//! A cluster of real processes that can be hurt: one broker, coordinators and workers over a folder of objects. Every
//! part keeps its address, its name and its log over restarts.

use std::{
    fs::{self, File},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{binary, kill};

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
    /// Gives every coordinator and worker a wall clock of its own; see [`Cluster::clock`].
    pub clocks: bool,
    /// `{recording}#{interval}`: an interval that kills whatever decodes it, as a bad file might.
    pub poison: Option<String>,
    /// How long a coordinator leads without being heard of.
    pub leader_lease: Duration,
    /// Puts the output on a file system of its own with so many megabytes, where this process may mount one.
    pub small_disk: Option<u32>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            coordinators: 2,
            workers: 3,
            lanes: 1,
            sim_item: Duration::from_millis(10),
            lease: Duration::from_secs(2),
            leader_lease: Duration::from_secs(3),
            clocks: false,
            poison: None,
            small_disk: None,
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
        let (logs, broker_files, state) = (dir.join("logs"), dir.join("nats"), dir.join("state"));
        for folder in [&logs, &broker_files, &state] {
            fs::create_dir_all(folder).expect("make a folder");
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let url = format!("nats://127.0.0.1:{port}");
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let [lease, leader_lease] =
            [shape.lease, shape.leader_lease].map(|time| humantime::format_duration(time).to_string());

        let program = fulltime_common::process::nats_server().expect("nats-server: run `cargo xtask setup`");
        let port_text = port.to_string();
        let args = ["-a", "127.0.0.1", "-p", &port_text, "-js", "-sd", &text(&broker_files)];
        let broker = Part::new("broker", &program, &args, &logs);

        let coordinators = (0..shape.coordinators).map(|n| {
            let args = ["--nats", &url, "--state", &text(&state), "--lease", &lease, "--leader-lease", &leader_lease];
            Part::new(&format!("coordinator-{n}"), &binary("fulltime-coordinator"), &args, &logs)
        });
        let workers = (0..shape.workers).map(|n| {
            let name = format!("worker-{n}");
            let (lanes, cache) = (shape.lanes.to_string(), text(&dir.join("cache").join(&name)));
            let mut args = vec!["--nats", &url, "--name", &name, "--lanes", &lanes, "--lease", &lease];
            args.extend(["--engine", "sim", "--cache", &cache, "--stall", "5s"]);
            let sim = format!("item-ms={}", shape.sim_item.as_millis());
            args.extend(["--sim", &sim]);
            let mut part = Part::new(&name, &binary("fulltime-worker"), &args, &logs);
            part.env.extend(shape.poison.iter().map(|poison| ("FULLTIME_POISON".to_owned(), poison.clone())));
            part
        });
        let small_disk = shape.small_disk.and_then(|size| SmallDisk::mount(&dir.join("out"), size));
        let (coordinators, workers) = (coordinators.collect(), workers.collect());
        let mut cluster = Self { workers, coordinators, broker, broker_files, port, dir: dir.to_owned(), small_disk };
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

    /// Hands a job in and returns its id.
    #[must_use]
    pub fn submit(&self, archive: &Path, pipeline: &Path, more: &[&str]) -> String {
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let mut args = vec!["submit".into(), "--archive".into(), text(archive), "--pipeline".into(), text(pipeline)];
        args.extend(["--out".into(), text(&self.out()), "--state".into(), text(&self.dir.join("state"))]);
        args.extend(["--nats".into(), self.nats()]);
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ended = crate::fulltime(&args).with_code(0);
        ended.stdout.lines().last().expect("the job's id").trim().to_owned()
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

    /// The logs of every part, for a test that failed.
    #[must_use]
    pub fn logs(&self) -> String {
        let parts = std::iter::once(&self.broker).chain(&self.coordinators).chain(&self.workers);
        parts.map(|part| format!("=== {}\n{}\n", part.name, part.log())).collect()
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
