//! Inclusion proofs: an entry is in the tree whose root a checkpoint signs.
//!
//! The audit path of RFC 6962, section 2.1.1, leaf side first. It names no directions: they follow
//! from the leaf index and the tree size. No clock, no I/O, no allocation.

use super::{Hash, leaf_hash, node_hash};

/// The place of one leaf, and its siblings on the way to the root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InclusionProof {
    leaf_index: u64,
    tree_size: u64,
    path: Vec<Hash>,
}

impl InclusionProof {
    /// Accepts the fields as they came off the wire. What it returns has its leaf inside the tree and
    /// a path of the one length that fits, so [`verify`](Self::verify) need only ask about hashes.
    ///
    /// # Errors
    /// When the leaf is outside the tree or the path has another length than its place demands.
    pub fn new(leaf_index: u64, tree_size: u64, path: Vec<Hash>) -> Result<Self, Error> {
        if leaf_index >= tree_size {
            return Err(Error::LeafOutsideTree { leaf_index, tree_size });
        }
        let proof = Self { leaf_index, tree_size, path };
        let (expected, found) = (proof.sides().count(), proof.path.len());
        if expected != found {
            return Err(Error::PathLength { expected, found });
        }
        Ok(proof)
    }

    /// The leaf's place, counted from 0.
    #[must_use]
    pub const fn leaf_index(&self) -> u64 {
        self.leaf_index
    }

    /// The number of leaves of the tree that the path leads to.
    #[must_use]
    pub const fn tree_size(&self) -> u64 {
        self.tree_size
    }

    /// The siblings, leaf side first.
    #[must_use]
    pub fn path(&self) -> &[Hash] {
        &self.path
    }

    /// Checks that `entry`, the exact logged bytes, leads to `root`. It takes the entry, not its hash:
    /// an interior node can then never be passed off as a leaf.
    ///
    /// # Errors
    /// When the path leads to another root.
    pub fn verify(&self, entry: &[u8], root: &Hash) -> Result<(), Error> {
        let found = self.sides().zip(&self.path).fold(leaf_hash(entry), |node, step| match step {
            (Side::Left, sibling) => node_hash(sibling, &node),
            (Side::Right, sibling) => node_hash(&node, sibling),
        });
        if found == *root { Ok(()) } else { Err(Error::Root { expected: *root, found }) }
    }

    /// The side each sibling stands on, from the leaf up. On every level our node is number `index`
    /// and the level ends with number `last`; a last node without a pair rises as it is.
    fn sides(&self) -> impl Iterator<Item = Side> {
        let leaves = (self.leaf_index, self.tree_size - 1);
        std::iter::successors(Some(leaves), |(index, last)| Some((index / 2, last / 2)))
            .take_while(|&(_, last)| last > 0)
            .filter_map(|(index, last)| match index % 2 {
                1 => Some(Side::Left),
                _ => (index < last).then_some(Side::Right),
            })
    }
}

enum Side {
    Left,
    Right,
}

/// Why a proof does not hold: what was expected, what was found.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The index is not below the size.
    #[error("leaf {leaf_index} is outside a tree of {tree_size} leaves")]
    LeafOutsideTree {
        /// The index claimed.
        leaf_index: u64,
        /// The size claimed.
        tree_size: u64,
    },
    /// Too few or too many siblings.
    #[error("the proof for this leaf has {expected} hashes, found {found}")]
    PathLength {
        /// The one length that fits.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// Another tree, another entry, or an altered path.
    #[error(
        "the proof leads to a root other than the checkpoint's: expected {expected}, found {found}"
    )]
    Root {
        /// The root that the checkpoint signs.
        expected: Hash,
        /// The root that the path leads to.
        found: Hash,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::oracle; // trees and paths by the recursive definitions of RFC 6962

    #[test]
    fn an_entry_proves_its_own_place_and_no_other() {
        for (index, size, path, root) in oracle::every_place_up_to(40) {
            let proof = InclusionProof::new(index, size, path).unwrap();
            for entry in 0..40 {
                assert_eq!(proof.verify(&[entry], &root).is_ok(), u64::from(entry) == index);
            }
        }
    }

    #[test]
    fn a_path_of_another_length_is_refused() {
        for (index, size, path, _) in oracle::every_place_up_to(20) {
            let expected = path.len();
            let longer = path.iter().copied().chain([Hash::of(b"more")]).collect();
            let refused = Error::PathLength { expected, found: expected + 1 };
            assert_eq!(InclusionProof::new(index, size, longer), Err(refused));
            if let Some((_, shorter)) = path.split_last() {
                let refused = Error::PathLength { expected, found: expected - 1 };
                assert_eq!(InclusionProof::new(index, size, shorter.to_vec()), Err(refused));
            }
        }
    }

    #[test]
    fn a_leaf_past_the_end_is_refused() {
        for (leaf_index, tree_size) in [(0, 0), (1, 1), (7, 7), (u64::MAX, u64::MAX)] {
            let refused = Error::LeafOutsideTree { leaf_index, tree_size };
            assert_eq!(InclusionProof::new(leaf_index, tree_size, vec![]), Err(refused));
        }
    }

    #[test]
    fn the_largest_tree_needs_sixty_four_hashes_and_does_not_overflow() {
        let found = InclusionProof::new(u64::MAX - 1, u64::MAX, vec![]).unwrap_err();
        assert!(matches!(found, Error::PathLength { expected: 1..=64, found: 0 }), "{found}");
    }
}
