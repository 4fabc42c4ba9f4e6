//! Every write fails twice, not applied and applied, and the machine dies at every write twice; then
//! the log is opened again and checked whole.

use crate::cosigner::Witness;
use crate::support::{Parts, Place, append, body};
use crate::witnesses;
use async_trait::async_trait;
use bytes::Bytes;
use countersign_log::store::{
    CheckpointLock, Growth, Source, StagedBatch, StoreError, SwapError, TileStore,
};
use countersign_log::witness::Lacking;
use countersign_log::{AppendError, Log};
use countersign_verify::merkle::Hash;
use countersign_verify::tile::FULL;
use countersign_verify::witness::Policy;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// One write does nothing, and says so.
    Refused,
    /// One write does what it should, and says that it failed.
    AppliedUnheard,
    /// From one write on, nothing works any more.
    DeadBefore,
    /// After one write, nothing works any more; nobody hears that this one did.
    DeadAfter,
    /// One write comes half, and says that it failed.
    Short,
    /// One write comes half, and nothing works any more.
    Torn,
    /// From one write on, each comes half for want of room, until there is room again.
    Full,
}

struct Faults {
    fault: Fault,
    /// The write that it hits, counted from 0.
    place: u64,
    writes: AtomicU64,
    dead: AtomicBool,
}

enum Verdict {
    Work,
    Fail,
    WorkAndFail,
    HalfAndFail,
}

impl Faults {
    fn write(&self) -> Verdict {
        match (self.dead.load(Ordering::SeqCst), self.fault) {
            (true, Fault::Full) => return Verdict::HalfAndFail,
            (true, _) => return Verdict::Fail,
            (false, _) => {}
        }
        if self.writes.fetch_add(1, Ordering::SeqCst) != self.place {
            return Verdict::Work;
        }
        let lives = matches!(self.fault, Fault::Refused | Fault::AppliedUnheard | Fault::Short);
        self.dead.store(!lives, Ordering::SeqCst);
        match self.fault {
            Fault::Refused | Fault::DeadBefore => Verdict::Fail,
            Fault::AppliedUnheard | Fault::DeadAfter => Verdict::WorkAndFail,
            Fault::Short | Fault::Torn | Fault::Full => Verdict::HalfAndFail,
        }
    }

    fn read(&self) -> Result<(), StoreError> {
        let dead = self.dead.load(Ordering::SeqCst) && self.fault != Fault::Full;
        if dead { Err(self.error()) } else { Ok(()) }
    }

    fn error(&self) -> StoreError {
        let source = match self.fault {
            Fault::Full => ErrorKind::StorageFull.into(),
            _ => std::io::Error::other("a fault of the test"),
        };
        StoreError::Io { operation: "use", path: "the storage".into(), source: Arc::new(source) }
    }

    /// Whether the run was so short that the fault did not come up.
    fn unused(&self) -> bool {
        self.writes.load(Ordering::SeqCst) <= self.place
    }
}

struct FaultyStore(Arc<dyn TileStore>, Arc<Faults>);

#[async_trait]
impl Source for FaultyStore {
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        self.1.read()?;
        self.0.get(path).await
    }
}

#[async_trait]
impl TileStore for FaultyStore {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        match self.1.write() {
            Verdict::Work => self.0.put(path, bytes).await,
            // It is whole or not there: half of it is none.
            Verdict::Fail | Verdict::HalfAndFail => Err(self.1.error()),
            Verdict::WorkAndFail => self.0.put(path, bytes).await.and(Err(self.1.error())),
        }
    }

    async fn stage(&self, batch: StagedBatch) -> Result<(), StoreError> {
        match self.1.write() {
            Verdict::Work => self.0.stage(batch).await,
            Verdict::Fail => Err(self.1.error()),
            Verdict::WorkAndFail => self.0.stage(batch).await.and(Err(self.1.error())),
            Verdict::HalfAndFail => {
                let bytes = batch.bytes.slice(..batch.bytes.len() / 2);
                self.0.stage(StagedBatch { bytes, ..batch }).await.and(Err(self.1.error()))
            }
        }
    }

    async fn staged(&self) -> Result<Vec<StagedBatch>, StoreError> {
        self.1.read()?;
        self.0.staged().await
    }

    fn settle(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let error = self.1.error();
        match self.1.write() {
            Verdict::Work => self.0.settle(),
            Verdict::Fail | Verdict::HalfAndFail => Box::pin(async { Err(error) }),
            Verdict::WorkAndFail => {
                let settled = self.0.settle();
                Box::pin(async { settled.await.and(Err(error)) })
            }
        }
    }

    /// Part by part: a crash may come between any two.
    async fn grow(&self, growth: &[Growth]) -> Result<(), StoreError> {
        for part in growth.chunks(1) {
            match self.1.write() {
                Verdict::Work => self.0.grow(part).await?,
                Verdict::Fail => return Err(self.1.error()),
                Verdict::WorkAndFail => return self.0.grow(part).await.and(Err(self.1.error())),
                Verdict::HalfAndFail => {
                    let mut half = part[0].clone();
                    half.bytes.truncate(half.bytes.len() / 2);
                    half.width -= 1; // so it is not full
                    return self.0.grow(&[half]).await.and(Err(self.1.error()));
                }
            }
        }
        Ok(())
    }
}

