//! X.509 certificates (RFC 5280) as far as signing needs them, and the identity that a signing
//! certificate carries in its subject alternative name and Fulcio's extensions.
//!
//! Refused: anything but DER, trailing bytes, two different signature algorithms, an extension twice,
//! a certificate above [`MAX_CERTIFICATE`] bytes.

use crate::assertion::{self, ASSERTION, Assertion};
use crate::limits::{MAX_CERTIFICATE, MAX_EXTENSIONS};
use const_oid::ObjectIdentifier;
use der::asn1::{BitStringRef, IntRef, OctetStringRef, Utf8StringRef};
use der::{
    Decode as _, DecodeValue, FixedTag, Header, Reader, SliceReader, Tag, TagMode, TagNumber,
};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::ops::Range;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName,
};
use x509_cert::time::Time;

/// Extended key usage: code signing.
pub const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// Extended key usage: time stamping.
pub const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// The list of signed certificate timestamps (RFC 6962, section 3.3).
pub const SCT_LIST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");
/// The poison that makes a precertificate useless as a certificate (RFC 6962, section 3.1).
pub const POISON: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.3");
/// Basic constraints.
pub const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
/// Key usage.
pub const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
/// Extended key usage.
pub const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
/// Subject alternative name.
pub const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
/// Subject key identifier.
pub const SUBJECT_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
/// Authority key identifier.
pub const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
/// Name constraints.
pub const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");

/// `1.3.6.1.4.1.57264.1.<number>`: Fulcio's extensions, and 7, its otherName type.
#[must_use]
pub fn sigstore_oid(number: u8) -> ObjectIdentifier {
    SIGSTORE.push_arc(number.into()).expect("one short arc more fits")
}

const SIGSTORE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1");

/// Fulcio's extensions that carry a claim: number and name, as in JSON reports. 7 is no extension.
pub const CLAIMS: [(u8, &str); 23] = [
    (1, "issuerV1"),
    (2, "githubWorkflowTrigger"),
    (3, "githubWorkflowSHA"),
    (4, "githubWorkflowName"),
    (5, "githubWorkflowRepository"),
    (6, "githubWorkflowRef"),
    (8, "issuer"),
    (9, "buildSignerURI"),
    (10, "buildSignerDigest"),
    (11, "runnerEnvironment"),
    (12, "sourceRepositoryURI"),
    (13, "sourceRepositoryDigest"),
    (14, "sourceRepositoryRef"),
    (15, "sourceRepositoryIdentifier"),
    (16, "sourceRepositoryOwnerURI"),
    (17, "sourceRepositoryOwnerIdentifier"),
    (18, "buildConfigURI"),
    (19, "buildConfigDigest"),
    (20, "buildTrigger"),
    (21, "runInvocationURI"),
    (22, "sourceRepositoryVisibilityAtSigning"),
    (23, "deploymentEnvironment"),
    (24, "tokenSubject"),
];

/// A certificate that was read, nothing about it verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Range<usize>,
    serial: Range<usize>,
    issuer: Range<usize>,
    subject: Range<usize>,
    spki: Range<usize>,
    not_before: Timestamp,
    not_after: Timestamp,
    extensions: Vec<Extension>,
    signature_algorithm: ObjectIdentifier,
    signature: Range<usize>,
}

/// One extension of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Extension {
    /// Its type.
    pub id: ObjectIdentifier,
    /// Whether a reader that does not know it must refuse the certificate.
    pub critical: bool,
    /// The content of extnValue's OCTET STRING.
    pub value: Vec<u8>,
}

