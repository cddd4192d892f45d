//! Commands that talk to a coordinator somewhere: `submit`, `status`, `watch`, and what people decide about jobs.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use fulltime_common::{
    Exit,
    error::Failure,
    queue::JetStream,
    wire::{Hello, JobState, JobStatus, LanePlace, Leader, Reply, Request},
};
use fulltime_observe::{Sample, anomaly::Finding};

use crate::{
    args::{ControlArgs, PriorityArgs, RebuildArgs, StatusArgs, SubmitArgs, WatchArgs},
    end::End,
    follow,
    job::{self, DefaultState},
    screen::{self, Screen},
    text,
};

/// Between two looks of `status --watch`.
const AGAIN: Duration = Duration::from_secs(1);
/// How long nobody may answer: one coordinator may be taking over from another.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// `fulltime submit`.
///
/// # Errors
/// Anything wrong with the job, the stores or the bus.
pub async fn submit(args: SubmitArgs) -> Result<Exit, Failure> {
    // First the bus: a job that is stored but not announced would be a surprise.
    let bus = JetStream::connect(&args.bus.nats).await?;
    let mut submission = job::prepare(&args.job, args.state.as_deref(), DefaultState::Shared).await?;
    submission.store(|line| eprintln!("{line}")).await?;
    let job = &submission.job.id;
    follow::submit(&bus, job, TAKE_OVER).await?;
    if args.json {
        let state = submission.state();
        println!("{}", serde_json::json!({ "job": job, "out": submission.job.out, "state": state, "exit": 0 }));
    } else {
        println!("{job}");
    }
    Ok(Exit::Ok)
}

/// `fulltime status`.
///
/// # Errors
/// Trouble on the bus, or an unknown job.
pub async fn status(args: StatusArgs) -> Result<Exit, Failure> {
    let bus = JetStream::connect(&args.bus.nats).await?;
    if !args.watch {
        print!("{}", look(&bus, &args).await?);
        return Ok(Exit::Ok);
    }
    let mut ticks = tokio::time::interval(AGAIN);
    loop {
        ticks.tick().await;
        let text = look(&bus, &args).await?;
        // From the top of a cleared screen; a file gets one after the other.
        let fresh = if std::io::stdout().is_terminal() && !args.json { "\x1b[H\x1b[2J" } else { "" };
        let mut out = std::io::stdout().lock();
        if write!(out, "{fresh}{text}").and_then(|()| out.flush()).is_err() {
            // Whoever read it is gone.
            return Ok(Exit::Ok);
        }
    }
}

/// The state of affairs as text.
async fn look(bus: &JetStream, args: &StatusArgs) -> Result<String, Failure> {
    let (jobs, workers, findings, leader) =
        match follow::ask(bus, &Request::Status { job: args.job.clone() }, TAKE_OVER).await? {
            Reply::Status { jobs, workers, findings, leader } => (jobs, workers, findings, leader),
            Reply::Refused { cause } => return Err(follow::unknown(cause)),
            Reply::Accepted => (vec![], vec![], vec![], Leader::default()),
        };
    if args.json {
        let status = serde_json::json!({ "jobs": jobs, "workers": workers, "findings": findings, "leader": leader });
        return Ok(format!("{status}\n"));
    }
    let mut text = match (&args.job, jobs.as_slice()) {
        (Some(_), [job]) => details(job),
        (_, []) => "no jobs\n".to_owned(),
        (_, jobs) => overview(jobs),
    };
    text.push_str(&format!("\n{}{}", crew(&workers), troubles(&findings)));
    if let Some(dashboard) = leader.dashboard {
        text.push_str(&format!("\ndashboard {dashboard}\n"));
    }
    Ok(text)
}

/// `fulltime watch`.
///
/// # Errors
/// Trouble on the bus, or a job that did not finish.
pub async fn watch(args: WatchArgs) -> Result<Exit, Failure> {
    let bus = JetStream::connect(&args.bus.nats).await?;
    let screen = Screen::new(args.output.quiet);
    let status = follow::follow(&bus, &args.job, &screen).await;
    screen.clear();
    let status = status?;
    let end = End::of(&status, None)?;
    end.tell(&args.output).await
}

/// What a person decides about a job; `done` says it to people, `state` to scripts.
struct Control {
    request: Request,
    done: &'static str,
    state: &'static str,
}

/// `fulltime pause`, `resume`, `cancel` and `retry`.
///
/// # Errors
/// Trouble on the bus, or a decision that the coordinator refuses.
pub async fn pause(args: ControlArgs) -> Result<Exit, Failure> {
    let request = Request::Pause { job: args.job.clone() };
    control(args, Control { request, done: "paused", state: "paused" }).await
}

