//! The routes of Rekor v1, below `/api/v1/log`.
//!
//! Errors are `{"code": HTTP status, "message": sentence}`, as clients of Rekor v1 read them, and
//! `request_id`.

use super::{JSON, Whole, refused};
use crate::engine::Log;
use crate::face::accept::Denied;
use crate::face::rekor_v1::{Error, Face, Logged, MAX_REQUEST, tree_id};
use crate::pool::AppendError;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::fmt;
use std::marker::PhantomData;

/// Entries that one `retrieve` may ask for.
const MAX_RETRIEVED: usize = 10;
const PEM: &str = "application/x-pem-file";

/// The routes of Rekor v1, and those that it does not have: the tiles of each shard below `/v1/<tree ID>`.
pub fn rekor_v1(face: Face) -> Router {
    Router::new()
        .route("/api/v1/log/entries", post(create).get(by_index))
        .route("/api/v1/log/entries/retrieve", post(retrieve))
        .route("/api/v1/log/entries/retrieve/", post(retrieve))
        .route("/api/v1/log/entries/{id}", get(by_id))
        .route("/api/v1/log", get(info))
        .route("/api/v1/log/proof", get(proof))
        .route("/api/v1/log/publicKey", get(public_key))
        .route("/v1/{tree}/checkpoint", get(checkpoint))
        .route("/v1/{tree}/tile/{*path}", get(tile))
        .with_state(face)
}

async fn checkpoint(
    State(face): State<Face>,
    Path(tree): Path<String>,
) -> Result<Response, super::Refusal> {
    Ok(super::checkpoint(&shard(&face, &tree)?))
}

async fn tile(
    State(face): State<Face>,
    Path((tree, path)): Path<(String, String)>,
) -> Result<Response, super::Refusal> {
    super::tile(&shard(&face, &tree)?, &path).await
}

fn shard(face: &Face, tree: &str) -> Result<Log, super::Refusal> {
    let shards = face.shards().all();
    let shard = shards.iter().find(|shard| tree_id(shard.spki()).to_string() == tree);
    let shard = shard.ok_or_else(super::Refusal::not_found)?;
    Ok(Log::clone((**shard).as_ref()))
}

/// A query, or why it cannot be read.
type Asked<T> = Result<Query<T>, QueryRejection>;

async fn create(
    State(face): State<Face>,
    headers: HeaderMap,
    body: Whole<MAX_REQUEST>,
) -> Result<Response, Refusal> {
    let logged = face.submit(read(&headers, body)?).await?;
    let location = format!("/api/v1/log/entries/{}", logged.id);
    // The bare ID, without the quotes that an ETag should have: sigstore-go looks the entry up by it.
    let headers = [(CONTENT_TYPE, JSON), (ETAG, logged.id.as_str()), (LOCATION, location.as_str())];
    Ok((StatusCode::CREATED, headers, logged.to_json().to_string()).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ByIndex {
    log_index: Option<String>,
}

async fn by_index(State(face): State<Face>, query: Asked<ByIndex>) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let index =
        query.log_index.ok_or_else(|| Refusal::invalid(602, "logIndex in query is required"))?;
    let index = index.parse().map_err(|_| {
        Refusal::invalid(601, "logIndex in query must be a whole number, 0 or more")
    })?;
    found(face.at(index).await?)
}

async fn by_id(State(face): State<Face>, Path(id): Path<String>) -> Result<Response, Refusal> {
    found(face.named(&id).await?)
}

fn found(logged: Option<Logged>) -> Result<Response, Refusal> {
    Ok(match logged {
        Some(logged) => json_reply(&logged.to_json()),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

pub(super) fn json_reply(value: &Value) -> Response {
    let headers = [(CONTENT_TYPE, JSON), (CACHE_CONTROL, "no-cache")];
    (headers, value.to_string()).into_response()
}

/// What is not asked for is left out, or null as Go clients write an empty list.
#[derive(Deserialize)]
struct Retrieve {
    #[serde(rename = "entryUUIDs")]
    ids: Option<Few<String>>,
    #[serde(rename = "logIndexes")]
    indexes: Option<Few<u64>>,
    /// As they came: as JSON of any shape they would take a hundred times their memory.
    entries: Option<Few<Box<RawValue>>>,
}

/// A list: the first [`MAX_RETRIEVED`] are kept, the others counted.
struct Few<T> {
    kept: Vec<T>,
    found: usize,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), found: 0 }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List(PhantomData))
    }
}

struct List<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
        let mut few = Few::default();
        while few.found < MAX_RETRIEVED {
            let Some(next) = list.next_element()? else { return Ok(few) };
            few.kept.push(next);
            few.found += 1;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            few.found += 1;
        }
        Ok(few)
    }
}

