//! One listener for all faces of an instance.

pub(crate) mod metrics;
pub(crate) mod tls;

use crate::control;
use crate::failure::Failure;
use crate::gate;
use crate::idp;
use crate::instance::{Instance, Logs, Plan, Services, TrustFiles};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use countersign_ca::audit::Audit;
use countersign_front::{Finish, Limits, RequestId, finished, listen};
use countersign_log::face::accept::Denied;
use countersign_log::face::static_ct;
use parking_lot::RwLock;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// How long an answer about readiness holds: to find out costs a signature and a write.
const READINESS: Duration = Duration::from_secs(1);

/// Which faces are served.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Role {
    /// The certificate authority and its certificate log
    Ca,
    /// The signature logs
    Log,
    /// The timestamp authority
    Tsa,
    /// Admission to a cluster, in a process of its own: see docs/admission.md
    Admission,
}

impl Role {
    /// Those of an instance.
    pub(crate) const ALL: [Self; 3] = [Self::Ca, Self::Log, Self::Tsa];
}

/// A server that runs until it is stopped.
pub(crate) struct Server {
    instance: Arc<Instance>,
    roles: Vec<Role>,
    limits: Limits,
    /// What answers requests; those under way keep the one that they came to.
    current: Arc<RwLock<Router>>,
    handle: Handle<SocketAddr>,
    task: JoinHandle<std::io::Result<()>>,
    upkeep: JoinHandle<()>,
    /// None where the directory has no room for a socket.
    orders: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `instance` on `listener`.
    pub(crate) fn start(
        instance: Instance,
        listener: TcpListener,
        limits: Limits,
        tls: Option<RustlsConfig>,
        roles: &[Role],
    ) -> Self {
        let instance = Arc::new(instance);
        let upkeep = tokio::spawn(metrics::upkeep());
        let current = Arc::new(RwLock::new(routes(&instance, roles)));
        let (handle, task) = listen(Arc::clone(&current), listener, &limits, tls);
        let roles = roles.to_vec();
        let orders = orders(&instance);
        Self { instance, roles, limits, current, handle, task, upkeep, orders }
    }

    /// Changes over to another plan; requests under way end as they began. If it does not do, all stays
    /// as it is.
    pub(crate) async fn reload(&self, plan: Plan) -> Result<(), Failure> {
        self.instance.reload(plan).await?;
        *self.current.write() = routes(&self.instance, &self.roles);
        Ok(())
    }

    pub(crate) const fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// What cuts off requests when it is told to shut down.
    pub(crate) fn handle(&self) -> Handle<SocketAddr> {
        self.handle.clone()
    }

    /// Takes no more connections, lets requests finish, and then the logs.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        if let Some(orders) = &self.orders {
            orders.abort();
        }
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

/// Has the instance take orders.
fn orders(instance: &Arc<Instance>) -> Option<JoinHandle<()>> {
    let instance = Arc::clone(instance);
    let directory = instance.directory.path().to_owned();
    let carry_out = move |order| {
        let instance = Arc::clone(&instance);
        async move { instance.carry_out(order).await }
    };
    let listening = control::listen(&directory, carry_out);
    listening
        .inspect_err(|failure| {
            tracing::warn!("it takes no orders while it runs: {}", failure.text());
        })
        .ok()
}

/// What the faces leave to be done when it is known how a request ends: a refusal names the request, and one
/// by policy goes on record.
fn finish(audit: Audit) -> Finish {
    Arc::new(move |RequestId(id), response| {
        countersign_log::http::identify(response, id);
        let denied = response.extensions_mut().remove::<Denied>()?;
        let (audit, id) = (audit.clone(), Arc::clone(id));
        Some(Box::pin(async move { gate::record(&audit, &id, &denied).await }))
    })
}

fn routes(instance: &Arc<Instance>, roles: &[Role]) -> Router {
    metrics::recorder(); // before anything counts
    let measured = Arc::clone(instance);
    let clock: countersign_ca::Clock = Arc::new(jiff::Timestamp::now);
    let services = instance.services();
    let mut routes = Router::new();
    if roles.contains(&Role::Log) {
        routes = routes
            .merge(countersign_log::http::rekor_v2(instance.logs.signatures.clone()))
            .merge(countersign_log::http::rekor_v1(instance.logs.older.clone()))
            .merge(countersign_log::http::search(
                instance.index.clone(),
                instance.logs.older.clone(),
            ));
    }
    if roles.contains(&Role::Ca) {
        routes = routes
            .merge(certificate_logs(instance))
            .merge(countersign_ca::http::router(Arc::clone(&services.authority)));
    }
    if roles.contains(&Role::Tsa) {
        let timestamps = Arc::clone(&services.timestamps);
        routes = routes.merge(countersign_ca::http::timestamp_router(timestamps, clock));
    }
    if let Some(provider) = &services.provider {
        routes = routes.merge(idp::router(Arc::clone(provider)));
    }
    let routes = routes
        .merge(trust(instance, &services))
        .route("/healthz", get(healthy))
        .merge(ready(Arc::clone(instance)))
        .route("/metrics", get(async move || metrics::answer(measured).await))
        .fallback(unknown);
    finished(routes, finish(instance.audit().clone()))
}

