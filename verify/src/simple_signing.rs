//! The payload that cosign 1 and 2 sign for a container image: Red Hat's "simple signing" JSON.
//!
//! ```text
//! {"critical":{"identity":{"docker-reference":NAME},"image":{"docker-manifest-digest":DIGEST},
//!   "type":"cosign container image signature"},"optional":{NAME:VALUE,...} or null}
//! ```
//!
//! The signature covers the bytes as they are stored. Refused: another type, a digest that is none of
//! SHA-256 or SHA-512, more than [`MAX_SIMPLE_SIGNING`] bytes.

use crate::artifact::Artifact;
use crate::encoding::from_hex;
use crate::json;
use crate::key::HashAlgorithm;
use crate::limits::MAX_SIMPLE_SIGNING;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What `critical.type` must be.
pub const TYPE: &str = "cosign container image signature";

/// What a signature says of an image; not verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Payload {
    /// The image's digest, `sha256:` and hexadecimal.
    pub digest: String,
    /// What the signer called it; nobody compares that.
    pub name: String,
    /// What the signer added; texts only.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Serialize)]
struct Wire {
    critical: Critical,
    optional: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize, Serialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize, Serialize)]
struct Identity {
    #[serde(rename = "docker-reference")]
    name: String,
}

#[derive(Deserialize, Serialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl Payload {
    /// Reads the signed bytes.
    ///
    /// # Errors
    /// See the module's list of refusals.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_SIMPLE_SIGNING {
            return Err(Error::TooLong { limit: MAX_SIMPLE_SIGNING, found: bytes.len() });
        }
        let wire: Wire =
            json::from_slice(bytes).map_err(|error| Error::Json { message: error.to_string() })?;
        let Critical { identity, image, kind } = wire.critical;
        if kind != TYPE {
            return Err(Error::Type { found: kind.chars().take(100).collect() });
        }
        let text = |(name, value): (String, serde_json::Value)| match value {
            serde_json::Value::String(text) => Some((name, text)),
            _ => None, // a time or a number that cosign adds
        };
        let payload = Self {
            digest: image.digest,
            name: identity.name,
            annotations: wire.optional.unwrap_or_default().into_iter().filter_map(text).collect(),
        };
        match payload.image() {
            Some(_) => Ok(payload),
            None => Err(Error::Digest { found: payload.digest.chars().take(100).collect() }),
        }
    }

    /// The bytes to sign.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let text = |(name, value): (&String, &String)| (name.clone(), value.clone().into());
        let optional = (!self.annotations.is_empty())
            .then(|| self.annotations.iter().map(text).collect::<BTreeMap<_, _>>());
        let (identity, image) =
            (Identity { name: self.name.clone() }, Image { digest: self.digest.clone() });
        let critical = Critical { identity, image, kind: TYPE.to_owned() };
        serde_json::to_vec(&Wire { critical, optional }).expect("texts only")
    }

    /// The image it speaks of; `None` when its digest is none.
    #[must_use]
    pub fn image(&self) -> Option<Artifact> {
        let (name, digits) = self.digest.split_once(':')?;
        let hash = HashAlgorithm::ALL.into_iter().find(|hash| hash.short_name() == name)?;
        Artifact::from_digest(hash, &from_hex(digits).ok()?)
    }
}

/// Why bytes are no such payload.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Above the limit.
    #[error("{found} bytes are above the limit of {limit}")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Not JSON, or not these members.
    #[error("not a simple signing payload: {message}")]
    Json {
        /// What the reader expected and found, with the place.
        message: String,
    },
    /// Another `critical.type`.
    #[error("expected a payload of type {TYPE:?}, found {found:?}")]
    Type {
        /// Its beginning.
        found: String,
    },
    /// No digest.
    #[error("expected the digest of an image, found {found:?}")]
    Digest {
        /// Its beginning.
        found: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As cosign 2.5 writes it.
    fn cosigns() -> String {
        let digest = "ab".repeat(32);
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"r.example/app"}},"image":{{"docker-manifest-digest":"sha256:{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        )
    }

    #[test]
    fn the_payload_is_written_as_cosign_writes_it() {
        let read = Payload::parse(cosigns().as_bytes()).unwrap();
        assert_eq!(read.image(), Artifact::from_digest(HashAlgorithm::Sha256, &[0xab; 32]));
        assert_eq!(read.to_json(), cosigns().into_bytes());
        let annotated = cosigns().replace(r#":null"#, r#":{"a":"b","timestamp":1}"#);
        let read = Payload::parse(annotated.as_bytes()).unwrap();
        assert_eq!(read.annotations, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    }

    #[test]
    fn near_misses_are_refused() {
        let parse = |from, to: &str| Payload::parse(cosigns().replace(from, to).as_bytes());
        let kind = parse("cosign container", "atomic container");
        assert!(matches!(kind, Err(Error::Type { .. })), "{kind:?}");
        for (from, to) in [("sha256:ab", "sha256:"), ("sha256:ab", "sha256:zz"), ("sha256", "md5")]
        {
            let found = parse(from, to);
            assert!(matches!(found, Err(Error::Digest { .. })), "{to}: {found:?}");
        }
        let json = parse("docker-manifest-digest", "Docker-manifest-digest");
        assert!(matches!(json, Err(Error::Json { .. })), "{json:?}");
        let long = parse("r.example/app", &"a".repeat(MAX_SIMPLE_SIGNING));
        assert!(matches!(long, Err(Error::TooLong { .. })), "{long:?}");
    }
}
