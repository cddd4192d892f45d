//! What must be on the page, and what must never be.

use fulltime_common::{
    Digest, Disposition,
    plan::{EngineClass, Gap},
    results::PreviewInfo,
    spec::ShardLength,
};
use fulltime_observe::{
    Doing, Histogram, LaneSample, Sample, StageSample,
    anomaly::{Finding, Kind},
};

use super::*;
use crate::ledger::{Aside, PastFinding};
use crate::manifest::{MatchRecord, ModelRecord, PipelineRecord, Quarantined, SemanticsRecord, Totals, VERSION};

fn id(name: &str) -> MatchId {
    MatchId { season: "2024-25".into(), name: name.into() }
}

fn manifest(matches: &[MatchSummary], quarantined: Vec<Quarantined>) -> Manifest {
    let sum = |figure: fn(&MatchSummary) -> u64| matches.iter().map(figure).sum();
    let record = |summary: &MatchSummary| MatchRecord {
        id: summary.id.clone(),
        engine: None,
        inputs: String::new(),
        reduced: Digest::of_bytes(b"reduced"),
        recordings: Vec::new(),
        shards: 12,
        frames: summary.frames,
        gap_frames: summary.gap_frames,
        detections: summary.detections,
        tracks: summary.tracks,
        players: summary.players,
        tables: Vec::new(),
        summary: String::new(),
        preview: None,
    };
    Manifest {
        version: VERSION,
        job: "derby-reprocess-7c1e".into(),
        generation: 1,
        archive: "s3://matches/2024".into(),
        store: "s3://results/store".into(),
        out: "s3://results".into(),
        shard_length: ShardLength::Seconds(10.0),
        pipeline: PipelineRecord {
            name: "yolox-nano".into(),
            digest: Digest::of_bytes(b"pipeline"),
            models: vec![ModelRecord { name: "YOLOX-nano".into(), sha256: Digest::of_bytes(b"model") }],
        },
        semantics: SemanticsRecord {
            index: 1,
            decode: 1,
            preprocess: 1,
            postprocess: 1,
            shard: 1,
            describe: 1,
            reduce: 1,
        },
        engines: vec![EngineClass("onnx-cpu-1.32.0-avx2".into())],
        totals: Totals {
            matches: matches.len() as u64,
            recordings: 4,
            shards: 1080,
            frames: sum(|m| m.frames),
            gap_frames: sum(|m| m.gap_frames),
            detections: sum(|m| m.detections),
            tracks: sum(|m| m.tracks),
            players: sum(|m| m.players),
            quarantined: quarantined.len() as u64,
        },
        matches: matches.iter().map(record).collect(),
        quarantined,
        skipped: Vec::new(),
        report: String::new(),
    }
}

fn summary(name: &str, gaps: Vec<Gap>) -> MatchSummary {
    let recording = |period, camera: &str, gaps: Vec<Gap>, mean| RecordingSummary {
        key: format!("2024-25/{name}/half{period}_{camera}.mp4"),
        period,
        camera: camera.into(),
        width: 1920,
        height: 706,
        fps: 25.0,
        frames: 67_500,
        detections: 1_512_345,
        tracks: 412,
        shots: 1,
        repeated_frames: 0,
        detections_max: 31,
        detections_mean: mean,
        gaps,
    };
    MatchSummary {
        id: id(name),
        recordings: vec![recording(1, "main", gaps, 22.4), recording(2, "main", Vec::new(), 19.7)],
        frames: 135_000,
        detections: 3_024_690,
        tracks: 824,
        players: 799,
        people: Vec::new(),
        gap_frames: 50,
        preview: Some(PreviewInfo { recording: "half1_main.mp4".into(), frame: 250, width: 1280, height: 470 }),
        parts: Vec::new(),
    }
}

