//! An issuer's public keys: discovery, the key set, and a cache of both.
//!
//! Keys are fetched when first needed, again before they are old (in the background, when a token comes),
//! and again when a token names a key that is not among them, but then at most once in ten seconds after the
//! fetch before has ended, whatever tokens are sent. One fetch runs at a time for an issuer, in a task of its own;
//! tokens whose key is held and fresh do not wait for it, and none waits for one that is slow, or that follows one that
//! has just failed: an issuer that hangs holds up nobody but its own tokens, and those for seconds. While
//! the issuer is unreachable its last keys serve on for a day. Fetches are bounded in time and size and follow
//! redirects within the same origin only. Plain HTTP is for issuers on loopback only.

use super::token::ALGORITHMS;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::redirect::Policy;
use serde::Deserialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use url::Url;

/// How old keys may be before they are fetched again while they still serve.
const REFRESH: SignedDuration = SignedDuration::from_mins(10);
/// How old keys may be before tokens wait for fresh ones.
const FRESH: SignedDuration = SignedDuration::from_mins(15);
/// How long keys serve while the issuer is unreachable.
const STALE: SignedDuration = SignedDuration::from_hours(24);
/// The shortest time from the end of a fetch to the next.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// How long after a fetch a key that was not among those fetched is taken to be none: issuers publish keys ahead
/// of their use.
const CURRENT: SignedDuration = SignedDuration::from_secs(3);
/// The same while nothing was fetched yet: an issuer that starts beside us is found soon.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// Longest time that both documents of a fetch may take: Fulcio's.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a fetch may have run before tokens that did not begin it no longer wait for it.
const SLOW: Duration = Duration::from_secs(3);
/// How long after a failure they do not wait at all.
const FAILING: SignedDuration = SignedDuration::from_mins(1);
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
    /// Of an issuer that nobody has listed one by one: what a fetch needs one of until keys came. Its keys
    /// must lie on its own origin.
    unproven: Option<Arc<Semaphore>>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    keys: Option<(Arc<Keys>, Timestamp)>,
    /// When the last fetch ended, and how it failed if it did.
    attempt: Option<(Timestamp, Option<JwksError>)>,
    /// The last fetch that was begun: when, and what is closed when it has ended.
    begun: Option<(Instant, watch::Receiver<()>)>,
}

/// The keys of an issuer, and the algorithms it says it uses.
pub struct Keys {
    keys: Vec<Key>,
    algorithms: Vec<String>,
}

/// A key for signatures.
struct Key {
    id: Option<String>,
    /// The one algorithm it is for, if it says so.
    algorithm: Option<String>,
    key: DecodingKey,
}

/// Keys that may have signed a token.
#[derive(Clone)]
pub struct Candidates {
    keys: Arc<Keys>,
    key_id: Option<String>,
}

impl Candidates {
    /// Whether the issuer says it signs with `algorithm`; without a list, or without one in it that is
    /// accepted, RS256 (OpenID Connect Discovery, section 3).
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
    pub fn fitting(&self, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        let name = format!("{algorithm:?}");
        let keys = self.keys.keys.iter().filter(move |key| {
            let named = self.key_id.is_none() || key.id == self.key_id;
            named && key.algorithm.as_ref().is_none_or(|stated| *stated == name)
        });
        keys.map(|key| &key.key)
    }
}

impl Key {
    /// The key of a JWK; `None` when it is not for verifying signatures, a secret, or of a type that is not
    /// known.
    fn read(jwk: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk).ok()?;
        let common = &jwk.common;
        let for_signatures = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
        let operations = common.key_operations.as_ref();
        let verifies =
            operations.is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let is_secret = matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
        if !for_signatures || !verifies || is_secret {
            return None;
        }
        let algorithm = common.key_algorithm.as_ref().map(|stated| format!("{stated:?}"));
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, algorithm, key })
    }
}

impl Keys {
    /// Whether a token that names `key_id`, or none, may be signed by one of these.
    fn has(&self, key_id: Option<&str>) -> bool {
        let named = |key: &Key| key.id.as_deref() == key_id;
        key_id.is_none() || self.keys.iter().any(named)
    }
}

impl Cache {
    /// The keys, if they are not older than `age` and answer for `key_id`.
    fn fresh(
        &self,
        age: SignedDuration,
        key_id: Option<&str>,
        now: Timestamp,
    ) -> Option<Arc<Keys>> {
        let (keys, fetched) = self.keys.as_ref()?;
        (within(age, *fetched, now) && keys.has(key_id)).then(|| Arc::clone(keys))
    }

    /// The fetch that is under way.
    fn running(&self) -> Option<(Instant, watch::Receiver<()>)> {
        self.begun.clone().filter(|(_, ended)| ended.has_changed().is_ok())
    }