impl Certificate {
    /// Reads one certificate, DER, without bytes after it.
    ///
    /// # Errors
    /// When `der` is no certificate, see the module's list of refusals.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        if der.len() > MAX_CERTIFICATE {
            return Err(Error::TooLong { limit: MAX_CERTIFICATE, found: der.len() });
        }
        let mut reader = SliceReader::new(der)?;
        let read = reader.sequence(Self::read)?;
        reader.finish()?;
        Ok(Self { der: der.to_vec(), ..read })
    }

    /// Certificate of RFC 5280, section 4.1, without the bytes that its parts are in.
    fn read(reader: &mut SliceReader<'_>) -> Result<Self, Error> {
        let start = position(reader);
        let (read, algorithm) = reader.sequence(Self::read_tbs)?;
        let tbs = start..position(reader);
        if reader.tlv_bytes()? != algorithm {
            return Err(Error::TwoAlgorithms);
        }
        let bits: BitStringRef<'_> = reader.decode()?;
        let signature = bits.as_bytes().ok_or(Error::SignatureBits)?;
        Ok(Self { tbs, signature: last(reader, signature), ..read })
    }

    /// TBSCertificate; and its algorithm, which stands outside of it once more.
    fn read_tbs<'a>(reader: &mut SliceReader<'a>) -> Result<(Self, &'a [u8]), Error> {
        // What is a default must not be written, or two certificates were one to whoever re-encodes, as the
        // check of SCTs does.
        let version = match reader.context_specific(TagNumber(0), TagMode::Explicit)? {
            Some(0) => return Err(Error::NotCanonical),
            version => version.unwrap_or(0),
        };
        if version != 2 {
            return Err(Error::Version { found: version });
        }
        let serial: IntRef<'_> = reader.decode()?;
        let serial = last(reader, serial.as_bytes());
        let algorithm = reader.tlv_bytes()?;
        let issuer = part(reader)?;
        let (not_before, not_after) = reader.sequence(|validity| {
            Ok::<_, Error>((timestamp(validity.decode()?)?, timestamp(validity.decode()?)?))
        })?;
        let (subject, spki) = (part(reader)?, part(reader)?);
        for number in [1, 2] {
            let _: Option<BitStringRef<'_>> =
                reader.context_specific(TagNumber(number), TagMode::Implicit)?;
        }
        let extensions: Option<Extensions> =
            reader.context_specific(TagNumber(3), TagMode::Explicit)?;
        let signature_algorithm = SliceReader::new(algorithm)?.sequence(|algorithm| {
            let oid = algorithm.decode()?;
            if !algorithm.is_finished() {
                algorithm.tlv_bytes()?; // parameters
            }
            Ok::<_, Error>(oid)
        })?;
        let read = Self {
            der: Vec::new(),
            tbs: 0..0,
            serial,
            issuer,
            subject,
            spki,
            not_before,
            not_after,
            extensions: extensions.unwrap_or_default().0,
            signature_algorithm,
            signature: 0..0,
        };
        Ok((read, algorithm))
    }

    /// The whole certificate, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// TBSCertificate, DER: the signed part.
    #[must_use]
    pub fn tbs(&self) -> &[u8] {
        &self.der[self.tbs.clone()]
    }

    /// The serial number, big endian, two's complement, as in DER.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.der[self.serial.clone()]
    }

    /// The issuer's Name, DER.
    #[must_use]
    pub fn issuer(&self) -> &[u8] {
        &self.der[self.issuer.clone()]
    }

    /// The subject's Name, DER.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.der[self.subject.clone()]
    }

    /// SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.der[self.spki.clone()]
    }

    /// First second of validity.
    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Last second of validity, itself included.
    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether `time` lies within the certificate's validity, both ends included.
    #[must_use]
    pub fn valid_at(&self, time: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&time)
    }

    /// The algorithm of the issuer's signature.
    #[must_use]
    pub const fn signature_algorithm(&self) -> ObjectIdentifier {
        self.signature_algorithm
    }

    /// The issuer's signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.der[self.signature.clone()]
    }

    /// All extensions in their order.
    #[must_use]
    pub fn extensions(&self) -> &[Extension] {
        &self.extensions
    }

    /// The extension of type `id`.
    #[must_use]
    pub fn extension(&self, id: ObjectIdentifier) -> Option<&Extension> {
        self.extensions.iter().find(|extension| extension.id == id)
    }

    /// The ID of its key, as its issuer gave it: RFC 5280, section 4.2.1.2.
    #[must_use]
    pub fn subject_key_id(&self) -> Option<Vec<u8>> {
        let value = &self.extension(SUBJECT_KEY_ID)?.value;
        Some(<&OctetStringRef>::from_der(value).ok()?.as_bytes().to_vec())
    }

    /// The ID of the key that signed it, as it claims: RFC 5280, section 4.2.1.1.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<Vec<u8>> {
        let value = &self.extension(AUTHORITY_KEY_ID)?.value;
        Some(AuthorityKeyIdentifier::from_der(value).ok()?.key_identifier?.into_bytes().into_vec())
    }

    /// Basic constraints: whether this is a CA and how many CAs may stand below it.
    ///
    /// # Errors
    /// When the extension is malformed.
    pub fn basic_constraints(&self) -> Result<Option<BasicConstraints>, Error> {
        self.decode(BASIC_CONSTRAINTS, "basic constraints", |value| {
            BasicConstraints::from_der(value).ok()
        })
    }

    /// Key usage bits.
    ///
    /// # Errors
    /// When the extension is malformed.
    pub fn key_usage(&self) -> Result<Option<KeyUsage>, Error> {
        self.decode(KEY_USAGE, "key usage", |value| KeyUsage::from_der(value).ok())
    }

    /// Extended key usages.
    ///
    /// # Errors
    /// When the extension is malformed.
    pub fn extended_key_usage(&self) -> Result<Option<Vec<ObjectIdentifier>>, Error> {
        let decode = |value: &[u8]| ExtendedKeyUsage::from_der(value).ok().map(|usage| usage.0);
        self.decode(EXTENDED_KEY_USAGE, "extended key usage", decode)
    }

    /// The identity in subject alternative name and extensions.
    ///
    /// # Errors
    /// When there is no name of a kind that Fulcio writes, an extension is malformed, or the two
    /// extensions for the issuer disagree.
    pub fn identity(&self) -> Result<Identity, Error> {
        let names = self
            .decode(SUBJECT_ALT_NAME, "subject alternative name", |value| {
                SubjectAltName::from_der(value).ok()
            })?
            .ok_or(Error::NoIdentity)?;
        let subject = pick_subject(&names.0).ok_or(Error::NoIdentity)?;
        let mut claims = BTreeMap::new();
        for extension in &self.extensions {
            let Some(number) = claim_number(extension.id) else { continue };
            let text = claim_text(number, &extension.value).ok_or(Error::Claim { number })?;
            claims.insert(number, text);
        }
        match (claims.get(&1), claims.get(&8)) {
            (Some(first), Some(second)) if first != second => {
                Err(Error::TwoIssuers { v1: first.clone(), v2: second.clone() })
            }
            _ => Ok(Identity { subject, claims }),
        }
    }

    /// What the policy of the authority found, if it says so. Only of an authority of our own is that worth
    /// anything.
    ///
    /// # Errors
    /// When the extension is malformed.
    pub fn assertion(&self) -> Result<Option<Assertion>, assertion::Error> {
        let value = self.extension(ASSERTION).map(|extension| &extension.value);
        value.map(|value| Assertion::parse(value)).transpose()
    }

    /// Every subject alternative name that is text, whatever its kind, for those who search: none that a
    /// client may pick is left out. Names that do not decode are.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names = self.extension(SUBJECT_ALT_NAME);
        let names = names.and_then(|extension| SubjectAltName::from_der(&extension.value).ok());
        let text = |name: &GeneralName| match name {
            GeneralName::UniformResourceIdentifier(text)
            | GeneralName::DnsName(text)
            | GeneralName::Rfc822Name(text) => Some(text.to_string()),
            GeneralName::OtherName(_) => {
                pick_subject(std::slice::from_ref(name)).map(|name| name.as_str().to_owned())
            }
            _ => None,
        };
        names.iter().flat_map(|names| &names.0).filter_map(text).collect()
    }

    /// Every issuer that Fulcio's extensions 8 and 1 name, for those who search: one, unless they disagree.
    #[must_use]
    pub fn issuers(&self) -> Vec<String> {
        let claims = [8, 1].map(|number| {
            let extension = self.extension(sigstore_oid(number))?;
            claim_text(number, &extension.value)
        });
        let [second, first] = claims;
        let first = first.filter(|first| second.as_ref() != Some(first));
        second.into_iter().chain(first).collect()
    }

    fn decode<T>(
        &self,
        id: ObjectIdentifier,
        name: &'static str,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.extension(id)
            .map(|extension| decode(&extension.value).ok_or(Error::Extension { name }))
            .transpose()
    }
}

