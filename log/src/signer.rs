//! Keys of logs: the private side signs checkpoints, the public side opens them.
//!
//! Three kinds of note signatures (C2SP signed-note): 0x01, Ed25519 over the text, for signature logs;
//! 0x02, ECDSA P-256 over the text, for those that speak Rekor v1; 0x05, an RFC 6962 tree head by ECDSA
//! P-256, for certificate logs (static-ct-api):
//!
//! ```text
//! signature = timestamp u64, ms | 04 03 | u16 length | ASN.1 DER
//! signed    = 00 01 | timestamp u64 | tree size u64 | root[32]
//! ```

use crate::Clock;
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use countersign_verify::checkpoint::{self, Checkpoint};
use countersign_verify::key::{self, KeyKind, PublicKey};
use countersign_verify::merkle::Hash;
use countersign_verify::note::{
    self, KeyType, Note, Signature, VerifierKey, ed25519_key_id, rfc6962_key_id,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The private side of a log: its origin and its key. The key's bytes stay inside aws-lc-rs, which
/// wipes them.
pub struct Signer {
    key: LogKey,
    private: Private,
}

enum Private {
    Ed25519(Ed25519KeyPair),
    Text(Arc<P256Key>),
    /// `last` is the time of the newest tree head, ms: the clock may be set back, tree heads may not.
    TreeHead {
        pair: Arc<P256Key>,
        clock: Clock,
        last: AtomicU64,
    },
}

/// A log's ECDSA P-256 key: of a certificate log it signs tree heads and certificate timestamps, of a
/// Rekor v1 log checkpoints and promises. The one kind that all their verifiers take.
pub struct P256Key {
    pair: EcdsaKeyPair,
    spki: Vec<u8>,
    log_id: [u8; 32],
}

impl P256Key {
    /// Reads PKCS#8, DER.
    ///
    /// # Errors
    /// When it is not a P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der);
        let pair = pair.map_err(|_| Error::PrivateKey { expected: "ECDSA P-256" })?;
        let spki = pair.public_key().as_der().map_err(|_| Error::Signing)?.as_ref().to_vec();
        Ok(Self { pair, log_id: *Hash::of(&spki).as_bytes(), spki })
    }

    /// SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub const fn log_id(&self) -> &[u8; 32] {
        &self.log_id
    }

    /// ECDSA with SHA-256 over `message`, ASN.1 DER.
    ///
    /// # Errors
    /// When the library fails to sign.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| Error::Signing)?.as_ref().to_vec())
    }
}

impl Signer {
    /// The signer of a signature log: Ed25519, PKCS#8 in DER. `origin` is the name of log and key:
    /// the host name without port.
    ///
    /// # Errors
    /// When `pkcs8` is no Ed25519 key.
    pub fn ed25519(origin: &str, pkcs8: &[u8]) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)
            .map_err(|_| Error::PrivateKey { expected: "Ed25519" })?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().expect("32 bytes by design");
        let key = LogKey::from_spki(origin, &key::ed25519_spki(&public))?;
        Ok(Self { key, private: Private::Ed25519(pair) })
    }

    /// The signer of a certificate log. `origin` is the submission prefix without scheme and without
    /// trailing slash.
    ///
    /// # Errors
    /// When the public key does not read back.
    pub fn rfc6962(origin: &str, pair: Arc<P256Key>, clock: Clock) -> Result<Self, Error> {
        let key = LogKey::from_spki(origin, pair.spki())?;
        Ok(Self { key, private: Private::TreeHead { pair, clock, last: AtomicU64::new(0) } })
    }

    /// The signer of a log that speaks Rekor v1, see [`LogKey::rekor_v1`].
    ///
    /// # Errors
    /// When the public key does not read back.
    pub fn rekor_v1(host: &str, tree_id: i64, pair: Arc<P256Key>) -> Result<Self, Error> {
        let key = LogKey::rekor_v1(host, tree_id, pair.spki())?;
        Ok(Self { key, private: Private::Text(pair) })
    }

    /// The public side.
    #[must_use]
    pub const fn key(&self) -> &LogKey {
        &self.key
    }

    /// Goes on from a note that was signed before: no later tree head is older than that one.
    pub(crate) fn resume(&self, note: &str) {
        let Private::TreeHead { last, .. } = &self.private else { return };
        let note = Note::parse(note).ok();
        let signatures = note.iter().flat_map(Note::signatures);
        let own = signatures.filter(|line| line.key_id == self.key.key_id);
        let times = own.filter_map(|line| line.signature.first_chunk().copied());
        last.fetch_max(times.map(u64::from_be_bytes).max().unwrap_or_default(), Ordering::Relaxed);
    }

    /// The signed note of a tree of `size` leaves with that `root`.
    ///
    /// # Errors
    /// When the library fails to sign.
    pub fn sign(&self, size: u64, root: Hash) -> Result<String, Error> {
        let origin = self.key.origin.clone();
        self.sign_checkpoint(&Checkpoint { origin, size, root, extensions: vec![] })
    }

    /// The signed note of a checkpoint of this log.
    ///
    /// # Errors
    /// When it is another log's, has extension lines that a tree head does not cover, or the library fails
    /// to sign.
    pub(crate) fn sign_checkpoint(&self, checkpoint: &Checkpoint) -> Result<String, Error> {
        if checkpoint.origin != self.key.origin {
            let (expected, found) = (self.key.origin.clone(), checkpoint.origin.clone());
            return Err(Error::Origin { expected, found });
        }
        if !self.key.signs_text && !checkpoint.extensions.is_empty() {
            return Err(Error::TreeHead);
        }
        let (name, text) = (self.key.name.clone(), checkpoint.text());
        let signature = match &self.private {
            Private::Ed25519(pair) => pair.sign(text.as_bytes()).as_ref().to_vec(),
            Private::Text(pair) => pair.sign(text.as_bytes())?,
            Private::TreeHead { pair, clock, last } => {
                let now = u64::try_from(clock().as_millisecond()).unwrap_or_default();
                let timestamp = last.fetch_max(now, Ordering::Relaxed).max(now);
                let head = tree_head(timestamp, checkpoint.size, &checkpoint.root);
                let signature = pair.sign(&head)?;
                let length = u16::try_from(signature.len()).expect("at most 72 bytes");
                let head = [&timestamp.to_be_bytes()[..], &[4, 3], &length.to_be_bytes()].concat();
                [head, signature].concat()
            }
        };
        let signature = Signature { name, key_id: self.key.key_id, signature };
        Ok(Note::new(text, vec![signature])?.to_string())
    }
}

