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
//! other. Small runs are merged, so that there are few: one for each 16384 to 32767 entries, and some at the end. A
//! search looks into each run in turn, which is in the order of the log.
//!
//! All of it is made of published bundles and can be made again, so only what SQLite itself needs is
//! synced (WAL, `synchronous=NORMAL`): loss of power may cost the last runs, not the order of those before.

use super::query::{Criterion, Keys, Query};
use crate::database::Database;
use crate::store::StoreError;
use countersign_verify::merkle::Hash;
use rusqlite::types::Value;
use rusqlite::{
    Connection, OptionalExtension as _, Transaction, TransactionBehavior, params_from_iter,
};
use std::fmt::Write as _;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Entries that are written as one run: some 10 MB of postings in memory. Batches of the log wait for the disk while as much
/// is synced; with four times as many, often longer than 20 ms.
pub const RUN: usize = 16_384;

/// Postings after which a run ends, however few entries they are of: a certificate may have thousands of names.
pub const POSTINGS: usize = 8 * RUN;

/// A search ends its page after the first run that is looked through later than this.
const PATIENCE: Duration = Duration::from_millis(25);

/// The version of the tables below.
const VERSION: i64 = 1;

/// A merge sorts in the cache of 32 MiB, and others that write wait for it, up to 30 seconds.
const PRAGMAS: &str =
    "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -32768; PRAGMA busy_timeout = 30000";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS logs (
        id INTEGER PRIMARY KEY,
        log_id BLOB NOT NULL UNIQUE,
        checkpoint TEXT
    ) STRICT;
    CREATE TABLE IF NOT EXISTS runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        log INTEGER NOT NULL REFERENCES logs (id),
        first INTEGER NOT NULL,
        behind INTEGER NOT NULL,
        root BLOB NOT NULL,
        since INTEGER,
        until INTEGER
    ) STRICT;
    CREATE TABLE IF NOT EXISTS postings (
        run INTEGER NOT NULL,
        key BLOB NOT NULL,
        leaf INTEGER NOT NULL,
        time INTEGER,
        PRIMARY KEY (run, key, leaf)
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1";

/// An index file.
#[derive(Clone, Debug)]
pub struct Postings {
    database: Database,
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
        let database = Database::open(path, PRAGMAS, "").await?;
        let read = |connection: &mut Connection| {
            connection.query_row("PRAGMA user_version", [], |row| row.get(0))
        };
        let version: i64 = database.run("read the index", read).await?;
        if ![0, VERSION].contains(&version) {
            let found = format!("it has version {version}, expected {VERSION}");
            let (path, source) = (path.display().to_string(), Arc::new(io::Error::other(found)));
            return Err(StoreError::Io { operation: "use the index", path, source });
        }
        database.run("make the index", |connection| connection.execute_batch(TABLES)).await?;
        Ok(Self { database })
    }

    /// The number of the log with that ID, given when it is first asked for.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn log(&self, log_id: &[u8; 32]) -> Result<LogNumber, StoreError> {
        let log_id = *log_id;
        let number = self.database.run("name a log in the index", move |connection| {
            let name = "INSERT INTO logs (log_id) VALUES (?1) ON CONFLICT DO NOTHING";
            connection.execute(name, [&log_id])?;
            connection.query_row("SELECT id FROM logs WHERE log_id = ?1", [&log_id], |row| {
                row.get(0).map(LogNumber)
            })
        });
        number.await
    }

    /// The signed note that searches are complete up to; `None` before the first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn checkpoint(&self, log: LogNumber) -> Result<Option<String>, StoreError> {
        let note = "SELECT checkpoint FROM logs WHERE id = ?1";
        let read = move |connection: &mut Connection| {
            connection.query_row(note, [log.0], |row| row.get(0))
        };
        self.database.run("read the index", read).await
    }

    /// How many entries are indexed, and the root of the tree that ends with them. It may be more than the
    /// checkpoint has, when whoever wrote them was interrupted.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn position(&self, log: LogNumber) -> Result<Option<(u64, Hash)>, StoreError> {
        self.database.run("read the index", move |connection| position(connection, log)).await
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
        let checkpoint = checkpoint.map(str::to_owned);
        let added = self.database.run("write the index", move |connection| {
            run.postings.sort_unstable();
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let position = position(&transaction, log)?;
            if position.map_or(0, |(size, _)| size) != run.entries.start {
                return Ok(false);
            }
            if !run.entries.is_empty() {
                write(&transaction, log, &run)?;
            }
            if let Some(note) = checkpoint {
                transaction
                    .execute("UPDATE logs SET checkpoint = ?1 WHERE id = ?2", (note, log.0))?;
                // What no checkpoint covers yet may have to be removed, so it is not merged.
                while merge(&transaction, log)? {}
            }
            transaction.commit()?;
            // Restart finds the run and its checkpoint, or neither and reads the entries again.
            Ok(true)
        });
        added.await
    }

    /// Removes the runs that begin at `size` or later; from 0 on the checkpoint too.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn rewind(&self, log: LogNumber, size: u64) -> Result<(), StoreError> {
        let rewound = self.database.run("rewind the index", move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let runs: Vec<i64> = transaction
                .prepare("SELECT id FROM runs WHERE log = ?1 AND first >= ?2")?
                .query_map((log.0, signed(size)), |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            drop_runs(&transaction, &runs)?;
            if size == 0 {
                transaction.execute("UPDATE logs SET checkpoint = NULL WHERE id = ?1", [log.0])?;
            }
            transaction.commit()
        });
        rewound.await
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
        let (started, search) = (Instant::now(), Search::new(query));
        let found = self.database.run("search the index", move |connection| {
            // One view of the file, whatever is merged meanwhile.
            let view = connection.transaction()?;
            let mut leaves = Vec::new();
            for (run, behind) in search.runs(&view, log, &within)? {
                let wanted = limit - leaves.len();
                let mut found = search.run(&view, run, &within, wanted)?;
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
        });
        found.await
    }

    /// How many postings there are of the first `size` entries, and a sum over them that does not depend on
    /// their runs: SHA-256 of each, the first 16 bytes of them added up.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn sum(&self, log: LogNumber, size: u64) -> Result<(u64, u128), StoreError> {
        let summed = self.database.run("read the index", move |connection| {
            let mut postings = connection.prepare(
                "SELECT key, leaf, time FROM postings
                 WHERE run IN (SELECT id FROM runs WHERE log = ?1) AND leaf < ?2",
            )?;
            let mut rows = postings.query((log.0, signed(size)))?;
            let (mut count, mut sum) = (0, 0_u128);
            while let Some(row) = rows.next()? {
                let (key, leaf): (Vec<u8>, i64) = (row.get(0)?, row.get(1)?);
                let time = row.get::<_, Option<i64>>(2)?.unwrap_or(i64::MIN).to_be_bytes();
                let hash = Hash::of(&[&key[..], &leaf.to_be_bytes(), &time].concat());
                let first = hash.as_bytes().first_chunk().expect("32 bytes have a first 16");
                sum = sum.wrapping_add(u128::from_be_bytes(*first));
                count += 1;
            }
            Ok((count, sum))
        });
        summed.await
    }

    /// Waits for running statements and closes the file.
    pub async fn close(&self) {
        self.database.close().await;
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
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let (path, source) = (name.display().to_string(), Arc::new(error));
                return Err(StoreError::Io { operation: "remove", path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn position(
    connection: &Connection,
    log: LogNumber,
) -> Result<Option<(u64, Hash)>, rusqlite::Error> {
    let last = "SELECT behind, root FROM runs WHERE log = ?1 ORDER BY id DESC LIMIT 1";
    let last = connection
        .query_row(last, [log.0], |row| Ok((unsigned(row.get(0)?), Hash::new(row.get(1)?))));
    last.optional()
}

fn write(transaction: &Transaction<'_>, log: LogNumber, run: &Run) -> Result<(), rusqlite::Error> {
    let times = || run.postings.iter().filter_map(|posting| posting.time);
    let (first, behind) = (signed(run.entries.start), signed(run.entries.end));
    let (root, since, until) = (run.root.as_bytes(), times().min(), times().max());
    transaction.execute(
        "INSERT INTO runs (log, first, behind, root, since, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (log.0, first, behind, root, since, until),
    )?;
    let id = transaction.last_insert_rowid();
    let mut posting = transaction
        .prepare_cached("INSERT INTO postings (run, key, leaf, time) VALUES (?1, ?2, ?3, ?4)")?;
    for Posting { key, leaf, time } in &run.postings {
        posting.execute((id, key, signed(*leaf), time))?;
    }
    Ok(())
}

/// Merges the last runs of a log into one, if that is due.
fn merge(transaction: &Transaction<'_>, log: LogNumber) -> Result<bool, rusqlite::Error> {
    let runs: Vec<(i64, u64)> = transaction
        .prepare_cached("SELECT id, behind - first FROM runs WHERE log = ?1 ORDER BY id")?
        .query_map([log.0], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?
        .collect::<Result<_, _>>()?;
    let (runs, sizes): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
    let Some(from) = due(&sizes) else { return Ok(false) };
    let (runs, last) = (&runs[from..], runs[runs.len() - 1]);
    let list = numbers(runs);
    transaction.execute(
        &format!(
            "INSERT INTO runs (log, first, behind, root, since, until)
             SELECT log, min(first), max(behind), (SELECT root FROM runs WHERE id = {last}),
             min(since), max(until) FROM runs WHERE id IN ({list})"
        ),
        [],
    )?;
    let merged = transaction.last_insert_rowid();
    transaction.execute(
        &format!(
            "INSERT INTO postings (run, key, leaf, time) SELECT {merged}, key, leaf, time
             FROM postings WHERE run IN ({list}) ORDER BY key, leaf"
        ),
        [],
    )?;
    drop_runs(transaction, runs)?;
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

fn drop_runs(transaction: &Transaction<'_>, runs: &[i64]) -> Result<(), rusqlite::Error> {
    let list = numbers(runs);
    transaction.execute(&format!("DELETE FROM postings WHERE run IN ({list})"), [])?;
    transaction.execute(&format!("DELETE FROM runs WHERE id IN ({list})"), [])?;
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
    fn runs(
        &self,
        view: &Connection,
        log: LogNumber,
        within: &Range<u64>,
    ) -> Result<Vec<(i64, u64)>, rusqlite::Error> {
        let mut statement =
            "SELECT id, behind FROM runs WHERE log = ?1 AND behind > ?2 AND first < ?3
             AND (?4 IS NULL OR until >= ?4) AND (?5 IS NULL OR since <= ?5)"
                .to_owned();
        let (since, until) = self.times;
        let mut values: Vec<Value> = vec![
            log.0.into(),
            signed(within.start).into(),
            signed(within.end).into(),
            since.into(),
            until.into(),
        ];
        for keys in &self.keys {
            let next = values.len() + 1;
            let condition = match keys {
                Keys::One(key) => {
                    values.push(key.clone().into());
                    format!("p.key = ?{next}")
                }
                Keys::Range(first, end, _) => {
                    values.extend([first.clone().into(), end.clone().into()]);
                    format!("p.key >= ?{next} AND p.key < ?{}", next + 1)
                }
            };
            write!(
                statement,
                " AND EXISTS (SELECT 1 FROM postings p WHERE p.run = runs.id AND {condition})"
            )
            .expect("memory is the only limit");
        }
        statement.push_str(" ORDER BY id");
        // Of the caller only bound values.
        let mut runs = view.prepare_cached(&statement)?;
        let runs = runs
            .query_map(params_from_iter(values), |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
        runs.collect()
    }

    fn run(
        &self,
        view: &Connection,
        run: i64,
        within: &Range<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, rusqlite::Error> {
        let (since, until) = self.times;
        let mut values: Vec<Value> = vec![
            run.into(),
            signed(within.start).into(),
            signed(within.end).into(),
            since.into(),
            until.into(),
            i64::try_from(limit).unwrap_or(i64::MAX).into(),
        ];
        for keys in &self.keys {
            match keys {
                Keys::One(key) => values.push(key.clone().into()),
                Keys::Range(first, end, glob) => {
                    values.extend([first.clone().into(), end.clone().into(), glob.clone().into()]);
                }
            }
        }
        // Of the caller only bound values.
        let mut leaves = view.prepare_cached(&self.statement)?;
        let leaves = leaves.query_map(params_from_iter(values), |row| Ok(unsigned(row.get(0)?)))?;
        leaves.collect()
    }
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
        for step in [1, 3, 100, 5000, 10_000, RUN as u64] {
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
