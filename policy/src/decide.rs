//! From verified facts to a decision.

use countersign_verify::Verified;
use countersign_verify::certificate::Identity;

/// What is demanded of a signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    identity: String,
    issuer: String,
}

impl Policy {
    /// Accepts signatures by `identity`, as the certificate's subject alternative name has it, vouched
    /// for by the OIDC issuer `issuer`. Both are compared byte for byte.
    #[must_use]
    pub fn exactly(identity: impl Into<String>, issuer: impl Into<String>) -> Self {
        Self { identity: identity.into(), issuer: issuer.into() }
    }
}

/// What the policy says about one signature. Only [`decide`] makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub struct Decision(Result<&'static str, Refusal>);

impl Decision {
    /// The rule that allows it.
    ///
    /// # Errors
    /// The rule that refuses it, with what it expected and found.
    pub fn result(&self) -> Result<&'static str, &Refusal> {
        self.0.as_ref().copied()
    }
}

/// A refusal: the rule, what it expected, what it found.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{rule}: expected {expected:?}, found {found:?}")]
pub struct Refusal {
    /// A stable name: `certificate-identity` or `certificate-oidc-issuer`.
    pub rule: &'static str,
    /// What the policy names.
    pub expected: String,
    /// What the signature carries.
    pub found: String,
}

/// Decides whether `policy` accepts the signature that `verified` describes.
pub fn decide(verified: &Verified, policy: &Policy) -> Decision {
    Decision(match_identity(verified.identity(), policy))
}

fn match_identity(identity: &Identity, policy: &Policy) -> Result<&'static str, Refusal> {
    let (subject, issuer) = (identity.subject().as_str(), identity.issuer().unwrap_or_default());
    for (rule, expected, found) in [
        ("certificate-identity", &policy.identity, subject),
        ("certificate-oidc-issuer", &policy.issuer, issuer),
    ] {
        // An empty demand would be met by a certificate that says nothing.
        if expected.is_empty() || expected != found {
            return Err(Refusal { rule, expected: expected.clone(), found: found.to_owned() });
        }
    }
    Ok("certificate-identity and certificate-oidc-issuer")
}
