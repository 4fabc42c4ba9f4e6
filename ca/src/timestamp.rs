//! The RFC 3161 timestamp authority.
//!
//! Answers hold one signer with the signed attributes content type, signing time, message digest and
//! signing certificate (version 2); whole seconds, because one of the clients in use reads no other.
//! Refused: SHA-1, digests of another length, request extensions, policies other than ours, and any
//! request while the clock has run backwards.

use crate::signer::{self, ECDSA_SHA256, Signer};
use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use const_oid::ObjectIdentifier;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::timestamp::{
    CONTENT_TYPE, MESSAGE_DIGEST, SIGNED_DATA, SIGNING_CERTIFICATE_V2, TST_INFO,
};
use der::asn1::{
    Any, AnyRef, GeneralizedTime, IntRef, OctetString, OctetStringRef, SetOfVec, UintRef, UtcTime,
};
use der::{Decode as _, Encode as _, Sequence};
use jiff::Timestamp;
use spki::AlgorithmIdentifierOwned;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::name::GeneralName;

/// Sigstore's policy for timestamps.
pub const POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.2");
/// Signed attribute: when the signer says it signed.
const SIGNING_TIME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.5");

const HASHES: [(HashAlgorithm, ObjectIdentifier); 3] = [
    (HashAlgorithm::Sha256, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1")),
    (HashAlgorithm::Sha384, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2")),
    (HashAlgorithm::Sha512, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3")),
];

/// How far the clock may jump back before requests are refused: leap smearing moves it by less.
const BACKWARDS: i64 = 1;

/// What is asked to be stamped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Query {
    hash: HashAlgorithm,
    digest: Vec<u8>,
    /// A number to return, DER content of an INTEGER.
    nonce: Option<Vec<u8>>,
    with_certificate: bool,
}

#[derive(Sequence)]
struct TimeStampReq<'a> {
    version: u8,
    imprint: Imprint<'a>,
    #[asn1(optional = "true")]
    policy: Option<ObjectIdentifier>,
    #[asn1(optional = "true")]
    nonce: Option<IntRef<'a>>,
    #[asn1(default = "Default::default")]
    cert_req: bool,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    extensions: Option<Vec<Any>>,
}

#[derive(Sequence)]
struct Imprint<'a> {
    algorithm: spki::AlgorithmIdentifier<AnyRef<'a>>,
    digest: &'a OctetStringRef,
}

#[derive(Sequence)]
struct TstInfo<'a> {
    version: u8,
    policy: ObjectIdentifier,
    imprint: Imprint<'a>,
    serial: UintRef<'a>,
    gen_time: GeneralizedTime,
    accuracy: Accuracy,
    #[asn1(optional = "true")]
    nonce: Option<IntRef<'a>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    tsa: GeneralName,
}

#[derive(Sequence)]
struct Accuracy {
    seconds: u8,
}

#[derive(Sequence)]
struct TimeStampResp {
    status: Status,
    token: ContentInfo,
}

#[derive(Sequence)]
struct Status {
    status: u8,
}

/// SigningCertificateV2 of RFC 5035 with one ESSCertIDv2, whose hash is the default, SHA-256.
#[derive(Sequence)]
struct SigningCertificate {
    certificates: Vec<CertificateId>,
}

#[derive(Sequence)]
struct CertificateId {
    hash: OctetString,
}

impl Query {
    /// Reads a TimeStampReq, DER.
    ///
    /// # Errors
    /// See the module's list of refusals.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let request = TimeStampReq::from_der(der).map_err(|_| Error::Query)?;
        if request.version != 1 {
            return Err(Error::Query);
        }
        if request.extensions.is_some() {
            return Err(Error::Extensions);
        }
        if request.policy.is_some_and(|policy| policy != POLICY) {
            return Err(Error::Policy);
        }
        let oid = request.imprint.algorithm.oid;
        let hash = HASHES.into_iter().find(|(_, known)| *known == oid).ok_or(Error::Hash)?.0;
        let nonce = request.nonce.map(|nonce| nonce.as_bytes().to_vec());
        Self::new(hash, request.imprint.digest.as_bytes(), nonce, request.cert_req)
    }

    /// A query out of its parts; `nonce` is the content of a DER INTEGER.
    ///
    /// # Errors
    /// When the digest's length is not the hash's.
    pub fn new(
        hash: HashAlgorithm,
        digest: &[u8],
        nonce: Option<Vec<u8>>,
        with_certificate: bool,
    ) -> Result<Self, Error> {
        if digest.len() != hash.digest_len() {
            return Err(Error::DigestLength { expected: hash.digest_len(), found: digest.len() });
        }
        Ok(Self { hash, digest: digest.to_vec(), nonce, with_certificate })
    }
}

/// A timestamp authority.
pub struct TimestampAuthority {
    signer: Box<dyn Signer>,
    /// DER: the signing certificate first, the root last.
    chain: Vec<Vec<u8>>,
    certificate: x509_cert::Certificate,
    last: AtomicI64,
}

impl TimestampAuthority {
    /// An authority from its key and certificates, DER: the signing one first, the root last.
    ///
    /// # Errors
    /// When the certificates do not parse or the key is another's.
    pub fn new(signer: Box<dyn Signer>, chain: Vec<Vec<u8>>) -> Result<Self, Error> {
        let leaf = chain.first().ok_or(Error::Chain)?;
        let certificate = x509_cert::Certificate::from_der(leaf)?;
        let spki = certificate.tbs_certificate().subject_public_key_info().to_der()?;
        if spki != signer.spki() {
            return Err(Error::Chain);
        }
        Ok(Self { signer, chain, certificate, last: AtomicI64::new(i64::MIN) })
    }

