//! What a server takes on at a time: connections, requests, their bodies, and requests a second of one peer.
//!
//! Beyond a bound the server says so at once rather than let clients queue: 429 to a peer that asks too
//! often or has too much under way, 503 when too much is under way for all, both with `Retry-After`; a connection too many is
//! closed. A peer is an IPv4 address or an IPv6 network of 64 bits. Peers on loopback are this machine
//! itself, or a proxy on it that limits its own, so the bounds of one peer are not theirs. Sizes of
//! bodies are each face's own, see its `http.rs`.

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum_server::accept::Accept;
use bytes::BytesMut;
use futures_util::{StreamExt as _, stream};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashMap;
use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use tower_service::Service;

/// The bounds of a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Requests under way at a time. A request waits for the log's next batch, so this must be well
    /// above the writers that share one.
    pub requests: usize,
    /// Requests a second of one peer, on average. A monitor reads some 600 tiles a second.
    pub rate: NonZeroU32,
    /// Requests of one peer at once: a build farm behind one address begins its jobs together.
    pub burst: NonZeroU32,
    /// Connections at a time. Each takes a file, and systems give a process 1024 unless told otherwise.
    pub connections: usize,
    /// Connections of one peer.
    pub connections_per_peer: usize,
    /// Time for a request's head, and for a connection to ask again: hyper's default.
    pub head: Duration,
    /// Time for a request, its body included: Fulcio's.
    pub request: Duration,
    /// Time for what is under way when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: 512,
            rate: NonZeroU32::new(1000).expect("not zero"),
            burst: NonZeroU32::new(2000).expect("not zero"),
            connections: 800,
            connections_per_peer: 200,
            head: Duration::from_secs(30),
            request: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}

/// Counts the requests under way, their bodies, and the requests of each peer.
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    /// KiB of bodies.
    room: Semaphore,
    /// KiB of it that each peer has.
    held: Mutex<HashMap<IpAddr, u32>>,
    peers: DefaultKeyedRateLimiter<IpAddr>,
    asked: AtomicUsize,
    clock: DefaultClock,
}

/// What the bodies of all requests under way may have in memory, in KiB.
const ROOM: usize = 256 << 10;

/// What those of one peer may have of it, in KiB: four of the longest.
const SHARE: u32 = 64 << 10;

/// The longest body that counts for nothing, in KiB: of so many as there are requests it is little.
const SMALL: u64 = 64;

/// The longest that a face reads, in KiB: of Rekor v1. What is announced beyond it is refused there.
const LONGEST: u64 = 16 << 10;

/// Requests after which peers that were quiet for long are forgotten.
const FORGET: usize = 4096;

impl Gate {
    pub(crate) fn new(limits: &Limits) -> Self {
        let quota = Quota::per_second(limits.rate).allow_burst(limits.burst);
        Self {
            permits: Arc::new(Semaphore::new(limits.requests)),
            room: Semaphore::new(ROOM),
            held: Mutex::default(),
            peers: DefaultKeyedRateLimiter::keyed(quota),
            asked: AtomicUsize::new(0),
            clock: DefaultClock::default(),
        }
    }