/// A store as the system's memory makes it of a disk: what grows can be read at once, and is on the disk when
/// it has settled; before, as it happens, it is there, or as zeros, or not. Dropped, the power is gone.
struct Volatile {
    disk: Arc<dyn TileStore>,
    memory: Mutex<BTreeMap<String, Grown>>,
}

#[derive(Clone, Default)]
struct Grown {
    bytes: Vec<u8>,
    width: u16,
    /// Bytes that are on the disk.
    settled: usize,
}

impl Grown {
    fn unsettled(&self, path: &str) -> Growth {
        let bytes = self.bytes[self.settled..].to_vec().into();
        Growth { path: path.to_owned(), offset: self.settled as u64, bytes, width: self.width }
    }
}

#[async_trait]
impl Source for Volatile {
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let (full, partial) =
            path.split_once(".p/").map_or((path, false), |(full, _)| (full, true));
        if let Some(grown) = self.memory.lock().unwrap().get(full) {
            let there = partial || grown.width == FULL;
            return Ok(there.then(|| grown.bytes.clone().into()));
        }
        self.disk.get(path).await
    }
}

#[async_trait]
impl TileStore for Volatile {
    async fn grow(&self, growth: &[Growth]) -> Result<(), StoreError> {
        for part in growth {
            let known = self.memory.lock().unwrap().get(&part.path).cloned();
            let mut grown = match known {
                Some(grown) => grown,
                None => {
                    let bytes = self.disk.get(&format!("{}.p/1", part.path)).await?;
                    let bytes = bytes.unwrap_or_default().to_vec();
                    Grown { settled: bytes.len(), bytes, width: 0 }
                }
            };
            let start = usize::try_from(part.offset).unwrap();
            let end = start + part.bytes.len();
            assert!(start <= grown.bytes.len(), "{} comes before what is below it", part.path);
            grown.bytes.resize(grown.bytes.len().max(end), 0);
            grown.bytes[start..end].copy_from_slice(&part.bytes);
            (grown.width, grown.settled) = (grown.width.max(part.width), grown.settled.min(start));
            let on_disk = grown.unsettled(&part.path);
            match (part.path.len() + end) % 3 {
                0 => self.disk.grow(&[on_disk]).await?,
                1 => {
                    let bytes = vec![0; on_disk.bytes.len()].into();
                    self.disk.grow(&[Growth { bytes, ..on_disk }]).await?;
                }
                _ => {}
            }
            self.memory.lock().unwrap().insert(part.path.clone(), grown);
        }
        Ok(())
    }

    fn settle(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut memory = self.memory.lock().unwrap();
        let growth: Vec<_> = memory.iter().map(|(path, grown)| grown.unsettled(path)).collect();
        memory.values_mut().for_each(|grown| grown.settled = grown.bytes.len());
        let (disk, settled) = (Arc::clone(&self.disk), self.disk.settle());
        Box::pin(async move {
            disk.grow(&growth).await?;
            settled.await
        })
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.disk.put(path, bytes).await
    }

    async fn stage(&self, batch: StagedBatch) -> Result<(), StoreError> {
        self.disk.stage(batch).await
    }

    async fn staged(&self) -> Result<Vec<StagedBatch>, StoreError> {
        self.disk.staged().await
    }
}

/// A lock as the system's memory makes it of a disk: swaps are seen at once, and are on the disk when they have
/// settled; before, as it happens, those up to one of them are. Dropped, the power is gone.
struct VolatileLock {
    disk: Arc<dyn CheckpointLock>,
    memory: tokio::sync::Mutex<Vec<Swap>>,
    /// Every so many swaps they happen to be on the disk.
    lucky: u64,
}

