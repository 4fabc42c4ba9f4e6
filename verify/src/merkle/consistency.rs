//! Consistency proofs: the tree of one checkpoint is a prefix of the tree of a later one.
//!
//! RFC 6962, section 2.1.2. No clock, no I/O.

use super::{Hash, empty_root, node_hash};

/// The nodes that lead from an old root and a new root to their common past.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsistencyProof {
    old_size: u64,
    new_size: u64,
    path: Vec<Hash>,
}

impl ConsistencyProof {
    /// Accepts the fields as they came off the wire; what it returns has the one length that fits.
    ///
    /// # Errors
    /// When the new tree is smaller than the old one or the path has another length.
    pub fn new(old_size: u64, new_size: u64, path: Vec<Hash>) -> Result<Self, Error> {
        if old_size > new_size {
            return Err(Error::Shrunk { old_size, new_size });
        }
        let proof = Self { old_size, new_size, path };
        let (expected, found) = (proof.expected_length(), proof.path.len());
        if expected != found {
            return Err(Error::PathLength { expected, found });
        }
        Ok(proof)
    }

    /// The nodes, old side first, as they go on the wire.
    #[must_use]
    pub fn path(&self) -> &[Hash] {
        &self.path
    }

    /// Checks that the tree with `old_root` is a prefix of the tree with `new_root`.
    ///
    /// # Errors
    /// When the path does not lead to both roots.
    pub fn verify(&self, old_root: &Hash, new_root: &Hash) -> Result<(), Error> {
        if self.old_size == 0 {
            return equal(Which::Old, &empty_root(), old_root);
        }
        if self.old_size == self.new_size {
            return equal(Which::New, old_root, new_root);
        }
        let (mut old, mut new, rest) = if self.old_size.is_power_of_two() {
            (*old_root, *old_root, &self.path[..])
        } else {
            (self.path[0], self.path[0], &self.path[1..])
        };
        let (inner, _) = self.levels();
        let shift = self.old_size.trailing_zeros();
        let mask = (self.old_size - 1) >> shift;
        for (level, sibling) in rest.iter().enumerate() {
            // Above the inner levels every sibling is a left one: the path climbs the right edge.
            if level >= inner || mask >> level & 1 == 1 {
                old = node_hash(sibling, &old);
                new = node_hash(sibling, &new);
            } else {
                new = node_hash(&new, sibling);
            }
        }
        equal(Which::Old, old_root, &old)?;
        equal(Which::New, new_root, &new)
    }

    /// The levels on which the two right edges part, and the left siblings above them.
    fn levels(&self) -> (usize, usize) {
        let shift = self.old_size.trailing_zeros();
        let last = self.old_size - 1;
        let parted = u64::BITS - (last ^ (self.new_size - 1)).leading_zeros();
        let border = last.checked_shr(parted).unwrap_or(0).count_ones();
        ((parted - shift) as usize, border as usize)
    }

    fn expected_length(&self) -> usize {
        if self.old_size == 0 || self.old_size == self.new_size {
            return 0;
        }
        let (inner, border) = self.levels();
        inner + border + usize::from(!self.old_size.is_power_of_two())
    }
}

fn equal(which: Which, expected: &Hash, found: &Hash) -> Result<(), Error> {
    if expected == found {
        Ok(())
    } else {
        Err(Error::Root { which, expected: *expected, found: *found })
    }
}

/// Which of the two trees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Which {
    /// The earlier, smaller tree.
    Old,
    /// The later, larger tree.
    New,
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Old => "old",
            Self::New => "new",
        })
    }
}

/// Why two trees are not shown to be one history.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The later tree has fewer leaves.
    #[error("the log shrank from {old_size} to {new_size} leaves")]
    Shrunk {
        /// Leaves before.
        old_size: u64,
        /// Leaves after.
        new_size: u64,
    },
    /// Too few or too many hashes.
    #[error("the proof between these sizes has {expected} hashes, found {found}")]
    PathLength {
        /// The one length that fits.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// The histories differ, or the proof was altered.
    #[error("the {which} root does not fit the proof: expected {expected}, found {found}")]
    Root {
        /// The tree whose root differs.
        which: Which,
        /// The root asked about.
        expected: Hash,
        /// The root that the proof leads to.
        found: Hash,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::oracle;

    #[test]
    fn a_tree_is_consistent_with_its_own_past_and_with_no_other() {
        for new_size in 1..=40_u64 {
            for old_size in 1..=new_size {
                let path = oracle::consistency(old_size, new_size);
                let proof = ConsistencyProof::new(old_size, new_size, path).unwrap();
                let (old, new) = (oracle::root(0, old_size), oracle::root(0, new_size));
                proof.verify(&old, &new).unwrap();
                let other = Hash::of(b"another history");
                assert!(proof.verify(&other, &new).is_err(), "{old_size} {new_size}");
                assert!(proof.verify(&old, &other).is_err(), "{old_size} {new_size}");
            }
        }
    }

    #[test]
    fn every_altered_hash_is_noticed() {
        let proof = ConsistencyProof::new(3, 7, oracle::consistency(3, 7)).unwrap();
        for place in 0..proof.path.len() {
            let mut altered = proof.clone();
            altered.path[place] = Hash::of(b"altered");
            assert!(altered.verify(&oracle::root(0, 3), &oracle::root(0, 7)).is_err(), "{place}");
        }
    }

    #[test]
    fn a_log_never_shrinks_and_nothing_is_proven_of_an_empty_one() {
        assert_eq!(
            ConsistencyProof::new(7, 3, vec![]),
            Err(Error::Shrunk { old_size: 7, new_size: 3 })
        );
        let proof = ConsistencyProof::new(0, 7, vec![]).unwrap();
        proof.verify(&empty_root(), &oracle::root(0, 7)).unwrap();
        assert!(proof.verify(&oracle::root(0, 1), &oracle::root(0, 7)).is_err());
    }
}
