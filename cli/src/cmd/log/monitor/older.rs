//! A log that speaks Rekor v1. Its tiles are not read, which others than ours do not serve: entries come ten
//! at a time, and proofs on request; both are checked as those of tiles are.

use crate::failure::Failure;
use async_trait::async_trait;
use countersign_client::http::Http;
use countersign_log::monitor::{Error, View};
use countersign_log::{LogKey, signer};
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::encoding::{from_base64, from_hex};
use countersign_verify::merkle::{ConsistencyProof, Hash};
use countersign_verify::tile::{FULL, width};
use countersign_verify::trusted_root::Log;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use url::Url;

/// Entries of one request: what Rekor's `retrieve` takes.
const AT_ONCE: u64 = 10;

pub(super) struct Older {
    log: Log,
    http: Http,
    /// Ends in a slash.
    base: Url,
    /// Entries of its earlier shards, which indices count from; as the log says it. A wrong number shows when
    /// the entries are hashed.
    offset: AtomicU64,
}

/// The shard that takes entries, and those before it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    #[serde(flatten)]
    active: Shard,
    #[serde(default)]
    inactive_shards: Vec<Shard>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shard {
    signed_tree_head: String,
    tree_size: u64,
}

#[derive(Deserialize)]
struct Proof {
    hashes: Vec<String>,
}

#[derive(Deserialize)]
struct Entry {
    /// Base64.
    body: String,
}

impl Older {
    pub(super) fn new(log: &Log) -> Result<Self, Failure> {
        let unclear = |error: &dyn std::fmt::Display| Failure::unclear(error.to_string());
        let base = format!("{}/", log.base_url().trim_end_matches('/'));
        let base = Url::parse(&base).map_err(|error| unclear(&error))?;
        let http = Http::new([&base]).map_err(|error| unclear(&error))?;
        Ok(Self { log: log.clone(), http, base, offset: AtomicU64::new(0) })
    }

    pub(super) fn name(&self) -> &str {
        self.log.base_url()
    }

    pub(super) fn spki(&self) -> &[u8] {
        self.log.key().spki()
    }

    pub(super) async fn note(&self) -> Result<String, Error> {
        let Info { active, inactive_shards } = self.get("api/v1/log").await?;
        let mut earlier = 0_u64;
        let mut shards = inactive_shards;
        shards.push(active);
        for Shard { signed_tree_head, tree_size } in &shards {
            if self.open(signed_tree_head).is_ok() {
                self.offset.store(earlier, Ordering::Relaxed);
                return Ok(signed_tree_head.clone());
            }
            earlier = earlier.saturating_add(*tree_size);
        }
        // Whoever opens it says what is wrong.
        Ok(shards.pop().expect("one was added").signed_tree_head)
    }

    /// The tree ID is part of the origin, and the log's own choice.
    pub(super) fn open(&self, note: &str) -> Result<Checkpoint, signer::Error> {
        let origin = note.lines().next().unwrap_or_default();
        let (host, tree) = origin.rsplit_once(" - ").unwrap_or((origin, ""));
        let tree = tree.parse().unwrap_or_default();
        LogKey::rekor_v1(host, tree, self.log.key().spki())?.open(note)
    }

    pub(super) fn view(&self, note: &str) -> Result<OlderView<'_>, Error> {
        let checkpoint = self.open(note).map_err(Error::Checkpoint)?;
        Ok(OlderView { log: self, checkpoint })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let away = |error: &dyn std::fmt::Display| Error::Away { reason: error.to_string() };
        let url = self.base.join(path).map_err(|error| away(&error))?;
        let reply = self.http.get(&url).await.map_err(|error| away(&error))?;
        serde_json::from_slice(&reply).map_err(|error| away(&format!("{url}: {error}")))
    }
}

pub(super) struct OlderView<'a> {
    log: &'a Older,
    checkpoint: Checkpoint,
}

#[async_trait]
impl View for OlderView<'_> {
    fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    async fn consistency(&self, old_size: u64, old_root: &Hash) -> Result<(), Error> {
        let Checkpoint { size, root, .. } = &self.checkpoint;
        let hashes = if old_size == 0 || old_size == *size {
            vec![]
        } else {
            let tree = self.checkpoint.origin.rsplit_once(" - ").map_or("", |(_, tree)| tree);
            let path =
                format!("api/v1/log/proof?firstSize={old_size}&lastSize={size}&treeID={tree}");
            self.log.get::<Proof>(&path).await?.hashes
        };
        let read = |hash: &String| Hash::try_from(&from_hex(hash).ok()?[..]).ok();
        let hashes = hashes.iter().map(read).collect::<Option<Vec<_>>>();
        let hashes = hashes.ok_or_else(|| Error::Away {
            reason: "its proof is not as Rekor v1 writes one".to_owned(),
        })?;
        let proof = ConsistencyProof::new(old_size, *size, hashes);
        let proven = proof.and_then(|proof| proof.verify(old_root, root));
        proven.map_err(|error| Error::Inconsistent { reason: error.to_string() })
    }

    async fn leaves(&self, bundle: u64) -> Result<Vec<Vec<u8>>, Error> {
        let first = bundle * u64::from(FULL);
        let end = first + u64::from(width(0, bundle, self.checkpoint.size));
        let away = |error: &dyn std::fmt::Display| Error::Away { reason: error.to_string() };
        let url =
            self.log.base.join("api/v1/log/entries/retrieve").map_err(|error| away(&error))?;
        let mut leaves = vec![];
        let mut next = first;
        while next < end {
            let until = end.min(next + AT_ONCE);
            let offset = self.log.offset.load(Ordering::Relaxed);
            let indexes: Vec<_> = (next..until).map(|index| index.saturating_add(offset)).collect();
            let request = json!({ "logIndexes": indexes }).to_string();
            let reply =
                self.log.http.post(&url, "application/json", request.as_bytes(), None).await;
            let reply = reply.map_err(|error| away(&error))?;
            let answers: Vec<BTreeMap<String, Value>> =
                serde_json::from_slice(&reply).map_err(|error| away(&format!("{url}: {error}")))?;
            for (_, entry) in answers.into_iter().flatten() {
                let entry: Entry = serde_json::from_value(entry).map_err(|error| away(&error))?;
                leaves.push(from_base64(&entry.body).map_err(|error| away(&error))?);
            }
            next = until;
        }
        Ok(leaves)
    }
}
