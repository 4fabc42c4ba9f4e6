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
    insist: bool,
    waiting: fn(&Error),
}

/// A reply that was read whole.
struct Reply {
    status: u16,
    body: Vec<u8>,
    retry_after: Option<Duration>,
    location: Option<String>,
}

impl Http {
    /// A client that will be used for `urls`.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new<'a>(urls: impl IntoIterator<Item = &'a Url>) -> Result<Self, Error> {
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(10))
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")));
        let plain = urls.into_iter().all(|url| url.scheme() == "http");
        let builder = if plain { builder.tls_certs_only([]).no_proxy() } else { builder };
        let client = builder.build().map_err(|error| Error::Setup { reason: chain(&error) })?;
        Ok(Self { client, deadline: None, insist: false, waiting: |_| {} })
    }

    /// The same with one budget of time for all requests from now on and their repeats. Each still
    /// has one attempt of a second when it is spent. `waiting` is told of each error that is waited for.
    #[must_use]
    pub fn within(self, budget: Duration, waiting: fn(&Error)) -> Self {
        Self { deadline: Some(Instant::now() + budget), waiting, ..self }
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

    /// Fetches `url` with a bearer token.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_with_token(&self, url: &Url, token: &str) -> Result<Vec<u8>, Error> {
        self.send(|| self.client.get(url.clone()).bearer_auth(token), url).await
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
        let deadline = self.deadline.unwrap_or_else(|| Instant::now() + retry::BUDGET);
        let patience = Patience { deadline, insist: self.insist };
        let once = || {
            let left = deadline.saturating_duration_since(Instant::now());
            attempt(request().timeout(left.clamp(LEAST, TIMEOUT)), url, limit)
        };
        retry::repeat(patience, self.waiting, once).await
    }
}

async fn attempt(
    request: reqwest::RequestBuilder,
    url: &Url,
    limit: usize,
) -> Result<Vec<u8>, Error> {
    let reply = read(request, url, limit).await?;
    match reply.status {
        200..=299 => Ok(reply.body),
        status => Err(Error::Status {
            url: url.to_string(),
            status,
            message: message(&reply.body),
            retry_after: reply.retry_after,
            location: reply.location,
        }),
    }
}

async fn read(request: reqwest::RequestBuilder, url: &Url, limit: usize) -> Result<Reply, Error> {
    let unreachable = |error: reqwest::Error| Error::Unreachable {
        url: url.to_string(),
        reason: chain(&error.without_url()),
    };
    let mut response = request.send().await.map_err(unreachable)?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after");
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    let location = response.headers().get("location");
    let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > limit {
            return Err(Error::TooLong { url: url.to_string(), limit });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status, body, retry_after: retry_after.map(Duration::from_secs), location })
}

/// What the service says went wrong: `message` of the error body all Sigstore services use, with our
/// own `next` step where there is one; else the beginning of the text.
fn message(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let text = |pointer| json.as_ref().and_then(|json| json.pointer(pointer)?.as_str());
    match (text("/message"), text("/details/0/next")) {
        (Some(message), Some(next)) => format!("{message} ({next})"),
        (Some(message), None) => message.to_owned(),
        (None, _) => String::from_utf8_lossy(body).chars().take(300).collect(),
    }
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
        matches!(self, Self::Status { status: 400..=428 | 430..=499, .. })
    }
}

impl Retryable for Error {
    fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => matches!(status, 429 | 500 | 502 | 503 | 504),
            Self::Setup { .. } | Self::TooLong { .. } => false,
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
