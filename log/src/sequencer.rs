//! The one task of a log that changes its tree, batch by batch, on a thread of its own.
//!
//! ```text
//! batch -> Staged: what tiles and bundles grow by, identities and signed checkpoint, in memory and as one durable
//!          object
//!       -> Committed: the checkpoint swapped into the lock, with the identities
//!       -> Grown: tiles and bundles out; now witnesses are asked, if there are any
//!       -> Published: the checkpoint out, cosignatures below the log's own signature
//!       -> the waiters are answered
//! ```
//! One write of a batch is durable, the staged object. The swap decides that it is the log's; should the power take
//! that from the lock, recovery finds it staged and swaps it in again. Swaps settle later, with what the batches add
//! to tiles and bundles ([`Unsettled`]), and the checkpoint is then stored beside them, unless it has cosignatures.
//! Who reads over HTTP gets it out of memory.
//!
//! The types make the order: only a `Staged` commits, only a `Committed` grows, only a `Grown` publishes,
//! only a `Published` is answered. What stands in the lock is signed by the log alone: whatever witnesses
//! do, which tree is the log's does not depend on it. Tiles are written only after their tree is
//! committed, so that what is in them never changes, and a write that comes late cannot put a tile of
//! another tree in place.
//!
//! When a write fails whose effect is unknown, the tree in memory is thrown away and read again from
//! lock and store by [`recover`](crate::recover); the waiters are then answered from what is found
//! there.

use crate::engine::{Appended, Head, Log, Options, Shared};
use crate::journal::Addition;
use crate::pool::{Answer, AppendError, Candidate, Pool};
use crate::recover::{OpenError, recover};
use crate::signer::{self, Signer};
use crate::store::{CheckpointLock, Growth, MAX_BATCH, StoreError, SwapError, TileStore};
use crate::tree::{Filled, Tail};
use bytes::Bytes;
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::merkle::Hash;
use countersign_verify::tile::{EntryBundle, FULL, Tile};
use countersign_verify::witness::Refusal;
use metrics::{counter, histogram};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The name of the published checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// How often a log asks again whose latest tree waits for witnesses, or that could not be read.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The log's latest tree.
pub(crate) enum Tree {
    /// Everybody can read it.
    Published(Arc<Head>),
    /// It waits for its witnesses, and nothing is added to it meanwhile.
    Held(Grown),
}

impl Tree {
    pub(crate) fn head(&self) -> &Head {
        match self {
            Self::Published(head) => head,
            Self::Held(grown) => &grown.batch.head,
        }
    }
}

/// Longest wait for the callers' threads before a batch.
const GATHER: Duration = Duration::from_millis(2);

/// How long what a batch added may be other than settled: as long as a cache may keep a checkpoint.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

/// How many entries may be: 32 bundles and their tiles, so that few files are open, and not more is
/// staged than is read again in no time.
const SETTLE_ENTRIES: u64 = 8192;

/// When nothing comes any more, what is there settles.
const IDLE: Duration = Duration::from_millis(50);

