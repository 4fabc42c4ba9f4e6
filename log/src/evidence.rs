//! Evidence: a stretch of a log's entries with all that proves them, in one file, for whoever is to check
//! it later and elsewhere with nothing but a trusted root.
//!
//! ```text
//! {"schema":"countersign.evidence/1","logId":B64,"origin":NAME,"from":N,"to":M,"checkpoint":NOTE}
//! {"index":N,"body":B64,"certificates":[B64 DER, …],"hashes":[B64, …]}      from N to M - 1, one a line
//! {"sha256":HEX}
//! ```
//! The checkpoint is the log's signed note, the hashes are the inclusion proof that leads to it, the
//! certificates those of the body. The last line has the digest of all lines before it.
//!
//! Refused: anything but these lines in this spelling, so that a file differs from what was exported in no
//! byte; entries that are left out, or in another order; a checkpoint that is not signed by the log's key;
//! proofs that lead elsewhere; a file cut short or continued.

use crate::read::Proven;
use crate::signer::{self, LogKey};
use aws_lc_rs::digest::{Context, SHA256};
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::encoding::{base64, from_base64, hex};
use countersign_verify::entry::{Entry, OwnedVerifier};
use countersign_verify::merkle::{Hash, InclusionError, InclusionProof};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Longest line, in bytes: a body and its certificates, 64 KiB each, in base64, and a proof.
pub const MAX_LINE: usize = 256 << 10;

