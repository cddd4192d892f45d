//! The backend of a build without libtorch: it says so.

use fulltime_backend::{Backend, BackendError, Contract, Description};

use crate::TorchOptions;

/// Why there is no torch here, and what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this build of fulltime has no torch: run `cargo xtask setup --torch`, then build with `--features torch`")]
pub struct NotBuilt;

/// Is never made.
#[derive(Debug)]
pub struct TorchBackend {
    description: Description,
}

/// # Errors
/// Always, with [`NotBuilt`] inside.
pub fn engine_class(_: &TorchOptions) -> Result<String, BackendError> {
    Err(BackendError::Runtime { library: "libtorch".to_owned(), source: NotBuilt.into() })
}

impl TorchBackend {
    /// # Errors
    /// Always, with [`NotBuilt`] inside.
    pub fn open(_: &[&[u8]], contract: Contract, options: &TorchOptions) -> Result<Self, BackendError> {
        let engine = engine_class(options)?;
        Ok(Self { description: Description { engine, contract, fixed_batch: None } })
    }
}

impl Backend for TorchBackend {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn run(&mut self, _: &[f32], batch: usize, _: &mut Vec<f32>) -> Result<(), BackendError> {
        Err(BackendError::Run { batch, source: NotBuilt.into() })
    }
}

#[cfg(test)]
mod tests {
    use fulltime_backend::{Kind, Output};

    use super::*;

    #[test]
    fn opening_says_plainly_that_this_build_has_no_torch() {
        let contract =
            Contract { input: None, input_item: vec![1], outputs: vec![Output { name: None, item: vec![1] }] };
        let error = TorchBackend::open(&[b"model"], contract, &TorchOptions::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::Runtime);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("no torch") && source.contains("--features torch"), "{source}");
    }
}