/// Each shard of the certificate log at its place. Those before the one that takes entries have ended.
fn certificate_logs(instance: &Instance) -> Router {
    use countersign_log::http::{ended_static_ct, static_ct};
    let log_id = |face: &static_ct::Face| *face.log().key().log_id();
    let Logs { certificates, all_certificates: all, .. } = &instance.logs;
    let ended = all.iter().take_while(|face| log_id(face) != log_id(certificates)).count();
    let next =
        format!("{}/shards/{}", instance.settings.url.as_str().trim_end_matches('/'), ended + 1);
    let mut router = Router::new();
    for (number, face) in (1..).zip(all) {
        let routes = match number <= ended {
            true => ended_static_ct(face.clone(), &next),
            false => static_ct(face.clone()),
        };
        router = match number {
            1 => router.merge(routes),
            _ => router.nest(&format!("/shards/{number}"), routes),
        };
    }
    router
}

fn trust(instance: &Arc<Instance>, services: &Services) -> Router {
    type Choose = fn(&TrustFiles) -> &String;
    let mut router = Router::new();
    let files: [(&str, Choose); 3] = [
        ("/trust/trusted_root.json", |files| &files.trusted_root),
        ("/trust/signing_config.json", |files| &files.signing_config),
        ("/trust/client_trust_config.json", |files| &files.client_trust_config),
    ];
    for (path, choose) in files {
        let instance = Arc::clone(instance);
        // As they are now: a log may have gone on in another shard.
        let answer = async move || {
            let json = choose(&instance.services().trust).clone();
            ([(header::CONTENT_TYPE, "application/json")], json)
        };
        router = router.route(path, get(answer));
    }
    let (kind, warning) = match services.provider {
        Some(_) => (
            "development instance",
            "FOR DEVELOPMENT ONLY: it certifies whatever name is asked for.\n",
        ),
        None => ("instance", ""),
    };
    let page = format!(
        "Countersign {kind} at {}\n{warning}\nTrust: /trust/client_trust_config.json\nLog:   /api/v2/checkpoint\nCT:    /ct/checkpoint\n",
        instance.settings.url
    );
    router.route("/", get(async move || page.clone()))
}

/// When it was found out, and what is in the way.
type Readiness = (Instant, Vec<String>);

/// Ready while it can do its work; alive, see [`healthy`], all the same. An instance whose logs did not
/// open does not listen.
fn ready(instance: Arc<Instance>) -> Router {
    let last: Arc<Mutex<Option<Readiness>>> = Arc::default();
    let answer = async move || {
        // Who comes while it is found out waits for the answer.
        let mut last = Arc::clone(&last).lock_owned().await;
        let reasons = match &*last {
            Some((when, reasons)) if when.elapsed() < READINESS => reasons.clone(),
            _ => {
                let instance = Arc::clone(&instance);
                // It has the lock until it is done, even if who asked has gone away.
                let find_out = move || {
                    let reasons = instance.unready();
                    *last = Some((Instant::now(), reasons.clone()));
                    reasons
                };
                let found = tokio::task::spawn_blocking(find_out).await;
                found.unwrap_or_else(|_| vec!["could not be found out: see the log".to_owned()])
            }
        };
        if reasons.is_empty() {
            return healthy().await;
        }
        let reason = reasons.join("; ");
        let body = json!({ "status": "NOT_SERVING", "reason": reason }).to_string();
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (StatusCode::SERVICE_UNAVAILABLE, kind, body).into_response()
    };
    Router::new().route("/readyz", get(answer))
}

pub(crate) async fn healthy() -> Response {
    let body = json!({ "status": "SERVING" }).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

pub(crate) async fn unknown() -> Response {
    let body = json!({ "code": 5, "message": "Not Found", "details": [] }).to_string();
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::{Directory, development};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    /// As a client of HTTP/2 begins: preface, SETTINGS, and HEADERS of `GET /healthz`. It acknowledges nothing.
    const OVER_HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \x00\x00\x00\x04\x00\x00\x00\x00\x00\
        \x00\x00\x12\x01\x05\x00\x00\x00\x01\
        \x82\x86\x04\x08/healthz\x41\x04here";

    /// Who sends the head of a request drop by drop, nothing at all, or nothing any more holds no connection for
    /// long.
    #[tokio::test]
    async fn a_head_that_does_not_come_closes_the_connection() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}").parse().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        let instance = development::open(directory, &url, Vec::new(), None, None).await.unwrap();
        let head = Duration::from_millis(200);
        let limits = Limits { head, request: head, ..Limits::default() };
        let server = Server::start(instance, listener, limits, None, &Role::ALL);
        let whole = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n";
        for (sent, answered) in
            [(&b""[..], false), (b"GET /heal", false), (whole, true), (OVER_HTTP_2, true)]
        {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent).await.unwrap();
            let mut answer = Vec::new();
            // Without a limit this would wait for ever.
            stream.read_to_end(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer);
            assert_eq!(answer.contains("SERVING"), answered, "{answer}");
        }
        server.stop().await.unwrap();
    }
}
