//! A witness for other logs (C2SP tlog-witness): it cosigns a tree head only if the tree contains the
//! one it cosigned before, and so no two trees of one log ever bear its signature.
//!
//! What was cosigned last, of each log, is a row in SQLite (WAL, `synchronous=FULL`). It is replaced only by
//! a statement that names the row it was checked against: of two requests at a time one loses, and the
//! size never goes back. The cosignature is handed out only when the row is durable.

use crate::Clock;
use crate::database::Database;
use crate::store::StoreError;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use countersign_verify::checkpoint::{self, Checkpoint};
use countersign_verify::merkle::{ConsistencyError, ConsistencyProof, Hash, empty_root};
use countersign_verify::note::{
    self, KeyError, KeyType, Note, Signature, SignatureError, VerifierKey, cosigned,
};
use countersign_verify::witness::{AddCheckpoint, Log, RequestError};
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::HashMap;
use std::path::Path;

/// A witness: its key, the logs it knows, and what it cosigned last.
pub struct Cosigner {
    key: VerifierKey,
    pair: Ed25519KeyPair,
    /// By origin; a log may have several keys.
    logs: HashMap<String, Vec<VerifierKey>>,
    /// By SHA-256 of the origin.
    origins: HashMap<Hash, String>,
    database: Database,
    clock: Clock,
}

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS cosigned (
        origin TEXT PRIMARY KEY,
        size INTEGER NOT NULL,
        root BLOB NOT NULL,
        note TEXT NOT NULL
    ) STRICT, WITHOUT ROWID";

/// A tree that was cosigned.
#[derive(Clone, Copy)]
struct Tree {
    size: u64,
    root: Hash,
}

impl Cosigner {
    /// The witness `name`. Its key is Ed25519, PKCS#8 in DER, and its database the file at `path`, which
    /// is made if need be: with another database it would cosign another tree.
    ///
    /// # Errors
    /// When name or key cannot be used, or the database does not open.
    pub async fn open(
        name: &str,
        pkcs8: &[u8],
        logs: impl IntoIterator<Item = Log>,
        path: &Path,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).map_err(|_| OpenError::PrivateKey)?;
        let key = VerifierKey::new(name, KeyType::Cosignature, pair.public_key().as_ref())?;
        let mut known: HashMap<String, Vec<VerifierKey>> = HashMap::new();
        for Log { origin, key } in logs {
            known.entry(origin).or_default().push(key);
        }
        let origins = known.keys().map(|origin| (Hash::of(origin.as_bytes()), origin.clone()));
        let origins = origins.collect();
        let database = Database::open(path, "", TABLE).await?;
        Ok(Self { key, pair, logs: known, origins, database, clock })
    }

    /// The key that its cosignatures are verified with.
    #[must_use]
    pub const fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Cosigns the checkpoint of a request. Returns the signature line, its LF included.
    ///
    /// # Errors
    /// The first check that fails, in the order of the specification.
    pub async fn add_checkpoint(&self, body: &[u8]) -> Result<String, Refusal> {
        let body = std::str::from_utf8(body).map_err(|_| Refusal::Text)?;
        let AddCheckpoint { old_size, proof, note } = AddCheckpoint::parse(body)?;
        let Checkpoint { origin, size, root, .. } = Checkpoint::parse(note.text())?;
        if i64::try_from(size).is_err() {
            return Err(Refusal::Size);
        }
        let Some(keys) = self.logs.get(&origin) else {
            return Err(Refusal::UnknownLog { origin });
        };
        let mut signed = false;
        for key in keys {
            signed |= key.signed(&note)?.is_some();
        }
        if !signed {
            return Err(Refusal::NotSigned { origin });
        }
        if old_size > size {
            return Err(Refusal::OldSize { old_size, size });
        }
        let last = self.last(&origin).await?;
        let before = last.unwrap_or(Tree { size: 0, root: empty_root() });
        if old_size != before.size {
            return Err(Refusal::Conflict { size: before.size });
        }
        if size == 0 && root != empty_root() {
            return Err(Refusal::EmptyRoot);
        }
        ConsistencyProof::new(old_size, size, proof)?.verify(&before.root, &root)?;
        let line = self.cosign(&note)?;
        let by_log = |line: &&Signature| {
            keys.iter().any(|key| line.name == key.name() && line.key_id == key.id())
        };
        let lines = note.signatures().iter().filter(by_log).cloned().chain([line.clone()]);
        let kept = Note::new(note.text().to_owned(), lines.collect())?;
        self.replace(&origin, last, Tree { size, root }, kept.to_string()).await?;
        // Restart finds this tree as the one cosigned last, whether or not the log gets the answer.
        Ok(format!("{line}\n"))
    }

    /// The checkpoint cosigned last of the log whose origin has this SHA-256, with the signatures of log
    /// and witness; `None` when there is none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn latest(&self, origin: Hash) -> Result<Option<String>, StoreError> {
        let Some(origin) = self.origins.get(&origin) else { return Ok(None) };
        let origin = origin.clone();
        let read = self.database.run("read a checkpoint", move |connection| {
            let note = "SELECT note FROM cosigned WHERE origin = ?1";
            connection.query_row(note, [origin], |row| row.get(0)).optional()
        });
        read.await
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.database.close().await;
    }

    fn cosign(&self, note: &Note) -> Result<Signature, Refusal> {
        let time = u64::try_from((self.clock)().as_second()).ok().filter(|time| *time > 0);
        let time = time.ok_or(Refusal::Clock)?;
        let signature = self.pair.sign(cosigned(time, note.text()).as_bytes());
        let signature = [&time.to_be_bytes()[..], signature.as_ref()].concat();
        Ok(Signature { name: self.key.name().to_owned(), key_id: self.key.id(), signature })
    }

    async fn last(&self, origin: &str) -> Result<Option<Tree>, StoreError> {
        let origin = origin.to_owned();
        self.database.run("read a checkpoint", move |connection| last(connection, &origin)).await
    }

    /// Puts a tree in the place of `last`, if that is still the last one.
    async fn replace(
        &self,
        origin: &str,
        before: Option<Tree>,
        next: Tree,
        note: String,
    ) -> Result<(), Refusal> {
        let origin = origin.to_owned();
        let replaced = self.database.run("keep a checkpoint", move |connection| {
            let root = next.root.as_bytes();
            let replaced = match &before {
                None => connection.execute(
                    "INSERT INTO cosigned (size, root, note, origin) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT DO NOTHING",
                    (next.size, root, note, &origin),
                )?,
                Some(before) => connection.execute(
                    "UPDATE cosigned SET size = ?1, root = ?2, note = ?3
                     WHERE origin = ?4 AND size = ?5 AND root = ?6",
                    (next.size, root, note, &origin, before.size, before.root.as_bytes()),
                )?,
            };
            if replaced == 1 {
                return Ok(Ok(()));
            }
            Ok(Err(last(connection, &origin)?.map_or(0, |tree| tree.size)))
        });
        replaced.await?.map_err(|size| Refusal::Conflict { size })
    }
}