    /// Lets a request through while the permit is held, or refuses it before its body is read. What
    /// operators ask passes always, and takes nobody's place.
    pub(crate) fn admit(
        &self,
        peer: IpAddr,
        path: &str,
    ) -> Result<Option<SemaphorePermit<'_>>, Refusal> {
        if ["/healthz", "/readyz", "/metrics"].contains(&path) {
            return Ok(None);
        }
        if let Some(wait) = self.too_often(peer) {
            return Err(Refusal::too_much("this address asks more often than it may", wait));
        }
        self.permits
            .try_acquire()
            .map(Some)
            .map_err(|_| Refusal::busy("as many requests are under way as this server takes"))
    }

    /// Takes the room that a request's body needs, until it is answered.
    pub(crate) async fn room(
        &self,
        peer: IpAddr,
        request: Request,
    ) -> Result<(Request, Option<Room<'_>>), Refusal> {
        match request.body().size_hint().upper() {
            Some(length) => Ok((request, self.take(peer, length)?)),
            None => Box::pin(self.room_unannounced(peer, request)).await,
        }
    }

    /// A body whose length nobody tells counts as the longest, unless it turns out to be small. Its pieces, which
    /// may take many times their bytes, are put together as they come.
    async fn room_unannounced(
        &self,
        peer: IpAddr,
        request: Request,
    ) -> Result<(Request, Option<Room<'_>>), Refusal> {
        let (head, body) = request.into_parts();
        let mut rest = body.into_data_stream().fuse();
        let (mut begun, mut broken, mut room) = (BytesMut::new(), None, None);
        while let Some(piece) = rest.next().await {
            match piece {
                Ok(piece) => begun.extend_from_slice(&piece),
                Err(error) => {
                    broken = Some(Err(error));
                    break;
                }
            }
            if begun.len() as u64 > SMALL << 10 {
                room = self.take(peer, u64::MAX)?;
                break;
            }
        }
        let begun = std::iter::once(Ok(begun.freeze())).chain(broken);
        let body = Body::from_stream(stream::iter(begun).chain(rest));
        Ok((Request::from_parts(head, body), room))
    }

    /// Room for a body of `length` bytes. It is taken before they come, so no peer may have much of it: one that
    /// announces long bodies and sends none would keep all others out.
    fn take(&self, peer: IpAddr, length: u64) -> Result<Option<Room<'_>>, Refusal> {
        let length = length.div_ceil(1 << 10);
        if length <= SMALL {
            return Ok(None);
        }
        let length = u32::try_from(length.min(LONGEST)).expect("16 MiB");
        let mut held = self.held.lock();
        let peer = limited(peer);
        if let Some(peer) = &peer
            && held.get(peer).is_some_and(|of_peer| of_peer + length > SHARE)
        {
            return Err(Refusal::too_much(
                "the bodies of this address's requests under way are as long as they may be",
                Duration::from_secs(1),
            ));
        }
        let permit = self.room.try_acquire_many(length).map_err(|_| {
            Refusal::busy("the bodies of the requests under way are as long as this server takes")
        })?;
        if let Some(peer) = peer {
            *held.entry(peer).or_default() += length;
        }
        Ok(Some(Room { _permit: permit, of: peer.map(|peer| (self, peer, length)) }))
    }

    /// The place of a request beyond its head, for an answer that goes on.
    pub(crate) fn keep(&self, permit: SemaphorePermit<'_>) -> Place {
        permit.forget();
        Place(Arc::clone(&self.permits))
    }

    /// How long the peer should wait before it asks again; `None` lets it through.
    fn too_often(&self, peer: IpAddr) -> Option<Duration> {
        let peer = limited(peer)?;
        if self.asked.fetch_add(1, Ordering::Relaxed) % FORGET == FORGET - 1 {
            self.peers.retain_recent();
        }
        let later = self.peers.check_key(&peer).err()?;
        Some(later.wait_time_from(self.clock.now()))
    }
}

/// The place of a request, until it is dropped.
pub(crate) struct Place(Arc<Semaphore>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

/// The room of a body, until it is dropped.
pub(crate) struct Room<'a> {
    _permit: SemaphorePermit<'a>,
    /// Whose it is, in KiB.
    of: Option<(&'a Gate, IpAddr, u32)>,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let Some((gate, peer, length)) = self.of else { return };
        let mut held = gate.held.lock();
        match held.get_mut(&peer) {
            Some(of_peer) if *of_peer > length => *of_peer -= length,
            _ => drop(held.remove(&peer)),
        }
    }
}

/// A peer as it is counted; none on loopback.
fn limited(peer: IpAddr) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    match peer {
        _ if peer.is_loopback() => None,
        IpAddr::V4(_) => Some(peer),
        IpAddr::V6(peer) => Some(Ipv6Addr::from_bits(peer.to_bits() >> 64 << 64).into()),
    }
}

