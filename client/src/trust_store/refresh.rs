//! Refreshing an instance, and the first time.

use super::files::{Pin, Source, State, Store, Stored, Versions, sha256};
use super::{Error, SIGNING_CONFIG_TARGET, TRUSTED_ROOT_TARGET};
use crate::http::{self, Http};
use crate::trust::{self, SigningConfig};
use countersign_verify::TrustedRoot;
use countersign_verify::encoding::hex;
use countersign_verify::limits::MAX_TRUSTED_ROOT;
use jiff::Timestamp;
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{
    MetadataStore, Repository, Role as _, TrustedMetadataSet, Updater, UpdaterConfig,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use url::Url;

/// Largest `root.json` that is fetched, in bytes; the limit of python-tuf.
const MAX_ROOT: usize = 512_000;

/// Where a new instance's trust starts.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its TUF repository.
    pub url: Url,
    /// The TUF root to start from, JSON; the caller has reason to trust it.
    pub root: Vec<u8>,
    /// That reason.
    pub source: Source,
}

/// What a refresh did.
#[derive(Clone, Debug)]
pub struct Change {
    /// As it was; none the first time.
    pub before: Option<State>,
    /// As it is.
    pub after: State,
}

/// Fetches the root.json of a repository that has SHA-256 `fingerprint`: `root.json`, else the first one,
/// `1.root.json`, which every repository keeps.
///
/// # Errors
/// When there is none with this digest, or the repository is away.
pub async fn fetch_root(
    url: &Url,
    fingerprint: &[u8; 32],
    limit: Duration,
) -> Result<Vec<u8>, Error> {
    let repository = Remote::new(url)?;
    let expected = hex(fingerprint);
    let mut found = Vec::new();
    for name in ["root.json", "1.root.json"] {
        let bytes = repository.fetch(&repository.base, name, MAX_ROOT);
        let bytes = within(limit, url, bytes).await?.map_err(|error| tuf(url, error))?;
        let Some(bytes) = bytes else { continue };
        if sha256(&bytes) == expected {
            return Ok(bytes);
        }
        found.push(format!("{} ({name})", sha256(&bytes)));
    }
    let found = if found.is_empty() { "no root.json".to_owned() } else { found.join(" and ") };
    Err(Error::Fingerprint { url: url.to_string(), expected, found })
}

/// Initialises an instance: refreshes from its repository, keeps the result, and makes it the default.
/// One that is initialised already is refreshed.
///
/// # Errors
/// When it is pinned to another root, or the refresh fails; then it is as it was.
pub async fn init(
    store: &Store,
    start: &Start,
    now: Timestamp,
    limit: Duration,
) -> Result<(Stored, Change), Error> {
    let stored = store.place(&start.url);
    let _lock = stored.lock(limit)?;
    let root = String::from_utf8_lossy(&start.root).into_owned();
    let pin = Pin { source: start.source, url: Some(start.url.clone()), root: Some(root) };
    let (pin, before) = if stored.is_initialised() {
        (pinned(&stored, pin)?, Some(stored.state()?))
    } else {
        // A start that failed pinned nothing.
        stored.write("metadata.json", b"{}")?;
        stored.write("pin.json", &json(&pin))?;
        (pin, None)
    };
    let after = refresh(&stored, &pin, before.as_ref(), now, limit).await?;
    store.set_default(&stored)?;
    Ok((stored, Change { before, after }))
}

/// The pin of an instance that is initialised, which a new one must not contradict. A root of this
/// program may be newer than the one it started with: the chain of roots led past it.
fn pinned(stored: &Stored, new: Pin) -> Result<Pin, Error> {
    let pin = stored.pin()?;
    let known = new.root == pin.root
        || new.source == Source::Embedded && pin.source == Source::Embedded
        || stored.metadata()?.values().any(|known| Some(known) == new.root.as_ref());
    if known && pin.root.is_some() {
        return Ok(pin);
    }
    let digest =
        |pin: &Pin| pin.root.as_ref().map_or("none".to_owned(), |root| sha256(root.as_bytes()));
    let url = new.url.as_ref().map(Url::to_string).unwrap_or_default();
    Err(Error::OtherRoot { url, expected: digest(&pin), found: digest(&new) })
}

