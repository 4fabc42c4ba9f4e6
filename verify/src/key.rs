//! Public keys, the algorithms they are used with, and the one signature check that all of this
//! crate calls. The primitives are aws-lc-rs.
//!
//! Keys are SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7) in DER. Accepted: ECDSA on P-256, P-384
//! and P-521, RSA of 2048 to 8192 bits, Ed25519. ECDSA signatures are ASN.1 DER; RSA ones PKCS#1 v1.5.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self as lc, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};
use der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use der::{Decode as _, Encode as _, Sequence};
use spki::SubjectPublicKeyInfoRef;

/// The hash functions of signatures and digests.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HashAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlgorithm {
    /// All of them, shortest first.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The protobuf name: `SHA2_256` and so on.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA2_256",
            Self::Sha384 => "SHA2_384",
            Self::Sha512 => "SHA2_512",
        }
    }

    /// The inverse of [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The short name of in-toto subjects and Rekor v1: `sha256` and so on.
    #[must_use]
    pub const fn short_name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Bytes in a digest.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The digest of `data`.
    #[must_use]
    pub fn digest(self, data: &[u8]) -> Vec<u8> {
        digest::digest(self.algorithm(), data).as_ref().to_vec()
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// A key type together with the way it signs: `PublicKeyDetails` of the Sigstore protobufs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum KeyDetails {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256Sha256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384Sha384,
    /// ECDSA on P-521 with SHA-512.
    EcdsaP521Sha512,
    /// RSA of 2048 bits, PKCS#1 v1.5 with SHA-256.
    Rsa2048Sha256,
    /// RSA of 3072 bits, PKCS#1 v1.5 with SHA-256.
    Rsa3072Sha256,
    /// RSA of 4096 bits, PKCS#1 v1.5 with SHA-256.
    Rsa4096Sha256,
    /// Ed25519 over the message itself.
    Ed25519,
    /// Ed25519ph, over the SHA-512 digest.
    Ed25519Ph,
}

impl KeyDetails {
    const ALL: [Self; 8] = [
        Self::EcdsaP256Sha256,
        Self::EcdsaP384Sha384,
        Self::EcdsaP521Sha512,
        Self::Rsa2048Sha256,
        Self::Rsa3072Sha256,
        Self::Rsa4096Sha256,
        Self::Ed25519,
        Self::Ed25519Ph,
    ];

    /// The protobuf name: `PKIX_ECDSA_P256_SHA_256` and so on.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256Sha256 => "PKIX_ECDSA_P256_SHA_256",
            Self::EcdsaP384Sha384 => "PKIX_ECDSA_P384_SHA_384",
            Self::EcdsaP521Sha512 => "PKIX_ECDSA_P521_SHA_512",
            Self::Rsa2048Sha256 => "PKIX_RSA_PKCS1V15_2048_SHA256",
            Self::Rsa3072Sha256 => "PKIX_RSA_PKCS1V15_3072_SHA256",
            Self::Rsa4096Sha256 => "PKIX_RSA_PKCS1V15_4096_SHA256",
            Self::Ed25519 => "PKIX_ED25519",
            Self::Ed25519Ph => "PKIX_ED25519_PH",
        }
    }

    /// The inverse of [`name`](Self::name); `None` for the names that are not supported.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|details| details.name() == name)
    }

    /// The hash that the signature covers; `None` for pure Ed25519, which signs the message itself.
    #[must_use]
    pub const fn hash(self) -> Option<HashAlgorithm> {
        match self {
            Self::EcdsaP256Sha256
            | Self::Rsa2048Sha256
            | Self::Rsa3072Sha256
            | Self::Rsa4096Sha256 => Some(HashAlgorithm::Sha256),
            Self::EcdsaP384Sha384 => Some(HashAlgorithm::Sha384),
            Self::EcdsaP521Sha512 | Self::Ed25519Ph => Some(HashAlgorithm::Sha512),
            Self::Ed25519 => None,
        }
    }
}

