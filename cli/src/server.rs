//! One listener for all faces of an instance.

use crate::failure::Failure;
use crate::idp;
use crate::instance::Instance;
use axum::Router;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::normalize_path::NormalizePath;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::TimeoutLayer;

/// Longest time for a request: Fulcio's.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long requests under way may go on when the server stops.
const DRAIN: Duration = Duration::from_secs(10);

/// A server that runs until it is stopped.
pub(crate) struct Server {
    instance: Arc<Instance>,
    stop: tokio::sync::oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Serves `instance` on `listener`.
    pub(crate) fn start(instance: Instance, listener: TcpListener) -> Self {
        let instance = Arc::new(instance);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let routes = routes(&instance);
        // Some clients put a second slash between base URL and path.
        let routes = NormalizePath::trim_trailing_slash(routes);
        let service = axum::ServiceExt::<axum::extract::Request>::into_make_service(routes);
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await; // a dropped sender stops, too
            };
            axum::serve(listener, service).with_graceful_shutdown(stopped).await
        });
        Self { instance, stop, task }
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Takes no more connections, lets requests finish, and then the logs.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        let _ = self.stop.send(()); // it may have stopped by itself
        let finished = tokio::time::timeout(DRAIN, self.task).await;
        self.instance.close().await;
        match finished {
            Ok(Ok(Err(error))) => Err(Failure::unclear(format!("the server failed: {error}"))),
            _ => Ok(()),
        }
    }
}

fn routes(instance: &Arc<Instance>) -> Router {
    let id = HeaderName::from_static("x-request-id");
    let clock: countersign_ca::Clock = Arc::new(jiff::Timestamp::now);
    let timestamps = Arc::clone(&instance.timestamps);
    Router::new()
        .merge(countersign_log::http::router(
            instance.signatures.clone(),
            instance.older.clone(),
            instance.certificates.clone(),
        ))
        .merge(countersign_ca::http::router(Arc::clone(&instance.authority)))
        .merge(countersign_ca::http::timestamp_router(timestamps, clock))
        .merge(idp::router(Arc::clone(&instance.provider)))
        .merge(trust(instance))
        .route("/healthz", get(healthy))
        .merge(ready(instance))
        .fallback(unknown)
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, TIMEOUT))
        .layer(PropagateRequestIdLayer::new(id.clone()))
        .layer(SetRequestIdLayer::new(id, MakeRequestUuid))
}

fn trust(instance: &Instance) -> Router {
    let files = &instance.trust;
    let mut router = Router::new();
    for (path, json) in [
        ("/trust/trusted_root.json", &files.trusted_root),
        ("/trust/signing_config.json", &files.signing_config),
        ("/trust/client_trust_config.json", &files.client_trust_config),
    ] {
        let json = json.clone();
        let answer = async move || ([(header::CONTENT_TYPE, "application/json")], json.clone());
        router = router.route(path, get(answer));
    }
    let page = format!(
        "Countersign development instance at {}\nFOR DEVELOPMENT ONLY: it certifies whatever name is asked for.\n\nTrust: /trust/client_trust_config.json\nLog:   /api/v2/checkpoint\nCT:    /ct/checkpoint\n",
        instance.url
    );
    router.route("/", get(async move || page.clone()))
}

/// An instance whose logs did not open does not listen. A log that halts later, because its storage
/// contradicts itself, says so to whoever appends.
/// Ready while every log takes entries; alive, see [`healthy`], all the same.
fn ready(instance: &Instance) -> Router {
    let logs = [
        instance.signatures.log().clone(),
        instance.older.log().clone(),
        instance.certificates.log().clone(),
    ];
    let answer = move || {
        let halted = logs.iter().find(|log| log.is_halted());
        let halted = halted.map(|log| log.key().origin().to_owned());
        async move {
            match halted {
                None => healthy().await,
                Some(origin) => {
                    let reason =
                        format!("log {origin:?} is halted; this program's log has the cause");
                    let body = json!({ "status": "NOT_SERVING", "reason": reason }).to_string();
                    let kind = [(header::CONTENT_TYPE, "application/json")];
                    (StatusCode::SERVICE_UNAVAILABLE, kind, body).into_response()
                }
            }
        }
    };
    Router::new().route("/readyz", get(answer))
}

async fn healthy() -> Response {
    let body = json!({ "status": "SERVING" }).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn unknown() -> Response {
    let body = json!({ "code": 5, "message": "Not Found", "details": [] }).to_string();
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