fn run() -> RunFigures {
    let stage_seconds =
        [("fetch", 42.0), ("decode", 811.0), ("preprocess", 240.0), ("infer", 5210.0), ("commit", 12.5)];
    RunFigures {
        elapsed_seconds: 3254.0,
        frames: 270_000,
        stage_seconds: stage_seconds.map(|(name, seconds)| (name.to_owned(), seconds)).into(),
        seen: Aside::default(),
    }
}

/// As [`run`], with ten minutes of two lanes that infer for nine tenths of their time.
fn seen_run() -> RunFigures {
    let mut latency = Histogram::default();
    latency.add(0.09);
    let stage = |stage: &str, busy| StageSample { stage: stage.into(), busy, cpu: busy, latency: latency.clone() };
    let lane = |lane| LaneSample {
        lane,
        job: Some("j".into()),
        seconds: 1.0,
        doing: vec![(Doing::Infer, 0.9), (Doing::Pictures, 0.06), (Doing::Commit, 0.04)],
        stages: vec![stage("decode", 0.3), stage("infer", 0.9), stage("total", 0.0)],
        frames: 20,
        ..LaneSample::default()
    };
    let sample = Sample { seconds: 1.0, lanes: vec![lane(0), lane(1)], machine_cpu: 0.5, ..Sample::default() };
    let mut figures = RunFigures { elapsed_seconds: 600.0, ..run() };
    for second in 1..=600 {
        figures.seen.record.note("j", "<worker>", &sample, f64::from(second));
        figures.seen.record.frames.total(f64::from(second), f64::from(second) * 40.0);
    }
    figures.seen.lane_seconds = 1200.0;
    figures.seen.failures = vec![(Disposition::Transient, 14)];
    let finding = Finding::new(Kind::StoreSlow, "<worker>", "890 ms a call, 12 ms before");
    figures.seen.findings = vec![PastFinding { finding, first: 90.0, last: 150.0 }];
    figures
}

#[test]
fn the_page_shows_how_the_job_ran_and_what_held_it_up() {
    let matches = [summary("home-away", Vec::new()), summary("north-south", Vec::new())];
    let (manifest, run) = (manifest(&matches, Vec::new()), seen_run());
    let page = Report::new(&manifest, &run).finish();
    for text in [
        "<b>90 %</b> of what the bottleneck alone allows. Bottleneck: <b>infer</b>.",
        "40 frames/s from start to end; 44.4 frames/s if <b>infer</b> had never waited",
        "<h2>Throughput</h2>",
        "of which 100.0 % is accounted for here",
        "<tr><td>infer</td><td>90 %",
        "<span>&lt;worker&gt;</span> · 1</span>",
        "transient<small>store or network trouble; tried again</small></td><td>14",
        "<b>&lt;worker&gt;</b>: the store is slow <span class=\"soft\">(1:30 min to 2:30 min)</span>",
    ] {
        assert!(page.contains(text), "`{text}` is not on the page");
    }
    assert!(!page.contains("<h2>Cost</h2>"), "nothing is made up");
    assert!(!page.contains("NaN") && !page.contains("<td>total</td>"));
}

#[test]
fn cost_and_energy_are_shown_where_somebody_said_what_they_are() {
    let matches = [summary("home-away", Vec::new()), summary("north-south", Vec::new())];
    let (manifest, mut run) = (manifest(&matches, Vec::new()), seen_run());
    let cost = Cost { lane_hour: Some(3.0), currency: Some("EUR".into()), lane_watts: None };
    let page = Report::new(&manifest, &run).with_cost(Some(&cost)).finish();
    assert!(
        page.contains("<b>1.00 EUR</b><span>in all</span>") && page.contains("<b>0.5000 EUR</b><span>a match</span>")
    );
    assert!(!page.contains(" Wh</b>"), "no watts were given");
    run.seen.record.joules = Some(7200.0);
    let page = Report::new(&manifest, &run).finish();
    assert!(
        page.contains("<b>2.00 Wh</b><span>drawn by GPUs</span>")
            && page.contains("<b>1.00 Wh</b><span>a match</span>")
    );
}

