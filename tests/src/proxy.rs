//! A TCP proxy that stands between any two processes and misbehaves when told: delays, loses, resets, parts, throttles.
//! For the bus and for the object store alike.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Chunks on their way through a delay.
const UNDER_WAY: usize = 256;

/// How the way through the proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weather {
    /// Every chunk arrives so much later.
    pub delay: Duration,
    /// At most so many bytes a second, each way and connection.
    pub bytes_per_second: Option<u64>,
    /// Nothing gets through to the server, nothing back: connections stay open, and new ones are accepted, but silent.
    pub lost_to_server: bool,
    pub lost_to_client: bool,
}

impl Weather {
    pub const FAIR: Self =
        Self { delay: Duration::ZERO, bytes_per_second: None, lost_to_server: false, lost_to_client: false };
    /// Both ways are cut without either side being told.
    pub const PARTED: Self = Self { lost_to_server: true, lost_to_client: true, ..Self::FAIR };
}

/// Forwards connections on a port of its own to a server. Ends with its owner.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    /// Counts resets: a connection ends when it is no longer what it began with.
    resets: watch::Sender<u64>,
    refusing: watch::Sender<bool>,
    connections: Arc<AtomicU64>,
    _listening: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port of the loopback interface.
    ///
    /// # Panics
    /// Where no port is free.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (weather, resets, refusing) =
            (watch::Sender::new(Weather::FAIR), watch::Sender::new(0), watch::Sender::new(false));
        let connections = Arc::new(AtomicU64::new(0));
        let mut listening = JoinSet::new();
        let seen = (weather.subscribe(), resets.subscribe(), refusing.subscribe(), Arc::clone(&connections));
        listening.spawn(async move {
            let (weather, resets, refusing, connections) = seen;
            let mut running = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if *refusing.borrow() {
                    reset(&client);
                    continue;
                }
                connections.fetch_add(1, Ordering::Relaxed);
                let (weather, mut resets) = (weather.clone(), resets.clone());
                resets.mark_unchanged();
                running.spawn(connection(client, server, weather, resets));
                while running.try_join_next().is_some() {}
            }
        });
        Self { address, weather, resets, refusing, connections, _listening: listening }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, for open connections and new ones.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    pub fn heal(&self) {
        self.set(Weather::FAIR);
        self.refusing.send_replace(false);
    }

    /// Resets every open connection.
    pub fn reset(&self) {
        self.resets.send_modify(|resets| *resets += 1);
    }

    /// Resets every open connection and every new one, as if the server were down.
    pub fn refuse(&self) {
        self.refusing.send_replace(true);
        self.reset();
    }

    /// How many connections have been accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Closes a connection so that the other side sees a reset, not an end.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn connection(
    mut client: TcpStream,
    server: SocketAddr,
    weather: watch::Receiver<Weather>,
    mut resets: watch::Receiver<u64>,
) {
    let Ok(mut upstream) = TcpStream::connect(server).await else { return reset(&client) };
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let ended = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), upstream.split());
        let both = async {
            let there = forward(from_client, to_server, weather.clone(), |weather| weather.lost_to_server);
            let back = forward(from_server, to_client, weather.clone(), |weather| weather.lost_to_client);
            tokio::join!(there, back)
        };
        tokio::select! {
            _ = both => true,
            _ = resets.changed() => false,
        }
    };
    if !ended {
        reset(&client);
        reset(&upstream);
    }
}

/// Carries bytes one way until the end of the stream. What is lost on a cut way arrives when it heals, unless the
/// connection has been given up: so does TCP, which sends it again.
async fn forward(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
    lost: fn(&Weather) -> bool,
) {
    // Chunks and when they are due: a delay must not make the way narrower.
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let conditions = weather.clone();
    let reading = async move {
        let mut chunk = vec![0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            let due = Instant::now() + conditions.borrow().delay;
            if sender.send((due, chunk[..read].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            let Ok(now) = weather.wait_for(|weather| !lost(weather)).await.map(|weather| *weather) else { break };
            if let Some(rate) = now.bytes_per_second {
                tokio::time::sleep(Duration::from_secs_f64(bytes.len() as f64 / rate.max(1) as f64)).await;
            }
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}
