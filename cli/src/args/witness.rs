//! `countersign witness`, and the witnesses of an instance's own log.

use super::duration;
use crate::logging::LogFormat;
use clap::{Args as ClapArgs, ValueEnum};
use countersign_log::witness::Lacking;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, ClapArgs)]
pub(crate) struct Witness {
    /// Where its key and what it cosigned live; made if need be
    #[arg(long, env = "COUNTERSIGN_WITNESS_DIR", default_value = "countersign-witness")]
    pub(crate) dir: PathBuf,
    /// Its name, given once and kept: a host name or URL without scheme
    #[arg(long, env = "COUNTERSIGN_WITNESS_NAME")]
    pub(crate) name: Option<String>,
    /// Address and port to listen on; port 0 picks a free one
    #[arg(
        long,
        env = "COUNTERSIGN_WITNESS_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:8430"
    )]
    pub(crate) listen: SocketAddr,
    /// The verifier key of a log to cosign, as `log info` prints it; more than once for several
    #[arg(long, value_name = "VKEY")]
    pub(crate) log: Vec<String>,
    /// A list of logs to cosign, in the witness network's format
    #[arg(long, env = "COUNTERSIGN_WITNESS_LOGS", value_name = "FILE")]
    pub(crate) logs: Option<PathBuf>,
    /// How the program's own log is written, on standard error; COUNTERSIGN_LOG filters it
    #[arg(long, env = "COUNTERSIGN_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// Who cosigns the checkpoints of an instance's log.
#[derive(Clone, Debug, Eq, PartialEq, ClapArgs)]
pub(crate) struct Witnesses {
    /// The log's witnesses with their URLs, and how many are enough (C2SP tlog-policy)
    #[arg(long, value_name = "FILE")]
    pub(crate) witness_policy: Option<PathBuf>,
    /// How long a checkpoint waits for them
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1s",
        value_parser = duration,
        requires = "witness_policy"
    )]
    pub(crate) witness_timeout: Duration,
    /// What happens to a checkpoint that too few of them cosigned in time
    #[arg(long, value_name = "ACTION", default_value = "publish", requires = "witness_policy")]
    pub(crate) witness_lacking: Action,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Action {
    /// It is published with the cosignatures there are
    Publish,
    /// The log takes no entries until there are enough
    Hold,
}

impl From<Action> for Lacking {
    fn from(action: Action) -> Self {
        match action {
            Action::Publish => Self::Publish,
            Action::Hold => Self::Hold,
        }
    }
}