/// Why a request gets no answer of a face.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    grpc: u8,
    reason: &'static str,
    message: &'static str,
    next: &'static str,
    wait: Option<Duration>,
}

const LATER: &str = "send the same request again after the time in Retry-After, in seconds";

impl Refusal {
    /// It took too long.
    pub(crate) const LATE: Self = Self {
        status: StatusCode::GATEWAY_TIMEOUT,
        grpc: 4,
        reason: "REQUEST_TIMEOUT",
        message: "the request took longer than this server lets one take",
        next: "send the same request again",
        wait: None,
    };

    /// Its handler panicked.
    pub(crate) const FAILED: Self = Self {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        grpc: 13,
        reason: "INTERNAL",
        message: "Internal Server Error",
        next: "tell the operator the request ID",
        wait: None,
    };

    const fn too_much(message: &'static str, wait: Duration) -> Self {
        let (status, reason) = (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS");
        Self { status, grpc: 8, reason, message, next: LATER, wait: Some(wait) }
    }

    const fn busy(message: &'static str) -> Self {
        let (status, wait) = (StatusCode::SERVICE_UNAVAILABLE, Some(Duration::from_secs(1)));
        Self { status, grpc: 14, reason: "SERVER_BUSY", message, next: LATER, wait }
    }

    /// In the shape of the face that was asked: Rekor v1 has its own.
    pub(crate) fn to(&self, is_rekor_v1: bool, id: &str) -> Response {
        let body = if is_rekor_v1 {
            json!({ "code": self.status.as_u16(), "message": self.message, "request_id": id })
        } else {
            let detail = json!({ "reason": self.reason, "next": self.next, "request_id": id });
            json!({ "code": self.grpc, "message": self.message, "details": [detail] })
        };
        let headers = [(CONTENT_TYPE, "application/json")];
        let mut response = (self.status, headers, body.to_string()).into_response();
        if let Some(wait) = self.wait {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// Whether a path is one of Rekor v1's.
pub(crate) fn is_rekor_v1(path: &str) -> bool {
    ["/api/v1/log", "/api/v1/index"].iter().any(|prefix| {
        let rest = path.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Accepts connections while there are few enough, of all peers and of each.
#[derive(Clone)]
pub(crate) struct Connections {
    total: usize,
    per_peer: usize,
    open: Arc<Mutex<HashMap<Option<IpAddr>, usize>>>,
}

impl Connections {
    pub(crate) fn new(limits: &Limits) -> Self {
        let (total, per_peer) = (limits.connections, limits.connections_per_peer);
        Self { total, per_peer, open: Arc::default() }
    }

    /// Counts a connection until what is returned is dropped.
    fn count(&self, peer: IpAddr) -> Option<Open> {
        let peer = limited(peer);
        let mut open = self.open.lock();
        let all: usize = open.values().sum();
        let of_peer = open.get(&peer).copied().unwrap_or_default();
        if all >= self.total || (peer.is_some() && of_peer >= self.per_peer) {
            return None;
        }
        open.insert(peer, of_peer + 1);
        Some(Open { peer, open: Arc::clone(&self.open) })
    }
}

struct Open {
    peer: Option<IpAddr>,
    open: Arc<Mutex<HashMap<Option<IpAddr>, usize>>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        match open.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.peer)),
        }
    }
}

impl<S> Accept<TcpStream, S> for Connections {
    type Stream = TcpStream;
    type Service = Counted<S>;
    type Future = Ready<std::io::Result<(TcpStream, Counted<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let counted = stream.peer_addr().and_then(|peer| {
            // Small answers leave at once, not when the next one is there.
            stream.set_nodelay(true)?;
            let open = self.count(peer.ip());
            open.ok_or_else(|| std::io::Error::other("too many connections"))
        });
        ready(counted.map(|open| (stream, Counted { service, _open: Arc::new(open) })))
    }
}

/// The service of one connection, which counts as long as it lives.
#[derive(Clone)]
pub(crate) struct Counted<S> {
    service: S,
    _open: Arc<Open>,
}

impl<S: Service<R>, R> Service<R> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.service.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Front;
    use axum::Router;
    use axum::body::to_bytes;
    use axum::routing::get;
    use parking_lot::RwLock;
    use serde_json::Value;
    use std::convert::Infallible;

    fn one_a_second() -> Limits {
        let one = NonZeroU32::new(1).unwrap();
        Limits {
            requests: 1,
            rate: one,
            burst: one,
            connections: 3,
            connections_per_peer: 2,
            ..Limits::default()
        }
    }

    async fn ask(front: &Front, peer: &str, path: &str) -> (u16, Option<String>, Value) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let peer = peer.trim_matches(['[', ']']).parse().unwrap();
        let response = front.answer(peer, request).await;
        let retry = response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
        let (status, retry) = (response.status().as_u16(), retry.map(str::to_owned));
        let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, retry, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn before(routes: Router, limits: &Limits) -> Arc<Front> {
        Front::new(limits, Arc::new(RwLock::new(routes)))
    }

    #[tokio::test]
    async fn a_peer_that_asks_too_often_waits_and_others_do_not() {
        let front = before(Router::new().fallback(async || ()), &one_a_second());
        let (first, second) = ("192.0.2.1", "192.0.2.2");
        for peer in [first, second, "[2001:db8::1]", "127.0.0.1", "127.0.0.1", "[::1]", "[::1]"] {
            assert_eq!(ask(&front, peer, "/api/v2/checkpoint").await.0, 200, "{peer}");
        }
        // The same peers: in IPv6 clothes, and elsewhere in its network.
        for peer in [first, "[::ffff:192.0.2.2]", "[2001:db8::2]"] {
            let (status, retry, body) = ask(&front, peer, "/api/v2/checkpoint").await;
            assert_eq!((status, retry.as_deref()), (429, Some("1")), "{peer}");
            assert_eq!(
                (&body["code"], &body["details"][0]["reason"]),
                (&json!(8), &json!("TOO_MANY_REQUESTS"))
            );
            assert_eq!(body["details"][0]["request_id"].as_str().unwrap().len(), 32);
        }
        let (status, _, body) = ask(&front, first, "/api/v1/log/entries").await;
        assert_eq!((status, &body["code"]), (429, &json!(429)), "Rekor v1 has codes of its own");
        assert_eq!(ask(&front, first, "/readyz").await.0, 200);
    }

    #[tokio::test]
    async fn more_requests_than_fit_are_told_to_come_back_and_one_that_ends_makes_room() {
        let (begin, end) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (began, ends) = (Arc::clone(&begin), Arc::clone(&end));
        let slow = get(async move || {
            began.add_permits(1);
            ends.acquire().await.unwrap().forget();
        });
        let routes = Router::new().route("/slow", slow).fallback(async || ());
        let front = before(routes, &one_a_second());
        let held = tokio::spawn({
            let front = Arc::clone(&front);
            async move { ask(&front, "127.0.0.1", "/slow").await.0 }
        });
        begin.acquire().await.unwrap().forget();
        let (status, retry, body) = ask(&front, "127.0.0.1", "/other").await;
        assert_eq!((status, retry.as_deref()), (503, Some("1")));
        assert_eq!(
            (&body["code"], &body["details"][0]["reason"]),
            (&json!(14), &json!("SERVER_BUSY"))
        );
        assert_eq!(ask(&front, "127.0.0.1", "/metrics").await.0, 200);
        end.add_permits(1);
        assert_eq!(held.await.unwrap(), 200);
        assert_eq!(ask(&front, "127.0.0.1", "/other").await.0, 200);
    }

    #[tokio::test]
    async fn bodies_have_room_in_all_until_they_are_answered() {
        let gate = Gate::new(&Limits::default());
        // As a length that was told, or piece by piece.
        let told = |kib: usize| Request::new(Body::from(vec![0; kib << 10]));
        let untold = |kib: usize| {
            let pieces = (0..kib).map(|_| Ok::<_, Infallible>(vec![0; 1 << 10]));
            Request::new(Body::from_stream(stream::iter(pieces)))
        };
        let length = async |request: Request| {
            to_bytes(request.into_body(), usize::MAX).await.unwrap().len() >> 10
        };
        let (here, there) = ("127.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let mut held = Vec::new();
        for place in 0..15 {
            let peer = if place < 3 { there } else { here };
            held.push(gate.room(peer, told(17 << 10)).await.unwrap().1); // the longest that is read
        }
        let (request, room) = gate.room(there, untold(65)).await.unwrap();
        assert_eq!(length(request).await, 65, "all of it comes to the face");
        let refused = gate.room(there, told(65)).await.err().unwrap();
        assert_eq!(refused.status, 429, "four of one peer");
        assert!(gate.room(there, told(64)).await.is_ok());
        for (request, fits) in
            [(told(64), true), (untold(64), true), (told(65), false), (untold(65), false)]
        {
            match gate.room(here, request).await {
                Ok((request, room)) => {
                    assert!(fits && room.is_none());
                    assert_eq!(length(request).await, 64);
                }
                Err(refusal) => assert_eq!((refusal.status.as_u16(), fits), (503, false)),
            }
        }
        drop(room);
        assert!(gate.room(there, untold(65)).await.is_ok());
        drop(held);
        assert_eq!(gate.room.available_permits(), ROOM);
        assert!(gate.held.lock().is_empty());
    }

    #[tokio::test]
    async fn a_body_in_pieces_comes_whole_and_one_that_breaks_off_does_not() {
        let gate = Gate::new(&Limits::default());
        let broken = || std::io::Error::other("a fault of the test");
        for (pieces, breaks) in [(0, false), (3, false), (70_000, false), (3, true), (70_000, true)]
        {
            let sent = (0..pieces).map(|_| Ok("x")).chain(breaks.then(|| Err(broken())));
            let request = Request::new(Body::from_stream(stream::iter(sent)));
            let (request, _room) = gate.room("::1".parse().unwrap(), request).await.unwrap();
            let body = to_bytes(request.into_body(), usize::MAX).await.ok();
            assert_eq!(body.map(|body| body.len()), (!breaks).then_some(pieces), "{pieces}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_goes_on_keeps_its_place_until_it_ends() {
        let (send, receive) = tokio::sync::mpsc::channel::<&str>(1);
        let receive = Arc::new(Mutex::new(Some(receive)));
        let lines = get(async move || {
            let receive = receive.lock().take().unwrap();
            let pieces = stream::unfold(receive, async |mut receive| {
                receive.recv().await.map(|piece| (Ok::<_, Infallible>(piece), receive))
            });
            Body::from_stream(pieces)
        });
        let routes = Router::new().route("/lines", lines).fallback(async || ());
        let front = before(routes, &one_a_second());
        let request = Request::builder().uri("/lines").body(Body::empty()).unwrap();
        let response = front.answer("127.0.0.1".parse().unwrap(), request).await;
        let mut body = response.into_body().into_data_stream();
        send.send("one").await.unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), "one");
        assert_eq!(ask(&front, "127.0.0.1", "/other").await.0, 503);
        drop(send);
        assert!(body.next().await.is_none());
        drop(body);
        while ask(&front, "127.0.0.1", "/other").await.0 == 503 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn connections_are_counted_by_peer_and_in_all_until_they_close() {
        let connections = Connections::new(&one_a_second());
        let count = |peer: &str| connections.count(peer.parse().unwrap());
        let (first, second) = (count("192.0.2.1"), count("192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(count("192.0.2.1").is_none(), "two of one peer");
        let third = count("192.0.2.2");
        assert!(third.is_some());
        assert!(count("127.0.0.1").is_none(), "three in all");
        drop(first);
        assert!(count("127.0.0.1").is_some());
        drop((second, third));
        assert!(connections.open.lock().is_empty());
    }
}
