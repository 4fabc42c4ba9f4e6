//! The staged batches, as a journal of what a log has added: what a batch makes tiles and bundles grow by, the
//! signed checkpoint of the tree that it leads to, and the identities of its entries.
//!
//! A batch is in the log's tree once the lock has its checkpoint. The lock's last swaps may be lost with the power,
//! the batches are not: so whoever opens a log swaps in again what was staged after the lock's tree. Only a batch
//! whose checkpoint this log has signed is one; and of several after the same tree the last is, for a log stages
//! another only when it has seen that the one before is not in its lock.

use crate::signer::LogKey;
use crate::store::{Growth, StagedBatch, StoreError, TileStore};
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::key::HashAlgorithm;
use countersign_verify::merkle::Hash;
use std::collections::HashMap;

/// What a batch adds to a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Addition {
    /// The checkpoint of the tree that it leads to, signed by the log alone.
    pub(crate) note: String,
    /// Those that the lock's table gets, by the index of their entries; none for a log without a table.
    pub(crate) identities: Vec<Hash>,
    pub(crate) growth: Vec<Growth>,
}

impl Addition {
    /// The batch that adds this after the tree of `after` and leads to that of `leads_to`.
    ///
    /// Its bytes are the SHA-256 of the names of both trees and the rest; u32 length of the note, the note; u32
    /// number of identities, 32 bytes for each; then one part after the other: u16 length of name, name, u64 offset,
    /// u16 width, u32 length, bytes. Big endian.
    pub(crate) fn staged(&self, after: &Checkpoint, leads_to: &Checkpoint) -> StagedBatch {
        let length: usize =
            self.growth.iter().map(|part| 16 + part.path.len() + part.bytes.len()).sum();
        let fixed = 32 + 4 + self.note.len() + 4 + 32 * self.identities.len();
        let mut bytes = Vec::with_capacity(fixed + length);
        let short =
            |length: usize| u32::try_from(length).expect("a batch is bounded").to_be_bytes();
        bytes.extend([0; 32]);
        bytes.extend(short(self.note.len()));
        bytes.extend(self.note.as_bytes());
        bytes.extend(short(self.identities.len()));
        self.identities.iter().for_each(|identity| bytes.extend(identity.as_bytes()));
        for Growth { path, offset, bytes: added, width } in &self.growth {
            bytes.extend(u16::try_from(path.len()).expect("names are short").to_be_bytes());
            bytes.extend(path.as_bytes());
            bytes.extend(offset.to_be_bytes());
            bytes.extend(width.to_be_bytes());
            bytes.extend(short(added.len()));
            bytes.extend_from_slice(added);
        }
        let (name, after) = (tree_name(leads_to), tree_name(after));
        let digest = digest(&name, &after, &bytes[32..]);
        bytes[..32].copy_from_slice(&digest);
        StagedBatch { name, after, bytes: bytes.into() }
    }

    /// The inverse; `None` for a batch that was cut short or is not whole.
    fn of(batch: &StagedBatch) -> Option<Self> {
        let mut rest = &batch.bytes[..];
        let found = take(&mut rest, 32)?;
        if found != digest(&batch.name, &batch.after, rest) {
            return None;
        }
        let length = number(&mut rest, 4)?;
        let note = std::str::from_utf8(take(&mut rest, length)?).ok()?.to_owned();
        let length = number(&mut rest, 4)?.checked_mul(32)?;
        let identities = take(&mut rest, length)?.chunks_exact(32).map(Hash::try_from);
        let identities = identities.collect::<Result<_, _>>().ok()?;
        let mut growth = Vec::new();
        while !rest.is_empty() {
            let length = number(&mut rest, 2)?;
            let path = std::str::from_utf8(take(&mut rest, length)?).ok()?.to_owned();
            let offset = number(&mut rest, 8)?;
            let width = u16::try_from(number(&mut rest, 2)?).ok()?;
            let length = number(&mut rest, 4)?;
            let bytes = batch.bytes.slice_ref(take(&mut rest, length)?);
            growth.push(Growth { path, offset, bytes, width });
        }
        Some(Self { note, identities, growth })
    }
}

fn digest(name: &str, after: &str, rest: &[u8]) -> Vec<u8> {
    HashAlgorithm::Sha256.digest_of([name.as_bytes(), after.as_bytes(), rest])
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = tail;
    Some(head)
}

