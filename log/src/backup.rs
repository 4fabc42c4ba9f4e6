//! A copy of a log as it was at one checkpoint, while the log goes on.
//!
//! The checkpoint comes first, out of a snapshot of the lock; its tree's tiles and bundles never change, so
//! they can be copied after it at leisure, each cut to what the tree has.

use crate::record::Format;
use crate::sequencer::CHECKPOINT;
use crate::signer::{self, LogKey};
use crate::store::{Growth, Source, StoreError, TileStore};
use crate::{fsck, read};
use bytes::Bytes;
use countersign_verify::tile::{EntryBundle, FULL, Tile, width};
use std::sync::Arc;
use std::time::Duration;

/// Tiles or bundles that settle at once: so many files are open meanwhile.
const SETTLE_EVERY: u64 = 64;

/// How often a tile is looked for that the checkpoint implies: a log publishes what it has committed within
/// its longest batch.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// Copies the tree of `note`, a checkpoint of `key`, and reads the copy as an outsider, every hash of it.
///
/// # Errors
/// When the note is not the log's, something is missing, or the copy is not whole.
pub async fn copy(
    from: &dyn Source,
    to: Arc<dyn TileStore>,
    key: &LogKey,
    format: Format,
    note: &str,
) -> Result<fsck::Report, Error> {
    let size = key.open(note)?.size;
    let mut rows = size;
    for level in 0.. {
        if rows == 0 {
            break;
        }
        for index in 0..rows.div_ceil(u64::from(FULL)) {
            let tile = Tile { level, index, width: width(level, index, size) };
            if index % SETTLE_EVERY == 0 {
                to.settle().await?;
            }
            let (full, length) =
                (Tile { width: FULL, ..tile }.path(), 32 * usize::from(tile.width));
            let bytes = once_there(&full, async || {
                let found = read::tile(from, tile).await?;
                Ok(found.filter(|bytes| bytes.len() == length))
            });
            grow(&*to, full.clone(), bytes.await?, tile.width).await?;
        }
        rows /= u64::from(FULL);
    }
    for index in 0..size.div_ceil(u64::from(FULL)) {
        let bundle = EntryBundle { index, width: width(0, index, size) };
        let full = EntryBundle { width: FULL, ..bundle }.path(format.name());
        if index % SETTLE_EVERY == 0 {
            to.settle().await?;
        }
        let bytes = once_there(&full, async || {
            let found = read::bundle(from, format, bundle).await?;
            let whole = |bytes: &Bytes| {
                let records = format.records(bytes).ok();
                records.is_some_and(|records| records.len() == usize::from(bundle.width))
            };
            Ok(found.filter(whole))
        });
        grow(&*to, full.clone(), bytes.await?, bundle.width).await?;
    }
    to.settle().await?;
    to.put(CHECKPOINT, note.to_owned().into()).await?;
    let copy: Arc<dyn Source> = to;
    Ok(fsck::fsck(&copy, key, format, |_, _| ()).await?)
}

/// Reads until it is all there: the log may not have published yet what it has committed.
async fn once_there(
    path: &str,
    read: impl AsyncFn() -> Result<Option<Bytes>, StoreError>,
) -> Result<Bytes, Error> {
    for _ in 0..TRIES {
        if let Some(bytes) = read().await? {
            return Ok(bytes);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(Error::Missing { path: path.to_owned() })
}

async fn grow(
    to: &dyn TileStore,
    path: String,
    bytes: Bytes,
    width: u16,
) -> Result<(), StoreError> {
    to.grow(&[Growth { path, offset: 0, bytes, width }]).await
}

/// Why a log was not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint is not this log's.
    #[error("the checkpoint in the database is not of this log and key: {0}")]
    Checkpoint(#[from] signer::Error),
    /// What the checkpoint implies does not come.
    #[error("{path} is missing or too short: what the log has committed is not published")]
    Missing {
        /// Its name.
        path: String,
    },
    /// Reading or writing.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The copy does not lead to the checkpoint's root.
    #[error("the copy is not whole: {0}")]
    NotWhole(#[from] fsck::Error),
}
