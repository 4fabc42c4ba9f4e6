//! Proofs out of tiles: the right edge from memory, full tiles from a small cache or the store.
//!
//! Each hash of a proof is the root over a range of leaves (RFC 6962, section 2.1); it is folded from
//! the complete nodes that make up the range. A proof is verified before it is handed out: the store
//! is not trusted, and a proof that a client refuses costs more than one that is not given.

use crate::engine::Head;
use crate::store::{Source, StoreError};
use crate::tree::{Filled, HashTile};
use countersign_verify::merkle::{
    ConsistencyError, ConsistencyProof, Hash, InclusionError, InclusionProof, node_hash,
};
use countersign_verify::tile::{FULL, Tile};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Full tiles: where they are stored, and a cache before it.
pub(crate) struct Tiles {
    pub(crate) source: Arc<dyn Source>,
    cache: Mutex<Cache>,
}

/// Full tiles in memory, each with the tick of its last use.
#[derive(Default)]
struct Cache {
    tiles: HashMap<(u8, u64), (Arc<HashTile>, u64)>,
    tick: u64,
}

/// Tiles in the cache: 16 KiB each, so 8 MiB, for the proofs of the last 131072 leaves.
const CACHED: usize = 512;

impl Tiles {
    pub(crate) fn new(source: Arc<dyn Source>) -> Self {
        Self { source, cache: Mutex::default() }
    }

    pub(crate) fn remember(&self, filled: Vec<Filled>) {
        let mut cache = self.cache.lock();
        for Filled { level, index, tile } in filled {
            cache.insert(level, index, tile);
        }
    }

    /// What a failed verification may have come from is read anew next time.
    pub(crate) fn forget(&self) {
        self.cache.lock().tiles.clear();
    }

    async fn get(&self, head: &Head, level: u8, index: u64) -> Result<Arc<HashTile>, Error> {
        if let Some(tile) = head.edge.tile(level, index) {
            return Ok(Arc::clone(tile));
        }
        if let Some(tile) = self.cache.lock().get(level, index) {
            return Ok(tile);
        }
        let path = Tile { level, index, width: FULL }.path();
        let bytes = self.source.get(&path).await?;
        let bytes = bytes.ok_or_else(|| Error::Missing { path: path.clone() })?;
        let tile = HashTile::from_bytes(&bytes, FULL).ok_or(Error::Damaged { path })?;
        let tile = Arc::new(tile);
        self.cache.lock().insert(level, index, Arc::clone(&tile));
        Ok(tile)
    }

    /// The root over the leaves `range`, which begins where a subtree at least as large begins.
    async fn root(&self, head: &Head, range: Range<u64>) -> Result<Hash, Error> {
        let (first, mut start) = self.largest(head, &range).await?;
        let mut smaller = Vec::new(); // most ranges are one subtree
        while start < range.end {
            let (node, end) = self.largest(head, &(start..range.end)).await?;
            smaller.push(node);
            start = end;
        }
        let smaller = smaller.into_iter().rev().reduce(|right, left| node_hash(&left, &right));
        Ok(smaller.map_or(first, |smaller| node_hash(&first, &smaller)))
    }

    /// The root of the largest subtree at the beginning of `range`, which is not empty, and where that ends.
    async fn largest(&self, head: &Head, range: &Range<u64>) -> Result<(Hash, u64), Error> {
        let level = (range.end - range.start).ilog2();
        let place = range.start >> level;
        let (row, width) = (level % 8, FULL.ilog2() - level % 8); // nodes of that row in a tile
        let tile_level = u8::try_from(level / 8).expect("at most 7");
        let tile = self.get(head, tile_level, place >> width).await?;
        let node = tile.node(row as usize, place & ((1 << width) - 1));
        let node = node.ok_or_else(|| {
            let (index, width) = (place >> width, FULL);
            Error::Damaged { path: Tile { level: tile_level, index, width }.path() }
        })?;
        Ok((node, range.start + (1 << level)))
    }

    async fn roots(&self, head: &Head, ranges: Vec<Range<u64>>) -> Result<Vec<Hash>, Error> {
        let mut hashes = Vec::with_capacity(ranges.len());
        for range in ranges {
            hashes.push(self.root(head, range).await?);
        }
        Ok(hashes)
    }
}

impl Cache {
    fn get(&mut self, level: u8, index: u64) -> Option<Arc<HashTile>> {
        self.tick += 1;
        let (tile, used) = self.tiles.get_mut(&(level, index))?;
        *used = self.tick;
        Some(Arc::clone(tile))
    }

    fn insert(&mut self, level: u8, index: u64, tile: Arc<HashTile>) {
        if self.tiles.len() >= CACHED {
            let oldest = self.tiles.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            self.tiles.remove(&oldest.expect("a full cache has an oldest tile"));
        }
        self.tick += 1;
        self.tiles.insert((level, index), (tile, self.tick));
    }
}

