//! Requests to the certificate authority, read as leniently as Fulcio reads them, because clients in
//! use depend on it: names in lowerCamelCase or snake_case, unknown members passed over, `null` as
//! absent, base64 in either alphabet with or without padding. Refused: a name twice, both members of a
//! choice, other types.
//!
//! One member is ours, and passed over by Fulcio: `intent`, what the certificate is for, see [`Intent`].

use crate::identity::Claims;
use crate::possession::Request;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use countersign_verify::assertion::{self, Intent};
use serde::Deserialize as _;
use serde_json::Value;

/// A token, and the key to certify.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) token: String,
    pub(super) key: Request,
    /// What the certificate is for, if that is said.
    pub(super) intent: Option<Intent>,
}

/// The token of a version 2 request; one in the body goes before that of the header.
pub(super) fn token(body: &[u8], bearer: Option<&str>) -> Result<String, Error> {
    token_of(&object(body)?, bearer)
}

fn token_of(body: &Value, bearer: Option<&str>) -> Result<String, Error> {
    let in_body = match member(body, "credentials")? {
        Some(credentials) => text(&credentials, "oidcIdentityToken")?,
        None => None,
    };
    let bearer = bearer.filter(|token| !token.is_empty()).map(str::to_owned);
    in_body.or(bearer).ok_or(Error::NoToken)
}

/// Reads the body of a version 2 request.
pub(super) fn v2(body: &[u8], bearer: Option<&str>) -> Result<Asked, Error> {
    let body = object(body)?;
    let token = token_of(&body, bearer)?;
    let public_key = member(&body, "publicKeyRequest")?;
    let request = bytes(&body, "certificateSigningRequest")?.filter(|pem| !pem.is_empty());
    let key = match (request, public_key) {
        (Some(_), Some(_)) => return Err(Error::Both),
        (Some(pem), None) => Request::SigningRequest(pem),
        (None, Some(request)) => {
            let key = member(&request, "publicKey")?.ok_or(Error::Missing { name: "publicKey" })?;
            let content = text(&key, "content")?.ok_or(Error::Missing { name: "content" })?;
            let proof = bytes(&request, "proofOfPossession")?;
            let proof = proof.ok_or(Error::Missing { name: "proofOfPossession" })?;
            Request::PublicKey { key: content.into_bytes(), proof }
        }
        (None, None) => return Err(Error::Missing { name: "publicKeyRequest" }),
    };
    Ok(Asked { token, key, intent: intent(&body)? })
}

fn intent(body: &Value) -> Result<Option<Intent>, Error> {
    let Some(value) = member(body, "intent")? else { return Ok(None) };
    let intent = Intent::deserialize(&value)
        .map_err(|error| Error::Json { message: format!("intent: {error}") })?;
    intent.check()?;
    Ok(Some(intent))
}

/// Reads the body of a version 1 request; the token is in the header.
pub(super) fn v1(body: &[u8], bearer: Option<&str>) -> Result<Asked, Error> {
    let body = object(body)?;
    let token = bearer.filter(|token| !token.is_empty()).ok_or(Error::NoToken)?.to_owned();
    let request = bytes(&body, "certificateSigningRequest")?.filter(|pem| !pem.is_empty());
    if let Some(pem) = request {
        return Ok(Asked { token, key: Request::SigningRequest(pem), intent: None });
    }
    let key = member(&body, "publicKey")?.ok_or(Error::Missing { name: "publicKey" })?;
    let key = bytes(&key, "content")?.ok_or(Error::Missing { name: "content" })?;
    let proof = bytes(&body, "signedEmailAddress")?;
    let proof = proof.ok_or(Error::Missing { name: "signedEmailAddress" })?;
    Ok(Asked { token, key: Request::PublicKey { key, proof }, intent: None })
}

/// An object in which no name stands twice; nothing at all is an empty one, and what follows it is not
/// looked at.
fn object(body: &[u8]) -> Result<Value, Error> {
    if body.trim_ascii().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let claims =
        Claims::parse_first(body).map_err(|error| Error::Json { message: error.to_string() })?;
    Ok(claims.into_value())
}

/// The member `name` in either spelling; `null` is absent.
fn field<'a>(object: &'a Value, name: &'static str) -> Result<Option<&'a Value>, Error> {
    let object = object.as_object().ok_or(Error::Type { name })?;
    let snake: String = name
        .chars()
        .flat_map(|c| {
            let underscore = c.is_ascii_uppercase().then_some('_');
            underscore.into_iter().chain([c.to_ascii_lowercase()])
        })
        .collect();
    let found = [object.get(name), object.get(&snake).filter(|_| snake != name)];
    let mut found = found.into_iter().flatten().filter(|value| !value.is_null());
    match (found.next(), found.next()) {
        (first, None) => Ok(first),
        _ => Err(Error::Twice { name }),
    }
}

