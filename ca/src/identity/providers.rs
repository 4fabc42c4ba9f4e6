//! How the claims of a provider become a name and extensions.
//!
//! What a provider is, is data: one of Fulcio's kinds with its settings, and for CI providers templates
//! (`presets.yaml`, or a configuration's own). A default without text lets a claim be missing; one with text
//! is a constant, such as the host of URLs: tokens that say something else are refused. So is a name with a
//! part missing, and one on a host that neither the issuer, a constant nor the template itself has. Nobody else's names can
//! then be made, whatever a provider lets its users write into tokens.

use super::config::FulcioConfig;
use super::template::Template;
use super::{Claims, Identity, San};
use std::collections::BTreeMap;
use url::Url;

/// How a provider's tokens are read.
#[derive(Clone, Debug)]
pub enum Mapping {
    /// People: the claim `email`, verified, is the name.
    Email {
        /// Where the token says who vouched for the person, for providers that federate others; member
        /// names from the outside in. Else it is the token's issuer.
        issuer_claim: Option<Vec<String>>,
        /// Whether addresses count that the provider has not verified.
        skip_verification: bool,
    },
    /// Workloads whose subject is a URL of this origin, such as `https://a.example`.
    Uri {
        /// Scheme, host and perhaps port.
        subject_domain: Url,
    },
    /// Accounts: the subject is a name within this domain.
    Username {
        /// Its host.
        subject_domain: String,
    },
    /// Workloads whose subject is a SPIFFE ID of this trust domain.
    Spiffe {
        /// Its name.
        trust_domain: String,
    },
    /// Service accounts of a Kubernetes cluster.
    Kubernetes,
    /// Chainguard's identities: issuer and subject.
    Chainguard,
    /// CI providers: templates for the name, a URI, and the extensions.
    Templates(Templates),
}

/// Templates over claims.
#[derive(Clone, Debug)]
pub struct Templates {
    /// Without text: claims that may be missing. With text: constants.
    pub defaults: BTreeMap<String, String>,
    /// The name.
    pub san: Template,
    /// Extensions by number.
    pub extensions: BTreeMap<u8, Template>,
}

impl Mapping {
    /// People by their verified address.
    pub const EMAIL: Self = Self::Email { issuer_claim: None, skip_verification: false };

    /// GitHub Actions, for the GitHub at `url` (`https://github.com`, or an Enterprise host).
    #[must_use]
    pub fn github_actions(url: &str) -> Self {
        let mut templates =
            FulcioConfig::preset("github-workflow").expect("it is among the presets");
        templates.defaults.insert("url".to_owned(), url.to_owned());
        Self::Templates(templates)
    }

