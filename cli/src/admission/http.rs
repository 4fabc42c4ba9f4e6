//! Admission over HTTPS: the webhooks of an API server, and the same decision for others that ask about one
//! image at a time.
//!
//! | Path | Who asks |
//! |---|---|
//! | `POST /validate`, `/mutate` | an API server: `AdmissionReview` of `admission.k8s.io/v1` |
//! | `POST /gatekeeper/v1` | Gatekeeper: external data, `externaldata.gatekeeper.sh/v1beta1` |
//! | `POST /verify` | Kyverno, or whoever else: `{"image", "namespace"}` |
//!
//! An answer to a review has status 200 whatever it says, as API servers want it. What is no review, and
//! so cannot be answered, is 400, 408 or 413; an API server takes that for a failure of the webhook, which
//! refuses as `failurePolicy` says.

use super::{AT_ONCE, Admission, Deadline, Judged, Tags, mutate_review, validate_review};
use crate::server::{healthy, metrics as exporter, unknown};
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use countersign_front::finished;
use countersign_policy::admission::{Error, MAX_IMAGES, MAX_REVIEW, Verdict};
use futures_util::{StreamExt as _, stream};
use metrics::{describe_counter, describe_gauge};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::timeout_at;

/// Largest question of Gatekeeper or for one image, in bytes: a thousand long names.
const MAX_QUESTION: usize = 512 << 10;

const GATEKEEPER: &str = "externaldata.gatekeeper.sh/v1beta1";

/// All routes.
pub(crate) fn routes(admission: Arc<Admission>) -> Router {
    exporter::recorder(); // before anything counts
    describe();
    let routes = Router::new()
        .route("/validate", post(validate))
        .route("/mutate", post(mutate))
        .route("/gatekeeper/v1", post(gatekeeper))
        .route("/verify", post(verify))
        .with_state(admission)
        .route("/healthz", get(healthy))
        // It does not listen before policy and trust are there, and keeps the last that were good.
        .route("/readyz", get(healthy))
        .route("/metrics", get(async || exporter::render()))
        .fallback(unknown);
    finished(routes, Arc::new(|_, _| None))
}

fn describe() {
    describe_counter!(
        "countersign_admission_reviews_total",
        "Reviews answered, by webhook and verdict; without dry runs"
    );
    describe_counter!(
        "countersign_admission_evidence_total",
        "Where evidence about an image came from: the registry, and then it was verified; the cache; or the cache because the registry fails"
    );
    describe_counter!(
        "countersign_admission_unknown_members_total",
        "Members of objects that look like images where none are expected"
    );
    describe_counter!("countersign_admission_reloads_total", "Reloads, by outcome");
    describe_gauge!(
        "countersign_admission_reload_failed",
        "1 while it decides by an older policy than the files have, because these do not do"
    );
    describe_gauge!("countersign_admission_policy_serial", "The policy's serial number");
}

async fn validate(
    State(admission): State<Arc<Admission>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let rules = admission.rules();
    let deadline = Deadline::of(&rules, query.as_deref());
    match read(body, MAX_REVIEW, deadline).await {
        Ok(json) => answer(validate_review(&rules, &json, deadline).await),
        Err(refusal) => refusal,
    }
}

async fn mutate(
    State(admission): State<Arc<Admission>>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let rules = admission.rules();
    let deadline = Deadline::of(&rules, query.as_deref());
    match read(body, MAX_REVIEW, deadline).await {
        Ok(json) => answer(mutate_review(&rules, &json, deadline).await),
        Err(refusal) => refusal,
    }
}

