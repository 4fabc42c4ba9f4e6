//! The routes of certificate and timestamp authority, and the one place where errors become replies.
//!
//! Fulcio's REST protocol: `POST /api/v2/signingCert`, `GET /api/v2/trustBundle`,
//! `GET /api/v2/configuration`, ours beside them `POST /api/v2/explainToken`, and of version 1 `POST /api/v1/signingCert`, `GET /api/v1/rootCert`; the
//! timestamp authority's `POST /api/v1/timestamp` and `GET /api/v1/timestamp/certchain`. Status codes are
//! part of the protocol: version 2 answers 200, version 1 answers 201, and clients take no other.

mod request;

use crate::Clock;
use crate::credential::Succession;
use crate::identity::{IssuerUrl, JwksError, Mapping, TokenError, explained};
use crate::issue::{Authority, Error};
use crate::limits;
use crate::possession;
use crate::profile;
use crate::signer;
use crate::timestamp::{self, Query, TimestampAuthority};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use countersign_verify::json;
use countersign_verify::key::HashAlgorithm;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Largest request to the certificate authority, in bytes: a token of 16 KiB, a key or signing request of some KiB,
/// an intent. Fulcio takes 4 MiB, which no client needs and anybody could have us parse before a token is looked at.
const MAX_REQUEST: usize = 256 << 10;
/// Largest timestamp query, in bytes; real ones are below 100.
const MAX_QUERY: usize = 64 << 10;

/// When to come again with a key that the issuer may just have begun to publish, in seconds: by then its keys
/// may be fetched again.
const NEXT_FETCH: u64 = 10;

/// Longest request ID that is taken over, in bytes: Fulcio's.
const MAX_REQUEST_ID: usize = 128;

const TIMESTAMP_REPLY: &str = "application/timestamp-reply";
const PEM_CHAIN: &str = "application/pem-certificate-chain";

/// A request's body, or why it could not be read. It is put together as it comes: the pieces themselves may take
/// many times their bytes.
type Body = Result<BytesMut, BytesRejection>;

/// The certificate authority's routes.
pub fn router(authority: Arc<Authority>) -> Router {
    Router::new()
        .route("/api/v2/signingCert", post(signing_cert_v2))
        .route("/api/v2/explainToken", post(explain_token))
        .route("/api/v2/trustBundle", get(trust_bundle))
        .route("/api/v2/configuration", get(configuration))
        .route("/api/v1/signingCert", post(signing_cert_v1))
        .route("/api/v1/rootCert", get(root_cert))
        .method_not_allowed_fallback(other_method)
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(authority)
}

/// The timestamp authority's routes; each request is for the one whose time it is.
pub fn timestamp_router(authorities: Arc<Succession<TimestampAuthority>>, clock: Clock) -> Router {
    Router::new()
        .route("/api/v1/timestamp", post(stamp))
        .route("/api/v1/timestamp/certchain", get(timestamp_chain))
        .layer(DefaultBodyLimit::max(MAX_QUERY))
        .with_state((authorities, clock))
}

