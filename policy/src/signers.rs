//! Whom the flags of a command accept: a list of identities, each with its issuer, or a managed key. The
//! short policy, for which nobody writes a file.

use crate::pattern::Pattern;
use countersign_verify::certificate::{CLAIMS, Identity};
use countersign_verify::{Signer, Verified};

/// Whose signatures are accepted.
#[derive(Clone, Debug)]
pub enum Signers {
    /// Those of any of these identities; of nobody when there is none.
    Identities(Vec<Expected>),
    /// Those by the managed key that verification was given. Whoever holds it is not known.
    Key,
}

/// One identity that is accepted.
#[derive(Clone, Debug)]
pub struct Expected {
    identity: Match,
    issuer: Match,
    claims: Vec<(Claim, String)>,
}

/// How a name must read.
#[derive(Clone, Debug)]
pub enum Match {
    /// To the letter.
    Exactly(String),
    /// The whole name must match, as between `^` and `$`.
    Pattern(Pattern),
    /// Both at once.
    Both(String, Pattern),
}

/// One of Fulcio's certificate extensions, see [`CLAIMS`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// The rule's name in a refusal.
    rule: &'static str,
    /// Extensions that may carry it; every one that is there must agree.
    numbers: &'static [u8],
}

impl Claim {
    /// The job's trigger: `push`, `release`, `workflow_dispatch`…
    pub const TRIGGER: Self =
        Self { rule: "certificate-github-workflow-trigger", numbers: &[20, 2] };
    /// The commit that was built.
    pub const SHA: Self = Self { rule: "certificate-github-workflow-sha", numbers: &[13, 3] };
    /// The workflow's name.
    pub const NAME: Self = Self { rule: "certificate-github-workflow-name", numbers: &[4] };
    /// The repository, `owner/name`; GitHub only.
    pub const REPOSITORY: Self =
        Self { rule: "certificate-github-workflow-repository", numbers: &[5] };
    /// The Git ref that was built.
    pub const REF: Self = Self { rule: "certificate-github-workflow-ref", numbers: &[14, 6] };

    /// Any claim, by the name it has in [`CLAIMS`]; `None` for a name that is not there.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let place = CLAIMS.iter().position(|&(_, known)| known == name)?;
        let (_, rule) = CLAIMS[place];
        Some(Self { rule, numbers: NUMBERS[place..].first_chunk::<1>()? })
    }
}

/// The numbers of [`CLAIMS`], so that one can be borrowed.
static NUMBERS: [u8; CLAIMS.len()] = {
    let mut numbers = [0; CLAIMS.len()];
    let mut place = 0;
    while place < numbers.len() {
        numbers[place] = CLAIMS[place].0;
        place += 1;
    }
    numbers
};

impl Signers {
    /// Accepts signatures by `identity`, as the certificate's subject alternative name has it, vouched
    /// for by the OIDC issuer `issuer`. Both are compared byte for byte.
    #[must_use]
    pub fn exactly(identity: impl Into<String>, issuer: impl Into<String>) -> Self {
        let (identity, issuer) = (Match::Exactly(identity.into()), Match::Exactly(issuer.into()));
        Self::Identities(vec![Expected::new(identity, issuer)])
    }

    /// The rule that accepts the signature that `verified` describes.
    ///
    /// # Errors
    /// The rule that refuses it, with what it expected and found. Of several identities it is that of the
    /// one that came nearest: by its claims, else its issuer, else its name.
    pub fn accept(&self, verified: &Verified) -> Result<&'static str, Refusal> {
        match (self, verified.signer()) {
            (Self::Key, Signer::Key(_)) => Ok("key"),
            (Self::Key, Signer::Certificate { identity, .. }) => {
                Err(Refusal::new("key", "the key given", identity.subject().as_str()))
            }
            (Self::Identities(_), Signer::Key(_)) => {
                Err(Refusal::new("certificate-identity", "a certificate", "a managed key"))
            }
            (Self::Identities(expected), Signer::Certificate { identity, .. }) => {
                any_of(expected, identity)
            }
        }
    }
}

