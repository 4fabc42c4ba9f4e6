//! The certificates that are issued, to the byte: signing certificates (Fulcio's profile), CAs and the
//! timestamp certificate.
//!
//! A signing certificate: version 3, random serial number of 159 bits, ten minutes from now, empty
//! subject, and the extensions key usage (critical, digitalSignature), extended key usage
//! (codeSigning), subject and authority key identifier, subject alternative name (critical), Fulcio's
//! claims, and last the receipt of the certificate log. Precertificate and final certificate come out
//! of one builder and differ in the last extension only. A critical extended key usage or a missing
//! authority key identifier makes verifiers in use refuse the chain.

use crate::identity::{Identity, San};
use crate::signer::{self, ECDSA_SHA256, Signer};
use aws_lc_rs::digest;
use const_oid::ObjectIdentifier;
use countersign_verify::certificate::{
    AUTHORITY_KEY_ID, BASIC_CONSTRAINTS, CODE_SIGNING, Certificate, EXTENDED_KEY_USAGE, KEY_USAGE,
    POISON, SCT_LIST, SUBJECT_ALT_NAME, SUBJECT_KEY_ID, TIME_STAMPING, sigstore_oid,
};
use countersign_verify::sct::{Sct, list_extension};
use der::asn1::{
    Any, AnyRef, BitStringRef, Ia5String, OctetString, UintRef, UtcTime, Utf8StringRef,
};
use der::{Decode as _, Encode as _, Sequence};
use jiff::{SignedDuration, Timestamp};
use spki::{AlgorithmIdentifier, SubjectPublicKeyInfoRef};
use std::time::Duration;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::{GeneralName, OtherName};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, SubjectAltName,
};
use x509_cert::time::{Time, Validity};

/// How long a signing certificate is valid.
pub const LIFETIME: SignedDuration = SignedDuration::from_mins(10);

/// KeyUsage with digitalSignature alone.
const DIGITAL_SIGNATURE: [u8; 4] = [0x03, 0x02, 0x07, 0x80];
/// KeyUsage with keyCertSign and cRLSign.
const CERT_SIGN: [u8; 4] = [0x03, 0x02, 0x01, 0x06];

#[derive(Sequence)]
struct Tbs<'a> {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: u8,
    serial: UintRef<'a>,
    signature: AlgorithmIdentifier<AnyRef<'a>>,
    issuer: AnyRef<'a>,
    validity: Validity,
    subject: AnyRef<'a>,
    spki: AnyRef<'a>,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Vec<Extension>,
}

#[derive(Sequence)]
struct Signed<'a> {
    tbs: AnyRef<'a>,
    algorithm: AlgorithmIdentifier<AnyRef<'a>>,
    signature: BitStringRef<'a>,
}

const ALGORITHM: AlgorithmIdentifier<AnyRef<'static>> =
    AlgorithmIdentifier { oid: ECDSA_SHA256, parameters: None };

/// An authority that issues: its certificate and its key.
pub struct Issuer<'a> {
    /// The issuing CA's certificate.
    pub certificate: &'a Certificate,
    /// Its key.
    pub signer: &'a dyn Signer,
}

/// A signing certificate that is decided in all but the log's receipt. Signing consumes it.
pub struct Prepared {
    body: Body,
}

struct Body {
    serial: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    extensions: Vec<Extension>,
}

