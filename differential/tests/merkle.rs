//! Our proofs against those of `rs_merkle`, which knows nothing of ours. Its trees are RFC 6962's, once
//! nodes and leaves get their prefixes.

use countersign_verify::merkle::{
    ConsistencyProof, Frontier, Hash, InclusionProof, leaf_hash, node_hash,
};
use proptest::prelude::*;
use rs_merkle::{Hasher, MerkleProof, MerkleTree};

/// SHA-256 over the prefix for nodes; leaves are hashed before they come here.
#[derive(Clone)]
struct Rfc6962;

impl Hasher for Rfc6962 {
    type Hash = [u8; 32];

    fn hash(data: &[u8]) -> [u8; 32] {
        *Hash::of(&[&[1], data].concat()).as_bytes()
    }
}

fn entry(number: usize) -> Vec<u8> {
    format!("entry {number}").into_bytes()
}

fn leaf(number: usize) -> [u8; 32] {
    *Hash::of(&[&[0], &entry(number)[..]].concat()).as_bytes()
}

fn tree(leaves: std::ops::Range<usize>) -> MerkleTree<Rfc6962> {
    MerkleTree::from_leaves(&leaves.map(leaf).collect::<Vec<_>>())
}

fn root(leaves: std::ops::Range<usize>) -> Hash {
    Hash::new(tree(leaves).root().expect("trees here have leaves"))
}

/// PROOF(old, D[0..new]) of RFC 6962, section 2.1.2, with roots by `rs_merkle`.
fn consistency(old: usize, new: usize) -> Vec<Hash> {
    fn subproof(old: usize, start: usize, end: usize, whole: bool) -> Vec<Hash> {
        let size = end - start;
        if old == size {
            return if whole { vec![] } else { vec![root(start..end)] };
        }
        let middle = start + (size / 2 + size % 2).next_power_of_two();
        let (mut path, other) = if old <= middle - start {
            (subproof(old, start, middle, whole), root(middle..end))
        } else {
            (subproof(old - (middle - start), middle, end, false), root(start..middle))
        };
        path.push(other);
        path
    }
    subproof(old, 0, new, true)
}

fn number(number: usize) -> u64 {
    number.try_into().unwrap()
}

#[test]
fn our_hashes_are_those_of_the_oracle() {
    assert_eq!(leaf_hash(&entry(7)), Hash::new(leaf(7)));
    let parts = [leaf(1), leaf(2)].map(Hash::new);
    assert_eq!(
        node_hash(&parts[0], &parts[1]).as_bytes(),
        &Rfc6962::hash(&[leaf(1), leaf(2)].concat())
    );
}

#[test]
fn every_size_up_to_300_has_the_oracles_root() {
    let mut frontier = Frontier::default();
    for size in 1..=300 {
        frontier.push(leaf_hash(&entry(size - 1)));
        assert_eq!(frontier.root(), root(0..size), "{size}");
    }
}

/// A tree's size, and one of its leaves.
fn place() -> impl Strategy<Value = (usize, usize)> {
    (1_usize..=300).prop_flat_map(|size| (Just(size), 0..size))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_oracles_inclusion_proofs_hold((size, index) in place()) {
        let tree = tree(0..size);
        let path: Vec<_> = tree.proof(&[index]).proof_hashes().iter().copied().map(Hash::new).collect();
        let proof = InclusionProof::new(number(index), number(size), path.clone()).unwrap();
        prop_assert_eq!(proof.verify(&entry(index), &root(0..size)), Ok(()));
        // And the other way: what we take for a path, the oracle takes for one.
        let hashes = proof.path().iter().map(|hash| *hash.as_bytes()).collect();
        let root = tree.root().unwrap();
        prop_assert!(MerkleProof::<Rfc6962>::new(hashes).verify(root, &[index], &[leaf(index)], size));
    }

    #[test]
    fn an_altered_inclusion_proof_is_refused_by_both(
        (size, index) in place(),
        (other_size, other) in place(),
        at in any::<prop::sample::Index>(),
        bit in 0_usize..256,
    ) {
        let tree = tree(0..size);
        let (path, root) = (tree.proof(&[index]).proof_hashes().to_vec(), tree.root().unwrap());
        let ours = |path: &[[u8; 32]], index, size, entry: &[u8]| {
            let path = path.iter().copied().map(Hash::new).collect();
            InclusionProof::new(number(index), number(size), path)
                .is_ok_and(|proof| proof.verify(entry, &Hash::new(root)).is_ok())
        };
        prop_assert!(ours(&path, index, size, &entry(index)));
        let mut altered = path.clone();
        if !altered.is_empty() {
            altered[at.index(path.len())][bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!ours(&altered, index, size, &entry(index)));
            prop_assert!(!ours(&path[1..], index, size, &entry(index)));
        }
        prop_assert!(!ours(&[&path[..], &[root]].concat(), index, size, &entry(index)));
        prop_assert!(!ours(&path, index, size, &entry(size)));
        if other != index && other < size {
            prop_assert!(!ours(&path, other, size, &entry(index)));
            prop_assert!(!ours(&path, index, size, &entry(other)));
        }
        // A path may have the same sides in a tree of another size, whose root is then another; at this
        // root the oracle must agree on what is a proof.
        if index < other_size {
            let theirs = MerkleProof::<Rfc6962>::new(path.clone());
            let theirs = std::panic::catch_unwind(|| theirs.verify(root, &[index], &[leaf(index)], other_size));
            prop_assert_eq!(ours(&path, index, other_size, &entry(index)), theirs.unwrap_or(false));
        }
    }

    #[test]
    fn consistency_proofs_of_the_oracles_roots_hold((new, old) in place(), bit in 0_usize..256) {
        let old = old + 1;
        let path = consistency(old, new);
        let proof = |path| ConsistencyProof::new(number(old), number(new), path);
        let (old_root, new_root) = (root(0..old), root(0..new));
        prop_assert_eq!(proof(path.clone()).unwrap().verify(&old_root, &new_root), Ok(()));
        if old < new {
            prop_assert!(proof(path.clone()).unwrap().verify(&new_root, &old_root).is_err());
            let mut altered = path.clone();
            let mut bytes = *altered[0].as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            altered[0] = Hash::new(bytes);
            prop_assert!(proof(altered).unwrap().verify(&old_root, &new_root).is_err());
            prop_assert!(proof(path[1..].to_vec()).is_err());
        }
    }
}
