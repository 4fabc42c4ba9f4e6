//! A registry: the calls of the distribution specification that are needed here.
//!
//! Plain HTTP is spoken to loopback only, unless told otherwise. Credentials are looked for when the
//! registry demands them, and sent to its own origin and the token server that it names; a redirect of a
//! download is followed without them, and never from TLS to plain HTTP.

mod send;

use super::credentials::Credential;
use super::manifest::{Descriptor, MAX_MANIFEST, Stored};
use super::mirror::Mirrors;
use super::reference::{Digest, Reference};
use super::{Error, attach::MAX_REFERRERS, media_type};
use crate::http::{self, Http, Read, Reply, is_loopback};
use crate::retry::{self, Retryable as _};
use base64::Engine as _;
use reqwest::Method;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// Before a manifest is sent again of which a registry says that it is not what its digest says; doubled
/// each time, six times.
const RETAKE_PAUSE: Duration = Duration::from_millis(20);

/// Redirects of one download that are followed.
const MAX_REDIRECTS: usize = 5;
/// Pages of one list that are read.
const MAX_PAGES: usize = 100;
/// The slowest line that a large body is waited for on, in bytes a second.
const SLOWEST: u64 = 256 << 10;

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct Options {
    /// For the one registry that the command is about; without, the files of Docker and Podman.
    pub credential: Option<Credential>,
    /// Plain HTTP beyond loopback, too.
    pub plain_http: bool,
    /// Authorities to trust beside the system's, PEM.
    pub authorities: Option<Vec<u8>>,
    /// Where content is read from first.
    pub mirrors: Mirrors,
    /// For each request and its repeats: how many there are depends on the image.
    pub budget: Duration,
    /// Told of each failure that is waited for.
    pub waiting: fn(&http::Error),
}

impl Default for Options {
    fn default() -> Self {
        let budget = retry::BUDGET;
        Self {
            credential: None,
            plain_http: false,
            authorities: None,
            mirrors: Mirrors::default(),
            budget,
            waiting: |_| {},
        }
    }
}

/// The registries of one command, each with one client and its tokens.
#[derive(Debug)]
pub struct Registries {
    options: Options,
    each: Mutex<BTreeMap<String, Arc<Registry>>>,
    /// The same registry may be a mirror, too, which is asked in another way.
    mirrors: Mutex<BTreeMap<String, Arc<Registry>>>,
}

impl Registries {
    /// None is spoken to yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, each: Mutex::default(), mirrors: Mutex::default() }
    }

    /// The repository that `reference` names.
    ///
    /// # Errors
    /// When TLS cannot be set up, or the one credential given would go to a second registry.
    pub fn repository(&self, reference: &Reference) -> Result<Repository, Error> {
        let name = reference.registry();
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = match each.get(name) {
            Some(registry) => Arc::clone(registry),
            None if self.options.credential.is_some() && !each.is_empty() => {
                let reason = "the ones given are for one registry, and this is another; keep them in Docker's configuration (`docker login`)";
                let (registry, reason) = (name.to_owned(), reason.to_owned());
                return Err(Error::Credentials { registry, reason });
            }
            None => {
                let registry = Arc::new(Registry::new(name, &self.options)?);
                each.insert(name.to_owned(), Arc::clone(&registry));
                registry
            }
        };
        let mirror = self.options.mirrors.of(reference);
        let mirror = mirror.map(|mirror| self.mirror(&mirror)).transpose()?;
        Ok(Repository { registry, name: reference.repository().to_owned(), mirror })
    }

    /// It is asked once, and shown what Docker's files have for it: credentials that were given are for
    /// the registry.
    fn mirror(&self, reference: &Reference) -> Result<Box<Repository>, Error> {
        let name = reference.registry();
        let mut mirrors = self.mirrors.lock().unwrap_or_else(PoisonError::into_inner);
        if !mirrors.contains_key(name) {
            let (credential, budget) = (None, Duration::ZERO);
            let options = Options { credential, budget, ..self.options.clone() };
            let registry = Arc::new(Registry::new(name, &options)?);
            mirrors.insert(name.to_owned(), registry);
        }
        let (registry, name) = (Arc::clone(&mirrors[name]), reference.repository().to_owned());
        Ok(Box::new(Repository { registry, name, mirror: None }))
    }
}

