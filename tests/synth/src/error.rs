//! What can go wrong while a match is made.

use std::path::PathBuf;

use fulltime_media::encode::EncodeError;

/// Everything here ends the generator: there is nothing to retry.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("write `{path}`", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("a rendering thread ended early")]
    Thread,
}
