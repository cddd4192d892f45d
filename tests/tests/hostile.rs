//! A small dose of `cargo xtask hostile` in every run.

use fulltime_tests::start;

#[test]
fn broken_recordings_neither_end_nor_hang_what_reads_them() {
    let said = start("fulltime-hostile", &["--files", "3000", "--jobs", "1", "--json"]).end().with_code(0).json();
    let count = |fate: &str| said[fate].as_u64().expect("a count");
    assert_eq!(count("whole") + count("gaps") + count("refused"), 3000, "{said}");
    // The blows are neither all deadly nor all in vain.
    assert!(["whole", "gaps", "refused"].iter().all(|fate| count(fate) > 150), "{said}");
}
