//! The log as its faces see it: append an entry, read what is published, prove it.

use crate::index::Published;
use crate::pool::{Admission, AppendError, Candidate, Pool};
use crate::proof::{self, Tiles};
use crate::read;
use crate::record::Format;
use crate::recover::{self, OpenError};
use crate::sequencer::{self, CHECKPOINT};
use crate::signer::{LogKey, Signer};
use crate::store::{CheckpointLock, MAX_BATCH, Source, StoreError, TileStore};
use crate::thread;
use crate::tree::{Edge, Tail};
use crate::witness::Witnesses;
use async_trait::async_trait;
use bytes::Bytes;
use countersign_verify::checkpoint::Checkpoint;
use countersign_verify::merkle::{ConsistencyProof, Hash, InclusionProof, empty_root};
use parking_lot::{Mutex, RwLock};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{Notify, oneshot};

/// How a log behaves; its key and storage come beside it.
#[derive(Clone, Debug)]
pub struct Options {
    /// How entries lie in bundles.
    pub format: Format,
    /// Callers that may wait at a time; more are refused.
    pub max_waiting: usize,
    /// Entries of one batch, up to [`MAX_BATCH`](crate::store::MAX_BATCH).
    pub max_batch: usize,
    /// Earlier shards of this log: an entry that one of them has is answered out of that.
    pub earlier: Vec<Log>,
    /// Who cosigns its checkpoints before they are published; only logs with Ed25519 keys have any.
    pub witnesses: Option<Arc<Witnesses>>,
    /// Whether the lock keeps a table of identities, by which a repeat is answered with the first entry, however
    /// long ago that was. A log whose entries are all different does without.
    pub table: bool,
}

impl Options {
    /// 4096 waiting callers, as Tessera has it, and batches of up to 1024: at more, the batch takes
    /// longer than a caller should wait.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self {
            format,
            max_waiting: 4096,
            max_batch: MAX_BATCH,
            earlier: Vec::new(),
            witnesses: None,
            table: true,
        }
    }
}

/// A log that takes entries. Clones are the same log. When the last one is dropped, pending entries
/// are still appended; [`close`](Self::close) waits for that.
#[derive(Clone)]
pub struct Log(Arc<Handle>);

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Log").field(&self.key().origin()).finish()
    }
}

impl AsRef<Self> for Log {
    fn as_ref(&self) -> &Self {
        self
    }
}

struct Handle {
    shared: Arc<Shared>,
    /// Of the sequencer.
    end: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What the handles and the sequencer share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) signer: Signer,
    pub(crate) lock: Arc<dyn CheckpointLock>,
    pub(crate) store: Arc<dyn TileStore>,
    pub(crate) tiles: Arc<Tiles>,
    pub(crate) pool: Mutex<Pool>,
    pub(crate) wake: Notify,
    /// Where entries are checked and submitted.
    pub(crate) callers: Runtime,
    pub(crate) published: RwLock<Arc<Head>>,
    /// What is stored was found to contradict itself, and has not been found well since.
    pub(crate) halted: AtomicBool,
    /// The latest tree waits for its witnesses.
    pub(crate) held: AtomicBool,
    /// Entries in the lock's tree once the log is closed; not set when that could not be read.
    pub(crate) last: OnceLock<u64>,
    /// When a batch failed, or the log could not be read, and why; `None` once that is over.
    pub(crate) failed: Mutex<Option<(Instant, String)>>,
}

/// How long after a batch has failed a log says so. Whoever sends no entries to a log that says so would
/// otherwise never find out that it takes them again.
const FAILING: Duration = Duration::from_secs(30);

/// A tree: its checkpoint, and its right edge for proofs.
#[derive(Clone, Debug)]
pub struct Head {
    pub(crate) checkpoint: Checkpoint,
    /// The note as it stands in the lock: signed by the log alone.
    pub(crate) signed: String,
    /// The note as it is published: the same, and cosignatures below it.
    pub(crate) note: String,
    pub(crate) edge: Edge,
    pub(crate) tail: Tail,
}

impl Default for Head {
    fn default() -> Self {
        let (origin, root, extensions) = (String::new(), empty_root(), vec![]);
        let checkpoint = Checkpoint { origin, size: 0, root, extensions };
        let (signed, note) = (String::new(), String::new());
        Self { checkpoint, signed, note, edge: Edge::default(), tail: Tail::default() }
    }
}

impl Head {
    /// The tree head.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The signed note that carries it, as published.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }
}

