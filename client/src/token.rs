//! Identity tokens: where a job's or a person's token comes from.
//!
//! In this order: the caller's own (a token, a file, or standard input), `SIGSTORE_ID_TOKEN`, what the
//! surroundings offer ([`Ambient`]), a file that Kubernetes mounts. Nothing in a token is verified here, the
//! CA does that; its claims are read to know what to sign as proof of possession. A token never appears
//! in errors or `Debug`.

mod ambient;

pub use ambient::Ambient;

use crate::http;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Where a projected service account token is expected, as cosign has it.
const MOUNTED: &str = "/var/run/sigstore/cosign/oidc-token";

/// The audience that Sigstore's authorities expect.
pub const AUDIENCE: &str = "sigstore";

/// Longest token that is sent, in bytes; the CA refuses longer ones.
const MAX_TOKEN: usize = 16 << 10;

/// An OIDC identity token, unverified.
#[derive(Clone)]
pub struct IdentityToken {
    text: String,
    claims: Claims,
}

#[derive(Clone, Debug, Deserialize)]
struct Claims {
    sub: String,
    email: Option<String>,
    aud: Option<Audiences>,
    nonce: Option<String>,
}

/// One audience, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl std::fmt::Debug for IdentityToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentityToken").field("unverified_subject", &self.claims.sub).finish()
    }
}

impl IdentityToken {
    /// Reads a token: three parts of base64url, the second one JSON with `sub`.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn parse(text: &str) -> Result<Self, Error> {
        use base64::Engine as _;
        let text = text.trim();
        if text.len() > MAX_TOKEN {
            return Err(Error::TooLong { limit: MAX_TOKEN, found: text.len() });
        }
        let mut parts = text.split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::Shape);
        };
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(payload)
            .map_err(|_| Error::Shape)?;
        let claims = serde_json::from_slice(&payload).map_err(|_| Error::Shape)?;
        Ok(Self { text: text.to_owned(), claims })
    }

    /// The token itself: a secret.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.text
    }

    /// The token, if it claims to be for `audience`: what a provider was asked for.
    fn for_audience(self, audience: &'static str) -> Result<Self, Error> {
        let found = match &self.claims.aud {
            None => Vec::new(),
            Some(Audiences::One(one)) => vec![one.clone()],
            Some(Audiences::Several(several)) => several.clone(),
        };
        if found.iter().any(|found| found == audience) {
            return Ok(self);
        }
        Err(Error::Audience { expected: audience, found: found.join(", ") })
    }

    /// What ties it to one login.
    pub(crate) fn nonce(&self) -> Option<&String> {
        self.claims.nonce.as_ref()
    }

    /// What the CA wants signed as proof of possession: the e-mail address if the token has one, else
    /// the subject.
    #[must_use]
    pub fn challenge(&self) -> &str {
        self.claims.email.as_deref().unwrap_or(&self.claims.sub)
    }
}

/// Where a token is to come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The token itself.
    Token(IdentityToken),
    /// A file that holds it.
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// What the CI system, the cloud or the workload's surroundings offer.
    Ambient(Ambient),
}

impl Source {
    /// Decides where the token comes from: `explicit` if given (a token, `-`, or a file's name), else
    /// the environment, which `env` reads.
    ///
    /// # Errors
    /// When there is none; in a CI job that could have one the error says what to add to it.
    pub fn find(
        explicit: Option<&str>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        match explicit {
            Some("-") => return Ok(Self::Stdin),
            Some(text) => {
                return Ok(match IdentityToken::parse(text) {
                    Ok(token) => Self::Token(token),
                    Err(_) => Self::File(text.into()),
                });
            }
            None => {}
        }
        // Set to nothing, as by a CI secret that does not exist, is not set: so other clients have it.
        if let Some(text) = env("SIGSTORE_ID_TOKEN").filter(|text| !text.trim().is_empty()) {
            return IdentityToken::parse(&text).map(Self::Token);
        }
        match Ambient::find(env)? {
            Some(ambient) => Ok(Self::Ambient(ambient)),
            None if Path::new(MOUNTED).exists() => Ok(Self::File(MOUNTED.into())),
            None => Err(Error::None),
        }
    }

