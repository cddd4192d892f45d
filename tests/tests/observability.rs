//! What an operator sees: metrics, probes, dashboard, performance record and report of a real cluster.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use fulltime_observe::metrics::{COORDINATOR, Kind, Metric, WORKER};
use fulltime_tables::{Reader, performance::Performance};
use fulltime_tests::{
    cluster::{Cluster, Part, Shape, wait_until},
    files, render, shipped_pipeline,
};
use serde_json::Value;

/// Longest time that anything here may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(90);

/// Where a part listens, by its log.
fn address(part: &Part) -> String {
    let mut found = None;
    let listens = wait_until(HUNG, || {
        let log = part.log();
        found =
            log.split("listening at http://").nth(1).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
        found.is_some()
    });
    assert!(listens, "{} does not listen:\n{}", part.name, part.log());
    // Colours of a terminal, should there be any.
    found.unwrap_or_default().trim_end_matches(|c: char| !c.is_ascii_digit()).to_owned()
}

/// Status and body.
fn ask(address: &str, request: &str) -> (u16, String) {
    let mut answer = String::new();
    let asked = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(HUNG))?;
        write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\nX-Fulltime: 1\r\n\r\n")?;
        stream.read_to_string(&mut answer)
    });
    if let Err(error) = asked {
        return (0, error.to_string());
    }
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

fn get(address: &str, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path}"))
}

fn scrape(address: &str) -> String {
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200, "{text}");
    assert!(text.ends_with("# EOF\n"));
    text
}

