//! Checking an identity token: structure, issuer, signature, claims; in this order, so that nothing
//! unverified is acted upon but the choice of the issuer.
//!
//! Refused: tokens above 16 KiB, anything but three parts, `none` and HMAC algorithms, `crit`, names
//! that stand twice, issuers that are not configured to the letter, audiences of others, tokens that
//! have expired, are not valid yet or lack a claim.

use super::jwks::{JwksError, KeySource};
use super::{Claims, Identity, Mapping, MappingError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest token, in bytes. Real ones are 1 to 3 KiB.
pub const MAX_TOKEN: usize = 16 << 10;

/// How far an issuer's clock may run ahead of ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Asymmetric algorithms only: with HMAC the public key would be the secret.
const ALGORITHMS: [Algorithm; 9] = [
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

/// An issuer whose tokens are accepted.
pub struct Issuer {
    /// The audience that its tokens must name.
    pub audience: String,
    /// How its claims become a name.
    pub mapping: Mapping,
    /// Where its keys come from.
    pub keys: KeySource,
}

/// All issuers whose tokens are accepted, by URL.
pub struct Verifier {
    issuers: BTreeMap<String, Issuer>,
}

impl Verifier {
    /// A verifier for these issuers; each by its URL, as tokens have it in `iss`.
    #[must_use]
    pub const fn new(issuers: BTreeMap<String, Issuer>) -> Self {
        Self { issuers }
    }

    /// The issuers, in the order of their URLs.
    #[must_use]
    pub const fn issuers(&self) -> &BTreeMap<String, Issuer> {
        &self.issuers
    }

    /// Checks `token` at `now` and maps its claims to an identity.
    ///
    /// # Errors
    /// Names the first check that fails.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Identity, TokenError> {
        let unverified = Unverified::parse(token)?;
        let url = unverified.claims.text("iss").ok_or(TokenError::MissingClaim { name: "iss" })?;
        let issuer = self
            .issuers
            .get(url)
            .ok_or_else(|| TokenError::UnknownIssuer { found: url.chars().take(200).collect() })?;
        unverified.check_signature(issuer, now).await?;
        check_claims(&unverified.claims, &issuer.audience, now)?;
        Ok(issuer.mapping.identity(&unverified.claims)?)
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

    async fn check_signature(&self, issuer: &Issuer, now: Timestamp) -> Result<(), TokenError> {
        let keys = issuer.keys.candidates(self.key_id.as_deref(), now).await?;
        if !keys.allows(self.algorithm) {
            return Err(TokenError::Algorithm { found: format!("{:?}", self.algorithm) });
        }
        let holds = |key: &DecodingKey| {
            let signed = self.signed.as_bytes();
            jsonwebtoken::crypto::verify(self.signature, signed, key, self.algorithm)
                .unwrap_or(false)
        };
        if keys.fitting(self.algorithm).any(|key| holds(&key)) {
            Ok(())
        } else {
            Err(TokenError::Signature)
        }
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
fn time(claims: &Claims, name: &'static str) -> Result<Option<Timestamp>, TokenError> {
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
