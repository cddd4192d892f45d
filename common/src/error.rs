//! What an error means: for its task (disposition) and for the person at the terminal (exit code and hint).

use std::fmt;

use serde::{Deserialize, Serialize};
use wincode::{SchemaRead, SchemaWrite};

/// What a failure means for the task it happened in. Each has its own budget in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, SchemaRead, SchemaWrite)]
#[serde(rename_all = "kebab-case")]
pub enum Disposition {
    /// Store or network trouble: try again later. Exhausted, it pauses the match; it never quarantines.
    Transient,
    /// The worker was told to go or vanished: another takes over, nothing is charged to the input.
    PreEmpted,
    /// Out of (device) memory: another batch size or lane.
    OutOfMemory,
    /// The input itself cannot be processed: reproduced elsewhere, it is quarantined.
    PoisonInput,
    /// The recording is no longer the one that was planned (its `ETag` differs).
    InputChanged,
    /// This worker cannot do such work (missing runtime, failing device): it stops pulling.
    WorkerUnfit,
    /// The job's own models or settings cannot work anywhere: the job pauses, no worker and no recording is to blame.
    JobUnfit,
    /// The work is no longer wanted.
    Cancelled,
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transient => "transient",
            Self::PreEmpted => "pre-empted",
            Self::OutOfMemory => "out-of-memory",
            Self::PoisonInput => "poison-input",
            Self::InputChanged => "input-changed",
            Self::WorkerUnfit => "worker-unfit",
            Self::JobUnfit => "job-unfit",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Exit codes of every fulltime binary. Scripts rely on them: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All committed.
    Ok = 0,
    /// A bug in fulltime.
    Internal = 1,
    /// Bad arguments, job or pipeline file.
    Usage = 2,
    /// Finished, but with quarantined recordings or gaps.
    Quarantine = 3,
    /// The archive: unreachable, empty, nothing matched.
    Archive = 4,
    /// The output or store: read-only, full, unreachable, without conditional PUT.
    Store = 5,
    /// A model: missing, wrong sha256, shapes that do not fit the manifest.
    Model = 6,
    /// NATS: not installed, port taken, unreachable.
    Broker = 7,
    /// A runtime library is missing or too old (ONNX Runtime, FFmpeg).
    Runtime = 8,
    /// The job was cancelled.
    Cancelled = 9,
    /// The job is paused after too many infrastructure failures; nothing is lost, `fulltime submit` it again to resume.
    Paused = 10,
    /// Ended by Ctrl-C or SIGTERM.
    Interrupted = 130,
}

impl Exit {
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::Internal,
        Self::Usage,
        Self::Quarantine,
        Self::Archive,
        Self::Store,
        Self::Model,
        Self::Broker,
        Self::Runtime,
        Self::Cancelled,
        Self::Paused,
        Self::Interrupted,
    ];

    /// The exit that another binary of ours ended with, or sent over the bus.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| *exit as u8 == code)
    }
}

/// An error that knows what to tell the operator. Every error a binary can end with implements it.
pub trait Explain: std::error::Error + Send + Sync + 'static {
    fn exit(&self) -> Exit;
    /// What to do about it, one imperative sentence.
    fn hint(&self) -> Option<String>;
}

/// The end of a binary: one line for the cause, one for the fix, and the code.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub cause: String,
    pub hint: Option<String>,
}

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: error.exit(), hint: error.hint(), cause: chain(&error) }
    }
}

impl Failure {
    #[must_use]
    pub fn new(exit: Exit, cause: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, cause: cause.into(), hint: Some(hint.into()) }
    }

    /// Prints `error: …` and `  fix: …` to standard error and returns the code for `main`.
    #[must_use]
    pub fn report(&self) -> std::process::ExitCode {
        eprintln!("error: {}", self.cause);
        if let Some(hint) = &self.hint {
            eprintln!("  fix: {hint}");
        }
        std::process::ExitCode::from(self.exit as u8)
    }
}

/// The error and its sources as one line, without the repetition of libraries that print their source themselves.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let text = source.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = source.source();
    }
    line.replace('\n', " ")
}