fn last(connection: &Connection, origin: &str) -> Result<Option<Tree>, rusqlite::Error> {
    let last = "SELECT size, root FROM cosigned WHERE origin = ?1";
    let last = connection.query_row(last, [origin], |row| {
        Ok(Tree { size: row.get(0)?, root: Hash::new(row.get(1)?) })
    });
    last.optional()
}

impl std::fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cosigner").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Why a witness cannot begin.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The private key.
    #[error("expected a private key of kind Ed25519 in PKCS#8")]
    PrivateKey,
    /// The name.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a checkpoint is not cosigned.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not text.
    #[error("the request is not UTF-8")]
    Text,
    /// The grammar of the request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The grammar of the checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// A size that no tree has.
    #[error("a tree has fewer than 2^63 leaves")]
    Size,
    /// A log that was not configured.
    #[error("the log {origin:?} is not known here")]
    UnknownLog {
        /// Line 1 of the checkpoint.
        origin: String,
    },
    /// Not signed by the log.
    #[error("the checkpoint has no signature by a key that is known of log {origin:?}")]
    NotSigned {
        /// The log.
        origin: String,
    },
    /// A signature of the log that does not hold.
    #[error("the log's signature does not hold: {0}")]
    Signature(#[from] SignatureError),
    /// The old tree is the larger one.
    #[error("the old size {old_size} is above the checkpoint's size {size}")]
    OldSize {
        /// The size that the proof begins at.
        old_size: u64,
        /// The checkpoint's.
        size: u64,
    },
    /// The proof begins at another tree than the one cosigned last, or another request came first.
    #[error("the tree cosigned last has {size} leaves")]
    Conflict {
        /// Where a proof must begin.
        size: u64,
    },
    /// An empty tree with a root of others.
    #[error("the root of an empty tree is another one")]
    EmptyRoot,
    /// The tree does not contain the one cosigned last.
    #[error("not shown to contain the tree cosigned last: {0}")]
    Consistency(#[from] ConsistencyError),
    /// This machine's clock stands before 1970.
    #[error("the witness's clock tells no time")]
    Clock,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<note::Error> for Refusal {
    fn from(error: note::Error) -> Self {
        Self::Request(error.into())
    }
}
