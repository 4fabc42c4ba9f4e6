//! Rekor v1: `hashedrekord` 0.0.1, `dsse` 0.0.1 and `intoto` 0.0.2, with a promise that tells the time.
//!
//! ```text
//! {"apiVersion": …, "kind": …, "spec": …}
//! ```
//! Checked before an entry is taken: the signature holds over the digest (over the envelope, for dsse and
//! intoto) by the key or certificate beside it; and what [`Accepted`] demands of the signer. Unless it does,
//! the certificate's dates, chain and issuer are not checked, as with Rekor v2. Unknown members are passed
//! over, as upstream does; they are not stored.
//!
//! An entry is named by the tree's ID, 16 hexadecimal digits, and its leaf hash. A repeat gets the first
//! entry, as success. An entry's index counts through the trees of all shards in order; its proof has the
//! index within its tree.

mod proposed;

use crate::Clock;
use crate::engine::{Head, Log};
use crate::face::accept::{self, Accepted, Denied};
use crate::pool::{AppendError, Candidate, Leaf};
use crate::proof;
use crate::shards::Shards;
use crate::signer::{self, P256Key};
use crate::store::StoreError;
use bytes::Bytes;
use countersign_verify::bundle::{LogEntry, Proof};
use countersign_verify::certificate;
use countersign_verify::encoding::{base64, from_hex, hex};
use countersign_verify::entry::{self, Verifier};
use countersign_verify::key::{self, HashAlgorithm};
use countersign_verify::limits::MAX_ENTRY;
use countersign_verify::merkle::{Hash, leaf_hash};
use parking_lot::RwLock;
use proposed::{Checked, Named, canonical_body};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Largest request, in bytes: an envelope of 8 MiB in base64, twice for intoto. Only hashes of it are stored.
pub const MAX_REQUEST: usize = 16 << 20;

/// A request that is longer, in bytes, is checked beside the runtime: to read and hash a megabyte takes some
/// milliseconds, in which a worker would answer nobody else.
const LARGE: usize = 256 << 10;

/// How many of those are checked at a time. What is made of one while it is read takes several times its memory.
const AT_ONCE: usize = 2;

/// A signature log as clients of Rekor v1 see it. Clones are the same log.
#[derive(Clone)]
pub struct Face {
    shards: Arc<Shards<Tree>>,
    clock: Clock,
    accepted: Arc<RwLock<Arc<Accepted>>>,
    /// Turns of [`LARGE`] requests.
    turns: Arc<Semaphore>,
}

/// One shard: a log of format [`Timed`](crate::Format::Timed), and the key that signs its checkpoints and
/// promises.
pub struct Tree {
    log: Log,
    key: Arc<P256Key>,
    id: i64,
}

impl AsRef<Log> for Tree {
    fn as_ref(&self) -> &Log {
        &self.log
    }
}

/// An entry of the log, with its promise and proof.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Tree ID and leaf hash, 80 hexadecimal digits.
    pub id: String,
    /// As bundles have it.
    pub entry: LogEntry,
}

/// The tree's ID for a log with that key: a positive number that stays as long as the key.
#[must_use]
pub fn tree_id(spki: &[u8]) -> i64 {
    let digest = Hash::of(spki);
    let first = *digest.as_bytes().first_chunk().expect("32 bytes have a first eight");
    (i64::from_be_bytes(first) & i64::MAX).max(1)
}

impl Tree {
    /// A log of format [`Timed`](crate::Format::Timed), whose checkpoints and promises `key` signs.
    #[must_use]
    pub fn new(log: Log, key: Arc<P256Key>) -> Self {
        let id = tree_id(key.spki());
        Self { log, key, id }
    }

