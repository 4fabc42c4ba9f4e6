//! The record of every issuance, and of every refusal of a request that could be read: JSON lines, each
//! with the hash of the one before.
//!
//! A line is on disk before the answer goes out. Whoever takes a line away or alters one breaks the
//! chain of hashes for all that follow. Tokens never come here; what their claims said does.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A certificate is about to be signed: its serial number is taken whatever happens next.
    Serial {
        /// Hexadecimal.
        serial: String,
        /// The name it is for.
        identity: String,
        /// The OIDC issuer.
        issuer: String,
    },
    /// A certificate was issued.
    Issued {
        /// Hexadecimal.
        serial: String,
        /// The name in it.
        identity: String,
        /// The OIDC issuer.
        issuer: String,
        /// SHA-256 of the certificate, hexadecimal.
        certificate_sha256: String,
        /// Its place in the certificate log.
        log_index: Option<u64>,
    },
    /// A request was refused or failed.
    Refused {
        /// The stable code.
        reason: &'static str,
        /// What was expected and found.
        message: String,
    },
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: &'a str,
    #[serde(flatten)]
    event: &'a Event,
    previous: &'a str,
}

/// The audit log. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Audit(mpsc::Sender<Record>);

struct Record {
    time: Timestamp,
    request_id: Arc<str>,
    event: Event,
    written: oneshot::Sender<Result<(), Error>>,
}

/// Requests whose lines wait for the disk; beyond that callers wait in turn.
const WAITING: usize = 1024;

impl Audit {
    /// Opens the file at `path`, making it if need be; an unfinished last line, of a crash, is ended so
    /// that the next stands by itself.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let named = |source| Error { path: path.to_owned(), source: Arc::new(source) };
        let mut file =
            OpenOptions::new().create(true).append(true).read(true).open(path).map_err(named)?;
        let mut previous = String::new();
        let mut last = Vec::new();
        let mut reader = BufReader::new(&file);
        loop {
            let mut line = Vec::new();
            if reader.read_until(b'\n', &mut line).map_err(named)? == 0 {
                break;
            }
            last = line;
        }
        if !last.is_empty() {
            if last.last() != Some(&b'\n') {
                file.write_all(b"\n").map_err(named)?;
                last.push(b'\n');
            }
            previous = hash(&last);
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || write_lines(file, &path, previous, receiver))
            .map_err(|source| Error { path: PathBuf::from("thread"), source: Arc::new(source) })?;
        Ok(Self(sender))
    }

    /// Writes a line; returns when it is on disk.
    ///
    /// # Errors
    /// When it could not be written: the caller must then not go on.
    pub async fn record(
        &self,
        time: Timestamp,
        request_id: &Arc<str>,
        event: Event,
    ) -> Result<(), Error> {
        let (written, answer) = oneshot::channel();
        let record = Record { time, request_id: Arc::clone(request_id), event, written };
        let gone = || Error {
            path: PathBuf::from("audit"),
            source: Arc::new(std::io::Error::other("the audit log's writer has stopped")),
        };
        self.0.send(record).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Writes what has come together, and syncs once for all of it.
fn write_lines(
    mut file: File,
    path: &Path,
    mut previous: String,
    mut records: mpsc::Receiver<Record>,
) {
    while let Some(first) = records.blocking_recv() {
        let mut batch = vec![first];
        while let Ok(next) = records.try_recv() {
            batch.push(next);
        }
        let mut lines = Vec::new();
        let mut chain = previous.clone();
        for Record { time, request_id, event, .. } in &batch {
            let line = Line { time: time.to_string(), request_id, event, previous: &chain };
            let mut line = serde_json::to_vec(&line).expect("texts and numbers only");
            line.push(b'\n');
            chain = hash(&line);
            lines.extend(line);
        }
        let verdict = file.write_all(&lines).and_then(|()| file.sync_data());
        let verdict =
            verdict.map_err(|source| Error { path: path.to_owned(), source: Arc::new(source) });
        if verdict.is_ok() {
            previous = chain;
        }
        for record in batch {
            let _ = record.written.send(verdict.clone()); // a caller that went away needs no answer
        }
        if verdict.is_err() {
            // What reached the disk is unknown; the chain goes on only after it was read again.
            return;
        }
    }
}

fn hash(line: &[u8]) -> String {
    hex::encode(digest(&SHA256, line))
}

/// The file cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the audit log {}: {source}", path.display())]
pub struct Error {
    path: PathBuf,
    source: Arc<std::io::Error>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_line_has_the_hash_of_the_line_before_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let refused = || Event::Refused { reason: "TOKEN_EXPIRED", message: "late".to_owned() };
        for _ in 0..2 {
            let audit = Audit::open(&path).unwrap();
            for request in ["a", "b"] {
                audit.record(Timestamp::UNIX_EPOCH, &request.into(), refused()).await.unwrap();
            }
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let mut previous = String::new();
        for line in text.split_inclusive('\n') {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(json["previous"], previous);
            previous = hash(line.as_bytes());
        }
        assert_eq!(text.lines().count(), 4);
    }
}