/// The value of a line that begins so.
fn value(scrape: &str, name: &str) -> Option<f64> {
    scrape.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn names(scrape: &str) -> impl Iterator<Item = String> {
    scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
}

/// Metrics of the reference that a healthy cluster without GPUs never shows.
fn rare(metric: &Metric) -> bool {
    metric.name.starts_with("fulltime_gpu_")
        || ["fulltime_cache_faults", "fulltime_failed_attempts", "fulltime_longest_eta_seconds"].contains(&metric.name)
}

#[test]
fn a_running_job_is_seen_in_metrics_dashboard_record_and_report() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let archive = dir.path().join("archive");
    let small = ["--seed", "3", "--size", "320x180", "--gop", "25", "--duration", "12s"];
    render(&archive.join("a"), "a", &small);
    let shape = Shape { workers: 2, sim_item: Duration::from_millis(30), ..Shape::default() };
    let mut cluster = Cluster::start(&dir.path().join("cluster"), &shape);
    let coordinators: Vec<_> = cluster.coordinators.iter().map(address).collect();
    let workers: Vec<_> = cluster.workers.iter().map(address).collect();
    for address in coordinators.iter().chain(&workers) {
        assert!(wait_until(HUNG, || get(address, "/readyz").0 == 200), "{address}: {}", get(address, "/readyz").1);
        assert_eq!(get(address, "/livez").0, 200);
    }
    let leads = |address: &String| value(&scrape(address), "fulltime_leading ") == Some(1.0);
    assert!(wait_until(HUNG, || coordinators.iter().filter(|address| leads(address)).count() == 1));
    let (leader, standby) = if leads(&coordinators[0]) { (0, 1) } else { (1, 0) };
    assert_eq!(value(&scrape(&coordinators[leader]), "fulltime_backlog_tasks{class=\"any\"} "), Some(0.0));

    let job = cluster.submit(&archive, &shipped_pipeline(), &["--shard-length", "1s"]);
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    let (mut backlog, mut on_lanes, mut status) = (0.0_f64, 0.0_f64, Value::Null);
    let begin = Instant::now();
    while !cluster.manifest(&job).is_file() {
        assert!(begin.elapsed() < HUNG, "not finished:\n{}", cluster.logs());
        let text = scrape(&coordinators[leader]);
        let waiting = text.lines().filter(|line| line.starts_with("fulltime_backlog_tasks{"));
        backlog = waiting.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).fold(backlog, f64::max);
        seen[0].extend(names(&text));
        for worker in &workers {
            let text = scrape(worker);
            on_lanes = on_lanes.max(value(&text, "fulltime_lanes{state=\"busy\"} ").unwrap_or_default());
            seen[1].extend(names(&text));
        }
        let (code, body) = get(&coordinators[leader], "/api/status");
        assert_eq!(code, 200, "{body}");
        let now: Value = serde_json::from_str(&body).expect("JSON");
        if now["jobs"][0]["fps"].as_f64().is_some_and(|fps| fps > 0.0) {
            status = now;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    // Twelve shards of a second, and two lanes.
    assert!((5.0..=16.0).contains(&backlog) && on_lanes >= 1.0, "backlog {backlog}, busy {on_lanes}");
    assert_eq!(status["jobs"][0]["job"], job.as_str());
    let lane = &status["workers"][0]["sample"]["lanes"][0];
    assert!(lane["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{status}");
    assert_eq!(status["findings"].as_array().map(Vec::len), Some(0), "{status}");

    // Every metric that is scraped is in the reference, and the other way round.
    for (list, seen) in [COORDINATOR, WORKER].iter().zip(&mut seen) {
        let reference: BTreeSet<_> = list.iter().map(|metric| metric.name.to_owned()).collect();
        assert!(seen.is_subset(&reference), "{:?}", seen.difference(&reference).collect::<Vec<_>>());
        let missing: Vec<_> = list.iter().filter(|m| !rare(m) && !seen.contains(m.name)).map(|m| m.name).collect();
        assert!(missing.is_empty(), "never seen: {missing:?}");
    }
    let text = scrape(&workers[0]);
    for metric in WORKER.iter().filter(|metric| metric.kind == Kind::Histogram) {
        assert!(text.contains(&format!("{}_bucket{{", metric.name)), "{}", metric.name);
    }

    // The record: what a lane did adds up to its time, and no frame is missing.
    let generation = cluster.manifest(&job).parent().expect("its folder").to_owned();
    let mut rows: Vec<Performance> = Vec::new();
    let complete = wait_until(HUNG, || {
        rows = files(&generation.join("metrics"))
            .iter()
            .flat_map(|file| {
                Reader::<Performance>::new(std::fs::read(file).expect("read a record").into()).expect("Parquet")
            })
            .collect::<Result<_, _>>()
            .expect("rows");
        rows.iter().map(|row| row.frames).sum::<i64>() >= 300
    });
    assert!(complete, "{} frames in {} rows", rows.iter().map(|row| row.frames).sum::<i64>(), rows.len());
    for row in &rows {
        let doing = [
            row.doing_idle,
            row.doing_fetch,
            row.doing_load,
            row.doing_pictures,
            row.doing_infer,
            row.doing_postprocess,
            row.doing_describe,
            row.doing_tables,
            row.doing_commit,
            row.doing_index,
            row.doing_reduce,
            row.doing_canary,
        ];
        assert!((doing.iter().sum::<f64>() / row.seconds - 1.0).abs() < 0.01, "{row:?}");
    }
    let report = std::fs::read_to_string(generation.join("report.html")).expect("a report");
    for text in ["<h2>Speed of light</h2>", "<h2>Throughput</h2>", "<h2>Stages</h2>", "<h2>Lanes</h2>"] {
        assert!(report.contains(text), "`{text}` is not in the report");
    }
    let explained = report.split("of which ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
    assert!(explained.is_some_and(|percent| percent >= 95.0), "{explained:?} % of lane time is explained");

    // Dashboard, decisions, and a standby that says what it is.
    let (code, page) = get(&coordinators[leader], "/");
    assert!(code == 200 && page.contains("dashboard.js") && !page.contains("http://") && !page.contains("https://"));
    assert_eq!(get(&coordinators[leader], "/dashboard.css").0, 200);
    assert_eq!(get(&coordinators[leader], "/nothing").0, 404);
    assert_eq!(get(&coordinators[standby], "/api/status").0, 503);
    let (code, refused) = ask(&coordinators[leader], &format!("POST /api/jobs/{job}/pause"));
    assert!(code == 409 && refused.contains("is finished"), "{code} {refused}");
    cluster.coordinators[leader].kill();
    assert!(wait_until(HUNG, || leads(&coordinators[standby])), "{}", cluster.logs());
    cluster.broker.kill();
    let unready = wait_until(HUNG, || get(&workers[0], "/readyz").0 == 503);
    assert!(unready && get(&workers[0], "/readyz").1.contains("the bus is away"));
    assert_eq!(get(&workers[0], "/livez").0, 200);
}

/// Chromium by one of its names.
fn chromium() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.is_file())
}

#[test]
fn the_dashboard_shows_a_running_job_in_a_browser() {
    let Some(chromium) = chromium() else {
        eprintln!("skipped: the browser test needs Chromium");
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let archive = dir.path().join("archive");
    render(&archive, "a", &["--seed", "3", "--size", "320x180", "--gop", "25", "--duration", "20s"]);
    let shape = Shape { coordinators: 1, workers: 1, sim_item: Duration::from_millis(80), ..Shape::default() };
    let cluster = Cluster::start(&dir.path().join("cluster"), &shape);
    let coordinator = address(&cluster.coordinators[0]);
    let job = cluster.submit(&archive, &shipped_pipeline(), &["--shard-length", "1s", "--select", "*.mp4"]);
    let works = || {
        let (_, body) = get(&coordinator, "/api/status");
        serde_json::from_str::<Value>(&body).is_ok_and(|status| status["jobs"][0]["fps"].as_f64() > Some(0.0))
    };
    assert!(wait_until(HUNG, works), "{}", cluster.logs());

    // On a telephone and on a desk; the pictures are for people.
    for (width, scheme) in [(400, "light"), (1280, "dark")] {
        let picture = std::env::temp_dir().join(format!("fulltime-dashboard-{width}.png"));
        let mut command = std::process::Command::new(&chromium);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-sync",
        ]);
        command.arg(format!("--user-data-dir={}", dir.path().join("browser").display()));
        command.args(["--enable-logging=stderr", "--virtual-time-budget=4000", "--dump-dom"]);
        command.arg(format!("--window-size={width},1400")).arg(format!("--screenshot={}", picture.display()));
        if scheme == "dark" {
            command.arg("--force-dark-mode");
        }
        let ended = command.arg(format!("http://{coordinator}/")).output().expect("start Chromium");
        let (page, said) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        for text in [job.as_str(), "worker-0", "lane 0", "frames/s", "None: every worker does as well"] {
            assert!(page.contains(text), "`{text}` is not in the page at {width} px:\n{page}");
        }
        assert!(!said.contains("CONSOLE"), "the page complains:\n{said}");
        assert!(picture.is_file(), "no picture:\n{said}");
    }
}

