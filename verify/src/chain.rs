//! Certificate chains: from a signing certificate, or a timestamp authority's, to a trusted root.
//!
//! RFC 5280, section 6, with the rules of Sigstore: each authority has a window of its own besides its
//! certificates' validity, and the chain must hold at every trusted time. The certificates of an
//! authority are checked against each other once, when it is made; for each bundle there remain the
//! signature on the signing certificate (path rules by rustls-webpki) and comparisons of times.
//!
//! Refused: certificates out of order, CAs without the CA bit or the right to sign certificates or
//! for another purpose, paths longer than a CA allows, name constraints above the issuing CA.

use crate::certificate::{
    self, CODE_SIGNING, Certificate, EXTENDED_KEY_USAGE, NAME_CONSTRAINTS, TIME_STAMPING,
};
use crate::key::{self, PublicKey};
use crate::trusted_root::Window;
use const_oid::ObjectIdentifier;
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;

/// `anyExtendedKeyUsage` of RFC 5280, section 4.2.1.12.
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// An authority for signing certificates whose own chain is checked.
#[derive(Clone, Debug)]
pub struct CertificateAuthority {
    chain: Vec<Certificate>,
    valid_for: Window,
    issuer_key: PublicKey,
    anchor: TrustAnchor<'static>,
}

impl CertificateAuthority {
    /// An authority from its certificates, DER: the issuing one first, the trusted root last.
    ///
    /// # Errors
    /// When the certificates do not form a chain of CAs for code signing.
    pub fn new(chain: Vec<&[u8]>, valid_for: Window) -> Result<Self, Error> {
        let chain = parse_chain(chain)?;
        check_authorities(&chain, 0, CODE_SIGNING)?;
        Self::of(chain, valid_for)
    }

    /// One for each certificate above the first, which issues by that: what was checked of the whole chain holds from
    /// there on.
    pub(crate) fn higher(&self) -> Result<Vec<Self>, Error> {
        (1..self.chain.len())
            .map(|place| Self::of(self.chain[place..].to_vec(), self.valid_for))
            .collect()
    }

    /// Of a chain that was checked.
    fn of(chain: Vec<Certificate>, valid_for: Window) -> Result<Self, Error> {
        let issuer = chain.first().ok_or(Error::Empty)?;
        let der = CertificateDer::from(issuer.der());
        let anchor = webpki::anchor_from_trusted_cert(&der).map_err(Error::Anchor)?.to_owned();
        let issuer_key = PublicKey::from_spki(issuer.spki())?;
        Ok(Self { issuer_key, anchor, chain, valid_for })
    }

    /// The issuing CA's certificate.
    #[must_use]
    pub fn issuer(&self) -> &Certificate {
        &self.chain[0]
    }

    /// The issuing CA's key.
    #[must_use]
    pub const fn issuer_key(&self) -> &PublicKey {
        &self.issuer_key
    }

    /// All its certificates, the root last.
    #[must_use]
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// When it is trusted.
    #[must_use]
    pub const fn valid_for(&self) -> Window {
        self.valid_for
    }

    /// Checks that this authority issued `leaf` for code signing and that the whole path is valid at
    /// every one of `times`.
    ///
    /// # Errors
    /// With the first rule that the path breaks.
    pub fn verify(&self, leaf: &Certificate, times: &[Timestamp]) -> Result<(), Error> {
        if leaf.issuer() != self.issuer().subject() {
            return Err(Error::OtherIssuer);
        }
        for &time in times {
            within_certificate("signing certificate", leaf, time)?;
            within_authority(&self.chain, self.valid_for, time)?;
        }
        let key_usage = leaf.key_usage()?;
        if key_usage.is_some_and(|usage| !usage.digital_signature()) {
            return Err(Error::KeyUsage { certificate: "signing certificate" });
        }
        let first = times.first().ok_or(Error::NoTime)?;
        let seconds = u64::try_from(first.as_second()).map_err(|_| Error::NoTime)?;
        let der = CertificateDer::from(leaf.der());
        webpki::EndEntityCert::try_from(&der)
            .map_err(Error::Path)?
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                std::slice::from_ref(&self.anchor),
                &[],
                UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
                webpki::KeyUsage::required(CODE_SIGNING.as_bytes()),
                None,
                None,
            )
            .map_err(Error::Path)?;
        Ok(())
    }
}

