//! Entries of signature logs: the canonical body that is hashed into the tree.
//!
//! A body is RFC 8785 JSON. A verifier does not pick an entry apart: it writes the body that the
//! bundle implies and compares bytes, so that no field can be overlooked. Only the hashes over what
//! a bundle no longer holds (the envelope as it was sent) are taken from the body they stand in.

mod attestation;
mod read;

pub use read::{Entry, Error};

pub use attestation::{dsse_v1_matches, dsse_v2_body, intoto_by_hash_matches, intoto_matches};

use crate::encoding::{base64, hex};
use crate::key::{HashAlgorithm, KeyDetails};
use std::fmt::Write as _;

/// The kinds of entries that are understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `hashedrekord` 0.0.1 (Rekor v1).
    HashedRekordV1,
    /// `dsse` 0.0.1 (Rekor v1).
    DsseV1,
    /// `intoto` 0.0.2 (Rekor v1).
    Intoto,
    /// `intoto` 0.0.1 (Rekor v1), of cosign 1: the hash of the envelope stands for it. Read, never written.
    IntotoByHash,
    /// `hashedrekord` 0.0.2 (Rekor v2).
    HashedRekordV2,
    /// `dsse` 0.0.2 (Rekor v2 until mid 2026): read, never written.
    DsseV2,
}

impl Kind {
    /// The kind of that name and version.
    #[must_use]
    pub fn named(kind: &str, version: &str) -> Option<Self> {
        Some(match (kind, version) {
            ("hashedrekord", "0.0.1") => Self::HashedRekordV1,
            ("dsse", "0.0.1") => Self::DsseV1,
            ("intoto", "0.0.2") => Self::Intoto,
            ("intoto", "0.0.1") => Self::IntotoByHash,
            ("hashedrekord", "0.0.2") => Self::HashedRekordV2,
            ("dsse", "0.0.2") => Self::DsseV2,
            _ => return None,
        })
    }

    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::HashedRekordV1,
        Self::DsseV1,
        Self::Intoto,
        Self::IntotoByHash,
        Self::HashedRekordV2,
        Self::DsseV2,
    ];

    /// Kind and version: `hashedrekord 0.0.2` and so on.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HashedRekordV1 => "hashedrekord 0.0.1",
            Self::DsseV1 => "dsse 0.0.1",
            Self::Intoto => "intoto 0.0.2",
            Self::IntotoByHash => "intoto 0.0.1",
            Self::HashedRekordV2 => "hashedrekord 0.0.2",
            Self::DsseV2 => "dsse 0.0.2",
        }
    }

    /// Whether it is of a Rekor v1 log, which promises inclusion and tells the time.
    #[must_use]
    pub const fn is_v1(self) -> bool {
        matches!(self, Self::HashedRekordV1 | Self::DsseV1 | Self::Intoto | Self::IntotoByHash)
    }
}

/// Who verifies the signature of an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verifier<'a> {
    /// A signing certificate, DER.
    Certificate(&'a [u8]),
    /// SubjectPublicKeyInfo, DER.
    PublicKey(&'a [u8]),
}

/// The same, out of a request or an entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OwnedVerifier {
    /// DER.
    Certificate(Vec<u8>),
    /// SubjectPublicKeyInfo, DER.
    PublicKey(Vec<u8>),
}

impl OwnedVerifier {
    /// Without the bytes.
    #[must_use]
    pub fn borrow(&self) -> Verifier<'_> {
        match self {
            Self::Certificate(der) => Verifier::Certificate(der),
            Self::PublicKey(spki) => Verifier::PublicKey(spki),
        }
    }
}

/// The body of a `hashedrekord` 0.0.2 entry (Rekor v2): a signature over a digest, and its verifier.
/// Members stand in RFC 8785 order and every value is base64 or a fixed name, so that plain
/// formatting gives the canonical bytes.
#[must_use]
pub fn hashedrekord_v2_body(
    hash: HashAlgorithm,
    digest: &[u8],
    signature: &[u8],
    verifier: Verifier<'_>,
    details: KeyDetails,
) -> Vec<u8> {
    let (hash, digest, signature) = (hash.name(), base64(digest), base64(signature));
    let (kind, bytes) = match verifier {
        Verifier::Certificate(der) => ("x509Certificate", base64(der)),
        Verifier::PublicKey(spki) => ("publicKey", base64(spki)),
    };
    let details = details.name();
    // Room for all of it at once: a log writes many.
    let room = 256 + digest.len() + signature.len() + bytes.len();
    let mut body = String::with_capacity(room);
    let written = write!(
        body,
        r#"{{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{{"hashedRekordV002":{{"data":{{"algorithm":"{hash}","digest":"{digest}"}},"signature":{{"content":"{signature}","verifier":{{"keyDetails":"{details}","{kind}":{{"rawBytes":"{bytes}"}}}}}}}}}}}}"#
    );
    written.expect("a text takes any");
    body.into_bytes()
}

