//! Entries that wait for the next batch, those who wait for them, and a memory of recent entries.
//!
//! Identical entries share one leaf and one place here. The pool is bounded in entries, waiters and
//! bytes; beyond that it refuses at once rather than let callers queue.

use crate::engine::{Appended, Load};
use crate::recover::OpenError;
use crate::store::StoreError;
use bytes::Bytes;
use countersign_verify::limits::MAX_ENTRY;
use countersign_verify::merkle::{Hash, leaf_hash};
use countersign_verify::witness;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// An entry that a face has checked and wants in the tree.
pub struct Candidate {
    identity: Hash,
    length: usize,
    leaf: Make,
}

enum Make {
    Ready(Leaf),
    At(Box<dyn FnOnce(u64) -> Leaf + Send>),
}

/// What goes into the tree and its bundles for one entry.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// SHA-256(0x00 ‖ leaf).
    pub hash: Hash,
    /// The entry as it lies in its bundle, framing included, see [`Format`](crate::Format).
    pub record: Bytes,
}

impl Candidate {
    /// An entry of a tlog-tiles log: its body is the leaf, and its hash what identifies it.
    ///
    /// # Errors
    /// When `body` is longer than 65535 bytes, the end of a bundle's length field.
    pub fn entry(body: &[u8]) -> Result<Self, AppendError> {
        let length = u16::try_from(body.len())
            .map_err(|_| AppendError::TooLong { limit: MAX_ENTRY, found: body.len() })?;
        let record = Bytes::from([&length.to_be_bytes()[..], body].concat());
        let leaf = Leaf { hash: leaf_hash(body), record };
        let (identity, length) = (Hash::of(body), leaf.record.len());
        Ok(Self { identity, length, leaf: Make::Ready(leaf) })
    }

    /// An entry whose leaf depends on its index. `identity` tells what makes two submissions the same,
    /// `length` is about that of the record, for bounds.
    pub fn indexed(
        identity: Hash,
        length: usize,
        leaf: impl FnOnce(u64) -> Leaf + Send + 'static,
    ) -> Self {
        Self { identity, length, leaf: Make::At(Box::new(leaf)) }
    }

    pub(crate) const fn identity(&self) -> Hash {
        self.identity
    }

    /// About that of its record.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn leaf_at(self, index: u64) -> Leaf {
        match self.leaf {
            Make::Ready(leaf) => leaf,
            Make::At(leaf) => leaf(index),
        }
    }
}

/// Why an entry was not taken, or is not known to be in the tree.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Too much is waiting. Nothing was changed; try again.
    #[error("the log has {limit} entries waiting and takes no more for now")]
    Full {
        /// The pool's bound.
        limit: usize,
    },
    /// A write failed. The entry may be in the tree or not; the same entry again gets the answer.
    #[error("the log could not store the entry: {0}")]
    Store(#[from] StoreError),
    /// The key could not sign a checkpoint. Nothing was changed.
    #[error("the log could not sign its checkpoint")]
    Signing,
    /// Another process moved the log on; the same entry again gets the answer.
    #[error("another process has appended to this log at the same time")]
    Conflict,
    /// What is stored contradicts itself: the log takes no entries until somebody has looked.
    #[error("the log is halted: {0}")]
    Halted(Arc<OpenError>),
    /// Too few witnesses cosigned the tree, which is not published therefore. The entry may be in it or not;
    /// the same entry again gets the answer.
    #[error("the log's checkpoint waits for its witnesses: {0}")]
    Held(Arc<witness::Refusal>),
    /// An earlier shard of the log has the entry, and has not published it: it is halted, or waits for its
    /// witnesses. The same entry again gets the answer once that shard is mended.
    #[error("an earlier shard has the entry and cannot show it, log {log:?}, index {index}")]
    Earlier {
        /// The shard's name.
        log: String,
        /// Where the entry is in it.
        index: u64,
    },
    /// The log is shutting down.
    #[error("the log is closed")]
    Closed,
    /// No bundle can hold the entry.
    #[error("an entry has at most {limit} bytes, found {found}")]
    TooLong {
        /// Bytes allowed.
        limit: usize,
        /// Bytes found.
        found: usize,
    },
}