/// See [`pause`].
///
/// # Errors
/// See [`pause`].
pub async fn resume(args: ControlArgs) -> Result<Exit, Failure> {
    let request = Request::Resume { job: args.job.clone() };
    control(args, Control { request, done: "resumed", state: "running" }).await
}

/// See [`pause`].
///
/// # Errors
/// See [`pause`].
pub async fn cancel(args: ControlArgs) -> Result<Exit, Failure> {
    let request = Request::Cancel { job: args.job.clone() };
    control(args, Control { request, done: "cancelled", state: "cancelled" }).await
}

/// See [`pause`].
///
/// # Errors
/// See [`pause`].
pub async fn retry(args: ControlArgs) -> Result<Exit, Failure> {
    let request = Request::Retry { job: args.job.clone() };
    control(args, Control { request, done: "trying again", state: "planning" }).await
}

/// `fulltime priority`.
///
/// # Errors
/// See [`pause`].
pub async fn priority(args: PriorityArgs) -> Result<Exit, Failure> {
    let request = Request::Priority { job: args.control.job.clone(), band: args.priority.into() };
    control(args.control, Control { request, done: "changed the priority of", state: "running" }).await
}

async fn control(args: ControlArgs, control: Control) -> Result<Exit, Failure> {
    decide(&args.bus.nats, &control.request).await?;
    if args.json {
        println!("{}", serde_json::json!({ "job": args.job, "state": control.state, "exit": 0 }));
    } else {
        println!("{} {}", control.done, args.job);
    }
    Ok(Exit::Ok)
}

/// `fulltime rebuild`.
///
/// # Errors
/// Trouble on the bus.
pub async fn rebuild(args: RebuildArgs) -> Result<Exit, Failure> {
    decide(&args.bus.nats, &Request::Rebuild).await?;
    if args.json {
        println!("{}", serde_json::json!({ "exit": 0 }));
    } else {
        println!("the coordinator reads everything again");
    }
    Ok(Exit::Ok)
}

/// A coordinator may just be taking over: it is given the time for that.
async fn decide(nats: &str, request: &Request) -> Result<(), Failure> {
    let bus = JetStream::connect(nats).await?;
    match follow::ask(&bus, request, TAKE_OVER).await? {
        Reply::Accepted | Reply::Status { .. } => Ok(()),
        Reply::Refused { cause } => Err(follow::unknown(cause)),
    }
}

/// All jobs, a line each.
fn overview(jobs: &[JobStatus]) -> String {
    let columns = ["job", "state", "done", "matches", "shards", "frames", "frames/s", "ETA", "quarantined"];
    let row = |s: &JobStatus| {
        let running = s.state == JobState::Running;
        let percent = (s.frames_done.min(s.frames) * 100).checked_div(s.frames);
        vec![
            s.job.clone(),
            screen::word(s.state).to_owned(),
            percent.map(|p| format!("{p}%")).unwrap_or_default(),
            format!("{}/{}", text::count(s.matches_done), text::count(s.matches)),
            format!("{}/{}", text::count(s.shards_done), text::count(s.shards)),
            text::count(s.frames_done),
            if running { text::rate(s.fps) } else { String::new() },
            s.eta_seconds.filter(|_| running).map(text::duration).unwrap_or_default(),
            text::count(s.quarantined),
        ]
    };
    text::table(&columns.map(str::to_owned), &jobs.iter().map(row).collect::<Vec<_>>())
}

/// One job at length.
fn details(status: &JobStatus) -> String {
    let mut out =
        format!("{}\n  {}\n  for {}\n", status.job, screen::line(status), text::duration(status.elapsed_seconds));
    if let Some(failure) = &status.failure {
        out.push_str(&format!("  cause: {}\n", failure.cause));
        if let Some(hint) = &failure.hint {
            out.push_str(&format!("    fix: {hint}\n"));
        }
    }
    if let Some(manifest) = &status.manifest {
        out.push_str(&format!("  manifest: {}\n", text::place(manifest)));
    }
    if !status.failed_attempts.is_empty() {
        let failed = status.failed_attempts.iter().map(|(what, count)| format!("{} {what}", text::count(*count)));
        out.push_str(&format!("  failed attempts: {}\n", failed.collect::<Vec<_>>().join(", ")));
    }
    for problem in &status.problems {
        out.push_str(&format!("  ! {problem}\n"));
    }
    out
}

/// Frames a second of all its lanes.
fn speed(sample: &Sample) -> f64 {
    sample.lanes.iter().map(|lane| lane.frames as f64 / lane.seconds.max(1e-3)).sum()
}

/// What is wrong with workers, with what to do about it.
fn troubles(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let since = text::duration(finding.for_seconds);
        let (subject, title) = (finding.subject(), finding.kind.title());
        format!("\n! {subject}: {title} (for {since})\n    {}\n    fix: {}\n", finding.evidence, finding.action)
    };
    findings.iter().map(line).collect()
}

