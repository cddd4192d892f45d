//! Crash points of the coordinator: before and after every step that creates an object or tells anybody anything. See
//! `fulltime_common::crash` for how a test arms one.

use fulltime_common::crash;

/// What a coordinator does that others can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Writes itself into the leader's register.
    Claim,
    /// Creates its epoch.
    Epoch,
    /// Tells the workers that it leads.
    Lead,
    /// Fixes a job's match list.
    List,
    /// Fixes a match's plan.
    Plan,
    /// Puts tasks onto the queue.
    Release,
    /// Takes a paused or cancelled job's tasks off the queue.
    Withdraw,
    /// Takes single tasks off the queue.
    Discard,
    /// Tells workers to stop what they run.
    Stop,
    /// Makes what a person decided durable.
    Control,
    /// Answers a request.
    Answer,
    /// Records a failed attempt.
    Attempt,
    /// Fixes the parts of a poison shard.
    Split,
    /// Records what was given up.
    Quarantine,
    /// Fixes what the recordings of a match have become.
    Revision,
    /// Fixes what a reduce reads.
    Inputs,
    Report,
    Manifest,
    /// Books lane time.
    Book,
}

impl Deed {
    pub const ALL: [Self; 19] = [
        Self::Claim,
        Self::Epoch,
        Self::Lead,
        Self::List,
        Self::Plan,
        Self::Release,
        Self::Withdraw,
        Self::Discard,
        Self::Stop,
        Self::Control,
        Self::Answer,
        Self::Attempt,
        Self::Split,
        Self::Quarantine,
        Self::Revision,
        Self::Inputs,
        Self::Report,
        Self::Manifest,
        Self::Book,
    ];

    /// The points before and after it, as `FULLTIME_CRASH_AT` calls them.
    #[must_use]
    pub fn points(self) -> [&'static str; 2] {
        match self {
            Self::Claim => ["before-claim", "after-claim"],
            Self::Epoch => ["before-epoch", "after-epoch"],
            Self::Lead => ["before-lead", "after-lead"],
            Self::List => ["before-list", "after-list"],
            Self::Plan => ["before-plan", "after-plan"],
            Self::Release => ["before-release", "after-release"],
            Self::Withdraw => ["before-withdraw", "after-withdraw"],
            Self::Discard => ["before-discard", "after-discard"],
            Self::Stop => ["before-stop", "after-stop"],
            Self::Control => ["before-control", "after-control"],
            Self::Answer => ["before-answer", "after-answer"],
            Self::Attempt => ["before-attempt", "after-attempt"],
            Self::Split => ["before-split", "after-split"],
            Self::Quarantine => ["before-quarantine", "after-quarantine"],
            Self::Revision => ["before-revision", "after-revision"],
            Self::Inputs => ["before-inputs", "after-inputs"],
            Self::Report => ["before-report", "after-report"],
            Self::Manifest => ["before-manifest", "after-manifest"],
            Self::Book => ["before-booking", "after-booking"],
        }
    }
}

/// Does a deed between its two points. What failed was not done.
pub(crate) async fn around<T, E>(deed: Deed, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let [before, after] = deed.points();
    crash::reached(before);
    let done = work.await;
    if done.is_ok() {
        crash::reached(after);
    }
    done
}
