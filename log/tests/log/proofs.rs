use crate::support::{Memory, Place, append, body, fill};
use countersign_log::Format;
use countersign_log::read::Reader;
use countersign_verify::merkle::{Frontier, Hash, leaf_hash};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sizes around every boundary of tiles, up to one with three levels of them.
const SIZES: [u64; 20] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 254, 255, 256, 257, 258, 511, 512, 513, 65_535, 65_536, 65_537];

/// Proofs are checked by `verify`, which has its own oracle; roots by its frontier and, where known,
/// by an independent implementation.
#[tokio::test]
async fn proofs_out_of_tiles_hold_for_every_size() {
    let known = BTreeMap::from([
        (7, "kTlgHMHKirKnoMLBNMBIRfKxulSag9bIRc/NpDnMWF0="),
        (255, "RdqfN0dI4Xo3L3HABCKxLiv5aELx9hxXQP5JTkvs/w8="),
        (256, "+F9OrTQIBxC00egIMBVDqquBqgTeuIWZNQ3Cak8vWN4="),
        (257, "kYsc7GTzF8duPPVcBTaEHAOe/wZ3LruIKM58F2Aotaw="),
    ]);
    let place = Place::new();
    let lock = Arc::new(Memory::default());
    let open = async || {
        let parts = (Arc::new(place.files()) as _, Arc::clone(&lock) as _);
        place.open_on(parts).await.unwrap()
    };
    let mut log = open().await;
    let mut frontier = Frontier::new();
    let mut roots: BTreeMap<u64, Hash> = BTreeMap::from([(0, frontier.root())]);
    for size in SIZES {
        let old = frontier.size();
        fill(&log, old, size).await;
        for number in old..size {
            frontier.push(leaf_hash(&body(number)));
        }
        if size > 65_000 {
            // Without tiles in memory, all proofs are out of the store.
            log.close().await;
            log = open().await;
        }
        let head = log.head();
        assert_eq!(head.checkpoint().root, frontier.root(), "{size}");
        if let Some(root) = known.get(&size) {
            assert_eq!(head.checkpoint().root.to_string(), *root);
        }
        roots.insert(size, frontier.root());
        let places = SIZES.iter().flat_map(|place| [place - 1, *place, place / 2]);
        for index in places.filter(|index| *index < size) {
            let proof = log.prove_inclusion(&head, index, &body(index)).await.unwrap();
            assert_eq!((proof.leaf_index(), proof.tree_size()), (index, size));
            assert!(log.prove_inclusion(&head, index, b"another").await.is_err());
        }
        assert!(log.prove_inclusion(&head, size, &body(size)).await.is_err());
        for (old, root) in &roots {
            log.prove_consistency(&head, *old, root).await.unwrap();
            assert!(log.prove_consistency(&head, *old, &Hash::of(b"other")).await.is_err());
        }
        assert!(log.prove_consistency(&head, size + 1, &frontier.root()).await.is_err());
    }
    let report = place.fsck().await.unwrap();
    assert_eq!((report.size, report.root), (65_537, frontier.root()));
}

#[tokio::test]
async fn the_proof_of_a_known_tree_is_the_known_answer() {
    let place = Place::new();
    let log = place.open().await;
    fill(&log, 0, 7).await;
    let head = log.head();
    let path = |proof: countersign_verify::merkle::InclusionProof| {
        proof.path().iter().map(Hash::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        path(log.prove_inclusion(&head, 5, &body(5)).await.unwrap()),
        [
            "GUu1otW9EOXRqm/V1CmAs1bK8dpiPNmYfEv6L4F3Htc=",
            "DP2ldv9LKeozw6/a7tG9Y362VLKKBDAvyrX9fbB4Acw=",
            "JWueiCXl03CkrgBdCQHqKRl34pJ/XPjj5yZg3QlRnts=",
        ]
    );
    assert_eq!(
        path(log.prove_inclusion(&head, 6, &body(6)).await.unwrap()),
        [
            "ShNqcAh7Y340w9Paps6naLHbE+xHWQLS4kC2Dj2ZnHo=",
            "JWueiCXl03CkrgBdCQHqKRl34pJ/XPjj5yZg3QlRnts=",
        ]
    );
}

#[tokio::test]
async fn an_outsider_proves_the_same_and_needs_no_partial_tile_that_is_gone() {
    let place = Place::new();
    let log = place.open().await;
    fill(&log, 0, 300).await;
    log.close().await;
    let log = place.open().await;
    let early = log.head();
    let format = Format::Entries;
    let reader = Reader::open(Arc::new(place.files()), &place.key(), format).await.unwrap();
    fill(&log, 300, 600).await;
    log.close().await;
    assert_eq!(reader.head().note(), early.note());
    for index in [0, 255, 256, 299] {
        let proven = reader.prove_inclusion(index).await.unwrap().unwrap();
        assert_eq!(proven.leaf, body(index));
        proven.proof.verify(&body(index), &early.checkpoint().root).unwrap();
    }
    assert!(reader.prove_inclusion(300).await.unwrap().is_none());
    // Whoever still has the old checkpoint reads its edge out of the full tiles.
    std::fs::write(place.log_folder().join("checkpoint"), early.note()).unwrap();
    let late = Reader::open(Arc::new(place.files()), &place.key(), format).await.unwrap();
    let checkpoint = late.head().checkpoint().clone();
    let newer = Reader::open(Arc::new(place.files()), &place.key(), format).await.unwrap();
    newer.prove_consistency(checkpoint.size, &checkpoint.root).await.unwrap();
    assert_eq!(late.prove_inclusion(299).await.unwrap().unwrap().leaf, body(299));
    assert!(Reader::open(Arc::new(place.files()), &Place::new().key(), format).await.is_err());
}

#[tokio::test]
async fn a_proof_is_not_given_out_of_a_damaged_tile() {
    let place = Place::new();
    let log = place.open().await;
    fill(&log, 0, 300).await;
    log.close().await;
    let log = place.open().await;
    let path = place.log_folder().join("tile/0/000");
    let whole = std::fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[32 * 6] ^= 1; // the sibling of leaf 7
    std::fs::write(&path, damaged).unwrap();
    assert!(log.prove_inclusion(&log.head(), 7, &body(7)).await.is_err());
    std::fs::write(&path, whole).unwrap();
    log.prove_inclusion(&log.head(), 7, &body(7)).await.unwrap();
    assert_eq!(append(&log, &body(7)).await.unwrap().index, 7);
}
