//! Public keys, the algorithms they are used with, and the one signature check that all of this
//! crate calls. The primitives are aws-lc-rs.
//!
//! Keys are SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7) in DER. Accepted: ECDSA on P-256, P-384
//! and P-521, RSA of 2048 to 8192 bits, Ed25519, ML-DSA (FIPS 204). How a key signs is a [`Scheme`].

mod ed25519ph;

use crate::encoding;
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

    /// By protobuf number, which protobuf JSON allows in place of the name.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        Self::ALL.get(place).copied()
    }

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

    /// The digest of several pieces, one after the other.
    #[must_use]
    pub fn digest_of<'a>(self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut context = digest::Context::new(self.algorithm());
        pieces.into_iter().for_each(|piece| context.update(piece));
        context.finish().as_ref().to_vec()
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// How a key signs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Scheme {
    /// ECDSA (ASN.1 DER), or RSA with PKCS#1 v1.5, over a digest.
    Digest(HashAlgorithm),
    /// RSA-PSS over a digest; the salt is as long as the digest.
    Pss(HashAlgorithm),
    /// Ed25519ph (RFC 8032, section 5.1) over a SHA-512 digest, without context.
    Ed25519Ph,
    /// Over the whole message: Ed25519, or ML-DSA without context.
    Message,
}

impl Scheme {
    /// The hash of the digest that is signed; `None` where the message itself is.
    #[must_use]
    pub const fn hash(self) -> Option<HashAlgorithm> {
        match self {
            Self::Digest(hash) | Self::Pss(hash) => Some(hash),
            Self::Ed25519Ph => Some(HashAlgorithm::Sha512),
            Self::Message => None,
        }
    }
}

/// A key type together with the way it signs: `PublicKeyDetails` of the Sigstore protobufs. Those that
/// are deprecated and pin no size are not among them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum KeyDetails {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256Sha256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384Sha384,
    /// ECDSA on P-521 with SHA-512.
    EcdsaP521Sha512,
    /// ECDSA on P-384 with SHA-256; in old bundles only.
    EcdsaP384Sha256,
    /// ECDSA on P-521 with SHA-256; in old bundles only.
    EcdsaP521Sha256,
    /// RSA of 2048 bits, PKCS#1 v1.5 with SHA-256.
    Rsa2048Sha256,
    /// RSA of 3072 bits, PKCS#1 v1.5 with SHA-256.
    Rsa3072Sha256,
    /// RSA of 4096 bits, PKCS#1 v1.5 with SHA-256.
    Rsa4096Sha256,
    /// RSA of 2048 bits, PSS with SHA-256.
    RsaPss2048Sha256,
    /// RSA of 3072 bits, PSS with SHA-256.
    RsaPss3072Sha256,
    /// RSA of 4096 bits, PSS with SHA-256.
    RsaPss4096Sha256,
    /// Ed25519 over the message itself.
    Ed25519,
    /// Ed25519ph, over the SHA-512 digest.
    Ed25519Ph,
    /// ML-DSA-44 over the message itself.
    MlDsa44,
    /// ML-DSA-65 over the message itself.
    MlDsa65,
    /// ML-DSA-87 over the message itself.
    MlDsa87,
}

use HashAlgorithm::{Sha256, Sha384, Sha512};

/// Each with its protobuf name and number, the kind of key and how it signs.
const DETAILS: [(KeyDetails, &str, u8, KeyKind, Scheme); 16] = {
    use KeyDetails as D;
    use KeyKind::{Ed25519, MlDsa44, MlDsa65, MlDsa87, P256, P384, P521, Rsa};
    use Scheme::{Digest, Message, Pss};
    [
        (D::EcdsaP256Sha256, "PKIX_ECDSA_P256_SHA_256", 5, P256, Digest(Sha256)),
        (D::EcdsaP384Sha384, "PKIX_ECDSA_P384_SHA_384", 12, P384, Digest(Sha384)),
        (D::EcdsaP521Sha512, "PKIX_ECDSA_P521_SHA_512", 13, P521, Digest(Sha512)),
        (D::EcdsaP384Sha256, "PKIX_ECDSA_P384_SHA_256", 19, P384, Digest(Sha256)),
        (D::EcdsaP521Sha256, "PKIX_ECDSA_P521_SHA_256", 20, P521, Digest(Sha256)),
        (D::Rsa2048Sha256, "PKIX_RSA_PKCS1V15_2048_SHA256", 9, Rsa { bits: 2048 }, Digest(Sha256)),
        (D::Rsa3072Sha256, "PKIX_RSA_PKCS1V15_3072_SHA256", 10, Rsa { bits: 3072 }, Digest(Sha256)),
        (D::Rsa4096Sha256, "PKIX_RSA_PKCS1V15_4096_SHA256", 11, Rsa { bits: 4096 }, Digest(Sha256)),
        (D::RsaPss2048Sha256, "PKIX_RSA_PSS_2048_SHA256", 16, Rsa { bits: 2048 }, Pss(Sha256)),
        (D::RsaPss3072Sha256, "PKIX_RSA_PSS_3072_SHA256", 17, Rsa { bits: 3072 }, Pss(Sha256)),
        (D::RsaPss4096Sha256, "PKIX_RSA_PSS_4096_SHA256", 18, Rsa { bits: 4096 }, Pss(Sha256)),
        (D::Ed25519, "PKIX_ED25519", 7, Ed25519, Message),
        (D::Ed25519Ph, "PKIX_ED25519_PH", 8, Ed25519, Scheme::Ed25519Ph),
        (D::MlDsa44, "ML_DSA_44", 23, MlDsa44, Message),
        (D::MlDsa65, "ML_DSA_65", 21, MlDsa65, Message),
        (D::MlDsa87, "ML_DSA_87", 22, MlDsa87, Message),
    ]
};

