//! Witnesses (C2SP tlog-witness): what a log sends them, and whose cosignatures are enough.
//!
//! The request of a log that wants a checkpoint cosigned:
//!
//! ```text
//! old <size of the tree that the witness cosigned last, decimal> LF
//! <base64 hash> LF          (a consistency proof from there, at most 63)
//! LF
//! <the checkpoint, a signed note>
//! ```
//! Refused: a size with sign or leading zeros, hashes that are not 32 bytes, more of them, and what is no
//! note.

mod logs;
mod policy;

pub use logs::{ListError, Log, LogError};
pub use policy::{Error as PolicyError, Policy, Refusal, Witness};

use crate::encoding::from_base64;
use crate::limits::{MAX_CHECKPOINT, MAX_WITNESS_PROOF};
use crate::merkle::Hash;
use crate::note::{self, Note};
use std::fmt;

/// Longest request that is read, in bytes: the longest note, a size, and the hashes.
pub const MAX_REQUEST: usize = MAX_CHECKPOINT + 32 + MAX_WITNESS_PROOF * 45;

/// A checkpoint for a witness, none of it verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AddCheckpoint {
    /// Leaves of the tree that the witness cosigned last; 0 when it never did.
    pub old_size: u64,
    /// From that tree to the checkpoint's.
    pub proof: Vec<Hash>,
    /// The checkpoint, with the log's signature at least.
    pub note: Note,
}

impl AddCheckpoint {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// Names the first line that departs from the grammar above.
    pub fn parse(body: &str) -> Result<Self, RequestError> {
        if body.len() > MAX_REQUEST {
            return Err(RequestError::TooLong { limit: MAX_REQUEST, found: body.len() });
        }
        let (first, mut rest) = body.split_once('\n').ok_or(RequestError::OldSize)?;
        let size = first.strip_prefix("old ").ok_or(RequestError::OldSize)?;
        let old_size = decimal(size).ok_or(RequestError::OldSize)?;
        let mut proof = Vec::new();
        loop {
            let (line, after) = rest.split_once('\n').ok_or(RequestError::NoNote)?;
            rest = after;
            if line.is_empty() {
                break;
            }
            if proof.len() == MAX_WITNESS_PROOF {
                return Err(RequestError::ProofLength { limit: MAX_WITNESS_PROOF });
            }
            let hash = from_base64(line).ok().and_then(|bytes| Hash::try_from(&bytes[..]).ok());
            proof.push(hash.ok_or(RequestError::Hash { place: proof.len() })?);
        }
        Ok(Self { old_size, proof, note: Note::parse(rest)? })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        for hash in &self.proof {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.note)
    }
}

/// A number in decimal, without sign and leading zeros.
#[must_use]
pub fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical)
}

/// Why a body is no request.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Longer than any request.
    #[error("a request has at most {limit} bytes, found {found}")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Line 1.
    #[error("line 1: expected `old` and a size in decimal without leading zeros")]
    OldSize,
    /// A line of the proof.
    #[error("hash {place} of the proof: expected 32 bytes in base64")]
    Hash {
        /// Counted from 0.
        place: usize,
    },
    /// Too many hashes.
    #[error("a proof has at most {limit} hashes, found more")]
    ProofLength {
        /// Hashes allowed.
        limit: usize,
    },
    /// The body ends before the checkpoint.
    #[error("expected a blank line and a checkpoint after the proof")]
    NoNote,
    /// The checkpoint's grammar.
    #[error(transparent)]
    Note(#[from] note::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: &str = "log.example.test\n7\nkTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=\n\n\
        \u{2014} log.example.test AAAAAAA=\n";
    const HASH: &str = "LyelCCwdQq+kiKw1Cp/EOQwIT1T3Hs3/hZ6Y24QptHk=\n";

    #[test]
    fn a_request_reads_and_writes_back_to_the_byte() {
        for (body, hashes) in [
            (format!("old 0\n\n{NOTE}"), 0),
            (format!("old 20\n{HASH}{HASH}\n{NOTE}"), 2),
            (format!("old 18446744073709551615\n{}\n{NOTE}", HASH.repeat(63)), 63),
        ] {
            let request = AddCheckpoint::parse(&body).unwrap();
            assert_eq!(request.to_string(), body);
            assert_eq!(request.proof.len(), hashes);
        }
    }

    #[test]
    fn what_departs_from_the_grammar_is_refused() {
        use RequestError::{Hash, NoNote, OldSize, ProofLength};
        for (body, expected) in [
            (String::new(), OldSize),
            (format!("old 01\n\n{NOTE}"), OldSize),
            (format!("old +1\n\n{NOTE}"), OldSize),
            (format!("old\n\n{NOTE}"), OldSize),
            (format!("Old 1\n\n{NOTE}"), OldSize),
            (format!("old 18446744073709551616\n\n{NOTE}"), OldSize),
            (format!("old 1\nAAAA\n\n{NOTE}"), Hash { place: 0 }),
            (format!("old 1\n{HASH} \n\n{NOTE}"), Hash { place: 1 }),
            (format!("old 1\n{}\n{NOTE}", HASH.repeat(64)), ProofLength { limit: 63 }),
            ("old 1\n".to_owned(), NoNote),
            (format!("old 1\n{HASH}"), NoNote),
            ("old 1\n\n".to_owned(), RequestError::Note(note::Error::NoBlankLine)),
        ] {
            assert_eq!(AddCheckpoint::parse(&body), Err(expected), "{body:?}");
        }
        let long = format!("old 1\n\n{}", "x".repeat(MAX_REQUEST));
        assert!(matches!(AddCheckpoint::parse(&long), Err(RequestError::TooLong { .. })));
    }
}
