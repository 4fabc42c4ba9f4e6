//! `countersign log`.

mod hammer;
mod monitor;
mod search;

pub(crate) use hammer::Hammer;
pub(crate) use monitor::Monitor;
pub(crate) use search::{Consistency, Export, Reindex, Search, VerifyExport};

use super::{Format, Output, Timeout, Trust};
use crate::instance::LogName;
use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Show the log's size, root and key, as its signed checkpoint has them
    Info(Info),
    /// Print an entry, proven to be in the log
    Get(Entry),
    /// Print an inclusion proof for an entry, complete in itself (C2SP tlog-proof)
    Prove(Entry),
    /// Find entries in an instance's signature logs, each proven: by file, signer, certificate, key, kind or time
    Search(Search),
    /// Prove that one tree of the log is the beginning of another
    Consistency(Consistency),
    /// Write entries with all that proves them into one file, to be checked later and elsewhere
    Export(Export),
    /// Check such a file offline, with a trusted root alone
    VerifyExport(VerifyExport),
    /// Make the search index and the table of entries anew from tiles, and say whether they differed
    Reindex(Reindex),
    /// Read a whole log as an outsider and check every hash
    Fsck(Fsck),
    /// Have a running instance go on in a new shard of a log, under a new key, without refusing anybody
    Rotate(Rotate),
    /// Have a running instance sign the end of a shard that takes no entries any more
    Freeze(Freeze),
    /// Follow a log, prove that it only grows, and tell of entries that are watched for
    Monitor(Monitor),
    /// Log bundles that were signed with --defer, and complete them in place
    Submit(Submit),
    /// Write to a log as fast as it takes entries, and hold it to every answer; for measuring and soaking
    Hammer(Hammer),
}

/// Which log is read, as an outsider does.
#[derive(Debug, ClapArgs)]
pub(crate) struct Which {
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// The log that speaks Rekor v1, by the tiles that an instance serves of it, instead of the newer one
    #[arg(long)]
    pub(crate) rekor_v1: bool,
    /// A shard of the log, 1 for the oldest [default: the newest; of fsck all]
    #[arg(long, value_name = "N")]
    pub(crate) shard: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) which: Which,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Entry {
    /// The entry's index
    pub(crate) index: u64,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Fsck {
    /// A directory of `countersign dev`, read without the server
    #[arg(long, conflicts_with_all = ["instance", "trust_config", "trusted_root", "certificates", "rekor_v1", "shard"])]
    pub(crate) dir: Option<PathBuf>,
    /// Read the certificate log instead of the signature log
    #[arg(long, conflicts_with = "rekor_v1")]
    pub(crate) certificates: bool,
    #[command(flatten)]
    pub(crate) which: Which,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Rotate {
    /// The directory of the instance
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    /// Which log
    #[arg(long, default_value = "log")]
    pub(crate) log: LogName,
    /// Only make the new shard and have clients know its key; rotate when they have refreshed their trust
    #[arg(long)]
    pub(crate) announce: bool,
    /// A host name of the instance that is to be the new shard's origin; witnesses tell logs apart by it
    /// [default: the instance's]
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Freeze {
    /// The directory of the instance
    #[arg(long, env = "COUNTERSIGN_DIR")]
    pub(crate) dir: PathBuf,
    /// Which log
    #[arg(long, default_value = "log")]
    pub(crate) log: LogName,
    /// Its shard, from 1
    #[arg(long)]
    pub(crate) shard: usize,
    /// How to print it
    #[arg(long, short, env = "COUNTERSIGN_OUTPUT", default_value = "text")]
    pub(crate) output: Format,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Submit {
    /// The bundles
    #[arg(required = true, value_name = "BUNDLE")]
    pub(crate) bundles: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// Where to log, beside --trusted-root [env: COUNTERSIGN_SIGNING_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) signing_config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) output: Output,
}
