//! Search over an instance's signature logs: entries by digest, identity, issuer, certificate, key, kind
//! and time.
//!
//! The index is written behind the logs, out of their published bundles, by a task that knows of a log no
//! more than an outsider: where its objects are and its public key. So it can be thrown away and made again
//! ([`Index::catch_up`]), and it cannot know of an entry that is not in the tree. Each answer says by which
//! signed checkpoints it is complete, and entries come with proofs that lead to these.
//!
//! An answer is a statement of whoever runs the index: that an entry is there is proven, that there is no
//! other is not. Who must not rely on it reads all entries.

mod facts;
mod follow;
pub mod postings;
mod query;

pub use facts::{Facts, Signer};
pub use follow::Pace;
pub use query::{Error as QueryError, Query};

pub(crate) use facts::{folded, without_zeros};
pub(crate) use query::Field;

use crate::proof;
use crate::read::Reader;
use crate::record::Format;
use crate::recover::OpenError;
use crate::signer::LogKey;
use crate::store::{Source, StoreError};
use crate::thread::Background;
use countersign_verify::encoding::{from_hex, hex};
use countersign_verify::merkle::Hash;
use follow::Follower;
use parking_lot::{Mutex, RwLock};
use postings::Postings;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often a log is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How seldom at most.
const REST: Duration = Duration::from_secs(2);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// A log as an outsider knows it.
#[derive(Clone)]
pub struct Published {
    /// Where its objects are.
    pub source: Arc<dyn Source>,
    /// Its public key and its name.
    pub key: LogKey,
    /// How entries lie in its bundles.
    pub format: Format,
}

/// An index over some logs. Clones are the same index.
#[derive(Clone)]
pub struct Index(Arc<Inner>);

struct Inner {
    postings: Postings,
    logs: RwLock<Vec<Arc<Follower>>>,
    stop: watch::Sender<bool>,
    following: Mutex<Option<Following>>,
}

/// Where the logs are followed.
struct Following {
    background: Background,
    tasks: Vec<JoinHandle<()>>,
}

/// How far a log is indexed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Indexed {
    /// The log's name.
    pub origin: String,
    /// Its 32-byte ID.
    pub log_id: [u8; 32],
    /// Entries that searches are complete up to.
    pub size: u64,
    /// The root of their tree; `None` before the first checkpoint is indexed.
    pub root: Option<Hash>,
}

/// One page of an answer.
pub struct Page {
    /// The trees that were searched, by log; those of which nothing is indexed yet are missing.
    pub trees: Vec<Arc<Reader>>,
    /// Entries that were found: which of the trees, and the index in it. In the order of trees and indices.
    pub entries: Vec<(usize, u64)>,
    /// Whether this is all, up to the trees' checkpoints.
    pub complete: bool,
    /// Where the next page begins; once complete, where entries begin that are not in the log yet.
    pub resume: Resume,
}

/// A place in an answer: of each log, the entries before that index have been given. As text a number of
/// `<16 hexadecimal digits of the log's ID>.<index>`, with `-` between.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Resume(Vec<([u8; 8], u64)>);

impl Index {
    /// Opens the index file at `path` over `logs`; it is made if need be, and what it has of another tree
    /// is dropped. Nothing is indexed by that.
    ///
    /// # Errors
    /// When the file cannot be made, or a log's objects cannot be read.
    pub async fn open(path: &Path, logs: Vec<Published>) -> Result<Self, Error> {
        let postings = Postings::open(path).await?;
        let mut followers = Vec::new();
        for log in logs {
            followers.push(Arc::new(Follower::new(log, postings.clone()).await?));
        }
        let (stop, following) = (watch::Sender::new(false), Mutex::default());
        Ok(Self(Arc::new(Inner { postings, logs: RwLock::new(followers), stop, following })))
    }