/// Batches whose swaps and growth would not survive loss of power. They are staged until these do, and the stored
/// checkpoint is the one before them.
#[derive(Default)]
struct Unsettled {
    /// When the oldest was published, and the size of the tree before it.
    since: Option<(Instant, u64)>,
    /// Swaps and growth on their way to the disk; the checkpoint is stored after them.
    settling: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Unsettled {
    /// A batch was published after the tree of `size` entries.
    fn published(&mut self, size: u64) {
        self.since.get_or_insert_with(|| (Instant::now(), size));
    }

    fn is_due(&self, head: &Head, idle: bool) -> bool {
        self.since.is_some_and(|(since, size)| {
            let entries = head.checkpoint.size - size;
            idle || since.elapsed() >= SETTLE_AFTER || entries >= SETTLE_ENTRIES
        })
    }

    /// Has all that is published settle, while the next batches come. Waits for those before it.
    async fn settle(&mut self, shared: &Shared, head: &Head) -> Result<(), StoreError> {
        self.settled().await?;
        let (store, lock) = (Arc::clone(&shared.store), Arc::clone(&shared.lock));
        let (growth, note) = (store.settle(), head.note.clone());
        self.settling = Some(tokio::spawn(async move {
            // Once the growth has settled the batches may be gone, so the swaps go first.
            lock.settle().await?;
            growth.await?;
            // Restart finds the growth, and the stored checkpoint older than it.
            store.put(CHECKPOINT, note.into()).await
            // Restart finds all of it published, and asks for no staged batch.
        }));
        self.since = None;
        Ok(())
    }

    /// Waits until what is on its way is there.
    async fn settled(&mut self) -> Result<(), StoreError> {
        let Some(settling) = self.settling.take() else { return Ok(()) };
        settling.await.unwrap_or_else(|error| {
            let source = Arc::new(std::io::Error::other(error));
            Err(StoreError::Io { operation: "settle", path: CHECKPOINT.to_owned(), source })
        })
    }

    fn is_none(&self) -> bool {
        self.since.is_none() && self.settling.is_none()
    }
}

/// Runs until the pool is closed and empty. Returns the log's latest tree, unless it could not be read.
pub(crate) async fn run(shared: &Shared, tree: Tree) -> Option<Tree> {
    let (mut tree, mut unsettled) = (Some(tree), Unsettled::default());
    loop {
        // Whoever is about to submit does so now. Callers' threads come to this at once when they have nothing to do, and
        // later when they do: so a log that could be busier commits at once, and a busy one fewer and larger batches.
        let _ = timeout(GATHER, shared.callers.spawn(async {})).await;
        shared.held.store(matches!(tree, Some(Tree::Held(_))), Ordering::Relaxed);
        let (batch, closed) = {
            let mut pool = shared.pool.lock();
            (pool.take(shared.options.max_batch.min(MAX_BATCH)), pool.is_closed())
        };
        match (batch.is_empty(), closed, &tree) {
            (false, _, _) => tree = cycle(shared, tree, batch, &mut unsettled).await,
            (true, _, Some(Tree::Held(_))) => {
                tree = cycle(shared, tree, batch, &mut unsettled).await;
                if closed {
                    return tree; // what is held still, a restart finds
                }
                if let Some(Tree::Held(_)) = tree {
                    let _ = timeout(ASK_AGAIN, shared.wake.notified()).await; // either will do
                }
            }
            (true, false, None) => {
                if timeout(ASK_AGAIN, shared.wake.notified()).await.is_err() {
                    tree = reload(shared, &[], &mut unsettled).await;
                }
            }
            (true, false, _) if unsettled.is_none() => shared.wake.notified().await,
            (true, false, _) => {
                let idle = timeout(IDLE, shared.wake.notified()).await.is_err();
                tree = settle(shared, tree, &mut unsettled, idle).await;
            }
            (true, true, _) => {
                if tree.is_none() {
                    tree = reload(shared, &[], &mut unsettled).await;
                }
                tree = settle(shared, tree, &mut unsettled, true).await;
                if let Err(error) = unsettled.settled().await
                    && tree.is_some()
                {
                    told_anew(shared, &error); // by a restart
                }
                return tree;
            }
        }
        tree = settle(shared, tree, &mut unsettled, false).await;
    }
}

/// Has what is published settle if it is due. `None` when what was before it did not: then the log is to be
/// read anew, staged batches included.
async fn settle(
    shared: &Shared,
    tree: Option<Tree>,
    unsettled: &mut Unsettled,
    idle: bool,
) -> Option<Tree> {
    let settled = match &tree {
        Some(Tree::Published(head)) if unsettled.is_due(head, idle) => {
            unsettled.settle(shared, head).await
        }
        _ if unsettled.settling.as_ref().is_some_and(JoinHandle::is_finished) => {
            unsettled.settled().await
        }
        _ => Ok(()),
    };
    match settled {
        Ok(()) => tree,
        Err(error) => {
            told_anew(shared, &error);
            unsettled.since = None;
            None
        }
    }
}

fn told_anew(shared: &Shared, error: &dyn std::fmt::Display) {
    tracing::error!(log = shared.signer.key().origin(), %error, "reading the log anew");
}

/// One batch, after a tree that waits for witnesses. `tree` is `None` after a failure from which the log
/// has not come back yet.
async fn cycle(
    shared: &Shared,
    tree: Option<Tree>,
    batch: Vec<Candidate>,
    unsettled: &mut Unsettled,
) -> Option<Tree> {
    let identities: Vec<Hash> = batch.iter().map(Candidate::identity).collect();
    let tree = match tree {
        Some(tree) => tree,
        None => reload(shared, &identities, unsettled).await?,
    };
    let before = tree.head().checkpoint.size;
    let outcome = match tree {
        Tree::Published(head) => advance(shared, head, batch).await,
        Tree::Held(grown) => match release(shared, grown).await {
            Ok(head) => advance(shared, head, batch).await,
            failure => failure,
        },
    };
    match outcome {
        Ok(head) => {
            if shared.options.witnesses.is_none() && head.checkpoint.size > before {
                unsettled.published(before);
            }
            Some(Tree::Published(head))
        }
        Err(Failure::Before(head, error)) => {
            tracing::warn!(log = shared.signer.key().origin(), %error, "a batch failed");
            fail(shared, &identities, &error);
            Some(Tree::Published(head))
        }
        Err(Failure::Held(grown, refusal)) => {
            if !identities.is_empty() {
                let log = shared.signer.key().origin();
                tracing::warn!(log, %refusal, "the checkpoint is held");
            }
            fail(shared, &identities, &AppendError::Held(Arc::new(refusal)));
            Some(Tree::Held(*grown))
        }
        Err(Failure::Unknown(error)) => {
            told_anew(shared, &error);
            let tree = reload(shared, &identities, unsettled).await?;
            // What was committed after all, and is published, is found; of the rest nobody knows.
            let settled = match &tree {
                Tree::Published(head) => settle_known(shared, head, &identities).await.is_ok(),
                Tree::Held(_) => true,
            };
            fail(shared, &identities, &error);
            settled.then_some(tree)
        }
    }
}

/// Why a batch did not come through.
enum Failure {
    /// Nothing has changed.
    Before(Arc<Head>, AppendError),
    /// It is in the tree, which waits for witnesses.
    Held(Box<Grown>, Refusal),
    /// It may be committed or not, published in part or not at all.
    Unknown(AppendError),
}

/// The flow of one batch.
async fn advance(
    shared: &Shared,
    head: Arc<Head>,
    batch: Vec<Candidate>,
) -> Result<Arc<Head>, Failure> {
    let started = Instant::now();
    let identities: Vec<Hash> = batch.iter().map(Candidate::identity).collect();
    let known = match settle_known(shared, &head, &identities).await {
        Ok(known) => known,
        Err(error) => return Err(Failure::Before(head, error.into())),
    };
    let fresh: Vec<_> =
        batch.into_iter().filter(|candidate| !known.contains(&candidate.identity())).collect();
    if fresh.is_empty() {
        return Ok(head);
    }
    let store = &*shared.store;
    let entries = fresh.len();
    let oldest = shared.pool.lock().load().oldest;
    let staging = Instant::now();
    let staged = Staged::write(shared, head, fresh).await?;
    let committed = staged.commit(&*shared.lock).await?;
    let commit = staging.elapsed();
    let grown = committed.grow(store).await.map_err(|error| Failure::Unknown(error.into()))?;
    shared.tiles.remember(grown.batch.filled.clone());
    let head = release(shared, grown).await?;
    let (duration, log) = (started.elapsed(), [("log", shared.signer.key().origin().to_owned())]);
    histogram!("countersign_log_batch_entries", &log).record(entries as f64);
    histogram!("countersign_log_batch_age_seconds", &log).record(oldest);
    histogram!("countersign_log_batch_seconds", &log).record(duration);
    histogram!("countersign_log_commit_seconds", &log).record(commit);
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let size = head.checkpoint.size;
    tracing::debug!(log = shared.signer.key().origin(), entries, size, duration_ms, "published");
    Ok(head)
}

/// Publishes a tree once its witnesses have cosigned it, and answers.
async fn release(shared: &Shared, grown: Grown) -> Result<Arc<Head>, Failure> {
    let published = match &shared.options.witnesses {
        None => grown.publish(),
        Some(witnesses) => match witnesses.cosign(&shared.tiles, &grown.batch.head).await {
            // Cosignatures stand in the stored checkpoint alone, so that is stored first.
            Ok(note) => {
                let stored = grown.store(&*shared.store, &*shared.lock, note).await;
                stored.map_err(|error| Failure::Unknown(error.into()))?
            }
            Err(refusal) => return Err(Failure::Held(Box::new(grown), refusal)),
        },
    };
    Ok(answer(shared, &published))
}

/// Answers for those entries that the table knows; returns them.
async fn settle_known(
    shared: &Shared,
    head: &Arc<Head>,
    identities: &[Hash],
) -> Result<HashSet<Hash>, StoreError> {
    let mut settled = HashSet::new();
    let mut settle = |known: Vec<(Hash, u64)>, head: &Arc<Head>, earlier: Option<&Log>| {
        settled.extend(known.iter().map(|(identity, _)| *identity));
        send(shared, known, |pool, (identity, index)| match earlier {
            // In that tree for good, which is not published so far.
            Some(earlier) if index >= head.checkpoint.size => {
                let log = earlier.key().origin().to_owned();
                pool.fail(identity, AppendError::Earlier { log, index })
            }
            _ => {
                let (record, head, earlier) = (None, Arc::clone(head), earlier.cloned());
                pool.settle(identity, Appended { index, record, head, earlier })
            }
        });
    };
    if shared.options.table {
        settle(shared.lock.find(identities).await?, head, None);
    }
    for earlier in &shared.options.earlier {
        let known = earlier.shared().lock.find(identities).await?;
        settle(known, &earlier.head(), Some(earlier));
    }
    Ok(settled)
}

/// Answers for a batch that did not come through. An empty one is none: the log alone was to be got going again.
fn fail(shared: &Shared, identities: &[Hash], error: &AppendError) {
    if !identities.is_empty() {
        let log = [("log", shared.signer.key().origin().to_owned())];
        counter!("countersign_log_batches_failed_total", &log).increment(1);
    }
    if !matches!(error, AppendError::Held(_)) {
        *shared.failed.lock() = Some((Instant::now(), error.to_string()));
    }
    send(shared, identities, |pool, identity| pool.fail(*identity, error.clone()));
}

/// Answers for each of some entries.
fn send<T>(
    shared: &Shared,
    entries: impl IntoIterator<Item = T>,
    answer: impl Fn(&mut Pool, T) -> Answer,
) {
    let answers: Vec<_> = {
        let mut pool = shared.pool.lock();
        entries.into_iter().map(|entry| answer(&mut pool, entry)).collect()
    };
    answers.into_iter().for_each(Answer::send);
}

/// Reads the log from lock and store. On failure answers the batch and returns `None`.
async fn reload(shared: &Shared, identities: &[Hash], unsettled: &mut Unsettled) -> Option<Tree> {
    // What is on its way ends first, whatever comes of it.
    let _ = unsettled.settled().await;
    unsettled.since = None; // recovery settles all
    match recover(&shared.options, &shared.signer, &*shared.store, &*shared.lock).await {
        Ok((tree, head)) => {
            *shared.published.write() = head;
            shared.halted.store(false, Ordering::Relaxed);
            *shared.failed.lock() = None; // all of it is stored
            Some(tree)
        }
        Err(error) => {
            let error = match error {
                OpenError::Store(error) | OpenError::Swap(SwapError::Store(error)) => error.into(),
                error => {
                    shared.halted.store(true, Ordering::Relaxed);
                    AppendError::Halted(Arc::new(error))
                }
            };
            let said = shared.failed.lock().as_ref().map(|(_, said)| said.clone());
            if !identities.is_empty() || said != Some(error.to_string()) {
                let log = shared.signer.key().origin();
                tracing::error!(log, %error, "could not read the log");
            }
            fail(shared, identities, &error);
            None
        }
    }
}

fn answer(shared: &Shared, published: &Published) -> Arc<Head> {
    let head = Arc::clone(&published.head);
    *shared.published.write() = Arc::clone(&head);
    *shared.failed.lock() = None;
    let entries = published.leaves.iter().zip(&published.records);
    send(shared, entries, |pool, ((identity, index), record)| {
        let (index, record, head) = (*index, Some(record.clone()), Arc::clone(&head));
        pool.settle(*identity, Appended { index, record, head, earlier: None })
    });
    head
}

/// A batch that is durable, and in no tree yet.
struct Staged {
    previous: Arc<Head>,
    batch: Batch,
}

/// What a batch leads to.
struct Batch {
    head: Arc<Head>,
    addition: Addition,
    filled: Vec<Filled>,
    leaves: Vec<(Hash, u64)>,
    /// As long as `leaves`.
    records: Vec<Bytes>,
}

impl Staged {
    async fn write(
        shared: &Shared,
        previous: Arc<Head>,
        batch: Vec<Candidate>,
    ) -> Result<Self, Failure> {
        let Ok(batch) = Batch::new(&shared.options, &shared.signer, &previous, batch) else {
            return Err(Failure::Before(previous, AppendError::Signing));
        };
        let staged = batch.addition.staged(&previous.checkpoint, &batch.head.checkpoint);
        match shared.store.stage(staged).await {
            // Restart finds the old checkpoint in the lock and a batch after it: it is committed then, though nobody
            // has been told so.
            Ok(()) => Ok(Self { previous, batch }),
            Err(error) => Err(Failure::Before(previous, error.into())),
        }
    }