struct Swap {
    number: u64,
    expected: Option<String>,
    new: String,
    first: u64,
    identities: Vec<Hash>,
}

impl VolatileLock {
    async fn write(&self, swaps: &mut Vec<Swap>) -> Result<(), SwapError> {
        for Swap { expected, new, first, identities, .. } in swaps.drain(..) {
            self.disk.compare_and_swap(expected.as_deref(), &new, first, &identities).await?;
        }
        Ok(())
    }
}

fn volatile(disk: Arc<dyn CheckpointLock>, lucky: u64) -> Arc<dyn CheckpointLock> {
    Arc::new(VolatileLock { disk, memory: tokio::sync::Mutex::default(), lucky })
}

#[async_trait]
impl CheckpointLock for VolatileLock {
    async fn load(&self) -> Result<Option<String>, StoreError> {
        match self.memory.lock().await.last() {
            Some(swap) => Ok(Some(swap.new.clone())),
            None => self.disk.load().await,
        }
    }

    async fn compare_and_swap(
        &self,
        expected: Option<&str>,
        new: &str,
        first: u64,
        identities: &[Hash],
    ) -> Result<(), SwapError> {
        if self.load().await?.as_deref() != expected {
            return Err(SwapError::Conflict);
        }
        let mut memory = self.memory.lock().await;
        let number = memory.last().map_or(0, |swap| swap.number) + 1;
        let (expected, new) = (expected.map(str::to_owned), new.to_owned());
        memory.push(Swap { number, expected, new, first, identities: identities.to_vec() });
        if number.is_multiple_of(self.lucky) {
            self.write(&mut memory).await?;
        }
        Ok(())
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.write(&mut *self.memory.lock().await).await.unwrap();
        Ok(())
    }

    async fn find(&self, identities: &[Hash]) -> Result<Vec<(Hash, u64)>, StoreError> {
        let mut found = self.disk.find(identities).await?;
        for swap in &*self.memory.lock().await {
            let swapped = swap.identities.iter().copied().zip(swap.first..);
            found.extend(swapped.filter(|(identity, _)| identities.contains(identity)));
        }
        Ok(found)
    }
}

struct FaultyLock(Arc<dyn CheckpointLock>, Arc<Faults>);

#[async_trait]
impl CheckpointLock for FaultyLock {
    async fn load(&self) -> Result<Option<String>, StoreError> {
        self.1.read()?;
        self.0.load().await
    }

    async fn compare_and_swap(
        &self,
        expected: Option<&str>,
        new: &str,
        first: u64,
        identities: &[Hash],
    ) -> Result<(), SwapError> {
        match self.1.write() {
            Verdict::Work => self.0.compare_and_swap(expected, new, first, identities).await,
            // A transaction is done or not: half of it is none.
            Verdict::Fail | Verdict::HalfAndFail => Err(self.1.error().into()),
            Verdict::WorkAndFail => {
                self.0.compare_and_swap(expected, new, first, identities).await?;
                Err(self.1.error().into())
            }
        }
    }

    async fn settle(&self) -> Result<(), StoreError> {
        match self.1.write() {
            Verdict::Work => self.0.settle().await,
            Verdict::Fail | Verdict::HalfAndFail => Err(self.1.error()),
            Verdict::WorkAndFail => self.0.settle().await.and(Err(self.1.error())),
        }
    }

    async fn find(&self, identities: &[Hash]) -> Result<Vec<(Hash, u64)>, StoreError> {
        self.1.read()?;
        self.0.find(identities).await
    }
}

/// Entries of a run: one alone, one more, a batch across the end of a tile with repeats, one more.
const ENTRIES: u64 = 303;

/// Appends them and returns what was acknowledged. A failed entry is sent a second time.
async fn live(log: &Log) -> BTreeMap<u64, u64> {
    let mut acknowledged = BTreeMap::new();
    for batch in [0..1, 1..2, 0..302, 302..303] {
        let bodies: Vec<_> = batch.clone().map(body).collect();
        let twice = async |body: &[u8]| match append(log, body).await {
            Ok(appended) => Ok(appended),
            Err(_) => append(log, body).await,
        };
        let appends = bodies.iter().map(|body| twice(body));
        let outcomes = futures_util::future::join_all(appends).await;
        for (number, outcome) in batch.zip(outcomes) {
            if let Ok(appended) = outcome {
                let first = acknowledged.insert(number, appended.index);
                assert!(first.is_none_or(|first| first == appended.index), "{number}");
            }
        }
    }
    acknowledged
}

