//! The index in SQLite: which entries have a key.
//!
//! ```text
//! logs      what is followed, and the checkpoint that searches are complete up to
//! runs      a stretch of a log's entries: [first, behind), the root of the tree that ends there, the span
//!           of their times
//! postings  run, key, leaf, time; in this order
//! ```
//! Keys are random, so rows in the order of their keys alone would each dirty a page of their own. Within a
//! run they come sorted, and a new run stands behind all others: its pages are written once, one after the
//! other. Small runs are merged, so that there are few: one for each 65536 to 131071 entries, and some at the end. A search looks into
//! each run in turn, which is in the order of the log.
//!
//! All of it is made of published bundles and can be made again, so only what SQLite itself needs is
//! synced (WAL, `synchronous=NORMAL`): loss of power may cost the last runs, not the order of those before.

use super::query::{Criterion, Keys, Query};
use crate::store::StoreError;
use crate::store::sqlite::{connections, database};
use countersign_verify::merkle::Hash;
use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Row as _, Sqlite, SqliteConnection, SqlitePool, Transaction};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

/// Entries that are written as one run: some 40 MB of postings in memory.
pub const RUN: usize = 65_536;

/// Postings after which a run ends, however few entries they are of: a certificate may have thousands of names.
pub const POSTINGS: usize = 8 * RUN;

/// Rows of one statement: SQLite takes 32766 bound values, and longer statements are not faster.
const ROWS: usize = 1000;

/// A search ends its page after the first run that is looked through later than this.
const PATIENCE: Duration = Duration::from_millis(25);

/// The version of the tables below.
const VERSION: i64 = 1;

/// An index file.
#[derive(Clone, Debug)]
pub struct Postings {
    pool: SqlitePool,
    /// One connection for [`add`](Self::add), which is opened by whoever does that: SQLite's work is then done with
    /// the priority of that thread.
    adding: SqlitePool,
}

/// One log of an index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogNumber(i64);

/// That an entry has a key.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Posting {
    /// See [`Facts::keys`](super::Facts::keys).
    pub key: Vec<u8>,
    /// The entry's index.
    pub leaf: u64,
    /// Its time, seconds since the epoch.
    pub time: Option<i64>,
}

/// A stretch of a log's entries.
#[derive(Clone, Debug)]
pub struct Run {
    /// Indices of its entries.
    pub entries: Range<u64>,
    /// The root of the tree that ends with them.
    pub root: Hash,
    /// In any order.
    pub postings: Vec<Posting>,
}

/// Entries of one log, in its order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// Their indices.
    pub leaves: Vec<u64>,
    /// All entries before this index have been looked through.
    pub behind: u64,
}