#[derive(Debug)]
struct Registry {
    name: String,
    base: Url,
    http: Http,
    credential: Option<Credential>,
    /// The value of `Authorization`, by repository.
    authorizations: tokio::sync::Mutex<BTreeMap<String, Zeroizing<String>>>,
    /// Whether it has the referrers API, once it was asked.
    lists: tokio::sync::OnceCell<bool>,
    /// Of a mirror: it did not answer, and is left alone.
    away: AtomicBool,
}

impl Registry {
    fn new(name: &str, options: &Options) -> Result<Self, Error> {
        let reference = |_| Error::Reference {
            found: name.to_owned(),
            expected: "a registry such as registry.example.com:5000",
        };
        let loopback = is_local(&Url::parse(&format!("http://{name}/")).map_err(reference)?);
        let plain = options.plain_http || loopback && options.authorities.is_none();
        let scheme = if plain { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{name}/")).map_err(reference)?;
        let http = match &options.authorities {
            Some(pem) => Http::with_authorities(pem)?,
            None => Http::new([&base])?,
        };
        Ok(Self {
            name: name.to_owned(),
            base,
            http: http.each_within(options.budget, options.waiting),
            credential: options.credential.clone(),
            authorizations: tokio::sync::Mutex::default(),
            lists: tokio::sync::OnceCell::new(),
            away: AtomicBool::new(false),
        })
    }
}

/// Whether a registry is on this machine, by names such as `registry.localhost`, too, which clusters for development
/// give theirs.
fn is_local(url: &Url) -> bool {
    is_loopback(url) || url.domain().is_some_and(|name| name.ends_with(".localhost"))
}

/// A repository of a registry.
#[derive(Clone, Debug)]
pub struct Repository {
    registry: Arc<Registry>,
    name: String,
    mirror: Option<Box<Self>>,
}

/// A request, which can be made again.
struct Call<'a> {
    method: Method,
    url: Url,
    headers: Vec<(&'static str, String)>,
    body: Option<&'a (dyn Fn() -> reqwest::Body + Sync)>,
    read: Read,
    /// Bytes of a large body either way: they take their time.
    size: u64,
}

/// What a registry says of a manifest that it took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Taken {
    /// It says that it lists the manifest as a referrer of its subject.
    pub(super) listed: bool,
}

