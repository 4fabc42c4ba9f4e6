//! The certificates that are issued, to the byte: signing certificates (Fulcio's profile), CAs and the
//! timestamp certificate.
//!
//! A signing certificate: version 3, random serial number of 20 bytes, ten minutes from now, empty
//! subject, and the extensions key usage (critical, digitalSignature), extended key usage
//! (codeSigning), subject and authority key identifier, subject alternative name (critical), Fulcio's
//! claims, what the instance's policy found if it has one, and last the receipt of the certificate log. Precertificate and final certificate come out
//! of one builder and differ in the last extension only. A critical extended key usage or a missing
//! authority key identifier makes verifiers in use refuse the chain.

use crate::identity::{Identity, San};
use crate::signer::{self, Signer};
use aws_lc_rs::digest;
use const_oid::ObjectIdentifier;
use countersign_verify::assertion::{self, ASSERTION, Assertion};
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

/// What certificates take over from those above them; worked out once.
#[derive(Debug)]
pub struct Issuer {
    subject: Vec<u8>,
    authority_key_id: Extension,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Issuer {
    /// The issuing CA `certificate`, under the certificates `above` it. What it issues lies within the
    /// validity of them all.
    ///
    /// # Errors
    /// When its key identifier does not parse.
    pub fn new(certificate: &Certificate, above: &[Certificate]) -> Result<Self, Error> {
        let all = || above.iter().chain([certificate]);
        let not_before = all().map(Certificate::not_before).max();
        let not_after = all().map(Certificate::not_after).min();
        Ok(Self {
            subject: certificate.subject().to_vec(),
            authority_key_id: extension(AUTHORITY_KEY_ID, false, authority_key_id(certificate)?),
            not_before: not_before.expect("there is at least one"),
            not_after: not_after.expect("there is at least one"),
        })
    }
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
    /// Decides the certificate for `identity` and `spki` (DER), with what policy found of it, to be issued by
    /// `issuer` at `now`.
    ///
    /// # Errors
    /// When the identity does not fit a certificate, or a CA above it is not valid all that time.
    pub fn new(
        identity: &Identity,
        assertion: Option<&Assertion>,
        spki: &[u8],
        serial: &[u8; 20],
        issuer: &Issuer,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let not_before = Timestamp::from_second(now.as_second()).map_err(|_| Error::Time)?;
        let not_after = not_before + LIFETIME;
        if not_before < issuer.not_before || issuer.not_after < not_after {
            let (from, until) = (issuer.not_before, issuer.not_after);
            return Err(Error::IssuerValidity { from, until });
        }
        let mut extensions = vec![
            extension(KEY_USAGE, true, DIGITAL_SIGNATURE.to_vec()),
            extension(EXTENDED_KEY_USAGE, false, usage(CODE_SIGNING)?),
            extension(SUBJECT_KEY_ID, false, key_id(spki)?),
            issuer.authority_key_id.clone(),
            extension(SUBJECT_ALT_NAME, true, subject_alt_name(identity.san())?),
        ];
        for (&number, text) in identity.extensions() {
            extensions.push(extension(sigstore_oid(number), false, claim(number, text)?));
        }
        if let Some(assertion) = assertion {
            extensions.push(extension(ASSERTION, false, assertion.to_value()?));
        }
        Ok(Self {
            body: Body {
                serial: serial.to_vec(),
                issuer: issuer.subject.clone(),
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
        mut self,
        signer: &dyn Signer,
    ) -> Result<(Vec<u8>, Precertified), Error> {
        let poison = extension(POISON, true, vec![5, 0]);
        let precertificate = self.body.sign(poison, signer)?;
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
    pub fn sign(mut self, sct: Sct, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
        self.body.sign(extension(SCT_LIST, false, list_extension(&[sct])), signer)
    }
}

impl Body {
    /// The certificate with `last` as its last extension; the body stays as it was.
    fn sign(&mut self, last: Extension, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
        let before = self.extensions.len();
        self.extensions.push(last);
        let signed = self.sign_as_it_is(signer);
        self.extensions.truncate(before);
        signed
    }

    fn sign_as_it_is(&mut self, signer: &dyn Signer) -> Result<Vec<u8>, Error> {
        let algorithm: AlgorithmIdentifier<AnyRef<'_>> =
            AlgorithmIdentifier { oid: signer.algorithm().oid(), parameters: None };
        let tbs = Tbs {
            version: 2,
            serial: UintRef::new(&self.serial)?,
            signature: algorithm,
            issuer: AnyRef::from_der(&self.issuer)?,
            validity: Validity::new(time(self.not_before)?, time(self.not_after)?),
            subject: AnyRef::from_der(&self.subject)?,
            spki: AnyRef::from_der(&self.spki)?,
            extensions: std::mem::take(&mut self.extensions),
        };
        let encoded = tbs.to_der();
        self.extensions = tbs.extensions;
        let tbs = encoded?;
        let signature = signer.sign(&tbs)?;
        let signed = Signed {
            tbs: AnyRef::from_der(&tbs)?,
            algorithm,
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
    let mut body = Body {
        serial: serial()?.to_vec(),
        issuer: issuer.map_or_else(|| subject.clone(), |issuer| issuer.subject().to_vec()),
        subject,
        spki: spki.to_vec(),
        not_before: validity.0,
        not_after: validity.1,
        extensions,
    };
    body.sign_as_it_is(signer)
}

/// A serial number: 159 random bits, drawn again in the one case of 128 that would have fewer than 20
/// bytes, so that its hexadecimal form is the same everywhere.
///
/// # Errors
/// When the system gives no randomness.
pub fn serial() -> Result<[u8; 20], Error> {
    let mut serial = [0; 20];
    while serial[0] == 0 {
        aws_lc_rs::rand::fill(&mut serial).map_err(|_| Error::Signer(signer::Error::Randomness))?;
        serial[0] &= 0x7f; // the highest bit is the sign
    }
    Ok(serial)
}

fn extension(id: ObjectIdentifier, critical: bool, value: Vec<u8>) -> Extension {
    let extn_value = OctetString::new(value).expect("extensions are short");
    Extension { extn_id: id, critical, extn_value }
}

/// The value of Fulcio's extension `number`: 1 to 6 are bare text, all later ones a DER UTF8String.
fn claim(number: u8, text: &str) -> Result<Vec<u8>, Error> {
    match number {
        1..=6 => Ok(text.as_bytes().to_vec()),
        _ => Ok(Utf8StringRef::new(text)?.to_der()?),
    }
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
    /// What policy found does not fit.
    #[error("what policy found: {0}")]
    Assertion(#[from] assertion::Error),
    /// The key does not sign.
    #[error(transparent)]
    Signer(#[from] signer::Error),
    /// A time that certificates cannot hold.
    #[error("the clock shows a time that certificates cannot hold")]
    Time,
    /// A CA's own end is too near, or its beginning still ahead.
    #[error(
        "the CAs are valid from {from} to {until}, not for the whole life of a signing certificate"
    )]
    IssuerValidity {
        /// The latest beginning.
        from: Timestamp,
        /// The earliest end.
        until: Timestamp,
    },
    /// The root's certificate is none.
    #[error("expected the root's certificate")]
    Root,
    /// The root can certify nothing now.
    #[error("the root is valid from {from} to {until} and certifies nothing outside")]
    RootValidity {
        /// Its beginning.
        from: Timestamp,
        /// Its end.
        until: Timestamp,
    },
}

#[cfg(test)]
mod golden;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_claims_have_the_bytes_that_fulcio_writes() {
        let san = |san| hex::encode(subject_alt_name(&san).unwrap());
        assert_eq!(
            san(San::Email("a@example.test".to_owned())),
            "3010810e61406578616d706c652e74657374"
        );
        assert_eq!(
            san(San::Uri("https://ci.example.test/p/1".to_owned())),
            "301d861b68747470733a2f2f63692e6578616d706c652e746573742f702f31"
        );
        assert_eq!(
            san(San::Username("alice!example.test".to_owned())),
            "3024a022060a2b0601040183bf300107a0140c12616c696365216578616d706c652e74657374"
        );
        let issuer = "https://issuer.example.test";
        let bare = "68747470733a2f2f6973737565722e6578616d706c652e74657374";
        assert_eq!(hex::encode(claim(1, issuer).unwrap()), bare);
        assert_eq!(hex::encode(claim(8, issuer).unwrap()), format!("0c1b{bare}"));
        let id = |number| hex::encode(sigstore_oid(number).to_der().unwrap());
        assert_eq!((id(1), id(24)), (format!("{}01", ID), format!("{}18", ID)));
        assert_eq!(hex::encode(SCT_LIST.to_der().unwrap()), "060a2b06010401d679020402");
        assert_eq!(hex::encode(POISON.to_der().unwrap()), "060a2b06010401d679020403");
    }

    /// 1.3.6.1.4.1.57264.1, of which the last number is still missing.
    const ID: &str = "060a2b0601040183bf3001";

    #[test]
    fn serial_numbers_are_positive_have_20_bytes_and_differ() {
        let serials: std::collections::BTreeSet<_> = (0..1000).map(|_| serial().unwrap()).collect();
        assert_eq!(serials.len(), 1000);
        assert!(serials.iter().all(|serial| (1..0x80).contains(&serial[0])));
        assert!(serials.iter().any(|serial| serial[0] < 0x40), "all 159 bits are random");
    }

    #[test]
    fn nothing_is_issued_beyond_the_life_of_any_ca_above() {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let ceremony = crate::ceremony::create("Test", start).unwrap();
        let certificates =
            [&ceremony.issuing.1, &ceremony.root.1].map(|der| Certificate::parse(der).unwrap());
        let [issuing, root] = &certificates;
        let prepare = |issuer: &Issuer, now| {
            let identity = Identity::for_tests(San::Email("a@example.test".to_owned()));
            Prepared::new(&identity, None, issuing.spki(), &[1; 20], issuer, now).map(drop)
        };
        let end = issuing.not_after();
        let issuer = Issuer::new(issuing, std::slice::from_ref(root)).unwrap();
        assert!(prepare(&issuer, end - LIFETIME).is_ok());
        assert!(prepare(&issuer, issuing.not_before()).is_ok());
        let second = SignedDuration::from_secs(1);
        for near_miss in [end - LIFETIME + second, issuing.not_before() - second] {
            let refused = prepare(&issuer, near_miss);
            assert!(matches!(refused, Err(Error::IssuerValidity { .. })), "{near_miss}");
        }
        // Here the certificate above ends first.
        let issuer = Issuer::new(root, std::slice::from_ref(issuing)).unwrap();
        assert!(matches!(prepare(&issuer, end), Err(Error::IssuerValidity { .. })));
    }
}