fn position(reader: &SliceReader<'_>) -> usize {
    u32::from(reader.position()) as usize
}

/// The next part, as it stands there.
fn part(reader: &mut SliceReader<'_>) -> Result<Range<usize>, Error> {
    let start = position(reader);
    reader.tlv_bytes()?;
    Ok(start..position(reader))
}

/// Where `content` is, which ends what was read last.
fn last(reader: &SliceReader<'_>, content: &[u8]) -> Range<usize> {
    let end = position(reader);
    end - content.len()..end
}

/// All extensions, each of another type.
#[derive(Default)]
struct Extensions(Vec<Extension>);

impl FixedTag for Extensions {
    const TAG: Tag = Tag::Sequence;
}

impl<'a> DecodeValue<'a> for Extensions {
    type Error = Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, _: Header) -> Result<Self, Error> {
        let (mut extensions, mut found) = (Vec::new(), 0);
        while !reader.is_finished() {
            let extension = reader.sequence(Extension::read)?;
            found += 1;
            if found > MAX_EXTENSIONS {
                continue; // to tell how many there are
            }
            let Extension { id, .. } = extension;
            if extensions.iter().any(|other: &Extension| other.id == id) {
                return Err(Error::RepeatedExtension { id });
            }
            extensions.push(extension);
        }
        if found > MAX_EXTENSIONS {
            return Err(Error::TooManyExtensions { limit: MAX_EXTENSIONS, found });
        }
        Ok(Self(extensions))
    }
}