impl Repository {
    /// Host, and port if there is one.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry.name
    }

    /// The name within the registry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether both are of one registry.
    pub(super) fn beside(&self, other: &Self) -> bool {
        self.registry.name == other.registry.name
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.registry.base.clone();
        url.set_path(&format!("/v2/{}/{path}", self.name));
        url
    }

    fn call(&self, method: Method, path: &str) -> Call<'static> {
        let (headers, read) = (Vec::new(), Read::Whole(MAX_MANIFEST));
        Call { method, url: self.url(path), headers, body: None, read, size: 0 }
    }

    /// What a manifest is called in errors.
    fn titled(&self, wanted: &str) -> String {
        let mark = if wanted.contains(':') { '@' } else { ':' };
        format!("{}/{}{mark}{wanted}", self.registry.name, self.name)
    }

    /// The manifest under a tag; its digest is computed, and must be the one that the registry says.
    ///
    /// # Errors
    /// When there is none, it is no manifest, or the registry does not answer.
    pub async fn tagged(&self, tag: &str) -> Result<Stored, Error> {
        let (stored, said) = self.fetch(tag).await?;
        match said {
            Some(said) if !said.matches(&stored.bytes) => {
                Err(Error::Digest { what: self.titled(tag), expected: said })
            }
            _ => Ok(stored),
        }
    }

    /// The manifest with a digest.
    ///
    /// # Errors
    /// As [`tagged`](Self::tagged), and when the bytes have another digest.
    pub async fn manifest(&self, digest: &Digest) -> Result<Stored, Error> {
        if let Some(mirror) = self.mirror()
            && let Some(stored) = mirror.answer(mirror.own_manifest(digest).await)
        {
            return Ok(stored);
        }
        self.own_manifest(digest).await
    }

    /// The mirror, if there is one that answers.
    fn mirror(&self) -> Option<&Self> {
        self.mirror.as_deref().filter(|mirror| !mirror.registry.away.load(Ordering::Relaxed))
    }

    /// What a mirror answered, if that is of use.
    fn answer<T>(&self, answer: Result<T, Error>) -> Option<T> {
        if matches!(&answer, Err(Error::Http(error)) if error.retryable()) {
            self.registry.away.store(true, Ordering::Relaxed);
        }
        answer.ok()
    }

    async fn own_manifest(&self, digest: &Digest) -> Result<Stored, Error> {
        let (mut stored, _) = self.fetch(digest.as_str()).await?;
        if !digest.matches(&stored.bytes) {
            let (what, expected) = (self.titled(digest.as_str()), digest.clone());
            return Err(Error::Digest { what, expected });
        }
        stored.descriptor.digest = digest.clone();
        Ok(stored)
    }

    /// What `reference` means: the digest if it has one, else whatever is under the tag now.
    ///
    /// # Errors
    /// As [`tagged`](Self::tagged).
    pub async fn resolve(&self, reference: &Reference) -> Result<Stored, Error> {
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => self.manifest(digest).await,
            (None, tag) => self.tagged(tag.unwrap_or("latest")).await,
        }
    }

    async fn fetch(&self, wanted: &str) -> Result<(Stored, Option<Digest>), Error> {
        use media_type::{DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST};
        let accept = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX].join(", ");
        let mut call = self.call(Method::GET, &format!("manifests/{wanted}"));
        call.headers.push(("accept", accept));
        let what = self.titled(wanted);
        let reply = self.found(&call, &what).await?;
        let said = reply.header("docker-content-digest").and_then(Digest::parse);
        let declared = reply.header("content-type").map(str::to_owned);
        Ok((Stored::new(&what, reply.body, declared.as_deref())?, said))
    }

    /// Stores a manifest, under a tag or under its digest.
    pub(super) async fn put_manifest(
        &self,
        wanted: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Taken, Error> {
        let body = || reqwest::Body::from(bytes.to_vec());
        let mut call = self.call(Method::PUT, &format!("manifests/{wanted}"));
        call.headers.push(("content-type", media_type.to_owned()));
        call.body = Some(&body);
        let mut pause = RETAKE_PAUSE;
        loop {
            match self.found(&call, &self.titled(wanted)).await {
                // The digest is ours, of these very bytes. docker-registry says so, too, while another
                // client stores a blob that both manifests name, as all referrers name `{}`.
                Err(Error::Http(http::Error::Status { status: 400, message, .. }))
                    if message.contains("digest did not match") && pause <= RETAKE_PAUSE * 32 =>
                {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                reply => {
                    let listed = reply?.header("oci-subject").is_some();
                    return Ok(Taken { listed });
                }
            }
        }
    }

    /// Deletes a manifest, or what a tag names.
    ///
    /// # Errors
    /// When there is none, or the registry deletes nothing.
    pub async fn delete(&self, wanted: &str) -> Result<(), Error> {
        let call = self.call(Method::DELETE, &format!("manifests/{wanted}"));
        self.found(&call, &self.titled(wanted)).await.map(drop)
    }

    /// The bytes that a descriptor leads to, at most `limit` of them.
    ///
    /// # Errors
    /// When there are none, or they have not the descriptor's digest and size.
    pub async fn blob(&self, descriptor: &Descriptor, limit: usize) -> Result<Vec<u8>, Error> {
        let Descriptor { digest, size, .. } = descriptor;
        let what = self.titled(digest.as_str());
        if *size > limit as u64 {
            return Err(Error::TooLarge { what, limit, found: *size });
        }
        if let Some(data) = embedded(descriptor) {
            return Ok(data);
        }
        if let Some(mirror) = self.mirror()
            && let Some(bytes) = mirror.answer(mirror.own_blob(descriptor, limit).await)
        {
            return Ok(bytes);
        }
        self.own_blob(descriptor, limit).await
    }

    async fn own_blob(&self, descriptor: &Descriptor, limit: usize) -> Result<Vec<u8>, Error> {
        let Descriptor { digest, size, .. } = descriptor;
        let what = self.titled(digest.as_str());
        let mut call = self.call(Method::GET, &format!("blobs/{digest}"));
        let announced = usize::try_from(*size).unwrap_or(limit);
        call.read = Read::Whole(announced);
        call.size = *size;
        let bytes = match self.found(&call, &what).await {
            Ok(reply) => reply.body,
            Err(Error::Http(http::Error::TooLong { .. })) => {
                return Err(Error::Size { what, expected: *size, found: size + 1 });
            }
            Err(error) => return Err(error),
        };
        if bytes.len() as u64 != *size {
            return Err(Error::Size { what, expected: *size, found: bytes.len() as u64 });
        }
        match digest.matches(&bytes) {
            true => Ok(bytes),
            false => Err(Error::Digest { what, expected: digest.clone() }),
        }
    }

    /// The same, piece by piece and not checked: the caller does while it passes them on. So if a mirror's are
    /// wrong, the registry's are not tried.
    pub(super) async fn open_blob(&self, descriptor: &Descriptor) -> Result<Reply, Error> {
        if let Some(mirror) = self.mirror()
            && let Some(reply) = mirror.answer(mirror.open_own_blob(descriptor).await)
        {
            return Ok(reply);
        }
        self.open_own_blob(descriptor).await
    }

    async fn open_own_blob(&self, descriptor: &Descriptor) -> Result<Reply, Error> {
        let mut call = self.call(Method::GET, &format!("blobs/{}", descriptor.digest));
        call.read = Read::Later;
        call.size = descriptor.size;
        self.found(&call, &self.titled(descriptor.digest.as_str())).await
    }

    /// Whether a blob is there.
    pub(super) async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let call = self.call(Method::HEAD, &format!("blobs/{digest}"));
        match self.found(&call, &self.titled(digest.as_str())).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stores a blob; `body` makes its bytes, each time anew.
    pub(super) async fn put_blob(
        &self,
        descriptor: &Descriptor,
        body: &(dyn Fn() -> reqwest::Body + Sync),
    ) -> Result<(), Error> {
        self.upload(&self.call(Method::POST, "blobs/uploads/"), descriptor, body).await
    }

    /// Has a blob of another repository of this registry stored here, too. `false` when the registry will
    /// not; then it must be uploaded.
    pub(super) async fn mount(&self, digest: &Digest, from: &Self) -> Result<bool, Error> {
        let mut call = self.call(Method::POST, "blobs/uploads/");
        let mut query = call.url.query_pairs_mut();
        query.append_pair("mount", digest.as_str()).append_pair("from", &from.name);
        drop(query);
        match self.send(&call).await {
            Ok(reply) => Ok(reply.status == 201),
            Err(Error::Denied { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn upload(
        &self,
        begin: &Call<'_>,
        descriptor: &Descriptor,
        body: &(dyn Fn() -> reqwest::Body + Sync),
    ) -> Result<(), Error> {
        let what = self.titled(descriptor.digest.as_str());
        let reply = self.found(begin, &what).await?;
        let expected = "where to upload a blob to";
        let malformed = || Error::Reply { url: begin.url.to_string(), expected };
        let location = reply.header("location").ok_or_else(malformed)?;
        let mut url = begin.url.join(location).map_err(|_| malformed())?;
        self.check_downgrade(&begin.url, &url)?;
        url.query_pairs_mut().append_pair("digest", descriptor.digest.as_str());
        let headers = vec![
            ("content-type", "application/octet-stream".to_owned()),
            ("content-length", descriptor.size.to_string()),
        ];
        let (method, read) = (Method::PUT, Read::Whole(MAX_MANIFEST));
        let size = descriptor.size;
        let call = Call { method, url, headers, body: Some(body), read, size };
        self.found(&call, &what).await.map(drop)
    }

    /// What the referrers API lists for `subject`; none when the registry has no such API.
    pub(super) async fn listed(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>, Error> {
        let what = format!("the referrers of {}", self.titled(subject.as_str()));
        let mut call = self.call(Method::GET, &format!("referrers/{subject}"));
        call.headers.push(("accept", media_type::INDEX.to_owned()));
        let mut found = Vec::new();
        for page in 0..MAX_PAGES {
            let reply = self.send(&call).await?;
            // 404 is how a registry says that it has no such API; others are seen, too.
            if page == 0 && matches!(reply.status, 400 | 404 | 405 | 406 | 501) {
                return Ok(None);
            }
            let reply = self.checked(reply, &call.url, &what)?;
            let kind = reply.header("content-type").map(media_type::essence).unwrap_or_default();
            if kind != media_type::INDEX {
                if page == 0 {
                    return Ok(None);
                }
                let expected = media_type::INDEX.to_owned();
                return Err(Error::MediaType { what, expected, found: kind });
            }
            found.extend(list(&what, &reply.body)?);
            if found.len() > MAX_REFERRERS {
                return Err(Error::TooMany { what, limit: MAX_REFERRERS });
            }
            let Some(next) = reply.headers("link").find_map(next) else { return Ok(Some(found)) };
            let next = call.url.join(next).ok().filter(|next| next.origin() == call.url.origin());
            call.url = next.ok_or_else(|| Error::Reply {
                url: call.url.to_string(),
                expected: "a next page of the same registry",
            })?;
        }
        Err(Error::TooMany { what: format!("pages of {what}"), limit: MAX_PAGES })
    }

    /// Whether the registry has the referrers API; asked once.
    pub(super) async fn has_list(&self, subject: &Digest) -> Result<bool, Error> {
        let ask = async || Ok(self.listed(subject).await?.is_some());
        self.registry.lists.get_or_try_init(ask).await.copied()
    }

    /// The reply, if there is what was asked for.
    async fn found(&self, call: &Call<'_>, what: &str) -> Result<Reply, Error> {
        let reply = self.send(call).await?;
        self.checked(reply, &call.url, what)
    }

    fn checked(&self, reply: Reply, url: &Url, what: &str) -> Result<Reply, Error> {
        match reply.status {
            404 => Err(Error::NotFound { what: what.to_owned() }),
            403 => Err(self.denied(&match reply.message() {
                said if said.is_empty() => "403, although it knows who asks".to_owned(),
                said => format!("403, although it knows who asks: {said}"),
            })),
            _ => Ok(reply.success(url)?),
        }
    }

    fn denied(&self, reason: &str) -> Error {
        Error::Denied {
            registry: self.registry.name.clone(),
            repository: self.name.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// The content that stands in the descriptor itself, if it is what the descriptor says.
fn embedded(descriptor: &Descriptor) -> Option<Vec<u8>> {
    let data = descriptor.data.as_ref()?;
    let data = base64::engine::general_purpose::STANDARD.decode(data).ok()?;
    let same = data.len() as u64 == descriptor.size && descriptor.digest.matches(&data);
    same.then_some(data)
}

/// A list of referrers; it may have more members than an index that is stored.
fn list(what: &str, bytes: &[u8]) -> Result<Vec<Descriptor>, Error> {
    #[derive(serde::Deserialize)]
    struct List {
        manifests: Option<Vec<Descriptor>>,
    }
    let list: List = serde_json::from_slice(bytes)
        .map_err(|error| Error::Manifest { what: what.to_owned(), reason: error.to_string() })?;
    Ok(list.manifests.unwrap_or_default())
}

/// The target of a `Link` header (RFC 8288) with relation `next`.
fn next(value: &str) -> Option<&str> {
    value.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let next = parameters.split(';').any(|parameter| {
            parameter.trim().split_once('=').is_some_and(|(name, value)| {
                name.eq_ignore_ascii_case("rel") && value.trim_matches('"') == "next"
            })
        });
        next.then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback() {
        let base = |name: &str, plain_http| {
            let options = Options { plain_http, ..Options::default() };
            Registry::new(name, &options).unwrap().base.to_string()
        };
        for name in ["localhost:5000", "registry.localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            assert_eq!(base(name, false), format!("http://{name}/"));
        }
        for name in ["registry.example.com", "127.example.com", "10.0.0.1:5000"] {
            assert_eq!(base(name, false), format!("https://{name}/"));
            assert_eq!(base(name, true), format!("http://{name}/"));
        }
    }

    #[test]
    fn the_next_page_is_the_one_that_the_header_names() {
        for (value, expected) in [
            (r#"</v2/a/referrers/x?n=2>; rel="next""#, Some("/v2/a/referrers/x?n=2")),
            (r#"<a>; rel="prev", <b>; title="t"; rel=next"#, Some("b")),
            (r#"<a>; rel="prev""#, None),
            ("garbage", None),
        ] {
            assert_eq!(next(value), expected, "{value}");
        }
    }
}