impl KeyDetails {
    fn row(self) -> (Self, &'static str, u8, KeyKind, Scheme) {
        *DETAILS.iter().find(|row| row.0 == self).expect("each variant has its row")
    }

    /// The protobuf name: `PKIX_ECDSA_P256_SHA_256` and so on.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The inverse of [`name`](Self::name); `None` for the names that are not supported.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        DETAILS.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// By protobuf number, which protobuf JSON allows in place of the name.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        DETAILS.iter().find(|row| i64::from(row.2) == number).map(|row| row.0)
    }

    /// The kind of key.
    #[must_use]
    pub fn kind(self) -> KeyKind {
        self.row().3
    }

    /// How the key signs.
    #[must_use]
    pub fn scheme(self) -> Scheme {
        self.row().4
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
    /// ML-DSA-44.
    MlDsa44,
    /// ML-DSA-65.
    MlDsa65,
    /// ML-DSA-87.
    MlDsa87,
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::P256 => f.write_str("ECDSA P-256"),
            Self::P384 => f.write_str("ECDSA P-384"),
            Self::P521 => f.write_str("ECDSA P-521"),
            Self::Rsa { bits } => write!(f, "RSA {bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::MlDsa44 => f.write_str("ML-DSA-44"),
            Self::MlDsa65 => f.write_str("ML-DSA-65"),
            Self::MlDsa87 => f.write_str("ML-DSA-87"),
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
const ML_DSA_44: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17");
const ML_DSA_65: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18");
const ML_DSA_87: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19");
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
            (ML_DSA_44, None) => KeyKind::MlDsa44,
            (ML_DSA_65, None) => KeyKind::MlDsa65,
            (ML_DSA_87, None) => KeyKind::MlDsa87,
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
            (EC_PUBLIC_KEY, Some(Ok(curve))) => return Err(Error::Curve { curve }),
            (algorithm, _) => return Err(Error::Algorithm { algorithm }),
        };
        let usual = verification_algorithm(kind, schemes(kind)[0]).expect("each kind has its own");
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

    /// Reads a PEM text with one `PUBLIC KEY` (SubjectPublicKeyInfo) or `RSA PUBLIC KEY` (RFC 8017).
    ///
    /// # Errors
    /// As [`from_spki`](Self::from_spki), and for other or several PEM blocks.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let (label, der) = encoding::from_pem(pem.as_bytes()).ok_or(Error::Pem)?;
        match label {
            "PUBLIC KEY" => Self::from_spki(&der),
            "RSA PUBLIC KEY" => Self::from_pkcs1(&der),
            other => Err(Error::OtherPem { found: other.chars().take(100).collect() }),
        }
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

    /// How this key may sign, the usual way first. Keys on larger curves once signed SHA-256 digests.
    #[must_use]
    pub const fn schemes(&self) -> &'static [Scheme] {
        schemes(self.kind)
    }

    /// The protobuf name for this key signing by `scheme`; `None` for RSA sizes without one.
    #[must_use]
    pub fn details_with(&self, scheme: Scheme) -> Option<KeyDetails> {
        DETAILS.iter().find(|row| row.3 == self.kind && row.4 == scheme).map(|row| row.0)
    }

    /// The protobuf name for this key signing the usual way; `None` for RSA sizes without one.
    #[must_use]
    pub fn details(&self) -> Option<KeyDetails> {
        self.details_with(self.schemes()[0])
    }

    /// The hash that this key signs unless told otherwise; `None` for Ed25519 and ML-DSA.
    #[must_use]
    pub const fn hash(&self) -> Option<HashAlgorithm> {
        self.schemes()[0].hash()
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

    /// Checks a signature by `scheme` over a digest that was made with the scheme's hash.
    ///
    /// # Errors
    /// When it does not hold, the digest has another length, or the key does not sign digests so.
    pub fn verify_digest_by(
        &self,
        scheme: Scheme,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        let unfit = Error::Scheme { kind: self.kind };
        let hash = scheme.hash().filter(|_| self.schemes().contains(&scheme)).ok_or(unfit)?;
        let failed = Error::Signature { kind: self.kind };
        if scheme == Scheme::Ed25519Ph {
            let key = self.ed25519_bytes().ok_or(Error::Encoding)?;
            let digest =
                digest.try_into().map_err(|_| Error::DigestLength { hash, found: digest.len() })?;
            return if ed25519ph::verify(&key, digest, signature) { Ok(()) } else { Err(failed) };
        }
        let imported = digest::Digest::import_less_safe(digest, hash.algorithm())
            .map_err(|_| Error::DigestLength { hash, found: digest.len() })?;
        let algorithm =
            verification_algorithm(self.kind, scheme).ok_or(Error::Scheme { kind: self.kind })?;
        let verdict = if self.schemes()[0] == scheme {
            self.parsed.verify_digest_sig(&imported, signature)
        } else {
            UnparsedPublicKey::new(algorithm, &self.spki).verify_digest(&imported, signature)
        };
        verdict.map_err(|_| failed)
    }

    /// Checks a signature over a digest that was made with `hash`: ECDSA, RSA PKCS#1 v1.5 or Ed25519ph.
    ///
    /// # Errors
    /// When it does not hold, the digest has another length, or the key does not sign that hash.
    pub fn verify_digest(
        &self,
        hash: HashAlgorithm,
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), Error> {
        let scheme = self.schemes().iter().find(|scheme| scheme.hash() == Some(hash));
        let scheme = scheme.ok_or(Error::Hash { kind: self.kind, hash })?;
        self.verify_digest_by(*scheme, digest, signature)
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
        let scheme = Scheme::Digest(hash);
        verification_algorithm(self.kind, scheme).ok_or(Error::Hash { kind: self.kind, hash })
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PublicKey {}

const fn schemes(kind: KeyKind) -> &'static [Scheme] {
    use Scheme::{Digest, Ed25519Ph, Message, Pss};
    match kind {
        KeyKind::P256 => &[Digest(Sha256)],
        KeyKind::P384 => &[Digest(Sha384), Digest(Sha256)],
        KeyKind::P521 => &[Digest(Sha512), Digest(Sha256)],
        KeyKind::Rsa { .. } => &[Digest(Sha256), Pss(Sha256)],
        KeyKind::Ed25519 => &[Message, Ed25519Ph],
        KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => &[Message],
    }
}

/// Ed25519ph is not among them: aws-lc has none.
fn verification_algorithm(
    kind: KeyKind,
    scheme: Scheme,
) -> Option<&'static dyn VerificationAlgorithm> {
    use Scheme::{Digest, Message, Pss};
    Some(match (kind, scheme) {
        (KeyKind::P256, Digest(Sha256)) => &lc::ECDSA_P256_SHA256_ASN1,
        (KeyKind::P256, Digest(Sha384)) => &lc::ECDSA_P256_SHA384_ASN1,
        (KeyKind::P256, Digest(Sha512)) => &lc::ECDSA_P256_SHA512_ASN1,
        (KeyKind::P384, Digest(Sha256)) => &lc::ECDSA_P384_SHA256_ASN1,
        (KeyKind::P384, Digest(Sha384)) => &lc::ECDSA_P384_SHA384_ASN1,
        (KeyKind::P384, Digest(Sha512)) => &lc::ECDSA_P384_SHA512_ASN1,
        (KeyKind::P521, Digest(Sha256)) => &lc::ECDSA_P521_SHA256_ASN1,
        (KeyKind::P521, Digest(Sha384)) => &lc::ECDSA_P521_SHA384_ASN1,
        (KeyKind::P521, Digest(Sha512)) => &lc::ECDSA_P521_SHA512_ASN1,
        (KeyKind::Rsa { .. }, Digest(Sha256)) => &lc::RSA_PKCS1_2048_8192_SHA256,
        (KeyKind::Rsa { .. }, Digest(Sha384)) => &lc::RSA_PKCS1_2048_8192_SHA384,
        (KeyKind::Rsa { .. }, Digest(Sha512)) => &lc::RSA_PKCS1_2048_8192_SHA512,
        (KeyKind::Rsa { .. }, Pss(Sha256)) => &lc::RSA_PSS_2048_8192_SHA256,
        (KeyKind::Ed25519, Message) => &lc::ED25519,
        (KeyKind::MlDsa44, Message) => &lc::ML_DSA_44,
        (KeyKind::MlDsa65, Message) => &lc::ML_DSA_65,
        (KeyKind::MlDsa87, Message) => &lc::ML_DSA_87,
        _ => return None,
    })
}

