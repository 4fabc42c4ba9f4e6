//! What stands before the routes of a server: each request gets its ID, in its reply, in errors and in the
//! log; passes the bounds; and is counted when it has ended.
//!
//! One service, not a layer for each of these: axum copies all that lies below a layer for every request.

use crate::Limits;
use crate::limits::{Gate, Refusal, is_rekor_v1};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::Route;
use axum::{BoxError, Router};
use axum_server::ConnectionShutdown;
use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use metrics::{Counter, Histogram, counter, histogram};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::task::AbortHandle;
use tower::layer::layer_fn;
use tower_service::Service;
use tracing::Instrument as _;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest ID that is taken over from the client or the server in front, in bytes: Fulcio's.
const MAX_ID: usize = 128;

/// The ID of a request, among its extensions and in its header.
#[derive(Clone)]
pub struct RequestId(pub Arc<str>);

/// What every request comes to first.
pub(crate) struct Front {
    gate: Gate,
    /// The longest that a request may take, its body included.
    longest: Duration,
    /// How long a connection may be without a request.
    idle: Duration,
    /// What answers; requests under way keep the routes that they came to.
    routes: Arc<RwLock<Router>>,
    answered: Answered,
}

impl Front {
    pub(crate) fn new(limits: &Limits, routes: Arc<RwLock<Router>>) -> Arc<Self> {
        let (gate, answered) = (Gate::new(limits), Answered::default());
        Arc::new(Self { gate, longest: limits.request, idle: limits.head, routes, answered })
    }

    /// The service of one connection.
    pub(crate) fn connection(self: &Arc<Self>, peer: IpAddr) -> Connection {
        let (front, watch) = (Arc::clone(self), OnceLock::new());
        Connection(Arc::new(Open { front, peer, watch }))
    }

    /// Gives the request its ID, has it answered, writes one line about it, and counts it.
    pub(crate) async fn answer(&self, peer: IpAddr, mut request: Request) -> Response {
        let (id, header) = id(&request);
        request.headers_mut().insert(HEADER, header.clone());
        request.extensions_mut().insert(RequestId(Arc::clone(&id)));
        let method = request.method().clone();
        // Neither query nor headers: tokens stand there. At the level of errors, so that they have it.
        let span = tracing::error_span!("request", id = &*id, %method, path = request.uri().path());
        let (started, is_rekor_v1) = (Instant::now(), is_rekor_v1(request.uri().path()));
        let answer = self.admit(peer, request).instrument(span.clone()).await;
        let mut response = answer.unwrap_or_else(|refusal| refusal.to(is_rekor_v1, &id));
        let (status, duration) = (response.status(), started.elapsed());
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        span.in_scope(|| match status.is_server_error() {
            true => tracing::warn!(status = status.as_u16(), duration_ms, "failed"),
            false => tracing::info!(status = status.as_u16(), duration_ms, "answered"),
        });
        let route = response.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
        self.answered.count(method_name(&method), route, status, duration);
        response.headers_mut().insert(HEADER, header);
        response
    }

    async fn admit(&self, peer: IpAddr, request: Request) -> Result<Response, Refusal> {
        let permit = self.gate.admit(peer, request.uri().path())?;
        let mut routes = self.routes.read().clone();
        let answer = AssertUnwindSafe(async move {
            let (request, _room) = self.gate.room(peer, request).await?;
            Ok::<_, Refusal>(routes.call(request).await)
        });
        match tokio::time::timeout(self.longest, answer.catch_unwind()).await {
            Ok(Ok(Ok(Ok(response)))) => Ok(match permit {
                // Most are whole.
                Some(permit) if response.body().size_hint().exact().is_none() => {
                    self.holding(permit, response)
                }
                _ => response,
            }),
            Ok(Ok(Ok(Err(never)))) => match never {},
            Ok(Ok(Err(refusal))) => Err(refusal),
            Ok(Err(_)) => {
                tracing::error!("a request's handler panicked");
                Err(Refusal::FAILED)
            }
            Err(_) => Err(Refusal::LATE),
        }
    }

    /// An answer that goes on keeps its request's place until it ends. It ends when a request may take no longer; the
    /// place is free then in any case, for nobody can make a client read.
    fn holding(&self, permit: SemaphorePermit<'_>, response: Response) -> Response {
        let (place, longest) = (self.gate.keep(permit), self.longest);
        let (going_on, ended) = oneshot::channel::<Infallible>();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(longest, ended).await; // either way
            drop(place);
        });
        response.map(|body| {
            Body::from_stream(ending(body, longest).inspect(move |_| {
                let _ = &going_on;
            }))
        })
    }
}

