//! What people see while a job runs, always on standard error: a bar on a terminal, otherwise plain lines every few
//! seconds and at every change of state, or nothing.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use fulltime_common::wire::{JobState, JobStatus};
use indicatif::{ProgressBar, ProgressStyle};

use crate::text::{count, duration, plural, rate};

/// Plain lines come at least so far apart.
const EVERY: Duration = Duration::from_secs(5);
/// A problem is worth a line when it has lasted so long.
const LASTING: Duration = Duration::from_secs(1);

/// Without anything to measure.
const WAITING: &str = "{spinner:.cyan} {wide_msg}";
const WORKING: &str = "{spinner:.cyan} {prefix:.bold} {wide_bar:.cyan/dim} {percent:>3} %\n  {wide_msg}";

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("━╸─")
}

/// Where progress goes. Clones show the same.
#[derive(Debug, Clone)]
pub enum Screen {
    Bar(ProgressBar),
    Plain(Instant),
    Quiet,
}

impl Screen {
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Plain(Instant::now());
        }
        let bar = ProgressBar::new(0).with_style(style(WAITING));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self::Bar(bar)
    }

    /// One line that stays.
    pub fn say(&self, line: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| eprintln!("{line}")),
            Self::Plain(since) => eprintln!("{:>7.1}s  {line}", since.elapsed().as_secs_f64()),
            Self::Quiet => {}
        }
    }

    /// What is being done before there is a job to show.
    pub fn doing(&self, what: &str) {
        match self {
            Self::Bar(bar) => bar.set_message(what.to_owned()),
            Self::Plain(_) => self.say(what),
            Self::Quiet => {}
        }
    }

    /// Takes the bar away; what was said stays.
    pub fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Shows how far a long piece of work is, frame by frame.
#[derive(Debug)]
pub struct Meter {
    screen: Screen,
    what: String,
    total: u64,
    since: Instant,
    line_at: Instant,
}

impl Meter {
    #[must_use]
    pub fn new(screen: &Screen, what: &str, total: u64) -> Self {
        if let Screen::Bar(bar) = screen {
            bar.set_style(style(WORKING));
            bar.set_prefix(what.to_owned());
            bar.set_length(total);
        }
        let now = Instant::now();
        Self { screen: screen.clone(), what: what.to_owned(), total, since: now, line_at: now }
    }

    pub fn show(&mut self, done: u64) {
        let seconds = self.since.elapsed().as_secs_f64();
        let figures = || {
            let fps = done as f64 / seconds.max(1e-3);
            let left = self.total.saturating_sub(done) as f64 / fps.max(1e-3);
            let (done, total) = (count(done), count(self.total));
            format!("{done}/{total} frames · {} frames/s · ETA {}", rate(fps), duration(left))
        };
        match &self.screen {
            Screen::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(figures());
            }
            Screen::Plain(_) if self.line_at.elapsed() >= EVERY || done == self.total => {
                self.screen.say(&format!("{}  {}", self.what, figures()));
                self.line_at = Instant::now();
            }
            Screen::Plain(_) | Screen::Quiet => {}
        }
    }
}

/// Shows one job from status to status.
#[derive(Debug)]
pub struct Follower {
    screen: Screen,
    state: Option<JobState>,
    line_at: Instant,
    /// Problems of the last status, since when, and whether they have been shown.
    problems: Vec<(String, Instant, bool)>,
}

impl Follower {
    #[must_use]
    pub fn new(screen: Screen) -> Self {
        Self { screen, state: None, line_at: Instant::now(), problems: Vec::new() }
    }

    pub fn show(&mut self, status: &JobStatus) {
        self.show_problems(status);
        let changed = self.state.replace(status.state) != Some(status.state);
        match &self.screen {
            Screen::Bar(bar) => {
                let (done, total) = work(status);
                // The bar takes the place of the waiting line when there is something to measure.
                if total > 0 && bar.length() == Some(0) {
                    bar.set_style(style(WORKING));
                }
                bar.set_length(total);
                bar.set_position(done);
                bar.set_prefix(word(status.state));
                bar.set_message(figures(status));
            }
            Screen::Plain(_) if changed || self.line_at.elapsed() >= EVERY => {
                self.screen.say(&line(status));
                self.line_at = Instant::now();
            }
            Screen::Plain(_) | Screen::Quiet => {}
        }
    }
}

