//! `countersign audit`: the record of an instance, out of its directory. Its server may run.
//!
//! Nothing is believed that does not stand in the tree whose head the log's key has signed. One verb a file.

mod search;
mod verify;

use crate::args::audit::Audit;
use crate::failure::Failure;
use crate::instance::{LogName, Stored, stored_logs};
use countersign_ca::audit::Entry;
use countersign_log::fsck::{self, Report, visit};
use countersign_log::store::{Folder, Source};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

pub(crate) fn run(args: &Audit) -> Result<ExitCode, Failure> {
    match args {
        Audit::Search(args) => search::run(args),
        Audit::Verify(args) => verify::run(args),
    }
}

/// The shards of one log of the instance in `dir`, in order.
fn shards(dir: &Path, log: LogName) -> Result<Vec<Stored>, Failure> {
    let mut stored = stored_logs(dir)?;
    stored.retain(|stored| stored.log == log);
    if stored.is_empty() {
        let message = format!("the instance in {} has no record yet", dir.display());
        return Err(Failure::unclear(message).hint("start it once: it makes what it has not yet"));
    }
    Ok(stored)
}

/// Reads a whole shard on all cores and shows each record to `look`, from the first to the last.
fn read(
    dir: &Path,
    shard: &Stored,
    look: &mut (dyn FnMut(u64, &[u8]) + Send),
) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::unclear(format!("cannot start: {error}")))?;
    let source: Arc<dyn Source> = Arc::new(Folder::new(dir.join(&shard.folder)));
    let read = visit(&source, &shard.key, shard.format, |_, _| {}, look);
    runtime.block_on(read).map_err(|error| {
        let message = format!("{}: {error}", shard.folder);
        match error {
            fsck::Error::Source(_) => Failure::unclear(message),
            _ => Failure::no(message),
        }
    })
}

/// An entry, and its JSON, out of a record of the audit log: two bytes of length, then the entry.
fn entry(record: &[u8]) -> Option<(Entry, &str)> {
    let json = std::str::from_utf8(record.get(2..)?).ok()?;
    Some((serde_json::from_str(json).ok()?, json))
}
