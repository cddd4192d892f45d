//! A job of a million shards: what one costs in time, and what all of them cost in memory.

use std::{collections::VecDeque, time::Instant};

use fulltime_common::{
    keys,
    plan::{MatchId, Placement, PlannedMatch, RecordingRef},
    wire::{Event, EventKind, Outcome, Task},
};

use super::{
    super::{Action, Admitted, Figures, Input, Ledger, Now, Policy},
    world::{admitted, hello, plan_of},
};

const MATCHES: u32 = 10_000;
const SHARDS: u32 = 100;

fn resident_mb() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0 / 1e6
}

fn season() -> Admitted {
    let planned = |n: u32| PlannedMatch {
        id: MatchId { season: "2031-32".into(), name: format!("home-side-{n:05}-v-away-side") },
        recordings: vec![Placement {
            recording: RecordingRef {
                key: format!("archive/2031-32/matchday-{:02}/home-side-{n:05}-v-away-side/main.mp4", n % 38),
                size: 1 << 33,
                etag: format!("\"{n:032x}\""),
            },
            period: 1,
            camera: "main".into(),
            offset_us: 0,
        }],
    };
    Admitted { matches: (0..MATCHES).map(planned).collect(), ..admitted(&[]) }
}

fn events(task: &Task) -> [Input; 2] {
    let outcome = Outcome { frames: 25, elapsed_seconds: 0.01, ..Outcome::default() };
    [EventKind::Started, EventKind::Committed(outcome)].map(|kind| {
        let (job, digest, release) = (task.job.clone(), task.digest, task.release);
        Input::Heard(Event { job, digest, release, worker: "w1".into(), kind })
    })
}

/// All that the store, the queue and the lanes would answer, at once.
fn answers(action: Action) -> Vec<Input> {
    vec![match action {
        Action::Open { job, at, .. } => Input::Opened { job, at, plan: None, inputs: None },
        Action::Check { work, .. } => Input::Checked { work, exists: false },
        Action::Release(task) => return events(&task).into(),
        Action::Plan { job, at, order } => Input::Planned { job, at, plan: Box::new(plan_of(*order, SHARDS)) },
        Action::FindReduced { job, at, .. } => Input::Reduced { job, at, exists: false },
        Action::Freeze { job, at, inputs } => Input::Frozen { job, at, inputs },
        Action::Summarise { job, at, .. } => Input::Summarised { job, at, figures: Figures::default() },
        Action::Finish { job, .. } => Input::Finished { job: job.clone(), manifest: keys::job::manifest(&job, 1) },
        other => unreachable!("nothing goes wrong here: {other:?}"),
    }]
}

/// Run it with `--ignored --nocapture` to see the figures.
#[test]
#[ignore = "takes a minute; a bench"]
fn a_million_shards_in_flat_memory() {
    let mut ledger = Ledger::new(Policy { window: 4000, ..Policy::new(std::time::Duration::from_secs(10)) });
    let mut due = VecDeque::from([
        Input::Hello(hello("w1", 1, "cpu")),
        Input::Announce("j".into()),
        Input::Admit("j".into(), Box::new(season())),
    ]);
    let begun = Instant::now();
    let mut now = Now::ZERO;
    let (mut done, mut marks) = (0_u64, Vec::new());
    let (mut deciding, all) = (std::time::Duration::ZERO, u64::from(MATCHES * SHARDS));
    while let Some(input) = due.pop_front() {
        let begins = Instant::now();
        let committed = matches!(&input, Input::Heard(event) if matches!(event.kind, EventKind::Committed(_)));
        now += std::time::Duration::from_micros(5);
        let actions = ledger.step(input, now);
        deciding += begins.elapsed();
        due.extend(actions.into_iter().flat_map(answers));
        done += u64::from(committed);
        if committed && done.is_multiple_of(all / 10) {
            marks.push(resident_mb());
        }
    }
    let status = ledger.status(Some("j"), now).remove(0);
    assert_eq!((status.shards_done, status.matches_done), (all, u64::from(MATCHES)));
    assert_eq!(status.state, fulltime_common::wire::JobState::Finished);
    let (first, last) = (marks[0], marks[8]);
    println!(
        "{:.0} shards/s in the ledger, {:.0} with the world around it",
        all as f64 / deciding.as_secs_f64(),
        all as f64 / begun.elapsed().as_secs_f64()
    );
    println!("resident MB at every tenth: {marks:.0?}");
    assert!(last < 200.0 && last < first * 1.2, "{marks:?}");
}