/// Initialises an instance from files, and makes it the default. `url` is a name to choose it by.
///
/// # Errors
/// When a file is not what it should be, `url` is an instance with a repository, or the folder cannot be
/// written.
pub fn init_file(
    store: &Store,
    url: Option<&Url>,
    trusted_root: &[u8],
    signing_config: Option<&[u8]>,
    now: Timestamp,
) -> Result<(Stored, Change), Error> {
    check(trusted_root, signing_config)?;
    let stored = url.map_or_else(|| store.place_of_file(trusted_root), |url| store.place(url));
    let _lock = stored.lock(Duration::from_secs(5))?;
    let before = if stored.is_initialised() {
        let pin = stored.pin()?;
        if let Some(root) = pin.root {
            let url = url.map(Url::to_string).unwrap_or_default();
            let (expected, found) = (sha256(root.as_bytes()), "a file".to_owned());
            return Err(Error::OtherRoot { url, expected, found });
        }
        Some(stored.state()?)
    } else {
        None
    };
    let pin = Pin { source: Source::File, url: url.cloned(), root: None };
    stored.write("metadata.json", b"{}")?;
    stored.write("pin.json", &json(&pin))?;
    let after = State {
        refreshed: now,
        expires: None,
        versions: None,
        trusted_root: stored.write_by_digest(trusted_root)?,
        signing_config: signing_config.map(|bytes| stored.write_by_digest(bytes)).transpose()?,
    };
    stored.write("state.json", &json(&after))?;
    stored.prune([before.as_ref(), Some(&after)]);
    store.set_default(&stored)?;
    Ok((stored, Change { before, after }))
}

/// Refreshes an instance at `now`, within `limit`. Waits up to `wait` for another process that does.
///
/// # Errors
/// When it came from a file, another process writes, the repository is away or slow, or what it serves
/// is refused; then trust is as it was.
pub async fn update(
    stored: &Stored,
    now: Timestamp,
    limit: Duration,
    wait: Duration,
) -> Result<Change, Error> {
    let pin = stored.pin()?;
    if pin.root.is_none() {
        return Err(Error::NoRepository);
    }
    let _lock = stored.lock(wait)?;
    let before = Some(stored.state()?);
    let after = refresh(stored, &pin, before.as_ref(), now, limit).await?;
    Ok(Change { before, after })
}

/// The steps: TUF's workflow over what was kept, both targets read by our own readers, then the files in
/// the order in which each leaves the folder whole.
async fn refresh(
    stored: &Stored,
    pin: &Pin,
    before: Option<&State>,
    now: Timestamp,
    limit: Duration,
) -> Result<State, Error> {
    let (Some(url), Some(root)) = (&pin.url, &pin.root) else { return Err(Error::NoRepository) };
    let known = stored.metadata()?;
    let kept = Arc::new(Kept(Mutex::new(known.clone())));
    let fetched = within(limit, url, fetch(url, root.as_bytes(), kept.clone(), now)).await;
    let Fetched { trusted_root, signing_config, versions, expires } = match fetched.flatten() {
        Ok(fetched) => fetched,
        Err(error) => {
            let roots = known
                .iter()
                .chain(kept.take().iter().filter(|(name, _)| is_root(name)))
                .map(|(name, text)| (name.clone(), text.clone()))
                .collect::<BTreeMap<_, _>>();
            if roots != known {
                stored.write("metadata.json", &json(&roots))?;
            }
            stored.note_failure(now);
            return Err(error);
        }
    };
    let after = State {
        refreshed: now,
        expires: Some(expires),
        versions: Some(versions),
        trusted_root: stored.write_by_digest(&trusted_root)?,
        signing_config: signing_config.map(|bytes| stored.write_by_digest(&bytes)).transpose()?,
    };
    // Before the state: the floor against rollback must never lie below what is in use.
    stored.write("metadata.json", &json(&kept.take()))?;
    stored.write("state.json", &json(&after))?;
    stored.prune([before, Some(&after)]);
    Ok(after)
}

struct Fetched {
    trusted_root: Vec<u8>,
    signing_config: Option<Vec<u8>>,
    versions: Versions,
    expires: Timestamp,
}

async fn fetch(url: &Url, root: &[u8], kept: Arc<Kept>, now: Timestamp) -> Result<Fetched, Error> {
    let failed = |error| tuf(url, error);
    let mut config = UpdaterConfig::default();
    config.target_max_length = MAX_TRUSTED_ROOT as u64;
    let updater = Updater::new(Remote::new(url)?, root).map_err(failed)?;
    let mut updater = updater.with_config(config).with_store(kept);
    updater.refresh(now).await.map_err(failed)?;
    let trusted_root = updater.get_target(TRUSTED_ROOT_TARGET, now).await.map_err(failed)?;
    let signing_config = match updater.get_target(SIGNING_CONFIG_TARGET, now).await {
        Ok(bytes) => Some(bytes),
        Err(sigstore_tuf::Error::TargetNotFound(_)) => None,
        Err(error) => return Err(failed(error)),
    };
    check(&trusted_root, signing_config.as_deref())?;
    let (versions, expires) =
        summary(updater.trusted()).ok_or_else(|| failed(sigstore_tuf::Error::NotRefreshed))?;
    Ok(Fetched { trusted_root, signing_config, versions, expires })
}

