//! What an entry says: the digests that it is about, and who verifies its signatures.
//!
//! For those who search a log, not for those who verify: nothing of it is checked, unknown members are
//! passed over, and a certificate or key is whatever bytes stand in its place. Refused: bodies that are not
//! JSON, kinds that [`Kind`] does not name, members that are missing or do not decode.

use super::{Kind, OwnedVerifier};
use crate::encoding::{self, from_base64, from_hex};
use crate::json;
use crate::key::HashAlgorithm;
use serde::Deserialize;
use std::borrow::Cow;

/// An entry that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Kind and version.
    pub kind: Kind,
    /// Of the artifact; of envelope and payload for kinds that are about envelopes. What an attestation
    /// is about is not in the log.
    pub digests: Vec<Vec<u8>>,
    /// One for each signature.
    pub verifiers: Vec<OwnedVerifier>,
}

impl Entry {
    /// Reads a body.
    ///
    /// # Errors
    /// See the module's list of refusals.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let Body { api_version, kind, spec } =
            json::from_slice(body).map_err(|error| Error::Json { reason: error.to_string() })?;
        let kind = Kind::named(&kind, &api_version).ok_or_else(|| Error::Kind {
            found: format!("{kind} {api_version}").chars().take(64).collect(),
        })?;
        let missing = |member| Error::Member { member };
        let (digests, verifiers) = match kind {
            Kind::HashedRekordV2 => {
                let spec = spec.hashed_rekord_v2.ok_or(missing("hashedRekordV002"))?;
                (vec![spec.data.bytes()?], vec![spec.signature.verifier.read()?])
            }
            Kind::DsseV2 => {
                let spec = spec.dsse_v2.ok_or(missing("dsseV002"))?;
                let verifiers = spec.signatures.iter().map(|signature| signature.verifier.read());
                (vec![spec.payload_hash.bytes()?], verifiers.collect::<Result<_, _>>()?)
            }
            Kind::HashedRekordV1 => {
                let data = spec.data.ok_or(missing("data"))?;
                let signature = spec.signature.ok_or(missing("signature"))?;
                (vec![data.hash.bytes()?], vec![from_pem(&signature.public_key.content)?])
            }
            Kind::DsseV1 => {
                let hashes = [spec.envelope_hash, spec.payload_hash];
                let hashes =
                    hashes.into_iter().map(|hash| hash.ok_or(missing("payloadHash"))?.bytes());
                let verifiers =
                    spec.signatures.iter().map(|signature| from_pem(&signature.verifier));
                (hashes.collect::<Result<_, _>>()?, verifiers.collect::<Result<_, _>>()?)
            }
            Kind::Intoto => {
                let content = spec.content.ok_or(missing("content"))?;
                let payload_hash = content.payload_hash.ok_or(missing("payloadHash"))?;
                let hashes = content.hash.into_iter().chain([payload_hash]);
                let signatures = content.envelope.ok_or(missing("envelope"))?.signatures;
                let verifiers = signatures.iter().map(|signature| from_pem(&signature.public_key));
                (
                    hashes.map(|hash| hash.bytes()).collect::<Result<_, _>>()?,
                    verifiers.collect::<Result<_, _>>()?,
                )
            }
            Kind::IntotoByHash => {
                let content = spec.content.ok_or(missing("content"))?;
                let hash = content.hash.ok_or(missing("hash"))?;
                let hashes = [hash].into_iter().chain(content.payload_hash);
                let verifier = from_pem(&spec.public_key.ok_or(missing("publicKey"))?)?;
                (hashes.map(|hash| hash.bytes()).collect::<Result<_, _>>()?, vec![verifier])
            }
        };
        Ok(Self { kind, digests, verifiers })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    spec: Spec<'a>,
}

/// The members of all kinds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow, rename = "hashedRekordV002")]
    hashed_rekord_v2: Option<HashedRekordV2<'a>>,
    #[serde(borrow, rename = "dsseV002")]
    dsse_v2: Option<DsseV2<'a>>,
    #[serde(borrow)]
    data: Option<Data<'a>>,
    #[serde(borrow)]
    signature: Option<Signature<'a>>,
    #[serde(borrow)]
    envelope_hash: Option<HexHash<'a>>,
    #[serde(borrow)]
    payload_hash: Option<HexHash<'a>>,
    #[serde(borrow, default)]
    signatures: Vec<DsseSignature<'a>>,
    #[serde(borrow)]
    content: Option<Intoto<'a>>,
    #[serde(borrow)]
    public_key: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct HashedRekordV2<'a> {
    #[serde(borrow)]
    data: Digest<'a>,
    #[serde(borrow)]
    signature: SignatureV2<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DsseV2<'a> {
    #[serde(borrow)]
    payload_hash: Digest<'a>,
    #[serde(borrow)]
    signatures: Vec<SignatureV2<'a>>,
}

/// Protobuf JSON: an enumeration's name, base64.
#[derive(Deserialize)]
struct Digest<'a> {
    #[serde(borrow)]
    algorithm: Cow<'a, str>,
    #[serde(borrow)]
    digest: Cow<'a, str>,
}

impl Digest<'_> {
    fn bytes(&self) -> Result<Vec<u8>, Error> {
        let hash = HashAlgorithm::from_name(&self.algorithm);
        fitting(hash, from_base64(&self.digest).ok())
    }
}

/// Rekor v1: a short name, hexadecimal.
#[derive(Deserialize)]
struct HexHash<'a> {
    #[serde(borrow)]
    algorithm: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

