//! Reading a published log: objects by their coordinates, entries by index, and a whole log from
//! outside.
//!
//! Partial tiles may be dropped once the full one is there; whoever still asks for one gets its part of
//! that (C2SP tlog-tiles).

use crate::engine::Head;
use crate::proof::{self, Tiles};
use crate::record::Format;
use crate::recover::{OpenError, read_head};
use crate::signer::LogKey;
use crate::store::{Source, StoreError, TileStore};
use bytes::Bytes;
use countersign_verify::merkle::{ConsistencyProof, Hash, InclusionProof};
use countersign_verify::tile::{EntryBundle, FULL, Tile, width};
use std::sync::Arc;

/// The hashes of a tile.
pub(crate) async fn tile(source: &dyn Source, tile: Tile) -> Result<Option<Bytes>, StoreError> {
    let full = Tile { width: FULL, ..tile };
    if tile.width == FULL {
        return source.get(&full.path()).await;
    }
    let found = longer(source, &tile.path(), &full.path()).await?;
    let length = 32 * usize::from(tile.width);
    Ok(found.map(|bytes| bytes.slice(..length.min(bytes.len()))))
}

/// The records of a bundle.
pub(crate) async fn bundle(
    source: &dyn Source,
    format: Format,
    bundle: EntryBundle,
) -> Result<Option<Bytes>, StoreError> {
    let full = EntryBundle { width: FULL, ..bundle }.path(format.name());
    if bundle.width == FULL {
        return source.get(&full).await;
    }
    let found = longer(source, &bundle.path(format.name()), &full).await?;
    Ok(found.map(|bytes| format.cut(&bytes, bundle.width)))
}

/// Whether there is anything of a leaf after the first `size`: its hash or a part of that, or a tile for it.
pub(crate) async fn is_past(store: &dyn TileStore, size: u64) -> Result<bool, StoreError> {
    let (index, width) = (size / u64::from(FULL), size % u64::from(FULL));
    let [least, full] = [1, FULL].map(|width| Tile { level: 0, index, width }.path());
    // All of it that is there, see the contract of stores.
    let found = longer(store, &least, &full).await?;
    Ok(found.is_some_and(|bytes| width == 0 || bytes.len() as u64 > 32 * width))
}

/// What begins with a partial tile or bundle.
async fn longer(
    source: &dyn Source,
    partial: &str,
    full: &str,
) -> Result<Option<Bytes>, StoreError> {
    match source.get(partial).await? {
        None => source.get(full).await,
        found => Ok(found),
    }
}

/// The record at `index` of `head`, framing included, not checked against the tree.
pub(crate) async fn record(
    source: &dyn Source,
    format: Format,
    head: &Head,
    index: u64,
) -> Result<Option<Bytes>, proof::Error> {
    let size = head.checkpoint().size;
    let (number, place) = (index / u64::from(FULL), index % u64::from(FULL));
    if index >= size {
        return Ok(None);
    }
    let path = EntryBundle { index: number, width: FULL }.path(format.name());
    let bytes = if number == size / u64::from(FULL) {
        head.tail.bytes()
    } else {
        let found = source.get(&path).await?;
        found.ok_or_else(|| proof::Error::Missing { path: path.clone() })?
    };
    let records = format.records(&bytes).ok();
    let place = usize::try_from(place).expect("below 256");
    let record = records.as_ref().and_then(|records| records.get(place));
    let record = record.ok_or(proof::Error::Damaged { path })?;
    Ok(Some(bytes.slice_ref(record.bytes)))
}

/// The published checkpoint, not checked.
pub(crate) async fn note(source: &dyn Source) -> Result<String, OpenError> {
    let path = "checkpoint";
    let note = source.get(path).await?;
    let note = note.ok_or_else(|| OpenError::Missing { path: path.to_owned() })?;
    Ok(std::str::from_utf8(&note).map_err(|_| OpenError::PublishedText)?.to_owned())
}

/// A log as an outsider reads it: one signed tree, and what can be proven in it.
pub struct Reader {
    format: Format,
    log_id: [u8; 32],
    head: Head,
    tiles: Tiles,
}

/// An entry that is in the tree.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The bytes hashed into the tree: the body; of a certificate log the RFC 6962 MerkleTreeLeaf.
    pub leaf: Vec<u8>,
    /// When it was integrated, seconds since the epoch, as the log's bundle has it; nothing proves it.
    pub time: Option<u64>,
    /// Its place, verified.
    pub proof: InclusionProof,
}

impl Reader {
    /// Fetches the checkpoint, checks its signature, and reads the tree's right edge.
    ///
    /// # Errors
    /// When the checkpoint is not of `key`, or tiles are missing or lead to another root.
    pub async fn open(
        source: Arc<dyn Source>,
        key: &LogKey,
        format: Format,
    ) -> Result<Self, OpenError> {
        let note = note(&*source).await?;
        Self::at(source, key, format, note).await
    }

