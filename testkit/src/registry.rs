//! A container registry in memory, with or without the referrers API, that can be made to misbehave: what it
//! would answer honestly goes through a function of the test's.

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `PUT` and so on.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The header, if there was one.
    pub authorization: Option<String>,
    /// As it was sent.
    pub body: Vec<u8>,
}

impl Request {
    /// Method and path, as one asks for them in tests.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What it is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// By name; lower case.
    pub headers: BTreeMap<String, String>,
    /// As it is sent.
    pub body: Vec<u8>,
}

impl Reply {
    /// A status with a body, and no header.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: BTreeMap::new(), body: body.into() }
    }

    /// The same with a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_owned(), value.into());
        self
    }
}

type Meddler = Box<dyn FnMut(&Request, Reply) -> Reply + Send>;

#[derive(Default)]
struct State {
    /// Type and bytes, by repository and digest.
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    /// Digests, by repository and tag.
    tags: BTreeMap<(String, String), String>,
    blobs: BTreeMap<String, Vec<u8>>,
    requests: Vec<Request>,
}

/// A registry that serves on loopback until the process ends.
#[derive(Clone)]
pub struct Registry {
    /// Host and port.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    meddler: Arc<Mutex<Option<Meddler>>>,
    referrers: bool,
}

impl Registry {
    /// Starts one, with the referrers API or without.
    ///
    /// # Panics
    /// When loopback has no free port.
    #[must_use]
    pub fn start(referrers: bool) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Self { address, state: Arc::default(), meddler: Arc::default(), referrers };
        let served = registry.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Body| {
                    let registry = served.clone();
                    async move {
                        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
                        let authorization = headers.get("authorization");
                        let authorization =
                            authorization.map(|value| value.to_str().unwrap().to_owned());
                        let content_type = headers.get("content-type");
                        let content_type =
                            content_type.map(|value| value.to_str().unwrap().to_owned());
                        let (method, path) = (method.to_string(), uri.to_string());
                        let request = Request { method, path, authorization, body: body.to_vec() };
                        registry.answer(request, content_type.unwrap_or_default())
                    }
                };
                axum::serve(listener, axum::Router::new().fallback(handler)).await.unwrap();
            });
        });
        registry
    }

    /// Lets `meddler` change every answer from now on.
    pub fn meddle(&self, meddler: impl FnMut(&Request, Reply) -> Reply + Send + 'static) {
        *self.meddler.lock().unwrap() = Some(Box::new(meddler));
    }

    /// Answers honestly again.
    pub fn behave(&self) {
        *self.meddler.lock().unwrap() = None;
    }

    /// What was asked since the last time.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    /// Stores a small image under a tag: its digest.
    #[must_use]
    pub fn push_image(&self, repository: &str, tag: &str, text: &str) -> String {
        let mut state = self.state();
        let mut blob = |kind: &str, bytes: &[u8]| {
            let digest = digest(bytes);
            state.blobs.insert(digest.clone(), bytes.to_vec());
            json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
        };
        let config = blob("application/vnd.oci.image.config.v1+json", text.as_bytes());
        let layer = blob("application/vnd.oci.image.layer.v1.tar", text.repeat(10).as_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config,
            "layers": [layer] });
        let manifest = manifest.to_string().into_bytes();
        state.put(repository, tag, kind, manifest)
    }

    /// Stores an index of manifests that are there, under a tag: its digest.
    #[must_use]
    pub fn push_index(&self, repository: &str, tag: &str, digests: &[&str]) -> String {
        let mut state = self.state();
        let manifests: Vec<_> = digests
            .iter()
            .map(|digest| {
                let key = (repository.to_owned(), (*digest).to_owned());
                let (kind, bytes) = &state.manifests[&key];
                json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
            })
            .collect();
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests });
        state.put(repository, tag, kind, index.to_string().into_bytes())
    }

    /// Stores any manifest.
    #[must_use]
    pub fn push_manifest(&self, repository: &str, tag: &str, kind: &str, bytes: &[u8]) -> String {
        self.state().put(repository, tag, kind, bytes.to_vec())
    }

    /// The bytes under a tag or digest.
    #[must_use]
    pub fn manifest(&self, repository: &str, wanted: &str) -> Option<Vec<u8>> {
        self.state().manifest(repository, wanted).map(|(_, _, bytes)| bytes)
    }

    /// What a path would be answered, honestly.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn answer(&self, request: Request, content_type: String) -> Response {
        let honest = {
            let mut state = self.state();
            state.requests.push(request.clone());
            state.honest(&request, content_type, self.referrers)
        };
        let reply = match &mut *self.meddler.lock().unwrap() {
            Some(meddler) => meddler(&request, honest),
            None => honest,
        };
        let mut response = Response::builder().status(StatusCode::from_u16(reply.status).unwrap());
        for (name, value) in &reply.headers {
            response = response.header(name, value);
        }
        let empty = request.method == "HEAD";
        response.body(if empty { Body::empty() } else { Body::from(reply.body) }).unwrap()
    }
}

