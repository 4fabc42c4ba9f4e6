//! A [`CheckpointLock`] in SQLite: WAL, one file for several logs. Swaps are made with `synchronous=NORMAL`, so
//! that the write-ahead log is synced when they settle, for all of them at once; all else with `FULL`.
//!
//! Looking entries up and swapping is done where it is asked for, which is the thread of a log's sequencer: some
//! microseconds an entry, and no other thread is waited for.
//!
//! Identities are random, so each row of theirs is in a page of its own: pages are small, and the [`Latest`] wait until
//! some share one. SQLite would move the write-ahead log into the database in the middle of a commit, every 1000
//! pages; here it is done beside the commits and less often.

mod latest;

use self::latest::{Latest, put_away};
use super::{CheckpointLock, StoreError, SwapError};
use crate::database::{blocking, closed, connect, failed};
use async_trait::async_trait;
use countersign_verify::merkle::Hash;
use parking_lot::Mutex;
use reqwest::Url;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// A database file that holds the checkpoints and tables of several logs.
#[derive(Clone, Debug)]
pub struct Sqlite {
    database: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// The connection that alone looks up and adds entries, until it is closed: what another connection writes empties
    /// the cache of this one. Logs take turns with it: SQLite has who comes second look again after ever longer
    /// pauses.
    entries: Mutex<Option<Entries>>,
    /// Whether a sync of the write-ahead log failed: the system may take what was not written for written, so another
    /// sync tells nothing. Held while it is synced, so that nobody hears that all is well who comes after the one that
    /// failed.
    suspect: Mutex<bool>,
    /// About how many pages were written since it was last synced, and moved.
    unsynced: AtomicU64,
    syncing: AtomicBool,
    written: AtomicU64,
    moving: AtomicBool,
    /// That of whoever opened it: a log's own ends with the log.
    runtime: Handle,
}

#[derive(Debug)]
struct Entries {
    connection: Connection,
    /// Of each log, once it was asked for.
    latest: HashMap<i64, Latest>,
}

impl Entries {
    /// Those of a log in memory, and the connection.
    fn of(&mut self, log: i64) -> Result<(&mut Latest, &mut Connection), rusqlite::Error> {
        let latest = match self.latest.entry(log) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Latest::read(&mut self.connection, log)?),
        };
        Ok((latest, &mut self.connection))
    }
}

/// Of a new file. At SQLite's own 4096 bytes a page a commit writes four times as much. The write-ahead log is moved
/// when it is time, not by commits.
const PRAGMAS: &str = "PRAGMA page_size = 1024; PRAGMA wal_autocheckpoint = 0";

/// Of the connection that adds entries: a cache of so many KiB has most inner pages of a table of 10 million rows.
const ADDING: &str = "PRAGMA cache_size = -16384; PRAGMA synchronous = NORMAL";

/// Pages in the write-ahead log from which on it is synced beside the commits: 256 KiB. If settling had to sync all
/// that a second brings, batches would wait for the disk meanwhile.
const SYNC_AT: u64 = 256;

/// Pages in the write-ahead log from which on it is moved: 64 MiB.
const MOVE_AT: u64 = 65_536;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS logs (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        checkpoint TEXT
    ) STRICT;
    CREATE TABLE IF NOT EXISTS leaves (
        log INTEGER NOT NULL REFERENCES logs (id),
        identity BLOB NOT NULL,
        leaf INTEGER NOT NULL,
        PRIMARY KEY (log, identity)
    ) STRICT, WITHOUT ROWID";

