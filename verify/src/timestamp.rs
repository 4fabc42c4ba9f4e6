//! RFC 3161 timestamps: a trusted authority says that some bytes existed at a time.
//!
//! `TimeStampResp` around CMS `SignedData` (RFC 5652) around `TSTInfo`. The signer is the certificate
//! in the trusted root; one embedded in the token is compared with it and never trusted by itself.
//! Refused: statuses other than granted, several signers, signed attributes missing or for other
//! content, hash functions other than SHA-2, critical extensions, versions and parameters other than the RFCs demand.
//! Lists of revoked certificates in the token are passed over.

use crate::certificate::Certificate;
use crate::chain::{self, TimestampAuthority};
use crate::key::{self, HashAlgorithm, KeyKind};
use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, IntRef, OctetStringRef};
use der::{
    Decode as _, Encode as _, Reader as _, Sequence, SliceReader, Tag, TagNumber, Tagged as _,
};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::borrow::Cow;
use x509_cert::ext::Extension;

/// CMS content type: signed data.
pub const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
/// CMS content type: TSTInfo.
pub const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
/// Signed attribute: content type.
pub const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
/// Signed attribute: digest of the content.
pub const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
/// Signed attribute: which certificate signs (RFC 5035).
pub const SIGNING_CERTIFICATE_V2: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");

#[derive(Sequence)]
struct AlgorithmId<'a> {
    oid: ObjectIdentifier,
    #[asn1(optional = "true")]
    parameters: Option<AnyRef<'a>>,
}

#[derive(Sequence)]
struct TstInfo<'a> {
    version: u8,
    policy: ObjectIdentifier,
    imprint: Imprint<'a>,
    serial: IntRef<'a>,
    gen_time: AnyRef<'a>,
    #[asn1(optional = "true")]
    accuracy: Option<Accuracy<'a>>,
    #[asn1(default = "Default::default")]
    ordering: bool,
    #[asn1(optional = "true")]
    nonce: Option<IntRef<'a>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    tsa: Option<AnyRef<'a>>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    extensions: Option<Vec<Extension>>,
}

#[derive(Sequence)]
struct Imprint<'a> {
    algorithm: AlgorithmId<'a>,
    digest: &'a OctetStringRef,
}

#[derive(Sequence)]
struct Accuracy<'a> {
    #[asn1(optional = "true")]
    seconds: Option<IntRef<'a>>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    millis: Option<IntRef<'a>>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    micros: Option<IntRef<'a>>,
}

/// The parts of a token that decide, none of them verified.
struct Token<'a> {
    content: Cow<'a, [u8]>,
    certificates: Vec<Vec<u8>>,
    signer: Signer<'a>,
}

struct Signer<'a> {
    id: AnyRef<'a>,
    digest: HashAlgorithm,
    attributes: AnyRef<'a>,
    algorithm: ObjectIdentifier,
    signature: &'a [u8],
}

/// Checks `response`, a DER `TimeStampResp`, over the bytes `signed` and returns its time and the
/// place of the authority in `authorities`; of several that the token may name, the first by which it holds.
///
/// # Errors
/// [`Error::UnknownAuthority`] when the signer is not among `authorities`; any other when the token
/// is broken or does not speak of these bytes.
pub fn verify(
    response: &[u8],
    signed: &[u8],
    authorities: &[TimestampAuthority],
) -> Result<(Timestamp, usize), Error> {
    let token = parse(response)?;
    let mut refusal = Error::UnknownAuthority;
    for (place, authority) in authorities.iter().enumerate() {
        if token.signer.is(authority.certificate()) {
            match verify_by(&token, signed, authority) {
                Ok(time) => return Ok((time, place)),
                Err(error) => refusal = error,
            }
        }
    }
    Err(refusal)
}

