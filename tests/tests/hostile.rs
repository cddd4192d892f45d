//! A small dose of `cargo xtask hostile` in every run.

use fulltime_tests::start;
use serde_json::Value;

fn broken(what: &str, files: u64) -> Value {
    let args = ["--what", what, "--files", &files.to_string(), "--jobs", "1", "--json"];
    start("fulltime-hostile", &args).end().with_code(0).json()
}

#[test]
fn broken_recordings_neither_end_nor_hang_what_reads_them() {
    let said = broken("recordings", 3000);
    let count = |fate: &str| said[fate].as_u64().expect("a count");
    assert_eq!(count("whole") + count("gaps") + count("refused"), 3000, "{said}");
    // The blows are neither all deadly nor all in vain.
    assert!(["whole", "gaps", "refused"].iter().all(|fate| count(fate) > 150), "{said}");
}

#[test]
fn broken_tables_messages_and_files_of_people_are_refused_or_read() {
    let said = broken("documents", 5000);
    let count = |fate: &str| said[fate].as_u64().expect("a count");
    assert_eq!(count("whole") + count("refused"), 5000, "{said}");
    assert!(["whole", "refused"].iter().all(|fate| count(fate) > 200), "{said}");
}
