//! The one task of a log that changes its tree, batch by batch.
//!
//! ```text
//! batch -> Staged: what tiles and bundles grow by, in memory and as one durable object
//!       -> Committed: the signed checkpoint swapped into the lock, with the batch's identities
//!       -> Grown: tiles and bundles out; now witnesses are asked, if there are any
//!       -> Published: the checkpoint out, cosignatures below the log's own signature
//!       -> the waiters are answered
//! ```
//! Two writes of a batch are durable, the staged object and the swap; what it adds to tiles and bundles
//! settles later, with that of other batches ([`Unsettled`]), and the checkpoint is then stored beside
//! them, unless it has cosignatures. Who reads over HTTP gets it out of memory.
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

use crate::engine::{Appended, Head, Log, Shared};
use crate::pool::{Answer, AppendError, Candidate, Pool};
use crate::record::Format;
use crate::recover::{OpenError, recover};
use crate::signer::{self, Signer};
use crate::store::{
    CheckpointLock, Growth, MAX_BATCH, StagedBatch, StoreError, SwapError, TileStore,
};
use crate::tree::Filled;
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

/// How long what a batch added may be other than settled: as long as a cache may keep a checkpoint.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

/// How many entries may be: 32 bundles and their tiles, so that few files are open, and not more is
/// staged than is read again in no time.
const SETTLE_ENTRIES: u64 = 8192;

/// When nothing comes any more, what is there settles.
const IDLE: Duration = Duration::from_millis(50);

