//! SQLite files: how they are opened, and a few connections to one for whoever can wait for a thread.
//!
//! A connection is used where it is, not sent to a thread of its own: that is two switches of threads a statement,
//! which cost more than most statements. What may take long is run on a thread for blocking work.

use crate::store::StoreError;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Connections at a time.
const CONNECTIONS: usize = 4;

/// How long a connection waits for others that write, unless its pragmas say otherwise.
const BUSY: Duration = Duration::from_secs(5);

/// Opens the file at `path`, which is made if need be: in WAL mode, and each commit durable unless `pragmas` say
/// otherwise.
pub(crate) fn connect(path: &Path, pragmas: &str) -> Result<Connection, rusqlite::Error> {
    // Without SQLITE_OPEN_URI, so that any name of a file is one.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    connection.execute_batch(pragmas)?; // before the file is made
    connection.execute_batch("PRAGMA journal_mode = WAL")?;
    Ok(connection)
}

pub(crate) fn failed(operation: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Database { operation, source: Arc::new(source) }
}

/// A file that was closed.
pub(crate) fn closed(path: &Path) -> StoreError {
    let source = Arc::new(io::Error::new(io::ErrorKind::NotConnected, "it has been closed"));
    StoreError::Io { operation: "use", path: path.display().to_string(), source }
}

/// Does `work` on a thread for blocking work.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    path: &Path,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let source = Arc::new(io::Error::other(error));
        Err(StoreError::Io { operation, path: path.display().to_string(), source })
    })
}

/// A file. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    pragmas: &'static str,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

impl Database {
    /// Opens the file at `path`, see [`connect`], and makes what `tables` says; nothing that is there changes by that.
    pub(crate) async fn open(
        path: &Path,
        pragmas: &'static str,
        tables: &'static str,
    ) -> Result<Self, StoreError> {
        let database = Self(Arc::new(Inner {
            path: path.to_owned(),
            pragmas,
            idle: Mutex::default(),
            turns: Arc::new(Semaphore::new(CONNECTIONS)),
        }));
        let made = database.run("make tables", |connection| connection.execute_batch(tables));
        made.await?;
        Ok(database)
    }

    /// Does `work` with a connection, on a thread for blocking work. What is begun and not committed is undone.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = Arc::clone(&self.0.turns).acquire_owned().await;
        let (turn, inner) = (turn.map_err(|_| closed(&self.0.path))?, Arc::clone(&self.0));
        let done = blocking(operation, &self.0.path, move || {
            let idle = inner.idle.lock().pop();
            let opened = idle.map_or_else(|| connect(&inner.path, inner.pragmas), Ok);
            let mut connection = opened.map_err(failed("open a file"))?;
            let done = work(&mut connection).map_err(failed(operation));
            // One that could not undo what was begun is not used again.
            if connection.is_autocommit() {
                inner.idle.lock().push(connection);
            }
            drop(turn);
            done
        });
        done.await
    }

    /// Waits for what is running, and closes the file.
    pub(crate) async fn close(&self) {
        let all = self.0.turns.acquire_many(CONNECTIONS as u32).await;
        self.0.turns.close();
        drop(all);
        let idle = std::mem::take(&mut *self.0.idle.lock());
        let _ = tokio::task::spawn_blocking(move || drop(idle)).await; // the last one moves the write-ahead log
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const TABLE: &str = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER) STRICT";

    async fn count(database: &Database) -> Result<i64, StoreError> {
        let count = |connection: &mut Connection| {
            connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0))
        };
        database.run("count", count).await
    }

    #[tokio::test]
    async fn what_is_begun_and_left_is_undone_and_nobody_gets_its_connection() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("a.db"), "", TABLE).await.unwrap();
        let left = "BEGIN IMMEDIATE; INSERT INTO numbers VALUES (1)";
        database.run("leave", |connection| connection.execute_batch(left)).await.unwrap();
        assert_eq!(count(&database).await.unwrap(), 0);
        database.run("leave again", |connection| connection.execute_batch(left)).await.unwrap();
    }

    #[test]
    fn pragmas_decide_over_what_is_usual() {
        let folder = tempfile::tempdir().unwrap();
        let asked = |pragmas| {
            let connection = connect(&folder.path().join("a.db"), pragmas).unwrap();
            ["busy_timeout", "synchronous", "journal_mode"].map(|name| {
                let ask = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
                connection.query_row(&format!("PRAGMA {name}"), [], ask).unwrap()
            })
        };
        let wal = || "wal".to_owned().into();
        assert_eq!(asked(""), [5000.into(), 2.into(), wal()]); // FULL
        let others = "PRAGMA busy_timeout = 30000; PRAGMA synchronous = NORMAL";
        assert_eq!(asked(others), [30_000.into(), 1.into(), wal()]);
    }

    #[tokio::test]
    async fn closing_waits_for_what_is_running_and_then_nothing_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let database = Database::open(&path, "", TABLE).await.unwrap();
        let ((begun, begins), (go, gone)) = (mpsc::channel(), mpsc::channel());
        let slow = database.clone();
        let slow = tokio::spawn(async move {
            let insert = move |connection: &mut Connection| {
                begun.send(()).unwrap();
                gone.recv().unwrap();
                connection.execute("INSERT INTO numbers VALUES (1)", [])
            };
            slow.run("insert", insert).await
        });
        tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap();
        let closing = database.clone();
        let mut closing = tokio::spawn(async move { closing.close().await });
        let early = tokio::time::timeout(Duration::from_millis(50), &mut closing).await;
        assert!(early.is_err(), "closed under a statement");
        go.send(()).unwrap();
        closing.await.unwrap();
        assert_eq!(slow.await.unwrap().unwrap(), 1);
        let refused = count(&database).await.unwrap_err().to_string();
        assert!(refused.ends_with("a.db: it has been closed"), "{refused}");
        assert!(!folder.path().join("a.db-wal").exists(), "the write-ahead log was not moved");
        assert_eq!(count(&Database::open(&path, "", TABLE).await.unwrap()).await.unwrap(), 1);
    }
}