impl Shared {
    /// Does `work` with a connection of its own, on a thread for blocking work.
    async fn apart<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let done = blocking(operation, &self.path, move || {
            let mut connection = connect(&path, PRAGMAS).map_err(failed("open a file"))?;
            work(&mut connection).map_err(failed(operation))
        });
        done.await
    }

    /// Does `work` with the connection that adds entries.
    fn entries<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Entries) -> Result<T, rusqlite::Error>,
    ) -> Result<T, StoreError> {
        let mut entries = self.entries.lock();
        work(entries.as_mut().ok_or_else(|| closed(&self.path))?).map_err(failed(operation))
    }

    /// What is in memory of a log may not be so in the database: it is read again.
    fn forget_latest(&self, log: i64) {
        if let Some(entries) = &mut *self.entries.lock() {
            entries.latest.remove(&log);
        }
    }

    /// Syncs what commits have written. That a file was begun anew meanwhile does not matter: SQLite has moved what
    /// was in it, and synced that.
    fn sync(&self) -> Result<(), StoreError> {
        let wal = wal(&self.path);
        let mut suspect = self.suspect.lock();
        let synced = match *suspect {
            true => Err(io::Error::other("an earlier sync failed")),
            false => File::open(&wal).and_then(|file| file.sync_data()),
        };
        *suspect = synced.is_err();
        synced.map_err(|error| {
            let (path, source) = (wal.display().to_string(), Arc::new(error));
            StoreError::Io { operation: "sync", path, source }
        })
    }

    /// Writes into the database what the write-ahead log has, and syncs that.
    fn rewrite(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "move the write-ahead log";
        let connection = connect(&self.path, PRAGMAS).map_err(failed(OPERATION))?;
        if !moved(&connection, "RESTART").map_err(failed(OPERATION))? {
            let (path, source) = (self.path.display().to_string(), io::ErrorKind::ResourceBusy);
            return Err(StoreError::Io {
                operation: OPERATION,
                path,
                source: Arc::new(source.into()),
            });
        }
        *self.suspect.lock() = false;
        Ok(())
    }

    /// Counts what a commit wrote, and has the write-ahead log synced or moved when it is time.
    fn wrote(self: &Arc<Self>, pages: u64) {
        let unsynced = self.unsynced.fetch_add(pages, Ordering::Relaxed) + pages;
        if unsynced >= SYNC_AT && !self.syncing.swap(true, Ordering::AcqRel) {
            self.unsynced.store(0, Ordering::Relaxed);
            let database = Arc::clone(self);
            self.runtime.spawn_blocking(move || {
                let _ = database.sync(); // settling tells of a failure
                database.syncing.store(false, Ordering::Release);
            });
        }
        let written = self.written.fetch_add(pages, Ordering::Relaxed) + pages;
        if written < MOVE_AT || self.moving.swap(true, Ordering::AcqRel) {
            return;
        }
        self.written.store(0, Ordering::Relaxed);
        let database = Arc::clone(self);
        self.runtime.spawn_blocking(move || {
            // Each moves what came while the one before was at it, and commits go on; the last, which finds little, has
            // the next commit begin at the front of the file. Commits wait only for that.
            let done = connect(&database.path, PRAGMAS).and_then(|connection| {
                let modes = ["PASSIVE", "PASSIVE", "PASSIVE", "RESTART"];
                modes.iter().try_for_each(|mode| moved(&connection, mode).map(drop))
            });
            if let Err(error) = done {
                tracing::warn!(%error, "could not move the write-ahead log"); // tried again later
            }
            database.moving.store(false, Ordering::Release);
        });
    }
}

/// Moves the write-ahead log into the database; false when others are at it.
fn moved(connection: &Connection, mode: &str) -> Result<bool, rusqlite::Error> {
    let busy = connection
        .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(0))?;
    Ok(busy == 0)
}

