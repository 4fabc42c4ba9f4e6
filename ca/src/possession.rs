//! Proof of possession: whoever asks holds the private key.
//!
//! Either a signature over the token's subject (or verified e-mail address), or a certificate signing
//! request (RFC 2986) signed by its own key. Of a request nothing but the key is used. Accepted keys
//! (see `strength.rs`): ECDSA on P-256, P-384 and P-521 with the hash of the curve's size, RSA of 2048, 3072
//! or 4096 bits with e = 65537 and PKCS#1 v1.5, Ed25519; each comes out in its one canonical encoding.

mod strength;

pub use strength::Weakness;

use crate::identity::Identity;
use countersign_verify::key::{self, KeyKind, PublicKey};
use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use der::{Decode as _, Encode as _, Sequence};

/// What a client sends beside its token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// A public key and a signature over a challenge.
    PublicKey {
        /// PEM (`PUBLIC KEY` or `RSA PUBLIC KEY`) or SubjectPublicKeyInfo in DER.
        key: Vec<u8>,
        /// The signature.
        proof: Vec<u8>,
    },
    /// A certificate signing request, PEM.
    SigningRequest(Vec<u8>),
}

/// A key that its holder has proven to hold, as SubjectPublicKeyInfo in DER. Only [`check`] makes one.
#[derive(Clone, Debug)]
pub struct Possessed(PublicKey);

impl Possessed {
    /// SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        self.0.spki()
    }
}

/// Checks that the sender of `request` holds the key it is about.
///
/// # Errors
/// When the key is not accepted or the proof does not hold.
pub fn check(request: &Request, identity: &Identity) -> Result<Possessed, Error> {
    match request {
        Request::PublicKey { key, proof } => {
            let key = strength::accepted(&read_key(key)?)?;
            let holds = |challenge: &String| {
                let der = der_signature(&key, proof);
                key.verify_message(challenge.as_bytes(), &der).is_ok()
            };
            let proven = identity.challenges().iter().any(holds);
            if proven { Ok(Possessed(key)) } else { Err(Error::Proof) }
        }
        Request::SigningRequest(pem) => signing_request(pem).map(Possessed),
    }
}

/// CertificationRequest; the info stays as the bytes that are signed.
#[derive(Sequence)]
struct SigningRequest<'a> {
    info: AnyRef<'a>,
    algorithm: Algorithm<'a>,
    signature: BitStringRef<'a>,
}

#[derive(Sequence)]
struct Algorithm<'a> {
    oid: ObjectIdentifier,
    #[asn1(optional = "true")]
    parameters: Option<AnyRef<'a>>,
}

/// CertificationRequestInfo; subject and attributes are passed over, whatever they hold.
#[derive(Sequence)]
struct Info<'a> {
    version: u8,
    subject: AnyRef<'a>,
    key: AnyRef<'a>,
    #[asn1(optional = "true")]
    attributes: Option<AnyRef<'a>>,
}

/// The key of a certificate signing request, PEM, which it has signed itself.
///
/// # Errors
/// When it is none, the key is not accepted, or the signature does not hold.
pub fn signing_request(pem: &[u8]) -> Result<PublicKey, Error> {
    let malformed = |_| Error::SigningRequest;
    let (label, der) = read_pem(pem).ok_or(Error::SigningRequest)?;
    if !matches!(label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
        return Err(Error::SigningRequest);
    }
    let request = SigningRequest::from_der(&der).map_err(malformed)?;
    let info: Info<'_> = request.info.decode_as().map_err(malformed)?;
    let key = strength::accepted(&info.key.to_der().map_err(malformed)?)?;
    let signed = request.info.to_der().map_err(malformed)?;
    let signature = request.signature.as_bytes().ok_or(Error::SigningRequest)?;
    key.verify_with_oid(request.algorithm.oid, &signed, signature).map_err(|_| Error::Proof)?;
    // The pair of key and hash must be one that the key is used with later.
    key.verify_message(&signed, signature).map_err(|_| Error::Hash { kind: key.kind() })?;
    Ok(key)
}

/// SubjectPublicKeyInfo, DER, out of what clients send for a key.
fn read_key(sent: &[u8]) -> Result<Vec<u8>, Error> {
    match read_pem(sent) {
        Some((label, der)) if label == "PUBLIC KEY" => Ok(der),
        Some((label, der)) if label == "RSA PUBLIC KEY" => {
            let key = PublicKey::from_pkcs1(&der).map_err(strength::refused)?;
            Ok(key.spki().to_vec())
        }
        Some(_) => Err(Error::KeyText),
        None if sent.first() == Some(&0x30) => Ok(sent.to_vec()),
        None => Err(Error::KeyText),
    }
}

/// The first PEM block, leniently: text around it, any line length, CRLF and blanks are accepted, as
/// clients in use send all of these.
fn read_pem(text: &[u8]) -> Option<(String, Vec<u8>)> {
    use base64::Engine as _;
    let text = std::str::from_utf8(text).ok()?;
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).ok()?;
    Some((label.to_owned(), der))
}

#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// ECDSA signatures come as ASN.1 DER or as r and s side by side.
fn der_signature(key: &PublicKey, proof: &[u8]) -> Vec<u8> {
    let width = match key.kind() {
        KeyKind::P256 => 32,
        KeyKind::P384 => 48,
        KeyKind::P521 => 66,
        _ => return proof.to_vec(),
    };
    let encode = |(r, s): (&[u8], &[u8])| {
        EcdsaSignature { r: UintRef::new(r).ok()?, s: UintRef::new(s).ok()? }.to_der().ok()
    };
    let raw = (proof.len() == 2 * width).then(|| proof.split_at(width));
    raw.and_then(encode).unwrap_or_else(|| proof.to_vec())
}

/// Why a key is not certified.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a key in one of the accepted forms.
    #[error("expected a public key in PEM: PUBLIC KEY or RSA PUBLIC KEY")]
    KeyText,
    /// A key that is not accepted.
    #[error("the public key is not accepted: {0}")]
    Key(key::Error),
    /// A key that could be guessed or computed.
    #[error(transparent)]
    Weak(#[from] Weakness),
    /// A request signed with an unusual hash.
    #[error("the signing request is not signed with the hash that belongs to a {kind} key")]
    Hash {
        /// The key's kind.
        kind: KeyKind,
    },
    /// Not a signing request.
    #[error("expected a certificate signing request in PEM")]
    SigningRequest,
    /// The proof is not by this key over this identity.
    #[error(
        "the proof of possession does not hold: expected a signature by the key over the token's subject or verified e-mail address"
    )]
    Proof,
}

impl Error {
    /// A stable code for machines.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::KeyText | Self::Key(_) => "KEY_REFUSED",
            Self::Weak(_) => "KEY_WEAK",
            Self::SigningRequest => "SIGNING_REQUEST_MALFORMED",
            Self::Hash { .. } | Self::Proof => "PROOF_OF_POSSESSION",
        }
    }

    /// What whoever sent the request can do.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::KeyText | Self::Key(_) => {
                "send a public key in PEM: ECDSA on P-256, P-384 or P-521, RSA, or Ed25519"
            }
            Self::Weak(_) => "make a fresh key, best ECDSA on P-256",
            Self::SigningRequest => "send the signing request in PEM, in base64 once more",
            Self::Hash { .. } => {
                "sign with SHA-256 (P-256, RSA), SHA-384 (P-384) or SHA-512 (P-521)"
            }
            Self::Proof => {
                "sign the token's subject, or its verified e-mail address, with the key you send"
            }
        }
    }
}
