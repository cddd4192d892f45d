//! Bad input, each with a one-line cause, what to do, and its documented exit code; nothing half-written is ever taken
//! for a result.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use fulltime_common::Digest;
use fulltime_tests::{Ended, binary, render, root, run, shipped_pipeline, start_command, tables};

/// A short recording that works.
fn good(archive: &Path, name: &str) -> PathBuf {
    render(archive, name, &["--seed", "3", "--size", "320x192", "--duration", "4s"]);
    fulltime_tests::files(archive)
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "mp4") && path.to_string_lossy().contains(name))
        .expect("a recording")
}

/// The last lines must be one cause and one fix, and name what is wrong.
fn says(ended: &Ended, words: &[&str]) {
    let errors: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one cause:\n{}", ended.stderr);
    assert!(ended.stderr.contains("  fix: "), "says what to do:\n{}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "names `{word}`:\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn corrupt_recordings_are_quarantined_by_name_and_the_good_ones_are_finished() {
    let dir = scratch();
    let archive = dir.path().join("archive");
    let fine = good(&archive, "fine");
    let bytes = fs::read(&fine).expect("read");
    fs::write(archive.join("noise.mp4"), vec![0x5a; 100_000]).expect("write");
    fs::write(archive.join("empty.mp4"), b"").expect("write");
    fs::write(archive.join("truncated.mp4"), &bytes[..bytes.len() / 3]).expect("write");
    fs::write(archive.join("text.mkv"), b"this is not a video, whatever its name says").expect("write");
    // The right content under the wrong extension is no error.
    fs::write(archive.join("renamed.avi"), &bytes).expect("write");
    let ended = run(&archive, &dir.path().join("out"), &shipped_pipeline(), &[]).with_code(3);
    let result = ended.json();
    assert_eq!(result["quarantined"].as_u64(), Some(4), "{result}\n{}", ended.stderr);
    for name in ["noise.mp4", "empty.mp4", "truncated.mp4", "text.mkv"] {
        assert!(ended.stderr.contains(name), "names {name}:\n{}", ended.stderr);
    }
    let published: Vec<String> = tables(&result).into_keys().filter(|key| key.starts_with("detections/")).collect();
    assert_eq!(published.len(), 2, "two good matches: {published:?}");
}

#[test]
fn a_damaged_gop_becomes_a_gap_and_the_rest_is_kept() {
    let dir = scratch();
    let archive = dir.path().join("archive");
    let fine = good(&archive, "fine");
    let mut bytes = fs::read(&fine).expect("read");
    let middle = bytes.len() / 2;
    // Zeros cannot be codes of a picture; many other bytes can, and no decoder would notice.
    bytes[middle..middle + 600].fill(0);
    fs::write(&fine, bytes).expect("write");
    let result = run(&archive, &dir.path().join("out"), &shipped_pipeline(), &[]).with_code(3).json();
    let path = fulltime_tests::files(&fulltime_tests::generation(&result).join("summaries")).remove(0);
    let summary: serde_json::Value = serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON");
    let gap = summary["gap_frames"].as_u64().expect("gap_frames");
    assert!((25..100).contains(&gap), "one GOP is left out, and only that: {summary}");
}

#[test]
fn an_empty_archive_and_a_missing_one_are_told_apart() {
    let dir = scratch();
    let archive = dir.path().join("archive");
    fs::create_dir_all(&archive).expect("create");
    let ended = run(&archive, &dir.path().join("out"), &shipped_pipeline(), &[]).with_code(4);
    says(&ended, &["archive", "empty"]);
    let ended = run(&dir.path().join("nowhere"), &dir.path().join("out"), &shipped_pipeline(), &[]).with_code(4);
    says(&ended, &["nowhere"]);
}

#[test]
fn an_unreachable_store_is_said_at_once() {
    let dir = scratch();
    let archive = dir.path().join("archive");
    good(&archive, "fine");
    let mut command = Command::new(binary("fulltime"));
    command
        .args(["run", "--json", "--archive", archive.to_str().expect("UTF-8"), "--out", "s3://bucket/results"])
        .args(["--pipeline", shipped_pipeline().to_str().expect("UTF-8")])
        // Port 1 on the loopback interface: nobody listens there.
        .envs([("AWS_ENDPOINT", "http://127.0.0.1:1"), ("AWS_ALLOW_HTTP", "true"), ("AWS_REGION", "none")])
        .envs([("AWS_ACCESS_KEY_ID", "planted-key"), ("AWS_SECRET_ACCESS_KEY", "planted-secret")]);
    let ended = start_command(&mut command).end().with_code(5);
    says(&ended, &["s3://bucket/results"]);
    assert!(!ended.stderr.contains("planted-secret"));
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_work() {
    let dir = scratch();
    let archive = dir.path().join("archive");
    good(&archive, "fine");
    // A file where the folder should be: even root cannot write there.
    let out = dir.path().join("out");
    fs::write(&out, b"in the way").expect("write");
    let ended = run(&archive, &out, &shipped_pipeline(), &[]).with_code(5);
    says(&ended, &["out"]);
}

#[test]
fn models_that_are_missing_changed_or_of_another_shape_are_refused_by_name() {
    let dir = scratch();
    let archive = dir.path().join("archive");
    good(&archive, "fine");
    let out = dir.path().join("out");
    let copy = dir.path().join("synth-detector");
    for model in ["synth-detector", "synth-embedder", "synth-digits"] {
        let to = dir.path().join(model);
        fs::create_dir_all(&to).expect("create");
        for entry in fs::read_dir(root().join("models").join(model)).expect("a shipped model").flatten() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copy");
        }
    }
    let pipeline = copy.join("pipeline.toml");
    let onnx = copy.join("synth-detector.onnx");
    let bytes = fs::read(&onnx).expect("read");

    let mut damaged = bytes.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    fs::write(&onnx, damaged).expect("write");
    says(&run(&archive, &out, &pipeline, &[]).with_code(6), &["synth-detector.onnx", "sha256"]);

    fs::remove_file(&onnx).expect("remove");
    says(&run(&archive, &out, &pipeline, &[]).with_code(6), &["synth-detector.onnx"]);

    // The right file, but a manifest that promises one class more than the network has.
    fs::write(&onnx, &bytes).expect("write");
    let manifest = copy.join("manifest.toml");
    let text = fs::read_to_string(&manifest).expect("read");
    let widened = text.replacen("classes = [", "classes = [\"ghost\", ", 1);
    assert_ne!(text, widened);
    fs::write(&manifest, widened).expect("write");
    says(&run(&archive, &out, &pipeline, &[]).with_code(6), &["classes"]);

    // Not a model at all, but with the right digest.
    fs::write(&onnx, b"not a network").expect("write");
    let old = Digest::of_bytes(&bytes).to_string();
    fs::write(&manifest, text.replace(&old, &Digest::of_bytes(b"not a network").to_string())).expect("write");
    says(&run(&archive, &out, &pipeline, &[]).with_code(6), &["synth-detector"]);
}

#[test]
fn a_missing_broker_and_a_taken_port_are_said_at_once() {
    let dir = scratch();
    let archive = dir.path().join("archive");
    good(&archive, "fine");
    let args = |command: &mut Command| {
        command.args(["run", "--json", "--archive"]).arg(&archive).arg("--out").arg(dir.path().join("out"));
        command.arg("--pipeline").arg(shipped_pipeline());
    };
    let mut command = Command::new(binary("fulltime"));
    args(&mut command);
    command.env("FULLTIME_NATS_SERVER", "/nonexistent/nats-server");
    says(&start_command(&mut command).end().with_code(7), &["nats-server"]);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let mut command = Command::new(binary("fulltime"));
    args(&mut command);
    command.args(["--nats-port", &port]);
    says(&start_command(&mut command).end().with_code(7), &[&port]);
}

#[test]
fn a_full_disk_ends_with_the_cause_and_the_next_run_goes_on_from_there() {
    let dir = scratch();
    let archive = dir.path().join("archive");
    good(&archive, "fine");
    let out = dir.path().join("out");
    fs::create_dir_all(&out).expect("create");
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "none"]).arg(&out).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    // Room for the plan and the model, not for results.
    let model = fs::metadata(root().join("models/synth-detector/synth-detector.onnx")).expect("the model").len();
    if !mount(&format!("size={}k", model / 1024 + 60)) {
        eprintln!("skipped: mounting a small tmpfs needs root");
        return;
    }
    struct Unmount<'a>(&'a Path);
    impl Drop for Unmount<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }
    let _unmount = Unmount(&out);
    let ended = run(&archive, &out, &shipped_pipeline(), &[]).with_code(5);
    says(&ended, &["space"]);
    assert!(mount("remount,size=64m"));
    let result = run(&archive, &out, &shipped_pipeline(), &[]).with_code(0).json();
    assert_eq!(result["frames"].as_u64(), Some(100));
}
