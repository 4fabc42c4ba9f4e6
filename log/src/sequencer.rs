//! The one task of a log that changes its tree, batch by batch.
//!
//! ```text
//! batch -> Staged: tiles and bundles in memory, and as one durable object
//!       -> Committed: the signed checkpoint swapped into the lock, with the batch's identities
//!       -> Published: tiles and bundles out, then the checkpoint
//!       -> the waiters are answered; the next batch may be staged over this one
//! ```
//! The types make the order: only a `Staged` commits, only a `Committed` publishes, only a `Published`
//! is answered. Tiles are written only after their tree is committed, so that a write that comes late
//! cannot put a tile of another tree in place.
//!
//! When a write fails whose effect is unknown, the tree in memory is thrown away and read again from
//! lock and store by [`recover`]; the waiters are then answered from what is found there.

use crate::engine::{Appended, Head, Shared};
use crate::pool::{AppendError, Candidate};
use crate::record::Format;
use crate::recover::{OpenError, recover};
use crate::signer::Signer;
use crate::store::{CheckpointLock, StoreError, SwapError, TileStore};
use crate::tree::Filled;
use bytes::Bytes;
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::merkle::Hash;
use countersign_verify::tile::{EntryBundle, FULL, Tile};
use std::sync::Arc;
use std::time::Instant;

/// The name of the published checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// Runs until the pool is closed and empty.
pub(crate) async fn run(shared: Arc<Shared>, head: Arc<Head>) {
    let mut head = Some(head);
    loop {
        // Whoever is about to submit does so now: larger batches at no delay.
        tokio::task::yield_now().await;
        let (batch, closed) = {
            let mut pool = shared.pool.lock();
            (pool.take(shared.options.max_batch), pool.is_closed())
        };
        match (batch.is_empty(), closed) {
            (false, _) => head = cycle(&shared, head, batch).await,
            (true, false) => shared.wake.notified().await,
            (true, true) => return,
        }
    }
}

/// One batch. `head` is `None` after a failure from which the log has not come back yet.
async fn cycle(
    shared: &Shared,
    head: Option<Arc<Head>>,
    batch: Vec<Candidate>,
) -> Option<Arc<Head>> {
    let identities: Vec<Hash> = batch.iter().map(Candidate::identity).collect();
    let head = match head {
        Some(head) => head,
        None => reload(shared, &identities).await?,
    };
    match advance(shared, &head, batch).await {
        Ok(head) => Some(head),
        Err(Failure::Before(error)) => {
            tracing::warn!(log = shared.signer.key().origin(), %error, "a batch failed");
            fail(shared, &identities, &error);
            Some(head)
        }
        Err(Failure::Unknown(error)) => {
            tracing::error!(log = shared.signer.key().origin(), %error, "reading the log anew");
            let head = reload(shared, &identities).await?;
            // What was committed after all is found; the rest is not in the tree.
            if settle_known(shared, &head, &identities).await.is_err() {
                fail(shared, &identities, &error);
                return None;
            }
            fail(shared, &identities, &error);
            Some(head)
        }
    }
}

/// Why a batch did not come through.
enum Failure {
    /// Nothing has changed.
    Before(AppendError),
    /// The batch may be committed or not, published in part or not at all.
    Unknown(AppendError),
}

/// The flow of one batch.
async fn advance(
    shared: &Shared,
    head: &Arc<Head>,
    batch: Vec<Candidate>,
) -> Result<Arc<Head>, Failure> {
    let started = Instant::now();
    let identities: Vec<Hash> = batch.iter().map(Candidate::identity).collect();
    let known = settle_known(shared, head, &identities).await;
    let known = known.map_err(|error| Failure::Before(error.into()))?;
    let t0=started.elapsed();
    let fresh: Vec<_> =
        batch.into_iter().filter(|candidate| !known.contains(&candidate.identity())).collect();
    if fresh.is_empty() {
        return Ok(Arc::clone(head));
    }
    let store = &*shared.store;
    let entries = fresh.len();
    let staged = Staged::write(shared.options.format, &shared.signer, head, fresh, store).await?;
    let t1=started.elapsed();
    let committed = staged.commit(&*shared.lock).await?;
    let t2=started.elapsed();
    let published = committed.publish(store).await;
    let published = published.map_err(|error| Failure::Unknown(error.into()))?;
    let t3=started.elapsed();
    let head = answer(shared, &published);
    published.tidy(store).await;
    let t4=started.elapsed();
    if t4.as_millis()>25 {eprintln!("n={entries} find {:?} staged {:?} commit {:?} publish {:?} tidy {:?}", t0, t1-t0, t2-t1, t3-t2, t4-t3);}
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let size = head.checkpoint.size;
    tracing::debug!(log = shared.signer.key().origin(), entries, size, duration_ms, "published");
    Ok(head)
}

