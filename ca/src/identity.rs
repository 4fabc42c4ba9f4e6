//! From a verified token to the identity that a certificate names.
//!
//! [`Identity`] exists only from the claims of a token whose signature, issuer, audience and times hold
//! ([`token`]). Whose tokens are accepted, and how claims become a name and extensions, is data
//! ([`config`], [`providers`]), not code.

pub mod claims;
pub mod config;
pub mod explained;
pub mod jwks;
pub mod pattern;
pub mod providers;
pub mod template;
pub mod token;
#[cfg(test)]
pub(crate) mod vectors;

pub use claims::Claims;
pub use config::{FulcioConfig, Issuer, IssuerUrl, Mistakes};
pub use jwks::JwksError;
pub use providers::{Mapping, MappingError};
pub use token::{TokenError, Verifier};

use std::collections::BTreeMap;

/// Whom a certificate will name, and what it will say of the token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    san: San,
    extensions: BTreeMap<u8, String>,
    challenges: Vec<String>,
    claims: Claims,
}

/// The one subject alternative name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum San {
    /// A workload.
    Uri(String),
    /// A person; ASCII, as IA5String demands.
    Email(String),
    /// `name!domain`.
    Username(String),
}

impl San {
    /// The name without its kind.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Uri(text) | Self::Email(text) | Self::Username(text) => text,
        }
    }
}

impl Identity {
    /// The name.
    #[must_use]
    pub const fn san(&self) -> &San {
        &self.san
    }

    /// Fulcio's extensions by number; never an empty text.
    #[must_use]
    pub const fn extensions(&self) -> &BTreeMap<u8, String> {
        &self.extensions
    }

    /// All that the token says; policy may ask for claims that no certificate holds.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The OIDC issuer.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.extensions.get(&8).map_or("", String::as_str)
    }

    /// The texts whose signature proves possession of a key: the subject, or a verified e-mail address.
    /// Go and JavaScript clients sign the address whenever the token has one, others the subject.
    #[must_use]
    pub fn challenges(&self) -> &[String] {
        &self.challenges
    }
}

#[cfg(test)]
impl Identity {
    /// An identity out of nothing; only tests may have one.
    pub(crate) fn for_tests(san: San) -> Self {
        let issuer = "https://issuer.example.test".to_owned();
        let extensions =
            BTreeMap::from([(1, issuer.clone()), (8, issuer), (24, "subject".to_owned())]);
        let claims = Claims::parse(b"{}").expect("an object");
        Self { san, extensions, challenges: vec!["subject".to_owned()], claims }
    }
}