fn verify_by(
    token: &Token<'_>,
    signed: &[u8],
    authority: &TimestampAuthority,
) -> Result<Timestamp, Error> {
    if !token.certificates.is_empty() {
        let trusted = authority.certificate().der();
        let same = token.certificates.iter().any(|embedded| embedded == trusted);
        if !same {
            return Err(Error::OtherCertificate);
        }
    }
    token.check_attributes(authority.certificate())?;
    // The attributes are signed as a SET, not under the tag they carry in SignerInfo (RFC 5652, 5.4).
    let attributes = AnyRef::new(Tag::Set, token.signer.attributes.value())
        .and_then(|set| set.to_der())
        .map_err(|_| Error::Encoding { part: "signed attributes" })?;
    let Signer { algorithm, digest, signature, .. } = &token.signer;
    let verdict = match *algorithm {
        // The bare key type, as OpenSSL writes it for RSA: the hash is digestAlgorithm's.
        RSA_ENCRYPTION if matches!(authority.key().kind(), KeyKind::Rsa { .. }) => {
            authority.key().verify_message_with(*digest, &attributes, signature)
        }
        algorithm => authority.key().verify_with_oid(algorithm, &attributes, signature),
    };
    verdict.map_err(Error::Signature)?;
    let time = token.check_content(signed)?;
    authority.valid_at(time).map_err(Error::Authority)?;
    Ok(time)
}

fn parse(response: &[u8]) -> Result<Token<'_>, Error> {
    const RESPONSE: &str = "TimeStampResp";
    let whole = AnyRef::from_der(response).map_err(|_| Error::Encoding { part: RESPONSE })?;
    expect_tag(RESPONSE, whole, Tag::Sequence)?;
    let mut parts = sequence(RESPONSE, whole.value())?.into_iter();
    let status = parts.next().ok_or(Error::Encoding { part: RESPONSE })?;
    expect_tag(RESPONSE, status, Tag::Sequence)?;
    let status = sequence("PKIStatusInfo", status.value())?;
    let granted = status.first().and_then(|status| status.decode_as::<u8>().ok());
    // Granted, or granted with modifications; both come with a token (RFC 3161, section 2.4.2).
    if !matches!(granted, Some(0 | 1)) {
        return Err(Error::Status { found: granted });
    }
    let [token] = fixed(RESPONSE, parts.collect())?;
    expect_tag(RESPONSE, token, Tag::Sequence)?;
    // ContentInfo: contentType, [0] EXPLICIT content
    let [kind, content] = fixed("ContentInfo", sequence("ContentInfo", token.value())?)?;
    expect_oid("ContentInfo", kind, SIGNED_DATA)?;
    expect_tag("ContentInfo", content, context(0))?;
    let [data] = fixed("SignedData", sequence("SignedData", content.value())?)?;
    expect_tag("SignedData", data, Tag::Sequence)?;
    // SignedData: version, digestAlgorithms, encapContentInfo, [0] certificates, [1] crls, signerInfos
    let mut parts = sequence("SignedData", data.value())?.into_iter();
    let mut next = || parts.next().ok_or(Error::Encoding { part: "SignedData" });
    // 3, for its content is no plain data (RFC 5652, section 5.1). Sigstore's own authority wrote 1 until 2024.
    let version = next()?.decode_as::<u8>().ok();
    if !matches!(version, Some(1 | 3)) {
        return Err(Error::Version { part: "SignedData", expected: 3, found: version });
    }
    let digests = next()?;
    expect_tag("digestAlgorithms", digests, Tag::Set)?;
    let digests = sequence("digestAlgorithms", digests.value())?;
    let digests = digests.into_iter().map(hash).collect::<Result<Vec<_>, _>>()?;
    let encapsulated = next()?;
    expect_tag("encapContentInfo", encapsulated, Tag::Sequence)?;
    let [kind, content] =
        fixed("encapContentInfo", sequence("encapContentInfo", encapsulated.value())?)?;
    expect_oid("encapContentInfo", kind, TST_INFO)?;
    expect_tag("encapContentInfo", content, context(0))?;
    let content = content_octets(content.value())?;
    let mut part = next()?;
    let mut certificates = Vec::new();
    if part.tag() == context(0) {
        for certificate in sequence("certificates", part.value())? {
            let der = certificate.to_der().map_err(|_| Error::Encoding { part: "certificates" })?;
            certificates.push(der);
        }
        part = next()?;
    }
    if part.tag() == context(1) {
        part = next()?;
    }
    expect_tag("signerInfos", part, Tag::Set)?;
    if next().is_ok() {
        return Err(Error::Encoding { part: "SignedData" });
    }
    let signers = sequence("signerInfos", part.value())?;
    let found = signers.len();
    let [signer] = <[AnyRef<'_>; 1]>::try_from(signers).map_err(|_| Error::Signers { found })?;
    let signer = Signer::parse(signer)?;
    if !digests.contains(&signer.digest) {
        return Err(Error::DigestAlgorithms);
    }
    Ok(Token { content, certificates, signer })
}

