//! What a log asks of storage: [`TileStore`] and [`CheckpointLock`], whose comments are the contract.
//! One suite of tests, with every write failing twice, holds each implementation to it. [`Source`] is
//! the part of a tile store that outsiders have too.

pub mod files;
pub mod sqlite;

pub use files::{Files, Folder};
pub use sqlite::Sqlite;

use async_trait::async_trait;
use bytes::Bytes;
use countersign_verify::merkle::Hash;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// The published objects of a log, by path relative to its prefix: `checkpoint`, `tile/…`, and for
/// certificate logs `issuer/…`. A folder, a server; trusted in nothing.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Reads an object; `None` when there is none. For a partial tile or bundle (`….p/<W>`) this may
    /// be more than was asked for: a longer part of the full one. The engine cuts it.
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError>;
}

/// Tiles and entry bundles, which grow until they are full and never change otherwise; other named
/// objects; and staged batches.
///
/// Growth is not durable by itself, for a batch would sync many files: it is the staged batches that
/// survive loss of power, and the growth of many is made durable at once, by [`settle`](Self::settle).
///
/// Names are paths relative to the log, of letters, digits, `.`, `-` and single `/`. A tile store is
/// not trusted: it can stop a log, not fool it.
///
/// Whatever part of a tile is [asked for](Source::get), all that has grown of it is answered.
///
/// [`grow`](Self::grow) and [`stage`](Self::stage) may block their thread: the sequencer has one to itself.
#[async_trait]
pub trait TileStore: Source {
    /// Publishes what tiles and bundles have grown by, in any order. Once this returns `Ok`, all of it
    /// can be read; what of it survives loss of power before it is settled is not said. After an error
    /// any part may be there or not. The same growth comes again after a crash and after an error, also
    /// on top of later growth; other growth only once this has succeeded.
    async fn grow(&self, growth: &[Growth]) -> Result<(), StoreError>;

    /// Has all growth until the call survive loss of power: it does once the future has returned `Ok`.
    /// Batches may be staged and grow meanwhile. After an error the batches that were staged since the
    /// last success are still there, and their growth comes again. Called while no batch is staged whose
    /// growth is to come, and no other future of this is under way.
    fn settle(&self) -> BoxFuture<'static, Result<(), StoreError>>;

    /// Writes an object whole, in place of the one of that name: the checkpoint, or an issuer's
    /// certificate. Once this returns `Ok`, it survives loss of power. After an error the old one or
    /// the new one is there, never a part.
    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// Keeps a batch until its growth is settled. Once this returns `Ok`, it survives loss of power.
    /// After an error it may be there or not; it is not asked for then, and the next takes its place.
    /// One process at a time stages batches of a log.
    async fn stage(&self, batch: StagedBatch) -> Result<(), StoreError>;

    /// The batches in the order in which they were staged: all that may not be settled, perhaps some before
    /// them, and the one whose staging ended with an error, or a part of it.
    async fn staged(&self) -> Result<Vec<StagedBatch>, StoreError>;
}

/// What a batch adds, until that is durable in tiles and bundles.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StagedBatch {
    /// The tree that it leads to.
    pub name: String,
    /// The tree that it is added to.
    pub after: String,
    /// What it adds.
    pub bytes: Bytes,
}

/// What one tile or bundle has grown by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Growth {
    /// The name of the full one, even when it is not full.
    pub path: String,
    /// Bytes that were there before.
    pub offset: u64,
    /// Bytes that follow them.
    pub bytes: Bytes,
    /// Hashes or entries in it now; at 256 it is full.
    pub width: u16,
}

/// Entries of one swap.
pub const MAX_BATCH: usize = 1024;

/// The one place that decides which tree is the log's: its latest checkpoint, and the table of bodies
/// that are in it.
#[async_trait]
pub trait CheckpointLock: Send + Sync + 'static {
    /// The signed note that was last swapped in; `None` before the first.
    async fn load(&self) -> Result<Option<String>, StoreError>;

    /// Replaces `expected` by `new` and adds the entries from the index `first` on, by their identities, to the
    /// table: both or neither. They are at most [`MAX_BATCH`]. `None` expects that there is no checkpoint yet. Once this
    /// returns `Ok`, everybody finds both. Loss of power may take the last swaps that have not settled, none without
    /// all those after it. After [`SwapError::Store`] it may have happened or not; a later
    /// [`load`](Self::load) tells. At most one of several swaps from the same `expected` succeeds.
    async fn compare_and_swap(
        &self,
        expected: Option<&str>,
        new: &str,
        first: u64,
        identities: &[Hash],
    ) -> Result<(), SwapError>;

    /// Has all swaps until the call survive loss of power: they do once this returns `Ok`. Swaps may come
    /// meanwhile.
    async fn settle(&self) -> Result<(), StoreError>;

    /// Looks identities up in the table: those that are known, with their indices, in any order.
    async fn find(&self, identities: &[Hash]) -> Result<Vec<(Hash, u64)>, StoreError>;
}

/// Why storage did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file operation.
    #[error("could not {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or folder.
        path: String,
        /// What the system says.
        source: Arc<std::io::Error>,
    },
    /// A database operation.
    #[error("could not {operation} in the database: {source}")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// What the database says.
        source: Arc<rusqlite::Error>,
    },
    /// A source of published objects other than ours.
    #[error("could not fetch {path}: {source}")]
    Fetch {
        /// The object.
        path: String,
        /// What the source says.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A tile or bundle has fewer bytes than were written to it.
    #[error("{path} has {found} bytes, expected at least {expected}")]
    Shrunk {
        /// The file.
        path: String,
        /// Bytes that were written.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// A name that is none.
    #[error("{path:?} is no object name")]
    Name {
        /// The name.
        path: String,
    },
}

/// Why a checkpoint was not swapped in, or may not have been.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// Another checkpoint is there. Nothing was changed.
    #[error("expected the log's checkpoint to be the one last read, found another")]
    Conflict,
    /// It is not known whether the swap happened.
    #[error(transparent)]
    Store(#[from] StoreError),
}
