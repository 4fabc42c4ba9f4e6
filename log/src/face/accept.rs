//! Whose signatures a log takes, besides that they must hold. By default anybody's, as the public log does:
//! whoever verifies a bundle asks who signed. A log of one organisation may be narrower.
//!
//! Refused if so configured: certificates of other authorities, or outside their validity when they come
//! in; keys that are not listed; whom a policy does not let sign. A signature whose logging was deferred
//! comes with a certificate that has expired meanwhile, so a log that asks for valid ones does not take it.

use crate::Clock;
use countersign_verify::certificate::Certificate;
use countersign_verify::chain::{self, CertificateAuthority};
use countersign_verify::encoding::hex;
use countersign_verify::entry::Verifier;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::merkle::Hash;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Whose signatures a log takes.
#[derive(Clone, Default)]
pub struct Accepted {
    /// By certificate.
    pub certificates: Certificates,
    /// By bare key.
    pub keys: Keys,
    /// What decides beside them.
    pub policy: Option<Gate>,
}

/// Decides whether an entry may be made; its signature holds by then.
pub type Gate = Arc<dyn Fn(&Asked<'_>) -> Result<(), Box<Denied>> + Send + Sync>;

/// An entry that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who signed. About a certificate nothing is verified.
    pub signer: Verifier<'a>,
    /// The digest that the signature is over: an artifact's, or an envelope's, which it does not tell.
    pub digest: (HashAlgorithm, &'a [u8]),
    /// What an envelope says, where the protocol has the log see it.
    pub payload: Option<&'a [u8]>,
}

/// A policy's no to an entry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("policy rule {rule:?} refuses this entry: expected {expected}, found {found}")]
pub struct Denied {
    /// The rule.
    pub rule: String,
    /// What it expects.
    pub expected: String,
    /// What it found.
    pub found: String,
    /// Whom the entry's certificate names, and its issuer; of a key its digest.
    pub signer: (String, String),
    /// It could not be told.
    pub undecided: bool,
}

/// Which certificates vouch.
#[derive(Clone, Default)]
pub enum Certificates {
    /// All, even self-made ones.
    #[default]
    Any,
    /// Those that one of these authorities issued for code signing, and that are valid now. Of none: none.
    IssuedBy(Vec<CertificateAuthority>, Clock),
}

/// Which keys vouch.
#[derive(Clone, Debug, Default)]
pub enum Keys {
    /// All.
    #[default]
    Any,
    /// These: SubjectPublicKeyInfo, DER.
    Listed(BTreeSet<Vec<u8>>),
}

impl Accepted {
    pub(super) fn certificate(&self, certificate: &Certificate) -> Result<(), Refused> {
        let Certificates::IssuedBy(authorities, clock) = &self.certificates else { return Ok(()) };
        let mut reason = chain::Error::OtherIssuer;
        for authority in authorities {
            match authority.verify(certificate, &[clock()]) {
                Ok(()) => return Ok(()),
                Err(chain::Error::OtherIssuer) => {}
                Err(error) => reason = error,
            }
        }
        Err(Refused::Certificate(reason))
    }

    pub(super) fn key(&self, spki: &[u8]) -> Result<(), Refused> {
        match &self.keys {
            Keys::Listed(keys) if !keys.contains(spki) => Err(Refused::Key { id: Hash::of(spki) }),
            _ => Ok(()),
        }
    }

    pub(super) fn by_policy(&self, asked: &Asked<'_>) -> Result<(), Box<Denied>> {
        self.policy.as_ref().map_or(Ok(()), |gate| gate(asked))
    }
}

/// A signer that this log does not take.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// By certificate.
    #[error("this log takes {}, found: {}", self.expected(), self.found())]
    Certificate(chain::Error),
    /// By bare key.
    #[error("this log takes {}, found {}", self.expected(), self.found())]
    Key {
        /// SHA-256 of the SubjectPublicKeyInfo.
        id: Hash,
    },
}

impl Refused {
    /// What would be taken.
    #[must_use]
    pub const fn expected(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificates of its authorities while they are valid",
            Self::Key { .. } => "the keys it is configured with",
        }
    }

    /// What came.
    #[must_use]
    pub fn found(&self) -> String {
        match self {
            Self::Certificate(error) => error.to_string(),
            Self::Key { id } => format!("the key with SHA-256 {}", hex(id.as_bytes())),
        }
    }
}
