//! An identity, or what unverified claims would become, told as JSON: `countersign.token/1`.

use super::config::{Issuer, IssuerUrl};
use super::{Claims, Identity, MappingError, San};
use countersign_verify::certificate::CLAIMS;
use serde_json::{Map, Value, json};

/// What a certificate would say. `claims` has the names that reports have (docs/report.md).
#[must_use]
pub fn json(identity: &Identity) -> Value {
    let kind = match identity.san() {
        San::Uri(_) => "uri",
        San::Email(_) => "email",
        San::Username(_) => "username",
    };
    let claim = |(number, name): (u8, &str)| {
        Some((name.to_owned(), identity.extensions().get(&number)?[..].into()))
    };
    let claims: Map<String, Value> = CLAIMS.into_iter().filter_map(claim).collect();
    json!({ "schema": "countersign.token/1", "identity": identity.san().as_str(), "kind": kind,
        "issuer": identity.issuer(), "claims": claims, "proofOver": identity.challenges() })
}

/// What the claims of a token would become, if everything else about it held: neither its signature nor its
/// audience nor its times are looked at.
///
/// # Errors
/// When no issuer is theirs, or they name nobody.
pub fn unverified(token: &str, issuers: &[Issuer]) -> Result<Value, Unexplained> {
    use base64::Engine as _;
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Unexplained::Shape);
    };
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
    let claims = Claims::parse(&payload.map_err(|_| Unexplained::Shape)?);
    let claims = claims.map_err(|_| Unexplained::Shape)?;
    let url = claims.text("iss").unwrap_or_default().to_owned();
    let exact = |issuer: &&Issuer| issuer.url == IssuerUrl::Exact(url.clone());
    let matched = |issuer: &&Issuer| matches!(&issuer.url, IssuerUrl::Pattern(pattern) if pattern.matches(&url));
    let issuer = issuers.iter().find(exact).or_else(|| issuers.iter().find(matched));
    let issuer = issuer.ok_or(Unexplained::Issuer { found: url.clone() })?;
    let mut told = json(&issuer.mapping.identity(claims)?);
    told["verified"] = false.into();
    Ok(told)
}

/// Why nothing can be told of a token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Unexplained {
    /// Not a token.
    #[error("expected an identity token: three parts of base64url, the second one JSON")]
    Shape,
    /// Nobody's.
    #[error("tokens by the issuer {found:?} are not accepted")]
    Issuer {
        /// The issuer.
        found: String,
    },
    /// The claims name nobody.
    #[error(transparent)]
    Mapping(#[from] MappingError),
}