impl Prepared {
    /// Decides the certificate for `identity` and `spki` (DER), to be issued by `issuer` at `now`.
    ///
    /// # Errors
    /// When the identity does not fit a certificate, or the issuer is not valid that long.
    pub fn new(
        identity: &Identity,
        spki: &[u8],
        serial: &[u8; 20],
        issuer: &Certificate,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let not_before = Timestamp::from_second(now.as_second()).map_err(|_| Error::Time)?;
        let not_after = not_before + LIFETIME;
        if not_before < issuer.not_before() || issuer.not_after() < not_after {
            return Err(Error::IssuerExpires { until: issuer.not_after() });
        }
        let mut extensions = vec![
            extension(KEY_USAGE, true, DIGITAL_SIGNATURE.to_vec()),
            extension(EXTENDED_KEY_USAGE, false, usage(CODE_SIGNING)?),
            extension(SUBJECT_KEY_ID, false, key_id(spki)?),
            extension(AUTHORITY_KEY_ID, false, authority_key_id(issuer)?),
            extension(SUBJECT_ALT_NAME, true, subject_alt_name(identity.san())?),
        ];
        for (&number, text) in identity.claims() {
            // Numbers 1 to 6 are bare text, all later ones a DER UTF8String.
            let value = if number < 7 {
                text.as_bytes().to_vec()
            } else {
                Utf8StringRef::new(text)?.to_der()?
            };
            extensions.push(extension(sigstore_oid(number), false, value));
        }
        Ok(Self {
            body: Body {
                serial: serial.to_vec(),
                issuer: issuer.subject().to_vec(),
                subject: vec![0x30, 0],
                spki: spki.to_vec(),
                not_before,
                not_after,
                extensions,
            },
        })
    }

    /// Signs the precertificate, DER; what remains becomes the certificate.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn sign_precertificate(
        self,
        signer: &dyn Signer,
    ) -> Result<(Vec<u8>, Precertified), Error> {
        let poison = extension(POISON, true, vec![5, 0]);
        let precertificate = self.body.sign(&poison, signer)?;
        Ok((precertificate, Precertified { body: self.body }))
    }
}

/// A signing certificate whose precertificate is signed.
pub struct Precertified {
    body: Body,
}

impl Precertified {
    /// Signs the final certificate, DER, with the log's receipt in it.
    ///
    /// # Errors
    /// When the key does not sign.
    pub fn sign(self, sct: Sct, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
        self.body.sign(&extension(SCT_LIST, false, list_extension(&[sct])), signer)
    }
}

impl Body {
    fn sign(&self, last: &Extension, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
        let mut extensions = self.extensions.clone();
        extensions.push(last.clone());
        self.sign_with(extensions, signer)
    }

    fn sign_with(&self, extensions: Vec<Extension>, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
        let tbs = Tbs {
            version: 2,
            serial: UintRef::new(&self.serial)?,
            signature: ALGORITHM,
            issuer: AnyRef::from_der(&self.issuer)?,
            validity: Validity::new(time(self.not_before)?, time(self.not_after)?),
            subject: AnyRef::from_der(&self.subject)?,
            spki: AnyRef::from_der(&self.spki)?,
            extensions,
        };
        let tbs = tbs.to_der()?;
        let signature = signer.sign(&tbs)?;
        let signed = Signed {
            tbs: AnyRef::from_der(&tbs)?,
            algorithm: ALGORITHM,
            signature: BitStringRef::from_bytes(&signature)?,
        };
        Ok(signed.to_der()?)
    }
}

/// What a certificate above the signing ones is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Authority {
    /// A root, self-signed.
    Root,
    /// A CA for signing certificates.
    Issuing,
    /// The certificate that signs timestamps.
    Timestamps,
}

/// A certificate for `spki` (DER), named `name` (RFC 4514, such as `CN=root,O=Acme`); `issuer` is `None`
/// for a root, which `signer` signs itself.
///
/// # Errors
/// When the name does not parse or the key does not sign.
pub fn authority(
    kind: Authority,
    name: &str,
    spki: &[u8],
    issuer: Option<&Certificate>,
    signer: &dyn Signer,
    validity: (Timestamp, Timestamp),
) -> Result<Vec<u8>, Error> {
    let subject: x509_cert::name::Name = name.parse()?;
    let subject = subject.to_der()?;
    let constraints =
        |path_len| BasicConstraints { ca: true, path_len_constraint: path_len }.to_der();
    let mut extensions = vec![match kind {
        Authority::Root | Authority::Issuing => extension(KEY_USAGE, true, CERT_SIGN.to_vec()),
        Authority::Timestamps => extension(KEY_USAGE, true, DIGITAL_SIGNATURE.to_vec()),
    }];
    match kind {
        Authority::Root => {
            extensions.push(extension(BASIC_CONSTRAINTS, true, constraints(Some(1))?))
        }
        Authority::Issuing => {
            extensions.push(extension(EXTENDED_KEY_USAGE, false, usage(CODE_SIGNING)?));
            extensions.push(extension(BASIC_CONSTRAINTS, true, constraints(Some(0))?));
        }
        // RFC 3161, section 2.3: critical, and no other purpose beside it.
        Authority::Timestamps => {
            extensions.push(extension(EXTENDED_KEY_USAGE, true, usage(TIME_STAMPING)?));
        }
    }
    extensions.push(extension(SUBJECT_KEY_ID, false, key_id(spki)?));
    if let Some(issuer) = issuer {
        extensions.push(extension(AUTHORITY_KEY_ID, false, authority_key_id(issuer)?));
    }
    let body = Body {
        serial: serial()?.to_vec(),
        issuer: issuer.map_or_else(|| subject.clone(), |issuer| issuer.subject().to_vec()),
        subject,
        spki: spki.to_vec(),
        not_before: validity.0,
        not_after: validity.1,
        extensions: vec![],
    };
    body.sign_with(extensions, signer)
}