impl Postings {
    /// Opens the file at `path`. One that is no index, or of another version, is replaced by an empty one.
    ///
    /// # Errors
    /// When there can be no file.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        match Self::try_open(path).await {
            Ok(opened) => return Ok(opened),
            Err(error) => tracing::warn!(%error, path = %path.display(), "the index is made anew"),
        }
        remove(path)?;
        Self::try_open(path).await
    }

    async fn try_open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(30))
            .pragma("cache_size", "-32768"); // 32 MiB: what a merge sorts
        let pool = connections().connect_with(options.clone()).await;
        let pool = pool.map_err(database("open the index"))?;
        let adding = connections().max_connections(1).connect_lazy_with(options);
        let failed = database("make the index");
        let version: i64 =
            sqlx::query_scalar("PRAGMA user_version").fetch_one(&pool).await.map_err(&failed)?;
        if version != 0 && version != VERSION {
            return Err(StoreError::Row { table: "an index of another version" });
        }
        for statement in [
            "CREATE TABLE IF NOT EXISTS logs (
                id INTEGER PRIMARY KEY,
                log_id BLOB NOT NULL UNIQUE,
                checkpoint TEXT
            ) STRICT",
            "CREATE TABLE IF NOT EXISTS runs (
                id INTEGER PRIMARY KEY AUTOINCREMENT,
                log INTEGER NOT NULL REFERENCES logs (id),
                first INTEGER NOT NULL,
                behind INTEGER NOT NULL,
                root BLOB NOT NULL,
                since INTEGER,
                until INTEGER
            ) STRICT",
            "CREATE TABLE IF NOT EXISTS postings (
                run INTEGER NOT NULL,
                key BLOB NOT NULL,
                leaf INTEGER NOT NULL,
                time INTEGER,
                PRIMARY KEY (run, key, leaf)
            ) STRICT, WITHOUT ROWID",
            "PRAGMA user_version = 1",
        ] {
            sqlx::query(statement).execute(&pool).await.map_err(&failed)?;
        }
        Ok(Self { pool, adding })
    }

    /// The number of the log with that ID, given when it is first asked for.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn log(&self, log_id: &[u8; 32]) -> Result<LogNumber, StoreError> {
        let failed = database("name a log in the index");
        sqlx::query("INSERT INTO logs (log_id) VALUES (?) ON CONFLICT DO NOTHING")
            .bind(&log_id[..])
            .execute(&self.pool)
            .await
            .map_err(&failed)?;
        let id = sqlx::query_scalar("SELECT id FROM logs WHERE log_id = ?").bind(&log_id[..]);
        id.fetch_one(&self.pool).await.map(LogNumber).map_err(&failed)
    }

    /// The signed note that searches are complete up to; `None` before the first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn checkpoint(&self, log: LogNumber) -> Result<Option<String>, StoreError> {
        let note = sqlx::query_scalar("SELECT checkpoint FROM logs WHERE id = ?").bind(log.0);
        note.fetch_one(&self.pool).await.map_err(database("read the index"))
    }

    /// How many entries are indexed, and the root of the tree that ends with them. It may be more than the
    /// checkpoint has, when whoever wrote them was interrupted.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn position(&self, log: LogNumber) -> Result<Option<(u64, Hash)>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(database("read the index"))?;
        position(&mut connection, log).await
    }

    /// Adds the run that follows the last one; with `checkpoint`, searches are complete up to that. Both
    /// or neither. Returns false, and does nothing, when the run does not follow: somebody else added it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn add(
        &self,
        log: LogNumber,
        mut run: Run,
        checkpoint: Option<&str>,
    ) -> Result<bool, StoreError> {
        run.postings.sort_unstable();
        let failed = database("write the index");
        let begun = self.adding.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.map_err(&failed)?;
        let position = position(&mut transaction, log).await?;
        if position.map_or(0, |(size, _)| size) != run.entries.start {
            return Ok(false);
        }
        if !run.entries.is_empty() {
            write(&mut transaction, log, &run).await?;
        }
        if let Some(note) = checkpoint {
            sqlx::query("UPDATE logs SET checkpoint = ? WHERE id = ?")
                .bind(note)
                .bind(log.0)
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
            // What no checkpoint covers yet may have to be removed, so it is not merged.
            while merge(&mut transaction, log).await? {}
        }
        transaction.commit().await.map_err(&failed)?;
        // Restart finds the run and its checkpoint, or neither and reads the entries again.
        Ok(true)
    }

    /// Removes the runs that begin at `size` or later; from 0 on the checkpoint too.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn rewind(&self, log: LogNumber, size: u64) -> Result<(), StoreError> {
        let failed = database("rewind the index");
        let begun = self.pool.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.map_err(&failed)?;
        let runs = sqlx::query_scalar("SELECT id FROM runs WHERE log = ? AND first >= ?")
            .bind(log.0)
            .bind(signed(size))
            .fetch_all(&mut *transaction)
            .await
            .map_err(&failed)?;
        drop_runs(&mut transaction, &runs).await?;
        if size == 0 {
            sqlx::query("UPDATE logs SET checkpoint = NULL WHERE id = ?")
                .bind(log.0)
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    /// Looks for entries with an index in `within`, at most `limit` of them. Less than all of `within` is
    /// looked through when there are so many, or when it takes long.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn find(
        &self,
        log: LogNumber,
        query: &Query,
        within: Range<u64>,
        limit: usize,
    ) -> Result<Found, StoreError> {
        let started = Instant::now();
        let failed = database("search the index");
        let search = Search::new(query);
        // One view of the file, whatever is merged meanwhile.
        let mut view = self.pool.begin().await.map_err(&failed)?;
        let runs = search.runs(&mut view, log, &within).await?;
        let mut leaves = Vec::new();
        for (run, behind) in runs {
            let wanted = limit - leaves.len();
            let mut found = search.run(&mut view, run, &within, wanted).await?;
            let full = found.len() == wanted;
            leaves.append(&mut found);
            if full {
                let behind = leaves.last().map_or(within.start, |last| last + 1);
                return Ok(Found { leaves, behind });
            }
            if started.elapsed() > PATIENCE && behind < within.end {
                return Ok(Found { leaves, behind });
            }
        }
        Ok(Found { leaves, behind: within.end })
    }

    /// How many postings there are of the first `size` entries, and a sum over them that does not depend on
    /// their runs: SHA-256 of each, the first 16 bytes of them added up.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn sum(&self, log: LogNumber, size: u64) -> Result<(u64, u128), StoreError> {
        let failed = database("read the index");
        let mut rows = sqlx::query(
            "SELECT key, leaf, time FROM postings
             WHERE run IN (SELECT id FROM runs WHERE log = ?) AND leaf < ?",
        )
        .bind(log.0)
        .bind(signed(size))
        .fetch(&self.pool);
        let (mut count, mut sum) = (0, 0_u128);
        while let Some(row) = rows.try_next().await.map_err(&failed)? {
            let (key, leaf): (&[u8], i64) = (get(&row, 0)?, get(&row, 1)?);
            let time: Option<i64> = get(&row, 2)?;
            let time = time.unwrap_or(i64::MIN).to_be_bytes();
            let hash = Hash::of(&[key, &leaf.to_be_bytes(), &time].concat());
            let first = hash.as_bytes().first_chunk().expect("32 bytes have a first 16");
            sum = sum.wrapping_add(u128::from_be_bytes(*first));
            count += 1;
        }
        Ok((count, sum))
    }

    /// Waits for running statements and closes the file.
    pub async fn close(&self) {
        self.adding.close().await;
        self.pool.close().await;
    }
}