impl Sqlite {
    /// Opens the database file at `path`, which is made if need be.
    ///
    /// # Errors
    /// When it cannot be opened, or is no database.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let own = path.to_owned();
        let opened = blocking("open", path, move || {
            let connection = connect(&own, PRAGMAS).map_err(failed("open a file"))?;
            connection.execute_batch(TABLES).map_err(failed("make tables"))?;
            connection.execute_batch(latest::TABLE).map_err(failed("make tables"))?;
            connection.execute_batch(ADDING).map_err(failed("open a file"))?;
            Ok(Entries { connection, latest: HashMap::new() })
        });
        let database = Shared {
            path: path.to_owned(),
            entries: Mutex::new(Some(opened.await?)),
            suspect: Mutex::default(),
            unsynced: AtomicU64::new(0),
            syncing: AtomicBool::new(false),
            written: AtomicU64::new(0),
            moving: AtomicBool::new(false),
            runtime: Handle::current(),
        };
        Ok(Self { database: Arc::new(database) })
    }

    /// The latest checkpoints in the database file at `path`, by the names of their logs, whoever writes to it
    /// meanwhile; nothing is written.
    ///
    /// # Errors
    /// When it cannot be read, or is no database of logs.
    pub async fn checkpoints(path: &Path) -> Result<HashMap<String, String>, StoreError> {
        const READ: &str = "SELECT name, checkpoint FROM logs WHERE checkpoint IS NOT NULL";
        let own = path.to_owned();
        let read = blocking("read", path, move || {
            let connection = read_only(&own).map_err(failed("open a file"))?;
            let checkpoints = connection.prepare(READ).and_then(|mut statement| {
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            });
            checkpoints.map_err(failed("read checkpoints"))
        });
        read.await
    }

    /// The lock of the log `name`.
    ///
    /// # Errors
    /// When its row cannot be written.
    pub async fn lock(&self, name: &str) -> Result<SqliteLock, StoreError> {
        let name = name.to_owned();
        let found = self.database.apart("name a log", move |connection| {
            let insert = "INSERT INTO logs (name) VALUES (?1) ON CONFLICT DO NOTHING";
            connection.execute(insert, [&name])?;
            connection.query_row("SELECT id FROM logs WHERE name = ?1", [&name], |row| row.get(0))
        });
        Ok(SqliteLock { log: found.await?, database: Arc::clone(&self.database) })
    }

    /// Forgets the log `name`: which tree was its own, and which entry was where. For a shard that nobody was
    /// told of; a log that anybody knows forks if it is forgotten.
    ///
    /// # Errors
    /// When that cannot be written.
    pub async fn forget(&self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        let forgotten = self.database.apart("forget a log", move |connection| {
            let transaction = immediate(connection)?;
            let known = "SELECT id FROM logs WHERE name = ?1";
            let known = transaction.query_row(known, [&name], |row| row.get::<_, i64>(0));
            let Some(log) = known.optional()? else { return Ok(()) };
            transaction.execute("DELETE FROM leaves WHERE log = ?1", [log])?;
            latest::remove(&transaction, log)?;
            transaction.execute("DELETE FROM logs WHERE id = ?1", [log])?;
            transaction.commit()
        });
        forgotten.await?;
        if let Some(entries) = &mut *self.database.entries.lock() {
            entries.latest.clear(); // the number may be given again
        }
        Ok(())
    }

    /// Copies it as it is at one moment into the file at `path`, where nothing may be yet, while others
    /// write to it. The copy is durable.
    ///
    /// # Errors
    /// When it cannot be read, or the copy not be written.
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let name = path.to_string_lossy().into_owned();
        let copied = self.database.apart("copy everything", move |connection| {
            connection.execute("VACUUM INTO ?1", [name]).map(drop)
        });
        copied.await?;
        let synced = File::open(path).and_then(|file| file.sync_all());
        synced.map_err(|error| {
            let (path, source) = (path.display().to_string(), Arc::new(error));
            StoreError::Io { operation: "sync", path, source }
        })
    }

    /// Waits for what is running, and closes the file.
    pub async fn close(&self) {
        let entries = self.database.entries.lock().take();
        // The last connection moves the write-ahead log.
        let _ = tokio::task::spawn_blocking(move || drop(entries)).await;
    }
}

/// The write-ahead log of the database file at `path`, as SQLite names it.
fn wal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Opens the database file at `path` for reading.
fn read_only(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if wal(path).exists() {
        Connection::open_with_flags(path, flags)?
    } else {
        // Without a write-ahead log nobody writes; then it can be read where nothing can be written, too.
        let file = std::path::absolute(path).ok().and_then(|path| Url::from_file_path(path).ok());
        let mut uri = file.ok_or_else(|| rusqlite::Error::InvalidPath(path.to_owned()))?;
        uri.set_query(Some("immutable=1"));
        Connection::open_with_flags(uri.as_str(), flags | OpenFlags::SQLITE_OPEN_URI)?
    };
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

/// A transaction of one who writes: what it reads cannot change before it commits. Dropped, nothing has happened.
fn immediate(connection: &mut Connection) -> Result<Transaction<'_>, rusqlite::Error> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// The lock of one log.
#[derive(Clone, Debug)]
pub struct SqliteLock {
    database: Arc<Shared>,
    log: i64,
}

impl SqliteLock {
    /// Goes through all entries, in no order. The latest are put among the others first.
    ///
    /// # Errors
    /// When they cannot be read, or put there.
    pub(crate) fn each(&self, mut row: impl FnMut(Hash, u64)) -> Result<(), StoreError> {
        self.database.entries("read entries", |entries| {
            let connection = &mut entries.connection;
            let latest = match entries.latest.remove(&self.log) {
                Some(latest) => latest,
                None => Latest::read(connection, self.log)?,
            };
            latest.put_all_away(connection, self.log)?;
            let mut all = connection.prepare("SELECT identity, leaf FROM leaves WHERE log = ?1")?;
            let mut rows = all.query([self.log])?;
            while let Some(found) = rows.next()? {
                row(Hash::new(found.get(0)?), found.get(1)?);
            }
            Ok(())
        })
    }

    /// Begins to write the table anew.
    ///
    /// # Errors
    /// When the database is locked or cannot be written.
    pub(crate) fn rebuild(&self) -> Result<Rebuild<'_>, StoreError> {
        let begun = connect(&self.database.path, PRAGMAS).and_then(|connection| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            connection.execute("DELETE FROM leaves WHERE log = ?1", [self.log])?;
            latest::remove(&connection, self.log)?;
            Ok(Rebuild { connection, lock: self })
        });
        begun.map_err(failed("rebuild the table"))
    }
}