/// The workers, a line each.
fn crew(workers: &[Hello]) -> String {
    if workers.is_empty() {
        return "no workers\n".to_owned();
    }
    let columns = ["worker", "host", "pid", "lanes", "busy", "frames/s", "frames", "cpu", "memory", "engine"];
    let row = |w: &Hello| {
        let busy = w.lanes.iter().filter(|lane| lane.task.is_some()).count();
        let frames = w.lanes.iter().map(|lane| lane.frames_total).sum();
        let draining = if w.draining { " (draining)" } else { "" };
        vec![
            format!("{}{draining}", w.worker),
            w.host.clone(),
            w.pid.to_string(),
            w.lanes.len().to_string(),
            busy.to_string(),
            w.sample.as_ref().map(|sample| text::rate(speed(sample))).unwrap_or_default(),
            text::count(frames),
            w.sample.as_ref().map(|s| format!("{:.1}/{}", s.cpu / s.seconds.max(1e-3), s.cores)).unwrap_or_default(),
            w.sample.as_ref().map(|s| format!("{} MB", s.memory >> 20)).unwrap_or_default(),
            w.engine.to_string(),
        ]
    };
    let mut out = text::table(&columns.map(str::to_owned), &workers.iter().map(row).collect::<Vec<_>>());
    let lanes: Vec<_> = workers.iter().flat_map(lanes).collect();
    if !lanes.is_empty() {
        let columns = ["worker", "lane", "gpu", "node", "processors", "health"];
        out.push_str(&format!("\n{}", text::table(&columns.map(str::to_owned), &lanes)));
    }
    out
}

/// The lanes of a worker that are somewhere, a line each: on a GPU, bound to a node, or not well.
fn lanes(worker: &Hello) -> Vec<Vec<String>> {
    let somewhere = |place: &LanePlace| place.pinned || !place.gpu.is_empty() || !place.works;
    if !worker.places.iter().any(somewhere) {
        return Vec::new();
    }
    let row = |(lane, place): (usize, &LanePlace)| {
        let bound = if place.pinned { "" } else { " (not bound)" };
        vec![
            worker.worker.clone(),
            lane.to_string(),
            place.gpu.clone(),
            place.node.map(|node| node.to_string()).unwrap_or_default(),
            format!("{}{bound}", place.cores),
            if place.works { place.health.clone() } else { format!("stopped, {}", place.health) },
        ]
    };
    worker.places.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use fulltime_common::{plan::EngineClass, wire::JobFailure};

    use super::*;
    use crate::screen::tests::status as example;

    #[test]
    fn an_overview_shows_a_rate_only_where_something_runs() {
        let text = overview(&[example(JobState::Running), example(JobState::Finished)]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("running") && lines[1].contains("96") && lines[1].contains("1 min 29 s"), "{text}");
        assert!(lines[2].contains("finished") && !lines[2].contains("1 min 29 s"), "{text}");
    }

    #[test]
    fn details_tell_the_cause_and_the_problems() {
        let failure = JobFailure { exit: 5, cause: "disk full".into(), hint: Some("free some space".into()) };
        let problems = vec!["`a.mp4`: truncated".to_owned()];
        let text = details(&JobStatus { failure: Some(failure), problems, ..example(JobState::Paused) });
        assert!(
            text.contains("cause: disk full") && text.contains("fix: free some space") && text.contains("! `a.mp4`"),
            "{text}"
        );
    }

    #[test]
    fn a_draining_worker_is_marked() {
        let hello = Hello {
            worker: "w".into(),
            host: "h".into(),
            pid: 7,
            engine: EngineClass("onnx-cpu".into()),
            lanes: vec![Default::default()],
            waiting: vec![],
            draining: true,
            places: vec![],
            sample: None,
        };
        assert!(crew(std::slice::from_ref(&hello)).contains("w (draining)"));
        assert!(!crew(std::slice::from_ref(&hello)).contains("health"), "no news of lanes that are nowhere");
        let place = |gpu: &str, works| LanePlace {
            gpu: gpu.into(),
            node: Some(1),
            cores: "8-15".into(),
            pinned: works,
            health: if works { "well".into() } else { "sick: Xid 79".into() },
            works,
        };
        let text = crew(&[Hello { places: vec![place("0 H100", true), place("1 H100", false)], ..hello }]);
        let lines: Vec<_> =
            text.lines().skip(3).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "w 0 0 H100 1 8-15 well");
        assert_eq!(lines[2], "w 1 1 H100 1 8-15 (not bound) stopped, sick: Xid 79");
        assert_eq!(crew(&[]), "no workers\n");
    }
}
