//! in-toto statements: which artifacts an attestation is about, and what it says.
//!
//! Statement v1 and v0.1. Refused: other types, no subject, more than [`MAX_SUBJECTS`], digests that
//! are not hexadecimal, two digests or annotations under one name, more than [`MAX_SUBJECT_DIGESTS`] or
//! [`MAX_SUBJECT_ANNOTATIONS`] of one subject, a predicate that is no object or has a member twice at whatever depth.

use crate::artifact::Artifact;
use crate::bounded::Bounded;
use crate::encoding::{from_hex, hex};
use crate::json;
use crate::key::HashAlgorithm;
use crate::limits::{MAX_SUBJECT_ANNOTATIONS, MAX_SUBJECT_DIGESTS, MAX_SUBJECTS};
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

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
#[serde(expecting = "an object")]
struct WireStatement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Bounded<WireSubject, MAX_SUBJECTS>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[expect(dead_code, reason = "whoever wants it reads it again")]
    predicate: Option<Predicate>,
}

/// An object in which no member stands twice, at whatever depth: readers differ in which they would take, and a
/// policy may ask for one.
struct Predicate;

impl<'de> Deserialize<'de> for Predicate {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_map(json::Distinct(&mut Vec::new())).map(|()| Self)
    }
}

#[derive(Deserialize)]
#[serde(expecting = "a subject, which is an object")]
struct WireSubject {
    name: Option<String>,
    digest: Once<String, MAX_SUBJECT_DIGESTS>,
    annotations: Option<Once<Text, MAX_SUBJECT_ANNOTATIONS>>,
}

/// A map that has each name once: readers differ in which of two they would take. What is beyond one more than `N`
/// members is passed over, never kept.
struct Once<V, const N: usize>(BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>, const N: usize> Deserialize<'de> for Once<V, N> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Members<V, const N: usize>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>, const N: usize> Visitor<'de> for Members<V, N> {
            type Value = Once<V, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from names to texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, V>()? {
                    if members.contains_key(&name) {
                        return Err(de::Error::custom(format!("two members under {name:?}")));
                    }
                    members.insert(name, value);
                    if members.len() > N {
                        break; // refused by whoever asked, with the place
                    }
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Once(members))
            }
        }
        source.deserialize_map(Members(PhantomData))
    }
}

/// Any value, of which only a text is kept.
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(text.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        source.deserialize_any(Any)
    }
}

