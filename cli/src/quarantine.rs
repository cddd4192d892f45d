//! `fulltime quarantine`: what a finished job had to give up. Reads the newest generation's manifest, since that, and not
//! the coordinator, is what counts; only `retry` talks to the coordinator.

use fulltime_common::{Exit, error::Failure};
use fulltime_coordinator::manifest::{Manifest, Quarantined};

use crate::{
    args::{GivenUpArgs, QuarantineArgs, QuarantineCommand},
    remote,
    results::Results,
    text::table,
};

/// See the module.
///
/// # Errors
/// No such job, not finished, no such number, or a retry that the coordinator refuses.
pub async fn quarantine(args: QuarantineArgs) -> Result<Exit, Failure> {
    match args.command {
        QuarantineCommand::Retry(args) => remote::retry(args).await,
        QuarantineCommand::List(args) => {
            let manifest = manifest(&args).await?;
            if args.json {
                let Manifest { job, generation, quarantined, .. } = &manifest;
                println!(
                    "{}",
                    serde_json::json!({ "job": job, "generation": generation, "quarantined": quarantined, "exit": 0 })
                );
            } else {
                print!("{}", list(&manifest.quarantined));
            }
            Ok(Exit::Ok)
        }
        QuarantineCommand::Show(args) => {
            let manifest = manifest(&args.of).await?;
            let at = args.number as usize - 1;
            let Some(lost) = manifest.quarantined.get(at) else {
                let cause = format!(
                    "job `{}` has given up {} things, no {}",
                    manifest.job,
                    manifest.quarantined.len(),
                    args.number
                );
                return Err(Failure::new(Exit::Usage, cause, "`fulltime quarantine list` counts them"));
            };
            if args.of.json {
                println!(
                    "{}",
                    serde_json::json!({ "job": manifest.job, "number": args.number, "quarantined": lost, "exit": 0 })
                );
            } else {
                print!("{}", details(&manifest, lost));
            }
            Ok(Exit::Ok)
        }
    }
}

async fn manifest(args: &GivenUpArgs) -> Result<Manifest, Failure> {
    let results = Results::of(&args.out, &args.job).await?;
    results.map(|results| results.manifest).ok_or_else(|| {
        let cause = format!("job `{}` has not finished below `{}`", args.job, args.out);
        Failure::new(Exit::Usage, cause, "look below jobs/ there for the jobs; `fulltime status` tells of running ones")
    })
}

fn list(lost: &[Quarantined]) -> String {
    if lost.is_empty() {
        return "nothing was given up\n".to_owned();
    }
    let columns = ["number", "match", "recording", "frames", "reason"].map(str::to_owned);
    let row = |(at, lost): (usize, &Quarantined)| {
        vec![
            (at + 1).to_string(),
            lost.id.to_string(),
            lost.recording.clone().unwrap_or_else(|| "all".to_owned()),
            frames(lost),
            lost.reason.clone(),
        ]
    };
    table(&columns, &lost.iter().enumerate().map(row).collect::<Vec<_>>())
}

/// The first and the last frame.
fn frames(lost: &Quarantined) -> String {
    lost.frames
        .as_ref()
        .map_or_else(|| "all".to_owned(), |frames| format!("{}-{}", frames.start, frames.end.saturating_sub(1)))
}

fn details(manifest: &Manifest, lost: &Quarantined) -> String {
    let recording = lost.recording.as_deref();
    let file =
        recording.map(|key| format!("{}/{key}", manifest.archive)).unwrap_or_else(|| "all of the match".to_owned());
    format!(
        "match      {}\nrecording  {file}\nframes     {}\nreason     {}\n\nMend the file or the store, then: fulltime quarantine retry {}\n",
        lost.id,
        frames(lost),
        lost.reason,
        manifest.job
    )
}

#[cfg(test)]
mod tests {
    use fulltime_common::plan::MatchId;

    use super::*;

    #[test]
    fn what_was_given_up_is_listed_with_frames_as_people_count_them() {
        let id = MatchId { season: "2024".into(), name: "cup".into() };
        let lost = |recording: Option<&str>, frames| Quarantined {
            id: id.clone(),
            recording: recording.map(str::to_owned),
            frames,
            reason: "damaged".into(),
        };
        let text = list(&[lost(Some("a.mp4"), Some(50..75)), lost(None, None)]);
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "1 2024/cup a.mp4 50-74 damaged");
        assert_eq!(lines[2], "2 2024/cup all all damaged");
        assert_eq!(list(&[]), "nothing was given up\n");
    }
}