    /// Takes in another log, as a new shard is, and follows it if it follows the others.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn add(&self, log: Published) -> Result<(), Error> {
        let log = Arc::new(Follower::new(log, self.0.postings.clone()).await?);
        let mut following = self.0.following.lock();
        self.0.logs.write().push(Arc::clone(&log));
        if let Some(Following { background, tasks }) = &mut *following {
            tasks.push(background.spawn(follow(log, self.0.stop.subscribe())));
        }
        Ok(())
    }

    fn logs(&self) -> Vec<Arc<Follower>> {
        self.0.logs.read().clone()
    }

    /// Starts to follow the logs, until [`close`](Self::close), on a thread of its own.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn follow(&self) -> std::io::Result<()> {
        let background = Background::start("index")?;
        let mut following = self.0.following.lock();
        let task = |log| background.spawn(follow(log, self.0.stop.subscribe()));
        let tasks = self.logs().into_iter().map(task).collect();
        *following = Some(Following { background, tasks });
        Ok(())
    }

    /// Indexes all that is published by now.
    ///
    /// # Errors
    /// When a log cannot be read, or its entries do not lead to its signed root.
    pub async fn catch_up(&self, pace: Pace) -> Result<(), Error> {
        for log in self.logs() {
            log.advance(pace).await?;
        }
        Ok(())
    }

    /// How far each log is indexed.
    #[must_use]
    pub fn indexed(&self) -> Vec<Indexed> {
        let indexed = |log: &Arc<Follower>| {
            let reader = log.reader();
            let checkpoint = reader.as_ref().map(|reader| reader.head().checkpoint());
            Indexed {
                origin: log.log.key.origin().to_owned(),
                log_id: *log.log.key.log_id(),
                size: checkpoint.map_or(0, |checkpoint| checkpoint.size),
                root: checkpoint.map(|checkpoint| checkpoint.root),
            }
        };
        self.logs().iter().map(indexed).collect()
    }

    /// Searches the logs with those IDs that are `wanted`, from `resume` on for at most `limit` entries. A page
    /// may hold fewer, even none, and not be the last.
    ///
    /// # Errors
    /// When the file cannot be read, or `resume` is of another instance.
    pub async fn search(
        &self,
        query: &Query,
        wanted: &(dyn Fn(&[u8; 32]) -> bool + Sync),
        resume: &Resume,
        limit: usize,
    ) -> Result<Page, Error> {
        let logs = self.logs();
        let ids: Vec<_> = logs.iter().map(|log| short(log.log.key.log_id())).collect();
        if resume.0.iter().any(|(id, _)| !ids.contains(id)) {
            return Err(Error::Resume);
        }
        let (mut trees, mut entries, mut complete) = (Vec::new(), Vec::new(), true);
        let mut places = resume.clone();
        for log in &logs {
            let id = log.log.key.log_id();
            let Some(reader) = log.reader().filter(|_| wanted(id)) else { continue };
            let tree = trees.len();
            let (size, from) = (reader.head().checkpoint().size, places.of(short(id)));
            trees.push(reader);
            // The pages before this one end here; the trees are still named.
            if !complete || from >= size {
                continue;
            }
            let left = limit - entries.len();
            if left == 0 {
                complete = false;
                continue;
            }
            let found = self.0.postings.find(log.number, query, from..size, left).await?;
            entries.extend(found.leaves.into_iter().map(|leaf| (tree, leaf)));
            places.set(short(id), found.behind);
            complete = found.behind >= size;
        }
        Ok(Page { trees, entries, complete, resume: places })
    }

    /// Postings of each log up to its checkpoint in `of`: how many, and a sum over them; `None` for logs that
    /// are not in this index. Two indices with the same sums find the same.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn sums(&self, of: &[Indexed]) -> Result<Vec<Option<(u64, u128)>>, StoreError> {
        let mut sums = Vec::new();
        for Indexed { log_id, size, .. } in of {
            let logs = self.logs();
            let log = logs.iter().find(|log| log.log.key.log_id() == log_id);
            sums.push(match log {
                Some(log) => Some(self.0.postings.sum(log.number, *size).await?),
                None => None,
            });
        }
        Ok(sums)
    }

    /// Stops to follow, and closes the file. What was not finished is found undone by the next start.
    pub async fn close(&self) {
        self.0.stop.send_replace(true);
        let following = self.0.following.lock().take();
        let (background, tasks) = following.map(|it| (it.background, it.tasks)).unzip();
        for task in tasks.unwrap_or_default() {
            let _ = task.await; // a panic of the task has been reported by the runtime
        }
        self.0.postings.close().await;
        drop(background); // it had connections to give back
    }
}