impl Expected {
    /// Whoever has a name that fits, vouched for by an issuer that fits.
    #[must_use]
    pub const fn new(identity: Match, issuer: Match) -> Self {
        Self { identity, issuer, claims: Vec::new() }
    }

    /// And whose certificate has this claim with this very value.
    #[must_use]
    pub fn with_claim(mut self, claim: Claim, value: impl Into<String>) -> Self {
        self.claims.push((claim, value.into()));
        self
    }

    /// The first rule that `found` breaks.
    fn check(&self, found: &Identity) -> Result<(), Refusal> {
        let (subject, issuer) = (found.subject().as_str(), found.issuer().unwrap_or_default());
        if subject.is_empty() {
            return Err(Refusal::new("certificate-identity", "a name", subject));
        }
        self.identity.check("certificate-identity", subject)?;
        // GitHub's releases name none, which a pattern must allow, as `.*` does.
        self.issuer.check("certificate-oidc-issuer", issuer)?;
        for (claim, expected) in &self.claims {
            let values = claim.numbers.iter().filter_map(|number| found.claims().get(number));
            let mut values = values.peekable();
            if values.peek().is_none() {
                return Err(Refusal::new(claim.rule, expected, "no such claim"));
            }
            if let Some(other) = values.find(|value| *value != expected || value.is_empty()) {
                return Err(Refusal::new(claim.rule, expected, other));
            }
        }
        Ok(())
    }
}

impl Match {
    fn check(&self, rule: &'static str, found: &str) -> Result<(), Refusal> {
        let (exact, pattern) = match self {
            Self::Exactly(exact) => (Some(exact), None),
            Self::Pattern(pattern) => (None, Some(pattern)),
            Self::Both(exact, pattern) => (Some(exact), Some(pattern)),
        };
        // An empty demand would be met by a certificate that says nothing.
        if let Some(exact) = exact.filter(|exact| exact.is_empty() || *exact != found) {
            return Err(Refusal::new(rule, exact, found));
        }
        match pattern {
            Some(pattern) if !pattern.matches(found) => {
                let refusal = Refusal::new(rule, pattern.as_str(), found);
                Err(Refusal { unanchored: pattern.matches_within(found), ..refusal })
            }
            _ => Ok(()),
        }
    }
}

/// A refusal: the rule, what it expected, what it found.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{rule}: expected {expected:?}, found {found:?}{}", hint(*unanchored))]
pub struct Refusal {
    /// A stable name, that of the command's flag: `certificate-identity` or so.
    pub rule: &'static str,
    /// What the policy names.
    pub expected: String,
    /// What the signature carries.
    pub found: String,
    /// The pattern matches a part of what was found, and would do for a search.
    pub unanchored: bool,
}

fn hint(unanchored: bool) -> &'static str {
    if unanchored {
        "; a pattern must match the whole: write .* where anything may stand"
    } else {
        ""
    }
}

impl Refusal {
    fn new(rule: &'static str, expected: &str, found: &str) -> Self {
        Self { rule, expected: expected.to_owned(), found: found.to_owned(), unanchored: false }
    }
}

fn any_of(expected: &[Expected], identity: &Identity) -> Result<&'static str, Refusal> {
    let distance = |refusal: &Refusal| match refusal.rule {
        "certificate-identity" => 2,
        "certificate-oidc-issuer" => 1,
        _ => 0,
    };
    let mut nearest: Option<Refusal> = None;
    for expected in expected {
        match expected.check(identity) {
            Ok(()) => return Ok("certificate-identity and certificate-oidc-issuer"),
            Err(refusal) => {
                if nearest.as_ref().is_none_or(|other| distance(&refusal) < distance(other)) {
                    nearest = Some(refusal);
                }
            }
        }
    }
    let nobody = || Refusal::new("certificate-identity", "nobody", identity.subject().as_str());
    Err(nearest.unwrap_or_else(nobody))
}