/// The octets of eContent. CMS allows BER, and there are authorities that write these in pieces: a constructed OCTET
/// STRING (X.690, section 8.7.3), whose pieces are primitive here.
fn content_octets(value: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    const CONSTRUCTED: u8 = 0x24;
    const SEQUENCE: u8 = 0x30;
    let part = "encapContentInfo";
    let malformed = |_| Error::Encoding { part };
    if value.first() != Some(&CONSTRUCTED) {
        let whole = <&OctetStringRef>::from_der(value).map_err(malformed)?;
        return Ok(whole.as_bytes().into());
    }
    let list = [&[SEQUENCE], &value[1..]].concat();
    let list = AnyRef::from_der(&list).map_err(malformed)?;
    let mut octets = Vec::new();
    for piece in sequence(part, list.value())? {
        let piece: &OctetStringRef = piece.decode_as().map_err(malformed)?;
        octets.extend_from_slice(piece.as_bytes());
    }
    Ok(octets.into())
}

impl<'a> Signer<'a> {
    /// SignerInfo: version, sid, digestAlgorithm, [0] signedAttrs, signatureAlgorithm, signature,
    /// [1] unsignedAttrs.
    fn parse(info: AnyRef<'a>) -> Result<Self, Error> {
        let part = "SignerInfo";
        expect_tag(part, info, Tag::Sequence)?;
        let mut parts = sequence(part, info.value())?;
        if parts.last().is_some_and(|last| last.tag() == context(1)) {
            parts.pop();
        }
        let [version, id, digest, attributes, algorithm, signature] = fixed(part, parts)?;
        let (version, expected) =
            (version.decode_as::<u8>().ok(), if id.tag() == Tag::Sequence { 1 } else { 3 });
        if version != Some(expected) {
            return Err(Error::Version { part, expected, found: version });
        }
        expect_tag(part, attributes, context(0))?;
        let algorithm: AlgorithmId<'_> =
            algorithm.decode_as().map_err(|_| Error::Encoding { part: "signatureAlgorithm" })?;
        if algorithm.parameters.is_some_and(|parameters| !parameters.is_null()) {
            return Err(Error::Encoding { part: "signatureAlgorithm" });
        }
        let signature: &OctetStringRef =
            signature.decode_as().map_err(|_| Error::Encoding { part })?;
        Ok(Self {
            id,
            digest: hash(digest)?,
            attributes,
            algorithm: algorithm.oid,
            signature: signature.as_bytes(),
        })
    }

    /// Whether the signer identifier (issuer and serial number, or key identifier) names `certificate`.
    fn is(&self, certificate: &Certificate) -> bool {
        if self.id.tag() != Tag::Sequence {
            return self.id.tag().number() == TagNumber(0)
                && certificate.subject_key_id().is_some_and(|id| id == self.id.value());
        }
        let Ok([issuer, serial]) =
            sequence("sid", self.id.value()).and_then(|sid| fixed("sid", sid))
        else {
            return false;
        };
        let serial = serial.decode_as::<IntRef<'_>>();
        issuer.to_der().is_ok_and(|issuer| issuer == certificate.issuer())
            && serial.is_ok_and(|serial| serial.as_bytes() == certificate.serial())
    }
}

