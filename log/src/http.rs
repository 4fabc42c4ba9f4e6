//! Routes, and errors to replies.
//!
//! Errors are `{"code": gRPC code, "message": sentence, "details": [{"reason": stable name, …}]}`, with the
//! request's ID once the server that knows it has called [`identify`]. The causes of our own failures go to
//! the program's log, not to the caller.
//!
//! No layers here: axum copies all that lies below a layer for every request, which costs more than to take
//! an entry's JSON apart.

use crate::engine::Log;
use crate::face::accept::Denied;
use crate::face::{rekor_v1, rekor_v2, static_ct};
use crate::pool::AppendError;
use crate::read;
use crate::store::StoreError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use bytes::BytesMut;
use countersign_verify::encoding::{base64, from_base64};
use countersign_verify::json;
use countersign_verify::limits::{MAX_CERTIFICATE, MAX_CHAIN};
use countersign_verify::tile::{self, EntryBundle, Tile};
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;

/// A checkpoint may be up to this old in a cache: no older than the next batch takes.
const CHECKPOINT_CACHE: &str = "public, max-age=1";
/// Tiles never change. One week, as Tessera has it.
const IMMUTABLE: &str = "public, max-age=604800, immutable";
const BINARY: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Largest body of `add-chain`, in bytes: the longest chain in base64, and JSON around it.
const MAX_CHAIN_REQUEST: usize = MAX_CHAIN * MAX_CERTIFICATE * 4 / 3 + 1024;

mod cosigner;
mod search;
mod v1;

pub use cosigner::cosigner;
pub use search::search;
pub use v1::rekor_v1;

/// All routes of the signature logs and a certificate log, but for [`search`].
pub fn router(
    signatures: rekor_v2::Face,
    older: rekor_v1::Face,
    certificates: static_ct::Face,
) -> Router {
    rekor_v2(signatures).merge(rekor_v1(older)).merge(static_ct(certificates))
}

/// The routes of Rekor v2, below `/api/v2` for the first shard, and below `/shards/<number>/api/v2` for
/// each: where a shard is read stays as long as the shard. Entries sent to any of them come to be in the
/// shard that takes entries, unless the one asked for is frozen.
pub fn rekor_v2(face: rekor_v2::Face) -> Router {
    const SHARD: &str = "/shards/{shard}";
    let mut router = Router::new();
    for base in ["", SHARD] {
        router = router
            .route(&format!("{base}/api/v2/log/entries"), only(post(create_entry)))
            .route(&format!("{base}/api/v2/checkpoint"), only(get(signature_checkpoint)))
            .route(&format!("{base}/api/v2/tile/{{*path}}"), only(get(signature_tile)));
    }
    router.with_state(face)
}

/// The routes of a static certificate log: submission below `/ct/v1`, monitoring below `/ct`.
pub fn static_ct(face: static_ct::Face) -> Router {
    submission(post(add_chain), post(add_pre_chain), face)
}

/// Those of one that has ended. Whoever submits is told of the `next` one, a URL or path before `/ct`, and not
/// given its receipt: that is by another key than the one that they expect.
pub fn ended_static_ct(face: static_ct::Face, next: &str) -> Router {
    let next: Arc<str> = format!("{next}/ct/v1").into();
    let gone = post(async move || {
        let message = "this certificate log has ended";
        let expected = Some(format!("a submission to {next}").into());
        let next = Some("submit to the log that takes entries now; the trusted root has its key");
        let refusal = Refusal::new(StatusCode::GONE, 9, "LOG_ENDED", message);
        Refusal { expected, next, ..refusal }
    });
    submission(gone.clone(), gone, face)
}

