//! A TCP proxy that stands between any two processes and misbehaves when told: delays, loses, resets, parts, throttles.
//! For the bus and for the object store alike; to a store it also does what a store in trouble does: see [`Manner`].

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

/// What becomes of a connection that the proxy takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    #[default]
    Carries,
    /// Resets it, as if the server were down.
    Refuses,
    /// Answers one HTTP request with 503, and ends.
    TooBusy,
    /// Carries the first request, and resets the connection instead of the answer: it was done, and nobody is told.
    KeepsAnswers,
}

/// A manner and the share of new connections, in percent, that it is shown to; the rest is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Behaviour {
    manner: Manner,
    percent: u64,
}

impl Behaviour {
    /// By turns, so that the same share comes of the same connections.
    fn towards(self, connection: u64) -> Manner {
        if connection * 37 % 100 < self.percent { self.manner } else { Manner::Carries }
    }
}

/// Forwards connections on a port of its own to a server. Ends with its owner.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    /// Counts resets: a connection ends when it is no longer what it began with.
    resets: watch::Sender<u64>,
    behaviour: watch::Sender<Behaviour>,
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
        let (weather, resets) = (watch::Sender::new(Weather::FAIR), watch::Sender::new(0));
        let behaviour = watch::Sender::new(Behaviour::default());
        let connections = Arc::new(AtomicU64::new(0));
        let mut listening = JoinSet::new();
        let seen = (weather.subscribe(), resets.subscribe(), behaviour.subscribe(), Arc::clone(&connections));
        listening.spawn(async move {
            let (weather, resets, behaviour, connections) = seen;
            let mut running = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::Relaxed);
                let manner = behaviour.borrow().towards(number);
                let (weather, mut resets) = (weather.clone(), resets.clone());
                resets.mark_unchanged();
                running.spawn(async move {
                    match manner {
                        Manner::Carries => carry(client, server, weather, resets).await,
                        Manner::Refuses => reset(&client),
                        Manner::TooBusy => turn_away(client).await,
                        Manner::KeepsAnswers => keep_answer(client, server).await,
                    }
                });
                while running.try_join_next().is_some() {}
            }
        });
        Self { address, weather, resets, behaviour, connections, _listening: listening }
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
        self.behaviour.send_replace(Behaviour::default());
    }

    /// Resets every open connection.
    pub fn reset(&self) {
        self.resets.send_modify(|resets| *resets += 1);
    }

    /// Resets every open connection, and shows this manner to so many percent of the new ones.
    pub fn behave(&self, manner: Manner, percent: u64) {
        self.behaviour.send_replace(Behaviour { manner, percent });
        self.reset();
    }

    /// Resets every open connection and every new one, as if the server were down.
    pub fn refuse(&self) {
        self.behave(Manner::Refuses, 100);
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

/// Answers one request as a store does that has too much to do.
async fn turn_away(mut client: TcpStream) {
    // Read to its end first: closing over unread bytes would be a reset, not an answer.
    if read_request(&mut client).await.is_some() {
        let body = "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";
        let head = "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close";
        let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = client.write_all(answer.as_bytes()).await;
        let _ = client.shutdown().await;
    }
}

/// Has one request carried out, and tells nobody.
async fn keep_answer(mut client: TcpStream, server: SocketAddr) {
    if let Some(request) = read_request(&mut client).await
        && let Ok(mut upstream) = TcpStream::connect(server).await
        && upstream.write_all(&request).await.is_ok()
    {
        let _ = upstream.read(&mut [0; 1]).await;
    }
    reset(&client);
}

/// One HTTP request whose length its head says; nothing where the other side ends before.
async fn read_request(client: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut request, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    loop {
        let head = request.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            if request.len() >= head + 4 + length.unwrap_or(0) {
                return Some(request);
            }
        }
        match client.read(&mut chunk).await {
            Ok(read @ 1..) => request.extend_from_slice(&chunk[..read]),
            Ok(_) | Err(_) => return None,
        }
    }
}

async fn carry(
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
