//! The caches against a real Redis: what is found where, damaged entries, a server that is away or stands still, and that
//! only our own keys are ever touched. Skipped, and said so, where there is no `redis-server` (`cargo xtask setup` brings one).

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::{
    convert::Infallible,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use fulltime_cache::{Admin, Amount, Cache, CacheError, Fault, Key, Kind, Level, RedisOptions, Shelf};
use fulltime_common::{Digest, process};
use redis::AsyncCommands as _;

/// A server on a socket in a folder of its own, killed when dropped.
struct Redis {
    folder: tempfile::TempDir,
    child: Child,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    async fn start(more: &[&str]) -> Option<Self> {
        let Some(program) = process::redis_server() else {
            eprintln!("skipped: there is no redis-server here");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let child = begin(&program, folder.path(), more);
        let redis = Self { folder, child };
        redis.wait().await;
        Some(redis)
    }

    /// Kills it and starts another at the same place, empty.
    async fn restart(&mut self, pause: Duration) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = std::fs::remove_file(self.folder.path().join("redis.sock"));
        tokio::time::sleep(pause).await;
        self.child = begin(&process::redis_server().unwrap(), self.folder.path(), &[]);
        self.wait().await;
    }

    async fn wait(&self) {
        for _ in 0..500 {
            // One that wants a password answers, too.
            let answered = match self.connect().await {
                Ok(mut connection) => redis::cmd("PING").query_async::<String>(&mut connection).await.map(|_| ()),
                Err(error) => Err(error),
            };
            if answered.is_ok() || answered.is_err_and(|error| error.code() == Some("NOAUTH")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("redis-server does not answer");
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("redis.sock").display())
    }

    async fn connect(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        redis::Client::open(self.url()).unwrap().get_multiplexed_async_connection().await
    }

    fn cache(&self) -> Cache {
        Cache::new(Some(&RedisOptions { url: self.url(), ttl: Duration::from_secs(60) })).unwrap()
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

fn begin(program: &Path, folder: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"]).arg(folder);
    command.arg("--unixsocket").arg(folder.join("redis.sock")).args(more);
    process::end_with_parent(&mut command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

fn shelf(cache: &Cache) -> Shelf<String> {
    Shelf::new(cache, Kind::Index, 3, 1 << 20, String::len)
}

fn decode(content: &Bytes) -> Result<String, std::str::Utf8Error> {
    str::from_utf8(content).map(str::to_owned)
}

async fn text(shelf: &Shelf<String>, name: &str) -> String {
    let load = async { Ok(Bytes::from(format!("content of {name}"))) };
    shelf.get(Digest::of_bytes(name.as_bytes()), decode, load).await.unwrap().to_string()
}

fn answers(cache: &Cache) -> [u64; 3] {
    [Level::Memory, Level::Redis, Level::Source].map(|level| cache.figures().answers(Kind::Index, level))
}

fn faults(cache: &Cache, fault: Fault) -> u64 {
    cache.figures().faults(Kind::Index, fault)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_has_read_the_next_finds_in_redis_and_then_in_memory() {
    let Some(redis) = Redis::start(&[]).await else { return };
    let (one, two) = (redis.cache(), redis.cache());
    assert_eq!(text(&shelf(&one), "a").await, "content of a");
    one.settled().await;
    let shelf = shelf(&two);
    for _ in 0..3 {
        assert_eq!(text(&shelf, "a").await, "content of a");
    }
    assert_eq!((answers(&one), answers(&two)), ([0, 0, 1], [2, 1, 0]));
    let mut connection = redis.connect().await.unwrap();
    let key = Key { kind: Kind::Index, version: 3, digest: Digest::of_bytes(b"a") }.to_string();
    let left: i64 = connection.pttl(&key).await.unwrap();
    assert!((50_000..=60_000).contains(&left), "{left} ms to live");
    let told = two.figures().take();
    let told: Vec<_> = told.iter().map(|t| (t.kind.as_str(), t.what.as_str(), t.fault, t.count)).collect();
    assert_eq!(told, [("index", "memory", false, 2), ("index", "redis", false, 1)]);
    assert_eq!(answers(&two), [0; 3], "told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_entry_is_counted_dropped_and_made_again() {
    let Some(redis) = Redis::start(&[]).await else { return };
    let (cache, mut connection) = (redis.cache(), redis.connect().await.unwrap());
    let key = |name: &str| Key { kind: Kind::Index, version: 3, digest: Digest::of_bytes(name.as_bytes()) }.to_string();
    text(&shelf(&cache), "a").await;
    text(&shelf(&cache), "b").await;
    cache.settled().await;
    let (a, b): (Vec<u8>, Vec<u8>) = connection.mget(&[key("a"), key("b")]).await.unwrap();
    let mut flipped = a.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let poisons = [flipped, a[..a.len() - 1].to_vec(), a[..20].to_vec(), b, b"someone else's".to_vec(), Vec::new()];
    for (i, poison) in poisons.into_iter().enumerate() {
        let () = connection.set(key("a"), poison).await.unwrap();
        let (before, cold) = (answers(&cache), shelf(&cache));
        assert_eq!(text(&cold, "a").await, "content of a", "poison {i}");
        let after = answers(&cache);
        assert_eq!((after[1], after[2]), (before[1], before[2] + 1), "poison {i} was not believed");
        assert_eq!(faults(&cache, Fault::Unsound), i as u64 + 1);
        cache.settled().await;
        assert_eq!(connection.get::<_, Vec<u8>>(key("a")).await.unwrap(), a, "put again after poison {i}");
    }
    // Sound, but not what this kind's reader understands.
    let odd = Shelf::new(&cache, Kind::Index, 3, 1 << 20, Vec::<u8>::len);
    let load = async { Ok::<_, Infallible>(Bytes::from_static(b"\xff")) };
    let digest = Digest::of_bytes(b"c");
    odd.get(digest, |content| Ok(content.to_vec()), load).await.unwrap();
    cache.settled().await;
    assert_eq!(text(&shelf(&cache), "c").await, "content of c");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_are_answered_by_one_load() {
    let cache = Cache::default();
    let (shelf, loads) = (Arc::new(shelf(&cache)), Arc::new(AtomicUsize::new(0)));
    let asking = (0..50).map(|_| {
        let (shelf, loads) = (Arc::clone(&shelf), Arc::clone(&loads));
        tokio::spawn(async move {
            let load = async {
                loads.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_millis(30)).await;
                Ok(Bytes::from_static(b"x"))
            };
            shelf.get(Digest::of_bytes(b"x"), decode, load).await.unwrap()
        })
    });
    for asked in asking.collect::<Vec<_>>() {
        assert_eq!(*asked.await.unwrap(), "x");
    }
    assert_eq!(loads.load(SeqCst), 1);
    assert_eq!(answers(&cache), [49, 0, 1]);
}

#[tokio::test]
async fn memory_is_bounded_by_bytes() {
    let cache = Cache::default();
    let shelf = Shelf::new(&cache, Kind::Index, 1, 10_000, String::len);
    for i in 0..100_u32 {
        let load = async { Ok(Bytes::from("x".repeat(1000))) };
        shelf.get(Digest::of_bytes(&i.to_le_bytes()), decode, load).await.unwrap();
    }
    assert!((1000..=10_000).contains(&shelf.held()), "{}", shelf.held());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_failed_is_nobodys_answer() {
    let cache = Cache::default();
    let shelf = shelf(&cache);
    let bad = async { Ok(Bytes::from_static(b"\xff")) };
    assert!(shelf.get(Digest::of_bytes(b"a"), decode, bad).await.is_err());
    assert_eq!(text(&shelf, "a").await, "content of a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_stops_nothing_and_is_used_again_when_it_is_back() {
    let Some(mut redis) = Redis::start(&[]).await else { return };
    let cache = redis.cache();
    text(&shelf(&cache), "a").await;
    cache.settled().await;
    redis.child.kill().unwrap();
    redis.child.wait().unwrap();
    let begun = Instant::now();
    for i in 0..200 {
        let name = i.to_string();
        assert_eq!(text(&shelf(&cache), &name).await, format!("content of {name}"));
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "200 lookups without a Redis took {took:?}");
    assert!(faults(&cache, Fault::Skipped) > 100, "most do not ask at all");
    redis.restart(Duration::ZERO).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        text(&shelf(&cache), "back").await;
        cache.settled().await;
        if answers(&cache)[1] > 0 {
            return;
        }
        assert!(Instant::now() < deadline, "Redis is back and not used");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stands_still_costs_a_few_timeouts_and_no_more() {
    let Some(redis) = Redis::start(&[]).await else { return };
    let cache = redis.cache();
    let shelf = Shelf::new(&cache, Kind::Detections, 1, 1 << 20, String::len);
    shelf.keep(Digest::of_bytes(b"a"), Arc::new("a".into()), Bytes::from_static(b"a"));
    cache.settled().await;
    redis.signal("-STOP");
    let begun = Instant::now();
    for i in 0..500_u32 {
        assert!(shelf.find(Digest::of_bytes(&i.to_le_bytes()), decode).await.is_none());
    }
    let took = begun.elapsed();
    redis.signal("-CONT");
    assert!(took < Duration::from_secs(1), "500 lookups took {took:?}");
    assert!(cache.figures().faults(Kind::Detections, Fault::Failed) >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_our_own_keys_are_counted_and_cleared() {
    let Some(redis) = Redis::start(&[]).await else { return };
    let (cache, mut connection) = (redis.cache(), redis.connect().await.unwrap());
    let shelf = shelf(&cache);
    for i in 0..30 {
        text(&shelf, &i.to_string()).await;
        cache.settled().await;
    }
    let model = Key { kind: Kind::Model, version: 1, digest: Digest::of_bytes(b"m") };
    cache.share(model, Bytes::from(vec![7; 5000]));
    cache.settled().await;
    let others = ["session:1", "fulltime", "fulltime:lock", "fulltime:index:latest", "xfulltime:index:3:0"];
    for other in others {
        let () = connection.set(other, "theirs").await.unwrap();
    }
    let mut admin = Admin::connect(&redis.url()).await.unwrap();
    let stats = admin.stats().await.unwrap();
    let sealed = |content: usize| content as u64 + 44;
    let texts: u64 = (0..30).map(|i: u32| sealed(format!("content of {i}").len())).sum();
    assert_eq!(stats.kinds[&Kind::Index], Amount { entries: 30, bytes: texts });
    assert_eq!(stats.kinds[&Kind::Model], Amount { entries: 1, bytes: sealed(5000) });
    assert_eq!((stats.kinds.len(), stats.foreign), (2, 2));
    assert!(stats.memory > 0);

    let dry = admin.clear(Some(Kind::Index), true).await.unwrap();
    assert_eq!(dry[&Kind::Index].entries, 30);
    assert_eq!(admin.stats().await.unwrap().kinds, stats.kinds, "nothing went");
    assert_eq!(admin.clear(Some(Kind::Index), false).await.unwrap(), dry);
    assert_eq!(admin.stats().await.unwrap().kinds.keys().collect::<Vec<_>>(), [&Kind::Model]);
    admin.clear(None, false).await.unwrap();
    let left: usize = redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap();
    assert_eq!(left, others.len());
    for other in others {
        assert_eq!(connection.get::<_, String>(other).await.unwrap(), "theirs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_shown_nowhere() {
    const SECRET: &str = "planted-5ecret-9aa1";
    let wrong = format!("redis://ann:{SECRET}@127.0.0.1:1/0");
    let options = RedisOptions { url: wrong.clone(), ttl: Duration::from_secs(1) };
    let cache = Cache::new(Some(&options)).unwrap();
    let mut shown = format!("{options:?} {cache:?} ");
    let mut note = |error: &CacheError| {
        shown.push_str(&format!("{error:?} {} ", fulltime_common::error::chain(error)));
    };
    note(&Admin::connect(&wrong).await.unwrap_err());
    for bad in [format!("redis://ann:{SECRET}@:x"), format!("http://{SECRET}"), SECRET.to_owned()] {
        note(&Admin::connect(&bad).await.unwrap_err());
    }
    note(&Admin::connect(&format!("rediss://ann:{SECRET}@127.0.0.1:1/#insecure")).await.unwrap_err());
    if let Some(redis) = Redis::start(&["--requirepass", "another"]).await {
        let url = format!("{}?pass={SECRET}", redis.url());
        let mut admin = Admin::connect(&url).await;
        note(admin.as_mut().expect_err("a wrong password is refused"));
    }
    assert!(!shown.contains(SECRET), "{shown}");
}