impl Extension {
    fn read<'a, R: Reader<'a>>(reader: &mut R) -> Result<Self, Error> {
        let id = reader.decode()?;
        let critical = Tag::peek(reader)? == Tag::Boolean;
        if critical && !reader.decode::<bool>()? {
            return Err(Error::NotCanonical);
        }
        let value: &OctetStringRef = reader.decode()?;
        Ok(Self { id, critical, value: value.as_bytes().to_vec() })
    }
}

fn timestamp(time: Time) -> Result<Timestamp, Error> {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).map_err(|_| Error::Time)?;
    // RFC 5280, section 4.1.2.5: who has no end to name, names the last second of 9999. Jiff's last is two hours before.
    Timestamp::from_second(seconds.min(Timestamp::MAX.as_second())).map_err(|_| Error::Time)
}

fn claim_number(id: ObjectIdentifier) -> Option<u8> {
    CLAIMS.iter().map(|&(number, _)| number).find(|&number| sigstore_oid(number) == id)
}

/// Numbers 1 to 6 are bare UTF-8, all later ones a DER UTF8String.
fn claim_text(number: u8, value: &[u8]) -> Option<String> {
    if number < 7 {
        String::from_utf8(value.to_vec()).ok()
    } else {
        Utf8StringRef::from_der(value).ok().map(|text| text.as_str().to_owned())
    }
}

