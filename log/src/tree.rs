//! The right edge of the tree as tiles in memory: all that is needed to append, and the part of every
//! proof that no full tile holds yet.

use bytes::Bytes;
use countersign_verify::merkle::{Hash, empty_root, node_hash};
use countersign_verify::tile::{self, FULL, Tile};
use std::sync::Arc;

/// Rows of nodes in a tile: the hashes that are stored, and seven rows of parents above them. The
/// eighth parent is a hash of the tile above.
const ROWS: usize = 8;

/// A tile of hashes with the nodes above them, so that a proof hashes nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct HashTile {
    rows: [Vec<Hash>; ROWS],
}

impl HashTile {
    /// Reads the hashes of a stored tile; `None` unless it holds exactly `width` of them.
    pub(crate) fn from_bytes(bytes: &[u8], width: u16) -> Option<Self> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() != usize::from(width) {
            return None;
        }
        let mut tile = Self::default();
        for hash in hashes {
            tile.push(Hash::new(*hash));
        }
        Some(tile)
    }

    /// The stored form of the hashes from `start` on: one after the other.
    pub(crate) fn bytes_from(&self, start: u16) -> Vec<u8> {
        self.rows[0][usize::from(start)..].iter().flat_map(Hash::as_bytes).copied().collect()
    }

    /// The stored hashes.
    pub(crate) fn hashes(&self) -> &[Hash] {
        &self.rows[0]
    }

    /// The complete node in row `row` (0 is the stored one), counted from the tile's left.
    pub(crate) fn node(&self, row: usize, place: u64) -> Option<Hash> {
        self.rows[row].get(usize::try_from(place).ok()?).copied()
    }

    /// Adds a hash on the right; `Some(root)` when that fills the tile.
    pub(crate) fn push(&mut self, hash: Hash) -> Option<Hash> {
        self.rows[0].push(hash);
        for row in 0..ROWS {
            let nodes = &self.rows[row];
            if nodes.len() % 2 == 1 {
                return None;
            }
            let parent = node_hash(&nodes[nodes.len() - 2], &nodes[nodes.len() - 1]);
            match self.rows.get_mut(row + 1) {
                Some(above) => above.push(parent),
                None => return Some(parent),
            }
        }
        None
    }
}

/// The records of the last bundle, when it is not full: a piece for each batch that added to it, so that none is
/// copied with each batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    pieces: Vec<Bytes>,
    length: usize,
}

impl Tail {
    /// Their bytes.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        self.length += piece.len();
        self.pieces.push(piece);
    }

    /// One after the other.
    pub(crate) fn bytes(&self) -> Bytes {
        match &self.pieces[..] {
            [piece] => piece.clone(),
            pieces => pieces.concat().into(),
        }
    }
}

impl From<Bytes> for Tail {
    fn from(bytes: Bytes) -> Self {
        let mut tail = Self::default();
        if !bytes.is_empty() {
            tail.push(bytes);
        }
        tail
    }
}

/// A tile that an append filled.
#[derive(Clone, Debug)]
pub(crate) struct Filled {
    pub(crate) level: u8,
    pub(crate) index: u64,
    pub(crate) tile: Arc<HashTile>,
}

/// The rightmost tile of every level that is not full yet; some are empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Edge {
    size: u64,
    levels: Vec<Arc<HashTile>>,
}

