//! HTTP as this client uses it: bounded in time and size, never redirected.
//!
//! A redirect could carry a token to another host, so none is followed. Roots of TLS are loaded only
//! when a URL needs them: they cost more than all the rest of a signature on a local instance.

use crate::retry::{self, Patience, Retryable};
use std::time::{Duration, Instant};
use url::Url;

/// Largest reply that is read, in bytes: a log entry with its proof is below 256 KiB.
const MAX_REPLY: usize = 1 << 20;

/// Longest wait for one reply. A log answers only when a checkpoint covers the entry; cosign allows 90 s.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The least time for an attempt, however little of the budget is left.
const LEAST: Duration = Duration::from_secs(1);

/// A client for a set of services.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    /// By when all requests must be done; without, each has the whole budget for itself.
    deadline: Option<Instant>,
    /// For one request and its repeats, where there is no deadline for all.
    budget: Duration,
    insist: bool,
    waiting: fn(&Error),
}

/// A reply of whatever status.
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: reqwest::header::HeaderMap,
    /// Read whole, unless it was left in `rest`.
    pub(crate) body: Vec<u8>,
    pub(crate) rest: Option<reqwest::Response>,
}

impl Reply {
    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The values of a header that may come several times.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// What an unsuccessful reply says went wrong, on one line; empty when it says nothing.
    pub(crate) fn message(&self) -> String {
        message(&self.body)
    }

    /// The reply if its status is a success, else the error that it stands for.
    pub(crate) fn success(self, url: &Url) -> Result<Self, Error> {
        let retry_after = self.header("retry-after").and_then(|value| value.parse().ok());
        let location = self.header("location").map(str::to_owned);
        match self.status {
            200..=299 => Ok(self),
            status => Err(Error::Status {
                url: url.to_string(),
                status,
                message: self.message(),
                retry_after: retry_after.map(Duration::from_secs),
                location,
            }),
        }
    }
}

/// How a reply's body is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    /// Whole, if it has at most so many bytes.
    Whole(usize),
    /// Not at all: the caller does, piece by piece.
    Later,
}

