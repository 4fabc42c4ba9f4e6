//! The calls of the signing flow: certificate authority (Fulcio's protocol), log (Rekor v2 or v1),
//! timestamp authority (RFC 3161).

mod rekor_v1;

use crate::http::{self, Http};
use crate::retry::Retryable as _;
use crate::token::IdentityToken;
use crate::trust::{LogService, LogVersion};
use countersign_verify::assertion::Intent;
use countersign_verify::bundle::{Content, LogEntry};
use countersign_verify::encoding::base64;
use countersign_verify::json;
use countersign_verify::key::{HashAlgorithm, KeyDetails};
use der::asn1::{Null, OctetStringRef};
use der::{Encode as _, Sequence};
use serde::Deserialize;
use url::Url;

/// Asks the CA at `base` for a certificate of `public_key` (SubjectPublicKeyInfo, DER), with `proof`, a
/// signature over the token's challenge. What it is for may be said; Fulcio passes that over, and our CA decides
/// about it and binds the certificate to it. Returns the certificate, DER.
///
/// # Errors
/// When the CA refuses, is away, or answers something else.
pub async fn certificate(
    http: &Http,
    base: &Url,
    token: &IdentityToken,
    public_key: &[u8],
    proof: &[u8],
    intent: Option<&Intent>,
) -> Result<Vec<u8>, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        #[serde(alias = "signedCertificateDetachedSct")]
        signed_certificate_embedded_sct: Signed,
    }
    #[derive(Deserialize)]
    struct Signed {
        chain: Chain,
    }
    #[derive(Deserialize)]
    struct Chain {
        certificates: Vec<String>,
    }
    let pem = der::pem::encode_string("PUBLIC KEY", der::pem::LineEnding::LF, public_key)
        .expect("memory is the only limit");
    let mut request = serde_json::json!({ "publicKeyRequest": {
        "publicKey": { "algorithm": "ECDSA", "content": pem },
        "proofOfPossession": base64(proof) } });
    // What would be refused for its form is not said: the artifact has an odd name, not the signer.
    if let Some(intent) = intent.filter(|intent| intent.check().is_ok()) {
        request["intent"] = serde_json::to_value(intent).expect("texts only");
    }
    let url = below(base, "api/v2/signingCert");
    let body = request.to_string();
    let reply = http.post(&url, "application/json", body.as_bytes(), Some(token.secret())).await?;
    let malformed = || Error::Reply { url: url.to_string(), expected: "a certificate chain" };
    let answer: Answer = json::from_slice(&reply).map_err(|_| malformed())?;
    let chain = answer.signed_certificate_embedded_sct.chain.certificates;
    let leaf = chain.first().ok_or_else(malformed)?;
    let (label, der) = der::pem::decode_vec(leaf.as_bytes()).map_err(|_| malformed())?;
    if label == "CERTIFICATE" { Ok(der) } else { Err(malformed()) }
}

/// What a log is to record.
#[derive(Clone, Copy, Debug)]
pub struct Submission<'a> {
    /// The signature, and what it covers.
    pub content: &'a Content,
    /// The signing certificate, DER.
    pub certificate: &'a [u8],
    /// How its key signs.
    pub details: KeyDetails,
}

/// Submits a signature with its certificate to a log.
///
/// # Errors
/// When the log refuses, is away, or answers something else.
pub async fn log_entry(
    http: &Http,
    log: &LogService,
    submission: Submission<'_>,
) -> Result<LogEntry, Error> {
    let Submission { content, certificate, details } = submission;
    if log.version == LogVersion::V1 {
        return rekor_v1::submit(http, &log.url, &submission).await;
    }
    let digest = match content {
        Content::Message(message) => message.digest.clone(),
        Content::Dsse(envelope) => {
            envelope.pae_digest(details.scheme().hash().unwrap_or(HashAlgorithm::Sha256))
        }
    };
    let request = serde_json::json!({ "hashedRekordRequestV002": {
        "digest": base64(&digest),
        "signature": { "content": base64(content.signature()), "verifier": {
            "keyDetails": details.name(),
            "x509Certificate": { "rawBytes": base64(certificate) } } } } });
    let url = below(&log.url, "api/v2/log/entries");
    let reply = http.post(&url, "application/json", request.to_string().as_bytes(), None).await?;
    LogEntry::parse(&reply)
        .map_err(|_| Error::Reply { url: url.to_string(), expected: "a log entry with its proof" })
}

/// TimeStampReq of RFC 3161, section 2.4.1, without the optional members: the signer's certificate is
/// in the trusted root, and the reply is bound to the request by the imprint.
#[derive(Sequence)]
struct TimeStampReq<'a> {
    version: u8,
    imprint: MessageImprint<'a>,
}

#[derive(Sequence)]
struct MessageImprint<'a> {
    algorithm: AlgorithmIdentifier,
    digest: &'a OctetStringRef,
}

#[derive(Sequence)]
struct AlgorithmIdentifier {
    oid: der::asn1::ObjectIdentifier,
    parameters: Null,
}

const SHA256: der::asn1::ObjectIdentifier =
    der::asn1::ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");

/// Asks the timestamp authority at `url` for a timestamp over `signature`. Returns the TimeStampResp, DER.
///
/// # Errors
/// When the authority refuses or is away.
pub async fn timestamp(http: &Http, url: &Url, signature: &[u8]) -> Result<Vec<u8>, Error> {
    let digest = HashAlgorithm::Sha256.digest(signature);
    let request = TimeStampReq {
        version: 1,
        imprint: MessageImprint {
            algorithm: AlgorithmIdentifier { oid: SHA256, parameters: Null },
            digest: OctetStringRef::new(&digest).expect("32 bytes"),
        },
    };
    let body = request.to_der().expect("a short structure encodes");
    Ok(http.post(url, "application/timestamp-query", &body, None).await?)
}

/// `path` below a base URL that may or may not end in a slash.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// Why a service gave nothing of use.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No reply, or a refusal.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// A success that is none.
    #[error("{url} answered something else than {expected}")]
    Reply {
        /// The service.
        url: String,
        /// What was expected.
        expected: &'static str,
    },
}

impl Error {
    /// Whether the service is away or busy, and gave no answer yet.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Http(error) if error.retryable())
    }
}
