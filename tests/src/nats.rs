//! A private nats-server for one test, which can be killed, wiped and started again on the same port.

use std::{
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::ports::free_port;

/// Ends with its owner, and with the test process however that ends.
#[derive(Debug)]
pub struct Server {
    /// `None` while it is down.
    child: Option<Child>,
    port: u16,
    url: String,
    storage: tempfile::TempDir,
}

impl Server {
    /// Starts a server with JetStream on a free port of the loopback interface and waits until it accepts connections.
    #[must_use]
    pub fn start() -> Self {
        let storage = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let mut server = Self { child: None, port, url: format!("nats://127.0.0.1:{port}"), storage };
        server.restart();
        server
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Of the running server.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where JetStream keeps its files.
    #[must_use]
    pub fn storage(&self) -> &Path {
        self.storage.path()
    }

    /// Ends the server with SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Deletes everything that JetStream has kept.
    pub fn wipe(&self) {
        for entry in std::fs::read_dir(self.storage()).expect("the storage").flatten() {
            std::fs::remove_dir_all(entry.path()).expect("remove a folder of the storage");
        }
    }

    /// Starts the server on its port and storage, after ending it where it runs.
    pub fn restart(&mut self) {
        self.kill();
        let program = fulltime_common::process::nats_server().expect("nats-server: run `cargo xtask setup`");
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"]).arg(self.storage());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = fulltime_common::process::end_with_parent(&mut command).spawn().expect("start nats-server");
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(child.try_wait().expect("its state").is_none(), "nats-server ended at start");
            std::thread::yield_now();
        }
        self.child = Some(child);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
