//! Signing keys of every kind that is verified.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self as lc, EcdsaKeyPair, KeyPair as _, PqdsaKeyPair, RsaKeyPair};
use countersign_verify::key::{HashAlgorithm, KeyDetails, KeyKind, Scheme, ed25519_spki};

/// A key that signs in one way.
pub struct SigningKey {
    details: KeyDetails,
    pair: Pair,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    /// Which aws-lc verifies but does not sign.
    P384Sha256(Box<p384::ecdsa::SigningKey>),
    Rsa(RsaKeyPair, &'static dyn lc::RsaEncoding),
    Ed25519(Box<ed25519_dalek::SigningKey>),
    MlDsa(PqdsaKeyPair),
}

impl SigningKey {
    /// A fresh key.
    #[must_use]
    pub fn generate(details: KeyDetails) -> Self {
        let ecdsa = |algorithm| Pair::Ecdsa(EcdsaKeyPair::generate(algorithm).unwrap());
        let mldsa = |algorithm| Pair::MlDsa(PqdsaKeyPair::generate(algorithm).unwrap());
        let pair = match (details.kind(), details.scheme()) {
            (KeyKind::P256, _) => ecdsa(&lc::ECDSA_P256_SHA256_ASN1_SIGNING),
            (KeyKind::P384, Scheme::Digest(HashAlgorithm::Sha256)) => {
                let scalar = aws_lc_rs::rand::generate::<[u8; 48]>(&SystemRandom::new()).unwrap();
                let key = p384::ecdsa::SigningKey::from_slice(&scalar.expose()).unwrap();
                Pair::P384Sha256(Box::new(key))
            }
            (KeyKind::P384, _) => ecdsa(&lc::ECDSA_P384_SHA384_ASN1_SIGNING),
            (KeyKind::P521, Scheme::Digest(HashAlgorithm::Sha256)) => {
                ecdsa(&lc::ECDSA_P521_SHA256_ASN1_SIGNING)
            }
            (KeyKind::P521, _) => ecdsa(&lc::ECDSA_P521_SHA512_ASN1_SIGNING),
            (KeyKind::Rsa { bits }, scheme) => {
                let size = match bits {
                    2048 => KeySize::Rsa2048,
                    3072 => KeySize::Rsa3072,
                    _ => KeySize::Rsa4096,
                };
                let encoding: &'static dyn lc::RsaEncoding = match scheme {
                    Scheme::Pss(_) => &lc::RSA_PSS_SHA256,
                    _ => &lc::RSA_PKCS1_SHA256,
                };
                Pair::Rsa(RsaKeyPair::generate(size).unwrap(), encoding)
            }
            (KeyKind::Ed25519, _) => {
                let seed = aws_lc_rs::rand::generate(&SystemRandom::new()).unwrap().expose();
                Pair::Ed25519(Box::new(ed25519_dalek::SigningKey::from_bytes(&seed)))
            }
            (KeyKind::MlDsa44, _) => mldsa(&lc::ML_DSA_44_SIGNING),
            (KeyKind::MlDsa65, _) => mldsa(&lc::ML_DSA_65_SIGNING),
            (KeyKind::MlDsa87, _) => mldsa(&lc::ML_DSA_87_SIGNING),
        };
        Self { details, pair }
    }

    /// What it is and how it signs.
    #[must_use]
    pub const fn details(&self) -> KeyDetails {
        self.details
    }

    /// SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Ecdsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Pair::P384Sha256(key) => {
                use p384::pkcs8::EncodePublicKey as _;
                key.verifying_key().to_public_key_der().unwrap().into_vec()
            }
            Pair::Rsa(pair, _) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => ed25519_spki(pair.verifying_key().as_bytes()),
            Pair::MlDsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    /// Signs `message` in this key's way.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&rng, message).unwrap().as_ref().to_vec(),
            Pair::P384Sha256(key) => {
                use p384::ecdsa::signature::hazmat::PrehashSigner as _;
                let digest = HashAlgorithm::Sha256.digest(message);
                let signature: p384::ecdsa::Signature = key.sign_prehash(&digest).unwrap();
                signature.to_der().as_bytes().to_vec()
            }
            Pair::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &rng, message, &mut signature).unwrap();
                signature
            }
            Pair::Ed25519(pair) if self.details == KeyDetails::Ed25519Ph => {
                use sha2::Digest as _;
                let digest = sha2::Sha512::new_with_prefix(message);
                pair.sign_prehashed(digest, None).unwrap().to_vec()
            }
            Pair::Ed25519(pair) => ed25519_dalek::Signer::sign(&**pair, message).to_vec(),
            Pair::MlDsa(pair) => {
                let mut signature = vec![0; pair.algorithm().signature_len()];
                let length = pair.sign(message, &mut signature).unwrap();
                signature.truncate(length);
                signature
            }
        }
    }
}
