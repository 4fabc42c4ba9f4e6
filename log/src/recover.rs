//! Opening a log, and coming back after a crash or a failed write: the same steps.
//!
//! The lock's checkpoint is the truth, with what was staged after it: its last swaps may be lost with the power, so
//! staged batches that lead on from it are swapped in again. If what is stored is older, the tiles of the batches that
//! led there are put out by the code that would have done it. Then the root is rebuilt from the right-edge tiles, and the last bundle hashed against them; then the checkpoint is published, or waits
//! for its witnesses. Refused: a published checkpoint that
//! the lock does not know, tiles that lead to another root or past the lock's tree, a lock without a checkpoint
//! beside a store with one. A log that is refused needs a person, not a retry.
//!
//! Tiles past the lock's tree mean that the lock is an older one, whatever else is there: they grow only once
//! their tree is in the lock for good, and what a crash leaves of them is less than that tree has, never more. To go on from
//! such a lock is to sign another tree over what was acknowledged.

use crate::engine::{Head, Options};
use crate::freeze::is_end;
use crate::journal::{Addition, Foreign, Journal};
use crate::read;
use crate::record::Format;
use crate::sequencer::{CHECKPOINT, Grown, Tree};
use crate::signer::{self, Signer};
use crate::store::{CheckpointLock, Source, StoreError, SwapError, TileStore};
use crate::tree::{Edge, HashTile, edge_tiles};
use bytes::Bytes;
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::merkle::{Hash, empty_root};
use countersign_verify::tile::{EntryBundle, FULL, Tile};
use std::sync::Arc;

/// Brings the published log up to its lock and reads its right edge. Returns the lock's tree, and the one
/// that is published: they differ while the newer one waits for its witnesses.
pub(crate) async fn recover(
    options: &Options,
    signer: &Signer,
    store: &dyn TileStore,
    lock: &dyn CheckpointLock,
) -> Result<(Tree, Arc<Head>), OpenError> {
    let format = options.format;
    let published = store.get(CHECKPOINT).await?;
    let mut signed = match lock.load().await? {
        Some(note) => note,
        None if published.is_some() || read::is_past(store, 0).await? => {
            return Err(OpenError::LockMissing);
        }
        None => begin(signer, lock).await?,
    };
    let mut checkpoint = signer.key().open(&signed).map_err(OpenError::LockCheckpoint)?;
    if options.table {
        lock.find(&[]).await?; // a table that cannot be read is told of now, not with the first entry
    }
    let journal = Journal::read(store).await?;
    // What was staged when a log was frozen was staged in vain.
    if !is_end(&checkpoint) {
        let staged =
            |Foreign { name }| OpenError::Damaged { path: format!("the staged batch {name}") };
        for (tree, added) in journal.after(signer.key(), &checkpoint).map_err(staged)? {
            let (first, identities) = (checkpoint.size, &added.identities);
            lock.compare_and_swap(Some(&signed), &added.note, first, identities).await?;
            // Restart finds it in the lock or, without power, after it again.
            let (log, before, size) = (signer.key().origin(), checkpoint.size, tree.size);
            tracing::info!(log, before, size, "a staged batch was not in the database; it is now");
            (checkpoint, signed) = (tree, added.note.clone());
        }
    }
    signer.resume(&signed);
    let published = match &published {
        None if checkpoint.size > 0 => {
            let log = signer.key().origin();
            tracing::warn!(
                log,
                size = checkpoint.size,
                "the stored checkpoint is missing; the database has it, and it is written anew"
            );
            None
        }
        None => None,
        Some(bytes) => {
            let note = std::str::from_utf8(bytes).map_err(|_| OpenError::PublishedText)?;
            let published = signer.key().open(note).map_err(OpenError::PublishedCheckpoint)?;
            compare(&checkpoint, &published)?;
            Some((published, note.to_owned()))
        }
    };
    // Before any tile is written; what `regrow` adds is in the lock's tree.
    if read::is_past(store, checkpoint.size).await? {
        return Err(OpenError::LockOlder { size: checkpoint.size });
    }
    // A frozen log's last tree has two checkpoints.
    if let Some((_, note)) = published.clone().filter(|(tree, _)| *tree == checkpoint) {
        let head = Arc::new(read_head(format, store, checkpoint, signed, note).await?);
        return Ok((Tree::Published(Arc::clone(&head)), head));
    }
    regrow(store, &journal.until(&checkpoint)).await?;
    // A batch is kept until what it adds is durable, so without it that is there; or this is the first
    // checkpoint of a log, or an old one was put back; or something is lost, which shows below.
    let (size, note) = (checkpoint.size, signed.clone());
    let grown = Grown::alone(read_head(format, store, checkpoint, signed, note.clone()).await?);
    if options.witnesses.is_none() || size == 0 {
        let head = grown.store(store, lock, note).await?.head();
        return Ok((Tree::Published(Arc::clone(&head)), head));
    }
    // Nobody is asked here: a log can be read while its witnesses are away.
    let older = match published {
        Some((tree, note)) => read_head(format, store, tree, note.clone(), note).await?,
        None => Head::default(),
    };
    Ok((Tree::Held(grown), Arc::new(older)))
}

async fn begin(signer: &Signer, lock: &dyn CheckpointLock) -> Result<String, OpenError> {
    let note = signer.sign(0, empty_root()).map_err(OpenError::LockCheckpoint)?;
    lock.compare_and_swap(None, &note, 0, &[]).await?;
    // Restart finds a log of size 0 that is not published yet.
    Ok(note)
}