fn submission(
    add_chain: MethodRouter<static_ct::Face>,
    add_pre_chain: MethodRouter<static_ct::Face>,
    face: static_ct::Face,
) -> Router {
    Router::new()
        .route("/ct/v1/add-chain", only(add_chain))
        .route("/ct/v1/add-pre-chain", only(add_pre_chain))
        .route("/ct/v1/get-roots", only(get(get_roots)))
        .route("/ct/checkpoint", only(get(certificate_checkpoint)))
        .route("/ct/tile/{*path}", only(get(certificate_tile)))
        .route("/ct/issuer/{fingerprint}", only(get(issuer)))
        .with_state(face)
}

/// Another method on a known path is answered as the gRPC gateway of rekor-tiles does.
fn only<S: Clone + Send + Sync + 'static>(route: MethodRouter<S>) -> MethodRouter<S> {
    route.fallback(async || {
        let message = "Method Not Allowed";
        Refusal::new(StatusCode::NOT_IMPLEMENTED, 12, "METHOD_NOT_ALLOWED", message)
    })
}

/// The part of a path that names a shard; the first one's has none.
#[derive(Deserialize)]
struct Named {
    shard: Option<String>,
}

impl Named {
    fn find(&self, face: &rekor_v2::Face) -> Result<Arc<Log>, Refusal> {
        let number = match &self.shard {
            None => Some(1),
            Some(text) => text.parse().ok().filter(|number: &usize| number.to_string() == *text),
        };
        number.and_then(|number| face.shards().get(number)).ok_or_else(Refusal::not_found)
    }
}

async fn create_entry(
    State(face): State<rekor_v2::Face>,
    Path(named): Path<Named>,
    body: Whole<{ rekor_v2::MAX_REQUEST }>,
) -> Result<Response, Refusal> {
    if named.find(&face)?.head().is_frozen() {
        let message = "This log has been frozen, please switch to the latest log.";
        return Ok((StatusCode::METHOD_NOT_ALLOWED, message).into_response());
    }
    let entry = face.submit(&body.read()?).await?;
    Ok((StatusCode::CREATED, [(CONTENT_TYPE, JSON)], entry.to_json()).into_response())
}

async fn signature_checkpoint(
    State(face): State<rekor_v2::Face>,
    Path(named): Path<Named>,
) -> Result<Response, Refusal> {
    let log = named.find(&face)?;
    Ok(checkpoint(&log))
}

#[derive(Deserialize)]
struct NamedTile {
    #[serde(flatten)]
    named: Named,
    path: String,
}

async fn signature_tile(
    State(face): State<rekor_v2::Face>,
    Path(NamedTile { named, path }): Path<NamedTile>,
) -> Result<Response, Refusal> {
    let log = named.find(&face)?;
    tile(&log, &path).await
}

async fn certificate_checkpoint(State(face): State<static_ct::Face>) -> Response {
    checkpoint(face.log())
}

async fn certificate_tile(
    State(face): State<static_ct::Face>,
    Path(path): Path<String>,
) -> Result<Response, Refusal> {
    tile(face.log(), &path).await
}

async fn add_chain(
    State(face): State<static_ct::Face>,
    body: Whole<MAX_CHAIN_REQUEST>,
) -> Result<Response, Refusal> {
    let sct = face.add_chain(&read_chain(body)?).await?;
    Ok(([(CONTENT_TYPE, JSON)], static_ct::sct_json(&sct)).into_response())
}

async fn add_pre_chain(
    State(face): State<static_ct::Face>,
    body: Whole<MAX_CHAIN_REQUEST>,
) -> Result<Response, Refusal> {
    let sct = face.add_pre_chain(&read_chain(body)?).await?;
    Ok(([(CONTENT_TYPE, JSON)], static_ct::sct_json(&sct)).into_response())
}

async fn get_roots(State(face): State<static_ct::Face>) -> Response {
    let roots: Vec<_> = face.roots().map(base64).collect();
    ([(CONTENT_TYPE, JSON)], json!({ "certificates": roots }).to_string()).into_response()
}

