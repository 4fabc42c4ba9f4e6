//! The logs that are written to, and the checks on each answer.

use super::entry::Signers;
use super::ledger::{Ledger, Said};
use super::tally::Tally;
use crate::args::Trust;
use crate::cmd::log::remote::Remote;
use crate::failure::Failure;
use crate::trust;
use countersign_client::http::Http;
use countersign_log::LogKey;
use countersign_verify::TrustedRoot;
use countersign_verify::bundle::LogEntry;
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::key::KeyKind;
use countersign_verify::merkle::{Hash, InclusionProof, leaf_hash};
use countersign_verify::trusted_root::Log;
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use url::Url;

/// Notes whose signature was verified and that are still remembered. Many replies carry the same one.
const NOTES: usize = 16;

/// Where entries go, and who may answer.
pub(super) struct Target {
    pub(super) http: Http,
    pub(super) url: Url,
    pub(super) signers: Signers,
    /// No request is sent again after this.
    pub(super) deadline: Instant,
    /// Somebody has seen enough.
    pub(super) ended: AtomicBool,
    trust: Trust,
    shards: RwLock<Vec<Arc<Shard>>>,
    refreshing: tokio::sync::Mutex<()>,
}

/// One log of the trusted root, with all it has said.
pub(super) struct Shard {
    pub(super) remote: Arc<Remote>,
    pub(super) key: LogKey,
    pub(super) ledger: Ledger,
    notes: Mutex<VecDeque<(String, Checkpoint)>>,
}

impl Target {
    pub(super) fn new(
        trust: &Trust,
        root: &TrustedRoot,
        http: Http,
        signers: Signers,
        deadline: Instant,
    ) -> Result<Self, Failure> {
        let url = submission_url(root)?;
        let (shards, refreshing) = (RwLock::default(), tokio::sync::Mutex::default());
        let (trust, ended) = (trust.clone(), AtomicBool::new(false));
        let target = Self { http, url, signers, deadline, ended, trust, shards, refreshing };
        target.learn(root)?;
        Ok(target)
    }

    /// The log with that ID. An instance may begin a new log at any time, so an unknown one is looked for
    /// in a trusted root that is loaded again.
    pub(super) async fn shard(&self, log_id: &[u8; 32]) -> Result<Option<Arc<Shard>>, Failure> {
        if let Some(shard) = self.known(log_id) {
            return Ok(Some(shard));
        }
        let _one_at_a_time = self.refreshing.lock().await;
        if let Some(shard) = self.known(log_id) {
            return Ok(Some(shard));
        }
        let trust = self.trust.clone();
        let loaded = tokio::task::spawn_blocking(move || trust::load(&trust)?.root()).await;
        let (root, _) = loaded.map_err(|error| Failure::unclear(error.to_string()))??;
        self.learn(&root)?;
        Ok(self.known(log_id))
    }

    pub(super) fn shards(&self) -> Vec<Arc<Shard>> {
        self.shards.read().clone()
    }

    fn known(&self, log_id: &[u8; 32]) -> Option<Arc<Shard>> {
        self.shards.read().iter().find(|shard| shard.key.log_id() == log_id).cloned()
    }

    fn learn(&self, root: &TrustedRoot) -> Result<(), Failure> {
        for log in tiled(root).filter(|log| self.known(log.id()).is_none()) {
            let shard = Shard::new(log.clone())?;
            self.shards.write().push(Arc::new(shard));
        }
        Ok(())
    }

    /// Whether a reply to a submission of `body` holds in every respect; the place if so.
    pub(super) async fn check(
        &self,
        reply: &[u8],
        body: &[u8],
        tally: &mut Tally,
    ) -> Result<Option<([u8; 32], u64)>, Failure> {
        let entry = match LogEntry::parse(reply) {
            Ok(entry) => entry,
            Err(error) => {
                tally.broken(format!("a reply does not parse: {error}"));
                return Ok(None);
            }
        };
        let Some(shard) = self.shard(&entry.log_id).await? else {
            tally.broken("a reply is of a log that the trusted root does not list".to_owned());
            return Ok(None);
        };
        match shard.check(&entry, body)? {
            Ok(()) => Ok(Some((entry.log_id, entry.log_index))),
            Err(problem) => {
                tally.broken(format!("entry {}: {problem}", entry.log_index));
                Ok(None)
            }
        }
    }
}

impl Shard {
    fn new(log: Log) -> Result<Self, Failure> {
        let remote = Remote::of(log)?.insisting();
        let key = remote.key();
        Ok(Self { remote: Arc::new(remote), key, ledger: Ledger::new()?, notes: Mutex::default() })
    }

    /// The outer result is ours, the inner one the log's.
    fn check(&self, entry: &LogEntry, body: &[u8]) -> Result<Result<(), String>, Failure> {
        let problem = |text: &str| Ok(Err(text.to_owned()));
        if entry.body != body {
            return problem("the body is not what was sent");
        }
        if (entry.kind.as_str(), entry.version.as_str()) != ("hashedrekord", "0.0.2") {
            return problem("the entry is not named hashedrekord 0.0.2");
        }
        let Some(proof) = &entry.proof else { return problem("there is no proof") };
        let checkpoint = match self.checkpoint(&proof.checkpoint)? {
            Ok(checkpoint) => checkpoint,
            Err(problem) => return Ok(Err(problem)),
        };
        let claimed = (proof.log_index, proof.tree_size, proof.root);
        if claimed != (entry.log_index, checkpoint.size, Some(checkpoint.root)) {
            return problem(
                "the proof names another index, size or root than entry and checkpoint",
            );
        }
        let path = InclusionProof::new(proof.log_index, checkpoint.size, proof.hashes.clone());
        if let Err(error) = path.and_then(|path| path.verify(body, &checkpoint.root)) {
            return Ok(Err(error.to_string()));
        }
        match self.ledger.keep(entry.log_index, Said::Leaf, leaf_hash(body))? {
            None => Ok(Ok(())),
            Some(_) => problem("another entry was acknowledged at this place"),
        }
    }

    /// Opens a signed note, and holds it to those of the same size that were seen before.
    pub(super) fn checkpoint(&self, note: &str) -> Result<Result<Checkpoint, String>, Failure> {
        let seen = |notes: &VecDeque<(String, Checkpoint)>| {
            notes.iter().find(|(seen, _)| seen == note).map(|(_, checkpoint)| checkpoint.clone())
        };
        if let Some(checkpoint) = seen(&self.notes.lock()) {
            return Ok(Ok(checkpoint));
        }
        let checkpoint = match self.key.open(note) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if let Some(last) = checkpoint.size.checked_sub(1) {
            let other: Option<Hash> = self.ledger.keep(last, Said::Root, checkpoint.root)?;
            if other.is_some() {
                return Ok(Err(format!("two checkpoints of size {} differ", checkpoint.size)));
            }
        }
        let mut notes = self.notes.lock();
        notes.push_front((note.to_owned(), checkpoint.clone()));
        notes.truncate(NOTES);
        Ok(Ok(checkpoint))
    }
}

/// The Rekor v2 logs of a trusted root: those have Ed25519 keys.
fn tiled(root: &TrustedRoot) -> impl Iterator<Item = &Log> {
    root.logs().iter().filter(|log| log.key().kind() == KeyKind::Ed25519)
}

fn submission_url(root: &TrustedRoot) -> Result<Url, Failure> {
    let newest = Remote::new(root, false)?.log;
    let url = format!("{}/api/v2/log/entries", newest.base_url().trim_end_matches('/'));
    Url::parse(&url).map_err(|error| Failure::unclear(format!("{url}: {error}")))
}
