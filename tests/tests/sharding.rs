//! Invariant 4: sharded equals unsharded, to the byte, whatever the shard length, the number of workers and the kills.

use std::path::Path;

use fulltime_tests::{render, run, shipped_pipeline, start, tables};
use serde_json::Value;

/// One match per kind of recording: closed GOP, open GOP, intra refresh, HEVC, TS, Matroska, and one of two halves and
/// two cameras. Small pictures keep it quick; the geometry of shards is what counts.
fn season(archive: &Path) {
    let kinds: [(&str, &[&str]); 7] = [
        ("closed", &[]),
        ("open", &["--open-gop"]),
        ("refresh", &["--intra-refresh"]),
        ("hevc", &["--codec", "hevc", "--open-gop"]),
        ("stream", &["--container", "ts"]),
        ("matroska", &["--container", "mkv"]),
        ("halves", &["--halves", "2", "--cameras", "2"]),
    ];
    for (name, more) in kinds {
        let out = archive.join(name);
        let seconds = if name == "halves" { "4s" } else { "12s" };
        let common = ["--seed", "5", "--size", "640x360", "--fps", "25", "--gop", "40", "--duration", seconds];
        render(&out, name, &[&common, more].concat());
    }
}

const TEMPLATE: [&str; 4] =
    ["--template", "{match}/{ignore}_p{period}_{camera}.{ignore}", "--select", "**/*.{mp4,ts,mkv}"];

fn counts(result: &Value) -> (u64, u64, u64) {
    let number = |key: &str| result[key].as_u64().unwrap_or_else(|| panic!("no {key} in {result}"));
    (number("frames"), number("detections"), number("matches"))
}

#[test]
fn tables_are_byte_identical_for_any_shard_length_number_of_workers_and_a_killed_worker() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let archive = dir.path().join("archive");
    season(&archive);
    let pipeline = shipped_pipeline();
    let go = |name: &str, length: &str, workers: &str| {
        let mut more = vec!["--shard-length", length, "--workers", workers];
        more.extend(TEMPLATE);
        run(&archive, &dir.path().join(name), &pipeline, &more).with_code(0).json()
    };

    let whole = go("whole", "whole", "1");
    let expected = tables(&whole);
    assert_eq!(counts(&whole).2, 7);
    assert_eq!(counts(&whole).0, 6 * 300 + 4 * 100, "every frame of every recording is there");
    assert!(counts(&whole).1 > 5_000, "players are detected: {whole}");
    assert_eq!(whole["quarantined"], 0);

    for (name, length, workers) in [("two", "2s", "1"), ("ten", "10s", "3")] {
        let sharded = go(name, length, workers);
        assert!(sharded["shards"].as_u64() > whole["shards"].as_u64(), "it was really cut: {sharded}");
        assert_eq!(counts(&sharded), counts(&whole));
        assert_eq!(tables(&sharded), expected, "shard length {length}, {workers} workers");
    }

    // Now with a worker killed in the middle, without notice.
    let out = dir.path().join("killed");
    let [archive, out, pipeline] = [&archive, &out, &pipeline].map(|p| p.to_str().expect("UTF-8"));
    let mut args = vec!["run", "--json", "--archive", archive, "--out", out, "--pipeline", pipeline];
    args.extend(["--shard-length", "2s", "--workers", "2"]);
    args.extend(TEMPLATE);
    let mut running = start("fulltime", &args);
    running.wait_for("that some shards are done", |line| shards_done(line).is_some_and(|done| done >= 3));
    let workers = running.children("fulltime-worker");
    assert_eq!(workers.len(), 2, "two worker processes");
    fulltime_tests::kill(workers[0], libc::SIGKILL);
    let ended = running.end().with_code(0);
    assert_eq!(tables(&ended.json()), expected, "after a SIGKILL:\n{}", ended.stderr);
}

/// From a plain progress line: `… shards 12/40 …`.
fn shards_done(line: &str) -> Option<u64> {
    let (_, tail) = line.split_once("shards ")?;
    tail.split('/').next()?.trim().parse().ok()
}

#[test]
fn a_second_job_over_the_same_recordings_runs_nothing_again() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let archive = dir.path().join("archive");
    render(&archive, "m", &["--seed", "2", "--size", "640x360", "--duration", "6s"]);
    let out = dir.path().join("out");
    let first = run(&archive, &out, &shipped_pipeline(), &[]).with_code(0).json();
    let before = fulltime_tests::files(&out.join("store"));
    let second = run(&archive, &out, &shipped_pipeline(), &[]).with_code(0).json();
    assert_ne!(first["job"], second["job"]);
    assert_eq!(tables(&first), tables(&second));
    assert_eq!(fulltime_tests::files(&out.join("store")), before, "no new result was made");
}