/// axe-core, where it was put beside the other tools; `FULLTIME_AXE` names it elsewhere.
fn axe() -> Option<std::path::PathBuf> {
    let named = std::env::var_os("FULLTIME_AXE").map(Into::into);
    named.or_else(|| Some(fulltime_tests::root().join(".tools/lib/axe.min.js"))).filter(|path| path.is_file())
}

#[test]
fn a_person_follows_a_job_looks_at_a_match_and_retries_what_was_given_up() {
    let node = std::process::Command::new("node").arg("--version").output();
    let (Some(chromium), true) = (chromium(), node.is_ok()) else {
        eprintln!("skipped: the browser test needs Chromium and Node.js");
        return;
    };
    let axe = axe();
    if axe.is_none() {
        eprintln!("without axe-core: put its axe.min.js into .tools/lib, or name it by FULLTIME_AXE");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let archive = dir.path().join("archive");
    render(&archive, "a", &["--seed", "3", "--size", "320x180", "--gop", "25", "--duration", "20s"]);
    std::fs::write(archive.join("broken.mp4"), b"this is no video").expect("write a broken file");
    let shape = Shape { coordinators: 1, workers: 1, sim_item: Duration::from_millis(60), ..Shape::default() };
    let cluster = Cluster::start(&dir.path().join("cluster"), &shape);
    let coordinator = address(&cluster.coordinators[0]);
    let job = cluster.submit(&archive, &shipped_pipeline(), &["--shard-length", "4s", "--select", "*.mp4"]);
    // Before it leads, a coordinator says 503, which a browser takes for a complaint.
    assert!(wait_until(HUNG, || get(&coordinator, "/api/status").0 == 200), "{}", cluster.logs());
    let pictures = std::env::temp_dir().join("fulltime-dashboard");
    std::fs::create_dir_all(&pictures).expect("a folder for pictures");
    let mut command = std::process::Command::new("node");
    command.arg(fulltime_tests::root().join("tests/browser/drive.mjs")).arg(chromium);
    command.args([format!("http://{coordinator}/"), job.clone()]).arg(&pictures).args(axe);
    let ended = command.output().expect("start Node.js");
    let (said, wrong) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{said}\n{wrong}\n{}", cluster.logs());
    let seen: Value = serde_json::from_str(said.lines().last().unwrap_or_default()).expect("JSON");
    assert_eq!(seen["complaints"], serde_json::json!([]), "the pages complain");
    assert_eq!(seen["serious"], serde_json::json!([]), "axe-core complains");
    let steps = &seen["steps"];
    let moment = |step: &str| steps[step].as_str().unwrap_or_default().to_owned();
    // A picture every two seconds of 25 frames each.
    assert!(moment("first").contains("frame 0 ") && moment("second").contains("frame 50 "), "{steps}");
    assert_eq!(steps["picture"], serde_json::json!([320, 180]), "{steps}");
    assert!(moment("retried").starts_with("Decided"), "{steps}");
    let again = cluster.out().join("jobs").join(&job).join("g2/manifest.json");
    assert!(wait_until(HUNG, || again.is_file()), "the next generation did not finish:\n{}", cluster.logs());
}
