//! How the claims of a provider become a name and extensions: tables, one a provider.
//!
//! A template is the name of a claim, or text with `{{ .claim }}` in it. Every claim that a template
//! names must be there, but for those with a default. Claims never override a default that stands for
//! a constant: the host of a URL comes from configuration, not from the token.

use super::{Claims, Identity, San};
use std::collections::BTreeMap;

/// How a provider's tokens are read.
#[derive(Clone, Debug)]
pub enum Mapping {
    /// People: the verified claim `email` is the name.
    Email,
    /// CI providers: templates for the name, a URI, and the extensions.
    Templates(Templates),
}

/// Templates over claims.
#[derive(Clone, Debug)]
pub struct Templates {
    /// Texts that templates may use and tokens may not change.
    pub constants: BTreeMap<String, String>,
    /// Claims that may be missing.
    pub optional: Vec<String>,
    /// The name.
    pub san: String,
    /// Extensions by number.
    pub extensions: BTreeMap<u8, String>,
}

impl Mapping {
    /// GitHub Actions, for the GitHub at `url` (`https://github.com`, or an Enterprise host).
    #[must_use]
    pub fn github_actions(url: &str) -> Self {
        let workflow = "{{ .url }}/{{ .job_workflow_ref }}";
        let run =
            "{{ .url }}/{{ .repository }}/actions/runs/{{ .run_id }}/attempts/{{ .run_attempt }}";
        let extensions = [
            (2, "event_name"),
            (3, "sha"),
            (4, "workflow"),
            (5, "repository"),
            (6, "ref"),
            (9, workflow),
            (10, "job_workflow_sha"),
            (11, "runner_environment"),
            (12, "{{ .url }}/{{ .repository }}"),
            (13, "sha"),
            (14, "ref"),
            (15, "repository_id"),
            (16, "{{ .url }}/{{ .repository_owner }}"),
            (17, "repository_owner_id"),
            (18, "{{ .url }}/{{ .workflow_ref }}"),
            (19, "workflow_sha"),
            (20, "event_name"),
            (21, run),
            (22, "repository_visibility"),
            (23, "environment"),
        ];
        Self::Templates(Templates {
            constants: BTreeMap::from([("url".to_owned(), url.to_owned())]),
            optional: vec!["environment".to_owned()],
            san: workflow.to_owned(),
            extensions: extensions.map(|(number, text)| (number, text.to_owned())).into(),
        })
    }

    /// The identity that verified `claims` stand for.
    ///
    /// # Errors
    /// When a claim is missing or makes no name.
    pub(super) fn identity(&self, claims: &Claims) -> Result<Identity, MappingError> {
        let needed = |name: &str| {
            let text = claims.text(name).filter(|text| !text.is_empty());
            text.map(str::to_owned).ok_or_else(|| MappingError::Claim { name: name.to_owned() })
        };
        let (subject, issuer) = (needed("sub")?, needed("iss")?);
        let mut extensions =
            BTreeMap::from([(1, issuer.clone()), (8, issuer), (24, subject.clone())]);
        let mut challenges = vec![subject];
        let san = match self {
            Self::Email => {
                let email = needed("email")?;
                if !is_true(claims.get("email_verified")) {
                    return Err(MappingError::EmailNotVerified);
                }
                if !is_address(&email) {
                    return Err(MappingError::EmailAddress);
                }
                challenges.push(email.clone());
                San::Email(email)
            }
            Self::Templates(templates) => {
                for (&number, template) in &templates.extensions {
                    let text = templates.fill(template, claims)?;
                    if !text.is_empty() {
                        extensions.insert(number, text);
                    }
                }
                let email = claims.text("email").filter(|_| is_true(claims.get("email_verified")));
                challenges.extend(email.map(str::to_owned));
                San::Uri(uri(&templates.fill(&templates.san, claims)?)?)
            }
        };
        Ok(Identity { san, claims: extensions, challenges })
    }
}

impl Templates {
    fn fill(&self, template: &str, claims: &Claims) -> Result<String, MappingError> {
        let value = |name: &str| {
            if let Some(constant) = self.constants.get(name) {
                return Ok(constant.clone());
            }
            match claims.scalar(name) {
                Some(text) => Ok(text),
                None if self.optional.iter().any(|optional| optional == name) => Ok(String::new()),
                None => Err(MappingError::Claim { name: name.to_owned() }),
            }
        };
        if !template.contains("{{") {
            return value(template);
        }
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) = after.split_once("}}").ok_or(MappingError::Template)?;
            text.push_str(before);
            text.push_str(&value(inside.trim().strip_prefix('.').ok_or(MappingError::Template)?)?);
            rest = after;
        }
        text.push_str(rest);
        Ok(text)
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