/// Runs with one fault; `false` when the fault did not come up.
async fn run(home: &Place, fault: Fault, place: u64, witnessed: bool) -> bool {
    let (disk, lock) = home.parts().await;
    let store: Arc<dyn TileStore> = Arc::new(Volatile { disk, memory: Mutex::default() });
    let lock = volatile(lock, 3);
    let (writes, dead) = (AtomicU64::new(0), AtomicBool::new(false));
    let faults = Arc::new(Faults { fault, place, writes, dead });
    let parts = || -> Parts {
        let store = FaultyStore(Arc::clone(&store), Arc::clone(&faults));
        (Arc::new(store), Arc::new(FaultyLock(Arc::clone(&lock), Arc::clone(&faults))))
    };
    let opened = match home.open_on(parts()).await {
        Ok(log) => Ok(log),
        Err(_) => home.open_on(parts()).await,
    };
    let mut acknowledged = BTreeMap::new();
    if let Ok(log) = opened {
        acknowledged = live(&log).await;
        log.close().await;
    }
    let survives = matches!(fault, Fault::Refused | Fault::AppliedUnheard | Fault::Short);
    if survives {
        assert_eq!(acknowledged.len() as u64, ENTRIES, "{fault:?} {place}");
    }

    // When it died it lost what had not settled.
    drop((store, lock));
    let log = home.open().await;
    if witnessed {
        append(&log, b"what waited for witnesses is out once this is").await.unwrap();
    }
    let report = home.fsck().await.unwrap_or_else(|error| panic!("{fault:?} {place}: {error}"));
    if home.has_table() {
        assert_eq!(report.repeated, 0, "{fault:?} {place}");
    }
    assert_eq!(report.root, log.head().checkpoint().root);
    assert!(report.size >= acknowledged.len() as u64, "{fault:?} {place}");
    let indices: std::collections::BTreeSet<_> = acknowledged.values().collect();
    assert_eq!(indices.len(), acknowledged.len(), "{fault:?} {place}: an index was used twice");
    for (number, index) in &acknowledged {
        if !home.has_table() {
            let record = log.record(*index).await.unwrap().unwrap();
            assert_eq!(record[2..], body(*number), "{fault:?} {place} {number}");
            continue;
        }
        let again = append(&log, &body(*number)).await.unwrap();
        assert_eq!((again.index, again.record), (*index, None), "{fault:?} {place} {number}");
        log.prove_inclusion(&again.head, *index, &body(*number)).await.unwrap();
    }
    // It goes on from there.
    let next = append(&log, b"after").await.unwrap().index;
    assert_eq!(next, report.size, "{fault:?} {place}");
    log.close().await;
    assert_eq!(home.fsck().await.unwrap().size, next + 1);
    !faults.unused()
}

