//! A signature log in a temporary folder.

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use countersign_log::fsck::{self, Report, fsck};
use countersign_log::store::{
    CheckpointLock, Files, Source, Sqlite, StoreError, SwapError, TileStore,
};
use countersign_log::witness::Witnesses;
use countersign_log::{
    AppendError, Appended, Candidate, Format, Log, LogKey, OpenError, Options, Signer,
};
use countersign_verify::merkle::Hash;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

pub(crate) const ORIGIN: &str = "log.example.test";

pub(crate) type Parts = (Arc<dyn TileStore>, Arc<dyn CheckpointLock>);

#[derive(Clone)]
pub(crate) struct Place {
    folder: Arc<TempDir>,
    origin: &'static str,
    pkcs8: Vec<u8>,
    witnesses: Option<Arc<Witnesses>>,
    table: bool,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::named(ORIGIN)
    }

    pub(crate) fn named(origin: &'static str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self { folder, origin, pkcs8: pkcs8.as_ref().to_vec(), witnesses: None, table: true }
    }

    /// Another folder, with nothing in it.
    pub(crate) fn with_same_key(&self) -> Self {
        Self { folder: Arc::new(tempfile::tempdir().unwrap()), ..self.clone() }
    }

    /// The same folder.
    pub(crate) fn with_witnesses(&self, witnesses: &Arc<Witnesses>) -> Self {
        Self { witnesses: Some(Arc::clone(witnesses)), ..self.clone() }
    }

    /// The same folder, for a log that tells no repeats.
    pub(crate) fn without_table(&self) -> Self {
        Self { table: false, ..self.clone() }
    }

    pub(crate) const fn has_table(&self) -> bool {
        self.table
    }

    pub(crate) fn signer(&self) -> Signer {
        Signer::ed25519(self.origin, &self.pkcs8).unwrap()
    }

    pub(crate) fn key(&self) -> LogKey {
        self.signer().key().clone()
    }

    pub(crate) fn log_folder(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("countersign.db")
    }

    pub(crate) fn files(&self) -> Files {
        Files::open(self.log_folder()).unwrap()
    }

    pub(crate) async fn parts(&self) -> Parts {
        let lock = Sqlite::open(&self.database()).await.unwrap().lock(ORIGIN).await.unwrap();
        (Arc::new(self.files()), Arc::new(lock))
    }

    pub(crate) async fn try_open(&self) -> Result<Log, OpenError> {
        self.open_on(self.parts().await).await
    }

    pub(crate) async fn open(&self) -> Log {
        self.try_open().await.unwrap()
    }

    pub(crate) async fn open_on(&self, (store, lock): Parts) -> Result<Log, OpenError> {
        let witnesses = self.witnesses.clone();
        let table = self.table;
        let options = Options { witnesses, table, ..Options::new(Format::Entries) };
        Log::open(options, self.signer(), store, lock).await
    }

    pub(crate) async fn fsck(&self) -> Result<Report, fsck::Error> {
        read_whole(Arc::new(self.files()), &self.key(), Format::Entries).await
    }
}

pub(crate) async fn read_whole(
    source: Arc<dyn Source>,
    key: &LogKey,
    format: Format,
) -> Result<Report, fsck::Error> {
    fsck(&source, key, format, |_, _| ()).await
}

/// A lock in memory: for tests about trees, not about databases.
#[derive(Default)]
pub(crate) struct Memory(Mutex<(Option<String>, HashMap<Hash, u64>)>);

impl Memory {
    /// As it is now.
    pub(crate) fn copy(&self) -> Self {
        Self(Mutex::new(self.0.lock().unwrap().clone()))
    }
}

#[async_trait]
impl CheckpointLock for Memory {
    async fn load(&self) -> Result<Option<String>, StoreError> {
        Ok(self.0.lock().unwrap().0.clone())
    }

    async fn compare_and_swap(
        &self,
        expected: Option<&str>,
        new: &str,
        first: u64,
        identities: &[Hash],
    ) -> Result<(), SwapError> {
        let mut state = self.0.lock().unwrap();
        if state.0.as_deref() != expected {
            return Err(SwapError::Conflict);
        }
        state.0 = Some(new.to_owned());
        state.1.extend(identities.iter().copied().zip(first..));
        Ok(())
    }

    async fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn find(&self, identities: &[Hash]) -> Result<Vec<(Hash, u64)>, StoreError> {
        let state = self.0.lock().unwrap();
        let known = |identity: &Hash| Some((*identity, *state.1.get(identity)?));
        Ok(identities.iter().filter_map(known).collect())
    }
}

pub(crate) fn body(number: u64) -> Vec<u8> {
    format!("entry-{number}").into_bytes()
}

pub(crate) async fn append(log: &Log, body: &[u8]) -> Result<Appended, AppendError> {
    log.append(Candidate::entry(body).unwrap()).await
}

/// Appends `entry-<from>` to `entry-<to - 1>`, each in its place, a thousand at a time.
pub(crate) async fn fill(log: &Log, from: u64, to: u64) {
    let mut next = from;
    while next < to {
        let end = to.min(next + 1000);
        let bodies: Vec<_> = (next..end).map(body).collect();
        let appends = bodies.iter().map(|body| append(log, body));
        let appended = futures_util::future::try_join_all(appends).await.unwrap();
        assert!(appended.iter().map(|appended| appended.index).eq(next..end));
        next = end;
    }
    assert_eq!(log.head().checkpoint().size, to);
}
