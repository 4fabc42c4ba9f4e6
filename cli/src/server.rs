//! One listener for all faces of an instance.

use crate::failure::Failure;
use crate::idp;
use crate::instance::Instance;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum_server::Handle;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::normalize_path::NormalizePath;
use tower_http::timeout::TimeoutLayer;

mod limits;
mod metrics;
mod request;

pub(crate) use limits::Limits;

/// A server that runs until it is stopped.
pub(crate) struct Server {
    instance: Arc<Instance>,
    limits: Limits,
    handle: Handle<SocketAddr>,
    task: JoinHandle<std::io::Result<()>>,
    upkeep: JoinHandle<()>,
}

impl Server {
    /// Serves `instance` on `listener`.
    pub(crate) fn start(instance: Instance, listener: TcpListener, limits: Limits) -> Self {
        let instance = Arc::new(instance);
        let upkeep = tokio::spawn(metrics::upkeep());
        // Some clients put a second slash between base URL and path.
        let routes = NormalizePath::trim_trailing_slash(routes(&instance, &limits));
        let service =
            axum::ServiceExt::<axum::extract::Request>::into_make_service_with_connect_info::<
                SocketAddr,
            >(routes);
        let handle = Handle::new();
        let mut server = axum_server::Server::<SocketAddr>::from_listener(listener)
            .handle(handle.clone())
            .acceptor(limits::Connections::new(&limits))
            .first_request_timeout(limits.head);
        server.http_builder().http1().header_read_timeout(limits.head);
        let task = tokio::spawn(server.serve(service));
        Self { instance, limits, handle, task, upkeep }
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Takes no more connections, lets requests finish, and then the logs.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.handle.graceful_shutdown(Some(self.limits.drain));
        let finished = self.task.await;
        self.upkeep.abort();
        self.instance.close().await;
        match finished {
            Ok(Err(error)) => Err(Failure::unclear(format!("the server failed: {error}"))),
            _ => Ok(()),
        }
    }
}

fn routes(instance: &Arc<Instance>, limits: &Limits) -> Router {
    let measured = Arc::clone(instance);
    metrics::recorder(); // before anything counts
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
        .route("/metrics", get(async move || metrics::answer(measured).await))
        .fallback(unknown)
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, limits.request))
        .layer(from_fn_with_state(limits::Gate::new(limits), limits::admit))
        .layer(from_fn(request::identify))
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
    let logs = instance.logs();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Directory;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    /// Who sends the head of a request drop by drop, or nothing at all, holds no connection for long.
    #[tokio::test]
    async fn a_head_that_does_not_come_closes_the_connection() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}").parse().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        let instance = Instance::open(directory, &url, Vec::new(), None).await.unwrap();
        let head = Duration::from_millis(200);
        let server = Server::start(instance, listener, Limits { head, ..Limits::default() });
        let whole = "GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n";
        for (sent, answered) in [("", false), ("GET /heal", false), (whole, true)] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut answer = String::new();
            // Without a limit this would wait for ever.
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer.contains("SERVING"), answered, "{sent:?}: {answer}");
        }
        server.stop().await.unwrap();
    }
}