const SCHEMA: &str = "countersign.evidence/1";

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HeadLine {
    schema: String,
    log_id: String,
    origin: String,
    from: u64,
    to: u64,
    checkpoint: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EntryLine {
    index: u64,
    body: String,
    certificates: Vec<String>,
    hashes: Vec<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EndLine {
    sha256: String,
}

/// Writes the lines; each ends in a line feed.
pub struct Writer {
    digest: Context,
}

impl Writer {
    /// Begins a file of the entries `span` of the tree that `note` signs; its first line.
    #[must_use]
    pub fn begin(key: &LogKey, span: &Range<u64>, note: &str) -> (Self, String) {
        let mut writer = Self { digest: Context::new(&SHA256) };
        let line = writer.line(&HeadLine {
            schema: SCHEMA.to_owned(),
            log_id: base64(key.log_id()),
            origin: key.origin().to_owned(),
            from: span.start,
            to: span.end,
            checkpoint: note.to_owned(),
        });
        (writer, line)
    }

    /// The line of the next entry, whose proof leads to the checkpoint.
    pub fn entry(&mut self, proven: &Proven) -> String {
        let Proven { leaf, proof, .. } = proven;
        self.line(&EntryLine {
            index: proof.leaf_index(),
            body: base64(leaf),
            certificates: certificates(leaf).iter().map(|der| base64(der)).collect(),
            hashes: proof.path().iter().map(ToString::to_string).collect(),
        })
    }

    /// The last line.
    #[must_use]
    pub fn end(mut self) -> String {
        let sha256 = hex(self.digest.clone().finish().as_ref());
        self.line(&EndLine { sha256 })
    }

    fn line(&mut self, line: &impl Serialize) -> String {
        let line = written(line);
        self.digest.update(line.as_bytes());
        line
    }
}

fn written(line: &impl Serialize) -> String {
    format!("{}\n", serde_json::to_string(line).expect("texts and numbers only"))
}

/// DER; none for entries by bare keys, or of kinds that are not read.
fn certificates(body: &[u8]) -> Vec<Vec<u8>> {
    let verifiers = Entry::parse(body).map(|entry| entry.verifiers).unwrap_or_default();
    let certificate = |verifier| match verifier {
        OwnedVerifier::Certificate(der) => Some(der),
        OwnedVerifier::PublicKey(_) => None,
    };
    verifiers.into_iter().filter_map(certificate).collect()
}

/// Checks the lines, one after the other.
pub struct Check {
    checkpoint: Checkpoint,
    span: Range<u64>,
    /// The index of the next entry.
    next: u64,
    digest: Context,
    ended: bool,
}

/// An entry that is in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Evidence {
    /// Its place.
    pub index: u64,
    /// Its body.
    pub body: Vec<u8>,
}

impl Check {
    /// Reads the first line, its line feed included. `key` gives the key of the log with an ID, if it is
    /// trusted, and is told the log's origin.
    ///
    /// # Errors
    /// When this is no evidence, or not of a trusted log.
    pub fn begin(
        line: &str,
        key: impl FnOnce(&[u8; 32], &str) -> Option<LogKey>,
    ) -> Result<Self, Error> {
        let head: HeadLine = read(line, 1)?;
        if head.schema != SCHEMA {
            return Err(Error::Line { line: 1 });
        }
        let log_id = from_base64(&head.log_id).ok().and_then(|id| id.try_into().ok());
        let log_id: [u8; 32] = log_id.ok_or(Error::Line { line: 1 })?;
        let unknown = || Error::UnknownLog { origin: head.origin.chars().take(100).collect() };
        let key = key(&log_id, &head.origin).ok_or_else(unknown)?;
        if *key.log_id() != log_id || key.origin() != head.origin {
            return Err(unknown());
        }
        let checkpoint = key.open(&head.checkpoint)?;
        let (span, size) = (head.from..head.to, checkpoint.size);
        if span.is_empty() || span.end > size {
            return Err(Error::Span { from: span.start, to: span.end, size });
        }
        let mut digest = Context::new(&SHA256);
        digest.update(line.as_bytes());
        Ok(Self { checkpoint, next: span.start, span, digest, ended: false })
    }

    /// The tree that the entries are proven to be in; the log signed it.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The entries that the file is about.
    #[must_use]
    pub const fn span(&self) -> &Range<u64> {
        &self.span
    }

    /// Reads the next line, its line feed included: an entry, or `None` for the last line.
    ///
    /// # Errors
    /// When it is not the line that must follow, or does not hold.
    pub fn line(&mut self, line: &str) -> Result<Option<Evidence>, Error> {
        let number = self.next - self.span.start + 2;
        if self.ended {
            return Err(Error::Continued);
        }
        if self.next == self.span.end {
            let EndLine { sha256 } = read(line, number)?;
            if sha256 != hex(self.digest.clone().finish().as_ref()) {
                return Err(Error::Digest);
            }
            self.ended = true;
            return Ok(None);
        }
        let malformed = || Error::Line { line: number };
        let EntryLine { index, body, certificates: found, hashes } = read(line, number)?;
        if index != self.next {
            return Err(Error::Order { expected: self.next, found: index });
        }
        let body = from_base64(&body).map_err(|_| malformed())?;
        let hash = |text: &String| Hash::try_from(&from_base64(text).ok()?[..]).ok();
        let path = hashes.iter().map(hash).collect::<Option<_>>().ok_or_else(malformed)?;
        let proof = InclusionProof::new(index, self.checkpoint.size, path);
        proof
            .and_then(|proof| proof.verify(&body, &self.checkpoint.root))
            .map_err(|source| Error::Inclusion { index, source })?;
        if !certificates(&body).iter().map(|der| base64(der)).eq(found) {
            return Err(Error::Certificates { index });
        }
        self.digest.update(line.as_bytes());
        self.next += 1;
        Ok(Some(Evidence { index, body }))
    }

    /// That the last line was read.
    ///
    /// # Errors
    /// When it was not.
    pub const fn finish(&self) -> Result<(), Error> {
        if self.ended { Ok(()) } else { Err(Error::CutShort { next: self.next }) }
    }
}

/// A line as it is written, and in no other spelling.
fn read<T: DeserializeOwned + Serialize>(line: &str, number: u64) -> Result<T, Error> {
    let read = serde_json::from_str(line).ok().filter(|read| written(read) == line);
    read.ok_or(Error::Line { line: number })
}

/// Why a file proves nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not the line that stands here.
    #[error("line {line} is not as it is written by an export")]
    Line {
        /// Counted from 1.
        line: u64,
    },
    /// A log that is not trusted.
    #[error("it is evidence of log {origin:?}, which the trusted root does not list with that ID")]
    UnknownLog {
        /// The name it gives itself, shortened.
        origin: String,
    },
    /// The checkpoint is not the log's.
    #[error("its checkpoint: {0}")]
    Checkpoint(#[from] signer::Error),
    /// Entries that the tree does not have.
    #[error("it is about the entries from {from} to before {to}, in a tree of {size}")]
    Span {
        /// The first.
        from: u64,
        /// Behind the last.
        to: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// An entry is left out, or stands elsewhere.
    #[error("expected entry {expected}, found {found}")]
    Order {
        /// The index that must follow.
        expected: u64,
        /// The index of the line.
        found: u64,
    },
    /// The entry is not in the tree.
    #[error("entry {index}: {source}")]
    Inclusion {
        /// Its index.
        index: u64,
        /// Why not.
        source: InclusionError,
    },
    /// Certificates that are not in the body.
    #[error("entry {index} comes with certificates other than its own")]
    Certificates {
        /// Its index.
        index: u64,
    },
    /// The lines are not those that were written.
    #[error("the digest in the last line is not that of the lines before it")]
    Digest,
    /// There is no last line.
    #[error("it ends before entry {next}, or lacks its last line")]
    CutShort {
        /// The next index.
        next: u64,
    },
    /// Something follows the last line.
    #[error("something follows the last line")]
    Continued,
}
