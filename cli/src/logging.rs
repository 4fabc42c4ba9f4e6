//! The program's own log, on standard error: text for people or JSON lines for machines.
//!
//! `COUNTERSIGN_LOG` filters it, as `RUST_LOG` does elsewhere; warnings and errors unless told otherwise, of
//! `countersign serve` what it does, too, but not each request.
//! Each line of a request has its ID.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Begins to write what passes `filter`, unless the environment has another; once a process.
pub(crate) fn init(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_from_env("COUNTERSIGN_LOG").unwrap_or_else(|_| filter.into());
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match format {
        LogFormat::Text => lines.with_ansi(console::user_attended_stderr()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}
