//! The record of every issuance, and of every refusal of a request that could be read: JSON lines, each
//! with the hash of the one before.
//!
//! A line is on disk before the answer goes out. Whoever takes a line away or alters one breaks the
//! chain of hashes for all that follow. Tokens never come here; what their claims said does. A disk that
//! is full stops issuance, not the server: what was half written is taken back, and the next record tries
//! again.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Whom a verified token names.
#[derive(Clone, Debug, Serialize)]
pub struct Who {
    /// The name for the certificate.
    pub identity: String,
    /// The OIDC issuer.
    pub issuer: String,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A certificate is about to be signed: its serial number is taken whatever happens next.
    Serial {
        /// Hexadecimal, 40 digits.
        serial: String,
        /// Whom it is for.
        #[serde(flatten)]
        who: Who,
    },
    /// A certificate was issued.
    Issued {
        /// Hexadecimal, 40 digits.
        serial: String,
        /// Whom it names.
        #[serde(flatten)]
        who: Who,
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
        /// Who asked, if the token could be verified.
        #[serde(flatten)]
        who: Option<Who>,
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
        let (mut last, mut line) = (Vec::new(), Vec::new());
        let mut reader = BufReader::new(&file);
        while reader.read_until(b'\n', &mut line).map_err(named)? > 0 {
            std::mem::swap(&mut last, &mut line);
            line.clear();
        }
        if last.last().is_some_and(|byte| *byte != b'\n') {
            file.write_all(b"\n").map_err(named)?;
            last.push(b'\n');
        }
        let previous = if last.is_empty() { String::new() } else { hash(&last) };
        file.sync_all().map_err(named)?;
        // The folder, too, must know of a new file before a line in it is called durable.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(named)?;
        folder.sync_all().map_err(named)?;
        let length = file.metadata().map_err(named)?.len();
        let writer = Writer { file, path: path.to_owned(), previous, length, torn: false };
        let (sender, receiver) = mpsc::channel(WAITING);
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(receiver))
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

/// The one that writes.
struct Writer {
    file: File,
    path: PathBuf,
    /// The hash of the last line.
    previous: String,
    /// Bytes that are known to be on disk.
    length: u64,
    /// Whether something may stand behind them that nobody was told of.
    torn: bool,
}

impl Writer {
    /// Writes what has come together, and syncs once for all of it.
    fn run(mut self, mut records: mpsc::Receiver<Record>) {
        while let Some(first) = records.blocking_recv() {
            let mut batch = vec![first];
            while let Ok(next) = records.try_recv() {
                batch.push(next);
            }
            let mut lines = Vec::new();
            let mut previous = self.previous.clone();
            for Record { time, request_id, event, .. } in &batch {
                let line = Line { time: time.to_string(), request_id, event, previous: &previous };
                let start = lines.len();
                serde_json::to_writer(&mut lines, &line).expect("texts and numbers only");
                lines.push(b'\n');
                previous = hash(&lines[start..]);
            }
            let verdict = self.write(&lines, previous);
            let verdict = verdict
                .map_err(|source| Error { path: self.path.clone(), source: Arc::new(source) });
            for record in batch {
                let _ = record.written.send(verdict.clone()); // a caller that went away needs no answer
            }
        }
    }

    fn write(&mut self, lines: &[u8], previous: String) -> std::io::Result<()> {
        self.mend()?;
        self.torn = true;
        if let Err(error) = self.file.write_all(lines).and_then(|()| self.file.sync_data()) {
            let _ = self.mend(); // if that fails, too, the next write begins with it
            return Err(error);
        }
        // From here on a restart finds these lines.
        self.torn = false;
        self.length += lines.len() as u64;
        self.previous = previous;
        Ok(())
    }

    /// Takes back what a failed write has left, of which the callers were told that it failed.
    fn mend(&mut self) -> std::io::Result<()> {
        if self.torn {
            self.file.set_len(self.length)?;
            self.file.sync_all()?;
            self.torn = false;
        }
        Ok(())
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

    fn refused() -> Event {
        Event::Refused { reason: "TOKEN_EXPIRED", message: "late".to_owned(), who: None }
    }

    #[tokio::test]
    async fn each_line_has_the_hash_of_the_line_before_across_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
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

    #[tokio::test]
    async fn an_unfinished_line_is_ended_and_stays_in_the_chain() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{\"time\":\"20").unwrap();
        let audit = Audit::open(&path).unwrap();
        audit.record(Timestamp::UNIX_EPOCH, &"a".into(), refused()).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let (torn, line) = text.split_once('\n').unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["previous"], hash(format!("{torn}\n").as_bytes()));
    }

    #[test]
    fn what_a_failed_write_left_is_taken_back_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let open = |write| OpenOptions::new().create(true).append(write).read(true).open(&path);
        drop(open(true).unwrap());
        let mut writer = Writer {
            file: OpenOptions::new().read(true).open(&path).unwrap(),
            path: path.clone(),
            previous: String::new(),
            length: 0,
            torn: false,
        };
        // A file that cannot be written stands for a full disk; another hand leaves half a line.
        assert!(writer.write(b"one\n", "1".to_owned()).is_err());
        std::fs::write(&path, "on").unwrap();
        assert!(writer.write(b"one\n", "1".to_owned()).is_err());
        assert_eq!((&writer.previous[..], writer.length), ("", 0));
        writer.file = open(true).unwrap();
        writer.write(b"one\n", "1".to_owned()).unwrap();
        writer.write(b"two\n", "2".to_owned()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!((&writer.previous[..], writer.length), ("2", 8));
    }
}
