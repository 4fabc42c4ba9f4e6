//! The right edge of a tree: all that must be known to append to it.

use super::{Hash, empty_root, node_hash};

/// The roots of the perfect subtrees that make up a tree, largest (leftmost) first: one for each bit
/// set in the tree's size, at most 64 hashes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// The tree without leaves.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, subtrees: Vec::new() }
    }

    /// A tree of `size` leaves, from the roots of its perfect subtrees, largest first. `None` when
    /// their number is not the one that fits.
    #[must_use]
    pub fn from_subtrees(size: u64, subtrees: Vec<Hash>) -> Option<Self> {
        (subtrees.len() == size.count_ones() as usize).then_some(Self { size, subtrees })
    }

    /// The roots of the perfect subtrees, largest first.
    #[must_use]
    pub fn subtrees(&self) -> &[Hash] {
        &self.subtrees
    }

    /// Appends a leaf by its hash. Every trailing one bit of the size is a subtree that the new leaf
    /// completes with its right sibling.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.subtrees.pop().expect("each one bit of the size has its subtree");
            node = node_hash(&left, &node);
        }
        self.subtrees.push(node);
        self.size += 1;
    }

    /// The number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let fold = |right: Hash, left: &Hash| node_hash(left, &right);
        match self.subtrees.split_last() {
            None => empty_root(),
            Some((smallest, larger)) => larger.iter().rev().fold(*smallest, fold),
        }
    }
}
