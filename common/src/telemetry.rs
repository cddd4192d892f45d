//! Logs of every binary: pretty on a terminal, JSON when asked, always on standard error.

use tracing_subscriber::EnvFilter;

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Pretty,
    /// An object a line.
    Json,
}

/// Names a format in the environment, so that lane processes write as their worker does.
pub const LOG_FORMAT: &str = "FULLTIME_LOG_FORMAT";

/// Not a format.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a log format: write `pretty` or `json`")]
pub struct NotAFormat(String);

impl std::str::FromStr for LogFormat {
    type Err = NotAFormat;

    fn from_str(text: &str) -> Result<Self, NotAFormat> {
        match text {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            _ => Err(NotAFormat(text.to_owned())),
        }
    }
}

impl std::fmt::Display for LogFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pretty => "pretty",
            Self::Json => "json",
        })
    }
}

/// Installs the subscriber, in the format that the environment names. `FULLTIME_LOG` filters (default `info` for daemons,
/// `warn` for the CLI).
pub fn init(default: &str) {
    let format = std::env::var(LOG_FORMAT).ok().and_then(|format| format.parse().ok());
    init_as(default, format.unwrap_or_default());
}

/// As [`init`], in this format.
pub fn init_as(default: &str, format: LogFormat) {
    let filter = EnvFilter::try_from_env("FULLTIME_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call (tests) keeps the first subscriber.
    let _ = match format {
        LogFormat::Json => builder.json().try_init(),
        LogFormat::Pretty => {
            builder.with_target(false).with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
        }
    };
}
