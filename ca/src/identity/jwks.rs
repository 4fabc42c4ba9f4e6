//! An issuer's public keys: discovery, the key set, and a cache of both.
//!
//! Keys are fetched when first needed, again when they are old, and again when a token names a key that
//! is not among them, but then at most once in ten seconds, whatever tokens are sent. One fetch runs at
//! a time for an issuer; tokens whose key is held and fresh do not wait for it. While the issuer is
//! unreachable its last keys serve on for a day. Fetches are bounded in time and size and follow
//! redirects within the same origin only. Plain HTTP is for issuers on loopback only.

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::redirect::Policy;
use serde::Deserialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use url::Url;

/// How old keys may be before they are fetched again.
const FRESH: SignedDuration = SignedDuration::from_mins(15);
/// How long keys serve while the issuer is unreachable.
const STALE: SignedDuration = SignedDuration::from_hours(24);
/// The shortest time between two fetches.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// The same while nothing was fetched yet: an issuer that starts beside us is found soon.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// Longest wait for one document, and for both: Fulcio's.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most redirects on the way to one document.
const MAX_REDIRECTS: usize = 3;
/// Largest document, in bytes. Google's key set is 2 KiB; Kubernetes' largest is below 64 KiB.
const MAX_DOCUMENT: usize = 256 << 10;
/// Most keys of a set that are looked at.
const MAX_KEYS: usize = 100;

/// Where the keys of one issuer come from.
pub struct KeySource(Arc<Shared>);

struct Shared {
    /// As it stands in tokens.
    issuer: String,
    discovery: Url,
    http: reqwest::Client,
    cache: Mutex<Cache>,
    /// Held by the one fetch that is under way.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Cache {
    keys: Option<(Arc<Keys>, Timestamp)>,
    /// When the last fetch began, and how it failed if it did.
    attempt: Option<(Timestamp, Option<JwksError>)>,
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

    /// The keys whose use, operations and algorithm fit. A key of another type than `algorithm` needs
    /// is found out by the check of the signature.
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

impl Keys {
    /// Whether a token that names `key_id`, or none, may be signed by one of these.
    fn has(&self, key_id: Option<&str>) -> bool {
        let named = |key: &Jwk| key.common.key_id.as_deref() == key_id;
        key_id.is_none() || self.keys.iter().any(named)
    }
}

impl Cache {
    /// The keys, if they answer for `key_id` without a fetch.
    fn fresh(&self, key_id: Option<&str>, now: Timestamp) -> Option<Arc<Keys>> {
        let (keys, fetched) = self.keys.as_ref()?;
        (within(FRESH, *fetched, now) && keys.has(key_id)).then(|| Arc::clone(keys))
    }

    fn may_fetch(&self, now: Timestamp) -> bool {
        let pause = if self.keys.is_some() { PAUSE } else { FIRST_PAUSE };
        self.attempt.as_ref().is_none_or(|(began, _)| !within(pause, *began, now))
    }