/// What a log has to do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Load {
    /// Callers that wait.
    pub waiting: usize,
    /// Entries that wait for the next batch.
    pub pending: usize,
    /// How long the oldest entry that is not published has waited.
    pub oldest: Duration,
}

/// An entry that is in a published tree.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Its place.
    pub index: u64,
    /// The record that was appended for it just now; `None` when it was in the tree before.
    pub record: Option<Bytes>,
    /// A published tree that holds it.
    pub head: Arc<Head>,
    /// The earlier shard whose tree that is; `None` for the log that was asked.
    pub earlier: Option<Log>,
}

impl Log {
    /// Opens a log: brings what is published up to the lock's checkpoint, checks that they agree, and
    /// starts the sequencer. A log of which neither lock nor store knows anything is begun.
    ///
    /// # Errors
    /// When lock and store disagree, something is missing or damaged, or storage fails.
    pub async fn open(
        options: Options,
        signer: Signer,
        store: Arc<dyn TileStore>,
        lock: Arc<dyn CheckpointLock>,
    ) -> Result<Self, OpenError> {
        let witnesses = options.witnesses.map(|witnesses| Arc::new(witnesses.afresh()));
        let options = Options { witnesses, ..options };
        if options.witnesses.is_some() && signer.key().verifier_key().is_none() {
            return Err(OpenError::NotWitnessed { origin: signer.key().origin().to_owned() });
        }
        let (tree, head) = recover::recover(&options, &signer, &*store, &*lock).await?;
        let frozen = tree.head().is_frozen();
        let shared = Arc::new(Shared {
            pool: Mutex::new(Pool::new(options.max_waiting)),
            wake: Notify::new(),
            callers: Runtime::current(),
            published: RwLock::new(head),
            halted: AtomicBool::new(false),
            held: AtomicBool::new(false),
            last: OnceLock::new(),
            failed: Mutex::default(),
            options,
            signer,
            tiles: Arc::new(Tiles::new(Arc::clone(&store) as Arc<dyn Source>)),
            store,
            lock,
        });
        if frozen {
            shared.shut();
        }
        let sequenced = Arc::clone(&shared);
        let started = thread::start("sequencer", async move {
            if let Some(tree) = sequencer::run(&sequenced, tree).await {
                sequenced.last.get_or_init(|| tree.head().checkpoint.size);
            }
        });
        let (_, end) = started.map_err(|error| {
            let (path, source) = (shared.signer.key().origin().to_owned(), Arc::new(error));
            StoreError::Io { operation: "start the thread of", path, source }
        })?;
        Ok(Self(Arc::new(Handle { shared, end: Mutex::new(Some(end)) })))
    }

    /// Appends an entry, or finds it: returns once a published checkpoint covers it.
    ///
    /// # Errors
    /// When the pool is full, storage fails, or the log is halted or closed. What an error says of the
    /// entry, see [`AppendError`]; the same entry again is always safe.
    pub async fn append(&self, candidate: Candidate) -> Result<Appended, AppendError> {
        let shared = &self.0.shared;
        let admission = shared.pool.lock().admit(candidate)?;
        match admission {
            Admission::Known { index } => {
                Ok(Appended { index, record: None, head: self.head(), earlier: None })
            }
            Admission::Wait(answer) => {
                shared.wake.notify_one();
                answer.await.unwrap_or(Err(AppendError::Closed))
            }
        }
    }

    /// The latest published tree.
    #[must_use]
    pub fn head(&self) -> Arc<Head> {
        Arc::clone(&self.0.shared.published.read())
    }