fn answer(answer: Result<String, Error>) -> Response {
    match answer {
        Ok(json) => reply(json),
        Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

fn reply(json: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// The body, if it is there by the deadline.
async fn read(body: Body, limit: usize, deadline: Deadline) -> Result<Vec<u8>, Response> {
    match timeout_at(deadline.at, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) => {
            let message = format!("expected a body of at most {limit} bytes: {error}");
            Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, &message))
        }
        Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

/// Not an answer to what was asked, because nobody can tell what was.
fn refusal(status: StatusCode, message: &str) -> Response {
    let code = if status == StatusCode::REQUEST_TIMEOUT { 4 } else { 3 };
    let body = json!({ "code": code, "message": message, "details": [] });
    (status, reply(body.to_string())).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    image: String,
    #[serde(default)]
    namespace: Option<String>,
}

/// About one image. Of a tag it says which digest it means, so that who asks can go on with that.
async fn verify(State(admission): State<Arc<Admission>>, body: Body) -> Response {
    let rules = admission.rules();
    let deadline = Deadline::of(&rules, None);
    let json = match read(body, MAX_QUESTION, deadline).await {
        Ok(json) => json,
        Err(refusal) => return refusal,
    };
    let question: Question = match serde_json::from_slice(&json) {
        Ok(question) => question,
        Err(error) => {
            let message = format!("expected {{\"image\": …, \"namespace\": …}}: {error}");
            return refusal(StatusCode::BAD_REQUEST, &message);
        }
    };
    let namespace = question.namespace.as_deref();
    let judged = rules.judge(&question.image, namespace, Tags::Resolved, deadline).await;
    reply(about(&judged).to_string())
}

/// What is said of an image to others than API servers.
fn about(judged: &Judged) -> Value {
    let (outcome, why) = match &judged.verdict {
        Verdict::Allowed => ("allowed", None),
        Verdict::Refused(why) => ("refused", Some(why)),
        Verdict::Undecided(why) => ("undecided", Some(why)),
    };
    json!({
        "allowed": outcome == "allowed",
        "outcome": outcome,
        "digest": judged.digest.as_ref().map(ToString::to_string),
        "rule": judged.rule,
        "decision": judged.id,
        "reasons": why.into_iter().collect::<Vec<_>>(),
        "warnings": judged.warnings,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProviderRequest {
    api_version: String,
    kind: String,
    request: Keys,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

/// About many images. A key is an image, or `NAMESPACE|IMAGE`: the protocol has no other place for where it
/// is to be used. Each has a value; what is undecided is `allowed: false`, and no error, so that a template
/// which forgets to ask for errors lets nothing in.
async fn gatekeeper(State(admission): State<Arc<Admission>>, body: Body) -> Response {
    let rules = admission.rules();
    let deadline = Deadline::of(&rules, None);
    let json = match read(body, MAX_QUESTION, deadline).await {
        Ok(json) => json,
        Err(refusal) => return refusal,
    };
    let question: Result<ProviderRequest, _> = serde_json::from_slice(&json);
    let keys = match question {
        Err(error) => Err(format!("not a ProviderRequest: {error}")),
        Ok(question)
            if question.api_version != GATEKEEPER || question.kind != "ProviderRequest" =>
        {
            let found = format!("{} {}", question.api_version, question.kind);
            Err(format!("expected {GATEKEEPER} ProviderRequest, found {found:?}"))
        }
        Ok(question) if question.request.keys.len() > MAX_IMAGES => Err(format!(
            "expected at most {MAX_IMAGES} keys, found {}",
            question.request.keys.len()
        )),
        Ok(question) => Ok(question.request.keys),
    };
    let (items, error) = match keys {
        Err(error) => (Vec::new(), error),
        Ok(keys) => {
            let judge = |key: String| {
                let rules = &rules;
                async move {
                    let (namespace, image) = match key.split_once('|') {
                        Some((namespace, image)) => (Some(namespace), image),
                        None => (None, key.as_str()),
                    };
                    let judged = rules.judge(image, namespace, Tags::Resolved, deadline).await;
                    json!({ "key": key, "value": about(&judged) })
                }
            };
            let items = stream::iter(keys).map(judge).buffered(AT_ONCE).collect().await;
            (items, String::new())
        }
    };
    let response = json!({ "idempotent": true, "items": items, "systemError": error });
    let body = json!({
        "apiVersion": GATEKEEPER, "kind": "ProviderResponse", "response": response
    });
    reply(body.to_string())
}