/// Wraps the 32 bytes of an Ed25519 key into a SubjectPublicKeyInfo, DER (RFC 8410).
#[must_use]
pub fn ed25519_spki(public_key: &[u8; 32]) -> Vec<u8> {
    bare_spki(ED25519, public_key)
}

/// Wraps the 1312 bytes of an ML-DSA-44 key into a SubjectPublicKeyInfo, DER (RFC 9881).
#[must_use]
pub fn ml_dsa_44_spki(public_key: &[u8; 1312]) -> Vec<u8> {
    bare_spki(ML_DSA_44, public_key)
}

fn bare_spki(oid: ObjectIdentifier, public_key: &[u8]) -> Vec<u8> {
    let spki = spki::SubjectPublicKeyInfo {
        algorithm: spki::AlgorithmIdentifier::<AnyRef<'_>> { oid, parameters: None },
        subject_public_key: der::asn1::BitStringRef::from_bytes(public_key)
            .expect("some bytes fit a bit string"),
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
    /// Not a public key in PEM.
    #[error("expected one PEM block PUBLIC KEY or RSA PUBLIC KEY")]
    Pem,
    /// Another thing in PEM.
    #[error("expected a PEM block PUBLIC KEY or RSA PUBLIC KEY, found {found}")]
    OtherPem {
        /// Its label.
        found: String,
    },
    /// A key that signs whole messages, or otherwise.
    #[error("a {kind} key does not sign digests in this way")]
    Scheme {
        /// The key's kind.
        kind: KeyKind,
    },
    /// An algorithm that is not accepted here.
    #[error("algorithm {algorithm} is not accepted for this key")]
    Algorithm {
        /// The algorithm's object identifier.
        algorithm: ObjectIdentifier,
    },
    /// A curve that is not accepted.
    #[error("expected a key on curve P-256, P-384 or P-521, found one on {curve}")]
    Curve {
        /// The curve's object identifier.
        curve: ObjectIdentifier,
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
            Err(Error::Signature { kind: KeyKind::Ed25519 }),
            "not Ed25519ph"
        );
    }

    #[test]
    fn names_and_numbers_read_back() {
        for (details, name, number, kind, scheme) in DETAILS {
            assert_eq!(KeyDetails::from_name(name), Some(details));
            assert_eq!(KeyDetails::from_number(i64::from(number)), Some(details));
            assert_eq!((details.name(), details.kind(), details.scheme()), (name, kind, scheme));
            assert!(schemes(kind).contains(&scheme), "{name}");
        }
        assert_eq!(KeyDetails::from_name("PKIX_RSA_PSS"), None, "pins no size");
    }

    /// The vector of RFC 8032, section 7.3: Ed25519ph over `abc`.
    #[test]
    fn ed25519ph_matches_the_known_answer() {
        let hex = |text| crate::encoding::from_hex(text).unwrap();
        let key = hex("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf");
        let key = PublicKey::from_spki(&ed25519_spki(&key[..].try_into().unwrap())).unwrap();
        let signature = hex(concat!(
            "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41",
            "31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"
        ));
        let digest = Sha512.digest(b"abc");
        key.verify_digest_by(Scheme::Ed25519Ph, &digest, &signature).unwrap();
        let failed = Err(Error::Signature { kind: KeyKind::Ed25519 });
        assert_eq!(key.verify_message(b"abc", &signature), failed, "not pure Ed25519");
        for place in 0..signature.len() {
            let mut altered = signature.clone();
            altered[place] ^= 1;
            assert_eq!(key.verify_digest_by(Scheme::Ed25519Ph, &digest, &altered), failed);
        }
        assert_eq!(
            key.verify_digest_by(Scheme::Ed25519Ph, &digest[1..], &signature),
            Err(Error::DigestLength { hash: Sha512, found: 63 })
        );
    }
}