    /// Gets the token.
    ///
    /// # Errors
    /// When it cannot be read or the provider refuses.
    pub async fn fetch(self) -> Result<IdentityToken, Error> {
        match self {
            Self::Token(token) => Ok(token),
            Self::File(path) => {
                let named = |source| Error::File { path: path.clone(), source };
                IdentityToken::parse(&std::fs::read_to_string(&path).map_err(named)?)
            }
            Self::Stdin => {
                let text = std::io::read_to_string(std::io::stdin()).map_err(Error::Stdin)?;
                IdentityToken::parse(&text)
            }
            Self::Ambient(ambient) => ambient.fetch().await,
        }
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nowhere to get one.
    #[error(
        "no identity token: give --identity-token TOKEN|FILE|-, or set SIGSTORE_ID_TOKEN, or run in a CI job that provides one"
    )]
    None,
    /// A GitHub Actions job that may not ask for tokens.
    #[error(
        "this GitHub Actions job may not ask for identity tokens; add to the job in the workflow file:\n\n    permissions:\n      id-token: write\n      contents: read\n"
    )]
    GitHubPermission,
    /// A GitLab job that declares no token.
    #[error(
        "this GitLab job has no identity token; add to the job in .gitlab-ci.yml:\n\n    id_tokens:\n      SIGSTORE_ID_TOKEN:\n        aud: sigstore\n"
    )]
    GitLabToken,
    /// The provider gave a token for somebody else.
    #[error("asked for an identity token for audience {expected}, found one for {found:?}")]
    Audience {
        /// As asked for.
        expected: &'static str,
        /// What it claims.
        found: String,
    },
    /// A program that gets tokens.
    #[error("{program} gave no identity token: {reason}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What failed.
        reason: String,
    },
    /// The SPIFFE Workload API.
    #[error("the SPIFFE Workload API at {socket} gave no identity token: {reason}")]
    Spiffe {
        /// Where it was asked.
        socket: String,
        /// What failed.
        reason: String,
    },
    /// A variable that should hold a URL.
    #[error("{variable} is not a URL")]
    RequestUrl {
        /// Its name.
        variable: &'static str,
    },
    /// Not a token.
    #[error(
        "expected an identity token (a JWT: three parts of base64url divided by dots, with a subject)"
    )]
    Shape,
    /// Above the limit.
    #[error("an identity token of {found} bytes is above the limit of {limit}")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// The file cannot be read.
    #[error("{} is neither an identity token nor a file that can be read: {source}", named(.path))]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// Standard input cannot be read.
    #[error("standard input cannot be read: {0}")]
    Stdin(std::io::Error),
    /// The provider refused or is away.
    #[error("the identity provider: {0}")]
    Provider(http::Error),
}

/// A mistyped token must not land in a log as the name of a file.
fn named(path: &Path) -> &str {
    if path == Path::new(MOUNTED) { MOUNTED } else { "the value given" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        use base64::Engine as _;
        let part = |text| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part("{}"), part(payload), part("signature"))
    }

    #[test]
    fn the_challenge_is_the_email_address_or_else_the_subject() {
        let challenge =
            |payload| IdentityToken::parse(&token(payload)).unwrap().challenge().to_owned();
        assert_eq!(challenge(r#"{"sub":"a"}"#), "a");
        assert_eq!(challenge(r#"{"sub":"a","email":"b@example.com"}"#), "b@example.com");
        for text in ["", "a.b", "a.b.c.d", "!.!.!"] {
            assert!(matches!(IdentityToken::parse(text), Err(Error::Shape)), "{text:?}");
        }
    }

    #[test]
    fn a_job_without_the_permission_is_told_which() {
        for (variable, expected) in [
            ("GITHUB_ACTIONS", "permissions:\n      id-token: write"),
            ("GITLAB_CI", "id_tokens:\n      SIGSTORE_ID_TOKEN:\n        aud: sigstore"),
        ] {
            let env = |name: &str| (name == variable).then(|| "true".to_owned());
            let refused = Source::find(None, env).unwrap_err();
            assert!(refused.to_string().contains(expected), "{refused}");
        }
    }

    #[test]
    fn a_provider_must_give_what_it_was_asked_for() {
        for (payload, fits) in [
            (r#"{"sub":"a","aud":"sigstore"}"#, true),
            (r#"{"sub":"a","aud":["x","sigstore"]}"#, true),
            (r#"{"sub":"a","aud":"sigstore.example"}"#, false),
            (r#"{"sub":"a","aud":["x"]}"#, false),
            (r#"{"sub":"a"}"#, false),
        ] {
            let token = IdentityToken::parse(&token(payload)).unwrap();
            assert_eq!(token.for_audience(AUDIENCE).is_ok(), fits, "{payload}");
        }
    }

    #[test]
    fn a_token_does_not_show_in_debug_output() {
        let secret = token(r#"{"sub":"a"}"#);
        let shown = format!("{:?}", Source::find(Some(&secret), |_| None).unwrap());
        assert!(!shown.contains(&secret), "{shown}");
    }
}
