//! Checking an identity token: structure, issuer, signature, claims; in this order, so that nothing
//! unverified is acted upon but the choice of the issuer.
//!
//! Refused: tokens above 16 KiB, anything but three parts, `none` and HMAC algorithms, `crit`, names
//! that stand twice, issuers that are neither configured to the letter nor matched by a pattern, audiences
//! of others, tokens that have expired, are not valid yet or lack a claim.

use super::jwks::{self, JwksError, KeySource};
use super::pattern::Pattern;
use super::{Claims, Identity, Issuer, IssuerUrl, MappingError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Longest token, in bytes. Real ones are 1 to 3 KiB.
pub const MAX_TOKEN: usize = 16 << 10;

/// How far an issuer's clock may run ahead of ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Asymmetric algorithms only: with HMAC the public key would be the secret.
pub(super) const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Most issuers of one pattern whose keys are held: Fulcio's.
const MAX_PROVEN: usize = 100;
/// Most issuers of one pattern that are asked for their first keys at a time, and that are remembered without
/// keys: whoever makes up issuers costs no more than that, and drives out none that has given keys.
const MAX_UNPROVEN: usize = 30;

/// All issuers whose tokens are accepted.
pub struct Verifier {
    /// By URL.
    exact: BTreeMap<String, (Issuer, Arc<KeySource>)>,
    patterns: Vec<Many>,
}

/// The issuers of one pattern.
struct Many {
    issuer: Issuer,
    pattern: Pattern,
    met: Arc<Met>,
}

/// Those that tokens have named.
struct Met {
    http: reqwest::Client,
    unproven: Arc<Semaphore>,
    /// By URL, each with its last use.
    sources: Mutex<BTreeMap<String, (Arc<KeySource>, Timestamp)>>,
}

impl Met {
    fn new(http: reqwest::Client) -> Self {
        let unproven = Arc::new(Semaphore::new(MAX_UNPROVEN));
        Self { http, unproven, sources: Mutex::default() }
    }

    fn source(&self, url: &str, now: Timestamp) -> Result<Arc<KeySource>, JwksError> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((source, used)) = sources.get_mut(url) {
            *used = now;
            return Ok(Arc::clone(source));
        }
        if self.unproven.available_permits() == 0 {
            return Err(JwksError::TooMany);
        }
        let mut remove_one_of_more_than = |most, proven| {
            let of_kind = sources.iter().filter(|(_, (source, _))| source.is_proven() == proven);
            // One that is being asked may prove itself.
            let leaves =
                of_kind.clone().min_by_key(|(_, (source, used))| (source.is_asked(), *used));
            if of_kind.count() > most
                && let Some(url) = leaves.map(|(url, _)| url.clone())
            {
                sources.remove(&url);
            }
        };
        remove_one_of_more_than(MAX_PROVEN, true);
        remove_one_of_more_than(MAX_UNPROVEN, false);
        let unproven = Some(Arc::clone(&self.unproven));
        let source = Arc::new(KeySource::fetched_by(self.http.clone(), url, unproven)?);
        sources.insert(url.to_owned(), (Arc::clone(&source), now));
        Ok(source)
    }
}

impl Verifier {
    /// A verifier for these issuers. Of two with one URL the later counts.
    ///
    /// # Errors
    /// When an issuer's URL or certificates cannot be used.
    pub fn new(issuers: impl IntoIterator<Item = Issuer>) -> Result<Self, JwksError> {
        let (mut exact, mut patterns) = (BTreeMap::new(), Vec::new());
        for issuer in issuers {
            match issuer.url.clone() {
                IssuerUrl::Exact(url) => {
                    let keys = KeySource::new(&url, issuer.ca_cert.as_deref())?;
                    exact.insert(url, (issuer, Arc::new(keys)));
                }
                IssuerUrl::Pattern(pattern) => {
                    let loopback = pattern.as_str().starts_with("http://");
                    let http = jwks::fetcher(issuer.ca_cert.as_deref(), loopback)?;
                    patterns.push(Many { issuer, pattern, met: Arc::new(Met::new(http)) });
                }
            }
        }
        Ok(Self { exact, patterns })
    }

