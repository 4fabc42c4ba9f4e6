//! What the database knows of the logs, beside `shards.json`: neither goes without the other.
//!
//! A shard has a row in the database from its first checkpoint on. It is listed in `shards.json` a moment later,
//! when its first entry is there, and only then clients are told of it. So what a row says and no list has is
//! the rest of an order that failed, with one entry at most, or the list is lost or an old one.

use super::logs::Opening;
use super::shards::{LogName, Shards, folder};
use super::{DATABASE, trust};
use crate::failure::Failure;
use countersign_log::OpenError;
use countersign_log::signer::{P256Key, Signer};
use countersign_log::store::Sqlite;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// What to do about a file of the directory that is lost or not the one it was.
pub(crate) const PUT_BACK: &str = "put the file back as it was last, or from the newest backup; if there is none, the logs cannot go on (docs/operations.md, When something is broken)";

/// Where all damage is spoken of.
pub(crate) const BROKEN: &str =
    "docs/operations.md, When something is broken, says what can be done";

/// What to do about a log, in `folder`, that does not open.
pub(super) fn unopened(folder: &Path, error: &OpenError) -> String {
    match error {
        OpenError::Missing { path } | OpenError::Damaged { path } => damaged(folder, path),
        OpenError::LockMissing | OpenError::LockOlder { .. } | OpenError::Disagree { .. } => {
            one_moment()
        }
        OpenError::LockCheckpoint(_) => {
            format!("put back the key that this log had, and the host name; {BROKEN}")
        }
        OpenError::PublishedText | OpenError::PublishedCheckpoint(_) => {
            format!("remove {}: it is written anew", folder.join("checkpoint").display())
        }
        _ => BROKEN.to_owned(),
    }
}

fn one_moment() -> String {
    format!(
        "database and folders must be of the same moment: put {DATABASE} back as it was last, or restore the newest backup as a whole; {BROKEN}"
    )
}

/// What to do about an object of the log in `folder` that is missing or not as it was written.
pub(crate) fn damaged(folder: &Path, object: &str) -> String {
    // Tiles and bundles that are not full grow in one file, whatever part of it is asked for.
    let file = match object.split_once(".p/") {
        Some((full, _)) => format!("{full}.part"),
        None => object.to_owned(),
    };
    format!(
        "the file is {}; put it back from a backup, if it has the same bytes there (docs/operations.md, When something is broken)",
        folder.join(file).display()
    )
}

/// Entries of a shard that is made and has not begun: its seed.
const SEED: u64 = 1;

/// The shards of the instance in `directory`, which may be running; `None` when it is new.
pub(crate) async fn shards(directory: &Path) -> Result<Option<Shards>, Failure> {
    let path = directory.join(Shards::FILE);
    let wrong =
        |what: String| Err(Failure::unclear(format!("{} {what}", path.display())).hint(PUT_BACK));
    let read = async || {
        Sqlite::checkpoints(&directory.join(DATABASE)).await.map_err(|error| {
            let database = directory.join(DATABASE);
            Failure::unclear(format!("{}: {error}", database.display())).hint(BROKEN)
        })
    };
    let rows = read().await?;
    let Some(shards) = Shards::read(directory)? else {
        let mut names: Vec<_> = rows.keys().map(String::as_str).collect();
        names.sort_unstable();
        return match names.is_empty() {
            true => Ok(None),
            false => wrong(format!("is missing, but {DATABASE} knows {}", names.join(", "))),
        };
    };
    // A folder is empty until its log has a row: what begins beside tiles would write over them, and fork.
    let mut lost: Vec<_> = LogName::ALL
        .into_iter()
        .flat_map(|log| (1..=shards.of(log).len()).map(move |number| folder(log, number)))
        .filter(|name| !rows.contains_key(name) && !is_empty(&directory.join(name)))
        .collect();
    if !lost.is_empty() {
        // An order may have made them since: the row is there before its shard is listed.
        let rows = read().await?;
        lost.retain(|name| !rows.contains_key(name));
    }
    if !lost.is_empty() {
        let (path, lost) = (directory.join(DATABASE), lost.join(", "));
        let message = format!("{} knows nothing of {lost}, but there are entries", path.display());
        return Err(Failure::unclear(message).hint(one_moment()));
    }
    let begun: Vec<_> = LogName::ALL
        .into_iter()
        .flat_map(|log| (1..).zip(shards.of(log)).map(move |(number, shard)| (log, number, shard)))
        .filter(|(.., shard)| shard.begun.is_some() || shard.ended.is_some())
        .map(|(log, number, _)| folder(log, number))
        .collect();
    for (name, note) in rows {
        let size = size(&note);
        if size > SEED && !begun.contains(&name) {
            return wrong(format!(
                "does not say that {name} has begun, but {DATABASE} knows {size} entries of it"
            ));
        }
    }
    Ok(Some(shards))
}

