//! What can go wrong in a reduce, and what it means for its task.

use fulltime_common::{Digest, Disposition, index::IndexError, store::StoreError};
use fulltime_tables::TableError;

/// A match that was not reduced.
#[derive(Debug, thiserror::Error)]
pub enum ReduceError {
    #[error(transparent)]
    Store(Box<StoreError>),
    #[error("the inputs name `{key}`, which is not in the store")]
    Missing { key: String },
    #[error("`{key}` is not what its shard's index says")]
    Damaged { key: String },
    #[error("container index `{digest}`")]
    Index {
        digest: Digest,
        #[source]
        source: IndexError,
    },
    #[error("shard `{shard}`")]
    Shard {
        shard: Digest,
        #[source]
        source: TableError,
    },
    #[error("shard `{shard}` has rows of frame {frame}, which is not its own")]
    ForeignFrame { shard: Digest, frame: u32 },
    #[error("match table")]
    Table(#[from] TableError),
    #[error("preview picture of frame {frame}")]
    Decode {
        frame: u32,
        #[source]
        source: jpeg_decoder::Error,
    },
    #[error("preview picture of frame {frame}")]
    Encode {
        frame: u32,
        #[source]
        source: jpeg_encoder::EncodingError,
    },
    #[error("the reducing thread ended early")]
    Thread(#[from] tokio::task::JoinError),
}

impl From<StoreError> for ReduceError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl ReduceError {
    /// What it means for the reduce task. What the store has lost may come back (a replica, a restored bucket); what is
    /// damaged there is damaged for everybody.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Store(error) => error.disposition(),
            Self::Missing { .. } => Disposition::Transient,
            Self::Shard { source, .. } | Self::Table(source) => source.disposition(),
            Self::Damaged { .. }
            | Self::Index { .. }
            | Self::ForeignFrame { .. }
            | Self::Decode { .. }
            | Self::Encode { .. } => Disposition::PoisonInput,
            Self::Thread(error) if error.is_cancelled() => Disposition::PreEmpted,
            Self::Thread(_) => Disposition::PoisonInput,
        }
    }
}
