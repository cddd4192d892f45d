//! What the ledger is told and what it answers: the inputs and actions that cross its edge, and what they carry.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fulltime_common::{
    digest::Digest,
    error::Disposition,
    plan::{EngineClass, MatchId, MatchPlan, Placement, PlannedMatch, ReduceInputs, ShardSpec},
    spec::Given,
    wire::{Band, Event, Evidence, Hello, JobFailure, JobState, Task},
};
use serde::{Deserialize, Serialize};

use super::{Aside, JobId, Seen, WorkId};
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
    /// Somebody decided about a job; the decision is durable already. [`Decision::Retry`] makes a finished job announced
    /// again: it is to be admitted with its next generation.
    Decide(JobId, Decision),
    /// An attempt is durable ([`Action::Record`]): now it counts.
    Recorded {
        job: JobId,
        attempt: Box<Attempt>,
    },
    /// The parts that a shard of these was cut into ([`Action::Split`]); one part if it cannot be cut.
    SplitInto {
        job: JobId,
        at: u32,
        recording: u32,
        digest: Digest,
        parts: Vec<ShardSpec>,
    },
    /// The recordings of a match as they are now ([`Action::Relist`]).
    Relisted {
        job: JobId,
        at: u32,
        revision: u32,
        planned: Box<PlannedMatch>,
    },
    /// Whether the result of a whole match exists ([`Action::FindReduced`]).
    Reduced {
        job: JobId,
        at: u32,
        exists: bool,
    },
    /// What tenants have used this month, by the bookings of earlier leaders. `fresh`: a new month has begun.
    Spent {
        tenants: BTreeMap<String, Duration>,
        fresh: bool,
    },
    /// Forget a job that is over or paused, so that it can be announced again.
    Forget(JobId),
    Heard(Event),
    Hello(Hello),
    /// Time goes by. `minute` is the minute of the day in UTC, for run windows.
    Tick {
        minute: Option<u16>,
    },
}

/// What to do about it.
#[derive(Debug, Clone)]
pub enum Action {
    /// Read what an earlier run has decided about a match: the plan of this revision, the inputs of this generation. A
    /// plan of an earlier generation counts if it refused no recording.
    Open {
        job: JobId,
        at: u32,
        id: MatchId,
        revision: u32,
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
    /// Ask for the result of a whole match, as a run without gaps would make it. Answered by [`Input::Reduced`].
    FindReduced {
        job: JobId,
        at: u32,
        reduce: Digest,
    },
    /// Make a failed attempt that costs budget durable, then say [`Input::Recorded`].
    Record {
        job: JobId,
        attempt: Box<Attempt>,
    },
    /// Halve a shard by whole intervals, once and for all. Answered by [`Input::SplitInto`].
    Split {
        job: JobId,
        at: u32,
        recording: u32,
        shard: Box<ShardSpec>,
    },
    /// A recording is no longer the one that was planned: look at the match's recordings anew, and fix what they are as
    /// this revision. Answered by [`Input::Relisted`].
    Relist {
        job: JobId,
        at: u32,
        id: MatchId,
        revision: u32,
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
    /// Make lane time durable that a job has used, so that the next leader knows of it.
    Book(Booking),
    /// Tell whom it concerns that a job has paused by itself.
    Notify {
        job: JobId,
    },
    /// Take the job's queued tasks off the bus; what is leased may end.
    Withdraw {
        job: JobId,
    },
    /// End what runs of this work, up to these releases: nobody wants it any more, or somebody else was faster.
    Stop {
        job: JobId,
        work: Vec<(Digest, u32)>,
    },
    /// Take these tasks off the bus, should they still be queued: their work is decided.
    Discard {
        tasks: Vec<Task>,
    },
}

/// Lane time of committed attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    pub job: JobId,
    pub tenant: Option<Arc<str>>,
    /// What counts against the job's own limit begins anew with every round.
    pub round: u32,
    pub time: Duration,
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
    /// What the user knows about the matches.
    pub given: Arc<Given>,
    /// As the latest revision of each has them.
    pub matches: Vec<PlannedMatch>,
    /// Of matches that were looked at anew: the latest revision.
    pub revisions: BTreeMap<MatchId, u32>,
    /// From 1; each retry makes the next.
    pub generation: u32,
    pub band: Band,
    pub tenant: Option<String>,
    pub limits: Limits,
    /// Lane time that earlier leaders booked in this round.
    pub spent: Duration,
    /// Paused by decision.
    pub paused: bool,
    /// How many decisions to resume (or retry) there were: attempts of an earlier round cost no infrastructure budget.
    pub round: u32,
    /// What earlier leaders recorded, of all generations.
    pub attempts: Vec<Attempt>,
    /// Shards that were cut into parts, by digest.
    pub splits: BTreeMap<Digest, Vec<ShardSpec>>,
    /// Matches whose summary exists in this generation.
    pub finished: BTreeSet<MatchId>,
}

/// What a job may use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Lane hours of committed attempts.
    pub max_gpu_hours: Option<f64>,
    /// Minutes of the day (UTC) between which work is released; may wrap around midnight.
    pub window: Option<(u16, u16)>,
}

/// A decision about a job that outlives every coordinator: `control/{seq}.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "kebab-case")]
pub enum Decision {
    Cancel,
    Pause,
    Resume,
    Priority { band: Band },
    Retry,
}

/// A failed attempt that costs budget, kept as an object so that the next leader charges it, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub digest: Digest,
    /// Counts the attempts of this work by this job, from 1, over all generations.
    pub number: u32,
    pub generation: u32,
    pub round: u32,
    pub release: u32,
    pub worker: String,
    /// [`Disposition::PreEmpted`]: the worker vanished.
    pub disposition: Disposition,
    pub evidence: Evidence,
    pub cause: String,
    pub exit: u8,
    pub hint: Option<String>,
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
    pub revision: u32,
    pub engine: EngineClass,
    pub pipeline: Digest,
    pub map: Digest,
    /// With the reason why a recording was refused.
    pub recordings: Vec<(Placement, Digest, Option<String>)>,
}

/// Figures of a match's summary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Of the plan, if it was read: asked of matches that were finished before this leader took over.
    pub engine: Option<EngineClass>,
    pub shards: u64,
    pub frames: u64,
    pub gap_frames: u64,
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
    pub seen: Aside<Seen>,
}

/// How a match ended.
#[derive(Debug, Clone, PartialEq)]
pub struct MatchOutcome {
    pub id: MatchId,
    pub engine: Option<EngineClass>,
    /// Why there are no tables, recording by recording; empty for a match that was reduced.
    pub quarantined: Vec<Quarantined>,
}
