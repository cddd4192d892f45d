//! Coordinator and workers as child processes of `fulltime run`: started, watched, started again after a crash, ended.

use std::{
    fs::OpenOptions,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use fulltime_common::{
    error::{Exit, Failure},
    process::end_with_parent,
};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

/// How often in succession a part is started again.
const RESTARTS: u32 = 5;
/// A part that ran for so long had a good start: its restarts are counted anew.
const GOOD: Duration = Duration::from_mins(1);
/// Time for a worker to hand its work back.
const GRACE: Duration = Duration::from_secs(10);

/// One child process.
#[derive(Debug, Clone)]
pub struct Part {
    /// `coordinator`, `worker-0`; names its log, too.
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(&'static str, PathBuf)>,
    pub log: PathBuf,
}

/// Ctrl-C at a terminal goes to the whole foreground group; parts must not hear it, since they end in an order.
pub fn of_its_own_group(command: &mut std::process::Command) -> &mut std::process::Command {
    command.process_group(0)
}

/// Asks a child to end, and makes it after `grace`.
pub async fn end(child: &mut Child, grace: Duration) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // SAFETY: a plain system call; the child has not been waited for, so the id is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
    if tokio::time::timeout(grace, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

impl Part {
    /// Runs the part until `stop`, starting it again when it crashes. `say` hears of restarts.
    ///
    /// # Errors
    /// It cannot be started, ended with a code that a restart does not mend, or crashed too often.
    pub async fn keep(self, stop: CancellationToken, say: impl Fn(String)) -> Result<(), Failure> {
        let mut restarts = 0;
        loop {
            let length = std::fs::metadata(&self.log).map_or(0, |meta| meta.len());
            let mut child = self.start()?;
            let started = Instant::now();
            let status = tokio::select! {
                status = child.wait() => status.map_err(|error| self.unstartable(&error))?,
                () = stop.cancelled() => {
                    end(&mut child, GRACE).await;
                    return Ok(());
                }
            };
            if started.elapsed() > GOOD {
                restarts = 0;
            }
            restarts += 1;
            let last = last_words(&tail(&self.log, length));
            let Some(delay) = restart_after(status, restarts) else { return Err(self.gave_up(status, last)) };
            let said = last.error.map(|error| format!(": {error}")).unwrap_or_default();
            say(format!("{} ended ({}), starting it again{said}", self.name, ending(status)));
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// The part ends with the thread that starts it, so call this on the main thread's runtime only.
    fn start(&self) -> Result<Child, Failure> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.and_then(|log| Ok((log.try_clone()?, log))).map_err(|error| self.unstartable(&error))?;
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(key, value)| (key, value)));
        // Meant for whoever starts one daemon; here are several.
        command.env_remove("FULLTIME_LISTEN");
        command.stdin(Stdio::null()).stdout(log.0).stderr(log.1);
        of_its_own_group(end_with_parent(&mut command));
        Command::from(command).kill_on_drop(true).spawn().map_err(|error| self.unstartable(&error))
    }

    fn unstartable(&self, error: &std::io::Error) -> Failure {
        let cause = format!("start {} (`{}`): {error}", self.name, self.program.display());
        Failure::new(Exit::Internal, cause, "install fulltime again; its three binaries belong in one folder")
    }

    fn gave_up(&self, status: ExitStatus, last: LastWords) -> Failure {
        let exit = code(status).and_then(Exit::from_code).unwrap_or(Exit::Internal);
        let log = || format!("see its log, `{}`", self.log.display());
        match last {
            LastWords { error: Some(error), fix, .. } => {
                Failure { exit, cause: format!("{}: {error}", self.name), hint: fix.or_else(|| Some(log())) }
            }
            LastWords { error: None, line, .. } => {
                let said = line.map(|line| format!("; its last line: {line}")).unwrap_or_default();
                Failure::new(exit, format!("{} ended again and again ({}){said}", self.name, ending(status)), log())
            }
        }
    }
}

fn code(status: ExitStatus) -> Option<u8> {
    status.code().and_then(|code| u8::try_from(code).ok())
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// How long to wait before the `n`-th restart; `None` where a restart would meet the same again.
fn restart_after(status: ExitStatus, n: u32) -> Option<Duration> {
    let hopeless = match code(status).and_then(Exit::from_code) {
        Some(Exit::Usage | Exit::Archive | Exit::Store | Exit::Model | Exit::Runtime) => true,
        Some(
            Exit::Ok
            | Exit::Internal
            | Exit::Quarantine
            | Exit::Broker
            | Exit::Cancelled
            | Exit::Paused
            | Exit::Interrupted,
        )
        | None => false,
    };
    (!hopeless && n <= RESTARTS).then(|| Duration::from_millis(100 << n.min(6)))
}

/// What a part printed as its end: every binary of ours ends with `error: …` and `  fix: …`.
#[derive(Debug, Default, PartialEq, Eq)]
struct LastWords {
    error: Option<String>,
    fix: Option<String>,
    /// Of a part that ended without them.
    line: Option<String>,
}

fn last_words(log: &str) -> LastWords {
    let line = || log.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned());
    let mut fix = None;
    for line in log.lines().rev() {
        if let Some(text) = line.strip_prefix("  fix: ") {
            fix.get_or_insert_with(|| text.to_owned());
        } else if let Some(text) = line.strip_prefix("error: ") {
            return LastWords { error: Some(text.to_owned()), fix, line: None };
        } else if line.contains("panicked at") {
            return LastWords { error: Some(line.trim().to_owned()), ..LastWords::default() };
        }
    }
    LastWords { line: line(), ..LastWords::default() }
}

/// The end of a log, of what stands after `from`.
#[must_use]
pub fn tail(log: &Path, from: u64) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    const LENGTH: u64 = 8 << 10;
    let mut bytes = Vec::new();
    if let Ok(mut file) = std::fs::File::open(log) {
        let length = file.metadata().map_or(0, |meta| meta.len());
        if file.seek(SeekFrom::Start(length.saturating_sub(LENGTH).max(from))).is_ok() {
            let _ = file.read_to_end(&mut bytes);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn part(dir: &Path, script: &str) -> Part {
        Part {
            name: "worker-0".into(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![],
            log: dir.join("worker-0.log"),
        }
    }

    #[tokio::test]
    async fn a_crashed_part_is_started_again_until_it_is_told_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        // The first start crashes; the second one stays and asks to be stopped.
        let script = "if [ -e ran ]; then touch again; exec sleep 60; else touch ran; kill -9 $$; fi";
        let part = part(dir.path(), &format!("cd '{}'; {script}", dir.path().display()));
        let (said, stop) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
        let (heard, told) = (said.clone(), stop.clone());
        part.keep(stop, move |line| {
            heard.lock().unwrap().push(line);
            told.cancel();
        })
        .await
        .unwrap();
        assert_eq!(*said.lock().unwrap(), ["worker-0 ended (signal 9), starting it again"]);
    }

    #[tokio::test]
    async fn a_part_that_cannot_work_passes_its_cause_fix_and_code_on() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo 'INFO hello' >&2; echo 'error: load ONNX Runtime' >&2; echo '  fix: install it' >&2; exit 8";
        let failure = part(dir.path(), script).keep(CancellationToken::new(), |_| ()).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Runtime);
        assert_eq!(failure.cause, "worker-0: load ONNX Runtime");
        assert_eq!(failure.hint.as_deref(), Some("install it"));
    }

    #[test]
    fn restarts_wait_longer_and_longer_and_end() {
        let killed = ExitStatus::from_raw(9);
        let waits: Vec<_> = (1..=RESTARTS + 1).map(|n| restart_after(killed, n)).collect();
        assert!(waits[..RESTARTS as usize].is_sorted() && waits[..RESTARTS as usize].iter().all(Option::is_some));
        assert_eq!(waits.last(), Some(&None));
        assert_eq!(restart_after(ExitStatus::from_raw((Exit::Model as i32) << 8), 1), None);
    }
}