    /// The tree of a checkpoint that was published once: checks its signature, and reads the right edge
    /// that the tree had then.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn at(
        source: Arc<dyn Source>,
        key: &LogKey,
        format: Format,
        note: String,
    ) -> Result<Self, OpenError> {
        let checkpoint = key.open(&note).map_err(OpenError::PublishedCheckpoint)?;
        let head = read_head(format, &*source, checkpoint, note.clone(), note).await?;
        Ok(Self { format, log_id: *key.log_id(), head, tiles: Tiles::new(source) })
    }

    /// The tree that was read.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The log's 32-byte ID.
    #[must_use]
    pub const fn log_id(&self) -> &[u8; 32] {
        &self.log_id
    }

    /// How entries lie in its bundles.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The entry at `index`, with the proof that it is there; `None` outside the tree.
    ///
    /// # Errors
    /// When it is not, or objects are missing or damaged.
    pub async fn prove_inclusion(&self, index: u64) -> Result<Option<Proven>, proof::Error> {
        let (source, format) = (&*self.tiles.source, self.format);
        let Some(record) = record(source, format, &self.head, index).await? else {
            return Ok(None);
        };
        let records = format.records(&record).ok();
        let record = records.as_ref().and_then(|records| records.first());
        let record = record.expect("a record of a bundle is a bundle of one record");
        let (leaf, time) = (record.leaf(), record.time);
        let proof = proof::inclusion(&self.tiles, &self.head, index, &leaf).await?;
        Ok(Some(Proven { leaf, time, proof }))
    }

    /// The hash of the leaf at `index`, which is inside the tree; not proven.
    ///
    /// # Errors
    /// When its tile is missing or damaged.
    pub async fn leaf_hash(&self, index: u64) -> Result<Hash, proof::Error> {
        proof::leaf_hash(&self.tiles, &self.head, index).await
    }

    /// The records of the bundle at `index`, as many as the tree has; not checked against it.
    ///
    /// # Errors
    /// When the bundle is missing.
    pub(crate) async fn bundle(&self, index: u64) -> Result<Bytes, proof::Error> {
        let bundle = EntryBundle { index, width: width(0, index, self.head.checkpoint.size) };
        if bundle.width < FULL {
            return Ok(self.head.tail.bytes());
        }
        let found = self::bundle(&*self.tiles.source, self.format, bundle).await?;
        found.ok_or_else(|| proof::Error::Missing { path: bundle.path(self.format.name()) })
    }

    /// Where the objects come from.
    pub(crate) fn source(&self) -> &Arc<dyn Source> {
        &self.tiles.source
    }

    /// The entries of the bundle at `index` that the tree has, each with its proof.
    ///
    /// # Errors
    /// When one is not in the tree, or objects are missing or damaged.
    pub async fn prove_bundle(&self, index: u64) -> Result<Vec<Proven>, proof::Error> {
        let bytes = self.bundle(index).await?;
        let path = || EntryBundle { index, width: FULL }.path(self.format.name());
        let records = self.format.records(&bytes);
        let records = records.map_err(|_| proof::Error::Damaged { path: path() })?;
        let mut proven = Vec::with_capacity(records.len());
        for (index, record) in (index * u64::from(FULL)..).zip(records) {
            let (leaf, time) = (record.leaf(), record.time);
            let proof = proof::inclusion(&self.tiles, &self.head, index, &leaf).await?;
            proven.push(Proven { leaf, time, proof });
        }
        Ok(proven)
    }

    /// The root over the first `size` leaves, from 1 to as many as the tree has; out of tiles, not proven.
    ///
    /// # Errors
    /// When tiles are missing or damaged.
    pub async fn root(&self, size: u64) -> Result<Hash, proof::Error> {
        proof::root(&self.tiles, &self.head, size).await
    }

    /// Proves that the tree of `first` leaves is a prefix of that of `last`: their roots are as given. Both
    /// are at least 1 and within this tree.
    ///
    /// # Errors
    /// When they are not, or tiles are missing or damaged.
    pub async fn prove_prefix(
        &self,
        first: (u64, &Hash),
        last: (u64, &Hash),
    ) -> Result<ConsistencyProof, proof::Error> {
        proof::prefix(&self.tiles, &self.head, first, last).await
    }

    /// What is hashed into the tree below the level-0 tile number `bundle`; not checked against it.
    ///
    /// # Errors
    /// When the bundle is missing or does not split into records.
    pub async fn leaves(&self, bundle: u64) -> Result<Vec<Vec<u8>>, proof::Error> {
        let path = || EntryBundle { index: bundle, width: FULL }.path(self.format.name());
        let bytes = self.bundle(bundle).await?;
        let records = self.format.records(&bytes);
        let records = records.map_err(|_| proof::Error::Damaged { path: path() })?;
        Ok(records.iter().map(|record| record.leaf()).collect())
    }

    /// Proves that the tree of `old_size` leaves with `old_root` is a prefix of this one.
    ///
    /// # Errors
    /// When it is not, or tiles are missing or damaged.
    pub async fn prove_consistency(
        &self,
        old_size: u64,
        old_root: &Hash,
    ) -> Result<ConsistencyProof, proof::Error> {
        proof::consistency(&self.tiles, &self.head, old_size, old_root).await
    }
}
