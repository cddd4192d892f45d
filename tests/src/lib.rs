//! The harness of the cluster tests: real processes of ours and of NATS, real files, real signals. Scenarios lie in
//! `tests/`, benches against limits in `src/bin/bench/`.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};

use fulltime_common::Digest;
use serde_json::Value;

pub mod cluster;
pub mod guest;
pub mod nats;
pub mod network;
pub mod ports;
pub mod proxy;
pub mod s3;
pub mod score;

/// Longest time that anything here may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(300);

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository exists")
}

/// A binary of this build, beside the running test.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    fulltime_common::process::sibling(name)
        .unwrap_or_else(|| panic!("`{name}` is not built: run `cargo build --release --workspace --bins` first"))
}

/// A file of the test assets, or `None` (said on standard error) where they are not there.
#[must_use]
pub fn asset(relative: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("FULLTIME_ASSETS").map_or_else(|| root().join("../shared/assets"), PathBuf::from);
    let path = folder.join(relative);
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: no test asset `{relative}` (set FULLTIME_ASSETS to the folder that has it)");
    None
}

/// Renders a synthetic match into `out`, with further arguments for `fulltime-synth match`.
pub fn render(out: &Path, name: &str, more: &[&str]) {
    let status = Command::new(binary("fulltime-synth"))
        .args(["match", "--name", name, "--out"])
        .arg(out)
        .args(more)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("start fulltime-synth");
    assert!(status.success(), "fulltime-synth failed for {name}");
}

/// The shipped detector's pipeline file.
#[must_use]
pub fn shipped_pipeline() -> PathBuf {
    root().join("models/synth-detector/pipeline.toml")
}

/// Writes a manifest for the test assets' YOLOX-nano and a pipeline with this `[detect]` body into `dir`.
#[must_use]
pub fn yolox_pipeline(dir: &Path, detect: &str) -> Option<PathBuf> {
    let model = asset("models/yolox_nano_dyn.onnx")?;
    let sha256 = Digest::of_bytes(&std::fs::read(&model).expect("read the model"));
    let classes: Vec<String> =
        (0..80).map(|i| if i == 0 { "person".to_owned() } else { format!("coco-{i}") }).collect();
    let manifest = format!(
        "name = \"yolox-nano\"\nclasses = {classes:?}\n\n[file]\npath = {model:?}\nsha256 = \"{sha256}\"\n\n\
         [input]\nchannels = \"bgr\"\nsize = [416, 416]\n\n[output]\nhead = \"yolox\"\nstrides = [8, 16, 32]\n"
    );
    std::fs::write(dir.join("yolox.toml"), manifest).expect("write the manifest");
    let path = dir.join("pipeline.toml");
    let text = format!("name = \"yolox\"\n\n[detect]\nmodel = \"yolox.toml\"\nclasses = [\"person\"]\n{detect}\n");
    std::fs::write(&path, text).expect("write the pipeline");
    Some(path)
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The last line of standard output as JSON: what `--json` promises.
    #[must_use]
    pub fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON on the last line: {error}\n{self:#?}"))
    }

    /// Fails the test unless the command ended with this code.
    #[must_use]
    pub fn with_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// A running `fulltime` (or another binary), its standard error read line by line.
#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
    stdout: std::thread::JoinHandle<String>,
}

/// Starts a binary of ours.
#[must_use]
pub fn start(name: &str, args: &[&str]) -> Running {
    start_command(Command::new(binary(name)).args(args))
}

/// Starts any command.
#[must_use]
pub fn start_command(command: &mut Command) -> Running {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = fulltime_common::process::end_with_parent(command).spawn().expect("start the command");
    let (sender, lines) = mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut stdout = child.stdout.take().expect("piped");
    let stdout = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut stdout, &mut text);
        text
    });
    Running { child, lines, seen: Vec::new(), stdout }
}

impl Running {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line on standard error for which `wanted` holds, and returns it.
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            match self.lines.recv_timeout(HUNG) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(_) => panic!("never said {what}; said:\n{}", self.seen.join("\n")),
            }
        }
    }

    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Child processes whose command name begins with `name`.
    #[must_use]
    pub fn children(&self, name: &str) -> Vec<u32> {
        children(self.pid(), name)
    }

    /// Waits for the end.
    #[must_use]
    pub fn end(mut self) -> Ended {
        let pid = self.pid();
        let (sender, ended) = mpsc::channel::<()>();
        // A hung process is killed, so that the test fails with what it said.
        std::thread::spawn(move || {
            if ended.recv_timeout(HUNG) == Err(mpsc::RecvTimeoutError::Timeout) {
                kill(pid, libc::SIGKILL);
            }
        });
        let status = self.child.wait().expect("wait for the command");
        drop(sender);
        self.seen.extend(self.lines.iter());
        Ended { status, stdout: self.stdout.join().unwrap_or_default(), stderr: self.seen.join("\n") }
    }
}

/// Sends a signal to a process of ours.
pub fn kill(pid: u32, signal: i32) {
    // SAFETY: a plain system call; the process id is one that we started.
    unsafe { libc::kill(i32::try_from(pid).expect("a process id"), signal) };
}

/// Child processes of `parent` whose command name begins with `name` (the kernel cuts names to 15 characters).
#[must_use]
pub fn children(parent: u32, name: &str) -> Vec<u32> {
    let name = &name[..name.len().min(15)];
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("procfs").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        // "pid (name) state ppid …"
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let command = head.split_once('(').map_or("", |(_, name)| name);
        let ppid = tail.split_whitespace().nth(1).and_then(|p| p.parse::<u32>().ok());
        if ppid == Some(parent) && command.starts_with(name) {
            found.push(pid);
        }
    }
    found
}

/// Runs `fulltime` to its end.
#[must_use]
pub fn fulltime(args: &[&str]) -> Ended {
    start("fulltime", args).end()
}

/// `fulltime run --json` over a folder, with further arguments.
#[must_use]
pub fn run(archive: &Path, out: &Path, pipeline: &Path, more: &[&str]) -> Ended {
    let [archive, out, pipeline] = [archive, out, pipeline].map(|path| path.to_str().expect("UTF-8"));
    let mut args = vec!["run", "--json", "--archive", archive, "--out", out, "--pipeline", pipeline];
    args.extend(more);
    fulltime(&args)
}

/// The published tables of a finished job: path below the generation's folder and digest of the bytes.
#[must_use]
pub fn tables(result: &Value) -> BTreeMap<String, Digest> {
    tables_below(&generation(result))
}

/// As [`tables`], of the generation in this folder.
#[must_use]
pub fn tables_below(generation: &Path) -> BTreeMap<String, Digest> {
    let mut found = BTreeMap::new();
    for table in fulltime_common::keys::TABLES {
        for path in files(&generation.join(table)) {
            let name = path.strip_prefix(generation).expect("below it").to_string_lossy().into_owned();
            found.insert(name, Digest::of_bytes(&std::fs::read(&path).expect("read a table")));
        }
    }
    assert!(!found.is_empty(), "no tables below {}", generation.display());
    found
}

/// The folder of the generation that a finished `fulltime run --json` names.
#[must_use]
pub fn generation(result: &Value) -> PathBuf {
    let manifest = result["manifest"].as_str().unwrap_or_else(|| panic!("no manifest in {result}"));
    let url = url::Url::parse(manifest).expect("the manifest's URL");
    url.to_file_path().expect("a file URL").parent().expect("a folder").to_owned()
}

/// Every file below a folder, sorted.
#[must_use]
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}
