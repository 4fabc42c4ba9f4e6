//! A [`CheckpointLock`] in SQLite: WAL, one file for several logs. Swaps are made with `synchronous=NORMAL`, so
//! that the write-ahead log is synced when they settle, for all of them at once; all else with `FULL`.
//!
//! A swap is one statement, which is a transaction of a writer: what it compares cannot change before it commits.
//! Statement by statement it would cross to the connection's thread and back four times, and wait for a core each time.
//!
//! Identities are random, so each new row dirties a page of its own: pages are small. Moving the write-ahead
//! log into the database is most of the work. SQLite would do it in the middle of a commit, every 1000
//! pages; here it is done beside the commits and less often, when more rows share a page.

use super::{CheckpointLock, MAX_BATCH, StoreError, SwapError};
use async_trait::async_trait;
use countersign_verify::merkle::Hash;
use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqlitePool};
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
    database: Arc<Database>,
}

#[derive(Debug)]
struct Database {
    pool: SqlitePool,
    /// One connection, which alone looks up and adds entries: what another connection writes empties the
    /// cache of this one.
    entries: SqlitePool,
    /// The write-ahead log, as SQLite names it.
    wal: PathBuf,
    /// Whether a sync of it failed: the system may take what was not written for written, so another sync tells
    /// nothing. Held while it is synced, so that nobody hears that all is well who comes after the one that failed.
    suspect: Mutex<bool>,
    /// About how many pages were written since it was last synced, and moved.
    unsynced: AtomicU64,
    syncing: AtomicBool,
    written: AtomicU64,
    moving: AtomicBool,
    /// That of whoever opened it: a log's own ends with the log.
    runtime: Handle,
}

/// Bytes of a page. At SQLite's own 4096 a commit writes four times as much.
const PAGE: u32 = 1024;

/// Cache of the connection that adds entries, in KiB: most inner pages of a table of 10 million rows.
const CACHE: &str = "-16384";

/// Pages in the write-ahead log from which on it is synced beside the commits: 256 KiB. If settling had to sync all
/// that a second brings, batches would wait for the disk meanwhile.
const SYNC_AT: u64 = 256;

/// Pages in the write-ahead log from which on it is moved: 64 MiB.
const MOVE_AT: u64 = 65_536;

impl Database {
    /// Syncs what commits have written. That a file was begun anew meanwhile does not matter: SQLite has moved what
    /// was in it, and synced that.
    async fn sync(self: &Arc<Self>) -> Result<(), StoreError> {
        let database = Arc::clone(self);
        let synced = tokio::task::spawn_blocking(move || {
            let mut suspect = database.suspect.lock();
            if *suspect {
                return Err(io::Error::other("an earlier sync failed"));
            }
            let synced = File::open(&database.wal).and_then(|file| file.sync_data());
            *suspect = synced.is_err();
            synced
        });
        let synced = synced.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        synced.map_err(|error| {
            let (path, source) = (self.wal.display().to_string(), Arc::new(error));
            StoreError::Io { operation: "sync", path, source }
        })
    }

    /// Writes into the database what the write-ahead log has, and syncs that.
    async fn rewrite(&self) -> Result<(), StoreError> {
        const OPERATION: &str = "move the write-ahead log";
        let row = sqlx::query("PRAGMA wal_checkpoint(RESTART)").fetch_one(&self.pool).await;
        let busy: i64 = row.and_then(|row| row.try_get(0)).map_err(database(OPERATION))?;
        if busy != 0 {
            return Err(database(OPERATION)(sqlx::Error::Protocol("others are at it".to_owned())));
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
            self.runtime.spawn(async move {
                let _ = database.sync().await; // settling tells of a failure
                database.syncing.store(false, Ordering::Release);
            });
        }
        let written = self.written.fetch_add(pages, Ordering::Relaxed) + pages;
        if written < MOVE_AT || self.moving.swap(true, Ordering::AcqRel) {
            return;
        }
        self.written.store(0, Ordering::Relaxed);
        let database = Arc::clone(self);
        self.runtime.spawn(async move {
            // The first moves what is there while commits go on; the second what came meanwhile, and
            // has the next commit begin at the front of the file. Commits wait only for that.
            for mode in ["PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA wal_checkpoint(RESTART)"] {
                if let Err(error) = sqlx::query(mode).execute(&database.pool).await {
                    tracing::warn!(%error, "could not move the write-ahead log"); // tried again later
                }
            }
            database.moving.store(false, Ordering::Release);
        });
    }
}

/// A few connections to one file. On a full disk SQLite ends a transaction by itself; the library then fails to
/// roll it back, and would refuse every later one on that connection. Such a connection is not used again.
pub(crate) fn connections() -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(4).before_acquire(|connection, _| {
        let fit = !connection.is_in_transaction();
        Box::pin(async move { Ok(fit) })
    })
}