    /// What can be said after the last attempt to fetch.
    fn answer(&self, key_id: Option<&str>, now: Timestamp) -> Result<Arc<Keys>, JwksError> {
        let failure = || self.attempt.as_ref().and_then(|(_, failure)| failure.clone());
        match &self.keys {
            Some((keys, fetched)) if within(STALE, *fetched, now) => match keys.has(key_id) {
                true => Ok(Arc::clone(keys)),
                false => Err(failure().unwrap_or(JwksError::UnknownKey)),
            },
            _ => Err(failure().unwrap_or(JwksError::Unavailable)),
        }
    }
}

impl KeySource {
    /// The keys of the issuer at `issuer`, as it stands in tokens.
    ///
    /// # Errors
    /// When it is not a bare URL, is plain HTTP to another host than a loopback address, or TLS fails.
    pub fn new(issuer: &str) -> Result<Self, JwksError> {
        let url = Url::parse(issuer).map_err(|_| JwksError::Url)?;
        let bare = url.query().is_none() && url.fragment().is_none() && !issuer.contains('@');
        if !bare || !is_secure(&url) {
            return Err(JwksError::Url);
        }
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let discovery = Url::parse(&format!("{base}/.well-known/openid-configuration"))
            .map_err(|_| JwksError::Url)?;
        let same_origin = Policy::custom(|attempt| {
            let from = attempt.previous().last().map(Url::origin);
            let followed = attempt.previous().len();
            if from == Some(attempt.url().origin()) && followed <= MAX_REDIRECTS {
                attempt.follow()
            } else {
                attempt.stop()
            }
        });
        let builder = reqwest::Client::builder()
            .redirect(same_origin)
            .timeout(TIMEOUT)
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")));
        // Loopback needs neither roots nor a proxy.
        let loopback = url.scheme() == "http";
        let builder = if loopback { builder.tls_certs_only([]).no_proxy() } else { builder };
        let http = builder.build().map_err(|_| JwksError::Unavailable)?;
        let (cache, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self(Arc::new(Shared { issuer: issuer.to_owned(), discovery, http, cache, turn })))
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
        let fresh = self.0.cache().fresh(key_id, now);
        let key_id = key_id.map(str::to_owned);
        let keys = match fresh {
            Some(keys) => keys,
            None => {
                // In a task of its own: a client that goes away does not take along the fetch that
                // others wait for.
                let (shared, key_id) = (Arc::clone(&self.0), key_id.clone());
                let task = async move { shared.refreshed(key_id.as_deref(), now).await };
                tokio::spawn(task).await.map_err(|_| JwksError::Unavailable)??
            }
        };
        Ok(Candidates { keys, key_id })
    }
}

impl Shared {
    /// Never held while something is awaited.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn refreshed(
        &self,
        key_id: Option<&str>,
        now: Timestamp,
    ) -> Result<Arc<Keys>, JwksError> {
        let _turn = self.turn.lock().await;
        {
            let mut cache = self.cache();
            // Whoever had the turn before may have fetched what is needed.
            if let Some(keys) = cache.fresh(key_id, now) {
                return Ok(keys);
            }
            if !cache.may_fetch(now) {
                return cache.answer(key_id, now);
            }
            cache.attempt = Some((now, None));
        }
        let fetched = match tokio::time::timeout(TIMEOUT, self.fetch()).await {
            Ok(fetched) => fetched,
            Err(_) => Err(JwksError::Fetch {
                url: self.discovery.to_string(),
                reason: format!("no answer within {} s", TIMEOUT.as_secs()),
            }),
        };
        let mut cache = self.cache();
        match fetched {
            Ok(keys) => cache.keys = Some((Arc::new(keys), now)),
            Err(error) => {
                tracing::warn!(issuer = %self.issuer, %error, "could not fetch an issuer's keys");
                cache.attempt = Some((now, Some(error)));
            }
        }
        cache.answer(key_id, now)
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
        let discovery: Discovery = self.document(&self.discovery).await?;
        if discovery.issuer != self.issuer {
            let found = discovery.issuer.chars().take(200).collect();
            return Err(JwksError::OtherIssuer { expected: self.issuer.clone(), found });
        }
        // An issuer elsewhere has no business with what listens on our loopback.
        let https = discovery.jwks_uri.scheme() == "https";
        if !https && (self.discovery.scheme() == "https" || !is_secure(&discovery.jwks_uri)) {
            return Err(JwksError::Url);
        }
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

/// Whether `now` is no further than `span` from `start`; before it, too: who waited for a turn has an
/// earlier `now` than who had it, but a clock that was set back by more says nothing about age.
fn within(span: SignedDuration, start: Timestamp, now: Timestamp) -> bool {
    now.duration_since(start).abs() <= span
}

/// HTTPS; HTTP only where nobody can stand between.
fn is_secure(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "https" || url.scheme() == "http" && loopback
}

/// Why an issuer's keys cannot be had.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// Not an acceptable URL.
    #[error("expected an https URL (http on loopback only) for an issuer and its keys")]
    Url,
    /// Nothing was fetched yet, or TLS could not be set up.
    #[error("the issuer's keys are not available")]
    Unavailable,
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
