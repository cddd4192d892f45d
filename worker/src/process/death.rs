//! How a lane process ended, and what that says about the task it ran.

use std::{fmt, os::unix::process::ExitStatusExt as _, process::ExitStatus};

use fulltime_common::{Disposition, Exit, error::Failure, wire::Witness};

use crate::executor::TaskFailure;

/// The end of a lane process that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    pub witness: Witness,
}

impl Death {
    pub(super) fn of(status: ExitStatus) -> Self {
        let witness = match (status.signal(), status.code()) {
            (Some(signal), _) => Witness::Signal(signal),
            (None, code) => Witness::Exit(code.unwrap_or_default()),
        };
        Self { witness }
    }

    /// What it means for the task on the lane.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self.witness {
            // We did not send it, so the kernel did: it takes memory back like that.
            Witness::Signal(libc::SIGKILL) => Disposition::OutOfMemory,
            Witness::Signal(libc::SIGTERM | libc::SIGINT | libc::SIGHUP) => Disposition::PreEmpted,
            Witness::Signal(_) | Witness::Exit(_) | Witness::Stalled | Witness::Error => Disposition::PoisonInput,
        }
    }

    pub(super) fn failure(&self) -> TaskFailure {
        let hint = match self.disposition() {
            Disposition::OutOfMemory => Some("give the worker more memory or fewer lanes".to_owned()),
            _ => None,
        };
        let failure = Failure { exit: Exit::Internal, cause: format!("the lane's process ended: {self}"), hint };
        let mut failure = TaskFailure::new(self.disposition(), failure);
        failure.evidence.witness = self.witness;
        failure
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.witness {
            Witness::Signal(signal) => match signal {
                libc::SIGSEGV => "SIGSEGV",
                libc::SIGBUS => "SIGBUS",
                libc::SIGILL => "SIGILL",
                libc::SIGFPE => "SIGFPE",
                libc::SIGABRT => "SIGABRT",
                libc::SIGKILL => "SIGKILL",
                libc::SIGTERM => "SIGTERM",
                other => return write!(f, "signal {other}"),
            },
            Witness::Exit(code) => return write!(f, "exit code {code}"),
            Witness::Stalled => "no progress",
            Witness::Error => "an error",
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_is_the_inputs_a_kill_the_memorys_and_a_request_to_end_nobodys_fault() {
        let of = |raw: i32| {
            let death = Death::of(ExitStatus::from_raw(raw));
            (death.witness, death.disposition())
        };
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT] {
            assert_eq!(of(signal), (Witness::Signal(signal), Disposition::PoisonInput));
        }
        assert_eq!(of(libc::SIGKILL).1, Disposition::OutOfMemory);
        assert_eq!(of(libc::SIGTERM).1, Disposition::PreEmpted);
        assert_eq!(of(3 << 8), (Witness::Exit(3), Disposition::PoisonInput));
        let failure = Death::of(ExitStatus::from_raw(libc::SIGSEGV)).failure();
        assert_eq!(failure.cause, "the lane's process ended: SIGSEGV");
        assert_eq!(failure.evidence.witness, Witness::Signal(libc::SIGSEGV));
    }
}
