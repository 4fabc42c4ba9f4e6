//! What is indexed of an entry, and the keys that it is found by.
//!
//! A key is one byte for the field and the value: a digest, a serial number, the SHA-256 of a
//! SubjectPublicKeyInfo; names and kinds as text. Names are compared without regard to case, as Rekor does:
//! whoever watches a name wants those that look alike.

use super::query::Field;
use countersign_verify::certificate::Certificate;
use countersign_verify::entry::{Entry, Kind, OwnedVerifier};
use countersign_verify::merkle::Hash;

/// What an entry says of itself; nothing of it is verified.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Kind and version; `None` for a body that is not read.
    pub kind: Option<Kind>,
    /// Of the artifact; of envelope and payload for kinds that are about envelopes.
    pub digests: Vec<Vec<u8>>,
    /// Whoever verifies its signatures.
    pub signers: Vec<Signer>,
    /// Seconds since the epoch: when it was integrated, where the log tells that; else when the
    /// certificate begins. `None` for entries by a bare key in a log that tells no times.
    pub time: Option<i64>,
}

/// A certificate or a bare key, as far as it could be read.
#[derive(Clone, Debug, Default)]
pub struct Signer {
    /// Every subject alternative name.
    pub names: Vec<String>,
    /// The OIDC issuer, of Fulcio's extensions 8 and 1; two only if they disagree.
    pub issuers: Vec<String>,
    /// The certificate's serial number, big endian, without leading zeros.
    pub serial: Option<Vec<u8>>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub key: Option<Hash>,
    /// The certificate's first second of validity, since the epoch.
    pub not_before: Option<i64>,
}

/// The kind of entries whose body is not read.
pub(super) const UNKNOWN: &str = "unknown";

impl Facts {
    /// Reads a body; `integrated` is what the log says of when. Whatever cannot be read is left out, so
    /// that every entry is found by something.
    #[must_use]
    pub fn read(body: &[u8], integrated: Option<u64>) -> Self {
        let integrated = integrated.and_then(|time| i64::try_from(time).ok());
        let Ok(Entry { kind, digests, verifiers }) = Entry::parse(body) else {
            return Self { time: integrated, ..Self::default() };
        };
        let signers: Vec<_> = verifiers.iter().map(Signer::read).collect();
        let time = integrated.or_else(|| signers.iter().find_map(|signer| signer.not_before));
        Self { kind: Some(kind), digests, signers, time }
    }

    /// The keys that the entry is found by, each once.
    #[must_use]
    pub fn keys(&self) -> Vec<Vec<u8>> {
        let kind = self.kind.map_or(UNKNOWN, Kind::name);
        let mut keys = vec![Field::Kind.key(kind.as_bytes())];
        keys.extend(self.digests.iter().map(|digest| Field::Digest.key(digest)));
        for Signer { names, issuers, serial, key, .. } in &self.signers {
            keys.extend(names.iter().map(|name| Field::Identity.key(folded(name).as_bytes())));
            keys.extend(issuers.iter().map(|issuer| Field::Issuer.key(folded(issuer).as_bytes())));
            keys.extend(serial.iter().map(|serial| Field::Serial.key(serial)));
            keys.extend(key.iter().map(|key| Field::Key.key(key.as_bytes())));
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl Signer {
    fn read(verifier: &OwnedVerifier) -> Self {
        match verifier {
            OwnedVerifier::PublicKey(spki) => Self { key: Some(Hash::of(spki)), ..Self::default() },
            OwnedVerifier::Certificate(der) => {
                Certificate::parse(der).map_or_else(|_| Self::default(), |it| Self::certified(&it))
            }
        }
    }

    fn certified(certificate: &Certificate) -> Self {
        Self {
            names: certificate.names(),
            issuers: certificate.issuers(),
            serial: Some(without_zeros(certificate.serial()).to_vec()),
            key: Some(Hash::of(certificate.spki())),
            not_before: Some(certificate.not_before().as_second()),
        }
    }
}

/// A number's bytes as they are compared: DER may begin with a zero, people's tools may not.
pub(crate) fn without_zeros(serial: &[u8]) -> &[u8] {
    let first = serial.iter().position(|byte| *byte != 0).unwrap_or(serial.len());
    &serial[first..]
}

/// A name as it is compared. SQLite ends a text at NUL, so a name must not hide behind one.
pub(crate) fn folded(name: &str) -> String {
    name.to_lowercase().replace('\0', "\u{fffd}")
}
