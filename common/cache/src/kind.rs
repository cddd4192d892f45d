//! What is cached, and under which names: `fulltime:{kind}:{version}:{digest}`, so that what is ours can be told from what
//! others keep in the same Redis.

use std::{fmt, str::FromStr, time::Duration};

use fulltime_common::Digest;

/// Before every key of ours.
pub const PREFIX: &str = "fulltime";

/// What an entry holds. Everything is named by the digest of its content, or of all that it was computed from: an entry is
/// right or absent, never out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A recording's container index, as it lies in the store.
    Index,
    /// A pipeline object.
    Pipeline,
    /// A model's file.
    Model,
    /// What the detector says of a picture.
    Detections,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Index, Self::Pipeline, Self::Model, Self::Detections];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Pipeline => "pipeline",
            Self::Model => "model",
            Self::Detections => "detections",
        }
    }

    /// How long Redis may take for one. A picture's detections must be there before inference would have been done;
    /// the others are waited for by a task that otherwise asks the store.
    #[must_use]
    pub fn patience(self) -> Duration {
        match self {
            Self::Detections => Duration::from_millis(25),
            Self::Pipeline => Duration::from_millis(250),
            Self::Index | Self::Model => Duration::from_secs(2),
        }
    }

    /// The largest that is put into Redis; beyond it the store is as good.
    #[must_use]
    pub fn largest(self) -> usize {
        match self {
            Self::Detections => 1 << 20,
            Self::Index | Self::Pipeline => 16 << 20,
            Self::Model => 64 << 20,
        }
    }

    pub(crate) fn number(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No kind of entry.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no kind of entry: write index, pipeline, model or detections")]
pub struct NotAKind(String);

impl FromStr for Kind {
    type Err = NotAKind;

    fn from_str(text: &str) -> Result<Self, NotAKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| NotAKind(text.to_owned()))
    }
}

/// The name of an entry. `version` is that of its encoding: another one is another entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub kind: Kind,
    pub version: u32,
    pub digest: Digest,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, version, digest } = self;
        write!(f, "{PREFIX}:{kind}:{version}:{digest}")
    }
}

impl Key {
    /// `None` for whatever is not written exactly as we write keys: somebody else's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?.strip_prefix(':')?;
        let mut parts = rest.splitn(3, ':');
        let key = Self {
            kind: parts.next()?.parse().ok()?,
            version: parts.next()?.parse().ok()?,
            digest: parts.next()?.parse().ok()?,
        };
        (key.to_string() == text).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_it_is_written_and_nothing_else_does() {
        let digest = Digest::of_bytes(b"x");
        for (i, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.number(), i);
            let key = Key { kind, version: 7, digest };
            assert_eq!(Key::parse(&key.to_string()), Some(key));
        }
        let others = [
            "fulltime".to_owned(),
            format!("fulltime:index:{digest}"),
            format!("fulltime:index:07:{digest}"),
            format!("fulltime:index:7:{digest}:more"),
            format!("fulltime:sessions:7:{digest}"),
            format!("fulltimes:index:7:{digest}"),
            "fulltime:index:7:short".to_owned(),
        ];
        for other in others {
            assert_eq!(Key::parse(&other), None, "{other}");
        }
    }
}
