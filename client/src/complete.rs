//! Completing a bundle whose logging was deferred.

use crate::http::{self, Http};
use crate::services::{self, Submission};
use crate::sign::{Patience, log_entries, reason, verify_unlogged};
use crate::trust::{LogVersion, Services};
use countersign_verify::bundle::{self, Content, Material};
use countersign_verify::certificate::{self, Certificate};
use countersign_verify::key::{self, PublicKey};
use countersign_verify::statement::Statement;
use countersign_verify::{Artifact, Bundle, Report, TrustedRoot, verify};

/// What became of a bundle.
#[derive(Clone, Debug)]
pub struct Completed {
    /// The complete bundle, and its verification, which held.
    pub bundle: Bundle,
    /// The report of that.
    pub report: Report,
    /// Whether it had its entry already; then it is as it was.
    pub already: bool,
}

/// Logs a bundle that [`sign`](crate::sign::sign) made while the log was away. Before that all else about it
/// must hold: an entry in the log is for ever. Doing it again does no harm, the log answers with the
/// first entry.
///
/// # Errors
/// When the bundle does not hold, the log is away or refuses, or what comes of it does not verify.
pub async fn complete(
    bundle: &Bundle,
    services: &Services,
    root: &TrustedRoot,
    patience: Patience,
) -> Result<Completed, Error> {
    let artifact = claimed(bundle).ok_or(Error::NoDigest)?;
    if !bundle.entries().is_empty() {
        let report = held(verify(bundle, &artifact, root))?;
        return Ok(Completed { bundle: bundle.clone(), report, already: true });
    }
    held(verify_unlogged(bundle, &artifact, root))?;
    // An older log would say when it took the entry, and by now the certificate has expired.
    if services.logs.iter().any(|log| log.version != LogVersion::V2) {
        return Err(Error::OlderLog);
    }
    let Material::Certificate(certificate) = bundle.material() else {
        return Err(Error::NoCertificate);
    };
    let key = PublicKey::from_spki(Certificate::parse(certificate)?.spki())?;
    let details = key.details().ok_or(Error::Algorithm)?;
    let submission = Submission { content: bundle.content(), certificate, details };
    let http = Http::new(services.urls())?.within(patience.budget, patience.waiting);
    let entries = log_entries(&http, services, submission).await.map_err(Error::Log)?;
    let (material, content) = (bundle.material().clone(), bundle.content().clone());
    let bundle = Bundle::new(material, entries, bundle.timestamps().to_vec(), content)?;
    let report = held(verify(&bundle, &artifact, root))?;
    Ok(Completed { bundle, report, already: false })
}

/// What the bundle itself says that it is about. Its signature covers that; whether a file is it, whoever
/// has the file must ask.
fn claimed(bundle: &Bundle) -> Option<Artifact> {
    match bundle.content() {
        Content::Message(message) => Artifact::from_digest(message.hash, &message.digest),
        Content::Dsse(envelope) => Statement::parse(&envelope.payload).ok()?.artifact(),
    }
}

fn held(report: Report) -> Result<Report, Error> {
    if report.result().is_ok() { Ok(report) } else { Err(Error::Unverified(Box::new(report))) }
}

/// Why a bundle was not completed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing in it has a digest that is known here.
    #[error("the bundle names no SHA-2 digest of what it is about")]
    NoDigest,
    /// Signed by a managed key, or of an old generation.
    #[error("expected a bundle with one certificate, as signing makes them; found none")]
    NoCertificate,
    /// Only Rekor v1 is offered.
    #[error(
        "expected a Rekor v2 log: one of version 1 takes no signature of a certificate that has expired"
    )]
    OlderLog,
    /// A key that no log takes.
    #[error("the certificate's key is of a kind that logs do not take")]
    Algorithm,
    /// The certificate does not parse.
    #[error(transparent)]
    Certificate(#[from] certificate::Error),
    /// Its key does not parse.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// The HTTP client could not be made.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// No log entry.
    #[error("not logged: {0}")]
    Log(services::Error),
    /// The log's answer cannot stand in a bundle.
    #[error("the log's answer makes no bundle: {0}")]
    Bundle(#[from] bundle::Error),
    /// It does not hold, with or without the log entry.
    #[error("the bundle does not verify with this trusted root: {}", reason(.0))]
    Unverified(Box<Report>),
}