/// When batches are written over that the lock could have been made good with, it is good already.
#[tokio::test]
async fn swaps_have_settled_before_their_batches_are_gone() {
    let home = Place::new();
    let (store, lock) = home.parts().await;
    let log = home.open_on((Arc::clone(&store), volatile(lock, u64::MAX))).await.unwrap();
    for number in 0..6 {
        append(&log, &body(number)).await.unwrap();
        while store.get("checkpoint").await.unwrap().unwrap() != log.head().note() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // What a loss of power would leave.
    let (_, lock) = home.parts().await;
    let note = lock.load().await.unwrap().unwrap();
    assert_eq!(home.key().open(&note).unwrap().size, 6);
}

/// A batch that is staged and of which nobody knows must not be added to a log that has ended meanwhile.
#[tokio::test]
async fn what_was_staged_in_vain_is_not_in_a_log_that_was_frozen() {
    let home = Place::new();
    let log = home.open().await;
    append(&log, &body(0)).await.unwrap();
    log.close().await;
    let (store, lock) = home.parts().await;
    let (writes, dead) = (AtomicU64::new(0), AtomicBool::new(false));
    let faults = Arc::new(Faults { fault: Fault::AppliedUnheard, place: 0, writes, dead });
    let faulty = FaultyStore(store, faults);
    let log = home.open_on((Arc::new(faulty), volatile(lock, u64::MAX))).await.unwrap();
    append(&log, &body(1)).await.unwrap_err();
    log.freeze(Timestamp::UNIX_EPOCH).await.unwrap();
    drop(log);
    let log = home.open().await;
    assert_eq!((log.head().is_frozen(), log.head().checkpoint().size), (true, 1));
    assert_eq!(home.fsck().await.unwrap().size, 1);
}

async fn at_every_write(fault: Fault) {
    at_every_write_of(Place::new, fault).await;
}

async fn at_every_write_of(home: impl Fn() -> Place, fault: Fault) {
    let mut place = 0;
    while run(&home(), fault, place, false).await {
        place += 1;
    }
    assert!(place >= 20, "expected a fault at each of 20 writes, found {place}");
}

#[tokio::test]
async fn a_write_that_is_refused_loses_nothing() {
    at_every_write(Fault::Refused).await;
}

#[tokio::test]
async fn a_write_that_happens_unheard_loses_nothing() {
    at_every_write(Fault::AppliedUnheard).await;
}

#[tokio::test]
async fn death_before_any_write_loses_nothing_acknowledged() {
    at_every_write(Fault::DeadBefore).await;
}

#[tokio::test]
async fn death_after_any_write_loses_nothing_acknowledged() {
    at_every_write(Fault::DeadAfter).await;
}

/// The witness is there; what fails is our own disk, before and after it has cosigned.
#[tokio::test]
async fn faults_around_a_witness_lose_nothing_either() {
    for fault in [Fault::AppliedUnheard, Fault::DeadBefore] {
        let mut place = 0;
        loop {
            let home = Place::new();
            let witness = Witness::start("w.example", &[home.key().verifier_key().unwrap()]).await;
            let policy = format!("witness W {} {}\nquorum W\n", witness.key, witness.url);
            let policy = Policy::parse(&policy).unwrap();
            let asking = witnesses::asking(&policy, Duration::from_secs(5), Lacking::Hold);
            if !run(&home.with_witnesses(&asking), fault, place, true).await {
                break;
            }
            place += 1;
        }
        assert!(place >= 25, "expected a fault at each of 25 writes, found {place}");
    }
}

/// It cannot tell what became of an entry whose batch failed; what it acknowledged is there all the same.
#[tokio::test]
async fn a_log_without_a_table_loses_nothing_acknowledged() {
    for fault in [Fault::Refused, Fault::AppliedUnheard, Fault::DeadAfter] {
        at_every_write_of(|| Place::new().without_table(), fault).await;
    }
}

#[tokio::test]
async fn a_write_cut_short_is_made_good() {
    at_every_write(Fault::Short).await;
}

#[tokio::test]
async fn death_within_any_write_loses_nothing_acknowledged() {
    at_every_write(Fault::Torn).await;
}

/// The disk runs full at any write, and stays full for a while.
#[tokio::test]
async fn a_full_disk_is_said_and_the_log_goes_on_when_there_is_room() {
    for place in 0.. {
        let home = Place::new();
        let (store, lock) = home.parts().await;
        let (writes, dead) = (AtomicU64::new(0), AtomicBool::new(false));
        let faults = Arc::new(Faults { fault: Fault::Full, place, writes, dead });
        let parts = || -> Parts {
            let store = FaultyStore(Arc::clone(&store), Arc::clone(&faults));
            (Arc::new(store), Arc::new(FaultyLock(Arc::clone(&lock), Arc::clone(&faults))))
        };
        let room = || faults.dead.store(false, Ordering::SeqCst);
        let log = match home.open_on(parts()).await {
            Ok(log) => log,
            Err(error) => {
                assert!(error.is_transient(), "{place}: {error}");
                room();
                home.open_on(parts()).await.unwrap()
            }
        };
        let mut acknowledged = BTreeMap::new();
        for number in (0..20).chain(0..20) {
            match append(&log, &body(number)).await {
                Ok(appended) => {
                    let first = acknowledged.insert(number, appended.index);
                    assert!(first.is_none_or(|first| first == appended.index), "{place}");
                }
                Err(AppendError::Store(StoreError::Io { source, .. })) => {
                    assert_eq!(source.kind(), ErrorKind::StorageFull, "{place}");
                }
                Err(error) => panic!("{place}: {error}"),
            }
        }
        room();
        for number in 0..20 {
            let index = append(&log, &body(number)).await.unwrap().index;
            assert_eq!(*acknowledged.entry(number).or_insert(index), index, "{place}");
        }
        log.close().await;
        // It may have been full once more when the last of it was to settle.
        home.open().await.close().await;
        let report = home.fsck().await.unwrap();
        assert_eq!((report.size, report.repeated), (20, 0), "{place}");
        if faults.unused() {
            return;
        }
    }
}