    fn may_fetch(&self, now: Timestamp) -> bool {
        let pause = if self.keys.is_some() { PAUSE } else { FIRST_PAUSE };
        self.attempt.as_ref().is_none_or(|(ended, _)| !within(pause, *ended, now))
    }

    /// Whether the last fetch failed, and not long ago.
    fn is_failing(&self, now: Timestamp) -> bool {
        let failed =
            |(ended, failure): &(_, Option<_>)| failure.is_some() && within(FAILING, *ended, now);
        self.attempt.as_ref().is_some_and(failed)
    }

    /// What can be said without another fetch.
    fn answer(&self, key_id: Option<&str>, now: Timestamp) -> Result<Arc<Keys>, JwksError> {
        if let Some(keys) = self.fresh(STALE, key_id, now) {
            return Ok(keys);
        }
        if let Some((_, Some(failure))) = &self.attempt {
            return Err(failure.clone());
        }
        match &self.keys {
            Some((_, fetched)) if within(CURRENT, *fetched, now) => Err(JwksError::UnknownKey),
            Some((_, fetched)) if within(STALE, *fetched, now) => Err(JwksError::NotAskedAgain),
            _ => Err(JwksError::Unavailable),
        }
    }
}

/// The URL of an issuer, as it stands in tokens.
///
/// # Errors
/// When it is not a bare URL, or is plain HTTP to another host than a loopback address.
pub(super) fn issuer_url(issuer: &str) -> Result<Url, JwksError> {
    let url = Url::parse(issuer).map_err(|_| JwksError::Url)?;
    let bare = url.query().is_none() && url.fragment().is_none() && !issuer.contains('@');
    if bare && is_secure(&url) { Ok(url) } else { Err(JwksError::Url) }
}

/// What fetches the documents of issuers: over TLS that leads to the system's roots or those in `ca_cert`
/// (PEM), or on `loopback`.
pub(super) fn fetcher(ca_cert: Option<&str>, loopback: bool) -> Result<reqwest::Client, JwksError> {
    let same_origin = Policy::custom(|attempt| {
        let from = attempt.previous().last().map(Url::origin);
        let followed = attempt.previous().len();
        if from == Some(attempt.url().origin()) && followed <= MAX_REDIRECTS {
            attempt.follow()
        } else {
            attempt.stop()
        }
    });
    let mut builder = reqwest::Client::builder()
        .redirect(same_origin)
        .timeout(TIMEOUT)
        .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = ca_cert {
        let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
        builder = builder.tls_certs_merge(certificates.map_err(|_| JwksError::Unavailable)?);
    } else if loopback {
        // That needs neither roots nor a proxy.
        builder = builder.tls_certs_only([]).no_proxy();
    }
    builder.build().map_err(|_| JwksError::Unavailable)
}

impl KeySource {
    /// The keys of the issuer at `issuer`, as it stands in tokens; `ca_cert`, PEM, may vouch for its TLS
    /// beside the system's roots.
    ///
    /// # Errors
    /// When it is not a bare URL, is plain HTTP to another host than a loopback address, or TLS fails.
    pub fn new(issuer: &str, ca_cert: Option<&str>) -> Result<Self, JwksError> {
        let loopback = issuer_url(issuer)?.scheme() == "http";
        Self::fetched_by(fetcher(ca_cert, loopback)?, issuer, None)
    }

    /// The same with a fetcher at hand. For issuers that nobody has listed one by one, `unproven`: one of
    /// these is taken by a fetch for an issuer that has not given keys yet, and what they publish must
    /// send us nowhere else.
    pub(super) fn fetched_by(
        http: reqwest::Client,
        issuer: &str,
        unproven: Option<Arc<Semaphore>>,
    ) -> Result<Self, JwksError> {
        issuer_url(issuer)?;
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let discovery = Url::parse(&format!("{base}/.well-known/openid-configuration"))
            .map_err(|_| JwksError::Url)?;
        Ok(Self(Arc::new(Shared {
            issuer: issuer.to_owned(),
            discovery,
            http,
            unproven,
            cache: Mutex::default(),
        })))
    }

    /// Whether keys were ever fetched.
    pub(super) fn is_proven(&self) -> bool {
        self.0.cache().keys.is_some()
    }