async fn signing_cert_v2(
    State(authority): State<Arc<Authority>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Reply> {
    let chain = issue(&authority, request::v2, &headers, body).await?;
    // Here, unlike in the trust bundle, clients expect no line feed at the end.
    let chain: Vec<_> = chain.iter().map(|pem| pem.trim_end()).collect();
    let chain = json!({ "signedCertificateEmbeddedSct": { "chain": { "certificates": chain } } });
    Ok(Json(chain).into_response())
}

async fn signing_cert_v1(
    State(authority): State<Arc<Authority>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Reply> {
    let chain = issue(&authority, request::v1, &headers, body).await?.concat();
    let chain = chain.trim_end().to_owned();
    Ok((StatusCode::CREATED, [(header::CONTENT_TYPE, PEM_CHAIN)], chain).into_response())
}

/// Reads a request in one version's form and issues; the chain in PEM, the signing certificate first.
async fn issue(
    authority: &Authority,
    read: fn(&[u8], Option<&str>) -> Result<request::Asked, request::Error>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<String>, Reply> {
    let id = request_id(headers);
    let body = body.map_err(|error| Reply::body(&error, MAX_REQUEST, &id))?;
    let asked = read(&body, bearer(headers)).map_err(|error| Reply::request(&error, &id))?;
    let issued = authority.issue(&asked.token, &asked.key, asked.intent.as_ref(), &id).await;
    let issued = issued.map_err(|error| Reply::issuance(&error, &id))?;
    Ok(issued.chain.iter().map(|der| pem(der)).collect())
}

/// Ours, not Fulcio's: what a token would get, without asking for it.
async fn explain_token(
    State(authority): State<Arc<Authority>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Reply> {
    let id = request_id(&headers);
    let body = body.map_err(|error| Reply::body(&error, MAX_REQUEST, &id))?;
    let token = request::token(&body, bearer(&headers));
    let token = token.map_err(|error| Reply::request(&error, &id))?;
    let explained = authority.explain(&token).await;
    let (identity, decision) = explained.map_err(|error| Reply::issuance(&error.into(), &id))?;
    let mut answer = explained::json(&identity);
    answer["policy"] = match decision {
        Ok(()) => json!({ "verdict": "accepted" }),
        Err(refusal) => json!({ "verdict": "refused", "rule": refusal.rule,
            "expected": refusal.expected, "found": refusal.found }),
    };
    answer["verified"] = true.into();
    answer["requestId"] = id[..].into();
    Ok(Json(answer).into_response())
}

async fn trust_bundle(State(authority): State<Arc<Authority>>) -> Json<serde_json::Value> {
    let chain = |chain: &[Vec<u8>]| {
        let certificates: Vec<_> = chain.iter().map(|der| pem(der)).collect();
        json!({ "certificates": certificates })
    };
    let chains: Vec<_> = authority.chains().into_iter().map(chain).collect();
    Json(json!({ "chains": chains }))
}

async fn root_cert(State(authority): State<Arc<Authority>>) -> Response {
    let chains = authority.chains();
    let all: Vec<_> = chains.into_iter().flatten().map(|der| pem(der)).collect();
    ([(header::CONTENT_TYPE, PEM_CHAIN)], all.join("\n")).into_response()
}

async fn configuration(State(authority): State<Arc<Authority>>) -> Json<serde_json::Value> {
    let issuers = authority.tokens().issuers().map(|issuer| {
        let (name, url) = match &issuer.url {
            IssuerUrl::Exact(url) => ("issuerUrl", &url[..]),
            IssuerUrl::Pattern(pattern) => ("wildcardIssuerUrl", pattern.as_str()),
        };
        let trust_domain = match &issuer.mapping {
            Mapping::Spiffe { trust_domain } => trust_domain,
            _ => "",
        };
        let subject_domain = match &issuer.mapping {
            Mapping::Uri { subject_domain } => subject_domain.origin().ascii_serialization(),
            Mapping::Username { subject_domain } => subject_domain.clone(),
            _ => String::new(),
        };
        let skips = matches!(issuer.mapping, Mapping::Email { skip_verification: true, .. });
        json!({ name: url, "audience": issuer.audience, "challengeClaim": issuer.challenge_claim,
            "spiffeTrustDomain": trust_domain, "issuerType": issuer.kind,
            "subjectDomain": subject_domain, "skipEmailVerification": skips })
    });
    let issuers: Vec<_> = issuers.collect();
    Json(json!({ "issuers": issuers }))
}

async fn stamp(
    State((authorities, clock)): State<(Arc<Succession<TimestampAuthority>>, Clock)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Reply> {
    let id = request_id(&headers);
    let body = body.map_err(|error| Reply::body(&error, MAX_QUERY, &id))?;
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let (query, is_der) = match &media_type.to_ascii_lowercase()[..] {
        "application/timestamp-query" => (Query::from_der(&body), true),
        "application/json" => (json_query(&body), false),
        _ => return Err(Reply::media_type(&id)),
    };
    let now = clock();
    let stamped = match query.and_then(|query| authorities.at(now).stamp(&query, now)) {
        Ok(stamped) => stamped,
        // Who asks in DER is told in DER, and by the status of HTTP: clients look at either.
        Err(error) if is_der => {
            let reply = Reply::timestamp(&error, &id);
            let body = error.response().map_err(|_| Reply::timestamp(&error, &id))?;
            let kind = [(header::CONTENT_TYPE, TIMESTAMP_REPLY)];
            return Ok((reply.status, kind, body).into_response());
        }
        Err(error) => return Err(Reply::timestamp(&error, &id)),
    };
    metrics::counter!("countersign_timestamps_total").increment(1);
    Ok(([(header::CONTENT_TYPE, TIMESTAMP_REPLY)], stamped).into_response())
}

/// The JSON form of a query, which sigstore-js sends.
fn json_query(body: &[u8]) -> Result<Query, timestamp::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        artifact_hash: String,
        hash_algorithm: String,
        #[serde(default)]
        certificates: bool,
        nonce: Option<u64>,
        #[serde(rename = "tsaPolicyOID")]
        policy: Option<String>,
    }
    let body: Body = json::from_slice(body).map_err(|_| timestamp::Error::Query)?;
    let named = |hash: &HashAlgorithm| hash.short_name() == body.hash_algorithm;
    let hash = HashAlgorithm::ALL.into_iter().find(named).ok_or(timestamp::Error::Hash)?;
    let ours = timestamp::POLICY.to_string();
    if body.policy.is_some_and(|policy| !policy.is_empty() && policy != ours) {
        return Err(timestamp::Error::Policy);
    }
    let digest = countersign_verify::encoding::from_base64(&body.artifact_hash)
        .map_err(|_| timestamp::Error::Query)?;
    // The content of a DER INTEGER: big endian without needless zeros, the highest bit for the sign.
    let nonce = body.nonce.map(|nonce| {
        let bytes = [&[0][..], &nonce.to_be_bytes()].concat();
        let needless = bytes.windows(2).take_while(|pair| pair[0] == 0 && pair[1] < 0x80).count();
        bytes[needless..].to_vec()
    });
    Query::new(hash, &digest, nonce, body.certificates)
}

async fn timestamp_chain(
    State((authorities, clock)): State<(Arc<Succession<TimestampAuthority>>, Clock)>,
) -> Response {
    let chain: String = authorities.at(clock()).chain().iter().map(|der| pem(der)).collect();
    ([(header::CONTENT_TYPE, PEM_CHAIN)], chain).into_response()
}

/// RFC 7468: lines of 64 characters, which are 48 bytes. The library for keys takes ten times as long, for it must
/// not let its time tell what it writes.
fn pem(der: &[u8]) -> String {
    let mut pem = String::with_capacity(der.len() * 7 / 5 + 64);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        STANDARD.encode_string(line, &mut pem);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// The token of `Authorization: Bearer`, in any case of the word.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The request's ID, as the client or the server in front of this has set it, or a fresh one; it is in
/// the reply and on record.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let sent = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    match sent.filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len())) {
        Some(id) => id.into(),
        None => {
            let mut id = [0; 16];
            // Without randomness nothing is issued; then the ID does not matter either.
            let _ = aws_lc_rs::rand::fill(&mut id);
            hex::encode(id).into()
        }
    }
}

/// Fulcio's answer to a known path and another method.
async fn other_method(headers: HeaderMap) -> Reply {
    let id = request_id(&headers);
    let message = "this path does not take that method".to_owned();
    let next = "see Fulcio's API: POST to signingCert, GET for the rest";
    Reply::new(StatusCode::NOT_IMPLEMENTED, UNIMPLEMENTED, message, "METHOD", next, &id)
}

/// An error as it goes out: `google.rpc.Status` in JSON.
struct Reply {
    status: StatusCode,
    code: u8,
    message: String,
    detail: serde_json::Value,
    /// Seconds.
    retry_after: Option<u64>,
}

/// gRPC codes.
const INVALID_ARGUMENT: u8 = 3;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;

impl Reply {
    fn new(
        status: StatusCode,
        code: u8,
        message: String,
        reason: &str,
        next: &str,
        id: &str,
    ) -> Self {
        let detail = json!({ "reason": reason, "next": next, "request_id": id });
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        Self { status, code, message, detail, retry_after }
    }

    /// With what was expected and what was found instead.
    fn facts(mut self, facts: Option<(String, String)>) -> Self {
        if let Some((expected, found)) = facts {
            self.detail["expected"] = expected.into();
            self.detail["found"] = found.into();
        }
        self
    }

    /// Fulcio, too, answers 400 to a body that is too large.
    fn body(error: &BytesRejection, limit: usize, id: &str) -> Self {
        let message = match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => format!("a request has at most {limit} bytes"),
            _ => error.body_text(),
        };
        let next = "send a smaller body, and all of it";
        let (status, code) = (StatusCode::BAD_REQUEST, INVALID_ARGUMENT);
        Self::new(status, code, message, "REQUEST_BODY", next, id)
    }

    fn request(error: &request::Error, id: &str) -> Self {
        let next = "see Fulcio's API for the members of a request";
        let message = error.to_string();
        Self::new(StatusCode::BAD_REQUEST, INVALID_ARGUMENT, message, error.code(), next, id)
    }

    fn issuance(error: &Error, id: &str) -> Self {
        let message = error.to_string();
        let reply = |status, code, message, next: &str| {
            Self::new(status, code, message, error.code(), next, id)
        };
        let internal = |next| {
            tracing::error!(request_id = id, %error, "a certificate could not be issued");
            let message = "the certificate authority could not issue the certificate".to_owned();
            reply(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL, message, next)
        };
        match error {
            Error::Token(token @ TokenError::Keys(keys)) if *keys != JwksError::UnknownKey => {
                // What was found there is for the operator: anybody may send a token.
                let message = match keys {
                    JwksError::TooMany | JwksError::NotAskedAgain => message,
                    _ => {
                        tracing::warn!(request_id = id, %error, "nothing is issued");
                        "the keys of the identity token's issuer cannot be had now".to_owned()
                    }
                };
                let reply =
                    reply(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, message, token.next_step());
                match keys {
                    JwksError::NotAskedAgain => Self { retry_after: Some(NEXT_FETCH), ..reply },
                    _ => reply,
                }
            }
            Error::Token(token) => {
                reply(StatusCode::BAD_REQUEST, INVALID_ARGUMENT, message, token.next_step())
                    .facts(token_facts(token))
            }
            Error::Possession(error) => {
                reply(StatusCode::BAD_REQUEST, INVALID_ARGUMENT, message, error.next_step())
                    .facts(possession_facts(error))
            }
            Error::Limit(limit) => Self::limit(limit, message, id),
            Error::Policy(refusal) => {
                let next = "ask the owners of the policy, or sign as an identity that it allows";
                let mut denied = reply(StatusCode::FORBIDDEN, PERMISSION_DENIED, message, next);
                denied.detail["rule"] = refusal.rule.clone().into();
                denied.facts(Some((refusal.expected.clone(), refusal.found.clone())))
            }
            // What the log says is about its storage, and for its operator.
            Error::Log(log) if log.retryable => {
                tracing::warn!(request_id = id, %error, "nothing is issued");
                let message = "nothing is issued that is not logged, and the certificate log takes no entries now";
                reply(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, message.to_owned(), "try again")
            }
            Error::Profile(profile::Error::Signer(
                signer::Error::Token | signer::Error::TokenPin,
            )) => reply(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, message, "try again"),
            // Neither the client nor time mends it, but it is no secret.
            Error::Profile(profile::Error::IssuerValidity { .. }) => {
                tracing::error!(request_id = id, %error, "nothing is issued");
                let next = "tell the operator that the issuing CA's certificates are not valid for this time: countersign doctor says what to do";
                reply(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL, message, next)
            }
            // Not what the client did: the record's disk is full or away, and comes back.
            Error::Audit(error) if error.retryable => {
                tracing::error!(request_id = id, %error, "nothing is issued");
                let message = "nothing is issued that cannot be recorded, and the audit log takes no entries now";
                reply(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, message.to_owned(), "try again")
            }
            _ => internal("tell the operator the request ID"),
        }
    }

    fn limit(limit: &limits::Error, message: String, id: &str) -> Self {
        let fresh = "get a fresh token from the provider";
        let (status, code, next, wait) = match limit {
            limits::Error::Spent | limits::Error::Before { .. } => {
                (StatusCode::BAD_REQUEST, INVALID_ARGUMENT, fresh, None)
            }
            limits::Error::Rate { retry_after } => {
                (StatusCode::TOO_MANY_REQUESTS, RESOURCE_EXHAUSTED, "wait", Some(*retry_after))
            }
            limits::Error::Full => {
                (StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "try again", Some(1))
            }
        };
        let reply = Self::new(status, code, message, limit.code(), next, id);
        Self { retry_after: wait, ..reply }
    }

    fn timestamp(error: &timestamp::Error, id: &str) -> Self {
        let message = error.to_string();
        if error.is_request() {
            let (status, next) = (StatusCode::BAD_REQUEST, "see RFC 3161, section 2.4.1");
            return Self::new(status, INVALID_ARGUMENT, message, "QUERY_REFUSED", next, id);
        }
        tracing::error!(request_id = id, %error, "no timestamp");
        let (status, next) = (StatusCode::SERVICE_UNAVAILABLE, "try again later");
        Self::new(status, UNAVAILABLE, message, "TIMESTAMP_UNAVAILABLE", next, id)
    }

    fn media_type(id: &str) -> Self {
        let message =
            "expected content type application/timestamp-query or application/json".to_owned();
        let next = "set the Content-Type header";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, INVALID_ARGUMENT, message, "MEDIA_TYPE", next, id)
    }
}

/// What was expected of a token and what was found. Nothing that it says of a person is repeated.
fn token_facts(error: &TokenError) -> Option<(String, String)> {
    Some(match error {
        TokenError::TooLong { limit, found } => {
            (format!("at most {limit} bytes"), format!("{found} bytes"))
        }
        TokenError::Algorithm { found } => {
            ("an asymmetric algorithm that the issuer lists".to_owned(), found.clone())
        }
        TokenError::UnknownIssuer { found } => ("an accepted issuer".to_owned(), found.clone()),
        TokenError::WrongAudience { expected, found } => (expected.clone(), found.clone()),
        TokenError::Expired { expired, now } => {
            (format!("an end after {now}"), expired.to_string())
        }
        TokenError::NotYetValid { start, now } => {
            (format!("a start before {now}"), start.to_string())
        }
        _ => return None,
    })
}

fn possession_facts(error: &possession::Error) -> Option<(String, String)> {
    match error {
        possession::Error::Weak(possession::Weakness::Size { found }) => {
            Some(("2048, 3072 or 4096 bits".to_owned(), format!("{found} bits")))
        }
        _ => None,
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let body = json!({ "code": self.code, "message": self.message, "details": [self.detail] });
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