/// Removes an index file, and what SQLite has beside it.
///
/// # Errors
/// When there is one and it cannot be removed.
pub fn remove(path: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let (path, source) = (name.display().to_string(), std::sync::Arc::new(error));
                return Err(StoreError::Io { operation: "remove", path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

async fn position(
    connection: &mut SqliteConnection,
    log: LogNumber,
) -> Result<Option<(u64, Hash)>, StoreError> {
    let row = sqlx::query("SELECT behind, root FROM runs WHERE log = ? ORDER BY id DESC LIMIT 1")
        .bind(log.0)
        .fetch_optional(connection)
        .await
        .map_err(database("read the index"))?;
    let Some(row) = row else { return Ok(None) };
    let (behind, root): (i64, &[u8]) = (get(&row, 0)?, get(&row, 1)?);
    let root = Hash::try_from(root).map_err(|_| StoreError::Row { table: "runs" })?;
    Ok(Some((unsigned(behind), root)))
}

async fn write(
    transaction: &mut Transaction<'_, Sqlite>,
    log: LogNumber,
    run: &Run,
) -> Result<(), StoreError> {
    let times = || run.postings.iter().filter_map(|posting| posting.time);
    let failed = database("write the index");
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO runs (log, first, behind, root, since, until) VALUES (?, ?, ?, ?, ?, ?)
         RETURNING id",
    )
    .bind(log.0)
    .bind(signed(run.entries.start))
    .bind(signed(run.entries.end))
    .bind(&run.root.as_bytes()[..])
    .bind(times().min())
    .bind(times().max())
    .fetch_one(&mut **transaction)
    .await
    .map_err(&failed)?;
    let full = insert(ROWS);
    for rows in run.postings.chunks(ROWS) {
        // Question marks and a number of ours: nothing of the entries is in the statement's text.
        let statement = if rows.len() == ROWS { full.clone() } else { insert(rows.len()) };
        let mut query = sqlx::query(AssertSqlSafe(statement));
        for Posting { key, leaf, time } in rows {
            query = query.bind(id).bind(&key[..]).bind(signed(*leaf)).bind(time);
        }
        query.execute(&mut **transaction).await.map_err(&failed)?;
    }
    Ok(())
}

fn insert(rows: usize) -> String {
    let values = vec!["(?,?,?,?)"; rows].join(",");
    format!("INSERT INTO postings (run, key, leaf, time) VALUES {values}")
}

/// Merges the last runs of a log into one, if that is due.
async fn merge(
    transaction: &mut Transaction<'_, Sqlite>,
    log: LogNumber,
) -> Result<bool, StoreError> {
    let failed = database("merge runs of the index");
    let rows = sqlx::query("SELECT id, first, behind FROM runs WHERE log = ? ORDER BY id")
        .bind(log.0)
        .fetch_all(&mut **transaction)
        .await
        .map_err(&failed)?;
    let size = |row| Ok(unsigned(get::<i64>(row, 2)?) - unsigned(get::<i64>(row, 1)?));
    let sizes = rows.iter().map(size).collect::<Result<Vec<_>, StoreError>>()?;
    let Some(from) = due(&sizes) else { return Ok(false) };
    let runs = rows[from..].iter().map(|row| get(row, 0)).collect::<Result<Vec<i64>, _>>()?;
    let list = numbers(&runs);
    let merged: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
        "INSERT INTO runs (log, first, behind, root, since, until)
         SELECT log, min(first), max(behind), (SELECT root FROM runs WHERE id = {last}), min(since),
         max(until) FROM runs WHERE id IN ({list}) RETURNING id",
        last = runs[runs.len() - 1],
    )))
    .fetch_one(&mut **transaction)
    .await
    .map_err(&failed)?;
    sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO postings (run, key, leaf, time) SELECT {merged}, key, leaf, time FROM postings
         WHERE run IN ({list}) ORDER BY key, leaf"
    )))
    .execute(&mut **transaction)
    .await
    .map_err(&failed)?;
    drop_runs(transaction, &runs).await?;
    Ok(true)
}