impl Http {
    /// A client that will be used for `urls`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new<'a>(urls: impl IntoIterator<Item = &'a Url>) -> Result<Self, Error> {
        let builder = builder();
        let plain = urls.into_iter().all(|url| url.scheme() == "http");
        let builder = if plain { builder.tls_certs_only([]).no_proxy() } else { builder };
        Self::build(if plain { builder.tls_certs_only([]).no_proxy() } else { builder })
    }

    /// The same, which trusts these authorities beside the system's: PEM, one or more certificates.
    ///
    /// # Errors
    /// When that is not PEM, or TLS cannot be set up.
    pub fn with_authorities(pem: &[u8]) -> Result<Self, Error> {
        let setup = |error: reqwest::Error| Error::Setup { reason: chain(&error) };
        let authorities = reqwest::Certificate::from_pem_bundle(pem).map_err(setup)?;
        Self::build(builder().tls_certs_merge(authorities))
    }

    fn build(builder: reqwest::ClientBuilder) -> Result<Self, Error> {
        let client = builder.build().map_err(|error| Error::Setup { reason: chain(&error) })?;
        let (budget, waiting) = (retry::BUDGET, |_: &Error| {});
        Ok(Self { client, deadline: None, budget, insist: false, waiting })
    }

    /// The same with one budget of time for all requests from now on and their repeats. Each still
    /// has one attempt of a second when it is spent. `waiting` is told of each error that is waited for.
    #[must_use]
    pub fn within(self, budget: Duration, waiting: fn(&Error)) -> Self {
        Self { deadline: Some(Instant::now() + budget), waiting, ..self }
    }

    /// The same with a budget of time for each request and its repeats, however many there will be.
    #[must_use]
    pub fn each_within(self, budget: Duration, waiting: fn(&Error)) -> Self {
        Self { budget, waiting, ..self }
    }

    /// The same, that also waits for services which do not answer at all, see [`Patience::insist`].
    #[must_use]
    pub fn insisting(&self) -> Self {
        Self { insist: true, ..self.clone() }
    }

    /// Fetches `url`.
    ///
    /// # Errors
    /// When there is no reply, it is too large, or its status is not a success.
    pub async fn get(&self, url: &Url) -> Result<Vec<u8>, Error> {
        self.send(|| self.client.get(url.clone()), url).await
    }

    /// Fetches `url`, which may be as large as `limit` bytes: bundles of log entries are.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_at_most(&self, url: &Url, limit: usize) -> Result<Vec<u8>, Error> {
        self.send_for(|| self.client.get(url.clone()), url, limit).await
    }

    /// Fetches `url` with one header more.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_with_header(
        &self,
        url: &Url,
        (name, value): (&str, &str),
    ) -> Result<Vec<u8>, Error> {
        self.send(|| self.client.get(url.clone()).header(name, value), url).await
    }

    /// Fetches `url` without a second attempt, for questions of health.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn once(&self, url: &Url) -> Result<Vec<u8>, Error> {
        attempt(self.client.get(url.clone()), url, MAX_REPLY).await
    }

    /// Fetches `url`, at most `limit` bytes of it, without a second attempt; none when there is nothing
    /// (404, or 403 as object stores say it).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn bounded(&self, url: &Url, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        match attempt(self.client.get(url.clone()), url, limit).await {
            Ok(body) => Ok(Some(body)),
            Err(Error::Status { status: 403 | 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Posts `body`, with a bearer token if there is one. Repeated when the service was busy or away:
    /// a log answers a repeat with the first entry, certificate and timestamp authorities answer afresh.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post(
        &self,
        url: &Url,
        content_type: &str,
        body: &[u8],
        token: Option<&str>,
    ) -> Result<Vec<u8>, Error> {
        let request = || {
            let request = self.client.post(url.clone()).header("content-type", content_type);
            let request = request.body(body.to_vec());
            match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            }
        };
        self.send(request, url).await
    }

    /// Posts JSON with one header more.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post_with_header(
        &self,
        url: &Url,
        (name, value): (&str, &str),
        json: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let request = || {
            let request = self.client.post(url.clone()).header("content-type", "application/json");
            request.header(name, value).body(json.to_vec())
        };
        self.send(request, url).await
    }

    async fn send(
        &self,
        request: impl Fn() -> reqwest::RequestBuilder,
        url: &Url,
    ) -> Result<Vec<u8>, Error> {
        self.send_for(request, url, MAX_REPLY).await
    }

    async fn send_for(
        &self,
        request: impl Fn() -> reqwest::RequestBuilder,
        url: &Url,
        limit: usize,
    ) -> Result<Vec<u8>, Error> {
        let request = |_: &reqwest::Client| request();
        let reply = self.exchange(request, url, Read::Whole(limit), Duration::ZERO).await?;
        Ok(reply.success(url)?.body)
    }

    /// Sends a request until its reply is one that no repeat could better, whatever its status. `longer` is
    /// added to the longest wait, for bodies that are large.
    pub(crate) async fn exchange(
        &self,
        request: impl Fn(&reqwest::Client) -> reqwest::RequestBuilder,
        url: &Url,
        how: Read,
        longer: Duration,
    ) -> Result<Reply, Error> {
        let deadline = self.deadline.unwrap_or_else(|| Instant::now() + self.budget);
        let patience = Patience { deadline, insist: self.insist };
        let once = async || {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = left.clamp(LEAST, TIMEOUT) + longer;
            let reply = read(request(&self.client).timeout(timeout), url, how).await?;
            if is_passing(reply.status) { reply.success(url) } else { Ok(reply) }
        };
        retry::repeat(patience, self.waiting, once).await
    }
}

/// Statuses by which a service says that the same request may succeed later.
const fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .connect_timeout(Duration::from_secs(10))
        .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
}

async fn attempt(
    request: reqwest::RequestBuilder,
    url: &Url,
    limit: usize,
) -> Result<Vec<u8>, Error> {
    Ok(read(request, url, Read::Whole(limit)).await?.success(url)?.body)
}

async fn read(request: reqwest::RequestBuilder, url: &Url, how: Read) -> Result<Reply, Error> {
    let response = request.send().await.map_err(|error| unreachable(url, error))?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let limit = match how {
        Read::Whole(limit) => limit,
        Read::Later if (200..=299).contains(&status) => {
            return Ok(Reply { status, headers, body: Vec::new(), rest: Some(response) });
        }
        Read::Later => MAX_REPLY,
    };
    let body = read_whole(response, url, limit).await?;
    Ok(Reply { status, headers, body, rest: None })
}

