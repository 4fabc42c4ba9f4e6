//! `countersign backup` and `countersign restore`.

use super::Format;
use clap::Args as ClapArgs;
use std::path::PathBuf;

#[derive(Debug, ClapArgs)]
pub(crate) struct Backup {
    /// Where the backup will be: a folder that is not there yet. It holds private keys
    #[arg(value_name = "FOLDER")]
    pub(crate) target: PathBuf,
    /// The directory of the instance, which may be running
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Restore {
    /// The backup
    #[arg(value_name = "FOLDER")]
    pub(crate) backup: PathBuf,
    /// Where the directory of the instance will be: not there yet, or empty
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    /// Another host name of the server, for the signature log's next shard: witnesses, if the log has any, keep
    /// one tree a name
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}
