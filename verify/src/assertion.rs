//! What the policy of our own authority found when it issued a certificate, in an extension of ours.
//!
//! ```text
//! extnID     1.2.840.113556.1.8000.2554.32307.5743.5241.20130.44429.11695702.15160849
//! critical   FALSE: whoever does not know it passes it over
//! extnValue  UTF8String, JSON: {"intent": {"action": "sign" | "attest",
//!                "artifact": {"digest": "sha256:…", "kind": KIND, "name": NAME}, "predicateType": URI},
//!              "policy": NAME, "policyDigest": "sha256:…", "roles": [NAME, …], "serial": NUMBER}
//! ```
//! The number is the GUID 7e33166f-1479-4ea2-ad8d-b27656e75611 below an arc that is open to everybody's GUIDs.
//! GUIDs below 2.25 are one number of 128 bits, which parsers in use refuse together with the certificate.
//!
//! The intent is what the signer told the authority, which has decided about that; members are left out where
//! nothing was told. Members that are not known are passed over. Refused: more than [`MAX_ASSERTION`] bytes,
//! actions and kinds that are not known, texts with control characters.

use crate::json;
use crate::limits::MAX_ASSERTION;
use const_oid::ObjectIdentifier;
use der::asn1::Utf8StringRef;
use der::{Decode as _, Encode as _};
use serde::{Deserialize, Serialize};

/// The extension's type.
pub const ASSERTION: ObjectIdentifier = ObjectIdentifier::new_unwrap(
    "1.2.840.113556.1.8000.2554.32307.5743.5241.20130.44429.11695702.15160849",
);

/// Kinds of artifacts.
const KINDS: [&str; 5] = ["image", "blob", "package", "git", "model"];

/// What an authority's policy found.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Assertion {
    /// What the signer told that the certificate is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// The policy's name.
    pub policy: String,
    /// SHA-256 of its text, `sha256:…`.
    #[serde(default)]
    pub policy_digest: String,
    /// The roles that the signer is in.
    pub roles: Vec<String>,
    /// The policy's serial number.
    pub serial: u64,
}

/// What somebody is about to sign.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// `sign` or `attest`.
    pub action: String,
    /// About what; left out where it is about several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<Intended>,
    /// Of `attest`: what is attested, a URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicate_type: Option<String>,
}

/// The artifact that somebody is about to sign.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Intended {
    /// `sha256:` and hexadecimal digits.
    pub digest: String,
    /// `image`, `blob`, `package`, `git` or `model`.
    pub kind: String,
    /// Its name as the signer has it; empty if it has none.
    #[serde(default)]
    pub name: String,
}

impl Assertion {
    /// Reads the extension's value.
    ///
    /// # Errors
    /// See the module's list of refusals.
    pub fn parse(value: &[u8]) -> Result<Self, Error> {
        if value.len() > MAX_ASSERTION {
            return Err(Error::TooLong { limit: MAX_ASSERTION, found: value.len() });
        }
        let text = Utf8StringRef::from_der(value).map_err(|_| Error::Encoding)?;
        let assertion: Self = json::from_str(text.as_str())
            .map_err(|error| Error::Json { message: error.to_string() })?;
        assertion.intent.as_ref().map_or(Ok(()), Intent::check)?;
        Ok(assertion)
    }

    /// Writes the extension's value.
    ///
    /// # Errors
    /// When it would be too long.
    pub fn to_value(&self) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_string(self).expect("texts and numbers only");
        let text = Utf8StringRef::new(&json).map_err(|_| Error::Encoding)?;
        let value = text.to_der().map_err(|_| Error::Encoding)?;
        match value.len() {
            found if found > MAX_ASSERTION => Err(Error::TooLong { limit: MAX_ASSERTION, found }),
            _ => Ok(value),
        }
    }
}

impl Intent {
    /// Whether it is one that can be decided about.
    ///
    /// # Errors
    /// With the member that is not as it must be.
    pub fn check(&self) -> Result<(), Error> {
        let member = |member, found: &str| {
            let found = found.chars().filter(|c| !c.is_control()).take(64).collect();
            Err(Error::Member { member, found })
        };
        let predicate_type = self.predicate_type.as_deref();
        match self.action.as_str() {
            "sign" if predicate_type.is_none() => {}
            "attest" if predicate_type.is_some_and(|uri| !uri.is_empty()) => {}
            "sign" | "attest" => {
                return member("predicateType", predicate_type.unwrap_or_default());
            }
            other => return member("action", other),
        }
        if let Some(Intended { digest, kind, name }) = &self.artifact {
            if !KINDS.contains(&kind.as_str()) {
                return member("artifact.kind", kind);
            }
            let hexadecimal = |text: &str| {
                !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            };
            if !digest.strip_prefix("sha256:").is_some_and(hexadecimal) {
                return member("artifact.digest", digest);
            }
            for (place, text) in [("artifact.digest", digest), ("artifact.name", name)] {
                if text.chars().any(char::is_control) {
                    return member(place, text);
                }
            }
        }
        let json = serde_json::to_string(self).expect("texts only");
        // Half of the extension is for the authority's own words.
        match json.len() {
            found if found > MAX_ASSERTION / 2 => {
                Err(Error::TooLong { limit: MAX_ASSERTION / 2, found })
            }
            _ => Ok(()),
        }
    }
}