#[test]
fn a_job_that_ran_nothing_draws_nothing() {
    let matches = [summary("home-away", Vec::new())];
    let (manifest, run) = (manifest(&matches, Vec::new()), RunFigures::default());
    let page = Report::new(&manifest, &run).finish();
    assert!(!page.contains("<h2>Speed") && !page.contains("<h2>Lanes") && !page.contains("<h2>Troubles"));
}

#[test]
fn the_page_says_what_was_done_and_needs_nothing_else() {
    let matches = [summary("home-away", Vec::new()), summary("north-south", Vec::new())];
    let (manifest, run) = (manifest(&matches, Vec::new()), run());
    let mut report = Report::new(&manifest, &run);
    matches.iter().for_each(|summary| report.add(summary, Some(b"jpeg bytes")));
    let page = report.finish();
    for text in [
        "derby-reprocess-7c1e",
        "everything committed",
        "<b>270\u{202f}000</b><span>frames</span>",
        "<b>3 h 00 min</b><span>of video</span>",
        "<b>83</b><span>frames per second</span>",
        "<h3>north-south</h3>",
        "data:image/jpeg;base64,anBlZyBieXRlcw==",
        "onnx-cpu-1.32.0-avx2",
        &Digest::of_bytes(b"model").to_string(),
    ] {
        assert!(page.contains(text), "`{text}` is not on the page");
    }
    let links = ["http://", "https://", "<script", "<link", "@import", "url("];
    assert!(links.iter().all(|link| !page.contains(link)), "the page reaches out");
}

#[test]
fn problems_come_first() {
    let gap = Gap { frames: 200..250, reason: "decoder concealed a picture".into() };
    let matches = [summary("home-away", vec![gap.clone()])];
    let quarantined = Quarantined {
        id: id("home-away"),
        recording: Some("half1_main.mp4".into()),
        frames: Some(gap.frames),
        reason: gap.reason,
    };
    let (manifest, run) = (manifest(&matches, vec![quarantined; LISTED + 3]), run());
    let mut report = Report::new(&manifest, &run);
    report.add(&matches[0], None);
    let page = report.finish();
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("`{text}` is not on the page"));
    assert!(at("finished with 203 problems") < at("<h2>Problems</h2>"));
    assert!(at("<h2>Problems</h2>") < at("and 3 more"));
    assert!(at("and 3 more") < at("<article>"));
    at("<li><code>half1_main.mp4</code>, frames 200 to 249: decoder concealed a picture</li>");
    at("50 frames missing");
}

#[test]
fn names_from_files_cannot_write_html() {
    let mut hostile = summary("<script>alert(1)</script>", Vec::new());
    hostile.id.season = "\"><img src=x>".into();
    hostile.recordings[0].camera = "a & b".into();
    let mut manifest = manifest(&[hostile.clone()], Vec::new());
    manifest.job = "</title><script>".into();
    let run = run();
    let mut report = Report::new(&manifest, &run);
    report.add(&hostile, None);
    let page = report.finish();
    assert!(!page.contains("<script") && !page.contains("<img src=x"));
    assert!(page.contains("a &amp; b"));
}

#[test]
fn a_seasons_pictures_lie_beside_the_page() {
    let matches: Vec<_> = (0..EMBEDDED + 2).map(|i| summary(&format!("match {i}"), Vec::new())).collect();
    let (manifest, run) = (manifest(&matches, Vec::new()), run());
    let mut report = Report::new(&manifest, &run);
    for summary in &matches {
        let picture = report.wants_picture().then_some(&b"jpeg"[..]);
        report.add(summary, picture);
    }
    let page = report.finish();
    assert_eq!(page.matches("data:image/jpeg").count(), EMBEDDED);
    assert!(page.contains("src=\"previews/2024-25~match%252048.jpg\""));
}