/// Answers for those entries that the table knows; returns them.
async fn settle_known(
    shared: &Shared,
    head: &Arc<Head>,
    identities: &[Hash],
) -> Result<std::collections::HashSet<Hash>, StoreError> {
    let known = shared.lock.find(identities).await?;
    if !known.is_empty() {
        let mut pool = shared.pool.lock();
        for &(identity, index) in &known {
            pool.settle(identity, Appended { index, record: None, head: Arc::clone(head) });
        }
    }
    Ok(known.into_iter().map(|(identity, _)| identity).collect())
}

fn fail(shared: &Shared, identities: &[Hash], error: &AppendError) {
    let mut pool = shared.pool.lock();
    for identity in identities {
        pool.fail(*identity, error.clone());
    }
}

/// Reads the log from lock and store. On failure answers the batch and returns `None`.
async fn reload(shared: &Shared, identities: &[Hash]) -> Option<Arc<Head>> {
    let (format, store) = (shared.options.format, &*shared.store);
    match recover(format, &shared.signer, store, &*shared.lock).await {
        Ok(head) => {
            let head = Arc::new(head);
            *shared.published.write() = Arc::clone(&head);
            Some(head)
        }
        Err(error) => {
            tracing::error!(log = shared.signer.key().origin(), %error, "could not read the log");
            let error = match error {
                OpenError::Store(error) | OpenError::Swap(SwapError::Store(error)) => error.into(),
                error => AppendError::Halted(Arc::new(error)),
            };
            fail(shared, identities, &error);
            None
        }
    }
}

fn answer(shared: &Shared, published: &Published) -> Arc<Head> {
    let head = Arc::clone(&published.head);
    shared.tiles.remember(published.filled.clone());
    *shared.published.write() = Arc::clone(&head);
    let mut pool = shared.pool.lock();
    for ((identity, index), record) in published.leaves.iter().zip(&published.records) {
        let (index, record, head) = (*index, Some(record.clone()), Arc::clone(&head));
        pool.settle(*identity, Appended { index, record, head });
    }
    head
}

/// A batch that is durable, and in no tree yet.
struct Staged {
    previous: Arc<Head>,
    batch: Batch,
}

/// What a batch adds.
struct Batch {
    head: Head,
    objects: Vec<(String, Bytes)>,
    filled: Vec<Filled>,
    leaves: Vec<(Hash, u64)>,
    /// As long as `leaves`.
    records: Vec<Bytes>,
}

impl Staged {
    async fn write(
        format: Format,
        signer: &Signer,
        previous: &Arc<Head>,
        batch: Vec<Candidate>,
        store: &dyn TileStore,
    ) -> Result<Self, Failure> {
        let batch = Batch::new(format, signer, previous, batch)?;
        let name = staged_name(&batch.head.checkpoint);
        let staged = store.stage(&name, encode(&batch.objects)).await;
        staged.map_err(|error| Failure::Before(error.into()))?;
        // Restart finds the old checkpoint in the lock, and a staged batch that it does not ask for.
        Ok(Self { previous: Arc::clone(previous), batch })
    }

    async fn commit(self, lock: &dyn CheckpointLock) -> Result<Committed, Failure> {
        let Self { previous, batch } = self;
        let swap = lock.compare_and_swap(Some(&previous.note), &batch.head.note, &batch.leaves);
        swap.await.map_err(|error| match error {
            SwapError::Conflict => Failure::Unknown(AppendError::Conflict),
            SwapError::Store(error) => Failure::Unknown(error.into()),
        })?;
        // Restart finds the new checkpoint in the lock, and publishes the staged object.
        Ok(Committed { batch })
    }
}

impl Batch {
    fn new(
        format: Format,
        signer: &Signer,
        previous: &Head,
        candidates: Vec<Candidate>,
    ) -> Result<Self, Failure> {
        let old_size = previous.checkpoint.size;
        let mut edge = previous.edge.clone();
        let mut bundle = previous.tail.to_vec();
        let (mut objects, mut filled) = (Vec::new(), Vec::new());
        let (mut leaves, mut records) = (Vec::new(), Vec::new());
        for candidate in candidates {
            let index = edge.size();
            leaves.push((candidate.identity(), index));
            let leaf = candidate.leaf_at(index);
            bundle.extend_from_slice(&leaf.record);
            edge.push(leaf.hash, &mut filled);
            records.push(leaf.record);
            if edge.size().is_multiple_of(u64::from(FULL)) {
                let full = EntryBundle { index: index / u64::from(FULL), width: FULL };
                objects.push((full.path(format.name()), std::mem::take(&mut bundle).into()));
            }
        }
        let tail = Bytes::from(bundle);
        for (tile, hashes) in edge.partial_since(old_size) {
            if tile.level == 0 {
                let partial = EntryBundle { index: tile.index, width: tile.width };
                objects.push((partial.path(format.name()), tail.clone()));
            }
            objects.push((tile.path(), hashes.to_bytes().into()));
        }
        for Filled { level, index, tile } in &filled {
            let full = Tile { level: *level, index: *index, width: FULL };
            objects.push((full.path(), tile.to_bytes().into()));
        }
        let (size, root) = (edge.size(), edge.root());
        let note = signer.sign(size, root).map_err(|_| Failure::Before(AppendError::Signing))?;
        let origin = signer.key().origin().to_owned();
        let checkpoint = Checkpoint { origin, size, root, extensions: vec![] };
        let head = Head { checkpoint, note, edge, tail };
        Ok(Self { head, objects, filled, leaves, records })
    }
}

