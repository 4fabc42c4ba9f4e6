//! The signing flow.

use crate::http::{self, Http};
use crate::retry;
use crate::services::{self, Submission};
use crate::token::IdentityToken;
use crate::trust::{LogVersion, Services};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use countersign_verify::assertion::Intent;
use countersign_verify::bundle::{self, Content, LogEntry, Material, MessageSignature};
use countersign_verify::certificate::{self, Certificate};
use countersign_verify::dsse::{Envelope, IN_TOTO};
use countersign_verify::key::{HashAlgorithm, KeyDetails};
use countersign_verify::{Artifact, Bundle, Report, Thresholds, TrustedRoot, Verifier, verify};
use jiff::Timestamp;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What to sign.
#[derive(Clone, Debug)]
pub enum Subject<'a> {
    /// An artifact, known by its SHA-256 digest.
    Artifact(&'a Artifact),
    /// An in-toto statement, as the bytes of its JSON; and one of the artifacts it is about, by which
    /// the bundle is verified.
    Statement(Vec<u8>, &'a Artifact),
}

/// How to meet services that are slow or away.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For all requests and their repeats together.
    pub budget: Duration,
    /// Whether to do without the log when it stays away; see [`Signed::deferred`].
    pub defer: bool,
    /// Told of each failure that is waited for.
    pub waiting: fn(&http::Error),
}

impl Default for Patience {
    fn default() -> Self {
        Self { budget: retry::BUDGET, defer: false, waiting: |_| {} }
    }
}

/// What signing made.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The bundle.
    pub bundle: Bundle,
    /// Our own verification of it, which held.
    pub report: Report,
    /// Why there is no log entry: the bundle is not complete, and nobody accepts it, until
    /// [`complete`](crate::complete::complete) has logged it. Its timestamp keeps the time of signing.
    pub deferred: Option<services::Error>,
}

/// Signs as the identity in `token`: ephemeral key, certificate, signature, timestamp and log entry,
/// bundle, and our own verification of it.
///
/// # Errors
/// Names the step that failed. What is left behind is public: the certificate in its log, and after the
/// last steps the entry in the signature log.
pub async fn sign(
    subject: Subject<'_>,
    token: &IdentityToken,
    services: &Services,
    root: &TrustedRoot,
    patience: Patience,
    intent: Option<&Intent>,
) -> Result<Signed, Error> {
    Signer::new(token, services, root, patience, intent).await?.sign(subject, services).await
}

/// An ephemeral key and its certificate: signs as often as one likes, for as long as the certificate lasts.
/// The key exists in memory only, and is wiped with the signer.
pub struct Signer<'a> {
    http: Http,
    root: &'a TrustedRoot,
    patience: Patience,
    /// The first signature has what the certificate left of the budget, each later one a budget of its own.
    used: AtomicBool,
    key: EphemeralKey,
    certificate: Vec<u8>,
    expires: Timestamp,
}

impl<'a> Signer<'a> {
    /// Makes the key, and gets the certificate for the identity in `token`, and for one intent if that is told.
    ///
    /// # Errors
    /// Names the step that failed.
    pub async fn new(
        token: &IdentityToken,
        services: &Services,
        root: &'a TrustedRoot,
        patience: Patience,
        intent: Option<&Intent>,
    ) -> Result<Self, Error> {
        if patience.defer {
            can_wait(services)?;
        }
        let http = Http::new(services.urls())?.within(patience.budget, patience.waiting);
        let key = EphemeralKey::generate()?;
        let proof = key.sign(token.challenge().as_bytes())?;
        let authority = &services.certificate_authority;
        let certificate = services::certificate(&http, authority, token, &key.spki, &proof, intent)
            .await
            .map_err(Error::Certificate)?;
        let expires = check_certificate(&certificate, &key, root)?;
        // The instance is there, and a certificate is too much to lose for a moment's silence.
        let http = http.insisting();
        let used = AtomicBool::new(false);
        Ok(Self { http, root, patience, used, key, certificate, expires })
    }

