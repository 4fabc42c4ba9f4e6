//! Keys that sign certificates and timestamps.
//!
//! [`Signer`] is all that issuing knows of a key, so that it may as well live in a hardware token. A key is
//! ECDSA, on P-256 unless one asks for P-384: that signs five times slower here. Ed25519 is none of them,
//! because verifiers in use refuse CAs with such keys.
//!
//! [`FileSigner`] holds a key in memory, out of a file ([`sealed`]: encrypted or not);
//! [`pkcs11::TokenSigner`] asks a token for each signature. The service of a cloud, or Vault's transit engine, is one more type with this trait: it knows its public key when it
//! opens, and signs by a request over the message's hash. Nothing else asks what kind of key it has.

pub mod pkcs11;
pub mod sealed;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair as _,
};
use const_oid::ObjectIdentifier;
use countersign_verify::key::HashAlgorithm;

/// How a key signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256Sha256,
    /// ECDSA on P-384 with SHA-384.
    EcdsaP384Sha384,
}

impl Algorithm {
    const ALL: [Self; 2] = [Self::EcdsaP256Sha256, Self::EcdsaP384Sha384];

    /// The signature algorithm of certificates and CMS (RFC 5758); its parameters are absent.
    #[must_use]
    pub const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::EcdsaP256Sha256 => ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"),
            Self::EcdsaP384Sha384 => ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"),
        }
    }

    /// The hash in it.
    #[must_use]
    pub const fn hash(self) -> HashAlgorithm {
        match self {
            Self::EcdsaP256Sha256 => HashAlgorithm::Sha256,
            Self::EcdsaP384Sha384 => HashAlgorithm::Sha384,
        }
    }

    fn implementation(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::EcdsaP256Sha256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::EcdsaP384Sha384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        }
    }
}

/// A key that signs certificates or timestamps.
pub trait Signer: Send + Sync {
    /// SubjectPublicKeyInfo, DER.
    fn spki(&self) -> &[u8];

    /// How it signs.
    fn algorithm(&self) -> Algorithm;

    /// A signature over `message`, which it hashes itself; ASN.1 DER.
    ///
    /// # Errors
    /// When the key or its device does not answer.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error>;

    /// Whether it would sign now; for readiness.
    ///
    /// # Errors
    /// As [`sign`](Self::sign).
    fn ready(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// A key in memory, out of a PKCS#8 file.
pub struct FileSigner {
    pair: EcdsaKeyPair,
    algorithm: Algorithm,
    spki: Vec<u8>,
}

impl FileSigner {
    /// A fresh key on P-256.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, Error> {
        Self::generate_for(Algorithm::EcdsaP256Sha256)
    }

    /// A fresh key that signs with `algorithm`.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate_for(algorithm: Algorithm) -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(algorithm.implementation());
        Self::new(pair.map_err(|_| Error::Randomness)?, algorithm)
    }

    /// Reads a key, PKCS#8, PEM.
    ///
    /// # Errors
    /// When it is not a private key on P-256 or P-384.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        Self::from_pkcs8(&sealed::open(pem, None)?)
    }

    /// Reads a key, PKCS#8, DER.
    ///
    /// # Errors
    /// When it is not a private key on P-256 or P-384.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        let read = |algorithm: Algorithm| {
            let pair = EcdsaKeyPair::from_pkcs8(algorithm.implementation(), der).ok()?;
            Some((pair, algorithm))
        };
        let (pair, algorithm) = Algorithm::ALL.into_iter().find_map(read).ok_or(Error::File)?;
        Self::new(pair, algorithm)
    }

    /// The key as PKCS#8, PEM: a secret.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn to_pem(&self) -> Result<zeroize::Zeroizing<String>, Error> {
        self.to_sealed_pem(None)
    }

    /// The key as PKCS#8, PEM, encrypted if there is a passphrase.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn to_sealed_pem(
        &self,
        passphrase: Option<&str>,
    ) -> Result<zeroize::Zeroizing<String>, Error> {
        let der = self.pair.to_pkcs8v1().map_err(|_| Error::File)?;
        sealed::seal(der.as_ref(), passphrase)
    }

    fn new(pair: EcdsaKeyPair, algorithm: Algorithm) -> Result<Self, Error> {
        let spki = pair.public_key().as_der().map_err(|_| Error::File)?.as_ref().to_vec();
        Ok(Self { pair, algorithm, spki })
    }
}

impl Signer for FileSigner {
    fn spki(&self) -> &[u8] {
        &self.spki
    }

    fn algorithm(&self) -> Algorithm {
        self.algorithm
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
    #[error("expected a private key on P-256 or P-384 in PKCS#8, PEM")]
    File,
    /// A file that is encrypted.
    #[error("the key is encrypted, and there is no passphrase")]
    PassphraseNeeded,
    /// A file that is encrypted otherwise.
    #[error("the passphrase does not open the key")]
    Passphrase,
    /// The key did not sign.
    #[error("the key did not sign")]
    Sign,
    /// The token is away, or does not answer; it may come back.
    #[error("the hardware token with the key does not answer")]
    Token,
    /// The token refuses the PIN. Each attempt more may lock it.
    #[error(
        "the hardware token refuses the PIN, which is not tried again until the file with it changes"
    )]
    TokenPin,
    /// The token answers, and does not have the key.
    #[error("the hardware token does not have the key")]
    TokenKey,
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_verify::key::PublicKey;

    #[test]
    fn a_key_of_either_curve_comes_back_from_its_file_and_signs() {
        for algorithm in Algorithm::ALL {
            let key = FileSigner::generate_for(algorithm).unwrap();
            let again = FileSigner::from_pem(&key.to_pem().unwrap()).unwrap();
            assert_eq!((again.algorithm(), again.spki()), (algorithm, key.spki()));
            let signature = again.sign(b"message").unwrap();
            let public = PublicKey::from_spki(key.spki()).unwrap();
            public.verify_with_oid(algorithm.oid(), b"message", &signature).unwrap();
        }
    }

    #[test]
    fn a_file_without_a_private_key_is_refused() {
        let pem = FileSigner::generate().unwrap().to_pem().unwrap();
        for near_miss in ["", "key", &pem[..pem.len() / 2], &pem.replace("PRIVATE", "PUBLIC")] {
            assert_eq!(FileSigner::from_pem(near_miss).unwrap_err(), Error::File);
        }
    }
}
