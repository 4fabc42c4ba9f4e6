//! in-toto statements: which artifacts an attestation is about, and what it says.
//!
//! Statement v1 and v0.1. Refused: other types, no subject, more than [`MAX_SUBJECTS`], digests that
//! are not hexadecimal.

use crate::encoding::{from_hex, hex};
use crate::key::HashAlgorithm;
use crate::limits::{MAX_SUBJECT_DIGESTS, MAX_SUBJECTS};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What a statement is written as.
pub const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";

const TYPES: [&str; 2] = [STATEMENT_V1, "https://in-toto.io/Statement/v0.1"];

/// A statement that was read, not verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Statement {
    subjects: Vec<Subject>,
    predicate_type: String,
}

/// One artifact that a statement is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subject {
    /// Free text; not compared with anything.
    pub name: String,
    /// Digests by algorithm, lower-case hexadecimal.
    pub digests: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct WireStatement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<WireSubject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
}

#[derive(Deserialize)]
struct WireSubject {
    name: Option<String>,
    digest: BTreeMap<String, String>,
}

impl Statement {
    /// Reads the payload of an envelope.
    ///
    /// # Errors
    /// See the module's list of refusals.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let wire: WireStatement = serde_json::from_slice(payload)
            .map_err(|error| Error::Json { message: error.to_string() })?;
        if !TYPES.contains(&wire.kind.as_str()) {
            return Err(Error::Type { found: wire.kind.chars().take(100).collect() });
        }
        let found = wire.subject.len();
        if found == 0 || found > MAX_SUBJECTS {
            return Err(Error::Subjects { limit: MAX_SUBJECTS, found });
        }
        let mut subjects = Vec::with_capacity(found);
        for (subject, WireSubject { name, digest }) in wire.subject.into_iter().enumerate() {
            if digest.is_empty() || digest.len() > MAX_SUBJECT_DIGESTS {
                let (limit, found) = (MAX_SUBJECT_DIGESTS, digest.len());
                return Err(Error::Digests { subject, limit, found });
            }
            let mut digests = BTreeMap::new();
            for (algorithm, value) in digest {
                let known = HashAlgorithm::ALL.iter().any(|hash| hash.short_name() == algorithm);
                if known && from_hex(&value).is_err() {
                    return Err(Error::Digest { subject });
                }
                digests.insert(algorithm, value.to_ascii_lowercase());
            }
            subjects.push(Subject { name: name.unwrap_or_default(), digests });
        }
        Ok(Self { subjects, predicate_type: wire.predicate_type })
    }

    /// The artifacts it is about.
    #[must_use]
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// What kind of claim it makes, a URI.
    #[must_use]
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// Whether some subject has a digest under this algorithm's name.
    #[must_use]
    pub fn names(&self, hash: HashAlgorithm) -> bool {
        self.subjects.iter().any(|subject| subject.digests.contains_key(hash.short_name()))
    }

    /// The subject with this digest under this algorithm's own name.
    #[must_use]
    pub fn subject(&self, hash: HashAlgorithm, digest: &[u8]) -> Option<&Subject> {
        let wanted = hex(digest);
        let named = |subject: &&Subject| subject.digests.get(hash.short_name()) == Some(&wanted);
        self.subjects.iter().find(named)
    }
}

/// Why a payload is no statement.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not JSON, or not these members.
    #[error("not an in-toto statement: {message}")]
    Json {
        /// What the reader expected and found, with the place.
        message: String,
    },
    /// Another `_type`.
    #[error("expected an in-toto statement v1 or v0.1, found _type {found:?}")]
    Type {
        /// Its beginning.
        found: String,
    },
    /// None or too many subjects.
    #[error("expected 1 to {limit} subjects, found {found}")]
    Subjects {
        /// Subjects allowed.
        limit: usize,
        /// Subjects found.
        found: usize,
    },
    /// None or too many digests of one subject.
    #[error("subject {subject}: expected 1 to {limit} digests, found {found}")]
    Digests {
        /// Its place, from 0.
        subject: usize,
        /// Digests allowed.
        limit: usize,
        /// Digests found.
        found: usize,
    },
    /// A digest that is not hexadecimal.
    #[error("subject {subject}: expected a digest in hexadecimal")]
    Digest {
        /// Its place, from 0.
        subject: usize,
    },
}