/// An answer that is known, and those who wait for it. It is sent when nobody holds the pool: who gets it comes
/// back with the next entry at once.
#[must_use]
pub(crate) struct Answer {
    waiters: Vec<oneshot::Sender<Outcome>>,
    outcome: Outcome,
}

impl Answer {
    pub(crate) fn send(self) {
        for waiter in self.waiters {
            let _ = waiter.send(self.outcome.clone()); // a caller that went away needs no answer
        }
    }
}

pub(crate) type Outcome = Result<Appended, AppendError>;

/// Pending entries and all who wait, for the batch under way too.
pub(crate) struct Pool {
    limit: usize,
    /// With the time of their admission.
    pending: VecDeque<(Instant, Candidate)>,
    /// Since when the oldest entry of the batch under way waits.
    under_way: Option<Instant>,
    pending_bytes: usize,
    waiting: HashMap<Hash, Vec<oneshot::Sender<Outcome>>>,
    waiters: usize,
    recent: Recent,
    closed: bool,
}

/// Most bytes that wait: 4096 entries of 16 KiB, ten times what an entry with a certificate takes.
const MAX_PENDING_BYTES: usize = 64 << 20;

/// Most bytes of a batch beyond its first entry: what a slow disk still syncs well within a second.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// What becomes of an entry that is submitted.
pub(crate) enum Admission {
    /// It is in the tree already.
    Known { index: u64 },
    /// The answer will come.
    Wait(oneshot::Receiver<Outcome>),
}

impl Pool {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            pending: VecDeque::new(),
            under_way: None,
            pending_bytes: 0,
            waiting: HashMap::new(),
            waiters: 0,
            recent: Recent::default(),
            closed: false,
        }
    }

    pub(crate) fn admit(&mut self, candidate: Candidate) -> Result<Admission, AppendError> {
        if let Some(index) = self.recent.get(&candidate.identity) {
            return Ok(Admission::Known { index });
        }
        if self.closed {
            return Err(AppendError::Closed);
        }
        if self.waiters >= self.limit || self.pending_bytes > MAX_PENDING_BYTES {
            return Err(AppendError::Full { limit: self.limit });
        }
        let (sender, receiver) = oneshot::channel();
        self.waiters += 1;
        let waiting = self.waiting.entry(candidate.identity).or_default();
        waiting.push(sender);
        if waiting.len() == 1 {
            self.pending_bytes += candidate.length;
            self.pending.push_back((Instant::now(), candidate));
        }
        Ok(Admission::Wait(receiver))
    }

    /// The oldest pending entries, for the next batch.
    pub(crate) fn take(&mut self, limit: usize) -> Vec<Candidate> {
        let (mut count, mut bytes) = (0, 0);
        for (_, candidate) in self.pending.iter().take(limit) {
            bytes += candidate.length;
            if count > 0 && bytes > MAX_BATCH_BYTES {
                break;
            }
            count += 1;
        }
        self.under_way = self.pending.front().map(|(admitted, _)| *admitted);
        let batch: Vec<_> = self.pending.drain(..count).map(|(_, candidate)| candidate).collect();
        self.pending_bytes -= batch.iter().map(|candidate| candidate.length).sum::<usize>();
        batch
    }

    /// Since when the oldest entry that is not published waits.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.under_way.or_else(|| self.pending.front().map(|(admitted, _)| *admitted))
    }

    pub(crate) fn load(&self) -> Load {
        let oldest = self.oldest().map_or_else(Default::default, |admitted| admitted.elapsed());
        Load { waiting: self.waiters, pending: self.pending.len(), oldest }
    }

    /// The answer to all who wait for an entry that is published.
    pub(crate) fn settle(&mut self, identity: Hash, appended: Appended) -> Answer {
        // The memory has no room for which shard it is.
        if appended.earlier.is_none() {
            self.recent.insert(identity, appended.index);
        }
        self.answer(identity, Ok(appended))
    }

    /// The answer to all who wait for an entry that failed.
    pub(crate) fn fail(&mut self, identity: Hash, error: AppendError) -> Answer {
        self.answer(identity, Err(error))
    }

    fn answer(&mut self, identity: Hash, outcome: Outcome) -> Answer {
        let waiters = self.waiting.remove(&identity).unwrap_or_default();
        self.waiters -= waiters.len();
        Answer { waiters, outcome }
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.closed
    }
}