impl Edge {
    /// Out of the partial tiles of a tree of `size` leaves, level 0 first.
    pub(crate) fn new(size: u64, levels: Vec<Arc<HashTile>>) -> Self {
        Self { size, levels }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf; tiles that it fills are added to `filled`.
    pub(crate) fn push(&mut self, leaf: Hash, filled: &mut Vec<Filled>) {
        let mut hash = leaf;
        self.size += 1;
        for level in 0.. {
            if self.levels.len() == usize::from(level) {
                self.levels.push(Arc::default());
            }
            let tile = &mut self.levels[usize::from(level)];
            // A copy only for the first change since the tile was shared with readers.
            let Some(root) = Arc::make_mut(tile).push(hash) else { return };
            let index = (self.size >> (8 * (u32::from(level) + 1))) - 1;
            filled.push(Filled { level, index, tile: std::mem::take(tile) });
            hash = root;
        }
    }

    /// The root over all leaves. Each one bit of the size is a perfect subtree, the last node of its
    /// row; they are folded from the smallest.
    pub(crate) fn root(&self) -> Hash {
        (0..u64::BITS)
            .filter(|bit| self.size >> bit & 1 == 1)
            .map(|bit| {
                let tile = &self.levels[bit as usize / ROWS];
                *tile.rows[bit as usize % ROWS].last().expect("a one bit has its subtree")
            })
            .reduce(|right, left| node_hash(&left, &right))
            .unwrap_or_else(empty_root)
    }

    /// The partial tile at that place, if that is where the edge runs.
    pub(crate) fn tile(&self, level: u8, index: u64) -> Option<&Arc<HashTile>> {
        let tile = self.levels.get(usize::from(level))?;
        (self.edge_index(level) == index).then_some(tile)
    }

    /// What a tree of `since` leaves did not have: tiles, and how many of their hashes it had. `filled`
    /// are the tiles that were filled since.
    pub(crate) fn growth<'a>(
        &'a self,
        since: u64,
        filled: &'a [Filled],
    ) -> impl Iterator<Item = (Tile, u16, &'a HashTile)> {
        let partial = (0_u8..).zip(&self.levels);
        let partial = partial.map(|(level, tile)| (level, self.edge_index(level), tile));
        let filled = filled.iter().map(|Filled { level, index, tile }| (*level, *index, tile));
        partial.chain(filled).filter_map(move |(level, index, tile)| {
            let width = u16::try_from(tile.hashes().len()).expect("at most 256");
            let before = tile::width(level, index, since);
            (before < width).then_some((Tile { level, index, width }, before, &**tile))
        })
    }

    fn edge_index(&self, level: u8) -> u64 {
        self.size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0)
    }
}

/// The coordinates of the partial tiles of a tree of `size` leaves, level 0 first; `None` for a level
/// whose edge tile is empty.
pub(crate) fn edge_tiles(size: u64) -> impl Iterator<Item = Option<Tile>> {
    (0_u8..8).take_while(move |level| size >> (8 * u32::from(*level)) > 0).map(move |level| {
        let hashes = size >> (8 * u32::from(level));
        let (index, width) = (hashes / u64::from(FULL), hashes % u64::from(FULL));
        let width = u16::try_from(width).expect("below 256");
        (width > 0).then_some(Tile { level, index, width })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_verify::merkle::{Frontier, leaf_hash};

    /// The roots are those of an independent implementation, over the leaves `entry-0`, `entry-1`, …;
    /// in between, the frontier of `verify` must agree.
    #[test]
    fn roots_match_known_answers_and_every_tile_has_its_place() {
        let known = [
            (0, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
            (1, "QHZrIDNCkCb1PVRQJnmoOXBrR0H43K86i7pfQbX/4HU="),
            (7, "kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0="),
            (255, "RdqfN0dI4Xo3L3HABCKxLiv5aELx9hxXQP5JTkvs/w8="),
            (256, "+F9OrTQIBxC00egIMBVDqquBqgTeuIWZNQ3Cak8vWN4="),
            (257, "kYsc7GTzF8duPPVcBTaEHAOe/wZ3LruIKM58F2Aotaw="),
            (70_000, "pipUvjMpT/1aXExjf9dUYwtxqJLoNW46Zmpcin/9FRg="),
        ];
        let (mut edge, mut frontier, mut filled) = (Edge::default(), Frontier::new(), vec![]);
        for size in 0..=70_000_u64 {
            if size < 600 || size % 1_000 == 0 {
                assert_eq!(edge.root(), frontier.root(), "{size}");
            }
            if let Some((_, root)) = known.iter().find(|(known, _)| *known == size) {
                assert_eq!(edge.root().to_string(), *root);
                let read = edge_tiles(size).map(|place| match place {
                    None => Arc::default(),
                    Some(Tile { level, index, width }) => {
                        assert_eq!(tile::width(level, index, size), width);
                        let bytes = edge.tile(level, index).unwrap().bytes_from(0);
                        Arc::new(HashTile::from_bytes(&bytes, width).unwrap())
                    }
                });
                assert_eq!(Edge::new(size, read.collect()).root(), edge.root());
            }
            let leaf = leaf_hash(format!("entry-{size}").as_bytes());
            edge.push(leaf, &mut filled);
            frontier.push(leaf);
        }
        let expected: Vec<_> = (0..273).map(|index| (0, index)).chain([(1, 0)]).collect();
        let mut found: Vec<_> = filled.iter().map(|full| (full.level, full.index)).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_tile_of_another_width_is_refused() {
        let bytes = [7; 96];
        assert!(HashTile::from_bytes(&bytes, 3).is_some());
        for (bytes, width) in [(&bytes[..], 2), (&bytes[..], 4), (&bytes[..95], 3), (&[], 1)] {
            assert!(HashTile::from_bytes(bytes, width).is_none(), "{} {width}", bytes.len());
        }
    }
}
