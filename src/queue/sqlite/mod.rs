//! The queue in one SQLite file.
//!
//! ```text
//!   insert ──> job + seen, and ready | delayed
//!                                │        │ its time comes (turn)
//!                                v        v
//!                              ready ──lease──> lease ──settle──> progress
//!                                ^                │
//!                                └──── back ──────┘
//! ```
//!
//! Every write is one `BEGIN IMMEDIATE` transaction, counts included. Must never hold a read transaction longer than
//! one bounded page takes, nor let memory grow with the number of jobs or hosts. The tables are described in
//! `migrations/`, the statements are in `sql.rs`.

mod backlog;
mod batch;
mod endings;
mod fault;
mod held;
mod insert;
mod key_view;
mod keys;
mod lanes;
mod lease;
mod log;
mod open;
mod owner;
mod place;
mod recover;
mod row;
mod seen;
mod settle;
mod shares;
mod sql;
mod stint;
mod tally;
#[cfg(test)]
mod tests;
mod turn;
mod upkeep;
mod view;
mod waiting;
mod writing;
mod yields;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::store::{
    AttemptView, Beat, Counts, Declared, Dimension, Filter, Inserted, JobView, KeyView,
    LaneBacklog, LaneCursor, LastWrite, OnDuplicate, Owner, Page, Place, ReadyLane, RecoverTerms,
    Recovered, Remaining, RetryFilter, Store, StoreError, Swept, Turn, TurnReport,
};
use crate::job::{ArtifactId, JobRow, JobSpec, Kind, LimitKey, Observation, WallMs};
use crate::share::KeyChange;
use batch::Batch;
use endings::Sweep;
use fault::Worked;
use lanes::Lanes;
use log::Log;
use owner::Owners;
use recover::Beats;
use shares::Configurations;
use waiting::Waiting;
use writing::{Writer, Writing};

pub use open::{Durability, OpenOptions};

/// What the handles on one queue share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    options: OpenOptions,
    owners: Owners,
}

/// A handle on a queue in a SQLite file.
///
/// The owners it registers live as long as the last of its forks.
#[derive(Debug)]
pub struct SqliteStore {
    conn: Connection,
    shared: Arc<Shared>,
    log: Log,
    waiting: Waiting,
    last_write: LastWrite,
    lanes: Lanes,
    beats: Beats,
    configurations: Configurations,
    sweep: Sweep,
}

