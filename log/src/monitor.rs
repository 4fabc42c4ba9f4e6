//! Following a log from outside: each tree that it signs must contain the one before, and every entry must
//! be the one in the tree.
//!
//! What is kept from one look to the next is the newest checkpoint and the frontier of what has been read.
//! Entries are handed out a bundle at a time, and only when their hashes were shown to lead to the signed
//! root: nothing can be hidden from whoever reads them. Memory does not grow with the log.

use crate::proof;
use crate::read::Reader;
use crate::recover::OpenError;
use crate::signer;
use async_trait::async_trait;
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::merkle::{Frontier, Hash, leaf_hash};
use countersign_verify::tile::{FULL, width};
use futures_util::stream::{self, BoxStream, StreamExt as _};

/// A log at one of its checkpoints, by whatever protocol it is read: as tiles, or through an interface.
#[async_trait]
pub trait View: Send + Sync {
    /// The tree head, signed by the log.
    fn checkpoint(&self) -> &Checkpoint;

    /// Checks that the tree of `old_size` leaves with `old_root` is a prefix of this one.
    async fn consistency(&self, old_size: u64, old_root: &Hash) -> Result<(), Error>;

    /// The leaves below one level-0 tile, as many as this tree has. They need not be checked.
    async fn leaves(&self, bundle: u64) -> Result<Vec<Vec<u8>>, Error>;
}

#[async_trait]
impl View for Reader {
    fn checkpoint(&self) -> &Checkpoint {
        self.head().checkpoint()
    }

    async fn consistency(&self, old_size: u64, old_root: &Hash) -> Result<(), Error> {
        self.prove_consistency(old_size, old_root).await?;
        Ok(())
    }

    async fn leaves(&self, bundle: u64) -> Result<Vec<Vec<u8>>, Error> {
        Ok(Self::leaves(self, bundle).await?)
    }
}

/// Checks that `view` continues the tree that was seen before.
///
/// # Errors
/// When it does not, or that cannot be told.
pub async fn continues(view: &dyn View, before: &Checkpoint) -> Result<(), Error> {
    let now = view.checkpoint();
    if now.size < before.size {
        return Err(Error::Shrunk { before: before.size, now: now.size });
    }
    if now.size == before.size && now.root != before.root {
        return Err(Error::Forked { size: now.size, before: before.root, now: now.root });
    }
    view.consistency(before.size, &before.root).await
}

/// Bundles that are fetched ahead: at their largest they take 64 MiB.
const AHEAD: usize = 4;

/// Reads the entries that a tree has more than what was read before.
pub struct Walk<'a> {
    view: &'a dyn View,
    frontier: Frontier,
    bundles: BoxStream<'a, Result<Vec<Vec<u8>>, Error>>,
}

/// Entries that are in the tree.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The index of the first one.
    pub first: u64,
    /// What is hashed into the tree, one entry after the other.
    pub leaves: Vec<Vec<u8>>,
}

impl<'a> Walk<'a> {
    /// From the end of `frontier`, which must be of an earlier tree of the same log.
    #[must_use]
    pub fn new(view: &'a dyn View, frontier: Frontier) -> Self {
        let (size, full) = (view.checkpoint().size, u64::from(FULL));
        let bundles =
            if frontier.size() < size { frontier.size() / full..size.div_ceil(full) } else { 0..0 };
        let bundles =
            stream::iter(bundles).map(|bundle| view.leaves(bundle)).buffered(AHEAD).boxed();
        Self { view, frontier, bundles }
    }

    /// The next entries; `None` at the end of the tree.
    ///
    /// # Errors
    /// When entries are missing or not those in the tree.
    pub async fn next(&mut self) -> Result<Option<Batch>, Error> {
        let Some(leaves) = self.bundles.next().await else { return Ok(None) };
        let (mut leaves, first) = (leaves?, self.frontier.size());
        let Checkpoint { size, root, .. } = self.view.checkpoint();
        let (bundle, known) = (first / u64::from(FULL), first % u64::from(FULL));
        let expected = usize::from(width(0, bundle, *size));
        let last = bundle * u64::from(FULL) + u64::from(width(0, bundle, *size)) - 1;
        let refused = || Error::Entries { first, last };
        if leaves.len() != expected {
            return Err(refused());
        }
        let leaves = leaves.split_off(usize::try_from(known).expect("below 256"));
        let mut frontier = self.frontier.clone();
        leaves.iter().for_each(|leaf| frontier.push(leaf_hash(leaf)));
        if frontier.size() == *size {
            if frontier.root() != *root {
                return Err(refused());
            }
        } else {
            let prefix = self.view.consistency(frontier.size(), &frontier.root()).await;
            prefix.map_err(|error| if error.is_away() { error } else { refused() })?;
        }
        self.frontier = frontier;
        Ok(Some(Batch { first, leaves }))
    }

    /// The tree of all that has been read.
    #[must_use]
    pub const fn frontier(&self) -> &Frontier {
        &self.frontier
    }
}

/// Why a log cannot be followed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It did not answer, or not as a log does; nothing is known to be wrong with it.
    #[error("{reason}")]
    Away {
        /// What failed.
        reason: String,
    },
    /// What it shows as its checkpoint is not signed by it, or of another log.
    #[error("what it shows as its checkpoint is none of its own: {0}")]
    Checkpoint(signer::Error),
    /// It signed a larger tree before.
    #[error("it shows a tree of {now} entries, after one of {before}")]
    Shrunk {
        /// Leaves before.
        before: u64,
        /// Leaves now.
        now: u64,
    },
    /// It signed two trees of one size.
    #[error("it signed two trees of {size} entries: with root {before}, and with root {now}")]
    Forked {
        /// Leaves of both.
        size: u64,
        /// The root before.
        before: Hash,
        /// The root now.
        now: Hash,
    },
    /// The newer tree does not contain the older one, or it cannot be shown.
    #[error("its tree does not contain the one it signed before: {reason}")]
    Inconsistent {
        /// What was expected and found.
        reason: String,
    },
    /// Entries that are not those in the tree.
    #[error("entries {first} to {last} are not those in the tree that it signed")]
    Entries {
        /// The first one that was read.
        first: u64,
        /// The last one of the bundle.
        last: u64,
    },
    /// Its tiles are missing, damaged, or lead to another root.
    #[error("it does not show the tree that it signed: {reason}")]
    Broken {
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// Whether nothing is known to be wrong with the log.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(error) => Self::Away { reason: error.to_string() },
            OpenError::PublishedCheckpoint(error) => Self::Checkpoint(error),
            error => Self::Broken { reason: error.to_string() },
        }
    }
}

impl From<proof::Error> for Error {
    fn from(error: proof::Error) -> Self {
        let reason = error.to_string();
        match error {
            proof::Error::Store(_) => Self::Away { reason },
            proof::Error::Consistency(_) => Self::Inconsistent { reason },
            _ => Self::Broken { reason },
        }
    }
}