/// What a batch is staged under: the tree that it leads to.
fn staged_name(checkpoint: &Checkpoint) -> String {
    format!("{}-{:?}", checkpoint.size, checkpoint.root)
}

/// A batch that is in the log's tree for good, and not readable yet.
pub(crate) struct Committed {
    batch: Batch,
}

impl Committed {
    /// The batch that led to `checkpoint`, as it was staged; `None` when it is not there.
    pub(crate) async fn staged(
        store: &dyn TileStore,
        checkpoint: Checkpoint,
        note: String,
    ) -> Result<Option<Self>, OpenError> {
        let name = staged_name(&checkpoint);
        let Some(bytes) = store.staged(&name).await? else { return Ok(None) };
        let damaged = || OpenError::Damaged { path: format!("the staged batch {name}") };
        let objects = decode(&bytes).ok_or_else(damaged)?;
        let head = Head { checkpoint, note, ..Head::default() };
        // Nobody waits, and proofs read the store.
        let (filled, leaves, records) = (vec![], vec![], vec![]);
        Ok(Some(Self { batch: Batch { head, objects, filled, leaves, records } }))
    }

    pub(crate) async fn publish(self, store: &dyn TileStore) -> Result<Published, StoreError> {
        let Batch { head, objects, filled, leaves, records, .. } = self.batch;
        store.put_all(&objects).await?;
        // Restart finds the old checkpoint published and some or all of these: it puts them again.
        store.put(CHECKPOINT, head.note.clone().into()).await?;
        // Restart finds all of it published, and asks for no staged batch.
        let full = objects.into_iter().map(|(path, _)| path).filter(|path| !path.contains(".p/"));
        let obsolete = full.map(|path| format!("{path}.p")).collect();
        let head = Arc::new(head);
        Ok(Published { head, filled, leaves, records, obsolete })
    }
}

/// A batch that everybody can read.
pub(crate) struct Published {
    head: Arc<Head>,
    filled: Vec<Filled>,
    leaves: Vec<(Hash, u64)>,
    records: Vec<Bytes>,
    /// Folders of partial tiles and bundles that are full now.
    obsolete: Vec<String>,
}

impl Published {
    /// Drops partial tiles that have become full. What stays behind takes space and does no harm.
    pub(crate) async fn tidy(self, store: &dyn TileStore) {
        for path in &self.obsolete {
            if let Err(error) = store.discard(path).await {
                tracing::warn!(%error, "could not drop what is no longer needed");
            }
        }
    }
}

/// The staged batch: u32 number of objects; each u16 length of name, name, u32 length, bytes. Big
/// endian.
fn encode(objects: &[(String, Bytes)]) -> Bytes {
    let length = objects.iter().map(|(path, bytes)| 6 + path.len() + bytes.len()).sum::<usize>();
    let mut encoded = Vec::with_capacity(4 + length);
    let count = u32::try_from(objects.len()).expect("a batch is bounded");
    encoded.extend(count.to_be_bytes());
    for (path, bytes) in objects {
        encoded.extend(u16::try_from(path.len()).expect("names are short").to_be_bytes());
        encoded.extend(path.as_bytes());
        encoded.extend(u32::try_from(bytes.len()).expect("a batch is bounded").to_be_bytes());
        encoded.extend_from_slice(bytes);
    }
    encoded.into()
}

fn decode(encoded: &Bytes) -> Option<Vec<(String, Bytes)>> {
    fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
        let (head, tail) = rest.split_at_checked(length)?;
        *rest = tail;
        Some(head)
    }
    fn number(rest: &mut &[u8], width: usize) -> Option<usize> {
        Some(take(rest, width)?.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    }
    let mut rest = &encoded[..];
    let mut objects = Vec::new();
    for _ in 0..number(&mut rest, 4)? {
        let length = number(&mut rest, 2)?;
        let path = std::str::from_utf8(take(&mut rest, length)?).ok()?;
        let length = number(&mut rest, 4)?;
        objects.push((path.to_owned(), encoded.slice_ref(take(&mut rest, length)?)));
    }
    rest.is_empty().then_some(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staged_object_reads_back_and_every_cut_is_refused() {
        let object =
            |path: &str, bytes: &'static [u8]| (path.to_owned(), Bytes::from_static(bytes));
        let objects = [object("tile/0/000.p/1", b"one"), object("tile/entries/000.p/1", b"")];
        let encoded = encode(&objects);
        assert_eq!(decode(&encoded).unwrap(), objects);
        for cut in 0..encoded.len() {
            assert!(decode(&encoded.slice(..cut)).is_none(), "{cut}");
        }
        assert!(decode(&[&encoded[..], &[0]].concat().into()).is_none());
    }
}