impl Statement {
    /// Reads the payload of an envelope.
    ///
    /// # Errors
    /// See the module's list of refusals.
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let wire: WireStatement = json::from_slice(payload)
            .map_err(|error| Error::Json { message: error.to_string() })?;
        if !TYPES.contains(&wire.kind.as_str()) {
            return Err(Error::Type { found: wire.kind.chars().take(100).collect() });
        }
        let Bounded { first, found } = wire.subject;
        if found == 0 || found > MAX_SUBJECTS {
            return Err(Error::Subjects { limit: MAX_SUBJECTS, found });
        }
        let mut subjects = Vec::with_capacity(found);
        for (subject, wire) in first.into_iter().enumerate() {
            let WireSubject { name, digest: Once(digest), annotations } = wire;
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
            let annotations = annotations.map(|Once(annotations)| annotations).unwrap_or_default();
            if annotations.len() > MAX_SUBJECT_ANNOTATIONS {
                return Err(Error::Annotations { subject, limit: MAX_SUBJECT_ANNOTATIONS });
            }
            let text = |(name, Text(text))| Some((name, text?));
            let annotations = annotations.into_iter().filter_map(text);
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
    /// Too many annotations of one subject.
    #[error("subject {subject}: expected at most {limit} annotations, found more")]
    Annotations {
        /// Its place, from 0.
        subject: usize,
        /// Annotations allowed.
        limit: usize,
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
    fn one_of_its_artifacts_is_the_first_with_a_known_digest() {
        let hex = "ab".repeat(64);
        let of = |subjects: &str| Statement::parse(statement(subjects).as_bytes()).unwrap();
        let known = of(&format!(
            r#"[{{"digest":{{"gitCommit":"aa"}}}},{{"digest":{{"sha512":"{hex}","sha1":"aa"}}}}]"#
        ));
        let artifact = known.artifact().unwrap();
        assert_eq!(artifact.digest(HashAlgorithm::Sha512), Some(&[0xab; 64][..]));
        assert_eq!(artifact.digests().count(), 1);
        assert_eq!(known.predicate_type(), "p");
        assert_eq!(of(r#"[{"digest":{"gitCommit":"aa"}}]"#).artifact(), None);
    }

    #[test]
    fn what_is_ambiguous_or_empty_is_refused() {
        let parse = |subjects: &str| Statement::parse(statement(subjects).as_bytes());
        let json = |found| matches!(found, Err(Error::Json { .. }));
        assert!(json(parse("null")) && json(parse("[null]")) && json(parse(r#"[{"name":"a"}]"#)));
        assert!(json(parse(r#"[{"digest":{"sha256":"aa","sha256":"bb"}}]"#)), "twice");
        assert!(json(parse(r#"[{"digest":{"sha256":"aa"},"digest":{"sha256":"bb"}}]"#)), "twice");
        let said = |predicate: &str| {
            let whole = statement(r#"[{"digest":{"sha256":"aa"}}]"#);
            Statement::parse(whole.replace(r#""predicate":{}"#, predicate).as_bytes())
        };
        assert!(
            said("\"a\":1").is_ok() && said("\"predicate\":null").is_ok(),
            "there need be none"
        );
        assert!(said(r#""predicate":{"a":[{"b":1,"c":"d"},{"b":1.5,"c":null}],"b":true}"#).is_ok());
        for twice in
            [r#"{"a":1,"\u0061":2}"#, r#"{"a":[{"b":{"c":1,"d":2,"c":1}}]}"#, "{},\"predicate\":{}"]
        {
            let refused = said(&format!("\"predicate\":{twice}")).unwrap_err().to_string();
            assert!(refused.contains("twice") || refused.contains("duplicate field"), "{refused}");
        }
        assert!(json(said(r#""predicate":[]"#)) && json(said(r#""predicate":"a""#)), "no object");
        let expected = Error::Subjects { limit: MAX_SUBJECTS, found: 0 };
        assert_eq!(parse("[]"), Err(expected));
        let expected = Error::Digests { subject: 0, limit: MAX_SUBJECT_DIGESTS, found: 0 };
        assert_eq!(parse(r#"[{"digest":{}}]"#), Err(expected));
        assert_eq!(parse(r#"[{"digest":{"sha256":"xy"}}]"#), Err(Error::Digest { subject: 0 }));
        let many: Vec<_> = (0..100).map(|number| format!(r#""a{number}":"aa""#)).collect();
        let many = parse(&format!(r#"[{{"digest":{{{}}}}}]"#, many.join(",")));
        assert!(matches!(many, Err(Error::Digests { subject: 0, .. })), "{many:?}");
        let annotated = |annotations: &str| {
            let subject = r#"{"digest":{"sha256":"aa"},"annotations":{ANNOTATIONS}}"#;
            parse(&format!("[{}]", subject.replace("ANNOTATIONS", annotations)))
        };
        let read = annotated(r#""a":"x","b":[{"a":1}],"c":{"a":[]},"d":1.5,"e":null,"f":"y""#);
        let texts = [("a", "x"), ("f", "y")].map(|(name, text)| (name.into(), text.into()));
        assert_eq!(read.unwrap().subjects()[0].annotations, texts.into());
        assert!(json(annotated(r#""a":"x","a":"y""#)) && json(annotated(r#""a":[1"#)));
        let many =
            |count| (0..count).map(|n| format!(r#""{n}":{n}"#)).collect::<Vec<_>>().join(",");
        let limit = MAX_SUBJECT_ANNOTATIONS;
        assert!(annotated(&many(limit)).is_ok());
        for count in [limit + 1, 2 * limit] {
            assert_eq!(annotated(&many(count)), Err(Error::Annotations { subject: 0, limit }));
        }
        let digests = |count: usize| {
            let digests: Vec<_> = (0..count).map(|n| format!("\"{n}\":\"aa\"")).collect();
            parse(&format!(r#"[{{"digest":{{{}}}}}]"#, digests.join(",")))
        };
        assert!(digests(MAX_SUBJECT_DIGESTS).is_ok() && digests(MAX_SUBJECT_DIGESTS + 1).is_err());
        let (one, found) = (r#"{"digest":{"sha256":"aa"}}"#, MAX_SUBJECTS + 1);
        let many = parse(&format!("[{}]", vec![one; found].join(",")));
        assert_eq!(many, Err(Error::Subjects { limit: MAX_SUBJECTS, found }));
        assert!(parse(&format!("[{}]", vec![one; MAX_SUBJECTS].join(","))).is_ok());
        let other = statement("[]").replace("Statement/v1", "Statement/v2");
        assert!(matches!(Statement::parse(other.as_bytes()), Err(Error::Type { .. })));
        // Nesting ends where serde_json ends it.
        let bomb = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(json(parse(&bomb)));
    }
}