    /// The identity that verified `claims` stand for.
    ///
    /// # Errors
    /// When a claim is missing or makes no name.
    pub(super) fn identity(&self, claims: Claims) -> Result<Identity, MappingError> {
        let needed = |name: &str| {
            let text = claims.text(name).filter(|text| !text.is_empty());
            text.map(str::to_owned).ok_or_else(|| MappingError::Claim { name: name.to_owned() })
        };
        let (subject, mut issuer) = (needed("sub")?, needed("iss")?);
        let mut extensions = BTreeMap::from([(24, subject.clone())]);
        let verified = is_true(claims.get("email_verified"));
        // Clients sign the address whenever there is one, so it is tried first.
        let email = claims.text("email").filter(|_| verified);
        let mut challenges: Vec<String> =
            email.into_iter().chain([&subject[..]]).map(str::to_owned).collect();
        let san = match self {
            Self::Email { issuer_claim, skip_verification } => {
                let email = needed("email")?;
                if !verified && !skip_verification {
                    return Err(MappingError::EmailNotVerified);
                }
                if !is_address(&email) {
                    return Err(MappingError::EmailAddress);
                }
                if let Some(path) = issuer_claim {
                    issuer = claims
                        .text_at(path)
                        .filter(|text| !text.is_empty())
                        .map(str::to_owned)
                        .ok_or_else(|| MappingError::Claim { name: path.join(".") })?;
                }
                if !verified {
                    challenges.insert(0, email.clone());
                }
                San::Email(email)
            }
            Self::Uri { subject_domain } => San::Uri(subject_uri(&subject, subject_domain)?),
            Self::Username { subject_domain } => {
                if subject.contains('!')
                    || is_address(&subject)
                    || subject.chars().any(char::is_control)
                {
                    return Err(MappingError::Username);
                }
                San::Username(format!("{subject}!{subject_domain}"))
            }
            Self::Spiffe { trust_domain } => {
                if !is_spiffe_id(&subject, trust_domain) {
                    return Err(MappingError::Spiffe { expected: trust_domain.clone() });
                }
                San::Uri(subject)
            }
            Self::Kubernetes => San::Uri(service_account(&claims)?),
            Self::Chainguard => San::Uri(uri(&format!("{issuer}/{subject}"))?),
            Self::Templates(templates) => {
                templates.check_constants(&claims)?;
                for (&number, template) in &templates.extensions {
                    let text = templates.fill(template, &claims, false)?;
                    if !text.is_empty() {
                        extensions.insert(number, text);
                    }
                }
                let name = uri(&templates.fill(&templates.san, &claims, true)?)?;
                templates.check_host(&name, &issuer)?;
                San::Uri(name)
            }
        };
        extensions.extend([(1, issuer.clone()), (8, issuer)]);
        Ok(Identity { san, extensions, challenges, claims })
    }
}

impl Templates {
    fn fill(
        &self,
        template: &Template,
        claims: &Claims,
        whole: bool,
    ) -> Result<String, MappingError> {
        let value = |name: &str| claims.scalar(name).or_else(|| self.defaults.get(name).cloned());
        template.fill(&value, whole).map_err(|name| MappingError::Claim { name })
    }

    /// No claim says something else than a constant of its name.
    fn check_constants(&self, claims: &Claims) -> Result<(), MappingError> {
        let differs = |(name, constant): &(&String, &String)| {
            let said = claims.get(name).filter(|claim| !claim.is_null());
            !constant.is_empty() && said.is_some_and(|claim| *claim != constant[..])
        };
        match self.defaults.iter().find(differs) {
            None => Ok(()),
            Some((name, constant)) => {
                Err(MappingError::Constant { name: name.clone(), expected: constant.clone() })
            }
        }
    }

    /// The host of a name is the issuer's, that of a constant, or the one that its template begins with.
    fn check_host(&self, name: &str, issuer: &str) -> Result<(), MappingError> {
        let host = |text: &str| Url::parse(text).ok()?.host_str().map(str::to_owned);
        let found = host(name).ok_or(MappingError::Uri)?;
        // Only a slash behind it ends a host.
        let ends =
            |start: &&str| start.split_once("//").is_some_and(|(_, rest)| rest.contains('/'));
        let written = Some(self.san.start()).filter(ends);
        let constants = self.defaults.values().map(String::as_str);
        let mut known = constants.chain([issuer]).chain(written).filter_map(host);
        if known.any(|known| known == found) { Ok(()) } else { Err(MappingError::Host) }
    }
}

/// Providers write the boolean as text, too.
fn is_true(value: Option<&serde_json::Value>) -> bool {
    value.is_some_and(|value| *value == true || *value == "true" || *value == "True")
}

/// One `@` with something on both sides, printable ASCII without spaces: all that a certificate needs;
/// that the address exists is the issuer's claim.
fn is_address(text: &str) -> bool {
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    let parts: Vec<&str> = text.split('@').collect();
    printable && parts.len() == 2 && parts.iter().all(|part| !part.is_empty()) && text.len() <= 254
}