/// A table that is being written anew; dropped, it is as it was.
pub(crate) struct Rebuild<'a> {
    connection: Connection,
    lock: &'a SqliteLock,
}

impl Rebuild<'_> {
    /// Adds entries in the order of the log: of repeats the first stays.
    pub(crate) fn add(&self, leaves: &[(Hash, u64)]) -> Result<(), StoreError> {
        let added = put_away(
            &self.connection,
            self.lock.log,
            leaves.iter().map(|(leaf, index)| (leaf, index)),
        );
        added.map_err(failed("rebuild the table"))
    }

    pub(crate) fn commit(self) -> Result<(), StoreError> {
        self.connection.execute_batch("COMMIT").map_err(failed("rebuild the table"))?;
        self.lock.database.forget_latest(self.lock.log);
        Ok(())
    }
}

#[async_trait]
impl CheckpointLock for SqliteLock {
    async fn load(&self) -> Result<Option<String>, StoreError> {
        self.database.entries("read a checkpoint", |entries| {
            // Whoever asks is not sure, or another process has moved on.
            entries.latest.remove(&self.log);
            let read = "SELECT checkpoint FROM logs WHERE id = ?1";
            entries.connection.prepare_cached(read)?.query_row([self.log], |row| row.get(0))
        })
    }

    async fn compare_and_swap(
        &self,
        expected: Option<&str>,
        new: &str,
        first: u64,
        identities: &[Hash],
    ) -> Result<(), SwapError> {
        let swapped = self.database.entries("swap a checkpoint", |entries| {
            let (latest, connection) = entries.of(self.log)?;
            let transaction = immediate(connection)?;
            let swap = "UPDATE logs SET checkpoint = ?3 WHERE id = ?1 AND checkpoint IS ?2";
            let swapped =
                transaction.prepare_cached(swap)?.execute((self.log, expected, new))? == 1;
            if !swapped {
                return Ok(None);
            }
            let change = latest.write(&transaction, self.log, first, identities)?;
            transaction.commit()?;
            let pages = change.pages(identities.len());
            latest.changed(change, identities);
            Ok(Some(pages))
        });
        match swapped {
            Ok(Some(pages)) => {
                self.database.wrote(pages);
                Ok(())
            }
            Ok(None) => Err(SwapError::Conflict),
            Err(error) => {
                self.database.forget_latest(self.log); // who knows whether it was committed
                Err(error.into())
            }
        }
    }

    /// What SQLite does at a commit with `synchronous=FULL`, for many at once and while others are made.
    async fn settle(&self) -> Result<(), StoreError> {
        let database = Arc::clone(&self.database);
        let settled = blocking("settle", &self.database.path, move || {
            if database.sync().is_ok() {
                return Ok(());
            }
            database.rewrite()?;
            database.sync()
        });
        settled.await
    }

