//! Making room: what no job needs goes, what one needs stays, whatever else happens to its neighbours.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use fulltime_tests::{
    cluster::{Cluster, Shape, wait_until},
    files, fulltime, render, run, shipped_pipeline, tables,
};
use serde_json::Value;

const SIM: [&str; 4] = ["--engine", "sim", "--shard-length", "1s"];

/// Two matches of a few seconds.
fn archive(dir: &Path) -> PathBuf {
    let archive = dir.join("archive");
    for name in ["first", "second"] {
        render(&archive.join(name), name, &["--seed", "3", "--size", "320x180", "--gop", "25", "--duration", "3s"]);
    }
    archive
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// What `gc` says in JSON.
fn gc(out: &Path, more: &[&str]) -> Value {
    let args: Vec<&str> = ["gc", "--json", "--out", text(out)].into_iter().chain(more.iter().copied()).collect();
    fulltime(&args).with_code(0).json()
}

fn results(swept: &Value, how: &str, kind: &str) -> u64 {
    swept["swept"][how][kind]["results"].as_u64().unwrap_or_default()
}

#[test]
fn a_deleted_jobs_results_go_and_those_that_another_job_shares_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (archive, out) = (archive(dir.path()), dir.path().join("out"));
    let pipeline = shipped_pipeline();
    let both = run(&archive, &out, &pipeline, &SIM).with_code(0).json();
    let one = run(&archive, &out, &pipeline, &[&SIM[..], &["--select", "first/**"]].concat()).with_code(0).json();
    let (both_id, one_id) = (both["job"].as_str().unwrap(), one["job"].as_str().unwrap());
    let expected = tables(&one);
    let stored = || files(&out.join("store")).len();
    let before = stored();

    let kept = gc(&out, &["--older-than", "0s"]);
    assert_eq!((stored(), kept["jobs"].as_u64()), (before, Some(2)), "every job keeps what it refers to: {kept}");
    let _ = fulltime(&["delete", both_id, "--out", text(&out)]).with_code(2);
    let dry = fulltime(&["delete", both_id, "--out", text(&out), "--dry-run", "--json"]).with_code(0).json();
    assert!(dry["objects"].as_u64() > Some(5), "{dry}");
    let _ = fulltime(&["delete", both_id, "--out", text(&out), "--yes"]).with_code(0);
    assert!(!out.join("jobs").join(both_id).exists(), "its own objects are gone");
    assert_eq!(stored(), before, "shared results are not its own");
    let again = fulltime(&["delete", both_id, "--out", text(&out), "--yes", "--json"]).with_code(2);
    assert!(again.json()["error"].as_str().unwrap().contains("there is no job"), "{again:?}");

    let young = gc(&out, &[]);
    assert_eq!((results(&young, "removed", "shards"), stored()), (0, before), "{young}");
    let dry = gc(&out, &["--older-than", "0s", "--dry-run"]);
    assert_eq!(
        (results(&dry, "removed", "shards"), results(&dry, "kept", "shards"), stored()),
        (3, 3, before),
        "{dry}"
    );
    let swept = gc(&out, &["--older-than", "0s"]);
    assert_eq!(swept["swept"], dry["swept"], "a dry run says what happens");
    for (kind, removed, kept) in [("shards", 3, 3), ("reduced", 1, 1), ("indexes", 1, 1), ("models", 0, 9)] {
        assert_eq!(
            (results(&swept, "removed", kind), results(&swept, "kept", kind)),
            (removed, kept),
            "{kind}: {swept}"
        );
    }
    assert!(stored() < before);

    // What is left is enough for the other job, and what went is made again.
    let again = run(&archive, &out, &pipeline, &SIM).with_code(0).json();
    let after = tables(&again);
    assert!(expected.iter().all(|(key, digest)| after.get(key) == Some(digest)));
    assert_eq!(after, {
        let elsewhere = run(&archive, &dir.path().join("elsewhere"), &pipeline, &SIM).with_code(0).json();
        tables(&elsewhere)
    });
    let shown = fulltime(&["results", one_id, "--out", text(&out)]).with_code(0);
    assert!(shown.stdout.contains("first"), "{shown:?}");
}

#[test]
fn a_live_job_is_not_deleted_and_a_deleted_one_is_forgotten_by_the_coordinator() {
    let dir = tempfile::tempdir().unwrap();
    let archive = archive(dir.path());
    let cluster = Cluster::start(&dir.path().join("cluster"), &Shape { workers: 0, ..Shape::default() });
    let job = cluster.submit(&archive, &shipped_pipeline(), &["--select", "**/*.mp4"]);
    let (out, state, nats) = (cluster.out(), cluster.dir.join("state"), cluster.nats());
    let delete = ["delete", &job, "--out", text(&out), "--state", text(&state), "--yes", "--json"];
    let refused = fulltime(&delete).with_code(2).json();
    assert!(refused["error"].as_str().unwrap().contains("neither finished nor cancelled"), "{refused}");
    assert!(refused["fix"].as_str().unwrap().contains("fulltime cancel"), "{refused}");
    let _ = fulltime(&["cancel", &job, "--nats", &nats]).with_code(0);
    let _ = fulltime(&delete).with_code(0);
    assert!(files(&state.join("registry")).is_empty() && !out.join("jobs").join(&job).exists());
    let forgotten = || fulltime(&["status", &job, "--nats", &nats]).status.code() == Some(2);
    assert!(wait_until(Duration::from_secs(30), forgotten), "the coordinator forgets it:\n{}", cluster.logs());
    assert!(!out.join("jobs").join(&job).exists(), "and makes nothing of it again");
}

#[test]
fn gc_knows_no_store_that_no_job_has_used() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("out/store/shards/ab")).unwrap();
    std::fs::write(dir.path().join("out/store/shards/ab/x"), "precious").unwrap();
    let refused =
        fulltime(&["gc", "--json", "--older-than", "0s", "--out", text(&dir.path().join("out"))]).with_code(2);
    assert!(refused.json()["error"].as_str().unwrap().contains("no job has ever used"), "{refused:?}");
    assert!(dir.path().join("out/store/shards/ab/x").is_file());
}
