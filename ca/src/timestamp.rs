//! The RFC 3161 timestamp authority.
//!
//! Answers hold one signer with the signed attributes content type, signing time, message digest and
//! signing certificate (version 2); whole seconds, because one of the clients in use reads no other.
//! A refusal is a response, too, with its reason as text and as PKIFailureInfo ([`Error::response`]).
//! Refused: SHA-1, digests of another length, request extensions, policies other than ours, and any
//! request while the clock has run backwards or is outside the certificates' validity.

use crate::signer::{self, Signer};
use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use const_oid::ObjectIdentifier;
use countersign_verify::chain;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::timestamp::{
    CONTENT_TYPE, MESSAGE_DIGEST, SIGNED_DATA, SIGNING_CERTIFICATE_V2, TST_INFO,
};
use countersign_verify::trusted_root::Window;
use der::asn1::{
    Any, AnyRef, BitString, GeneralizedTime, IntRef, OctetString, OctetStringRef, SetOfVec,
    UintRef, UtcTime,
};
use der::{Decode as _, Encode as _, Sequence};
use jiff::Timestamp;
use spki::AlgorithmIdentifierOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::serial_number::SerialNumber;

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

/// PKIStatusInfo (RFC 3161, section 2.4.2): 0 granted, 2 rejected.
#[derive(Sequence)]
struct Status {
    status: u8,
    #[asn1(optional = "true")]
    texts: Option<Vec<String>>,
    #[asn1(optional = "true")]
    failure: Option<BitString>,
}

/// A response without a token.
#[derive(Sequence)]
struct Rejection {
    status: Status,
}

/// SigningCertificateV2 of RFC 5035 with one ESSCertIDv2, whose hash is the default, SHA-256.
#[derive(Sequence)]
struct SigningCertificate {
    certificates: Vec<CertificateId>,
}

#[derive(Sequence)]
struct CertificateId {
    hash: OctetString,
    issuer_serial: IssuerSerial,
}

#[derive(Sequence)]
struct IssuerSerial {
    issuer: Vec<GeneralName>,
    serial: SerialNumber,
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

/// When the last timestamp was given, whatever key signed it: what the clock may not fall behind.
#[derive(Clone, Debug)]
pub struct LastGiven(Arc<AtomicI64>);

impl Default for LastGiven {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MIN)))
    }
}

/// A timestamp authority.
pub struct TimestampAuthority {
    signer: Arc<dyn Signer>,
    /// DER: the signing certificate first, the root last.
    chain: Vec<Vec<u8>>,
    certificate: x509_cert::Certificate,
    /// The signed attribute that names the certificate; the same in every token.
    signing_certificate: Attribute,
    /// What verifiers will check of the chain.
    rules: chain::TimestampAuthority,
    last: LastGiven,
}

impl TimestampAuthority {
    /// An authority from its key and certificates, DER: the signing one first, the root last. `last` is shared by
    /// all that go by the same clock, the one that this follows included.
    ///
    /// # Errors
    /// When the certificates form no chain for time stamping or the key is another's.
    pub fn new(
        signer: Arc<dyn Signer>,
        chain: Vec<Vec<u8>>,
        last: LastGiven,
    ) -> Result<Self, Error> {
        let any_time = Window { start: None, end: None };
        let ders = chain.iter().map(Vec::as_slice).collect();
        let rules = chain::TimestampAuthority::new(String::new(), ders, any_time)?;
        let leaf = rules.certificate();
        if leaf.spki() != signer.spki() {
            return Err(Error::OtherKey);
        }
        let certificate = x509_cert::Certificate::from_der(leaf.der())?;
        let id = CertificateId {
            hash: OctetString::new(HashAlgorithm::Sha256.digest(leaf.der()))?,
            issuer_serial: IssuerSerial {
                issuer: vec![GeneralName::DirectoryName(
                    certificate.tbs_certificate().issuer().clone(),
                )],
                serial: certificate.tbs_certificate().serial_number().clone(),
            },
        };
        let id = Any::encode_from(&SigningCertificate { certificates: vec![id] })?;
        let signing_certificate = attribute(SIGNING_CERTIFICATE_V2, id)?;
        Ok(Self { signer, chain, certificate, signing_certificate, rules, last })
    }

    /// DER: the signing certificate first, the root last.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// Stamps; returns the TimeStampResp, DER.
    ///
    /// # Errors
    /// When the clock has run backwards, the certificates have ended, or the key does not sign.
    pub fn stamp(&self, query: &Query, now: Timestamp) -> Result<Vec<u8>, Error> {
        self.rules.valid_at(now)?;
        let seconds = now.as_second();
        let last = self.last.0.fetch_max(seconds, Ordering::Relaxed);
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
            digest_alg: self.digest_algorithm(),
            signed_attrs: Some(attributes),
            signature_algorithm: AlgorithmIdentifierOwned {
                oid: self.signer.algorithm().oid(),
                parameters: None,
            },
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
            digest_algorithms: SetOfVec::try_from(vec![self.digest_algorithm()])?,
            encap_content_info: EncapsulatedContentInfo {
                econtent_type: TST_INFO,
                econtent: Some(Any::encode_from(&content)?),
            },
            certificates,
            crls: None,
            signer_infos: SignerInfos(SetOfVec::try_from(vec![signer])?),
        };
        let token = ContentInfo { content_type: SIGNED_DATA, content: Any::encode_from(&data)? };
        Ok(TimeStampResp { status: Status { status: 0, texts: None, failure: None }, token }
            .to_der()?)
    }

    fn info(&self, query: &Query, since: Duration) -> Result<Vec<u8>, Error> {
        let oid = oid(query.hash);
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
        let digest = OctetString::new(self.signer.algorithm().hash().digest(content))?;
        let attributes = vec![
            attribute(CONTENT_TYPE, Any::encode_from(&TST_INFO)?)?,
            attribute(SIGNING_TIME, Any::encode_from(&UtcTime::from_unix_duration(since)?)?)?,
            attribute(MESSAGE_DIGEST, Any::encode_from(&digest)?)?,
            self.signing_certificate.clone(),
        ];
        Ok(SetOfVec::try_from(attributes)?)
    }

    /// The hash that the key signs with is that of the attributes, too.
    fn digest_algorithm(&self) -> AlgorithmIdentifierOwned {
        let oid = oid(self.signer.algorithm().hash());
        AlgorithmIdentifierOwned { oid, parameters: Some(Any::null()) }
    }
}