impl State {
    fn put(&mut self, repository: &str, wanted: &str, kind: &str, bytes: Vec<u8>) -> String {
        let digest = digest(&bytes);
        let key = (repository.to_owned(), digest.clone());
        self.manifests.insert(key, (kind.to_owned(), bytes));
        if !wanted.contains(':') {
            self.tags.insert((repository.to_owned(), wanted.to_owned()), digest.clone());
        }
        digest
    }

    fn manifest(&self, repository: &str, wanted: &str) -> Option<(String, String, Vec<u8>)> {
        let tag = (repository.to_owned(), wanted.to_owned());
        let digest = self.tags.get(&tag).cloned().unwrap_or_else(|| wanted.to_owned());
        let (kind, bytes) = self.manifests.get(&(tag.0, digest.clone()))?;
        Some((digest, kind.clone(), bytes.clone()))
    }

    fn honest(&mut self, request: &Request, content_type: String, referrers: bool) -> Reply {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let query: BTreeMap<_, _> =
            query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let missing =
            || Reply::new(404, r#"{"errors":[{"code":"NOT_FOUND","message":"unknown"}]}"#);
        let Some(rest) = path.strip_prefix("/v2/") else { return missing() };
        let method = request.method.as_str();
        if let Some((repository, wanted)) = rest.split_once("/manifests/") {
            return match method {
                "PUT" => {
                    let body = request.body.clone();
                    let read: Value = serde_json::from_slice(&body).unwrap_or_default();
                    let digest = self.put(repository, wanted, &content_type, body);
                    let reply = Reply::new(201, "").with("docker-content-digest", digest);
                    match read.pointer("/subject/digest").and_then(Value::as_str) {
                        Some(subject) if referrers => reply.with("oci-subject", subject),
                        _ => reply,
                    }
                }
                "DELETE" => {
                    let Some((digest, ..)) = self.manifest(repository, wanted) else {
                        return missing();
                    };
                    self.manifests.remove(&(repository.to_owned(), digest.clone()));
                    self.tags.retain(|_, other| *other != digest);
                    Reply::new(202, "")
                }
                _ => match self.manifest(repository, wanted) {
                    Some((digest, kind, bytes)) => Reply::new(200, bytes)
                        .with("content-type", kind)
                        .with("docker-content-digest", digest),
                    None => missing(),
                },
            };
        }
        if let Some((repository, subject)) = rest.split_once("/referrers/") {
            if !referrers {
                return Reply::new(404, "404 page not found\n");
            }
            let manifests: Vec<_> = self
                .manifests
                .iter()
                .filter(|((of, _), _)| of == repository)
                .filter_map(|((_, digest), (kind, bytes))| {
                    let read: Value = serde_json::from_slice(bytes).ok()?;
                    (read.pointer("/subject/digest")?.as_str()? == subject).then(|| {
                        json!({ "mediaType": kind, "digest": digest, "size": bytes.len(),
                            "artifactType": read["artifactType"], "annotations": read["annotations"] })
                    })
                })
                .collect();
            let kind = "application/vnd.oci.image.index.v1+json";
            let list = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests });
            return Reply::new(200, list.to_string()).with("content-type", kind);
        }
        if rest.contains("/blobs/uploads/") {
            return match (method, query.get("digest")) {
                ("PUT", Some(said)) => {
                    let said = said.replace("%3A", ":");
                    if digest(&request.body) != said {
                        return Reply::new(400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                    }
                    self.blobs.insert(said, request.body.clone());
                    Reply::new(201, "")
                }
                ("POST", _) if query.contains_key("mount") => {
                    let there = self.blobs.contains_key(&query["mount"].replace("%3A", ":"));
                    Reply::new(if there { 201 } else { 202 }, "").with("location", path)
                }
                _ => Reply::new(202, "").with("location", format!("{path}session?state=a%2Fb")),
            };
        }
        match rest.split_once("/blobs/").and_then(|(_, digest)| self.blobs.get(digest)) {
            Some(bytes) => Reply::new(200, bytes.clone()),
            None => missing(),
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
