//! The routes of a witness (C2SP tlog-witness), and its refusals: plain text, for the people who run the
//! log.

use super::TEXT;
use crate::cosigner::{Cosigner, Refusal};
use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::BytesMut;
use countersign_verify::encoding::{from_hex, hex};
use countersign_verify::merkle::Hash;
use countersign_verify::witness::MAX_REQUEST;
use std::sync::Arc;

/// Of the body that says which tree was cosigned last.
const SIZE: &str = "text/x.tlog.size";

/// `add-checkpoint` for logs, and each log's latest checkpoint for monitors.
pub fn cosigner(cosigner: Arc<Cosigner>) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .route("/{origin}/checkpoint", get(checkpoint))
        .with_state(cosigner)
}

async fn add_checkpoint(
    State(cosigner): State<Arc<Cosigner>>,
    body: Result<BytesMut, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    match cosigner.add_checkpoint(&body).await {
        Ok(line) => text(StatusCode::OK, line),
        Err(refusal) => refuse(&refusal),
    }
}

async fn checkpoint(State(cosigner): State<Arc<Cosigner>>, Path(origin): Path<String>) -> Response {
    let hash = from_hex(&origin).ok().filter(|bytes| hex(bytes) == origin);
    let Some(hash) = hash.and_then(|bytes| Hash::try_from(&bytes[..]).ok()) else {
        return text(StatusCode::NOT_FOUND, "expected /<SHA-256 of an origin>/checkpoint\n".into());
    };
    match cosigner.latest(hash).await {
        Ok(Some(note)) => {
            let headers = [(CONTENT_TYPE, TEXT), (CACHE_CONTROL, "no-cache")];
            (headers, note).into_response()
        }
        Ok(None) => text(StatusCode::NOT_FOUND, "nothing was cosigned of this log\n".into()),
        Err(error) => refuse(&error.into()),
    }
}

fn refuse(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::Text
        | Refusal::Request(_)
        | Refusal::Checkpoint(_)
        | Refusal::Size
        | Refusal::OldSize { .. } => StatusCode::BAD_REQUEST,
        Refusal::UnknownLog { .. } => StatusCode::NOT_FOUND,
        Refusal::NotSigned { .. } | Refusal::Signature(_) => StatusCode::FORBIDDEN,
        Refusal::Conflict { size } => {
            let body = format!("{size}\n");
            return (StatusCode::CONFLICT, [(CONTENT_TYPE, SIZE)], body).into_response();
        }
        Refusal::EmptyRoot | Refusal::Consistency(_) => {
            tracing::error!(%refusal, "a log shows another tree than before");
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Refusal::Clock | Refusal::Store(_) => {
            tracing::error!(%refusal, "nothing was cosigned");
            let message = "the witness could not keep the checkpoint; nothing was cosigned\n";
            return text(StatusCode::INTERNAL_SERVER_ERROR, message.into());
        }
    };
    text(status, format!("{refusal}\n"))
}

fn text(status: StatusCode, body: String) -> Response {
    (status, [(CONTENT_TYPE, TEXT)], body).into_response()
}
