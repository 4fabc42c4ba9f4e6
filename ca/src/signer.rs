//! Keys that sign certificates and timestamps.
//!
//! [`Signer`] is all that issuing knows of a key, so that it may as well live in a hardware token. The
//! one kind so far is a PKCS#8 file (RFC 5208, PEM) of an ECDSA key on P-256: the online keys of an
//! instance sign with that curve, here five times as fast as P-384.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use const_oid::ObjectIdentifier;

/// ecdsa-with-SHA256 of RFC 5758.
pub const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// A key that signs with ECDSA and SHA-256 on P-256.
pub trait Signer: Send + Sync {
    /// SubjectPublicKeyInfo, DER.
    fn spki(&self) -> &[u8];

    /// A signature over `message`, ASN.1 DER.
    ///
    /// # Errors
    /// When the key or its device does not answer.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error>;
}

/// A key in memory, out of a PKCS#8 file.
pub struct FileSigner {
    pair: EcdsaKeyPair,
    spki: Vec<u8>,
}

impl FileSigner {
    /// A fresh key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        Self::new(pair.map_err(|_| Error::Randomness)?)
    }

    /// Reads a key, PKCS#8, PEM.
    ///
    /// # Errors
    /// When it is not a private key on P-256.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let (label, der) = der::pem::decode_vec(pem.as_bytes()).map_err(|_| Error::File)?;
        let der = zeroize::Zeroizing::new(der);
        if label != "PRIVATE KEY" {
            return Err(Error::File);
        }
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der);
        Self::new(pair.map_err(|_| Error::File)?)
    }

    /// The key as PKCS#8, PEM: a secret.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn to_pem(&self) -> Result<zeroize::Zeroizing<String>, Error> {
        let der = self.pair.to_pkcs8v1().map_err(|_| Error::File)?;
        let pem = der::pem::encode_string("PRIVATE KEY", der::pem::LineEnding::LF, der.as_ref());
        pem.map(zeroize::Zeroizing::new).map_err(|_| Error::File)
    }

    fn new(pair: EcdsaKeyPair) -> Result<Self, Error> {
        let spki = pair.public_key().as_der().map_err(|_| Error::File)?.as_ref().to_vec();
        Ok(Self { pair, spki })
    }
}

impl Signer for FileSigner {
    fn spki(&self) -> &[u8] {
        &self.spki
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        Ok(signature.map_err(|_| Error::Sign)?.as_ref().to_vec())
    }
}

impl std::fmt::Debug for FileSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSigner").finish_non_exhaustive()
    }
}

/// Why a key cannot be had or does not sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No randomness.
    #[error("the system gave no randomness for a key")]
    Randomness,
    /// Not a key file.
    #[error("expected a private key on P-256 in PKCS#8, PEM")]
    File,
    /// The key did not sign.
    #[error("the key did not sign")]
    Sign,
}
