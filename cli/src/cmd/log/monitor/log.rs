//! A log that is monitored: as tiles, or through the interface of Rekor v1.

use super::older::Older;
use crate::cmd::log::remote::{Remote, of_kind};
use crate::failure::Failure;
use countersign_log::monitor::{Error, View};
use countersign_log::read::Reader;
use countersign_log::store::Source;
use countersign_log::{Format, LogKey};
use countersign_verify::TrustedRoot;
use countersign_verify::encoding::base64;
use countersign_verify::key::KeyKind;
use std::sync::Arc;

pub(super) enum Log {
    /// Its tiles.
    Tiles { source: Arc<dyn Source>, name: String, key: LogKey },
    /// Rekor v1.
    Older(Older),
}

impl Log {
    /// The logs of tiles of the trusted root, or those that speak Rekor v1: each shard, oldest first.
    pub(super) fn all(root: &TrustedRoot, rekor_v1: bool) -> Result<Vec<Self>, Failure> {
        let (kind, name) = match rekor_v1 {
            false => (KeyKind::Ed25519, "Rekor v2"),
            true => (KeyKind::P256, "Rekor v1"),
        };
        let logs = of_kind(root, kind);
        if logs.is_empty() {
            return Err(Failure::unclear(format!("the trusted root lists no {name} log")));
        }
        let log = |log: &countersign_verify::trusted_root::Log| {
            if rekor_v1 {
                return Ok(Self::Older(Older::new(log)?));
            }
            let remote = Remote::of(log.clone())?;
            let (name, key) = (remote.log.base_url().to_owned(), remote.key());
            Ok(Self::Tiles { source: Arc::new(remote), name, key })
        };
        logs.into_iter().map(log).collect()
    }

    /// Its URL.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Tiles { name, .. } => name,
            Self::Older(older) => older.name(),
        }
    }

    /// Its public key, SubjectPublicKeyInfo in base64.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Tiles { key, .. } => base64(key.spki()),
            Self::Older(older) => base64(older.spki()),
        }
    }

    /// What it shows as its checkpoint now.
    pub(super) async fn note(&self) -> Result<String, Error> {
        let away = |reason: String| Error::Away { reason };
        match self {
            Self::Tiles { source, .. } => {
                let note =
                    source.get("checkpoint").await.map_err(|error| away(error.to_string()))?;
                let note = note.ok_or_else(|| away("there is no checkpoint".to_owned()))?;
                Ok(String::from_utf8_lossy(&note).into_owned())
            }
            Self::Older(older) => older.note().await,
        }
    }

    /// The tree of a checkpoint, once that is found to be the log's.
    pub(super) async fn view(&self, note: &str) -> Result<Box<dyn View + '_>, Error> {
        match self {
            Self::Tiles { source, key, .. } => {
                let source = Arc::clone(source);
                Ok(Box::new(Reader::at(source, key, Format::Entries, note.to_owned()).await?))
            }
            Self::Older(older) => Ok(Box::new(older.view(note)?)),
        }
    }

    /// Reads a checkpoint that was seen before.
    pub(super) fn open(
        &self,
        note: &str,
    ) -> Result<countersign_verify::checkpoint::Checkpoint, countersign_log::signer::Error> {
        match self {
            Self::Tiles { key, .. } => key.open(note),
            Self::Older(older) => older.open(note),
        }
    }
}