/// The body, at most `limit` bytes of it.
async fn read_whole(
    mut response: reqwest::Response,
    url: &Url,
    limit: usize,
) -> Result<Vec<u8>, Error> {
    // What is announced is believed up to a point, so that a large body is not moved while it grows.
    let announced = usize::try_from(response.content_length().unwrap_or_default());
    let mut body = Vec::with_capacity(announced.unwrap_or(limit).min(limit));
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(url, error))? {
        if body.len() + chunk.len() > limit {
            return Err(Error::TooLong { url: url.to_string(), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Whether a URL is of this machine, so that what is said over plain HTTP does not leave it: a loopback address, or
/// `localhost`. Of names below that, resolvers think differently.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

pub(crate) fn unreachable(url: &Url, error: reqwest::Error) -> Error {
    let (url, reason) = (url.to_string(), chain(&error.without_url()));
    // As rustls says it, behind what was tried.
    match reason.split_once("invalid peer certificate: ") {
        Some((_, wrong)) => Error::Certificate { url, reason: plain(wrong) },
        None => Error::Unreachable { url, reason },
    }
}

/// What is wrong with a server's TLS certificate, for people.
fn plain(wrong: &str) -> String {
    let known = if wrong.starts_with("UnknownIssuer") {
        "it is by no authority that this system trusts; SSL_CERT_FILE can name a file with the authority's certificate"
    } else if wrong.contains("CaUsedAsEndEntity") {
        "it is an authority's own certificate; expected one for a server"
    } else {
        wrong
    };
    known.to_owned()
}

/// What the service says went wrong: `message` of the error body all Sigstore services use, with our
/// own `next` step where there is one, or that of a registry's first error; else the beginning of the text.
fn message(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let text = |pointer| json.as_ref().and_then(|json| json.pointer(pointer)?.as_str());
    let message = match (text("/message").or(text("/errors/0/message")), text("/details/0/next")) {
        (Some(message), Some(next)) => format!("{message} ({next})"),
        (Some(message), None) => message.to_owned(),
        (None, _) => String::from_utf8_lossy(body).chars().take(300).collect(),
    };
    // On one line: what begins a line in the log of a job may be a command to whatever runs it.
    message.chars().take(1000).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Why there is no good reply.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client could not be made.
    #[error("TLS cannot be set up: {reason}")]
    Setup {
        /// What failed.
        reason: String,
    },
    /// No connection, no reply, or not in time.
    #[error("{url} did not answer: {reason}")]
    Unreachable {
        /// The service.
        url: String,
        /// What failed.
        reason: String,
    },
    /// TLS: who answers does not prove to be the service. It would not the next moment, either.
    #[error("{url} shows a TLS certificate that is not accepted: {reason}")]
    Certificate {
        /// The service.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The service said no.
    #[error("{url} answered {status}: {message}")]
    Status {
        /// The service.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it says.
        message: String,
        /// When to try again.
        retry_after: Option<Duration>,
        /// Where the answer is instead; never followed by itself.
        location: Option<String>,
    },
    /// A reply above the limit.
    #[error("{url} answered with more than {limit} bytes")]
    TooLong {
        /// The service.
        url: String,
        /// Bytes allowed.
        limit: usize,
    },
}

impl Error {
    /// Whether the service read the request and refused it for good.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { status: status @ 400..=499, .. } if !is_passing(*status))
    }
}

impl Retryable for Error {
    fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => is_passing(*status),
            Self::Setup { .. } | Self::TooLong { .. } | Self::Certificate { .. } => false,
        }
    }

    fn busy(&self) -> bool {
        matches!(self, Self::Status { status: 429 | 503, .. })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_is_one_line_and_bounded() {
        for body in [&b"{\"message\":\"no\\n::error::x\"}"[..], b"no\n::error::x"] {
            assert_eq!(message(body), "no ::error::x");
        }
        let long = format!("{{\"message\":\"{}\"}}", "x".repeat(5000));
        assert_eq!(message(long.as_bytes()).len(), 1000);
    }
}
