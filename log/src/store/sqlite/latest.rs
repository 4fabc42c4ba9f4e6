//! Where the latest entries of a log are, in memory and in the database.
//!
//! Identities are random, so each row of the table that has them sorted is in a page of its own. The latest stand in
//! another one instead, a row for each swap, and are found in memory. When there are enough, they are put into the
//! sorted table in order, a few with each swap: many of them share a page then. What was put there and still stands
//! here, because the process ended meanwhile, is put there again, which changes nothing.

use super::immediate;
use countersign_verify::merkle::Hash;
use rusqlite::types::Type;
use rusqlite::{Connection, Transaction, ffi};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;

/// A row's number says of which log it is, and the index of its first entry, see [`row`].
pub(super) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS latest (
        row INTEGER PRIMARY KEY,
        identities BLOB NOT NULL
    ) STRICT";

/// The rows of one log stand together, in its order: a log has fewer than 2^48 entries, a database fewer than 2^15 logs.
fn row(log: i64, first: u64) -> i64 {
    (log << INDEX_BITS) + i64::try_from(first).unwrap_or(i64::MAX)
}

const INDEX_BITS: u32 = 48;

/// Entries from which on they are put away: twice as many take some 10 MB of memory, and putting as many away at once
/// takes less than a second.
pub(super) const ENOUGH: usize = 65_536;

/// How many are put away for each that comes, so that all are before there are enough of those that come.
const FASTER: usize = 2;

/// Rows that a swap removes at most, when all of their entries are put away: no swap takes long.
const REMOVED: usize = 8;

/// The entries of one log that are not put away, or not known to be.
#[derive(Debug, Default)]
pub(super) struct Latest {
    coming: BTreeMap<Hash, u64>,
    /// Those that are being put away, in this order.
    leaving: BTreeMap<Hash, u64>,
    /// The index at which `coming` begins. Rows before it are removed once nothing is leaving.
    first: u64,
    /// Whether there are such rows.
    behind: bool,
}

/// What a swap changes, once it is committed.
pub(super) struct Change {
    first: u64,
    put: usize,
    behind: bool,
}

impl Latest {
    /// Reads those of one log. If there are enough, all are put away at once: where processes end early, ever more would
    /// wait.
    pub(super) fn read(connection: &mut Connection, log: i64) -> Result<Self, rusqlite::Error> {
        let latest = Self::waiting(connection, log)?;
        if latest.coming.len() < ENOUGH {
            return Ok(latest);
        }
        latest.put_all_away(connection, log)?;
        Ok(Self::default())
    }

    fn waiting(connection: &Connection, log: i64) -> Result<Self, rusqlite::Error> {
        let rows = "SELECT row, identities FROM latest WHERE row >= ?1 AND row < ?2";
        let mut rows = connection.prepare_cached(rows)?;
        let mut rows = rows.query([row(log, 0), row(log + 1, 0)])?;
        let mut latest = Self::default();
        while let Some(found) = rows.next()? {
            let first = (found.get::<_, i64>(0)? - row(log, 0)).cast_unsigned();
            let (identities, rest) = found.get_ref(1)?.as_blob()?.as_chunks::<32>();
            if !rest.is_empty() {
                let told = "a row of the latest entries is damaged; `countersign log reindex` makes the table anew";
                return Err(rusqlite::Error::FromSqlConversionFailure(1, Type::Blob, told.into()));
            }
            let identities = identities.iter().map(|identity| Hash::new(*identity));
            latest.coming.extend(identities.zip(first..));
        }
        Ok(latest)
    }

    pub(super) fn get(&self, identity: &Hash) -> Option<u64> {
        self.coming.get(identity).or_else(|| self.leaving.get(identity)).copied()
    }