/// Rows of one statement: as many as there are in `places`.
const ROWS: usize = MAX_BATCH;

/// A swap is an insertion into the view `swaps`, of which the trigger makes what it means.
const SWAP: &str = "
    INSERT INTO swaps (log, expected, checkpoint, count, identities, first)
    VALUES (?, ?, ?, ?, ?, ?)";
/// SQLite's SQLITE_CONSTRAINT_TRIGGER: the trigger found another checkpoint.
const RAISED: &str = "1811";

/// Identities come as one value, 32 bytes each, which the table `places` counts from 0. With a value for each,
/// a statement would be another one for each size of batch, to be prepared and kept.
const FIND: &str = "
    SELECT identity, leaf FROM places CROSS JOIN leaves
    WHERE place < ?1 AND log = ?2 AND identity = substr(?3, 1 + 32 * place, 32)";
/// Of repeats the first stays.
const INSERT_NEW: &str = "
    INSERT OR IGNORE INTO leaves (log, identity, leaf)
    SELECT ?2, substr(?3, 1 + 32 * place, 32), ?4 + place FROM places WHERE place < ?1";

impl Sqlite {
    /// Opens the database file at `path`, which is made if need be.
    ///
    /// # Errors
    /// When it cannot be opened, or is no database.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .page_size(PAGE)
            .busy_timeout(Duration::from_secs(5))
            .pragma("wal_autocheckpoint", "0");
        let pool = connections().connect_with(options.clone()).await;
        let pool = pool.map_err(database("open a file"))?;
        let entries = connections().max_connections(1);
        // A swap finds its log itself; looking it up again for each entry is most of what a reference costs.
        let options = options.foreign_keys(false).pragma("cache_size", CACHE);
        let options = options.synchronous(SqliteSynchronous::Normal);
        let entries = entries.connect_lazy_with(options);
        for table in [
            "CREATE TABLE IF NOT EXISTS logs (
                id INTEGER PRIMARY KEY,
                name TEXT NOT NULL UNIQUE,
                checkpoint TEXT
            ) STRICT",
            "CREATE TABLE IF NOT EXISTS leaves (
                log INTEGER NOT NULL REFERENCES logs (id),
                identity BLOB NOT NULL,
                leaf INTEGER NOT NULL,
                PRIMARY KEY (log, identity)
            ) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS places (place INTEGER PRIMARY KEY) STRICT",
            "CREATE VIEW IF NOT EXISTS swaps AS SELECT NULL AS log, NULL AS expected,
                NULL AS checkpoint, NULL AS count, NULL AS identities, NULL AS first",
            "CREATE TRIGGER IF NOT EXISTS swap INSTEAD OF INSERT ON swaps BEGIN
                SELECT RAISE(ABORT, 'the checkpoint is another one')
                WHERE NOT EXISTS (
                    SELECT * FROM logs WHERE id = NEW.log AND checkpoint IS NEW.expected
                );
                UPDATE logs SET checkpoint = NEW.checkpoint WHERE id = NEW.log;
                INSERT INTO leaves (log, identity, leaf)
                SELECT NEW.log, substr(NEW.identities, 1 + 32 * place, 32), NEW.first + place
                FROM places WHERE place < NEW.count;
            END",
        ] {
            sqlx::query(table).execute(&pool).await.map_err(database("make tables"))?;
        }
        // A swap passes over what has no place: whatever became of them, all are there from here on.
        let places = "
            WITH RECURSIVE count (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM count WHERE n + 1 < ?)
            INSERT OR IGNORE INTO places SELECT n FROM count";
        let counted =
            sqlx::query(places).bind(i64::try_from(ROWS).expect("a few")).execute(&pool).await;
        counted.map_err(database("make tables"))?;
        let database = Database {
            pool,
            entries,
            wal: wal(path),
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
        // Without a write-ahead log nobody writes; then it can be read where nothing can be written, too.
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        let options = options.immutable(!wal(path).exists()).busy_timeout(Duration::from_secs(5));
        let connection = options.connect().await;
        let mut connection = connection.map_err(database("open a file"))?;
        let rows = sqlx::query("SELECT name, checkpoint FROM logs WHERE checkpoint IS NOT NULL");
        let rows = rows.fetch_all(&mut connection).await.map_err(database("read checkpoints"))?;
        let row = |row: &sqlx::sqlite::SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?));
        let read: Result<_, sqlx::Error> = rows.iter().map(row).collect();
        read.map_err(|_| StoreError::Row { table: "logs" })
    }

    /// The connections, for other tables in the same file: in WAL mode, `synchronous=FULL`.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.database.pool
    }

    /// The lock of the log `name`.
    ///
    /// # Errors
    /// When its row cannot be written.
    pub async fn lock(&self, name: &str) -> Result<SqliteLock, StoreError> {
        sqlx::query("INSERT INTO logs (name) VALUES (?) ON CONFLICT DO NOTHING")
            .bind(name)
            .execute(self.pool())
            .await
            .map_err(database("name a log"))?;
        let row = sqlx::query("SELECT id FROM logs WHERE name = ?")
            .bind(name)
            .fetch_one(self.pool())
            .await
            .map_err(database("find a log"))?;
        let log = row.try_get(0).map_err(|_| StoreError::Row { table: "logs" })?;
        Ok(SqliteLock { database: Arc::clone(&self.database), log })
    }

    /// Forgets the log `name`: which tree was its own, and which entry was where. For a shard that nobody was
    /// told of; a log that anybody knows forks if it is forgotten.
    ///
    /// # Errors
    /// When that cannot be written.
    pub async fn forget(&self, name: &str) -> Result<(), StoreError> {
        const OPERATION: &str = "forget a log";
        let begun = self.pool().begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.map_err(database(OPERATION))?;
        for statement in [
            "DELETE FROM leaves WHERE log = (SELECT id FROM logs WHERE name = ?)",
            "DELETE FROM logs WHERE name = ?",
        ] {
            let deleted = sqlx::query(statement).bind(name).execute(&mut *transaction).await;
            deleted.map_err(database(OPERATION))?;
        }
        transaction.commit().await.map_err(database(OPERATION))
    }

    /// Copies it as it is at one moment into the file at `path`, where nothing may be yet, while others
    /// write to it. The copy is durable.
    ///
    /// # Errors
    /// When it cannot be read, or the copy not be written.
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let name = path.to_string_lossy().into_owned();
        let copied = sqlx::query("VACUUM INTO ?").bind(&name).execute(self.pool()).await;
        copied.map_err(database("copy everything"))?;
        let synced = std::fs::File::open(path).and_then(|file| file.sync_all());
        synced.map_err(|error| StoreError::Io {
            operation: "sync",
            path: name,
            source: Arc::new(error),
        })
    }

    /// Waits for running statements and closes the file.
    pub async fn close(&self) {
        self.database.entries.close().await;
        self.pool().close().await;
    }
}

