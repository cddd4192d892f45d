//! The same job on an S3 gateway as on files: archive, store and output behind the wire, with conditional PUTs.

use std::{collections::BTreeMap, process::Command, sync::Arc};

use fulltime_common::{Digest, store::Put};
use fulltime_tests::{binary, files, render, run, s3::Gateway, shipped_pipeline, start_command, tables};

#[tokio::test]
async fn a_job_over_s3_gives_the_tables_that_it_gives_over_files() {
    let Some(gateway) = Gateway::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    render(&archive, "m1", &["--seed", "4", "--size", "640x360", "--duration", "6s", "--gop", "25"]);
    render(&archive, "m2", &["--seed", "5", "--size", "640x360", "--duration", "4s", "--container", "ts"]);
    let videos = |path: &std::path::Path| path.extension().is_some_and(|e| e == "mp4" || e == "ts");
    let remote = gateway.bucket("archive").open();
    for path in files(&archive).into_iter().filter(|path| videos(path)) {
        let key = path.strip_prefix(&archive).unwrap().to_str().unwrap().to_owned();
        remote.put(&key, std::fs::read(&path).unwrap()).await.unwrap();
    }
    let more = ["--shard-length", "2s", "--select", "**/*.{mp4,ts}"];
    let local = run(&archive, &dir.path().join("out"), &shipped_pipeline(), &more).with_code(0).json();
    let expected: BTreeMap<String, Digest> = tables(&local);

    let mut command = Command::new(binary("fulltime"));
    command.args(["run", "--json", "--archive", &gateway.url("archive"), "--out", &gateway.url("out")]);
    command.arg("--pipeline").arg(shipped_pipeline()).args(more).envs(gateway.environment());
    let result = start_command(&mut command).end().with_code(0).json();
    assert_eq!((&result["frames"], &result["detections"]), (&local["frames"], &local["detections"]));

    let out = gateway.bucket("out").open();
    let generation = result["manifest"].as_str().unwrap().strip_prefix(&gateway.url("out/")).unwrap().to_owned();
    let generation = generation.rsplit_once('/').unwrap().0.to_owned();
    let mut found = BTreeMap::new();
    for table in fulltime_common::keys::TABLES {
        for object in out.list(Some(&format!("{generation}/{table}"))).await.unwrap() {
            let key = object.location.to_string();
            let bytes = out.get(&key).await.unwrap().unwrap();
            found.insert(key.strip_prefix(&format!("{generation}/")).unwrap().to_owned(), Digest::of_bytes(&bytes));
        }
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn of_many_writers_of_one_key_one_wins_and_the_rest_are_told() {
    let Some(gateway) = Gateway::start() else { return };
    let store = Arc::new(gateway.bucket("race").open());
    store.probe_writable().await.unwrap();
    for round in 0..10 {
        let writers = (0..8).map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.put_once(&format!("key-{round}"), format!("{writer}")).await.unwrap() })
        });
        let results: Vec<Put> =
            futures::future::join_all(writers).await.into_iter().map(|joined| joined.unwrap()).collect();
        let winners: Vec<usize> = (0..8).filter(|writer| results[*writer] == Put::Created).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(store.get(&format!("key-{round}")).await.unwrap().unwrap(), winners[0].to_string());
    }
}