/// A bounded memory of identities in two generations: the older is dropped when the younger is full.
#[derive(Default)]
struct Recent {
    younger: HashMap<Hash, u64>,
    older: HashMap<Hash, u64>,
}

/// Entries of one generation; two of them take less than a megabyte.
const GENERATION: usize = 4096;

impl Recent {
    fn get(&self, identity: &Hash) -> Option<u64> {
        self.younger.get(identity).or_else(|| self.older.get(identity)).copied()
    }

    fn insert(&mut self, identity: Hash, index: u64) {
        if self.younger.len() == GENERATION {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(identity, index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(number: usize) -> Candidate {
        Candidate::entry(number.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_full_pool_refuses_and_identical_entries_take_one_place() {
        let mut pool = Pool::new(3);
        let waiters: Vec<_> = [1, 2, 1].map(|number| pool.admit(body(number)).ok()).into();
        assert!(waiters.iter().all(|admission| matches!(admission, Some(Admission::Wait(_)))));
        assert!(matches!(pool.admit(body(3)), Err(AppendError::Full { limit: 3 })));
        assert_eq!((pool.load().waiting, pool.load().pending), (3, 2));
        assert_eq!(pool.take(9).len(), 2);
        assert_eq!((pool.load().waiting, pool.load().pending), (3, 0));
        assert!(pool.oldest().is_some(), "those of the batch under way are not published yet");
        // Those of the batch under way still count, and still catch their repeats.
        assert!(matches!(pool.admit(body(1)), Err(AppendError::Full { .. })));
        pool.fail(body(2).identity, AppendError::Closed).send();
        assert!(matches!(pool.admit(body(1)), Ok(Admission::Wait(_))));
        assert!(pool.take(9).is_empty());
        let appended = Appended { index: 7, record: None, head: Arc::default(), earlier: None };
        pool.settle(body(1).identity, appended).send();
        assert!(matches!(pool.admit(body(1)), Ok(Admission::Known { index: 7 })));
        assert!(matches!(pool.admit(body(2)), Ok(Admission::Wait(_))));
        assert_eq!(pool.waiters, 1);
    }

    #[test]
    fn a_batch_is_bounded_in_entries_and_bytes() {
        let mut pool = Pool::new(5_000);
        for number in 0..10 {
            pool.admit(body(number)).unwrap();
        }
        assert_eq!(pool.take(4).len(), 4);
        assert_eq!(pool.take(100).len(), 6);
        for number in 0..3_u8 {
            let leaf = Leaf { hash: Hash::of(b""), record: Bytes::new() };
            let identity = Hash::of(&[number]);
            pool.admit(Candidate::indexed(identity, 5 << 20, |_| leaf)).unwrap();
        }
        assert_eq!((pool.take(100).len(), pool.take(100).len()), (1, 1));
        assert_eq!(pool.pending_bytes, 5 << 20);
    }

    #[test]
    fn an_entry_beyond_a_bundles_length_field_is_refused() {
        assert!(Candidate::entry(&vec![0; 65_535]).is_ok());
        let refused = Candidate::entry(&vec![0; 65_536]);
        assert!(matches!(refused, Err(AppendError::TooLong { limit: 65_535, found: 65_536 })));
    }

    #[test]
    fn the_memory_of_recent_entries_is_bounded() {
        let mut recent = Recent::default();
        for index in 0..3 * GENERATION as u64 {
            recent.insert(Hash::of(&index.to_be_bytes()), index);
        }
        assert!(recent.younger.len() + recent.older.len() <= 2 * GENERATION);
        let last = 3 * GENERATION as u64 - 1;
        assert_eq!(recent.get(&Hash::of(&last.to_be_bytes())), Some(last));
    }
}
