//! The fault proxy itself: what it does to a conversation with an echoing server.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use fulltime_tests::proxy::{Manner, Proxy, Weather};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};

const SOON: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(50);

/// A proxy before a server that says everything again.
async fn before_an_echo() -> Proxy {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.is_ok()
            });
        }
    });
    Proxy::start(address).await
}

async fn echoed(stream: &mut TcpStream, said: &[u8]) -> std::io::Result<()> {
    stream.write_all(said).await?;
    let mut heard = vec![0; said.len()];
    tokio::time::timeout(SOON, stream.read_exact(&mut heard)).await.expect("an answer or an error")?;
    assert_eq!(heard, said);
    Ok(())
}

#[tokio::test]
async fn fair_weather_carries_every_byte_both_ways_and_the_end() {
    let proxy = before_an_echo().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let said: Vec<u8> = (0..3_000_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    let (mut read, mut write) = stream.split();
    let writing = async {
        write.write_all(&said).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let (read, ()) = tokio::join!(read.read_to_end(&mut heard), writing);
    read.unwrap();
    assert!(heard == said, "{} of {} bytes", heard.len(), said.len());
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_partition_is_silent_and_what_was_said_arrives_when_it_heals() {
    let proxy = before_an_echo().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    echoed(&mut stream, b"before").await.unwrap();
    for cut in [
        Weather::PARTED,
        Weather { lost_to_server: true, ..Weather::FAIR },
        Weather { lost_to_client: true, ..Weather::FAIR },
    ] {
        proxy.set(cut);
        stream.write_all(b"during").await.unwrap();
        let mut heard = [0; 6];
        assert!(tokio::time::timeout(MOMENT, stream.read_exact(&mut heard)).await.is_err(), "{cut:?}");
        proxy.heal();
        tokio::time::timeout(SOON, stream.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(&heard, b"during");
    }
}

#[tokio::test]
async fn a_reset_is_seen_as_one_and_the_next_connection_is_fine() {
    let proxy = before_an_echo().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    echoed(&mut stream, b"before").await.unwrap();
    proxy.reset();
    let error = tokio::time::timeout(SOON, stream.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    echoed(&mut stream, b"after").await.unwrap();
    proxy.refuse();
    tokio::time::timeout(SOON, stream.read_u8()).await.unwrap().unwrap_err();
    let refused = async { echoed(&mut TcpStream::connect(proxy.address()).await?, b"refused").await };
    refused.await.unwrap_err();
    proxy.heal();
    echoed(&mut TcpStream::connect(proxy.address()).await.unwrap(), b"healed").await.unwrap();
}

#[tokio::test]
async fn delay_and_throttle_hold_back_and_lose_nothing() {
    let proxy = before_an_echo().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let started = Instant::now();
    proxy.set(Weather { delay: MOMENT, ..Weather::FAIR });
    echoed(&mut stream, b"late").await.unwrap();
    assert!(started.elapsed() >= MOMENT * 2, "there and back");
    let started = Instant::now();
    proxy.set(Weather { bytes_per_second: Some(100_000), ..Weather::FAIR });
    echoed(&mut stream, &[7; 10_000]).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(100), "as many bytes as pass in that time");
}

/// A proxy before a server that answers every request with 200 and counts them.
async fn before_a_store() -> (Proxy, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let (address, served) = (listener.local_addr().expect("its address"), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&served);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; REQUEST.len()];
            if stream.read_exact(&mut request).await.is_ok() && request == REQUEST {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    });
    (Proxy::start(address).await, served)
}

const REQUEST: &[u8] = b"PUT /key HTTP/1.1\r\nHost: store\r\nContent-Length: 5\r\n\r\nbytes";

async fn asked(proxy: &Proxy) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(proxy.address()).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = [0; 12];
    tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await.expect("an answer or an error")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn a_store_that_is_too_busy_does_nothing_and_one_that_keeps_its_answers_has_done_it() {
    let (proxy, served) = before_a_store().await;
    proxy.behave(Manner::TooBusy, 100);
    assert_eq!(asked(&proxy).await.unwrap(), "HTTP/1.1 503");
    assert_eq!(served.load(Ordering::SeqCst), 0);
    proxy.behave(Manner::KeepsAnswers, 100);
    asked(&proxy).await.unwrap_err();
    assert_eq!(served.load(Ordering::SeqCst), 1);
    proxy.heal();
    assert_eq!(asked(&proxy).await.unwrap(), "HTTP/1.1 200");
}

#[tokio::test]
async fn trouble_comes_to_the_given_share_of_connections() {
    let (proxy, _) = before_a_store().await;
    proxy.behave(Manner::TooBusy, 30);
    let mut busy = 0;
    for _ in 0..100 {
        busy += u64::from(asked(&proxy).await.unwrap() == "HTTP/1.1 503");
    }
    assert_eq!(busy, 30);
}
