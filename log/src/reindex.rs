//! The table from an entry's identity to its index, made again from the log's bundles.
//!
//! The table is what lets a log answer a repeat with the first entry. It is written with each batch; this
//! is for a database that was damaged, or mended by hand. The entries are hashed first: what does not lead
//! to the signed root changes nothing.

use crate::index::Error;
use crate::read::Reader;
use crate::store::StoreError;
use crate::store::sqlite::SqliteLock;
use crate::tree::Edge;
use countersign_verify::merkle::Hash;
use countersign_verify::tile::FULL;

/// What was found of a table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Table {
    /// Entries in the log.
    pub entries: u64,
    /// Whether the table was another, and has been replaced.
    pub differed: bool,
}

/// Compares the table of `lock` with the log as `reader` has it, and replaces it when it differs. No
/// other process may append to the log meanwhile.
///
/// # Errors
/// When the log's entries do not lead to its root, or objects or database fail.
pub async fn table(reader: &Reader, lock: &SqliteLock) -> Result<Table, Error> {
    let checkpoint = reader.head().checkpoint();
    let bundles = || 0..checkpoint.size.div_ceil(u64::from(FULL));
    let (mut edge, mut filled, mut expected) = (Edge::default(), Vec::new(), Sum::default());
    for bundle in bundles() {
        for (leaf, identity) in identities(reader, bundle).await? {
            expected.add(identity, edge.size());
            edge.push(leaf, &mut filled);
        }
        filled.clear();
    }
    let (root, found) = (checkpoint.root, edge.root());
    if (edge.size(), found) != (checkpoint.size, root) {
        return Err(Error::Root { expected: root, found });
    }
    let entries = checkpoint.size;
    // One that cannot be read is another, too.
    let before = sum(lock).ok();
    if before == Some(expected) {
        return Ok(Table { entries, differed: false });
    }
    let rebuild = lock.rebuild()?;
    for bundle in bundles() {
        let first = bundle * u64::from(FULL);
        let leaves = identities(reader, bundle).await?.into_iter().map(|(_, identity)| identity);
        rebuild.add(&leaves.zip(first..).collect::<Vec<_>>())?;
    }
    rebuild.commit()?;
    // Restart finds the new table; before, the old one.
    Ok(Table { entries, differed: before != Some(sum(lock)?) })
}

/// Leaf hashes and identities of a bundle.
async fn identities(reader: &Reader, bundle: u64) -> Result<Vec<(Hash, Hash)>, Error> {
    let bytes = reader.bundle(bundle).await?;
    let records = reader.format().records(&bytes).map_err(|_| Error::Bundle { bundle })?;
    Ok(records.iter().map(|record| (record.leaf_hash(), record.identity())).collect())
}

fn sum(lock: &SqliteLock) -> Result<Sum, StoreError> {
    let mut sum = Sum::default();
    lock.each(|identity, index| sum.add(identity, index))?;
    Ok(sum)
}

/// Of rows in any order: how many, and the first 16 bytes of SHA-256 of each added up.
#[derive(Default, Eq, PartialEq)]
struct Sum(u64, u128);

impl Sum {
    fn add(&mut self, identity: Hash, index: u64) {
        let hash = Hash::of(&[&identity.as_bytes()[..], &index.to_be_bytes()].concat());
        let first = hash.as_bytes().first_chunk().expect("32 bytes have a first 16");
        self.0 += 1;
        self.1 = self.1.wrapping_add(u128::from_be_bytes(*first));
    }
}
