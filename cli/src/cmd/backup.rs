//! `countersign backup` and `countersign restore`.
//!
//! A backup is a directory like an instance's own, but for one thing: its `shards.json` says that every shard
//! has ended. Whoever starts an instance in it, or in a copy of it, goes on in new shards under new keys.
//! How far the logs went after the backup cannot be known from it; so its keys never sign another tree, and
//! nothing can fork. What was logged after the backup is not in the copy, and its bundles verify all the
//! same: they hold their proofs, and the keys stay in the trusted root.

use crate::args::Format;
use crate::args::backup::{Backup, Restore};
use crate::config::Config;
use crate::failure::Failure;
use crate::instance::{
    self, DATABASE, LogName, Settings, Shards, Stored, folder, known, named_url,
};
use crate::output;
use crate::runtime::block_on;
use countersign_log::fsck::Report;
use countersign_log::store::{CheckpointLock as _, Files, Folder, Source, Sqlite};
use countersign_log::{backup as log_backup, fsck};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const SHARDS: &str = "shards.json";
const TRUST: &str = "trust";

/// What is the process's that runs the instance.
const NOT_COPIED: [&str; 2] = ["instance.lock", "control"];

/// How often, and how long after, an order is found not to be carried out yet: it lists a shard, then writes
/// the trusted root.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &Backup) -> Result<ExitCode, Failure> {
    let (from, to) = (&args.dir, &args.target);
    let whole = Whole::begin(to)?;
    let (copied, taken) = block_on(copy(from, whole.path()))??;
    whole.finish(to)?;
    let logs: Vec<_> = copied.iter().map(|(name, report)| of_log(name, report)).collect();
    output::print(&match args.output {
        Format::Json => {
            let json = json!({ "schema": "countersign.backup/1", "time": taken.to_string(), "logs": logs });
            format!("{json}\n")
        }
        Format::Text => {
            let lines: String = copied.iter().map(|(name, report)| line(name, report)).collect();
            format!("backup of {} in {}\n{lines}", from.display(), to.display())
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn restore(args: &Restore) -> Result<ExitCode, Failure> {
    let (from, to) = (&args.backup, &args.dir);
    let mut shards = Shards::of_directory(from)?;
    let ended = |log: &LogName| shards.active(*log).is_none() && shards.announced(*log).is_none();
    if !LogName::ALL.iter().all(ended) {
        let message = format!("{} is no backup: its logs take entries", from.display());
        return Err(Failure::no(message).hint(
            "to move an instance, stop it and move its directory; two copies of one must never both run",
        ));
    }
    if args.host.is_none() && has_witnesses(from) {
        let message = "the log has witnesses, and they keep one tree a host name: it goes on in a new shard, which needs another";
        return Err(Failure::no(message)
            .hint("give --host NAME, another host name of the server; nothing was written"));
    }
    if let (Some(host), Some(settings)) = (&args.host, Settings::read(from)?) {
        named_url(&settings.url, host, shards.of(LogName::Log).len() + 1)?;
    }
    let mut reports = Vec::new();
    for Stored { folder, key, format, .. } in instance::stored_logs(from)? {
        let source: Arc<dyn Source> = Arc::new(Folder::new(from.join(&folder)));
        let report = block_on(fsck::fsck(&source, &key, format, |_, _| ()))?;
        let report = report.map_err(|error| Failure::no(format!("{folder}: {error}")))?;
        reports.push((folder, report));
    }
    let whole = Whole::begin(to)?;
    copy_tree(from, whole.path(), &|_| true)?;
    if let Some(host) = &args.host {
        shards.announce(LogName::Log, Some(host.clone()), Timestamp::now());
        instance::directory::write(&whole.path().join(SHARDS), &shards.to_json())?;
    }
    whole.finish(to)?;
    let logs: Vec<_> = reports.iter().map(|(name, report)| of_log(name, report)).collect();
    output::print(&match args.output {
        Format::Json => format!("{}\n", json!({ "schema": "countersign.restore/1", "logs": logs })),
        Format::Text => {
            let lines: String = reports.iter().map(|(name, report)| line(name, report)).collect();
            format!(
                "restored {} to {}\n{lines}These logs are read only from now on: the next start begins new shards under new keys, and\nclients need the new trusted root. What was logged after the backup is not here.\n",
                from.display(),
                to.display()
            )
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn of_log(name: &str, report: &Report) -> Value {
    json!({ "log": name, "size": report.size, "root": report.root.to_string() })
}

fn line(name: &str, report: &Report) -> String {
    format!("  whole: {name}, {} entries, root {}\n", report.size, report.root)
}

/// Whether the configuration in a backup, if there is one, has witnesses. One that has a mistake does not start.
fn has_witnesses(backup: &Path) -> bool {
    let text = fs::read_to_string(backup.join("countersign.toml")).unwrap_or_default();
    let config = Config::parse(&text, backup, |_| true);
    config.is_ok_and(|config| config.witnesses.is_some())
}

/// Copies an instance that may be running. The database is a snapshot; the trees are those of its
/// checkpoints.
async fn copy(from: &Path, to: &Path) -> Result<(Vec<(String, Report)>, Timestamp), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::unclear(format!("no backup: {error}"));
    let database = Sqlite::open(&from.join(DATABASE)).await;
    let database = database.map_err(|error| failed(&error).hint(known::BROKEN))?;
    let snapshot = to.join(DATABASE);
    let (shards, stored, taken) = at_one_moment(from, to, &database).await?;
    database.close().await;
    known::forget_unlisted(&shards, to).await?;
    let locks = Sqlite::open(&snapshot).await.map_err(|error| failed(&error))?;
    let mut reports = Vec::new();
    for Stored { folder, key, format, .. } in &stored {
        let lock = locks.lock(folder).await.map_err(|error| failed(&error))?;
        let note = lock.load().await.map_err(|error| failed(&error))?;
        let note = note.ok_or_else(|| failed(&format!("{DATABASE} knows no log {folder}")))?;
        let (source, target) = (Folder::new(from.join(folder)), Files::open(to.join(folder)));
        let target = target.map_err(|error| failed(&error))?;
        let report = log_backup::copy(&source, Arc::new(target), key, *format, &note).await;
        let report = report.map_err(|error| {
            failed(&format!("{folder}: {error}")).hint(match error {
                log_backup::Error::Missing { .. } => {
                    "if no instance runs there, start it once: it publishes what it has committed; if it does not start, what is missing is lost (docs/operations.md, When something is broken)"
                }
                _ => "countersign log fsck --dir says how far the damage goes; older backups are whole (docs/operations.md, When something is broken)",
            })
        })?;
        reports.push((folder.clone(), report));
        let issuers = from.join(folder).join("issuer");
        if issuers.exists() {
            copy_tree(&issuers, &to.join(folder).join("issuer"), &|name| !name.starts_with('.'))?;
        }
    }
    locks.close().await;
    let of_a_log = |name: &str| {
        LogName::ALL.iter().any(|log| {
            let first = folder(*log, 1);
            let number = name.strip_prefix(&first).and_then(|rest| rest.strip_prefix('-'));
            name == first || number.is_some_and(|number| number.parse::<usize>().is_ok())
        })
    };
    // A key that no shard has yet could come to have one, here and there.
    let listed = |name: &str| stored.iter().any(|stored| stored.folder == name);
    let wanted = |name: &str| {
        let stem = name.strip_suffix(".pem").unwrap_or(name);
        let other_key = of_a_log(stem) && !listed(stem);
        let database = [".db", ".db-wal", ".db-shm"].iter().any(|end| name.ends_with(end));
        !(NOT_COPIED.contains(&name)
            || other_key
            || database
            || name.starts_with('.')
            || listed(name))
    };
    copy_tree(from, to, &wanted)?;
    for Stored { folder, .. } in &stored {
        let key = format!("keys/{folder}.pem");
        if !to.join(&key).is_file() {
            return Err(failed(&format!("{key} is not in {}", from.display())));
        }
    }
    Ok((reports, taken))
}

/// Copies what says which logs there are: settings, shards, trusted root and database, all of one moment. An
/// order that is carried out meanwhile writes one after the other, so it is waited for. What is returned was read
/// in the copy, as whoever restores it reads it.
async fn at_one_moment(
    from: &Path,
    to: &Path,
    database: &Sqlite,
) -> Result<(Shards, Vec<Stored>, Timestamp), Failure> {
    let snapshot = to.join(DATABASE);
    let mut tries = 0;
    loop {
        let before = Shards::of_directory(from)?;
        copy_tree(&from.join(TRUST), &to.join(TRUST), &|name| !name.starts_with('.'))?;
        copy_file(&from.join("instance.json"), &to.join("instance.json"))?;
        let copied = database.copy_to(&snapshot).await;
        copied
            .map_err(|error| Failure::unclear(format!("no backup: {error}")).hint(known::BROKEN))?;
        let taken = Timestamp::now();
        let mut shards = before.clone();
        shards.end(taken);
        instance::directory::write(&to.join(SHARDS), &shards.to_json())?;
        let stored = instance::stored_logs(to);
        tries += 1;
        match stored {
            Ok(stored) if Shards::of_directory(from)? == before => {
                return Ok((shards, stored, taken));
            }
            Err(failure) if tries == TRIES => return Err(failure),
            _ => {}
        }
        for copied in fs::read_dir(to).map_err(|error| Failure::file("read", to, &error))? {
            let path = copied.map_err(|error| Failure::file("read", to, &error))?.path();
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|error| Failure::file("remove", &path, &error))?;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Copies files and folders that are wanted by name, durably; of links what they lead to. Files that are there
/// already stay.
fn copy_tree(from: &Path, to: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(), Failure> {
    let reading = |error| Failure::file("read", from, &error);
    fs::create_dir_all(to).map_err(|error| Failure::file("make", to, &error))?;
    for entry in fs::read_dir(from).map_err(reading)? {
        let entry = entry.map_err(reading)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !wanted(&name) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        let kind = match fs::metadata(&source) {
            // Removed since the folder was read; a link that leads nowhere is still there.
            Err(error) if error.kind() == ErrorKind::NotFound && !source.is_symlink() => continue,
            kind => kind.map_err(|error| Failure::file("read", &source, &error))?,
        };
        if kind.is_dir() {
            copy_tree(&source, &target, wanted)?;
        } else if kind.is_file() && !target.exists() {
            copy_file(&source, &target)?;
        }
    }
    let synced = File::open(to).and_then(|folder| folder.sync_all());
    synced.map_err(|error| Failure::file("write", to, &error))
}

fn copy_file(from: &Path, to: &Path) -> Result<(), Failure> {
    let copied = match fs::copy(from, to) {
        // Replaced while it was being read about.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        copied => copied,
    };
    copied.map_err(|error| Failure::file("copy", from, &error))?;
    let synced = File::open(to).and_then(|file| file.sync_all());
    synced.map_err(|error| Failure::file("write", to, &error))
}

/// A folder that appears whole or not at all.
struct Whole(tempfile::TempDir);

impl Whole {
    fn begin(target: &Path) -> Result<Self, Failure> {
        let taken = match fs::read_dir(target) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        if taken {
            let message = format!("{} is there already and not an empty folder", target.display());
            return Err(Failure::unclear(message).hint("name a folder that is not there"));
        }
        let parent = parent(target);
        fs::create_dir_all(parent).map_err(|error| Failure::file("make", parent, &error))?;
        let folder = tempfile::Builder::new().prefix(".countersign-").tempdir_in(parent);
        Ok(Self(folder.map_err(|error| Failure::file("write to", parent, &error))?))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn finish(self, target: &Path) -> Result<(), Failure> {
        let failed = |error| Failure::file("write", target, &error);
        fs::rename(self.0.keep(), target).map_err(failed)?;
        File::open(parent(target)).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