    /// Whether a fetch is under way.
    pub(super) fn is_asked(&self) -> bool {
        self.0.cache().running().is_some()
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
        let candidates = |keys| Candidates { keys, key_id: key_id.map(str::to_owned) };
        let (mut ended, patience) = {
            let mut cache = self.0.cache();
            let fresh = cache.fresh(FRESH, key_id, now);
            let is_due = fresh.is_none() || cache.fresh(REFRESH, None, now).is_none();
            let is_failing = cache.is_failing(now);
            let older = || is_failing.then(|| cache.fresh(STALE, key_id, now)).flatten();
            let held = fresh.or_else(older);
            let running = cache.running();
            if is_due && running.is_none() && cache.may_fetch(now) {
                // Whoever begins it waits for its end: else an issuer that is back would be found by nobody.
                let ended = self.begin(&mut cache, now)?;
                match held {
                    Some(keys) => return Ok(candidates(keys)),
                    None => (ended, Instant::now() + TIMEOUT),
                }
            } else if let Some(keys) = held {
                return Ok(candidates(keys));
            } else if let Some((since, ended)) = running.filter(|_| !is_failing) {
                (ended, since + SLOW)
            } else {
                return cache.answer(key_id, now).map(candidates);
            }
        };
        // Either end of this wait is an answer: what was fetched, or what there is.
        let _ = tokio::time::timeout_at(patience, ended.changed()).await;
        let cache = self.0.cache();
        match cache.answer(key_id, now) {
            // It is not known yet.
            Err(JwksError::UnknownKey | JwksError::NotAskedAgain) if cache.running().is_some() => {
                Err(JwksError::Unavailable)
            }
            // No key but those just fetched, however long that took.
            Err(JwksError::NotAskedAgain) => Err(JwksError::UnknownKey),
            answer => answer.map(candidates),
        }
    }

    /// Begins a fetch, in a task of its own: a client that goes away does not take along what others wait
    /// for. What it returns is closed at the end.
    fn begin(&self, cache: &mut Cache, now: Timestamp) -> Result<watch::Receiver<()>, JwksError> {
        let slot = match &self.0.unproven {
            Some(slots) if cache.keys.is_none() => {
                let slot = Arc::clone(slots).try_acquire_owned();
                Some(slot.map_err(|_| JwksError::TooMany)?)
            }
            _ => None,
        };
        let (end, ended) = watch::channel(());
        cache.begun = Some((Instant::now(), ended.clone()));
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            shared.fetch_once(now, slot).await;
            drop(end);
        });
        Ok(ended)
    }
}

impl Shared {
    /// Never held while something is awaited.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch_once(&self, now: Timestamp, slot: Option<OwnedSemaphorePermit>) {
        let began = Instant::now();
        let fetched = match tokio::time::timeout(TIMEOUT, self.fetch()).await {
            Ok(fetched) => fetched,
            Err(_) => Err(JwksError::Fetch {
                url: self.discovery.to_string(),
                reason: format!("no answer within {} s", TIMEOUT.as_secs()),
            }),
        };
        drop(slot);
        let took = SignedDuration::try_from(began.elapsed()).unwrap_or_default();
        let ended = now + took;
        let mut cache = self.cache();
        match fetched {
            Ok(keys) => {
                cache.keys = Some((Arc::new(keys), now));
                cache.attempt = Some((ended, None));
            }
            Err(error) => {
                tracing::warn!(issuer = %self.issuer, %error, "could not fetch an issuer's keys");
                cache.attempt = Some((ended, Some(error)));
            }
        }
    }

    async fn fetch(&self) -> Result<Keys, JwksError> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: Url,
            id_token_signing_alg_values_supported: Option<Vec<String>>,
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
        if self.unproven.is_some() && discovery.jwks_uri.origin() != self.discovery.origin() {
            return Err(JwksError::Elsewhere);
        }
        let set: Set = self.document(&discovery.jwks_uri).await?;
        // Keys of types that are not known are passed over: providers publish them ahead of use.
        let keys = set.keys.into_iter().take(MAX_KEYS);
        let keys: Vec<_> = keys.filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err(JwksError::NoKeys);
        }
        let mut algorithms = discovery.id_token_signing_alg_values_supported.unwrap_or_default();
        algorithms.retain(|name| ALGORITHMS.iter().any(|known| format!("{known:?}") == *name));
        Ok(Keys { keys, algorithms })
    }

    async fn document<T: for<'a> Deserialize<'a>>(&self, url: &Url) -> Result<T, JwksError> {
        let failed = |error: reqwest::Error| JwksError::Fetch {
            url: url.to_string(),
            reason: with_causes(&error.without_url()),
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

/// An error with what led to it, such as a connection that was refused.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
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
    /// Nothing was fetched yet, or it takes long, or TLS could not be set up.
    #[error("the issuer's keys are not available")]
    Unavailable,
    /// The token names a key that the issuer does not publish.
    #[error("the identity token names a key that its issuer does not publish")]
    UnknownKey,
    /// Keys on another host than an issuer of a pattern may have them.
    #[error(
        "the issuer's keys are on another host than the issuer, which is for listed issuers only"
    )]
    Elsewhere,
    /// The same, and it may have come after the keys were fetched, a few seconds ago.
    #[error(
        "the identity token names a key that its issuer did not publish some seconds ago, and it is not asked again yet"
    )]
    NotAskedAgain,
    /// A set without a key that can be used.
    #[error("the issuer publishes no key that verifies signatures")]
    NoKeys,
    /// Too many issuers of one pattern came up at once.
    #[error("too many new issuers of one pattern are asked for their keys at once")]
    TooMany,
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
