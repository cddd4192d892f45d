//! Torch's errors are texts, some of them with whole tensors in them. Cut to what a person needs, and told apart.

use std::fmt;

use fulltime_backend::BackendError;

/// Longest message that is kept.
const LONGEST: usize = 300;

/// An exception of torch's: what was being done, and the sentence that says why not. The exception itself is gone by then:
/// it may hold tensors, and with them the memory that ran out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TorchFault {
    pub doing: &'static str,
    pub message: String,
}

impl fmt::Display for TorchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.message)
    }
}

impl std::error::Error for TorchFault {}

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Memory,
    Device(&'static str),
    Other,
}

/// Words of its allocators, and of CUDA's errors after which a process has no device any more (CUDA Runtime API, "sticky"
/// errors).
const MEMORY: [&str; 5] =
    ["out of memory", "can't allocate memory", "not enough memory", "CUDNN_STATUS_ALLOC_FAILED", "bad_alloc"];
const DEVICE: [(&str, &str); 9] = [
    ("an illegal memory access", "illegal memory access"),
    ("device-side assert", "assertion on the device"),
    ("unspecified launch failure", "unspecified launch failure"),
    ("uncorrectable ECC error", "uncorrectable ECC error"),
    ("uncorrectable NVLink error", "uncorrectable NVLink error"),
    ("misaligned address", "misaligned address"),
    ("hardware stack error", "hardware stack error"),
    ("device is lost", "fallen off the bus"),
    ("unknown error", "unknown CUDA error"),
];

impl TorchFault {
    /// Of the exception's whole text.
    #[must_use]
    pub fn new(doing: &'static str, whole: &str) -> Self {
        Self { doing, message: cut(whole) }
    }

    /// The error of a run with this batch.
    #[must_use]
    pub fn of_run(self, batch: usize) -> BackendError {
        match about(&self.message) {
            About::Memory => BackendError::OutOfMemory { batch, source: Some(self.into()) },
            About::Device(reason) => BackendError::DeviceLost { reason },
            About::Other => BackendError::Run { batch, source: self.into() },
        }
    }

    /// The error of opening a model: whatever is not memory or device is the model's fault.
    #[must_use]
    pub fn of_model(self) -> BackendError {
        match about(&self.message) {
            About::Other => BackendError::Model { source: self.into() },
            About::Memory | About::Device(_) => self.of_run(1),
        }
    }
}

fn about(message: &str) -> About {
    if MEMORY.iter().any(|word| message.contains(word)) {
        return About::Memory;
    }
    // "unknown error" and the like count only as CUDA's own words.
    let cuda = message.contains("CUDA") || message.contains("cuda");
    let lost = DEVICE.iter().find(|(word, _)| cuda && message.contains(word));
    lost.map_or(About::Other, |(_, reason)| About::Device(reason))
}

/// The sentence that matters: of a traceback through TorchScript the line with the exception, of that what comes before a
/// printed tensor.
fn cut(whole: &str) -> String {
    let lines = || whole.lines().map(str::trim).filter(|line| !line.is_empty());
    let exception = lines().find(|line| {
        let name = line.split(':').next().unwrap_or_default();
        line.contains(':') && (name.ends_with("Error") || name.ends_with("Exception")) && !name.contains(' ')
    });
    // tch's own errors begin so; what follows is torch's.
    let first = || lines().map(|line| line.trim_start_matches("Internal torch error: ")).find(|line| !line.is_empty());
    let line = exception.or_else(first).unwrap_or("an exception without words");
    let tensor = ["[ CPU", "[ CUDA", "Columns 1 to", "(1,.,.)", " tensor(["];
    let end = tensor.iter().filter_map(|mark| line.find(mark)).min().unwrap_or(line.len());
    let mut text: String = line[..end].trim_end().chars().take(LONGEST).collect();
    if text.len() < line.trim_end().len() {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use fulltime_backend::Kind;

    use super::*;

    const TRACEBACK: &str = "The following operation failed in the TorchScript interpreter.\n\
        Traceback of TorchScript, serialized code (most recent call last):\n  File \"code/__torch__.py\", line 7, in forward\n\
        \x20   _0 = torch.conv2d(x, w)\n         ~~~~~~ <--- HERE\n\
        RuntimeError: Given groups=1, weight of size [16, 3, 3, 3], expected input[1, 5, 8, 8] to have 3 channels\n";

    #[test]
    fn of_a_traceback_the_exception_is_kept() {
        let fault = TorchFault::new("run", TRACEBACK);
        assert!(fault.message.starts_with("RuntimeError: Given groups=1"), "{fault}");
        assert_eq!(fault.of_run(1).kind(), Kind::Unfit);
        assert_eq!(TorchFault::new("run", TRACEBACK).of_model().kind(), Kind::Model);
    }

    #[test]
    fn tensors_and_long_texts_are_cut() {
        let fault = TorchFault::new("run", "Expected all to be equal but got [ CPUFloatType{1000} ] 0.1 0.2 0.3");
        assert_eq!(fault.message, "Expected all to be equal but got…");
        assert!(TorchFault::new("run", &"x".repeat(10_000)).message.chars().count() <= LONGEST + 1);
        assert_eq!(TorchFault::new("run", "  \n").message, "an exception without words");
    }

    #[test]
    fn exhausted_memory_and_lost_devices_are_told_from_the_rest() {
        let kind = |text: &str| TorchFault::new("run", text).of_run(4).kind();
        assert_eq!(
            kind("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."),
            Kind::OutOfMemory
        );
        assert_eq!(
            kind(
                "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"
            ),
            Kind::OutOfMemory
        );
        let lost = TorchFault::new("run", "CUDA error: an illegal memory access was encountered").of_run(1);
        assert!(matches!(lost, BackendError::DeviceLost { reason: "illegal memory access" }), "{lost}");
        assert!(matches!(TorchFault::new("run", "unknown error of a model").of_run(1), BackendError::Run { .. }));
    }
}
