//! The shards of a log: one takes entries, those before it are read for ever.
//!
//! Each shard is a log of its own, with its own key and storage, its own tree from index 0. Nothing links
//! them but the trusted root, which lists all their keys. A face has one list of them, and turns from one
//! to the next without refusing anybody:
//!
//! ```text
//! announce   the next shard is there to be read, and in the trusted root; nothing is appended to it
//! turn       the one before is closed: what it has taken it finishes; who comes now waits a moment
//!            the next one takes entries; a repeat of an older entry is answered by the shard that has it
//! ```
//! All of a shard is in its tree before anything is in the next one, so no entry comes to be in both. What a
//! shard could not publish, for it was halted or held, is in its tree all the same: its lock says so.

use crate::engine::{Appended, Log};
use crate::pool::{AppendError, Candidate};
use crate::store::StoreError;
use parking_lot::RwLock;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The shards of one log, in order. `S` is a shard as its face needs it.
pub struct Shards<S> {
    state: RwLock<State<S>>,
    /// Held while one shard is closed and the next one is not opened yet.
    turning: Mutex<()>,
}

struct State<S> {
    all: Vec<Arc<S>>,
    /// Entries of each that is closed; the one after them takes entries.
    closed: Vec<u64>,
}

impl<S> From<S> for Shards<S> {
    fn from(only: S) -> Self {
        let state = State { all: vec![Arc::new(only)], closed: vec![] };
        Self { state: RwLock::new(state), turning: Mutex::default() }
    }
}

impl<S: AsRef<Log>> Shards<S> {
    /// The shards in order, of which number `active`, from 1, takes entries. Those before it are closed.
    ///
    /// # Errors
    /// When the lock of one before it cannot be read.
    ///
    /// # Panics
    /// When there is no such shard.
    pub async fn new(all: Vec<S>, active: usize) -> Result<Self, StoreError> {
        assert!((1..=all.len()).contains(&active), "one shard takes entries");
        let all: Vec<_> = all.into_iter().map(Arc::new).collect();
        let mut closed = Vec::new();
        for shard in &all[..active - 1] {
            closed.push(close((**shard).as_ref()).await?);
        }
        Ok(Self { state: RwLock::new(State { all, closed }), turning: Mutex::default() })
    }

    /// All shards in order, those announced at the end.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<S>> {
        self.state.read().all.clone()
    }

    /// The shards that have taken entries, in order; the last takes them now.
    #[must_use]
    pub fn begun(&self) -> Vec<Arc<S>> {
        let state = self.state.read();
        state.all[..=state.closed.len()].to_vec()
    }

    /// The same, each with how many entries are in those before it. That stays, whatever of them is published.
    pub(crate) fn counted(&self) -> Vec<(u64, Arc<S>)> {
        let mut before = 0;
        let state = self.state.read();
        let sizes = state.closed.iter().chain([&0]);
        let counted = state.all.iter().zip(sizes).map(|(shard, size)| {
            let first = before;
            before += size;
            (first, Arc::clone(shard))
        });
        counted.collect()
    }

    /// The shard that takes entries.
    #[must_use]
    pub fn active(&self) -> Arc<S> {
        let state = self.state.read();
        Arc::clone(&state.all[state.closed.len()])
    }

    /// Shard `number`, from 1.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<Arc<S>> {
        self.state.read().all.get(number.checked_sub(1)?).cloned()
    }

    /// Puts the next shard beside the others, to be read.
    pub fn announce(&self, next: S) {
        self.state.write().all.push(Arc::new(next));
    }

    /// Closes the shard that takes entries and has the next one take them; `false` if none is announced.
    ///
    /// # Errors
    /// When the lock cannot be read of a shard that did not end well. It is closed then, and none takes entries until
    /// the same again succeeds.
    pub async fn turn(&self) -> Result<bool, StoreError> {
        let _turning = self.turning.lock().await;
        let active = self.active();
        if Arc::ptr_eq(&active, self.state.read().all.last().expect("one takes entries")) {
            return Ok(false);
        }
        let size = close((*active).as_ref()).await?;
        self.state.write().closed.push(size);
        Ok(true)
    }

    /// Appends to the shard that takes entries; returns it, or the older one that has the entry already.
    ///
    /// # Errors
    /// See [`Log::append`].
    pub async fn append(
        &self,
        candidate: impl Fn() -> Result<Candidate, AppendError>,
    ) -> Result<(Arc<S>, Appended), AppendError> {
        loop {
            let shard = self.active();
            match (*shard).as_ref().append(candidate()?).await {
                Ok(appended) => {
                    let holder = appended.earlier.as_ref().and_then(|log| self.of(log));
                    return Ok((holder.unwrap_or(shard), appended));
                }
                Err(AppendError::Closed) => {
                    drop(self.turning.lock().await);
                    if Arc::ptr_eq(&shard, &self.active()) {
                        return Err(AppendError::Closed);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn of(&self, log: &Log) -> Option<Arc<S>> {
        let id = log.key().log_id();
        self.state.read().all.iter().find(|shard| (***shard).as_ref().key().log_id() == id).cloned()
    }
}

/// Closes a shard; returns how many entries it has, by its lock. Without that nobody knows where the next one
/// begins.
async fn close(log: &Log) -> Result<u64, StoreError> {
    log.close().await;
    log.committed().await
}