fn attribute(oid: ObjectIdentifier, value: Any) -> Result<Attribute, Error> {
    Ok(Attribute { oid, values: SetOfVec::try_from(vec![value])? })
}

fn oid(hash: HashAlgorithm) -> ObjectIdentifier {
    HASHES.into_iter().find(|(known, _)| *known == hash).expect("the table has every hash").1
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
    /// The authority's own certificates, or the time is outside their validity.
    #[error(transparent)]
    Chain(#[from] chain::Error),
    /// The authority's own key.
    #[error("expected the key of the timestamp certificate, the first in the chain; found another")]
    OtherKey,
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
    /// The response that says no: a TimeStampResp, DER, with status `rejection`, this error's text, and one
    /// bit of PKIFailureInfo.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn response(&self) -> Result<Vec<u8>, der::Error> {
        // The bits have names in RFC 3161, section 2.4.2.
        let bit = match self {
            Self::Hash => 0,
            Self::DigestLength { .. } => 2,
            Self::Query => 5,
            Self::Clock { .. } | Self::Chain(_) => 14,
            Self::Policy => 15,
            Self::Extensions => 16,
            Self::OtherKey | Self::Encoding(_) | Self::Signer(_) => 25,
        };
        let text = match self.is_request() {
            true => self.to_string(),
            false => "no timestamp can be given now".to_owned(),
        };
        // A named bit list has no zeros at its end (X.690, section 11.2.2).
        let mut bits = vec![0; bit / 8 + 1];
        bits[bit / 8] = 0x80 >> (bit % 8);
        let unused = u8::try_from(7 - bit % 8).expect("below eight");
        let failure = BitString::new(unused, bits)?;
        let status = Status { status: 2, texts: Some(vec![text]), failure: Some(failure) };
        Rejection { status }.to_der()
    }

    /// Whether the request is at fault.
    #[must_use]
    pub const fn is_request(&self) -> bool {
        matches!(
            self,
            Self::Query | Self::Extensions | Self::Policy | Self::Hash | Self::DigestLength { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ceremony;

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_clock_that_ran_backwards_stamps_nothing_until_it_has_caught_up() {
        let ceremony = ceremony::create("Test", at(NOW)).unwrap();
        let chain = vec![ceremony.timestamps.1, ceremony.root.1];
        let (key, last) = (Arc::new(ceremony.timestamps.0), LastGiven::default());
        let new = || TimestampAuthority::new(key.clone(), chain.clone(), last.clone()).unwrap();
        let query = Query::new(HashAlgorithm::Sha256, &[1; 32], None, false).unwrap();
        let mut refusals = Vec::new();
        for second in [NOW, NOW + 9, NOW + 8, NOW + 7, NOW, NOW + 9] {
            // As after a reload, or by the next key.
            refusals.push(match new().stamp(&query, at(second)) {
                Ok(_) => None,
                Err(Error::Clock { seconds }) => Some(seconds),
                Err(error) => panic!("{error}"),
            });
        }
        assert_eq!(refusals, [None, None, None, Some(2), Some(9), None]);
    }

    #[test]
    fn nothing_is_stamped_outside_the_validity_of_the_certificates() {
        let ceremony = ceremony::create("Test", at(NOW)).unwrap();
        let chain = vec![ceremony.timestamps.1, ceremony.root.1];
        let authority =
            TimestampAuthority::new(Arc::new(ceremony.timestamps.0), chain, LastGiven::default())
                .unwrap();
        let query = Query::new(HashAlgorithm::Sha256, &[1; 32], None, false).unwrap();
        let end = authority.rules.certificate().not_after();
        let start = authority.rules.certificate().not_before();
        let second = jiff::SignedDuration::from_secs(1);
        for time in [start - second, end + second] {
            assert!(matches!(authority.stamp(&query, time), Err(Error::Chain(_))), "{time}");
        }
        assert!(authority.stamp(&query, end).is_ok());
    }

    #[test]
    fn an_authority_needs_its_own_key_and_a_chain_for_time_stamping() {
        let ceremony = ceremony::create("Test", at(NOW)).unwrap();
        let other = ceremony::create("Test", at(NOW)).unwrap();
        let chain = |leaf: &[u8], root: &[u8]| vec![leaf.to_vec(), root.to_vec()];
        let (root, leaf) = (&ceremony.root.1, &ceremony.timestamps.1);
        let new = |chain| {
            let key = crate::signer::FileSigner::from_pem(&ceremony.timestamps.0.to_pem().unwrap());
            TimestampAuthority::new(Arc::new(key.unwrap()), chain, LastGiven::default()).err()
        };
        assert!(new(chain(leaf, root)).is_none());
        assert!(matches!(new(vec![]), Some(Error::Chain(_))));
        assert!(matches!(new(chain(&ceremony.issuing.1, root)), Some(Error::Chain(_))));
        assert!(matches!(new(chain(leaf, &other.root.1)), Some(Error::Chain(_))));
        let theirs = chain(&other.timestamps.1, &other.root.1);
        assert!(matches!(new(theirs), Some(Error::OtherKey)));
    }
}
