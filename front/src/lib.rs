//! What stands before the routes of a server: connections and requests within [`Limits`], an ID for each request, one
//! line in the log and one count when it has ended.
//!
//! A crate of its own, because it is compiled for speed, and with it what HTTP is to a server: the code of axum and
//! hyper takes the types of whoever calls it, so it is compiled there.

mod limits;
mod request;

pub use limits::Limits;
pub use request::{Finish, RequestId, finished};

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use parking_lot::RwLock;
use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_http::normalize_path::NormalizePath;

/// Serves `routes`, as they are when a request comes, on `listener` within `limits`. The handle stops it, and the task
/// ends with it.
#[must_use]
pub fn listen(
    routes: Arc<RwLock<Router>>,
    listener: TcpListener,
    limits: &Limits,
    tls: Option<RustlsConfig>,
) -> (Handle<SocketAddr>, JoinHandle<std::io::Result<()>>) {
    let front = request::Front::new(limits, routes);
    let service = tower::service_fn(move |peer: SocketAddr| {
        // Some clients put a second slash between base URL and path.
        let connection = NormalizePath::trim_trailing_slash(front.connection(peer.ip()));
        ready(Ok::<_, Infallible>(connection))
    });
    let handle = Handle::new();
    let connections = limits::Connections::new(limits);
    let mut server = axum_server::Server::<SocketAddr>::from_listener(listener)
        .handle(handle.clone())
        .first_request_timeout(limits.head);
    server.http_builder().http1().header_read_timeout(limits.head);
    let task = match tls {
        None => tokio::spawn(server.acceptor(connections).serve(service)),
        Some(config) => {
            let acceptor = RustlsAcceptor::new(config).acceptor(connections);
            tokio::spawn(server.acceptor(acceptor).serve(service))
        }
    };
    (handle, task)
}