/// Versions, and the first expiry.
fn summary(set: &TrustedMetadataSet) -> Option<(Versions, Timestamp)> {
    let (root, timestamp) = (set.root(), set.timestamp()?);
    let (snapshot, targets) = (set.snapshot()?, set.targets_role("targets")?);
    let versions = Versions {
        root: root.version(),
        timestamp: timestamp.version(),
        snapshot: snapshot.version(),
        targets: targets.version(),
    };
    let expires = [root.expires(), timestamp.expires(), snapshot.expires(), targets.expires()];
    Some((versions, expires.into_iter().min()?))
}

fn check(trusted_root: &[u8], signing_config: Option<&[u8]>) -> Result<(), Error> {
    let root = TrustedRoot::parse(trusted_root);
    root.map_err(|error| Error::Target {
        target: TRUSTED_ROOT_TARGET,
        source: trust::Error::TrustedRoot(error),
    })?;
    if let Some(bytes) = signing_config {
        SigningConfig::parse(bytes)
            .map_err(|source| Error::Target { target: SIGNING_CONFIG_TARGET, source })?;
    }
    Ok(())
}

/// Metadata in memory until a refresh is whole.
struct Kept(Mutex<BTreeMap<String, String>>);

impl Kept {
    /// All but copies under a version's name, which would pile up.
    fn take(&self) -> BTreeMap<String, String> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let versioned = |name: &str| {
            name.split_once('.').is_some_and(|(v, _)| v.bytes().all(|b| b.is_ascii_digit()))
        };
        let mut map = map.clone();
        map.retain(|name, _| !versioned(name));
        map
    }
}

fn is_root(name: &str) -> bool {
    name == "root.json" || name.starts_with("root_history/")
}

impl MetadataStore for Kept {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(map.get(name).map(|text| text.clone().into_bytes()))
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was verified is JSON, so nothing is lost.
        map.insert(name.to_owned(), String::from_utf8_lossy(bytes).into_owned());
        Ok(())
    }
}

/// A repository over HTTP: metadata at its URL, targets below `targets/`.
struct Remote {
    http: Http,
    base: Url,
    targets: Url,
}

impl Remote {
    fn new(url: &Url) -> Result<Self, Error> {
        let wrong = || Error::Url { url: url.to_string() };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong());
        }
        let mut base = url.clone();
        base.set_path(&format!("{}/", url.path().trim_end_matches('/')));
        let targets = base.join("targets/").map_err(|_| wrong())?;
        let http = Http::new([url]).map_err(|error| Error::Setup { reason: error.to_string() })?;
        Ok(Self { http, base, targets })
    }

    async fn fetch(
        &self,
        base: &Url,
        name: &str,
        limit: usize,
    ) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        let transport = sigstore_tuf::Error::transport;
        let url = base.join(name).map_err(|_| transport(format!("{name:?} is no name")))?;
        if url.origin() != base.origin() || !url.path().starts_with(base.path()) {
            return Err(transport(format!("{name:?} leads out of {base}")));
        }
        let reply: Result<_, http::Error> = self.http.bounded(&url, limit).await;
        reply.map_err(|error| transport(error.to_string()))
    }
}

fn bounded(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl Repository for Remote {
    fn fetch_metadata<'a>(&'a self, name: &'a str, limit: u64) -> FetchFuture<'a> {
        Box::pin(self.fetch(&self.base, name, bounded(limit)))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, limit: u64) -> FetchFuture<'a> {
        Box::pin(self.fetch(&self.targets, path, bounded(limit)))
    }
}

async fn within<F: Future>(limit: Duration, url: &Url, future: F) -> Result<F::Output, Error> {
    let late = |_| Error::Slow { url: url.to_string(), seconds: limit.as_secs() };
    tokio::time::timeout(limit, future).await.map_err(late)
}

fn tuf(url: &Url, error: sigstore_tuf::Error) -> Error {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    Error::Tuf { url: url.to_string(), reason, source: Box::new(error) }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).expect("texts and numbers only")
}