    async fn commit(self, lock: &dyn CheckpointLock) -> Result<Committed, Failure> {
        let Self { previous, batch } = self;
        let Addition { note, identities, .. } = &batch.addition;
        let (old, first) = (Some(&*previous.signed), previous.checkpoint.size);
        let swap = lock.compare_and_swap(old, note, first, identities);
        swap.await.map_err(|error| match error {
            SwapError::Conflict => Failure::Unknown(AppendError::Conflict),
            SwapError::Store(error) => Failure::Unknown(error.into()),
        })?;
        // Restart finds the new checkpoint in the lock or, without power, after it, and puts out what the batch adds.
        Ok(Committed { batch })
    }
}

impl Batch {
    /// A tree without what its last batch added.
    fn alone(head: Head) -> Self {
        let addition = Addition { note: head.signed.clone(), identities: vec![], growth: vec![] };
        let (filled, leaves, records) = (vec![], vec![], vec![]);
        Self { head: Arc::new(head), addition, filled, leaves, records }
    }

    fn new(
        options: &Options,
        signer: &Signer,
        previous: &Head,
        candidates: Vec<Candidate>,
    ) -> Result<Self, signer::Error> {
        let old_size = previous.checkpoint.size;
        let mut edge = previous.edge.clone();
        // What the last bundle gets, and how much of it is there.
        let mut tail = previous.tail.clone();
        let mut added = Vec::with_capacity(candidates.iter().map(Candidate::length).sum());
        let (mut growth, mut filled) = (Vec::new(), Vec::new());
        let (mut leaves, mut records) = (Vec::new(), Vec::new());
        let grown = |end: u64, before: &Tail, bytes: &Bytes| {
            let (index, width) = ((end - 1) / u64::from(FULL), (end - 1) % u64::from(FULL) + 1);
            let width = u16::try_from(width).expect("at most 256");
            let path = EntryBundle { index, width: FULL }.path(options.format.name());
            Growth { path, offset: before.length() as u64, bytes: bytes.clone(), width }
        };
        for candidate in candidates {
            let index = edge.size();
            leaves.push((candidate.identity(), index));
            let leaf = candidate.leaf_at(index);
            added.extend_from_slice(&leaf.record);
            edge.push(leaf.hash, &mut filled);
            records.push(leaf.record);
            if edge.size().is_multiple_of(u64::from(FULL)) {
                growth.push(grown(edge.size(), &tail, &std::mem::take(&mut added).into()));
                tail = Tail::default();
            }
        }
        if !added.is_empty() {
            let added = added.into();
            growth.push(grown(edge.size(), &tail, &added));
            tail.push(added);
        }
        for (tile, before, hashes) in edge.growth(old_size, &filled) {
            let (path, offset) = (Tile { width: FULL, ..tile }.path(), 32 * u64::from(before));
            let bytes = hashes.bytes_from(before).into();
            growth.push(Growth { path, offset, bytes, width: tile.width });
        }
        let (size, root) = (edge.size(), edge.root());
        let signed = signer.sign(size, root)?;
        let origin = signer.key().origin().to_owned();
        let checkpoint = Checkpoint { origin, size, root, extensions: vec![] };
        let mut identities: Vec<_> = leaves.iter().map(|(identity, _)| *identity).collect();
        if !options.table {
            identities.clear();
        }
        let addition = Addition { note: signed.clone(), identities, growth };
        let head = Arc::new(Head { checkpoint, note: signed.clone(), signed, edge, tail });
        Ok(Self { head, addition, filled, leaves, records })
    }
}

/// A batch that is in the log's tree for good, and not readable yet.
struct Committed {
    batch: Batch,
}

impl Committed {
    async fn grow(self, store: &dyn TileStore) -> Result<Grown, StoreError> {
        store.grow(&self.batch.addition.growth).await?;
        // Restart finds an older checkpoint stored and some or all of the growth: it comes again.
        Ok(Grown { batch: self.batch })
    }
}

/// A batch that is in the log's tree for good and whose tiles are out; its checkpoint is not yet.
pub(crate) struct Grown {
    batch: Batch,
}

impl Grown {
    /// A tree that was found as such: nobody waits for what its last batch added.
    pub(crate) fn alone(head: Head) -> Self {
        Self { batch: Batch::alone(head) }
    }

    /// Publishes the tree under the note that the lock has; it is stored once the growth has settled.
    fn publish(self) -> Published {
        let Batch { head, leaves, records, .. } = self.batch;
        Published { head, leaves, records }
    }

    /// Stores the checkpoint as `note`, the log's signature and perhaps cosignatures below it, which stand
    /// nowhere else; and publishes the tree under it.
    pub(crate) async fn store(
        mut self,
        store: &dyn TileStore,
        lock: &dyn CheckpointLock,
        note: String,
    ) -> Result<Published, StoreError> {
        let growth = store.settle();
        lock.settle().await?;
        growth.await?;
        // Restart finds the tree in the lock and the growth, and an older checkpoint stored.
        store.put(CHECKPOINT, note.clone().into()).await?;
        // Restart finds all of it published, and asks for no staged batch.
        self.batch.head = Arc::new(Head { note, ..Arc::unwrap_or_clone(self.batch.head) });
        Ok(self.publish())
    }
}

/// A batch that everybody can read.
pub(crate) struct Published {
    head: Arc<Head>,
    leaves: Vec<(Hash, u64)>,
    records: Vec<Bytes>,
}

impl Published {
    pub(crate) fn head(self) -> Arc<Head> {
        self.head
    }
}
