//! A private nats-server for one test.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

/// Ends with its owner, and with the test process however that ends.
#[derive(Debug)]
pub struct Server {
    child: Child,
    url: String,
    _storage: tempfile::TempDir,
}

impl Server {
    /// Starts a server with JetStream on a free port of the loopback interface and waits until it accepts connections.
    #[must_use]
    pub fn start() -> Self {
        let program = fulltime_common::process::nats_server().expect("nats-server: run `cargo xtask setup`");
        let storage = tempfile::tempdir().expect("a temporary folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(storage.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = fulltime_common::process::end_with_parent(&mut command).spawn().expect("start nats-server");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(child.try_wait().expect("its state").is_none(), "nats-server ended at start");
            std::thread::yield_now();
        }
        Self { child, url: format!("nats://127.0.0.1:{port}"), _storage: storage }
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