    /// The key, SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        self.key.spki()
    }

    /// Appends one entry of our own to an empty tree: clients of Rekor v1 expect one leaf at least.
    ///
    /// # Errors
    /// When the log cannot take it.
    pub async fn seed(&self, clock: &Clock) -> Result<(), Error> {
        if self.log.head().checkpoint().size > 0 {
            return Ok(());
        }
        let message = format!("first entry of log {}", self.log.key().origin());
        let (hash, digest) =
            (HashAlgorithm::Sha256, HashAlgorithm::Sha256.digest(message.as_bytes()));
        let signature = self.key.sign(message.as_bytes())?;
        let verifier = Verifier::PublicKey(self.key.spki());
        let body = entry::hashedrekord_v1_body(hash, &digest, &signature, verifier);
        self.log.append(candidate(&body, clock)?).await?;
        Ok(())
    }

    async fn record(&self, index: u64) -> Result<Option<Bytes>, Error> {
        Ok(self.log.record(index).await?)
    }

    /// An entry with its promise and proof; `before` is how many entries are in the trees before this one.
    async fn logged(
        &self,
        before: u64,
        head: &Head,
        index: u64,
        record: &[u8],
    ) -> Result<Logged, Error> {
        let (time, rest) = record.split_first_chunk::<8>().ok_or(Error::Missing)?;
        let body = rest.get(2..).ok_or(Error::Missing)?.to_vec();
        let proof = self.log.prove_inclusion(head, index, &body).await?;
        let (time, log_id) = (i64::from_be_bytes(*time), *self.key.log_id());
        let Named { kind, api_version } =
            serde_json::from_slice(&body).map_err(|_| Error::Missing)?;
        Ok(Logged {
            id: self.entry_id(&leaf_hash(&body)),
            entry: LogEntry {
                log_index: before + index,
                log_id,
                kind,
                version: api_version,
                integrated_time: time,
                promise: Some(self.promise(before + index, time, &body)?),
                proof: Some(Proof {
                    log_index: index,
                    tree_size: head.checkpoint().size,
                    root: Some(head.checkpoint().root),
                    hashes: proof.path().to_vec(),
                    checkpoint: head.note().to_owned(),
                }),
                body,
            },
        })
    }

    /// The name of an entry: tree ID and leaf hash, 80 hexadecimal digits.
    pub(crate) fn entry_id(&self, leaf: &Hash) -> String {
        format!("{:016x}{}", self.id, hex(leaf.as_bytes()))
    }

    /// The promise for an entry that the tree has; `index` counts over all shards.
    pub(crate) fn promise(
        &self,
        index: u64,
        time: i64,
        body: &[u8],
    ) -> Result<Vec<u8>, signer::Error> {
        self.key.sign(&entry::promise_signed_data(body, time, self.key.log_id(), index))
    }

    /// What `GET /api/v1/log` says of a tree.
    fn info(&self) -> Value {
        let head = self.log.head();
        json!({
            "rootHash": hex(head.checkpoint().root.as_bytes()),
            "signedTreeHead": head.note(),
            "treeID": self.id.to_string(),
            "treeSize": head.checkpoint().size })
    }
}

/// The leaf is the body; its record has the time at which it comes into the tree.
fn candidate(body: &[u8], clock: &Clock) -> Result<Candidate, AppendError> {
    let length = u16::try_from(body.len())
        .map_err(|_| AppendError::TooLong { limit: MAX_ENTRY, found: body.len() })?;
    let (hash, leaf, clock) = (leaf_hash(body), body.to_vec(), Arc::clone(clock));
    let size = leaf.len() + 10;
    Ok(Candidate::indexed(hash, size, move |_| {
        let time = clock().as_second().max(1).to_be_bytes();
        let record = Bytes::from([&time[..], &length.to_be_bytes(), &leaf].concat());
        Leaf { hash, record }
    }))
}

impl Face {
    /// Shards, seen as Rekor v1. Anybody's entries are taken.
    #[must_use]
    pub fn new(shards: impl Into<Shards<Tree>>, clock: Clock) -> Self {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Self { shards: Arc::new(shards.into()), clock, accepted: Arc::default(), turns }
    }

    /// The same, that takes those entries only.
    #[must_use]
    pub fn accepting(self, accepted: Accepted) -> Self {
        self.accept(accepted);
        self
    }

    /// Takes those entries only from now on.
    pub fn accept(&self, accepted: Accepted) {
        *self.accepted.write() = Arc::new(accepted);
    }

    /// Its shards.
    #[must_use]
    pub fn shards(&self) -> &Shards<Tree> {
        &self.shards
    }

    /// The tree with that log ID, and how many entries are in those before it.
    pub(crate) fn by_log_id(&self, log_id: &[u8; 32]) -> Option<(u64, Arc<Tree>)> {
        self.shards.counted().into_iter().find(|(_, tree)| tree.key.log_id() == log_id)
    }

    /// The tree with that ID, as decimal text; without one the tree that takes entries.
    ///
    /// # Errors
    /// When there is none.
    fn tree(&self, id: Option<&str>) -> Result<Arc<Tree>, Error> {
        match id {
            None => Ok(self.shards.active()),
            Some(id) => {
                let found = self.shards.begun().into_iter().find(|tree| tree.id.to_string() == id);
                found.ok_or(Error::OtherTree)
            }
        }
    }

    /// Takes a request body and returns the entry in the log, promised and proven.
    ///
    /// # Errors
    /// When the request is refused or the log cannot take it, see [`Error`].
    pub async fn submit(&self, request: impl Into<Bytes>) -> Result<Logged, Error> {
        let accepted = Arc::clone(&self.accepted.read());
        let (body, allowed) = self.check(request.into(), accepted).await?;
        if let Err(denied) = allowed {
            // Whoever repeats what was taken gets its proof, whatever the policy says by now.
            let known = self.find(None, leaf_hash(&body)).await?;
            return known.ok_or(Error::Denied(denied));
        }
        self.append(body).await
    }