pub(crate) async fn inclusion(
    tiles: &Tiles,
    head: &Head,
    index: u64,
    leaf: &[u8],
) -> Result<InclusionProof, Error> {
    let size = head.checkpoint.size;
    if index >= size {
        return Err(Error::Inclusion(InclusionError::LeafOutsideTree {
            leaf_index: index,
            tree_size: size,
        }));
    }
    let path = tiles.roots(head, audit_path(index, size)).await?;
    let proof = InclusionProof::new(index, size, path)?;
    proof.verify(leaf, &head.checkpoint.root).inspect_err(|_| tiles.forget())?;
    Ok(proof)
}

/// The hash of the leaf at `index`, inside the tree of `head`.
pub(crate) async fn leaf_hash(tiles: &Tiles, head: &Head, index: u64) -> Result<Hash, Error> {
    tiles.root(head, index..index + 1).await
}

pub(crate) async fn consistency(
    tiles: &Tiles,
    head: &Head,
    old_size: u64,
    old_root: &Hash,
) -> Result<ConsistencyProof, Error> {
    let new_size = head.checkpoint.size;
    if old_size > new_size {
        return Err(Error::Consistency(ConsistencyError::Shrunk { old_size, new_size }));
    }
    let path = tiles.roots(head, consistency_path(old_size, new_size)).await?;
    let proof = ConsistencyProof::new(old_size, new_size, path)?;
    proof.verify(old_root, &head.checkpoint.root).inspect_err(|_| tiles.forget())?;
    Ok(proof)
}

/// Proves that the tree of `first` leaves is a prefix of that of `last`, both within `head`.
pub(crate) async fn consistency_between(
    tiles: &Tiles,
    head: &Head,
    first: u64,
    last: u64,
) -> Result<ConsistencyProof, Error> {
    let roots = tiles.roots(head, vec![0..first, 0..last]).await?;
    prefix(tiles, head, (first, &roots[0]), (last, &roots[1])).await
}

/// The same of two trees whose roots are said to be these.
pub(crate) async fn prefix(
    tiles: &Tiles,
    head: &Head,
    first: (u64, &Hash),
    last: (u64, &Hash),
) -> Result<ConsistencyProof, Error> {
    let path = tiles.roots(head, consistency_path(first.0, last.0)).await?;
    let proof = ConsistencyProof::new(first.0, last.0, path)?;
    proof.verify(first.1, last.1).inspect_err(|_| tiles.forget())?;
    Ok(proof)
}

/// The root over the first `size` leaves of the tree of `head`, which is not empty.
pub(crate) async fn root(tiles: &Tiles, head: &Head, size: u64) -> Result<Hash, Error> {
    tiles.root(head, 0..size).await
}

/// PATH(index, D[0..size]) of RFC 6962, section 2.1.1, as ranges of leaves, leaf side first.
fn audit_path(index: u64, size: u64) -> Vec<Range<u64>> {
    let (mut path, mut range) = (Vec::new(), 0..size);
    while range.end - range.start > 1 {
        let middle = range.start + left_size(range.end - range.start);
        if index < middle {
            path.push(middle..range.end);
            range.end = middle;
        } else {
            path.push(range.start..middle);
            range.start = middle;
        }
    }
    path.reverse();
    path
}

/// PROOF(old, D[0..new]) of RFC 6962, section 2.1.2, as ranges of leaves.
fn consistency_path(old: u64, new: u64) -> Vec<Range<u64>> {
    let (mut path, mut range) = (Vec::new(), 0..new);
    if old == 0 {
        return path;
    }
    while old != range.end {
        let middle = range.start + left_size(range.end - range.start);
        if old <= middle {
            path.push(middle..range.end);
            range.end = middle;
        } else {
            path.push(range.start..middle);
            range.start = middle;
        }
    }
    if range.start > 0 {
        path.push(range); // the verifier knows the old root itself only when it is a left subtree
    }
    path.reverse();
    path
}

/// The largest power of two below `size`: the leaves on the left of a tree's root.
const fn left_size(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// Why there is no proof.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tile or bundle that the checkpoint implies is not there.
    #[error("{path} is missing from the log's storage")]
    Missing {
        /// The object's name.
        path: String,
    },
    /// A tile or bundle is not what its name says.
    #[error("{path} in the log's storage is damaged")]
    Damaged {
        /// The object's name.
        path: String,
    },
    /// The entry is not there, or tiles are damaged.
    #[error(transparent)]
    Inclusion(#[from] InclusionError),
    /// The trees are not one history, or tiles are damaged.
    #[error(transparent)]
    Consistency(#[from] ConsistencyError),
    /// Storage.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_ranges_of_the_specification() {
        // RFC 6962, section 2.1.3: the seven-leaf tree.
        assert_eq!(audit_path(0, 7), [1..2, 2..4, 4..7]);
        assert_eq!(audit_path(3, 7), [2..3, 0..2, 4..7]);
        assert_eq!(audit_path(4, 7), [5..6, 6..7, 0..4]);
        assert_eq!(audit_path(6, 7), [4..6, 0..4]);
        assert_eq!(consistency_path(3, 7), [2..3, 3..4, 0..2, 4..7]);
        assert!(consistency_path(4, 7).into_iter().eq(std::iter::once(4..7)));
        assert_eq!(consistency_path(6, 7), [4..6, 6..7, 0..4]);
        assert!(consistency_path(7, 7).is_empty() && consistency_path(0, 7).is_empty());
        assert!(audit_path(0, 1).is_empty());
    }
}