/// The body of a `hashedrekord` 0.0.1 entry (Rekor v1).
#[must_use]
pub fn hashedrekord_v1_body(
    hash: HashAlgorithm,
    digest: &[u8],
    signature: &[u8],
    verifier: Verifier<'_>,
) -> Vec<u8> {
    let (hash, digest, signature) = (hash.short_name(), hex(digest), base64(signature));
    let pem = base64(verifier.to_pem().as_bytes());
    format!(
        r#"{{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{{"data":{{"hash":{{"algorithm":"{hash}","value":"{digest}"}}}},"signature":{{"content":"{signature}","publicKey":{{"content":"{pem}"}}}}}}}}"#
    )
    .into_bytes()
}

/// What a Rekor v1 log signs as its promise to include an entry: RFC 8785 JSON of the entry's body,
/// time (seconds since the epoch), log ID and index over all shards.
#[must_use]
pub fn promise_signed_data(
    body: &[u8],
    integrated_time: i64,
    log_id: &[u8; 32],
    index: u64,
) -> Vec<u8> {
    let (body, log_id) = (base64(body), hex(log_id));
    format!(
        r#"{{"body":"{body}","integratedTime":{integrated_time},"logID":"{log_id}","logIndex":{index}}}"#
    )
    .into_bytes()
}

impl Verifier<'_> {
    /// PEM with lines of 64 characters and a final line feed, as Rekor v1 writes it.
    #[must_use]
    pub fn to_pem(self) -> String {
        let (label, bytes) = match self {
            Verifier::Certificate(der) => ("CERTIFICATE", der),
            Verifier::PublicKey(spki) => ("PUBLIC KEY", spki),
        };
        der::pem::encode_string(label, der::pem::LineEnding::LF, bytes)
            .expect("memory is the only limit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::from_base64;
    use crate::merkle::leaf_hash;

    #[test]
    fn a_kind_has_the_name_and_the_version_that_it_is_found_by() {
        for kind in Kind::ALL {
            let (name, version) = kind.name().split_once(' ').unwrap();
            assert_eq!(Kind::named(name, version), Some(kind));
            assert_eq!(kind.is_v1(), version == "0.0.1" || name == "intoto");
        }
    }

    /// The P-256 key with private scalar 1, content 3006020101020102, SHA-256 of `hello` LF; the leaf
    /// hash was computed with an independent implementation.
    #[test]
    fn a_hashedrekord_body_matches_the_known_answer() {
        let spki = from_base64("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==").unwrap();
        let body = hashedrekord_v2_body(
            HashAlgorithm::Sha256,
            &HashAlgorithm::Sha256.digest(b"hello\n"),
            &[0x30, 6, 2, 1, 1, 2, 1, 2],
            Verifier::PublicKey(&spki),
            KeyDetails::EcdsaP256Sha256,
        );
        assert_eq!(body.len(), 405);
        assert_eq!(
            format!("{:?}", leaf_hash(&body)),
            "f065f71220f8ce46e193663f1bf779067be20bff5089265358225e7709c6fcc0"
        );
        let body = hashedrekord_v1_body(
            HashAlgorithm::Sha256,
            &HashAlgorithm::Sha256.digest(b"hello\n"),
            &[0x30, 6, 2, 1, 1, 2, 1, 2],
            Verifier::PublicKey(&spki),
        );
        assert_eq!(body.len(), 473);
        assert_eq!(
            format!("{:?}", leaf_hash(&body)),
            "cea31d1639350ba021b78bc51e5619c35295bfbe7cec7b2ee39d902e49eb9acb"
        );
        let log_id = HashAlgorithm::Sha256.digest(&spki);
        let promise =
            promise_signed_data(&body, 1_764_000_000, log_id[..].try_into().unwrap(), 4_163_431);
        assert_eq!(promise.len(), 765);
        assert_eq!(
            hex(&HashAlgorithm::Sha256.digest(&promise)),
            "ea29ba6c99caf44fae96849431642f9a9ce21d9c63e8e7e7123d517b5d9399c3"
        );
    }
}