/// A timestamp authority whose own chain is checked.
#[derive(Clone, Debug)]
pub struct TimestampAuthority {
    uri: String,
    chain: Vec<Certificate>,
    valid_for: Window,
    key: PublicKey,
}

impl TimestampAuthority {
    /// An authority from its certificates, DER: the one that signs timestamps first, the root last.
    ///
    /// # Errors
    /// When they do not form a chain, or the first is not for time stamping alone.
    pub fn new(uri: String, chain: Vec<&[u8]>, valid_for: Window) -> Result<Self, Error> {
        let chain = parse_chain(chain)?;
        let leaf = chain.first().ok_or(Error::Empty)?;
        if leaf.basic_constraints()?.is_some_and(|constraints| constraints.ca) {
            return Err(Error::AuthoritySigns);
        }
        let critical = leaf.extension(EXTENDED_KEY_USAGE).is_some_and(|usage| usage.critical);
        if !critical || leaf.extended_key_usage()?.as_deref() != Some(&[TIME_STAMPING]) {
            return Err(Error::NotForTimestamps);
        }
        check_authorities(&chain, 1, TIME_STAMPING)?;
        let key = PublicKey::from_spki(leaf.spki())?;
        Ok(Self { uri, key, chain, valid_for })
    }

    /// Where it is served; a name for people.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The certificate that signs timestamps.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.chain[0]
    }

    /// The key that signs timestamps.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Checks that the authority and all its certificates are trusted at `time`.
    ///
    /// # Errors
    /// Names the window that does not contain it.
    pub fn valid_at(&self, time: Timestamp) -> Result<(), Error> {
        within_authority(&self.chain, self.valid_for, time)
    }
}

fn parse_chain(chain: Vec<&[u8]>) -> Result<Vec<Certificate>, Error> {
    Ok(chain.into_iter().map(Certificate::parse).collect::<Result<_, _>>()?)
}

fn within_certificate(
    which: &'static str,
    certificate: &Certificate,
    time: Timestamp,
) -> Result<(), Error> {
    if certificate.valid_at(time) {
        return Ok(());
    }
    let (start, end) = (Some(certificate.not_before()), Some(certificate.not_after()));
    Err(Error::OutsideValidity { which, time, valid: Window { start, end } })
}

fn within_authority(chain: &[Certificate], valid: Window, time: Timestamp) -> Result<(), Error> {
    if !valid.contains(time) {
        return Err(Error::OutsideValidity { which: "authority in the trusted root", time, valid });
    }
    chain.iter().try_for_each(|certificate| {
        within_certificate("authority's certificate", certificate, time)
    })
}

/// Checks the certificates from place `first` on: each a CA for `purpose`; and that each certificate
/// of the whole chain is signed by the next.
fn check_authorities(
    chain: &[Certificate],
    first: usize,
    purpose: ObjectIdentifier,
) -> Result<(), Error> {
    if let [issuing, .., last] = &chain[first.min(chain.len())..]
        && issuing.issuer() == issuing.subject()
        && last.issuer() != last.subject()
    {
        return Err(Error::RootFirst);
    }
    for (place, certificate) in chain.iter().enumerate().skip(first) {
        let constraints = certificate.basic_constraints()?.filter(|constraints| constraints.ca);
        let constraints = constraints.ok_or(Error::NotAnAuthority { place })?;
        let below = place - first;
        if constraints.path_len_constraint.is_some_and(|allowed| usize::from(allowed) < below) {
            return Err(Error::PathLength { place, below });
        }
        if certificate.key_usage()?.is_some_and(|usage| !usage.key_cert_sign()) {
            return Err(Error::KeyUsage { certificate: "CA certificate" });
        }
        let for_purpose =
            |usages: &Vec<_>| usages.contains(&purpose) || usages.contains(&ANY_USAGE);
        if certificate.extended_key_usage()?.is_some_and(|usages| !for_purpose(&usages)) {
            return Err(Error::OtherPurpose { place, purpose });
        }
        if place > 0 && certificate.extension(NAME_CONSTRAINTS).is_some() {
            return Err(Error::NameConstraints { place });
        }
    }
    for (place, pair) in chain.windows(2).enumerate() {
        let [lower, upper] = pair else { continue };
        let signed = lower.issuer() == upper.subject()
            && PublicKey::from_spki(upper.spki())?
                .verify_with_oid(lower.signature_algorithm(), lower.tbs(), lower.signature())
                .is_ok();
        if !signed {
            return Err(Error::NotSignedByNext { place });
        }
    }
    Ok(())
}

