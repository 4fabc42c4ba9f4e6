//! `countersign log monitor`.

use crate::args::{Format, Trust, duration};
use clap::Args as ClapArgs;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

#[derive(Debug, ClapArgs)]
pub(crate) struct Monitor {
    /// Where to keep what was seen of the log; made the first time, when the whole log is read
    #[arg(long, env = "COUNTERSIGN_MONITOR_STATE", value_name = "FILE")]
    pub(crate) state: PathBuf,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// Follow the log that speaks Rekor v1, through its interface, instead of the one of tiles
    #[arg(long)]
    pub(crate) rekor_v1: bool,
    /// Tell of entries whose certificate names this identity, to the letter; more than once for several
    #[arg(long, value_name = "NAME")]
    pub(crate) identity: Vec<String>,
    /// The same by a pattern: * stands for any text, ? for a character, [ab] for one of several
    #[arg(long, value_name = "PATTERN")]
    pub(crate) identity_glob: Vec<String>,
    /// Tell of entries about an artifact with this digest
    #[arg(long, value_name = "sha256:HEX")]
    pub(crate) digest: Vec<String>,
    /// Post what is told, and alarms, to this URL, too, as JSON
    #[arg(long, env = "COUNTERSIGN_MONITOR_WEBHOOK", hide_env_values = true, value_name = "URL")]
    pub(crate) webhook: Option<Url>,
    /// Accept that this log, by the URL that the alarm names, shows a smaller tree than before: its operator has
    /// restored it from a backup. It is read from its beginning again; more than once for several
    #[arg(long, value_name = "URL", requires = "once")]
    pub(crate) accept_shorter: Vec<String>,
    /// Look once, and end
    #[arg(long)]
    pub(crate) once: bool,
    /// How long to wait between two looks
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration, conflicts_with = "once")]
    pub(crate) interval: Duration,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}
