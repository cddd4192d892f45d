use super::*;
use crate::sample::{CacheTally, Doing, GpuReading, LaneSample, Sample, StageSample};

/// A sample in which nothing is missing.
fn everything() -> Sample {
    let mut latency = Histogram::default();
    latency.add(0.02);
    let stage = StageSample { stage: "infer".into(), busy: 0.5, cpu: 0.4, latency: latency.clone() };
    let lane = LaneSample {
        seconds: 1.0,
        doing: vec![(Doing::Infer, 0.5), (Doing::Pictures, 0.5)],
        stages: vec![stage],
        frames: 20,
        images: 80,
        batches: 10,
        shards: 1,
        bytes_read: 4096,
        bytes_written: 100,
        cache_hits: 3,
        cache_misses: 1,
        store: latency,
        store_errors: 1,
        ..LaneSample::default()
    };
    let gpu = GpuReading {
        gpu: 2,
        numa_node: Some(1),
        utilisation: Some(0.9),
        decoder_utilisation: Some(0.3),
        memory_used: Some(1 << 30),
        memory_total: Some(1 << 36),
        temperature: Some(61.0),
        power: Some(310.0),
        clock: Some(1_980_000_000),
        throttled: Some("thermal".into()),
        ..GpuReading::default()
    };
    Sample {
        seconds: 1.0,
        lanes: vec![lane],
        cores: 8.0,
        cpu: 0.9,
        machine_cpu: 0.5,
        memory: 1 << 28,
        memory_limit: 1 << 34,
        gpus: vec![gpu],
        ..Sample::default()
    }
}

/// Names in a scrape, without the parts of histograms.
fn names(scrape: &str) -> Vec<&str> {
    scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[test]
fn a_sample_fills_what_the_service_itself_does_not() {
    let board = Board::new(WORKER);
    show_sample(&board, &everything());
    show_sample(&board, &everything());
    let tally = |what: &str, fault, count| CacheTally { kind: "index".into(), what: what.into(), fault, count };
    show_lookups(&board, &[tally("memory", false, 5), tally("unsound", true, 1), tally("memory", false, 2)]);
    let scrape = board.scrape();
    for line in [
        "fulltime_cache_answers_total{kind=\"index\",level=\"memory\"} 7.0",
        "fulltime_cache_faults_total{kind=\"index\",fault=\"unsound\"} 1.0",
        "fulltime_frames_total 40.0",
        "fulltime_lane_seconds_total{lane=\"0\",doing=\"infer\"} 1.0",
        "fulltime_stage_seconds_count{stage=\"infer\"} 2",
        "fulltime_gpu_throttled{gpu=\"2\",numa=\"1\"} 1.0",
        "fulltime_cache_lookups_total{result=\"hit\"} 6.0",
    ] {
        assert!(scrape.lines().any(|found| found == line), "`{line}` is not in\n{scrape}");
    }
    let shown = names(&scrape);
    let by_the_service = [
        "fulltime_lanes",
        "fulltime_waiting_tasks",
        "fulltime_draining",
        "fulltime_attempts",
        "fulltime_lease_renewals",
    ];
    for metric in WORKER.iter().filter(|metric| !by_the_service.contains(&metric.name)) {
        assert!(shown.contains(&metric.name), "{} is not in a scrape", metric.name);
    }
}

#[test]
fn names_are_unique_well_formed_and_say_their_unit() {
    let mut seen = std::collections::BTreeSet::new();
    for metric in COORDINATOR.iter().chain(WORKER) {
        assert!(seen.insert(metric.name), "{} twice", metric.name);
        assert!(metric.name.starts_with("fulltime_") && !metric.name.ends_with("_total"), "{}", metric.name);
        assert!(metric.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", metric.name);
        assert!(metric.help.ends_with('.'), "{}", metric.name);
        for unit in ["seconds", "bytes", "hertz", "watts", "celsius", "ratio"] {
            let says = metric.name.ends_with(&format!("_{unit}"));
            let has = match unit {
                "ratio" => metric.unit == "0..1",
                "celsius" => metric.unit == "°C",
                _ => metric.unit == unit,
            };
            assert_eq!(says, has, "{}", metric.name);
        }
    }
}

#[test]
fn a_metric_of_another_process_is_left_alone() {
    let board = Board::new(COORDINATOR);
    board.add(&FRAMES, &[], 1.0);
    board.set(&BACKLOG, &["onnx"], 7.0);
    board.clear(&BACKLOG);
    board.set(&BACKLOG, &["sim"], 2.0);
    let scrape = board.scrape();
    assert!(!scrape.contains("fulltime_frames") && !scrape.contains("onnx") && scrape.ends_with("# EOF\n"));
    assert!(scrape.contains("fulltime_backlog_tasks{class=\"sim\"} 2.0"));
}

#[test]
fn the_reference_is_what_the_code_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    if std::env::var_os("FULLTIME_WRITE_DOCS").is_some() {
        std::fs::write(path, reference()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == reference(), "docs/metrics.md is stale: run this test with FULLTIME_WRITE_DOCS=1");
}