    async fn find(&self, identities: &[Hash]) -> Result<Vec<(Hash, u64)>, StoreError> {
        self.database.entries("look up entries", |entries| {
            let (latest, connection) = entries.of(self.log)?;
            // One view of the table, which need not be found anew for each.
            let transaction = connection.transaction()?;
            let find = "SELECT leaf FROM leaves WHERE log = ?1 AND identity = ?2";
            let mut find = transaction.prepare_cached(find)?;
            let mut found = Vec::new();
            for identity in identities {
                let leaf = match latest.get(identity) {
                    Some(leaf) => Some(leaf),
                    None => find
                        .query_row((self.log, identity.as_bytes()), |row| row.get(0))
                        .optional()?,
                };
                found.extend(leaf.map(|leaf| (*identity, leaf)));
            }
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MAX_BATCH;

    /// A sync fails here because the file has another name for a while.
    #[tokio::test]
    async fn after_a_failed_sync_swaps_settle_into_the_database_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("log.db"), folder.path().join("copy.db"));
        let database = Sqlite::open(&path).await.unwrap();
        let lock = database.lock("one").await.unwrap();
        lock.settle().await.unwrap();
        lock.compare_and_swap(None, "1", 0, &[]).await.unwrap();
        let (log, away) = (wal(&path), folder.path().join("away"));
        std::fs::rename(&log, &away).unwrap();
        database.database.sync().unwrap_err();
        std::fs::rename(&away, &log).unwrap();
        database.database.sync().expect_err("whatever the next sync says");
        lock.settle().await.unwrap();
        // Without its write-ahead log the database has it.
        std::fs::copy(&path, &copy).unwrap();
        assert_eq!(Sqlite::checkpoints(&copy).await.unwrap()["one"], "1");
        database.database.sync().unwrap();
    }

    /// What a log has begun for the file that it shares ends after it.
    #[tokio::test]
    async fn a_sync_beside_the_commits_outlives_the_log_that_began_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = Sqlite::open(&folder.path().join("log.db")).await.unwrap();
        let lock = database.lock("one").await.unwrap();
        let identities: Vec<_> = (0..SYNC_AT).map(|row| Hash::of(&row.to_be_bytes())).collect();
        let swap = async move { lock.compare_and_swap(None, "1", 0, &identities).await.unwrap() };
        let (_, end) = crate::thread::start("one", swap).unwrap();
        end.await.unwrap();
        let ended = async {
            while database.database.syncing.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    }

    /// From the first that comes to those that are put away, and after a restart in the middle of that.
    #[tokio::test]
    async fn entries_are_found_wherever_they_stand() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let identity = |index: u64| Hash::of(&index.to_be_bytes());
        let batch = MAX_BATCH as u64;
        let mut size = 0;
        let seen = |table: &str| {
            let hand = Connection::open(&path).unwrap();
            let rows =
                hand.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
            rows.unwrap_or(0_u64)
        };
        let mut both = false;
        // Processes that end soon; one in which all are put away, and again; and one that ends in the middle of that.
        for batches in [15, 15, 15, 15, 15, 15, 220, 120] {
            let database = Sqlite::open(&path).await.unwrap();
            let lock = database.lock("one").await.unwrap();
            for _ in 0..batches {
                let identities: Vec<_> = (size..size + batch).map(identity).collect();
                assert_eq!(lock.find(&identities).await.unwrap(), []);
                let old = (size > 0).then(|| size.to_string());
                let new = (size + batch).to_string();
                lock.compare_and_swap(old.as_deref(), &new, size, &identities).await.unwrap();
                size += batch;
                let some = (0..size).step_by(997).map(|index| (identity(index), index));
                let some: Vec<_> = some.collect();
                let wanted: Vec<_> = some.iter().map(|(identity, _)| *identity).collect();
                assert_eq!(lock.find(&wanted).await.unwrap(), some, "of {size}");
                let (waiting, sorted) = (seen("latest") * batch, seen("leaves"));
                assert!(waiting < 2 * latest::ENOUGH as u64, "{waiting} of {size} wait");
                both = waiting + sorted > size;
                if batches == 120 && both {
                    break;
                }
            }
            database.close().await;
        }
        assert!(both, "some are sorted and wait still");
        let database = Sqlite::open(&path).await.unwrap();
        let lock = database.lock("one").await.unwrap();
        let mut every: Vec<_> = Vec::new();
        lock.each(|identity, index| every.push((index, identity))).unwrap();
        every.sort_unstable();
        assert_eq!(every, (0..size).map(|index| (index, identity(index))).collect::<Vec<_>>());
        assert_eq!((seen("latest"), seen("leaves")), (0, size));
    }