/// Why there is no path to a trusted root.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No certificate at all.
    #[error("expected at least one certificate, found none")]
    Empty,
    /// A certificate does not parse.
    #[error(transparent)]
    Certificate(#[from] certificate::Error),
    /// A CA's key is not accepted.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// The issuing CA cannot serve as trust anchor.
    #[error("the issuing CA cannot be a trust anchor: {0}")]
    Anchor(webpki::Error),
    /// The wrong way round.
    #[error("expected the chain's root last, found it first")]
    RootFirst,
    /// A certificate above the first is no CA.
    #[error("certificate {place} of the chain is not a CA")]
    NotAnAuthority {
        /// Counted from 0, the root last.
        place: usize,
    },
    /// More CAs below than a CA allows.
    #[error("certificate {place} of the chain does not allow {below} CAs below it")]
    PathLength {
        /// Counted from 0, the root last.
        place: usize,
        /// CAs below it.
        below: usize,
    },
    /// The key may not be used for this.
    #[error("the {certificate}'s key usage does not allow what it is used for")]
    KeyUsage {
        /// Which one.
        certificate: &'static str,
    },
    /// A CA for something else.
    #[error("certificate {place} of the chain is not for purpose {purpose}")]
    OtherPurpose {
        /// Counted from 0, the root last.
        place: usize,
        /// The extended key usage needed.
        purpose: ObjectIdentifier,
    },
    /// Name constraints where they are not evaluated.
    #[error(
        "certificate {place} of the chain has name constraints; they are supported on the issuing CA only"
    )]
    NameConstraints {
        /// Counted from 0, the root last.
        place: usize,
    },
    /// Out of order, or from different authorities.
    #[error("certificate {place} of the chain is not signed by the next one")]
    NotSignedByNext {
        /// Counted from 0, the root last.
        place: usize,
    },
    /// A CA where a timestamp signer is needed.
    #[error(
        "the timestamp authority's first certificate is a CA; expected the one that signs timestamps"
    )]
    AuthoritySigns,
    /// Extended key usage other than time stamping, critical.
    #[error(
        "expected the critical extended key usage timeStamping and no other on the timestamp certificate"
    )]
    NotForTimestamps,
    /// The certificate names another issuer.
    #[error(
        "no trusted certificate authority has the name that the certificate names as its issuer"
    )]
    OtherIssuer,
    /// No time to check at.
    #[error("there is no trusted time to check the certificate at")]
    NoTime,
    /// A time outside a window.
    #[error("{time} is outside the validity of the {which}: expected {valid}")]
    OutsideValidity {
        /// What is not valid.
        which: &'static str,
        /// The trusted time.
        time: Timestamp,
        /// When it is valid.
        valid: Window,
    },
    /// A rule of RFC 5280 that the signing certificate breaks.
    #[error("the signing certificate does not lead to the authority: {}", reason(.0))]
    Path(webpki::Error),
}

/// The library has names for what people meet, and no sentences.
fn reason(error: &webpki::Error) -> String {
    match error {
        webpki::Error::InvalidSignatureForPublicKey => "the authority's signature does not hold",
        webpki::Error::RequiredEkuNotFoundContext(_) => "it is not for code signing",
        webpki::Error::UnsupportedCriticalExtension => {
            "it has a critical extension that is not known here"
        }
        webpki::Error::CaUsedAsEndEntity => "it is a CA's own",
        webpki::Error::BadDer => "it is not DER",
        other => return other.to_string(),
    }
    .to_owned()
}

impl Error {
    /// Whether all that is there was read, and breaks a rule.
    pub(crate) const fn is_of_a_rule(&self) -> bool {
        !matches!(self, Self::Certificate(_) | Self::Key(_))
    }
}