/// From which run on all are to be one: sixteen of about the same size, with the smaller ones behind them,
/// or enough for a full one. A run's entries are so written again four times at most.
fn due(sizes: &[u64]) -> Option<usize> {
    [16, 256, 4096, RUN as u64].into_iter().find_map(|below| {
        let from = sizes.iter().rposition(|size| *size >= below).map_or(0, |last| last + 1);
        let smaller = &sizes[from..];
        let alike = smaller.iter().filter(|size| **size >= below / 16).count();
        let full = smaller.len() > 1 && smaller.iter().sum::<u64>() >= RUN as u64;
        (alike >= 16 || full).then_some(from)
    })
}

async fn drop_runs(
    transaction: &mut Transaction<'_, Sqlite>,
    runs: &[i64],
) -> Result<(), StoreError> {
    let list = numbers(runs);
    for statement in [
        format!("DELETE FROM postings WHERE run IN ({list})"),
        format!("DELETE FROM runs WHERE id IN ({list})"),
    ] {
        let deleted = sqlx::query(AssertSqlSafe(statement)).execute(&mut **transaction).await;
        deleted.map_err(database("remove runs of the index"))?;
    }
    Ok(())
}

fn numbers(numbers: &[i64]) -> String {
    numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

/// The statement that looks through one run, with what it binds after run, span and before the limit.
struct Search {
    statement: String,
    keys: Vec<Keys>,
    times: (Option<i64>, Option<i64>),
}

impl Search {
    fn new(query: &Query) -> Self {
        let (first, rest) = query.plan();
        // 1 run, 2 and 3 span, 4 and 5 times, 6 limit; then the keys.
        let mut next = 7;
        let mut condition = |row: &str, keys: &Keys| {
            let number = next;
            next += match keys {
                Keys::One(_) => 1,
                Keys::Range(..) => 3,
            };
            match keys {
                Keys::One(_) => format!("{row}.key = ?{number}"),
                Keys::Range(..) => format!(
                    "{row}.key >= ?{number} AND {row}.key < ?{}
                     AND CAST(substr({row}.key, 2) AS TEXT) GLOB ?{}",
                    number + 1,
                    number + 2
                ),
            }
        };
        let keys: Vec<Keys> = std::iter::once(&first).chain(rest).map(Criterion::keys).collect();
        // An entry may have several names that match.
        let distinct = if matches!(keys[0], Keys::Range(..)) { "DISTINCT" } else { "" };
        let mut statement = format!(
            "SELECT {distinct} p.leaf FROM postings p WHERE p.run = ?1 AND {}
             AND p.leaf >= ?2 AND p.leaf < ?3
             AND (?4 IS NULL OR p.time >= ?4) AND (?5 IS NULL OR p.time <= ?5)",
            condition("p", &keys[0])
        );
        for keys in &keys[1..] {
            let condition = condition("q", keys);
            let all = "SELECT q.leaf FROM postings q WHERE q.run = ?1 AND";
            let written = match keys {
                Keys::One(_) => {
                    write!(statement, " AND EXISTS ({all} {condition} AND q.leaf = p.leaf)")
                }
                // Looked through once a run, not once an entry.
                Keys::Range(..) => write!(statement, " AND p.leaf IN ({all} {condition})"),
            };
            written.expect("memory is the only limit");
        }
        statement.push_str(" ORDER BY p.leaf LIMIT ?6");
        Self { statement, keys, times: query.times() }
    }

    /// The runs that have each of the keys, and may have the time: their numbers, and where they end.
    async fn runs(
        &self,
        view: &mut SqliteConnection,
        log: LogNumber,
        within: &Range<u64>,
    ) -> Result<Vec<(i64, u64)>, StoreError> {
        let mut statement =
            "SELECT id, behind FROM runs WHERE log = ?1 AND behind > ?2 AND first < ?3
             AND (?4 IS NULL OR until >= ?4) AND (?5 IS NULL OR since <= ?5)"
                .to_owned();
        let mut next = 6;
        for keys in &self.keys {
            let condition = match keys {
                Keys::One(_) => format!("p.key = ?{next}"),
                Keys::Range(..) => format!("p.key >= ?{next} AND p.key < ?{}", next + 1),
            };
            next += match keys {
                Keys::One(_) => 1,
                Keys::Range(..) => 2,
            };
            write!(
                statement,
                " AND EXISTS (SELECT 1 FROM postings p WHERE p.run = runs.id AND {condition})"
            )
            .expect("memory is the only limit");
        }
        statement.push_str(" ORDER BY id");
        // Of the caller only bound values.
        let mut query = sqlx::query(AssertSqlSafe(statement))
            .bind(log.0)
            .bind(signed(within.start))
            .bind(signed(within.end))
            .bind(self.times.0)
            .bind(self.times.1);
        for keys in &self.keys {
            query = match keys {
                Keys::One(key) => query.bind(&key[..]),
                Keys::Range(first, end, _) => query.bind(&first[..]).bind(&end[..]),
            };
        }
        let rows = query.fetch_all(view).await.map_err(database("search the index"))?;
        rows.iter().map(|row| Ok((get(row, 0)?, unsigned(get(row, 1)?)))).collect()
    }

    async fn run(
        &self,
        view: &mut SqliteConnection,
        run: i64,
        within: &Range<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, StoreError> {
        // Of the caller only bound values.
        let mut query = sqlx::query_scalar(AssertSqlSafe(self.statement.clone()))
            .bind(run)
            .bind(signed(within.start))
            .bind(signed(within.end))
            .bind(self.times.0)
            .bind(self.times.1)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        for keys in &self.keys {
            query = match keys {
                Keys::One(key) => query.bind(&key[..]),
                Keys::Range(first, end, glob) => {
                    query.bind(&first[..]).bind(&end[..]).bind(&glob[..])
                }
            };
        }
        let leaves: Vec<i64> = query.fetch_all(view).await.map_err(database("search the index"))?;
        Ok(leaves.into_iter().map(unsigned).collect())
    }
}

/// A column, as this program writes it.
fn get<'r, T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>>(
    row: &'r SqliteRow,
    column: usize,
) -> Result<T, StoreError> {
    row.try_get(column).map_err(|_| StoreError::Row { table: "the index" })
}

/// SQLite's numbers are signed; a tree has fewer than 2^63 leaves.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The inverse; nothing below 0 is ever written.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However entries come, a log of many has few runs, and none is written again often.
    #[test]
    fn runs_are_merged_to_few_and_each_entry_a_few_times() {
        for step in [1, 3, 100, 5000, 40_000, RUN as u64] {
            let (mut sizes, mut entries, mut written) = (Vec::new(), 0_u64, 0_u64);
            while entries < 1_000_000 {
                entries += step;
                sizes.push(step);
                while let Some(from) = due(&sizes) {
                    let merged = sizes.drain(from..).sum();
                    written += merged;
                    sizes.push(merged);
                }
            }
            let small = sizes.iter().filter(|size| **size < RUN as u64).count();
            assert!(small < 4 * 16, "{step}: {sizes:?}");
            assert!(sizes.iter().all(|size| *size < 2 * RUN as u64), "{step}: {sizes:?}");
            assert!(written <= 4 * entries, "{step}: {}", written / entries);
        }
    }
}
