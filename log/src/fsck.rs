//! Reads a whole log as an outsider, from its published objects and public key alone.
//!
//! Entries are hashed into the tree from the left; every tile that this fills, and every partial tile
//! at the end, must be the published one, and the root that of the signed checkpoint. Memory does not
//! grow with the log, but for 16 bytes an entry to tell repeats.

use crate::read;
use crate::record::{self, Format};
use crate::signer::{self, LogKey};
use crate::store::{Source, StoreError};
use crate::tree::{Edge, Filled, HashTile};
use bytes::Bytes;
use countersign_verify::merkle::Hash;
use countersign_verify::tile::{EntryBundle, FULL, Tile, width};
use futures_util::stream::{self, StreamExt as _};
use std::collections::HashSet;
use std::sync::Arc;

/// A log that was read from end to end and found whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// Leaves.
    pub size: u64,
    /// The root, as signed and as computed.
    pub root: Hash,
    /// Entries whose body was in the log before. They do no harm, but a log of ours makes none.
    pub repeated: u64,
}

/// Bundles that are fetched and hashed at a time: enough to keep the cores busy while a server is waited
/// for; at their largest they take 256 MiB.
const AT_ONCE: usize = 16;

/// Reads the log of `key` from `source`. Bundles are read side by side and looked at from the left;
/// `progress` is told how many entries of how many have been found right. Runs on a runtime of tokio.
///
/// # Errors
/// The first thing that is wrong, by the name of the object it is wrong in.
pub async fn fsck(
    source: &Arc<dyn Source>,
    key: &LogKey,
    format: Format,
    progress: impl Fn(u64, u64),
) -> Result<Report, Error> {
    let note = published(&**source).await?;
    visit(source, key, format, &note, progress, &mut |_, _| ()).await
}

/// The published checkpoint, not checked.
///
/// # Errors
/// When there is none, or none that is text.
pub async fn published(source: &dyn Source) -> Result<String, Error> {
    let note = source.get("checkpoint").await?;
    let note = note.ok_or_else(|| Error::Missing { path: "checkpoint".to_owned() })?;
    Ok(std::str::from_utf8(&note).map_err(|_| Error::Text)?.to_owned())
}

/// As [`fsck`], of the tree that the checkpoint `note` is about, and shows each entry to `visitor`, from the first
/// to the last: its index, and its record with the framing. All of them were in the signed tree when this returns
/// without an error, and only then.
///
/// # Errors
/// As there.
pub async fn visit(
    source: &Arc<dyn Source>,
    key: &LogKey,
    format: Format,
    note: &str,
    progress: impl Fn(u64, u64),
    visitor: &mut (dyn FnMut(u64, &[u8]) + Send),
) -> Result<Report, Error> {
    let checkpoint = key.open(note)?;
    let size = checkpoint.size;
    let (mut edge, mut filled) = (Edge::default(), Vec::new());
    let (mut identities, mut repeated) = (HashSet::new(), 0);
    let bundles = (0..size.div_ceil(u64::from(FULL))).map(|index| {
        let bundle = Bundle { format, index, width: width(0, index, size) };
        let source = Arc::clone(source);
        let read = tokio::spawn(async move { bundle.read(&*source).await });
        async move { read.await.expect("reading does not panic") }
    });
    let mut bundles = stream::iter(bundles).buffered(AT_ONCE);
    while let Some(read) = bundles.next().await {
        let Read { bundle, entries, tile, records } = read?;
        bundle.compare(&**source, &entries, &tile, size, checkpoint.root, &edge).await?;
        for (index, record) in (edge.size()..).zip(&records) {
            visitor(index, record);
        }
        for (hash, identity) in entries {
            edge.push(hash, &mut filled);
            let identity: [u8; 16] = *identity.as_bytes().first_chunk().expect("32 bytes");
            repeated += u64::from(!identities.insert(identity));
        }
        // Those of level 0 have been compared.
        for Filled { level, index, tile } in filled.drain(..).filter(|filled| filled.level > 0) {
            compare(&**source, Tile { level, index, width: FULL }, &tile).await?;
        }
        progress(edge.size(), size);
    }
    for (tile, _, hashes) in edge.growth(0, &[]).filter(|(tile, ..)| tile.level > 0) {
        compare(&**source, tile, hashes).await?;
    }
    let (expected, found) = (checkpoint.root, edge.root());
    if expected != found {
        return Err(Error::Root { expected, found });
    }
    Ok(Report { size, root: found, repeated })
}

/// All below it has been found right, so a difference is the tile's own.
async fn compare(source: &dyn Source, tile: Tile, expected: &HashTile) -> Result<(), Error> {
    let found = fetch_tile(source, tile).await?;
    if found[..] == expected.bytes_from(0)[..] {
        Ok(())
    } else {
        Err(Error::Tile { path: tile.path() })
    }
}

struct Bundle {
    format: Format,
    index: u64,
    width: u16,
}

/// A bundle and the level-0 tile above it, not compared.
struct Read {
    bundle: Bundle,
    /// Leaf hashes and identities.
    entries: Vec<(Hash, Hash)>,
    tile: Bytes,
    records: Vec<Bytes>,
}

impl Bundle {
    const fn tile(&self) -> Tile {
        Tile { level: 0, index: self.index, width: self.width }
    }