async fn issuer(
    State(face): State<static_ct::Face>,
    Path(fingerprint): Path<String>,
) -> Result<Response, Refusal> {
    let path = static_ct::issuer_path(&fingerprint).ok_or_else(Refusal::not_found)?;
    let bytes = face.log().store().get(&path).await?.ok_or_else(Refusal::not_found)?;
    let headers = [(CONTENT_TYPE, "application/pkix-cert"), (CACHE_CONTROL, IMMUTABLE)];
    Ok((headers, bytes).into_response())
}

fn checkpoint(log: &Log) -> Response {
    let headers = [(CONTENT_TYPE, TEXT), (CACHE_CONTROL, CHECKPOINT_CACHE)];
    (headers, log.head().note().to_owned()).into_response()
}

/// A tile or bundle of the published tree.
async fn tile(log: &Log, path: &str) -> Result<Response, Refusal> {
    let (path, format, store) = (format!("tile/{path}"), log.format(), log.store());
    let size = log.head().checkpoint().size;
    let published = |level, index, width| width <= tile::width(level, index, size);
    let bytes = if let Some(tile) = Tile::parse_path(&path) {
        match published(tile.level, tile.index, tile.width) {
            true => read::tile(store, tile).await?,
            false => None,
        }
    } else if let Some(bundle) = EntryBundle::parse_path(format.name(), &path) {
        match published(0, bundle.index, bundle.width) {
            true => read::bundle(store, format, bundle).await?,
            false => None,
        }
    } else {
        None
    };
    let headers = [(CONTENT_TYPE, BINARY), (CACHE_CONTROL, IMMUTABLE)];
    Ok((headers, bytes.ok_or_else(Refusal::not_found)?).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireChain {
    chain: Vec<String>,
}

fn read_chain(body: Whole<MAX_CHAIN_REQUEST>) -> Result<Vec<Vec<u8>>, Refusal> {
    let body = body.read()?;
    let wire: WireChain =
        json::from_slice(&body).map_err(|error| Refusal::invalid("JSON", &error))?;
    let decoded = wire.chain.iter().map(|text| from_base64(text));
    decoded.collect::<Result<_, _>>().map_err(|error| Refusal::invalid("BASE64", &error))
}

/// A body of at most `LIMIT` bytes, or why there is none. What comes is put together as it comes: the pieces
/// themselves may take many times their bytes.
struct Whole<const LIMIT: usize>(Result<Bytes, BytesRejection>);

impl<S: Send + Sync, const LIMIT: usize> FromRequest<S> for Whole<LIMIT> {
    type Rejection = Infallible;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Infallible> {
        DefaultBodyLimit::max(LIMIT).apply(&mut request);
        Ok(Self(BytesMut::from_request(request, state).await.map(BytesMut::freeze)))
    }
}

impl<const LIMIT: usize> Whole<LIMIT> {
    /// The body, or a refusal as of a bad request: that is what rekor-tiles says of one too long.
    fn read(self) -> Result<Bytes, Refusal> {
        self.0.map_err(|rejection| {
            let too_long = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
            let mut refusal = Refusal::invalid("BODY", &rejection.body_text());
            if too_long {
                refusal.reason = "REQUEST_TOO_LONG";
                refusal.message = format!("a request has at most {LIMIT} bytes");
                refusal.expected = Some(format!("at most {LIMIT} bytes").into());
            }
            refusal
        })
    }
}

/// What a refusal says, beside its body, so that the request's ID can be added.
#[derive(Clone)]
struct Said {
    body: Value,
    /// The object in it that has the ID, as a JSON pointer.
    place: &'static str,
}

/// Adds the request's ID to a refusal of one of these faces; other replies stay as they are.
pub fn identify(response: &mut Response, id: &str) {
    let Some(Said { mut body, place }) = response.extensions_mut().remove() else { return };
    if let Some(object) = body.pointer_mut(place).and_then(Value::as_object_mut) {
        object.insert("request_id".into(), id.into());
    }
    *response.body_mut() = body.to_string().into();
}

/// A refusal's reply, without the request's ID yet.
fn refused(status: StatusCode, body: Value, place: &'static str) -> Response {
    let mut response = (status, [(CONTENT_TYPE, JSON)], body.to_string()).into_response();
    response.extensions_mut().insert(Said { body, place });
    response
}

/// A reply that says no.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    /// gRPC's.
    code: u8,
    reason: &'static str,
    message: String,
    /// The member of the request that is at fault.
    field: Option<&'static str>,
    expected: Option<Box<str>>,
    found: Option<Box<str>>,
    next: Option<&'static str>,
    retry: bool,
    /// Of a policy's refusal. It goes with the reply, beside its body, to whoever keeps a record.
    denied: Option<Box<Denied>>,
}

impl Refusal {
    fn new(status: StatusCode, code: u8, reason: &'static str, message: impl ToString) -> Self {
        let message = message.to_string();
        let (field, expected, found, next, retry) = (None, None, None, None, false);
        let denied = None;
        Self { status, code, reason, message, field, expected, found, next, retry, denied }
    }

    fn invalid(reason: &'static str, message: &impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 3, reason, message.to_string())
    }

    fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, 5, "NOT_FOUND", "Not Found")
    }

    fn unavailable(reason: &'static str, message: &'static str) -> Self {
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, 14, reason, message);
        Self { next: Some("send the same request again"), retry: true, ..refusal }
    }

    fn internal(reason: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, 2, reason, message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut detail = serde_json::Map::new();
        detail.insert("reason".into(), self.reason.into());
        detail.extend(self.field.map(|field| ("field".to_owned(), field.into())));
        let rule = self.denied.as_ref().map(|denied| denied.rule.as_str());
        detail.extend(rule.map(|rule| ("rule".to_owned(), rule.into())));
        for (name, value) in [("expected", self.expected), ("found", self.found)] {
            detail.extend(value.map(|value| (name.to_owned(), String::from(value).into())));
        }
        detail.extend(self.next.map(|next| ("next".to_owned(), next.into())));
        let body = json!({ "code": self.code, "message": self.message, "details": [detail] });
        let mut response = refused(self.status, body, "/details/0");
        if let Some(denied) = self.denied {
            response.extensions_mut().insert(*denied);
        }
        if self.retry {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "storage failed");
        let full = matches!(&error, StoreError::Io { source, .. }
            if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded));
        if full {
            Self::unavailable("STORAGE_FULL", "the log's disk is full; nothing was acknowledged")
        } else {
            Self::unavailable("STORAGE", "the log's storage failed; nothing was acknowledged")
        }
    }
}