    /// DER: the signing certificate first, the root last.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// Stamps; returns the TimeStampResp, DER.
    ///
    /// # Errors
    /// When the clock has run backwards or the key does not sign.
    pub fn stamp(&self, query: &Query, now: Timestamp) -> Result<Vec<u8>, Error> {
        let seconds = now.as_second();
        let last = self.last.fetch_max(seconds, Ordering::Relaxed);
        if seconds < last.saturating_sub(BACKWARDS) {
            return Err(Error::Clock { seconds: last - seconds });
        }
        let since =
            Duration::from_secs(u64::try_from(seconds).map_err(|_| Error::Clock { seconds })?);
        let info = self.info(query, since)?;
        let content = OctetString::new(info)?;
        let attributes = self.attributes(content.as_bytes(), since)?;
        let signature = self.signer.sign(&attributes.to_der()?)?;
        let tbs = self.certificate.tbs_certificate();
        let signer = SignerInfo {
            version: CmsVersion::V1,
            sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: tbs.issuer().clone(),
                serial_number: tbs.serial_number().clone(),
            }),
            digest_alg: sha256()?,
            signed_attrs: Some(attributes),
            signature_algorithm: AlgorithmIdentifierOwned { oid: ECDSA_SHA256, parameters: None },
            signature: OctetString::new(signature)?,
            unsigned_attrs: None,
        };
        let certificate = CertificateChoices::Certificate(self.certificate.clone());
        let certificates = match query.with_certificate {
            true => Some(CertificateSet(SetOfVec::try_from(vec![certificate])?)),
            false => None,
        };
        let data = SignedData {
            version: CmsVersion::V3,
            digest_algorithms: SetOfVec::try_from(vec![sha256()?])?,
            encap_content_info: EncapsulatedContentInfo {
                econtent_type: TST_INFO,
                econtent: Some(Any::encode_from(&content)?),
            },
            certificates,
            crls: None,
            signer_infos: SignerInfos(SetOfVec::try_from(vec![signer])?),
        };
        let token = ContentInfo { content_type: SIGNED_DATA, content: Any::encode_from(&data)? };
        Ok(TimeStampResp { status: Status { status: 0 }, token }.to_der()?)
    }

    fn info(&self, query: &Query, since: Duration) -> Result<Vec<u8>, Error> {
        let oid = HASHES.into_iter().find(|(hash, _)| *hash == query.hash).ok_or(Error::Hash)?.1;
        let serial = crate::profile::serial().map_err(|_| signer::Error::Randomness)?;
        let subject = self.certificate.tbs_certificate().subject().clone();
        let info = TstInfo {
            version: 1,
            policy: POLICY,
            imprint: Imprint {
                algorithm: spki::AlgorithmIdentifier { oid, parameters: Some(AnyRef::NULL) },
                digest: OctetStringRef::new(&query.digest)?,
            },
            serial: UintRef::new(&serial)?,
            gen_time: GeneralizedTime::from_unix_duration(since)?,
            accuracy: Accuracy { seconds: 1 },
            nonce: query.nonce.as_deref().map(IntRef::new).transpose()?,
            tsa: GeneralName::DirectoryName(subject),
        };
        Ok(info.to_der()?)
    }

    fn attributes(&self, content: &[u8], since: Duration) -> Result<SetOfVec<Attribute>, Error> {
        let attribute = |oid, value: Any| {
            Ok::<_, Error>(Attribute { oid, values: SetOfVec::try_from(vec![value])? })
        };
        let digest = |bytes: &[u8]| OctetString::new(HashAlgorithm::Sha256.digest(bytes));
        let hash = digest(&self.chain[0])?;
        let certificate = SigningCertificate { certificates: vec![CertificateId { hash }] };
        let attributes = vec![
            attribute(CONTENT_TYPE, Any::encode_from(&TST_INFO)?)?,
            attribute(SIGNING_TIME, Any::encode_from(&UtcTime::from_unix_duration(since)?)?)?,
            attribute(MESSAGE_DIGEST, Any::encode_from(&digest(content)?)?)?,
            attribute(SIGNING_CERTIFICATE_V2, Any::encode_from(&certificate)?)?,
        ];
        Ok(SetOfVec::try_from(attributes)?)
    }
}

fn sha256() -> Result<AlgorithmIdentifierOwned, Error> {
    Ok(AlgorithmIdentifierOwned { oid: HASHES[0].1, parameters: Some(Any::null()) })
}

/// Why there is no timestamp.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a query.
    #[error("expected a TimeStampReq of version 1 in DER")]
    Query,
    /// Extensions are not understood.
    #[error("request extensions are not accepted")]
    Extensions,
    /// Another policy.
    #[error("expected timestamp policy {POLICY} or none")]
    Policy,
    /// Another hash.
    #[error("expected a SHA-256, SHA-384 or SHA-512 digest")]
    Hash,
    /// The digest is not of the hash named.
    #[error("expected a digest of {expected} bytes, found {found}")]
    DigestLength {
        /// Bytes the hash has.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The authority's own certificates.
    #[error("expected the timestamp certificate first in the chain, with the key given")]
    Chain,
    /// The clock jumped.
    #[error("the clock is {seconds} s behind the last timestamp")]
    Clock {
        /// How far.
        seconds: i64,
    },
    /// Something does not encode.
    #[error("the timestamp cannot be encoded: {0}")]
    Encoding(#[from] der::Error),
    /// The key does not sign.
    #[error(transparent)]
    Signer(#[from] signer::Error),
}

impl Error {
    /// Whether the request is at fault.
    #[must_use]
    pub const fn is_request(&self) -> bool {
        matches!(
            self,
            Self::Query | Self::Extensions | Self::Policy | Self::Hash | Self::DigestLength { .. }
        )
    }
}
