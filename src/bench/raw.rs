//! What a queue cannot do without, done with rusqlite and nothing else: the raw sides of the measurements.
//!
//! Must never do more than that, nor be less durable than the queue: write-ahead log, `synchronous=FULL`.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::{Bench, BenchError, Halt};
use crate::job::JobSpec;

/// How many jobs one transaction of the raw drain settles, and how many it leases.
const BATCH: i64 = 512;
/// How many rows are made at once, and written between two looks at whether to stop.
const ROWS_AT_ONCE: usize = 8_192;

const INSERT: &str = "INSERT INTO job VALUES (NULL, 0, 0, 0, 0, 1700000000000, ?1, ?2)";
const SETTLE: &str = "UPDATE job SET state = 2, owner = 0, changed_at = 1700000000001
     WHERE id = ?1 AND state = 1 AND epoch = 1";
const LEASE: &str =
    "UPDATE job SET state = 1, epoch = epoch + 1, attempts = attempts + 1, owner = 1
     WHERE id = ?1 AND state = 0";

/// What looks after ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// Nobody: an id may come twice.
    Free,
    /// An index of SQLite's: an id comes once.
    Unique,
}

/// A new database with one table of jobs.
pub(super) fn open(path: &Path, ids: Ids) -> Result<Connection, BenchError> {
    let db = connect(path)?;
    let unique = match ids {
        Ids::Free => "",
        Ids::Unique => " UNIQUE",
    };
    db.execute_batch(&format!(
        "CREATE TABLE job (id INTEGER PRIMARY KEY, state INTEGER, epoch INTEGER, attempts INTEGER,
             owner INTEGER, changed_at INTEGER, artifact_id TEXT{unique}, payload TEXT);",
    ))?;
    Ok(db)
}

/// Another connection to it.
pub(super) fn connect(path: &Path) -> Result<Connection, BenchError> {
    let db = Connection::open(path)?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -32000;",
    )?;
    Ok(db)
}

/// Inserts a row for each with one prepared statement, so many in a transaction. How long it took to make them, which is no part of
/// the insert: they are made as they are needed, so that memory does not grow with their number.
pub(super) fn insert(
    db: &mut Connection,
    specs: impl Iterator<Item = JobSpec>,
    rows_in_transaction: usize,
    bench: &Bench,
) -> Result<Duration, BenchError> {
    let mut specs = specs.peekable();
    let mut making = Duration::ZERO;
    while specs.peek().is_some() {
        let transaction = db.transaction()?;
        let mut left = rows_in_transaction;
        while left > 0 && specs.peek().is_some() {
            bench.halt().check()?;
            let began = bench.clock().mono();
            let rows: Vec<JobSpec> = specs.by_ref().take(left.min(ROWS_AT_ONCE)).collect();
            making += bench.clock().mono().since(began);
            let mut row = transaction.prepare_cached(INSERT)?;
            for spec in &rows {
                row.execute((spec.artifact_id.as_str(), &spec.payload))?;
            }
            left -= rows.len();
        }
        transaction.commit()?;
    }
    Ok(making)
}

/// Inserts one row, commits it, and says which it is.
pub(super) fn insert_one(db: &Connection, spec: &JobSpec) -> Result<i64, BenchError> {
    db.prepare_cached(INSERT)?.execute((spec.artifact_id.as_str(), &spec.payload))?;
    Ok(db.last_insert_rowid())
}

/// Leases one row, and commits that.
pub(super) fn lease_one(db: &Connection, id: i64) -> Result<(), BenchError> {
    changed(db.prepare_cached(LEASE)?.execute([id])?)
}

/// Leases and settles rows 1 to `jobs`, an UPDATE each, one thread: each transaction settles one batch and leases the next.
pub(super) fn lease_and_settle(
    db: &mut Connection,
    jobs: i64,
    halt: &Halt,
) -> Result<(), BenchError> {
    let mut next = 1;
    while next < jobs + 1 + BATCH {
        halt.check()?;
        let turn = db.transaction()?;
        {
            let mut settle = turn.prepare_cached(SETTLE)?;
            let mut lease = turn.prepare_cached(LEASE)?;
            for id in (next - BATCH).max(1)..next.min(jobs + 1) {
                changed(settle.execute([id])?)?;
            }
            for id in next..(next + BATCH).min(jobs + 1) {
                changed(lease.execute([id])?)?;
            }
        }
        turn.commit()?;
        next += BATCH;
    }
    Ok(())
}

/// A row that was not as it must be is work that was not done.
fn changed(rows: usize) -> Result<(), BenchError> {
    if rows == 1 {
        return Ok(());
    }
    Err(BenchError::Short { side: "the raw side", done: rows as u64, asked: 1 })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::super::jobs::noop_jobs;
    use super::*;
    use crate::clock::System;

    #[test]
    fn every_row_is_settled_once_whatever_their_number() {
        for jobs in [1, 511, 512, 513, 1_024, 1_300] {
            let folder = tempfile::tempdir().unwrap();
            let clock = Arc::new(System::new());
            let orch = PathBuf::from("orch");
            let bench = Bench::new(clock, folder.path(), orch, Halt::default()).unwrap();
            let mut db = open(&folder.path().join("raw.sqlite"), Ids::Free).unwrap();
            insert(&mut db, noop_jobs(jobs, 0, 0), 500, &bench).unwrap();
            lease_and_settle(&mut db, i64::try_from(jobs).unwrap(), bench.halt()).unwrap();
            let settled = "SELECT count(*) FROM job WHERE state = 2 AND epoch = 1 AND attempts = 1";
            let count: usize = db.query_row(settled, [], |row| row.get(0)).unwrap();
            assert_eq!(count, jobs);
        }
    }

    #[test]
    fn it_is_as_durable_as_the_queue() {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder.path().join("raw.sqlite"), Ids::Free).unwrap();
        let pragma = |name: &str| -> String {
            let get = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
            match db.query_row(&format!("PRAGMA {name}"), [], get).unwrap() {
                rusqlite::types::Value::Integer(number) => number.to_string(),
                rusqlite::types::Value::Text(text) => text,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((pragma("journal_mode"), pragma("synchronous")), ("wal".into(), "2".into()));
    }
}