/// Why an assertion is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Beyond [`MAX_ASSERTION`].
    #[error("at most {limit} bytes are allowed, found {found}")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Not a UTF8String, DER.
    #[error("expected a UTF8String")]
    Encoding,
    /// Not the JSON that it must be.
    #[error("expected JSON with policy, serial and roles: {message}")]
    Json {
        /// What the parser says.
        message: String,
    },
    /// A member of the intent.
    #[error("the intent's {member} {found:?} is not known, or not where it belongs")]
    Member {
        /// Its path.
        member: &'static str,
        /// What it says, shortened.
        found: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assertion() -> Assertion {
        Assertion {
            intent: Some(Intent {
                action: "sign".to_owned(),
                artifact: Some(Intended {
                    digest: "sha256:9f2c".to_owned(),
                    kind: "image".to_owned(),
                    name: "registry.example/acme/pay:v1".to_owned(),
                }),
                predicate_type: None,
            }),
            policy: "acme".to_owned(),
            policy_digest: "sha256:77aa".to_owned(),
            roles: vec!["release".to_owned()],
            serial: 12,
        }
    }

    /// Certificates are for ever, and so are these bytes.
    #[test]
    fn the_extension_has_these_bytes() {
        let id = crate::encoding::hex(&ASSERTION.to_der().unwrap());
        assert_eq!(id, "06202a864886f71401be40937a81fc33ac6fa879819d2282db0d85c9ec56879dac11");
        let json = r#"{"intent":{"action":"sign","artifact":{"digest":"sha256:9f2c","kind":"image","name":"registry.example/acme/pay:v1"}},"policy":"acme","policyDigest":"sha256:77aa","roles":["release"],"serial":12}"#;
        let expected = [&[0x0c, 0x81, u8::try_from(json.len()).unwrap()][..], json.as_bytes()];
        assert_eq!(assertion().to_value().unwrap(), expected.concat());
        assert_eq!(Assertion::parse(&expected.concat()).unwrap(), assertion());
    }

    fn value(json: &str) -> Vec<u8> {
        Utf8StringRef::new(json).unwrap().to_der().unwrap()
    }

    #[test]
    fn members_that_are_not_known_are_passed_over() {
        let later = r#"{"later":[1],"policy":"p","roles":[],"serial":1,
            "intent":{"action":"attest","predicateType":"https://x","later":{}}}"#;
        let found = Assertion::parse(&value(later)).unwrap();
        assert_eq!((found.policy.as_str(), found.serial), ("p", 1));
        assert_eq!(found.intent.unwrap().predicate_type.unwrap(), "https://x");
    }

    #[test]
    fn what_cannot_be_decided_about_is_refused() {
        let intent = |intent: &str| {
            let json = format!(r#"{{"policy":"p","roles":[],"serial":1,"intent":{intent}}}"#);
            Assertion::parse(&value(&json)).unwrap_err()
        };
        let artifact = |member: &str| {
            format!(
                r#"{{"action":"sign","artifact":{{"kind":"blob","digest":"sha256:aa"{member}}}}}"#
            )
        };
        for (json, expected) in [
            (r#"{"action":"bless"}"#.to_owned(), "action"),
            (r#"{"action":"attest"}"#.to_owned(), "predicateType"),
            (r#"{"action":"sign","predicateType":"https://x"}"#.to_owned(), "predicateType"),
            (artifact("").replace("blob", "cat"), "artifact.kind"),
            (artifact(r#","name":"a\nb""#), "artifact.name"),
            (artifact("").replace("sha256:aa", ""), "artifact.digest"),
            (artifact("").replace("sha256:aa", "sha256:"), "artifact.digest"),
            (artifact("").replace("sha256:aa", "sha256:AA"), "artifact.digest"),
        ] {
            let error = intent(&json);
            assert!(
                matches!(error, Error::Member { member, .. } if member == expected),
                "{json}: {error}"
            );
        }
        let long = artifact(&format!(r#","name":"{}""#, "x".repeat(MAX_ASSERTION / 2)));
        assert!(matches!(intent(&long), Error::TooLong { .. }));
        assert_eq!(Assertion::parse(b"{}"), Err(Error::Encoding));
        assert!(matches!(Assertion::parse(&value("{}")), Err(Error::Json { .. })));
        let roles = vec!["x".repeat(100); MAX_ASSERTION / 100];
        let error = Assertion { roles, ..assertion() }.to_value().unwrap_err();
        assert!(matches!(error, Error::TooLong { .. }));
    }
}