impl Token<'_> {
    fn check_attributes(&self, certificate: &Certificate) -> Result<(), Error> {
        let part = "signed attributes";
        let (mut content_type, mut digest) = (false, false);
        for attribute in sequence(part, self.signer.attributes.value())? {
            expect_tag(part, attribute, Tag::Sequence)?;
            let [kind, values] = fixed(part, sequence(part, attribute.value())?)?;
            let kind: ObjectIdentifier = kind.decode_as().map_err(|_| Error::Encoding { part })?;
            let [value] = fixed(part, sequence(part, values.value())?)?;
            match kind {
                CONTENT_TYPE => {
                    expect_oid(part, value, TST_INFO)?;
                    content_type = true;
                }
                MESSAGE_DIGEST => {
                    let found: &OctetStringRef =
                        value.decode_as().map_err(|_| Error::Encoding { part })?;
                    if found.as_bytes() != self.signer.digest.digest(&self.content) {
                        return Err(Error::ContentDigest);
                    }
                    digest = true;
                }
                SIGNING_CERTIFICATE_V2 => check_signing_certificate(value, certificate)?,
                _ => {}
            }
        }
        if content_type && digest { Ok(()) } else { Err(Error::MissingAttribute) }
    }

    fn check_content(&self, signed: &[u8]) -> Result<Timestamp, Error> {
        let info =
            TstInfo::from_der(&self.content).map_err(|_| Error::Encoding { part: "TSTInfo" })?;
        if info.version != 1 {
            let found = Some(info.version);
            return Err(Error::Version { part: "TSTInfo", expected: 1, found });
        }
        let extensions = info.extensions.unwrap_or_default();
        if let Some(extension) = extensions.iter().find(|extension| extension.critical) {
            return Err(Error::CriticalExtension { found: extension.extn_id });
        }
        let hash = algorithm_hash(&info.imprint.algorithm)?;
        if info.imprint.digest.as_bytes() != hash.digest(signed) {
            return Err(Error::Imprint);
        }
        generalized_time(info.gen_time).ok_or(Error::Encoding { part: "genTime" })
    }
}

/// SigningCertificateV2: a list of ESSCertIDv2 { hashAlgorithm DEFAULT sha256, certHash, .. }; the
/// first names the signer.
fn check_signing_certificate(value: AnyRef<'_>, certificate: &Certificate) -> Result<(), Error> {
    let part = "signingCertificateV2";
    let outer = sequence(part, value.value())?;
    let certs = outer.first().ok_or(Error::Encoding { part })?;
    let certs = sequence(part, certs.value())?;
    let first = sequence(part, certs.first().ok_or(Error::Encoding { part })?.value())?;
    let (hash, digest) = match first.as_slice() {
        [digest, ..] if digest.tag() == Tag::OctetString => (HashAlgorithm::Sha256, digest),
        [algorithm, digest, ..] => (self::hash(*algorithm)?, digest),
        _ => return Err(Error::Encoding { part }),
    };
    let digest: &OctetStringRef = digest.decode_as().map_err(|_| Error::Encoding { part })?;
    if digest.as_bytes() == hash.digest(certificate.der()) {
        Ok(())
    } else {
        Err(Error::OtherCertificate)
    }
}

/// `YYYYMMDDHHMMSS[.f…]Z` (RFC 3161, section 2.4.2).
fn generalized_time(value: AnyRef<'_>) -> Option<Timestamp> {
    if value.tag() != Tag::GeneralizedTime {
        return None;
    }
    let text = std::str::from_utf8(value.value()).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let part = |from: usize, to: usize| whole[from..to].parse::<i8>().ok();
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    let time = DateTime::new(
        whole[..4].parse().ok()?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?,
        nanoseconds,
    );
    Some(time.ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn hash(algorithm: AnyRef<'_>) -> Result<HashAlgorithm, Error> {
    let algorithm =
        algorithm.decode_as().map_err(|_| Error::Encoding { part: "AlgorithmIdentifier" })?;
    algorithm_hash(&algorithm)
}

fn algorithm_hash(algorithm: &AlgorithmId<'_>) -> Result<HashAlgorithm, Error> {
    if algorithm.parameters.is_some_and(|parameters| !parameters.is_null()) {
        return Err(Error::Encoding { part: "AlgorithmIdentifier" });
    }
    match algorithm.oid {
        SHA256 => Ok(HashAlgorithm::Sha256),
        SHA384 => Ok(HashAlgorithm::Sha384),
        SHA512 => Ok(HashAlgorithm::Sha512),
        found => Err(Error::Hash { found }),
    }
}

const fn context(number: u32) -> Tag {
    Tag::ContextSpecific { constructed: true, number: TagNumber(number) }
}

/// The elements of one constructed value, each with its tag.
fn sequence<'a>(part: &'static str, value: &'a [u8]) -> Result<Vec<AnyRef<'a>>, Error> {
    let malformed = |_| Error::Encoding { part };
    let mut reader = SliceReader::new(value).map_err(malformed)?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(AnyRef::decode(&mut reader).map_err(malformed)?);
    }
    Ok(elements)
}

fn fixed<'a, const N: usize>(
    part: &'static str,
    elements: Vec<AnyRef<'a>>,
) -> Result<[AnyRef<'a>; N], Error> {
    elements.try_into().map_err(|_| Error::Encoding { part })
}