/// The write-ahead log of the database file at `path`.
fn wal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// The lock of one log.
#[derive(Clone, Debug)]
pub struct SqliteLock {
    database: Arc<Database>,
    log: i64,
}

impl SqliteLock {
    /// Goes through the whole table, in no order.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn each(&self, mut row: impl FnMut(Hash, u64)) -> Result<(), StoreError> {
        let mut rows = sqlx::query("SELECT identity, leaf FROM leaves WHERE log = ?")
            .bind(self.log)
            .fetch(&self.database.pool);
        while let Some(found) = rows.try_next().await.map_err(database("read entries"))? {
            let (identity, leaf) = entry(&found)?;
            row(identity, leaf);
        }
        Ok(())
    }

    /// Begins to write the table anew.
    ///
    /// # Errors
    /// When the database is locked or cannot be written.
    pub(crate) async fn rebuild(&self) -> Result<Rebuild, StoreError> {
        let begun = self.database.pool.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.map_err(database("rebuild the table"))?;
        sqlx::query("DELETE FROM leaves WHERE log = ?")
            .bind(self.log)
            .execute(&mut *transaction)
            .await
            .map_err(database("rebuild the table"))?;
        Ok(Rebuild { transaction, log: self.log })
    }
}

/// A table that is being written anew; dropped, it is as it was.
pub(crate) struct Rebuild {
    transaction: sqlx::Transaction<'static, sqlx::Sqlite>,
    log: i64,
}

impl Rebuild {
    /// Adds entries in the order of the log: of repeats the first stays.
    pub(crate) async fn add(&mut self, leaves: &[(Hash, u64)]) -> Result<(), StoreError> {
        insert(self.log, leaves, &mut self.transaction).await.map_err(database("rebuild the table"))
    }

    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await.map_err(database("rebuild the table"))
    }
}

/// Adds rows to the table, as many at once as have one index after the other.
async fn insert(
    log: i64,
    leaves: &[(Hash, u64)],
    connection: &mut sqlx::SqliteConnection,
) -> Result<(), sqlx::Error> {
    let follows = |(_, one): &(Hash, u64), (_, next): &(Hash, u64)| one + 1 == *next;
    for rows in leaves.chunk_by(follows).flat_map(|rows| rows.chunks(ROWS)) {
        let first = i64::try_from(rows[0].1).expect("a tree has fewer than 2^63 leaves");
        let count = i64::try_from(rows.len()).expect("at most ROWS");
        let identities: Vec<u8> = rows.iter().flat_map(|(row, _)| *row.as_bytes()).collect();
        let insert = sqlx::query(INSERT_NEW).bind(count).bind(log).bind(identities).bind(first);
        insert.execute(&mut *connection).await?;
    }
    Ok(())
}

