//! The logs, as `countersign doctor` looks at them: each has its key, and opens at the checkpoint that the database has.
//! Nothing is written. Not every entry is read: `countersign log fsck` does.

use crate::cmd::audit::head;
use crate::failure::Failure;
use crate::instance::{LogName, Stored, keys, stored_logs};
use crate::runtime::block_on;
use countersign_log::read::Reader;
use countersign_log::signer::{P256Key, Signer};
use countersign_log::store::{Folder, Source};
use std::path::Path;
use std::sync::Arc;

pub(super) fn examine(
    directory: &Path,
    passphrase: Option<&str>,
    findings: &mut Vec<String>,
) -> Result<(), Failure> {
    let database = directory.join("countersign.db");
    let begun = ["countersign.db", "log", "trust"].iter().any(|name| directory.join(name).exists());
    if !begun {
        // Before the first start there are keys alone.
        let read = |(name, _): (&str, bool)| keys::read(&directory.join(name), passphrase).err();
        findings.extend(keys::LOGS.into_iter().filter_map(read).map(|failure| failure.text()));
        return Ok(());
    }
    if !database.exists() {
        findings.push(format!(
            "{}: is missing; it decides which tree is a log's; next: countersign restore",
            database.display()
        ));
    }
    let stored = match stored_logs(directory) {
        Ok(stored) => stored,
        Err(failure) => {
            findings.push(failure.text());
            return Ok(());
        }
    };
    for shard in &stored {
        findings.extend(key(directory, shard, passphrase).err());
        findings.extend(block_on(tree(directory, shard))?.err());
    }
    Ok(())
}

/// The key file is the one whose signatures clients accept.
fn key(directory: &Path, shard: &Stored, passphrase: Option<&str>) -> Result<(), String> {
    let path = directory.join(format!("keys/{}.pem", shard.folder));
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let pkcs8 = keys::read(&path, passphrase).map_err(|failure| failure.text())?;
    let spki = match shard.log {
        LogName::Log | LogName::Audit => Signer::ed25519(shard.key.origin(), &pkcs8)
            .map(|signer| signer.key().spki().to_vec())
            .map_err(|error| failed(&error))?,
        LogName::LogV1 | LogName::Ct => P256Key::from_pkcs8(&pkcs8)
            .map(|key| key.spki().to_vec())
            .map_err(|error| failed(&error))?,
    };
    match spki == shard.key.spki() {
        true => Ok(()),
        false => Err(failed(
            &"expected the key of this log, found another; next: put back the one of a backup",
        )),
    }
}

/// Its signed tree is in the files, and its first and last entries are in the tree.
async fn tree(directory: &Path, shard: &Stored) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| {
        format!(
            "{}: {error}; next: countersign log fsck --dir {}",
            shard.folder,
            directory.display()
        )
    };
    let source: Arc<dyn Source> = Arc::new(Folder::new(directory.join(&shard.folder)));
    let note = head(directory, shard, &source).await.map_err(|failure| failure.text())?;
    let reader = Reader::at(source, &shard.key, shard.format, note).await;
    let reader = reader.map_err(|error| failed(&error))?;
    let size = reader.head().checkpoint().size;
    for index in [0, size.saturating_sub(1)].into_iter().filter(|index| *index < size) {
        reader.prove_inclusion(index).await.map_err(|error| failed(&error))?;
    }
    Ok(())
}