/// A small number, as people read it.
fn number(found: Option<u8>) -> String {
    found.map_or("none that is known".to_owned(), |number| number.to_string())
}

fn expect_tag(part: &'static str, element: AnyRef<'_>, expected: Tag) -> Result<(), Error> {
    if element.tag() == expected { Ok(()) } else { Err(Error::Encoding { part }) }
}

fn expect_oid(
    part: &'static str,
    element: AnyRef<'_>,
    expected: ObjectIdentifier,
) -> Result<(), Error> {
    match element.decode_as::<ObjectIdentifier>() {
        Ok(found) if found == expected => Ok(()),
        Ok(found) => Err(Error::ContentType { part, expected, found }),
        Err(_) => Err(Error::Encoding { part }),
    }
}

/// Why a timestamp is not believed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not the ASN.1 it must be.
    #[error("the timestamp's {part} is malformed")]
    Encoding {
        /// The structure's name in its RFC.
        part: &'static str,
    },
    /// The authority refused.
    #[error("expected timestamp status 0 (granted), found {}", number(*found))]
    Status {
        /// The status, if it is a small number.
        found: Option<u8>,
    },
    /// A version that the RFC does not allow here.
    #[error("expected {part} of version {expected}, found {}", number(*found))]
    Version {
        /// The structure.
        part: &'static str,
        /// The version demanded.
        expected: u8,
        /// The version, if it is a small number.
        found: Option<u8>,
    },
    /// Content of another type.
    #[error("expected content of type {expected} in {part}, found {found}")]
    ContentType {
        /// The structure.
        part: &'static str,
        /// The type demanded.
        expected: ObjectIdentifier,
        /// The type found.
        found: ObjectIdentifier,
    },
    /// Not exactly one signer.
    #[error("expected one signer of the timestamp, found {found}")]
    Signers {
        /// How many.
        found: usize,
    },
    /// The token announces other hash functions than its signer uses.
    #[error("the timestamp announces another hash function than its signer uses")]
    DigestAlgorithms,
    /// Not SHA-2.
    #[error("expected SHA-256, SHA-384 or SHA-512, found hash function {found}")]
    Hash {
        /// The hash function.
        found: ObjectIdentifier,
    },
    /// Content type or digest are not among the signed attributes.
    #[error("expected content type and message digest among the timestamp's signed attributes")]
    MissingAttribute,
    /// Something that must be understood.
    #[error("the timestamp has a critical extension {found}, which is not understood")]
    CriticalExtension {
        /// Which one.
        found: ObjectIdentifier,
    },
    /// The content was altered.
    #[error("the timestamp's content is not what its signer signed")]
    ContentDigest,
    /// The time of other bytes.
    #[error("the timestamp is over other bytes than this signature")]
    Imprint,
    /// Signed by an authority that the trusted root does not list.
    #[error("the timestamp's signer is not a timestamp authority of the trusted root")]
    UnknownAuthority,
    /// The token carries or names another certificate than the trusted one.
    #[error("the timestamp names another certificate than that of the trusted root")]
    OtherCertificate,
    /// The signature does not hold.
    #[error("the timestamp's signature does not hold: {0}")]
    Signature(key::Error),
    /// Outside the authority's time.
    #[error("the timestamp authority was not trusted then: {0}")]
    Authority(chain::Error),
}
