//! in-toto statements: which artifacts an attestation is about, and what it says.
//!
//! Statement v1 and v0.1. Refused: other types, no subject, more than [`MAX_SUBJECTS`], digests that
//! are not hexadecimal, two digests under one name.

use crate::artifact::Artifact;
use crate::encoding::{from_hex, hex};
use crate::key::HashAlgorithm;
use crate::limits::{MAX_SUBJECT_DIGESTS, MAX_SUBJECTS};
use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// What a statement is written as.
pub const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";

/// The predicate type of a statement that is a signature over a container image, as cosign 3 writes it.
pub const IMAGE_SIGNATURE: &str = "https://sigstore.dev/cosign/sign/v1";

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
    /// What the signer says of it besides; texts only.
    pub annotations: BTreeMap<String, String>,
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
    digest: Digests,
    annotations: Option<BTreeMap<String, serde_json::Value>>,
}

/// A map that has each name once: readers differ in which of two they would take.
struct Digests(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Digests {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = BTreeMap<String, String>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("digests by algorithm")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut digests = BTreeMap::new();
                while let Some((name, digest)) = map.next_entry::<String, String>()? {
                    if digests.insert(name.clone(), digest).is_some() {
                        return Err(de::Error::custom(format!("two digests under {name:?}")));
                    }
                    if digests.len() > MAX_SUBJECT_DIGESTS {
                        break; // counted and refused below, with the place
                    }
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(digests)
            }
        }
        source.deserialize_map(Once).map(Self)
    }
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
        for (subject, wire) in wire.subject.into_iter().enumerate() {
            let WireSubject { name, digest: Digests(digest), annotations } = wire;
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
            let text = |(name, value)| match value {
                serde_json::Value::String(text) => Some((name, text)),
                _ => None,
            };
            let annotations = annotations.unwrap_or_default().into_iter().filter_map(text);
            let (name, annotations) = (name.unwrap_or_default(), annotations.collect());
            subjects.push(Subject { name, digests, annotations });
        }
        Ok(Self { subjects, predicate_type: wire.predicate_type })
    }

    /// The artifacts it is about.
    #[must_use]
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// One of the artifacts it claims to be about: its first subject with a digest of a hash that is known
    /// here. `None` when no subject has one.
    #[must_use]
    pub fn artifact(&self) -> Option<Artifact> {
        let mut digests = self.subjects.iter().flat_map(|subject| {
            HashAlgorithm::ALL.into_iter().filter_map(|hash| {
                let digest = from_hex(subject.digests.get(hash.short_name())?).ok()?;
                Artifact::from_digest(hash, &digest)
            })
        });
        digests.next()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(subject: &str) -> String {
        format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":{subject},"predicateType":"p","predicate":{{}}}}"#
        )
    }

    #[test]
    fn a_subject_is_found_by_the_digest_of_that_name_alone() {
        let hex = "AB".repeat(32);
        let subjects = format!(
            r#"[{{"digest":{{"gitCommit":"not hex"}}}},{{"name":"a","digest":{{"sha256":"{hex}","sha512":"{0}"}}}}]"#,
            "ab".repeat(64)
        );
        let read = Statement::parse(statement(&subjects).as_bytes()).unwrap();
        assert_eq!(read.subject(HashAlgorithm::Sha256, &[0xab; 32]).unwrap().name, "a");
        assert!(read.subject(HashAlgorithm::Sha384, &[0xab; 32]).is_none(), "another algorithm");
        assert!(read.subject(HashAlgorithm::Sha256, &[0xac; 32]).is_none());
        assert!(read.names(HashAlgorithm::Sha512) && !read.names(HashAlgorithm::Sha384));
    }

    #[test]
    fn what_is_ambiguous_or_empty_is_refused() {
        let parse = |subjects: &str| Statement::parse(statement(subjects).as_bytes());
        let json = |found| matches!(found, Err(Error::Json { .. }));
        assert!(json(parse("null")) && json(parse("[null]")) && json(parse(r#"[{"name":"a"}]"#)));
        assert!(json(parse(r#"[{"digest":{"sha256":"aa","sha256":"bb"}}]"#)), "twice");
        assert!(json(parse(r#"[{"digest":{"sha256":"aa"},"digest":{"sha256":"bb"}}]"#)), "twice");
        let expected = Error::Subjects { limit: MAX_SUBJECTS, found: 0 };
        assert_eq!(parse("[]"), Err(expected));
        let expected = Error::Digests { subject: 0, limit: MAX_SUBJECT_DIGESTS, found: 0 };
        assert_eq!(parse(r#"[{"digest":{}}]"#), Err(expected));
        assert_eq!(parse(r#"[{"digest":{"sha256":"xy"}}]"#), Err(Error::Digest { subject: 0 }));
        let many: Vec<_> = (0..100).map(|number| format!(r#""a{number}":"aa""#)).collect();
        let many = parse(&format!(r#"[{{"digest":{{{}}}}}]"#, many.join(",")));
        assert!(matches!(many, Err(Error::Digests { subject: 0, .. })), "{many:?}");
        let other = statement("[]").replace("Statement/v1", "Statement/v2");
        assert!(matches!(Statement::parse(other.as_bytes()), Err(Error::Type { .. })));
        // Nesting ends where serde_json ends it.
        let bomb = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(json(parse(&bomb)));
    }
}
