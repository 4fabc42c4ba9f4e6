//! An issuer's public keys: discovery, the key set, and a cache of both.
//!
//! Keys are fetched when first needed, again when they are old, and again when a token names a key that
//! is not among them, but then at most once in ten seconds, whatever tokens are sent. One fetch runs at
//! a time for an issuer; while it is unreachable its last keys serve on for a day. Fetches are bounded
//! in time and size and follow no redirect. Plain HTTP is for issuers on loopback only.

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// How old keys may be before they are fetched again.
const FRESH: SignedDuration = SignedDuration::from_mins(15);
/// How long keys serve while the issuer is unreachable.
const STALE: SignedDuration = SignedDuration::from_hours(24);
/// The shortest time between two fetches.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// Longest wait for one document.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest document, in bytes. Google's key set is 2 KiB; Kubernetes' largest is below 64 KiB.
const MAX_DOCUMENT: usize = 256 << 10;
/// Most keys of a set that are looked at.
const MAX_KEYS: usize = 100;

/// Where the keys of one issuer come from.
pub struct KeySource {
    issuer: Url,
    http: reqwest::Client,
    cache: tokio::sync::Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    keys: Option<(Arc<Keys>, Timestamp)>,
    last_attempt: Option<Timestamp>,
}

/// The keys of an issuer, and the algorithms it says it uses.
#[derive(Debug)]
pub struct Keys {
    keys: Vec<Jwk>,
    algorithms: Vec<String>,
}

/// Keys that may have signed a token.
#[derive(Clone, Debug)]
pub struct Candidates {
    keys: Arc<Keys>,
    key_id: Option<String>,
}

impl Candidates {
    /// Whether the issuer says it signs with `algorithm`; without a list, RS256 (OpenID Connect
    /// Discovery, section 3).
    #[must_use]
    pub fn allows(&self, algorithm: Algorithm) -> bool {
        let name = format!("{algorithm:?}");
        match self.keys.algorithms.as_slice() {
            [] => algorithm == Algorithm::RS256,
            listed => listed.contains(&name),
        }
    }

    /// The keys whose type, use and algorithm fit.
    pub fn fitting(&self, algorithm: Algorithm) -> impl Iterator<Item = DecodingKey> {
        let key_id = self.key_id.as_deref();
        let named = move |key: &&Jwk| key_id.is_none() || key.common.key_id.as_deref() == key_id;
        let name = format!("{algorithm:?}");
        let fits = move |key: &&Jwk| {
            let for_signatures =
                matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
            let operations = key.common.key_operations.as_ref();
            let verifies =
                operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify));
            let stated = key.common.key_algorithm.as_ref();
            let same = stated.is_none_or(|stated: &KeyAlgorithm| format!("{stated:?}") == name);
            for_signatures && verifies && same
        };
        let keys = self.keys.keys.iter().filter(named).filter(fits);
        keys.filter_map(|key| DecodingKey::from_jwk(key).ok())
    }
}

impl KeySource {
    /// The keys of the issuer at `issuer`, as it stands in tokens.
    ///
    /// # Errors
    /// When the URL is none, is plain HTTP to another host than a loopback address, or TLS fails.
    pub fn new(issuer: &str) -> Result<Self, JwksError> {
        let url = Url::parse(issuer).map_err(|_| JwksError::Url)?;
        check_transport(&url)?;
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")));
        // Loopback needs neither roots nor a proxy.
        let loopback = url.scheme() == "http";
        let builder = if loopback { builder.tls_certs_only([]).no_proxy() } else { builder };
        let http = builder.build().map_err(|_| JwksError::Tls)?;
        Ok(Self { issuer: url, http, cache: tokio::sync::Mutex::default() })
    }