    /// Whether the log takes no entries because what it has stored contradicts itself.
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.0.shared.halted.load(Ordering::Relaxed)
    }

    /// Whether its latest tree waits for witnesses, so that nothing more is published for now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.0.shared.held.load(Ordering::Relaxed)
    }

    /// Why the last batch failed, or the log could not be read, if that was within half a minute.
    #[must_use]
    pub fn failing(&self) -> Option<String> {
        let failed = self.0.shared.failed.lock();
        let recent = failed.as_ref().filter(|(when, _)| when.elapsed() < FAILING);
        recent.map(|(_, error)| error.clone())
    }

    /// What it has to do just now.
    #[must_use]
    pub fn load(&self) -> Load {
        self.0.shared.pool.lock().load()
    }

    /// The public key and the origin.
    #[must_use]
    pub fn key(&self) -> &LogKey {
        self.0.shared.signer.key()
    }

    /// How entries lie in this log's bundles.
    #[must_use]
    pub fn format(&self) -> Format {
        self.0.shared.options.format
    }

    /// Proves that `leaf`, the bytes hashed into the tree, stand at `index` of `head`. The proof has
    /// been verified.
    ///
    /// # Errors
    /// When they do not, or tiles are missing or damaged.
    pub async fn prove_inclusion(
        &self,
        head: &Head,
        index: u64,
        leaf: &[u8],
    ) -> Result<InclusionProof, proof::Error> {
        proof::inclusion(&self.0.shared.tiles, head, index, leaf).await
    }

    /// Proves that the tree of `old_size` leaves with `old_root` is a prefix of `head`. The proof has
    /// been verified.
    ///
    /// # Errors
    /// When it is not, or tiles are missing or damaged.
    pub async fn prove_consistency(
        &self,
        head: &Head,
        old_size: u64,
        old_root: &Hash,
    ) -> Result<ConsistencyProof, proof::Error> {
        proof::consistency(&self.0.shared.tiles, head, old_size, old_root).await
    }

    /// Proves that the tree of `first` leaves is a prefix of that of `last`; `first` is at least 1, and
    /// `last` at most the size of `head`. The proof has been verified.
    ///
    /// # Errors
    /// When tiles are missing or damaged.
    pub async fn prove_consistency_between(
        &self,
        head: &Head,
        first: u64,
        last: u64,
    ) -> Result<ConsistencyProof, proof::Error> {
        proof::consistency_between(&self.0.shared.tiles, head, first, last).await
    }

    /// The place of the entry with that identity; `None` when it is not in the published tree.
    ///
    /// # Errors
    /// When the lock cannot be read.
    pub async fn find(&self, identity: Hash) -> Result<Option<u64>, StoreError> {
        let size = self.head().checkpoint().size;
        let (lock, runtime) = (Arc::clone(&self.0.shared.lock), Runtime::current());
        // A batch may have the table, and keep the thread waiting that asks for it.
        let find = move || runtime.block_on(async { lock.find(&[identity]).await });
        let found = tokio::task::spawn_blocking(find).await.unwrap_or_else(|error| {
            let (path, source) = (self.key().origin().to_owned(), Arc::new(error.into()));
            Err(StoreError::Io { operation: "look up entries of", path, source })
        })?;
        Ok(found.first().map(|&(_, index)| index).filter(|index| *index < size))
    }

    /// The record of the entry at `index`, framing included; `None` outside the published tree.
    ///
    /// # Errors
    /// When the bundle is missing or damaged.
    pub async fn record(&self, index: u64) -> Result<Option<Bytes>, proof::Error> {
        read::record(&*self.0.shared.tiles.source, self.format(), &self.head(), index).await
    }

    /// Takes no more entries, waits until those pending are appended or have failed.
    pub async fn close(&self) {
        self.0.shared.shut();
        let end = self.0.end.lock().take();
        if let Some(end) = end {
            let _ = end.await; // a panic has been reported
        }
    }

    /// Entries in the lock's tree, of a closed log. One that is halted, or waits for its witnesses, has not published
    /// all.
    pub(crate) async fn committed(&self) -> Result<u64, StoreError> {
        if let Some(size) = self.0.shared.last.get() {
            return Ok(*size);
        }
        let note = self.0.shared.lock.load().await?;
        // Of a checkpoint that is not this log's a restart tells.
        let checkpoint = note.and_then(|note| self.key().open(&note).ok());
        let published = self.head().checkpoint().size;
        Ok(checkpoint.map_or(published, |checkpoint| checkpoint.size.max(published)))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// The log as an outsider knows it.
    #[must_use]
    pub fn published(&self) -> Published {
        let source = Arc::new(Latest(Arc::clone(&self.0.shared)));
        Published { source, key: self.key().clone(), format: self.format() }
    }

    pub(crate) fn store(&self) -> &dyn TileStore {
        &*self.0.shared.store
    }
}

/// What the log has published, up to the latest checkpoint: the store has that a moment later.
struct Latest(Arc<Shared>);

#[async_trait]
impl Source for Latest {
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        if path == CHECKPOINT {
            return Ok(Some(self.0.published.read().note.clone().into()));
        }
        self.0.store.get(path).await
    }
}

impl Shared {
    fn shut(&self) {
        self.pool.lock().close();
        self.wake.notify_one();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.shut();
    }
}