fn number(rest: &mut &[u8], width: u64) -> Option<u64> {
    Some(take(rest, width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// What staged batches call a tree.
fn tree_name(checkpoint: &Checkpoint) -> String {
    format!("{}-{:?}", checkpoint.size, checkpoint.root)
}

/// The batches that are staged, in the order in which they were.
pub(crate) struct Journal(Vec<(StagedBatch, Addition)>);

/// A batch that this log did not make.
#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) name: String,
}

impl Journal {
    /// Reads all that are whole. One that is not was being staged when its writer died, and nobody was told of it.
    pub(crate) async fn read(store: &dyn TileStore) -> Result<Self, StoreError> {
        let batches = store.staged().await?.into_iter();
        Ok(Self(batches.filter_map(|batch| Some((batch.clone(), Addition::of(&batch)?))).collect()))
    }

    /// What was added after a tree, the oldest first: each with the tree that it leads to.
    ///
    /// # Errors
    /// For a batch whose checkpoint this log has not signed, or that of another tree.
    pub(crate) fn after(
        &self,
        key: &LogKey,
        tree: &Checkpoint,
    ) -> Result<Vec<(Checkpoint, &Addition)>, Foreign> {
        let named = self.0.iter().map(|(batch, addition)| (&*batch.after, (batch, addition)));
        let mut batches: HashMap<_, _> = named.collect();
        let (mut name, mut size, mut after) = (tree_name(tree), tree.size, Vec::new());
        while let Some((batch, addition)) = batches.remove(&*name) {
            let leads_to = key.open(&addition.note).ok();
            let leads_to =
                leads_to.filter(|tree| tree_name(tree) == batch.name && tree.size > size);
            let leads_to = leads_to.ok_or_else(|| Foreign { name: batch.name.clone() })?;
            (name, size) = (batch.name.clone(), leads_to.size);
            after.push((leads_to, addition));
        }
        Ok(after)
    }

    /// What led to a tree, the oldest first: all that may not have settled, perhaps some before that; nothing when it
    /// is not staged any more.
    pub(crate) fn until(&self, tree: &Checkpoint) -> Vec<&Addition> {
        let named = self.0.iter().map(|(batch, addition)| (&*batch.name, (batch, addition)));
        let mut batches: HashMap<_, _> = named.collect();
        let first = batches.remove(&*tree_name(tree));
        let before = |(batch, _): &(&StagedBatch, &Addition)| batches.remove(&*batch.after);
        let mut until: Vec<_> =
            std::iter::successors(first, before).map(|(_, addition)| addition).collect();
        until.reverse();
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::Signer;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::Ed25519KeyPair;
    use bytes::Bytes;

    fn tree(size: u64) -> Checkpoint {
        let root = Hash::of(&size.to_be_bytes());
        Checkpoint { origin: "log.example".into(), size, root, extensions: vec![] }
    }

    #[test]
    fn a_staged_batch_reads_back_and_nothing_is_read_of_one_that_is_not_whole() {
        let part = |path: &str, bytes: &'static [u8]| {
            let bytes = Bytes::from_static(bytes);
            Growth { path: path.to_owned(), offset: 1 << 40, bytes, width: 7 }
        };
        let addition = Addition {
            note: "a note".into(),
            identities: vec![Hash::of(b"one"), Hash::of(b"two")],
            growth: vec![part("tile/0/000", b"one"), part("tile/entries/000", b"")],
        };
        let staged = addition.staged(&tree(1), &tree(3));
        assert_eq!(Addition::of(&staged), Some(addition));
        for cut in 0..staged.bytes.len() {
            let bytes = staged.bytes.slice(..cut);
            assert_eq!(Addition::of(&StagedBatch { bytes, ..staged.clone() }), None, "{cut}");
            let mut bytes = staged.bytes.to_vec();
            bytes[cut] ^= 1;
            let bytes = bytes.into();
            assert_eq!(Addition::of(&StagedBatch { bytes, ..staged.clone() }), None, "{cut}");
        }
        let after = staged.name.clone();
        assert_eq!(Addition::of(&StagedBatch { after, ..staged }), None, "after another tree");
    }

    fn signer() -> Signer {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Signer::ed25519("log.example", pkcs8.as_ref()).unwrap()
    }

    /// A journal of batches, each from one tree to another under a note of that size by `signer`.
    fn journal(signer: &Signer, batches: &[(u64, u64, u64)]) -> Journal {
        let batch = |(after, leads_to, signed): &(u64, u64, u64)| {
            let note = signer.sign(*signed, tree(*signed).root).unwrap();
            let addition = Addition { note, identities: vec![], growth: vec![] };
            (addition.staged(&tree(*after), &tree(*leads_to)), addition)
        };
        Journal(batches.iter().map(batch).collect())
    }

    #[test]
    fn batches_lead_on_from_a_tree_and_back_from_one_and_the_last_after_a_tree_counts() {
        let signer = signer();
        let made = [(0, 1, 1), (1, 5, 5), (1, 3, 3), (5, 6, 6), (3, 4, 4), (9, 10, 10)];
        let journal = journal(&signer, &made);
        let after = |size| {
            let found = journal.after(signer.key(), &tree(size)).unwrap();
            found.iter().map(|(tree, _)| tree.size).collect::<Vec<_>>()
        };
        let until = |size| {
            let found = journal.until(&tree(size)).into_iter();
            found.map(|added| signer.key().open(&added.note).unwrap().size).collect::<Vec<_>>()
        };
        assert_eq!((after(0), after(1)), (vec![1, 3, 4], vec![3, 4]), "5 was staged in vain");
        assert_eq!((after(4), after(10), after(7)), (vec![], vec![], vec![]));
        assert_eq!((until(4), until(6)), (vec![1, 3, 4], vec![1, 5, 6]));
        assert_eq!((until(10), until(0), until(7)), (vec![10], vec![], vec![]));
    }

    #[test]
    fn a_batch_that_the_log_has_not_signed_is_refused() {
        let (own, other) = (signer(), signer());
        let refused = |signer, batch| journal(signer, &[batch]).after(own.key(), &tree(1)).is_err();
        assert!(!refused(&own, (1, 2, 2)));
        assert!(refused(&other, (1, 2, 2)), "by another key");
        assert!(refused(&own, (1, 2, 3)), "of another tree");
        assert!(refused(&own, (1, 1, 1)) && refused(&own, (1, 0, 0)), "of no later tree");
        assert!(!refused(&other, (3, 4, 4)), "nobody asks for it");
    }
}