    fn path(&self) -> String {
        EntryBundle { index: self.index, width: self.width }.path(self.format.name())
    }

    async fn read(self, source: &dyn Source) -> Result<Read, Error> {
        let path = self.path();
        let bundle = EntryBundle { index: self.index, width: self.width };
        let bytes = read::bundle(source, self.format, bundle).await?;
        let bytes = bytes.ok_or_else(|| Error::Missing { path: path.clone() })?;
        let refused = |error| Error::Bundle { path: path.clone(), source: error };
        let records = self.format.records(&bytes).map_err(refused)?;
        let (expected, found) = (usize::from(self.width), records.len());
        if expected != found {
            return Err(Error::Count { path, expected, found });
        }
        let entries = records.iter().map(|record| (record.leaf_hash(), record.identity()));
        let entries = entries.collect();
        let records = records.iter().map(|record| bytes.slice_ref(record.bytes)).collect();
        let tile = fetch_tile(source, self.tile()).await?;
        Ok(Read { bundle: self, entries, tile, records })
    }

    /// Compares the entries with the tile; where they differ, says which of the two is wrong.
    async fn compare(
        &self,
        source: &dyn Source,
        entries: &[(Hash, Hash)],
        tile: &[u8],
        size: u64,
        root: Hash,
        before: &Edge,
    ) -> Result<(), Error> {
        let computed: Vec<_> = entries.iter().map(|(hash, _)| *hash).collect();
        let (stored, rest) = tile.as_chunks::<32>();
        let differs =
            computed.iter().zip(stored).position(|(hash, stored)| hash.as_bytes() != stored);
        if differs.is_none() && rest.is_empty() && stored.len() == computed.len() {
            return Ok(());
        }
        // Entry or hash? What stands above the tile decides.
        match differs {
            Some(entry) if !self.is_signed(source, size, root, before, &computed).await? => {
                let index = self.index * u64::from(FULL) + entry as u64;
                Err(Error::Entry { path: self.path(), index })
            }
            _ => Err(Error::Tile { path: self.tile().path() }),
        }
    }

    /// Whether the tree above this bundle is that of `leaves`.
    async fn is_signed(
        &self,
        source: &dyn Source,
        size: u64,
        root: Hash,
        before: &Edge,
        leaves: &[Hash],
    ) -> Result<bool, Error> {
        let (mut edge, mut filled) = (before.clone(), Vec::new());
        for leaf in leaves {
            edge.push(*leaf, &mut filled);
        }
        if self.width < FULL {
            return Ok(edge.root() == root);
        }
        let (index, place) = (self.index / u64::from(FULL), self.index % u64::from(FULL));
        let above = Tile { level: 1, index, width: width(1, index, size) };
        let above = fetch_tile(source, above).await?;
        let mut whole = HashTile::default();
        let computed = leaves.iter().find_map(|leaf| whole.push(*leaf));
        let place = usize::try_from(place).expect("below 256");
        let stored = above.as_chunks::<32>().0.get(place).copied().map(Hash::new);
        Ok(computed == stored)
    }
}

async fn fetch_tile(source: &dyn Source, tile: Tile) -> Result<Bytes, Error> {
    let found = read::tile(source, tile).await?;
    found.ok_or_else(|| Error::Missing { path: tile.path() })
}

/// What is wrong with a log, first from the left.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source failed; nothing is known to be wrong with the log.
    #[error(transparent)]
    Source(#[from] StoreError),
    /// An object that the checkpoint implies is not there.
    #[error("{path} is missing")]
    Missing {
        /// The object.
        path: String,
    },
    /// The checkpoint is not text.
    #[error("checkpoint: not UTF-8")]
    Text,
    /// The checkpoint is not this log's.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] signer::Error),
    /// A bundle does not split into records.
    #[error("{path}: {source}")]
    Bundle {
        /// The bundle.
        path: String,
        /// Why.
        source: record::Error,
    },
    /// A bundle of another length.
    #[error("{path}: expected {expected} entries, found {found}")]
    Count {
        /// The bundle.
        path: String,
        /// Entries that the checkpoint implies.
        expected: usize,
        /// Entries in it.
        found: usize,
    },
    /// An entry is not the one in the tree.
    #[error("{path}: entry {index} is not the one that was hashed into the tree")]
    Entry {
        /// Its bundle.
        path: String,
        /// Its place in the log.
        index: u64,
    },
    /// A tile's hashes are not those of what is below it.
    #[error("{path}: the hashes are not those of what lies below")]
    Tile {
        /// The tile.
        path: String,
    },
    /// Entries and tiles agree, the signed root differs.
    #[error("checkpoint: the root is {expected}, that of the entries {found}")]
    Root {
        /// The signed root.
        expected: Hash,
        /// The computed one.
        found: Hash,
    },
}

impl Error {
    /// The object that is wrong; `None` when the source failed.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Source(_) => None,
            Self::Text | Self::Checkpoint(_) | Self::Root { .. } => Some("checkpoint"),
            Self::Missing { path }
            | Self::Bundle { path, .. }
            | Self::Count { path, .. }
            | Self::Entry { path, .. }
            | Self::Tile { path } => Some(path),
        }
    }
}