async fn retrieve(
    State(face): State<Face>,
    headers: HeaderMap,
    body: Whole<MAX_REQUEST>,
) -> Result<Response, Refusal> {
    let body = read(&headers, body)?;
    let parsed =
        face.in_turn(body.len(), move || countersign_verify::json::from_slice(&body)).await;
    let Retrieve { ids, indexes, entries } =
        parsed.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let (ids, indexes) = (ids.unwrap_or_default(), indexes.unwrap_or_default());
    let entries = entries.unwrap_or_default();
    let asked = ids.found + indexes.found + entries.found;
    if asked == 0 || asked > MAX_RETRIEVED {
        let message =
            format!("expected 1 to {MAX_RETRIEVED} entries to be asked for, found {asked}");
        return Err(Refusal::invalid(608, &message));
    }
    let mut answers = Vec::new();
    for id in &ids.kept {
        answers.extend(face.named(id).await?);
    }
    for index in indexes.kept {
        answers.extend(face.at(index).await?);
    }
    for entry in entries.kept {
        let entry = Box::<str>::from(entry).into_boxed_bytes();
        answers.extend(face.proposed(entry).await?);
    }
    Ok(json_reply(&answers.iter().map(Logged::to_json).collect()))
}

async fn info(State(face): State<Face>) -> Response {
    json_reply(&face.info())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tree {
    #[serde(rename = "treeID")]
    tree_id: Option<String>,
    first_size: Option<String>,
    last_size: Option<String>,
}

async fn proof(State(face): State<Face>, query: Asked<Tree>) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let number = |text: &Option<String>, name| match text {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| Refusal::invalid(601, &format!("{name} in query must be a whole number"))),
    };
    let first = number(&query.first_size, "firstSize")?.unwrap_or(1);
    let last = number(&query.last_size, "lastSize")?;
    Ok(json_reply(&face.consistency(query.tree_id.as_deref(), first, last).await?))
}

async fn public_key(State(face): State<Face>, query: Asked<Tree>) -> Result<Response, Refusal> {
    let Query(query) = query?;
    let key = face.public_key(query.tree_id.as_deref())?;
    Ok(([(CONTENT_TYPE, PEM)], key).into_response())
}

pub(super) fn read<const LIMIT: usize>(
    headers: &HeaderMap,
    body: Whole<LIMIT>,
) -> Result<Bytes, Refusal> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().is_none_or(|kind| !kind.trim().eq_ignore_ascii_case(JSON)) {
        let message = format!("unsupported media type {kind:?}, only application/json is allowed");
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    body.0.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let message = format!("Request Entity Too Large. Limit set to {LIMIT}");
            return Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message);
        }
        Refusal::new(StatusCode::BAD_REQUEST, rejection.body_text())
    })
}

/// A reply that says no.
pub(super) struct Refusal {
    status: StatusCode,
    code: u16,
    message: String,
    /// Of a policy's refusal. It goes with the reply to whoever keeps a record.
    denied: Option<Box<Denied>>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: String) -> Self {
        Self { status, code: status.as_u16(), message, denied: None }
    }

    /// A query that is not as the interface's schema has it; upstream numbers these.
    fn invalid(code: u16, message: &str) -> Self {
        Self { code, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, message.to_owned()) }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({ "code": self.code, "message": self.message });
        if let Some(denied) = &self.denied {
            body["rule"] = denied.rule.as_str().into();
        }
        let mut response = refused(self.status, body, "");
        if let Some(denied) = self.denied {
            response.extensions_mut().insert(*denied);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Denied(denied) if denied.undecided => StatusCode::SERVICE_UNAVAILABLE,
            Error::Denied(_) => StatusCode::FORBIDDEN,
            Error::Append(AppendError::TooLong { .. }) => StatusCode::BAD_REQUEST,
            Error::RequestTooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Append(AppendError::Halted(_) | AppendError::Signing)
            | Error::Signing(_)
            | Error::Proof(_)
            | Error::Missing => StatusCode::INTERNAL_SERVER_ERROR,
            Error::Append(_) | Error::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        // What failed here is for this program's log.
        let message = match status {
            StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!(%error, "no answer");
                "the log could not answer; its own log has the cause".to_owned()
            }
            StatusCode::SERVICE_UNAVAILABLE
                if matches!(error, Error::Append(AppendError::Earlier { .. })) =>
            {
                tracing::warn!(%error, "not taken");
                "an earlier shard of the log has the entry and cannot show it yet; send the same request again".to_owned()
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                tracing::warn!(%error, "not taken");
                "the log takes nothing just now, and nothing was acknowledged; send the same request again".to_owned()
            }
            _ => error.to_string(),
        };
        let denied = match error {
            Error::Denied(denied) => Some(denied),
            _ => None,
        };
        Self { denied, ..Self::new(status, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_asked_for_no_more_is_kept_than_is_answered() {
        for (found, kept) in [(0, 0), (9, 9), (10, 10), (11, 10), (5000, 10)] {
            let entries = vec![r#"{"a": [{"": 0}]}"#; found].join(",");
            let asked: Retrieve =
                serde_json::from_str(&format!(r#"{{"entries": [{entries}]}}"#)).unwrap();
            let entries = asked.entries.unwrap();
            assert_eq!((entries.found, entries.kept.len()), (found, kept));
        }
        assert!(serde_json::from_str::<Retrieve>(r#"{"entryUUIDs": ["", 1]}"#).is_err());
    }
}