    /// Writes what a swap brings, and puts some away.
    pub(super) fn write(
        &mut self,
        transaction: &Transaction<'_>,
        log: i64,
        first: u64,
        identities: &[Hash],
    ) -> Result<Change, rusqlite::Error> {
        self.refuse_known(transaction, log, identities)?;
        if !self.behind && self.coming.len() >= ENOUGH {
            self.leaving = mem::take(&mut self.coming);
            (self.first, self.behind) = (first, true);
        }
        if !identities.is_empty() {
            let new = "INSERT INTO latest (row, identities) VALUES (?1, ?2)";
            let all: Vec<u8> =
                identities.iter().flat_map(|identity| *identity.as_bytes()).collect();
            transaction.prepare_cached(new)?.execute((row(log, first), all))?;
        }
        let put = self.leaving.len().min(FASTER * identities.len());
        put_away(transaction, log, self.leaving.iter().take(put))?;
        let mut behind = self.behind;
        if behind && self.leaving.is_empty() {
            let rows = "DELETE FROM latest WHERE row IN
                (SELECT row FROM latest WHERE row >= ?1 AND row < ?2 ORDER BY row LIMIT ?3)";
            let (begin, end) = (row(log, 0), row(log, self.first));
            let removed = transaction.prepare_cached(rows)?.execute((begin, end, REMOVED))?;
            behind = removed == REMOVED;
        }
        Ok(Change { first, put, behind })
    }

    /// Whoever swaps has looked them up; a tree with one entry twice could not be mended.
    fn refuse_known(
        &self,
        transaction: &Transaction<'_>,
        log: i64,
        identities: &[Hash],
    ) -> Result<(), rusqlite::Error> {
        let known = "SELECT 1 FROM leaves WHERE log = ?1 AND identity = ?2";
        let mut known = transaction.prepare_cached(known)?;
        let mut batch = BTreeSet::new();
        for identity in identities {
            let new = batch.insert(identity) && self.get(identity).is_none();
            if !new || known.exists((log, identity.as_bytes()))? {
                let told = Some("the log has this entry already".to_owned());
                let error = ffi::Error::new(ffi::SQLITE_CONSTRAINT_PRIMARYKEY);
                return Err(rusqlite::Error::SqliteFailure(error, told));
            }
        }
        Ok(())
    }

    /// The swap is committed.
    pub(super) fn changed(&mut self, change: Change, identities: &[Hash]) {
        for _ in 0..change.put {
            self.leaving.pop_first();
        }
        self.behind = change.behind;
        self.coming.extend(identities.iter().copied().zip(change.first..));
    }

    /// Puts all away.
    pub(super) fn put_all_away(
        mut self,
        connection: &mut Connection,
        log: i64,
    ) -> Result<(), rusqlite::Error> {
        self.leaving.append(&mut self.coming);
        let transaction = immediate(connection)?;
        put_away(&transaction, log, self.leaving.iter())?;
        remove(&transaction, log)?;
        transaction.commit()
    }
}

/// Removes all rows of a log.
pub(super) fn remove(connection: &Connection, log: i64) -> Result<(), rusqlite::Error> {
    let rows = "DELETE FROM latest WHERE row >= ?1 AND row < ?2";
    connection.execute(rows, [row(log, 0), row(log + 1, 0)]).map(drop)
}

impl Change {
    /// About how many pages were written.
    pub(super) fn pages(&self, identities: usize) -> u64 {
        (self.put + identities / 16 + 3) as u64
    }
}

/// Adds entries to the sorted table. One that is there already is the same one.
pub(super) fn put_away<'a>(
    connection: &Connection,
    log: i64,
    entries: impl Iterator<Item = (&'a Hash, &'a u64)>,
) -> Result<(), rusqlite::Error> {
    let add = "INSERT OR IGNORE INTO leaves (log, identity, leaf) VALUES (?1, ?2, ?3)";
    let mut add = connection.prepare_cached(add)?;
    for (identity, leaf) in entries {
        add.execute((log, identity.as_bytes(), leaf))?;
    }
    Ok(())
}
