//! Trees and paths by the recursive definitions of RFC 6962, section 2.1; the leaves are the
//! one-byte entries 0, 1, 2, …

use super::{Hash, empty_root, leaf_hash, node_hash};

/// MTH(D[start..end]).
pub(crate) fn root(start: u64, end: u64) -> Hash {
    match end - start {
        0 => empty_root(),
        1 => leaf_hash(&[u8::try_from(start).unwrap()]),
        size => {
            let left = left_size(size);
            node_hash(&root(start, start + left), &root(start + left, end))
        }
    }
}

/// The largest power of two below `size`.
fn left_size(size: u64) -> u64 {
    (size / 2 + size % 2).next_power_of_two()
}

/// PATH(index, D[start..end]), section 2.1.1.
fn path(index: u64, start: u64, end: u64) -> Vec<Hash> {
    if end - start == 1 {
        return vec![];
    }
    let middle = start + left_size(end - start);
    let (mut hashes, sibling) = if index < middle {
        (path(index, start, middle), root(middle, end))
    } else {
        (path(index, middle, end), root(start, middle))
    };
    hashes.push(sibling);
    hashes
}

/// Every leaf of every tree with up to `size` leaves: index, tree size, path, root.
pub(crate) fn every_place_up_to(size: u64) -> impl Iterator<Item = (u64, u64, Vec<Hash>, Hash)> {
    (1..=size).flat_map(|size| {
        (0..size).map(move |index| (index, size, path(index, 0, size), root(0, size)))
    })
}

/// PROOF(old, D[0..new]), section 2.1.2.
pub(crate) fn consistency(old: u64, new: u64) -> Vec<Hash> {
    fn subproof(old: u64, start: u64, end: u64, whole: bool) -> Vec<Hash> {
        if old == end - start {
            return if whole { vec![] } else { vec![root(start, end)] };
        }
        let left = left_size(end - start);
        let middle = start + left;
        let (mut hashes, sibling) = if old <= left {
            (subproof(old, start, middle, whole), root(middle, end))
        } else {
            (subproof(old - left, middle, end, false), root(start, middle))
        };
        hashes.push(sibling);
        hashes
    }
    subproof(old, 0, new, true)
}