/// What kind of key it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// Elliptic curve P-256.
    P256,
    /// Elliptic curve P-384.
    P384,
    /// Elliptic curve P-521.
    P521,
    /// RSA with a modulus of so many bits.
    Rsa {
        /// Length of the modulus.
        bits: usize,
    },
    /// Edwards curve 25519.
    Ed25519,
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::P256 => f.write_str("ECDSA P-256"),
            Self::P384 => f.write_str("ECDSA P-384"),
            Self::P521 => f.write_str("ECDSA P-521"),
            Self::Rsa { bits } => write!(f, "RSA {bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

/// A public key that is known to parse: on its curve, of an accepted size.
#[derive(Clone, Debug)]
pub struct PublicKey {
    spki: Vec<u8>,
    kind: KeyKind,
    parsed: ParsedPublicKey,
}

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");

/// RSAPublicKey of RFC 8017, appendix A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    public_exponent: UintRef<'a>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo, DER.
    ///
    /// # Errors
    /// When it is not DER, of an algorithm that is not accepted, or not a point on its curve.
    pub fn from_spki(der: &[u8]) -> Result<Self, Error> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| Error::Encoding)?;
        let bits = spki.subject_public_key.as_bytes().ok_or(Error::Encoding)?;
        let curve = spki.algorithm.parameters.map(AnyRef::decode_as::<ObjectIdentifier>);
        let kind = match (spki.algorithm.oid, curve) {
            (EC_PUBLIC_KEY, Some(Ok(P256))) => KeyKind::P256,
            (EC_PUBLIC_KEY, Some(Ok(P384))) => KeyKind::P384,
            (EC_PUBLIC_KEY, Some(Ok(P521))) => KeyKind::P521,
            (ED25519, None) => KeyKind::Ed25519,
            (RSA, _) => {
                let key = RsaPublicKey::from_der(bits).map_err(|_| Error::Encoding)?;
                let modulus = key.modulus.as_bytes();
                let leading = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
                let bits = (modulus.len() * 8).saturating_sub(leading);
                if !(2048..=8192).contains(&bits) {
                    return Err(Error::RsaSize { bits });
                }
                KeyKind::Rsa { bits }
            }
            (algorithm, _) => return Err(Error::Algorithm { algorithm }),
        };
        let usual = verification_algorithm(kind, usual_hash(kind)).expect("each kind has its own");
        // aws-lc takes the bare point or modulus as well; the whole SPKI has been checked above.
        let parsed = ParsedPublicKey::new(usual, der).map_err(|_| Error::Point)?;
        Ok(Self { spki: der.to_vec(), kind, parsed })
    }

    /// Reads an RSAPublicKey of RFC 8017, DER, as some old trusted roots carry it.
    ///
    /// # Errors
    /// As [`from_spki`](Self::from_spki), into whose form it is brought.
    pub fn from_pkcs1(der: &[u8]) -> Result<Self, Error> {
        let spki = spki::SubjectPublicKeyInfo {
            algorithm: spki::AlgorithmIdentifier { oid: RSA, parameters: Some(AnyRef::NULL) },
            subject_public_key: der::asn1::BitStringRef::from_bytes(der)
                .map_err(|_| Error::Encoding)?,
        };
        Self::from_spki(&spki.to_der().map_err(|_| Error::Encoding)?)
    }

    /// The SubjectPublicKeyInfo, DER, as it was read.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The kind of key.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The way this key signs unless told otherwise; `None` for RSA sizes without a protobuf name.
    #[must_use]
    pub const fn details(&self) -> Option<KeyDetails> {
        Some(match self.kind {
            KeyKind::P256 => KeyDetails::EcdsaP256Sha256,
            KeyKind::P384 => KeyDetails::EcdsaP384Sha384,
            KeyKind::P521 => KeyDetails::EcdsaP521Sha512,
            KeyKind::Rsa { bits: 2048 } => KeyDetails::Rsa2048Sha256,
            KeyKind::Rsa { bits: 3072 } => KeyDetails::Rsa3072Sha256,
            KeyKind::Rsa { bits: 4096 } => KeyDetails::Rsa4096Sha256,
            KeyKind::Rsa { .. } => return None,
            KeyKind::Ed25519 => KeyDetails::Ed25519,
        })
    }

    /// The hash that this key signs unless told otherwise; `None` for Ed25519.
    #[must_use]
    pub const fn hash(&self) -> Option<HashAlgorithm> {
        usual_hash(self.kind)
    }

    /// The 32 bytes of an Ed25519 key; `None` for other kinds.
    #[must_use]
    pub fn ed25519_bytes(&self) -> Option<[u8; 32]> {
        match self.kind {
            KeyKind::Ed25519 => self.spki.last_chunk::<32>().copied(),
            _ => None,
        }
    }

    /// Checks a signature over `message`, hashed with the key's usual hash.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn verify_message(&self, message: &[u8], signature: &[u8]) -> Result<(), Error> {
        self.parsed.verify_sig(message, signature).map_err(|_| Error::Signature { kind: self.kind })
    }

    /// Checks a signature over `message`, hashed with `hash`.
    ///
    /// # Errors
    /// When it does not hold, or this kind of key is not used with that hash.
    pub fn verify_message_with(
        &self,
        hash: HashAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        if self.hash() == Some(hash) {
            return self.verify_message(message, signature);
        }
        UnparsedPublicKey::new(self.algorithm(hash)?, &self.spki)
            .verify(message, signature)
            .map_err(|_| Error::Signature { kind: self.kind })
    }

    /// Checks a signature over a digest that was made with `hash`.
    ///
    /// # Errors
    /// When it does not hold, the digest has another length, or the key signs messages only (Ed25519).
    pub fn verify_digest(
        &self,
        hash: HashAlgorithm,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        let imported = digest::Digest::import_less_safe(digest, hash.algorithm())
            .map_err(|_| Error::DigestLength { hash, found: digest.len() })?;
        let algorithm = self.algorithm(hash)?;
        let verdict = if self.hash() == Some(hash) {
            self.parsed.verify_digest_sig(&imported, signature)
        } else {
            UnparsedPublicKey::new(algorithm, &self.spki).verify_digest(&imported, signature)
        };
        verdict.map_err(|_| Error::Signature { kind: self.kind })
    }

    /// Checks a signature made with an X.509 or CMS signature algorithm.
    ///
    /// # Errors
    /// When it does not hold, or the algorithm is not accepted for this kind of key.
    pub fn verify_with_oid(
        &self,
        algorithm: ObjectIdentifier,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        let ec = matches!(self.kind, KeyKind::P256 | KeyKind::P384 | KeyKind::P521);
        let rsa = matches!(self.kind, KeyKind::Rsa { .. });
        let hash = match algorithm {
            ECDSA_SHA256 if ec => HashAlgorithm::Sha256,
            ECDSA_SHA384 if ec => HashAlgorithm::Sha384,
            ECDSA_SHA512 if ec => HashAlgorithm::Sha512,
            RSA_SHA256 if rsa => HashAlgorithm::Sha256,
            RSA_SHA384 if rsa => HashAlgorithm::Sha384,
            RSA_SHA512 if rsa => HashAlgorithm::Sha512,
            ED25519 if self.kind == KeyKind::Ed25519 => {
                return self.verify_message(message, signature);
            }
            algorithm => return Err(Error::Algorithm { algorithm }),
        };
        self.verify_message_with(hash, message, signature)
    }

    fn algorithm(&self, hash: HashAlgorithm) -> Result<&'static dyn VerificationAlgorithm, Error> {
        verification_algorithm(self.kind, Some(hash)).ok_or(Error::Hash { kind: self.kind, hash })
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PublicKey {}

