//! What a log has said, kept in a sparse temporary file, so that memory does not grow with the run; and
//! the reckoning at the end, when all of it is held to the newest checkpoint.
//!
//! One slot an index: the hash of the leaf that was acknowledged there, and the root of a tree whose last
//! leaf it is. Zeros where nothing was said.

use super::tally::Tally;
use crate::failure::Failure;
use countersign_log::read::Reader;
use countersign_log::store::Source;
use countersign_verify::merkle::{Frontier, Hash};
use countersign_verify::tile::{FULL, Tile, width};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes of a slot: leaf hash, root.
const SLOT: usize = 64;

/// Tiles fetched at a time.
const AHEAD: usize = 16;

/// Said by the log at one index.
#[derive(Clone, Copy)]
pub(super) enum Said {
    Leaf,
    /// The root of the tree that ends there.
    Root,
}

pub(super) struct Ledger {
    file: Mutex<File>,
}

impl Ledger {
    pub(super) fn new() -> Result<Self, Failure> {
        let file = tempfile::tempfile().map_err(|error| failed(&error))?;
        Ok(Self { file: Mutex::new(file) })
    }

    /// Keeps what was said; returns what was said before if that is another hash.
    pub(super) fn keep(&self, index: u64, said: Said, hash: Hash) -> Result<Option<Hash>, Failure> {
        let offset = index * SLOT as u64 + if matches!(said, Said::Leaf) { 0 } else { 32 };
        let file = self.file.lock();
        let mut before = [0; 32];
        let length = read_up_to(&file, &mut before, offset).map_err(|error| failed(&error))?;
        if length == 0 || before == [0; 32] {
            file.write_all_at(hash.as_bytes(), offset).map_err(|error| failed(&error))?;
            return Ok(None);
        }
        let before = Hash::new(before);
        Ok((before != hash).then_some(before))
    }

    /// Reads all leaf hashes of the newest tree from tiles, hashes them up to its root, and compares on the
    /// way: every leaf that was acknowledged, and every root that was signed. A checkpoint whose root
    /// comes up is consistent with the newest one.
    pub(super) async fn settle(
        &self,
        reader: &Reader,
        source: &dyn Source,
        tally: &mut Tally,
    ) -> Result<Settled, Failure> {
        let checkpoint = reader.head().checkpoint();
        let (size, mut tree) = (checkpoint.size, Frontier::new());
        let mut settled = Settled { size, leaves: 0, checkpoints: 0 };
        let tiles = (0..size.div_ceil(u64::from(FULL))).map(|index| Tile {
            level: 0,
            index,
            width: width(0, index, size),
        });
        let mut tiles = futures_util::stream::iter(tiles)
            .map(async |tile| (tile, source.get(&tile.path()).await))
            .buffered(AHEAD);
        while let Some((tile, fetched)) = tiles.next().await {
            let path = tile.path();
            let bytes = fetched.map_err(|error| Failure::unclear(error.to_string()))?;
            let Some(bytes) = bytes else {
                tally.broken(format!("{path} is missing"));
                return Ok(settled);
            };
            let slots = self.slots(tile.index, usize::from(tile.width))?;
            for (hash, slot) in bytes.as_chunks::<32>().0.iter().zip(slots.as_chunks::<SLOT>().0) {
                let (hash, index) = (Hash::new(*hash), tree.size());
                tree.push(hash);
                let (leaf, root) = halves(slot);
                if let Some(leaf) = leaf {
                    settled.leaves += 1;
                    if leaf != hash {
                        tally.lost(format!("entry {index} was acknowledged, another is there now"));
                    }
                }
                if let Some(root) = root {
                    settled.checkpoints += 1;
                    if root != tree.root() {
                        let size = tree.size();
                        tally.broken(format!(
                            "a checkpoint of size {size} is signed that is not of this log's history"
                        ));
                    }
                }
            }
        }
        if (tree.size(), tree.root()) != (size, checkpoint.root) {
            tally.broken("the leaves do not lead to the newest checkpoint's root".to_owned());
        }
        self.beyond(size, &mut settled, tally)?;
        Ok(settled)
    }

    /// What was said of places that the newest tree does not have.
    fn beyond(&self, size: u64, settled: &mut Settled, tally: &mut Tally) -> Result<(), Failure> {
        let length = self.file.lock().metadata().map_err(|error| failed(&error))?.len();
        let full = u64::from(FULL);
        for tile in size / full..length.div_ceil(full * SLOT as u64) {
            let slots = self.slots(tile, usize::from(FULL))?;
            for (index, slot) in (tile * full..).zip(slots.as_chunks::<SLOT>().0) {
                let (leaf, root) = if index < size { (None, None) } else { halves(slot) };
                if leaf.is_some() {
                    settled.leaves += 1;
                    tally.lost(format!("entry {index} was acknowledged, the log ends at {size}"));
                }
                if root.is_some() {
                    settled.checkpoints += 1;
                    let signed = index + 1;
                    tally.broken(format!(
                        "a checkpoint of size {signed} is signed, now it is {size}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The slots beside a level-0 tile.
    fn slots(&self, tile: u64, count: usize) -> Result<Vec<u8>, Failure> {
        let mut slots = vec![0; count * SLOT];
        let offset = tile * u64::from(FULL) * SLOT as u64;
        read_up_to(&self.file.lock(), &mut slots, offset).map_err(|error| failed(&error))?;
        Ok(slots)
    }
}

/// What was compared in the end.
pub(super) struct Settled {
    /// Of the newest tree.
    pub(super) size: u64,
    /// Acknowledged places.
    pub(super) leaves: u64,
    /// Different checkpoints.
    pub(super) checkpoints: u64,
}

fn halves(slot: &[u8; SLOT]) -> (Option<Hash>, Option<Hash>) {
    let half = |at: usize| {
        let bytes: [u8; 32] = slot[at..at + 32].try_into().expect("half of a slot");
        (bytes != [0; 32]).then(|| Hash::new(bytes))
    };
    (half(0), half(32))
}

/// Reads until the buffer is full or the file ends; returns how much.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

fn failed(error: &io::Error) -> Failure {
    Failure::unclear(format!("cannot keep what the log said in a temporary file: {error}"))
}
