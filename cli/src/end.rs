//! How a finished job is told: as one JSON object, as a summary for people, or in silence; and the exit code.

use fulltime_common::{
    Exit,
    error::Failure,
    wire::{JobState, JobStatus},
};

use crate::{
    args::OutputArgs,
    follow,
    results::Results,
    screen,
    text::{duration, plural, rate},
};

/// Rows shown of the players table.
const ROWS: usize = 8;

/// A job that ran to its end.
#[derive(Debug)]
pub struct End<'a> {
    status: &'a JobStatus,
    exit: Exit,
    elapsed: f64,
}

impl<'a> End<'a> {
    /// `elapsed` in seconds of the whole command; without it the coordinator's count.
    ///
    /// # Errors
    /// The job did not finish.
    pub fn of(status: &'a JobStatus, elapsed: Option<f64>) -> Result<Self, Failure> {
        let exit = follow::verdict(status)?;
        Ok(Self { status, exit, elapsed: elapsed.unwrap_or(status.elapsed_seconds) })
    }

    fn fps(&self) -> f64 {
        if self.elapsed > 0.0 { self.status.frames_done as f64 / self.elapsed } else { 0.0 }
    }

    /// Says how it ended.
    ///
    /// # Errors
    /// Results that cannot be read.
    pub async fn tell(&self, output: &OutputArgs) -> Result<Exit, Failure> {
        let results = match self.out() {
            Some(out) => Results::of(out, &self.status.job).await?,
            None => None,
        };
        if !output.json && !output.quiet {
            println!("{}", self.headline());
            if let Some(results) = &results {
                println!("\n{}", results.describe("players", ROWS).await?.trim_end());
            }
        }
        if self.exit == Exit::Quarantine {
            self.quarantine(output.quiet);
        }
        if output.json {
            println!("{}", self.json(results.as_ref()));
        }
        Ok(self.exit)
    }

    /// The URL before `/jobs/`.
    fn out(&self) -> Option<&str> {
        let below = format!("/jobs/{}/", self.status.job);
        self.status.manifest.as_ref().and_then(|url| url.split_once(&below)).map(|(out, _)| out)
    }

    fn headline(&self) -> String {
        let s = self.status;
        let (matches, frames) = (plural(s.matches, "match"), plural(s.frames_done, "frame"));
        let speed = format!("{} frames/s", rate(self.fps()));
        let (found, time) = (plural(s.detections, "detection"), duration(self.elapsed));
        format!("{} {}: {matches}, {frames}, {found} in {time} ({speed})", screen::word(s.state), s.job)
    }

    /// On standard error, with `--quiet` and `--json` too: this is what the exit code means.
    fn quarantine(&self, quiet: bool) {
        let s = self.status;
        // Otherwise they have been shown as they came.
        if quiet {
            s.problems.iter().for_each(|problem| eprintln!("! {problem}"));
        }
        eprintln!("error: finished, but {} had to be quarantined", plural(s.quarantined, "item"));
        eprintln!("  fix: mend or replace what is named above and run the job again; everything else is kept");
    }

    fn json(&self, results: Option<&Results>) -> serde_json::Value {
        let s = self.status;
        debug_assert_eq!(s.state, JobState::Finished);
        serde_json::json!({
            "job": s.job,
            "state": s.state,
            "matches": s.matches,
            "recordings": s.recordings,
            "shards": s.shards_done,
            "frames": s.frames_done,
            "detections": s.detections,
            "quarantined": s.quarantined,
            "elapsed_s": thousandths(self.elapsed),
            "fps": thousandths(self.fps()),
            "stages": s.stage_seconds.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "out": self.out(),
            "manifest": s.manifest,
            "report": results.map(Results::report_url),
            "problems": s.problems,
            "exit": self.exit as u8,
        })
    }
}

fn thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The last line of `--json` when a command fails.
#[must_use]
pub fn failure_json(failure: &Failure) -> serde_json::Value {
    serde_json::json!({ "error": failure.cause, "fix": failure.hint, "exit": failure.exit as u8 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::tests::status;

    #[test]
    fn the_json_line_has_what_scripts_rely_on() {
        let manifest = Some("file:///out/jobs/job-1/g1/manifest.json".to_owned());
        let status = JobStatus { quarantined: 1, manifest, frames_done: 1_000, ..status(JobState::Finished) };
        let end = End::of(&status, Some(8.0)).unwrap();
        let json = end.json(None);
        let keys = ["job", "matches", "shards", "frames", "detections", "quarantined", "elapsed_s", "fps", "manifest"];
        assert!(keys.iter().all(|key| !json[key].is_null()), "{json}");
        assert_eq!((json["fps"].as_f64(), json["exit"].as_u64()), (Some(125.0), Some(3)));
        assert_eq!(json["out"], "file:///out");
    }

    #[test]
    fn a_failure_in_json_carries_code_and_fix() {
        let json = failure_json(&Failure::new(Exit::Broker, "no broker", "install one"));
        assert_eq!(json, serde_json::json!({ "error": "no broker", "fix": "install one", "exit": 7 }));
    }
}