/// Batches whose growth would not survive loss of power. They are staged until it does, and the stored
/// checkpoint is the one before them.
#[derive(Default)]
struct Unsettled {
    /// When the oldest was published, and the size of the tree before it.
    since: Option<(Instant, u64)>,
    /// Growth on its way to the disk; its checkpoint is stored after it.
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
        let (store, note) = (Arc::clone(&shared.store), head.note.clone());
        let growth = store.settle();
        self.settling = Some(tokio::spawn(async move {
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
        // Whoever is about to submit does so now: larger batches at no delay.
        tokio::task::yield_now().await;
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
    let staged = Staged::write(shared.options.format, &shared.signer, head, fresh, store).await?;
    let committing = Instant::now();
    let committed = staged.commit(&*shared.lock, shared.options.table).await?;
    let commit = committing.elapsed();
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
                let stored = grown.store(&*shared.store, note).await;
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

/// What a batch adds.
struct Batch {
    head: Arc<Head>,
    growth: Vec<Growth>,
    filled: Vec<Filled>,
    leaves: Vec<(Hash, u64)>,
    /// As long as `leaves`.
    records: Vec<Bytes>,
}

impl Staged {
    async fn write(
        format: Format,
        signer: &Signer,
        previous: Arc<Head>,
        batch: Vec<Candidate>,
        store: &dyn TileStore,
    ) -> Result<Self, Failure> {
        let Ok(batch) = Batch::new(format, signer, &previous, batch) else {
            return Err(Failure::Before(previous, AppendError::Signing));
        };
        let [name, after] = [&batch.head, &previous].map(|head| tree_name(&head.checkpoint));
        match store.stage(StagedBatch { name, after, bytes: encode(&batch.growth) }).await {
            // Restart finds the old checkpoint in the lock, and a staged batch that it does not ask for.
            Ok(()) => Ok(Self { previous, batch }),
            Err(error) => Err(Failure::Before(previous, error.into())),
        }
    }

    async fn commit(self, lock: &dyn CheckpointLock, table: bool) -> Result<Committed, Failure> {
        let Self { previous, batch } = self;
        let leaves = if table { &batch.leaves[..] } else { &[] };
        let (first, identities) = (previous.checkpoint.size, leaves.iter().map(|(it, _)| *it));
        let identities: Vec<_> = identities.collect();
        let (old, new) = (Some(&*previous.signed), &batch.head.signed);
        let swap = lock.compare_and_swap(old, new, first, &identities);
        swap.await.map_err(|error| match error {
            SwapError::Conflict => Failure::Unknown(AppendError::Conflict),
            SwapError::Store(error) => Failure::Unknown(error.into()),
        })?;
        // Restart finds the new checkpoint in the lock, and puts out what the staged batch adds.
        Ok(Committed { batch })
    }
}

impl Batch {
    /// A tree without what its last batch added.
    fn alone(head: Head) -> Self {
        let (growth, filled, leaves, records) = (vec![], vec![], vec![], vec![]);
        Self { head: Arc::new(head), growth, filled, leaves, records }
    }

    fn new(
        format: Format,
        signer: &Signer,
        previous: &Head,
        candidates: Vec<Candidate>,
    ) -> Result<Self, signer::Error> {
        let old_size = previous.checkpoint.size;
        let mut edge = previous.edge.clone();
        // The last bundle from its first record, and how much of it is published.
        let (mut bundle, mut before) = (previous.tail.to_vec(), previous.tail.len());
        let (mut growth, mut filled) = (Vec::new(), Vec::new());
        let (mut leaves, mut records) = (Vec::new(), Vec::new());
        let grown = |end: u64, before, bundle: &Bytes| {
            let (index, width) = ((end - 1) / u64::from(FULL), (end - 1) % u64::from(FULL) + 1);
            let width = u16::try_from(width).expect("at most 256");
            let path = EntryBundle { index, width: FULL }.path(format.name());
            Growth { path, offset: before as u64, bytes: bundle.slice(before..), width }
        };
        for candidate in candidates {
            let index = edge.size();
            leaves.push((candidate.identity(), index));
            let leaf = candidate.leaf_at(index);
            bundle.extend_from_slice(&leaf.record);
            edge.push(leaf.hash, &mut filled);
            records.push(leaf.record);
            if edge.size().is_multiple_of(u64::from(FULL)) {
                growth.push(grown(edge.size(), before, &std::mem::take(&mut bundle).into()));
                before = 0;
            }
        }
        let tail = Bytes::from(bundle);
        if tail.len() > before {
            growth.push(grown(edge.size(), before, &tail));
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
        let head = Arc::new(Head { checkpoint, note: signed.clone(), signed, edge, tail });
        Ok(Self { head, growth, filled, leaves, records })
    }
}

/// What staged batches call a tree.
fn tree_name(checkpoint: &Checkpoint) -> String {
    format!("{}-{:?}", checkpoint.size, checkpoint.root)
}

/// Puts out again what the batches that led to `checkpoint` added, as far as they are staged still.
pub(crate) async fn regrow(
    store: &dyn TileStore,
    checkpoint: &Checkpoint,
) -> Result<(), OpenError> {
    for batch in store.staged(&tree_name(checkpoint)).await? {
        let damaged = || OpenError::Damaged { path: format!("the staged batch {}", batch.name) };
        let grown = store.grow(&decode(&batch.bytes).ok_or_else(damaged)?).await;
        grown.map_err(|error| match error {
            StoreError::Shrunk { path, .. } => OpenError::Damaged { path },
            error => error.into(),
        })?;
        // Restart does all of it again, until a checkpoint is stored.
    }
    Ok(())
}

/// A batch that is in the log's tree for good, and not readable yet.
struct Committed {
    batch: Batch,
}

impl Committed {
    async fn grow(self, store: &dyn TileStore) -> Result<Grown, StoreError> {
        store.grow(&self.batch.growth).await?;
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
        note: String,
    ) -> Result<Published, StoreError> {
        store.settle().await?;
        // Restart finds the growth, and an older checkpoint stored.
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

/// The staged batch: what tiles and bundles grow by, one after the other. Each is u16 length of name,
/// name, u64 offset, u16 width, u32 length, bytes; big endian.
fn encode(growth: &[Growth]) -> Bytes {
    let length: usize = growth.iter().map(|part| 16 + part.path.len() + part.bytes.len()).sum();
    let mut encoded = Vec::with_capacity(length);
    for Growth { path, offset, bytes, width } in growth {
        encoded.extend(u16::try_from(path.len()).expect("names are short").to_be_bytes());
        encoded.extend(path.as_bytes());
        encoded.extend(offset.to_be_bytes());
        encoded.extend(width.to_be_bytes());
        encoded.extend(u32::try_from(bytes.len()).expect("a batch is bounded").to_be_bytes());
        encoded.extend_from_slice(bytes);
    }
    encoded.into()
}

fn decode(encoded: &Bytes) -> Option<Vec<Growth>> {
    fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
        let (head, tail) = rest.split_at_checked(length)?;
        *rest = tail;
        Some(head)
    }
    fn number(rest: &mut &[u8], width: usize) -> Option<u64> {
        Some(take(rest, width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
    let mut rest = &encoded[..];
    let mut growth = Vec::new();
    while !rest.is_empty() {
        let length = usize::try_from(number(&mut rest, 2)?).ok()?;
        let path = std::str::from_utf8(take(&mut rest, length)?).ok()?.to_owned();
        let offset = number(&mut rest, 8)?;
        let width = u16::try_from(number(&mut rest, 2)?).ok()?;
        let length = usize::try_from(number(&mut rest, 4)?).ok()?;
        let bytes = encoded.slice_ref(take(&mut rest, length)?);
        growth.push(Growth { path, offset, bytes, width });
    }
    Some(growth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staged_batch_reads_back_and_no_cut_of_it_is_more_than_whole_parts() {
        let part = |path: &str, bytes: &'static [u8]| {
            let bytes = Bytes::from_static(bytes);
            Growth { path: path.to_owned(), offset: 1 << 40, bytes, width: 7 }
        };
        let growth = [part("tile/0/000", b"one"), part("tile/entries/000", b"")];
        let encoded = encode(&growth);
        assert_eq!(decode(&encoded).unwrap(), growth);
        let first = encode(&growth[..1]).len();
        for cut in 1..encoded.len() {
            assert_eq!(decode(&encoded.slice(..cut)).is_some(), cut == first, "{cut}");
        }
    }
}