impl Follower {
    /// Each problem once, when it has lasted a moment: "waiting for workers" comes and goes at every start.
    fn show_problems(&mut self, status: &JobStatus) {
        self.problems.retain(|(known, _, shown)| *shown || status.problems.contains(known));
        for problem in &status.problems {
            if !self.problems.iter().any(|(known, ..)| known == problem) {
                self.problems.push((problem.clone(), Instant::now(), false));
            }
        }
        for (problem, since, shown) in &mut self.problems {
            if !*shown && (status.state.is_over() || since.elapsed() >= LASTING) {
                self.screen.say(&format!("! {problem}"));
                *shown = true;
            }
        }
    }
}

/// What the bar measures: recordings while they are indexed, frames afterwards.
fn work(status: &JobStatus) -> (u64, u64) {
    match status.state {
        JobState::Planning => (status.recordings_indexed, status.recordings),
        _ => (status.frames_done.min(status.frames), status.frames),
    }
}

/// The state as one word.
#[must_use]
pub fn word(state: JobState) -> &'static str {
    match state {
        JobState::Planning => "planning",
        JobState::Running => "running",
        JobState::Paused => "paused",
        JobState::Finished => "finished",
        JobState::Cancelled => "cancelled",
        JobState::Failed => "failed",
    }
}

/// Everything else about a job in one line.
fn figures(status: &JobStatus) -> String {
    if status.state == JobState::Planning {
        return match status.recordings {
            0 => "listing the archive".to_owned(),
            n => format!("read {} of {}", count(status.recordings_indexed), plural(n, "recording")),
        };
    }
    let mut parts = vec![format!("{}/{} frames", count(status.frames_done), count(status.frames))];
    if status.fps > 0.0 && status.state == JobState::Running {
        parts.push(format!("{} frames/s", rate(status.fps)));
    }
    // Early in the line: a narrow terminal cuts its end.
    if let Some(eta) = status.eta_seconds.filter(|_| status.state == JobState::Running) {
        parts.push(format!("ETA {}", duration(eta)));
    }
    parts.push(format!("shards {}/{}", count(status.shards_done), count(status.shards)));
    parts.push(format!("matches {}/{}", count(status.matches_done), count(status.matches)));
    if status.quarantined > 0 {
        parts.push(format!("{} quarantined", count(status.quarantined)));
    }
    parts.push(plural(status.detections, "detection"));
    parts.join(" · ")
}

/// The plain line.
#[must_use]
pub fn line(status: &JobStatus) -> String {
    let (done, total) = work(status);
    let percent = (done * 100).checked_div(total).map(|p| format!(" {p:>3} %")).unwrap_or_default();
    format!("{}{percent}  {}", word(status.state), figures(status))
}

/// A status to try things on.
#[cfg(test)]
pub mod tests {
    use super::*;

    #[must_use]
    pub fn status(state: JobState) -> JobStatus {
        JobStatus {
            job: "job-1".into(),
            state,
            matches: 4,
            matches_done: 1,
            recordings: 4,
            recordings_indexed: 3,
            shards: 40,
            shards_done: 12,
            frames: 12_000,
            frames_done: 3_456,
            detections: 51_234,
            quarantined: 0,
            problems: vec![],
            elapsed_seconds: 36.0,
            fps: 96.4,
            eta_seconds: Some(88.6),
            stage_seconds: vec![("infer".into(), 1.5)],
            manifest: None,
            failure: None,
            timeline: vec![],
            failed_attempts: vec![],
        }
    }

    #[test]
    fn a_running_job_tells_frames_rate_shards_matches_detections_and_the_time_left() {
        assert_eq!(
            line(&status(JobState::Running)),
            "running  28 %  3,456/12,000 frames · 96 frames/s · ETA 1 min 29 s · shards 12/40 · matches 1/4 · 51,234 detections"
        );
    }

    #[test]
    fn planning_counts_recordings_and_an_empty_plan_has_no_percentage() {
        assert_eq!(line(&status(JobState::Planning)), "planning  75 %  read 3 of 4 recordings");
        let empty = JobStatus { recordings: 0, recordings_indexed: 0, ..status(JobState::Planning) };
        assert_eq!(line(&empty), "planning  listing the archive");
    }

    #[test]
    fn a_finished_job_has_no_rate_and_no_time_left() {
        let done = JobStatus { frames_done: 12_000, quarantined: 2, ..status(JobState::Finished) };
        let line = line(&done);
        assert!(line.starts_with("finished 100 %") && line.contains("2 quarantined"), "{line}");
        assert!(!line.contains("ETA") && !line.contains("frames/s"), "{line}");
    }
}
