//! Several workers that want the same engine, over a real folder.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers, too")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use fulltime_common::{Digest, store::Store};
use fulltime_engines::{EngineKey, Engines, Obtained};

const BEAT: Duration = Duration::from_millis(50);

fn key() -> EngineKey {
    EngineKey {
        model: Digest::of_bytes(b"model"),
        tensorrt: "10".into(),
        runtime: "1".into(),
        driver: "580".into(),
        device: "NVIDIA L4".into(),
        capability: 89,
        precision: "fp16".into(),
        calibration: None,
        shapes: [vec![1, 3, 8, 8], vec![4, 3, 8, 8], vec![8, 3, 8, 8]],
    }
}

fn store(folder: &Path) -> Store {
    Store::create(&folder.join("store").display().to_string()).unwrap()
}

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A builder that takes a while and says who it was.
fn building<'a>(name: &'a str, takes: Duration, built: &'a AtomicU32) -> impl Fn(&Path) -> Outcome + Sync + 'a {
    move |folder| {
        std::thread::sleep(takes);
        built.fetch_add(1, SeqCst);
        std::fs::write(folder.join("model_sm89.engine"), name)?;
        Ok(())
    }
}

async fn until_there(
    engines: &mut Engines,
    folder: &Path,
    build: &(dyn Fn(&Path) -> Outcome + Sync),
) -> (Obtained, u32) {
    let mut waited = 0;
    loop {
        match engines.obtain(&key(), folder, build).await.unwrap() {
            Obtained::Elsewhere => waited += 1,
            done => return (done, waited),
        }
        tokio::time::sleep(BEAT / 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn two_want_an_engine_one_builds_it() {
    let folder = tempfile::tempdir().unwrap();
    let built = Arc::new(AtomicU32::new(0));
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    // Each in a task of its own: a build holds its task up. It takes longer than the patience of who waits, so that only
    // beats keep the claim alive.
    let worker = |name: &'static str, to: &Path| {
        let (store, built, to) = (store(folder.path()), built.clone(), to.to_owned());
        tokio::spawn(async move {
            let build = building(name, BEAT * 12, &built);
            until_there(&mut Engines::new(store, name, BEAT), &to, &build).await
        })
    };
    let (first, second) = (worker("one", &a), worker("two", &b));
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let mut outcomes = [first.0, second.0];
    outcomes.sort_by_key(|outcome| *outcome == Obtained::Fetched);
    assert_eq!(outcomes, [Obtained::Built, Obtained::Fetched]);
    assert_eq!(built.load(SeqCst), 1);
    assert!(first.1 + second.1 >= 2, "the other could run something else meanwhile");
    let read = |folder: &Path| std::fs::read(folder.join("model_sm89.engine")).unwrap();
    assert_eq!(read(&a), read(&b));
    // Whoever comes later finds it.
    let mut three = Engines::new(store(folder.path()), "three", BEAT);
    let later = three.obtain(&key(), &folder.path().join("c"), &building("c", BEAT, &built)).await.unwrap();
    assert_eq!((later, built.load(SeqCst)), (Obtained::Fetched, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_builder_that_dies_is_succeeded() {
    let folder = tempfile::tempdir().unwrap();
    let built = AtomicU32::new(0);
    let store = store(folder.path());
    // The first claims, beats twice, and is gone.
    let claims = key().engine().replace("/engine", "/claims");
    for name in ["claim.json", "beat-1", "beat-2"] {
        store.put_once(&format!("{claims}/0/{name}"), "{}").await.unwrap();
    }
    let mut engines = Engines::new(store.clone(), "two", BEAT);
    let build = building("two", BEAT, &built);
    let (outcome, waited) = until_there(&mut engines, &folder.path().join("b"), &build).await;
    assert_eq!((outcome, built.load(SeqCst)), (Obtained::Built, 1));
    assert!(waited >= 4, "it was given time: {waited}");
    assert!(store.exists(&format!("{claims}/1/claim.json")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_builder_that_was_only_slow_takes_the_engine_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let built = AtomicU32::new(0);
    let (own, other) = (folder.path().join("own"), folder.path().join("other"));
    let store = store(folder.path());
    let place = key().engine();
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("model_sm89.engine"), "theirs").unwrap();
    let theirs = fulltime_engines::pack(&other).unwrap();
    // While it builds, somebody else puts one.
    let path = folder.path().join("store").join(&place);
    let build = |folder: &Path| -> Outcome {
        std::fs::create_dir_all(path.parent().unwrap())?;
        std::fs::write(&path, &theirs)?;
        building("slow", BEAT, &built)(folder)
    };
    let outcome = Engines::new(store, "slow", BEAT).obtain(&key(), &own, &build).await.unwrap();
    assert_eq!(outcome, Obtained::BuiltTwice);
    assert_eq!(std::fs::read_to_string(own.join("model_sm89.engine")).unwrap(), "theirs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_build_that_fails_is_told_and_leaves_no_engine() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let build = |_: &Path| -> Outcome { Err("no kernel for this layer".into()) };
    let error =
        Engines::new(store.clone(), "one", BEAT).obtain(&key(), &folder.path().join("a"), &build).await.unwrap_err();
    assert!(error.to_string().starts_with("build the engine `engines/"), "{error}");
    assert!(!store.exists(&key().engine()).await.unwrap());
    assert!(!folder.path().join("a").exists());
}
