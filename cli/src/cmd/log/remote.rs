//! A log of tiles over HTTP, as any outsider reaches it.

use crate::args::log::Which;
use crate::failure::Failure;
use crate::runtime::block_on;
use crate::trust;
use async_trait::async_trait;
use bytes::Bytes;
use countersign_client::http::{self, Http};
use countersign_log::face::rekor_v1::tree_id;
use countersign_log::read::Reader;
use countersign_log::store::{Source, StoreError};
use countersign_log::{Format, LogKey, OpenError, proof, signer};
use countersign_verify::TrustedRoot;
use countersign_verify::key::KeyKind;
use countersign_verify::tile::MAX_ENTRY_BUNDLE;
use countersign_verify::trusted_root::Log;
use std::sync::Arc;
use url::Url;

/// A log of tiles over HTTP: of signatures, or of certificates.
pub(in crate::cmd) struct Remote {
    pub(super) log: Log,
    key: LogKey,
    pub(super) format: Format,
    /// Below the log's URL.
    prefix: String,
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
    /// The newest Rekor v2 log of the trusted root, or its newest Rekor v1 log.
    pub(in crate::cmd) fn new(root: &TrustedRoot, rekor_v1: bool) -> Result<Self, Failure> {
        Self::shard(Self::signatures(root, rekor_v1)?, None)
    }

    /// The log that the flags name.
    pub(super) fn named(which: &Which) -> Result<Self, Failure> {
        let root = trust::load(&which.trust)?.root()?.0;
        Self::shard(Self::signatures(&root, which.rekor_v1)?, which.shard)
    }

    /// One of the shards of a log, from 1; the newest if no number is given.
    pub(super) fn shard(mut shards: Vec<Self>, number: Option<usize>) -> Result<Self, Failure> {
        let count = shards.len();
        let number = number.unwrap_or(count);
        if !(1..=count).contains(&number) {
            let message =
                format!("the trusted root lists {count} shards of the log, and no shard {number}");
            return Err(Failure::no(message).hint("shards count from 1, the oldest"));
        }
        Ok(shards.swap_remove(number - 1))
    }

    /// The shards of the Rekor v2 log of the trusted root, or of its Rekor v1 log, the oldest first.
    pub(super) fn signatures(root: &TrustedRoot, rekor_v1: bool) -> Result<Vec<Self>, Failure> {
        let (kind, name) = match rekor_v1 {
            false => (KeyKind::Ed25519, "Rekor v2"),
            true => (KeyKind::P256, "Rekor v1"),
        };
        let shards = of_kind(root, kind);
        if shards.is_empty() {
            return Err(Failure::unclear(format!("the trusted root lists no {name} log")));
        }
        shards.into_iter().map(|log| Self::of(log.clone())).collect()
    }

    /// Its URL; of Rekor v1, whose shards have one, that of its tiles.
    pub(super) fn name(&self) -> String {
        let base = self.log.base_url();
        match self.format {
            Format::Timed => format!("{}{}", base.trim_end_matches('/'), self.prefix),
            _ => base.to_owned(),
        }
    }

    /// That log of signatures.
    pub(super) fn of(log: Log) -> Result<Self, Failure> {
        let (host, spki) = (log.host(), log.key().spki());
        let (key, format, prefix) = match log.key().kind() {
            KeyKind::Ed25519 => {
                (LogKey::from_spki(host, spki), Format::Entries, "/api/v2".to_owned())
            }
            // Others than ours call their trees otherwise, and have no tiles to be read.
            _ => {
                let tree = tree_id(spki);
                (LogKey::rekor_v1(host, tree, spki), Format::Timed, format!("/v1/{tree}"))
            }
        };
        Self::below(log.clone(), key, format, prefix)
    }

    /// The shards of the certificate log of the trusted root, the oldest first. The trusted root does not know
    /// their origins: each is what the log's checkpoint says, and part of what its key ID is made of.
    pub(super) fn certificates(root: &TrustedRoot) -> Result<Vec<Self>, Failure> {
        let mut logs: Vec<_> = root.certificate_logs().iter().collect();
        logs.sort_by_key(|log| log.valid_for().start);
        if logs.is_empty() {
            return Err(Failure::unclear("the trusted root lists no certificate log"));
        }
        let of = |log: &Log| {
            let key = |origin| LogKey::from_spki(origin, log.key().spki());
            let remote = Self::below(log.clone(), key("unknown"), Format::Data, String::new())?;
            let name = log.base_url();
            let note = block_on(remote.get("checkpoint"))?;
            let note = note.map_err(|error| Failure::unclear(format!("{name}: {error}")))?;
            let note = note.ok_or_else(|| {
                Failure::unclear(format!("{name} has no checkpoint: it is no log of tiles"))
            })?;
            let note = String::from_utf8_lossy(&note).into_owned();
            let origin = note.lines().next().unwrap_or_default();
            Self::below(log.clone(), key(origin), Format::Data, String::new())
        };
        logs.into_iter().map(of).collect()
    }

    fn below(
        log: Log,
        key: Result<LogKey, signer::Error>,
        format: Format,
        prefix: String,
    ) -> Result<Self, Failure> {
        let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
        let base = Url::parse(log.base_url()).map_err(|error| unclear(&error))?;
        let http = Http::new([&base]).map_err(|error| unclear(&error))?;
        let key = key.map_err(|error| unclear(&error))?;
        Ok(Self { log, key, format, prefix, http })
    }

    /// The same, that waits for a log which does not answer.
    pub(super) fn insisting(self) -> Self {
        Self { http: self.http.insisting(), ..self }
    }

    pub(super) fn key(&self) -> LogKey {
        self.key.clone()
    }

    /// Fetches the latest checkpoint and checks its signature, and the right edge of its tree.
    pub(in crate::cmd) fn read(self) -> Result<Reader, Failure> {
        let (key, format, name) = (self.key(), self.format, self.log.base_url().to_owned());
        let source: Arc<dyn Source> = Arc::new(self);
        let reader = block_on(Reader::open(source, &key, format))?;
        reader.map_err(|error| {
            let message = format!("{name}: {error}");
            match error {
                OpenError::Store(_) => Failure::unclear(message),
                OpenError::Missing { path } if format == Format::Timed && path == "checkpoint" => {
                    Failure::unclear(format!("{name} serves no tiles of its Rekor v1 log"))
                }
                _ => Failure::no(message),
            }
        })
    }
}

/// The logs of the trusted root with keys of that kind, oldest first: those of Rekor v2 have Ed25519 keys, those
/// of Rekor v1 have keys on P-256.
pub(super) fn of_kind(root: &TrustedRoot, kind: KeyKind) -> Vec<&Log> {
    let mut logs: Vec<_> = root.logs().iter().filter(|log| log.key().kind() == kind).collect();
    logs.sort_by_key(|log| log.valid_for().start);
    logs
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
pub(in crate::cmd) fn refused(error: proof::Error) -> Failure {
    match error {
        proof::Error::Store(error) => Failure::unclear(error.to_string()),
        error => Failure::no(error.to_string()),
    }
}