    /// The keys for a token that names `key_id`, or any if it names none.
    ///
    /// # Errors
    /// When the keys cannot be had, or that one is not among them.
    pub async fn candidates(
        &self,
        key_id: Option<&str>,
        now: Timestamp,
    ) -> Result<Candidates, JwksError> {
        // Held during the fetch: whoever else needs these keys waits for the one that is under way.
        let mut cache = self.cache.lock().await;
        let known = |keys: &Keys| {
            let id = |key: &Jwk| key.common.key_id.as_deref() == key_id;
            key_id.is_none() || keys.keys.iter().any(id)
        };
        let wanted = match &cache.keys {
            None => true,
            Some((keys, fetched)) => elapsed(*fetched, now) > FRESH || !known(keys),
        };
        let may_fetch = cache.last_attempt.is_none_or(|last| elapsed(last, now) > PAUSE);
        let mut failure = None;
        if wanted && (may_fetch || cache.keys.is_none()) {
            cache.last_attempt = Some(now);
            match self.fetch().await {
                Ok(keys) => cache.keys = Some((Arc::new(keys), now)),
                Err(error) => {
                    tracing::warn!(issuer = %self.issuer, %error, "could not fetch an issuer's keys");
                    failure = Some(error);
                }
            }
        }
        let usable = cache.keys.as_ref().filter(|(_, fetched)| elapsed(*fetched, now) < STALE);
        match usable {
            Some((keys, _)) if known(keys) => {
                Ok(Candidates { keys: Arc::clone(keys), key_id: key_id.map(str::to_owned) })
            }
            Some(_) => Err(failure.unwrap_or(JwksError::UnknownKey)),
            None => Err(failure.unwrap_or(JwksError::Tls)),
        }
    }

    async fn fetch(&self) -> Result<Keys, JwksError> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: Url,
            #[serde(default)]
            id_token_signing_alg_values_supported: Vec<String>,
        }
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let mut url = self.issuer.clone();
        url.set_path(&format!(
            "{}/.well-known/openid-configuration",
            url.path().trim_end_matches('/')
        ));
        let discovery: Discovery = self.document(&url).await?;
        let expected = self.issuer.as_str().trim_end_matches('/');
        if discovery.issuer.trim_end_matches('/') != expected {
            let found = discovery.issuer.chars().take(200).collect();
            return Err(JwksError::OtherIssuer { expected: expected.to_owned(), found });
        }
        check_transport(&discovery.jwks_uri)?;
        let set: Set = self.document(&discovery.jwks_uri).await?;
        // Keys of types that are not known are passed over: providers publish them ahead of use.
        let keys = set.keys.into_iter().take(MAX_KEYS);
        let keys = keys.filter_map(|key| serde_json::from_value(key).ok()).collect();
        Ok(Keys { keys, algorithms: discovery.id_token_signing_alg_values_supported })
    }

    async fn document<T: for<'a> Deserialize<'a>>(&self, url: &Url) -> Result<T, JwksError> {
        let failed = |error: reqwest::Error| JwksError::Fetch {
            url: url.to_string(),
            reason: error.without_url().to_string(),
        };
        let mut response = self.http.get(url.clone()).send().await.map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            let reason = format!("status {}", response.status().as_u16());
            return Err(JwksError::Fetch { url: url.to_string(), reason });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_DOCUMENT {
                let reason = format!("more than {MAX_DOCUMENT} bytes");
                return Err(JwksError::Fetch { url: url.to_string(), reason });
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|_| JwksError::Fetch {
            url: url.to_string(),
            reason: "not the JSON document expected".to_owned(),
        })
    }
}

fn elapsed(since: Timestamp, now: Timestamp) -> SignedDuration {
    now.duration_since(since)
}

/// HTTPS; HTTP only where nobody can stand between.
fn check_transport(url: &Url) -> Result<(), JwksError> {
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        _ => Err(JwksError::Url),
    }
}

/// Why an issuer's keys cannot be had.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// Not an acceptable URL.
    #[error("expected an https URL (http on loopback only) for an issuer and its keys")]
    Url,
    /// TLS could not be set up, or nothing was fetched yet.
    #[error("the issuer's keys are not available")]
    Tls,
    /// The token names a key that the issuer does not publish.
    #[error("the identity token names a key that its issuer does not publish")]
    UnknownKey,
    /// A document could not be fetched.
    #[error("the issuer's {url} could not be fetched: {reason}")]
    Fetch {
        /// The document.
        url: String,
        /// What failed.
        reason: String,
    },
    /// The discovery document is another issuer's.
    #[error("the discovery document is of another issuer: expected {expected:?}, found {found:?}")]
    OtherIssuer {
        /// As configured.
        expected: String,
        /// As found.
        found: String,
    },
}