    /// The certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// When the certificate expires.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Signs, with an entry and a timestamp by `services`, and verifies what comes of it.
    ///
    /// # Errors
    /// Names the step that failed.
    pub async fn sign(&self, subject: Subject<'_>, services: &Services) -> Result<Signed, Error> {
        let (content, artifact) = match subject {
            Subject::Artifact(artifact) => (self.key.sign_artifact(artifact)?, artifact),
            Subject::Statement(text, artifact) => (self.key.sign_statement(text)?, artifact),
        };
        let Patience { budget, defer, waiting } = self.patience;
        let http = match self.used.swap(true, Ordering::Relaxed) {
            true => &self.http.clone().within(budget, waiting),
            false => &self.http,
        };
        let certificate = self.certificate.clone();
        let details = KeyDetails::EcdsaP256Sha256;
        let submission = Submission { content: &content, certificate: &certificate, details };
        let timestamps = services
            .timestamp_authorities
            .iter()
            .map(|url| services::timestamp(http, url, content.signature()));
        let timestamps = futures_util::future::try_join_all(timestamps);
        // Both cover the signature and nothing of each other.
        let (entries, timestamps) =
            tokio::join!(log_entries(http, services, submission), timestamps);
        let timestamps = timestamps.map_err(Error::Timestamp)?;
        let (entries, deferred) = match entries {
            Ok(entries) => (entries, None),
            Err(away) if defer && away.is_away() => (Vec::new(), Some(away)),
            Err(error) => return Err(Error::Log(error)),
        };
        let bundle = Bundle::new(Material::Certificate(certificate), entries, timestamps, content)?;
        let report = match deferred {
            None => verify(&bundle, artifact, self.root),
            Some(_) => verify_unlogged(&bundle, artifact, self.root),
        };
        match report.result() {
            Ok(_) => Ok(Signed { bundle, report, deferred }),
            Err(_) => Err(Error::Unverified(Box::new(report))),
        }
    }
}

/// An entry in each log that the instance asks for.
pub(crate) async fn log_entries(
    http: &Http,
    services: &Services,
    submission: Submission<'_>,
) -> Result<Vec<LogEntry>, services::Error> {
    let entries = services.logs.iter().map(|log| services::log_entry(http, log, submission));
    futures_util::future::try_join_all(entries).await
}

/// All that must hold of a bundle but its log entry.
pub(crate) fn verify_unlogged(bundle: &Bundle, artifact: &Artifact, root: &TrustedRoot) -> Report {
    let thresholds = Thresholds { logs: 0, ..Thresholds::CERTIFICATE };
    Verifier::new(root).with_thresholds(thresholds).verify(bundle, artifact)
}

/// A Rekor v1 log says when it took an entry, and by then the certificate has expired; and without a
/// timestamp nothing else says when the signature was made.
fn can_wait(services: &Services) -> Result<(), Error> {
    let late = services.logs.iter().all(|log| log.version == LogVersion::V2);
    let timed = !services.timestamp_authorities.is_empty();
    if late && timed { Ok(()) } else { Err(Error::NotDeferrable) }
}

/// It exists in memory only, and aws-lc wipes it when dropped.
struct EphemeralKey {
    pair: EcdsaKeyPair,
    spki: Vec<u8>,
}