/// A subject that is a URL of the origin `domain`, without a user in it.
fn subject_uri(subject: &str, domain: &Url) -> Result<String, MappingError> {
    let other = || MappingError::SubjectDomain { expected: domain.origin().ascii_serialization() };
    let url = Url::parse(subject).map_err(|_| other())?;
    // The origin stands in the text itself: what a parser mends is not what was compared.
    let begins = subject.strip_prefix(&domain.origin().ascii_serialization());
    let apart = begins.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    if !apart
        || url.origin() != domain.origin()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err(other());
    }
    encode(subject)
}

/// A SPIFFE ID of `domain` (SPIFFE-ID, section 2): at most 2048 bytes, no empty or relative segments, no
/// slash at the end.
fn is_spiffe_id(subject: &str, domain: &str) -> bool {
    let path = subject.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(domain));
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let segment = |text: &str| !matches!(text, "" | "." | "..") && text.bytes().all(legal);
    path.is_some_and(|path| match path.strip_prefix('/') {
        Some(path) => subject.len() <= 2048 && path.split('/').all(segment),
        None => path.is_empty(),
    })
}

/// The name of a Kubernetes service account, out of the private claim `kubernetes.io`.
fn service_account(claims: &Claims) -> Result<String, MappingError> {
    let member = |path: &[&str], longest: usize, legal: fn(u8) -> bool| {
        let text = claims
            .text_at(path)
            .filter(|text| (1..=longest).contains(&text.len()) && text.bytes().all(legal));
        text.ok_or_else(|| MappingError::Claim { name: path.join(".") })
    };
    // Names of RFC 1123, labels and subdomains: nothing that could be another path.
    let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let subdomain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let namespace = member(&["kubernetes.io", "namespace"], 63, label)?;
    let account = member(&["kubernetes.io", "serviceaccount", "name"], 253, subdomain)?;
    Ok(format!("https://kubernetes.io/namespaces/{namespace}/serviceaccounts/{account}"))
}

/// An https URL as a certificate holds it.
fn uri(text: &str) -> Result<String, MappingError> {
    let parsed = Url::parse(text).map_err(|_| MappingError::Uri)?;
    if parsed.scheme() != "https" || parsed.host().is_none() || !text.starts_with("https://") {
        return Err(MappingError::Uri);
    }
    encode(text)
}

