//! A log of tiles over HTTP, as any outsider reaches it.

use crate::failure::Failure;
use crate::trust::block_on;
use async_trait::async_trait;
use bytes::Bytes;
use countersign_client::http::{self, Http};
use countersign_log::read::Reader;
use countersign_log::store::{Source, StoreError};
use countersign_log::{Format, LogKey, OpenError, proof};
use countersign_verify::TrustedRoot;
use countersign_verify::key::KeyKind;
use countersign_verify::tile::MAX_ENTRY_BUNDLE;
use countersign_verify::trusted_root::Log;
use std::sync::Arc;
use url::Url;

/// A log of tiles over HTTP: of signatures (Rekor v2) or of certificates.
pub(super) struct Remote {
    pub(super) log: Log,
    origin: String,
    /// Below the log's URL.
    prefix: &'static str,
    http: Http,
}

#[async_trait]
impl Source for Remote {
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let failed = |source| StoreError::Fetch { path: path.to_owned(), source };
        let url = format!("{}{}/{path}", self.log.base_url().trim_end_matches('/'), self.prefix);
        let url = Url::parse(&url).map_err(|error| failed(Arc::new(error)))?;
        match self.http.get_at_most(&url, MAX_ENTRY_BUNDLE).await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(http::Error::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(failed(Arc::new(error))),
        }
    }
}

impl Remote {
    /// The newest Rekor v2 log of the trusted root: those have Ed25519 keys, older ones no tiles.
    pub(super) fn new(root: &TrustedRoot) -> Result<Self, Failure> {
        let tiled = root.logs().iter().filter(|log| log.key().kind() == KeyKind::Ed25519);
        let newest = tiled.max_by_key(|log| log.valid_for().start);
        let newest =
            newest.ok_or_else(|| Failure::unclear("the trusted root lists no Rekor v2 log"))?;
        Self::of(newest.clone())
    }

    /// That log.
    pub(super) fn of(log: Log) -> Result<Self, Failure> {
        let origin = log.host().to_owned();
        Self::below(log, origin, "/api/v2")
    }

    /// The newest certificate log of the trusted root, which does not know its origin: it is what the
    /// log's checkpoint says, and part of what its key ID is made of.
    pub(super) fn of_certificates(root: &TrustedRoot) -> Result<Self, Failure> {
        let newest = root.certificate_logs().iter().max_by_key(|log| log.valid_for().start);
        let newest =
            newest.ok_or_else(|| Failure::unclear("the trusted root lists no certificate log"))?;
        let remote = Self::below(newest.clone(), String::new(), "")?;
        let name = newest.base_url();
        let note = block_on(remote.get("checkpoint"))?;
        let note = note.map_err(|error| Failure::unclear(format!("{name}: {error}")))?;
        let note = note.ok_or_else(|| {
            Failure::unclear(format!("{name} has no checkpoint: it is no log of tiles"))
        })?;
        let origin = String::from_utf8_lossy(&note).lines().next().unwrap_or_default().to_owned();
        Ok(Self { origin, ..remote })
    }

    fn below(log: Log, origin: String, prefix: &'static str) -> Result<Self, Failure> {
        let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
        let base = Url::parse(log.base_url()).map_err(|error| unclear(&error))?;
        let http = Http::new([&base]).map_err(|error| unclear(&error))?;
        Ok(Self { log, origin, prefix, http })
    }

    /// The same, that waits for a log which does not answer.
    pub(super) fn insisting(self) -> Self {
        Self { http: self.http.insisting(), ..self }
    }

    pub(super) fn key(&self) -> Result<LogKey, Failure> {
        LogKey::from_spki(&self.origin, self.log.key().spki())
            .map_err(|error| Failure::unclear(error.to_string()))
    }

    /// Fetches the latest checkpoint and checks its signature, and the right edge of its tree.
    pub(super) fn read(self) -> Result<Reader, Failure> {
        let (key, name) = (self.key()?, self.log.base_url().to_owned());
        let source: Arc<dyn Source> = Arc::new(self);
        let reader = block_on(Reader::open(source, &key, Format::Entries))?;
        reader.map_err(|error| {
            let message = format!("{name}: {error}");
            match error {
                OpenError::Store(_) => Failure::unclear(message),
                _ => Failure::no(message),
            }
        })
    }
}

/// The key of a log that calls itself `origin`: its host, or for Rekor v1 its host and a tree's number.
pub(super) fn log_key(log: &Log, origin: &str) -> Result<LogKey, Failure> {
    let (host, spki) = (log.host(), log.key().spki());
    let key = match log.key().kind() {
        KeyKind::Ed25519 => LogKey::from_spki(host, spki),
        _ => {
            let tree = origin.strip_prefix(host).and_then(|rest| rest.strip_prefix(" - "));
            let tree = tree.and_then(|tree| tree.parse().ok()).ok_or_else(|| {
                Failure::no(format!("expected a checkpoint of {host:?}, found one of {origin:?}"))
            })?;
            LogKey::rekor_v1(host, tree, spki)
        }
    };
    key.map_err(|error| Failure::unclear(error.to_string()))
}

/// No proof: the log is away, or what it serves does not hold.
pub(super) fn refused(error: proof::Error) -> Failure {
    match error {
        proof::Error::Store(error) => Failure::unclear(error.to_string()),
        error => Failure::no(error.to_string()),
    }
}
