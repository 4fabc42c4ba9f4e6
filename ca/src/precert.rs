//! Precertificate and final certificate must correspond: the log's receipt is for exactly what is
//! issued. Checked with the verifier's reading of both, which shares nothing with the builder.

use countersign_verify::certificate::{self, Certificate, POISON, SCT_LIST};
use countersign_verify::sct;

/// Checks that `final_der` is `precertificate` with the poison exchanged for SCTs, and nothing else.
/// `logged` is what the log's receipt was verified for: [`sct::precertificate_tbs`] of the precertificate.
///
/// # Errors
/// Names the first difference.
pub fn corresponds(
    precertificate: &Certificate,
    logged: &[u8],
    final_der: &[u8],
) -> Result<(), Error> {
    let certificate = Certificate::parse(final_der)?;
    // RFC 6962, section 3.1: critical, so that nobody takes it for a certificate, and NULL.
    let poison = precertificate.extension(POISON);
    let poisoned = poison.is_some_and(|poison| poison.critical && poison.value == [5, 0]);
    if !poisoned || certificate.extension(POISON).is_some() {
        return Err(Error::Poison);
    }
    let receipt = certificate.extension(SCT_LIST).is_some_and(|list| !list.critical);
    if !receipt || precertificate.extension(SCT_LIST).is_some() {
        return Err(Error::SctList);
    }
    if certificate.signature_algorithm() != precertificate.signature_algorithm() {
        return Err(Error::Algorithm);
    }
    if sct::precertificate_tbs(&certificate)? == logged { Ok(()) } else { Err(Error::Body) }
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
    /// The poison is missing, not what it must be, or was left in.
    #[error("expected the critical poison in the precertificate and none in the certificate")]
    Poison,
    /// The SCT list is missing, critical, or came too early.
    #[error("expected SCTs, not critical, in the certificate and none in the precertificate")]
    SctList,
    /// Different algorithms.
    #[error("precertificate and certificate are signed with different algorithms")]
    Algorithm,
    /// Different bodies.
    #[error("precertificate and certificate differ in more than poison and SCTs")]
    Body,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ceremony;
    use crate::identity::{Identity, San};
    use crate::profile::{Issuer, Prepared};
    use countersign_verify::sct::Sct;
    use jiff::Timestamp;
    use std::ops::Range;

    fn corresponds(precertificate: &[u8], certificate: &[u8]) -> Result<(), Error> {
        let precertificate = Certificate::parse(precertificate)?;
        let logged = sct::precertificate_tbs(&precertificate)?;
        super::corresponds(&precertificate, &logged, certificate)
    }

    /// A precertificate and its certificate.
    fn pair() -> (Vec<u8>, Vec<u8>) {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ceremony = ceremony::create("Test", now).unwrap();
        let issuing = Certificate::parse(&ceremony.issuing.1).unwrap();
        let issuer = Issuer::new(&issuing, &[]).unwrap();
        let identity = Identity::for_tests(San::Email("a@example.test".to_owned()));
        let prepared =
            Prepared::new(&identity, None, issuing.spki(), &[1; 20], &issuer, now).unwrap();
        let (precertificate, rest) = prepared.sign_precertificate(&ceremony.issuing.0).unwrap();
        let sct = Sct {
            log_id: [7; 32],
            timestamp: 1,
            extensions: vec![],
            algorithm: sct::SHA256_ECDSA,
            signature: vec![9; 70],
        };
        (precertificate, rest.sign(sct, &ceremony.issuing.0).unwrap())
    }

    fn place(of: &[u8], within: &[u8]) -> Range<usize> {
        let start = within.windows(of.len()).position(|window| window == of).unwrap();
        start..start + of.len()
    }

    #[test]
    fn a_pair_corresponds_and_no_byte_of_either_may_change_but_signature_and_receipt() {
        let (precertificate, certificate) = pair();
        corresponds(&precertificate, &certificate).unwrap();
        let free = |der: &[u8]| {
            let parsed = Certificate::parse(der).unwrap();
            let receipt = parsed.extension(SCT_LIST).map(|list| place(&list.value, der));
            (place(parsed.signature(), der), receipt.unwrap_or(0..0))
        };
        for (which, original) in [(0, &precertificate), (1, &certificate)] {
            let (signature, receipt) = free(original);
            for place in 0..original.len() {
                let mut altered = original.clone();
                altered[place] ^= 1;
                let pair = [(&altered, &certificate), (&precertificate, &altered)][which];
                let expected = signature.contains(&place) || receipt.contains(&place);
                let found = corresponds(pair.0, pair.1);
                assert_eq!(found.is_ok(), expected, "byte {place} of {which}: {found:?}");
            }
        }
    }

    #[test]
    fn each_must_be_what_it_is_called() {
        let (precertificate, certificate) = pair();
        assert_eq!(corresponds(&certificate, &certificate), Err(Error::Poison));
        assert_eq!(corresponds(&precertificate, &precertificate), Err(Error::Poison));
        assert_eq!(corresponds(&certificate, &precertificate), Err(Error::Poison));
        let (other, _) = pair();
        assert_eq!(corresponds(&other, &certificate), Err(Error::Body));
    }
}
