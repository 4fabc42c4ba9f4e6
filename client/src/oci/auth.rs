//! What a registry demands when it answers 401: RFC 9110, section 11.6.1, and the token protocol of the
//! distribution project.

use super::Error;
use super::credentials::Credential;
use crate::http::{Http, Read, Reply};
use base64::Engine as _;
use serde::Deserialize;
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// Largest answer of a token server, in bytes. Tokens have some KiB.
const MAX_ANSWER: usize = 256 << 10;

/// What a registry asks for.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Challenge {
    /// User and password, with each request.
    Basic,
    /// A token from the server at `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The one of a reply's challenges that we meet; tokens first.
    pub(super) fn of(reply: &Reply) -> Option<Self> {
        let found: Vec<_> = reply.headers("www-authenticate").filter_map(Self::parse).collect();
        let bearer = |challenge: &Self| matches!(challenge, Self::Bearer { .. });
        let place = found.iter().position(bearer).unwrap_or_default();
        found.into_iter().nth(place)
    }

    /// `scheme name="value",name="value"`; a value may have commas in it.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            let value = Some(value.trim().to_owned());
            match name.trim_matches([',', ' ']).to_ascii_lowercase().as_str() {
                "realm" => realm = value,
                "service" => service = value,
                "scope" => scope = value,
                _ => {}
            }
            rest = after;
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }
}

/// The value of `Authorization` for user and password.
pub(super) fn basic(user: &str, password: &str) -> Zeroizing<String> {
    let plain = Zeroizing::new(format!("{user}:{password}"));
    let encoded = base64::engine::general_purpose::STANDARD.encode(plain.as_bytes());
    Zeroizing::new(format!("Basic {encoded}"))
}

/// Asks the token server for a token of `scopes`, anonymously or by `credential`.
pub(super) async fn token(
    http: &Http,
    realm: &Url,
    service: Option<&str>,
    scopes: &[String],
    credential: Option<&Credential>,
) -> Result<Zeroizing<String>, Error> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let exchanged = match credential {
        Some(Credential::IdentityToken(token)) => Some(token),
        _ => None,
    };
    let mut url = realm.clone();
    if exchanged.is_none() {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(service.map(|service| ("service", service)));
        query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
    }
    let request = |client: &reqwest::Client| match (exchanged, credential) {
        (Some(token), _) => client.post(url.clone()).form(&[
            ("grant_type", "refresh_token"),
            ("service", service.unwrap_or_default()),
            ("client_id", "countersign"),
            ("scope", &scopes.join(" ")),
            ("refresh_token", token),
        ]),
        (None, Some(Credential::Password(user, password))) => {
            client.get(url.clone()).header("authorization", basic(user, password).as_str())
        }
        _ => client.get(url.clone()),
    };
    let reply = http.exchange(request, realm, Read::Whole(MAX_ANSWER), Duration::ZERO).await?;
    let reply = reply.success(realm)?;
    let answer: Option<Answer> = serde_json::from_slice(&reply.body).ok();
    answer
        .and_then(|answer| answer.token.or(answer.access_token))
        .filter(|token| !token.is_empty())
        .map(Zeroizing::new)
        .ok_or_else(|| Error::Reply { url: realm.to_string(), expected: "a token" })
}

#[cfg(test)]
mod tests {
    use super::Challenge;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let [service, scope] = [service, scope].map(|text| text.map(str::to_owned));
            Some(Challenge::Bearer { realm: realm.to_owned(), service, scope })
        };
        for (text, expected) in [
            (
                r#"Bearer realm="https://a/t",service="s",scope="repository:x:pull,push""#,
                bearer("https://a/t", Some("s"), Some("repository:x:pull,push")),
            ),
            (
                r#"bearer Realm="https://a/t?x=1" , service=s"#,
                bearer("https://a/t?x=1", Some("s"), None),
            ),
            ("Basic realm=\"r\"", Some(Challenge::Basic)),
            ("Basic", Some(Challenge::Basic)),
            ("Bearer service=\"s\"", None),
            ("Bearer realm=\"unclosed", None),
            ("Negotiate", None),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }
}