/// A serial number: 159 random bits, positive and never 0.
///
/// # Errors
/// When the system gives no randomness.
pub fn serial() -> Result<[u8; 20], Error> {
    let mut serial = [0; 20];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| Error::Signer(signer::Error::Randomness))?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn extension(id: ObjectIdentifier, critical: bool, value: Vec<u8>) -> Extension {
    let extn_value = OctetString::new(value).expect("extensions are short");
    Extension { extn_id: id, critical, extn_value }
}

fn usage(purpose: ObjectIdentifier) -> Result<Vec<u8>, Error> {
    Ok(ExtendedKeyUsage(vec![purpose]).to_der()?)
}

/// SHA-1 of the key's bits (RFC 5280, section 4.2.1.2, method 1): a name, not a security measure.
fn key_id_bytes(spki: &[u8]) -> Result<Vec<u8>, Error> {
    let spki = SubjectPublicKeyInfoRef::from_der(spki)?;
    let bits = spki.subject_public_key.raw_bytes();
    Ok(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bits).as_ref().to_vec())
}

fn key_id(spki: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(OctetString::new(key_id_bytes(spki)?)?.to_der()?)
}

/// The subject key identifier that the issuer's certificate states.
fn authority_key_id(issuer: &Certificate) -> Result<Vec<u8>, Error> {
    let id = match issuer.extension(SUBJECT_KEY_ID) {
        Some(extension) => OctetString::from_der(&extension.value)?,
        None => OctetString::new(key_id_bytes(issuer.spki())?)?,
    };
    let id = AuthorityKeyIdentifier { key_identifier: Some(id), ..Default::default() };
    Ok(id.to_der()?)
}

fn subject_alt_name(san: &San) -> Result<Vec<u8>, Error> {
    let name = match san {
        San::Uri(uri) => GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?),
        San::Email(email) => GeneralName::Rfc822Name(Ia5String::new(email)?),
        San::Username(name) => GeneralName::OtherName(OtherName {
            type_id: sigstore_oid(7),
            value: Any::encode_from(&Utf8StringRef::new(name)?)?,
        }),
    };
    Ok(SubjectAltName(vec![name]).to_der()?)
}

/// UTCTime until 2049, GeneralizedTime later (RFC 5280, section 4.1.2.5).
fn time(at: Timestamp) -> Result<Time, Error> {
    let seconds = u64::try_from(at.as_second()).map_err(|_| Error::Time)?;
    let since = Duration::from_secs(seconds);
    match UtcTime::from_unix_duration(since) {
        Ok(time) => Ok(Time::UtcTime(time)),
        Err(_) => Ok(Time::GeneralTime(der::asn1::GeneralizedTime::from_unix_duration(since)?)),
    }
}

/// Why a certificate cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text or number does not fit.
    #[error("the certificate cannot be encoded: {0}")]
    Encoding(#[from] der::Error),
    /// The key does not sign.
    #[error(transparent)]
    Signer(#[from] signer::Error),
    /// A time that certificates cannot hold.
    #[error("the clock shows a time that certificates cannot hold")]
    Time,
    /// The CA's own end is too near.
    #[error(
        "the issuing certificate is valid until {until}, not for the whole life of a signing certificate"
    )]
    IssuerExpires {
        /// The CA's end.
        until: Timestamp,
    },
}