impl From<AppendError> for Refusal {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full { .. } => {
                Self::unavailable("LOG_BUSY", "reached max pushback; retry")
            }
            AppendError::Store(error) => error.into(),
            AppendError::Conflict => {
                let message = "the log was moved on by another process; nothing was acknowledged";
                Self::unavailable("LOG_MOVED", message)
            }
            AppendError::Held(missing) => {
                let message = "the log waits for its witnesses; nothing was acknowledged";
                let refusal = Self::unavailable("WITNESSES_MISSING", message);
                Self { found: Some(missing.to_string().into()), ..refusal }
            }
            AppendError::Earlier { .. } => {
                tracing::warn!(%error, "not taken");
                let message = "an earlier shard of the log has the entry and cannot show it yet";
                Self::unavailable("EARLIER_SHARD", message)
            }
            AppendError::Closed => Self::unavailable("LOG_CLOSED", "the log is shutting down"),
            AppendError::Signing => {
                tracing::error!(%error, "no checkpoint");
                Self::internal("SIGNING", "failed to integrate entry")
            }
            AppendError::Halted(cause) => {
                tracing::error!(%cause, "the log is halted");
                let message = "the log is halted: what it has stored contradicts itself";
                let next = Some("tell the log's operator; its own log has the cause");
                Self { next, ..Self::internal("LOG_HALTED", message) }
            }
            AppendError::TooLong { limit, found } => Self {
                expected: Some(format!("at most {limit} bytes").into()),
                found: Some(format!("{found} bytes").into()),
                ..Self::invalid("ENTRY_TOO_LONG", &error)
            },
        }
    }
}