/// What is not allowed in a URI is percent-encoded, as Fulcio does. Control characters and a `%` without two
/// hexadecimal digits are refused, as it does, too.
fn encode(text: &str) -> Result<String, MappingError> {
    let controls = text.bytes().any(|byte| byte.is_ascii_control());
    let escapes = text.split('%').skip(1).all(|rest| {
        rest.as_bytes()
            .first_chunk()
            .is_some_and(|[a, b]| a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    });
    if controls || !escapes {
        return Err(MappingError::Uri);
    }
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(encoded)
}

/// Why verified claims name nobody. Nothing that they say is repeated.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// A claim is missing, empty, or of a type that has no text.
    #[error("the token has no usable claim {name:?}, which this issuer's tokens must have")]
    Claim {
        /// The claim's name.
        name: String,
    },
    /// A claim has the name of a constant.
    #[error(
        "the token's claim {name:?} is not what the configuration says for all of this issuer: {expected:?}"
    )]
    Constant {
        /// The claim's name.
        name: String,
        /// The constant.
        expected: String,
    },
    /// The provider does not vouch for the address.
    #[error("the token's claim \"email_verified\" is not true")]
    EmailNotVerified,
    /// Not an address.
    #[error("the token's claim \"email\" is no e-mail address in printable ASCII")]
    EmailAddress,
    /// Not a URL.
    #[error("the token's claims do not make an https URL")]
    Uri,
    /// A URL of another host.
    #[error(
        "the token's claims make a name on a host that is neither the issuer's nor in the configuration's templates or default-template-values"
    )]
    Host,
    /// Not a URL of the domain.
    #[error("the token's subject is not a URL of {expected}")]
    SubjectDomain {
        /// The origin.
        expected: String,
    },
    /// Not a name of an account.
    #[error(
        "the token's subject is not an account's name: expected one without \"!\" that is no e-mail address"
    )]
    Username,
    /// Not a SPIFFE ID of the trust domain.
    #[error("the token's subject is no SPIFFE ID of the trust domain {expected:?}")]
    Spiffe {
        /// The trust domain.
        expected: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_verified_address_names_a_person_unless_the_configuration_says_otherwise() {
        let skipping = Mapping::Email { issuer_claim: None, skip_verification: true };
        for verified in
            ["true", r#""true""#, r#""True""#, "false", "null", "1", r#""yes""#, "[true]"]
        {
            let json =
                format!(r#"{{"iss":"i","sub":"s","email":"a@b","email_verified":{verified}}}"#);
            let claims = Claims::parse(json.as_bytes()).unwrap();
            let accepted = verified.to_ascii_lowercase().trim_matches('"') == "true";
            let refused = Mapping::EMAIL.identity(claims.clone()).err();
            assert_eq!(
                refused,
                (!accepted).then_some(MappingError::EmailNotVerified),
                "{verified}"
            );
            let identity = skipping.identity(claims).unwrap();
            assert_eq!(identity.challenges(), ["a@b", "s"]);
        }
    }

    #[test]
    fn an_address_that_nobody_vouches_for_proves_no_possession() {
        let json = |verified| {
            format!(
                r#"{{"iss":"https://i.example","sub":"s","email":"a@b","email_verified":{verified}}}"#
            )
        };
        for (verified, expected) in [(true, &["a@b", "s"][..]), (false, &["s"])] {
            let claims = Claims::parse(json(verified).as_bytes()).unwrap();
            assert_eq!(Mapping::Chainguard.identity(claims).unwrap().challenges(), expected);
        }
    }

    #[test]
    fn a_name_is_on_the_host_that_its_template_begins_with_or_on_the_issuers() {
        let named = |template: &str, claim: &str| {
            let (defaults, extensions) = (BTreeMap::new(), BTreeMap::new());
            let san = Template::parse(template).unwrap();
            let mapping = Mapping::Templates(Templates { defaults, san, extensions });
            let claims = serde_json::json!({ "iss": "https://i.example", "sub": "s", "x": claim });
            let identity = mapping.identity(Claims::parse(claims.to_string().as_bytes()).unwrap());
            identity.map(|identity| identity.san().as_str().to_owned())
        };
        let made = |text: &str| Ok(text.to_owned());
        assert_eq!(named("https://b.example/{{ .x }}", "a"), made("https://b.example/a"));
        assert_eq!(named("https://{{ .x }}", "i.example/a"), made("https://i.example/a"));
        for (template, claim) in [
            ("https://b.example{{ .x }}", "/a"),
            ("https://b.example{{ .x }}", ".evil.example/a"),
            ("https://b.example{{ .x }}", "@evil.example/a"),
            ("https://{{ .x }}/b.example/", "evil.example"),
        ] {
            assert_eq!(named(template, claim), Err(MappingError::Host), "{template} {claim}");
        }
    }

    #[test]
    fn what_a_url_may_not_hold_is_percent_encoded() {
        assert_eq!(
            uri("https://github.com/a/b@refs/heads/ä b").unwrap(),
            "https://github.com/a/b@refs/heads/%C3%A4%20b"
        );
        let legal = "https://github.com/a/b@refs/heads/[x]:!$&'()*+,;=%2F";
        assert_eq!(uri(legal).unwrap(), legal);
        for near_miss in [
            "http://github.com/a",
            "github.com/a",
            "https://",
            "javascript:alert(1)",
            "https://github.com/a%",
            "https://github.com/a%2",
            "https://github.com/a%2G",
            "https://github.com/a\nb",
            "https://github.com/a\0",
        ] {
            assert_eq!(uri(near_miss), Err(MappingError::Uri), "{near_miss}");
        }
    }
}