    async fn check(&self, request: Bytes, accepted: Arc<Accepted>) -> Result<Checked, Error> {
        let length = request.len();
        self.in_turn(length, move || canonical_body(&request, &accepted)).await
    }

    /// Does `work` over a request of `length` bytes: at once, or if it is large when its turn comes.
    pub(crate) async fn in_turn<T: Send + 'static>(
        &self,
        length: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if length <= LARGE {
            return work();
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await.expect("it is never closed");
        let span = tracing::Span::current();
        let work = move || {
            let _turn = turn; // until it is done, even if nobody waits for it any more
            span.in_scope(work)
        };
        tokio::task::spawn_blocking(work).await.expect("to check a request does not panic")
    }

    async fn append(&self, body: Vec<u8>) -> Result<Logged, Error> {
        let (tree, appended) = self.shards.append(|| candidate(&body, &self.clock)).await?;
        let record = match appended.record {
            Some(record) => record,
            None => tree.record(appended.index).await?.ok_or(Error::Missing)?,
        };
        let trees = self.shards.counted();
        let before = trees.iter().find(|(_, other)| Arc::ptr_eq(other, &tree));
        let (before, tree) = before.ok_or(Error::Missing)?;
        tree.logged(*before, &appended.head, appended.index, &record).await
    }

    /// The entry at `index` of all shards; `None` outside the trees.
    ///
    /// # Errors
    /// When it cannot be read or proven.
    pub async fn at(&self, index: u64) -> Result<Option<Logged>, Error> {
        let trees = self.shards.counted();
        let found = trees.iter().rev().find(|(before, _)| *before <= index);
        let (before, tree) = found.expect("the first tree begins at 0");
        self.within(*before, tree, index - before).await
    }

