//! `countersign audit`: the record of an instance, out of its directory. Its server may run.
//!
//! Nothing is believed that does not stand in the tree whose head the log's key has signed. That is the head in
//! the database: whatever was acknowledged is in its tree, and in the files, where the stored checkpoint comes to
//! be a moment later. One verb a file.

mod search;
mod verify;

use crate::args::audit::Audit;
use crate::failure::Failure;
use crate::instance::{LogName, Stored, stored_logs};
use crate::runtime::on_all_cores;
use countersign_ca::audit::Entry;
use countersign_log::fsck::{self, Report, visit};
use countersign_log::read::Reader;
use countersign_log::store::{Folder, Source, Sqlite};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

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
    let source: Arc<dyn Source> = Arc::new(Folder::new(dir.join(&shard.folder)));
    on_all_cores(async {
        let note = head(dir, shard, &source).await?;
        let read = visit(&source, &shard.key, shard.format, &note, |_, _| {}, look);
        read.await.map_err(|error| failed(shard, &error))
    })?
}

fn failed(shard: &Stored, error: &fsck::Error) -> Failure {
    let message = format!("{}: {error}", shard.folder);
    match error {
        fsck::Error::Source(_) => Failure::unclear(message),
        _ => Failure::no(message),
    }
}

/// How often the files are looked at for what the database implies: a batch comes to be in them right after it
/// was committed.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// The latest checkpoint of a shard, once its tree is in the files. Where only the files are, it is theirs.
pub(in crate::cmd) async fn head(
    dir: &Path,
    shard: &Stored,
    source: &Arc<dyn Source>,
) -> Result<String, Failure> {
    let Stored { folder, key, format, .. } = shard;
    let stored = fsck::published(&**source).await.map_err(|error| failed(shard, &error))?;
    let open = |note: &str| key.open(note).map_err(|error| failed(shard, &error.into()));
    let tree = open(&stored)?;
    let database = dir.join("countersign.db");
    if !database.exists() {
        return Ok(stored);
    }
    let unclear = |what: &dyn std::fmt::Display| Failure::unclear(format!("{folder}: {what}"));
    let committed = Sqlite::checkpoints(&database).await.map_err(|error| unclear(&error))?;
    let committed =
        committed.get(folder).ok_or_else(|| unclear(&"the database knows no such log"))?;
    let latest = open(committed)?;
    if latest == tree {
        return Ok(stored);
    }
    if latest.size <= tree.size {
        let (ours, theirs) = (latest.size, tree.size);
        return Err(Failure::no(format!(
            "{folder}: the database has the tree of {ours} entries, the files have another, of {theirs}"
        )));
    }
    for _ in 0..TRIES {
        let read = Reader::at(Arc::clone(source), key, *format, committed.clone()).await;
        if read.is_ok() {
            return Ok(committed.clone());
        }
        tokio::time::sleep(PAUSE).await;
    }
    let size = latest.size;
    Err(unclear(&format!("the database has {size} entries, which are not all in the files")).hint(
        "if no instance runs there, start it once: it puts out what it has committed, or says what is wrong",
    ))
}

/// An entry, and its JSON, out of a record of the audit log: two bytes of length, then the entry.
fn entry(record: &[u8]) -> Option<(Entry, &str)> {
    let json = std::str::from_utf8(record.get(2..)?).ok()?;
    Some((serde_json::from_str(json).ok()?, json))
}