/// First URI, else first e-mail address, else Fulcio's otherName: the order of all clients.
fn pick_subject(names: &[GeneralName]) -> Option<Subject> {
    let uri = names.iter().find_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(Subject::Uri(uri.to_string())),
        _ => None,
    });
    let email = || {
        names.iter().find_map(|name| match name {
            GeneralName::Rfc822Name(email) => Some(Subject::Email(email.to_string())),
            _ => None,
        })
    };
    let other = || {
        names.iter().find_map(|name| match name {
            GeneralName::OtherName(other) if other.type_id == sigstore_oid(7) => {
                let text: Utf8StringRef<'_> = other.value.decode_as().ok()?;
                Some(Subject::Username(text.as_str().to_owned()))
            }
            _ => None,
        })
    };
    uri.or_else(email).or_else(other)
}

/// Whom a signing certificate names. Trust in it comes from the certificate's chain alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    subject: Subject,
    claims: BTreeMap<u8, String>,
}

impl Identity {
    /// The subject alternative name.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Who vouched for the subject: the OIDC issuer.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.claims.get(&8).or_else(|| self.claims.get(&1)).map(String::as_str)
    }

    /// Fulcio's extensions by number, see [`CLAIMS`].
    #[must_use]
    pub const fn claims(&self) -> &BTreeMap<u8, String> {
        &self.claims
    }
}

/// A subject alternative name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// A workload: workflow, service account, SPIFFE ID.
    Uri(String),
    /// A person.
    Email(String),
    /// `name!domain`.
    Username(String),
}

impl Subject {
    /// The name without its kind.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Uri(text) | Self::Email(text) | Self::Username(text) => text,
        }
    }
}

/// Why bytes are no certificate, or name nobody.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Above the limit.
    #[error("a certificate of {found} bytes is above the limit of {limit}")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Not DER, or not a certificate.
    #[error("expected an X.509 certificate in DER: {reason}")]
    Encoding {
        /// What the decoder met, and where.
        reason: String,
    },
    /// BER that is not DER, such as a default written out.
    #[error("expected DER, found an encoding that DER does not allow")]
    NotCanonical,
    /// Not version 3.
    #[error("expected an X.509 certificate of version 3 (2 in DER), found {found} in DER")]
    Version {
        /// The field's value.
        found: u8,
    },
    /// Signed and unsigned parts name different algorithms.
    #[error("the certificate names two different signature algorithms")]
    TwoAlgorithms,
    /// The signature is not whole bytes.
    #[error("the certificate's signature is not a whole number of bytes")]
    SignatureBits,
    /// More extensions than any certificate needs.
    #[error("a certificate has at most {limit} extensions, found {found}")]
    TooManyExtensions {
        /// Extensions allowed.
        limit: usize,
        /// Extensions found.
        found: usize,
    },
    /// The same extension again.
    #[error("the certificate has extension {id} twice")]
    RepeatedExtension {
        /// Its type.
        id: ObjectIdentifier,
    },
    /// An extension that does not decode.
    #[error("the certificate's {name} extension is malformed")]
    Extension {
        /// Its name in RFC 5280.
        name: &'static str,
    },
    /// A date beyond what is representable.
    #[error("the certificate's validity is not a representable time")]
    Time,
    /// No subject alternative name of a known kind.
    #[error("expected a subject alternative name: a URI, an e-mail address or a Fulcio user name")]
    NoIdentity,
    /// One of Fulcio's extensions does not decode.
    #[error("Fulcio extension 1.3.6.1.4.1.57264.1.{number} is malformed")]
    Claim {
        /// Its last arc.
        number: u8,
    },
    /// Extensions 1 and 8 disagree.
    #[error("the certificate names two issuers: {v1:?} (extension 1) and {v2:?} (extension 8)")]
    TwoIssuers {
        /// Extension 1.
        v1: String,
        /// Extension 8.
        v2: String,
    },
}

impl From<der::Error> for Error {
    fn from(error: der::Error) -> Self {
        Self::Encoding { reason: error.to_string() }
    }
}