const fn usual_hash(kind: KeyKind) -> Option<HashAlgorithm> {
    match kind {
        KeyKind::P256 | KeyKind::Rsa { .. } => Some(HashAlgorithm::Sha256),
        KeyKind::P384 => Some(HashAlgorithm::Sha384),
        KeyKind::P521 => Some(HashAlgorithm::Sha512),
        KeyKind::Ed25519 => None,
    }
}

fn verification_algorithm(
    kind: KeyKind,
    hash: Option<HashAlgorithm>,
) -> Option<&'static dyn VerificationAlgorithm> {
    use HashAlgorithm::{Sha256, Sha384, Sha512};
    Some(match (kind, hash) {
        (KeyKind::P256, Some(Sha256)) => &lc::ECDSA_P256_SHA256_ASN1,
        (KeyKind::P256, Some(Sha384)) => &lc::ECDSA_P256_SHA384_ASN1,
        (KeyKind::P256, Some(Sha512)) => &lc::ECDSA_P256_SHA512_ASN1,
        (KeyKind::P384, Some(Sha256)) => &lc::ECDSA_P384_SHA256_ASN1,
        (KeyKind::P384, Some(Sha384)) => &lc::ECDSA_P384_SHA384_ASN1,
        (KeyKind::P384, Some(Sha512)) => &lc::ECDSA_P384_SHA512_ASN1,
        (KeyKind::P521, Some(Sha256)) => &lc::ECDSA_P521_SHA256_ASN1,
        (KeyKind::P521, Some(Sha384)) => &lc::ECDSA_P521_SHA384_ASN1,
        (KeyKind::P521, Some(Sha512)) => &lc::ECDSA_P521_SHA512_ASN1,
        (KeyKind::Rsa { .. }, Some(Sha256)) => &lc::RSA_PKCS1_2048_8192_SHA256,
        (KeyKind::Rsa { .. }, Some(Sha384)) => &lc::RSA_PKCS1_2048_8192_SHA384,
        (KeyKind::Rsa { .. }, Some(Sha512)) => &lc::RSA_PKCS1_2048_8192_SHA512,
        (KeyKind::Ed25519, None) => &lc::ED25519,
        (KeyKind::Rsa { .. } | KeyKind::P256 | KeyKind::P384 | KeyKind::P521, None)
        | (KeyKind::Ed25519, Some(_)) => return None,
    })
}

