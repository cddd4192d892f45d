//! A private S3 gateway (SeaweedFS) for one test, with a bucket, and stores over it.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use fulltime_common::store::Store;

use crate::{cluster::wait_until, ports::free_port};

/// The credentials that the gateway knows.
const KEY: &str = "fulltime";
const SECRET: &str = "fulltime-secret";
const BUCKET: &str = "season";
/// Until the gateway's parts have found each other.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place in a gateway, and how to reach it.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub url: String,
    pub server: SocketAddr,
}

impl Bucket {
    /// What a process needs in its environment to use this place through `server`, the gateway or a proxy before it.
    #[must_use]
    pub fn environment(server: SocketAddr) -> [(&'static str, String); 5] {
        [
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT", format!("http://{server}")),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    /// A place below this one.
    #[must_use]
    pub fn below(&self, prefix: &str) -> Self {
        Self { url: format!("{}/{prefix}", self.url), ..self.clone() }
    }

    /// Opens it in this process, whose environment is not the gateway's.
    ///
    /// # Panics
    /// Where the address is none.
    #[must_use]
    pub fn open(&self) -> Store {
        let options = Self::environment(self.server).map(|(key, value)| (key.to_ascii_lowercase(), value));
        Store::open_with(&self.url, options).expect("open a store")
    }
}

/// Ends with its owner, and with the test process however that ends.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    port: u16,
    filer: u16,
    _storage: tempfile::TempDir,
}

/// SeaweedFS: `FULLTIME_WEED`, the checkout's tools, `PATH`; `None` (said on standard error) where it is not there.
fn program() -> Option<PathBuf> {
    let given = std::env::var_os("FULLTIME_WEED").map(PathBuf::from);
    let tool = crate::root().join(".tools/bin/weed");
    let found = given.into_iter().chain([tool]).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: no SeaweedFS (`cargo xtask test` fetches it; or set FULLTIME_WEED)");
    }
    found
}

impl Gateway {
    /// Starts one on free ports of the loopback interface and waits until its bucket takes an object.
    #[must_use]
    pub fn start() -> Option<Self> {
        let program = program()?;
        let storage = tempfile::tempdir().expect("a temporary folder");
        let identities = serde_json::json!({ "identities": [{
            "name": "test",
            "credentials": [{ "accessKey": KEY, "secretKey": SECRET }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        let config = storage.path().join("identities.json");
        std::fs::write(&config, identities.to_string()).expect("write the identities");
        let data = storage.path().join("data");
        std::fs::create_dir(&data).expect("make a folder");
        let ports: [u16; 8] = std::array::from_fn(|_| free_port());
        let names = ["s3.port", "s3.port.grpc", "master.port", "master.port.grpc"];
        let names = names.into_iter().chain(["volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"]);
        let mut command = Command::new(program);
        command.args(["server", "-s3", "-ip=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=20"]);
        command.arg(format!("-dir={}", data.display())).arg(format!("-s3.config={}", config.display()));
        command.args(names.zip(ports).map(|(name, port)| format!("-{name}={port}")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = fulltime_common::process::end_with_parent(&mut command).spawn().expect("start SeaweedFS");
        let mut gateway = Self { child, port: ports[0], filer: ports[6], _storage: storage };
        let up = wait_until(PATIENCE, || {
            assert!(gateway.child.try_wait().expect("its state").is_none(), "SeaweedFS ended at start");
            gateway.make_bucket()
        });
        assert!(up, "SeaweedFS does not take objects");
        Some(gateway)
    }

    /// Buckets are folders of the gateway's file store; a file that it takes shows that everything behind it is up.
    fn make_bucket(&self) -> bool {
        let request = |text: &str| {
            let mut stream = TcpStream::connect(("127.0.0.1", self.filer))?;
            stream.write_all(text.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<bool, std::io::Error>(answer.starts_with("HTTP/1.0 20") || answer.starts_with("HTTP/1.1 20"))
        };
        let put = format!("PUT /buckets/{BUCKET}/probe HTTP/1.0\r\nContent-Length: 2\r\n\r\nup");
        let delete = format!("DELETE /buckets/{BUCKET}/probe HTTP/1.0\r\n\r\n");
        let serves = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        serves && request(&put).unwrap_or(false) && request(&delete).unwrap_or(false)
    }

    /// A place in the bucket.
    #[must_use]
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    #[must_use]
    pub fn bucket(&self, prefix: &str) -> Bucket {
        Bucket { url: self.url(prefix), server: self.server() }
    }

    fn server(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// What a process needs in its environment to use the gateway.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 5] {
        Bucket::environment(self.server())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