/// TreeHeadSignature of RFC 6962, section 3.5.
fn tree_head(timestamp: u64, size: u64, root: &Hash) -> Vec<u8> {
    let numbers = [timestamp.to_be_bytes(), size.to_be_bytes()].concat();
    [&[0, 1], &numbers[..], root.as_bytes()].concat()
}

/// The public side of a log: what tells its checkpoints from all others.
#[derive(Clone, Debug)]
pub struct LogKey {
    origin: String,
    /// Of the signature line; Rekor v1 has another origin.
    name: String,
    /// The note's text is what is signed, and not a tree head of RFC 6962.
    signs_text: bool,
    public: PublicKey,
    log_id: [u8; 32],
    key_id: [u8; 4],
}

impl LogKey {
    /// A log by its origin and its SubjectPublicKeyInfo, DER. An Ed25519 key makes it a signature log
    /// (Rekor v2), a P-256 key a certificate log.
    ///
    /// # Errors
    /// When the key does not parse or is of another kind.
    pub fn from_spki(origin: &str, spki: &[u8]) -> Result<Self, Error> {
        let public = PublicKey::from_spki(spki)?;
        let (log_id, note_id, signs_text) = match (public.kind(), public.ed25519_bytes()) {
            (_, Some(bytes)) => {
                let id = ed25519_key_id(origin, &bytes);
                (id, id, true)
            }
            (KeyKind::P256, None) => {
                let log_id = *Hash::of(spki).as_bytes();
                (log_id, rfc6962_key_id(origin, &log_id), false)
            }
            (found, None) => return Err(Error::KeyKind { found }),
        };
        let key_id = *note_id.first_chunk().expect("32 bytes have a first four");
        let (origin, name) = (origin.to_owned(), origin.to_owned());
        Ok(Self { origin, name, signs_text, public, log_id, key_id })
    }

    /// A log that speaks Rekor v1: its origin is `<host> - <tree ID>`, its signature's name the host alone,
    /// its ID SHA-256 of the key, whose first four bytes are the key ID.
    ///
    /// # Errors
    /// When the key does not parse or is not on P-256.
    pub fn rekor_v1(host: &str, tree_id: i64, spki: &[u8]) -> Result<Self, Error> {
        let public = PublicKey::from_spki(spki)?;
        if public.kind() != KeyKind::P256 {
            return Err(Error::KeyKind { found: public.kind() });
        }
        let log_id = *Hash::of(spki).as_bytes();
        let key_id = *log_id.first_chunk().expect("32 bytes have a first four");
        let (origin, name) = (format!("{host} - {tree_id}"), host.to_owned());
        Ok(Self { origin, name, signs_text: true, public, log_id, key_id })
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The key as witnesses know it; `None` for logs whose checkpoints cannot be cosigned.
    #[must_use]
    pub fn verifier_key(&self) -> Option<VerifierKey> {
        let bytes = self.public.ed25519_bytes()?;
        let key = VerifierKey::new(&self.name, KeyType::Ed25519, &bytes);
        key.ok().filter(|_| self.name == self.origin)
    }

    /// SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        self.public.spki()
    }

    /// The 32 bytes that name the log in bundles, certificate timestamps and trusted roots.
    #[must_use]
    pub const fn log_id(&self) -> &[u8; 32] {
        &self.log_id
    }

