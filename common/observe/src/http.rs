//! A small HTTP/1.1 server: `/livez`, `/readyz`, `/metrics` of every daemon, and what a daemon answers besides. One request
//! a connection, everything bounded. It is for operators on a network that they trust, behind a proxy for TLS.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tracing::{debug, info, warn};

use crate::{
    health::Health,
    metrics::{Board, CONTENT_TYPE},
};

mod guard;
mod message;
mod tokens;

pub use guard::{Guard, GuardError};
pub use message::{Request, Response};
pub use tokens::{BadTokens, Caller, Role, Tokens};

/// Connections at once; more wait.
const CONNECTIONS: usize = 64;
/// Longest time for one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of a request.
const LARGEST: usize = 64 << 10;

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    At(SocketAddr),
    /// This port of the loopback address, or another one if it is taken.
    Default(u16),
}

/// No address to listen at.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no address to listen at: write address and port, such as `127.0.0.1:9870` or `[::]:9870`, or `off`")]
pub struct NotAnAddress(String);

impl std::str::FromStr for Listen {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::At).map_err(|_| NotAnAddress(text.to_owned())),
        }
    }
}

/// Why nobody can listen.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("listen at `{address}`")]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Guard(#[from] GuardError),
}

impl HttpError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Bind { .. } => "give another address with --listen, or `--listen off`".to_owned(),
            Self::Guard(error) => error.hint().to_owned(),
        }
    }
}

/// What a daemon answers besides probes and metrics.
pub trait Service: Send + Sync + 'static {
    fn answer<'a>(&'a self, request: &'a Request) -> Pin<Box<dyn Future<Output = Response> + Send + 'a>>;
}

/// Nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoService;

impl Service for NoService {
    fn answer<'a>(&'a self, _: &'a Request) -> Pin<Box<dyn Future<Output = Response> + Send + 'a>> {
        Box::pin(std::future::ready(Response::text(404, "there is /livez, /readyz and /metrics here\n")))
    }
}

/// A server that has its address and does not answer yet.
pub struct Server {
    listener: TcpListener,
    guard: Guard,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// A server at work; it ends when this is dropped.
#[derive(Debug)]
pub struct Serving {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Takes its address; `None` where nobody is to listen.
    ///
    /// # Errors
    /// The address is taken, or open to others without a token.
    pub async fn bind(listen: Listen, token_file: Option<&PathBuf>) -> Result<Option<Self>, HttpError> {
        let (address, other) = match listen {
            Listen::Off => return Ok(None),
            Listen::At(address) => (address, false),
            Listen::Default(port) => (SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port), true),
        };
        let guard = Guard::new(address.ip(), token_file)?;
        let bind = |source| HttpError::Bind { address, source };
        let listener = match TcpListener::bind(address).await {
            Err(error) if other && error.kind() == io::ErrorKind::AddrInUse => {
                TcpListener::bind(SocketAddr::new(address.ip(), 0)).await.map_err(bind)?
            }
            listener => listener.map_err(bind)?,
        };
        Ok(Some(Self { listener, guard }))
    }

    /// Begins to answer.
    ///
    /// # Errors
    /// The system does not tell the address.
    pub fn serve(self, board: Board, health: Health, service: Arc<dyn Service>) -> io::Result<Serving> {
        let Self { listener, guard } = self;
        let address = listener.local_addr()?;
        info!("listening at http://{address}");
        let house = Arc::new(House { guard, board, health, service });
        Ok(Serving { address, task: tokio::spawn(accept(listener, house)) })
    }
}

struct House {
    guard: Guard,
    board: Board,
    health: Health,
    service: Arc<dyn Service>,
}

async fn accept(listener: TcpListener, house: Arc<House>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let house = Arc::clone(&house);
                tokio::spawn(async move {
                    let _permit = permit;
                    match tokio::time::timeout(PATIENCE, house.converse(stream)).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => debug!(%error, "a connection broke off"),
                        Err(_) => debug!("a connection took too long"),
                    }
                });
            }
            Err(error) => {
                // Too many open files, most likely: others close some.
                warn!(%error, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

impl House {
    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut bytes = Vec::new();
        let response = loop {
            match Request::parse(&bytes) {
                Ok(Some(request)) => break self.answer(request).await,
                Err(response) => break response,
                Ok(None) if bytes.len() >= LARGEST => break Response::text(413, "too large\n"),
                Ok(None) => {}
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        stream.write_all(&response.head()).await?;
        stream.write_all(&response.body).await?;
        stream.shutdown().await
    }

    async fn answer(&self, mut request: Request) -> Response {
        let probe = |result: Result<(), String>| match result {
            Ok(()) => Response::text(200, "ok\n"),
            Err(lack) => Response::text(503, format!("{lack}\n")),
        };
        match request.path.as_str() {
            "/livez" => probe(self.health.live()),
            "/readyz" => probe(self.health.ready()),
            "/metrics" => Response { content_type: CONTENT_TYPE, ..Response::text(200, self.board.scrape()) },
            _ => match self.guard.admits(&request) {
                Err(refusal) => refusal,
                Ok(caller) => {
                    request.caller = caller;
                    self.service.answer(&request).await
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