async fn follow(log: Arc<Follower>, mut stop: watch::Receiver<bool>) {
    let work = async {
        loop {
            let wait = match log.advance(Pace::Behind).await {
                Ok(entries) => rest(entries),
                Err(error) => {
                    tracing::warn!(log = log.log.key.origin(), %error, "the index does not move on");
                    RETRY
                }
            };
            tokio::time::sleep(wait).await;
        }
    };
    tokio::select! {
        // A transaction that is dropped is rolled back.
        () = work => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

/// How long to rest after so many entries. In a log that grows fast longer ones, for then entries come in runs that
/// need not be merged so often.
fn rest(entries: u64) -> Duration {
    let steps = u32::try_from(entries / 256).unwrap_or(u32::MAX);
    POLL.saturating_mul(steps.saturating_add(1)).min(REST)
}

impl Resume {
    /// Reads the text of a place.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut places: Vec<([u8; 8], u64)> = Vec::new();
        for part in text.split('-').filter(|_| !text.is_empty()) {
            let (id, index) = part.split_once('.').ok_or(Error::Resume)?;
            let id = from_hex(id).ok().and_then(|id| id.try_into().ok()).ok_or(Error::Resume)?;
            let index =
                index.parse().ok().filter(|index: &u64| index.to_string().len() == part.len() - 17);
            let index = index.ok_or(Error::Resume)?;
            if places.iter().any(|(other, _)| *other == id) {
                return Err(Error::Resume);
            }
            places.push((id, index));
        }
        Ok(Self(places))
    }

    /// The place behind one entry of the same page, which begins at this place.
    #[must_use]
    pub fn behind(&self, page: &Page, entry: usize) -> Self {
        let mut places = self.clone();
        for (tree, leaf) in &page.entries[..=entry] {
            // Logs before this one have been looked through.
            for done in &page.trees[..*tree] {
                places.set(short(done.log_id()), done.head().checkpoint().size);
            }
            places.set(short(page.trees[*tree].log_id()), leaf + 1);
        }
        places
    }

    fn of(&self, id: [u8; 8]) -> u64 {
        self.0.iter().find(|(known, _)| *known == id).map_or(0, |(_, index)| *index)
    }

    fn set(&mut self, id: [u8; 8], index: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == id) {
            Some(place) => place.1 = place.1.max(index),
            None => self.0.push((id, index)),
        }
    }
}

impl std::fmt::Display for Resume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, (id, index)) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_char('-')?;
            }
            write!(f, "{}.{index}", hex(id))?;
        }
        Ok(())
    }
}

fn short(log_id: &[u8; 32]) -> [u8; 8] {
    *log_id.first_chunk().expect("32 bytes have a first eight")
}

/// Why the index does not move on or does not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The index file, or the log's objects.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log's checkpoint or its right edge.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The log's bundles.
    #[error(transparent)]
    Proof(#[from] proof::Error),
    /// A bundle that does not split into entries.
    #[error("entry bundle {bundle} of the log is damaged")]
    Bundle {
        /// Its number.
        bundle: u64,
    },
    /// The published tree is smaller than one before it.
    #[error("{indexed} entries are indexed, the log's checkpoint has {published} only")]
    Shrunk {
        /// Entries in the index.
        indexed: u64,
        /// Entries of the checkpoint.
        published: u64,
    },
    /// The published entries are not those of the signed tree.
    #[error("the log's entries lead to root {found}, its checkpoint has {expected}")]
    Root {
        /// The signed root.
        expected: Hash,
        /// That of the entries.
        found: Hash,
    },
    /// Another process writes the same file.
    #[error("somebody else indexes the same log into this file, up to {entries} entries")]
    Elsewhere {
        /// Where this index would be.
        entries: u64,
    },
    /// A text that is no place in an answer of this index.
    #[error("expected the resume token of an earlier answer of this instance")]
    Resume,
}