impl SqliteStore {
    /// Opens the queue at `path`.
    ///
    /// # Errors
    /// [`StoreError`]: there is none and none is to be made, it is no queue or a newer one, it is on a network
    /// file system, or it cannot be written.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<SqliteStore, StoreError> {
        // Whoever changes the working directory later must not split a queue from its owners.
        let path = std::path::absolute(path).map_err(owner::io_error("open", path))?;
        let conn = open::open(&path, options)?;
        let owners = Owners::beside(&path);
        let shared = Arc::new(Shared { path, options: *options, owners });
        SqliteStore::over(conn, shared)
    }

    /// What is wrong with the structure of the file, at most a few sentences; `None` when it has more than `max_bytes`, and
    /// so was not looked at: that takes a read transaction as long as reading the whole of it.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read at all.
    pub fn structural_faults(&self, max_bytes: u64) -> Result<Option<Vec<String>>, StoreError> {
        let look = || -> Worked<Option<Vec<String>>> {
            let pages: u64 = self.conn.query_row(sql::PAGE_COUNT, [], |row| row.get(0))?;
            let page_bytes: u64 = self.conn.query_row(sql::PAGE_BYTES, [], |row| row.get(0))?;
            if pages.saturating_mul(page_bytes) > max_bytes {
                return Ok(None);
            }
            let mut statement = self.conn.prepare(sql::CHECK)?;
            let said =
                statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
            Ok(Some(said.into_iter().filter(|line| line != "ok").collect()))
        };
        look().map_err(|fault| fault.at(&self.shared.path))
    }

    fn over(mut conn: Connection, shared: Arc<Shared>) -> Result<SqliteStore, StoreError> {
        let log = Log::of(&mut conn).map_err(|error| fault::Fault::from(error).at(&shared.path))?;
        let waiting = Waiting::beside(&shared.path);
        Ok(SqliteStore {
            conn,
            shared,
            log,
            waiting,
            last_write: LastWrite::default(),
            lanes: Lanes::default(),
            beats: Beats::default(),
            configurations: Configurations::default(),
            sweep: Sweep::default(),
        })
    }

    /// Does `work` in one write transaction, and rings for others when it made work for them.
    fn write<T>(
        &mut self,
        work: impl FnOnce(&mut Batch<'_>) -> Worked<T>,
    ) -> Result<T, StoreError> {
        self.write_as(Writer::Brief, work)
    }

    /// The same for one who gives way to the others.
    fn write_much<T>(
        &mut self,
        work: impl FnOnce(&mut Batch<'_>) -> Worked<T>,
    ) -> Result<T, StoreError> {
        self.write_as(Writer::Bulk, work)
    }

    fn write_as<T>(
        &mut self,
        writer: Writer,
        work: impl FnOnce(&mut Batch<'_>) -> Worked<T>,
    ) -> Result<T, StoreError> {
        let patience = self.shared.options.busy_timeout;
        let lanes = &mut self.lanes;
        match write(&self.conn, patience, writer, &mut self.waiting, lanes, work) {
            Ok((value, bells, last_write)) => {
                self.last_write = last_write;
                // Before the log is carried over, which takes long.
                self.shared.owners.ring(&bells);
                self.log.carry_over(&mut self.conn, patience);
                Ok(value)
            }
            Err(fault) => {
                // Some of the lanes it knows may have been rolled back.
                self.lanes.clear();
                Err(fault.at(&self.shared.path))
            }
        }
    }

    /// Does `work` in one read transaction.
    fn read<T>(
        &mut self,
        work: impl FnOnce(&Connection, &mut Lanes) -> Worked<T>,
    ) -> Result<T, StoreError> {
        let read = |conn: &mut Connection, lanes: &mut Lanes| -> Worked<T> {
            let transaction = conn.transaction()?;
            work(&transaction, lanes)
        };
        read(&mut self.conn, &mut self.lanes).map_err(|fault| fault.at(&self.shared.path))
    }
}

fn write<T>(
    conn: &Connection,
    patience: Duration,
    writer: Writer,
    waiting: &mut Waiting,
    lanes: &mut Lanes,
    work: impl FnOnce(&mut Batch<'_>) -> Worked<T>,
) -> Worked<(T, Vec<String>, LastWrite)> {
    let writing = Writing::begin(conn, patience, writer, waiting)?;
    let mut batch = Batch::new(conn, lanes);
    let value = work(&mut batch)?;
    let bells = batch.finish()?;
    let last_write = writing.commit(writer, waiting)?;
    Ok((value, bells, last_write))
}

impl Store for SqliteStore {
    fn fork(&self) -> Result<Box<dyn Store>, StoreError> {
        let conn = open::reopen(&self.shared.path, &self.shared.options)?;
        Ok(Box::new(SqliteStore::over(conn, Arc::clone(&self.shared))?))
    }

    fn insert(
        &mut self,
        specs: &[JobSpec],
        on_duplicate: OnDuplicate,
        now: WallMs,
    ) -> Result<Vec<Inserted>, StoreError> {
        let writer = if specs.len() > insert::BRIEF { Writer::Bulk } else { Writer::Brief };
        self.write_as(writer, |batch| insert::insert(batch, specs, on_duplicate, now))
    }

    fn register(&mut self, now: WallMs) -> Result<Owner, StoreError> {
        self.register_owner(now)
    }

    fn beat(&mut self, owner: &Owner) -> Result<Beat, StoreError> {
        self.raise_beat(owner)
    }

    fn retire(&mut self, owner: &Owner, _now: WallMs) -> Result<(), StoreError> {
        self.retire_owner(owner)
    }

    fn recover(
        &mut self,
        me: Option<&Owner>,
        terms: RecoverTerms,
    ) -> Result<Recovered, StoreError> {
        self.recover_owners(me, terms)
    }

    fn turn(&mut self, turn: &Turn<'_>) -> Result<TurnReport, StoreError> {
        settle::check_checkpoints(turn.settle)?;
        let mut configurations = std::mem::take(&mut self.configurations);
        let report = self.write(|batch| turn::turn(batch, &mut configurations, turn));
        self.configurations = configurations;
        report
    }

    fn ready_lanes(
        &mut self,
        after: Option<LaneCursor>,
        limit: usize,
        kinds: &[Kind],
    ) -> Result<Vec<ReadyLane>, StoreError> {
        self.read(|conn, lanes| view::ready_lanes(conn, lanes, after, limit, kinds))
    }

    fn remaining(&mut self, owner: &Owner, kinds: &[Kind]) -> Result<Remaining, StoreError> {
        self.read(|conn, lanes| view::remaining(conn, lanes, owner, kinds))
    }

    fn counts(&mut self) -> Result<Counts, StoreError> {
        self.read(|conn, _| view::counts(conn))
    }

    fn counts_by(&mut self, by: Dimension) -> Result<Vec<(String, Counts)>, StoreError> {
        self.count_by(by)
    }

    fn yields(&mut self) -> Result<Vec<Observation>, StoreError> {
        self.read(|conn, _| yields::all(conn))
    }

    fn list(
        &mut self,
        filter: &Filter,
        after: Option<JobRow>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.read(|conn, lanes| view::list(conn, lanes, filter, after, limit))
    }

    fn show(&mut self, id: &ArtifactId) -> Result<Option<(JobView, Vec<AttemptView>)>, StoreError> {
        self.read(|conn, lanes| match insert::lookup(conn, id)? {
            Some(job) => view::show(conn, lanes, job),
            None => Ok(None),
        })
    }

    fn stories(&mut self, rows: &[JobRow]) -> Result<Vec<Vec<AttemptView>>, StoreError> {
        self.read(|conn, _| view::stories(conn, rows))
    }

    fn retry_failed_after(
        &mut self,
        after: Option<JobRow>,
        filter: &RetryFilter,
        limit: usize,
        now: WallMs,
        dry_run: bool,
    ) -> Result<Swept, StoreError> {
        self.put_back(after, filter, limit, now, dry_run)
    }

    fn prune_after(
        &mut self,
        after: Option<JobRow>,
        before: WallMs,
        forget: bool,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        self.delete_old(after, before, forget, limit)
    }

    fn last_write(&self) -> LastWrite {
        self.last_write
    }

    fn log_bytes(&self) -> u64 {
        // By path: opening it other than through SQLite would drop SQLite's locks when it is closed.
        let path = open::sibling(&self.shared.path, "-wal");
        std::fs::metadata(path).map_or(0, |log| log.len())
    }

    fn declare(&mut self, owner: &Owner, declared: &Declared) -> Result<(), StoreError> {
        self.write(|batch| key_view::declare(batch, owner, declared))
    }

    fn keys(&mut self, after: Option<&LimitKey>, limit: usize) -> Result<Vec<KeyView>, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.read(|conn, lanes| key_view::views(conn, lanes, &shared.owners, after, limit))
    }

    fn key(&mut self, key: &LimitKey) -> Result<KeyView, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.read(|conn, lanes| key_view::view(conn, lanes, &shared.owners, key))
    }

    fn set_key(&mut self, key: &LimitKey, change: &KeyChange) -> Result<KeyView, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.write(|batch| key_view::set_key(batch, &shared.owners, key, change))
    }

    fn place(&mut self, id: &ArtifactId, most: usize) -> Result<Option<Place>, StoreError> {
        self.read(|conn, lanes| match insert::lookup(conn, id)? {
            Some(job) => place::place(conn, lanes, job, most),
            None => Ok(None),
        })
    }

    fn backlog(
        &mut self,
        after: Option<LaneCursor>,
        limit: usize,
    ) -> Result<Vec<LaneBacklog>, StoreError> {
        self.count_backlog(after, limit)
    }

    fn bell(&mut self, owner: &Owner) -> Result<Option<OwnedFd>, StoreError> {
        self.shared.owners.bell(&owner.id)
    }
}
