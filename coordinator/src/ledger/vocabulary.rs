//! What the ledger is told and what it answers: the inputs and actions that cross its edge, and what they carry.

use fulltime_common::{
    digest::Digest,
    plan::{EngineClass, MatchId, MatchPlan, Placement, PlannedMatch, ReduceInputs},
    wire::{Event, Hello, JobFailure, JobState, Task},
};

use super::{JobId, WorkId};
use crate::manifest::{Manifest, Quarantined, Totals};

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The registry has a job; it is being read.
    Announce(JobId),
    /// Its match list is fixed.
    Admit(JobId, Box<Admitted>),
    /// It was over before this coordinator started.
    Past(JobId, Box<Past>),
    /// It cannot be planned.
    Refuse(JobId, JobFailure),
    Opened {
        job: JobId,
        at: u32,
        plan: Option<Box<MatchPlan>>,
        inputs: Option<Box<ReduceInputs>>,
    },
    Checked {
        work: WorkId,
        exists: bool,
    },
    Planned {
        job: JobId,
        at: u32,
        plan: Box<MatchPlan>,
    },
    Frozen {
        job: JobId,
        at: u32,
        inputs: Box<ReduceInputs>,
    },
    Summarised {
        job: JobId,
        at: u32,
        figures: Figures,
    },
    Finished {
        job: JobId,
        manifest: String,
    },
    /// One of the coordinator's own steps failed for good.
    Stuck {
        job: JobId,
        failure: JobFailure,
    },
    Cancel(JobId),
    /// Forget a job that is over, so that it can be announced again.
    Forget(JobId),
    Heard(Event),
    Hello(Hello),
    Tick,
}

/// What to do about it.
#[derive(Debug, Clone)]
pub enum Action {
    /// Read what an earlier run has decided about a match.
    Open {
        job: JobId,
        at: u32,
        id: MatchId,
    },
    /// Ask whether a result exists.
    Check {
        job: JobId,
        work: WorkId,
        object: Object,
    },
    Release(Box<Task>),
    /// Cut a match's recordings and fix its plan.
    Plan {
        job: JobId,
        at: u32,
        order: Box<PlanOrder>,
    },
    /// Create the inputs object: the exactly-once release of a reduce.
    Freeze {
        job: JobId,
        at: u32,
        inputs: Box<ReduceInputs>,
    },
    /// Read the summary of a reduced match.
    Summarise {
        job: JobId,
        at: u32,
        id: MatchId,
    },
    Quarantine {
        job: JobId,
        name: String,
        record: Box<Quarantined>,
    },
    /// Write report and manifest.
    Finish {
        job: JobId,
        outcomes: Vec<MatchOutcome>,
        run: Box<RunFigures>,
    },
    /// Take the job's queued tasks off the bus; what runs may end.
    Withdraw {
        job: JobId,
    },
    /// Take the job's queued tasks off the bus and stop what runs: this work, up to these releases.
    Stop {
        job: JobId,
        work: Vec<(Digest, u32)>,
    },
}

/// Where a result's commit object lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    Store(String),
    Out(String),
}

/// A job that can run.
#[derive(Debug, Clone)]
pub struct Admitted {
    pub archive: String,
    pub store: String,
    pub out: String,
    pub pipeline: Digest,
    /// Digest of the part of the pipeline that the map tasks compute.
    pub map: Digest,
    /// Digest of the part of the pipeline that the reduce computes.
    pub reduce: Digest,
    pub matches: Vec<PlannedMatch>,
}

/// A job that was over already, with what its manifest says.
#[derive(Debug, Clone)]
pub struct Past {
    pub state: JobState,
    pub totals: Totals,
    pub problems: Vec<String>,
    pub manifest: Option<String>,
}

impl Past {
    #[must_use]
    pub fn finished(manifest: &Manifest, url: String) -> Self {
        let problems = manifest.quarantined.iter().map(ToString::to_string).collect();
        Self { state: JobState::Finished, totals: manifest.totals, problems, manifest: Some(url) }
    }

    #[must_use]
    pub fn cancelled() -> Self {
        Self { state: JobState::Cancelled, totals: Totals::default(), problems: Vec::new(), manifest: None }
    }
}

/// What a match plan is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanOrder {
    pub id: MatchId,
    pub engine: EngineClass,
    pub pipeline: Digest,
    pub map: Digest,
    /// With the reason why a recording was refused.
    pub recordings: Vec<(Placement, Digest, Option<String>)>,
}

/// Figures of a match's summary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    pub detections: u64,
    /// Runs of frames without a result.
    pub gaps: u64,
}

/// How the work went, for the report; never part of a result.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunFigures {
    pub elapsed_seconds: f64,
    /// Frames that were run, not found.
    pub frames: u64,
    /// Busy seconds of all lanes by stage, in the order of the first report.
    pub stage_seconds: Vec<(String, f64)>,
}

/// How a match ended.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchOutcome {
    pub id: MatchId,
    pub engine: Option<EngineClass>,
    /// Why there are no tables, recording by recording; empty for a match that was reduced.
    pub quarantined: Vec<Quarantined>,
}