impl EphemeralKey {
    fn generate() -> Result<Self, Error> {
        let pair =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| Error::Key)?;
        let spki = pair.public_key().as_der().map_err(|_| Error::Key)?.as_ref().to_vec();
        Ok(Self { pair, spki })
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| Error::Key)?;
        Ok(signature.as_ref().to_vec())
    }

    fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, Error> {
        use aws_lc_rs::digest::{Digest, SHA256};
        let imported = Digest::import_less_safe(digest, &SHA256).map_err(|_| Error::Digest)?;
        Ok(self.pair.sign_digest(&imported).map_err(|_| Error::Key)?.as_ref().to_vec())
    }

    fn sign_artifact(&self, artifact: &Artifact) -> Result<Content, Error> {
        let hash = HashAlgorithm::Sha256;
        let digest = artifact.digest(hash).ok_or(Error::Digest)?.to_vec();
        let signature = self.sign_digest(&digest)?;
        Ok(Content::Message(MessageSignature { hash, digest, signature }))
    }

    fn sign_statement(&self, payload: Vec<u8>) -> Result<Content, Error> {
        let (payload_type, key_id) = (IN_TOTO.to_owned(), String::new());
        let payload = payload.into();
        let mut envelope = Envelope { payload_type, payload, signature: Vec::new(), key_id };
        envelope.signature = self.sign_digest(&envelope.pae_digest(HashAlgorithm::Sha256))?;
        Ok(Content::Dsse(envelope))
    }
}

/// What the CA returned must be for our key, by an authority of the trusted root and in a certificate log of it:
/// an entry in the log is for ever, so none is made for a certificate that nobody here would accept. All else
/// about it is checked with the whole bundle. The time is the certificate's own: our clock may differ. Returns
/// when it expires.
fn check_certificate(
    der: &[u8],
    key: &EphemeralKey,
    root: &TrustedRoot,
) -> Result<Timestamp, Error> {
    let certificate = Certificate::parse(der).map_err(Error::CertificateFormat)?;
    if certificate.spki() != key.spki {
        return Err(Error::CertificateForOtherKey);
    }
    let checked = Verifier::new(root).certificate(&certificate, certificate.not_before());
    checked.map_err(Error::CertificateUntrusted)?;
    Ok(certificate.not_after())
}

/// The step of the flow that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The artifact is not known by its SHA-256.
    #[error("the artifact's SHA-256 digest is needed to sign it")]
    Digest,
    /// No key could be made or used.
    #[error("the system gave no randomness for a key")]
    Key,
    /// The HTTP client could not be made.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// No certificate.
    #[error("no certificate: {0}")]
    Certificate(services::Error),
    /// The CA's certificate does not parse.
    #[error("the certificate authority answered: {0}")]
    CertificateFormat(certificate::Error),
    /// The CA certified another key.
    #[error("the certificate authority's certificate is for another key than ours")]
    CertificateForOtherKey,
    /// The trusted root does not accept the certificate.
    #[error("nothing was logged: {0}")]
    CertificateUntrusted(countersign_verify::Error),
    /// No timestamp.
    #[error("no timestamp: {0}")]
    Timestamp(services::Error),
    /// No log entry.
    #[error("not logged: {0}")]
    Log(services::Error),
    /// Deferring was asked for.
    #[error(
        "logging cannot be deferred with these services: expected a Rekor v2 log and a timestamp \
         authority, whose timestamp keeps the time of signing"
    )]
    NotDeferrable,
    /// The log's answer cannot stand in a bundle.
    #[error("the services' answers make no bundle: {0}")]
    Bundle(#[from] bundle::Error),
    /// Our own verification refuses what we made: the services and the trusted root do not fit.
    #[error("the bundle just made does not verify with this trusted root: {}", reason(.0))]
    Unverified(Box<Report>),
}

pub(crate) fn reason(report: &Report) -> String {
    report.result().err().map(ToString::to_string).unwrap_or_default()
}

impl Error {
    /// Whether services and trusted root do not fit: they are of two instances, or one of them is older.
    #[must_use]
    pub fn is_mismatch(&self) -> bool {
        // A frozen log answers 405.
        let frozen = |error: &services::Error| {
            matches!(error, services::Error::Http(http::Error::Status { status: 405, .. }))
        };
        match self {
            Self::CertificateUntrusted(_) | Self::Unverified(_) => true,
            Self::Log(error) => frozen(error),
            _ => false,
        }
    }

    /// Whether a service read the request and said no, as opposed to not being able to tell.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Certificate(services::Error::Http(error))
            | Self::Log(services::Error::Http(error))
            | Self::Timestamp(services::Error::Http(error)) => error.is_refusal(),
            _ => false,
        }
    }
}