    /// Opens a checkpoint: this log's origin, and a signature line of this key that holds. Lines of
    /// other keys are passed over.
    ///
    /// # Errors
    /// When the note is malformed, of another log, or not signed by this key.
    pub fn open(&self, note: &str) -> Result<Checkpoint, Error> {
        let note = Note::parse(note)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        if checkpoint.origin != self.origin {
            let (expected, found) = (self.origin.clone(), checkpoint.origin);
            return Err(Error::Origin { expected, found });
        }
        let mine = |line: &&Signature| line.name == self.name && line.key_id == self.key_id;
        let mut signed = false;
        for line in note.signatures().iter().filter(mine) {
            self.check(&checkpoint, note.text(), &line.signature)?;
            signed = true;
        }
        if signed { Ok(checkpoint) } else { Err(Error::NotSigned { origin: self.origin.clone() }) }
    }

    fn check(&self, checkpoint: &Checkpoint, text: &str, signature: &[u8]) -> Result<(), Error> {
        if self.signs_text {
            return Ok(self.public.verify_message(text.as_bytes(), signature)?);
        }
        let (timestamp, rest) = signature.split_first_chunk::<8>().ok_or(Error::TreeHead)?;
        let (header, der) = rest.split_first_chunk::<4>().ok_or(Error::TreeHead)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[..2] != [4, 3] || length != der.len() || !checkpoint.extensions.is_empty() {
            return Err(Error::TreeHead);
        }
        let head = tree_head(u64::from_be_bytes(*timestamp), checkpoint.size, &checkpoint.root);
        Ok(self.public.verify_message(&head, der)?)
    }
}

/// Why a key cannot be used or a checkpoint is not this log's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The private key is of another kind.
    #[error("expected a private key of kind {expected} in PKCS#8")]
    PrivateKey {
        /// The kind that is needed.
        expected: &'static str,
    },
    /// The public key is of a kind that no log here has.
    #[error("expected an Ed25519 or ECDSA P-256 key for a log, found {found}")]
    KeyKind {
        /// Its kind.
        found: KeyKind,
    },
    /// aws-lc-rs could not sign.
    #[error("the library failed to sign")]
    Signing,
    /// A checkpoint of another log.
    #[error("expected a checkpoint of log {expected:?}, found one of {found:?}")]
    Origin {
        /// This log.
        expected: String,
        /// The other one.
        found: String,
    },
    /// No signature line by this key.
    #[error("the checkpoint has no signature by the key of log {origin:?}")]
    NotSigned {
        /// This log.
        origin: String,
    },
    /// A signature line that is no RFC 6962 tree head, or extension lines that it does not cover.
    #[error("the checkpoint's signature is no RFC 6962 tree head")]
    TreeHead,
    /// The key or the signature.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// The note's grammar.
    #[error(transparent)]
    Note(#[from] note::Error),
    /// The text's grammar.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0=";

    fn root() -> Hash {
        Hash::try_from(&countersign_verify::encoding::from_base64(ROOT).unwrap()[..]).unwrap()
    }

    fn signers() -> [Signer; 3] {
        let rng = SystemRandom::new();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&rng).unwrap();
        let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng).unwrap();
        let p256 = Arc::new(P256Key::from_pkcs8(p256.as_ref()).unwrap());
        let clock: Clock = Arc::new(|| jiff::Timestamp::from_second(1_764_000_000).unwrap());
        [
            Signer::ed25519("log.example.test", ed25519.as_ref()).unwrap(),
            Signer::rfc6962("log.example.test:8420", Arc::clone(&p256), clock).unwrap(),
            Signer::rekor_v1("log.example.test", 1234, p256).unwrap(),
        ]
    }

    /// Seed 00..1f: the note of an independent implementation.
    #[test]
    fn a_checkpoint_is_signed_as_the_known_answer() {
        let seed: Vec<u8> = (0..32).collect();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let pkcs8 = pair.to_pkcs8v1().unwrap();
        let signer = Signer::ed25519("log.example.test", pkcs8.as_ref()).unwrap();
        assert_eq!(
            signer.sign(7, root()).unwrap(),
            format!(
                "log.example.test\n7\n{ROOT}\n\n\u{2014} log.example.test rxvZ1ycB5BXE51nrYw45V4ekTSuyYFYYuCIhyFYOx/JBtmPpdi2lKc3ZVfKufyEN90u9o7w+UnkU0Xqbmr6zXBF5IwM=\n"
            )
        );
    }

    #[test]
    fn a_checkpoint_opens_with_its_own_key_only() {
        let others = signers();
        for (signer, other) in signers().iter().zip(&others) {
            let note = signer.sign(7, root()).unwrap();
            let opened = signer.key().open(&note).unwrap();
            assert_eq!((opened.size, opened.root), (7, root()));
            let origin = signer.key().origin();
            assert_eq!(
                other.key().open(&note),
                Err(Error::NotSigned { origin: origin.to_owned() })
            );
            assert!(matches!(
                signer.key().open(&note.replace("\n7\n", "\n8\n")),
                Err(Error::Key(key::Error::Signature { .. }))
            ));
            let foreign = note.replacen(origin, "other.example.test", 1);
            assert!(matches!(signer.key().open(&foreign), Err(Error::Origin { .. })));
        }
        let certificates = &others[1];
        let note = certificates.sign(7, root()).unwrap();
        let extended = note.replacen("\n\n", "\nan extension\n\n", 1);
        assert_eq!(certificates.key().open(&extended), Err(Error::TreeHead));
    }
}