/// Puts out again what batches added.
async fn regrow(store: &dyn TileStore, added: &[&Addition]) -> Result<(), OpenError> {
    for addition in added {
        store.grow(&addition.growth).await.map_err(|error| match error {
            StoreError::Shrunk { path, .. } => OpenError::Damaged { path },
            error => error.into(),
        })?;
        // Restart does all of it again, until a checkpoint is stored.
    }
    Ok(())
}

fn compare(lock: &Checkpoint, published: &Checkpoint) -> Result<(), OpenError> {
    let forked = lock.size == published.size && lock.root != published.root;
    if published.size > lock.size || forked {
        let (lock, published) = ((lock.size, lock.root), (published.size, published.root));
        return Err(OpenError::Disagree { lock, published });
    }
    Ok(())
}

/// Reads the right edge of a tree and its last bundle.
pub(crate) async fn read_head(
    format: Format,
    source: &dyn Source,
    checkpoint: Checkpoint,
    signed: String,
    note: String,
) -> Result<Head, OpenError> {
    let edge = read_edge(source, &checkpoint).await?;
    let tail = read_tail(format, source, &edge).await?.into();
    Ok(Head { checkpoint, signed, note, edge, tail })
}

/// Reads the right edge of a tree and checks that it leads to the checkpoint's root.
pub(crate) async fn read_edge(
    source: &dyn Source,
    checkpoint: &Checkpoint,
) -> Result<Edge, OpenError> {
    let mut levels = Vec::new();
    for tile in edge_tiles(checkpoint.size) {
        levels.push(match tile {
            None => Arc::default(),
            Some(tile) => {
                let (path, bytes) = (tile.path(), read::tile(source, tile).await?);
                let bytes = bytes.ok_or_else(|| OpenError::Missing { path: path.clone() })?;
                let tile = HashTile::from_bytes(&bytes, tile.width);
                Arc::new(tile.ok_or(OpenError::Damaged { path })?)
            }
        });
    }
    let edge = Edge::new(checkpoint.size, levels);
    let (expected, found) = (checkpoint.root, edge.root());
    if expected == found { Ok(edge) } else { Err(OpenError::Root { expected, found }) }
}

/// Reads the last bundle, when it is not full, and checks each record against its hash in the tree.
async fn read_tail(format: Format, source: &dyn Source, edge: &Edge) -> Result<Bytes, OpenError> {
    let Some(Some(Tile { index, width, .. })) = edge_tiles(edge.size()).next() else {
        return Ok(Bytes::new());
    };
    let bundle = EntryBundle { index, width };
    let (path, bytes) = (bundle.path(format.name()), read::bundle(source, format, bundle).await?);
    let bytes = bytes.ok_or_else(|| OpenError::Missing { path: path.clone() })?;
    let hashes = edge.tile(0, edge.size() / u64::from(FULL)).map(|tile| tile.hashes());
    let records = format.records(&bytes);
    let fits = records.is_ok_and(|records| {
        let found = records.iter().map(|record| record.leaf_hash());
        found.eq(hashes.unwrap_or_default().iter().copied())
    });
    if fits { Ok(bytes) } else { Err(OpenError::Damaged { path }) }
}

/// Why a log does not open. All but [`Store`](Self::Store) and [`Swap`](Self::Swap) are for a person
/// to look at.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Storage failed; nothing is known to be wrong with the log.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The first checkpoint could not be swapped in.
    #[error(transparent)]
    Swap(#[from] SwapError),
    /// The lock is empty, but a checkpoint or tiles are stored: the database was lost or is another one.
    #[error("there is a stored log, but the database knows none of it: it is lost, or another one")]
    LockMissing,
    /// There are tiles of a newer tree than the lock's: the database was restored from a backup, or has lost its
    /// latest writes.
    #[error("the database has the tree of size {size}, but there are tiles of a newer one")]
    LockOlder {
        /// Size of the lock's tree.
        size: u64,
    },
    /// The lock's checkpoint is not this log's.
    #[error("the checkpoint in the database is not of this log and key: {0}")]
    LockCheckpoint(signer::Error),
    /// The published checkpoint is not text.
    #[error("the published checkpoint is not UTF-8")]
    PublishedText,
    /// The published checkpoint is not this log's.
    #[error("the published checkpoint is not of this log and key: {0}")]
    PublishedCheckpoint(signer::Error),
    /// Witnesses are configured for a log whose checkpoints cannot be cosigned: a Rekor v1 tree head has one
    /// signature line, and the key of a certificate log has no form that witnesses know.
    #[error("log {origin:?} cannot have witnesses: only a log with an Ed25519 key can")]
    NotWitnessed {
        /// The log.
        origin: String,
    },
    /// Two trees: a database was restored from a backup, or folders were mixed.
    #[error(
        "the database has the tree of size {} with root {}, published is that of size {} with root {}",
        lock.0, lock.1, published.0, published.1
    )]
    Disagree {
        /// Size and root of the lock's tree.
        lock: (u64, Hash),
        /// Size and root of the published tree.
        published: (u64, Hash),
    },
    /// An object that the checkpoint implies is not there.
    #[error("{path} is missing from the log's storage")]
    Missing {
        /// Its name.
        path: String,
    },
    /// An object is not what its name and the tree say.
    #[error("{path} in the log's storage is damaged")]
    Damaged {
        /// Its name.
        path: String,
    },
    /// The right-edge tiles are those of another tree.
    #[error(
        "the tiles of the right edge lead to root {found}, the checkpoint in the database has {expected}"
    )]
    Root {
        /// The lock's root.
        expected: Hash,
        /// The tiles' root.
        found: Hash,
    },
}

impl OpenError {
    /// Whether trying again may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Swap(_))
    }
}