fn member(object: &Value, name: &'static str) -> Result<Option<Value>, Error> {
    match field(object, name)? {
        Some(value) if value.is_object() => Ok(Some(value.clone())),
        Some(_) => Err(Error::Type { name }),
        None => Ok(None),
    }
}

fn text(object: &Value, name: &'static str) -> Result<Option<String>, Error> {
    match field(object, name)? {
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Error::Type { name }),
        None => Ok(None),
    }
}

fn bytes(object: &Value, name: &'static str) -> Result<Option<Vec<u8>>, Error> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let Some(text) = text(object, name)? else { return Ok(None) };
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    engine.decode(text).map(Some).map_err(|_| Error::Base64 { name })
}

/// Why a request cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Error {
    #[error(
        "no identity token: expected it in the header \"Authorization: Bearer\" or in credentials.oidcIdentityToken"
    )]
    NoToken,
    #[error("the request is not a JSON object: {message}")]
    Json { message: String },
    #[error("the request has {name:?} in both spellings")]
    Twice { name: &'static str },
    #[error("the request's {name:?} is of another JSON type than expected")]
    Type { name: &'static str },
    #[error("the request has no {name:?}")]
    Missing { name: &'static str },
    #[error("the request's {name:?} is not base64")]
    Base64 { name: &'static str },
    #[error("the request's intent: {0}")]
    Intent(#[from] assertion::Error),
    #[error("the request has both publicKeyRequest and certificateSigningRequest; expected one")]
    Both,
}

impl Error {
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "TOKEN_MISSING",
            _ => "REQUEST_MALFORMED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Asked, Error> {
        v2(json.as_bytes(), Some("header"))
    }

    #[test]
    fn both_spellings_and_both_alphabets_are_read() {
        for json in [
            r#"{"publicKeyRequest":{"publicKey":{"algorithm":"RSA","content":"PEM"},"proofOfPossession":"-_8"}}"#,
            r#"{"public_key_request":{"public_key":{"content":"PEM"},"proof_of_possession":"+/8="},"unknown":[1]}"#,
            r#"{"certificateSigningRequest":null,"publicKeyRequest":{"publicKey":{"content":"PEM"},"proofOfPossession":"+/\n8"}}"#,
            r#" {"publicKeyRequest":{"publicKey":{"algorithm":3,"content":"PEM"},"proofOfPossession":"+/9"}} {"a":1}"#,
        ] {
            let asked = read(json).unwrap();
            let expected = Request::PublicKey { key: b"PEM".to_vec(), proof: vec![0xfb, 0xff] };
            assert_eq!((asked.token.as_str(), asked.key), ("header", expected), "{json}");
        }
        let asked = read(
            r#"{"credentials":{"oidcIdentityToken":"body"},"certificateSigningRequest":"UEVN"}"#,
        );
        let asked = asked.unwrap();
        assert_eq!(
            (asked.token.as_str(), asked.key),
            ("body", Request::SigningRequest(b"PEM".to_vec()))
        );
    }

    #[test]
    fn what_has_two_meanings_is_refused() {
        let key = r#"{"publicKey":{"content":"PEM"},"proofOfPossession":"AA"}"#;
        for (json, expected) in [
            (
                format!(r#"{{"publicKeyRequest":{key},"public_key_request":{key}}}"#),
                Error::Twice { name: "publicKeyRequest" },
            ),
            (
                format!(r#"{{"publicKeyRequest":{key},"certificateSigningRequest":"AA"}}"#),
                Error::Both,
            ),
            (r#"{"publicKeyRequest":[]}"#.to_owned(), Error::Type { name: "publicKeyRequest" }),
            ("{}".to_owned(), Error::Missing { name: "publicKeyRequest" }),
            (
                r#"{"certificateSigningRequest":"*"}"#.to_owned(),
                Error::Base64 { name: "certificateSigningRequest" },
            ),
        ] {
            assert_eq!(read(&json).unwrap_err(), expected, "{json}");
        }
        let intent = format!(r#"{{"publicKeyRequest":{key},"intent":{{"action":"bless"}}}}"#);
        assert!(matches!(read(&intent), Err(Error::Intent(_))));
        assert!(matches!(read(r#"{"a":1,"a":2}"#), Err(Error::Json { .. })));
        assert_eq!(v2(b"{}", None).unwrap_err(), Error::NoToken);
    }
}