/// Whether there is nothing of a log in a folder that can be read: a disk of its own comes with `lost+found`.
fn is_empty(folder: &Path) -> bool {
    let of_a_log = |entry: std::io::Result<fs::DirEntry>| {
        entry.map_or(true, |entry| entry.file_name() != "lost+found")
    };
    fs::read_dir(folder).map_or(true, |mut entries| !entries.any(of_a_log))
}

/// The size of the tree whose note this is; the largest when it is none.
fn size(note: &str) -> u64 {
    note.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(u64::MAX)
}

/// Has the database in a backup know the shards that are listed, and no other: a shard that comes to be after it
/// was taken has another key there.
pub(crate) async fn forget_unlisted(shards: &Shards, backup: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::unclear(format!("{DATABASE}: {error}"));
    let path = backup.join(DATABASE);
    let database = Sqlite::open(&path).await.map_err(failed)?;
    let listed: Vec<_> = LogName::ALL
        .into_iter()
        .flat_map(|log| (1..=shards.of(log).len()).map(move |number| folder(log, number)))
        .collect();
    for name in Sqlite::checkpoints(&path).await.map_err(failed)?.into_keys() {
        if !listed.contains(&name) {
            database.forget(&name).await.map_err(failed)?;
        }
    }
    database.close().await;
    Ok(())
}

impl Opening<'_> {
    /// Whether the witnesses, if there are any, have a tree of the new shard's origin: they keep one for each.
    pub(super) fn is_taken(&self, log: LogName, number: usize) -> bool {
        let host = self.host(log, number);
        let taken = (1..number).any(|earlier| self.host(log, earlier) == host);
        taken && log == LogName::Log && self.witnesses.is_some()
    }

    /// Throws away what an order that failed has left of the new shard `number`, unless it is of the same origin
    /// and its key is there: then that is gone on with, for witnesses may have been given the key.
    pub(super) async fn clear(&self, log: LogName, number: usize) -> Result<(), Failure> {
        let name = folder(log, number);
        let failed = |error: &dyn std::fmt::Display| self.failed(log, number, error);
        let rows = Sqlite::checkpoints(&self.directory.file(DATABASE)).await;
        let rows = rows.map_err(|error| failed(&error))?;
        let Some(note) = rows.get(&name) else { return Ok(()) };
        if self.signed(log, number, note) {
            return Ok(());
        }
        tracing::warn!(shard = name, "what an order that failed has left is thrown away");
        let storage = self.directory.file(&name);
        let key = self.directory.file(&format!("keys/{name}.pem"));
        for (path, removed) in
            [(&storage, fs::remove_dir_all(&storage)), (&key, fs::remove_file(&key))]
        {
            match removed {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Failure::file("remove", path, &error));
                }
                _ => {}
            }
        }
        // Restart finds the row, and this comes again.
        self.database.forget(&name).await.map_err(|error| failed(&error))
    }

    /// Whether the key of the shard is there and has signed `note`, by the shard's origin.
    fn signed(&self, log: LogName, number: usize, note: &str) -> bool {
        let Ok(pkcs8) = self.key(log, number) else { return false };
        let spki = match log.ed25519() {
            true => Signer::ed25519("key", &pkcs8).map(|signer| signer.key().spki().to_vec()),
            false => P256Key::from_pkcs8(&pkcs8).map(|key| key.spki().to_vec()),
        };
        let host = Some(self.host(log, number));
        let key = spki.and_then(|spki| trust::log_key(self.settings, log, number, host, &spki));
        key.is_ok_and(|key| key.open(note).is_ok())
    }
}
