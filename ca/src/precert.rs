//! Precertificate and final certificate must correspond: the log's receipt is for exactly what is
//! issued. Checked with the verifier's reading of both, which shares nothing with the builder.

use countersign_verify::certificate::{self, Certificate, POISON, SCT_LIST};
use countersign_verify::sct;

/// Checks that `final_der` is `precertificate_der` with the poison exchanged for SCTs, and nothing else.
///
/// # Errors
/// Names the first difference.
pub fn corresponds(precertificate_der: &[u8], final_der: &[u8]) -> Result<(), Error> {
    let precertificate = Certificate::parse(precertificate_der)?;
    let certificate = Certificate::parse(final_der)?;
    let poisoned = |certificate: &Certificate| certificate.extension(POISON).is_some();
    if !poisoned(&precertificate) || poisoned(&certificate) {
        return Err(Error::Poison);
    }
    if certificate.extension(SCT_LIST).is_none() || precertificate.extension(SCT_LIST).is_some() {
        return Err(Error::SctList);
    }
    if certificate.signature_algorithm() != precertificate.signature_algorithm() {
        return Err(Error::Algorithm);
    }
    let (logged, issued) =
        (sct::precertificate_tbs(precertificate_der)?, sct::precertificate_tbs(final_der)?);
    if logged == issued { Ok(()) } else { Err(Error::Body) }
}

/// How the two differ.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// One of them is no certificate.
    #[error(transparent)]
    Certificate(#[from] certificate::Error),
    /// One of them has no body.
    #[error(transparent)]
    Sct(#[from] sct::Error),
    /// The poison is missing or was left in.
    #[error("expected the poison in the precertificate and not in the certificate")]
    Poison,
    /// The SCT list is missing or came too early.
    #[error("expected SCTs in the certificate and not in the precertificate")]
    SctList,
    /// Different algorithms.
    #[error("precertificate and certificate are signed with different algorithms")]
    Algorithm,
    /// Different bodies.
    #[error("precertificate and certificate differ in more than poison and SCTs")]
    Body,
}