    /// The entry at `index` of one tree.
    async fn within(&self, before: u64, tree: &Tree, index: u64) -> Result<Option<Logged>, Error> {
        let head = tree.log.head();
        match tree.record(index).await? {
            Some(record) if index < head.checkpoint().size => {
                tree.logged(before, &head, index, &record).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The entry with that leaf hash, in the tree with that ID or in any.
    async fn find(&self, id: Option<i64>, leaf: Hash) -> Result<Option<Logged>, Error> {
        let mut trees = self.shards.counted();
        trees.retain(|(_, tree)| id.is_none_or(|id| id == tree.id));
        if trees.is_empty() {
            return Err(Error::OtherTree);
        }
        for (before, tree) in trees {
            if let Some(index) = tree.log.find(leaf).await? {
                return self.within(before, &tree, index).await;
            }
        }
        Ok(None)
    }

    /// The entry named `id`, 80 hexadecimal digits or the 64 of the leaf hash; `None` when there is none.
    ///
    /// # Errors
    /// When `id` is no name, names another tree, or the entry cannot be read or proven.
    pub async fn named(&self, id: &str) -> Result<Option<Logged>, Error> {
        let (tree, leaf) = match id.len() {
            64 => (None, id),
            80 if id.is_ascii() => (Some(&id[..16]), &id[16..]),
            _ => return Err(Error::Id),
        };
        let tree =
            tree.map(|tree| i64::from_str_radix(tree, 16).map_err(|_| Error::Id)).transpose()?;
        let leaf = from_hex(leaf).map_err(|_| Error::Id)?;
        let leaf = Hash::try_from(&leaf[..]).map_err(|_| Error::Id)?;
        self.find(tree, leaf).await
    }

    /// The entry that a request would make, if it is in the log.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), but that nothing is appended.
    pub async fn proposed(&self, request: impl Into<Bytes>) -> Result<Option<Logged>, Error> {
        // Whoever asks for an entry need not be one whose entries are taken.
        let (body, _) = self.check(request.into(), Arc::default()).await?;
        self.find(None, leaf_hash(&body)).await
    }

    /// What `GET /api/v1/log` answers.
    #[must_use]
    pub fn info(&self) -> Value {
        let trees = self.shards.begun();
        let (active, inactive) = trees.split_last().expect("one takes entries");
        let mut info = active.info();
        info["inactiveShards"] = inactive.iter().map(|tree| tree.info()).collect();
        info
    }

    /// What `GET /api/v1/log/proof` answers: that in the tree with that ID, or the one that takes entries,
    /// the tree of `first` leaves is a prefix of that of `last`.
    ///
    /// # Errors
    /// When there is no such tree, or the sizes are not those of trees of this log, in order, from 1.
    pub async fn consistency(
        &self,
        id: Option<&str>,
        first: u64,
        last: Option<u64>,
    ) -> Result<Value, Error> {
        let tree = self.tree(id)?;
        let head = tree.log.head();
        let size = head.checkpoint().size;
        let last = last.unwrap_or(size);
        if first == 0 || first > last || last > size {
            return Err(Error::Sizes { first, last, size });
        }
        let proof = tree.log.prove_consistency_between(&head, first, last).await?;
        let hashes: Vec<_> = proof.path().iter().map(|hash| hex(hash.as_bytes())).collect();
        Ok(json!({ "rootHash": hex(head.checkpoint().root.as_bytes()), "hashes": hashes }))
    }

    /// The key of the tree with that ID, or of the one that takes entries, PEM.
    ///
    /// # Errors
    /// When there is no such tree.
    pub fn public_key(&self, id: Option<&str>) -> Result<String, Error> {
        Ok(Verifier::PublicKey(self.tree(id)?.key.spki()).to_pem())
    }
}

impl Logged {
    /// As Rekor v1 answers: one member, whose name is the entry's.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let entry = &self.entry;
        let promise = entry.promise.as_deref().map(base64);
        let mut verification = json!({ "signedEntryTimestamp": promise });
        if let Some(proof) = &entry.proof {
            let hashes: Vec<_> = proof.hashes.iter().map(|hash| hex(hash.as_bytes())).collect();
            verification["inclusionProof"] = json!({
                "checkpoint": proof.checkpoint, "hashes": hashes, "logIndex": proof.log_index,
                "rootHash": proof.root.map(|root| hex(root.as_bytes())), "treeSize": proof.tree_size });
        }
        json!({ self.id.clone(): {
            "body": base64(&entry.body), "integratedTime": entry.integrated_time,
            "logID": hex(&entry.log_id), "logIndex": entry.log_index, "verification": verification } })
    }
}

/// Why a request got no entry.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Beyond [`MAX_REQUEST`].
    #[error("a request has at most {limit} bytes, found {found}")]
    RequestTooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
    /// Not JSON, or not these members.
    #[error("the request is not as it must be: {0}")]
    Json(String),
    /// A kind that is not taken.
    #[error(
        "expected an entry of kind hashedrekord 0.0.1, dsse 0.0.1 or intoto 0.0.2, found {found:?}"
    )]
    Kind {
        /// Kind and version, shortened.
        found: String,
    },
    /// A member that does not decode.
    #[error("{member} is empty, or not what it must be")]
    Member {
        /// Its path below `spec`.
        member: &'static str,
    },
    /// Not one certificate or public key in PEM.
    #[error("{member}: expected base64 of one PEM block, CERTIFICATE or PUBLIC KEY")]
    Pem {
        /// Its path below `spec`.
        member: &'static str,
    },
    /// A signer whose entries this log does not take.
    #[error("{member}: {refused}")]
    Refused {
        /// Its path below `spec`.
        member: &'static str,
        /// Why.
        refused: accept::Refused,
    },
    /// Whom the log's policy does not let sign.
    #[error(transparent)]
    Denied(#[from] Box<Denied>),
    /// The certificate does not parse.
    #[error(transparent)]
    Certificate(#[from] certificate::Error),
    /// None or too many signatures.
    #[error("expected 1 to {limit} signatures, found {found}")]
    Signatures {
        /// Signatures allowed.
        limit: usize,
        /// Signatures found.
        found: usize,
    },
    /// Too many signatures for so many verifiers.
    #[error("expected at most {limit} pairs of a signature and a verifier, found {found}")]
    Tries {
        /// Pairs allowed.
        limit: usize,
        /// Signatures times verifiers.
        found: usize,
    },
    /// A signature by none of the verifiers.
    #[error("a signature of the envelope is by none of the verifiers")]
    NoVerifier,
    /// The key does not parse, or the signature does not hold.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// Not an entry's name.
    #[error("expected an entry ID of 64 or 80 hexadecimal digits")]
    Id,
    /// The name of an entry elsewhere.
    #[error("the entry ID names another tree than this log's")]
    OtherTree,
    /// Sizes that are not in order.
    #[error("expected 1 <= firstSize <= lastSize <= {size}, found {first} and {last}")]
    Sizes {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
        /// Leaves of the tree.
        size: u64,
    },
    /// The log did not take the entry.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The entry cannot be looked up.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The entry is in the log, and the proof of that could not be made.
    #[error(transparent)]
    Proof(#[from] proof::Error),
    /// The promise could not be signed.
    #[error(transparent)]
    Signing(#[from] signer::Error),
    /// The log's table names an entry that its bundles do not hold.
    #[error("the log has lost an entry that it knows of")]
    Missing,
}
