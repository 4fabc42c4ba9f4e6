//! What is known of each request: its ID, in its reply, in errors and in the log; and how it ended, in
//! the metrics.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use metrics::{counter, histogram};
use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument as _;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest ID that is taken over from the client or the server in front, in bytes: Fulcio's.
const MAX_ID: usize = 128;

/// The ID of a request, among its extensions and in its header.
#[derive(Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

/// Gives the request its ID, writes one line about it, and counts it.
pub(super) async fn identify(mut request: Request, next: Next) -> Response {
    let (id, header) = id(&request);
    request.headers_mut().insert(HEADER, header.clone());
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let method = request.method().clone();
    // Neither query nor headers: tokens stand there. At the level of errors, so that they have it.
    let span = tracing::error_span!("request", id = &*id, %method, path = request.uri().path());
    let started = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, duration) = (response.status(), started.elapsed());
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| match status.is_server_error() {
        true => tracing::warn!(status = status.as_u16(), duration_ms, "failed"),
        false => tracing::info!(status = status.as_u16(), duration_ms, "answered"),
    });
    let route = response.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let route = ("route", route.to_owned());
    let (method, status) =
        (("method", method.to_string()), ("status", status.as_u16().to_string()));
    counter!("countersign_http_requests_total", &[method, route.clone(), status]).increment(1);
    histogram!("countersign_http_request_seconds", &[route]).record(duration);
    response.headers_mut().insert(HEADER, header);
    response
}

/// Has the reply carry the path as the route has it, for the metrics: the paths of tiles and entries would
/// make a series each.
pub(crate) async fn route(matched: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(matched) = matched {
        response.extensions_mut().insert(matched);
    }
    response
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
    let mut random = [0; 16];
    // An ID that repeats does no harm.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let id = countersign_verify::encoding::hex(&random);
    let header = HeaderValue::from_str(&id).expect("hexadecimal digits");
    (id.into(), header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use tower_service::Service as _;

    #[tokio::test]
    async fn an_id_that_is_fit_to_be_repeated_is_kept_and_others_are_replaced() {
        let echo =
            async |request: Request| request.headers()[HEADER].clone().to_str().unwrap().to_owned();
        let router = Router::new().fallback(echo).layer(from_fn(identify));
        for (sent, kept) in [
            ("f3a1-2", true),
            (&"x".repeat(128), true),
            (&"x".repeat(129), false),
            ("two words", false),
            ("", false),
        ] {
            let request = Request::builder().header(HEADER, sent).body(Body::empty()).unwrap();
            let response = router.clone().call(request).await.unwrap();
            let header = response.headers()[HEADER].to_str().unwrap().to_owned();
            assert_eq!(header == sent, kept, "{sent:?}");
            assert!(kept || header.len() == 32, "{header}");
            let seen = axum::body::to_bytes(response.into_body(), 1 << 10).await.unwrap();
            assert_eq!(seen, header, "the handler and the client see one ID");
        }
    }
}