/// A URI as a certificate holds it: what is not allowed in one is percent-encoded, as Fulcio does.
/// Control characters and a `%` without two hexadecimal digits are refused, as it does, too.
fn uri(text: &str) -> Result<String, MappingError> {
    let parsed = url::Url::parse(text).map_err(|_| MappingError::Uri)?;
    let controls = text.bytes().any(|byte| byte.is_ascii_control());
    let escapes = text.split('%').skip(1).all(|rest| {
        rest.as_bytes()
            .first_chunk()
            .is_some_and(|[a, b]| a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    });
    if parsed.scheme() != "https" || parsed.host().is_none() || controls || !escapes {
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

/// Why verified claims name nobody.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// A claim is missing or of a type that has no text.
    #[error("the token has no usable claim {name:?}, which this issuer's tokens must have")]
    Claim {
        /// The claim's name.
        name: String,
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
    /// A template that does not parse.
    #[error("the provider's template is malformed: this is a fault of the configuration")]
    Template,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GITHUB: &str = r#"{"iss":"https://token.actions.githubusercontent.com","sub":"repo:acme/widget:ref:refs/heads/main",
        "repository":"acme/widget","repository_id":"1","repository_owner":"acme","repository_owner_id":"2",
        "repository_visibility":"private","ref":"refs/heads/main","sha":"aaaa","workflow":"release","event_name":"push",
        "run_id":"10","run_attempt":"1","runner_environment":"github-hosted",
        "workflow_ref":"acme/widget/.github/workflows/release.yml@refs/heads/main","workflow_sha":"bbbb",
        "job_workflow_ref":"acme/shared/.github/workflows/build.yml@refs/tags/v1","job_workflow_sha":"cccc",
        "url":"https://evil.example"}"#;

    #[test]
    fn a_github_token_becomes_the_name_and_extensions_that_fulcio_writes() {
        let claims = Claims::parse(GITHUB.as_bytes()).unwrap();
        let identity = Mapping::github_actions("https://github.com").identity(&claims).unwrap();
        let signer = "https://github.com/acme/shared/.github/workflows/build.yml@refs/tags/v1";
        assert_eq!(identity.san(), &San::Uri(signer.to_owned()));
        let issuer = "https://token.actions.githubusercontent.com";
        let expected = [
            (1, issuer),
            (2, "push"),
            (3, "aaaa"),
            (4, "release"),
            (5, "acme/widget"),
            (6, "refs/heads/main"),
            (8, issuer),
            (9, signer),
            (10, "cccc"),
            (11, "github-hosted"),
            (12, "https://github.com/acme/widget"),
            (13, "aaaa"),
            (14, "refs/heads/main"),
            (15, "1"),
            (16, "https://github.com/acme"),
            (17, "2"),
            (18, "https://github.com/acme/widget/.github/workflows/release.yml@refs/heads/main"),
            (19, "bbbb"),
            (20, "push"),
            (21, "https://github.com/acme/widget/actions/runs/10/attempts/1"),
            (22, "private"),
            (24, "repo:acme/widget:ref:refs/heads/main"),
        ];
        let found: Vec<_> =
            identity.claims().iter().map(|(number, text)| (*number, text.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_missing_claim_is_named() {
        let text = GITHUB.replace("\"run_id\":\"10\",", "");
        let refused = Mapping::github_actions("https://github.com")
            .identity(&Claims::parse(text.as_bytes()).unwrap());
        assert_eq!(refused, Err(MappingError::Claim { name: "run_id".to_owned() }));
    }

    #[test]
    fn numbers_are_written_out_and_an_environment_is_an_extension_when_it_is_there() {
        let text = GITHUB
            .replace(r#""run_id":"10""#, r#""run_id":12345678901,"environment":"production""#)
            .replace(r#""repository_visibility":"private""#, r#""repository_visibility":"""#);
        let claims = Claims::parse(text.as_bytes()).unwrap();
        let identity = Mapping::github_actions("https://github.com").identity(&claims).unwrap();
        let run = "https://github.com/acme/widget/actions/runs/12345678901/attempts/1";
        assert_eq!((&identity.claims()[&21][..], &identity.claims()[&23][..]), (run, "production"));
        assert_eq!(identity.claims().get(&22), None, "an empty text is no extension");
    }

    #[test]
    fn only_a_verified_address_names_a_person() {
        let identity = |email: &str, verified: &str| {
            let json =
                format!(r#"{{"iss":"i","sub":"s","email":{email},"email_verified":{verified}}}"#);
            Mapping::Email.identity(&Claims::parse(json.as_bytes()).unwrap())
        };
        assert!(identity(r#""a@example.com""#, "true").is_ok());
        assert!(identity(r#""a@example.com""#, r#""true""#).is_ok());
        for verified in ["false", "null", "1", r#""yes""#] {
            assert_eq!(
                identity(r#""a@example.com""#, verified),
                Err(MappingError::EmailNotVerified)
            );
        }
        for address in ["a", "@b", "a@", "a@b@c", "a b@c", "ä@example.com", "a@example.com\\u0000"]
        {
            assert_eq!(
                identity(&format!("\"{address}\""), "true"),
                Err(MappingError::EmailAddress),
                "{address}"
            );
        }
        let missing = Err(MappingError::Claim { name: "email".to_owned() });
        assert_eq!(identity("7", "true"), missing);
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