/// Wraps the 32 bytes of an Ed25519 key into a SubjectPublicKeyInfo, DER (RFC 8410).
#[must_use]
pub fn ed25519_spki(public_key: &[u8; 32]) -> Vec<u8> {
    let spki = spki::SubjectPublicKeyInfo {
        algorithm: spki::AlgorithmIdentifier::<AnyRef<'_>> { oid: ED25519, parameters: None },
        subject_public_key: der::asn1::BitStringRef::from_bytes(public_key)
            .expect("32 bytes fit a bit string"),
    };
    spki.to_der().expect("a short structure encodes")
}

/// Why a key is not accepted or a signature does not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a SubjectPublicKeyInfo in DER.
    #[error("expected a public key as SubjectPublicKeyInfo in DER")]
    Encoding,
    /// An algorithm that is not accepted here.
    #[error("algorithm {algorithm} is not accepted for this key")]
    Algorithm {
        /// The algorithm's object identifier.
        algorithm: ObjectIdentifier,
    },
    /// A modulus too short to trust or too long to bear.
    #[error("RSA keys of 2048 to 8192 bits are accepted, found {bits}")]
    RsaSize {
        /// Length of the modulus.
        bits: usize,
    },
    /// Not a point on the curve, or a broken modulus.
    #[error("the key's numbers are not a key of its algorithm")]
    Point,
    /// The key does not sign that hash.
    #[error("a key of kind {kind} does not sign {} digests", hash.name())]
    Hash {
        /// The key's kind.
        kind: KeyKind,
        /// The hash asked for.
        hash: HashAlgorithm,
    },
    /// A digest of another hash.
    #[error("a {} digest has {} bytes, found {found}", hash.name(), hash.digest_len())]
    DigestLength {
        /// The hash named.
        hash: HashAlgorithm,
        /// Bytes found.
        found: usize,
    },
    /// Other bytes, another key, or an altered signature.
    #[error("the signature was not made over these bytes by this {kind} key")]
    Signature {
        /// The key's kind.
        kind: KeyKind,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};

    #[test]
    fn a_signature_holds_for_its_bytes_and_its_key_only() {
        let rng = SystemRandom::new();
        let pair = |_| EcdsaKeyPair::generate(&lc::ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let [signer, other] = [0, 1].map(pair);
        let spki = |pair: &EcdsaKeyPair| {
            use aws_lc_rs::encoding::AsDer as _;
            pair.public_key().as_der().unwrap().as_ref().to_vec()
        };
        let key = PublicKey::from_spki(&spki(&signer)).unwrap();
        let signature = signer.sign(&rng, b"message").unwrap();
        let digest = HashAlgorithm::Sha256.digest(b"message");
        key.verify_message(b"message", signature.as_ref()).unwrap();
        key.verify_digest(HashAlgorithm::Sha256, &digest, signature.as_ref()).unwrap();
        let refused = Err(Error::Signature { kind: KeyKind::P256 });
        assert_eq!(key.verify_message(b"massage", signature.as_ref()), refused);
        assert_eq!(key.verify_digest(HashAlgorithm::Sha256, &[7; 32], signature.as_ref()), refused);
        let other = PublicKey::from_spki(&spki(&other)).unwrap();
        assert_eq!(other.verify_message(b"message", signature.as_ref()), refused);
        assert_eq!(
            key.verify_digest(HashAlgorithm::Sha256, &digest[1..], signature.as_ref()),
            Err(Error::DigestLength { hash: HashAlgorithm::Sha256, found: 31 })
        );
    }

    #[test]
    fn an_ed25519_key_wraps_and_unwraps() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let bytes: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
        let key = PublicKey::from_spki(&ed25519_spki(&bytes)).unwrap();
        assert_eq!(key.ed25519_bytes(), Some(bytes));
        key.verify_message(b"text", pair.sign(b"text").as_ref()).unwrap();
        assert_eq!(
            key.verify_digest(HashAlgorithm::Sha512, &[0; 64], pair.sign(b"text").as_ref()),
            Err(Error::Hash { kind: KeyKind::Ed25519, hash: HashAlgorithm::Sha512 })
        );
    }

    #[test]
    fn names_read_back() {
        for details in KeyDetails::ALL {
            assert_eq!(KeyDetails::from_name(details.name()), Some(details));
        }
        assert_eq!(KeyDetails::from_name("PKIX_RSA_PSS_2048_SHA256"), None);
    }
}
