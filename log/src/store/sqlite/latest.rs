//! Where the latest entries of a log are, in memory and in the database.
//!
//! Identities are random, so each row of the table that has them sorted is in a page of its own. The latest stand in
//! another one instead, a row for each swap, and are found in memory. When there are enough, they are put into the
//! sorted table in order, a few with each swap: many of them share a page then. What was put there and still stands
//! here, because the process ended meanwhile, is put there again, which changes nothing.

use super::immediate;
use countersign_verify::merkle::Hash;
use rusqlite::types::Type;
use rusqlite::{Connection, Transaction};
use std::cmp::Reverse;
use std::collections::HashMap;

pub(super) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS latest (
        id INTEGER PRIMARY KEY,
        log INTEGER NOT NULL REFERENCES logs (id),
        first INTEGER NOT NULL,
        identities BLOB NOT NULL
    ) STRICT";

/// Entries from which on they are put away: twice as many take some 10 MB of memory, and putting as many away at once
/// takes less than a second.
pub(super) const ENOUGH: usize = 65_536;

/// How many are put away for each that comes, so that all are before there are enough of those that come.
const FASTER: usize = 2;

/// The entries of one log that are not put away, or not known to be.
#[derive(Debug, Default)]
pub(super) struct Latest {
    coming: HashMap<Hash, u64>,
    /// Those that are being put away, the next one last.
    leaving: Vec<(Hash, u64)>,
    /// The index at which `coming` begins.
    first: u64,
}

/// What a swap changes, once it is committed.
pub(super) struct Change {
    first: u64,
    put: usize,
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
        let rows = "SELECT first, identities FROM latest WHERE log = ?1";
        let mut rows = connection.prepare_cached(rows)?;
        let mut rows = rows.query([log])?;
        let mut latest = Self::default();
        while let Some(row) = rows.next()? {
            let first: u64 = row.get(0)?;
            let (identities, rest) = row.get_ref(1)?.as_blob()?.as_chunks::<32>();
            if !rest.is_empty() {
                return Err(rusqlite::Error::InvalidColumnType(1, "identities".into(), Type::Blob));
            }
            let identities = identities.iter().map(|identity| Hash::new(*identity));
            latest.coming.extend(identities.zip(first..));
        }
        Ok(latest)
    }

    pub(super) fn get(&self, identity: &Hash) -> Option<u64> {
        self.coming.get(identity).copied().or_else(|| {
            let place = self.leaving.binary_search_by(|(other, _)| identity.cmp(other)).ok()?;
            Some(self.leaving[place].1)
        })
    }

    /// Writes what a swap brings, and puts some away.
    pub(super) fn write(
        &mut self,
        transaction: &Transaction<'_>,
        log: i64,
        first: u64,
        identities: &[Hash],
    ) -> Result<Change, rusqlite::Error> {
        if self.leaving.is_empty() && self.coming.len() >= ENOUGH {
            self.leaving.extend(self.coming.drain());
            self.leaving.sort_unstable_by_key(|(identity, _)| Reverse(*identity));
            self.first = first;
        }
        let put = self.leaving.len().min(FASTER * identities.len());
        if !identities.is_empty() {
            let row = "INSERT INTO latest (log, first, identities) VALUES (?1, ?2, ?3)";
            let all: Vec<u8> =
                identities.iter().flat_map(|identity| *identity.as_bytes()).collect();
            transaction.prepare_cached(row)?.execute((log, first, all))?;
        }
        if put > 0 {
            put_away(transaction, log, self.leaving.iter().rev().take(put))?;
        }
        if put > 0 && put == self.leaving.len() {
            let rows = "DELETE FROM latest WHERE log = ?1 AND first < ?2";
            transaction.execute(rows, (log, self.first))?;
        }
        Ok(Change { first, put })
    }

    /// The swap is committed.
    pub(super) fn changed(&mut self, change: Change, identities: &[Hash]) {
        self.leaving.truncate(self.leaving.len() - change.put);
        self.coming.extend(identities.iter().copied().zip(change.first..));
    }

    /// Puts all away.
    pub(super) fn put_all_away(
        mut self,
        connection: &mut Connection,
        log: i64,
    ) -> Result<(), rusqlite::Error> {
        self.leaving.extend(self.coming);
        self.leaving.sort_unstable();
        let transaction = immediate(connection)?;
        put_away(&transaction, log, self.leaving.iter())?;
        transaction.execute("DELETE FROM latest WHERE log = ?1", [log])?;
        transaction.commit()
    }
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
    entries: impl Iterator<Item = &'a (Hash, u64)>,
) -> Result<(), rusqlite::Error> {
    let add = "INSERT OR IGNORE INTO leaves (log, identity, leaf) VALUES (?1, ?2, ?3)";
    let mut add = connection.prepare_cached(add)?;
    for (identity, leaf) in entries {
        add.execute((log, identity.as_bytes(), leaf))?;
    }
    Ok(())
}
