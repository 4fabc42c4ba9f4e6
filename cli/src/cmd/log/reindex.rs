//! `countersign log reindex`: what an instance's databases say beside its tiles, made again from these.

use crate::args::Format;
use crate::args::log::Reindex as Args;
use crate::failure::Failure;
use crate::instance::{Directory, INDEX, LogName, Stored, stored_logs};
use crate::output;
use crate::runtime::on_all_cores;
use countersign_log::OpenError;
use countersign_log::index::postings::remove;
use countersign_log::index::{Error, Index, Pace, Published};
use countersign_log::read::Reader;
use countersign_log::reindex::{self, Table};
use countersign_log::store::{CheckpointLock as _, Folder, Sqlite};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let stored = stored_logs(&args.dir)?;
    // Taken, so that no server appends meanwhile.
    let directory =
        Directory::open(&args.dir).map_err(|failure| failure.hint("stop the server first"))?;
    let logs = stored.into_iter().map(|Stored { log, folder, key, format }| {
        let source = Arc::new(Folder::new(directory.file(&folder)));
        (log, folder, Published { source, key, format })
    });
    let logs: Vec<_> = logs.collect();
    on_all_cores(async {
        let database = Sqlite::open(&directory.file("countersign.db")).await;
        let database = database.map_err(|error| Failure::unclear(error.to_string()))?;
        // The record has no table.
        for (_, name, log) in logs.iter().filter(|(log, ..)| *log != LogName::Audit) {
            let Table { entries, differed } = table(name, log, &database).await?;
            tell(args.output, name, "table", entries, differed)?;
        }
        database.close().await;
        let searched =
            logs.iter().filter(|(name, ..)| matches!(name, LogName::Log | LogName::LogV1));
        let signatures = searched.map(|(.., log)| log.clone()).collect();
        let (entries, differed) = index(&directory.file(INDEX), signatures).await?;
        tell(args.output, "all signature logs", "index", entries, differed)
    })??;
    Ok(ExitCode::SUCCESS)
}

fn tell(
    output: Format,
    log: &str,
    what: &str,
    entries: u64,
    differed: bool,
) -> Result<(), Failure> {
    output::print(&match output {
        Format::Json => format!(
            "{}\n",
            json!({ "schema": "countersign.reindex/1", "what": what, "log": log,
                "entries": entries, "differed": differed })
        ),
        Format::Text => {
            let found = if differed { "differed, and was made anew" } else { "as it was" };
            format!("{what} of {log}, {entries} entries: {found}\n")
        }
    })
}

/// The table from identities to indices of one log.
async fn table(name: &str, log: &Published, database: &Sqlite) -> Result<Table, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::unclear(format!("{name}: {error}"));
    let reader = Reader::open(Arc::clone(&log.source), &log.key, log.format).await;
    let reader = reader.map_err(|error| wrong(name, error.into()))?;
    let lock = database.lock(name).await.map_err(|error| failed(&error))?;
    let note = lock.load().await.map_err(|error| failed(&error))?;
    let committed = note.and_then(|note| log.key.open(&note).ok());
    if committed.as_ref() != Some(reader.head().checkpoint()) {
        return Err(failed(&"the database's checkpoint is not the published one")
            .hint("start the instance once, and stop it: it finishes what was under way, or says what is wrong"));
    }
    reindex::table(&reader, &lock).await.map_err(|error| wrong(name, error))
}

/// The search index, made beside the old one and put in its place. It differed if there was none, or if
/// it found something else among the entries that it said it had; that it lagged is no difference.
async fn index(path: &Path, logs: Vec<Published>) -> Result<(u64, bool), Failure> {
    let failed = |error: Error| wrong("the index", error);
    let old = Index::open(path, logs.clone()).await.map_err(failed)?;
    let indexed = old.indexed();
    let made = path.with_extension("new");
    remove(&made).map_err(|error| failed(error.into()))?;
    let new = Index::open(&made, logs).await.map_err(failed)?;
    new.catch_up(Pace::Full).await.map_err(failed)?;
    let entries = new.indexed().iter().map(|log| log.size).sum();
    let (before, after) = tokio::join!(old.sums(&indexed), new.sums(&indexed));
    let missing = indexed.iter().any(|log| log.root.is_none());
    // What cannot be read differs.
    let differed = missing || before.ok() != Some(after.map_err(|error| failed(error.into()))?);
    old.close().await;
    new.close().await;
    remove(path).map_err(|error| failed(error.into()))?;
    fs::rename(&made, path).map_err(|error| Failure::file("rename", &made, &error))?;
    // Restart finds the new index, or none and makes it.
    Ok((entries, differed))
}

/// What is wrong with the log is an answer; what could not be read is none.
fn wrong(name: &str, error: Error) -> Failure {
    let message = format!("{name}: {error}");
    match error {
        Error::Store(_) | Error::Log(OpenError::Store(_)) | Error::Elsewhere { .. } => {
            Failure::unclear(message)
        }
        _ => Failure::no(message).hint("`countersign log fsck --dir DIR` names what is damaged"),
    }
}