    /// What another process has added is found once the checkpoint was read again, without which no swap succeeds.
    #[tokio::test]
    async fn what_another_process_adds_is_found_by_whoever_may_swap() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let (one, other) = (Sqlite::open(&path).await.unwrap(), Sqlite::open(&path).await.unwrap());
        let (one, other) = (one.lock("log").await.unwrap(), other.lock("log").await.unwrap());
        let hash = |text: &str| Hash::of(text.as_bytes());
        one.compare_and_swap(None, "1", 0, &[hash("a")]).await.unwrap();
        assert_eq!(other.find(&[hash("a"), hash("b")]).await.unwrap(), [(hash("a"), 0)]);
        one.compare_and_swap(Some("1"), "2", 1, &[hash("b")]).await.unwrap();
        let late = other.compare_and_swap(Some("1"), "2", 1, &[hash("b")]).await;
        assert!(matches!(late, Err(SwapError::Conflict)));
        assert_eq!(other.load().await.unwrap().as_deref(), Some("2"));
        assert_eq!(other.find(&[hash("b")]).await.unwrap(), [(hash("b"), 1)]);
    }

    #[tokio::test]
    async fn of_swaps_from_one_checkpoint_the_first_wins_and_logs_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        // A name is a name, whatever it would mean in a URL.
        let path = folder.path().join("log?mode=memory#%41.db");
        let database = Sqlite::open(&path).await.unwrap();
        let (one, two) = (database.lock("one").await.unwrap(), database.lock("two").await.unwrap());
        assert_eq!(one.load().await.unwrap(), None);
        let hash = |text: &str| Hash::of(text.as_bytes());
        let leaf = |text: &str, index| (hash(text), index);
        one.compare_and_swap(None, "1", 0, &[hash("a"), hash("b")]).await.unwrap();
        for expected in [None, Some("0")] {
            let lost = one.compare_and_swap(expected, "2", 2, &[hash("c")]).await;
            assert!(matches!(lost, Err(SwapError::Conflict)), "{expected:?}");
            let lost = one.compare_and_swap(expected, "2", 2, &[]).await;
            assert!(matches!(lost, Err(SwapError::Conflict)), "{expected:?}, without entries");
        }
        // A body that is already there, or there twice, fails the whole swap; wherever it stands.
        for sorted in [false, true] {
            for twice in [[hash("c"), hash("a")], [hash("c"), hash("c")]] {
                let twice = one.compare_and_swap(Some("1"), "2", 2, &twice).await;
                assert!(matches!(twice, Err(SwapError::Store(_))), "sorted: {sorted}");
            }
            assert_eq!(one.load().await.unwrap().as_deref(), Some("1"));
            one.each(|_, _| ()).unwrap();
        }
        two.compare_and_swap(None, "other", 9, &[hash("a")]).await.unwrap();
        // As others see it while it is written.
        let three = database.lock("three").await.unwrap();
        three.compare_and_swap(None, "0", 0, &[]).await.unwrap();
        three.compare_and_swap(Some("0"), "3", 0, &[]).await.unwrap();
        let seen = Sqlite::checkpoints(&path).await.unwrap();
        let expected = [("one", "1"), ("three", "3"), ("two", "other")];
        let expected = expected.map(|(name, note)| (name.to_owned(), note.to_owned()));
        assert_eq!(seen, HashMap::from(expected));
        assert!(Sqlite::checkpoints(&folder.path().join("none")).await.is_err());
        database.close().await;
        assert_eq!(Sqlite::checkpoints(&path).await.unwrap(), seen, "and when nobody writes");

        let database = Sqlite::open(&path).await.unwrap();
        let (one, two) = (database.lock("one").await.unwrap(), database.lock("two").await.unwrap());
        assert_eq!(one.load().await.unwrap().as_deref(), Some("1"));
        assert_eq!(two.load().await.unwrap().as_deref(), Some("other"));
        let wanted = [leaf("a", 0).0, leaf("b", 0).0, leaf("c", 0).0];
        let mut found = one.find(&wanted).await.unwrap();
        found.sort_by_key(|(_, index)| *index);
        assert_eq!(found, [leaf("a", 0), leaf("b", 1)]);
        assert_eq!(two.find(&wanted).await.unwrap(), [leaf("a", 9)]);
        assert_eq!(two.find(&[]).await.unwrap(), []);
        // As many as a swap may have; and more, not one index after the other.
        let many: Vec<_> = (0..2500).map(|it| leaf(&it.to_string(), it + it / 1200)).collect();
        let wanted: Vec<_> = many.iter().map(|(identity, _)| *identity).collect();
        two.compare_and_swap(Some("other"), "more", 0, &wanted[..MAX_BATCH]).await.unwrap();
        let rebuild = two.rebuild().unwrap();
        rebuild.add(&many).unwrap();
        rebuild.commit().unwrap();
        let mut found = two.find(&wanted).await.unwrap();
        found.sort_by_key(|(_, index)| *index);
        assert_eq!(found, many);
        // A log that is forgotten can begin anew; the others stay.
        database.forget("two").await.unwrap();
        let known = Sqlite::checkpoints(&path).await.unwrap();
        assert_eq!((known.len(), known.contains_key("two")), (2, false));
        let two = database.lock("two").await.unwrap();
        assert_eq!((two.load().await.unwrap(), two.find(&wanted).await.unwrap()), (None, vec![]));
        assert_eq!(one.find(&[leaf("a", 0).0]).await.unwrap(), [leaf("a", 0)]);
    }
}