impl From<crate::proof::Error> for Refusal {
    fn from(error: crate::proof::Error) -> Self {
        tracing::error!(%error, "no proof");
        Self::internal("PROOF", "failed to integrate entry")
    }
}

impl From<Box<Denied>> for Refusal {
    fn from(denied: Box<Denied>) -> Self {
        let refusal = match denied.undecided {
            true => Self::unavailable("POLICY_UNDECIDED", "the log's policy cannot be asked now"),
            false => {
                let next = "ask the owners of the policy, or sign as an identity that it allows";
                let message = denied.to_string();
                let refusal = Self::new(StatusCode::FORBIDDEN, 7, "POLICY_REFUSED", message);
                Self { next: Some(next), ..refusal }
            }
        };
        Self {
            expected: Some(denied.expected.as_str().into()),
            found: Some(denied.found.as_str().into()),
            denied: Some(denied),
            ..refusal
        }
    }
}

impl From<rekor_v2::Error> for Refusal {
    fn from(error: rekor_v2::Error) -> Self {
        use rekor_v2::Error;
        let field = error.field();
        let reason = match error {
            Error::Append(error) => return error.into(),
            Error::Proof(error) => return error.into(),
            Error::Denied(denied) => return Self { field, ..denied.into() },
            Error::Refused(refused) => {
                return Self {
                    field,
                    expected: Some(refused.expected().into()),
                    found: Some(refused.found().into()),
                    ..Self::invalid("SIGNER_NOT_ACCEPTED", &refused)
                };
            }
            Error::OtherKey { expected, found } => {
                return Self {
                    field,
                    expected: Some(expected.name().into()),
                    found: Some(found.to_string().into()),
                    ..Self::invalid("KEY_MISMATCH", &error)
                };
            }
            Error::DsseRequest => {
                let next = Some("send a hashedRekordRequestV002 over the PAE of the envelope");
                return Self { next, ..Self::invalid("DSSE_REQUEST", &error) };
            }
            Error::RequestTooLong { .. } => "REQUEST_TOO_LONG",
            Error::Json(_) => "JSON",
            Error::TwoRequests | Error::TwoVerifiers => "TWO_OF_ONE",
            Error::Missing { .. } => "MISSING",
            Error::Base64 { .. } => "BASE64",
            Error::Certificate(_) => "CERTIFICATE",
            Error::Algorithm { .. } => "ALGORITHM",
            Error::Key(_) => "SIGNATURE",
        };
        Self { field, ..Self::invalid(reason, &error) }
    }
}

impl From<static_ct::Error> for Refusal {
    fn from(error: static_ct::Error) -> Self {
        use static_ct::Error;
        let reason = match error {
            Error::Append(error) => return error.into(),
            Error::Proof(error) => return error.into(),
            Error::Store(error) => return error.into(),
            Error::Signing(_) | Error::Clock => {
                tracing::error!(%error, "no certificate timestamp");
                return Self::internal("SIGNING", "failed to sign a certificate timestamp");
            }
            Error::ChainLength { .. } => "CHAIN_LENGTH",
            Error::Certificate { .. } | Error::Tbs(_) => "CERTIFICATE",
            Error::OtherIssuer { .. } | Error::NotACa { .. } | Error::NoIssuer => "ISSUER",
            Error::Signature { .. } | Error::Key(_) => "SIGNATURE",
            Error::NoRoot => {
                let next = Some("GET /ct/v1/get-roots lists the accepted roots");
                return Self { next, ..Self::invalid("ROOT", &error) };
            }
            Error::NotPoisoned | Error::Poisoned => "POISON",
        };
        Self::invalid(reason, &error)
    }
}