    /// These issuers in place of `before`, with the keys that were fetched of those that are in both: one that
    /// is away when a configuration is read again goes on with its last keys.
    #[must_use]
    pub fn following(mut self, before: &Self) -> Self {
        for (url, (issuer, keys)) in &mut self.exact {
            if let Some((was, held)) = before.exact.get(url)
                && was.ca_cert == issuer.ca_cert
            {
                *keys = Arc::clone(held);
            }
        }
        for many in &mut self.patterns {
            let is_same = |was: &&Many| {
                was.pattern.as_str() == many.pattern.as_str()
                    && was.issuer.ca_cert == many.issuer.ca_cert
            };
            if let Some(was) = before.patterns.iter().find(is_same) {
                many.met = Arc::clone(&was.met);
            }
        }
        self
    }

    /// The issuers: those with a URL of their own in its order, then the patterns.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        let exact = self.exact.values().map(|(issuer, _)| issuer);
        exact.chain(self.patterns.iter().map(|many| &many.issuer))
    }

    /// Checks `token` at `now` and maps its claims to an identity.
    ///
    /// # Errors
    /// Names the first check that fails.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, TokenError> {
        let unverified = Unverified::parse(token)?;
        let url = unverified.claims.text("iss").ok_or(TokenError::MissingClaim { name: "iss" })?;
        let (issuer, keys) = self.find(url, now)?;
        unverified.check_signature(&keys, now).await?;
        check_claims(&unverified.claims, &issuer.audience, now)?;
        Ok(issuer.mapping.identity(unverified.claims)?)
    }

    /// The issuer of this URL, to the letter; else of the one pattern that matches it.
    fn find(&self, url: &str, now: Timestamp) -> Result<(&Issuer, Arc<KeySource>), TokenError> {
        if let Some((issuer, keys)) = self.exact.get(url) {
            return Ok((issuer, Arc::clone(keys)));
        }
        let many = self.patterns.iter().find(|many| many.pattern.matches(url));
        // URLs are ASCII. Anything else would only be longer in a log than it is in a token.
        let shown = |c: char| if c.is_ascii_graphic() { c } else { '?' };
        let unknown =
            || TokenError::UnknownIssuer { found: url.chars().take(200).map(shown).collect() };
        let many = many.ok_or_else(unknown)?;
        Ok((&many.issuer, many.met.source(url, now)?))
    }
}

/// The parts of a token; only the structure is checked.
struct Unverified<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    claims: Claims,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Unverified<'a> {
    fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLong { limit: MAX_TOKEN, found: token.len() });
        }
        let dots = token.bytes().filter(|byte| *byte == b'.').count();
        if dots != 2 {
            return Err(TokenError::Malformed { part: "structure" });
        }
        let (signed, signature) = token.rsplit_once('.').expect("two dots");
        let (header, payload) = signed.split_once('.').expect("one dot more");
        let read = |part, text: &str| {
            let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed { part })?;
            Claims::parse(&json).map_err(|_| TokenError::Malformed { part })
        };
        let header = read("header", header)?;
        if header.get("crit").is_some() {
            return Err(TokenError::Critical);
        }
        let name = header.text("alg").ok_or(TokenError::Malformed { part: "header" })?;
        let algorithm = name.parse().ok().filter(|algorithm| ALGORITHMS.contains(algorithm));
        let algorithm = algorithm
            .ok_or_else(|| TokenError::Algorithm { found: name.chars().take(50).collect() })?;
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(TokenError::Malformed { part: "header" }),
        };
        Ok(Self { algorithm, key_id, claims: read("payload", payload)?, signed, signature })
    }

    async fn check_signature(&self, keys: &KeySource, now: Timestamp) -> Result<(), TokenError> {
        let keys = keys.candidates(self.key_id.as_deref(), now).await?;
        if !keys.allows(self.algorithm) {
            return Err(TokenError::Algorithm { found: format!("{:?}", self.algorithm) });
        }
        let holds = |key: &DecodingKey| {
            let signed = self.signed.as_bytes();
            jsonwebtoken::crypto::verify(self.signature, signed, key, self.algorithm)
                .unwrap_or(false)
        };
        if keys.fitting(self.algorithm).any(holds) { Ok(()) } else { Err(TokenError::Signature) }
    }
}

fn check_claims(claims: &Claims, audience: &str, now: Timestamp) -> Result<(), TokenError> {
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Err(TokenError::MissingClaim { name: "aud" }),
    };
    if !audiences.contains(&audience) {
        let found = audiences.join(", ").chars().take(200).collect();
        return Err(TokenError::WrongAudience { expected: audience.to_owned(), found });
    }
    let expires = time(claims, "exp")?.ok_or(TokenError::MissingClaim { name: "exp" })?;
    if expires <= now {
        return Err(TokenError::Expired { expired: expires, now });
    }
    let issued = time(claims, "iat")?.ok_or(TokenError::MissingClaim { name: "iat" })?;
    let not_before = time(claims, "nbf")?.unwrap_or(issued);
    let start = issued.max(not_before);
    if start > now + CLOCK_SKEW {
        return Err(TokenError::NotYetValid { start, now });
    }
    Ok(())
}

