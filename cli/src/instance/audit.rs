//! The record of an instance: a log beside the others, read by its operators alone.

use super::{Directory, LogName, Settings, folder, passes};
use crate::failure::Failure;
use countersign_ca::audit::{self, Audit, AuditLog, Entry, Event};
use countersign_log::fsck::visit;
use countersign_log::pool::AppendError;
use countersign_log::store::{Folder, Source};
use countersign_log::{Candidate, Log, Shards};
use countersign_verify::merkle::Hash;
use futures_util::future::try_join_all;
use jiff::Timestamp;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::sync::Arc;

/// Its origin: below that of the signature log, as nobody else may have it.
pub(super) fn origin(settings: &Settings) -> String {
    format!("{}/audit", settings.log_origin)
}

/// The log as the authority knows it.
pub(super) struct Recorded(pub(super) Arc<Shards<Log>>);

#[async_trait::async_trait]
impl AuditLog for Recorded {
    async fn append(&self, entry: Vec<u8>) -> Result<(), audit::Error> {
        let appended = self.0.append(|| Candidate::entry(&entry)).await;
        appended
            .map(drop)
            .map_err(|error| audit::Error { retryable: passes(&error), reason: error.to_string() })
    }
}

/// Puts an act of the operators on record, or that it failed.
pub(super) async fn administered(
    audit: &Audit,
    act: &str,
    about: Vec<String>,
    failed: Option<String>,
) -> Result<(), Failure> {
    let event = Event::Administered { act: act.to_owned(), about, failed };
    let recorded = audit.record(Timestamp::now(), "", event).await;
    recorded.map_err(|error| Failure::unclear(format!("{act} is not on record: {error}")))
}

/// What the record was before it was a log: JSON lines, each with the hash of the one before.
const LINES: &str = "audit.jsonl";
/// What it is called when the log has it.
const IMPORTED: &str = "audit-imported.jsonl";

/// Lines that are appended at a time.
const AT_ONCE: usize = 512;

/// Gives a new shard its first entry, and the lines of an [older record](LINES).
pub(super) async fn begin(log: &Log, directory: &Directory, shard: usize) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::unclear(format!("the audit log does not begin: {error}"))
    };
    if log.head().checkpoint().size == 0 {
        let (act, about) = ("begin".to_owned(), vec![format!("shard {shard}")]);
        let event = Event::Administered { act, about, failed: None };
        let (time, request_id) = (Timestamp::now(), String::new());
        let entry = Entry { time, request_id, unrecorded: 0, event };
        let entry = serde_json::to_vec(&entry).expect("texts only");
        append(log, &entry).await.map_err(|error| failed(&error))?;
    }
    let path = directory.file(LINES);
    let lines = match File::open(&path) {
        Ok(file) => BufReader::new(file).split(b'\n'),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::file("read", &path, &error)),
    };
    // What a start before this one has taken over already.
    let mut known = HashSet::new();
    let source: Arc<dyn Source> =
        Arc::new(Folder::new(directory.file(&folder(LogName::Audit, shard))));
    let (key, note) = (log.key(), log.head());
    let mut know = |_, record: &[u8]| {
        known.insert(Hash::of(&record[2..]));
    };
    let read = visit(&source, key, log.format(), note.note(), |_, _| (), &mut know).await;
    read.map_err(|error| failed(&error))?;
    // What a crash has cut short is no entry; it stays in the file.
    let whole = |line: &Vec<u8>| serde_json::from_slice::<Entry>(line).is_ok();
    let new = |line: &Vec<u8>| whole(line) && !known.contains(&Hash::of(line));
    let mut lines = lines.filter(|line| line.as_ref().map_or(true, new));
    loop {
        let some: Vec<_> = lines
            .by_ref()
            .take(AT_ONCE)
            .collect::<Result<_, _>>()
            .map_err(|error: std::io::Error| Failure::file("read", &path, &error))?;
        if some.is_empty() {
            break;
        }
        let appended = try_join_all(some.iter().map(|line| append(log, line))).await;
        appended.map_err(|error| failed(&error))?;
        // Restart finds the file, and appends what the log has not got of it.
    }
    fs::rename(&path, directory.file(IMPORTED))
        .and_then(|()| File::open(directory.path())?.sync_all())
        .map_err(|error| Failure::file("rename", &path, &error))
}

async fn append(log: &Log, entry: &[u8]) -> Result<(), AppendError> {
    log.append(Candidate::entry(entry)?).await.map(drop)
}