/// A row of the table.
fn entry(row: &sqlx::sqlite::SqliteRow) -> Result<(Hash, u64), StoreError> {
    const ROW: StoreError = StoreError::Row { table: "leaves" };
    let identity: &[u8] = row.try_get(0).map_err(|_| ROW)?;
    let leaf: i64 = row.try_get(1).map_err(|_| ROW)?;
    let identity = Hash::try_from(identity).map_err(|_| ROW)?;
    Ok((identity, u64::try_from(leaf).map_err(|_| ROW)?))
}

#[async_trait]
impl CheckpointLock for SqliteLock {
    async fn load(&self) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT checkpoint FROM logs WHERE id = ?")
            .bind(self.log)
            .fetch_one(&self.database.pool)
            .await
            .map_err(database("read a checkpoint"))?;
        row.try_get(0).map_err(|_| StoreError::Row { table: "logs" })
    }

    async fn compare_and_swap(
        &self,
        expected: Option<&str>,
        new: &str,
        first: u64,
        identities: &[Hash],
    ) -> Result<(), SwapError> {
        let count = i64::try_from(identities.len()).expect("at most MAX_BATCH");
        let first = i64::try_from(first).expect("a tree has fewer than 2^63 leaves");
        let bytes: Vec<u8> = identities.iter().flat_map(|identity| *identity.as_bytes()).collect();
        let swap = sqlx::query(SWAP).bind(self.log).bind(expected).bind(new);
        let swap = swap.bind(count).bind(bytes).bind(first);
        // Logs take turns with the connection: SQLite has who comes second look again after ever longer pauses.
        swap.execute(&self.database.entries).await.map_err(|error| match &error {
            sqlx::Error::Database(told) if told.code().as_deref() == Some(RAISED) => {
                SwapError::Conflict
            }
            _ => database("swap a checkpoint")(error).into(),
        })?;
        self.database.wrote(identities.len() as u64 + 2);
        Ok(())
    }

    /// What SQLite does at a commit with `synchronous=FULL`, for many at once and while others are made.
    async fn settle(&self) -> Result<(), StoreError> {
        if self.database.sync().await.is_ok() {
            return Ok(());
        }
        self.database.rewrite().await?;
        self.database.sync().await
    }

    async fn find(&self, identities: &[Hash]) -> Result<Vec<(Hash, u64)>, StoreError> {
        let mut found = Vec::new();
        for rows in identities.chunks(ROWS) {
            let count = i64::try_from(rows.len()).expect("at most ROWS");
            let bytes: Vec<u8> = rows.iter().flat_map(|row| *row.as_bytes()).collect();
            let find = sqlx::query(FIND).bind(count).bind(self.log).bind(bytes);
            let rows = find.fetch_all(&self.database.entries).await;
            for row in rows.map_err(database("look up entries"))? {
                found.push(entry(&row)?);
            }
        }
        Ok(found)
    }
}

pub(crate) fn database(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { operation, source: Arc::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        database.database.sync().await.unwrap_err();
        std::fs::rename(&away, &log).unwrap();
        database.database.sync().await.expect_err("whatever the next sync says");
        lock.settle().await.unwrap();
        // Without its write-ahead log the database has it.
        std::fs::copy(&path, &copy).unwrap();
        assert_eq!(Sqlite::checkpoints(&copy).await.unwrap()["one"], "1");
        database.database.sync().await.unwrap();
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
        let path = folder.path().join("log.db");
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
        // As a database may be that was recovered; whoever opens it next makes it good.
        let lost = sqlx::query("DELETE FROM places WHERE place > 0").execute(database.pool()).await;
        assert!(lost.unwrap().rows_affected() > 0);
        database.close().await;
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
        // As many as a swap may have; and more than one statement takes, not one index after the other.
        let many: Vec<_> = (0..2500).map(|it| leaf(&it.to_string(), it + it / 1200)).collect();
        let wanted: Vec<_> = many.iter().map(|(identity, _)| *identity).collect();
        two.compare_and_swap(Some("other"), "more", 0, &wanted[..MAX_BATCH]).await.unwrap();
        let mut rebuild = two.rebuild().await.unwrap();
        rebuild.add(&many).await.unwrap();
        rebuild.commit().await.unwrap();
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
