//! Logs of every binary: pretty on a terminal, JSON when asked, always on standard error.

use tracing_subscriber::EnvFilter;

/// Installs the subscriber. `FULLTIME_LOG` filters (default `info` for daemons, `warn` for the CLI),
/// `FULLTIME_LOG_FORMAT=json` switches to JSON lines.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_env("FULLTIME_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = std::env::var("FULLTIME_LOG_FORMAT").is_ok_and(|f| f == "json");
    // A second call (tests) keeps the first subscriber.
    let _ = if json {
        builder.json().try_init()
    } else {
        builder.with_target(false).with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    };
}