/// NumericDate of RFC 7519: seconds since the epoch, perhaps with a fraction.
pub(crate) fn time(claims: &Claims, name: &'static str) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let whole = number.as_f64()?.floor();
            // Years 1970 to 9999: exact in a float, and within a Timestamp.
            #[expect(clippy::cast_possible_truncation, reason = "checked by the range")]
            (0.0..253_402_300_800.0).contains(&whole).then_some(whole as i64)
        }),
        _ => None,
    };
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(Some).ok_or(TokenError::MissingClaim { name })
}

/// Why a token is refused.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Above the limit.
    #[error("the identity token has {found} bytes; at most {limit} are read")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Not a JWT.
    #[error("the identity token is malformed: its {part} is not that of a JWT")]
    Malformed {
        /// Structure, header or payload.
        part: &'static str,
    },
    /// An extension that must be understood.
    #[error("the identity token's header has \"crit\", and no extension is understood")]
    Critical,
    /// An algorithm without a public key, or one the issuer does not use.
    #[error(
        "the identity token is signed with {found}, which is not accepted; expected an RSA, ECDSA or EdDSA algorithm that the issuer lists"
    )]
    Algorithm {
        /// The algorithm's name.
        found: String,
    },
    /// Not configured.
    #[error("tokens by the issuer {found:?} are not accepted here")]
    UnknownIssuer {
        /// Its beginning.
        found: String,
    },
    /// The issuer's keys cannot be had.
    #[error(transparent)]
    Keys(#[from] JwksError),
    /// No key of the issuer made this signature.
    #[error("the identity token's signature does not hold with any key of its issuer")]
    Signature,
    /// A claim that every token needs.
    #[error("the identity token has no usable claim {name:?}")]
    MissingClaim {
        /// The claim's name.
        name: &'static str,
    },
    /// Made for somebody else.
    #[error("the identity token is for another audience: expected {expected:?}, found {found:?}")]
    WrongAudience {
        /// The audience configured.
        expected: String,
        /// The audiences of the token.
        found: String,
    },
    /// Too late.
    #[error("the identity token expired at {expired}; it is now {now}")]
    Expired {
        /// Its end.
        expired: Timestamp,
        /// Our clock.
        now: Timestamp,
    },
    /// Too early.
    #[error("the identity token is not valid before {start}; it is now {now}")]
    NotYetValid {
        /// Its start.
        start: Timestamp,
        /// Our clock.
        now: Timestamp,
    },
    /// The claims name nobody.
    #[error(transparent)]
    Mapping(#[from] MappingError),
}

impl TokenError {
    /// A stable code for machines.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::Malformed { .. } | Self::Critical => "TOKEN_MALFORMED",
            Self::Algorithm { .. } => "ALGORITHM_REFUSED",
            Self::UnknownIssuer { .. } => "UNKNOWN_ISSUER",
            Self::Keys(JwksError::UnknownKey) | Self::Signature => "BAD_SIGNATURE",
            Self::Keys(_) => "ISSUER_UNREACHABLE",
            Self::MissingClaim { .. } | Self::Mapping(_) => "CLAIM_REFUSED",
            Self::WrongAudience { .. } => "WRONG_AUDIENCE",
            Self::Expired { .. } => "TOKEN_EXPIRED",
            Self::NotYetValid { .. } => "TOKEN_NOT_YET_VALID",
        }
    }

    /// What whoever sent the token can do.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::Malformed { .. } | Self::Critical => {
                "send the identity token as the provider gave it"
            }
            Self::Algorithm { .. } | Self::Keys(JwksError::UnknownKey) | Self::Signature => {
                "get a fresh token from the provider"
            }
            Self::UnknownIssuer { .. } => {
                "ask the operator to accept this issuer, or use a provider that is accepted (GET /api/v2/configuration)"
            }
            Self::Keys(_) => {
                "try again; if it goes on, the issuer's discovery document or keys cannot be fetched"
            }
            Self::MissingClaim { .. } | Self::Mapping(_) => {
                "check that the provider puts this claim into its identity tokens"
            }
            Self::WrongAudience { .. } => "request the token for the expected audience",
            Self::Expired { .. } => "get a fresh token just before signing",
            Self::NotYetValid { .. } => "check the clocks of provider and certificate authority",
        }
    }
}
