//! Why Redis cannot be used where it was asked for by name: at start, and by `fulltime cache`. Work that only profits from
//! it meets none of these.

use fulltime_common::{Exit, error::Explain};

/// See the module. None of them shows the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("the URL of Redis does not read")]
    Url(#[source] redis::RedisError),
    #[error("the URL of Redis asks that its certificate is not looked at (`#insecure`)")]
    Insecure,
    #[error("{action} Redis at `{place}`")]
    Redis {
        action: &'static str,
        place: String,
        #[source]
        source: redis::RedisError,
    },
    #[error("Redis at `{place}` does not answer")]
    Silent { place: String },
}

impl Explain for CacheError {
    fn exit(&self) -> Exit {
        match self {
            Self::Url(_) | Self::Insecure => Exit::Usage,
            Self::Redis { .. } | Self::Silent { .. } => Exit::Broker,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Url(_) => "write redis://HOST:PORT, or rediss://USER:PASSWORD@HOST:PORT with TLS",
            Self::Insecure => "name the file with your authority's certificate by SSL_CERT_FILE instead",
            Self::Redis { .. } => "check address, user and password of --redis or FULLTIME_REDIS",
            Self::Silent { .. } => "is it running, and is this the address? TLS needs rediss://",
        };
        Some(hint.to_owned())
    }
}