/// The pieces of a body, which fails when it goes on for longer: nobody must take what was cut off for whole.
fn ending(body: Body, longest: Duration) -> impl Stream<Item = Result<Bytes, BoxError>> {
    let end = tokio::time::Instant::now() + longest;
    stream::unfold(Some(body.into_data_stream()), move |pieces| async move {
        let mut pieces = pieces?;
        match tokio::time::timeout_at(end, pieces.next()).await {
            Ok(piece) => Some((piece?.map_err(BoxError::from), Some(pieces))),
            Err(late) => Some((Err(late.into()), None)),
        }
    })
}

/// The service of one connection. Each request has a clone of it.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Open>);

struct Open {
    front: Arc<Front>,
    peer: IpAddr,
    /// From the first request on.
    watch: OnceLock<Watch>,
}

/// Has a connection closed when nobody asks on it.
struct Watch {
    asked: Arc<Asked>,
    task: AbortHandle,
}

/// Requests of a connection.
#[derive(Default)]
struct Asked {
    all: AtomicUsize,
    under_way: AtomicUsize,
}

/// A request that is under way, until it is dropped.
struct UnderWay(Arc<Asked>);

impl Open {
    /// Counts a request. The library closes connections of HTTP/1 that ask nothing, but none whose peer does not read
    /// the answer.
    fn count<B>(&self, request: &axum::http::Request<B>) -> Option<UnderWay> {
        let connection = request.extensions().get::<ConnectionShutdown>()?;
        let watch = self.watch.get_or_init(|| {
            let asked = Arc::<Asked>::default();
            let Front { idle, longest, .. } = *self.front;
            let task = close_when_idle(connection.clone(), Arc::clone(&asked), idle, longest);
            Watch { asked, task: tokio::spawn(task).abort_handle() }
        });
        watch.asked.under_way.fetch_add(1, Ordering::Relaxed);
        watch.asked.all.fetch_add(1, Ordering::Relaxed);
        Some(UnderWay(Arc::clone(&watch.asked)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Closes a connection after once to twice `idle` without a request. What is still being sent then, and a peer
/// that does not acknowledge, have `longest`.
async fn close_when_idle(
    connection: ConnectionShutdown,
    asked: Arc<Asked>,
    idle: Duration,
    longest: Duration,
) {
    let mut before = 0;
    loop {
        tokio::time::sleep(idle).await;
        let all = asked.all.load(Ordering::Relaxed);
        if all == before && asked.under_way.load(Ordering::Relaxed) == 0 {
            break;
        }
        before = all;
    }
    connection.graceful_shutdown();
    tokio::time::sleep(longest).await;
    connection.shutdown();
}

impl<B> Service<axum::http::Request<B>> for Connection
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: axum::http::Request<B>) -> Self::Future {
        let (open, under_way) = (Arc::clone(&self.0), self.0.count(&request));
        Box::pin(async move {
            let _under_way = under_way;
            Ok(open.front.answer(open.peer, request.map(Body::new)).await)
        })
    }
}

/// What is left to be done when it is known how a request ends. What it returns is waited for before the reply goes out.
pub type Finish = Arc<
    dyn Fn(&RequestId, &mut Response) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>>
        + Send
        + Sync,
>;

/// Has all of `routes` finish, and their replies carry the path as the route has it, for the metrics: the paths of
/// tiles and entries would make a series each. The one layer that requests pass.
pub fn finished(routes: Router, finish: Finish) -> Router {
    routes.layer(layer_fn(move |route| Finished { route, finish: Arc::clone(&finish) }))
}

#[derive(Clone)]
struct Finished {
    route: Route,
    finish: Finish,
}

impl Service<Request> for Finished {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request>::poll_ready(&mut self.route, context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let id = request.extensions().get::<RequestId>().cloned();
        let matched = request.extensions().get::<MatchedPath>().cloned();
        let (answer, finish) = (self.route.call(request), Arc::clone(&self.finish));
        Box::pin(async move {
            let mut response = answer.await?;
            if let Some(id) = id
                && let Some(more) = finish(&id, &mut response)
            {
                more.await;
            }
            if let Some(matched) = matched {
                response.extensions_mut().insert(matched);
            }
            Ok(response)
        })
    }
}

/// The metrics of requests by route. They are looked up once: that takes longer than to count.
#[derive(Default)]
struct Answered(RwLock<HashMap<String, Counts>>);

struct Counts {
    seconds: Histogram,
    requests: Vec<(&'static str, StatusCode, Counter)>,
}

impl Answered {
    fn count(&self, method: &'static str, route: &str, status: StatusCode, duration: Duration) {
        let of = |(m, s, _): &&(&str, StatusCode, Counter)| (*m, *s) == (method, status);
        if let Some(known) = self.0.read().get(route)
            && let Some((.., requests)) = known.requests.iter().find(of)
        {
            requests.increment(1);
            known.seconds.record(duration);
            return;
        }
        let mut routes = self.0.write();
        let label = ("route", route.to_owned());
        let known = routes.entry(route.to_owned()).or_insert_with(|| {
            let labels = [label.clone()];
            let seconds = histogram!("countersign_http_request_seconds", &labels);
            Counts { seconds, requests: Vec::new() }
        });
        if !known.requests.iter().any(|known| of(&known)) {
            let labels =
                [("method", method.to_owned()), label, ("status", status.as_u16().to_string())];
            let requests = counter!("countersign_http_requests_total", &labels);
            known.requests.push((method, status, requests));
        }
        let requests = known.requests.iter().find(of).map(|(.., requests)| requests);
        requests.expect("it is there now").increment(1);
        known.seconds.record(duration);
    }
}

/// A method as it is counted: clients may make up others.
fn method_name(method: &Method) -> &'static str {
    const NAMED: [&str; 6] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS"];
    NAMED.into_iter().find(|name| method == name).unwrap_or("other")
}

/// The ID that was sent, if it is fit to be repeated, or a fresh one of 128 random bits.
fn id(request: &Request) -> (Arc<str>, HeaderValue) {
    let fit = |id: &&str| {
        (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let sent = request.headers().get(HEADER);
    if let Some(header) = sent
        && let Some(id) = header.to_str().ok().filter(fit)
    {
        return (id.into(), header.clone());
    }
    // No secret, and one that repeats does no harm.
    let id = format!("{:032x}", fastrand::u128(..));
    let header = HeaderValue::from_str(&id).expect("hexadecimal digits");
    (id.into(), header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_cut_off_ends_with_an_error_and_what_ends_in_time_does_not() {
        let piece = || stream::iter([Ok::<_, Infallible>(Bytes::from("piece"))]);
        let read = async |body: Body, longest| {
            let pieces: Vec<_> = ending(body, longest).collect().await;
            pieces.iter().map(Result::is_ok).collect::<Vec<_>>()
        };
        let endless = Body::from_stream(piece().chain(stream::pending()));
        assert_eq!(read(endless, Duration::from_millis(50)).await, [true, false]);
        let short = Body::from_stream(piece());
        assert_eq!(read(short, Duration::from_secs(60)).await, [true]);
    }

    #[tokio::test]
    async fn an_id_that_is_fit_to_be_repeated_is_kept_and_others_are_replaced() {
        let echo =
            async |request: Request| request.headers()[HEADER].clone().to_str().unwrap().to_owned();
        let router = Router::new().fallback(echo);
        let front = Front::new(&Limits::default(), Arc::new(RwLock::new(router)));
        for (sent, kept) in [
            ("f3a1-2", true),
            (&"x".repeat(128), true),
            (&"x".repeat(129), false),
            ("two words", false),
            ("", false),
        ] {
            let request = Request::builder().header(HEADER, sent).body(Body::empty()).unwrap();
            let response = front.answer([127, 0, 0, 1].into(), request).await;
            let header = response.headers()[HEADER].to_str().unwrap().to_owned();
            assert_eq!(header == sent, kept, "{sent:?}");
            assert!(kept || header.len() == 32, "{header}");
            let seen = axum::body::to_bytes(response.into_body(), 1 << 10).await.unwrap();
            assert_eq!(seen, header, "the handler and the client see one ID");
        }
    }

    #[tokio::test]
    async fn a_handler_that_panics_or_takes_too_long_is_answered_for() {
        let routes = Router::new()
            .route("/panic", axum::routing::get(async || Vec::<String>::new().remove(0)))
            .fallback(async || std::future::pending::<()>().await);
        let limits = Limits { request: Duration::from_millis(50), ..Limits::default() };
        let front = Front::new(&limits, Arc::new(RwLock::new(routes)));
        for (path, status, code, place) in [
            ("/panic", 500, 13, "/details/0/request_id"),
            ("/other", 504, 4, "/details/0/request_id"),
            ("/api/v1/log", 504, 504, "/request_id"),
        ] {
            let request = Request::builder().uri(path).header(HEADER, "my-own-7");
            let request = request.body(Body::empty()).unwrap();
            let response = front.answer([127, 0, 0, 1].into(), request).await;
            assert_eq!(response.status(), status, "{path}");
            let body = axum::body::to_bytes(response.into_body(), 1 << 10).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["code"], code, "{path}");
            assert_eq!(body.pointer(place), Some(&"my-own-7".into()), "{path}: {body}");
        }
    }
}
