//! A [`CheckpointLock`] in SQLite: WAL, one file for several logs. Swaps are made with `synchronous=NORMAL`, so
//! that the write-ahead log is synced when they settle, for all of them at once; all else with `FULL`.
//!
//! Looking entries up and swapping is done where it is asked for, which is the thread of a log's sequencer: some
//! microseconds an entry, and no other thread is waited for.
//!
//! Identities are random, so each new row dirties a page of its own: pages are small. Moving the write-ahead
//! log into the database is most of the work. SQLite would do it in the middle of a commit, every 1000
//! pages; here it is done beside the commits and less often, when more rows share a page.

use super::{CheckpointLock, StoreError, SwapError};
use crate::database::{blocking, closed, connect, failed};
use async_trait::async_trait;
use countersign_verify::merkle::Hash;
use parking_lot::Mutex;
use reqwest::Url;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior};
use std::collections::HashMap;
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
    entries: Mutex<Option<Connection>>,
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
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, StoreError> {
        let mut entries = self.entries.lock();
        let connection = entries.as_mut().ok_or_else(|| closed(&self.path))?;
        work(connection).map_err(failed(operation))
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
            connection.execute_batch(ADDING).map_err(failed("open a file"))?;
            Ok(connection)
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
            let leaves = "DELETE FROM leaves WHERE log = (SELECT id FROM logs WHERE name = ?1)";
            transaction.execute(leaves, [&name])?;
            transaction.execute("DELETE FROM logs WHERE name = ?1", [&name])?;
            transaction.commit()
        });
        forgotten.await
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
    /// Goes through the whole table, in no order.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn each(&self, mut row: impl FnMut(Hash, u64)) -> Result<(), StoreError> {
        self.database.entries("read entries", |connection| {
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
    pub(crate) fn rebuild(&self) -> Result<Rebuild, StoreError> {
        let begun = connect(&self.database.path, PRAGMAS).and_then(|connection| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            connection.execute("DELETE FROM leaves WHERE log = ?1", [self.log])?;
            Ok(Rebuild { connection, log: self.log })
        });
        begun.map_err(failed("rebuild the table"))
    }
}

/// A table that is being written anew; dropped, it is as it was.
pub(crate) struct Rebuild {
    connection: Connection,
    log: i64,
}

impl Rebuild {
    /// Adds entries in the order of the log: of repeats the first stays.
    pub(crate) fn add(&self, leaves: &[(Hash, u64)]) -> Result<(), StoreError> {
        let added = || {
            let new = "INSERT OR IGNORE INTO leaves (log, identity, leaf) VALUES (?1, ?2, ?3)";
            let mut new = self.connection.prepare_cached(new)?;
            for (identity, leaf) in leaves {
                new.execute((self.log, identity.as_bytes(), leaf))?;
            }
            Ok(())
        };
        added().map_err(failed("rebuild the table"))
    }

    pub(crate) fn commit(self) -> Result<(), StoreError> {
        self.connection.execute_batch("COMMIT").map_err(failed("rebuild the table"))
    }
}

#[async_trait]
impl CheckpointLock for SqliteLock {
    async fn load(&self) -> Result<Option<String>, StoreError> {
        self.database.entries("read a checkpoint", |connection| {
            let read = "SELECT checkpoint FROM logs WHERE id = ?1";
            connection.prepare_cached(read)?.query_row([self.log], |row| row.get(0))
        })
    }

    async fn compare_and_swap(
        &self,
        expected: Option<&str>,
        new: &str,
        first: u64,
        identities: &[Hash],
    ) -> Result<(), SwapError> {
        let swapped = self.database.entries("swap a checkpoint", |connection| {
            let transaction = immediate(connection)?;
            let swap = "UPDATE logs SET checkpoint = ?3 WHERE id = ?1 AND checkpoint IS ?2";
            let swapped =
                transaction.prepare_cached(swap)?.execute((self.log, expected, new))? == 1;
            if !swapped {
                return Ok(false);
            }
            {
                let add = "INSERT INTO leaves (log, identity, leaf) VALUES (?1, ?2, ?3)";
                let mut add = transaction.prepare_cached(add)?;
                for (identity, leaf) in identities.iter().zip(first..) {
                    add.execute((self.log, identity.as_bytes(), leaf))?;
                }
            }
            transaction.commit().map(|()| true)
        });
        match swapped? {
            true => self.database.wrote(identities.len() as u64 + 2),
            false => return Err(SwapError::Conflict),
        }
        Ok(())
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
        self.database.entries("look up entries", |connection| {
            // One view of the table, which need not be found anew for each.
            let transaction = connection.transaction()?;
            let find = "SELECT leaf FROM leaves WHERE log = ?1 AND identity = ?2";
            let mut find = transaction.prepare_cached(find)?;
            let mut found = Vec::new();
            for identity in identities {
                let leaf = find.query_row((self.log, identity.as_bytes()), |row| row.get(0));
                found.extend(leaf.optional()?.map(|leaf| (*identity, leaf)));
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
        // A body that is already there fails the whole swap.
        let twice = one.compare_and_swap(Some("1"), "2", 2, &[hash("c"), hash("a")]).await;
        assert!(matches!(twice, Err(SwapError::Store(_))));
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
