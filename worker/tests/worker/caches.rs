//! What workers share through Redis: the second camera of one feed costs no inference, and nobody can tell from the tables.
//! Skipped, and said so, where there is no `redis-server`.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use fulltime_cache::{Admin, Kind, Stats};
use fulltime_common::process;

use crate::ground::{FRAMES, Ground, small};

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
    async fn start() -> Option<Self> {
        let Some(program) = process::redis_server() else {
            eprintln!("skipped: there is no redis-server here");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(folder.path().join("redis.sock"));
        process::end_with_parent(command.arg("--dir").arg(folder.path()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let redis = Self { folder, child };
        for _ in 0..500 {
            if Admin::connect(&redis.url()).await.is_ok() {
                return Some(redis);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("redis-server does not answer");
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("redis.sock").display())
    }

    async fn stats(&self) -> Stats {
        Admin::connect(&self.url()).await.unwrap().stats().await.unwrap()
    }

    async fn command(&self, words: &[&str]) {
        let socket = self.folder.path().join("redis.sock");
        let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        stream.write_all(format!("{}\r\n", words.join(" ")).as_bytes()).await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
    }
}

/// Pictures of one recording, once under each of these names.
async fn ground(names: &[&str]) -> Ground {
    let ground = Ground::new("").await;
    ground.record("one.mp4", FRAMES, &small());
    for name in names {
        std::fs::copy(ground.path("archive/one.mp4"), ground.path("archive").join(name)).unwrap();
    }
    std::fs::remove_file(ground.path("archive/one.mp4")).unwrap();
    ground
}

/// Has a worker of its own compute a recording as shards of one interval; its tables, in the order of its frames.
async fn tables(ground: &mut Ground, name: &str, flags: &[&'static str]) -> Vec<Vec<u8>> {
    ground.flags = flags.to_vec();
    let worker = ground.start_named(&format!("for-{name}-{}", flags.len()), 1).await;
    let index = ground.index(name).await;
    let mut tables = Vec::new();
    for i in 0..4 {
        let task = ground.shard(&index, i..i + 1, &worker);
        ground.release(&task).await;
        assert_eq!(ground.committed(task.digest).await.frames, 25);
        let ours = |(path, bytes): (PathBuf, Vec<u8>)| {
            let mine = path.to_str().unwrap().contains(&task.digest.to_string());
            (mine && path.extension().is_some_and(|e| e == "parquet")).then_some(bytes)
        };
        tables.extend(ground.shard_files().into_iter().filter_map(ours));
    }
    drop(worker.shutdown);
    worker.ended.await.unwrap().unwrap();
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_camera_of_the_same_feed_is_answered_from_redis_with_the_bytes_of_inference() {
    let Some(redis) = Redis::start().await else { return };
    let flags: [&'static str; 2] = ["--redis", redis.url().leak()];
    let inferred = tables(&mut ground(&["a.mp4"]).await, "a.mp4", &["--no-reuse"]).await;
    assert_eq!(inferred.len(), 12, "three tables a shard");

    let mut shared = ground(&["a.mp4", "b.mp4"]).await;
    assert!(tables(&mut shared, "a.mp4", &flags).await == inferred, "while the cache is filled");
    let first = redis.stats().await;
    assert_eq!(first.kinds[&Kind::Detections].entries, u64::from(FRAMES), "every picture differs and is kept");
    assert_eq!(first.kinds[&Kind::Index].entries, 1);
    assert_eq!(first.kinds[&Kind::Pipeline].entries, 1);

    // Another worker: it has nothing in memory.
    assert!(tables(&mut shared, "b.mp4", &flags).await == inferred, "out of the cache");
    let second = redis.stats().await;
    assert_eq!(second.kinds[&Kind::Detections], first.kinds[&Kind::Detections], "nothing was inferred");
    assert!(second.hits - first.hits >= u64::from(FRAMES), "{} of {FRAMES} hit", second.hits - first.hits);

    // Whoever damages entries is found out, picture by picture.
    redis.command(&["EVAL", DAMAGE, "0"]).await;
    let mut again = ground(&["c.mp4"]).await;
    assert!(tables(&mut again, "c.mp4", &flags).await == inferred, "over damaged entries");
    assert_eq!(redis.stats().await.kinds[&Kind::Detections], first.kinds[&Kind::Detections], "all are sound again");
}

/// Turns the last byte of every entry over. In quotes, as one word of an inline command.
const DAMAGE: &str = "\"for _, key in ipairs(redis.call('KEYS', 'fulltime:*')) do \
                      local length = redis.call('STRLEN', key) \
                      local last = redis.call('GETRANGE', key, -1, -1) \
                      redis.call('SETRANGE', key, length - 1, string.char((string.byte(last) + 1) % 256)) end return 1\"";

#[tokio::test(flavor = "multi_thread")]
async fn without_its_redis_a_worker_works_on() {
    let inferred = tables(&mut ground(&["a.mp4"]).await, "a.mp4", &[]).await;
    let away = ["--redis", "redis://127.0.0.1:1"];
    assert!(tables(&mut ground(&["a.mp4"]).await, "a.mp4", &away).await == inferred);
}