impl HexHash<'_> {
    fn bytes(&self) -> Result<Vec<u8>, Error> {
        let named = |hash: &HashAlgorithm| hash.short_name() == self.algorithm;
        fitting(HashAlgorithm::ALL.into_iter().find(named), from_hex(&self.value).ok())
    }
}

fn fitting(hash: Option<HashAlgorithm>, digest: Option<Vec<u8>>) -> Result<Vec<u8>, Error> {
    let length = hash.map(HashAlgorithm::digest_len);
    digest.filter(|digest| Some(digest.len()) == length).ok_or(Error::Digest)
}

#[derive(Deserialize)]
struct SignatureV2<'a> {
    #[serde(borrow)]
    verifier: VerifierV2<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerifierV2<'a> {
    #[serde(borrow)]
    public_key: Option<Raw<'a>>,
    #[serde(borrow)]
    x509_certificate: Option<Raw<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw<'a> {
    #[serde(borrow)]
    raw_bytes: Cow<'a, str>,
}

impl VerifierV2<'_> {
    fn read(&self) -> Result<OwnedVerifier, Error> {
        let decode = |raw: &Raw<'_>| from_base64(&raw.raw_bytes).map_err(|_| Error::Verifier);
        match (&self.x509_certificate, &self.public_key) {
            (Some(certificate), None) => decode(certificate).map(OwnedVerifier::Certificate),
            (None, Some(key)) => decode(key).map(OwnedVerifier::PublicKey),
            _ => Err(Error::Verifier),
        }
    }
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    hash: HexHash<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signature<'a> {
    #[serde(borrow)]
    public_key: Content<'a>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    content: Cow<'a, str>,
}

#[derive(Deserialize)]
struct DsseSignature<'a> {
    #[serde(borrow)]
    verifier: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intoto<'a> {
    #[serde(borrow)]
    envelope: Option<IntotoEnvelope<'a>>,
    #[serde(borrow)]
    hash: Option<HexHash<'a>>,
    #[serde(borrow)]
    payload_hash: Option<HexHash<'a>>,
}

#[derive(Deserialize)]
struct IntotoEnvelope<'a> {
    #[serde(borrow)]
    signatures: Vec<IntotoSignature<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoSignature<'a> {
    #[serde(borrow)]
    public_key: Cow<'a, str>,
}

/// Base64 of PEM; of a chain, the first certificate.
fn from_pem(text: &str) -> Result<OwnedVerifier, Error> {
    let pem = from_base64(text).map_err(|_| Error::Verifier)?;
    let end = pem.windows(8).position(|window| window == b"-----END");
    let end =
        end.and_then(|end| Some(end + 8 + pem[end + 8..].iter().position(|byte| *byte == b'\n')?));
    let first = end.map_or(&pem[..], |end| &pem[..end]);
    match encoding::from_pem(first).ok_or(Error::Verifier)? {
        ("CERTIFICATE", der) => Ok(OwnedVerifier::Certificate(der)),
        ("PUBLIC KEY", der) => Ok(OwnedVerifier::PublicKey(der)),
        _ => Err(Error::Verifier),
    }
}

/// Why a body says nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not JSON, or members of other types.
    #[error("not an entry's body: {reason}")]
    Json {
        /// What was met, and where.
        reason: String,
    },
    /// A kind or version that is not known.
    #[error("entries of kind {found:?} are not read")]
    Kind {
        /// Kind and version, shortened.
        found: String,
    },
    /// A member is missing.
    #[error("the entry has no spec.{member}")]
    Member {
        /// Its name.
        member: &'static str,
    },
    /// A digest that is none, or of another length than its hash.
    #[error("a digest of the entry is not what its algorithm makes")]
    Digest,
    /// Not one certificate or public key.
    #[error("expected one certificate or one public key with each signature of the entry")]
    Verifier,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Verifier, hashedrekord_v1_body, hashedrekord_v2_body};
    use crate::key::KeyDetails;

    /// Bodies by the writers of this crate; the other kinds are read back in the tests of the log.
    #[test]
    fn what_is_written_is_read() {
        let digest = HashAlgorithm::Sha512.digest(b"x");
        for verifier in [Verifier::PublicKey(b"spki"), Verifier::Certificate(b"certificate")] {
            let (hash, details) = (HashAlgorithm::Sha512, KeyDetails::Ed25519Ph);
            for (kind, body) in [
                (
                    Kind::HashedRekordV2,
                    hashedrekord_v2_body(hash, &digest, b"s", verifier, details),
                ),
                (Kind::HashedRekordV1, hashedrekord_v1_body(hash, &digest, b"s", verifier)),
            ] {
                let entry = Entry::parse(&body).unwrap();
                assert_eq!((entry.kind, &entry.digests), (kind, &vec![digest.clone()]));
                assert_eq!(entry.verifiers[0].borrow(), verifier);
            }
        }
    }

    #[test]
    fn what_is_no_entry_is_refused_for_its_reason() {
        let key = Verifier::PublicKey(b"spki");
        let digest = HashAlgorithm::Sha256.digest(b"x");
        let body = hashedrekord_v1_body(HashAlgorithm::Sha256, &digest, b"s", key);
        let body = String::from_utf8(body).unwrap();
        let altered = |from: &str, to: &str| Entry::parse(body.replace(from, to).as_bytes());
        assert!(matches!(Entry::parse(b"entry-1"), Err(Error::Json { .. })));
        assert!(matches!(altered("hashedrekord", "rpm"), Err(Error::Kind { .. })));
        assert_eq!(altered("\"data\"", "\"date\""), Err(Error::Member { member: "data" }));
        assert_eq!(altered("sha256", "sha512"), Err(Error::Digest));
        assert_eq!(altered("LS0tLS1", "XXXXXX1"), Err(Error::Verifier));
    }
}
