//! What can be wrong with a configuration of issuers.

use super::{SyntaxFault, TYPES};
use crate::identity::pattern::PatternError;
use crate::identity::template::TemplateError;
use std::fmt;

/// All that is wrong with a configuration; each mistake on a line of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.0.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistake {
    /// Its line, from 1.
    pub line: usize,
    /// Where in the document: names, with dots between.
    pub place: String,
    /// What it is.
    pub fault: Fault,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place[..] {
            "" => write!(f, "line {}: {}", self.line, self.fault),
            place => write!(f, "line {}, {place}: {}", self.line, self.fault),
        }
    }
}

/// What is wrong, with what was expected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Not a document.
    #[error(transparent)]
    Syntax(#[from] SyntaxFault),
    /// A name that means nothing.
    #[error("unknown name {found:?}; expected one of {expected}")]
    Unknown {
        /// The name.
        found: String,
        /// All that are known here.
        expected: String,
    },
    /// A name in YAML's and in JSON's spelling.
    #[error("{name:?} is there in both its spellings")]
    BothSpellings {
        /// The name.
        name: String,
    },
    /// Something else than a mapping.
    #[error("expected a mapping of names to values")]
    NoMapping,
    /// Something else than a text.
    #[error("expected a text")]
    NoText,
    /// A setting that must be there.
    #[error("{name:?} is missing or empty")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// Nobody's tokens would be accepted.
    #[error("expected at least one issuer under oidc-issuers or meta-issuers")]
    NoIssuer,
    /// An issuer's URL.
    #[error(
        "expected an issuer's https URL (http on loopback only) without query, fragment or user"
    )]
    Url,
    /// `issuer-url` and the entry's name.
    #[error("expected in issuer-url what the entry is named, found {found:?}")]
    OtherUrl {
        /// What stands there.
        found: String,
    },
    /// A pattern.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Two patterns for one issuer.
    #[error("the pattern {other:?} matches some of the same issuers; which would decide?")]
    Overlap {
        /// The other one.
        other: String,
    },
    /// An unknown type.
    #[error("unknown type {found:?}; expected one of {}", TYPES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", "))]
    Type {
        /// The type.
        found: String,
    },
    /// A setting of another type.
    #[error("{setting:?} is not a setting of type {kind:?}")]
    NotForType {
        /// The setting.
        setting: &'static str,
        /// The type.
        kind: &'static str,
    },
    /// A type whose names belong to one issuer.
    #[error("issuers of type {kind:?} belong under oidc-issuers, each with its own domain")]
    PatternType {
        /// The type.
        kind: &'static str,
    },
    /// Not a path to a claim.
    #[error("expected a path such as $.federated_claims.connector_id, found {found:?}")]
    ClaimPath {
        /// What stands there.
        found: String,
    },
    /// Not a boolean.
    #[error("expected true or false in {setting:?}")]
    Boolean {
        /// The setting.
        setting: &'static str,
    },
    /// `subject-domain` of type uri.
    #[error("expected in subject-domain an origin such as {scheme}://a.example, found {found:?}")]
    SubjectOrigin {
        /// The issuer's scheme.
        scheme: String,
        /// What stands there.
        found: String,
    },
    /// `subject-domain` of type username.
    #[error("expected in subject-domain a host such as a.example, found {found:?}")]
    SubjectHost {
        /// What stands there.
        found: String,
    },
    /// `subject-domain` of somebody else.
    #[error("expected a subject-domain that ends like the issuer's host, found {found:?}")]
    Foreign {
        /// What stands there.
        found: String,
    },
    /// Not a trust domain.
    #[error("expected a SPIFFE trust domain such as prod.a.example, found {found:?}")]
    TrustDomain {
        /// What stands there.
        found: String,
    },
    /// A provider that is neither defined nor known.
    #[error("the provider {found:?} is not defined under ci-issuer-metadata")]
    Provider {
        /// Its name.
        found: String,
    },
    /// A template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Certificates for TLS.
    #[error("expected one or more certificates in PEM in ca-cert")]
    Certificates,
}
